# The texts of the page in English, in the format of Project Fluent: https://projectfluent.org/fluent/guide
# Texts with HTML tags are shown by t_html(), all others by t(), which shows tags as they are written.

unstyled = The styles and scripts of this page did not arrive. Behind a reverse proxy under a prefix such as /photos, start the server with <code>gpubranches serve --prefix /photos</code>.

## Original pictures

original = Original
    .title = Open the original picture in a new tab
download = Download
    .title = Download the original picture
zip-size = · { $pictures ->
        [one] 1 picture
       *[other] { $pictures } pictures
    }, about { $megabytes } MB
zip-too-many = · a ZIP holds at most { $most } pictures, these are about { $pictures }: choose a tab or links

## The map

map = Map
    .title = See the answer and its surroundings as a picture (p)
    .role = map
    .back = Back to the matches
map-heading = Map of the answer
map-how = Items that look alike lie near each other. A group of grey points beside the answer may be a second kind that you want and have not marked: look at its pictures, select it, mark it right, and find all again.
map-tools = What a drag does, and how near the map is
map-move = Move
    .title = Drag to move the map (h)
map-lasso = Lasso
    .title = Draw around items to select them; with shift, to add them (l)
map-rectangle = Rectangle
    .title = Draw a rectangle to select items; with shift, to add them (r)
map-view = Select what is in view
    .title = Select everything that the map shows now (Enter)
map-pictures = Pictures
    .title = Show pictures of some items on the map (p)
map-out = Zoom out
    .title = Zoom out (-)
map-in = Zoom in
    .title = Zoom in (+)
map-whole = Show the whole map
    .title = Show the whole map (0)
map-kind =
    { $kind ->
        [5] match
        [4] sure
        [3] likely
        [2] borderline
        [1] does not match, ranked
       *[0] other, at random
    }
map-like = More like this
map-chosen =
    { $count ->
        [0] Nothing is selected
        [one] 1 item is selected
       *[other] { $count } items are selected
    }
map-right = Mark right
    .title = Mark all that are selected right (a)
map-wrong = Mark wrong
    .title = Mark all that are selected wrong (x)
map-list = Show as a list
map-clear = Select nothing
    .title = Select nothing (Escape)
map-too-many = At most { $most } items are marked in one step. Select fewer.
map-changed = The answer has changed since this selection was made. Select again.
map-failed = The server did not send the points. Load the page again.
map-legend = What the points are
    .title = Show or hide these points
map-drawn = Drawn are { $matches } of { $of } matches, { $below } of { $ranked } items that were ranked and do not match, and { $rest } of { $others } others at random.
map-help = With the map in focus: <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> move it, <kbd>+</kbd> and <kbd>-</kbd> zoom, <kbd>0</kbd> shows all of it, <kbd>Enter</kbd> selects what is in view, <kbd>a</kbd> and <kbd>x</kbd> mark what is selected. The tabs of the answer hold the same items as lists.
map-listed =
    { $count ->
        [one] 1 item of the selection
       *[other] { $count } items of the selection
    }
unkept = The marks of this catalog cannot be written, so what is marked now will be lost when the server stops. Export the session to keep it, or let the server write to the catalog's folder and start it anew.

## Words that stand in several places

right = Right
    .title = Right (a)
wrong = Wrong
    .title = Wrong (x)
close = Close
    .title = Close (Escape)
dismiss = Dismiss this message
in-numbers = In numbers

## The top: search, new search, sessions

skip = Skip to the items
search = Search
    .label = Search by words and items, such as dog + #17
    .label-items = Search by items, such as #17
    .placeholder = What are you looking for?
    .placeholder-items = No text model: an item such as #17
by-picture = Search by a picture
    .title = Search by a picture: choose, paste or drop one
    .file = A picture to search by
    .drop = Drop the picture to search by it
picture-unread = The model of this catalog reads no pictures, so none can be searched by.
picture-unsent = The server did not answer, the picture was not sent.
picture-not = { $file } is no picture; choose a JPEG, PNG, WebP or GIF.
picture-not-dropped = What was dropped is no picture; drop a JPEG, PNG, WebP or GIF.
new-search = New search
    .title = A new session without marks; this one is kept
size =
    { $count ->
        [one] 1 item
       *[other] { $count } items
    }
    .title = Items in this catalog
sessions = Sessions
    .named = Sessions: { $name }
    .title = Sessions: name, switch, copy, export
show-keys = Show the keys
    .title = Keys (?)
toast = What was done last
ask-new = Start a new search?
    .why =
        { $count ->
            [one] Your mark is for “{ $query }”.
           *[other] Your { $count } marks are for “{ $query }”.
        }
    .new = Start a new search
    .keep =
        { $count ->
            [one] Keep my mark
           *[other] Keep my { $count } marks
        }

## The bar of marks

undo = Undo
    .title = Undo (ctrl+z)
redo = Redo
    .title = Redo (ctrl+shift+z)

## Tiles

mark-state =
    { $label ->
        [1] marked right
        [-1] marked wrong
       *[0] not marked
    }
    .waiting = waiting for the server
    .selected = selected
selected =
    { $count ->
        [0] Nothing selected
       *[other] { $count } selected
    }
items-from = Items from { $first }
tile-why = Why item { $id } matches or does not
    .title = Why (w)
tile-open = Open item { $id } large
    .title = Open large (o)
tile-like = More like item { $id }
    .title = More like this (m)

## The filter

column-kind =
    { $kind ->
        [number] number
        [text] text
        [boolean] boolean
        [date] date
        [time] time
        [time-with-zone] time with zone
        [nothing] nothing
       *[other] other
    }
column-missing = missing
no-columns = The items of this catalog have no columns.

## The large view

no-picture = No picture
large-title = { $place } of { $count }: { $title }
large-now =
    { $label ->
        [1] #{ $id } is marked right.
        [-1] #{ $id } is marked wrong.
       *[0] #{ $id } is not marked.
    }
also = Also
    .label = Also like this
    .title = Also like this: add it to the search (shift+m)
less = Less
    .label = Less like this
    .title = Less like this: subtract it from the search (l)
before = The one before
    .title = The one before (←)
after = The next
    .title = The next (→)
zoom =
    { $factor ->
        [0] fit
       *[other] { $factor }×
    }
    .title = Zoom (z)
details = Details
    .label = What is known of the item
    .title = What is known of it (i)

## Why an item matches

why-in = Why item { $id } is in the answer
why-out = Why item { $id } is not in the answer
why-reason =
    { $case ->
        [marked-right] It is marked right, so it is in the answer.
        [marked-wrong] It is marked wrong, so it is not in the answer.
        [votes] { $looks }; { $needed } are enough.
        [vote] { $looks }.
        [unranked] { $looks }, but others are so much more alike that no closer look was taken.
        [reached] { $looks }, and so did a closer look.
        [missed] { $looks }, but not a closer look.
       *[no-candidate] { $looks }, so no closer look was taken.
    }
why-looks =
    { $votes ->
        [0]
            { $count ->
                [1] Not found: a quick look did not find it like what is marked right
               *[other] { $found ->
                    [yes] Found: none of { $count } quick looks found it like what is marked right
                   *[no] Not found: none of { $count } quick looks found it like what is marked right
                }
            }
       *[other] x
    }
why-numbers = A quick look is an estimator: boxes, each with bounds for some of the item's code dims.

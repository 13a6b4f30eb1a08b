# The texts of the page in English, in the format of Project Fluent: https://projectfluent.org/fluent/guide
# Texts with HTML tags are shown by t_html(), all others by t(), which shows tags as they are written.

unstyled = The styles and scripts of this page did not arrive. Behind a reverse proxy under a prefix such as /photos, start the server with <code>gpubranches serve --prefix /photos</code>.
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
appearance = Appearance and language
theme = Theme
theme-name =
    { $theme ->
        [light] light
        [dark] dark
       *[system] as the system
    }
language = Language
    .browser = as the browser
# The name of this language in itself.
language-name = English
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
filter-count = { $count } of { $total } items
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
why-found = Found: { $reason }.
why-not-found = Not found: { $reason }.
why-marked =
    { $mark ->
        [1] It is marked right, so it is in the answer.
       *[-1] It is marked wrong, so it is not in the answer.
    }
why-looks =
    { $count ->
        [1]
            { $votes ->
                [0] a quick look did not find it like what is marked right
               *[other] a quick look found it like what is marked right
            }
       *[other]
            { $votes ->
                [0] none of { $count } quick looks found it like what is marked right
               *[other] { $votes } of { $count } quick looks found it like what is marked right
            }
    }
why-reason =
    { $outcome ->
        [vote] { $looks }
        [votes] { $looks }; { $needed } are enough
        [no-candidate] { $looks }, so no closer look was taken
        [unranked] { $looks }, but others are so much more alike that no closer look was taken
        [reached] { $looks }, and so did a closer look
       *[missed] { $looks }, but not a closer look
    }
why-numbers = A quick look is an estimator: boxes, each with bounds for some of the item's code dims.
why-votes =
    { $outcome ->
        [no-candidate] { $votes } of { $count } estimators hold it, { $needed } needed: no candidate.
        [unranked] { $votes } of { $count } estimators hold it, { $needed } needed: a candidate, too far below the cut to be ranked by its embedding.
        [reached] { $votes } of { $count } estimators hold it, { $needed } needed: a candidate; its score { NUMBER($score, minimumFractionDigits: 3, maximumFractionDigits: 3) } reaches the cut { NUMBER($threshold, minimumFractionDigits: 3, maximumFractionDigits: 3) }.
        [missed] { $votes } of { $count } estimators hold it, { $needed } needed: a candidate; its score { NUMBER($score, minimumFractionDigits: 3, maximumFractionDigits: 3) } stays below the cut { NUMBER($threshold, minimumFractionDigits: 3, maximumFractionDigits: 3) }.
       *[votes] { $votes } of { $count } estimators hold it, { $needed } needed.
    }
why-outcome =
    { $outcome ->
        [marked-right] Marked right, so in the answer in any case.
        [marked-wrong] Marked wrong, so not in the answer in any case.
        [matches] It matches.
       *[other] It does not match.
    }
why-held = Boxes that hold it: { $boxes }.
why-narrowest = Bounds it passes most narrowly
    .margin = Margin
why-missed = Boxes it misses nearest
    .margin = Would move by
why-estimator = Estimator
why-box = Box
why-dim = Dim
why-code = Code
why-bounds = Bounds

## The keys

keys = Keys
    .mark = Mark
    .move = Move
    .look = Look
    .find = Find
    .these = + these
    .also = Also <kbd>+</kbd> <kbd>y</kbd> <kbd>Enter</kbd>, <kbd>-</kbd> <kbd>n</kbd>, <kbd>0</kbd> <kbd>Delete</kbd> and <kbd>u</kbd>.
# What is written on a key.
cap =
    { $key ->
        [space] space
        [shift] shift
        [ctrl] ctrl
        [PageUp] PageUp
        [PageDown] PageDown
        [Home] Home
        [End] End
       *[Escape] Escape
    }
key-right = right, and on
key-wrong = wrong, and on
key-unmark = remove the mark
key-rest-wrong = the rest on the screen wrong
key-rest-right = the rest on the screen right
key-undo = undo
key-redo = redo
key-next = to the next
key-screen = by a screen
key-ends = first and last of all
key-select = select; or drag
key-select-none = select nothing
key-open = open large; there <kbd>z</kbd> zooms
key-details = all that is known of it
key-captions = captions
key-like = more like this
key-also = also like this: add it to the search
key-less = less like this: subtract it
key-why = why it matches or does not
key-search = search
key-filter = filter
key-check = check { $count }, drawn at random
key-back = back to the matches
key-paste = search by a pasted picture
key-find-all = find all
key-suggest = suggest what to mark next
key-export = export what matches
key-keys = these keys

## Errors, and the login

error = That did not work
back-to-catalog = Back to the catalog
no-answer = The server did not answer.
server-said = The server said { $status }.
login = Log in
    .token = The token of this server
    .wrong = That is not the token of this server.

## An answer

matches-heading =
    { $count ->
        [1] 1 matches
       *[other] { $count } match
    }
matches-heading-changed = { matches-heading } ({ $new } new, { $gone } gone)
since-found =
    { $joined ->
        [0] -{ $left } since Find all
       *[other]
            { $left ->
                [0] +{ $joined } since Find all
               *[other] +{ $joined } -{ $left } since Find all
            }
    }
new-marks =
    { $count ->
        [one] 1 new mark
       *[other] { $count } new marks
    }
candidates =
    { $count ->
        [one] 1 candidate
       *[other] { $count } candidates
    }
milliseconds = { NUMBER($time, maximumFractionDigits: 0) } ms
precision = precision { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } to { NUMBER($high, style: "percent") })
recall = recall { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } to { NUMBER($high, style: "percent") })
right-of =
    { $right ->
        [all] nearly all of the { $count } are right
       *[other] about { $right } of the { $count } are right
    }
missing =
    { $missing ->
        [unknown] { $found }; how many are missing is not known yet
        [0] { $found }, and hardly any are missing
        [1] { $found }, and about 1 more is missing
       *[other] { $found }, and about { $missing } more are missing
    }
share-found =
    { $low ->
        [unknown] how many are found is not known yet
       *[other] at least { NUMBER($low, style: "percent") } are found
    }
item = item { $id }
like-item = Like item { $id }
your-picture = Your picture

## Lists to look through

random = Random items
nearest = Nearest to “{ $query }”
    .picture = Nearest to your picture
nearest-meant = showing { $meant } for { $text }
nearest-all =
    { $count ->
        [one] 1 item, most alike first
       *[other] { $count } items, most alike first
    }
nearest-all-filtered = { $inside } of { $total } items, most alike first
nearest-some = the { $count } nearest of { $inside } items, most alike first
nearest-some-filtered = the { $count } nearest of { $inside } of { $total } items, most alike first
filter-lost = The filter is taken away, since it fits no more: { $error }

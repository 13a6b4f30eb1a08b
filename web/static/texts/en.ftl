# The texts of the page in English, in the format of Project Fluent: https://projectfluent.org/fluent/guide
# Texts with HTML tags are shown by t_html(), all others by t(), which shows tags as they are written.

unstyled = The styles and scripts of this page did not arrive. Behind a reverse proxy under a prefix such as /photos, start the server with <code>gpubranches serve --prefix /photos</code>.

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

right = Right
wrong = Wrong

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

# Die Texte der Seite auf Deutsch. Schlüssel und Platzhalter sind die von en.ftl.

unstyled = Die Stile und Skripte dieser Seite sind nicht angekommen. Hinter einem Reverse Proxy mit einem Präfix wie /photos starten Sie den Server mit <code>gpubranches serve --prefix /photos</code>.

## Die Leiste der Markierungen

undo = Rückgängig
    .title = Rückgängig (Strg+Z)
redo = Wiederherstellen
    .title = Wiederherstellen (Strg+Umschalt+Z)

## Kacheln

mark-state =
    { $label ->
        [1] als richtig markiert
        [-1] als falsch markiert
       *[0] nicht markiert
    }
    .waiting = wartet auf den Server
    .selected = ausgewählt

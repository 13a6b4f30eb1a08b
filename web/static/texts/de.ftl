# Die Texte der Seite auf Deutsch. Schlüssel und Platzhalter sind die von en.ftl.

unstyled = Die Stile und Skripte dieser Seite sind nicht angekommen. Hinter einem Reverse Proxy mit einem Präfix wie /photos starten Sie den Server mit <code>gpubranches serve --prefix /photos</code>.

## Originalbilder

original = Original
    .title = Das Originalbild in einem neuen Tab öffnen
download = Herunterladen
    .title = Das Originalbild herunterladen
zip-size = · { $pictures ->
        [one] 1 Bild
       *[other] { $pictures } Bilder
    }, etwa { $megabytes } MB
zip-too-many = · ein ZIP fasst höchstens { $most } Bilder, dies sind etwa { $pictures }: Wählen Sie einen Reiter oder Links

## Die Karte

map = Karte
    .title = Die Antwort und ihre Umgebung als Bild sehen (p)
    .role = Karte
    .back = Zurück zu den Treffern
map-heading = Karte der Antwort
map-how = Was ähnlich aussieht, liegt nah beieinander. Eine Gruppe grauer Punkte neben der Antwort kann eine zweite Art sein, die Sie suchen und noch nicht markiert haben: Sehen Sie sich ihre Bilder an, wählen Sie sie aus, markieren Sie sie als richtig und finden Sie noch einmal alle.
map-tools = Was ein Ziehen bewirkt und wie nah die Karte ist
map-move = Verschieben
    .title = Ziehen verschiebt die Karte (h)
map-lasso = Lasso
    .title = Einträge umfahren, um sie auszuwählen; mit Umschalt kommen sie hinzu (l)
map-rectangle = Rechteck
    .title = Einträge mit einem Rechteck auswählen; mit Umschalt kommen sie hinzu (r)
map-view = Sichtbares auswählen
    .title = Alles auswählen, was die Karte jetzt zeigt (Eingabe)
map-pictures = Bilder
    .title = Bilder einiger Einträge auf der Karte zeigen (p)
map-out = Verkleinern
    .title = Verkleinern (-)
map-in = Vergrößern
    .title = Vergrößern (+)
map-whole = Die ganze Karte zeigen
    .title = Die ganze Karte zeigen (0)
map-kind =
    { $kind ->
        [5] Treffer
        [4] sicher
        [3] wahrscheinlich
        [2] Grenzfall
        [1] kein Treffer, bewertet
       *[0] andere, zufällig
    }
map-like = Mehr davon
map-chosen =
    { $count ->
        [0] Nichts ist ausgewählt
        [one] 1 Eintrag ist ausgewählt
       *[other] { $count } Einträge sind ausgewählt
    }
map-right = Als richtig markieren
    .title = Alle ausgewählten als richtig markieren (a)
map-wrong = Als falsch markieren
    .title = Alle ausgewählten als falsch markieren (x)
map-list = Als Liste zeigen
map-clear = Nichts auswählen
    .title = Nichts auswählen (Esc)
map-too-many = In einem Schritt werden höchstens { $most } Einträge markiert. Wählen Sie weniger aus.
map-changed = Die Antwort hat sich geändert, seit dies ausgewählt wurde. Wählen Sie neu aus.
map-failed = Der Server hat die Punkte nicht gesendet. Laden Sie die Seite neu.
map-legend = Was die Punkte sind
    .title = Diese Punkte zeigen oder ausblenden
map-drawn = Gezeichnet sind { $matches } von { $of } Treffern, { $below } von { $ranked } bewerteten Einträgen, die keine Treffer sind, und { $rest } von { $others } anderen, zufällig gewählt.
map-help = Wenn die Karte den Fokus hat: <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> verschieben sie, <kbd>+</kbd> und <kbd>-</kbd> ändern die Größe, <kbd>0</kbd> zeigt alles, <kbd>Eingabe</kbd> wählt Sichtbares aus, <kbd>a</kbd> und <kbd>x</kbd> markieren, was ausgewählt ist. Die Reiter der Antwort haben dieselben Einträge als Listen.
map-listed =
    { $count ->
        [one] 1 Eintrag der Auswahl
       *[other] { $count } Einträge der Auswahl
    }

right = Richtig
wrong = Falsch

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

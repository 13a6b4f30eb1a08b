# Die Texte der Seite auf Deutsch. Schlüssel, Werte und HTML-Tags sind die von en.ftl.

unstyled = Die Stile und Skripte dieser Seite sind nicht angekommen. Hinter einem Reverse-Proxy mit einem Präfix wie /photos den Server mit <code>gpubranches serve --prefix /photos</code> starten.
unkept = Die Markierungen dieses Katalogs lassen sich nicht schreiben: Was jetzt markiert wird, geht verloren, sobald der Server endet. Die Sitzung exportieren, um sie zu behalten, oder dem Server Schreibrechte für den Ordner des Katalogs geben und ihn neu starten.

## Wörter, die an mehreren Stellen stehen

right = Richtig
    .title = Richtig (a)
wrong = Falsch
    .title = Falsch (x)
close = Schließen
    .title = Schließen (Esc)
dismiss = Diese Meldung schließen
in-numbers = In Zahlen

## Oben: Suche, neue Suche, Sitzungen

skip = Zu den Einträgen springen
search = Suchen
    .label = Nach Wörtern und Einträgen suchen, etwa dog + #17
    .label-items = Nach Einträgen suchen, etwa #17
    .placeholder = Was wird gesucht?
    .placeholder-items = Kein Textmodell: ein Eintrag wie #17
by-picture = Mit einem Bild suchen
    .title = Mit einem Bild suchen: auswählen, einfügen oder hierher ziehen
    .file = Ein Bild, mit dem gesucht wird
    .drop = Bild loslassen, um damit zu suchen
picture-unread = Das Modell dieses Katalogs liest keine Bilder, daher lässt sich mit keinem suchen.
picture-unsent = Der Server hat nicht geantwortet, das Bild wurde nicht gesendet.
picture-not = { $file } ist kein Bild; möglich sind JPEG, PNG, WebP und GIF.
picture-not-dropped = Das war kein Bild; möglich sind JPEG, PNG, WebP und GIF.
new-search = Neue Suche
    .title = Eine neue Sitzung ohne Markierungen; diese hier bleibt erhalten
size =
    { $count ->
        [one] 1 Eintrag
       *[other] { $count } Einträge
    }
    .title = Einträge in diesem Katalog
sessions = Sitzungen
    .named = Sitzungen: { $name }
    .title = Sitzungen: benennen, wechseln, kopieren, exportieren
show-keys = Tasten anzeigen
    .title = Tasten (?)
appearance = Darstellung und Sprache
theme = Farben
theme-name =
    { $theme ->
        [light] hell
        [dark] dunkel
       *[system] wie das System
    }
language = Sprache
    .browser = wie der Browser
# The name of this language in itself.
language-name = Deutsch
toast = Was zuletzt geschah
ask-new = Eine neue Suche beginnen?
    .why =
        { $count ->
            [one] Die Markierung gehört zu „{ $query }“.
           *[other] Die { $count } Markierungen gehören zu „{ $query }“.
        }
    .new = Neue Suche beginnen
    .keep =
        { $count ->
            [one] Die Markierung behalten
           *[other] Die { $count } Markierungen behalten
        }

## Die Leiste der Markierungen

undo = Rückgängig
    .title = Rückgängig (Strg+Z)
redo = Wiederholen
    .title = Wiederholen (Strg+Umschalt+Z)

## Kacheln

mark-state =
    { $label ->
        [1] als richtig markiert
        [-1] als falsch markiert
       *[0] nicht markiert
    }
    .waiting = wartet auf den Server
    .selected = ausgewählt
selected =
    { $count ->
        [0] Nichts ausgewählt
       *[other] { $count } ausgewählt
    }
items-from = Einträge ab { $first }
tile-why = Warum Eintrag { $id } ein Treffer ist oder nicht
    .title = Warum (w)
tile-open = Eintrag { $id } groß öffnen
    .title = Groß öffnen (o)
tile-like = Mehr wie Eintrag { $id }
    .title = Mehr davon (m)

## Der Filter

column-kind =
    { $kind ->
        [number] Zahl
        [text] Text
        [boolean] Wahrheitswert
        [date] Datum
        [time] Zeitpunkt
        [time-with-zone] Zeitpunkt mit Zeitzone
        [nothing] leer
       *[other] Sonstiges
    }
column-missing = fehlt
filter-count = { $count } von { $total } Einträgen
no-columns = Die Einträge dieses Katalogs haben keine Spalten.

## Die große Ansicht

no-picture = Kein Bild
large-title = { $place } von { $count }: { $title }
large-now =
    { $label ->
        [1] #{ $id } ist als richtig markiert.
        [-1] #{ $id } ist als falsch markiert.
       *[0] #{ $id } ist nicht markiert.
    }
also = Auch
    .label = Auch so etwas
    .title = Auch so etwas: zur Suche hinzufügen (Umschalt+M)
less = Weniger
    .label = Weniger davon
    .title = Weniger davon: von der Suche abziehen (l)
before = Voriger
    .title = Voriger (←)
after = Nächster
    .title = Nächster (→)
zoom =
    { $factor ->
        [0] ganz
       *[other] { $factor }×
    }
    .title = Zoom (z)
details = Details
    .label = Was über den Eintrag bekannt ist
    .title = Was über den Eintrag bekannt ist (i)

## Warum ein Eintrag ein Treffer ist

why-in = Warum Eintrag { $id } in der Antwort ist
why-out = Warum Eintrag { $id } nicht in der Antwort ist
why-found = Gefunden: { $reason }.
why-not-found = Nicht gefunden: { $reason }.
why-marked =
    { $mark ->
        [1] Er ist als richtig markiert und deshalb in der Antwort.
       *[-1] Er ist als falsch markiert und deshalb nicht in der Antwort.
    }
why-looks =
    { $count ->
        [1]
            { $votes ->
                [0] auf den ersten Blick ähnelt er nicht dem, was als richtig markiert ist
               *[other] auf den ersten Blick ähnelt er dem, was als richtig markiert ist
            }
       *[other]
            { $votes ->
                [0] keiner von { $count } ersten Blicken fand ihn dem ähnlich, was als richtig markiert ist
                [1] einer von { $count } ersten Blicken fand ihn dem ähnlich, was als richtig markiert ist
               *[other] { $votes } von { $count } ersten Blicken fanden ihn dem ähnlich, was als richtig markiert ist
            }
    }
why-reason =
    { $outcome ->
        [vote] { $looks }
        [votes] { $looks }; { $needed } reichen aus
        [no-candidate] { $looks }, deshalb gab es keinen genaueren Blick
        [unranked] { $looks }, aber andere sind so viel ähnlicher, dass es keinen genaueren Blick gab
        [reached] { $looks }, und ein genauerer Blick bestätigt es
       *[missed] { $looks }, aber ein genauerer Blick bestätigt es nicht
    }
why-numbers = Ein erster Blick ist ein Schätzer: Boxen, jede mit Grenzen für einige Code-Dimensionen des Eintrags.
why-votes =
    { $outcome ->
        [no-candidate] { $votes } von { $count } Schätzern enthalten ihn, { $needed } sind nötig: kein Kandidat.
        [unranked] { $votes } von { $count } Schätzern enthalten ihn, { $needed } sind nötig: ein Kandidat, aber zu weit unter dem Schnitt, um nach seinem Embedding geordnet zu werden.
        [reached] { $votes } von { $count } Schätzern enthalten ihn, { $needed } sind nötig: ein Kandidat; sein Wert { NUMBER($score, minimumFractionDigits: 3, maximumFractionDigits: 3) } erreicht den Schnitt { NUMBER($threshold, minimumFractionDigits: 3, maximumFractionDigits: 3) }.
        [missed] { $votes } von { $count } Schätzern enthalten ihn, { $needed } sind nötig: ein Kandidat; sein Wert { NUMBER($score, minimumFractionDigits: 3, maximumFractionDigits: 3) } bleibt unter dem Schnitt { NUMBER($threshold, minimumFractionDigits: 3, maximumFractionDigits: 3) }.
       *[votes] { $votes } von { $count } Schätzern enthalten ihn, { $needed } sind nötig.
    }
why-outcome =
    { $outcome ->
        [marked-right] Als richtig markiert, also auf jeden Fall in der Antwort.
        [marked-wrong] Als falsch markiert, also auf keinen Fall in der Antwort.
        [matches] Er ist ein Treffer.
       *[other] Er ist kein Treffer.
    }
why-held = Boxen, die ihn enthalten: { $boxes }.
why-narrowest = Grenzen, die er am knappsten einhält
    .margin = Abstand
why-missed = Boxen, die er am knappsten verfehlt
    .margin = Zu verschieben um
why-estimator = Schätzer
why-box = Box
why-dim = Dim.
why-code = Code
why-bounds = Grenzen

## Die Tasten

keys = Tasten
    .mark = Markieren
    .move = Bewegen
    .look = Ansehen
    .find = Finden
    .these = + diese
    .also = Auch <kbd>+</kbd> <kbd>y</kbd> <kbd>Enter</kbd>, <kbd>-</kbd> <kbd>n</kbd>, <kbd>0</kbd> <kbd>Entf</kbd> und <kbd>u</kbd>.
# Was auf einer Taste steht.
cap =
    { $key ->
        [space] Leertaste
        [shift] Umschalt
        [ctrl] Strg
        [PageUp] Bild ↑
        [PageDown] Bild ↓
        [Home] Pos1
        [End] Ende
       *[Escape] Esc
    }
key-right = richtig, und weiter
key-wrong = falsch, und weiter
key-unmark = Markierung entfernen
key-rest-wrong = alles übrige Sichtbare falsch
key-rest-right = alles übrige Sichtbare richtig
key-undo = rückgängig
key-redo = wiederholen
key-next = zum nächsten
key-screen = um einen Bildschirm
key-ends = ganz an den Anfang oder ans Ende
key-select = auswählen; oder ziehen
key-select-none = nichts auswählen
key-open = groß öffnen; dort zoomt <kbd>z</kbd>
key-details = alles, was bekannt ist
key-captions = Beschriftungen
key-like = mehr davon
key-also = auch so etwas: zur Suche hinzufügen
key-less = weniger davon: abziehen
key-why = warum ein Treffer oder nicht
key-search = suchen
key-filter = filtern
key-check = { $count } zufällig gezogene prüfen
key-back = zurück zu den Treffern
key-paste = mit einem eingefügten Bild suchen
key-find-all = alle finden
key-suggest = vorschlagen, was als Nächstes zu markieren ist
key-export = Treffer exportieren
key-keys = diese Tasten

## Fehler und Anmeldung

error = Das hat nicht geklappt
back-to-catalog = Zurück zum Katalog
no-answer = Der Server hat nicht geantwortet.
server-said = Der Server meldet { $status }.
login = Anmelden
    .token = Das Token dieses Servers
    .wrong = Das ist nicht das Token dieses Servers.

## Eine Antwort

matches-heading = { $count } Treffer
matches-heading-changed = { matches-heading } ({ $new } neu, { $gone } nicht mehr)
since-found =
    { $joined ->
        [0] -{ $left } seit Alle finden
       *[other]
            { $left ->
                [0] +{ $joined } seit Alle finden
               *[other] +{ $joined } -{ $left } seit Alle finden
            }
    }
new-marks =
    { $count ->
        [one] 1 neue Markierung
       *[other] { $count } neue Markierungen
    }
candidates =
    { $count ->
        [one] 1 Kandidat
       *[other] { $count } Kandidaten
    }
milliseconds = { NUMBER($time, maximumFractionDigits: 0) } ms
precision = Präzision { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } bis { NUMBER($high, style: "percent") })
recall = Trefferquote { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } bis { NUMBER($high, style: "percent") })
right-of =
    { $right ->
        [all] fast alle der { $count } sind richtig
       *[other] etwa { $right } der { $count } sind richtig
    }
missing =
    { $missing ->
        [unknown] { $found }; wie viele fehlen, ist noch nicht bekannt
        [0] { $found }, und kaum welche fehlen
        [1] { $found }, und etwa 1 fehlt noch
       *[other] { $found }, und etwa { $missing } fehlen noch
    }
share-found =
    { $low ->
        [unknown] wie viele gefunden sind, ist noch nicht bekannt
       *[other] mindestens { NUMBER($low, style: "percent") } sind gefunden
    }
item = Eintrag { $id }
like-item = Wie Eintrag { $id }
your-picture = Das eigene Bild

## Listen zum Durchsehen

random = Zufällige Einträge
nearest = Am nächsten an „{ $query }“
    .picture = Am nächsten am eigenen Bild
nearest-meant = gezeigt wird { $meant } statt { $text }
nearest-all =
    { $count ->
        [one] 1 Eintrag, die ähnlichsten zuerst
       *[other] { $count } Einträge, die ähnlichsten zuerst
    }
nearest-all-filtered = { $inside } von { $total } Einträgen, die ähnlichsten zuerst
nearest-some = die { $count } nächsten von { $inside } Einträgen, die ähnlichsten zuerst
nearest-some-filtered = die { $count } nächsten von { $inside } der { $total } Einträge, die ähnlichsten zuerst
filter-lost = Der Filter wurde entfernt, weil er nicht mehr passt: { $error }

# Die Texte der Seite auf Deutsch. Schlüssel, Werte und HTML-Tags sind die von en.ftl.

## Die Seite

# The name of this language in itself.
language-name = Deutsch
unstyled = Die Stile und Skripte dieser Seite wurden nicht geladen. Hinter einem Reverse-Proxy mit einem Präfix wie /photos den Server mit <code>gpubranches serve --prefix /photos</code> starten.
unkept = Der Server kann die Markierungen dieses Katalogs nicht speichern. Neue Markierungen gehen verloren, sobald er beendet wird. Um sie zu behalten, die Sitzung in einer Datei speichern oder dem Server Schreibrechte für den Ordner des Katalogs geben und ihn neu starten.
skip = Zu den Bildern springen
close = Schließen
    .title = Schließen (Esc)
cancel = abbrechen
dismiss = Diese Meldung schließen
right = Richtig
    .title = Richtig (a)
wrong = Falsch
    .title = Falsch (x)
undo-word = rückgängig
redo-word = wiederholen
toast = Letzte Änderung
no-answer = Der Server hat nicht geantwortet, deshalb wurde nichts geändert. Läuft er noch?
server-said = Der Server meldet { $status }.
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

## Fehler und Anmeldung

error = Das hat nicht geklappt
    .failed = Der Server konnte diese Anfrage nicht bearbeiten. Der Grund steht in seinem Protokoll.
    .status =
        { $status ->
            [400] Der Server kann diese Anfrage nicht lesen.
            [401] Dieser Server verlangt eine Anmeldung.
            [403] Der Server lässt diese Anfrage nicht zu.
            [404] Unter dieser Adresse gibt es nichts.
            [405] Diese Adresse ist nicht dafür da.
            [409] Das wurde schon erledigt oder abgebrochen.
            [413] Das ist mehr, als der Server auf einmal annimmt.
            [415] Diese Art von Datei kann der Server nicht lesen.
            [422] Der Server kann das nicht ausführen.
            [429] Das ist zu viel auf einmal. In einigen Sekunden noch einmal versuchen.
            [503] Der Server kann das gerade nicht. In einigen Sekunden noch einmal versuchen.
           *[500] Der Server konnte diese Anfrage nicht bearbeiten. Der Grund steht in seinem Protokoll.
        }
unknown-name = „{ $text }“ gehört nicht zu den { $count } Wörtern oder Namen, die hier bekannt sind.
unknown-items =
    { $count ->
        [one] Ein Bild { $ids } gibt es in diesem Katalog nicht. Vielleicht wurde es gelöscht.
       *[other] Die Bilder { $ids } gibt es in diesem Katalog nicht. Vielleicht wurden sie gelöscht.
    }
none-right = „Alle finden“ braucht mindestens ein als richtig markiertes Bild. Eines markieren, dann noch einmal „Alle finden“ drücken.
nothing-found = Noch ist nichts gefunden. Bilder als richtig und falsch markieren, dann „Alle finden“ drücken.
session-gone = Diese Sitzung wurde gelöscht. Auf der Startseite lässt sich eine neue beginnen.
session-gone-for-good = Diese Sitzung wurde vor mehr als einer Stunde gelöscht und lässt sich nicht mehr wiederherstellen.
session-name-long = Der Name hat { $count } Zeichen; möglich sind höchstens { $most }.
session-file-wrong = Diese Datei enthält keine Sitzung. Eine wählen, die auf dieser Seite gespeichert wurde.
session-file-elsewhere = Diese Sitzung gehört zu einem anderen Katalog. Die Datei dort öffnen.
query-empty = Eingeben, was gesucht wird.
query-long = Die Suche hat { $count } Zeichen; möglich sind höchstens { $most }.
query-terms = Die Suche hat { $count } Begriffe; möglich sind höchstens { $most }.
query-subtracted = Alles wird abgezogen. Zuerst nennen, was gesucht wird, etwa dog - cat.
query-cancelled = Die Begriffe heben sich gegenseitig auf. Einen davon entfernen.
query-term = Nach „{ $sign }“ fehlt etwas. Ein Beispiel: dog + #17 - cat.
query-item = „{ $text }“ ist kein Bild; eines nennt man mit # und seiner Nummer, etwa #17. Wörter, die mit # beginnen, in "Anführungszeichen" setzen.
query-picture = Dieses Bild ist nicht mehr da. Es noch einmal senden.
query-codes-only = Dieser Katalog hat keine Embeddings. Mit einem Bild suchen, etwa #17.
query-no-model = Dieser Katalog läuft ohne Textmodell. Mit einem Bild suchen, etwa #17.
picture-unreadable = Dieses Bild ist nicht lesbar; möglich sind JPEG, PNG, WebP und GIF.
busy-others = Zu viele andere drücken gerade „Alle finden“. In { $seconds } s noch einmal versuchen.
busy-session = Das war zu oft „Alle finden“ in kurzer Zeit. In { $seconds } s noch einmal versuchen.
busy-downloads = Zu viele Downloads laufen gleichzeitig. In { $seconds } s noch einmal versuchen, wenn einer fertig ist.
zip-too-large = Ein ZIP fasst höchstens { $most } Bilder, und dies sind { $count }. Einen Reiter oder ein anderes Format wählen.
export-no-pictures = Dieser Katalog hat keine Bilder in Dateien. Ein anderes Format wählen.
back-to-catalog = Zurück zum Katalog
login = Anmelden
    .token = Das Token dieses Servers
    .wrong = Das ist nicht das Token dieses Servers.

## Das Suchfeld

search = Suchen
    .label = Nach Wörtern und Bildern suchen, etwa dog + #17
    .label-items = Nach Bildern suchen, etwa #17
    .placeholder = Was wird gesucht?
    .placeholder-items = Kein Textmodell: ein Bild wie #17
by-picture = Mit einem Bild suchen
    .title = Mit einem Bild suchen: auswählen, einfügen oder hierher ziehen
    .file = Ein Bild, mit dem gesucht wird
    .drop = Bild loslassen, um damit zu suchen
picture-unread = Das Modell dieses Katalogs verarbeitet keine Bilder. Deshalb ist eine Suche mit einem Bild nicht möglich.
picture-unsent = Der Server hat nicht geantwortet, deshalb wurde das Bild nicht gesendet.
picture-not = { $file } ist kein Bild; möglich sind JPEG, PNG, WebP und GIF.
picture-not-dropped = Das war kein Bild; möglich sind JPEG, PNG, WebP und GIF.
new-search = Neue Suche
    .title = Eine neue Sitzung ohne Markierungen; diese bleibt erhalten
ask-new = Eine neue Sitzung beginnen?
    .begin = Neue Sitzung beginnen
ask-new-marks =
    { $count ->
        [one] Die Markierung gehört zu „{ $query }“.
       *[other] Die { $count } Markierungen gehören zu „{ $query }“.
    }
ask-new-keep =
    { $count ->
        [one] Die Markierung behalten
       *[other] Die { $count } Markierungen behalten
    }
terms = Suchbegriffe
term-more = plus
term-less = minus
term-sent = Das gesendete Bild
term-remove = Ohne { $term } suchen
size = { $count ->
    [one] 1 Bild
   *[other] { $count } Bilder
}
size-filtered = { $inside } von { $total } Bildern
sessions = Sitzungen
    .title = Sitzungen finden, benennen, wechseln oder kopieren
sessions-named = Sitzungen: { $name }
places = Sitzungen, Filter und Darstellung

## Der Filter

filter = Filter
    .title = Nach den Spalten der Bilder filtern (g)
filter-label = Nur Bilder mit
filter-apply = Anwenden
filter-none = Kein Filter
filter-columns = Spalten und ihre häufigsten Werte. Mehrere Werte derselben Spalte erweitern den Filter, Werte einer anderen Spalte engen ihn ein.
filter-on = Filter: nur Bilder mit
filter-remove = Filter entfernen
filter-count = { $count } von { $total } Bildern
filter-long = Der Filter hat { $count } Zeichen; möglich sind höchstens { $most }.
filter-expected =
    An Zeichen { $at } { $what ->
        [end] fehlt AND, OR oder das Ende
        [end-inside] fehlt AND, OR oder )
        [depth] sind Klammern und NOT zu tief verschachtelt
        [null] fehlt NULL
        [null-or-not] fehlt NULL oder NOT NULL
        [bracket] fehlt (
        [comma] fehlt ein Komma oder )
        [and] fehlt AND
        [negated] fehlt LIKE, ILIKE, IN oder BETWEEN
        [test] fehlt ein Vergleich wie =, !=, <, >, LIKE, IN, BETWEEN oder IS NULL
        [column] fehlt eine Spalte
        [field] fehlt der Name eines Feldes
        [finite] ist die Zahl zu groß
        [not-null] fehlt ein Wert; für Bilder ohne Wert IS NULL schreiben
        [pattern] fehlt ein 'Muster' in Anführungszeichen
        [short-pattern] ist das Muster zu lang
        [quote] fehlt das schließende '
        [double-quote] fehlt das schließende "
       *[value] fehlt eine Zahl, ein 'Text' in Anführungszeichen, TRUE oder FALSE
    }{ $ended ->
        [True] .
       *[other] ; dort steht { $got }.
    }
filter-column =
    Eine Spalte { $name } gibt es nicht. { $found ->
        [True] Ist { $near } gemeint?
       *[other] Es gibt: { $columns }.
    }
filter-unquoted = Text in Anführungszeichen schreiben, etwa '{ $got }'.
filter-null-only = Bei { $name } lässt sich nur IS NULL und IS NOT NULL prüfen.
filter-like = LIKE ist für Spalten mit Text, und { $name } ist keine. Mit = oder < vergleichen.
filter-boolean = { $name } ist wahr oder falsch. Mit = oder != vergleichen.
filter-value =
    { $kind ->
        [number] { $name } enthält Zahlen, nicht { $got }.
        [text] { $name } enthält Text. Ihn in Anführungszeichen schreiben, etwa 'dog', nicht { $got }.
        [boolean] { $name } ist TRUE oder FALSE, nicht { $got }.
       *[time] { $name } enthält Daten. Eines schreiben wie '2024-05-31', nicht { $got }.
    }
filter-lost = Der Filter wurde entfernt, weil er nicht mehr funktioniert: { $error }
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
no-columns = Die Bilder dieses Katalogs haben keine Spalten.

## Die erste Seite

pictures-missing =
    { $missing ->
        [1] Von { $looked } gesuchten Bildern fehlt 1. Ihren Ordner nennt serve --pictures oder relocate.
       *[other] Von { $looked } gesuchten Bildern fehlen { $missing }. Ihren Ordner nennt serve --pictures oder relocate.
    }
pictures-unread = Die Bilder in { $store } werden nicht gelesen, weil der Server keinen Auftrag dazu hat: mit --pictures { $store } starten.
intro = So geht es
intro-look = Ansehen
    .words = Suchen oder mit einem zufälligen Bild von unten beginnen.
    .items = Dieser Katalog hat kein Textmodell: mit einem Bild beginnen, einem zufälligen von unten oder einem bekannten:
intro-mark = Markieren
    .how = Auf ein Bild klicken: einmal für richtig, zweimal für falsch.
    .touch = Auf ein Bild tippen: einmal für richtig, zweimal für falsch. Langes Drücken zeigt es groß.
    .keys = Mit der Tastatur: <kbd>Esc</kbd> verlässt das Suchfeld. Dann markiert <kbd>a</kbd> als richtig und <kbd>x</kbd> als falsch; beide Tasten gehen zum nächsten Bild. <kbd>?</kbd> zeigt alle Tasten.
intro-find = Alle finden
    .how = Ein Modell lernt aus den Markierungen, prüft alle { $count } Bilder und zeigt jeden Treffer. Danach weiter markieren oder exportieren.
item-id = Bildnummer
go = Los
random = Zufällige Bilder
other-random = Andere zufällige Bilder

## Listen

nearest = Am nächsten an „{ $query }“
    .picture = Am nächsten am eigenen Bild
nearest-meant = gezeigt wird { $meant } statt { $text }
nearest-all =
    { $count ->
        [one] 1 Bild, die ähnlichsten zuerst
       *[other] { $count } Bilder, die ähnlichsten zuerst
    }
nearest-all-filtered = { $inside } von { $total } Bildern, die ähnlichsten zuerst
nearest-some = die { $count } nächsten von { $inside } Bildern, die ähnlichsten zuerst
nearest-some-filtered = die { $count } nächsten von { $inside } der { $total } Bilder, die ähnlichsten zuerst
like-item = Wie Bild { $id }
your-picture = Das eigene Bild
took = { $ms } ms
took-by = mit { $how }
empty = Hier gibt es nichts zu sehen.
empty-filter = Keines dieser Bilder entspricht dem Filter.
empty-review = Alle sind bereits markiert.
chunk = Bilder ab { $first }
item = Bild { $id }
distance = Abstand { $value } (0 ist gleich)
score = Wert { $value }
chance = Chance { $percent } %
tile-size = Größe der Bilder
    .title = Größer und kleiner (+ und -)
tile-why = Warum Bild { $id } ein Treffer ist oder nicht
    .title = Warum (w)
tile-like = Mehr wie Bild { $id }
    .title = Mehr davon (m)
tile-open = Bild { $id } groß öffnen
    .title = Groß öffnen (o)
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
view = Ansicht
captions = Beschriftungen
    .title = Beschriftungen unter den Bildern (c)

## Markierungen

bar = Markierungen und nächste Schritte
undo = Rückgängig
    .title = Rückgängig (Strg+Z)
redo = Wiederholen
    .title = Wiederholen (Strg+Umschalt+Z)
marked-right = Als richtig markiert
marked-wrong = Als falsch markiert
counted-right = richtig
counted-wrong = falsch
open-large = Groß öffnen
    .title = Das aktuelle Bild groß öffnen (o)
tools = Weitere Werkzeuge
more-marks = Weitere Markierungen
rest = Nicht markierte Bilder auf dem Bildschirm
rest-wrong = Den Rest als falsch markieren
rest-right = Den Rest als richtig markieren
all-marks = Alle Markierungen dieser Sitzung
clear = Alle entfernen („Rückgängig“ holt sie zurück)
cleared = Alle Markierungen entfernt
nothing-unmarked = Auf dem Bildschirm ist bereits alles markiert
marked =
    { $value ->
        [1]
            { $count ->
                [one] #{ $id } als richtig markiert
               *[other] { $count } Bilder als richtig markiert
            }
        [-1]
            { $count ->
                [one] #{ $id } als falsch markiert
               *[other] { $count } Bilder als falsch markiert
            }
       *[0]
            { $count ->
                [one] #{ $id } nicht mehr markiert
               *[other] { $count } Bilder nicht mehr markiert
            }
    }
taken-back = { $nothing ->
    [yes] { $path ->
        [undo] Nichts mehr rückgängig zu machen
       *[redo] Nichts mehr zu wiederholen
    }
   *[no] { $path ->
        [undo] Zurückgenommen
       *[redo] Wiederhergestellt
    }: { $count ->
        [one] #{ $id }
       *[other] { $count } Bilder
    }
}
taken-back-marks = { $path ->
    [undo] Zurückgenommen
   *[redo] Wiederhergestellt
}: { $count ->
    [one] 1 Markierung
   *[other] { $count } Markierungen
}
deed-counts = { $deed }. { $positive } richtig, { $negative } falsch.
refused = { $why } Die Änderung wurde zurückgenommen.
waiting = { $count } zu senden, sobald der Server wieder antwortet

## Nächste Schritte

steps = Nächste Schritte
hint-none = Einige Bilder als richtig und falsch markieren, dann „Alle finden“.
hint-none-here = Suchen, einige Bilder als richtig und falsch markieren, dann „Alle finden“.
hint-right = Auch einige als falsch markieren, dann „Alle finden“.
hint-wrong = Mindestens eines als richtig markieren, dann „Alle finden“.
hint-both = „Alle finden“ wendet die Markierungen auf alle { $count } Bilder an.
progress =
    { $left ->
        [0]
            { $kind ->
                [audit] Alle { $total } sind geprüft
               *[suggest] Alle { $total } sind markiert
            }
       *[other]
            { $kind ->
                [audit] { $done } von { $total } geprüft
               *[suggest] { $done } von { $total } markiert
            }
    }
to-matches = Zurück zu den <b>{ $count }</b> Treffern
    .title = Zurück zu den Treffern (b)
to-mark = { $count } zu markieren
to-check = { $count } zu prüfen
suggest = { $count } vorschlagen
    .title = Bilder zeigen, aus deren Markierung das Modell am meisten lernt (s)
suggest-note = Bei diesen Bildern ist das Modell am unsichersten. Aus ihren Markierungen lernt es am meisten.
check = { $count } prüfen
    .title = Zufällige Bilder zeigen; ihre Markierungen zeigen, wie gut das Ergebnis ist (k)
find-target = { NUMBER($target, style: "percent") } finden
    .title = Je 20 Bilder zum Markieren zeigen, bis bekannt ist, dass { NUMBER($target, style: "percent") } aller richtigen Bilder gefunden sind (t)
find-all = Alle finden
    .title = Die Markierungen auf den ganzen Katalog anwenden (f)
find-again = Erneut alle finden
finding-all = Alle Treffer werden gesucht
finding = Alle finden { $stage ->
    [wait] · wartet auf andere
    [breadth] · schätzt, wie breit die Idee ist
    [train] · lernt
    [boxes] · sucht
    [rank] · ordnet
    [cut] · schneidet die Liste
    [estimate] · schätzt die Vollständigkeit
   *[other] {""}
}
awaited =
    { $what ->
        [refine] „Alle finden“ wartet auf den Server
       *[other] Die Anfrage wartet auf den Server
    }
audit-note = Dies sind zufällige Bilder. Beliebig viele als richtig oder falsch markieren: Das zeigt, wie gut das Ergebnis ist.
review-heading = { $count } durchzusehen
review-note = Diese Bilder sind noch nicht markiert. Die unsichersten kommen zuerst.
step =
    { $kind ->
        [reached] Von allen richtigen Bildern: { $known }, in neun von zehn Fällen. Zufällige Bilder zeigen, dass sonst kaum etwas fehlt.
        [alike] Von den Bildern, die den Markierungen ähneln: { $known }, in neun von zehn Fällen. Vielleicht gibt es weitere richtige. Um das auszuschließen, braucht es { NUMBER($checks) } zufällige Bilder.
        [exhausted] Es gibt nichts mehr zu markieren. Von den richtigen Bildern: { $known }.
        [check] Von den Bildern, die den Markierungen ähneln: { $known }. Dies sind zufällige Bilder: Ist keines von { NUMBER($checks) } richtig, fehlt sonst kaum etwas. Markieren, dann noch einmal „{ NUMBER($target, style: "percent") } finden“ drücken.
       *[mark] Von den Bildern, die den Markierungen ähneln: { $known } (diese hier zählen noch nicht). Diese Bilder als richtig oder falsch markieren, dann noch einmal „{ NUMBER($target, style: "percent") } finden“ drücken.
    }
unfound = Noch nichts gefunden
    .unmarked = Mindestens ein Bild als richtig markieren, dann „Alle finden“ drücken.
    .marked = „Alle finden“ wendet die Markierungen auf den ganzen Katalog an.
    .forgotten = Das Ergebnis ist nicht mehr da
    .kept = Der Server wurde neu gestartet, oder der Katalog hat sich geändert. Markierungen und Optionen sind erhalten.

## Optionen für „Alle finden“

options = Optionen für „Alle finden“
second-stage = Kandidaten genau vergleichen
    .missing = Dafür braucht der Katalog Embeddings
advanced = Erweitert
model = Modell
model-name = { $model ->
    [branch] Ein Entscheidungszweig
    [ensemble-classic] Ensemble wie in den Veröffentlichungen
    [branch-classic] Ein Zweig wie in den Veröffentlichungen
    [forest] Random Forest
    [tree] Entscheidungsbaum
    [linear] Linear, ohne Boxen
   *[ensemble] Ensemble von Entscheidungszweigen
}
model-use =
    { $model ->
        [branch] Wenige Boxen, die man lesen und exportieren kann; findet weniger.
        [ensemble-classic] Zum Vergleich mit der veröffentlichten Methode.
        [branch-classic] Zum Vergleich mit der veröffentlichten Methode, ein Modell.
        [forest] Ein Vergleichsmodell; langsamer, mit vielen engen Boxen.
        [tree] Ein Vergleichsmodell aus einem Baum.
        [linear] Ordnet alle Bilder nur linear; ohne Gründe, ohne Boxen.
       *[ensemble] Meistens die beste Wahl.
    }
wrong-items = Falsche Bilder
random-negatives = Zufällig gezogen
    .title = Bilder, die niemand geprüft hat und die als falsch gelten
negative-weight = Gewicht eines markierten
    .title = Für wie viele zufällige Bilder ein als falsch markiertes beim genauen Vergleich zählt

## Ein Ergebnis, und wie vollständig es ist

matches-heading = { $count } Treffer
matches-heading-changed = { matches-heading } ({ $new } neu, { $gone } nicht mehr)
since-found =
    { $joined ->
        [0] -{ $left } seit „Alle finden“, durch Markierungen
       *[other]
            { $left ->
                [0] +{ $joined } seit „Alle finden“, durch Markierungen
               *[other] +{ $joined } -{ $left } seit „Alle finden“, durch Markierungen
            }
    }
new-marks =
    { $count ->
        [one] 1 neue Markierung
       *[other] { $count } neue Markierungen
    }
part =
    { $part ->
        [all] Alle
        [sure] Sicher
        [likely] Wahrscheinlich
        [borderline] Grenzfälle
        [below] Knapp darunter
        [right] Als richtig markiert
        [new] Neu
       *[gone] Nicht mehr
    }
    .heading =
        { $part ->
            [sure] { $count } sichere
            [likely] { $count } wahrscheinliche
            [borderline]
                { $count ->
                    [one] 1 Grenzfall
                   *[other] { $count } Grenzfälle
                }
            [below] { $count } knapp darunter
            [right] { $count } als richtig markiert
            [new] { $count } neue
           *[gone] { $count } nicht mehr
        }
    .note =
        { $part ->
            [sure] Jedes ist als richtig markiert oder mit einer Wahrscheinlichkeit von mindestens 90 % richtig.
            [likely] Jedes ist mit einer Wahrscheinlichkeit von 50 % bis 90 % richtig.
            [borderline] Jedes ist mit einer Wahrscheinlichkeit unter 50 % richtig oder inzwischen als falsch markiert.
            [below] Diese Bilder sind beinahe Treffer. Die richtigen davon markieren.
            [right] Jedes davon ist als richtig markiert.
            [new] Diese Bilder sind jetzt Treffer, in der letzten Runde noch nicht.
           *[gone] Diese Bilder waren in der letzten Runde Treffer, jetzt nicht mehr.
        }
parts = Teile des Ergebnisses
told-checked = Geprüft: { $told }.
told-guessed = Geschätzt: { $told }.
told-unknown = Wie viele davon richtig sind und wie viele fehlen, zeigt sich, sobald einige geprüft sind.
right-of =
    { $right ->
        [all] fast alle der { $count } sind richtig (mindestens { $low })
        [unknown] wie viele der { $count } richtig sind, ist noch nicht bekannt (zwischen { $low } und { $high })
       *[other] etwa { $right } der { $count } sind richtig (zwischen { $low } und { $high })
    }
missing-unknown =
    { $checked ->
        [True] { $found }; wie viele fehlen, ist noch nicht bekannt: dafür weitere prüfen
       *[other] { $found }; wie viele fehlen, ist noch nicht bekannt: dafür einige prüfen
    }
missing =
    { $missing ->
        [0] { $found }, und kaum welche fehlen (höchstens { $high })
        [1] { $found }, und etwa 1 fehlt noch (höchstens { $high })
        [few] { $found }, und zwischen 0 und { $high } fehlen
       *[other] { $found }, und etwa { $missing } fehlen noch (zwischen { $low } und { $high })
    }
share-found =
    { $low ->
        [unknown] wie viele gefunden sind, ist noch nicht bekannt
       *[other] mindestens { NUMBER($low, style: "percent") } sind gefunden
    }
in-numbers = In Zahlen
    .filtered = { $intervals } innerhalb des Filters.
    .whole = { $intervals } im ganzen Katalog.
    .meaning = Genauigkeit ist der Anteil der Treffer, die richtig sind. Vollständigkeit ist der Anteil der richtigen Bilder, die Treffer sind. Die Bereiche gelten in neun von zehn Fällen.
    .unchecked = Genauigkeit ist der Anteil der Treffer, die richtig sind. Vollständigkeit ist der Anteil der richtigen Bilder, die Treffer sind. Die Bereiche gelten in neun von zehn Fällen, wenn die Suche wie andere ist: Noch ist nichts geprüft.
precision =
    { $middle ->
        [unknown] Genauigkeit zwischen { NUMBER($low, style: "percent") } und { NUMBER($high, style: "percent") }
       *[other] Genauigkeit { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } bis { NUMBER($high, style: "percent") })
    }
recall =
    { $middle ->
        [unknown] Vollständigkeit zwischen { NUMBER($low, style: "percent") } und { NUMBER($high, style: "percent") }
       *[other] Vollständigkeit { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } bis { NUMBER($high, style: "percent") })
    }
candidates =
    { $count ->
        [one] 1 Bild genau verglichen
       *[other] { $count } Bilder genau verglichen
    }
milliseconds = { NUMBER($time, maximumFractionDigits: 0) } ms
estimate = Neu schätzen
    .title = Mit den Markierungen seit der letzten Schätzung
show-cut = Reihenfolge, Schnitt, Zahlen
order = { $order ->
    [review] Durchsehen
   *[unsure] Unsicherste zuerst
}
    .title = { $order ->
        [review] Nur nicht markierte Bilder, die unsichersten zuerst (r)
       *[unsure] Bilder nahe am Schnitt zuerst
    }
lean = Wie viele Treffer: weniger und sicherer oder mehr und unsicherer
    .title = In der Mitte schneidet das Modell die Liste
lean-fewer = Weniger, sicherer
lean-more = Mehr, unsicherer
lean-value = { $value ->
    [0] wie das Modell
   *[other] { NUMBER($value, minimumFractionDigits: 1) }
}

## Export

export = Exportieren
    .title = Die Treffer speichern (e)
export-all = Die Treffer
export-part = Die Bilder dieses Reiters
export-some = Nur ein Teil davon, etwa die als richtig markierten? Zuerst deren Reiter öffnen.
export-boxes = Das trainierte Modell: Boxen über den Codes
format =
    { $format ->
        [csv] CSV
        [parquet] Parquet
        [json] JSON
        [jsonl] JSON Lines
        [coco] COCO
        [img2dataset] img2dataset
        [intervals] Zeitabschnitte
        [links] Verknüpfungen
        [zip] ZIP
       *[sql] SQL
    }
    .use =
        { $of ->
            [boxes]
                { $format ->
                    [sql] eine Abfrage über die Codes
                   *[json] Dimensionen und Grenzen
                }
           *[matches]
                { $format ->
                    [csv] eine Tabelle für Tabellenprogramme
                    [parquet] eine Tabelle mit Datentypen
                    [json] eine Liste von Objekten
                    [jsonl] ein Objekt je Zeile
                    [coco] eine Bilderliste für Annotationswerkzeuge
                    [img2dataset] URLs und Beschriftungen zum Herunterladen
                    [intervals] Zeiten in Videos, für Schnitt und Wiedergabe
                    [links] Verweise auf die Bilder, die besten zuerst
                   *[zip] die Bilder selbst
                }
        }
zip-size = · { $pictures ->
        [one] 1 Bild
       *[other] { $pictures } Bilder
    }, etwa { $megabytes } MB
zip-too-many = · ein ZIP fasst höchstens { $most } Bilder, und dies sind etwa { $pictures }: einen Reiter oder „Verknüpfungen“ wählen

## Warum ein Bild ein Treffer ist

why-in = Warum Bild { $id } ein Treffer ist
why-out = Warum Bild { $id } kein Treffer ist
why-found = Gefunden: { $reason }.
why-not-found = Nicht gefunden: { $reason }.
why-marked =
    { $mark ->
        [1] Es ist als richtig markiert und deshalb ein Treffer.
       *[-1] Es ist als falsch markiert und deshalb kein Treffer.
    }
why-looks =
    { $count ->
        [1]
            { $votes ->
                [0] auf den ersten Blick ähnelt es nicht dem, was als richtig markiert ist
               *[other] auf den ersten Blick ähnelt es dem, was als richtig markiert ist
            }
       *[other]
            { $votes ->
                [0] keiner von { $count } ersten Blicken fand es dem ähnlich, was als richtig markiert ist
                [1] einer von { $count } ersten Blicken fand es dem ähnlich, was als richtig markiert ist
               *[other] { $votes } von { $count } ersten Blicken fanden es dem ähnlich, was als richtig markiert ist
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
why-numbers = Ein erster Blick ist ein Schätzer: Boxen, jede mit Grenzen für einige Code-Dimensionen des Bildes.
why-votes =
    { $outcome ->
        [no-candidate] { $votes } von { $count } Schätzern enthalten es, { $needed } sind nötig: kein Kandidat.
        [unranked] { $votes } von { $count } Schätzern enthalten es, { $needed } sind nötig: ein Kandidat, aber zu weit unter dem Schnitt, um nach seinem Embedding geordnet zu werden.
        [reached] { $votes } von { $count } Schätzern enthalten es, { $needed } sind nötig: ein Kandidat; sein Wert { NUMBER($score, minimumFractionDigits: 3, maximumFractionDigits: 3) } erreicht den Schnitt { NUMBER($threshold, minimumFractionDigits: 3, maximumFractionDigits: 3) }.
        [missed] { $votes } von { $count } Schätzern enthalten es, { $needed } sind nötig: ein Kandidat; sein Wert { NUMBER($score, minimumFractionDigits: 3, maximumFractionDigits: 3) } bleibt unter dem Schnitt { NUMBER($threshold, minimumFractionDigits: 3, maximumFractionDigits: 3) }.
       *[votes] { $votes } von { $count } Schätzern enthalten es, { $needed } sind nötig.
    }
why-outcome =
    { $outcome ->
        [marked-right] Als richtig markiert, also auf jeden Fall ein Treffer.
        [marked-wrong] Als falsch markiert, also auf keinen Fall ein Treffer.
        [matches] Es ist ein Treffer.
       *[other] Es ist kein Treffer.
    }
why-held = Boxen, die es enthalten: { $boxes }.
why-narrowest = Grenzen, die es am knappsten einhält
    .margin = Abstand
why-missed = Boxen, die es am knappsten verfehlt
    .margin = Zu verschieben um
why-estimator = Schätzer
why-box = Box
why-dim = Dim.
why-code = Code
why-bounds = Grenzen

## Die große Ansicht

large-title = { $place } von { $count }: { $title }
large-now =
    { $label ->
        [1] #{ $id } ist als richtig markiert.
        [-1] #{ $id } ist als falsch markiert.
       *[0] #{ $id } ist nicht markiert.
    }
frames = Einzelbilder des Videos
frame = Einzelbild bei { $time }
    .title = Dieses Einzelbild zeigen (voriges , und nächstes .)
no-picture = Kein Bild
also = Auch
    .label = Auch so etwas
    .title = Auch so etwas: zur Suche hinzufügen (Umschalt+M)
less = Weniger
    .label = Weniger davon
    .title = Weniger davon: von der Suche abziehen (l)
before = Voriges Bild
    .title = Voriges Bild (←)
after = Nächstes Bild
    .title = Nächstes Bild (→)
zoom =
    { $factor ->
        [0] ganz
       *[other] { $factor }×
    }
    .title = Zoom (z)
details = Details
    .label = Details des Bildes
    .title = Alle Details zeigen (i)
original = Original
    .title = Das Originalbild in einem neuen Tab öffnen
source = Quelle
    .title = Die Quelle des Bildes öffnen
download = Herunterladen
    .title = Das Originalbild herunterladen

## Die Karte

map = Karte
    .title = Das Ergebnis und andere Bilder auf einer Karte zeigen (p)
    .role = Karte
map-heading = Karte des Ergebnisses
map-how = Ähnliche Bilder liegen nah beieinander. Eine Gruppe grauer Punkte kann eine zweite Art des Gesuchten sein, die noch nicht markiert ist. Ihre Bilder ansehen, auswählen, als richtig markieren und noch einmal „Alle finden“ drücken.
map-tools = Werkzeuge und Zoom der Karte
map-move = Verschieben
    .title = Ziehen verschiebt die Karte (h)
map-lasso = Lasso
    .title = Bilder umfahren, um sie auszuwählen; mit Umschalt kommen sie hinzu (l)
map-rectangle = Rechteck
    .title = Bilder mit einem Rechteck auswählen; mit Umschalt kommen sie hinzu (r)
map-view = Sichtbares auswählen
    .title = Alles auswählen, was die Karte jetzt zeigt (Eingabe)
map-pictures = Bilder
    .title = Einige Bilder auf der Karte zeigen (p)
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
        [1] kein Treffer, aber nah
       *[0] andere, zufällig
    }
map-like = Mehr davon
map-chosen =
    { $count ->
        [0] Nichts ist ausgewählt
        [one] 1 Bild ist ausgewählt
       *[other] { $count } Bilder sind ausgewählt
    }
map-right = Als richtig markieren
    .title = Alle ausgewählten als richtig markieren (a)
map-wrong = Als falsch markieren
    .title = Alle ausgewählten als falsch markieren (x)
map-list = Als Liste zeigen
map-clear = Nichts auswählen
    .title = Nichts auswählen (Esc)
map-too-many = In einem Schritt werden höchstens { $most } Bilder markiert. Bitte weniger auswählen.
map-changed = Das Ergebnis hat sich geändert, seit dies ausgewählt wurde. Bitte neu auswählen.
map-failed = Der Server hat die Punkte nicht gesendet. Bitte die Seite neu laden.
map-legend = Arten von Punkten
    .title = Diese Punkte zeigen oder ausblenden
map-drawn = Die Karte zeigt { $matches } von { $of } Treffern und { $below } von { $ranked } nahen Bildern, die keine Treffer sind{ $others ->
        [0] .
       *[other] , dazu { $rest } von { $others } anderen, zufällig gewählt.
    }
map-help = Wenn die Karte den Fokus hat: <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> verschieben sie, <kbd>+</kbd> und <kbd>-</kbd> ändern die Größe, <kbd>0</kbd> zeigt alles, <kbd>Eingabe</kbd> wählt Sichtbares aus, <kbd>a</kbd> und <kbd>x</kbd> markieren, was ausgewählt ist. Die Reiter des Ergebnisses haben dieselben Bilder als Listen.
map-listed =
    { $count ->
        [one] 1 Bild der Auswahl
       *[other] { $count } Bilder der Auswahl
    }

## Sitzungen

to-items = Zurück zu den Bildern
sessions-what = Eine Sitzung ist eine Suche mit ihren Markierungen. Alle, die eine Sitzung öffnen, sehen dieselben Markierungen.
sessions-find = Sitzung finden
sessions-order = Sortieren nach
session-order = { $order ->
    [name] Name
    [matches] meisten Treffern
    [exported] letztem Export
   *[used] letzter Nutzung
}
sessions-none = Keine Sitzung nennt „{ $text }“.
session-new = Neue Sitzung
session-file = Aus einer gespeicherten Datei
    .open = Datei öffnen
session-name = Name von { $title }
session-rename = Umbenennen
session-query = Zuletzt gesucht: <q>{ $query }</q>
session-here = hier geöffnet
session-right = { $count } richtig
session-wrong = { $count } falsch
session-matches = { $count ->
    [one] 1 Treffer
   *[other] { $count } Treffer
}
session-exported = { $name }, { $time }
session-open = Öffnen
    .label = Öffnen: { $title }
session-copy = Duplizieren
    .label = Duplizieren: { $title }
session-copied = Kopie von { $title }
session-save = In Datei speichern
    .label = In Datei speichern: { $title }
    .title = Suchen, Markierungen und Optionen speichern, um sie hier oder anderswo zu öffnen
session-delete = Löschen
    .label = Löschen: { $title }
session-deleted = { $title } gelöscht
session-undelete = Wiederherstellen
    .label = { $title } wiederherstellen
    .toast = rückgängig: { $title } zurückholen
sessions-discarded = In der letzten Stunde gelöscht
session-restored = { $title } wurde wiederhergestellt
session-renamed = Heißt jetzt { $title }
session-unnamed = Name entfernt
session-unknown = Diese Sitzung gibt es nicht mehr; sie wurde vielleicht gelöscht.
untitled = Ohne Namen

## Die Tasten

keys = Tasten
    .title = Tasten (?)
    .label = Tasten anzeigen
    .mark = Markieren
    .move = Bewegen
    .look = Ansehen
    .find = Finden
    .these = + Pfeile
    .also = Dasselbe tun <kbd>y</kbd> und <kbd>Enter</kbd> für richtig, <kbd>n</kbd> für falsch, <kbd>0</kbd> und <kbd>Entf</kbd> für keine Markierung, <kbd>u</kbd> für rückgängig.
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
key-map = die Karte des Ergebnisses
key-target = { NUMBER($target, style: "percent") } finden: markieren, bis so viele gefunden sind
key-of-matches = Diese Taste wirkt bei den Treffern
key-to-matches = Treffer zeigen
key-of-answer = Diese Taste wirkt nach „Alle finden“
key-right = als richtig markieren und weiter
key-wrong = als falsch markieren und weiter
key-unmark = Markierung entfernen
key-rest-wrong = den Rest auf dem Bildschirm als falsch markieren
key-rest-right = den Rest auf dem Bildschirm als richtig markieren
key-undo = rückgängig
key-redo = wiederholen
key-next = zum Bild links, rechts, darüber oder darunter
key-screen = eine Bildschirmseite weiter oder zurück
key-ends = zum ersten oder letzten Bild
key-select = auswählen; oder ziehen
key-select-none = nichts auswählen
key-open = groß öffnen; dort zoomt <kbd>z</kbd>
key-frame = groß, in einem Video: voriges, nächstes Einzelbild
key-details = alle Details
key-captions = Beschriftungen
key-like = mehr davon
key-also = auch so etwas: zur Suche hinzufügen
key-less = weniger davon: abziehen
key-why = warum ein Treffer oder nicht
key-search = suchen
key-filter = filtern
key-check = { $count } zufällige Bilder prüfen
key-back = zurück zu den Treffern
key-paste = mit einem eingefügten Bild suchen
key-find-all = alle finden
key-suggest = vorschlagen, was als Nächstes zu markieren ist
key-export = Treffer exportieren
key-size = größere und kleinere Bilder
key-review = nicht markierte Bilder durchsehen, die unsichersten zuerst
key-keys = diese Tasten

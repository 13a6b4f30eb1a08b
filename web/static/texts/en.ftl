# The texts of the page in English, in the format of Project Fluent: https://projectfluent.org/fluent/guide
# Texts with HTML tags are shown by t_html(), all others by t(), which shows tags as they are written.

## The page

# The name of this language in itself.
language-name = English
unstyled = The styles and scripts of this page did not load. Behind a reverse proxy under a prefix such as /photos, start the server with <code>gpubranches serve --prefix /photos</code>.
unkept = The server cannot write the marks of this catalog, so new marks will be lost when the server stops. Save the session to a file to keep it, or let the server write to the catalog's folder and restart it.
skip = Skip to the items
close = Close
    .title = Close (Escape)
cancel = cancel
dismiss = Dismiss this message
right = Right
    .title = Right (a)
wrong = Wrong
    .title = Wrong (x)
undo-word = undo
redo-word = redo
toast = The last change
no-answer = The server did not answer, so nothing was changed. Is it still running?
server-said = The server said { $status }.
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

## Errors, and the login

error = That did not work
    .failed = The server failed to process this request. Its log says why.
    .status =
        { $status ->
            [400] The server cannot read this request.
            [401] This server wants a login.
            [403] The server does not allow this request.
            [404] There is nothing at this address.
            [405] This address is not for that.
            [409] This was done or cancelled already.
            [413] That is more than the server accepts at once.
            [415] The server cannot read this kind of file.
            [422] The server cannot do what was asked.
            [429] That is too much at once. Try again in some seconds.
            [503] The server cannot do this now. Try again in some seconds.
           *[500] The server failed to process this request. Its log says why.
        }
unknown-name = “{ $text }” is not among the { $count } words or names that are known here.
unknown-items =
    { $count ->
        [one] There is no item { $ids } in this catalog. It may have been deleted.
       *[other] There are no items { $ids } in this catalog. They may have been deleted.
    }
none-right = Find all needs at least one item marked right. Mark one, then press Find all again.
nothing-found = Nothing is found yet. Mark items right and wrong, then press Find all.
session-gone = This session was deleted. Open the first page to begin a new one.
session-gone-for-good = This session was deleted more than an hour ago and cannot be restored.
session-name-long = The name has { $count } letters; at most { $most } are possible.
session-file-wrong = This is no file of a session. Choose one that was saved on this page.
session-file-elsewhere = This session was saved in another catalog. Open the file there.
query-empty = Type what to look for.
query-long = The search has { $count } letters; at most { $most } are possible.
query-terms = The search has { $count } terms; at most { $most } are possible.
query-subtracted = Everything is subtracted. Name first what to look for, such as dog - cat.
query-cancelled = The terms cancel each other out. Remove one of them.
query-term = Something is missing after “{ $sign }”. Write, for example, dog + #17 - cat.
query-item = “{ $text }” is no item, which is # and its number, such as #17. For words that begin with #, use "quotes".
query-picture = This picture is not here any more. Send it again.
query-codes-only = This catalog has no embeddings. Search by one item, such as #17.
query-no-model = This catalog is served without a text model. Search by an item, such as #17.
picture-unreadable = This picture cannot be read. Choose a JPEG, PNG, WebP or GIF.
busy-others = Too many others find all just now. Try again in { $seconds } s.
busy-session = That was Find all too often in a short time. Try again in { $seconds } s.
busy-downloads = Too many downloads run at once. Try again in { $seconds } s, when one has ended.
zip-too-large = A ZIP holds at most { $most } pictures, and these are { $count }. Choose a tab, or another format.
export-no-pictures = This catalog has no pictures in files. Choose another format.
back-to-catalog = Back to the catalog
login = Log in
    .token = The token of this server
    .wrong = That is not the token of this server.

## The search field

search = Search
    .label = Search by words and items, such as dog + #17
    .label-items = Search by items, such as #17
    .placeholder = What are you looking for?
    .placeholder-items = No text model: an item such as #17
by-picture = Search by a picture
    .title = Search by a picture: choose, paste or drop one
    .file = A picture to search by
    .drop = Drop the picture to search by it
picture-unread = The model of this catalog does not read pictures, so you cannot search by one.
picture-unsent = The server did not answer, so the picture was not sent.
picture-not = { $file } is no picture. Choose a JPEG, PNG, WebP or GIF.
picture-not-dropped = That was no picture. Drop a JPEG, PNG, WebP or GIF.
new-search = New search
    .title = Start a new session, without marks; this one is kept
ask-new = Start a new session?
    .begin = Start a new session
ask-new-marks = Your { $count ->
    [one] mark is
   *[other] { $count } marks are
} for “{ $query }”.
ask-new-keep = Keep my { $count ->
    [one] mark
   *[other] { $count } marks
}
terms = Terms of the search
term-more = plus
term-less = minus
term-sent = The picture that was sent
term-remove = Search without { $term }
size = { $count ->
    [one] 1 item
   *[other] { $count } items
}
size-filtered = { $inside } of { $total } items
sessions = Sessions
    .title = Find, name, switch or copy sessions
sessions-named = Sessions: { $name }
places = Sessions, filter and appearance

## The filter

filter = Filter
    .title = Filter by the columns of the items (g)
filter-label = Only items with
filter-apply = Apply
filter-none = No filter
filter-columns = Columns and their most frequent values. Several values of one column widen the filter; values of another column narrow it.
filter-on = Filter: only items with
filter-remove = Remove the filter
filter-count = { $count } of { $total } items
filter-long = The filter has { $count } letters; at most { $most } are possible.
filter-expected =
    At letter { $at }, { $what ->
        [end] AND, OR or the end is missing
        [end-inside] AND, OR or ) is missing
        [depth] parentheses and NOTs are too deep
        [null] NULL is missing
        [null-or-not] NULL or NOT NULL is missing
        [bracket] ( is missing
        [comma] a comma or ) is missing
        [and] AND is missing
        [negated] LIKE, ILIKE, IN or BETWEEN is missing
        [test] a comparison is missing, such as =, !=, <, >, LIKE, IN, BETWEEN or IS NULL
        [column] a column is missing
        [field] the name of a field is missing
        [finite] the number is too large
        [not-null] a value is missing; for items without one write IS NULL
        [pattern] a 'pattern' in quotes is missing
        [short-pattern] the pattern is too long
        [quote] the closing ' is missing
        [double-quote] the closing " is missing
       *[value] a number, a 'text' in quotes, TRUE or FALSE is missing
    }{ $ended ->
        [True] .
       *[other] ; there is { $got }.
    }
filter-column =
    There is no column { $name }. { $found ->
        [True] Is it { $near }?
       *[other] There are: { $columns }.
    }
filter-unquoted = Write text in quotes, such as '{ $got }'.
filter-null-only = Of { $name }, only IS NULL and IS NOT NULL can be tested.
filter-like = LIKE is for columns of text, and { $name } is none. Compare it with = or <.
filter-boolean = { $name } is true or false. Compare it with = or !=.
filter-value =
    { $kind ->
        [number] { $name } holds numbers, not { $got }.
        [text] { $name } holds text. Write it in quotes, such as 'dog', not { $got }.
        [boolean] { $name } is TRUE or FALSE, not { $got }.
       *[time] { $name } holds dates. Write one such as '2024-05-31', not { $got }.
    }
filter-lost = The filter was removed because it no longer works: { $error }
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

## The first page

pictures-missing =
    { $missing ->
        [1] Of { $looked } pictures looked for, 1 is missing. Name their folder by serve --pictures, or by relocate.
       *[other] Of { $looked } pictures looked for, { $missing } are missing. Name their folder by serve --pictures, or by relocate.
    }
pictures-unread = The pictures in { $store } are only read if you start the server with --pictures { $store }.
intro = How it works
intro-look = Look
    .words = Search for what you want, or start from a random picture below.
    .items = This catalog has no text model: start from a random item below, or from an item you know:
intro-mark = Mark
    .how = Click a picture: once for right, twice for wrong.
    .touch = Tap a picture: once for right, twice for wrong. Hold it to see it large.
    .keys = With the keyboard: <kbd>Esc</kbd> leaves the search field, then <kbd>a</kbd> marks right, <kbd>x</kbd> marks wrong, and both go to the next picture. <kbd>?</kbd> shows all keys.
intro-find = Find all
    .how = A model learns from your marks, tests all { $count } items and shows every match. Then mark more, or export.
item-id = item id
go = Go
random = Random items
other-random = Other random items

## Lists

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
like-item = Like item { $id }
your-picture = Your picture
took = { $ms } ms
took-by = by { $how }
empty = There is nothing to show here.
empty-filter = Nothing here passes the filter.
empty-review = All of these are already marked.
chunk = Items from { $first }
item = item { $id }
distance = distance { $value } (0 is the same)
score = score { $value }
chance = chance { $percent }%
tile-size = Size of the pictures
    .title = Larger and smaller (+ and -)
tile-why = Why item { $id } matches or does not
    .title = Why (w)
tile-like = More like item { $id }
    .title = More like this (m)
tile-open = Open item { $id } large
    .title = Open large (o)
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
view = View
captions = Captions
    .title = Captions under the pictures (c)

## Marks

bar = Marks and next steps
undo = Undo
    .title = Undo (ctrl+z)
redo = Redo
    .title = Redo (ctrl+shift+z)
marked-right = Marked right
marked-wrong = Marked wrong
counted-right = right
counted-wrong = wrong
open-large = Open large
    .title = Open the current picture large (o)
tools = More tools
more-marks = More marks
rest = Unmarked items on the screen
rest-wrong = Mark the rest wrong
rest-right = Mark the rest right
all-marks = All marks of this session
clear = Remove all (undo restores them)
cleared = All marks removed
nothing-unmarked = Everything on the screen is already marked
marked = { $count ->
    [one] #{ $id }
   *[other] { $count } items
} marked { $value ->
    [1] right
    [-1] wrong
   *[0] no longer
}
taken-back = { $nothing ->
    [yes] { $path ->
        [undo] Nothing left to undo
       *[redo] Nothing left to redo
    }
   *[no] { $path ->
        [undo] Taken back
       *[redo] Brought back
    }: { $count ->
        [one] #{ $id }
       *[other] { $count } items
    }
}
taken-back-marks = { $path ->
    [undo] Taken back
   *[redo] Brought back
}: { $count ->
    [one] 1 mark
   *[other] { $count } marks
}
deed-counts = { $deed }. { $positive } right, { $negative } wrong.
refused = { $why } What you did was taken back.
waiting = { $count } to send when the server answers again

## Next steps

steps = Next steps
hint-none = Mark a few pictures right and wrong, then Find all.
hint-none-here = Search, mark a few right and wrong, then Find all.
hint-right = Mark a few wrong ones, too, then Find all.
hint-wrong = Mark at least one right, then Find all.
hint-both = Find all applies your marks to all { $count } items.
progress = { $left ->
    [0] All { $total } are { $kind ->
        [audit] checked
       *[suggest] marked
    }
   *[other] { $done } of { $total } { $kind ->
        [audit] checked
       *[suggest] marked
    }
}
to-matches = Back to the <b>{ $count }</b> matches
    .title = Back to the matches (b)
to-mark = { $count } to mark next
to-check = { $count } to check
suggest = Suggest { $count }
    .title = Show what to mark next: marks on these items help most (s)
suggest-note = The model is least sure about these items, so marks on them help it most.
check = Check { $count }
    .title = Show random items: your marks on them show how good the answer is (k)
find-target = Find { NUMBER($target, style: "percent") }
    .title = Show items to mark, 20 at a time, until { NUMBER($target, style: "percent") } of all right items are known to be found (t)
find-all = Find all
    .title = Apply the marks to the whole catalog (f)
find-again = Find all again
finding-all = Finding all that match
finding = Finding all { $stage ->
    [wait] · waiting for others
    [breadth] · judging how broad the idea is
    [train] · training
    [boxes] · searching
    [rank] · ranking
    [cut] · cutting the list
    [estimate] · estimating how complete it is
   *[other] {""}
}
awaited = { $what ->
    [refine] Find all waits for the server
   *[other] The request waits for the server
}
audit-note = These are random items. Mark as many as you like right or wrong: this shows how good the answer is.
review-heading = { $count } to review
review-note = These are not marked yet. The least sure come first.
step =
    { $kind ->
        [reached] Of all right items { $known }, nine times in ten. Random items show that hardly anything else is missing.
        [alike] Of what resembles your marks { $known }, nine times in ten. Other right items may exist: to rule them out takes { NUMBER($checks) } random items.
        [exhausted] Nothing is left to mark. Of the right items { $known }.
        [check] Of what resembles your marks { $known }. These are random items: if none of { NUMBER($checks) } is right, hardly anything else is missing. Mark them, then press Find { NUMBER($target, style: "percent") } again.
       *[mark] Of what resembles your marks, { $known } (these do not count yet). Mark these right or wrong, then press Find { NUMBER($target, style: "percent") } again.
    }
unfound = Nothing found yet
    .unmarked = Mark at least one item right, then press Find all.
    .marked = Find all applies your marks to the whole catalog.
    .forgotten = The answer is forgotten
    .kept = The server was restarted, or the catalog changed. Your marks and options are kept.

## Options of find all

options = Options of find all
second-stage = Compare candidates in full detail
    .missing = Full detail needs a catalog with embeddings
advanced = Advanced
model = Model
model-name = { $model ->
    [branch] One decision branch
    [ensemble-classic] Ensemble, as in the papers
    [branch-classic] One branch, as in the papers
    [forest] Random forest
    [tree] Decision tree
    [linear] Linear, without boxes
   *[ensemble] Ensemble of decision branches
}
model-use = { $model ->
    [branch] A few boxes that you can read and export; finds less.
    [ensemble-classic] For comparison with the published method.
    [branch-classic] For comparison with the published method, one model.
    [forest] A baseline for comparison; slower, with many narrow boxes.
    [tree] A baseline for comparison; a single tree.
    [linear] Ranks every item with a linear model; no boxes, no reasons.
   *[ensemble] Usually the best choice.
}
wrong-items = Wrong items
random-negatives = Drawn at random
    .title = Random items that nobody checked; the model uses them as wrong items
negative-weight = Weight of a marked one
    .title = How many random items one item marked wrong counts for, in the comparison in full detail

## An answer, and how complete it is

matches-heading =
    { $count ->
        [1] 1 matches
       *[other] { $count } match
    }
matches-heading-changed = { matches-heading } ({ $new } new, { $gone } gone)
since-found =
    { $joined ->
        [0] -{ $left } since Find all, by your marks
       *[other]
            { $left ->
                [0] +{ $joined } since Find all, by your marks
               *[other] +{ $joined } -{ $left } since Find all, by your marks
            }
    }
new-marks =
    { $count ->
        [one] 1 new mark
       *[other] { $count } new marks
    }
part =
    { $part ->
        [all] All
        [sure] Sure
        [likely] Likely
        [borderline] Borderline
        [below] Just below
        [right] Marked right
        [new] New
       *[gone] Gone
    }
    .heading =
        { $part ->
            [sure] { $count } sure
            [likely] { $count } likely
            [borderline] { $count } borderline
            [below] { $count } just below
            [right] { $count } marked right
            [new] { $count } new
           *[gone] { $count } gone
        }
    .note =
        { $part ->
            [sure] Each is marked right, or has a chance of 90% or more to be right.
            [likely] Each has a chance of 50% to 90% to be right.
            [borderline] Each has a chance of less than 50% to be right, or is now marked wrong.
            [below] These items almost match. Mark those that are right.
            [right] You marked each of these right.
            [new] These items match now, but did not in the last round.
           *[gone] These items matched in the last round, but do not match now.
        }
parts = Parts of the answer
told-checked = By what was checked, { $told }.
told-guessed = At a guess, { $told }.
told-unknown = Check some items to learn how many of these are right and how many are missing.
right-of =
    { $right ->
        [all] nearly all of the { $count } are right (at least { $low })
        [unknown] how many of the { $count } are right is not known yet (between { $low } and { $high })
       *[other] about { $right } of the { $count } are right (between { $low } and { $high })
    }
missing-unknown =
    { $checked ->
        [True] { $found }; how many are missing is not known yet: check more
       *[other] { $found }; how many are missing is not known yet: check some
    }
missing =
    { $missing ->
        [0] { $found }, and hardly any are missing (at most { $high })
        [1] { $found }, and about 1 more is missing (at most { $high })
        [few] { $found }, and between 0 and { $high } are missing
       *[other] { $found }, and about { $missing } more are missing (between { $low } and { $high })
    }
share-found =
    { $low ->
        [unknown] it is not known yet how many are found
       *[other] at least { NUMBER($low, style: "percent") } are found
    }
in-numbers = In numbers
    .filtered = { $intervals } of what the filter lets in.
    .whole = { $intervals } of the whole catalog.
    .meaning = Precision is the share of the matches that are right. Recall is the share of the right items that match. The ranges hold nine times in ten.
    .unchecked = Precision is the share of the matches that are right. Recall is the share of the right items that match. No items are checked yet, so the ranges hold nine times in ten only if your search is like others.
precision =
    { $middle ->
        [unknown] precision between { NUMBER($low, style: "percent") } and { NUMBER($high, style: "percent") }
       *[other] precision { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } to { NUMBER($high, style: "percent") })
    }
recall =
    { $middle ->
        [unknown] recall between { NUMBER($low, style: "percent") } and { NUMBER($high, style: "percent") }
       *[other] recall { NUMBER($middle, style: "percent") } ({ NUMBER($low, style: "percent") } to { NUMBER($high, style: "percent") })
    }
candidates =
    { $count ->
        [one] 1 item compared in detail
       *[other] { $count } items compared in detail
    }
milliseconds = { NUMBER($time, maximumFractionDigits: 0) } ms
estimate = Estimate again
    .title = Use the marks since the last estimate
show-cut = Order, cut, numbers
order = { $order ->
    [review] Review
   *[unsure] Least sure first
}
    .title = { $order ->
        [review] Only unmarked items, the least sure first (r)
       *[unsure] Items nearest to the cut first
    }
lean = How many items match: fewer and surer, or more and less sure
    .title = The middle is where the model cuts the list
lean-fewer = Fewer, surer
lean-more = More, less sure
lean-value = { $value ->
    [0] as the model cuts
   *[other] { NUMBER($value, minimumFractionDigits: 1) }
}

## Export

export = Export
    .title = Save the matches (e)
export-all = All matches
export-part = The items of this tab
export-some = For some of them only, such as those marked right, open their tab first.
export-boxes = The trained model: boxes over the codes
format =
    { $format ->
        [csv] CSV
        [parquet] Parquet
        [json] JSON
        [jsonl] JSON lines
        [coco] COCO
        [img2dataset] img2dataset
        [intervals] Intervals
        [links] Links
        [zip] ZIP
       *[sql] SQL
    }
    .use =
        { $of ->
            [boxes]
                { $format ->
                    [sql] a query over the codes
                   *[json] dims and bounds
                }
           *[matches]
                { $format ->
                    [csv] a table for spreadsheets
                    [parquet] a table with types
                    [json] an array of objects
                    [jsonl] one object per line
                    [coco] a list of images, for annotation tools
                    [img2dataset] URLs and captions, for downloading
                    [intervals] times in videos, for editors and players
                    [links] links to the pictures, best first
                   *[zip] the pictures themselves
                }
        }
zip-size = · { $pictures ->
        [one] 1 picture
       *[other] { $pictures } pictures
    }, about { $megabytes } MB
zip-too-many = · a ZIP holds at most { $most } pictures, and these are about { $pictures }: choose a tab or links

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

## The large view

large-title = { $place } of { $count }: { $title }
large-now =
    { $label ->
        [1] #{ $id } is marked right.
        [-1] #{ $id } is marked wrong.
       *[0] #{ $id } is not marked.
    }
frames = Frames of the video
frame = Frame at { $time }
    .title = Show this frame of the video (previous , and next .)
no-picture = No picture
also = Also
    .label = Also like this
    .title = Also like this: add it to the search (shift+m)
less = Less
    .label = Less like this
    .title = Less like this: subtract it from the search (l)
before = Previous item
    .title = Previous item (←)
after = Next item
    .title = Next item (→)
zoom =
    { $factor ->
        [0] fit
       *[other] { $factor }×
    }
    .title = Zoom (z)
details = Details
    .label = Details of the item
    .title = Show all details (i)
original = Original
    .title = Open the original picture in a new tab
source = Source
    .title = Open the source of the picture
download = Download
    .title = Download the original picture

## The map

map = Map
    .title = Show the answer and other items on a map (p)
    .role = map
map-heading = Map of the answer
map-how = Items that look alike are close together. A group of grey points may be a second kind that you want but have not marked. Look at its pictures, select it, mark it right, and find all again.
map-tools = Tools and zoom of the map
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
        [1] no match, but near
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
map-legend = Kinds of points
    .title = Show or hide these points
map-drawn = The map shows { $matches } of { $of } matches and { $below } of { $ranked } items near them that do not match{ $others ->
        [0] .
       *[other] , and { $rest } of { $others } others at random.
    }
map-help = With the map in focus: <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> move it, <kbd>+</kbd> and <kbd>-</kbd> zoom, <kbd>0</kbd> shows all of it, <kbd>Enter</kbd> selects what is in view, <kbd>a</kbd> and <kbd>x</kbd> mark what is selected. The tabs of the answer show the same items as lists.
map-listed =
    { $count ->
        [one] 1 item of the selection
       *[other] { $count } items of the selection
    }

## Sessions

to-items = Back to the items
sessions-what = A session is one search with its marks. Everyone who opens a session sees the same marks.
sessions-find = Find a session
sessions-order = Sort by
session-order = { $order ->
    [name] name
    [matches] most matches
    [exported] last export
   *[used] last use
}
sessions-none = No session mentions “{ $text }”.
session-new = New session
session-file = From a saved file
    .open = Open the file
session-name = Name of { $title }
session-rename = Rename
session-query = Last searched <q>{ $query }</q>
session-here = open here
session-right = { $count } right
session-wrong = { $count } wrong
session-matches = { $count ->
    [one] 1 match
   *[other] { $count } matches
}
session-exported = { $name }, { $time }
session-open = Open
    .label = Open { $title }
session-copy = Duplicate
    .label = Duplicate { $title }
session-copied = Copy of { $title }
session-save = Save to a file
    .label = Save to a file: { $title }
    .title = Save the queries, marks and options, to open them here or elsewhere
session-delete = Delete
    .label = Delete { $title }
session-deleted = Deleted { $title }
session-undelete = Restore
    .label = Restore { $title }
    .toast = undo: restore { $title }
sessions-discarded = Deleted in the last hour
session-restored = { $title } is back
session-renamed = Named { $title }
session-unnamed = Name removed
session-unknown = This session no longer exists. It may have been deleted.
untitled = Untitled

## The keys

keys = Keys
    .title = Keys (?)
    .label = Show the keys
    .mark = Mark
    .move = Move
    .look = Look
    .find = Find
    .these = + these
    .also = The same do <kbd>y</kbd> and <kbd>Enter</kbd> for right, <kbd>n</kbd> for wrong, <kbd>0</kbd> and <kbd>Delete</kbd> for no mark, <kbd>u</kbd> for undo.
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
key-map = the map of the answer
key-target = find { NUMBER($target, style: "percent") }: mark until so many are found
key-of-matches = This key works on the matches
key-to-matches = show the matches
key-of-answer = This key works after Find all
key-right = mark right, go to the next
key-wrong = mark wrong, go to the next
key-unmark = remove the mark
key-rest-wrong = mark the rest of the screen wrong
key-rest-right = mark the rest of the screen right
key-undo = undo
key-redo = redo
key-next = the item to the left, to the right, above or below
key-screen = one screen
key-ends = first and last item
key-select = select; or drag
key-select-none = select nothing
key-open = open large; there <kbd>z</kbd> zooms
key-frame = in a large frame of a video: the frame before, after
key-details = all details
key-captions = captions
key-like = more like this
key-also = also like this: add it to the search
key-less = less like this: subtract it
key-why = why it matches or does not
key-search = search
key-filter = filter
key-check = check { $count } random items
key-back = back to the matches
key-paste = search by a pasted picture
key-find-all = find all
key-suggest = suggest what to mark next
key-export = export what matches
key-size = larger and smaller pictures
key-review = review unmarked items, the least sure first
key-keys = these keys

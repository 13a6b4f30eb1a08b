"""After any changes of a folder a sync agrees with a plain model: which items stay, which are new, what is shown."""

import io
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image
from test_ingest import Pixels

from gpubranches import Catalog
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.ingestion import ingest, relocate, sync

FOLDERS = [".", "a", "b", "b/c"]
names = st.builds(os.path.join, st.sampled_from(FOLDERS), st.sampled_from(["0.bmp", "1.bmp", "A.bmp", "B.bmp"]))


def picture(number):
    """Return a picture of its own size and colour, or, for 0, a file that is no picture."""
    file = io.BytesIO()
    Image.new("RGB", (4 + number, 4), (30 * number, 200 - 20 * number, 90)).save(file, "BMP")
    return file.getvalue() if number else b"no picture"


CONTENTS = [picture(number) for number in range(7)]
ROWS = [None, *(Pixels().encode([Pixels().preprocess(Image.open(io.BytesIO(data)))])[0] for data in CONTENTS[1:])]
contents = st.integers(0, len(CONTENTS) - 1)


class Folder(RuleBasedStateMachine):
    """A folder that changes, and the model of its catalog: the path and the content of each item, by id."""

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
        self.root, self.catalog = self.home / "in-0", self.home / "c"
        self.items, self.next_id, self.synced = {}, 0, False

    def teardown(self):
        shutil.rmtree(self.home)

    def files(self):
        """Return the content of each file by its name."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        return {os.path.relpath(path, self.root): CONTENTS.index(path.read_bytes()) for path in found}

    @initialize()
    def begin(self):
        for number, name in enumerate(["keep.bmp", "0.bmp", "a/0.bmp", "a/1.bmp", "b/0.bmp"]):
            self.write(name, 1 + number)
        ingest([self.root], self.catalog, embedder=Pixels())
        self.items, self.synced = self.shown(), True

    @rule(name=names, content=contents)
    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # another file, where the name was a hard link
        path.write_bytes(CONTENTS[content])
        self.synced = False

    @rule(one=names, other=names, how=st.sampled_from(["move", "swap", "link"]))
    def rename(self, one, other, how):
        source, target, aside = self.root / one, self.root / other, self.home / "aside"
        if one == other or not source.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if how == "swap" and target.exists():
            target.rename(aside)
        if how == "link":
            target.unlink(missing_ok=True)
            os.link(source, target)
        else:
            source.rename(target)
        if aside.exists():
            aside.rename(source)
        self.synced = False

    @rule(name=names)
    def delete(self, name):
        (self.root / name).unlink(missing_ok=True)
        self.synced = False

    @rule(one=st.sampled_from(FOLDERS[1:]), other=st.sampled_from([*FOLDERS[1:], "d"]))
    def rename_folder(self, one, other):
        if (self.root / one).exists() and not (self.root / other).exists() and not other.startswith(f"{one}/"):
            (self.root / one).rename(self.root / other)
            self.synced = False

    @rule()
    @precondition(lambda self: self.synced)
    def relocate(self):
        before, self.root = self.root, self.home / f"in-{1 + int(self.root.name[3:])}"
        before.rename(self.root)
        relocate(self.catalog, before, self.root)

    @rule()
    @precondition(lambda self: not self.synced)
    def sync(self):
        files, next_id = self.files(), Catalog.open(self.catalog).next_id
        report = sync(self.catalog, [self.root], embedder=Pixels(), force=True)
        shown = self.shown()
        assert {path: content for path, content in shown.values()} == {
            path: content for path, content in files.items() if content
        }
        assert len(shown) == len(set(shown.values()))  # one item per file
        same = {id for id, (path, content) in self.items.items() if files.get(path) == content}
        lost = Counter(content for id, (_, content) in self.items.items() if id not in same)
        free = Counter(files.values()) - Counter(self.items[id][1] for id in same)
        assert all(shown[id] == self.items[id] for id in same)
        stayed = shown.keys() & self.items.keys()
        assert all(shown[id][1] == self.items[id][1] for id in stayed)  # a mark on an id says the same as before
        moved = Counter(shown[id][1] for id in stayed - same)
        assert moved == lost & free
        assert all(id >= next_id for id in shown.keys() - stayed)
        assert report.moved == moved.total()
        assert report.added + report.changed == len(shown) - len(stayed)
        assert {error["path"] for error in Catalog.open(self.catalog).errors()} == {
            path for path, content in files.items() if not content
        }
        self.items, self.synced = shown, True

    @invariant()
    @precondition(lambda self: self.synced)
    def a_second_sync_does_nothing(self):
        catalog = Catalog.open(self.catalog)
        assert not sync(self.catalog, [self.root], embedder=Pixels()).did_anything
        assert Catalog.open(self.catalog).generation == catalog.generation
        steps = [step for step in catalog.source.get("moved", []) if isinstance(step, dict)]
        assert sum(len(step["paths"]) for step in steps) <= 2 * len(self.items)

    def shown(self):
        """Return the path and the content of each item by id; assert that it shows what was embedded."""
        catalog = Catalog.open(self.catalog)
        ids, found = catalog.sample_ids(catalog.n, np.random.default_rng(0)), {}
        for item, row in zip(catalog.items(ids), catalog.embeddings(ids), strict=True):
            file = image_file(catalog.source, item)
            assert file is not None, item
            content = CONTENTS.index(file.read_bytes())
            np.testing.assert_allclose(row.astype(np.float32), ROWS[content], atol=2e-3)
            found[item["id"]] = os.path.relpath(file, self.root), content
        return found


Folder.TestCase.settings = settings(max_examples=12, stateful_step_count=14)
TestFolder = Folder.TestCase

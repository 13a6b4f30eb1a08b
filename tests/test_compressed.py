"""The comparison of faiss's compressed indexes with the sign bits, on drawn embeddings."""

import numpy as np
import pytest

from benchmarks.compressed import _recalls, page


def test_what_is_read_and_found_grows_with_the_lists_that_are_probed():
    pytest.importorskip("faiss", reason="faiss is not installed")
    rng = np.random.default_rng(0)
    text = page(rng.standard_normal((620, 32)).astype(np.float32), rng.standard_normal((30, 32)).astype(np.float32), 20)
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "| images |" in line]
    assert {name: int(size) for name, _, size, *_ in rows} == {
        "sign bits": 32 // 8 + 2,
        "IVF-SQ8": 32 + 8,
        "IVF-PQ4": 4 + 8,
        "IVF-RaBitQ": 32 // 8 + 8 + 8,
    }
    scan = next(row for row in rows if row[0] == "sign bits")
    assert scan[3] == "6.0"
    for name in ("IVF-SQ8", "IVF-PQ4", "IVF-RaBitQ"):
        own = [row for row in rows if row[0] == name]
        read, found = [float(row[3]) for row in own], [float(row[-1]) for row in own]
        assert read == sorted(read)
        assert read[0] < read[-1] == int(own[0][2])  # the last ones probe all lists
        assert found == sorted(found)
        assert found[0] < 0.7 < found[-1]


def test_the_recall_is_the_share_of_the_true_in_the_first_of_a_list():
    found = np.full((2, 300), -1)
    found[0, :3], found[1, 50] = [7, 8, 9], 4
    assert _recalls(found, np.array([[7, 9], [4, 5]])) == [".500", ".500", ".750", ".750"]

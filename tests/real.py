"""A part of the real embeddings that the benchmarks are measured on."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq

from benchmarks.harness.real_data import FOLDERS

EVERY = 3


def write_part(data, folder):
    """Write every third row of each folder of the data, its texts and every third group; return the folder."""
    for name in FOLDERS:
        for part in ("img_emb", "metadata"):
            (folder / name / part).mkdir(parents=True)
        np.save(folder / name / "img_emb/img_emb_0.npy", np.load(data / name / "img_emb/img_emb_0.npy")[::EVERY])
        table = pq.read_table(data / name / "metadata/metadata_0.parquet")
        rows = np.arange(0, len(table), EVERY)
        pq.write_table(table.take(rows), folder / name / "metadata/metadata_0.parquet")
    shutil.copytree(data / "text", folder / "text")
    groups = json.loads((data / "broad.json").read_text())
    (folder / "broad.json").write_text(json.dumps(dict(list(groups.items())[::EVERY])))
    return folder

"""Data sets that cannot be had are said in one sentence, and cost no other results."""

import gzip
import hashlib
import re
import struct

import numpy as np
import pandas as pd
import pytest

from project import call, copy_project, snakemake
from replica import artifacts


def test_no_network_is_said_and_leaves_nothing(root, tmp_path):
    project = copy_project(root, tmp_path / "project")
    registry = project / "config/datasets.yaml"
    # Nothing listens on the discard port: a machine without a network answers in the same way.
    registry.write_text(re.sub(r"https?://[^\s,\]]+", "http://127.0.0.1:9/", registry.read_text()))
    answer = snakemake(project, "data/raw/mnist/receipt.json", check=False)
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0
    assert "Could not fetch train-images-idx3-ubyte.gz of the data set mnist" in said
    assert "no connection" in said and "name that folder under `mirrors`" in said
    assert "Traceback" not in said
    log = (project / "results/logs/fetch_dataset/mnist.log").read_text()
    assert "Traceback" in log and "Could not fetch" in log
    assert not [path for path in (project / "data").rglob("*") if path.is_file()]


def idx(array: np.ndarray) -> bytes:
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(head + array.tobytes())


@pytest.fixture
def far(root, tmp_path):
    """A project one of whose runs reads a data set that nobody gives; and its files."""
    project = copy_project(root, tmp_path / "project")
    images = np.random.default_rng(0).integers(0, 256, (2000, 8, 8), dtype=np.uint8)
    labels = (np.arange(2000) % 10).astype(np.uint8)
    files = {"train-images.gz": idx(images), "train-labels.gz": idx(labels)}
    sums = "".join(f"\n    {n}: sha256:{hashlib.sha256(d).hexdigest()}" for n, d in files.items())
    registry = project / "config/datasets.yaml"
    # Nothing listens on the discard port.
    entry = "\n\nfar:\n  title: Far away\n  kind: idx\n  licence: mine\n  classes: 10\n"
    entry += f"  urls: ['http://127.0.0.1:9/']\n  files:{sums}\n"
    registry.write_text(registry.read_text(encoding="utf-8") + entry, encoding="utf-8")
    return project, files


def times(project) -> dict[str, int]:
    """When each result was written, without logs, notes on jobs and the report."""
    folder = project / "results/smoke"
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not {"logs", "benchmarks"} & set(path.relative_to(folder).parts)
    }


def test_runs_without_their_data_are_left_out_and_all_else_goes_on(far, tmp_path):
    project, files = far
    settings = ["studies=[dufm]", "overrides={dufm: {rec_backbone: {dataset: far}}}",
                f"mirrors={tmp_path / 'mirror'}"]  # fmt: skip

    def launch() -> str:
        answer = call(project, "replica", "run", "--scale", "smoke", "--config", *settings)
        return answer.stdout + answer.stderr

    said = launch()
    assert "To be fetched into data: Far away (size unknown)" in said
    assert "Left out for lack of Far away: dufm.rec_backbone. Could not fetch train-images" in said
    assert "no connection" in said and "Traceback" not in said
    folder = project / "results/smoke/dufm"
    assert artifacts.read_table(folder / "figures/rec_backbone.parquet").empty
    assert (folder / "figures/rec_backbone.svg").exists()
    assert len(artifacts.read_table(folder / "figures/rec_depth.parquet"))
    assert (project / "results/smoke/report.html").exists()
    card = artifacts.read_table(project / "results/smoke/scorecard.parquet")
    lacking = card["figures"].str.contains("rec_backbone")
    assert lacking.any() and not lacking.all()
    said_of = card["detail"].str.contains("far could not be had: no run of rec_backbone")
    pd.testing.assert_series_equal(said_of, lacking, check_names=False)
    assert set(card.loc[lacking, "verdict"]) == {"not decidable at this scale"}
    # The data come: what they touch is made, and nothing else.
    before = times(project)
    (tmp_path / "mirror/far").mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "mirror/far" / name).write_bytes(data)
    assert "Left out" not in launch()
    after = times(project)
    assert not (project / "data/missing/far.json").exists()
    again = {path for path in after if after[path] != before.get(path)}
    touched = re.compile(
        r"dufm/(runs|measures)/rec_backbone/.*|dufm/figures/rec_backbone\.\w+|dufm/claims\.parquet"
        r"|scorecard\.\w+|(dufm/)?generalization(/small)?\.\w+|report\.html"
        # Pages are written as a whole.
        r"|(dufm/)?index\.html|vega\.js|dufm/figures/\w+\.csv"
    )
    assert [path for path in again if not touched.fullmatch(path)] == []
    assert "dufm/measures/rec_backbone/all.parquet" in again
    assert len(artifacts.read_table(folder / "figures/rec_backbone.parquet"))
    # Once made, the results need no data any more.
    (tmp_path / "mirror").rename(tmp_path / "elsewhere")
    (project / "data").rename(tmp_path / "data")
    assert "To be fetched" not in launch()
    assert times(project) == after

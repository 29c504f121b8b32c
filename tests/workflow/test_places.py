"""Where data come from and where they lie re-runs nothing: with a real fetch, for real."""

import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest

from project import call, copy_project, planned, snakemake

FIGURE = "results/smoke/dufm/figures/rec_backbone.svg"
# Another run on the same data
OTHER = "results/smoke/low_rank/measures/fig2_bottom/all.parquet"
CHAIN = {
    ("train_run", "dufm/runs/rec_backbone/all"), ("measure_run", "dufm/measures/rec_backbone/all"),
    ("figure_table", "dufm/figures/rec_backbone"), ("figure_plot", "dufm/figures/rec_backbone"),
}  # fmt: skip


def idx(array: np.ndarray) -> bytes:
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(head + array.tobytes())


@pytest.fixture(scope="module")
def drawn(root, tmp_path_factory):
    """A project with a figure of a user's own data, which lie in a mirror."""
    folder = tmp_path_factory.mktemp("own data")
    project, mirror = copy_project(root, folder / "project"), folder / "my sets"
    mirror.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (2000, 8, 8), dtype=np.uint8)
    labels = (np.arange(2000) % 10).astype(np.uint8)
    files = {"train-images.gz": idx(images), "train-labels.gz": idx(labels)}
    for name, data in files.items():
        (mirror / name).write_bytes(data)
    registry = project / "config/datasets.yaml"
    sums = "".join(f"\n    {n}: sha256:{hashlib.sha256(d).hexdigest()}" for n, d in files.items())
    entry = (
        f"\n\ndrawn:\n  title: Drawn\n  kind: idx\n  licence: mine\n  classes: 10\n  files:{sums}\n"
    )
    registry.write_text(registry.read_text(encoding="utf-8") + entry, encoding="utf-8")
    config = project / "config/config.yaml"
    text = config.read_text(encoding="utf-8")
    text = text.replace(
        "overrides: {}",
        "overrides: {dufm: {rec_backbone: {dataset: drawn}}, low_rank: {fig2_bottom: {dataset: drawn}}}",
    )
    text = text.replace("scale: laptop", "scale: smoke")
    text = text.replace("studies: all", "studies: [dufm, low_rank]")
    assert "[dufm, low_rank]" in text
    config.write_text(text.replace("mirrors: []", f"mirrors: ['{mirror}']"), encoding="utf-8")
    snakemake(project, FIGURE, OTHER)
    return project


def test_another_place_re_runs_nothing(drawn):
    assert planned(drawn, FIGURE, OTHER) == set()
    # Other mirrors, other addresses, another title and licence, other spellings of the folder.
    registry = drawn / "config/datasets.yaml"
    before = registry.read_text(encoding="utf-8")
    text = before.replace("title: Drawn\n", "title: Other words\n  urls: ['http://127.0.0.1:9']\n")
    registry.write_text(text.replace("licence: mine", "licence: yours"), encoding="utf-8")
    for place in ("mirrors=[]", f"data_dir={drawn}/data", "data_dir=./data//"):
        answer = snakemake(drawn, "-n", FIGURE, OTHER, config=(place,))
        assert "Nothing to be done" in answer.stdout + answer.stderr, place
    registry.write_text(before, encoding="utf-8")
    # Moved, and gone.
    (drawn / "data").rename(drawn / "elsewhere")
    for place in ("data_dir=elsewhere", "data_dir=nowhere"):
        answer = snakemake(drawn, "-n", FIGURE, OTHER, config=(place,))
        assert "Nothing to be done" in answer.stdout + answer.stderr, place
    (drawn / "elsewhere").rename(drawn / "data")


def test_a_changed_run_fetches_anew_and_re_runs_itself_alone(drawn):
    """The data are gone and come back: what was made of them before stays as it is."""
    shutil.rmtree(drawn / "data")
    config = drawn / "config/config.yaml"
    before = config.read_text(encoding="utf-8")
    config.write_text(
        before.replace("dataset: drawn}", "dataset: drawn, lr: 0.013}", 1), encoding="utf-8"
    )
    found = planned(drawn, FIGURE, OTHER)
    assert found >= CHAIN
    assert {rule for rule, _ in found - CHAIN} == {"fetch_dataset", "prepare_dataset"}
    snakemake(drawn, FIGURE, OTHER)
    assert planned(drawn, FIGURE, OTHER) == set()
    assert call(drawn, "replica", "check", "--config", "studies=dufm").returncode == 0


def test_captions_and_stamps_are_those_of_the_run(drawn):
    shown = call(drawn, "replica", "show", FIGURE.replace(".svg", ".parquet"), "--json").stdout
    assert '"dataset": "drawn"' in shown and '"seeds": [' in shown
    snakemake(drawn, "--report", "report.html", FIGURE)
    text = (drawn / "report.html").read_text(encoding="utf-8")
    assert "dataset = drawn" in text and "dataset = digits" not in text

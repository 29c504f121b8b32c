"""Data sets that cannot be fetched stop the workflow in one sentence."""

import re

from project import copy_project, snakemake


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

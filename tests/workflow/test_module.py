"""The workflow as a module of another one, as config/README.md says."""

import re
import shutil

from project import ROOT, call


def test_another_workflow_uses_this_one(finished, tmp_path):
    """With the same keys: what it would make is what this project has made."""
    other = tmp_path / "other"
    shutil.copytree(ROOT / "config", other / "config")
    (other / "workflow").mkdir()
    words = (ROOT / "config/README.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(.*?)```", words, re.DOTALL)
    snakefile = text.replace("/path/to/replica", str(finished))
    assert snakefile != text
    (other / "workflow/Snakefile").write_text(snakefile)
    shutil.copytree(finished / "results", other / "results")
    shutil.copytree(finished / ".snakemake", other / ".snakemake")
    answer = call(
        other, "snakemake", "-n", "--cores", "1", "--rerun-triggers", "params", "--max-checksum-file-size", "1GB",
        "--config", "scale=smoke", library=finished,
    )  # fmt: skip
    assert "Nothing to be done" in answer.stdout + answer.stderr

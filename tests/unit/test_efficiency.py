"""What the benchmark files of jobs say, and what they leave out."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from replica.efficiency import COLUMNS, efficiency_table, print_efficiency
from replica.plan import make_plan

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"


@pytest.fixture
def plan(root, tmp_path):
    return dataclasses.replace(make_plan(root, {"scale": "smoke"}), root=tmp_path)


def write_benchmark(plan, part, rule, line):
    path = plan.root / plan.results / f"benchmarks/{rule}/{part.study}/{part.stem}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}\n{line}\n", encoding="utf-8")


def test_a_job_too_short_to_be_looked_at_has_no_memory(plan, capsys):
    slow, quick = list(plan.parts.values())[:2]
    write_benchmark(plan, slow, slow.rule, "90.0\t0:01:30\t512\t9\t9\t9\t0\t0\t150.0\t135")
    # As Snakemake writes it when the process had ended before the first sample
    write_benchmark(plan, quick, quick.rule, "0.25\t0:00:00" + "\tNA" * 8)
    table = efficiency_table(plan)
    assert list(table.columns) == COLUMNS and len(table) == 2
    first, second = table.to_dict("records")
    assert (first["used_mb"], first["used_minutes"]) == (512, 1.5)
    assert first["cpu"] == pytest.approx(1.5 / first["threads"])
    assert np.isnan(second["used_mb"]) and np.isnan(second["cpu"])
    assert second["used_minutes"] == pytest.approx(0.25 / 60)
    print_efficiency(table, Console(width=130))
    said = capsys.readouterr().out
    assert "nan" not in said and f"? / {second['asked_mb']}" in said
    assert "2 jobs" in said and "? ended before its memory was measured" in said


def test_nothing_is_said_of_jobs_that_were_all_looked_at(plan, capsys):
    part = next(iter(plan.parts.values()))
    write_benchmark(plan, part, part.rule, "90.0\t0:01:30\t512\t9\t9\t9\t0\t0\t150.0\t135")
    print_efficiency(efficiency_table(plan), Console(width=130))
    assert "?" not in capsys.readouterr().out

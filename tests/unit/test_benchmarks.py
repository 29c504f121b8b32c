"""The benchmarks' own arithmetic, and that one which fails is named and leaves the others alone."""

import importlib
import math

import pandas as pd
import pytest
import torch
from torch import nn

from replica import artifacts, costs, estimates


@pytest.fixture(scope="module")
def bench(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "benchmarks")
        yield importlib.import_module("bench")


def test_every_benchmark_is_run(root, bench):
    folder = root / "benchmarks"
    written = {path.stem for path in folder.glob("*.py") if "\ndef rows(" in path.read_text()}
    assert set(bench.NAMES) == written


def test_operations_of_a_network(bench):
    """Against the closed form: 2 a b c for a product, twice as much backward, and nothing for the
    gradient of the images.
    """
    b, C, F, H, K = 4, 3, 8, 10, 5
    model = nn.Sequential(
        nn.Conv2d(C, F, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(F * H * H, K)
    )
    x = torch.rand(b, C, H, H)
    convolution, linear = 2 * b * H * H * C * 9 * F, 2 * b * F * H * H * K
    with torch.no_grad():
        assert bench.flops_of(lambda: model(x)) == convolution + linear
    assert bench.flops_of(lambda: model(x).sum().backward()) == 2 * convolution + 3 * linear


def test_utilisation_is_what_is_achieved_of_the_rate(bench, monkeypatch):
    monkeypatch.setattr(bench, "matmul_rate", lambda precision, device: 1e9)
    rows = bench.utilisation("a network", 100, 2e6, "float32", bench.CPU)
    found = {row["quantity"]: row["value"] for row in rows}
    assert found["achieved"] == 2e8 and found[bench.SHARE] == pytest.approx(0.2)
    assert found["images per second"] == 100


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float64"])
def test_a_rate_of_products_leaves_the_settings_as_they_were(bench, monkeypatch, precision):
    monkeypatch.setattr(bench, "MATMUL", {"cpu": (16, 1)})
    before = torch.get_float32_matmul_precision()
    assert 0 < bench.matmul_rate(precision, bench.CPU) < math.inf
    assert torch.get_float32_matmul_precision() == before


def test_precision_of_a_model(bench):
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    assert bench.precision_of(model, True, bench.CPU) == "bfloat16"
    assert bench.precision_of(model, False, bench.CPU) == "float32"
    cuda = torch.device("cuda")
    assert bench.precision_of(model, False, cuda) == "tf32"
    assert bench.precision_of(nn.Linear(1, 1), False, cuda) == "float32"


def test_a_power_law_is_recovered(bench):
    sizes = [1, 10, 100, 1000]
    a, p = bench.power_law(sizes, [3e-4 * n**1.7 for n in sizes])
    assert (a, p) == pytest.approx((3e-4, 1.7))
    # A size at which nothing was seen says nothing.
    assert bench.power_law(sizes, [0, 2, 20, 200]) == pytest.approx((0.2, 1))
    with pytest.raises(ValueError, match="two points"):
        bench.power_law(sizes, [0, 0, 0, 1])


@pytest.mark.slow
def test_the_peak_of_a_process_is_its_own(bench):
    torch.ones(2**26).sum()
    mine = bench.peak_mib(bench.CPU)
    assert 0 < bench.in_a_process(bench.peak_mib, bench.CPU) < mine


def test_cases_of_scaling_are_works_of_the_plan(bench):
    """What they run is what `replica.costs` counts: of a larger size, more."""
    scaling = importlib.import_module("scaling")
    for case, prepare in scaling.CASES.items():
        small, large = (prepare(size, bench.CPU)[1] for size in (50, 100))
        assert small.kind == large.kind in costs.SECONDS_PER_UNIT
        assert large.amount > small.amount, case


def test_exponents_of_rows(bench):
    scaling = importlib.import_module("scaling")
    found = [each for n in (10, 100) for each in scaling.both("draws", n, 0.1 * n, 5.0)]
    fitted = {row["quantity"]: row["value"] for row in scaling.exponents(found)}
    assert fitted[scaling.EXPONENT + scaling.TIME] == pytest.approx(1)
    assert fitted[scaling.EXPONENT + scaling.MEMORY] == pytest.approx(0)


GOOD = """
import bench

def rows(device, threads):
    return [bench.speed("a case", "a reference", [1.0, 3.0, 2.0]),
            bench.row("draws", "time", 2.0, "s", size=10),
            bench.row("draws", "time", 4.0, "s", size=20)]
"""
BROKEN = """
def rows(device, threads):
    raise RuntimeError("the disk is on fire")
"""


@pytest.mark.slow
def test_a_failure_is_named_and_the_others_are_kept(bench, monkeypatch, tmp_path, capsys):
    (tmp_path / "good_one.py").write_text(GOOD)
    (tmp_path / "broken_one.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bench, "NAMES", ["broken_one", "good_one"])
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench.py", "1"])
    assert bench.main() == 1
    said = capsys.readouterr()
    sentence = "The benchmark broken_one failed: RuntimeError: the disk is on fire"
    assert sentence in said.err and "a case, against a reference" in said.out
    table = artifacts.read_table(tmp_path / estimates.BENCHMARKS)
    assert list(table) == bench.COLUMNS and len(table) == 4
    by_case = table.set_index("case")["value"]
    assert by_case["a case, against a reference"] == 2
    assert set(table["device"]) == {artifacts.read_stamp(tmp_path / estimates.BENCHMARKS)["device"]}
    for name in ("benchmarks", "scaling"):
        for ending in ("svg", "pdf"):
            assert (tmp_path / f"results/{name}.{ending}").stat().st_size > 1000
    # A failed table alone can be drawn, too.
    figures = importlib.import_module("figures")
    assert figures.draw_benchmarks(table[table["quantity"] == bench.FAILED])


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_failure(bench):
    table = bench.measured_or_failed("x", 1, measure=_killed)
    assert table["quantity"].tolist() == [bench.FAILED] and "BrokenProcessPool" in table["case"][0]


def _killed(name: str, threads: int) -> pd.DataFrame:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)

"""What has moved between two folders of results, held against the spread of seeds."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from replica import artifacts, comparison, spread
from replica.__main__ import main

POINTS = 8


def table(rng, seeds, *, series=("a", "b"), shift=0.0, draw=None):
    """A figure table: series with a number at each of 8 steps, whose seeds go their own ways."""
    draw = draw or (lambda size: rng.normal(size=size))
    rows = []
    for name in series:
        # What a seed has in common over its steps, as a curve has.
        numbers = draw((seeds, 1)) + 0.3 * draw((seeds, POINTS)) + shift * (name == "a")
        for seed in range(seeds):
            rows += [(name, "r", seed, step, 0.1, "x", number, bool(number > 0))
                     for step, number in enumerate(numbers[seed])]  # fmt: skip
        rows += [(name, "r", -1, step, 0.1, "x", step**2 / 7, True) for step in range(POINTS)]
    columns = ["series", "run", "seed", "step", "lr", "kind", "value", "positive"]
    head = {"study": "s", "figure": "f", "panel": "p", "scale": "laptop", "status": "scaled"}
    return pd.DataFrame(rows, columns=columns).assign(**head)


# --------------------------------------------------------------------------------------
# The statistics


def test_rows_are_matched_by_what_they_are_about():
    rng = np.random.default_rng(0)
    a, b = table(rng, 3), table(rng, 4)
    both = pd.concat([a.assign(_side=0), b.assign(_side=1)], ignore_index=True)
    both["_none"] = both["seed"] < 0
    assert set(spread.about(both)) == {"run", "step", "lr", "kind"}
    shuffled = a.sample(frac=1, random_state=0, ignore_index=True)
    assert not len(spread.compare(a, shuffled))
    # A setting that has changed is not a number that has moved.
    assert not len(spread.compare(a, a.assign(lr=0.2), settings={"lr"}))
    longer = pd.concat([a, a[a["step"] == 7].assign(step=8)], ignore_index=True)
    (row,) = spread.compare(a, longer).query("panel == 'p' and series == 'a'").itertuples()
    assert (row.column, row.moved, row.only_a, row.only_b) == ("", 0, 0, 1)


def test_closed_forms_and_single_seeds_have_no_spread():
    rng = np.random.default_rng(1)
    a = table(rng, 1)
    b = a.assign(value=a["value"] * (1 + 1e-9))
    assert not len(spread.compare(a, b))
    found = spread.compare(a, a.assign(value=a["value"] * 1.01))
    assert len(found) and found["p"].isna().all()


def many(rng, seeds, comparisons=150, **how):
    """Tables of so many comparisons, a panel each; the scales differ, as no test minds."""
    panels = [table(rng, seeds, **how).assign(panel=f"{i}") for i in range(comparisons)]
    whole = pd.concat(panels, ignore_index=True)
    return whole.assign(value=whole["value"] * (1 + whole["panel"].astype(int) / 1000))


def alarms(a, b):
    """The series beyond the spread of seeds, each panel being a whole comparison, by panel."""
    found = spread.compare(a.drop(columns="positive"), b)
    far = found.groupby("panel")["p"].transform(
        lambda p: spread.holm(p.to_numpy(float)) < spread.LEVEL
    )
    return found[far].groupby("panel")["series"].agg(set)


DRAWS = {
    "normal": lambda rng: None,
    "heavy": lambda rng: lambda size: rng.standard_t(3, size),
    "skewed": lambda rng: lambda size: rng.exponential(size=size),
    "binary": lambda rng: lambda size: rng.integers(0, 2, size),
}


@pytest.mark.parametrize("seeds", [(2, 2), (3, 5), (10, 10), (2, 30)])
@pytest.mark.parametrize("kind", DRAWS)
def test_equal_distributions_raise_no_alarm(seeds, kind):
    rng = np.random.default_rng([*seeds, len(kind)])
    one, other = (many(rng, n, series="abc", draw=DRAWS[kind](rng)) for n in seeds)
    # More than 6 of 150 are seen in 1 of 1,000 cases where the rate is 1 %.
    assert len(alarms(one, other)) <= 6


@pytest.mark.parametrize(("seeds", "shift"), [(3, 40), (5, 8), (10, 4)])
def test_a_planted_shift_is_found(seeds, shift):
    """A shift of one series by so many of its standard deviations, and of none other."""
    rng = np.random.default_rng(seeds)
    found = alarms(many(rng, seeds, 60), many(rng, seeds, 60, shift=shift))
    assert found.map(lambda series: "a" in series).sum() >= 0.9 * 60
    assert found.map(lambda series: "b" in series).sum() <= 4


def test_seeds_that_both_have_count_once():
    """More seeds of the same runs: the first of them are the same numbers."""
    b = many(np.random.default_rng(3), 8)
    assert len(alarms(b[b["seed"] < 3], b)) <= 6


def test_coinciding_outcomes_are_never_certain():
    """Three runs of rank 2 and three of rank 3 may be chance."""
    seeds = pd.Series([2.0, 2, 3, 2, 3, 3], index=pd.MultiIndex.from_tuples(
        [(0, side, seed) for side in (0, 1) for seed in range(3)],
        names=["_point", "_side", "seed"]))  # fmt: skip
    assert spread.moments(seeds)["p"].item() > 0.1
    seeds[:] = [2, 2, 2 + 1e-3, 3, 3, 3 + 1e-3]
    assert spread.moments(seeds)["p"].item() == pytest.approx(2 / 20)


def test_holms_correction_by_hand():
    found = spread.holm(np.array([0.03, np.nan, 0.01, 0.04, 0.5]))
    assert found[[0, 2, 3, 4]] == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert np.isnan(found[1]) and not len(spread.holm(np.array([])))
    assert spread.holm(np.array([0.6, 0.7])).tolist() == [1, 1]


# --------------------------------------------------------------------------------------
# Folders


def write(folder, numbers, verdict="holds", *, lr=0.1, value=1.0, seeds=5):
    spec = {"study": "s", "figure": "f", "scale": "laptop",
            "runs": {"r": {"lr": lr, "seeds": seeds, "network": {"width": 8}}}}  # fmt: skip
    stamp = {"key": f"{lr}", "code": "c", "commit": "d", "versions": {"torch": "2"}}
    artifacts.write_table(folder / "s/figures/f.parquet", numbers, stamp | {"spec": spec})
    (folder / "s/figures/f.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    claim = {"study": "s", "claim": "c1", "verdict": verdict, "value": value, "figures": "f"}
    artifacts.write_table(folder / "s/claims.parquet", pd.DataFrame([claim]), stamp | {"spec": {}})
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    numbers = table(rng, 5)
    write(tmp_path / "results/laptop", numbers)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_a_folder_does_not_differ_from_itself(project, capsys):
    found = comparison.compare(project / "results/laptop", project / "results/laptop")
    assert found.empty
    assert main(["diff", "laptop", "results/laptop"]) == 0
    assert capsys.readouterr().out == "results/laptop → results/laptop\nNothing has moved.\n"
    assert main(["diff", "laptop", "laptop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["moved"] is False


def test_what_has_moved_is_said(project, capsys):
    a = artifacts.read_table(project / "results/laptop/s/figures/f.parquet")
    far = a.assign(value=a["value"] + 30 * ((a["series"] == "a") & (a["seed"] >= 0)))
    write(project / "results/laptop-far", far, "does not hold", lr=0.2, value=3.0)
    assert main(["diff", "laptop", "far"]) == 1
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "Verdicts: 1 moved" in said and "s r: lr 0.1 → 0.2" in said
    assert "s.c1: holds → does not hold (1 → 3); beyond the spread of seeds" in said.replace(
        "\n", " "
    )
    assert re.search(r"^!  p / a +value ", said, re.MULTILINE) and "p / b" not in said
    assert said.index("s.c1") < said.index("p / a") < said.index("Settings\n")
    assert main(["diff", "laptop", "far", "--json"]) == 1
    held = json.loads(capsys.readouterr().out)
    assert held["verdicts"][0]["moved"] == "beyond" and held["numbers"][0]["points"] == POINTS
    assert held["settings"] == [{"study": "s", "run": "r", "key": "lr", "a": 0.1, "b": 0.2}]
    assert main(["diff", "laptop", "far", "--page"]) == 1
    assert capsys.readouterr().err == "Page: results/diff-laptop-laptop-far.html\n"
    page = (project / "results/diff-laptop-laptop-far.html").read_text()
    assert '<img src="laptop/s/figures/f.svg"' in page
    assert '<img src="laptop-far/s/figures/f.svg"' in page
    assert "does not hold" in page and "<li>s r: lr 0.1 → 0.2</li>" in page


def test_other_seeds_alone_move_no_verdict_beyond_their_spread(project):
    rng = np.random.default_rng(1)
    other = write(project / "copied", table(rng, 9), "does not hold", seeds=9)
    found = comparison.compare(project / "results/laptop", other)
    assert list(found.verdicts["moved"]) == [comparison.WITHIN]
    assert set(found.numbers["moved_by"]) == {comparison.WITHIN}
    assert comparison.grouped_settings(found.settings) == ["s r: seeds 5 → 9"]


def test_a_verdict_whose_numbers_stay(project):
    a = artifacts.read_table(project / "results/laptop/s/figures/f.parquet")
    other = write(project / "copied", a, "not decidable at this scale")
    found = comparison.compare(project / "results/laptop", other)
    assert list(found.verdicts["moved"]) == [comparison.NOT] and not len(found.numbers)
    console = Console(width=80, record=True)
    comparison.print_difference(found, console)
    assert "the rule, or what it needs, has" in console.export_text().replace("\n", " ")


def test_only_one_has_it(project):
    a = artifacts.read_table(project / "results/laptop/s/figures/f.parquet")
    other = write(project / "copied", a)
    (other / "s/figures/f.parquet").rename(other / "s/figures/g.parquet")
    found = comparison.compare(project / "results/laptop", other)
    assert found.only_a == ["s figure f"] and found.only_b == ["s figure g"]
    other.joinpath("s").rename(other / "t")
    found = comparison.compare(project / "results/laptop", other)
    assert found.only_a == ["the study s"] and found.only_b == ["the study t"]


def test_a_table_without_rows_differs_by_its_points(project):
    """Its runs were left out, as where their data could not be had: it has no column of theirs."""
    a = artifacts.read_table(project / "results/laptop/s/figures/f.parquet")
    empty = a.iloc[:0][["study", "figure", "panel", "series", "scale", "status"]]
    other = write(project / "copied", empty)
    for sides in ((project / "results/laptop", other), (other, project / "results/laptop")):
        found = comparison.compare(*sides).numbers
        assert set(found["series"]) == {"a", "b"} and (found["moved"] == 0).all()
        assert set(found["only_a"] + found["only_b"]) == {POINTS}
    assert comparison.compare(other, other).empty


def test_a_table_of_somebody_else_is_left_out(project):
    write(project / "copied", artifacts.read_table(project / "results/laptop/s/figures/f.parquet"))
    for side, x in (("results/laptop", 1), ("copied", 2)):
        pd.DataFrame({"x": [x]}).to_parquet(project / side / "s/figures/mine.parquet")
    assert comparison.compare(project / "results/laptop", project / "copied").empty


def test_what_is_no_folder_of_results(project, capsys):
    assert main(["diff", "laptop", "nothing"]) == 2
    assert capsys.readouterr().err == (
        "There are no results called nothing, and nothing is no folder of them: give a folder, "
        "a scale, or the name of settings; there are laptop.\n"
    )
    for scale in ("laptop", "smoke"):
        write(project / f"results/{scale}-two", table(np.random.default_rng(0), 2))
    assert main(["diff", "laptop", "two"]) == 2
    assert "give one of results/laptop-two, results/smoke-two." in capsys.readouterr().err
    (project / "results/laptop/s/figures/f.parquet").write_bytes(b"PAR1 damaged")
    assert main(["diff", "laptop", "laptop-two"]) == 2
    assert "f.parquet is damaged" in capsys.readouterr().err


def test_the_evidence_does_not_differ_from_itself(root):
    folder = root / "docs/evidence/laptop"
    assert comparison.compare(folder, folder).empty

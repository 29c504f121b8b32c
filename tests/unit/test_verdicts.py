"""The rules that hold for every claim, each broken on purpose."""

import io
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import rankdata

from project import claim_spec
from replica import report, verdicts
from replica.plan import make_plan, words
from replica.settings.load import load_studies
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided

WORDS = {"value": 1.0}


def page(values):
    """Page's L, by its definition."""
    ranks = np.apply_along_axis(rankdata, 1, values)
    return (ranks * np.arange(1, values.shape[1] + 1)).sum()


def test_a_trend_has_the_chance_level_of_all_orders():
    """Against counting: every order of three depths for each of three seeds."""
    table = pd.DataFrame([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0]])
    ours = page(-table.to_numpy())
    orders = list(itertools.permutations([1.0, 2.0, 3.0]))
    at_least = [page(np.array(rows)) >= ours for rows in itertools.product(orders, repeat=3)]
    assert verdicts.trend(table, falls=True) == pytest.approx(np.mean(at_least))
    assert verdicts.trend(-table, falls=False) == pytest.approx(np.mean(at_least))
    assert verdicts.trend(table, falls=False) > 0.5


def test_one_seed_or_two_depths_show_no_trend():
    falling = pd.DataFrame([[4.0, 3.0, 2.0, 1.0]] * 2)
    assert verdicts.trend(falling, falls=True) == pytest.approx(1 / 24**2)
    assert verdicts.trend(falling.iloc[:1], falls=True) == 1
    assert verdicts.trend(pd.DataFrame([[2.0, 1.0]] * 9), falls=True) == 1
    with pytest.raises(Undecided, match="value of the trend"):
        verdicts.trend(pd.DataFrame([[3.0, np.nan, 1.0]]), falls=True)


def test_a_difference_from_a_null_model_has_the_chance_level_of_all_signs():
    null = np.zeros(5)
    assert verdicts.beyond(np.array([1, 2, 3, 4, 5.0]), null) == 1 / 32
    mixed = np.array([1, 2, 3, 4, -5.0])
    sums = [np.dot(signs, mixed) for signs in itertools.product([1, -1], repeat=5)]
    assert verdicts.beyond(mixed, null) == np.mean(np.array(sums) >= mixed.sum())
    assert verdicts.beyond(np.ones(4), np.zeros(4)) == 1 / 16
    assert verdicts.beyond(null, null) == 1
    generator = np.random.default_rng(1)
    draws = [generator.standard_normal(8) for _ in range(400)]
    assert abs(np.mean([verdicts.beyond(x, np.zeros(8)) < 0.05 for x in draws]) - 0.05) < 0.03
    many = verdicts.beyond(np.ones(40), np.zeros(40))
    assert 0 < many < 1e-3
    with pytest.raises(Undecided):
        verdicts.beyond(np.array([np.nan]), np.zeros(1))


@pytest.mark.parametrize(
    ("claimed", "opposite", "verdict"),
    [(0.01, 0.99, HOLDS), (0.99, 0.01, FAILS), (0.05, 0.95, UNDECIDABLE), (0.3, 0.2, UNDECIDABLE)],
)
def test_only_what_chance_seldom_shows_is_decided(claimed, opposite, verdict):
    found = verdicts.by_chance(claimed, opposite, detail="so many", **WORDS)
    assert found.verdict == verdict and "so many" in found.detail
    # The one that decides; where none does, the smaller.
    assert found.detail.endswith(f"chance level {min(claimed, opposite):.2g}")


def test_a_coin_shows_so_many_or_so_few():
    falls = pd.Series([True] * 5 + [False])
    assert verdicts.coin(falls, "greater") == pytest.approx((1 + 6) / 64)
    assert verdicts.coin(falls, "less") == pytest.approx(63 / 64)


def test_runs_that_have_not_settled_decide_nothing():
    runs = pd.DataFrame({"gradient": [0.01, 0.02, 0.4]})
    with pytest.raises(Undecided, match=r"2 of 3 runs have settled \(gradient below 0.1\)"):
        verdicts.settled(runs, runs["gradient"] < 0.1, "gradient below 0.1")
    assert len(verdicts.settled(runs, runs["gradient"] < 0.1, "gradient below 0.1", least=2)) == 2
    with pytest.raises(Undecided):
        verdicts.settled(runs.iloc[:0], runs["gradient"].iloc[:0] < 1, "a rule")


def test_a_comparison_needs_networks_that_fit():
    verdicts.trained(pd.Series({"plain": 1.0, "FR": 0.99}))
    with pytest.raises(Undecided, match=r"FR fits only 91.5% of its training set"):
        verdicts.trained(pd.Series({"plain": 1.0, "FR": 0.915}))
    with pytest.raises(Undecided, match="FR"):
        verdicts.trained(pd.Series({"plain": 1.0, "FR": np.nan}))
    with pytest.raises(Undecided):
        verdicts.trained(pd.Series(dtype=float))


# ------------------------------------------------------------- what runs stand for, what rests on


class Module:
    @staticmethod
    def claim_c1(tables):
        return verdicts.decide(True, value=2.0, detail="two")

    @staticmethod
    def claim_c2(tables):
        raise Undecided("nothing there")


def row(claim="c1", **changes):
    tables = {"f": pd.DataFrame({"value": [1.0]})}
    return report.decide_claims(
        "s", {claim: claim_spec(published="p", rule="r", data="digits", **changes)}, tables, Module
    ).iloc[0]


def test_a_stand_in_neither_supports_nor_refutes():
    found = row(stand_in="the claim is about photographs, what ran has digits of 8x8 pixels")
    assert found["verdict"] == UNDECIDABLE and found["value"] == 2
    assert found["detail"].startswith("the claim is about photographs") and "two" in found["detail"]
    assert row()["verdict"] == HOLDS


def test_words_of_a_claim_stand_beside_every_verdict():
    found = row("c2")
    assert (found["published"], found["tolerance"], found["verdict"]) == ("p", "r", UNDECIDABLE)
    assert row(cannot_fail="the ratio is above 0.9 by itself")["detail"] == (
        "the ratio is above 0.9 by itself: two"
    )


def test_proofs_and_evidence_are_counted_apart():
    card = pd.DataFrame({"rests_on": ["proof", "evidence", "evidence"], "verdict": [HOLDS, FAILS, HOLDS]})  # fmt: skip
    proven, seen = report.summary(card)
    assert proven.startswith("Checks of what is proven: 1 holds, 0 do not hold, 0 not decidable")
    assert seen.startswith("Evidence of runs: 1 holds, 1 does not hold, 0 not decidable")
    shown = io.StringIO()
    report.print_counts(card.assign(study=["a", "b", "b"]), Console(file=shown, width=80))
    assert [re.split("  +", line.rstrip()) for line in shown.getvalue().splitlines()] == [
        ["study", "proven", "on evidence"],
        ["a", "1 holds", "–"],
        ["b", "–", "1 holds, 1 does not"],
        ["all", "1 holds", "1 holds, 1 does not"],
    ]


def test_the_scorecard_has_a_line_a_claim_and_cuts_its_statement():
    rows = [("a", "c1", HOLDS), ("a", "c2", FAILS), ("fc_low_data", "c10", UNDECIDABLE)]
    card = pd.DataFrame(rows, columns=["study", "claim", "verdict"])
    card = card.assign(rests_on="proof", statement="words and [numbers] " * 9)
    shown = io.StringIO()
    report.print_scorecard(card, Console(file=shown, width=80))
    lines = shown.getvalue().splitlines()
    assert [line[:40].split("  ")[0] for line in lines[:4]] == [
        "a.c1",
        "a.c2",
        "",
        "fc_low_data.c10",
    ]
    assert [line[17:30].strip() for line in lines[:4]] == [
        "✓ holds",
        "✗ does not",
        "",
        "? undecided",
    ]
    assert all(len(line) == 80 and "[numbers]" in line for line in lines[:4] if line.strip())


@pytest.mark.slow
def test_what_decides_is_what_ran(root):
    """Data, network and labels; not the name of the scale."""
    studies = load_studies(root / "config/studies")
    needs = {"content": ["photographs"], "network.kind": ["torchvision"]}
    fig = "fig3a_supervised_cifar10"
    claim = studies["fc_low_data"].claims["c1"].model_copy(update={"needs": needs})

    def stand_in(scale, changes):
        overrides = {"fc_low_data": {run: changes for run in ("plain", "fr")}}
        plan = make_plan(root, {"scale": scale, "studies": ["fc_low_data"], "overrides": overrides})
        plan.studies["fc_low_data"].claims["c1"] = claim
        assert fig in claim.figures
        return words.claim_specs(plan, "fc_low_data")["c1"]

    digits = stand_in("laptop", {})
    assert "about photographs, what ran has digits of 8x8 pixels" in digits["stand_in"]
    assert "network kind torchvision, what ran has staged_resnet" in digits["stand_in"]
    photographs = stand_in("laptop", {"dataset": "cifar10_jpeg"})
    assert "photographs" not in photographs["stand_in"] and photographs["data"] == "cifar10_jpeg"


def test_runs_that_were_cut_short_decide_nothing_whatever_the_scale(root):
    """Also where a user asks for less, and no longer where one asks for more."""

    def why(scale, study, run, changes, claim):
        overrides = {study: {run: changes}} if changes else {}
        plan = make_plan(root, {"scale": scale, "studies": [study], "overrides": overrides})
        return words.claim_specs(plan, study)[claim]["stand_in"]

    assert why("laptop", "mol", "shares", {}, "c2") == ""
    cut = "the claim needs seeds of at least 20, what ran has 5"
    assert why("laptop", "mol", "shares", {"seeds": 5}, "c2") == cut
    assert why("smoke", "mol", "shares", {}, "c2") == cut
    assert why("smoke", "mol", "shares", {"seeds": 20}, "c2") == ""
    assert why("laptop", "agop", "no_agop", {}, "c3") == ""
    assert "images of at least 1000, what ran has 100" in why("smoke", "agop", "relu", {}, "c3")
    assert "steps of at least 600, what ran has 20" in why("smoke", "sinks", "mix", {}, "c5")

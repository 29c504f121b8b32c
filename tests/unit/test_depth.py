"""The study `depth`: slopes and verdicts on tables whose answer is known, and its drawings."""

from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress, spearmanr

from replica.measures.inputs import Inputs
from replica.measures.trends import spearman
from replica.residual.metrics import MEASURE
from replica.settings.load import load_studies
from replica.studies import depth
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE

DEPTHS = [2, 3, 5, 8, 13]
TICKS = "ticks of the published axis"


def measures(
    slope,
    run="rn1_mnist",
    model="L-RN1",
    rule="λ = 0.005",
    depths=DEPTHS,
    seeds=3,
    ratio=1.5,
    **more,
):
    """What `measure_residual` gives where each metric is a power of the depth, with some spread."""
    rows = []
    for L in depths:
        for seed in range(seeds):
            spread = 1 + 0.02 * (seed - 1)
            values = {
                **{metric: spread * 0.3 * L**slope for metric in depth.METRICS},
                "objective": 0.02 * (1 + (ratio - 1) * spread * L**slope), "accuracy": 1.0,
                "gradient": 0.05, "penalty": spread * 0.1 * L**slope,
            }  # fmt: skip
            own = {"run": f"{run}-depth{L}", "depth": L, "seed": seed}
            rows += [own | {"metric": m, "layer": np.nan, "value": v} for m, v in values.items()]
            rows += [own | {"metric": "penalty_term", "layer": float(l), "value": 0.1 / l}
                     for l in range(1, L + 1)]  # fmt: skip
    settings = {
        "dataset": "digits", "model": model, "loss": "ce", "optimiser": "adam", "rule": rule,
        "width": 64, "K": 10, "n": 50, "lambda_blocks": 0.005, "lambda_head": 0.005, "epochs": 100,
        "diverged_at": -1, "bound": 0.02,
    }  # fmt: skip
    return pd.DataFrame(rows).assign(**settings | more)[MEASURE]


def table(figure, *frames, scale="laptop"):
    inputs = Inputs("depth", figure, scale, "scaled", pd.DataFrame(), pd.concat(frames))
    return getattr(depth, f"table_{figure}")(inputs)


def test_the_rank_correlation_is_that_of_scipy_and_exact_at_the_limit():
    generator = np.random.default_rng(0)
    for n in (3, 5, 20):
        x, y = generator.integers(0, 8, n), generator.standard_normal(n)
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-11)
    assert spearman([2, 3, 5, 8], [4, 3, 1, 2]) == -0.8
    assert spearman([1, 2, 3], [1, 1, 1]) == 0 and np.isnan(spearman([1], [1]))


@pytest.mark.parametrize("power", [-1.0, -0.335, 0.0, 0.5])
def test_the_slope_of_a_power_law_is_its_exponent(power):
    rows = table("fig1_row1_rn1", measures(power))
    for metric in depth.METRICS:
        found = depth.slope(rows, metric)
        assert found.slope == pytest.approx(power, abs=1e-9)
        assert found.low < power < found.high and found.high - found.low < 0.03
        # It also stands in the table, beside each row of its curve.
        listed = rows.loc[rows["metric"] == metric, depth.SLOPE].drop_duplicates()
        assert listed.to_numpy().tolist() == [list(astuple(found))]


@pytest.mark.slow
def test_the_interval_of_a_slope_covers_it_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    exact = table("fig1_row1_rn1", measures(-0.3, depths=[2, 5, 13]))
    for _ in range(300):
        noise = np.exp(0.2 * generator.standard_normal(len(exact)))
        rows = exact.assign(value=exact["value"] * noise)
        found = depth.slope(rows, "nc1")
        covered += found.low < -0.3 < found.high
    assert 0.91 < covered / 300 < 0.98


@pytest.mark.slow
def test_it_does_so_where_seeds_share_what_a_depth_deviates_from_the_line():
    generator = np.random.default_rng(0)
    depths, covered = [2, 3, 5, 8, 13], 0
    exact = table("fig1_row1_rn1", measures(-0.3, depths=depths))
    for _ in range(300):
        of_depth = dict(zip(depths, generator.standard_normal(len(depths)), strict=True))
        noise = 0.2 * exact["depth"].map(of_depth) + 0.02 * generator.standard_normal(len(exact))
        found = depth.slope(exact.assign(value=exact["value"] * np.exp(noise)), "nc1")
        covered += found.low < -0.3 < found.high
    assert 0.91 < covered / 300 < 0.98


def test_the_line_of_unequally_many_seeds_is_that_through_all_runs():
    rows = table("fig1_row1_rn1", measures(-0.3, depths=[2, 5, 13]))
    rows = rows[(rows["depth"] != 13) | (rows["seed"] == 0)]
    rows = rows.assign(value=rows["value"] * np.exp(0.1 * np.arange(len(rows)) % 3))
    own = rows[rows["metric"] == "nc1"]
    fit = linregress(np.log(own["depth"]), np.log(own["value"]))
    found = depth.slope(rows, "nc1")
    assert found.slope == pytest.approx(fit.slope)
    assert found.r_squared == pytest.approx(fit.rvalue**2)


CLAIMS = [("c1", "fig1_row1_rn1"), ("c2", "fig1_row2_t11"), ("c3", "fig1_row3_text"),
          ("c4", "fig1_row4_rn2")]  # fmt: skip


def verdict_of(claim, figure, rows, head=-0.2):
    other = table("fig_extra_sensitivity", measures(-0.2, "rn2_mnist"), measures(head, "rn2_head"))
    return getattr(depth, f"claim_{claim}")({figure: rows, "fig_extra_sensitivity": other})


def rising(power=0.1, **more):
    """Metrics that rise while the objective falls, as it has to at a minimum."""
    frame = measures(-0.3, **more)
    own = frame["metric"].isin([*depth.METRICS, "penalty"])
    frame.loc[own, "value"] *= frame["depth"] ** (power + 0.3)
    return frame


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "figure"), CLAIMS)
def test_falling_metrics_decide_both_ways(claim, figure):
    found = verdict_of(claim, figure, table(figure, measures(-0.3)))
    assert found.verdict == HOLDS
    assert found.value == pytest.approx(-0.2 if claim == "c4" else -0.3)
    against = measures(-0.3)
    # A single metric that rises is enough.
    one = against["metric"] == "nc1"
    against.loc[one, "value"] *= against["depth"] ** 0.5
    rows = table(figure, against)
    if claim == "c4":
        other = against.assign(run=against["run"].str.replace("rn1_mnist", "rn2_head"))
        other = table("fig_extra_sensitivity", other)
        found = depth.claim_c4({figure: rows, "fig_extra_sensitivity": other})
    else:
        found = verdict_of(claim, figure, rows)
    assert found.verdict == FAILS and found.value == pytest.approx(0.2)


def test_two_readings_of_lambda_that_differ_decide_nothing():
    name = "fig1_row4_rn2"
    found = verdict_of("c4", name, table(name, rising()))
    assert found.verdict == UNDECIDABLE and "two readings" in found.detail
    assert f"λ/L in all layers: {FAILS}" in found.detail and f"before: {HOLDS}" in found.detail


def test_a_metric_without_a_trend_decides_nothing():
    name = "fig1_row1_rn1"
    frame = measures(-0.3)
    generator = np.random.default_rng(1)
    one = frame["metric"] == "nc2"
    frame.loc[one, "value"] = np.exp(generator.standard_normal(one.sum()))
    found = depth.claim_c1({name: table(name, frame)})
    assert found.verdict == UNDECIDABLE and "chance" in found.detail
    # One seed shows no trend, nor do two depths.
    one_seed = depth.claim_c1({name: table(name, measures(-0.3, seeds=1))})
    assert one_seed.verdict == UNDECIDABLE and "fewer than two seeds" in one_seed.detail


@pytest.mark.slow
def test_chance_alone_decides_seldom():
    """Without any trend, either way."""
    name, generator = "fig1_row1_rn1", np.random.default_rng(0)
    rows = table(name, measures(-0.3))
    decided = 0
    for _ in range(100):
        noise = np.exp(generator.standard_normal(len(rows)))
        decided += depth.claim_c1({name: rows.assign(value=noise)}).verdict != UNDECIDABLE
    assert decided <= 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "figure"), [*CLAIMS, ("c5", "fig2_mnist"), ("c7", "fig3_regularization")]
)
def test_runs_that_have_not_settled_decide_nothing(claim, figure):
    model = {"model": "L-RN2"} if claim == "c5" else {}
    frame = measures(-0.01 if claim == "c5" else -0.3, **model)
    assert verdict_of(claim, figure, table(figure, frame)).verdict == HOLDS
    deepest = frame["depth"] == 13
    restless = frame.copy()
    one = deepest & (frame["seed"] == 0) & (frame["metric"] == "gradient")
    restless.loc[one, "value"] = 0.11
    found = verdict_of(claim, figure, table(figure, restless))
    assert found.verdict == UNDECIDABLE and "14 of 15 runs have settled" in found.detail
    # With blocks of zeros the deepest network would have the objective of the one before.
    stuck = frame.copy()
    least = frame.loc[(frame["depth"] == 8) & (frame["metric"] == "objective"), "value"].mean()
    objectives = deepest & (frame["metric"] == "objective")
    stuck.loc[objectives, "value"] = least * np.array([1.03, 1.04, 1.05])
    found = verdict_of(claim, figure, table(figure, stuck))
    assert found.verdict == UNDECIDABLE and "12 of 15 runs have settled" in found.detail
    assert "above that of fewer blocks at L = 13" in found.detail
    # Seeds that differ by more than that say nothing of the kind.
    stuck.loc[objectives, "value"] = least * np.array([0.94, 1.01, 1.08])
    assert verdict_of(claim, figure, table(figure, stuck)).verdict == HOLDS
    # As are those that do not fit their training samples; on text they are left out.
    dull = frame.copy()
    dull.loc[deepest & (frame["metric"] == "accuracy"), "value"] = 0.98
    found = verdict_of(claim, figure, table(figure, dull))
    assert found.verdict == UNDECIDABLE
    assert ("no value of nc1 at L = 13" if claim == "c3" else "L = 13 fits only") in found.detail


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "figure"), [*CLAIMS, ("c5", "fig2_mnist")])
def test_what_is_missing_decides_nothing(claim, figure):
    model = {"model": "L-RN2"} if claim == "c5" else {}
    whole = table(figure, measures(-0.01 if claim == "c5" else -0.3, **model))
    for lost in ([5], [5, 8, 13], DEPTHS):
        rows = whole.copy()
        rows.loc[(rows["metric"] == "nc3") & rows["depth"].isin(lost), "value"] = np.nan
        found = verdict_of(claim, figure, rows)
        assert found.verdict == UNDECIDABLE
        assert f"no value of nc3 at L = {', '.join(map(str, lost))}" in found.detail
    two = table(figure, measures(-0.3, depths=[2, 3], **model))
    assert "fewer than three depths" in verdict_of(claim, figure, two).detail


def test_on_text_a_seed_that_diverged_or_did_not_learn_is_named_and_left_out():
    frame = measures(-0.3)
    lost = (frame["run"] == "rn1_mnist-depth5") & (frame["seed"] == 1)
    diverged = frame[lost].iloc[:1].assign(metric="diverged", value=1.0, diverged_at=40)
    wrong = (frame["run"] == "rn1_mnist-depth8") & (frame["seed"] == 2)
    frame.loc[wrong & frame["metric"].isin([*depth.METRICS]), "value"] = 100.0
    frame.loc[wrong & (frame["metric"] == "accuracy"), "value"] = 0.5
    rows = table("fig1_row3_text", frame[~lost], diverged)
    assert len(rows) == len(DEPTHS) * 3 * 3
    verdict = depth.claim_c3({"fig1_row3_text": rows})
    assert verdict.verdict == HOLDS and "13 of 15 runs settled" in verdict.detail
    assert "rn1_mnist-depth5 seed 1" in verdict.detail and "depth8 seed 2" in verdict.detail
    assert not rows.set_index(["run", "seed"]).loc[("rn1_mnist-depth5", 1), "kept"].any()
    # Elsewhere the paper leaves none out.
    images = depth.claim_c1({"fig1_row1_rn1": table("fig1_row1_rn1", frame[~lost], diverged)})
    assert images.verdict == UNDECIDABLE and "14 of 15 runs have settled" in images.detail
    objective = table("fig_extra_objective", frame[~lost], diverged)
    assert len(objective) == 15 and objective["value"].isna().sum() == 1
    found = depth.claim_c8({"fig_extra_objective": objective})
    assert found.verdict == UNDECIDABLE and "14 of 15" in found.detail


def test_two_classes_are_decided_without_nc2():
    """Which is zero at any stationary point, so that what is left of it says when training ended."""
    name, frame = "fig1_row3_text", measures(-0.3, K=2)
    frame.loc[frame["metric"] == "nc2", "value"] = frame["depth"] * 1e-3
    found = depth.claim_c3({name: table(name, frame)})
    assert found.verdict == HOLDS and "0 at any stationary point" in found.detail
    assert depth.claim_c3({name: table(name, frame.assign(K=3))}).verdict == FAILS


@pytest.mark.parametrize(
    "slope, verdict",
    [(0.05, HOLDS), (-0.05, HOLDS), (-0.17, UNDECIDABLE), (0.12, UNDECIDABLE), (-0.3, FAILS)],
)
def test_almost_constant_decides_both_ways(slope, verdict):
    others = measures(-0.5), measures(-0.4, "t11_mnist", "L-T11")
    model = measures(-0.3, "rn2_constant", "L-RN2", "λ = 0.0025")
    own = model["metric"].isin([*depth.METRICS])
    model.loc[own, "value"] *= model["depth"] ** (0.3 + slope)
    found = depth.claim_c5({"fig2_mnist": table("fig2_mnist", *others, model)})
    assert found.verdict == verdict and found.value == pytest.approx(abs(slope), abs=1e-9)


def test_a_slope_near_zero_with_a_wide_interval_is_not_constant():
    frame = measures(-0.3, model="L-RN2")
    own = frame["metric"].isin([*depth.METRICS])
    noise = np.exp(0.5 * np.random.default_rng(3).standard_normal(own.sum()))
    frame.loc[own, "value"] *= frame.loc[own, "depth"] ** 0.3 * noise
    found = depth.claim_c5({"fig2_mnist": table("fig2_mnist", frame)})
    assert found.verdict == UNDECIDABLE
    # Nor is one of a single seed, whose start may have made it.
    single = depth.claim_c5(
        {"fig2_mnist": table("fig2_mnist", measures(-0.01, model="L-RN2", seeds=1))}
    )
    assert single.verdict == UNDECIDABLE and "fewer than two seeds" in single.detail


FIGURE_1 = ["fig1_row1_rn1", "fig1_row4_rn2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "slope, noise, verdict",
    [(-0.335, 0, HOLDS), (-0.7, 0, FAILS), (-0.1, 0, FAILS), (-0.335, 1, UNDECIDABLE)],
)
def test_the_average_slope_is_judged_from_eight_blocks_on(slope, noise, verdict):
    steep = measures(-3.0, depths=[2, 3, 5])
    flat = measures(slope, depths=[8, 13, 21, 34])
    flat.loc[flat["metric"] == "objective", "value"] = 0.02
    own = flat["metric"].isin([*depth.METRICS])
    generator = np.random.default_rng(0)

    def rows(figure):
        noisy = flat.copy()
        noisy.loc[own, "value"] *= np.exp(noise * generator.standard_normal(own.sum()))
        return table(figure, steep, noisy)

    found = depth.claim_c6({figure: rows(figure) for figure in FIGURE_1})
    assert found.verdict == verdict
    assert noise or found.value == pytest.approx(slope)


def test_the_average_slope_needs_three_depths_from_eight_blocks_on():
    few = depth.claim_c6({f: table(f, measures(-0.335), scale="paper") for f in FIGURE_1})
    assert few.verdict == UNDECIDABLE and few.value == pytest.approx(-0.335)
    assert "fewer than 3 depths from 8 blocks on" in few.detail


@pytest.mark.slow
def test_the_interval_of_the_average_slope_covers_it_as_often_as_it_says():
    generator = np.random.default_rng(0)
    exact = table("fig1_row1_rn1", measures(-0.3, depths=[8, 13, 21]))
    # The metrics of a run move together, and one row is noisier than the others.
    of_run = exact.groupby(["depth", "seed"]).ngroup()
    covered = 0
    for _ in range(300):
        curves = []
        for size in (0.05, 0.1, 0.1, 0.4):
            noise = generator.standard_normal(of_run.max() + 1)[of_run]
            curves.append(exact.assign(value=exact["value"] * np.exp(size * noise)))
        found = depth.mean_slope(curves)
        covered += found.low < -0.3 < found.high
    assert 0.91 < covered / 300 < 0.98


def test_total_regularisation_decides_both_ways():
    name = "fig3_regularization"
    assert depth.claim_c7({name: table(name, measures(-0.2))}).verdict == HOLDS
    assert depth.claim_c7({name: table(name, rising())}).verdict == FAILS
    # Weights that have decayed to nothing are regularised least.
    dead = measures(-0.2)
    dead.loc[(dead["metric"] == "accuracy") & (dead["depth"] == 13), "value"] = 0.1
    assert depth.claim_c7({name: table(name, dead)}).verdict == UNDECIDABLE


def test_the_bound_decides_and_a_rise_has_not_settled():
    name = "fig_extra_objective"
    falling = measures(-0.3)
    assert depth.claim_c8({name: table(name, falling)}).verdict == HOLDS
    risen = depth.claim_c8({name: table(name, measures(0.1))})
    assert risen.verdict == UNDECIDABLE and "3 of 15 runs have settled" in risen.detail
    # Two matrices a block are outside of the theorem: their trend is reported only.
    outside = measures(0.1, "rn2_mnist", "L-RN2", "λ = 0.005/L")
    assert depth.claim_c8({name: table(name, falling, outside)}).verdict == HOLDS
    # Two runs with equally many samples, as at the smallest scale, stay two.
    twice = table(name, measures(-0.9), measures(0.1, "rn1_cifar10"))
    assert depth.claim_c8({name: twice}).verdict == UNDECIDABLE
    below = falling.copy()
    below.loc[below["metric"] == "objective", "value"] = 0.0199
    # At every scale: a run below the bound is a mistake.
    found = depth.claim_c8({name: table(name, below, scale="smoke")})
    assert found.verdict == FAILS and found.value == pytest.approx(0.995)


def test_marks_are_hollow_where_runs_have_not_settled_and_two_seeds_are_two_dots():
    frame = measures(-0.3, seeds=2)
    frame.loc[(frame["depth"] == 13) & (frame["metric"] == "gradient"), "value"] = 0.3
    rows = table("fig1_row1_rn1", frame)
    figure = depth.draw_fig1_row1_rn1(rows, pd.DataFrame())
    lines = figure.axes[0].lines
    hollow = [line for line in lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[13]]
    dots = [line for line in lines if line.get_marker() == "."]
    assert sum(len(line.get_xdata()) for line in dots) == 10
    assert "8 of 10 runs settled" in figure.get_suptitle()


def test_curves_of_unlike_numbers_of_seeds_are_told_apart():
    other = measures(-0.3, "t11_mnist", "L-T11", seeds=2)
    rows = table("fig2_mnist", measures(-0.3, seeds=3), other)
    figure = depth.draw_fig2_mnist(rows, pd.DataFrame(columns=["figure", "series", "kind", "y"]))
    assert ", 2 or 3 seeds (" in figure.get_suptitle()


@pytest.mark.slow
def test_every_figure_is_drawn_with_labels(root):
    published = pd.read_csv(root / "config/published/depth.csv")
    frames = {
        "rn1_mnist": measures(-0.3), "rn1_cifar10": measures(-0.2, "rn1_cifar10", n=20),
        "t11_mnist": measures(-0.3, "t11_mnist", "L-T11"),
        "t11_cifar10": measures(-0.3, "t11_cifar10", "L-T11", n=20),
        "t11_imdb": measures(-0.3, "t11_imdb", "pre-LN L-T11", dataset="topics_syntax", K=2),
        "rn2_mnist": measures(-0.3, "rn2_mnist", "L-RN2", "λ = 0.005/L"),
        "rn2_constant": measures(0.0, "rn2_constant", "L-RN2", "λ = 0.0025"),
        "rn1_sgd": measures(-0.1, "rn1_sgd", optimiser="sgd"),
        "rn2_head": measures(-0.1, "rn2_head", "L-RN2", "λ = 0.005/L and 0.005 in the last layer"),
        "t12": measures(0.0, "t12", "L-T12"), "t21": measures(0.0, "t21", "L-T21"),
        "t22": measures(0.0, "t22", "L-T22"), "rn1_pre": measures(0.0, "rn1_pre", "pre-LN L-RN1"),
        "rn1_mse": measures(0.0, "rn1_mse", loss="mse"),
    }  # fmt: skip
    study = load_studies(root / "config/studies")["depth"]
    for name, figure in study.figures.items():
        rows = table(name, *(frames[run] for run in figure.runs))
        drawn = getattr(depth, f"draw_{name}")(rows, published[published["figure"] == name])
        for ax in drawn.axes:
            assert ax.get_xlabel() or ax.get_subplotspec().is_first_row()
        first = drawn.axes[0]
        labels = [line.get_label() for line in first.lines if line.get_label()[0] != "_"]
        labels = [label for label in labels if label != TICKS]
        assert len(set(labels)) == len(labels), name
        if name in ("fig2_mnist", "fig_extra_objective", "ext_variants"):
            # A curve a run; beside the objectives a line for all bounds.
            assert len(labels) == len(figure.runs) + (name == "fig_extra_objective")
        curves = {line.get_label() for ax in drawn.axes for line in ax.lines}
        if name.startswith("fig1"):
            assert {"published average slope -0.335", "lower bound of the objective"} <= curves
        assert (TICKS in curves) == (name.startswith("fig1") or name == "fig2_mnist")

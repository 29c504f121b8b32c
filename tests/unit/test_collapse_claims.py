"""The claims of dufm and low_rank on runs that are made up: what decides them, and what does not."""

import numpy as np
import pandas as pd
import pytest

from replica.studies import dufm, low_rank
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided

METRICS = {"nc1_ratio": 1e-9, "cond": 1.05, "wsine": 0.1}


def verdict(claim, **tables):
    return claim(tables).verdict


# ---------------------------------------------------------------------- dufm


def ends(gaps, statuses="dnc", width=32, L=3, steps=2000, run="run"):
    """How runs of one width ended: a row a seed."""
    runs = pd.DataFrame({"value": gaps, "status_run": statuses})
    runs = runs.assign(width=width, L=L, steps=steps, run=f"{run}-{width}", reference=0.07)
    return runs.assign(seed=range(len(runs)), panel="outcome", scale="laptop", step=np.nan)


def widths(*parts):
    runs = pd.concat(parts, ignore_index=True)
    steps = runs.assign(panel="steps_to_optimum", value=100.0)
    return pd.concat([runs, steps.assign(value=steps["value"].where(runs["value"] < 0.05))])


def depth(runs, loss=0.071, **changed):
    """A table of rec_depth: metrics fall from 10 to 1.5 times their end to their end."""
    rows = []
    for own in runs.itertuples():
        for step, factor in [(0, 10), (own.steps // 2, 1.5), (own.steps, 1)]:
            rows.append({"panel": "loss", "step": step, "value": loss})
            for layer in range(1, own.L + 1):
                for side in ("pre", "post")[: 1 + (layer > 1)]:
                    for metric, end in METRICS.items():
                        value = 1 + (end - 1) * factor if metric == "cond" else end * factor
                        value = changed.get(f"{metric}_{layer}_{side}", value)
                        row = {"panel": "metric", "metric": metric, "layer": layer, "relu": side}
                        rows.append(row | {"step": step, "value": value})
            for row in rows[-(3 * (2 * own.L - 1) + 1) :]:
                row |= {"run": own.run, "seed": own.seed, "L": own.L, "steps": own.steps}
    table = pd.DataFrame(rows).assign(reference=0.07, scale="laptop")
    return pd.concat([table, runs], ignore_index=True)


WIDE = widths(ends([1e-4] * 8))


def test_a_loss_below_the_proven_bound_refutes_it_and_one_above_says_nothing():
    good = depth(ends([1e-3] * 5))
    assert verdict(dufm.claim_c1, rec_depth=good, rec_width=WIDE) == HOLDS
    below = depth(ends([1e-3] * 5), loss=0.07 * (1 - 1e-6))
    assert verdict(dufm.claim_c1, rec_depth=below, rec_width=WIDE) == FAILS
    far = depth(ends([0.2] * 5, "bad_minimum"))
    assert verdict(dufm.claim_c1, rec_depth=far, rec_width=WIDE) == UNDECIDABLE


def test_collapse_is_asked_for_where_the_optimum_forces_it():
    def c2(**changed):
        table = depth(ends([1e-3] * 5), **changed)
        return dufm.claim_c2({"rec_depth": table, "rec_width": WIDE})

    assert c2().verdict == HOLDS
    # M_1, and M_2 before the ReLU, are free: the optimum is flat there.
    free = c2(cond_1_pre=3.0, cond_2_pre=np.inf)
    assert free.verdict == HOLDS and "at most inf" in free.detail
    # After the ReLU, and in later layers, they are not.
    assert c2(cond_2_post=1.5).verdict == c2(cond_3_pre=1.5).verdict == FAILS
    assert c2(wsine_1_pre=0.4).verdict == c2(nc1_ratio_3_pre=1e-3).verdict == FAILS
    assert c2(wsine_1_pre=0.2).verdict == UNDECIDABLE  # within its limit, but it does not fall


def test_each_layer_is_compared_with_itself():
    def c2(start, half, end, metric="wsine", layer=3):
        table = depth(ends([1e-3] * 5))
        for step, value in [(0, start), (1000, half), (2000, end)]:
            own = table["metric"].eq(metric) & table["layer"].eq(layer) & table["step"].eq(step)
            table.loc[own, "value"] = value
        return verdict(dufm.claim_c2, rec_depth=table, rec_width=WIDE)

    assert c2(0.5, 0.09, 0.08) == HOLDS
    # Another layer has a larger sine that falls, and a larger variability at the start.
    assert c2(0.5, 0.05, 0.09) == c2(0.05, 0.1, 0.09) == UNDECIDABLE
    assert c2(1e-12, 1e-10, 1e-10, "nc1_ratio") == UNDECIDABLE
    assert c2(0.5, 0.31, 0.32) == FAILS
    # A sine that is at the floor of rounding has no further to fall.
    assert c2(0.5, 1e-8, 1e-8) == HOLDS
    with pytest.raises(Undecided, match="not every metric"):
        c2(0.5, np.nan, 0.09)
    table = depth(ends([1e-3] * 5))
    one = table[~(table["panel"].eq("metric") & table["seed"].eq(0))]
    with pytest.raises(Undecided, match="not every metric"):
        dufm.claim_c2({"rec_depth": one, "rec_width": WIDE})


def test_runs_arrive_at_every_depth():
    far = depth(ends([0.3] * 5, "bad_minimum", L=8, run="deep"))
    table = pd.concat([depth(ends([1e-3] * 5)), far], ignore_index=True)
    many = widths(ends([1e-4] * 40))
    with pytest.raises(Undecided, match="no run of L = 8 that arrived"):
        dufm.claim_c2({"rec_depth": table, "rec_width": many})


def test_metrics_that_still_fall_and_runs_that_still_move_are_undecided():
    table = depth(ends([1e-3] * 5))
    slow = table.copy()
    slow.loc[slow["metric"] == "wsine", "value"] *= 4
    found = dufm.claim_c2({"rec_depth": slow, "rec_width": WIDE})
    assert found.verdict == UNDECIDABLE and "still fall" in found.detail
    moving = widths(ends([0.3] * 16, "unconverged"))
    found = dufm.claim_c2({"rec_depth": table, "rec_width": moving})
    assert found.verdict == UNDECIDABLE and "16 of 21" in found.detail
    stuck = widths(ends([0.3] * 16, "bad_minimum"))
    assert verdict(dufm.claim_c2, rec_depth=table, rec_width=stuck) == FAILS
    # Four of four: chance shows as much in one case of sixteen.
    few = depth(ends([1e-3] * 2)), widths(ends([1e-3] * 2))
    assert verdict(dufm.claim_c2, rec_depth=few[0], rec_width=few[1]) == UNDECIDABLE


def test_wider_is_more_reliable_only_beyond_chance():
    def c3(*parts):
        return dufm.claim_c3({"rec_width": widths(*parts)})

    wide = [ends([1e-4] * 8, width=width) for width in (32, 64)]
    half = ends([1e-4] * 4 + [0.3] * 4, ["dnc"] * 4 + ["bad_minimum"] * 4, width=8)
    found = c3(half, *wide)
    assert found.verdict == HOLDS and found.value == 0.5
    # Half of the narrow runs never arrive, so their median is not a number of steps.
    assert "steps to 1.05 L_DNC: 8: inf, 32: 100" in found.detail
    assert c3(ends([1e-4] * 8, width=8), *wide).verdict == UNDECIDABLE  # all arrive
    none = [ends([0.3] * 8, "bad_minimum", width=width) for width in (8, 32)]
    assert c3(*none).verdict == UNDECIDABLE  # none does: 0 against 0
    assert c3(ends([1e-4] * 8, width=8), none[1]).verdict == FAILS
    # Narrow runs that may still arrive count as if they did.
    assert c3(half.replace("bad_minimum", "unconverged"), *wide).verdict == UNDECIDABLE
    unequal = c3(half, ends([1e-4] * 8, width=32, steps=1000))
    assert unequal.verdict == UNDECIDABLE and "unequal" in unequal.detail
    # Wide runs of a depth without narrow ones tell nothing of the width, nor do narrow ones alone.
    rare = [[1e-4] + [0.3] * 7, ["dnc"] + ["bad_minimum"] * 7]
    other = ends([1e-4] * 16, width=128, L=4)
    found = c3(ends(*rare, width=8), ends(*rare, width=64), other)
    assert found.verdict == UNDECIDABLE and found.value == 0
    hard = ends([0.3] * 16, "bad_minimum", width=8, L=6)
    assert c3(ends([1e-4] * 8, width=8), hard, wide[0]).verdict == UNDECIDABLE
    with pytest.raises(Undecided, match="a depth of narrow ones"):
        c3(half, other)


def test_a_head_that_has_not_settled_decides_nothing():
    table = head_runs(5)
    assert verdict(dufm.claim_c4, rec_backbone=table) == HOLDS
    moving = dufm.claim_c4({"rec_backbone": table.assign(calm=False)})
    assert moving.verdict == UNDECIDABLE and "5 of 5 runs have not settled" in moving.detail
    lost = table.assign(calm=False)
    lost.loc[lost["seed"] == 0, "status_run"] = "diverged"
    found = dufm.claim_c4({"rec_backbone": lost})
    assert found.verdict == UNDECIDABLE
    assert found.detail.startswith("1 of 5 runs have diverged, 4 of 5 runs have not settled (the")


def head_runs(seeds, start=1.0):
    """Runs of a network that have settled near L_DNC, with this variability at the start."""
    table = depth(ends([1e-3] * seeds).assign(calm=True)).assign(dataset="photos")
    table.loc[table["metric"].eq("nc1_ratio") & table["step"].eq(0), "value"] = start
    return table


def test_a_head_collapses_in_more_runs_than_chance_shows():
    def c4(table):
        return dufm.claim_c4({"rec_backbone": table})

    # The variability ends at a tenth of its start.
    assert c4(head_runs(5, start=1e-8)).verdict == FAILS
    for start in (1.0, 1e-8):
        assert c4(head_runs(1, start)).verdict == c4(head_runs(3, start)).verdict == UNDECIDABLE
    one = head_runs(10)
    last = one["panel"].eq("metric") & one["step"].eq(2000) & one["layer"].eq(3)
    one.loc[last & one["metric"].eq("cond") & one["seed"].eq(0), "value"] = 2.0
    found = c4(one)
    assert found.verdict == HOLDS and found.detail.startswith("9 of 10 runs on photos collapse")
    unknown = one.assign(value=one["value"].mask(last & one["seed"].eq(0)))
    for lacking in (unknown, one[~(one["panel"].eq("metric") & one["seed"].eq(0))]):
        with pytest.raises(Undecided, match="not every metric"):
            c4(lacking)


def test_the_threshold_is_refuted_by_a_loss_below_a_half_above_it():
    theory = pd.DataFrame({"ratio": [1 - 1e-9, 1 + 1e-9], "a": [2 / 3, 0.0], "loss": 0.5})
    gd = {"ratio": [0.8, 1.2, 1.8], "a": [0.8, 0.0, 0.0], "loss": [0.4, 0.5, 0.5]}
    gd = pd.DataFrame(gd).assign(source="gd", local_loss=0.58, change=0.0)
    table = pd.concat([theory.assign(source="theory_global"), gd]).assign(L=3, K=2)

    def c5(ratio=1.8, **changed):
        rows = (table["source"] == "gd") & (table["ratio"] == ratio)
        new = table.copy()
        new.loc[rows, list(changed)] = list(changed.values())
        return verdict(dufm.claim_c5, rec_threshold=new)

    assert c5() == HOLDS
    assert c5(loss=0.499) == FAILS
    assert c5(loss=0.51) == FAILS
    assert c5(loss=0.51, change=1e-2) == UNDECIDABLE
    assert c5(loss=0.49, change=1e-2) == FAILS
    # Between zero and the local minimum: one of two classes in it is its own minimum, else none.
    assert c5(1.2, a=0.56, loss=0.58) == HOLDS
    assert c5(1.2, a=0.28, loss=0.54) == HOLDS
    assert c5(1.2, a=0.28, loss=0.56) == FAILS
    assert c5(1.2, a=0.28, loss=0.56, change=1e-2) == UNDECIDABLE
    # A run that agrees and still moves is no excuse for one that does not agree and has settled.
    table.loc[table["ratio"] == 0.8, "change"] = 1e-2
    assert c5() == HOLDS
    assert c5(loss=0.51) == FAILS


# ---------------------------------------------------------------------- low_rank


def figure_two(ratios, change=1e-6, ranks=(6, 6, 6), last=10, nc1=1e-9, n=10, run="fig2_top"):
    """Runs that end at these multiples of L_DNC: outcomes, ranks of M_2..M_4 and σ(M_4), DNC1."""
    runs = pd.DataFrame({"final_loss": 0.1 * np.array(ratios), "seed": range(len(ratios))})
    runs = runs.assign(run=run, n=n, K=10, L=4, lambda_w=0.004, loss_dnc=0.1, change=change)
    runs = runs.assign(steps=1000, final_fit=0.01, dataset="photos", scale="laptop")
    runs["ranks_settled"] = runs["calm"] = runs["change"] <= 1e-4
    moving = np.where(runs["change"] > 1e-4, "unconverged", "dnc")
    runs["status_run"] = np.where(runs["final_loss"] < 0.0995, "below_dnc", moving)
    parts = [runs.assign(panel="outcome")]
    for layer, rank in zip((2, 3, 4), ranks, strict=True):
        parts.append(runs.assign(panel="rank", relu="pre", layer=layer, value=rank))
    parts.append(runs.assign(panel="rank", relu="post", layer=4, value=last))
    for step, factor in [(0, 1e9), (100, 1e6), (1000, 1)]:
        parts.append(runs.assign(panel="dnc1", step=step, layer=1, value=nc1 * factor))
    table = pd.concat(parts, ignore_index=True)
    return {"fig2_top_dufm_k10": table, "fig2_bottom_resnet_cifar10": table}


def test_more_runs_than_not_end_below_dnc():
    def c1(ratios, **settings):
        return low_rank.claim_c1(figure_two(ratios, **settings)).verdict

    assert c1([0.9] * 10) == HOLDS
    assert c1([0.9] * 10, change=1e-3) == HOLDS  # they can only fall further
    assert c1([0.9] * 7 + [1.0] * 3) == UNDECIDABLE  # by chance in 17 % of cases
    assert c1([1.0] * 10) == FAILS
    assert c1([1.01] * 10, change=1e-3) == UNDECIDABLE


def test_collapse_within_classes_is_that_of_the_runs_below_dnc():
    def c2(**settings):
        return low_rank.claim_c2(figure_two([0.9] * 6 + [1.0] * 4, **settings)).verdict

    assert c2() == HOLDS
    # Long before the end it is at the floor of float32, and falls no further.
    early = figure_two([0.9] * 6)
    table = early["fig2_top_dufm_k10"]
    table.loc[table["panel"].eq("dnc1") & table["step"].eq(100), "value"] = 1e-9
    assert verdict(low_rank.claim_c2, **early) == HOLDS
    # A start as low as the end is no collapse.
    table.loc[table["panel"].eq("dnc1") & table["step"].eq(0), "value"] = 1e-6
    assert verdict(low_rank.claim_c2, **early) == FAILS
    assert c2(nc1=1e-3) == FAILS
    assert c2(nc1=1e-3, change=1e-2) == UNDECIDABLE
    # Nobody knows the start.
    table.loc[table["panel"].eq("dnc1") & table["step"].eq(0) & table["seed"].eq(0), "value"] = (
        np.nan
    )
    with pytest.raises(Undecided, match="not every variability"):
        low_rank.claim_c2(early)
    with pytest.raises(Undecided, match="run below DNC"):
        low_rank.claim_c2(figure_two([1.0] * 10))


def test_a_run_that_moves_blocks_no_verdict_that_it_cannot_change():
    def c2(spread, moving):
        tables = figure_two([0.9] * 20)
        table = tables["fig2_top_dufm_k10"]
        last = table["panel"].eq("dnc1") & table["step"].eq(1000)
        table.loc[last & table["seed"].isin(spread), "value"] = 1e-3
        table.loc[table["panel"].eq("outcome") & table["seed"].isin(moving), "change"] = 1e-3
        return low_rank.claim_c2(tables)

    found = c2([0], moving=[5])
    assert found.verdict == HOLDS
    assert found.detail.startswith("19 of 20 runs below DNC have collapsed, 0 of the others still")
    assert c2(range(18), moving=[19]).verdict == FAILS
    assert c2(range(3), moving=[0]).verdict == UNDECIDABLE  # fewer than nine in ten
    assert c2(range(18), moving=range(9)).verdict == UNDECIDABLE


def test_ranks_are_those_of_settled_runs():
    def c3(ratios=(0.9,) * 6, **settings):
        return low_rank.claim_c3(figure_two(ratios, **settings)).verdict

    assert c3() == HOLDS
    assert c3(ranks=(10, 6, 6)) == c3(ranks=(10, 10, 10)) == c3(last=9) == FAILS
    for settings in ({"change": 1e-3}, {"ratios": [0.9] * 4}):
        with pytest.raises(Undecided, match=r"of . runs have settled"):
            c3(**settings)
    tables = figure_two([0.9] * 6)
    table = tables["fig2_top_dufm_k10"]
    one = table["panel"].eq("rank") & table["layer"].eq(3) & table["seed"].eq(0)
    for lacking in (table.assign(value=table["value"].mask(one)), table[~one]):
        found = low_rank.claim_c3({"fig2_top_dufm_k10": lacking})
        assert found.verdict == UNDECIDABLE and "not every rank is known" in found.detail


def test_a_network_with_a_head_is_decided_by_settled_runs_alone():
    def c4(ratios, **settings):
        return low_rank.claim_c4(figure_two(ratios, **settings))

    assert c4([0.9] * 5).verdict == HOLDS
    assert c4([1.1] * 5).verdict == FAILS
    assert c4([0.9] * 5, ranks=(10, 10, 10)).verdict == FAILS
    assert c4([0.9] * 5, nc1=0.1).verdict == FAILS
    assert c4([0.9] * 3).verdict == UNDECIDABLE  # by chance in one case of eight
    assert c4([0.9] * 9 + [1.02]).verdict == UNDECIDABLE  # one is above L_DNC
    assert c4([0.9], ranks=(10, 6, 6)).verdict == c4([1.1]).verdict == UNDECIDABLE
    moving = c4([1.02] * 3, change=3e-3, ranks=(10, 10, 10))
    assert moving.verdict == UNDECIDABLE and "3 of 3 runs have not settled" in moving.detail
    table = figure_two([0.9] * 6)["fig2_bottom_resnet_cifar10"]
    own = table["seed"] == 0
    ranks, spread = own & table["panel"].eq("rank"), own & table["panel"].eq("dnc1")
    for lacking in (table.assign(value=table["value"].mask(ranks)), table[~ranks]):
        found = low_rank.claim_c4({"fig2_bottom_resnet_cifar10": lacking})
        assert found.verdict == UNDECIDABLE and "not every rank is known" in found.detail
    for lacking in (table.assign(value=table["value"].mask(spread)), table[~spread]):
        with pytest.raises(Undecided, match="not every variability"):
            low_rank.claim_c4({"fig2_bottom_resnet_cifar10": lacking})


def ranks_by_decay(ranks, settled=True, status="below_dnc"):
    """Average ranks (seeds, λ) as a table of Figure 3, middle."""
    seeds, lambdas = np.indices(np.shape(ranks)).reshape(2, -1)
    table = pd.DataFrame({"seed": seeds, "log2_lambda": lambdas - 11.0, "value": np.ravel(ranks)})
    table = table.assign(K=10, status_run=status, scale="laptop")
    return {
        "fig3_middle_rank_decay": table.assign(
            ranks_settled=np.broadcast_to(settled, np.shape(ranks)).ravel()
        )
    }


def test_the_rank_falls_within_a_seed_beyond_chance():
    c6 = low_rank.claim_c6
    rng = np.random.default_rng(0)
    noise = rng.integers(6, 10, (20, 6)).astype(float)
    assert c6(ranks_by_decay(noise)).verdict == UNDECIDABLE
    falling = noise - 0.5 * np.arange(6)
    assert c6(ranks_by_decay(falling)).verdict == HOLDS
    assert c6(ranks_by_decay(noise + 0.5 * np.arange(6))).verdict == FAILS
    # One seed carries a fall of the mean.
    one = np.full((5, 6), 8.0)
    one[0] -= 0.8 * np.arange(6)
    assert c6(ranks_by_decay(one)).verdict == UNDECIDABLE
    # A fall of less than a half, as clear as it may be
    assert c6(ranks_by_decay(8 - 0.01 * np.arange(6) * np.ones((20, 1)))).verdict == UNDECIDABLE
    stays = np.ones((20, 6), dtype=bool)
    stays[:11, 0] = False
    found = c6(ranks_by_decay(falling, stays))
    assert found.verdict == UNDECIDABLE and "9 of 20 seeds have settled" in found.detail


def ends_by_width(found, runs=10, rest="below_dnc"):
    """Runs by width, so many of which end at DNC and the others as `rest`; 128 is trained otherwise."""
    rows = [
        {"width": width, "seed": seed, "status_run": "dnc" if seed < count else rest}
        for width, count in found.items()
        for seed in range(runs)
    ]
    table = pd.DataFrame(rows).assign(panel="run", scale="laptop")
    table["lr"] = np.where(table["width"] < 100, 0.5, 0.1)
    return {"fig3_right_dnc_probability": table}


def test_the_share_of_dnc_rises_over_widths_that_are_trained_alike():
    c7 = low_rank.claim_c7
    found = c7(ends_by_width({15: 0, 30: 2, 64: 10, 128: 0}))
    assert found.verdict == HOLDS and "not counted, 128: 0.00" in found.detail
    # The widest alone cannot make it hold.
    assert c7(ends_by_width({15: 0, 30: 0, 64: 0, 128: 10})).verdict == UNDECIDABLE
    assert c7(ends_by_width({15: 10, 30: 2, 64: 0})).verdict == FAILS
    assert c7(ends_by_width({15: 0, 30: 1, 64: 2}, runs=3)).verdict == UNDECIDABLE
    # Narrow runs that still move may yet end in DNC, and of those that diverged nobody knows.
    for rest in ("unconverged", "diverged"):
        assert c7(ends_by_width({15: 0, 30: 2, 64: 10}, rest=rest)).verdict == UNDECIDABLE
    # Runs of a width between count, too: at a share of 1 there, nothing rises.
    between = ends_by_width({15: 0, 20: 0, 30: 1, 45: 2, 64: 10})
    assert c7(between).verdict == HOLDS
    table = between["fig3_right_dnc_probability"]
    table.loc[table["width"] == 20, "status_run"] = "unconverged"
    assert c7(between).verdict == UNDECIDABLE


def test_a_solution_that_is_not_found_refutes_nothing():
    def c8(ratio, rank=2, classes=(3, 4, 5)):
        table = figure_two([1.01, ratio], ranks=(10, rank, 10))["fig2_top_dufm_k10"]
        parts = pd.concat([table.assign(width=5, K=K) for K in classes], ignore_index=True)
        return low_rank.claim_c8({"fig5_small_k": parts}).verdict

    assert c8(0.9) == HOLDS
    assert c8(1.0) == c8(0.9, rank=3) == UNDECIDABLE
    with pytest.raises(Undecided, match="no run of K = 4"):
        c8(0.9, classes=[3, 5])


def test_the_best_run_of_fifteen_classes_has_settled():
    def c9(change=1e-6, rank=9, ratio=0.7, **changed):
        outcome = figure_two([ratio], change=change)["fig2_top_dufm_k10"]
        outcome = outcome[outcome["panel"] == "outcome"].assign(**changed)
        ranks = [("pre", layer, rank) for layer in range(1, 8)] + [("post", 7, 15)]
        ranks = pd.DataFrame(ranks, columns=["relu", "layer", "value"]).assign(panel="rank")
        return low_rank.claim_c9({"fig6_k15_l7": pd.concat([outcome, ranks])}).verdict

    assert c9() == HOLDS
    assert c9(rank=15) == c9(ratio=1.0) == FAILS
    assert c9(change=1e-3) == UNDECIDABLE
    # A loss that still falls may take a rank with it, but brings none back.
    assert c9(change=1e-3, ranks_settled=True) == HOLDS
    for settings in ({"ratio": 1.0}, {"rank": 15}):
        assert c9(change=1e-3, ranks_settled=True, **settings) == UNDECIDABLE


def test_dnc_is_beaten_for_the_depths_and_classes_of_a_construction_alone():
    rows = [
        {"L": L, "r": r, "lambda_fraction": fraction, "variant": variant, "ratio": ratio}
        for L in (3, 4)
        for r in (4, 5)
        for fraction in (0.02, 0.2)
        for variant, ratio in [("SRG0", 1.1), ("SRGopt", 0.9)]
    ]
    table = pd.DataFrame(rows)
    assert verdict(low_rank.claim_c11, fig3_left_loss_ratio=table) == HOLDS
    with pytest.raises(Undecided, match="L = 3"):
        low_rank.claim_c11({"fig3_left_loss_ratio": table[table["L"] == 4]})
    at = table["L"].eq(3) & table["r"].eq(4) & table["lambda_fraction"].eq(0.2)
    part = low_rank.claim_c11(
        {"fig3_left_loss_ratio": table.assign(ratio=table["ratio"].where(~at, 1.01))}
    )
    assert part.verdict == UNDECIDABLE
    assert "L = 3: [10]; L = 4: all 2 K, 6 to 10" in part.detail

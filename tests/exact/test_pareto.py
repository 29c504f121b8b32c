"""Pareto sets and distances against plain loops over pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica.theory import pareto

seeds = st.integers(0, 10**6)
objectives = st.integers(1, 5)
# Estimates of few samples are k/n: with n = 1 nearly all risks are tied.
samples = st.sampled_from([1, 3, 10, 1000])


def estimates(seed, M, N, n):
    """Risks k/n around a front, so that more than a few points are on it."""
    generator = np.random.default_rng(seed)
    means = generator.dirichlet(np.ones(N + 1), M)[:, :N]
    return generator.binomial(n, means) / n


def on_sphere(seed, M, N):
    """Points none of which dominates another one."""
    x = np.abs(np.random.default_rng(seed).standard_normal((M, N)))
    return 1 - x / np.linalg.norm(x, axis=1, keepdims=True)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


# Pareto sets.


def check_against_all_pairs(risks):
    points = risks.tolist()
    expected = [not any(dominates(q, p) for q in points) for p in points]
    assert pareto.non_dominated(risks).tolist() == expected


@given(seed=seeds, M=st.integers(0, 40), N=objectives, n=samples)
def test_the_set_agrees_with_all_pairs(seed, M, N, n):
    check_against_all_pairs(estimates(seed, M, N, n))


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [3, 10, 1000])
def test_the_set_of_two_hundred_points(N, n):
    check_against_all_pairs(estimates(N, 200, N, n))


@given(seed=seeds, M=st.integers(1, 200), N=objectives, n=samples)
def test_the_set_dominates_the_rest(seed, M, N, n):
    risks = estimates(seed, M, N, n)
    kept = pareto.non_dominated(risks)
    front, rest = risks[kept], risks[~kept]
    dominated = (front <= rest[:, None]).all(axis=2) & (front < rest[:, None]).any(axis=2)
    assert dominated.any(axis=1).all()


@pytest.mark.parametrize("N", [2, 3, 4])
@pytest.mark.parametrize("n", [8, 64, None])
def test_sets_of_thousands_of_points(N, n):
    risks = on_sphere(N, 4600, N)
    if n is None:
        assert pareto.non_dominated(risks).all()
        return
    risks = np.ceil(risks * n) / n
    kept = pareto.non_dominated(risks)
    assert not kept.all()
    # No point of the set dominates another, and each other point is dominated by one of it.
    front = np.unique(risks[kept], axis=0)
    below = (front <= risks[:, None]).all(axis=2) & (front < risks[:, None]).any(axis=2)
    np.testing.assert_array_equal(kept, ~below.any(axis=1))


def test_simple_sets():
    risks = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 2.0], [1.0, -0.0], [1.0, 0.0], [2.0, 3.0]])
    assert pareto.non_dominated(risks).tolist() == [True, True, False, True, True, False]
    single = np.array([[2.0], [1.0], [1.0]])
    assert pareto.non_dominated(single).tolist() == [False, True, True]


# The filter and the weak violation.


@given(seed=seeds, M=st.integers(1, 30), N=objectives, n=samples, scale=st.floats(0, 0.3))
def test_the_filter_agrees_with_its_definition(seed, M, N, n, scale):
    risks = estimates(seed, M, N, n)
    generator = np.random.default_rng(seed)
    C = scale * generator.random(N)
    candidates = generator.integers(M, size=generator.integers(0, M + 1))
    expected = []
    for c in risks[candidates]:
        dropped = False
        for h in risks:
            near = all(h[i] <= c[i] + 2 * C[i] for i in range(N))
            dropped |= near and any(h[j] < c[j] - 2 * C[j] for j in range(N))
        expected.append(not dropped)
    assert pareto.epsilon_filter(risks, C, candidates).tolist() == expected


@given(seed=seeds, M=st.integers(1, 60), N=objectives, n=samples)
def test_a_filter_without_width_keeps_the_pareto_set(seed, M, N, n):
    risks = estimates(seed, M, N, n)
    found = pareto.epsilon_filter(risks, np.zeros(N), np.arange(M))
    np.testing.assert_array_equal(found, pareto.non_dominated(risks))


def test_the_filter_drops_the_bad_points_of_a_tie():
    """R5: one point is Pareto-optimal, and noise in the first objective hides it."""
    risks = np.array([[0.5, 0.0], [0.49, 0.5], [0.48, 0.5]])
    front = np.flatnonzero(pareto.non_dominated(risks))
    assert front.tolist() == [0, 2]
    assert pareto.epsilon_filter(risks, np.full(2, 0.2), front).tolist() == [True, False]
    assert pareto.epsilon_filter(risks, np.full(2, 0.25), front).tolist() == [True, True]


def test_the_filter_can_drop_every_point_in_a_cycle():
    risks = np.array([[0.0, 0.9, 1.8], [1.8, 0.0, 0.9], [0.9, 1.8, 0.0]])
    assert pareto.non_dominated(risks).all()
    assert not pareto.epsilon_filter(risks, np.full(3, 0.5), np.arange(3)).any()


@given(
    seed=seeds, M=st.integers(1, 30), K=st.integers(1, 10), N=objectives, n=samples,
    scale=st.floats(0, 0.1),
)  # fmt: skip
def test_the_weak_violation_agrees_with_its_definition(seed, M, K, N, n, scale):
    risks, found = estimates(seed, M, N, n), estimates(seed + 1, K, N, n)
    C = scale * np.random.default_rng(seed).random(N)
    expected = 0.0
    for f in found:
        for h in risks:
            expected = max(expected, min(f[i] - h[i] - 2 * C[i] for i in range(N)))
    assert pareto.weak_violation(risks, found, C) == pytest.approx(expected, abs=1e-15)


@given(seed=seeds, M=st.integers(1, 60), N=objectives, n=samples)
def test_the_weak_set_has_no_violation(seed, M, N, n):
    risks = estimates(seed, M, N, n)
    weak = np.array([not (risks < point).all(axis=1).any() for point in risks])
    assert pareto.weak_violation(risks, risks[weak], np.zeros(N)) == 0.0
    if not weak.all():
        assert pareto.weak_violation(risks, risks[~weak], np.zeros(N)) > 0.0


# Distances.


@given(seed=seeds, A=st.integers(1, 20), B=st.integers(1, 20), N=objectives, n=samples)
def test_distances_agree_with_loops(seed, A, B, N, n):
    truth, found = estimates(seed, A, N, n), estimates(seed + 1, B, N, n)
    forward = max(min(max(*(f - t), 0.0) for f in found) for t in truth)
    backward = max(min(max(*(f - t), 0.0) for t in truth) for f in found)
    there = max(min(max(abs(f - t)) for f in found) for t in truth)
    back = max(min(max(abs(f - t)) for t in truth) for f in found)
    assert pareto.forward_distance(truth, found) == forward
    assert pareto.backward_distance(truth, found) == backward
    assert pareto.hausdorff(truth, found) == max(there, back) >= max(forward, backward)


@given(seed=seeds, M=st.integers(1, 60), N=objectives, n=samples)
def test_equal_fronts_have_no_distance(seed, M, N, n):
    risks = estimates(seed, M, N, n)
    front = risks[pareto.non_dominated(risks)]
    for distance in (pareto.forward_distance, pareto.backward_distance, pareto.hausdorff):
        assert distance(front, front[::-1]) == 0.0


def test_a_bad_point_and_a_good_point_show_in_other_distances():
    truth = np.array([[0.5, 0.0]])
    bad = np.array([[0.5, 0.0], [0.5, 0.5]])
    assert pareto.forward_distance(truth, bad) == 0.0
    assert pareto.backward_distance(truth, bad) == pareto.hausdorff(truth, bad) == 0.5
    better = np.array([[0.25, 0.0]])
    assert pareto.forward_distance(truth, better) == pareto.backward_distance(truth, better) == 0.0
    assert pareto.hausdorff(truth, better) == 0.25


def test_blocks_do_not_change_a_result(monkeypatch):
    truth, found = on_sphere(0, 300, 3), on_sphere(1, 200, 3) + 0.01
    risks, C, all_points = np.vstack([truth, found]), np.full(3, 1e-3), np.arange(500)

    def results():
        return (
            pareto.weak_violation(risks, found, C),
            pareto.epsilon_filter(risks, C, all_points).tolist(),
        )  # fmt: skip

    whole = results()
    assert whole[0] > 0
    monkeypatch.setattr(pareto, "DIFFERENCES", 7)
    assert results() == whole


# Volumes.


def test_the_volume_of_three_points():
    risks = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    assert pareto.hypervolume(risks, np.ones(2)) == 0.25
    # Points outside and dominated points add nothing.
    more = np.vstack([risks, [[2.0, -9.0], [0.75, 0.75]]])
    assert pareto.hypervolume(more, np.ones(2)) == 0.25
    assert pareto.hypervolume(np.array([[0.25], [0.75]]), np.ones(1)) == 0.75
    assert pareto.hypervolume(risks, np.zeros(2)) == 0.0


def test_the_volume_of_three_objectives_agrees_with_random_points():
    risks = on_sphere(0, 30, 3)
    points = np.random.default_rng(1).random((20_000, 3))
    inside = (risks <= points[:, None]).all(axis=2).any(axis=1).mean()
    error = np.sqrt(inside * (1 - inside) / len(points))
    assert abs(pareto.hypervolume(risks, np.ones(3)) - inside) < 4 * error
    kept = risks[:20]
    assert pareto.hypervolume(kept, np.ones(3)) <= pareto.hypervolume(risks, np.ones(3))


# Errors.


@pytest.mark.parametrize(
    "risks", [np.zeros(3), np.zeros((3, 0)), np.zeros((1, 1, 1)), np.full((2, 2), np.nan)]
)
def test_what_is_no_array_of_risks_is_refused(risks):
    C = np.zeros(2)
    calls = (
        lambda: pareto.non_dominated(risks),
        lambda: pareto.epsilon_filter(risks, C, np.array([0])),
        lambda: pareto.weak_violation(risks, np.zeros((1, 2)), C),
        lambda: pareto.forward_distance(np.zeros((1, 2)), risks),
        lambda: pareto.backward_distance(risks, np.zeros((1, 2))),
        lambda: pareto.hausdorff(risks, risks),
        lambda: pareto.hypervolume(risks, np.ones(2)),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"Risks|risks"):
            call()


def test_sets_that_do_not_fit_are_refused():
    for other in (np.zeros((0, 2)), np.zeros((4, 3))):
        with pytest.raises(ValueError, match="same objectives"):
            pareto.hausdorff(np.zeros((4, 2)), other)
        with pytest.raises(ValueError, match="same objectives"):
            pareto.weak_violation(np.zeros((4, 2)), other, np.zeros(2))
    for C in (np.zeros(3), np.array(0.1), np.array([0.1, np.nan]), np.array([0.1, -0.1])):
        with pytest.raises(ValueError, match="C has"):
            pareto.epsilon_filter(np.zeros((4, 2)), C, np.arange(4))
    with pytest.raises(ValueError, match="reference"):
        pareto.hypervolume(np.zeros((4, 2)), np.ones(3))

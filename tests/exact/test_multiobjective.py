"""Several objectives: closed forms against samples, estimates against plain loops, bounds held."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq

from replica.kinds.multiobjective import ConvexFront, GaussianGroups, RandomRisks
from replica.multiobjective import probes, problems
from replica.multiobjective.samples import (
    Accepted,
    Estimates,
    Samples,
    drawn_samples,
    estimate_risks,
    mean_of_largest,
)
from replica.theory import deviations, pareto, scalarizations
from replica.theory import gaussian_groups as gaussian

seeds = st.integers(0, 10**6)
DELTA = 0.05
ALL = ["error", "robust_error", "dp_gap", "eo_gap", "cvar"]
Phi = stats.norm.cdf


def generator(seed=0):
    return np.random.default_rng(seed)


# --------------------------------------------------------------------- values of the bounds


def test_the_constants_of_the_finite_class():
    assert deviations.hoeffding(21_780, 4, 1000, 0.05) == pytest.approx(0.0867869, abs=1e-7)
    one, fifty = deviations.hoeffding(400, np.array([1, 50]), 1000, 0.05)
    assert fifty / one == pytest.approx(1.184956, abs=1e-6)


@given(
    H=st.integers(1, 10**5), N=st.integers(1, 50), n=st.integers(1, 10**5),
    other=st.integers(1, 10**5), delta=st.floats(1e-6, 0.5), tail=st.floats(0.01, 1),
)  # fmt: skip
def test_the_tails_at_the_bounds_add_up_to_delta(H, N, n, other, delta, tail):
    """Hoeffding's and DKW's tail is 2exp(-2nc²) on each of H·N, a gap has two of them."""

    def tails(n, c):
        return 2 * math.exp(-2 * n * c**2)

    assert H * N * tails(n, deviations.hoeffding(H, N, n, delta)) == pytest.approx(delta)
    assert H * N * tails(n, tail * deviations.cvar(H, N, n, delta, tail)) == pytest.approx(delta)
    # The two parts of the gap have the same share of δ.
    parts = [math.sqrt(math.log(4 * H * N / delta) / (2 * size)) for size in (n, other)]
    assert sum(H * N * tails(*own) for own in zip((n, other), parts, strict=True)) == pytest.approx(
        delta
    )
    found = deviations.rate_gap(H, N, (n, other), delta)
    assert found == pytest.approx(sum(parts))


def test_a_gap_to_an_empty_group_has_the_trivial_bound():
    found = deviations.rate_gap(
        1, 1, (np.array([0, 100, 0, 10**6]), np.array([9, 0, 0, 10**6])), 0.1
    )
    assert found[:3].tolist() == [1.0, 1.0, 1.0] and found[3] < 0.01


def test_the_bounds_that_count_no_hypotheses():
    n, N = 1000, 4
    # Sauer: at most (en/d)^d sets; with their negatives twice as many. Massart: √(2 log(count) / n).
    count = 2 * (math.e * n / 3) ** 3
    wanted = 2 * math.sqrt(2 * math.log(count) / n) + math.sqrt(math.log(N / DELTA) / (2 * n))
    assert deviations.vc(3, N, n, DELTA) == pytest.approx(wanted)
    # Four events, each with δ/4N. The tail of McDiarmid is exp(-2t² / Σ c²).
    share, draws = DELTA / (4 * N), 3

    def mcdiarmid(*differences):
        return math.sqrt(math.log(1 / share) * math.fsum(c**2 for c in differences) / 2)

    supremum = mcdiarmid(*[1 / n] * n)
    complexity = mcdiarmid(*[1 / n] * n)
    mean = mcdiarmid(*[2 / (n * draws)] * (n * draws))
    wanted = 2 * (0.1 + mean + complexity) + supremum
    assert deviations.rademacher(0.1, N, n, draws, DELTA) == pytest.approx(wanted)


# ------------------------------------------------------------------ R5: the counter-example


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (5, 2)])
def test_the_probability_of_a_bad_front_over_all_outcomes(n, m):
    bad = Fraction(0)
    for counts in itertools.product(range(n + 1), repeat=m + 1):
        if min(counts[1:]) < counts[0]:
            bad += Fraction(math.prod(math.comb(n, k) for k in counts), 2 ** (n * (m + 1)))
    assert deviations.tie_broken_wrongly(n, m) == pytest.approx(float(bad), abs=1e-14)


def test_two_hypotheses_have_a_closed_form():
    for n in (1, 2, 3, 10, 100, 1000, 5000):
        ties = Fraction(math.comb(2 * n, n), 4**n)
        wanted = float((1 - ties) / 2)
        assert deviations.tie_broken_wrongly(n, 1) == pytest.approx(wanted, abs=1e-12)


def test_the_probability_grows_with_n_to_its_limit():
    m = np.array([1, 5, 50])
    sizes = [*range(1, 60), 100, 300, 10**3, 10**4, 10**5, 10**6, 10**7]
    found = np.array([deviations.tie_broken_wrongly(n, m) for n in sizes])
    assert (np.diff(found, axis=0) > 0).all()
    assert (found < m / (m + 1)).all()
    assert found[-1] == pytest.approx(m / (m + 1), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 5, 50])
@pytest.mark.parametrize("n", [30, 1000])
def test_the_counter_example_is_as_bad_as_computed(n, m):
    """Through the problem and its empirical Pareto sets, not through the counts."""
    problem, stream = problems.counterexample(m, DELTA), generator(100 * m + n)
    optimal = pareto.non_dominated(problem.risks)
    assert optimal.tolist() == [True] + [False] * m
    bad = []
    for _ in range(1000):
        rows, _ = probes.fronts(problem.risks, problem.draw(n, stream), optimal)
        assert rows[0]["e_fwd"] == 0 and rows[0]["e_bwd"] in (0, 0.5)
        bad.append(rows[0]["e_bwd"] > 0)
    exact = float(deviations.tie_broken_wrongly(n, m))
    assert abs(np.mean(bad) - exact) < 4 * math.sqrt(exact * (1 - exact) / len(bad))


@pytest.mark.parametrize("m", [1, 5, 50])
def test_the_counter_example_reaches_its_limit(m):
    counts = generator(m).binomial(10**6, 0.5, size=(20_000, m + 1))
    limit = m / (m + 1)
    bad = (counts[:, 1:].min(1) < counts[:, 0]).mean()
    # Ties of two counts have a probability of 1/√(πn), 0.0006.
    assert abs(bad - limit) < 4 * math.sqrt(limit * (1 - limit) / 20_000) + 0.001 * m / (m + 1)


@pytest.mark.parametrize("m", [1, 5, 50])
def test_the_filter_leaves_no_bad_point_once_2c_is_below_a_half(m):
    problem, stream = problems.counterexample(m, DELTA), generator(m)
    optimal = pareto.non_dominated(problem.risks)
    last = math.ceil(8 * math.log(2 * (m + 1) * 2 / DELTA))
    bad = kept = 0
    for n in (last + 1, 2 * last, 10**4):
        for _ in range(200):
            found = problem.draw(n, stream)
            assert 2 * found.C.max() < 0.5
            (plain, filtered), _ = probes.fronts(problem.risks, found, optimal)
            bad += plain["e_bwd"] > 0
            if plain["event"]:
                assert filtered["e_bwd"] == filtered["e_two"] == 0 and filtered["kept"] == 1
    assert bad > 150
    # With fewer samples it has no effect.
    for _ in range(50):
        found = problem.draw(last // 2, stream)
        (plain, filtered), _ = probes.fronts(problem.risks, found, optimal)
        kept += plain["e_bwd"] > 0 and filtered["e_bwd"] > 0
    assert kept > 10


# ----------------------------------------------------------------- scalarizations: R2, R3


def norm_of(family, weighted):
    p = {"linear": 1, "Tchebycheff": math.inf, "l_1.5": 1.5, "l_2": 2, "l_4": 4}[family]
    return np.linalg.norm(weighted, ord=p, axis=-1)


@pytest.mark.parametrize("family", scalarizations.FAMILIES)
def test_a_scalarization_is_the_norm_of_weighted_objectives(family):
    stream = generator(1)
    weights, values = scalarizations.drawn_weights(7, 4, stream), stream.random((9, 4))
    found = scalarizations.scalarize(family, weights, values)
    assert found == pytest.approx(norm_of(family, weights[:, None] * values), abs=1e-14)
    # All weights of a sum of 1, uniformly: each has the mean 1/N and the variance (N-1)/N²(N+1).
    many = scalarizations.drawn_weights(20_000, 4, stream)
    assert many.min() >= 0 and many.sum(1) == pytest.approx(1)
    assert many.mean(0) == pytest.approx(0.25, abs=0.006)
    assert many.var(0) == pytest.approx(3 / 80, rel=0.05)


@pytest.mark.parametrize("family", scalarizations.FAMILIES)
@pytest.mark.parametrize("N", [1, 2, 5])
def test_scalarized_deviations_are_at_most_those_of_the_objectives(family, N):
    stream = generator(N)
    for _ in range(10):
        scale = 10.0 ** stream.integers(-3, 2, size=(1000, N))
        a, b = stream.random((2, 1000, N)) * scale
        b[::5] = a[::5] * (1 - 1e-9)
        weights = scalarizations.drawn_weights(1, N, stream)

        def U(values, weights=weights):
            return scalarizations.scalarize(family, weights, values)[0]

        assert (np.abs(U(a) - U(b)) <= U(np.abs(a - b)) + 1e-12).all()
        assert (U(np.minimum(a, b)) <= U(a) + 1e-12).all()


def test_a_product_is_no_scalarization_of_the_statement():
    a, b = generator(0).random((2, 1000, 2)) * 0.1 + 0.9
    assert (np.abs(a.prod(1) - b.prod(1)) > np.abs(a - b).prod(1) + 1e-3).mean() > 0.5


def test_unit_weights_attain_the_bound():
    problem = problems.problems(RandomRisks(kind="random", hypotheses=40, objectives=[3], scale=0.05),
                            DELTA, 0, generator(3))[0]  # fmt: skip
    found = problem.draw(50, generator(4))
    gap = np.abs(problem.risks - found.risks)
    rows = probes.scalarizations(problem.risks, found, np.eye(3), [1, 2, 3])
    for row in rows:
        if row["family"] == "any":
            assert row["max_ratio"] == (gap / found.C).max() and row["max_gap"] == gap.max()
        else:
            largest = gap.max(0)[: row["S"]]
            assert row["max_gap"] == pytest.approx(largest.max(), abs=1e-15)
            assert row["max_ratio"] == pytest.approx((largest / found.C[: row["S"]]).max())


def test_no_scalarization_exceeds_the_exact_maximum_and_more_weights_approach_it():
    problem = problems.problems(RandomRisks(kind="random", hypotheses=40, objectives=[3], scale=0.05),
                            DELTA, 0, generator(3))[0]  # fmt: skip
    found = problem.draw(50, generator(4))
    uneven = Estimates(found.risks, np.array([0.1, 0.2, 0.3]), np.full(3, 50), math.nan)
    weights = scalarizations.drawn_weights(3000, 3, generator(5))
    rows = probes.scalarizations(problem.risks, uneven, weights, [1, 10, 100, 3000])
    exact = rows[-1]["max_ratio"]
    for family in scalarizations.FAMILIES:
        own = [row["max_ratio"] for row in rows if row["family"] == family]
        assert own == sorted(own) and own[-1] <= exact + 1e-12
        assert own[-1] > 0.9 * exact
        # The same by hand.
        U = [norm_of(family, weights[:10, None] * v) for v in (problem.risks, found.risks)]
        ratio = np.abs(U[0] - U[1]).max(1) / norm_of(family, weights[:10] * uneven.C)
        assert own[1] == pytest.approx(ratio.max())


def test_the_excess_is_that_of_the_minimiser_of_the_estimates():
    problem = problems.problems(RandomRisks(kind="random", hypotheses=30, objectives=[3], scale=0.05),
                            DELTA, 0, generator(3))[0]  # fmt: skip
    found, weights = (
        problem.draw(20, generator(4)),
        scalarizations.drawn_weights(6, 3, generator(5)),
    )
    rows = probes.excess(problem.risks, found, weights)
    assert len(rows) == 12
    for row in rows:
        own = weights[row["weight_id"]]
        true, seen = (norm_of(row["family"], own * v) for v in (problem.risks, found.risks))
        assert row["excess"] == pytest.approx(true[seen.argmin()] - true.min(), abs=1e-14)
        assert row["bound"] == pytest.approx(2 * norm_of(row["family"], own * found.C))
    assert max(row["excess"] for row in rows) > 0


# ---------------------------------------------------------------------- closed forms of G2


def single(w, b=(0.0, 0.0)):
    return gaussian.Classifiers(np.array([w], dtype=float), np.array([b], dtype=float))


def test_the_values_of_the_first_direction():
    found = gaussian.risks(gaussian.groups(0.3), single((1, 0)), ALL[:4], 0.25, 0.1)[0]
    wanted = [Phi(-1), Phi(-0.75), 0.2 * (2 * Phi(1) - 1), 0]
    assert found == pytest.approx(wanted, abs=1e-11)
    assert found == pytest.approx([0.158655, 0.226627, 0.136538, 0], abs=1e-6)


def flat_grid():
    classifiers = gaussian.grid(180, 121)
    risks = gaussian.risks(
        gaussian.flat(2.5, 0.3), classifiers, ["error", "dp_gap", "eo_gap"], 0, 1
    )
    return classifiers, risks


def test_the_flat_end_of_the_flat_front():
    classifiers, risks = flat_grid()
    error, dp, eo = risks.T
    best = np.flatnonzero(error == error.min())
    assert len(best) == 2 and error.min() == pytest.approx(0.318705, abs=1e-6)
    w, b = classifiers.w[best // 121], classifiers.b[best % 121, 0]
    assert w[0] == pytest.approx(w[1] * [1, -1])
    assert np.degrees(np.arctan2(*w.T[::-1])) % 360 == pytest.approx([76, 284])
    assert b == pytest.approx([-1.5, -1.5])
    low, high = sorted(best, key=lambda h: dp[h])
    assert dp[[low, high]] == pytest.approx([0.083522, 0.337971], abs=1e-6)
    assert dp[high] - dp[low] == pytest.approx(0.254449, abs=1e-6)
    assert eo[[low, high]] == pytest.approx([0.462021] * 2, abs=1e-6) and eo[low] == eo[high]
    # Only the better one is Pareto-optimal; the other one is as far from the front as it lies above.
    front = pareto.non_dominated(risks[:, :2])
    assert front[low] and not front[high]
    far = pareto.backward_distance(risks[front, :2], risks[[high], :2])
    assert 0.1 < far <= dp[high] - dp[low]


def test_mirrored_classifiers_of_the_flat_bed_have_equal_errors():
    _, risks = flat_grid()
    grid = risks.reshape(180, 121, 3)
    mirrored = grid[-np.arange(180) % 180]
    # A value in the middle of two roundings may go to either.
    assert np.abs(grid[..., 0] - mirrored[..., 0]).max() < 1.5e-12
    assert (grid[..., 0] == mirrored[..., 0]).mean() > 0.999
    assert np.abs(grid[..., 1] - mirrored[..., 1]).max() > 0.2
    # Also between the angles of a grid.
    w = generator(0).standard_normal((200, 2))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    b = np.repeat(generator(1).uniform(-3, 3, (5, 1)), 2, axis=1)
    cells = gaussian.flat(2.5, 0.3)
    plain, other = (
        gaussian.error(cells, gaussian.score_means(cells, gaussian.Classifiers(w * signs, b)))
        for signs in ([1, 1], [1, -1])
    )
    assert plain == pytest.approx(other, abs=1e-12)


def drawn(name, count, seed, share=0.3):
    """x, y, groups and the index of the offset, straight from the definition of a problem."""
    stream = generator(seed)
    if name == "groups":
        a = (stream.random(count) < share).astype(int)
        y = (stream.random(count) < np.where(a == 1, 0.6, 0.4)).astype(int)
        mean = np.stack([2 * y - 1, 2 * a - 1], 1)
        group = a
    else:
        y, a = stream.integers(2, size=(2, count))
        z = 2 * a - 1
        mean = np.stack([0.3 * (2 * y - 1), y * z * 2.5], 1)
        rate = np.where(y == 0, 0.3, np.where(z == 1, 0.9, 0.4))
        group = (stream.random(count) < rate).astype(int)
    return mean + stream.standard_normal((count, 2)), y, group, a


def within(found, value, spread):
    """Whether an estimate is within 4 standard errors, and the error is no free pass."""
    assert spread < 0.02
    assert abs(found - value) <= 4 * spread, (found, value, spread)


CASES = [("groups", share) for share in (0.5, 0.3, 0.1, 0.02)] + [("flat", None)]


@pytest.mark.parametrize(("name", "share"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_closed_forms_agree_with_plain_simulation(name, share, seed):
    count, shift, tail = 200_000, 0.25, 0.1
    cells = gaussian.groups(share) if name == "groups" else gaussian.flat(2.5, 0.3)
    x, y, group, a = drawn(name, count, seed, share)
    stream = generator(seed + 10)
    for case in range(4):
        angle, b = stream.uniform(0, 2 * np.pi), stream.uniform(-1.5, 1.5, 2)
        if case < 2 or name == "flat":
            b[1] = b[0]
        w = np.array([np.cos(angle), np.sin(angle)])
        m = gaussian.score_means(cells, gaussian.Classifiers(w[None], b[None]))
        offset = b[a]
        accepted = x @ w + offset > 0
        wrong = accepted != y
        within(wrong.mean(), gaussian.error(cells, m)[0], wrong.std() / count**0.5)
        # The worst shift of a sample is against its class, along w.
        moved = (x - shift * np.outer(2 * y - 1, w)) @ w + offset > 0
        fooled = moved != y
        within(fooled.mean(), gaussian.error(cells, m, shift)[0], fooled.std() / count**0.5)
        for found, members in ((gaussian.dp_gap, y >= 0), (gaussian.eo_gap, y == 1)):
            rates = [accepted[members & (group == g)] for g in (0, 1)]
            spread = math.sqrt(sum(max(r.var(), 1e-4) / len(r) for r in rates))
            within(abs(rates[1].mean() - rates[0].mean()), found(cells, m)[0], spread)
        margin = (2 * y - 1) * (x @ w + offset)
        losses = np.sort(np.clip((1 - margin) / 2, 0, 1))
        largest = losses[-round(tail * count) :]
        excess = np.maximum(losses - largest[0], 0) / tail
        spread = max(excess.std() / count**0.5, 1e-5)
        within(largest.mean(), gaussian.cvar(cells, m, tail)[0], spread)


def test_no_other_shift_of_this_length_is_worse():
    x, y, _, _ = drawn("groups", 3000, 0)
    w = np.array([np.cos(1.1), np.sin(1.1)])
    fooled = ((x - 0.25 * np.outer(2 * y - 1, w)) @ w + 0.2 > 0) != y
    angles = np.linspace(0, 2 * np.pi, 500)
    others = 0.25 * np.stack([np.cos(angles), np.sin(angles)], 1) @ w
    any_fooled = (((x @ w + 0.2)[:, None] + others > 0) != y[:, None]).any(1)
    assert not (any_fooled & ~fooled).any() and (any_fooled == fooled).mean() > 0.999


@given(seed=seeds, tail=st.floats(0.02, 1))
@settings(max_examples=40)
def test_the_mean_of_the_largest_losses_agrees_with_quadrature(seed, tail):
    stream = generator(seed)
    cells = gaussian.groups(stream.uniform(0.02, 0.98))
    m = stream.uniform(-4, 4, (1, 2, 2))

    def above(t):
        """P(loss > t): the margin is below 1 - 2t."""
        return sum(
            cells.prior[y, a] * stats.norm.cdf(1 - 2 * t, (2 * y - 1) * m[0, y, a])
            for y in (0, 1)
            for a in (0, 1)
        )

    corner = brentq(lambda t: above(t) - tail, 0, 1) if above(0) > tail > above(1) else 0.5
    pieces = [
        quad(lambda t: min(1.0, above(t) / tail), *ends)[0] for ends in ((0, corner), (corner, 1))
    ]
    found = gaussian.cvar(cells, m, tail)[0]
    assert found == pytest.approx(sum(pieces), abs=1e-7)
    # The largest losses are at least the mean of all.
    assert found >= gaussian.cvar(cells, m, 1.0)[0] - 1e-12


def test_losses_of_0_and_1_have_the_mean_of_their_share():
    """By the closed form, and of samples: min(1, p / tail)."""
    cells = gaussian.groups(0.3)
    certain = np.array([[[-50.0, -50.0], [50.0, -50.0]]])
    p = 0.3 * 0.6
    for tail in (0.01, 0.1, p, 0.3, 1.0):
        assert gaussian.cvar(cells, certain, tail)[0] == pytest.approx(min(1, p / tail), abs=1e-9)
    samples = drawn_samples(cells, 57, generator(0))
    large = Samples(1e9 * samples.x, samples.y, samples.g)
    classifiers = gaussian.grid(7, 3)
    wrong = naive(samples, gaussian.Classifiers(classifiers.w, 0 * classifiers.b))[1]
    share = wrong.mean(1)
    for tail in (0.01, 0.1, 0.25, 1.0):
        found = mean_of_largest(large, classifiers, tail)
        assert found == pytest.approx(np.minimum(1, share / tail), abs=1e-8)


def test_certain_risks():
    """A classifier that accepts nothing errs on all positives and has no gaps."""
    far = single((1, 0), (-1e3, -1e3))
    for cells in (gaussian.groups(0.1), gaussian.flat(2.5, 0.3)):
        found = gaussian.risks(cells, far, ALL, 0.25, 0.1)[0]
        assert found == pytest.approx([cells.prior[1].sum()] * 2 + [0, 0, 1])


# ------------------------------------------------------------- estimates against plain loops


def naive(samples, classifiers, shift=0.0):
    """Accepted and wrong (H, n), with the attack of this length where there is a shift."""
    accepted, wrong = [], []
    for w in classifiers.w:
        for b in classifiers.b:
            row, miss = [], []
            for x, y, g in zip(samples.x, samples.y, samples.g, strict=True):
                score = x[0] * w[0] + x[1] * w[1] + b[g]
                worst = score + shift if y == 0 else score - shift
                row.append(int(score > 0))
                miss.append(int((worst > 0) != (y == 1)))
            accepted.append(row)
            wrong.append(miss)
    return np.array(accepted), np.array(wrong)


def naive_cvar(samples, classifiers, tail):
    found = []
    n = len(samples.y)
    for w in classifiers.w:
        for b in classifiers.b:
            losses = []
            for x, y in zip(samples.x, samples.y, strict=True):
                margin = (2 * y - 1) * (x[0] * w[0] + x[1] * w[1] + b[0])
                losses.append(min(1.0, max(0.0, (1 - margin) / 2)))
            left, total = tail * n, 0.0
            for loss in sorted(losses, reverse=True):
                total += min(1.0, left) * loss
                left = max(0.0, left - 1)
            found.append(total / (tail * n))
    return np.array(found)


def naive_gap(accepted, members):
    rates = []
    for g in members:
        rows = [row[g] for row in accepted]
        rates.append([sum(row) / len(row) if len(row) else 0.0 for row in rows])
    return np.abs(np.subtract(*rates))


def classifiers_of(stream, by_group):
    if by_group:
        return gaussian.thresholds(int(stream.integers(2, 5)))
    return gaussian.grid(int(stream.integers(1, 6)), int(stream.integers(2, 6)))


@pytest.mark.slow
@given(seed=seeds, n=st.integers(1, 60), by_group=st.booleans(), flat=st.booleans())
@settings(max_examples=150)
def test_estimates_are_those_of_plain_loops(seed, n, by_group, flat):
    stream = generator(seed)
    share, shift, tail = stream.choice([0.02, 0.3, 0.5]), stream.random(), stream.uniform(0.01, 1)
    cells = gaussian.flat(2.5, 0.3) if flat else gaussian.groups(share)
    classifiers = classifiers_of(stream, by_group)
    names = ALL[:4] if by_group else ALL
    H, N, signs = len(classifiers), len(names), 2
    same = generator(seed + 1)
    found = estimate_risks(cells, classifiers, names, n, generator(seed + 1), shift=shift, tail=tail,
                           delta=DELTA, signs=signs)  # fmt: skip
    samples = drawn_samples(cells, n, same)
    accepted, wrong = naive(samples, classifiers)
    everyone = [np.flatnonzero(samples.g == g) for g in (0, 1)]
    positive = [np.flatnonzero((samples.g == g) & (samples.y == 1)) for g in (0, 1)]
    wanted = {
        "error": wrong.mean(1),
        "robust_error": naive(samples, classifiers, shift)[1].mean(1),
        "dp_gap": naive_gap(accepted, everyone),
        "eo_gap": naive_gap(accepted, positive),
    }
    mean = math.sqrt(math.log(2 * H * N / DELTA) / (2 * n))
    bounds = {"error": mean, "robust_error": mean, "cvar": mean / tail}
    for name, members in (("dp_gap", everyone), ("eo_gap", positive)):
        sizes = [len(rows) for rows in members]
        parts = [math.log(4 * H * N / DELTA) / (2 * size) for size in sizes if size]
        bounds[name] = sum(map(math.sqrt, parts)) if len(parts) == 2 else 1.0
    if not by_group:
        wanted["cvar"] = naive_cvar(samples, classifiers, tail)
    for i, name in enumerate(names):
        assert found.risks[:, i] == pytest.approx(wanted[name], abs=1e-12), name
        assert found.C[i] == pytest.approx(min(1, bounds[name])), name
    smallest = {"dp_gap": min(map(len, everyone)), "eo_gap": min(map(len, positive))}
    assert found.counts.tolist() == [smallest.get(name, n) for name in names]
    sigmas = same.choice([-1.0, 1.0], size=(signs, n))
    sums = [max(sum(s * w for s, w in zip(sigma, row, strict=True)) for row in wrong) / n
            for sigma in sigmas]  # fmt: skip
    assert found.complexity == pytest.approx(np.mean(sums), abs=1e-12)
    alone = estimate_risks(cells, classifiers, ["error"], n, generator(seed + 1), shift=shift,
                           tail=tail, delta=DELTA, signs=0)  # fmt: skip
    assert alone.counts.tolist() == [n] and math.isnan(alone.complexity)


@given(seed=seeds, n=st.integers(1, 40), by_group=st.booleans())
@settings(max_examples=50)
def test_accepted_samples_and_signed_errors_are_counted_one_by_one(seed, n, by_group):
    stream = generator(seed)
    classifiers = classifiers_of(stream, by_group)
    samples = drawn_samples(gaussian.groups(0.3), n, stream)
    own, (accepted, wrong) = Accepted(samples, classifiers), naive(samples, classifiers)
    weights = stream.standard_normal(n)
    for y, g in itertools.product((0, 1), repeat=2):
        rows = (samples.y == y) & (samples.g == g)
        assert own.counts()[y, g].tolist() == accepted[:, rows].sum(1).tolist()
        weighted = accepted[:, rows] @ weights[rows]
        assert own.counts(weights=weights)[y, g] == pytest.approx(weighted, abs=1e-12)
    assert own.signed_errors(weights) == pytest.approx(wrong @ weights, abs=1e-12)


@pytest.mark.parametrize("tail", [0.001, 0.1, 0.3, 0.5, 0.987, 1.0])
@pytest.mark.parametrize("n", [1, 2, 57, 200])
def test_the_mean_of_the_largest_losses_is_that_of_its_definition(tail, n):
    samples = drawn_samples(gaussian.groups(0.3), n, generator(n))
    classifiers = gaussian.grid(9, 4)
    found = mean_of_largest(samples, classifiers, tail)
    assert found == pytest.approx(naive_cvar(samples, classifiers, tail), abs=1e-12)
    # Of one class alone.
    alone = Samples(samples.x, 0 * samples.y, samples.g)
    found = mean_of_largest(alone, classifiers, tail)
    assert found == pytest.approx(naive_cvar(alone, classifiers, tail), abs=1e-12)


@pytest.mark.parametrize("name", ["groups", "flat"])
def test_samples_have_the_distribution_of_their_problem(name):
    cells = gaussian.groups(0.3) if name == "groups" else gaussian.flat(2.5, 0.3)
    count = 100_000
    samples = drawn_samples(cells, count, generator(0))
    x, y, group, _ = drawn(name, count, 1)
    for own_y, own_g in itertools.product((0, 1), repeat=2):
        first = samples.x[(samples.y == own_y) & (samples.g == own_g)]
        second = x[(y == own_y) & (group == own_g)]
        p = len(second) / count
        assert abs(len(first) - len(second)) < 4 * math.sqrt(2 * count * p * (1 - p))
        for axis in (0, 1):
            assert stats.ks_2samp(first[:, axis], second[:, axis]).pvalue > 1e-4


@pytest.mark.parametrize("n", [64, 1000])
@pytest.mark.parametrize("name", ["groups", "flat"])
def test_equal_gaps_of_rates_are_equal_numbers(name, n):
    """The Pareto set of the estimates is the one of whole numbers: no ties broken by rounding."""
    cells = gaussian.groups(0.3) if name == "groups" else gaussian.flat(2.5, 0.3)
    classifiers = gaussian.grid(60, 41)
    for seed in range(20):
        found = estimate_risks(cells, classifiers, ["error", "dp_gap"], n, generator(seed), shift=0,
                               tail=1, delta=DELTA, signs=0)  # fmt: skip
        samples = drawn_samples(cells, n, generator(seed))
        counts = Accepted(samples, classifiers).counts()
        sizes = [int((samples.g == g).sum()) for g in (0, 1)]
        first, second = counts.sum(0)
        gap = np.abs(second * sizes[0] - first * sizes[1])
        errors = counts[0].sum(0) + (samples.y == 1).sum() - counts[1].sum(0)
        exact = pareto.non_dominated(np.stack([errors, gap], 1))
        assert np.array_equal(pareto.non_dominated(found.risks), exact), seed


# -------------------------------------------------------------------- samples that are needed


def inside(L, n, tolerance):
    """P(|Bin(n, L)/n - L| <= tolerance), in whole numbers."""
    total = Fraction(0)
    for k in range(n + 1):
        if abs(Fraction(k, n) - L) <= tolerance:
            total += math.comb(n, k) * L**k * (1 - L) ** (n - k)
    return total


@pytest.mark.parametrize("tolerance", [Fraction(1, 10), Fraction(1, 5), Fraction(1, 4)])
def test_the_samples_needed_are_those_of_whole_numbers(tolerance):
    risks = [[Fraction(1, 2), Fraction(1, 5)], [Fraction(3, 10), Fraction(1, 10)]]
    delta, wanted = Fraction(1, 5), [0, 0]
    for n in range(1, 200):
        together = Fraction(1)
        for i in (0, 1):
            together *= math.prod(inside(row[i], n, tolerance) for row in risks)
            if not wanted[i] and together >= 1 - delta:
                wanted[i] = n
        if all(wanted):
            break
    found = deviations.samples_needed(
        np.array(risks, dtype=float), float(tolerance), float(delta), np.arange(1, 200)
    )
    assert found.tolist() == wanted and wanted[1] > wanted[0] > 1


def test_the_joint_probability_is_a_product():
    """All outcomes of three estimates, from one to six samples."""
    L, tolerance = [0.5, 0.2, 0.7], 0.3
    for n in range(1, 7):
        joint = 0.0
        for counts in itertools.product(range(n + 1), repeat=3):
            if all(abs(k / n - p) <= tolerance + 1e-12 for k, p in zip(counts, L, strict=True)):
                joint += math.prod(stats.binom.pmf(k, n, p) for k, p in zip(counts, L, strict=True))
        for delta, enough in ((1 - joint + 1e-9, True), (1 - joint - 1e-9, False)):
            arguments = np.array([[*L]]).T, tolerance, delta, np.array([n])
            if enough:
                assert deviations.samples_needed(*arguments).tolist() == [n]
            else:
                with pytest.raises(ValueError, match=f"More than {n} samples"):
                    deviations.samples_needed(*arguments)


def test_the_samples_needed_are_enough_in_a_simulation():
    stream = generator(0)
    risks, tolerance, repeats = stream.uniform(0.1, 0.9, (10, 3)), 0.1, 4000
    sizes = np.arange(5, 2001, 5)
    needed = deviations.samples_needed(risks, tolerance, DELTA, sizes)
    assert (np.diff(needed) >= 0).all()
    for N, n in enumerate(needed, start=1):
        for size in (n, n - 5):
            found = stream.binomial(size, risks[:, :N], size=(repeats, 10, N)) / size
            held = (np.abs(found - risks[:, :N]).max((1, 2)) <= tolerance + 1e-9).mean()
            slack = 4 * math.sqrt(DELTA * (1 - DELTA) / repeats)
            assert held > 1 - DELTA - slack if size == n else held < 1 - DELTA + slack


# --------------------------------------------------------------------------- test problems


def test_the_risks_of_the_beds():
    j = np.arange(6)
    for s in (0, 0.1):
        problem = problems.sloped(s, 5, DELTA)
        assert problem.risks == pytest.approx(np.stack([0.4 + s * j / 5, j / 10], 1))
        assert pareto.non_dominated(problem.risks).tolist() == [True] + [False] * 5
    convex = ConvexFront(kind="convex", points=41, copies=3, scale=0.05)
    problem = problems.problems(convex, DELTA, 0, generator(0))[0]
    t = np.arange(41) / 40
    assert problem.risks[:41] == pytest.approx(0.1 + 0.4 * np.stack([t**2, (1 - t) ** 2], 1))
    assert pareto.non_dominated(problem.risks).tolist() == [True] * 41 + [False] * 123
    shifts = problem.risks[41:] - np.tile(problem.risks[:41], (3, 1))
    assert shifts.min() > 0 and shifts.mean() == pytest.approx(0.05, rel=0.3)


def test_the_random_class_has_the_same_law_in_all_objectives():
    problem = RandomRisks(kind="random", hypotheses=4000, objectives=[1, 2, 7], scale=0.05)
    few, more, most = problems.problems(problem, DELTA, 0, generator(0))
    assert most.risks.shape == (4000, 7) and most.risks.max() <= 1
    assert np.array_equal(few.risks, most.risks[:, :1])
    assert np.array_equal(more.risks, most.risks[:, :2])
    # 1 - u of Dirichlet(1, 1, 1) has the density 2v: the mean of v² is 1/2.
    assert most.risks.mean(0) == pytest.approx([0.15 + 0.3 / 2 + 0.05] * 7, abs=0.008)
    assert most.risks.min() >= 0.15
    for i in range(1, 7):
        assert stats.ks_2samp(most.risks[:, 0], most.risks[:, i]).pvalue > 1e-3
    # Three objectives share a loss e, and their u have the sum 1: Σ√((L - 0.15 - e)/0.3) = 2.
    own, e = most.risks[0, :3], np.linspace(0, most.risks[0].min() - 0.15, 10**5)
    sums = np.sqrt(np.maximum(own[:, None] - 0.15 - e, 0) / 0.3).sum(0)
    assert np.abs(sums - 2).min() < 1e-3


def test_estimates_of_a_problem_are_binomial():
    problem, stream = problems.sloped(0.1, 4, DELTA), generator(0)
    found = np.array([problem.draw(20, stream).risks for _ in range(4000)])
    L = problem.risks[:, 0]
    assert np.array_equal(found[:, :, 1], np.tile(problem.risks[:, 1], (4000, 1)))
    assert (np.abs(found[..., 0].mean(0) - L) < 4 * np.sqrt(L * (1 - L) / 20 / 4000)).all()
    assert found[..., 0].var(0) == pytest.approx(L * (1 - L) / 20, rel=0.1)
    counts = found[..., 0] * 20
    assert np.abs(counts - counts.round()).max() < 1e-12
    off = np.corrcoef(found[..., 0].T)[np.triu_indices(5, 1)]
    assert np.abs(off).max() < 4 / 4000**0.5
    C = math.sqrt(math.log(2 * 5 * 2 / DELTA) / 40)
    assert problem.draw(20, stream).C == pytest.approx([C, C])


def test_on_the_level_problem_the_mean_backward_error_tends_to_a_quarter():
    problem, stream, repeats = problems.sloped(0, 50, DELTA), generator(0), 1500
    optimal = pareto.non_dominated(problem.risks)
    far = [probes.fronts(problem.risks, problem.draw(10**8, stream), optimal)[0][0]["e_bwd"]
           for _ in range(repeats)]  # fmt: skip
    # The smallest estimate is uniform on 0, ..., m.
    spread = np.std(np.arange(51) / 100)
    assert abs(np.mean(far) - 0.25) < 4 * spread / repeats**0.5
    assert np.std(far) == pytest.approx(spread, rel=0.1)


def small_problems():
    convex = ConvexFront(kind="convex", points=11, copies=2, scale=0.05)
    random = RandomRisks(kind="random", hypotheses=30, objectives=[3], scale=0.05)
    groups = GaussianGroups(kind="gaussian", shares=[0.3], objectives=ALL, angles=8, offsets=5,
                            shift=0.25, tail=0.3)  # fmt: skip
    pairs = GaussianGroups(kind="gaussian", shares=[0.3], objectives=ALL[:3], offsets=6,
                           by_group=True, shift=0.25)  # fmt: skip
    made = {name: problems.problems(problem, DELTA, 3 * (name == "groups"), generator(0))[0] for name, problem in
            [("convex", convex), ("random", random), ("groups", groups), ("pairs", pairs)]}  # fmt: skip
    return made | {"level": problems.sloped(0, 20, DELTA), "slope": problems.sloped(0.1, 20, DELTA),
                   "ties": problems.counterexample(5, DELTA)}  # fmt: skip


PROBLEMS = small_problems()


@pytest.mark.parametrize("name", PROBLEMS)
def test_true_risks_are_no_distance_from_themselves(name):
    problem = PROBLEMS[name]
    risks, N = problem.risks, problem.risks.shape[1]
    for C in (0.0, 0.1):
        found = Estimates(risks.copy(), np.full(N, C), np.ones(N), math.nan)
        rows, _ = probes.fronts(risks, found, pareto.non_dominated(risks))
        row = rows[0]
        assert row["e_fwd"] == row["e_bwd"] == row["e_two"] == row["weak_violation"] == 0
        assert row["event"] == 1
        assert not any(
            row["violated"] for row in probes.deviations(problem.objectives, risks, found)
        )
    weights = scalarizations.drawn_weights(5, N, generator(0))
    assert not any(row["excess"] for row in probes.excess(risks, found, weights))
    assert not any(row["max_gap"] for row in probes.scalarizations(risks, found, weights, [5]))


# --------------------------------------------------------------------- the bounds hold


def limit(repeats):
    return DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / repeats)


def consequences(risks, found, optimal, weights):
    """Whether R2, R3, R4 and R6 hold for these estimates and their C."""
    (row, _), _ = probes.fronts(risks, found, optimal)
    ratios = probes.scalarizations(risks, found, weights, [len(weights)])
    excess = probes.excess(risks, found, weights)
    chosen = risks[pareto.non_dominated(found.risks)]
    near = (chosen <= risks[optimal][:, None] + 2 * found.C + 1e-12).all(2).any(1)
    return {
        "R2": max(own["max_ratio"] for own in ratios) <= 1 + 1e-12,
        "R3": all(own["excess"] <= own["bound"] + 1e-12 for own in excess),
        # In each objective with its own C, of which the distance is a consequence.
        "R4": near.all() and row["e_fwd"] <= row["two_c"] + 1e-12,
        "R6": row["weak_violation"] <= 1e-12,
    }


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 300])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_bounds_hold_in_a_thousand_repetitions(name, n):
    problem, stream, repeats = PROBLEMS[name], generator(n), 1000 if name != "pairs" else 300
    risks, broken = problem.risks, 0
    optimal = pareto.non_dominated(risks)
    weights = scalarizations.drawn_weights(5, risks.shape[1], stream)
    failed = dict.fromkeys(("R2", "R3", "R4", "R6"), 0)
    for repeat in range(repeats):
        found = problem.draw(n, stream)
        event = (np.abs(risks - found.risks) <= found.C).all()
        rows = probes.deviations(problem.objectives, risks, found)
        assert rows[-1]["violated"] == (not event)
        broken += not event
        if repeat < 100 or not event:
            held = consequences(risks, found, optimal, weights)
            assert not event or all(held.values()), (repeat, held)
            for key, value in held.items():
                failed[key] += not value
    assert broken <= limit(repeats) * repeats
    assert all(count <= limit(repeats) * repeats for count in failed.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_statements_hold_with_the_smallest_c_and_not_with_less(name):
    """C is what the deviations are, so that nothing is lost; half of it is not enough for all."""
    problem, stream = PROBLEMS[name], generator(7)
    risks, optimal = problem.risks, pareto.non_dominated(problem.risks)
    N = risks.shape[1]
    weights = np.concatenate([np.eye(N), scalarizations.drawn_weights(5, N, stream)])
    less = dict.fromkeys(("R2", "R3", "R4", "R6"), 0)
    for _ in range(100):
        found = problem.draw(40, stream)
        exact = np.abs(risks - found.risks).max(0)
        # What is known exactly has a deviation of 0, and no ratio to it.
        for factor in (1, 0.3):
            C = np.maximum(factor * exact, 1e-9)
            held = consequences(
                risks, Estimates(found.risks, C, found.counts, math.nan), optimal, weights
            )
            assert factor < 1 or all(held.values()), held
            for key, value in held.items():
                less[key] += not value
    assert less["R2"] > 50 and less["R3"] > 0
    if name in ("random", "groups", "convex"):
        assert less["R4"] > 0


def test_bad_points_are_seen_by_the_weak_violation_where_c_is_too_small():
    """A point worse by 0.1 in both objectives than another one, which noise of 0.06 hides."""
    risks = np.array([[0.2, 0.2], [0.3, 0.3]])
    seen = np.array([[0.26, 0.26], [0.24, 0.24]])
    optimal = pareto.non_dominated(risks)
    for C, wanted in ((0.06, 0.0), (0.05, 0.0), (0.03, 0.04)):
        (row, _), front = probes.fronts(
            risks, Estimates(seen, np.full(2, C), np.ones(2), math.nan), optimal
        )
        assert front.tolist() == [1] and row["event"] == (C >= 0.06)
        assert row["weak_violation"] == pytest.approx(wanted, abs=1e-12)
        assert row["e_fwd"] == row["e_bwd"] == pytest.approx(0.1)


def share_above(deviation, bound):
    return np.mean(np.asarray(deviation) > np.asarray(bound) + 1e-12)


def test_a_bound_holds_and_a_part_of_it_does_not():
    """Without the second half the first could not fail."""
    stream, repeats = generator(0), 20_000
    n = 200
    # A mean of one hypothesis, and the largest of 100 independent ones in two objectives.
    mean = np.abs(stream.binomial(n, 0.5, repeats) / n - 0.5)
    bound = deviations.hoeffding(1, 1, n, DELTA)
    assert share_above(mean, bound) <= limit(repeats) < share_above(mean, 0.5 * bound)
    most = np.abs(stream.binomial(n, 0.5, (2000, 100)) / n - 0.5).max(1)
    bound = deviations.hoeffding(50, 2, n, DELTA)
    assert share_above(most, bound) <= limit(2000) < share_above(most, 0.7 * bound)
    # Without the union over objectives the class of 50 fails for 50 times as many.
    many = np.abs(stream.binomial(n, 0.5, (2000, 2500)) / n - 0.5).max(1)
    assert share_above(many, deviations.hoeffding(50, 50, n, DELTA)) <= limit(2000)
    assert share_above(many, deviations.hoeffding(1, 1, n, DELTA)) > 0.9
    # A gap of rates, given the counts of the groups.
    sizes = np.array([stream.binomial(60, 0.3, repeats), np.zeros(repeats, dtype=int)])
    sizes[1] = 60 - sizes[0]
    rates = stream.binomial(sizes, [[0.5], [0.7]]) / np.maximum(sizes, 1)
    gap = np.abs(np.abs(rates[1] - rates[0]) - 0.2)
    bound = deviations.rate_gap(1, 1, (sizes[0], sizes[1]), DELTA)
    assert share_above(gap, bound) <= limit(repeats) < share_above(gap, 0.33 * bound)


def test_the_tail_bound_holds_and_a_part_of_it_does_not():
    """One classifier: the mean of the largest half of its losses."""
    cells, one = gaussian.groups(0.3), single((1, 0), (0.4, 0.4))
    tail, n = 0.5, 80
    truth = gaussian.risks(cells, one, ["cvar"], 0, tail)[0, 0]
    dev = []
    for seed in range(2000):
        # The loss is nearly 0 or 1 where x is far out.
        samples = drawn_samples(cells, n, generator(seed))
        dev.append(abs(mean_of_largest(samples, one, tail)[0] - truth))
    bound = deviations.cvar(1, 1, n, DELTA, tail)
    assert share_above(dev, bound) <= limit(2000) < share_above(dev, 0.25 * bound)


@pytest.mark.slow
def test_bounds_that_count_no_hypotheses_hold_and_a_part_of_them_does_not():
    cells, classifiers, n, repeats = gaussian.groups(0.3), gaussian.grid(12, 9), 400, 1000
    truth = gaussian.risks(cells, classifiers, ["error"], 0, 1)
    dev, complexity = [], []
    for seed in range(repeats):
        found = estimate_risks(cells, classifiers, ["error"], n, generator(seed), shift=0, tail=1,
                               delta=DELTA, signs=3)  # fmt: skip
        dev.append(np.abs(truth - found.risks).max())
        complexity.append(found.complexity)
    vc = deviations.vc(3, 1, n, DELTA)
    empirical = deviations.rademacher(np.array(complexity), 1, n, 3, DELTA)
    assert vc < 0.7 and np.mean(empirical) < 0.5
    for bound in (vc, empirical):
        assert share_above(dev, bound) <= limit(repeats) < share_above(dev, 0.08 * bound)
    # The complexity bounds what it stands for: E max (L - L̂) <= 2R.
    above = []
    for seed in range(repeats):
        found = estimate_risks(cells, classifiers, ["error"], n, generator(seed), shift=0, tail=1,
                               delta=DELTA, signs=0)  # fmt: skip
        above.append((truth - found.risks).max())
    assert np.mean(above) < 2 * np.mean(complexity)

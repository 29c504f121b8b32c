"""Sinks and diagonals: closed forms against solvers, and each solver against another one."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from scipy.special import logsumexp, softmax

from replica.theory import margins, sinks

PATTERNS = ["sink", "diagonal"]
seeds = st.integers(0, 10**6)


def gaussian(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def on_sphere(seed, n, d):
    X = gaussian(seed, n, d)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def smallest_margin(W, X, pattern, causal):
    """Over all queries, from the logits alone."""
    Z = X @ W @ X.T
    found = math.inf
    for i in range(len(X)):
        t = 0 if pattern == "sink" else i
        for j in range(i + 1 if causal else len(X)):
            if j != t:
                found = min(found, Z[i, t] - Z[i, j])
    return found


def stacked(X, pattern, causal):
    """The constraints as rows over the entries of W."""
    found = zip(*margins.constraints(pattern, len(X), causal), strict=True)
    return np.array([np.outer(X[i], X[t] - X[j]).ravel() for i, t, j in found])


# D1: margins and weights.


def test_the_margin_of_sixteen_tokens():
    margin = sinks.sufficient_margin(16, 0.1)
    assert margin == pytest.approx(4.905275, abs=1e-6)
    assert softmax([margin] + [0.0] * 15)[0] == pytest.approx(0.9, abs=1e-14)


@given(seed=seeds, n=st.integers(2, 40), delta=st.floats(1e-6, 0.9))
def test_the_sufficient_margin_suffices_and_the_necessary_one_is_necessary(seed, n, delta):
    logits = gaussian(seed, 1, n)[0] * 3
    logits[0] = logits[1:].max() + sinks.sufficient_margin(n, delta)
    assert softmax(logits)[0] >= 1 - delta - 1e-12
    gap = logits[0] - logsumexp(logits[1:])
    # Any weight is 1 - δ for some δ, and then the necessary margin is met exactly.
    assert sinks.necessary_margin(softmax(logits)[1:].sum()) == pytest.approx(gap, abs=1e-9)
    assert gap >= sinks.necessary_margin(delta) - 1e-9


# The constraints.


def test_the_constraints_of_three_tokens():
    def triples(pattern, causal):
        return list(zip(*map(list, margins.constraints(pattern, 3, causal)), strict=True))

    assert triples("sink", True) == [(1, 0, 1), (2, 0, 1), (2, 0, 2)]
    assert triples("sink", False) == [(i, 0, j) for i in range(3) for j in (1, 2)]
    assert triples("diagonal", True) == [(1, 1, 0), (2, 2, 0), (2, 2, 1)]
    assert triples("diagonal", False) == [
        (i, i, j) for i in range(3) for j in range(3) if i != j
    ]  # fmt: skip
    assert len(margins.constraints("sink", 32, True)[0]) == 496


def test_what_is_not_a_program_is_an_error():
    with pytest.raises(ValueError, match="previous"):
        margins.constraints("previous", 3, True)
    with pytest.raises(ValueError, match="n = 1"):
        margins.minimum_norm(np.ones((1, 3)), "sink", causal=True)
    with pytest.raises(ValueError, match="margin 0"):
        margins.minimum_norm(np.eye(3), "sink", causal=True, margin=0.0)


# D2: alignment.


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_the_condition_is_the_linear_program(causal):
    """Sets nearer than 1e-6 mean norms to the boundary are left to the tolerances, not compared."""
    generator = np.random.default_rng(7)
    compared, possible, skipped = 0, 0, 0
    for _ in range(550):
        n, d = generator.integers(2, 9), generator.integers(1, 4)
        X = generator.standard_normal((n, d))
        X[:, 0] += generator.choice([0, 0.5, 1, 2])
        sink = 0 if generator.random() < 0.7 else int(generator.integers(n))
        queries = X[max(sink, 1) :] if causal else X
        hulls = [queries, np.delete(X, sink, axis=0) - X[sink]]
        near = [margins.min_norm_point(P)[0] / np.linalg.norm(P, axis=1).mean() for P in hulls]
        if any(0 < distance < 1e-6 for distance in near):
            skipped += 1
            continue
        condition = sinks.sink_condition(X, sink=sink, causal=causal)
        assert condition == sinks.sink_feasible(X, sink=sink, causal=causal)
        compared += 1
        possible += condition
    assert compared >= 500 and skipped <= 5
    assert 0.25 < possible / compared < 0.75


@given(seed=seeds, n=st.integers(2, 8), d=st.integers(1, 3), causal=st.booleans())
def test_the_solver_finds_a_sink_exactly_where_there_is_one(seed, n, d, causal):
    X = gaussian(seed, n, d)
    X[:, 0] += seed % 3
    hulls = [X[1:] if causal else X, X[1:] - X[0]]
    near = [margins.min_norm_point(P)[0] / np.linalg.norm(P, axis=1).mean() for P in hulls]
    # Nearer to the boundary a sink may cost more than the solver promises to find.
    assume(not any(0 < distance < 1e-2 for distance in near))
    solution = margins.minimum_norm(X, "sink", causal=causal)
    assert solution.feasible == sinks.sink_condition(X, causal=causal)


def test_the_causal_sink_is_not_one_of_its_queries():
    """0 is between the tokens, but not between those after the sink."""
    X = np.array([[-1.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    assert sinks.sink_condition(X, causal=True) and sinks.sink_feasible(X, causal=True)
    assert not sinks.sink_condition(X, causal=False) and not sinks.sink_feasible(X, causal=False)


@pytest.mark.parametrize("causal", [True, False])
def test_what_lies_exactly_on_the_boundary_is_no_sink(causal):
    twin = np.array([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]])
    between = np.array([[2.0, 2.0], [1.0, 1.0], [3.0, 3.0]])
    silent = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 0.0]])
    opposite = np.array([[1.0, 2.0], [3.0, 1.0], [-3.0, -1.0]])
    for X in (twin, between, silent, opposite):
        assert not sinks.sink_condition(X, causal=causal)
        assert not sinks.sink_feasible(X, causal=causal)


@given(
    seed=seeds, n=st.integers(2, 8), d=st.integers(1, 8), m=st.floats(0, 2),
    margin=st.floats(0.1, 10),
)  # fmt: skip
def test_no_sink_has_a_smaller_operator_norm_than_the_bound(seed, n, d, m, margin):
    X = sinks.random_tokens(n, d, m, np.random.default_rng(seed))
    solution = margins.minimum_norm(X, "sink", causal=False, margin=margin)
    bound = sinks.operator_norm_bound(X, margin)
    if solution.feasible:
        assert np.linalg.norm(solution.W, 2) >= bound * (1 - 1e-6)


def test_the_bound_is_met_by_tokens_on_a_line_and_infinite_without_a_sink():
    X = np.array([[2.0, 0.0], [2.0, 1.0], [2.0, 3.0]])
    W = margins.minimum_norm(X, "sink", causal=False, margin=3.0).W
    assert sinks.operator_norm_bound(X, 3.0) == pytest.approx(1.5)
    assert np.linalg.norm(W, 2) == pytest.approx(1.5)
    assert sinks.operator_norm_bound(np.array([[1.0], [-1.0]]), 1.0) == math.inf
    assert sinks.operator_norm_bound(np.array([[1.0], [1.0]]), 1.0) == math.inf


# D3: the cost, by least-distance programming.


@given(
    seed=seeds, n=st.integers(2, 8), d=st.integers(2, 6), causal=st.booleans(),
    length=st.floats(0.1, 10),
)  # fmt: skip
def test_distinct_tokens_of_equal_norm_always_have_a_diagonal(seed, n, d, causal, length):
    X = length * on_sphere(seed, n, d)
    inner = X @ X.T
    np.fill_diagonal(inner, -np.inf)
    closest = length**2 - inner.max()
    assume(closest > 1e-4 * length**2)
    assert smallest_margin(np.eye(d) / closest, X, "diagonal", causal) >= 1 - 1e-9
    solution = margins.minimum_norm(X, "diagonal", causal=causal)
    assert solution.feasible
    assert solution.frobenius <= d**0.5 / closest * (1 + 1e-6)


def sets_of_tokens():
    for m in (0.0, 0.5, 1.0, 2.0):
        for n in (2, 4, 7):
            yield sinks.orthonormal_tokens(n, m)
        for n in (6, 10, 14):
            yield sinks.random_tokens(n, 12, m, np.random.default_rng(n))
    yield sinks.random_tokens(16, 64, 0.5, np.random.default_rng(0))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_solutions_are_feasible_and_optimal(pattern, causal):
    for X in sets_of_tokens():
        for margin in (1.0, 4.9):
            solution = margins.minimum_norm(X, pattern, causal=causal, margin=margin)
            if not solution.feasible:
                assert pattern == "sink" and not sinks.sink_condition(X, causal=causal)
                continue
            assert smallest_margin(solution.W, X, pattern, causal) >= margin * (1 - 1e-6)
            assert margins.kkt_residual(solution, X, pattern, causal, margin) < 1e-9
            assert 1 - 1e-9 <= solution.participation_rank <= min(X.shape) + 1e-9
            assert solution.frobenius == pytest.approx(np.linalg.norm(solution.W))
            singular = np.linalg.svd(solution.W, compute_uv=False)
            assert solution.nuclear == pytest.approx(singular.sum())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_largest_sets_of_the_study_are_solved(pattern):
    X = sinks.random_tokens(32, 64, 0.5, np.random.default_rng(0))
    solution = margins.minimum_norm(X, pattern, causal=True)
    assert margins.kkt_residual(solution, X, pattern, True, 1.0) < 1e-9


def test_each_condition_of_optimality_is_noticed_alone():
    X = sinks.random_tokens(6, 8, 0.5, np.random.default_rng(3))
    good = margins.minimum_norm(X, "diagonal", causal=True)
    G = stacked(X, "diagonal", True)

    def residual(w, u):
        changed = margins.MinimumNorm(w.reshape(8, 8), u, good.frobenius, good.nuclear, True)
        return margins.kkt_residual(changed, X, "diagonal", True, 1.0)

    w, u = good.W.ravel(), good.multipliers
    assert residual(w, u) < 1e-12
    # Slack beside multipliers: twice the solution.
    assert residual(2 * w, 2 * u) == pytest.approx((2 * u).max() / (4 * w @ w), rel=1e-6)
    # Not the sum that it must be: a part that no token sees.
    unseen = np.linalg.svd(X)[2][-1]
    outside = w + np.outer(unseen, unseen).ravel()
    assert residual(outside, u) == pytest.approx(1 / np.linalg.norm(outside), rel=1e-6)
    # Negative multipliers: all constraints met exactly, which costs more than need be.
    tight = np.linalg.solve(G @ G.T, np.ones(len(G)))
    assert tight.min() < -0.01
    assert residual(G.T @ tight, tight) == pytest.approx(-tight.min() / np.abs(tight).sum())
    # Missed margins: the optimum for the first two tokens.
    first = np.zeros(len(G))
    first[0] = 1 / (G[0] @ G[0])
    missed = 1 - (G @ (G.T @ first)).min()
    assert missed > 0.1 and residual(G.T @ first, first) == pytest.approx(missed)


def dual_cost(X, pattern, causal):
    """The smallest |W|_F for a margin of 1: max 1ᵀu - ½uᵀΓu, Γ the Gram matrix of the constraints.

    Γ may be singular: its range is kept. With Γ + 11ᵀ = CCᵀ the maximum is non-negative least
    squares.
    """
    rows, targets, competitors = margins.constraints(pattern, len(X), causal)
    V = X[targets] - X[competitors]
    gram = (X @ X.T)[np.ix_(rows, rows)] * (V @ V.T)
    values, vectors = np.linalg.eigh(gram + 1)
    kept = values > 1e-12 * values[-1]
    root, basis = np.sqrt(values[kept]), vectors[:, kept]
    u, _ = nnls(root[:, None] * basis.T, basis.sum(axis=0) / root, maxiter=100 * len(rows))
    u = u * u.sum() / (u @ gram @ u)
    assert (gram @ u >= 1 - 1e-6).all()
    return math.sqrt(u @ gram @ u)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_dual_program_costs_the_same(pattern, causal):
    for X in sets_of_tokens():
        solution = margins.minimum_norm(X, pattern, causal=causal)
        if solution.feasible:
            assert solution.frobenius == pytest.approx(dual_cost(X, pattern, causal), rel=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("n", "d"), [(3, 2), (4, 3), (5, 3)])
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_sequential_quadratic_programming_ends_at_the_same_matrix(pattern, causal, n, d, seed):
    # Where two of the tokens almost agree, this method gives up: not so for these seeds.
    X = on_sphere(seed, n, d)
    if pattern == "sink":
        X[:, 0] += 2
    solution = margins.minimum_norm(X, pattern, causal=causal)
    assert solution.feasible
    G = stacked(X, pattern, causal)
    found = minimize(
        lambda w: w @ w / 2, np.zeros(d * d), jac=lambda w: w, method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: G @ w - 1, "jac": lambda w: G},
        options={"maxiter": 1000, "ftol": 1e-14},
    )  # fmt: skip
    assert found.success
    assert solution.W.ravel() == pytest.approx(found.x, rel=1e-5, abs=1e-5 * solution.frobenius)


@given(seed=seeds, length=st.floats(1e-4, 1e4), margin=st.floats(1e-3, 1e3))
def test_the_cost_grows_with_the_margin_and_falls_with_the_squared_length(seed, length, margin):
    X = sinks.random_tokens(5, 6, 1.0, np.random.default_rng(seed))
    base = margins.minimum_norm(X, "sink", causal=True)
    other = margins.minimum_norm(length * X, "sink", causal=True, margin=margin)
    assert other.frobenius == pytest.approx(base.frobenius * margin / length**2, rel=1e-8)
    assert margins.kkt_residual(other, length * X, "sink", True, margin) < 1e-9


@settings(max_examples=50)
@given(seed=seeds, rank=st.integers(2, 4), causal=st.booleans())
def test_dependent_tokens_are_no_obstacle(seed, rank, causal):
    """More constraints than unknowns, and tokens that span few of the dimensions."""
    small = on_sphere(seed, 9, rank)
    basis = np.linalg.qr(gaussian(seed + 1, 12, rank))[0]
    flat = margins.minimum_norm(small, "diagonal", causal=causal)
    assume(not flat.feasible or flat.frobenius < 1e4)
    embedded = margins.minimum_norm(small @ basis.T, "diagonal", causal=causal)
    assert embedded.feasible == flat.feasible
    if flat.feasible:
        assert embedded.frobenius == pytest.approx(flat.frobenius, rel=1e-6)
        assert embedded.W == pytest.approx(basis @ flat.W @ basis.T, abs=1e-5 * flat.frobenius)


@pytest.mark.parametrize("causal", [True, False])
def test_costly_margins_are_found_too(causal):
    """Tokens almost of one direction, and almost a token twice: 1e4 or more, not infeasible."""
    X = sinks.random_tokens(20, 24, 300.0, np.random.default_rng(1))
    if causal:
        X = sinks.random_tokens(20, 24, 0.0, np.random.default_rng(1))
        X[7] = X[3] + 1e-5 * X[0]
    X /= np.linalg.norm(X, axis=1).mean()
    solution = margins.minimum_norm(X, "diagonal", causal=causal)
    assert solution.feasible and solution.frobenius > 1e4
    assert smallest_margin(solution.W, X, "diagonal", causal) >= 1 - 1e-6


@pytest.mark.parametrize("causal", [True, False])
def test_infeasible_cells_are_not_numbers(causal):
    twins = np.array([[1.0, 2.0], [3.0, 1.0], [3.0, 1.0], [1.0, 2.0]])
    silent = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
    for pattern in PATTERNS:
        for X in (twins, silent, np.zeros((3, 2))):
            found = margins.minimum_norm(X, pattern, causal=causal)
            assert not found.feasible
            assert math.isnan(found.frobenius) and math.isnan(found.nuclear)
            assert math.isnan(found.participation_rank)
            assert found.W.shape == (2, 2) and np.isnan(found.W).all()
            constrained = len(margins.constraints(pattern, len(X), causal)[0])
            assert found.multipliers.shape == (constrained,) and np.isnan(found.multipliers).all()
            assert math.isnan(margins.kkt_residual(found, X, pattern, causal, 1.0))


# The point of a hull nearest to 0.


@settings(max_examples=60)
@given(seed=seeds, n=st.integers(1, 7), d=st.integers(1, 4), shift=st.sampled_from([0, 0.5, 1, 2]))
def test_the_nearest_point_is_that_of_a_quadratic_program(seed, n, d, shift):
    X = gaussian(seed, n, d)
    X[:, 0] += shift
    distance, weights = margins.min_norm_point(X)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1)
    assert np.linalg.norm(weights @ X) == pytest.approx(distance, abs=1e-10)
    found = minimize(
        lambda w: w @ X @ X.T @ w, np.full(n, 1 / n), jac=lambda w: 2 * X @ X.T @ w,
        method="SLSQP", bounds=[(0, 1)] * n, options={"maxiter": 500, "ftol": 1e-15},
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(n)},
    )  # fmt: skip
    assert distance**2 == pytest.approx(found.fun, abs=1e-6)


@given(
    seed=seeds, n=st.integers(1, 64), d=st.integers(1, 40), shift=st.floats(0, 2),
    length=st.floats(1e-6, 1e6),
)  # fmt: skip
def test_the_nearest_point_has_a_certificate_and_scales(seed, n, d, shift, length):
    X = gaussian(seed, n, d)
    X[:, 0] += shift
    distance, weights = margins.min_norm_point(X)
    p = weights @ X
    # The hyperplane through p at right angles to it has the whole hull on one side.
    assert (X @ p).min() >= distance**2 - 1e-9
    scaled, same = margins.min_norm_point(length * X)
    assert scaled == pytest.approx(length * distance, rel=1e-8)
    assert (scaled == 0) == (distance == 0)
    if distance > 1e-3:
        assert same @ X == pytest.approx(p, abs=1e-8)


@given(seed=seeds, n=st.integers(2, 64), d=st.integers(1, 128))
def test_the_distance_is_exactly_zero_where_zero_is_inside(seed, n, d):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, d)) * 10 ** generator.uniform(-2, 2, (n, 1))
    X -= generator.dirichlet(np.ones(n)) @ X
    assert margins.min_norm_point(X)[0] == 0.0


def test_nearest_points_of_simple_hulls():
    assert margins.min_norm_point(np.array([[3.0, 4.0]]))[0] == pytest.approx(5.0)
    assert margins.min_norm_point(np.zeros((2, 3)))[0] == 0.0
    distance, weights = margins.min_norm_point(np.array([[1.0, 1.0], [1.0, -3.0], [5.0, 0.0]]))
    assert distance == pytest.approx(1.0)
    assert weights == pytest.approx([0.75, 0.25, 0.0])
    # e_1, ..., e_n: the mean, at 1/√n.
    assert margins.min_norm_point(np.eye(9))[0] == pytest.approx(1 / 3)
    # On both sides of the tolerance, in mean norms.
    near = np.array([[1.0, 1e-9], [-1.0, 1e-9]])
    assert margins.min_norm_point(near)[0] == pytest.approx(1e-9)
    assert margins.min_norm_point(near * [1.0, 1e-2])[0] == 0.0


# D4: a sink is a switch.


def test_the_output_is_proportional_to_what_the_sink_leaves():
    values = gaussian(4, 9, 5)
    values[0] = 0.0
    deltas = np.logspace(-6, -1, 11)
    rows = np.hstack([1 - deltas[:, None], np.repeat(deltas[:, None] / 8, 8, axis=1)])
    norms = np.linalg.norm(rows @ values, axis=1)
    assert norms == pytest.approx(deltas * np.linalg.norm(values[1:].mean(axis=0)), rel=1e-12)
    slope = np.polyfit(np.log(deltas), np.log(norms), 1)[0]
    assert slope == pytest.approx(1.0, abs=1e-9)


@given(seed=seeds, n=st.integers(2, 20), delta=st.floats(1e-6, 1.0))
def test_a_switched_off_head_is_below_its_bound(seed, n, delta):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((n, 4))
    values[0] = 0.0
    row = np.append(1 - delta, delta * generator.dirichlet(np.ones(n - 1) / 3))
    assert np.linalg.norm(row @ values) <= sinks.switch_bound(delta, values) * (1 + 1e-12)


def test_one_competitor_meets_the_bound_of_a_switch():
    values = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    assert sinks.switch_bound(0.1, values) == pytest.approx(0.5)
    assert np.linalg.norm(np.array([0.9, 0.1, 0.0]) @ values) == pytest.approx(0.5)


# D5: dense and sparse patterns.


@pytest.mark.parametrize(
    ("A", "value"),
    [
        (sinks.uniform(64), 0.0),
        (sinks.pure_sink(64), 0.0),
        (np.eye(64), 1.0),
        (np.eye(64)[np.random.default_rng(0).permutation(64)], 1.0),
        (sinks.causal_uniform(16), 0.325784),
        (sinks.causal_uniform(64), 0.211496),
        (0.9 * sinks.pure_sink(64) + 0.1 * sinks.causal_uniform(64), 0.021150),
        (0.9 * np.eye(64) + 0.1 * sinks.causal_uniform(64), 0.906170),
    ],
)
def test_how_much_a_pattern_smooths(A, value):
    assert A.sum(axis=1) == pytest.approx(np.ones(len(A)))
    assert sinks.smoothing_ratio(A) == pytest.approx(value, abs=1e-6)
    # Columns are independent draws of the rows' one coordinate, with a mean that μ cannot see.
    X = gaussian(5, len(A), 4000) + 3.0

    def squared(Y):
        return ((Y - Y.mean(axis=0)) ** 2).sum()

    assert math.sqrt(squared(A @ X) / squared(X)) == pytest.approx(value, abs=0.01)


def test_the_masses_of_causal_uniform_attention():
    assert sinks.causal_uniform_sink(64) == pytest.approx(0.074123, abs=1e-6)
    assert sinks.causal_uniform_diagonal(64) == pytest.approx(0.059427, abs=1e-6)
    for T in (2, 9, 64):
        A = sinks.causal_uniform(T)
        assert (np.triu(A, 1) == 0).all()
        assert sinks.causal_uniform_sink(T) == pytest.approx(A[:, 0].mean(), rel=1e-12)
        assert sinks.causal_uniform_diagonal(T) == pytest.approx(A.diagonal()[1:].mean(), rel=1e-12)


# D7: exact costs.


@pytest.mark.parametrize(
    ("n", "m", "sink"),
    [
        (4, 0.0, 1.732051),
        (4, 0.5, 1.224745),
        (4, 2.0, 0.420084),
        (7, 0.0, 2.449490),
        (7, 0.5, 1.477098),
        (7, 2.0, 0.454859),
    ],
)
def test_the_table_of_costs(n, m, sink):
    assert sinks.sink_cost(n, m, 1.0) == pytest.approx((sink, sink), abs=1e-6)
    assert sinks.diagonal_cost(n, 1.0) == pytest.approx(((n - 1) ** 0.5, n - 1), abs=1e-12)


@pytest.mark.parametrize("m", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("n", [2, 3, 4, 7, 12])
def test_the_solver_finds_the_costs_of_the_orthonormal_tokens(n, m):
    X = sinks.orthonormal_tokens(n, m)
    sink = margins.minimum_norm(X, "sink", causal=False, margin=2.5)
    diagonal = margins.minimum_norm(X, "diagonal", causal=False, margin=2.5)
    assert (sink.frobenius, sink.nuclear) == pytest.approx(sinks.sink_cost(n, m, 2.5), abs=1e-6)
    assert sink.participation_rank == pytest.approx(1.0, abs=1e-9)
    costs = (diagonal.frobenius, diagonal.nuclear)
    assert costs == pytest.approx(sinks.diagonal_cost(n, 2.5), abs=1e-6)
    assert diagonal.participation_rank == pytest.approx(n - 1, abs=1e-6)
    ratios = (diagonal.frobenius / sink.frobenius, diagonal.nuclear / sink.nuclear)
    assert ratios == pytest.approx(sinks.cost_ratio(n, m), abs=1e-6)


@pytest.mark.parametrize(("n", "value"), [(4, 1.384437), (7, 2.099320), (12, None)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_causal_costs_without_a_common_direction(pattern, n, value):
    if value is not None:
        assert sinks.causal_cost(n, 1.0) == pytest.approx(value, abs=1e-6)
    found = margins.minimum_norm(sinks.orthonormal_tokens(n, 0.0), pattern, causal=True, margin=1.7)
    assert found.frobenius == pytest.approx(sinks.causal_cost(n, 1.7), abs=1e-6)


@given(seed=seeds, d=st.integers(1, 6), margin=st.floats(0.01, 100))
def test_two_causal_tokens_cost_the_same_either_way(seed, d, margin):
    X = gaussian(seed, 2, d)
    lengths = np.linalg.norm(X[1]) * np.linalg.norm(X[0] - X[1])
    assume(lengths > 1e-3)
    for pattern in PATTERNS:
        found = margins.minimum_norm(X, pattern, causal=True, margin=margin)
        assert found.frobenius == pytest.approx(margin / lengths, rel=1e-6)


def test_random_tokens_have_a_common_direction_of_its_length():
    X = sinks.random_tokens(500, 40, 2.0, np.random.default_rng(2))
    assert X.shape == (500, 40)
    assert np.linalg.norm(X.mean(axis=0)) == pytest.approx(2.0, abs=0.05)
    assert np.linalg.norm(sinks.random_tokens(9, 4, 0.0, np.random.default_rng(2)), axis=1) == (
        pytest.approx(np.ones(9))
    )

"""Closed forms against their tables, explicit matrices, and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replica.theory import dnc, srg

THRESHOLDS = {  # K = 2: product, λ at n = 1, λ at n = 50
    2: (7.8125e-3, 0.198425, 0.053861),
    3: (3.42936e-4, 0.136083, 0.051175),
    4: (1.28746e-5, 0.105183, 0.048101),
    5: (4.096e-7, 0.086177, 0.044898),
    6: (1.12157e-8, 0.073158, 0.041836),
    8: (5.71448e-12, 0.056335, 0.036475),
}
RHO = {
    4: (1.0561, 0.9633, 0.9060, 0.8671, 0.8391, 0.8179),
    5: (1.0444, 0.9014, 0.8170, 0.7617, 0.7226, 0.6937),
    6: (1.0367, 0.8569, 0.7547, 0.6893, 0.6439, 0.6108),
    7: (1.0312, 0.8227, 0.7077, 0.6355, 0.5863, 0.5506),
    8: (1.0271, 0.7952, 0.6705, 0.5936, 0.5417, 0.5046),
    10: (1.0215, 0.7529, 0.6144, 0.5313, 0.4764, 0.4377),
    12: (1.0178, 0.7212, 0.5732, 0.4865, 0.4302, 0.3909),
}
depths = st.integers(2, 9)
penalties = st.floats(1e-4, 0.5)


def equal(lam, L):
    return lam, [lam] * L


@pytest.mark.parametrize(
    ("K", "L", "lam", "n", "loss"),
    [
        (2, 3, 0.005, 50, 0.05282458), (2, 4, 0.005, 50, 0.05442580), (2, 8, 0.005, 50, 0.06937961),
        (2, 3, 5e-4, 50, 0.00531476), (2, 4, 5e-4, 50, 0.00546442), (2, 8, 5e-4, 50, 0.00694884),
        (10, 4, 0.004, 1, 0.09917987), (10, 4, 0.004, 10, 0.15639731),
        (10, 4, 0.004, 50, 0.21462332), (10, 4, 0.004, 100, 0.24579583),
        (10, 4, 0.004, 500, 0.33600480), (10, 3, 0.004, 1, 0.07918332),
        (15, 7, 0.002, 1, 0.11953945), (2, 3, 0.01, 10, 0.07048705), (2, 4, 0.01, 10, 0.07873237),
        (2, 8, 0.01, 10, 0.11589890),
    ],
)  # fmt: skip
def test_dnc_loss(K, L, lam, n, loss):
    assert dnc.dnc_optimum(K, n, *equal(lam, L)).loss == pytest.approx(loss, abs=1e-6)


def test_dnc_loss_with_unequal_penalties():
    """The lines of the two real-data figures: n λ_H1 = .025 and .05, λ_W = .005."""
    found = dnc.dnc_optimum(10, 5000, 5e-6, [0.005] * 4)
    assert (found.loss, found.output) == pytest.approx((0.16997956, 0.92784), abs=1e-5)
    found = dnc.dnc_optimum(2, 100, 5e-4, [0.005] * 3)
    assert (found.loss, found.output) == pytest.approx((0.03540604, 0.98206), abs=1e-5)
    assert srg.srg0_optimum(5, 50, 5e-4, [0.005] * 4).loss == pytest.approx(0.15344231, abs=1e-6)
    assert srg.srgopt_optimum(5, 50, 5e-4, [0.005] * 4).loss == pytest.approx(0.15009347, abs=1e-6)


@pytest.mark.parametrize("L", THRESHOLDS)
def test_thresholds(L):
    product, one, fifty = THRESHOLDS[L]
    assert (L - 1) ** (L - 1) / (2 ** (L + 1) * L ** (2 * L)) == pytest.approx(product, rel=1e-5)
    lam = dnc.equal_lambda_threshold(2, L, 1)
    assert lam ** (L + 1) == pytest.approx(
        (L - 1) ** (L - 1) / (2 ** (L + 1) * L ** (2 * L)), rel=1e-6
    )
    assert lam == pytest.approx(one, abs=1e-6)
    assert dnc.equal_lambda_threshold(2, L, 50) == pytest.approx(fifty, abs=1e-6)


@pytest.mark.parametrize("L", [2, 3, 4, 5, 6, 8])
def test_the_output_jumps_at_the_threshold(L):
    lam = dnc.equal_lambda_threshold(2, L, 10)
    below = dnc.dnc_optimum(2, 10, *equal(lam * (1 - 1e-5), L))
    assert below.output == pytest.approx((L - 1) / L, abs=1e-4) and below.loss < 0.5
    assert dnc.dnc_optimum(2, 10, *equal(lam * (1 + 1e-5), L)) == dnc.Optimum(0.5, 0.0)


@pytest.mark.parametrize(("L", "end"), [(3, 1.4142136), (4, 1.6493848)])
def test_the_metastable_branch_ends(L, end):
    assert ((L + 1) / 2) * 2 ** (-(L - 1) / (L + 1)) == pytest.approx(end, abs=1e-5)
    assert dnc.metastable_end(L) / dnc.threshold(L) == pytest.approx(end, abs=1e-5)
    lam = dnc.equal_lambda_threshold(2, L, 10)
    assert dnc.dnc_local_optimum(2, 10, *equal(lam * (end - 1e-4), L)) is not None
    assert dnc.dnc_local_optimum(2, 10, *equal(lam * (end + 1e-4), L)) is None


@pytest.mark.parametrize(("L", "loss", "a"), [(3, 0.585598, 0.56581), (4, 0.592078, 0.68255)])
def test_metastable_minima(L, loss, a):
    lam = 1.2 * dnc.equal_lambda_threshold(2, L, 10)
    found = dnc.dnc_local_optimum(2, 10, *equal(lam, L))
    assert (found.loss, found.output) == pytest.approx((loss, a), abs=1e-5)


@given(depths, st.floats(1e-3, 1.0))
def test_the_optimum_is_that_of_a_grid(L, c):
    a = np.linspace(0, 1, 20001)
    grid = (1 - a) ** 2 / 2 + (L + 1) / 2 * c * a ** (2 / (L + 1))
    assert dnc.power_law_optimum(c, L).loss == pytest.approx(grid.min(), abs=1e-7)


def test_ten_classes_collapse_up_to_fifty_two():
    assert dnc.dnc_optimum(52, 1, *equal(0.004, 4)).output > 0
    assert dnc.dnc_optimum(53, 1, *equal(0.004, 4)).output == 0


@settings(max_examples=30)
@given(st.integers(2, 5), depths, st.integers(1, 6), st.lists(penalties, min_size=10, max_size=10))
def test_explicit_dnc_matrices(K, L, n, lams):
    lam_h, lam_ws = lams[0] / 50, [lam / 50 for lam in lams[1 : L + 1]]
    H1, Ws = dnc.dnc_matrices(K, n, K + 2, lam_h, lam_ws)
    objective = dnc.dufm_objective(H1, Ws, lam_h, lam_ws)
    assert objective.loss == pytest.approx(dnc.dnc_optimum(K, n, lam_h, lam_ws).loss, abs=1e-10)
    assert np.ptp(objective.terms) < 1e-10


@pytest.mark.parametrize("rho", [0, 0.2, 0.5])
def test_explicit_dnc_matrices_have_zero_gradient(rho):
    import torch

    lam_h, lam_ws = equal(0.01, 3)
    H1, Ws = dnc.dnc_matrices(3, 2, 5, lam_h, lam_ws, rho)
    factors = [torch.tensor(x, requires_grad=True) for x in [H1, *Ws]]
    x = factors[1] @ factors[0]
    for W in factors[2:]:
        x = W @ torch.relu(x)
    Y = torch.kron(torch.eye(3), torch.ones(1, 2)).double()
    loss = ((x - Y) ** 2).sum() / 12 + sum(0.005 * (f**2).sum() for f in factors)
    loss.backward()
    assert max(f.grad.abs().max() for f in factors) < 1e-7
    assert loss.item() == pytest.approx(dnc.dufm_objective(H1, Ws, lam_h, lam_ws).loss, abs=1e-14)


@pytest.mark.parametrize(("K", "L"), [(2, 2), (2, 3), (3, 4), (10, 4)])
@pytest.mark.parametrize("part", [0, 0.3, 0.7, 1])
def test_the_dnc_optimum_has_a_flat_direction_in_its_first_two_layers(K, L, part):
    """M_1 and W_1 proportional to S^½, S = I - ρ(J - I): L_DNC for every ρ; M_2 of any condition."""
    rho, n = part / (K - 1), 3
    lam_h, lam_ws = 0.002, [0.001 * (l + 1) for l in range(L)]
    H1, Ws = dnc.dnc_matrices(K, n, K + 2, lam_h, lam_ws, rho)
    objective = dnc.dufm_objective(H1, Ws, lam_h, lam_ws)
    assert objective.loss == pytest.approx(dnc.dnc_optimum(K, n, lam_h, lam_ws).loss, abs=1e-14)
    assert np.ptp(objective.terms) < 1e-14
    _, M2, *later, output = srg.class_means(H1, Ws, n)
    S = np.eye(K) - rho * (np.ones((K, K)) - np.eye(K))
    np.testing.assert_allclose(M2[:K], M2[0, 0] * S, atol=1e-14)
    s = np.linalg.svd(M2, compute_uv=False)
    if part < 1:
        assert s[0] / s[K - 1] == pytest.approx((1 + rho) / (1 - (K - 1) * rho))
    else:
        assert np.linalg.matrix_rank(M2) == K - 1
    # After the ReLU it is collapsed, and so is every later layer on both sides of it.
    for M in (np.maximum(M2, 0), *later, output):
        np.testing.assert_allclose(M.T @ M, M[0, 0] ** 2 * np.eye(K), atol=1e-14)
    for rho in (-0.01, 1.01 / (K - 1)):
        with pytest.raises(ValueError, match="rho"):
            dnc.dnc_matrices(K, n, K + 2, lam_h, lam_ws, rho)


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_n_enters_only_through_n_lambda(K, n, seed):
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(4, K))
    Ws = [rng.normal(size=(4, 4)), rng.normal(size=(K, 4))]
    one = dnc.dufm_objective(H, Ws, n * 0.01, [0.02, 0.03])
    many = dnc.dufm_objective(np.repeat(H, n, axis=1), Ws, 0.01, [0.02, 0.03])
    assert one.loss == pytest.approx(many.loss, rel=1e-12)


@pytest.mark.parametrize("fitted", [1, 2])
def test_each_class_can_be_in_a_minimum_of_its_own(fitted):
    """L = 3, K = 2 at 1.2 times the threshold: some classes in the local minimum, the rest at 0.

    A class at 0 is at a minimum, since what a step away from it gains is of order L + 1 in the
    step, and the penalty that it costs is of order 2.
    """
    K, L, n, width = 2, 3, 5, 6
    lam = 1.2 * dnc.equal_lambda_threshold(K, L, n)
    local = dnc.dnc_local_optimum(K, n, lam, [lam] * L)
    share = dnc.effective_q(n, lam, [lam] * L) * local.output ** (2 / (L + 1))
    there = np.diag([1.0] * fitted + [0.0] * (K - fitted))
    frame = np.eye(width, K)
    scale = np.sqrt(share / lam)
    H1 = np.repeat(scale / np.sqrt(n) * frame @ there, n, axis=1)
    Ws = [scale * frame @ there @ frame.T] * (L - 1) + [scale * there @ frame.T]

    found = dnc.dufm_objective(H1, Ws, *equal(lam, L)).loss
    assert found == pytest.approx((fitted * local.loss + (K - fitted) / 2) / K, rel=1e-12)
    assert np.diag(dnc.forward(H1, Ws)[-1][:, ::n]) == pytest.approx(local.output * np.diag(there))
    rng = np.random.default_rng(0)
    for _ in range(200):
        moved = [part + 1e-3 * rng.standard_normal(part.shape) for part in (H1, *Ws)]
        assert dnc.dufm_objective(moved[0], moved[1:], *equal(lam, L)).loss > found


def test_the_zero_configuration_costs_a_half():
    assert (
        dnc.dufm_objective(np.zeros((3, 4)), [np.zeros((3, 3)), np.zeros((2, 3))], 1, [1, 1]).loss
        == 0.5
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dnc.dnc_optimum(1, 5, 0.1, [0.1, 0.1]), "at least two classes"),
        (lambda: dnc.dnc_optimum(2, 0, 0.1, [0.1, 0.1]), "at least one sample"),
        (lambda: dnc.dnc_optimum(2, 1, -0.1, [0.1, 0.1]), "must be positive"),
        (lambda: dnc.dnc_optimum(2, 1, 0.1, [0.1]), "at least two weight matrices"),
        (lambda: dnc.dnc_matrices(5, 1, 4, 0.01, [0.01] * 3), "width >= K"),
        (lambda: srg.srg0_matrices(5, 1, 9, 0.01, [0.01] * 4), "width >= K = 10"),
        (lambda: srg.cost_ratio(2, 4), "three vertices"),
        (lambda: srg.cost_ratio(5, 2), "three weight matrices"),
    ],
)
def test_impossible_settings_are_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# ------------------------------------------------------------------ strongly regular graphs


def test_incidence_matrix_for_five_vertices():
    B = srg.incidence(5)
    assert B.shape == (5, 10) and set(B.sum(1)) == {4} and set(B.sum(0)) == {2}
    s = np.linalg.svd(B, compute_uv=False)
    np.testing.assert_allclose(s, [np.sqrt(8)] + [np.sqrt(3)] * 4, atol=1e-12)
    assert s.sum() == pytest.approx(9.756630, abs=1e-6)


@pytest.mark.parametrize("r", [4, 5, 6, 8])
def test_triangular_graph(r):
    A, K = srg.triangular_graph(r), srg.classes(r)
    J, eye = np.ones((K, K)), np.eye(K)
    np.testing.assert_array_equal(A @ A, 2 * (r - 2) * eye + (r - 2) * A + 4 * (J - eye - A))
    B = srg.incidence(r)
    assert np.linalg.svd(B, compute_uv=False).sum() == pytest.approx(srg.incidence_nuclear_norm(r))
    last = (2 * B.T - 1) @ B
    np.testing.assert_array_equal(np.maximum(last, 0), 2 * eye)
    assert set(last[A == 1]) == {0} and set(last[(A == 0) & (eye == 0)]) <= {-2}
    assert np.linalg.matrix_rank(last) == (3 if r == 4 else r)
    assert np.linalg.matrix_rank(np.maximum(last, 0)) == K


@pytest.mark.parametrize(("r", "values"), [(5, [6] * 4 + [4]), (6, [10] + [8] * 5)])
def test_spectrum_before_the_last_relu(r, values):
    B = srg.incidence(r)
    s = np.linalg.svd((2 * B.T - 1) @ B, compute_uv=False)
    if r == 6:
        values = sorted([10] + [8] * 5, reverse=True)
    np.testing.assert_allclose(s, values + [0] * (srg.classes(r) - r), atol=1e-10)


@pytest.mark.parametrize("r", RHO)
def test_cost_ratio_table(r):
    np.testing.assert_allclose([srg.cost_ratio(r, L) for L in range(3, 9)], RHO[r], atol=5e-5)


def test_cost_ratio_order_and_limits():
    for L in (4, 5, 6, 8):
        assert (np.diff([srg.cost_ratio(r, L) for r in range(4, 60)]) < 0).all()
    for r in (4, 5, 6, 12):
        assert (np.diff([srg.cost_ratio(r, L) for L in range(3, 40)]) < 0).all()
    assert all(srg.cost_ratio(r, 3) > 1 for r in range(3, 201))
    assert srg.cost_ratio(6, 2000) == pytest.approx(2 / 5, rel=0.01)


@pytest.mark.parametrize(
    ("r", "L", "lam", "n", "loss"),
    [
        (5, 4, 0.004, 1, 0.08947089), (5, 4, 0.004, 10, 0.14116262), (5, 4, 0.004, 50, 0.19383167),
        (5, 4, 0.004, 100, 0.22205993), (5, 4, 0.004, 500, 0.30389044),
        (5, 3, 0.004, 1, 0.08266234),
        (6, 7, 0.002, 1, 0.07708448),
    ],
)  # fmt: skip
def test_srg0_loss(r, L, lam, n, loss):
    assert srg.srg0_optimum(r, n, *equal(lam, L)).loss == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("r", "L", "n", "lam"),
    [(5, 4, 1, 0.004), (5, 4, 50, 0.004), (6, 5, 3, 0.001), (4, 5, 1, 0.01), (5, 3, 2, 0.002)],
)
def test_explicit_srg_matrices(r, L, n, lam):
    K = srg.classes(r)
    H1, Ws = srg.srg0_matrices(r, n, K + 1, *equal(lam, L))
    objective = dnc.dufm_objective(H1, Ws, *equal(lam, L))
    assert objective.loss == pytest.approx(srg.srg0_optimum(r, n, *equal(lam, L)).loss, abs=1e-10)
    assert np.ptp(objective.terms) < 1e-10
    means = srg.class_means(H1, Ws, n)
    assert np.linalg.matrix_rank(means[L - 1]) == (3 if r == 4 else r)
    assert np.linalg.matrix_rank(np.maximum(means[L - 1], 0)) == K
    H1, Ws = srg.srgopt_matrices(r, n, K + 1, *equal(lam, L))
    better = srg.srgopt_optimum(r, n, *equal(lam, L)).loss
    assert dnc.dufm_objective(H1, Ws, *equal(lam, L)).loss == pytest.approx(better, abs=1e-10)
    assert better <= objective.loss


@pytest.mark.parametrize(
    ("r", "L", "lam", "n", "loss"),
    [(5, 4, 0.004, 1, 0.08757226), (5, 4, 0.004, 50, 0.18952038), (5, 3, 0.004, 1, 0.08046812),
     (6, 7, 0.002, 1, 0.07607658)],
)  # fmt: skip
def test_srgopt_loss(r, L, lam, n, loss):
    assert srg.srgopt_optimum(r, n, *equal(lam, L)).loss == pytest.approx(loss, abs=1e-6)


def test_srgopt_shape():
    best = srg.srgopt_optimum(5, 1, *equal(0.004, 4))
    assert best.q / best.p == pytest.approx(-0.80736, abs=1e-4)

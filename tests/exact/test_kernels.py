"""Kernels, their gradients, Deep RFM and the theory of collapse against independent values."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replica.kernels import agop, metrics, ridge
from replica.kernels.agop import gradient_outer_products, gradients, square_root
from replica.kernels.functions import kernel, matrix, slope
from replica.kernels.random_features import random_features
from replica.measures import collapse
from replica.theory import rfm

KERNELS = ["laplace", "gaussian"]
CHECKED = {1: 1, 0.99: 0.990300, 0.8: 0.827120, 0.3: 0.482744, 0: 0.318310, -0.5: 0.108998, -1: 0}


def points(N, d, seed=0, unit=True):
    x = torch.randn(N, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True) if unit else x


def plain_kernel(name, x, z, L):
    """The kernel as it is written, for autograd."""
    squares = (x[:, None] - z[None]).square().sum(2)
    return torch.exp(-squares.sqrt() / L) if name == "laplace" else torch.exp(-squares / (2 * L**2))


# ------------------------------------------------------------------------- kernels, gradients


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_matrix_is_the_plain_one_in_blocks_of_any_size(name):
    x = points(23, 5)
    whole = plain_kernel(name, x, x, 2.0)
    for block in (1, 4, 23, 100):
        assert torch.allclose(matrix(kernel(name, 2.0), x, block=block), whole, atol=1e-7)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_are_those_of_autograd(name):
    x, at, w = points(20, 5), points(6, 5, 1, unit=False), points(20, 3, 2, unit=False)

    def f(z):
        return plain_kernel(name, z[None], x, 1.5)[0] @ w

    plain = torch.stack([torch.autograd.functional.jacobian(f, z) for z in at])
    assert (gradients(at, x, w, name, 1.5, block=7) - plain).abs().max() < 1e-8


@pytest.mark.parametrize("name", KERNELS)
@given(N=st.integers(2, 30), d=st.integers(1, 8), C=st.integers(1, 4), block=st.integers(1, 40))
def test_the_outer_products_are_the_sum_over_gradients(name, N, d, C, block):
    x, w = points(N, d), points(N, C, 2, unit=False)
    J = gradients(x, x, w, name, 2.0)
    plain = torch.einsum("icd,ice->de", J, J)
    without = gradient_outer_products(x, w, name, 2.0, None, block)
    K = matrix(kernel(name, 2.0), x)
    stored = gradient_outer_products(x, w, name, 2.0, K, block)
    scale = plain.abs().max() + 1e-12
    assert (without - plain).abs().max() < 1e-10 * scale
    assert (stored - plain).abs().max() < 1e-6 * scale


def test_the_outer_products_against_autograd_at_the_training_points():
    """The gradient of |x - x_i| at x_i counts as 0, as in the official code."""
    x, w = points(20, 5), points(20, 3, 2, unit=False)
    total = torch.zeros(5, 5, dtype=torch.float64)
    for i, z in enumerate(x):
        others = torch.arange(20) != i

        def f(z, others=others):
            return plain_kernel("laplace", z[None], x[others], 2.0)[0] @ w[others]

        J = torch.autograd.functional.jacobian(f, z)
        total += J.T @ J
    found = gradient_outer_products(x, w, "laplace", 2.0, matrix(kernel("laplace", 2.0), x), 8)
    assert (found - total).abs().max() < 1e-8


def test_points_that_nearly_coincide_cost_no_accuracy():
    """The form with squared slopes would lose ten digits here; the direct one is used."""
    x = points(30, 6)
    x[1] = x[0] + 1e-6
    w = points(30, 2, 3, unit=False)
    J = gradients(x, x, w, "laplace", 2.0)
    plain = torch.einsum("icd,ice->de", J, J)
    found = gradient_outer_products(x, w, "laplace", 2.0, matrix(kernel("laplace", 2.0), x))
    assert (found - plain).abs().max() < 1e-9 * plain.abs().max()


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_huge_weights_cost_no_accuracy(precision):
    """Without a ridge the Gaussian kernel of near points has huge weights, which nearly cancel."""
    centres, spread = points(6, 5), points(60, 5, 1, unit=False)
    x = (centres.repeat(10, 1) + 0.03 * spread).to(precision)
    x = x / x.norm(dim=1, keepdim=True)
    labels = torch.nn.functional.one_hot(torch.arange(60) % 6 % 3, 3).to(precision) * 2 - 1
    solution = ridge.solve(x, labels, "gaussian", 2.0, 0.0)
    weights = solution.weights
    assert weights.abs().max() > (1e6 if precision == torch.float64 else 1e2)
    total = torch.zeros(5, 5, dtype=torch.float64)
    for z in x.double():
        J = torch.autograd.functional.jacobian(
            lambda z: plain_kernel("gaussian", z[None], x.double(), 2.0)[0] @ weights.double(), z
        )
        total += J.T @ J
    found = gradient_outer_products(x, weights, "gaussian", 2.0, solution.kernel_matrix)
    largest = 1e-3 if precision == torch.float32 else 1e-6
    assert (found - total).abs().max() < largest * total.abs().max()
    # The form with squared slopes is off by much more.
    assert agop._rounding(solution.kernel_matrix, x, weights, "gaussian", 2.0) > agop.ACCURACY


@pytest.mark.parametrize("D", [0.1, 0.9])
def test_two_points_by_hand(D):
    L, w = 2.0, torch.tensor([[0.3, -1.0], [0.7, 2.0]], dtype=torch.float64)
    x = torch.tensor([[0.5, 0, 0], [0.5, D, 0]], dtype=torch.float64)
    J = gradients(x, x, w, "laplace", L)
    u = torch.tensor([0, 1, 0], dtype=torch.float64)
    assert torch.allclose(J[0], w[1][:, None] * np.exp(-D / L) / L * u, atol=1e-12)
    M = gradient_outer_products(x, w, "laplace", L)
    expected = w.square().sum() * (np.exp(-D / L) / L) ** 2 * torch.outer(u, u)
    assert torch.allclose(M, expected, atol=1e-12)
    J = gradients(x, x, w, "gaussian", L)
    assert torch.allclose(
        J[0].norm(dim=1), w[1].abs() * D * np.exp(-(D**2) / (2 * L**2)) / L**2, atol=1e-12
    )


def test_a_slope_between_equal_points_is_zero_only_for_the_laplace_kernel():
    x = points(3, 4)[[0, 0, 1]]
    assert slope("laplace", 2.0)(x, x)[0, 1] == 0
    assert slope("gaussian", 2.0)(x, x)[0, 1] == pytest.approx(0.25)


def test_the_square_root():
    A = points(8, 5, unit=False)
    M = A.T @ A
    root = square_root(M)
    assert torch.allclose(root @ root, M, atol=1e-12) and torch.allclose(root, root.T, atol=1e-14)
    flat = square_root(torch.diag(torch.tensor([4.0, -1e-9], dtype=torch.float64)))
    assert torch.allclose(flat, torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64)))


# --------------------------------------------------------------------------- ridge regression


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5])
def test_cholesky_solves(name, gamma):
    x, y = points(25, 6), points(25, 3, 1, unit=False)
    found = ridge.cholesky(x, y, name, 2.0, gamma)
    A = plain_kernel(name, x, x, 2.0) + gamma * torch.eye(25, dtype=x.dtype)
    assert torch.allclose(A @ found.weights, y, atol=1e-8) and found.ridge == gamma


def test_a_singular_matrix_gets_the_least_jitter_that_works():
    x = points(20, 3)[[*range(20), 0, 1]]
    y = torch.ones(22, 1, dtype=x.dtype)
    found = ridge.cholesky(x, y, "laplace", 2.0, 0.0)
    assert 0 < found.ridge < 1e-12
    assert (matrix(kernel("laplace", 2.0), x) @ found.weights - y).abs().max() < 1e-6


def test_what_has_no_solution_is_named():
    x = points(10, 3)
    x[4] = torch.nan
    with pytest.raises(ridge.NotSolved, match=r"singular even with a ridge of .*not finite"):
        ridge.cholesky(x, torch.ones(10, 1, dtype=x.dtype), "laplace", 2.0, 0.0)


@pytest.mark.parametrize("name", KERNELS)
def test_conjugate_gradients_end_where_cholesky_does(name, monkeypatch):
    monkeypatch.setattr(ridge, "LANDMARKS", 40)
    x, y = points(300, 4), points(300, 3, 1, unit=False)
    y[:, 2] = 0
    found = ridge.conjugate_gradients(x, y, name, 2.0, 1e-2)
    exact = ridge.cholesky(x, y, name, 2.0, 1e-2).weights
    A = plain_kernel(name, x, x, 2.0) + 1e-2 * torch.eye(300, dtype=x.dtype)
    assert (A @ found - y).norm() < 3e-5 * y.norm() and (found[:, 2] == 0).all()
    assert (found - exact).norm() < 1e-2 * exact.norm()


def test_conjugate_gradients_take_over_where_the_matrix_does_not_fit(monkeypatch, capsys):
    x, y = points(60, 4), points(60, 2, 1, unit=False)
    monkeypatch.setattr(ridge, "fits", lambda *_: False)
    found = ridge.solve(x, y, "laplace", 2.0, 1e-2)
    assert found.kernel_matrix is None and "does not fit" in capsys.readouterr().err
    exact = ridge.cholesky(x, y, "laplace", 2.0, 1e-2)
    assert torch.allclose(found.weights, exact.weights, atol=1e-3)
    a = gradient_outer_products(x, found.weights, "laplace", 2.0, found.kernel_matrix)
    b = gradient_outer_products(x, exact.weights, "laplace", 2.0, exact.kernel_matrix)
    assert (a - b).norm() < 1e-3 * b.norm()


def test_conjugate_gradients_that_do_not_converge_say_so(monkeypatch):
    monkeypatch.setattr(ridge, "ITERATIONS", 2)
    monkeypatch.setattr(ridge, "LANDMARKS", 2)
    x = points(200, 4)
    with pytest.raises(ridge.NotSolved, match="after 2 iterations on 200 points; use a ridge"):
        ridge.conjugate_gradients(x, points(200, 1, 1, unit=False), "laplace", 2.0, 0.0)


# ----------------------------------------------------------------------------- random features


def test_relu_features_have_the_default_start_of_a_linear_layer():
    x = points(4, 50)
    features = random_features("relu", x, 20_000, None, torch.Generator().manual_seed(0))
    # E Φ(x)ᵀΦ(y) = width/(6 d) times the arc-cosine map: the entries have variance 1/(3d).
    products = (features @ features.T) / 20_000 * 6 * 50
    exact = torch.from_numpy(rfm.arc_cosine((x @ x.T).numpy()))
    assert (products - exact).abs().max() < 0.06


def test_cos_features_are_those_of_the_kernel_of_the_absolute_distance():
    x, scale = points(6, 10, unit=False), 0.05
    features = random_features("cos", x, 200_000, scale, torch.Generator().manual_seed(0))
    exact = torch.exp(-scale * (x[:, None] - x[None]).abs().sum(2))
    assert (features @ features.T - exact).abs().max() < 0.02


# -------------------------------------------------------------------------------------- metrics


def simplex(K, d=20):
    frame = np.eye(K) - 1 / K
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    return frame @ rotation[:K]


@given(K=st.integers(2, 12), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_nc2_of_a_simplex_is_zero_whatever_its_size_and_place(K, scale, shift):
    assert metrics.nc2_msd(scale * simplex(K) + shift) < 1e-12


def test_nc1_is_that_of_the_definition_and_does_not_turn():
    generator = np.random.default_rng(0)
    x, labels = generator.standard_normal((60, 5)), np.repeat([0, 1, 2], [10, 20, 30])
    means = np.stack([x[labels == c].mean(0) for c in range(3)])
    within = np.square(x - means[labels]).sum() / 60
    centre = means.mean(0)
    between = sum((m - centre) @ (m - centre) for m in means) / 3
    value = metrics.nc1(within, means)
    assert value == pytest.approx(within / between, rel=1e-12)
    turned = 7 * means @ np.linalg.qr(generator.standard_normal((5, 5)))[0]
    assert metrics.nc1(49 * within, turned) == pytest.approx(value, rel=1e-10)
    assert metrics.nc1(0.0, means) == 0 and np.isnan(metrics.nc1(1.0, np.ones((3, 2))))
    assert np.isnan(metrics.nc2_msd(np.ones((3, 2))))


@given(K=st.integers(2, 8), d=st.integers(2, 12), within=st.floats(0.01, 100))
def test_nc1_is_that_of_the_other_studies(K, d, within):
    """Here from arrays, for the sake of jobs that do not import torch."""
    means = np.random.default_rng(K * d).standard_normal((K, d))
    theirs = collapse.nc1_ratio(torch.tensor(within), torch.from_numpy(means.T))
    assert metrics.nc1(within, means) == pytest.approx(theirs.item(), rel=1e-6)


def test_traces_add_up_for_balanced_classes_and_the_official_ones_are_scaled():
    generator = np.random.default_rng(1)
    K, n = 4, 25
    x, labels = generator.standard_normal((K * n, 6)), np.repeat(range(K), n)
    means = np.stack([x[labels == c].mean(0) for c in range(K)])
    within = np.square(x - means[labels]).sum() / (K * n)
    total = np.square(x - x.mean(0)).sum() / (K * n)
    assert within + metrics.between_trace(means) == pytest.approx(total, rel=1e-10)
    # In the official code Σ_W is divided by K n of all samples.
    official = (np.square(x - means[labels]).sum() / (K * K * n)) / metrics.between_trace(means)
    assert official == pytest.approx(metrics.nc1(within, means) / K, rel=1e-12)


@given(d=st.integers(2, 30), m=st.integers(2, 12), seed=st.integers(0, 99))
def test_the_correlation_of_the_ansatz_is_that_of_the_dense_matrices(d, m, seed):
    generator = np.random.default_rng(seed)
    W, g = generator.standard_normal((m, d)), generator.standard_normal((40, m))
    G = g.T @ g / 40
    values, vectors = np.linalg.eigh(W.T @ G @ W)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    dense = np.corrcoef((W.T @ W).ravel(), root.ravel())[0, 1]
    assert metrics.nfa_pearson(W @ W.T, W.sum(1), G, d) == pytest.approx(dense, abs=1e-4)


def test_the_correlation_is_one_where_the_ansatz_holds():
    W = np.random.default_rng(0).standard_normal((6, 9))
    # The root of WᵀGW is c WᵀW for G = c² W Wᵀ.
    assert metrics.nfa_pearson(W @ W.T, W.sum(1), 4 * W @ W.T, 9) == pytest.approx(1, abs=1e-9)
    assert np.isnan(metrics.nfa_pearson(W @ W.T, W.sum(1), np.zeros((6, 6)), 9))


# --------------------------------------------------------------------------------------- theory


@pytest.mark.parametrize(("r", "value"), CHECKED.items())
def test_the_arc_cosine_map(r, value):
    assert rfm.arc_cosine(r) == pytest.approx(value, abs=1e-6)


def test_iterates_need_many_layers_and_monte_carlo_agrees():
    assert len(rfm.iterates(0.0)) - 1 == 57 and len(rfm.iterates(0.5)) - 1 == 54
    r = np.linspace(-1, 1, 21)
    found = rfm.monte_carlo_arc_cosine(r, 200_000, np.random.default_rng(0))
    assert np.abs(found - rfm.arc_cosine(r)).max() < 0.01


def test_lemma_c2_and_the_factor_it_gives():
    n, K, lam = 5, 4, 1.0
    Y = rfm.one_hot(K, n)
    G = Y.T @ Y
    inverse = np.linalg.inv(G + lam * np.eye(K * n))
    assert np.abs(inverse - (np.eye(K * n) / lam - G / (lam * (lam + n)))).max() < 1e-12
    assert np.abs(G @ inverse - G / (lam + n)).max() < 1e-12


def limit_error(n, lam_hat, lam_map, kappa):
    """|s - n| of the fixed point s = (n/κ)((s + λ_map)/(s + λ_map + λ̂))² above zero (derived)."""
    s = float(n)
    for _ in range(10_000):
        s = n / kappa * ((s + lam_map) / (s + lam_map + lam_hat)) ** 2
    return abs(s - n)


@pytest.mark.parametrize(
    ("kind", "lam_hat", "value"),
    [
        ("printed", 0.1, 3.15421), ("printed", 0.03, 0.63075), ("printed", 0.01, 0.19155),
        ("corrected", 0.3, 0.042424), ("corrected", 0.1, 4.33497e-3),
        ("corrected", 0.03, 3.79424e-4), ("corrected", 0.01, 4.1829e-5),
        ("fixed point", 0.3, 0), ("fixed point", 0.1, 0), ("fixed point", 0.01, 0),
    ],
)  # fmt: skip
def test_fixed_points_of_theorem_53(kind, lam_hat, value):
    K, n = 4, 5
    kappa = rfm.rescaling(kind, lam_hat, 1.0, n)
    assert limit_error(n, lam_hat, 1.0, kappa) == pytest.approx(value, rel=2e-5, abs=1e-9)
    X = np.random.default_rng(0).standard_normal((40, K * n)) / 40**0.5
    errors = rfm.contraction(X.T @ X, rfm.one_hot(K, n), lam_hat, 1.0, kappa)
    last = next(itertools.islice(errors, 300, None))
    assert last == pytest.approx(value, rel=2e-5, abs=1e-9)


def test_the_printed_constant_is_not_positive_at_large_ridge():
    assert rfm.rescaling("printed", 0.3, 1.0, 5) < 0


@pytest.mark.slow
@pytest.mark.parametrize(("K", "n", "ends"), [(4, 5, 0.076), (10, 20, 0.087)])
def test_the_contraction_is_that_of_dense_matrices_and_faster_than_its_bound(K, n, ends):
    lam_hat = 0.1
    kappa = rfm.rescaling("fixed point", lam_hat, 1.0, n)
    X = np.random.default_rng(0).standard_normal((2 * K * n, K * n)) / (2 * K * n) ** 0.5
    A, Y = X.T @ X, rfm.one_hot(K, n)
    errors = list(itertools.islice(rfm.contraction(A, Y, lam_hat, 1.0, kappa), 10))
    for error in errors[:3]:
        inverse = np.linalg.inv(A + lam_hat * np.eye(K * n))
        G = A @ inverse @ Y.T @ Y @ inverse @ A / kappa
        assert error == pytest.approx(np.linalg.norm(G - Y.T @ Y, 2), rel=1e-9)
        A = G + np.eye(K * n)
    ratios = np.array(errors[1:]) / errors[:-1]
    assert (ratios < lam_hat / (1 + lam_hat)).all() and ratios[-1] == pytest.approx(ends, abs=1e-3)


def test_without_ridge_one_layer_collapses_and_a_linear_map_does_not():
    generator = np.random.default_rng(0)
    X, Y = generator.standard_normal((40, 20)), rfm.one_hot(4, 5)
    assert next(rfm.contraction(X.T @ X, Y, 1e-10, 1.0, 1.0)) < 1e-6
    few = generator.standard_normal((2, 20))
    errors = itertools.islice(rfm.contraction(few.T @ few, Y, 0.1, 0.0, 1.0), 50)
    assert min(errors) > 1


def test_theorem_54():
    K, n, mu = 4, 5, 0.5
    Y = rfm.one_hot(K, n)
    assert rfm.collapsed_objective(np.full(K, n), mu) == pytest.approx(18.181818, abs=1e-6)
    assert rfm.kernel_objective(Y.T @ Y, Y, mu) == pytest.approx(K * n * n / (n + mu), abs=1e-9)
    generator = np.random.default_rng(0)
    for _ in range(200):
        k = rfm.random_kernel(K, n, generator)
        assert np.linalg.eigvalsh(k)[0] > -1e-12 and k.min() >= 0 and np.allclose(np.diag(k), 1)
        assert rfm.kernel_objective(k, Y, mu) < K * n * n / (n + mu)
    # The objective as the theorem states it, at the best A: Y (k + μI)⁻¹.
    A = Y @ np.linalg.inv(k + mu * np.eye(K * n))
    stated = np.square(Y - A @ k).sum() + mu * np.trace(k @ A.T @ A)
    assert K * n - stated == pytest.approx(rfm.kernel_objective(k, Y, mu), abs=1e-9)

"""The lower bound of regularised residual networks against numerical minimisation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replica.measures import collapse
from replica.models.residual import layer_norm
from replica.theory import gufm


@pytest.mark.parametrize(("K", "z", "objective"), [(10, 0.848, 0.02276), (2, 0.504, 0.00158)])
def test_the_optimum_of_the_paper_s_settings(K, z, objective):
    found = gufm.optimum("ce", K, 64, 0.005)
    assert found.z == pytest.approx(z, abs=5e-4)
    assert found.objective == pytest.approx(objective, abs=5e-6)


@pytest.mark.parametrize(
    ("L", "objective"),
    [
        (2, 0.01310),
        (3, 0.00945),
        (5, 0.00624),
        (8, 0.00424),
        (13, 0.00284),
        (21, 0.00190),
        (34, 0.00127),
    ],
)
def test_the_bounds_with_a_penalty_over_the_depth(L, objective):
    assert gufm.optimum("ce", 10, 64, 0.005 / L).objective == pytest.approx(objective, abs=5e-6)


@given(
    loss=st.sampled_from(["ce", "mse"]), K=st.integers(2, 12), d=st.integers(13, 200),
    lam=st.floats(1e-4, 1.0),
)  # fmt: skip
def test_nothing_along_the_ray_is_lower(loss, K, d, lam):
    found = gufm.optimum(loss, K, d, lam)
    z = found.z * np.array([0.0, 0.5, 0.9, 0.999, 1.001, 1.1, 2.0])
    if loss == "ce":
        fit = np.log1p((K - 1) * np.exp(-(d**0.5) * z * K / (K - 1)))
    else:
        fit = (1 - d**0.5 * z) ** 2 / 2
    assert (fit + lam * K * z**2 / 2 >= found.objective * (1 - 1e-12)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "bias"), [("ce", False), ("ce", True), ("mse", False)])
@pytest.mark.parametrize(("K", "d", "lam"), [(3, 8, 0.05), (4, 6, 0.3), (2, 4, 0.01)])
def test_gradient_descent_on_all_variables_ends_there_and_collapsed(loss, bias, K, d, lam):
    """W, X and, in the head of pre-LN networks, a bias are free; X is normalised.

    A bias would lower the optimum of the squared error.
    """
    generator = torch.Generator().manual_seed(K)
    n = 3
    labels = torch.arange(K).repeat_interleave(n)
    W = torch.randn(K, d, generator=generator, dtype=torch.float64).requires_grad_()
    free = torch.randn(K * n, d, generator=generator, dtype=torch.float64).requires_grad_()
    c = torch.zeros(K, dtype=torch.float64, requires_grad=bias)
    variables = [W, free, c] if bias else [W, free]
    optimiser = torch.optim.LBFGS(variables, max_iter=400, tolerance_grad=1e-9,
                                  tolerance_change=0, line_search_fn="strong_wolfe")  # fmt: skip

    def objective():
        out = layer_norm(free) @ W.T + c
        if loss == "ce":
            fit = torch.nn.functional.cross_entropy(out, labels)
        else:
            hot = torch.nn.functional.one_hot(labels, K)
            fit = (out - hot).square().sum(1).mean() / 2
        return fit + lam / 2 * W.square().sum()

    def closure():
        optimiser.zero_grad()
        value = objective()
        value.backward()
        return value

    optimiser.step(closure)
    found = objective().item()
    assert found == pytest.approx(gufm.optimum(loss, K, d, lam).objective, rel=1e-6)
    with torch.no_grad():
        X = layer_norm(free)
        nc2 = collapse.nc2_ce if loss == "ce" else collapse.nc2_mse
        assert nc2(W @ W.T) < 1e-3
        assert collapse.nc3_cos(X.T, labels, W) < 1e-5


def test_where_there_is_no_frame_there_is_an_error():
    with pytest.raises(ValueError, match="d = 3"):
        gufm.optimum("ce", 4, 3, 0.1)
    gufm.optimum("ce", 4, 4, 0.1)
    with pytest.raises(ValueError, match="d = 4"):
        gufm.optimum("mse", 4, 4, 0.1)
    with pytest.raises(ValueError, match="λ = 0"):
        gufm.optimum("ce", 4, 8, 0.0)

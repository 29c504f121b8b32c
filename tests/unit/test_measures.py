"""Collapse metrics against brute force, their identities, and their values where nothing is defined."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from replica.measures import collapse, spectra
from replica.measures.moments import ClassMoments, stream_moments
from replica.models.features import capture
from replica.theory import dnc, srg

seeds = st.integers(0, 10**6)


def simplex_means(K, d):
    """K equidistant unit means in R^d."""
    frame = torch.linalg.qr(torch.randn(d, K, dtype=torch.float64))[0]
    means = frame @ collapse.simplex(K)
    return means / means.norm(dim=0)


def sample(seed, K=3, d=4, n=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(K, n, d, generator=generator, dtype=torch.float64)


def brute(x):
    """Σ_W and Σ_B by their definitions; x is (K, n, d)."""
    means = x.mean(1)
    centred = (x - means[:, None]).reshape(-1, x.shape[-1])
    spread = means - means.mean(0)
    return centred.T @ centred / len(centred), spread.T @ spread / len(means), means.T


@pytest.mark.slow
@given(seeds)
def test_nc1_by_its_definitions(seed):
    x = sample(seed)
    within, between, means = brute(x)
    ratio = collapse.nc1_ratio(within.trace(), means)
    assert ratio.item() == pytest.approx((within.trace() / between.trace()).item(), rel=1e-10)


@given(seeds)
def test_nc2_is_the_distance_to_the_nearest_multiple(seed):
    W = sample(seed)[0][:3]
    gram = W @ W.T
    for metric, ideal in [
        (collapse.nc2_ce, collapse.simplex(3)),
        (collapse.nc2_mse, torch.eye(3).double()),
    ]:
        scales = torch.linspace(0, 3, 3001, dtype=torch.float64) * gram.norm()
        values = (gram - scales[:, None, None] * ideal).norm(dim=(1, 2)) / gram.norm()
        assert metric(gram).item() == pytest.approx(values.min().item(), abs=2e-3)
        assert metric(gram).item() <= values.min().item() + 1e-12


@given(st.integers(2, 7), seeds)
def test_identities(K, seed):
    torch.manual_seed(seed)
    E, eye = collapse.simplex(K), torch.eye(K, dtype=torch.float64)
    assert collapse.nc2_ce(eye).item() == pytest.approx(1 / K**0.5, abs=1e-10)
    assert collapse.nc2_mse(E).item() == pytest.approx(1 / K**0.5, abs=1e-10)
    # The root of a rounding error: 1e-8, not 1e-16.
    assert collapse.nc2_ce(E).item() < 1e-7 and collapse.nc2_mse(eye).item() < 1e-7
    # With |G/|G| - E/|E||² = 2(1 - cos), the metric of Zhu et al. (2021).
    W = torch.randn(K, K + 2, dtype=torch.float64)
    gram = W @ W.T
    if (gram * E).sum() >= 0:
        expected = 2 * (1 - (1 - collapse.nc2_ce(gram) ** 2) ** 0.5)
        zhu = (gram / gram.norm() - E / (K - 1) ** 0.5).square().sum()
        assert zhu.item() == pytest.approx(expected.item(), abs=1e-10)


@given(st.integers(2, 6), st.floats(0.01, 2))
def test_identities_of_simplex_means(K, variance):
    means = simplex_means(K, K + 3)
    ratio = collapse.nc1_ratio(torch.tensor(variance, dtype=torch.float64), means)
    # Equidistant means: the class-distance normalised variance (Galanti et al. 2022) by its pairs.
    cdnv = variance / (means[:, 0] - means[:, 1]).square().sum()
    assert ratio.item() == pytest.approx((2 * K / (K - 1) * cdnv).item(), rel=1e-10)
    labels = torch.arange(K)
    assert collapse.nc3_cos(2 * means, labels, means.mT).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("r", [4, 5, 6, 8])
def test_identities_of_the_graph(r):
    B = torch.from_numpy(srg.incidence(r))
    assert collapse.nc2_mse(B.T @ B).item() == pytest.approx((1 - 2 / r) ** 0.5, abs=1e-10)
    s = spectra.singular_values(B)
    assert (s[0] / s[r - 1]).item() == pytest.approx((2 * (r - 1) / (r - 2)) ** 0.5, abs=1e-9)
    erank = {4: 3.870171, 5: 4.886473, 6: 5.895191, 8: 7.904336}[r]
    assert spectra.effective_rank(s).item() == pytest.approx(erank, abs=1e-6)
    assert spectra.stable_rank(s).item() == pytest.approx(r / 2, abs=1e-10)
    assert spectra.rank_rel(s).item() == r


def test_the_explicit_optimum_is_collapsed():
    K, L, n = 2, 3, 5
    H1, Ws = dnc.dnc_matrices(K, n, 6, 0.01, [0.01] * L)
    layers = [torch.from_numpy(H) for H in dnc.forward(H1, Ws)]
    for l, H in enumerate(layers[:L], start=1):
        x = H.unflatten(1, (K, n))
        means = x.mean(-1)
        within = ((x - means[..., None]) ** 2).sum(0).mean()
        assert collapse.nc1_ratio(within, means).item() < 1e-10
        assert collapse.condition_number(means).item() == pytest.approx(1, abs=1e-10)
        assert collapse.weighted_sine(torch.from_numpy(Ws[l - 1]), means).item() < 1e-7
        assert collapse.nc2_mse(means.T @ means).item() < 1e-7


def test_the_weighted_sine_by_hand():
    means = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    W = torch.tensor([[0.0, -3.0, 0.0], [1.0, 0.0, 1.0]])  # along a mean, and at 45 degrees
    expected = (3 * 0 + 2**0.5 * 0.5**0.5) / (3 + 2**0.5)
    assert collapse.weighted_sine(W, means).item() == pytest.approx(expected)


@settings(deadline=None)
@given(seeds)
def test_members_are_computed_apart(seed):
    x = torch.stack([sample(seed + s) for s in range(3)])
    means = x.mean(2).mT
    W = x[:, :, 0]
    alone = torch.stack([collapse.condition_number(m) for m in means])
    torch.testing.assert_close(collapse.condition_number(means), alone)
    together = collapse.weighted_sine(W, means)
    torch.testing.assert_close(
        together, torch.stack([collapse.weighted_sine(w, m) for w, m in zip(W, means, strict=True)])
    )


def test_where_nothing_is_defined():
    zero = torch.zeros(4, 3)
    assert collapse.nc1_ratio(torch.tensor(0.0), zero).isnan()
    assert collapse.condition_number(zero).isnan()
    assert collapse.weighted_sine(torch.ones(2, 4), zero).isnan()
    assert collapse.nc2_mse(zero.T @ zero).isnan()
    assert spectra.rank_rel(spectra.singular_values(zero)).item() == 0
    one_dead = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert collapse.condition_number(one_dead).isinf()
    assert 0 <= collapse.weighted_sine(torch.eye(2), one_dead).item() <= 1
    with pytest.raises(ValueError, match="at least two classes"):
        collapse.centred(torch.ones(4, 1))
    with pytest.raises(ValueError, match="at least two classes"):
        collapse.nc2_ce(torch.ones(1, 1))


# ----------------------------------------------------------------------------- streaming


@settings(max_examples=50)
@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([0.0, 1e6]))
def test_one_pass_gives_what_brute_force_gives(seed, sizes, offset):
    generator = torch.Generator().manual_seed(seed)
    N, K, d = sum(sizes) + 3, 3, 4
    x = torch.randn(N, d, generator=generator, dtype=torch.float64) + offset
    labels = torch.cat([torch.arange(3), torch.randint(3, (N - 3,), generator=generator)])
    moments = ClassMoments.empty(K, d)
    for part, own in zip(x.split([3, *sizes]), labels.split([3, *sizes]), strict=True):
        moments.add(part, own)
    means = torch.stack([x[labels == k].mean(0) for k in range(K)], 1)
    centred = x - means.T[labels]
    torch.testing.assert_close(moments.means, means, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(
        moments.within_trace, centred.square().sum() / N, rtol=1e-7, atol=1e-8
    )
    v = torch.stack([centred[labels == k].square().sum(1).mean() for k in range(K)])
    torch.testing.assert_close(moments.variances, v, rtol=1e-7, atol=1e-8)


def test_a_class_without_samples_is_an_error():
    moments = ClassMoments.empty(3, 2)
    moments.add(torch.ones(4, 2), torch.tensor([0, 0, 2, 2]))
    with pytest.raises(ValueError, match=r"classes \[1\] have no samples"):
        _ = moments.within_trace
    with pytest.raises(ValueError, match="at least two classes"):
        ClassMoments.empty(1, 2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double()


def test_layers_are_streamed_before_and_after_the_relu():
    model, x, labels = network(), sample(0, 2, 3, 10).reshape(-1, 3), torch.arange(20) // 10
    batches = zip(x.split(7), labels.split(7), strict=True)
    found = stream_moments(model, {"0": True, "2": False}, batches, 2)
    assert set(found) == {("0", "pre"), ("0", "post"), ("2", "pre")}
    whole = {
        ("0", "pre"): model[0](x),
        ("0", "post"): model[1](model[0](x)),
        ("2", "pre"): model(x),
    }
    for name, features in whole.items():
        means = features.detach().reshape(2, 10, -1).mean(1).T
        torch.testing.assert_close(found[name].means, means)


def test_hooks_are_removed_and_unknown_layers_named():
    model = network()
    with pytest.raises(RuntimeError, match="inside"), capture(model, ["0"]):
        raise RuntimeError("inside")
    assert not model[0]._forward_hooks
    with pytest.raises(ValueError, match="no layers 7; there are 0, 1, 2"), capture(model, ["7"]):
        pass

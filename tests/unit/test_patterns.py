"""Attention by its parts and metrics of patterns, on maps whose answer is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from replica.measures import patterns
from replica.models import attention
from replica.theory import sinks

T = 64
F64 = torch.float64


def sink_map(T=T):
    A = torch.zeros(T, T, dtype=F64)
    A[:, 0] = 1
    return A


def uniform_map(T=T):
    return torch.from_numpy(sinks.causal_uniform(T))


def previous_map(T=T):
    A = torch.zeros(T, T, dtype=F64)
    A[0, 0] = 1
    A[range(1, T), range(T - 1)] = 1
    return A


EYE = torch.eye(T, dtype=F64)


def test_a_pure_sink():
    A = sink_map()
    assert patterns.importance(A)[0] == 1 and (patterns.importance(A)[1:] == 0).all()
    assert patterns.sink_mass(A) == 1 and patterns.diagonal_mass(A) == 0
    assert patterns.largest_importance(A) == 1 and patterns.entropy(A) == 0
    assert patterns.previous_mass(A) == pytest.approx(1 / (T - 1))


def test_a_pure_diagonal():
    assert patterns.diagonal_mass(EYE) == 1 and patterns.sink_mass(EYE) == 0
    # Row 1 is a sink whatever the head does, and Gu et al. count it.
    assert patterns.importance(EYE)[0] == pytest.approx(1 / T)
    # Late columns have few rows: the last one is 1 of 1.
    assert patterns.importance(EYE)[-1] == 1
    assert patterns.largest_importance(EYE) == pytest.approx(1 / 17)


def test_uniform_causal_attention_has_its_known_values():
    A = uniform_map()
    assert patterns.importance(A)[0].item() == pytest.approx(0.074123, abs=1e-6)
    assert patterns.diagonal_mass(A).item() == pytest.approx(0.059427, abs=1e-6)
    assert patterns.entropy(A).item() == pytest.approx(1, abs=1e-6)
    harmonic = sum(1 / t for t in range(1, T + 1))
    assert patterns.importance(A)[0].item() == pytest.approx(harmonic / T, abs=1e-12)


def test_the_previous_token_and_types_of_heads():
    maps = torch.stack([sink_map(), EYE, previous_map(), uniform_map()])
    found = patterns.head_types(
        patterns.importance(maps)[..., 0], patterns.diagonal_mass(maps),
        patterns.previous_mass(maps), 0.3,
    )  # fmt: skip
    assert found == ["sink", "diagonal", "previous", "mixed"]


@given(st.integers(0, 10_000), st.integers(3, 40))
def test_importance_is_the_definition_written_out(seed, T):
    generator = torch.Generator().manual_seed(seed)
    A = attention.softmax(torch.randn(T, T, generator=generator, dtype=F64), attention.allowed(T))
    for k in range(1, T + 1):
        alpha = sum(A[t - 1, k - 1].item() for t in range(k, T + 1)) / (T - k + 1)
        assert patterns.importance(A)[k - 1].item() == pytest.approx(alpha, abs=1e-12)
    rows = [-(a[a > 0] * a[a > 0].log()).sum().item() / math.log(t + 2)
            for t, a in enumerate(A[1:])]  # fmt: skip
    assert patterns.entropy(A).item() == pytest.approx(np.mean(rows), abs=1e-9)


@given(st.integers(0, 10_000))
def test_margins_are_those_of_each_row(seed):
    z = torch.randn(12, 12, generator=torch.Generator().manual_seed(seed), dtype=F64)
    sink = min((z[t, 0] - z[t, 1 : t + 1].max()).item() for t in range(1, 12))
    diagonal = min((z[t, t] - z[t, :t].max()).item() for t in range(1, 12))
    assert [x.item() for x in patterns.margins(z)] == [sink, diagonal]


def test_margins_and_weights_agree_as_d1_says():
    delta, n = 0.1, 16
    z = torch.zeros(n, n, dtype=F64)
    z[:, 0] = sinks.sufficient_margin(n, delta)
    z[0] = 0
    A = attention.softmax(z, attention.allowed(n))
    assert A[-1, 0].item() == pytest.approx(0.9, abs=1e-12)
    assert (A[1:, 0] >= 0.9 - 1e-12).all()


# ----------------------------------------------------------------- likeness of tokens


@given(st.integers(0, 10_000), st.floats(0, 1e3))
def test_a_common_shift_leaves_mu_and_lowers_relative_mu(seed, size):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(9, 5, generator=generator, dtype=F64)
    c = size * F.normalize(torch.randn(5, generator=generator, dtype=F64), dim=0)
    # Relative to the mean, so that the shift cannot cancel it.
    centred = patterns.centred(X)
    assert patterns.mu(centred + c).item() == pytest.approx(patterns.mu(X).item(), rel=1e-9)
    assert patterns.relative_mu(centred + c) <= patterns.relative_mu(centred) + 1e-12


def test_relative_mu_goes_to_zero_with_the_shift():
    X = torch.randn(9, 5, dtype=F64)
    sizes = [patterns.relative_mu(X + 10.0**k).item() for k in range(0, 6)]
    assert all(a > b for a, b in itertools.pairwise(sizes)) and sizes[-1] < 1e-4


def test_equal_tokens_and_orthogonal_tokens():
    equal, apart = torch.ones(6, 4, dtype=F64), torch.eye(6, dtype=F64)
    assert patterns.mu(equal) == 0 and patterns.relative_mu(equal) == 0
    assert patterns.relative_residual(equal) == 0
    assert [x.item() for x in patterns.cosines(equal)] == pytest.approx([1, 1])
    assert [x.item() for x in patterns.cosines(apart)] == [0, 0]
    assert [x.item() for x in patterns.ranks(apart)] == pytest.approx([6, 1, 1])
    effective, smallest, second = patterns.ranks(equal)
    assert effective.item() == pytest.approx(1) and smallest < 1e-9 and second < 1e-9


def test_the_relative_residual_is_that_of_the_official_code():
    X = np.random.default_rng(0).standard_normal((7, 4))
    rest = X - X.mean(0)

    def norm(Y):
        return math.sqrt(np.linalg.norm(Y, 1) * np.linalg.norm(Y, np.inf))

    ours = patterns.relative_residual(torch.from_numpy(X)).item()
    assert ours == pytest.approx(norm(rest) / norm(X), rel=1e-12)


@pytest.mark.parametrize(
    ("A", "value"),
    [(sink_map(), 0), (torch.full((T, T), 1 / T, dtype=F64), 0), (EYE, 1), (EYE[torch.randperm(T)], 1)],
)  # fmt: skip
def test_smoothing_of_fixed_patterns(A, value):
    V = torch.randn(T, 16, dtype=F64)
    assert patterns.smoothing(A, V).item() == pytest.approx(value, abs=1e-12)


def test_a_sink_of_value_zero_beside_a_residual_connection_changes_nothing():
    X = torch.randn(T, 8, dtype=F64)
    V = torch.randn(T, 8, dtype=F64)
    V[0] = 0
    before, after = patterns.relative_mu(X), patterns.relative_mu(X + sink_map() @ V)
    assert (after / before).item() == 1


@given(st.integers(0, 10_000), st.floats(0.01, 0.2))
def test_positive_weights_on_all_tokens_contract_mu_geometrically(seed, epsilon):
    """Wu et al. 2024, Theorem 1, for the complete mask (radius 1)."""
    generator = torch.Generator().manual_seed(seed)
    n = 4
    X = torch.randn(n, 6, generator=generator, dtype=F64)
    start = X
    for layer in range(1, 8):
        A = torch.softmax(torch.randn(n, n, generator=generator, dtype=F64), -1)
        A = epsilon + (1 - n * epsilon) * A
        X = A @ X
        # Each column's range shrinks by 1 - n ε at least; μ is at most √n times a range.
        bound = n**0.5 * (1 - epsilon) ** layer * (start.amax(0) - start.amin(0)).norm()
        assert patterns.mu(X) <= bound


def test_the_largest_weights():
    A = uniform_map(8)
    A[5] = torch.tensor([0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0], dtype=F64)
    kept = patterns.top_weights(A, 2)
    assert kept[5].tolist() == pytest.approx([4 / 7, 3 / 7, 0, 0, 0, 0, 0, 0])
    assert torch.allclose(kept.sum(-1), torch.ones(8, dtype=F64))
    assert (patterns.top_weights(A, 8) == A).all()


# ------------------------------------------------------------------------- variants


@pytest.fixture
def logits():
    return 2 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=F64)


SEEN = attention.allowed(12)


@pytest.mark.parametrize("name", attention.NORMALISERS)
def test_no_variant_looks_ahead_or_gives_a_negative_weight(name, logits):
    A = attention.NORMALISERS[name](logits, SEEN)
    assert (A[:, ~SEEN] == 0).all() and (A >= 0).all()
    changed = logits.clone()
    changed[:, ~SEEN] = 1e4
    assert torch.equal(attention.NORMALISERS[name](changed, SEEN), A)


def test_softmax_sums_to_one_and_clipped_softmax_contains_it(logits):
    A = attention.softmax(logits, SEEN)
    assert torch.allclose(A.sum(-1), torch.ones(3, 12, dtype=F64))
    assert torch.allclose(attention.clipped(logits, SEEN, high=1.0, low=0.0), A)
    clipped = attention.clipped(logits, SEEN)
    small = A < 0.03 / 1.03 - 1e-9
    assert (clipped[small & SEEN] == 0).all() and clipped.max() <= 1


@pytest.mark.parametrize("n", [1, 4, 9])
def test_off_by_one_leaves_a_share(n):
    A = attention.off_by_one(torch.zeros(n, n, dtype=F64), attention.allowed(n))
    assert A[-1].sum().item() == pytest.approx(n / (n + 1))
    # A learned logit b = 0 is the same, and b = -∞ is softmax.
    z, seen = torch.randn(n, n, dtype=F64), attention.allowed(n)
    far = attention.sink_logit(z, seen, torch.tensor(-800.0, dtype=F64))
    assert torch.allclose(far, attention.softmax(z, seen))


def test_the_others_are_their_formulas(logits):
    i = torch.arange(1, 13, dtype=F64)[:, None]
    assert torch.allclose(attention.sigmoid(logits, SEEN), SEEN / (1 + (-logits).exp()))
    assert torch.allclose(attention.relu(logits, SEEN), logits.clamp(min=0) * SEEN / i)
    assert torch.allclose(attention.elu(logits, SEEN), (F.elu(logits) + 1) * SEEN / i)
    raised = (logits.exp() - 1) * SEEN
    wanted = raised.clamp(min=0) / (raised.abs().sum(-1, keepdim=True) + attention.SOFTPICK_EPSILON)
    assert torch.allclose(attention.softpick(logits, SEEN), wanted)


def test_softpick_is_off_below_zero_and_whole_at_large_logits():
    low, high = torch.full((5, 5), -3.0, dtype=F64), torch.full((5, 5), 800.0, dtype=F64)
    seen = attention.allowed(5)
    assert (attention.softpick(low, seen) == 0).all()
    assert torch.allclose(attention.softpick(high, seen), attention.softmax(high, seen))


@pytest.mark.parametrize("forbid", ["none", "self", "first", "both"])
def test_masks_hide_what_they_say_and_leave_no_row_empty(forbid):
    seen = attention.allowed(6, forbid)
    assert seen.any(1).all() and not seen.triu(1).any()
    rows = range(2, 6)
    assert all(seen[t, t] == (forbid not in ("self", "both")) for t in rows)
    assert all(seen[t, 0] == (forbid not in ("first", "both")) for t in rows)
    assert all(seen[t, 1] for t in rows)


def test_proxy_scores_guard_empty_rows():
    A = torch.tensor([[0.0, 0.0], [0.2, 0.6]])
    assert attention.proxy(A).tolist() == [[0, 0], [pytest.approx(0.25), pytest.approx(0.75)]]


def test_rotary_logits_depend_on_the_distance_alone():
    q, k = torch.randn(8, dtype=F64), torch.randn(8, dtype=F64)
    rotated = [attention.rotate(x.expand(20, 8)) for x in (q, k)]
    z = rotated[0] @ rotated[1].T
    for distance in range(5):
        own = z.diagonal(-distance)
        assert torch.allclose(own, own[:1].expand_as(own))
    assert torch.allclose(rotated[0].norm(dim=-1), q.norm().expand(20))

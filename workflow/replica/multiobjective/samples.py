"""Estimates of the risks of all linear classifiers of a grid from the same Gaussian samples.

Along a direction the score of a sample is a number, and the samples that a classifier accepts are
those above its threshold: a histogram over the offsets, summed up, counts them for all offsets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replica.theory import deviations
from replica.theory.gaussian_groups import Cells, Classifiers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """Estimates from one sample.

    Attributes:
        risks: (H, N) estimated risks.
        C: (N,) bounds of their deviations for all hypotheses and objectives, at most 1.
        counts: (N,) samples of the smallest set that a rate of an objective is taken over: n, a
            group, or its positives.
        complexity: empirical Rademacher complexity of the error, NaN where it is not asked for.
    """

    risks: Array
    C: Array
    counts: NDArray[np.int64]
    complexity: float


@dataclass(frozen=True)
class Samples:
    """n samples: x (n, 2), class y (n,) and group g (n,), both in {0, 1}."""

    x: Array
    y: NDArray[np.int64]
    g: NDArray[np.int64]


def drawn_samples(cells: Cells, n: int, generator: np.random.Generator) -> Samples:
    """n independent samples of a mixture."""
    cell = generator.choice(4, size=n, p=cells.prior.ravel())
    y = cell // 2
    x = cells.mean.reshape(4, 2)[cell] + generator.standard_normal((n, 2))
    g = (generator.random(n) < cells.group.ravel()[cell]).astype(np.int64)
    return Samples(x, y, g)


def estimate_risks(
    cells: Cells,
    classifiers: Classifiers,
    objectives: list[str],
    n: int,
    generator: np.random.Generator,
    *,
    shift: float,
    tail: float,
    delta: float,
    signs: int,
) -> Estimates:
    """Draw n samples and estimate the risks of all classifiers.

    A rate over no samples is 0, with the trivial bound 1.

    Args:
        objectives: names as in `replica.theory.gaussian_groups.risks`.
        shift, tail: of robust_error and cvar.
        delta, signs: see `replica.multiobjective.problems.problems`.
    """
    samples = drawn_samples(cells, n, generator)
    accepted = Accepted(samples, classifiers)
    total = np.array([[np.sum((samples.y == y) & (samples.g == g)) for g in (0, 1)]
                      for y in (0, 1)])  # fmt: skip
    H, N = len(classifiers), len(objectives)
    plain = accepted.counts()
    risks, C, counts = [], [], []
    for name in objectives:
        smallest = n
        if name in ("error", "robust_error"):
            kept = plain if name == "error" else accepted.counts(shift)
            risks.append((kept[0].sum(0) + (total[1] - kept[1].T).sum(-1)) / n)
            bound = deviations.hoeffding(H, N, n, delta)
        elif name == "cvar":
            risks.append(mean_of_largest(samples, classifiers, tail))
            bound = deviations.cvar(H, N, n, delta, tail)
        else:
            # Demographic parity is over all samples of a group, equal opportunity over y = 1.
            over = slice(None) if name == "dp_gap" else slice(1, None)
            sizes = total[over].sum(0)
            rates = plain[over].sum(0) / np.maximum(sizes, 1)[:, None]
            risks.append(np.abs(rates[1] - rates[0]))
            bound = deviations.rate_gap(H, N, (sizes[0], sizes[1]), delta)
            smallest = int(sizes.min())
        counts.append(smallest)
        C.append(min(1.0, float(bound)))
    complexity = np.nan
    if signs:
        drawn = generator.choice([-1.0, 1.0], size=(signs, n))
        sums = [accepted.signed_errors(sigma).max() / n for sigma in drawn]
        complexity = float(np.mean(sums))
    # Gaps of rates that are equal come out a rounding error apart, and would look optimal.
    return Estimates(np.stack(risks, 1).round(12), np.array(C), np.array(counts), complexity)


class Accepted:
    """How many samples of each class and group the classifiers accept.

    It keeps the scores, the offsets in order, and which of them each classifier has by group.
    """

    def __init__(self, samples: Samples, classifiers: Classifiers) -> None:
        self.samples = samples
        self.scores = samples.x @ classifiers.w.T
        self.levels, inverse = np.unique(classifiers.b, return_inverse=True)
        self.of_group = inverse.reshape(classifiers.b.shape)

    def counts(self, shift: float = 0.0, weights: Array | None = None) -> Array:
        """Number, or sum of weights (n,), of accepted samples: (y, g, H).

        With a shift, samples of y = 0 count as accepted, and of y = 1 only those, whose score plus
        or minus it is: what an attack of this length can bring about.
        """
        scores = self.scores
        if shift:
            scores = scores + shift * (1 - 2 * self.samples.y)[:, None]
        A, U = scores.shape[1], len(self.levels)
        # The first level b with score + b > 0; levels are evenly spaced.
        first = np.floor((-scores - self.levels[0]) / (self.levels[1] - self.levels[0])) + 1
        first = np.clip(first, 0, U).astype(np.int64)
        cell = 2 * self.samples.y + self.samples.g
        place = (cell[:, None] * A + np.arange(A)) * (U + 1) + first
        each = None if weights is None else np.repeat(weights, A)
        sums = np.bincount(place.ravel(), each, minlength=4 * A * (U + 1))
        below = sums.reshape(2, 2, A, U + 1)[..., :U].cumsum(-1)
        chosen = [below[:, g][..., self.of_group[:, g]] for g in (0, 1)]
        return np.stack(chosen, 1).reshape(2, 2, -1)

    def signed_errors(self, sigma: Array) -> Array:
        """Σ_j σ_j 1[ŷ_j ≠ y_j] for all classifiers, (H,)."""
        sums = self.counts(weights=sigma)
        return sums[0].sum(0) + sigma[self.samples.y == 1].sum() - sums[1].sum(0)


def mean_of_largest(samples: Samples, classifiers: Classifiers, tail: float) -> Array:
    """CVaR of the ramp loss clip((1 - γ)/2, 0, 1): the mean of the tail·n largest losses, (H,).

    A part of a sample counts where tail·n is not whole. Offsets are the same for both groups.
    """
    count, b = tail * len(samples.y), classifiers.b[:, 0]
    scores = samples.x @ classifiers.w.T
    # The margins γ are score + b for y = 1 and -score - b for y = 0: whatever b is, their order
    # within a class is that of the (negative) scores.
    ahead = np.sort(scores[samples.y == 1], axis=0).T
    behind = np.sort(-scores[samples.y == 0], axis=0).T
    return np.concatenate(
        [_tail_means(*each, b, count) for each in zip(ahead, behind, strict=True)]
    )


def _tail_means(ahead: Array, behind: Array, b: Array, count: float) -> Array:
    """The mean loss of the `count` smallest margins among ahead + b and behind - b, (B,).

    Args:
        ahead, behind: ascending.
        b: (B,) offsets.
        count: how many margins, with a part of one.
    """
    # How many of the smallest are ahead: least i such that the next one there is not smaller than
    # the last one of the k - i behind. Bisection for all offsets at once.
    k = int(np.floor(count))
    infinite = np.array([np.inf])
    padded, others = np.concatenate([ahead, infinite]), np.concatenate([behind, infinite])
    low = np.full(len(b), max(0, k - len(behind)))
    high = np.full(len(b), min(k, len(ahead)))
    while (low < high).any():
        middle = (low + high) // 2
        enough = (padded[middle] + b >= others[np.maximum(k - middle - 1, 0)] - b) | (middle == k)
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    total = _losses_of_first(ahead, low, b) + _losses_of_first(behind, k - low, -b)
    following = np.minimum(padded[low] + b, others[k - low] - b)
    part = (count - k) * np.clip((1 - following) / 2, 0, 1)
    return (total + part) / count


def _losses_of_first(scores: Array, count: NDArray[np.int64], b: Array) -> Array:
    """Σ clip((1 - γ)/2, 0, 1) over the first `count` of the ascending margins scores + b, (B,)."""
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    # Margins below -1 have loss 1, those above 1 none.
    one = np.minimum(np.searchsorted(scores, -1 - b), count)
    end = np.minimum(np.searchsorted(scores, 1 - b), count)
    return one + ((1 - b) * (end - one) - (sums[end] - sums[one])) / 2

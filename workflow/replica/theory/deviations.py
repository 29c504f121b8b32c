"""How far risks of samples can be from true risks, for all hypotheses and objectives at once.

Each bound C holds with probability at least 1 - δ: P(∀h: |L(h) - L̂(h)| <= C) for one of the N
objectives takes δ/N, so that all N hold together (statement R1 of docs/mol.md). Risks lie in
[0, 1], samples are n independent ones, H is the number of hypotheses; functions take numbers or
arrays that broadcast.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


def hoeffding(H: ArrayLike, N: ArrayLike, n: ArrayLike, delta: float) -> Array:
    """C = √(log(2HN/δ) / 2n): a mean of losses in [0, 1] (Hoeffding 1963, union bound)."""
    return np.sqrt(np.log(2.0 * np.asarray(H) * N / delta) / (2.0 * np.asarray(n)))  # type: ignore[operator]


def rate_gap(H: ArrayLike, N: ArrayLike, n: tuple[ArrayLike, ArrayLike], delta: float) -> Array:
    """Difference of the rates of two groups of n[0] and n[1] samples, given these numbers.

    Each rate has δ/2: √(log(4HN/δ) / 2n_1) + √(log(4HN/δ) / 2n_0). A group without samples has no
    rate, and the bound is the trivial 1.
    """
    counts = np.asarray(n[0], dtype=float), np.asarray(n[1], dtype=float)
    empty = np.minimum(*counts) == 0
    each = [hoeffding(H, N, np.where(empty, 1, count), delta / 2) for count in counts]
    return np.where(empty, 1.0, sum(each))


def cvar(H: ArrayLike, N: ArrayLike, n: ArrayLike, delta: float, tail: float) -> Array:
    """Mean of the share `tail` of the largest losses in [0, 1]: Hoeffding's C over `tail`.

    CVaR = ∫ min(1, P(loss > t) / tail) dt moves by at most the largest difference of the
    distribution functions over `tail`; that difference is bounded by Dvoretzky, Kiefer, Wolfowitz
    (1956) with the constant of Massart (1990), the same √(log(2/δ) / 2n).
    """
    return hoeffding(H, N, n, delta) / tail


def vc(d: int, N: ArrayLike, n: ArrayLike, delta: float) -> Array:
    """0-1 loss of a class of VC dimension d, n >= d.

    2√(2(d log(en/d) + log 2)/n) + √(log(N/δ) / 2n): symmetrisation, Massart's lemma on the
    vectors that Sauer's lemma counts and their negatives, McDiarmid.
    """
    n = np.asarray(n, dtype=float)
    complexity = np.sqrt(2 * (d * np.log(np.e * n / d) + np.log(2)) / n)
    return 2 * complexity + np.sqrt(np.log(np.asarray(N) / delta) / (2 * n))


def rademacher(
    complexity: ArrayLike, N: ArrayLike, n: ArrayLike, draws: int, delta: float
) -> Array:
    """From an empirical Rademacher complexity that is itself a mean over draws of signs.

    `complexity` is the mean over `draws` vectors σ of signs of max_h (1/n) Σ_j σ_j loss(h, z_j).
    Both sides of |L - L̂| (McDiarmid), the complexity of the sample (differences of 1/n) and the
    mean over draws (differences of 2/(n draws)) each have δ/4N:
    C = 2 (R̂ + √(2 log(4N/δ) / (n draws))) + 3√(log(4N/δ) / 2n)
    (Bartlett and Mendelson 2002; constants derived in docs/mol.md).
    """
    n, log = np.asarray(n, dtype=float), np.log(4 * np.asarray(N) / delta)
    return (
        2 * np.asarray(complexity) + 3 * np.sqrt(log / (2 * n)) + 2 * np.sqrt(2 * log / (n * draws))
    )


def samples_needed(
    risks: ArrayLike, tolerance: float, delta: float, sizes: ArrayLike
) -> NDArray[np.int64]:
    """Smallest of the sizes n for which all deviations stay within the tolerance, by objectives.

    Estimates are independent Bin(n, L)/n, so that the probability of max |L - L̂| <= tolerance is
    a product: exact, without simulation.

    Args:
        risks: (M, N) true risks.
        tolerance: largest deviation.
        delta: the probability is at least 1 - delta.
        sizes: ascending numbers of samples.

    Returns:
        (N,), for the first 1, 2, ..., N objectives.

    Raises:
        ValueError: the largest size is too small.
    """
    risks, sizes = np.asarray(risks, dtype=float), np.asarray(sizes)
    needed = np.zeros(risks.shape[1], dtype=np.int64)
    for n in sizes:
        together = 1.0
        for i, own in enumerate(risks.T):
            # Counts k with |k/n - L| <= tolerance; 1e-9 forgives the rounding of n (L ± tolerance).
            low = np.ceil(n * (own - tolerance) - 1e-9)
            high = np.floor(n * (own + tolerance) + 1e-9)
            together *= (stats.binom.cdf(high, n, own) - stats.binom.cdf(low - 1, n, own)).prod()
            if together < 1 - delta:
                # More objectives only make it less probable.
                break
            if not needed[i]:
                needed[i] = n
        if needed.all():
            return needed
    raise ValueError(f"More than {sizes[-1]} samples are needed for a deviation of {tolerance:g}.")


def tie_broken_wrongly(n: int, m: ArrayLike) -> Array:
    """P(some of m hypotheses has a smaller estimate than h_0), all estimates Bin(n, ½)/n.

    1 - Σ_k b(k) P(Bin(n, ½) >= k)^m with b(k) = C(n, k) 2^-n, which tends to m/(m+1) (statement R5
    of docs/mol.md).
    """
    # Farther than 40 standard deviations from n/2 the terms are below 1e-300.
    reach = int(min(n, np.ceil(n / 2 + 20 * np.sqrt(n) + 1)))
    k = np.arange(max(0, n - reach), reach + 1)
    tail = stats.binom.sf(k - 1, n, 0.5)
    powers = tail ** np.asarray(m, dtype=float)[..., None]
    return 1 - (stats.binom.pmf(k, n, 0.5) * powers).sum(-1)

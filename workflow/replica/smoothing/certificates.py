"""Certified radii of randomized smoothing with constant and input-dependent noise, in float64.

Notation (Súkeník et al. 2022): x0 the certified point with noise σ_0 = σ(x0), x1 an attacked point
at distance a with noise σ_1, p_A a lower confidence bound of the top class at x0, p_B = 1 - p_A.
Every rounding goes against the certificate: a radius may be smaller than the truth, never larger.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from scipy.optimize import elementwise

from replica.smoothing import noncentral

Array = NDArray[np.float64]
# ξ must stay below one half by this much; far above the error of the distribution function.
SLACK = 1e-9
# r σ_0 is not taken below this: a larger r never gives a larger radius, and without the bound the
# non-centrality 1/(2 r σ_0)² is beyond float64.
SMALLEST_RATE = 1e-6


def clopper_pearson_lower(k: ArrayLike, n: int, alpha: float) -> Array:
    """One-sided lower confidence bound of a probability after k successes in n draws.

    The alpha quantile of Beta(k, n - k + 1) (Cohen et al. 2019, LowerConfBound); 0 for k = 0.

    Raises:
        ValueError: alpha is not in (0, 1/2), or k is not in 0..n.
    """
    _check_alpha(alpha)
    k = np.asarray(k)
    if ((k < 0) | (k > n)).any():
        raise ValueError(f"Counts must lie between 0 and n = {n}.")
    # Downwards by the error of the quantile.
    bound = stats.beta.ppf(alpha, np.maximum(k, 1), n - np.maximum(k, 1) + 1) * (1 - 1e-13)
    return np.where(k > 0, bound, 0.0)


def cohen_radius(sigma: ArrayLike, p_a: ArrayLike) -> Array:
    """σ Φ⁻¹(p_A), the certified radius of constant noise (Cohen et al. 2019); 0 for p_A <= 1/2.

    Raises:
        ValueError: sigma is not positive, or p_a is not in [0, 1).
    """
    sigma, p_a = _checked(sigma, p_a)
    return np.where(p_a > 0.5, sigma * special.ndtri(np.maximum(p_a, 0.5)) * (1 - 1e-14), 0.0)


def xi_greater(
    a: ArrayLike, sigma_0: ArrayLike, sigma_1: ArrayLike, p_b: ArrayLike, N: ArrayLike
) -> Array:
    """ξ_>: the largest probability of class B at x1 where σ_1 < σ_0 (Neyman-Pearson).

    F_N((σ_0²/σ_1²) Q_N(p_B; λ_0); λ_1) with λ_i = a² σ_i² / (σ_0² - σ_1²)².

    Args:
        a: distance between x0 and x1.
        sigma_0, sigma_1: noise at x0 and x1, σ_1 < σ_0.
        p_b: probability of class B at x0.
        N: input dimension.

    Raises:
        ValueError: not σ_1 < σ_0.
    """
    a, s0, s1 = (np.asarray(x, dtype=np.float64) for x in (a, sigma_0, sigma_1))
    if not (s1 < s0).all():
        raise ValueError("xi_greater needs sigma_1 < sigma_0.")
    nc0, nc1 = _noncentralities(a, s0, s1)
    return noncentral.cdf((s0 / s1) ** 2 * noncentral.quantile(p_b, N, nc0), N, nc1)


def xi_less(
    a: ArrayLike, sigma_0: ArrayLike, sigma_1: ArrayLike, p_a: ArrayLike, N: ArrayLike
) -> Array:
    """ξ_<: the largest probability of class B at x1 where σ_1 > σ_0 (Neyman-Pearson).

    1 - F_N((σ_0²/σ_1²) Q_N(p_A; λ_0); λ_1).

    Raises:
        ValueError: not σ_1 > σ_0.
    """
    a, s0, s1 = (np.asarray(x, dtype=np.float64) for x in (a, sigma_0, sigma_1))
    if not (s1 > s0).all():
        raise ValueError("xi_less needs sigma_1 > sigma_0.")
    nc0, nc1 = _noncentralities(a, s0, s1)
    return 1 - noncentral.cdf((s0 / s1) ** 2 * noncentral.quantile(p_a, N, nc0), N, nc1)


def xi_equal(a: ArrayLike, sigma: ArrayLike, p_b: ArrayLike) -> Array:
    """ξ at σ_1 = σ_0: Φ(Φ⁻¹(p_B) + a/σ), the limit of both."""
    return special.ndtr(special.ndtri(p_b) + np.asarray(a) / np.asarray(sigma))


def input_dependent_radius(
    sigma_0: ArrayLike,
    rate: ArrayLike,
    N: ArrayLike,
    p_a: ArrayLike,
    ratio_cap: ArrayLike | None = None,
) -> tuple[Array, NDArray[np.str_]]:
    """The certified radius where log σ(x) is `rate`-Lipschitz.

    sup{R : for all a <= R both ξ_>(a, σ_0 e^{-ra}) < 1/2 and ξ_<(a, σ_0 e^{ra}) < 1/2}. Up to
    Cohen's radius, which is never exceeded, no σ_1 between the two ends is worse than both ends
    and σ_0 itself. The root is bracketed; the lower end is returned. Abstentions have radius 0.

    Args:
        sigma_0: noise at the certified point.
        rate: semi-elasticity bound r >= 0; at 0 the noise is constant and Cohen's radius is exact.
        N: input dimension, at least 2.
        p_a: lower confidence bound of the top class.
        ratio_cap: κ < 1 keeps σ_1 at least as far from σ_0 as κσ_0 and σ_0/κ, as the follow-up
            code does; it never raises a radius. None: no cap.

    Returns:
        Radii, and which side binds: greater, less, both (Cohen's radius) or none (abstained).

    Raises:
        ValueError: sigma_0 <= 0, rate < 0, N < 2, p_a outside [0, 1), or a cap outside (0, 1).
    """
    sigma_0, p_a = _checked(sigma_0, p_a)
    rate, N = np.asarray(rate, dtype=np.float64), np.asarray(N, dtype=np.float64)
    if (rate < 0).any() or (N < 2).any():
        raise ValueError("The certificate needs rate >= 0 and N >= 2.")
    cap = np.asarray(1.0 if ratio_cap is None else ratio_cap, dtype=np.float64)
    if ratio_cap is not None and not ((cap > 0) & (cap < 1)).all():
        raise ValueError("A cap on the ratio must lie inside (0, 1).")
    sigma_0, rate, N, p_a, cap = np.broadcast_arrays(sigma_0, rate, N, p_a, cap)
    shape = sigma_0.shape
    sigma_0, rate, N, p_a, cap = (x.ravel() for x in (sigma_0, rate, N, p_a, cap))
    radius, side = np.zeros(sigma_0.size), np.full(sigma_0.size, "none", dtype="U7")

    constant = (p_a > 0.5) & (rate == 0) & (cap == 1)
    radius[constant] = cohen_radius(sigma_0, p_a)[constant]
    side[constant] = "both"
    rows = np.flatnonzero((p_a > 0.5) & ~constant)
    if len(rows):
        # In units of σ_0 (scale invariance).
        r = np.maximum(rate[rows] * sigma_0[rows], SMALLEST_RATE)
        distance, side[rows] = _last_certified(r, N[rows], p_a[rows], cap[rows])
        radius[rows] = distance * sigma_0[rows]
    return radius.reshape(shape), side.reshape(shape)


def _last_certified(r: Array, N: Array, p: Array, cap: Array) -> tuple[Array, NDArray[np.str_]]:
    """The distance, in units of σ_0, up to which both ξ are below one half, and which fails next.

    A root of the larger one, bracketed by 0 and Cohen's radius; the arguments are (n,).
    """
    # As p_A below 1/2 + 1e-9 cannot hold with the slack, the bracket is never empty.
    start, ceiling = np.full(len(r), 1e-6), cohen_radius(1.0, p)
    ceiling = np.maximum(ceiling, 2 * start)
    found = elementwise.find_root(
        lambda a, r, N, p, cap: SLACK - 0.5 + np.maximum(*_worst_case(a, r, N, p, cap)),
        (start, ceiling),
        args=(r, N, p, cap),
        tolerances={"xatol": 1e-12, "xrtol": 1e-11, "fatol": 0.0, "frtol": 0.0},
    )
    # The lower end of the bracket, where both were seen below one half.
    low = np.where(found.f_bracket[0] < 0, found.bracket[0], 0.0)
    greater, less = _worst_case(found.bracket[1], r, N, p, cap)
    return low, np.where(greater >= less, "greater", "less")


def _worst_case(a: Array, r: Array, N: Array, p_a: Array, cap: Array) -> tuple[Array, Array]:
    """ξ_> and ξ_< at distance a, in units of σ_0, at the two ends of what σ_1 can be."""
    ra = r * a
    greater = xi_greater(a, 1.0, np.minimum(np.exp(-ra), cap), 1 - p_a, N)
    return greater, xi_less(a, 1.0, np.maximum(np.exp(ra), 1 / cap), p_a, N)


def follow_up_cap(N: int, p_a: ArrayLike) -> Array:
    """κ of the follow-up code: 0.9993 (CIFAR-10), 0.9988 (MNIST), 0.997 (digits) + 0.001 log10 p_B.

    Raises:
        ValueError: N is not 3072, 784 or 64.
    """
    base = {3072: 0.9993, 784: 0.9988, 64: 0.997}
    if N not in base:
        raise ValueError(f"The follow-up code has no cap for N = {N}; it has {sorted(base)}.")
    return base[N] + 0.001 * np.log10(1 - np.asarray(p_a, dtype=np.float64))


def ratio_thresholds(N: ArrayLike, p_a: ArrayLike) -> tuple[Array, Array]:
    """Smallest and largest σ_1/σ_0 that can be certified at any distance, exactly.

    sqrt(Q_N(1-p_A)/Q_N(1/2)) and sqrt(Q_N(p_A)/Q_N(1/2)), central chi-square quantiles.
    """
    p_a = np.asarray(p_a, dtype=np.float64)
    median = stats.chi2.ppf(0.5, N)
    # The survival function keeps the digits of 1 - p_A.
    low = np.sqrt(stats.chi2.ppf(1 - p_a, N) / median)
    return low, np.sqrt(stats.chi2.isf(1 - p_a, N) / median)


def chernoff_thresholds(N: ArrayLike, p_a: ArrayLike) -> tuple[Array, Array]:
    """The same by Chernoff's bound: roots of log s + 1 - s = 2 log(1-p_A)/N, s = (σ_1/σ_0)².

    With the two branches of Lambert's W: s = -W(-e^{c-1}), c the right-hand side.
    """
    c = 2 * np.log1p(-np.asarray(p_a, dtype=np.float64)) / np.asarray(N, dtype=np.float64)
    low = -special.lambertw(-np.exp(c - 1), 0).real
    high = -special.lambertw(-np.exp(c - 1), -1).real
    return np.sqrt(low), np.sqrt(high)


def corollary_threshold(N: ArrayLike, p_a: ArrayLike) -> Array:
    """sqrt(1 - 2 sqrt(-log(1-p_A)/N)), below which σ_1/σ_0 excludes a certificate."""
    drop = 2 * np.sqrt(-np.log1p(-np.asarray(p_a, dtype=np.float64)) / np.asarray(N))
    return np.sqrt(np.maximum(1 - drop, 0))


def radius_ceiling(sigma: float, n: int, alpha: float) -> float:
    """The largest radius of constant noise: every one of n draws agrees, p_A = alpha^(1/n)."""
    return float(cohen_radius(sigma, clopper_pearson_lower(n, n, alpha)))


def _noncentralities(a: Array, s0: Array, s1: Array) -> tuple[Array, Array]:
    # (σ_0 - σ_1)(σ_0 + σ_1) keeps its digits where the two are close.
    scale = (a / ((s0 - s1) * (s0 + s1))) ** 2
    return scale * s0**2, scale * s1**2


def _checked(sigma: ArrayLike, p_a: ArrayLike) -> tuple[Array, Array]:
    sigma, p_a = np.asarray(sigma, dtype=np.float64), np.asarray(p_a, dtype=np.float64)
    if not (sigma > 0).all():
        raise ValueError("Noise must have sigma > 0.")
    if not ((p_a >= 0) & (p_a < 1)).all():
        raise ValueError("p_A must lie in [0, 1).")
    return sigma, p_a


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha = {alpha} must lie in (0, 1/2).")

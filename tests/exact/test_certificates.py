"""Certificates against known values, simulation, mpmath, and attacks on classifiers."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from replica.smoothing import certificates as c
from replica.smoothing import noncentral

levels = st.floats(0.5001, 0.9999)
dimensions = st.sampled_from([2, 3, 8, 64, 784, 3072, 150528])
# The same, for many cases at once
SIGMAS, RATES, LEVELS = (0.05, 2.0), (1e-4, 0.3), (0.5001, 0.9999)
DIMENSIONS = [2, 3, 8, 64, 784, 3072, 150528]


def cases(*ranges, count=300):
    """An array for each range, a pair of bounds or a list: every corner, then random cases."""
    generator = np.random.default_rng(0)
    corners = np.array(list(itertools.product(*ranges))).T
    drawn = [
        generator.choice(x, count) if isinstance(x, list) else generator.uniform(*x, count)
        for x in ranges
    ]
    return [np.concatenate(both) for both in zip(corners, drawn, strict=True)]


def radius(sigma_0, rate, N, p_a, cap=None):
    return c.input_dependent_radius(sigma_0, rate, N, p_a, cap)[0]


# ------------------------------------------------------- the non-central chi-square distribution


def by_integral(x, N, nc):
    """F_N(x; λ) with 30 digits: mpmath integrates the density with its Bessel function."""
    mpmath.mp.dps = 30
    nc, order = mpmath.mpf(nc), mpmath.mpf(N) / 2 - 1

    def density(y):  # of the square root
        power = order * mpmath.log(y / mpmath.sqrt(nc)) - (y * y + nc) / 2
        return y * mpmath.exp(power) * mpmath.besseli(order, y * mpmath.sqrt(nc))

    high = mpmath.sqrt(x)
    low = min(high, max(mpmath.mpf(0), mpmath.sqrt(N + nc) - 12))
    return mpmath.quad(density, mpmath.linspace(low, high, 9))


@pytest.mark.parametrize(("N", "nc"), [(2, 1e7), (3, 5e8), (64, 3e7), (64, 1e10), (16, 2e3),
                                      (784, 5e3)])  # fmt: skip
@pytest.mark.parametrize("z", [-4.0, -1.0, 0.3, 3.0])
def test_the_distribution_at_extreme_noncentrality(N, nc, z):
    x = (np.sqrt(N + nc) + z * np.sqrt((N + 2 * nc) / (2 * (N + nc)))) ** 2
    assert noncentral.cdf(x, N, nc) == pytest.approx(float(by_integral(x, N, nc)), abs=1e-12)


@given(st.sampled_from([2, 3, 10, 64, 784, 3072]), st.floats(3e4, 1e6), st.floats(-5, 5))
def test_the_distribution_is_scipys_also_where_scipy_is_slow(N, nc, z):
    x = max(np.sqrt(N + nc) + z, 0) ** 2
    assert noncentral.cdf(x, N, nc) == pytest.approx(stats.ncx2.cdf(x, N, nc), abs=1e-11)


@given(dimensions, st.floats(0, 1e10), st.floats(1e-6, 1 - 1e-6))
def test_the_quantile_inverts(N, nc, p):
    assert noncentral.cdf(noncentral.quantile(p, N, nc), N, nc) == pytest.approx(p, abs=2e-11)


def test_quantiles_outside_of_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match="0 < p < 1"):
        noncentral.quantile([0.5, 1.0], 3, 1.0)


# --------------------------------------------------------------------------------- known values


@pytest.mark.parametrize(
    ("p_a", "ratio", "greater", "less"),
    [
        (0.9, 0.9, 0.121970, 0.154882),
        (0.99, 0.8, 0.015581, 0.052481),
        (0.7, 0.95, 0.326460, 0.337366),
    ],
)
def test_two_dimensions_at_no_distance(p_a, ratio, greater, less):
    found = c.xi_greater(1e-9, 1.0, ratio, 1 - p_a, 2)
    assert found == pytest.approx(greater, abs=1e-6)
    assert found == pytest.approx(1 - p_a ** (1 / ratio**2), abs=1e-9)
    found = c.xi_less(1e-9, 1.0, 1 / ratio, p_a, 2)
    assert found == pytest.approx(less, abs=1e-6)
    assert found == pytest.approx((1 - p_a) ** (ratio**2), abs=1e-9)


def test_three_dimensions():
    assert c.xi_greater(0.3, 0.5, 0.4, 0.2, 3) == pytest.approx(0.451107, abs=1e-6)
    assert c.xi_less(0.3, 0.5, 0.6, 0.8, 3) == pytest.approx(0.459205, abs=1e-6)


@pytest.mark.parametrize(
    ("p_a", "expected"),
    [(0.99, [0.6881, 0.5518, 0.5132, 0.5021]), (0.9, [0.7762, 0.5884, 0.5235, 0.5038])],
)
def test_at_cohens_radius(p_a, expected):
    a = c.cohen_radius(0.25, p_a)
    found = c.xi_greater(a, 0.25, 0.25 * np.array([0.98, 0.99, 0.995, 0.998]), 1 - p_a, 3072)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    near = c.xi_greater(a, 0.25, 0.25 * (1 - 1e-6), 1 - p_a, 3072)
    assert near == pytest.approx(0.5, abs=1e-5)


def test_the_table_of_radii():
    p_a = np.array([0.6, 0.8, 0.9, 0.99, 0.999, 0.99993])
    table = {0.25: ([0.0633, 0.2104, 0.3204, 0.5816, 0.7726, 0.9520],
                    [0.0596, 0.2065, 0.3144, 0.5707, 0.7581, 0.9342]),
             0.50: ([0.1267, 0.4208, 0.6408, 1.1632, 1.5451, 1.9041],
                    [0.1179, 0.3917, 0.5964, 1.0825, 1.4377, 1.7714])}  # fmt: skip
    for sigma_0, (cohen, capped) in table.items():
        np.testing.assert_allclose(c.cohen_radius(sigma_0, p_a), cohen, atol=1e-4)
        found = radius(sigma_0, 0.01, 3072, p_a, c.follow_up_cap(3072, p_a))
        np.testing.assert_allclose(found, capped, atol=1e-4)


def test_the_table_of_thresholds():
    p_a = np.array([0.9, 0.99, 0.999])
    lower = {784: ([0.9678, 0.9418, 0.9230], [0.9463, 0.9244, 0.9076]),
             3072: ([0.9837, 0.9705, 0.9608], [0.9727, 0.9615, 0.9530]),
             150528: ([0.9977, 0.9958, 0.9944], [0.9961, 0.9945, 0.9932])}  # fmt: skip
    upper = {784: ([1.0325, 1.0593, 1.0791], [1.0547, 1.0776, 1.0953]),
             3072: ([1.0164, 1.0298, 1.0397], [1.0275, 1.0390, 1.0478]),
             150528: ([1.0023, 1.0042, 1.0056], [1.0039, 1.0055, 1.0068])}  # fmt: skip
    for N in lower:
        for side, table in enumerate([lower, upper]):
            np.testing.assert_allclose(c.ratio_thresholds(N, p_a)[side], table[N][0], atol=1e-4)
            np.testing.assert_allclose(c.chernoff_thresholds(N, p_a)[side], table[N][1], atol=1e-4)


def test_constant_noise_is_the_limit():
    found = radius(0.25, 0.0, np.array([64, 3072]), 0.99, 0.9999)
    np.testing.assert_allclose(found, [0.581587, 0.581584], atol=2e-6)
    assert (found < c.cohen_radius(0.25, 0.99)).all()
    np.testing.assert_allclose(
        radius(0.25, 1e-6, np.array([64, 3072]), 0.99), c.cohen_radius(0.25, 0.99), rtol=1e-6
    )
    exact, side = c.input_dependent_radius(0.25, 0.0, 64, 0.99)
    assert exact == c.cohen_radius(0.25, 0.99) and side == "both"


def test_ceilings():
    assert c.clopper_pearson_lower(10**5, 10**5, 0.001) == pytest.approx(0.99993092, abs=1e-8)
    found = [c.radius_ceiling(sigma, 10**5, 0.001) for sigma in (0.12, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(found, [0.4574, 0.9529, 1.9057, 3.8115], atol=1e-4)
    found = [c.radius_ceiling(sigma, 10**5, 0.01) for sigma in (0.12, 0.25, 0.5)]
    np.testing.assert_allclose(found, [0.4693, 0.9776, 1.9553], atol=1e-4)
    assert c.radius_ceiling(1.0, 10**4, 0.001) == pytest.approx(3.1986, abs=1e-4)
    assert c.radius_ceiling(1.0, 10**3, 0.001) == pytest.approx(2.4633, abs=1e-4)


# ------------------------------------------------------------------------------ Clopper-Pearson


def test_the_bound_of_a_probability():
    assert c.clopper_pearson_lower(99_000, 10**5, 0.001) == pytest.approx(0.9889893, abs=1e-6)
    assert c.clopper_pearson_lower(9_000, 10**4, 0.001) == pytest.approx(0.8904097, abs=1e-6)
    assert c.clopper_pearson_lower(500, 500, 0.01) == pytest.approx(0.01 ** (1 / 500), abs=1e-12)
    assert c.clopper_pearson_lower(0, 10, 0.001) == 0


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(1e-4, 0.2))
def test_it_is_the_lower_end_of_the_two_sided_interval(n, share, alpha):
    k = round(share * n)
    both = stats.binomtest(k, n).proportion_ci(1 - 2 * alpha, method="exact").low
    found = c.clopper_pearson_lower(k, n, alpha)
    assert found == pytest.approx(both, abs=1e-10)
    # By its definition, and rounded down: so many successes are rarer than alpha there.
    assert found == 0 or stats.binom.sf(k - 1, n, found) <= alpha * (1 + 1e-12)


@pytest.mark.parametrize("p", [0.3, 0.5, 0.9, 0.99, 0.9999])
def test_it_covers(p):
    """Exactly, by summing over all counts, and by simulation."""
    n, alpha = 400, 0.05
    k = np.arange(n + 1)
    bound = c.clopper_pearson_lower(k, n, alpha)
    assert stats.binom.pmf(k, n, p)[bound <= p].sum() >= 1 - alpha
    drawn = np.random.default_rng(0).binomial(n, p, 40_000)
    missed = (bound[drawn] > p).mean()
    assert missed <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / 40_000)


# --------------------------------------------------------------------------------- monotonicity


@pytest.mark.slow
def test_the_radius_grows_with_p_a():
    sigma_0, rate, N, one, other = cases(SIGMAS, RATES, DIMENSIONS, LEVELS, LEVELS)
    low = radius(sigma_0, rate, N, np.minimum(one, other))
    assert (low <= radius(sigma_0, rate, N, np.maximum(one, other)) * (1 + 1e-9)).all()


@pytest.mark.slow
def test_the_radius_falls_with_the_rate_and_is_below_cohens():
    sigma_0, one, other, N, p_a = cases(SIGMAS, RATES, RATES, DIMENSIONS, LEVELS)
    steep = radius(sigma_0, np.maximum(one, other), N, p_a)
    flat = radius(sigma_0, np.minimum(one, other), N, p_a)
    assert (steep <= flat * (1 + 1e-9)).all()
    assert (flat <= c.cohen_radius(sigma_0, p_a) * (1 + 1e-9)).all()


@pytest.mark.slow
def test_the_radius_falls_with_the_dimension():
    # Known for these numbers of dimensions and more, not for a few.
    many = DIMENSIONS[2:]
    sigma_0, rate, one, other, p_a = cases(SIGMAS, RATES, many, many, LEVELS)
    high = radius(sigma_0, rate, np.maximum(one, other), p_a)
    assert (high <= radius(sigma_0, rate, np.minimum(one, other), p_a) * (1 + 1e-9)).all()


@pytest.mark.slow
def test_the_share_of_cohens_radius_falls_with_the_noise():
    one, other, rate, N, p_a = cases(SIGMAS, SIGMAS, RATES, [64, 784, 3072], LEVELS)
    small, large = (
        radius(noise, rate, N, p_a) / c.cohen_radius(noise, p_a)
        for noise in (np.minimum(one, other), np.maximum(one, other))
    )
    assert (large <= small * (1 + 1e-9)).all()


@pytest.mark.slow
def test_scale_invariance():
    sigma_0, rate, N, p_a, scale = cases(SIGMAS, RATES, DIMENSIONS, LEVELS, (0.1, 10))
    one = radius(sigma_0, rate, N, p_a)
    other = radius(scale * sigma_0, rate / scale, N, p_a)
    np.testing.assert_allclose(other, scale * one, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_cap_never_raises_the_radius():
    sigma_0, N, p_a, cap = cases(SIGMAS, [64, 784, 3072], LEVELS, (0.9, 0.9999))
    free, capped, lower = (radius(sigma_0, 0.01, N, p_a, x) for x in (1 - 1e-9, cap, 0.99 * cap))
    assert (lower <= capped * (1 + 1e-9)).all() and (capped <= free * (1 + 1e-9)).all()


@given(st.sampled_from([64, 784, 3072, 150528]), st.floats(0.9, 0.9999))
def test_chernoffs_interval_contains_the_exact_one(N, p_a):
    low, high = c.ratio_thresholds(N, p_a)
    wide_low, wide_high = c.chernoff_thresholds(N, p_a)
    # Above, Chernoff's bound is about the mean N and the exact one about the median: for a few
    # dimensions it does not contain it.
    assert wide_low <= low
    assert high <= wide_high


@given(dimensions, levels)
def test_the_corollary_follows_from_chernoffs_bound(N, p_a):
    assert c.corollary_threshold(N, p_a) <= c.chernoff_thresholds(N, p_a)[0] + 1e-12


@pytest.mark.slow
@given(dimensions, levels, st.floats(0.01, 0.9999))
def test_between_its_ends_the_noise_is_not_worse_than_at_them(N, p_a, share):
    """Why it is enough to look at σ_0 e^{-ra} and σ_0 e^{ra}, up to Cohen's radius.

    ξ_< grows with σ_1; ξ_> falls a little below σ_0 before it grows, and so never exceeds the
    larger of its two ends. Beyond Cohen's radius neither is true.
    """
    a = share * c.cohen_radius(1.0, p_a)
    ratios = np.exp(np.concatenate([np.geomspace(1e-5, 0.01, 8), np.linspace(0.02, 1, 12)]))
    less = c.xi_less(a, 1.0, ratios, p_a, N)
    assert (np.diff(less) >= -1e-11).all()
    greater = c.xi_greater(a, 1.0, 1 / ratios, 1 - p_a, N)
    equal = c.xi_equal(a, 1.0, 1 - p_a)
    assert (np.maximum.accumulate(greater) <= np.maximum(equal, greater) + 1e-11).all()


# -------------------------------------------------------------- the direction of every rounding


@pytest.mark.slow
def test_both_probabilities_stay_below_one_half_up_to_the_radius():
    drawn = cases(SIGMAS, (1e-3, 0.5), [2, 8, 64, 784], (0.55, 0.999), count=60)
    sigma_0, rate, N, p_a = (x[:, None] for x in drawn)
    R = radius(sigma_0, rate, N, p_a)
    a = R * np.linspace(1e-3, 1, 60)
    # All σ_1 that an r-semi-elastic σ can have there, not only the two ends.
    for position in (0.2, 0.6, 1.0):
        s1 = sigma_0 * np.exp(position * rate * a)
        assert (c.xi_greater(a, sigma_0, sigma_0**2 / s1, 1 - p_a, N) < 0.5).all()
        assert (c.xi_less(a, sigma_0, s1, p_a, N) < 0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("N", [2, 8, 64])
@pytest.mark.parametrize("ratio", [0.85, 0.97, 1.04, 1.2])
def test_xi_by_sampling(N, ratio):
    """Draw at x0 and x1 in full dimension; the worst set by its likelihood ratio, not its formula."""
    a, sigma_0, p_a, draws = 0.4, 0.5, 0.85, 200_000
    sigma_1 = ratio * sigma_0
    x1 = np.zeros(N)
    x1[0] = a
    generator = np.random.default_rng(N)

    def log_ratio(x):
        at_0 = -(x**2).sum(1) / (2 * sigma_0**2)
        return -((x - x1) ** 2).sum(1) / (2 * sigma_1**2) - at_0

    at_0 = np.sort(log_ratio(sigma_0 * generator.standard_normal((draws, N))))
    at_1 = log_ratio(x1 + sigma_1 * generator.standard_normal((draws, N)))
    found = (at_1 >= at_0[round(p_a * draws)]).mean()
    xi = c.xi_greater(a, sigma_0, sigma_1, 1 - p_a, N) if ratio < 1 else c.xi_less(
        a, sigma_0, sigma_1, p_a, N)  # fmt: skip
    # The threshold is itself sampled; its error moves the mass by the slope of one curve on the
    # other, which is below 3 here.
    error = np.sqrt(xi * (1 - xi) / draws) + 3 * np.sqrt(p_a * (1 - p_a) / draws)
    assert abs(found - xi) <= 4 * error


@pytest.mark.slow
def test_no_certificate_of_a_linear_classifier_is_larger_than_the_truth():
    """10,000 random half spaces whose probabilities, and so whose true radii, are known.

    The smoothed classifier predicts A at x while w.x + b > 0, whatever sigma(x): the true radius
    is the distance to the plane. p_A comes from a binomial count, and exactly.
    """
    generator = np.random.default_rng(0)
    count = 10_000
    sigma = np.exp(generator.uniform(np.log(0.05), np.log(2), count))
    rate = np.exp(generator.uniform(np.log(1e-3), np.log(0.5), count))
    N = generator.choice([2, 8, 64, 784, 3072], count)
    distance = sigma * generator.uniform(0.0, 3.5, count)
    p = special.ndtr(distance / sigma)
    exact = radius(sigma, rate, N, p)
    assert (exact <= distance).all() and (c.cohen_radius(sigma, p) <= distance * (1 + 1e-12)).all()
    assert (exact[distance > 0.01 * sigma] > 0).mean() > 0.95
    counted = generator.binomial(1000, p)
    bound = c.clopper_pearson_lower(counted, 1000, 0.001)
    wrong = radius(sigma, rate, N, bound) > distance
    # The bound itself fails with probability alpha.
    assert wrong.mean() <= 0.001 + 4 * np.sqrt(0.001 / count)


# ------------------------------------------------------------------------------------ bad input


def test_abstentions_have_no_radius():
    found, side = c.input_dependent_radius(0.25, 0.01, 64, [0.0, 0.3, 0.5, 0.5 + 1e-12, 0.6])
    assert (found[:4] == 0).all() and found[4] > 0 and (side[:3] == "none").all()
    assert (c.cohen_radius(0.25, [0.0, 0.5]) == 0).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: c.cohen_radius(0.0, 0.9), "sigma > 0"),
        (lambda: c.cohen_radius(np.nan, 0.9), "sigma > 0"),
        (lambda: c.cohen_radius(0.25, 1.0), r"\[0, 1\)"),
        (lambda: c.cohen_radius(0.25, np.nan), r"\[0, 1\)"),
        (lambda: radius(-1.0, 0.01, 64, 0.9), "sigma > 0"),
        (lambda: radius(0.25, -0.01, 64, 0.9), "rate >= 0"),
        (lambda: radius(0.25, 0.01, 1, 0.9), "N >= 2"),
        (lambda: radius(0.25, 0.01, 64, 0.9, 1.0), "inside"),
        (lambda: c.clopper_pearson_lower(5, 10, 0.5), "alpha"),
        (lambda: c.clopper_pearson_lower(5, 10, 0.0), "alpha"),
        (lambda: c.clopper_pearson_lower(11, 10, 0.01), "Counts"),
        (lambda: c.xi_greater(0.1, 0.2, 0.3, 0.1, 4), "sigma_1 < sigma_0"),
        (lambda: c.xi_less(0.1, 0.3, 0.2, 0.9, 4), "sigma_1 > sigma_0"),
        (lambda: c.follow_up_cap(100, 0.9), "no cap"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()

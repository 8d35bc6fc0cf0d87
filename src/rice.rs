//! How likely two places, each known within an uncertainty, are near each other.
//!
//! Both are isotropic Gaussians about the reported positions, so their distance has the distribution of Rice ("Mathematical
//! analysis of random noise", Bell System Technical Journal 24, 1945), whose distribution function is 1 - Q1, Q1 being the
//! function of Marcum (1960).

use libm::{erf, erfc};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, PI};
use std::sync::LazyLock;

/// Points of the rule on a half circle, for circles of up to so many sigmas: the fewest, and one or two more, with which the
/// error is below 2e-13 at any distance (the smallest number for each radius was sought by halving steps of 1/60).
const HALF_CIRCLES: [(f64, usize); 8] =
    [(0.1, 6), (0.25, 8), (0.5, 8), (1.0, 10), (2.0, 14), (4.0, 22), (6.0, 28), (LARGE, 36)];
/// So many sigmas to the side of a line nothing is left that matters: 1 - erf(7.4/sqrt 2) is 1.4e-13.
const SIDE: f64 = 7.4;
/// From so many sigmas on a circle is taken for a strip with a cap.
const LARGE: f64 = 8.0;
/// The 32-point rule of Gauss and Legendre on [-1, 1]: the positive nodes, and their weights.
const NODES: [(f64, f64); 16] = [
    (0.04830766568773832, 0.0965400885147278),
    (0.1444719615827965, 0.09563872007927486),
    (0.23928736225213706, 0.09384439908080457),
    (0.33186860228212767, 0.09117387869576389),
    (0.42135127613063533, 0.08765209300440381),
    (0.5068999089322294, 0.08331192422694675),
    (0.5877157572407623, 0.07819389578707031),
    (0.6630442669302152, 0.0723457941088485),
    (0.7321821187402897, 0.06582222277636185),
    (0.7944837959679424, 0.058684093478535544),
    (0.84936761373257, 0.050998059262376175),
    (0.8963211557660521, 0.04283589802222668),
    (0.9349060759377397, 0.03427386291302143),
    (0.9647622555875064, 0.02539206530926206),
    (0.9856115115452684, 0.01627439473090567),
    (0.9972638618494816, 0.007018610009470096),
];

/// P(true distance <= `within_m`), where `distance_m` is that of the reported positions and `sigma_m` the root of the sum of
/// their squared sigmas. Without uncertainty it is 0 or 1. The error is below 1e-12 over the whole range.
pub fn probability_within(distance_m: f64, sigma_m: f64, within_m: f64) -> f64 {
    if sigma_m <= 0.0 {
        return if distance_m <= within_m { 1.0 } else { 0.0 };
    }
    let (a, b) = (distance_m / sigma_m, within_m / sigma_m);
    // Nothing of a Gaussian is left so far out; a ratio without bound is as good as any large one.
    if a - b > 40.0 {
        return 0.0;
    }
    if b - a > 40.0 {
        return 1.0;
    }
    let p = if b < LARGE { small_circle(a, b) } else { large_circle(a, b) };
    p.clamp(0.0, 1.0)
}

/// The circle cut into lines across the direction from one position to the other. With x = b sin t what is summed is an
/// analytic function of period 2 pi, for which the midpoint rule converges geometrically (Trefethen and Weideman 2014).
fn small_circle(a: f64, b: f64) -> f64 {
    let number = HALF_CIRCLES.iter().position(|(most, _)| b <= *most).unwrap_or(HALF_CIRCLES.len() - 1);
    let nodes = &POINTS[number];
    // Two lines as far to either side of the middle are as long.
    let both = |(sin, cos): &(f64, f64)| {
        let (x, y) = (b * sin, b * cos);
        let sides = (-0.5 * (x - a) * (x - a)).exp() + (-0.5 * (x + a) * (x + a)).exp();
        sides * y * erf(y * FRAC_1_SQRT_2)
    };
    let sum: f64 = nodes.iter().map(both).sum();
    sum * FRAC_PI_2 / (nodes.len() as f64 * (2.0 * PI).sqrt())
}

/// Sines and cosines of the points of each rule, those to one side of the middle.
static POINTS: LazyLock<Vec<Vec<(f64, f64)>>> = LazyLock::new(|| {
    let points = |(_, count): (f64, usize)| {
        (0..count / 2).map(|k| ((k as f64 + 0.5) * PI / count as f64).sin_cos()).collect()
    };
    HALF_CIRCLES.into_iter().map(points).collect()
});

/// The lines that are long enough to hold all of the Gaussian to their sides are a strip; what is beyond it to either side is
/// a cap, summed over half the lengths of its lines.
fn large_circle(a: f64, b: f64) -> f64 {
    let strip = (b * b - SIDE * SIDE).sqrt();
    let body = 0.5 * (erfc((a - strip) * FRAC_1_SQRT_2) - erfc((a + strip) * FRAC_1_SQRT_2));
    let line = |node: f64| {
        let y = SIDE / 2.0 * (node + 1.0);
        let x = (b * b - y * y).sqrt();
        let both = (-0.5 * (x - a) * (x - a)).exp() + (-0.5 * (x + a) * (x + a)).exp();
        both * erf(y * FRAC_1_SQRT_2) * y / x
    };
    let cap: f64 = NODES.iter().map(|(node, weight)| weight * (line(*node) + line(-node))).sum();
    body + cap * SIDE / 2.0 / (2.0 * PI).sqrt()
}

/// Being within a distance with at least a probability, and bounds that tell where that cannot be.
///
/// Two bounds hold for distances d > R. The circle lies within a half plane whose edge is d - R away, so
/// P <= Phi(-(d - R)/s); and within it the density is at most that at its nearest point, so P <= R^2/(2 s^2) exp(-(d - R)^2/(2 s^2)).
/// The first grows with s; the second gives d - R <= s sqrt(2 ln(c/s^2)), c = R^2/(2 least), which is largest at
/// s = sqrt(c/e) and falls to either side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Within {
    within_m: f64,
    least: f64,
    c: f64,
    z: f64,
}

impl Within {
    /// Within so many metres with at least this probability.
    pub fn new(within_m: f64, least: f64) -> Self {
        Within { within_m, least, c: within_m * within_m / (2.0 * least), z: upper_quantile(least).max(0.0) }
    }

    /// A distance beyond which the probability is too small for every sigma of [`sigma_min_m`, `sigma_max_m`]; `None` if it
    /// is so at any distance.
    pub fn reach_m(&self, sigma_min_m: f64, sigma_max_m: f64) -> Option<f64> {
        if sigma_min_m * sigma_min_m >= self.c {
            // Not even at distance 0: P = 1 - exp(-R^2/(2 s^2)) < R^2/(2 s^2).
            return None;
        }
        let half_plane = sigma_max_m * self.z;
        let at = (self.c / std::f64::consts::E).sqrt().clamp(sigma_min_m, sigma_max_m);
        let nearest = if at > 0.0 { at * (2.0 * (self.c / (at * at)).ln()).max(0.0).sqrt() } else { 0.0 };
        // A little more, for rounding.
        Some((self.within_m + half_plane.min(nearest)) * (1.0 + 1e-9))
    }

    /// [`probability_within`], if it is large enough.
    #[inline]
    pub fn probability(&self, distance_m: f64, sigma_m: f64) -> Option<f64> {
        let beyond = (distance_m - self.within_m) * (1.0 - 1e-9);
        let square = sigma_m * sigma_m;
        // Both bounds, the second without its logarithm: exp(-x) < 1/(1 + x + x^2/2 + x^3/6).
        if beyond > self.z * sigma_m || (square >= self.c && sigma_m > 0.0) {
            return None;
        }
        if beyond > 0.0 {
            let x = beyond * beyond / (2.0 * square);
            if self.c < square * (1.0 + x * (1.0 + x * (0.5 + x / 6.0))) * (1.0 - 1e-9) {
                return None;
            }
        }
        let p = probability_within(distance_m, sigma_m, self.within_m);
        (p >= self.least).then_some(p)
    }
}

/// The z for which a standard Gaussian exceeds it with a probability of at most `p`; by halving, rounded up.
fn upper_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if 0.5 * erfc(middle * FRAC_1_SQRT_2) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_forty_digits() {
        let reference = include_str!("../tests/data/rice/rice.csv");
        let mut lines = 0;
        for line in reference.lines().skip(1) {
            let values: Vec<f64> = line.split(',').map(|v| v.parse().expect("a number")).collect();
            let [a, b, p] = values[..] else { panic!("{line}") };
            for sigma in [1.0, 3.0, 700.0] {
                let found = probability_within(a * sigma, sigma, b * sigma);
                assert!((found - p).abs() < 1e-12, "{line}: {found}");
            }
            lines += 1;
        }
        assert!(lines > 300, "{lines} lines");
    }

    #[test]
    fn at_the_ends() {
        assert_eq!(probability_within(50.0, 0.0, 50.0), 1.0);
        assert_eq!(probability_within(50.1, 0.0, 50.0), 0.0);
        assert_eq!(probability_within(0.0, 1e-200, 50.0), 1.0);
        assert_eq!(probability_within(1e7, 1.0, 50.0), 0.0);
        assert!(probability_within(0.0, 1e9, 50.0) < 1e-14);
        // At distance 0 the distribution is Rayleigh's.
        for (sigma, within) in [(10.0, 5.0), (10.0, 50.0), (10.0, 90.0), (300.0, 50.0)] {
            let rayleigh = 1.0 - f64::exp(-0.5 * (within / sigma) * (within / sigma));
            assert!((probability_within(0.0, sigma, within) - rayleigh).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn bounds_only_refuse_what_is_too_unlikely(
            sigma in 0.1f64..3_000.0, within in 1f64..1_000.0, distance in 0f64..3_000.0, least in -6f64..-0.01,
        ) {
            let least = 10f64.powf(least);
            let p = probability_within(distance, sigma, within);
            prop_assert_eq!(Within::new(within, least).probability(distance, sigma), (p >= least).then_some(p));
        }

        #[test]
        fn falls_with_distance(sigma in 0.1f64..3_000.0, within in 1f64..1_000.0, near in 0f64..5_000.0, more in 0f64..500.0) {
            let (a, b) = (probability_within(near, sigma, within), probability_within(near + more, sigma, within));
            prop_assert!(b <= a + 1e-12, "{a} {b}");
        }

        #[test]
        fn nothing_is_beyond_the_reach(
            low in -2f64..4.0, factor in 1f64..40.0, at in 0f64..1.0, within in 1f64..1_000.0, least in -6f64..-0.01, beyond in 0f64..1.0,
        ) {
            let (low, least) = (10f64.powf(low), 10f64.powf(least));
            let sigma = low + at * low * (factor - 1.0);
            match Within::new(within, least).reach_m(low, low * factor) {
                None => prop_assert!(probability_within(0.0, sigma, within) < least),
                Some(reach) => {
                    let distance = reach * (1.0 + beyond);
                    let p = probability_within(distance, sigma, within);
                    prop_assert!(p < least, "{p} at {distance} m");
                }
            }
        }

        #[test]
        fn the_reach_is_not_much_too_long(sigma in 0.1f64..340.0) {
            let reach = Within::new(50.0, 0.01).reach_m(sigma, sigma).expect("a reach");
            let p = probability_within(reach / 1.6, sigma, 50.0);
            prop_assert!(p >= 0.01 || reach < 60.0, "{p} at {} m, sigma {sigma}", reach / 1.6);
        }
    }
}

//! "1 - Q1(d/s, R/s)", by rays from the mean: along each the mass of a Gaussian is known, so that one integral over the angle
//! is left.

use std::cell::RefCell;
use std::collections::HashMap;
use std::f64::consts::PI;

thread_local! {
    static KNOWN: RefCell<HashMap<[u64; 3], f64>> = RefCell::new(HashMap::new());
}

/// P(true distance <= R) of two places that are reported d apart.
pub fn within(d: f64, s: f64, r: f64) -> f64 {
    if s == 0.0 {
        return if d <= r { 1.0 } else { 0.0 };
    }
    let key = [d, s, r].map(f64::to_bits);
    KNOWN.with_borrow_mut(|known| *known.entry(key).or_insert_with(|| rays(d / s, r / s)))
}

fn rays(a: f64, b: f64) -> f64 {
    let steps = 4_000 + (100.0 * b) as usize;
    if a - b > 40.0 {
        return 0.0;
    }
    if b - a > 40.0 {
        return 1.0;
    }
    if a < b {
        // Inside the circle every ray leaves it once.
        let leaving = |phi: f64| {
            let far = a * phi.cos() + (b * b - a * a * phi.sin() * phi.sin()).sqrt();
            (-far * far / 2.0).exp()
        };
        let sum: f64 = (0..steps).map(|k| leaving(2.0 * PI * (k as f64 + 0.5) / steps as f64)).sum();
        return 1.0 - sum / steps as f64;
    }
    // Outside it only rays near the centre's direction meet it: sin(phi) = (b/a) sin(u), u over a half circle.
    let meeting = |u: f64| {
        let sin = b / a * u.sin();
        let cos = (1.0 - sin * sin).sqrt();
        let (middle, half) = (a * cos, b * u.cos());
        let mass = (-(middle - half).powi(2) / 2.0).exp() - (-(middle + half).powi(2) / 2.0).exp();
        mass * b / a * u.cos() / cos
    };
    let sum: f64 = (0..steps).map(|k| meeting(PI * ((k as f64 + 0.5) / steps as f64 - 0.5))).sum();
    sum * PI / steps as f64 / (2.0 * PI)
}

#[test]
fn agrees_with_forty_digits() {
    for line in include_str!("../data/rice/rice.csv").lines().skip(1) {
        let values: Vec<f64> = line.split(',').map(|v| v.parse().unwrap()).collect();
        let p = within(values[0], 1.0, values[1]);
        assert!((p - values[2]).abs() < 1e-9, "{line}: {p}");
    }
}

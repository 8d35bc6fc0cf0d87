//! Integrals of the largest value at each instant, one elementary range after the other.

use super::{Ms, Overlap, Weighing};

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: Ms = 86_400_000;

/// Instants between which nothing begins, ends, or turns to another day.
fn edges(overlaps: &[Overlap]) -> Vec<Ms> {
    let mut edges: Vec<Ms> = Vec::new();
    for overlap in overlaps {
        edges.extend([overlap.range.start, overlap.range.end]);
        if let Some(onset) = overlap.onset {
            let first = (overlap.range.start - onset).div_euclid(DAY_MS);
            let last = (overlap.range.end - onset).div_euclid(DAY_MS);
            edges.extend((first..=last).map(|day| onset + day * DAY_MS));
        }
    }
    edges.sort();
    edges.dedup();
    edges
}

/// "expected_s = integral over the direct union of the largest P at each instant"
pub fn expected_ms(overlaps: &[Overlap]) -> f64 {
    let mut sum = 0.0;
    for pair in edges(overlaps).windows(2) {
        let mut largest = 0.0f64;
        for overlap in overlaps {
            if overlap.kind == "direct" && overlap.range.start <= pair[0] && pair[1] <= overlap.range.end {
                largest = largest.max(overlap.probability.unwrap());
            }
        }
        sum += largest * (pair[1] - pair[0]) as f64;
    }
    sum
}

/// "infectiousness(day from onset; 1 where no onset is known)"
fn infectiousness(weighing: &Weighing, overlap: &Overlap, t: Ms) -> f64 {
    let (Some((first_day, weights)), Some(onset)) = (&weighing.infectiousness, overlap.onset) else {
        return 1.0;
    };
    let day = (t - onset).div_euclid(DAY_MS);
    let number = day - first_day;
    if number < 0 || number >= weights.len() as i64 { 0.0 } else { weights[number as usize] }
}

/// "dose_h = integral over the direct union of the largest P(distance <= `risk_distance_m`) *
/// infectiousness * setting weight at each instant, in hours; indirect time adds weight *
/// 2^(-(t - c.end)/half-life)": the weight being all of the former.
pub fn dose_h(weighing: &Weighing, overlaps: &[Overlap]) -> f64 {
    let mut ms = 0.0;
    for pair in edges(overlaps).windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let mut direct = 0.0f64;
        for overlap in overlaps {
            if overlap.range.start <= start && end <= overlap.range.end && overlap.kind == "direct" {
                direct = direct.max(overlap.rate * infectiousness(weighing, overlap, start));
            }
        }
        ms += direct * (end - start) as f64;
        let Some(half_life_ms) = weighing.half_life_ms else { continue };
        let indirect = |since_start: f64| {
            let mut largest = 0.0f64;
            for overlap in overlaps {
                if overlap.range.start <= start && end <= overlap.range.end && overlap.kind == "indirect" {
                    let weight = overlap.rate * infectiousness(weighing, overlap, start);
                    largest = largest.max(
                        weight
                            * 2f64.powf(-((start - overlap.left) as f64 + since_start) / half_life_ms as f64),
                    );
                }
            }
            largest
        };
        // Simpson's rule on short pieces.
        let pieces = 32 + ((end - start) / half_life_ms * 32).min(4_000) as usize;
        let step = (end - start) as f64 / pieces as f64;
        for piece in 0..pieces {
            let from = step * piece as f64;
            ms += (indirect(from) + 4.0 * indirect(from + step / 2.0) + indirect(from + step)) * step / 6.0;
        }
    }
    ms / HOUR_MS
}

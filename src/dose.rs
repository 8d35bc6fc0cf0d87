//! What an exposure comes to under uncertainty: the time that a person is expected to have spent near a case, and the dose
//! that risk hangs on. Both are integrals of the largest value at each instant.

use crate::encounter::{Encounter, Kind};
use crate::rule::ExposureRule;
use crate::rule::infectiousness::Infectiousness;
use crate::time::{DAY_MS, HOUR_MS, Millis};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The risk of an hour next to a case: 1.1% (Ferretti et al., "Digital measurement of SARS-CoV-2 transmission risk from 7
/// million contacts", Nature 626, 2023).
pub const RISK_PER_HOUR: f64 = 0.011;

/// 1 - exp(-0.011 dose_h).
pub fn risk(dose_h: f64) -> f64 {
    -(-RISK_PER_HOUR * dose_h).exp_m1()
}

/// A value over [start, end), which may decay from `left` on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    start: Millis,
    end: Millis,
    value: f64,
    left: Millis,
    /// What orders values at any instant, decayed or not.
    rank: f64,
}

impl Piece {
    fn order(&self, other: &Self) -> Ordering {
        self.rank
            .total_cmp(&other.rank)
            .then(self.value.total_cmp(&other.value))
            .then(self.left.cmp(&other.left))
    }
}

/// The largest comes out first.
struct Largest(Piece);

impl PartialEq for Largest {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Largest {}

impl PartialOrd for Largest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Largest {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.order(&other.0)
    }
}

/// The largest piece at each instant, in the order of time; the same whatever pieces a value was cut into.
fn largest(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_unstable_by_key(|piece| piece.start);
    let mut edges: Vec<Millis> = pieces.iter().flat_map(|piece| [piece.start, piece.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut waiting = pieces.iter().peekable();
    let mut here: BinaryHeap<Largest> = BinaryHeap::new();
    let mut found: Vec<Piece> = Vec::new();
    for edge in edges.windows(2) {
        let (start, end) = (edge[0], edge[1]);
        while let Some(piece) = waiting.next_if(|piece| piece.start <= start) {
            here.push(Largest(*piece));
        }
        while here.peek().is_some_and(|top| top.0.end <= start) {
            here.pop();
        }
        let Some(Largest(top)) = here.peek() else { continue };
        match found.last_mut() {
            Some(last) if last.end == start && last.order(top) == Ordering::Equal => last.end = end,
            _ => found.push(Piece { start, end, ..*top }),
        }
    }
    found
}

/// The integral over the direct union of the largest probability at each instant, ms.
pub fn expected_ms(overlaps: &[Encounter]) -> f64 {
    let direct = overlaps.iter().filter(|e| e.kind == Kind::Direct);
    let pieces = direct.map(|e| {
        let (start, end, value) = (e.start, e.end, e.probability);
        Piece { start, end, value, left: 0, rank: value }
    });
    largest(pieces.collect()).iter().map(|piece| piece.value * (piece.end - piece.start) as f64).sum()
}

/// The dose in hours: over the direct union the integral of the largest rate times infectiousness at each instant; over the
/// indirect one, where a half-life is set, of the same times 2^(-(t - the case's end) / half-life). `onsets` are by case.
pub fn dose_h(overlaps: &[Encounter], onsets: &[Option<Millis>], rule: &ExposureRule) -> f64 {
    let mut direct = Vec::new();
    for overlap in overlaps.iter().filter(|e| e.kind == Kind::Direct) {
        by_day(overlap, onsets, rule, &mut |start, end, value| {
            direct.push(Piece { start, end, value, left: 0, rank: value });
        });
    }
    let direct = largest(direct);
    let direct_ms: f64 = direct.iter().map(|piece| piece.value * (piece.end - piece.start) as f64).sum();
    let mut indirect_ms = 0.0;
    if let Some(half_life_ms) = rule.lag_half_life_ms {
        let half_life_ms = half_life_ms as f64;
        let first = overlaps.iter().map(|e| e.left).min().unwrap_or(0);
        let mut indirect = Vec::new();
        for overlap in overlaps.iter().filter(|e| e.kind == Kind::Indirect) {
            by_day(overlap, onsets, rule, &mut |start, end, value| {
                let left = overlap.left;
                // Halving at one pace, the larger stays the larger.
                let rank = value.log2() + (left - first) as f64 / half_life_ms;
                indirect.push(Piece { start, end, value, left, rank });
            });
        }
        let remains = |at: Millis, left: Millis| (-((at - left) as f64) / half_life_ms).exp2();
        let integral = |piece: &Piece| {
            let fallen = remains(piece.start, piece.left) - remains(piece.end, piece.left);
            piece.value * fallen * half_life_ms / std::f64::consts::LN_2
        };
        indirect_ms = largest(indirect).iter().map(integral).sum();
    }
    (direct_ms + indirect_ms) / HOUR_MS as f64
}

/// The parts of an overlap in which the case is as infectious, with the rate times that; none where it is 0.
fn by_day(
    overlap: &Encounter,
    onsets: &[Option<Millis>],
    rule: &ExposureRule,
    add: &mut dyn FnMut(Millis, Millis, f64),
) {
    let curve = rule.infectiousness.as_ref().zip(onsets[overlap.case as usize]);
    let Some((curve, onset_at)) = curve else {
        if overlap.rate > 0.0 {
            add(overlap.start, overlap.end, overlap.rate);
        }
        return;
    };
    let mut start = overlap.start;
    while start < overlap.end {
        let day = Infectiousness::day_of(start, onset_at);
        let end = (onset_at + (day + 1) * DAY_MS).min(overlap.end);
        let value = overlap.rate * curve.at(day);
        if value > 0.0 {
            add(start, end, value);
        }
        start = end;
    }
}

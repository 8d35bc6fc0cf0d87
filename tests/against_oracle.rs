//! The engine agrees with the oracle to the millisecond, whatever the layout.

use crate::oracle::{self, Answer, Place, Source, World};
use crate::world_runs::{Ways, engine, engine_stored};
use crate::worlds::{Layout, RowOrder, layouts, worlds};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

/// Takes the numbers out of an answer that two formulas may round otherwise, each as how far off it may be.
fn numbers(answer: &mut Answer) -> Vec<(Option<f64>, f64)> {
    let mut numbers = Vec::new();
    // Metres to a micrometre, the rest to a billionth of itself or of one.
    let mut take = |number: &mut Option<f64>, slack: f64| numbers.push((number.take(), slack));
    for e in &mut answer.encounters {
        take(&mut e.distance_m, 1e-6);
        take(&mut e.probability, 1e-9);
    }
    for e in &mut answer.exposures {
        take(&mut e.distance_m_min, 1e-6);
        // The integral of a probability that may be off by 1e-9, over the union.
        take(&mut e.expected_ms, 1e-9 * e.direct_ms as f64 + 1e-9);
        take(&mut e.dose_h, 1e-8 * (e.direct_ms + e.indirect_ms) as f64 / 3.6e6 + 1e-12);
    }
    for c in &mut answer.candidates {
        take(&mut c.expected_ms, 1e-9 * c.direct_ms as f64 + 1e-9);
        take(&mut c.dose_h, f64::INFINITY);
    }
    numbers
}

fn agrees(world: &World, layout: &Layout, ways: &Ways) -> Result<(), TestCaseError> {
    same(world, engine(world, layout, ways).map_err(|e| TestCaseError::fail(e.to_string()))?)
}

fn same(world: &World, mut found: Answer) -> Result<(), TestCaseError> {
    let mut expected = oracle::answer(world);
    let (wanted, given) = (numbers(&mut expected), numbers(&mut found));
    prop_assert_eq!(found.encounters, expected.encounters);
    prop_assert_eq!(found.exposures, expected.exposures);
    prop_assert_eq!(found.candidates, expected.candidates);
    prop_assert_eq!(found.dwells, expected.dwells);
    for ((wanted, slack), (given, _)) in wanted.into_iter().zip(given) {
        match (wanted, given) {
            (Some(a), Some(b)) => prop_assert!((a - b).abs() <= slack, "{} and {}", a, b),
            (a, b) => prop_assert_eq!(a, b),
        }
    }
    prop_assert_eq!(found.contradicted, expected.contradicted);
    let observed = |a: Vec<oracle::Observed>| -> Vec<_> {
        a.into_iter().map(|o| (o.case_id, o.source, o.stays, o.observed_ms)).collect()
    };
    prop_assert_eq!(observed(found.observed), observed(expected.observed));
    Ok(())
}

/// Two formulas for the roots of one quadratic may round to neighbouring milliseconds, and so differ in
/// whether a graze counts: each pair's direct time agrees to 2 ms an encounter.
fn agrees_to_2_ms(world: &World, layout: &Layout, ways: &Ways) -> Result<(), TestCaseError> {
    let expected = oracle::answer(world);
    let found = engine(world, layout, ways).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let pairs = |answer: &Answer| -> BTreeMap<(String, String), (i64, u64, Option<f64>)> {
        let row = |e: &oracle::Exposure| (e.direct_ms, e.encounter_count, e.distance_m_min);
        answer.exposures.iter().map(|e| ((e.person.clone(), e.case_id.clone()), row(e))).collect()
    };
    let (expected, found) = (pairs(&expected), pairs(&found));
    for pair in expected.keys().chain(found.keys()) {
        let absent = (0, 0, None);
        let (a, b) = (expected.get(pair).unwrap_or(&absent), found.get(pair).unwrap_or(&absent));
        let slack = 2 * a.1.max(b.1) as i64;
        prop_assert!((a.0 - b.0).abs() <= slack, "{:?}: {:?} and {:?}", pair, a, b);
        if let (Some(a), Some(b)) = (a.2, b.2) {
            prop_assert!((a - b).abs() < 1e-3, "{:?}: {} m and {} m", pair, a, b);
        }
    }
    Ok(())
}

type Agrees = fn(&World, &Layout, &Ways) -> Result<(), TestCaseError>;

/// Every way through the engine is taken so often: half of what is to be expected, or less.
fn over_3_000_worlds(linear: bool, agrees: Agrees, least: &[(&'static str, usize)]) {
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let ways = Ways::default();
    let done = runner.run(&(worlds(linear), layouts()), |(world, layout)| agrees(&world, &layout, &ways));
    done.unwrap_or_else(|e| panic!("{e}"));
    ways.at_least(least);
}

#[test]
fn holding_still() {
    let least = [
        ("time", 160),
        ("time, filtered", 95),
        ("time, lag", 95),
        ("time, in rounds", 20),
        ("time, filtered in rounds", 5),
        ("time, broken", 45),
        ("person", 210),
        ("person, filtered", 115),
        ("person, long", 5),
        ("person, at once", 60),
        ("person, at once, spilled", 5),
        ("person, broken", 25),
        ("none", 700),
        ("none, read again", 30),
        ("none, read again, among others", 12),
        ("spilled", 60),
        ("ties", 160),
        ("contradicted", 60),
        ("dwells", 210),
        ("trips", 60),
        ("residents of an area", 38),
    ];
    over_3_000_worlds(false, agrees, &least);
}

#[test]
fn moving_evenly() {
    let least = [
        ("time", 120),
        ("time, moving", 15),
        ("time, filtered", 50),
        ("time, in rounds", 15),
        ("time, broken", 35),
        ("person", 210),
        ("person, broken", 15),
        ("none", 700),
        ("spilled", 60),
        ("ties", 160),
    ];
    over_3_000_worlds(true, agrees_to_2_ms, &least);
}

/// How long everyone dwells is added up where one source's pings just follow one another in time.
#[test]
fn added_up_as_the_rows_come() {
    let resident = (
        1..60i64,
        prop::sample::select(vec!["person", "either"]),
        prop::sample::select(vec!["any", "area", "place", "place"]),
        prop::sample::select(vec![20.0, 150.0, 800.0]),
    );
    let config = ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let ways = Ways::default();
    let done = runner.run(&(worlds(false), layouts(), resident), |(mut world, mut layout, resident)| {
        let (n, of, scope, square_m) = resident;
        let moves_on = |source: Source| matches!(source, Source::Gps | Source::Tower);
        let Some(source) = world.feeds.iter().map(|feed| feed.source).find(|s| moves_on(*s)) else {
            return Ok(());
        };
        world.feeds.retain(|feed| feed.source == source);
        for feed in &mut world.feeds {
            (feed.pingpong_ms, feed.speed_m_per_s_max) = (0, 0.0);
        }
        world.home = world.home.or_else(|| world.areas.first().map(|area| area.shapes.clone()));
        let scope = if scope == "area" && world.home.is_none() { "place" } else { scope };
        if scope == "place" && !matches!(world.rule.place, Place::Grid { .. }) {
            world.rule.place = Place::Grid { square_m };
            (world.rule.weighing.expected_ms_min, world.rule.weighing.risk_min) = (None, None);
        }
        let hold_ms = world.feeds.iter().map(|feed| feed.hold_ms).max().unwrap_or(0);
        world.rule.weighing.resident = Some((n * hold_ms / 8 + n % 3, of, scope));
        world.home = world.home.filter(|_| scope == "area");
        layout.orders = [RowOrder::Time; 2];
        agrees(&world, &layout, &ways)
    });
    done.unwrap_or_else(|e| panic!("{e}"));
    ways.at_least(&[
        ("dwells summed", 100),
        ("dwells summed, ties", 50),
        ("dwells summed, several feeds", 10),
        ("residents of an area", 15),
    ]);
}

/// A store gives the same, in whatever order and with whatever mistakes its files came.
#[test]
fn through_a_store() {
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let ways = Ways::default();
    let done = runner.run(&(worlds(false), layouts()), |(world, layout)| {
        same(&world, engine_stored(&world, &layout, &ways).map_err(|e| TestCaseError::fail(e.to_string()))?)
    });
    done.unwrap_or_else(|e| panic!("{e}"));
    ways.at_least(&[
        ("space", 70),
        ("space, filtered", 30),
        ("space, by person", 4),
        ("space, next day", 2),
        ("space, venues", 15),
    ]);
}

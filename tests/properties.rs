//! What must hold of any answer, whatever the world.

use crate::oracle::{Answer, Case, Place, Weighing, World};
use crate::world_runs::{Ways, engine, run};
use crate::worlds::{Layout, PLAIN, RowOrder, layouts, worlds};
use proptest::prelude::*;
use std::collections::BTreeMap;

const DAY_MS: i64 = 86_400_000;

fn answer(world: &World, layout: &Layout) -> Result<Answer, TestCaseError> {
    engine(world, layout, &Ways::default()).map_err(|e| TestCaseError::fail(e.to_string()))
}

fn without_person(world: &World, person: &str) -> World {
    let mut world = world.clone();
    world.feeds.iter_mut().for_each(|f| f.pings.retain(|p| p.person != person));
    world
}

fn direct_by_pair(answer: &Answer) -> BTreeMap<(String, String), i64> {
    answer.exposures.iter().map(|e| ((e.person.clone(), e.case_id.clone()), e.direct_ms)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_case_without_pings_exposes_nobody(world in worlds(false), layout in layouts()) {
        let case = &world.cases[0];
        let without = answer(&without_person(&world, &case.person), &layout)?;
        prop_assert!(without.exposures.iter().all(|e| e.case_id != case.case_id));
        prop_assert!(without.encounters.iter().all(|e| e.case_id != case.case_id));
    }

    #[test]
    fn a_candidate_without_pings_is_none(world in worlds(false), layout in layouts()) {
        let with = answer(&world, &layout)?;
        let Some(first) = with.candidates.first() else { return Ok(()) };
        let without = answer(&without_person(&world, &first.person), &layout)?;
        prop_assert!(without.candidates.iter().all(|c| c.person != first.person));
        // Everyone else's evidence is what it was.
        let others = |a: &Answer| -> Vec<_> {
            a.exposures.iter().filter(|e| e.person != first.person).cloned().collect()
        };
        let case_too = world.cases.iter().any(|c| c.person == first.person);
        prop_assert!(!case_too, "a candidate is no case");
        prop_assert_eq!(others(&with), others(&without));
    }

    #[test]
    fn direct_time_is_symmetric(world in worlds(false), layout in layouts()) {
        let (from, to) = (world.cases[0].from, world.cases[0].to);
        let mut both = world.clone();
        both.cases = (0..5).map(|n| {
            let person = crate::worlds::person(n);
            Case { case_id: person.clone(), person, from, to, onset: None }
        }).collect();
        // A stay is clipped to the range on the case's side only, so the lookback is the range.
        both.rule.as_of = to;
        both.rule.lookback_ms = to - from;
        both.rule.lag_ms = 0;
        let pairs = direct_by_pair(&answer(&both, &layout)?);
        for ((a, b), direct) in &pairs {
            prop_assert_eq!(Some(direct), pairs.get(&(b.clone(), a.clone())), "{} and {}", a, b);
        }
    }

    #[test]
    fn a_larger_distance_loses_nothing(world in worlds(false), m in 0.0..900.0f64, more in 0.0..900.0f64) {
        let at = |m_max: f64| {
            let mut world = world.clone();
            world.rule.place = Place::Distance { m_max };
            world.rule.weighing = Weighing::default();
            world.rule.lag_ms = 0;
            answer(&world, &PLAIN)
        };
        let (near, far) = (direct_by_pair(&at(m)?), direct_by_pair(&at(m + more)?));
        for (pair, direct) in &near {
            prop_assert!(far.get(pair).is_some_and(|d| d >= direct), "{:?}", pair);
        }
    }

    #[test]
    fn days_later_is_the_same_days_later(world in worlds(false), days in 1..400i64, layout in layouts()) {
        let shift = days * DAY_MS;
        let mut later = world.clone();
        later.rule.as_of += shift;
        for case in &mut later.cases {
            (case.from, case.to) = (case.from + shift, case.to + shift);
            case.onset = case.onset.map(|onset| onset + shift);
        }
        for ping in later.feeds.iter_mut().flat_map(|f| &mut f.pings) {
            ping.t += shift;
            ping.until = ping.until.map(|u| u + shift);
        }
        for area in &mut later.areas {
            (area.from, area.to) = (area.from + shift, area.to + shift);
        }
        let (now, mut then) = (answer(&world, &layout)?, answer(&later, &layout)?);
        for e in &mut then.encounters {
            (e.start, e.end) = (e.start - shift, e.end - shift);
        }
        for e in &mut then.exposures {
            (e.first_at, e.last_at) = (e.first_at - shift, e.last_at - shift);
        }
        for c in &mut then.candidates {
            (c.first_at, c.last_at, c.expires_at) = (c.first_at - shift, c.last_at - shift, c.expires_at - shift);
        }
        prop_assert_eq!(now.encounters, then.encounters);
        prop_assert_eq!(now.exposures, then.exposures);
        prop_assert_eq!(now.candidates, then.candidates);
    }

    #[test]
    fn a_feed_in_parts_is_the_same_feed(world in worlds(false), layout in layouts(), every in 2..4usize) {
        let whole = answer(&world, &PLAIN)?;
        // In other files, and as several feeds of one kind.
        let mut parts = world.clone();
        parts.feeds = world.feeds.iter().flat_map(|feed| (0..every).map(move |part| {
            let mut feed = feed.clone();
            let mut number = 0;
            feed.pings.retain(|_| { number += 1; number % every == part });
            feed
        })).collect();
        for other in [answer(&world, &layout)?, answer(&parts, &layout)?] {
            prop_assert_eq!(&whole.encounters, &other.encounters);
            prop_assert_eq!(&whole.exposures, &other.exposures);
            prop_assert_eq!(&whole.candidates, &other.candidates);
        }
    }
}

/// Everyone is in one square with the case: far more pings than a small budget holds at once.
#[test]
fn a_small_budget_spills_to_the_same_answer() {
    use crate::oracle::{Facts, Feed, Motion, Ping, Rule, Source};
    let pings = (0..300usize).flat_map(|who| {
        (0..40i64).map(move |n| Ping {
            person: format!("p{who:03}"),
            t: 1_647_788_400_000 + n * 60_000 + who as i64,
            lat: Some(34.75),
            lon: Some(113.68 + who as f64 * 1e-6),
            accuracy_m: None,
            place_id: None,
            aboard: None,
            until: None,
            floor: None,
            facts: Facts::default(),
        })
    });
    let feed = Feed {
        source: Source::Gps,
        hold_ms: 900_000,
        motion: Motion::Hold,
        accuracy_m: 20.0,
        pingpong_ms: 0,
        speed_m_per_s_max: 0.0,
        pings: pings.collect(),
    };
    let case =
        Case { case_id: "c".into(), person: "p000".into(), from: 0, to: i64::MAX / 4_000, onset: None };
    let rule = Rule {
        as_of: 1_647_788_400_000 + DAY_MS,
        lookback_ms: 2 * DAY_MS,
        place: Place::Distance { m_max: 50.0 },
        cross_source: false,
        lag_ms: 0,
        merge_gap_ms: 0,
        notice_ms: 0,
        direct_ms_min: 0,
        confirmed_ms_min: None,
        longest_ms_min: None,
        peak_24h_ms_min: None,
        across_cases: false,
        weighing: Weighing::default(),
    };
    let world = World { feeds: vec![feed], cases: vec![case], rule, areas: Vec::new(), home: None };
    let orders = [RowOrder::Shuffled; 2];
    let roomy = Layout { row_group_rows: 500, batch_rows: 500, orders, seed: 7, ..PLAIN };
    let narrow = Layout { memory_bytes: 600_000, ..roomy.clone() };
    let (one, several) = (run(&world, &roomy).expect("an answer"), run(&world, &narrow).expect("an answer"));
    assert_eq!(one.counts.spilled_files, 0);
    assert!(several.counts.spilled_files > 1, "{} files", several.counts.spilled_files);
    assert_eq!(one.counts.exposures, 299);
    assert_eq!(one.exposures.whole().expect("rows"), several.exposures.whole().expect("rows"));
    assert_eq!(one.encounters.whole().expect("rows"), several.encounters.whole().expect("rows"));
    assert_eq!(one.candidates.whole().expect("rows"), several.candidates.whole().expect("rows"));
}

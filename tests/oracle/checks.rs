//! Tiny worlds with answers worked out by hand, so that the oracle itself is checked.

//! Tiny worlds with answers worked out by hand. Persons: `c` is the case `C1`, `p` is not a
//! case.

use super::*;

const S: Ms = 1000;
const H: Ms = 3600 * S;
const DAY: Ms = 24 * H;
/// Degrees of latitude in one metre: 180 / (pi * 6,371,008.8).
const METRE: f64 = 8.993_203_637_245_379e-6;

fn feed(source: Source, hold_ms: Ms, pings: Vec<Ping>) -> Feed {
    let motion = Motion::Hold;
    Feed { source, hold_ms, motion, accuracy_m: 20.0, pingpong_ms: 120 * S, speed_m_per_s_max: 0.0, pings }
}

fn linear(hold_ms: Ms, pings: Vec<Ping>) -> Feed {
    Feed { motion: Motion::Linear, ..feed(Source::Gps, hold_ms, pings) }
}

fn gps(person: &str, t: Ms, lat: f64, lon: f64) -> Ping {
    let (lat, lon) = (Some(lat), Some(lon));
    Ping {
        person: person.into(),
        t,
        lat,
        lon,
        accuracy_m: None,
        place_id: None,
        aboard: None,
        until: None,
        floor: None,
        facts: Facts::default(),
    }
}

/// Towers stand one degree apart on the equator: "0" at longitude 0, "1" at longitude 1, ...
fn tower(person: &str, t: Ms, id: &str) -> Ping {
    Ping { place_id: Some(id.into()), ..gps(person, t, 0.0, id.parse().unwrap()) }
}

fn venue(person: &str, t: Ms, id: &str) -> Ping {
    Ping { lat: None, lon: None, place_id: Some(id.into()), ..gps(person, t, 0.0, 0.0) }
}

fn scan_until(person: &str, t: Ms, until: Ms, id: &str) -> Ping {
    Ping { until: Some(until), ..venue(person, t, id) }
}

fn on_floor(floor: &str, ping: Ping) -> Ping {
    Ping { floor: Some(floor.into()), ..ping }
}

/// Lookback [0, 14 d), `c` infectious all along, 50 m, 600 s.
fn world(feeds: Vec<Feed>) -> World {
    let rule = Rule {
        as_of: 14 * DAY,
        lookback_ms: 14 * DAY,
        place: Place::Distance { m_max: 50.0 },
        cross_source: false,
        lag_ms: 0,
        merge_gap_ms: 0,
        notice_ms: 7 * DAY,
        direct_ms_min: 600 * S,
        confirmed_ms_min: None,
        longest_ms_min: None,
        peak_24h_ms_min: None,
        across_cases: false,
        weighing: Weighing::default(),
    };
    World { feeds, cases: vec![case("C1", "c", 0, 14 * DAY)], rule, areas: Vec::new(), home: None }
}

fn case(case_id: &str, person: &str, from: Ms, to: Ms) -> Case {
    Case { case_id: case_id.into(), person: person.into(), from, to, onset: None }
}

/// The ranges of the encounters of a kind, in seconds.
fn spans(answer: &Answer, kind: &str) -> Vec<(Ms, Ms)> {
    let of_kind = answer.encounters.iter().filter(|encounter| encounter.kind == kind);
    of_kind.map(|encounter| (encounter.start / S, encounter.end / S)).collect()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn direct() {
    // p [0, 900), c [300, 1200): together [300, 900).
    let mut world =
        world(vec![feed(Source::Gps, 900 * S, vec![gps("p", 0, 10.0, 20.0), gps("c", 300 * S, 10.0, 20.0)])]);
    let answered = answer(&world);
    assert_eq!(
        answered.encounters,
        [Encounter {
            person: "p".into(),
            case_id: "C1".into(),
            start: 300_000,
            end: 900_000,
            kind: "direct",
            source: Source::Gps,
            case_source: Source::Gps,
            place: None,
            distance_m: Some(0.0),
            bracketed: false,
            probability: None,
        }]
    );
    assert_eq!(
        answered.exposures,
        [Exposure {
            person: "p".into(),
            case_id: "C1".into(),
            person_is_case: false,
            direct_ms: 600_000,
            indirect_ms: 0,
            confirmed_ms: 0,
            longest_ms: 600_000,
            peak_24h_ms: 600_000,
            expected_ms: None,
            dose_h: None,
            encounter_count: 1,
            distance_m_min: Some(0.0),
            first_at: 300_000,
            last_at: 900_000,
            sources: "gps".into(),
        }]
    );
    assert_eq!(
        answered.candidates,
        [Candidate {
            person: "p".into(),
            reason: "exposure".into(),
            case_count: 1,
            case_id: Some("C1".into()),
            direct_ms: 600_000,
            confirmed_ms: 0,
            expected_ms: None,
            dose_h: None,
            first_at: 300_000,
            last_at: 900_000,
            expires_at: 605_700_000,
            evidence_count: 1,
        }]
    );
    let observed: Vec<_> = answered
        .observed
        .iter()
        .map(|row| (row.case_id.as_str(), row.source, row.stays, row.observed_ms))
        .collect();
    assert_eq!(
        observed,
        [
            ("C1", Source::Gps, 1, 900_000),
            ("C1", Source::Tower, 0, 0),
            ("C1", Source::Trip, 0, 0),
            ("C1", Source::Venue, 0, 0)
        ]
    );

    // One millisecond more than there is; then each other threshold alone.
    world.rule.direct_ms_min = 600_001;
    assert!(answer(&world).candidates.is_empty());
    world.rule.direct_ms_min = 0;
    assert_eq!(answer(&world).candidates.len(), 1);
    world.rule.confirmed_ms_min = Some(1);
    assert!(answer(&world).candidates.is_empty());
    world.rule.confirmed_ms_min = Some(0);
    world.rule.longest_ms_min = Some(600_001);
    assert!(answer(&world).candidates.is_empty());
    world.rule.longest_ms_min = Some(600_000);
    world.rule.peak_24h_ms_min = Some(600_001);
    assert!(answer(&world).candidates.is_empty());
    world.rule.peak_24h_ms_min = Some(600_000);
    assert_eq!(answer(&world).candidates.len(), 1);
}

#[test]
fn distance_is_a_closed_limit_on_the_sphere() {
    // 49.9 m and 50.1 m of latitude; at 60 degrees north a degree of longitude is half as long.
    let at = |lat: f64, lon: f64| {
        world(vec![feed(Source::Gps, 900 * S, vec![gps("c", 0, 60.0, 20.0), gps("p", 0, lat, lon)])])
    };
    assert!(near(answer(&at(60.0 + 49.9 * METRE, 20.0)).encounters[0].distance_m.unwrap(), 49.9));
    assert!(answer(&at(60.0 + 50.1 * METRE, 20.0)).encounters.is_empty());
    assert!(near(answer(&at(60.0, 20.0 + 99.8 * METRE)).encounters[0].distance_m.unwrap(), 49.9));
    assert!(answer(&at(60.0, 20.0 + 100.2 * METRE)).encounters.is_empty());
}

#[test]
fn indirect_with_lag() {
    // c [0, 900) leaves; p [1000, 1900) comes: with a lag of 600 s, [1000, 1500).
    let mut pings = vec![gps("c", 0, 0.0, 0.0), gps("p", 1000 * S, 0.0, 0.0)];
    let mut first = world(vec![feed(Source::Gps, 900 * S, pings.clone())]);
    first.rule.lag_ms = 600 * S;
    let answered = answer(&first);
    assert_eq!(spans(&answered, "indirect"), [(1000, 1500)]);
    assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].indirect_ms), (0, 500_000));
    assert!(answered.candidates.is_empty());

    // c comes back [1200, 2100): [1200, 1900) is direct and leaves [1000, 1200) of the indirect
    // part.
    pings.push(gps("c", 1200 * S, 0.0, 0.0));
    let mut second = world(vec![feed(Source::Gps, 900 * S, pings)]);
    second.rule.lag_ms = 600 * S;
    let answered = answer(&second);
    assert_eq!(spans(&answered, "direct"), [(1200, 1900)]);
    assert_eq!(spans(&answered, "indirect"), [(1000, 1200)]);
    assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].indirect_ms), (700_000, 200_000));
    assert_eq!((answered.exposures[0].first_at, answered.exposures[0].last_at), (1_000_000, 1_900_000));

    // p was there before c came and is gone when c comes: nothing. p was there before and stays
    // on: [900, 1000).
    let scans = vec![scan_until("p", 0, 100 * S, "V"), scan_until("c", 200 * S, 300 * S, "V")];
    let mut third = world(vec![feed(Source::Venue, 1800 * S, scans)]);
    third.rule.lag_ms = 600 * S;
    assert!(answer(&third).encounters.is_empty());
    let scans = vec![scan_until("p", 0, 1000 * S, "V"), scan_until("c", 200 * S, 900 * S, "V")];
    let mut fourth = world(vec![feed(Source::Venue, 1800 * S, scans)]);
    fourth.rule.lag_ms = 600 * S;
    assert_eq!(spans(&answer(&fourth), "direct"), [(200, 900)]);
    assert_eq!(spans(&answer(&fourth), "indirect"), [(900, 1000)]);

    // A direct overlap in the middle cuts an indirect one in two: c is at V until 100 and at W
    // [200, 300); p is at both.
    let scans = vec![
        scan_until("c", 0, 100 * S, "V"),
        scan_until("c", 200 * S, 300 * S, "W"),
        scan_until("p", 100 * S, 500 * S, "V"),
        scan_until("p", 200 * S, 300 * S, "W"),
    ];
    let mut fifth = world(vec![feed(Source::Venue, 1800 * S, scans)]);
    fifth.rule.lag_ms = 300 * S;
    assert_eq!(spans(&answer(&fifth), "direct"), [(200, 300)]);
    assert_eq!(spans(&answer(&fifth), "indirect"), [(100, 200), (300, 400)]);
    assert_eq!(answer(&fifth).exposures[0].indirect_ms, 200_000);
}

#[test]
fn touching_ranges() {
    // p [0, 900) and c [900, 1800) only touch.
    let apart =
        world(vec![feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, 0.0), gps("c", 900 * S, 0.0, 0.0)])]);
    assert!(answer(&apart).encounters.is_empty());

    // p [0, 600) [600, 1200) [1200, 2100), c [0, 900) [900, 1800): four overlaps that touch are
    // one encounter [0, 1800). The last stay of each is not bracketed: confirmed is [0, 900).
    let mut pings = vec![gps("c", 0, 0.0, 0.0), gps("c", 900 * S, 0.0, 0.0)];
    for t in [0, 600, 1200] {
        pings.push(gps("p", t * S, 0.0, 0.0));
    }
    let mut joined = world(vec![feed(Source::Gps, 900 * S, pings)]);
    let answered = answer(&joined);
    assert_eq!(spans(&answered, "direct"), [(0, 1800)]);
    assert!(!answered.encounters[0].bracketed);
    assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].confirmed_ms), (1_800_000, 900_000));

    // Infectious [300, 600) clips c's first stay, which is bracketed all the same; p, being a
    // case, is no candidate.
    joined.cases =
        vec![case("C1", "c", 300 * S, 600 * S), case("C2", "p", 0, 0), case("C3", "c", 600 * S, 700 * S)];
    let answered = answer(&joined);
    assert_eq!(spans(&answered, "direct"), [(300, 600), (600, 700)]);
    assert!(answered.encounters[0].bracketed);
    assert_eq!((answered.exposures[0].confirmed_ms, answered.exposures[1].confirmed_ms), (300_000, 100_000));
    assert!(answered.exposures[0].person_is_case);
    assert!(answered.candidates.is_empty());
}

#[test]
fn bracketed() {
    // With a hold of 900 s the next ping is 900 s away (bracketed), then 901 s (not), then 60 m
    // away (not).
    let pings = vec![
        gps("p", 0, 0.0, 0.0),
        gps("p", 900 * S, 0.0, 0.0),
        gps("p", 1801 * S, 0.0, 0.0),
        gps("p", 2000 * S, 60.0 * METRE, 0.0),
    ];
    let stays = stays_of_person(&world(vec![feed(Source::Gps, 900 * S, pings)]), "p");
    let seen: Vec<_> =
        stays.iter().map(|stay| (stay.range.start / S, stay.range.end / S, stay.bracketed)).collect();
    assert_eq!(seen, [(0, 900, true), (900, 1800, false), (1801, 2000, false), (2000, 2900, false)]);

    // Any of two scans at the next instant brackets; they stand side by side and end at the
    // next later scan.
    let scans =
        vec![venue("p", 0, "V"), venue("p", 60 * S, "W"), venue("p", 60 * S, "V"), venue("p", 90 * S, "V")];
    let stays = stays_of_person(&world(vec![feed(Source::Venue, 1800 * S, scans)]), "p");
    let seen: Vec<_> =
        stays.iter().map(|stay| (stay.range.start / S, stay.range.end / S, stay.bracketed)).collect();
    assert_eq!(seen, [(0, 60, true), (60, 90, false), (60, 90, true), (90, 1890, false)]);
}

#[test]
fn lookback() {
    // The lookback is [100, 1000): pings at 99 and 1000 do not exist, not even to end or
    // bracket a stay.
    let pings = vec![gps("p", 99 * S, 0.0, 0.0), gps("p", 100 * S, 0.0, 0.0), gps("p", 1000 * S, 0.0, 0.0)];
    let scans = vec![scan_until("p", 200 * S, 5000 * S, "V"), scan_until("p", 99 * S, 5000 * S, "V")];
    let mut world = world(vec![feed(Source::Gps, 7200 * S, pings), feed(Source::Venue, 1800 * S, scans)]);
    world.rule.as_of = 1000 * S;
    world.rule.lookback_ms = 900 * S;
    let stays = stays_of_person(&world, "p");
    let seen: Vec<_> =
        stays.iter().map(|stay| (stay.range.start / S, stay.range.end / S, stay.bracketed)).collect();
    assert_eq!(seen, [(100, 1000, false), (200, 1000, true)]);
}

#[test]
fn duplicates() {
    // At 0: 20 m (the feed's), 5 m, and 5 m further north; the second stays. Its feed's hold
    // counts.
    let sharp = |lat: f64| Ping { accuracy_m: Some(5.0), ..gps("p", 0, lat, 0.0) };
    let world_gps = world(vec![
        feed(Source::Gps, 900 * S, vec![gps("p", 0, 7.0, 0.0), sharp(9.0)]),
        feed(Source::Gps, 300 * S, vec![sharp(8.0), gps("p", 1000 * S, 7.0, 0.0)]),
    ]);
    let stays = stays_of_person(&world_gps, "p");
    assert_eq!(stays.len(), 2);
    assert_eq!(stays[0].position.unwrap().lat, 8.0);
    assert_eq!(stays[0].range, Range { start: 0, end: 300_000 });

    // Towers: the smallest id. Scans: equal ones are one, that of the first feed.
    let world_tower =
        world(vec![feed(Source::Tower, 3600 * S, vec![tower("p", 0, "2"), tower("p", 0, "1")])]);
    assert_eq!(stays_of_person(&world_tower, "p")[0].position.unwrap().lon, 1.0);
    let world_venue = world(vec![
        feed(
            Source::Venue,
            1800 * S,
            vec![venue("p", 0, "V"), venue("p", 0, "V"), on_floor("1", venue("p", 0, "V"))],
        ),
        feed(Source::Venue, 60 * S, vec![venue("p", 0, "V")]),
    ]);
    let stays = stays_of_person(&world_venue, "p");
    assert_eq!(stays.len(), 2);
    assert!(stays.iter().all(|stay| stay.range.end == 1_800_000));
}

#[test]
fn pingpong() {
    // c bounces 0-1-0 within 120 s; p is at tower 0 for [0, 3600).
    let pings =
        vec![tower("c", 0, "0"), tower("c", 60 * S, "1"), tower("c", 120 * S, "0"), tower("p", 0, "0")];
    let mut world = world(vec![feed(Source::Tower, 3600 * S, pings)]);
    let answered = answer(&world);
    assert_eq!(spans(&answered, "direct"), [(0, 3600)]);
    assert_eq!((answered.observed[1].stays, answered.observed[1].observed_ms), (2, 3_720_000));

    // One millisecond too long apart, or off: [60, 120) was elsewhere.
    for pingpong_ms in [119_999, 0] {
        world.feeds[0].pingpong_ms = pingpong_ms;
        let answered = answer(&world);
        assert_eq!(spans(&answered, "direct"), [(0, 60), (120, 3600)]);
        assert_eq!(answered.exposures[0].direct_ms, 3_540_000);
        assert_eq!(answered.observed[1].stays, 3);
    }

    // 0-1-0-1-0: both at 1 go, as the last kept is 0 each time. 0-1-1-0: both stay, as the next
    // raw, or the last kept, is 1.
    world.feeds[0].pingpong_ms = 120 * S;
    world.feeds[0].pings =
        [0, 1, 0, 1, 0].iter().zip(0..).map(|(id, i)| tower("c", i * 30 * S, &id.to_string())).collect();
    assert_eq!(answer(&world).observed[1].stays, 3);
    world.feeds[0].pings =
        [0, 1, 1, 0].iter().zip(0..).map(|(id, i)| tower("c", i * 30 * S, &id.to_string())).collect();
    assert_eq!(answer(&world).observed[1].stays, 4);
}

#[test]
fn impossible_travel() {
    // One degree (111 km) there in 60 s and back in 60 s is 1,853 m/s. p is at 0 for [0, 900).
    let pings = vec![
        gps("c", 0, 0.0, 0.0),
        gps("c", 60 * S, 1.0, 0.0),
        gps("c", 120 * S, 0.0, 0.0),
        gps("p", 0, 0.0, 0.0),
    ];
    let mut world = world(vec![feed(Source::Gps, 900 * S, pings)]);
    for (speed_m_per_s_max, direct_ms) in [(0.0, 840_000), (1853.0, 900_000), (1854.0, 840_000)] {
        world.feeds[0].speed_m_per_s_max = speed_m_per_s_max;
        assert_eq!(answer(&world).exposures[0].direct_ms, direct_ms);
    }

    // There and not back: the slow way on keeps the ping, and so does having no next one.
    world.feeds[0].speed_m_per_s_max = 100.0;
    world.feeds[0].pings =
        vec![gps("c", 0, 0.0, 0.0), gps("c", 60 * S, 1.0, 0.0), gps("c", 120 * S, 1.0, 0.0)];
    assert_eq!(answer(&world).observed[0].stays, 3);
    world.feeds[0].pings.pop();
    assert_eq!(answer(&world).observed[0].stays, 2);

    // Two bad pings side by side: the first has a slow way on and stays; from it the second is
    // slow as well.
    world.feeds[0].pings.push(gps("c", 120 * S, 1.0, 0.0));
    world.feeds[0].pings.push(gps("c", 180 * S, 0.0, 0.0));
    assert_eq!(answer(&world).observed[0].stays, 4);
}

#[test]
fn peak_and_longest() {
    // Together [0, 10), [20, 30) and [40, 50) h. Any 24 h hold 14 h at most: 10 and 4.
    let mut scans = Vec::new();
    for hour in [0, 20, 40] {
        scans.push(scan_until("c", hour * H, (hour + 10) * H, "V"));
        scans.push(scan_until("p", hour * H, (hour + 10) * H, "V"));
    }
    let mut world = world(vec![feed(Source::Venue, 1800 * S, scans)]);
    let exposure = answer(&world).exposures.remove(0);
    assert_eq!((exposure.direct_ms, exposure.confirmed_ms), (30 * H, 30 * H));
    assert_eq!((exposure.longest_ms, exposure.peak_24h_ms), (10 * H, 14 * H));
    assert_eq!(
        (exposure.encounter_count, exposure.sources.as_str(), exposure.distance_m_min),
        (3, "venue", None)
    );

    // The gaps are 10 h each: a merge gap of just that joins all three into 50 h, gaps counted;
    // only the longest run changes.
    world.rule.merge_gap_ms = 10 * H - 1;
    assert_eq!(answer(&world).exposures[0].longest_ms, 10 * H);
    world.rule.merge_gap_ms = 10 * H;
    let exposure = answer(&world).exposures.remove(0);
    assert_eq!((exposure.longest_ms, exposure.direct_ms, exposure.encounter_count), (50 * H, 30 * H, 3));

    // [0, 1), [20, 29) and [44, 50) h: the best 24 h are not those from the first start: [20,
    // 44) has 9 h, [26, 50) has 3 + 6 = 9, [22, 46) has 7 + 2 = 9, [0, 24) has 1 + 4 = 5. With
    // [43, 50): [20, 44) has 9 + 1 = 10, [26, 50) has 3 + 7 = 10.
    let hours = |ranges: &[(Ms, Ms)]| -> Vec<Range> {
        ranges.iter().map(|r| Range { start: r.0 * H, end: r.1 * H }).collect()
    };
    assert_eq!(peak_24h(&hours(&[(0, 1), (20, 29), (44, 50)])), 9 * H);
    assert_eq!(peak_24h(&hours(&[(0, 1), (20, 29), (43, 50)])), 10 * H);
    assert_eq!(peak_24h(&hours(&[(0, 30)])), 24 * H);
    // Ranges a day apart never share a day in full: [0, 24) has 13, [12, 36) has 1 + 12.
    assert_eq!(peak_24h(&hours(&[(0, 13), (24, 36)])), 13 * H);
}

#[test]
fn linear_pass_by() {
    // c goes 200 m east in 200 s, 30 m north of p: x = -100 + t. x^2 + 30^2 <= 50^2 is |x| <=
    // 40: t in [60, 140].
    let way = |north_m: f64| {
        vec![gps("c", 0, north_m * METRE, -100.0 * METRE), gps("c", 200 * S, north_m * METRE, 100.0 * METRE)]
    };
    let p = feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, 0.0)]);
    let answered = answer(&world(vec![linear(900 * S, way(30.0)), p.clone()]));
    assert_eq!(answered.encounters.len(), 1);
    let encounter = &answered.encounters[0];
    assert_eq!((encounter.start, encounter.end, encounter.bracketed), (60_000, 140_000, false));
    assert!(near(encounter.distance_m.unwrap(), 30.0));
    // After the last ping c is nowhere.
    assert_eq!((answered.observed[0].stays, answered.observed[0].observed_ms), (1, 200_000));

    // Further off than the limit; across a gap longer than the hold.
    assert!(answer(&world(vec![linear(900 * S, way(50.01)), p.clone()])).encounters.is_empty());
    assert!(answer(&world(vec![linear(199 * S, way(30.0)), p.clone()])).encounters.is_empty());

    // The infectious range [80, 90) clips the leg, not its course.
    let mut clipped = world(vec![linear(900 * S, way(30.0)), p]);
    clipped.cases = vec![case("C1", "c", 80 * S, 90 * S)];
    let answered = answer(&clipped);
    assert_eq!(spans(&answered, "direct"), [(80, 90)]);
    // At 90 s, x = -10: sqrt(100 + 900).
    assert!(near(answered.encounters[0].distance_m.unwrap(), 31.622_776_601_683_793));

    // Both move, head on, 1 m/s each: x = 200 - 2 t, |x| <= 50 is t in [75, 125]; both legs are
    // bracketed.
    let head_on = vec![
        gps("c", 0, 0.0, -100.0 * METRE),
        gps("c", 200 * S, 0.0, 100.0 * METRE),
        gps("p", 0, 0.0, 100.0 * METRE),
        gps("p", 200 * S, 0.0, -100.0 * METRE),
    ];
    let answered = answer(&world(vec![linear(900 * S, head_on)]));
    assert_eq!(spans(&answered, "direct"), [(75, 125)]);
    assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].confirmed_ms), (50_000, 50_000));

    // Side by side, 40 m apart, over two legs: one encounter. 60 m apart: none.
    for (apart_m, expected) in [(40.0, vec![(0, 400)]), (60.0, vec![])] {
        let mut pings = Vec::new();
        for (t, east_m) in [(0, 0.0), (200, 100.0), (400, 300.0)] {
            pings.push(gps("c", t * S, 0.0, east_m * METRE));
            pings.push(gps("p", t * S, apart_m * METRE, east_m * METRE));
        }
        assert_eq!(spans(&answer(&world(vec![linear(900 * S, pings)])), "direct"), expected);
    }

    assert_eq!([0.0, 0.49, 0.5, 1.5, 2.51].map(round_half_up), [0, 0, 1, 2, 3]);
}

#[test]
fn antimeridian() {
    // 180 and -180 are one meridian, also for squares; 0.0002 degrees of longitude on the
    // equator are 22.239 m.
    let hold = |a: f64, b: f64| {
        world(vec![feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, a), gps("c", 0, 0.0, b)])])
    };
    assert!(near(answer(&hold(180.0, -180.0)).encounters[0].distance_m.unwrap(), 0.0));
    assert!(near(answer(&hold(179.9999, -179.9999)).encounters[0].distance_m.unwrap(), 22.239_016_0));
    let mut grid = hold(180.0, -180.0);
    grid.rule.place = Place::Grid { square_m: 800.0 };
    assert_eq!(answer(&grid).encounters.len(), 1);

    // The pass-by of above, across 180 degrees, both ways.
    for (from_m, to_m) in [(-100.0, 100.0), (100.0, -100.0)] {
        let lon = |east_m: f64| {
            if east_m < 0.0 { 180.0 + east_m * METRE } else { -180.0 + east_m * METRE }
        };
        let way = vec![gps("c", 0, 30.0 * METRE, lon(from_m)), gps("c", 200 * S, 30.0 * METRE, lon(to_m))];
        let p = feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, 180.0)]);
        let answered = answer(&world(vec![linear(900 * S, way), p]));
        assert_eq!((answered.encounters[0].start, answered.encounters[0].end), (60_000, 140_000));
    }
}

#[test]
fn squares() {
    // On the equator the 800 m square 0:0 spans 0.007194... degrees both ways.
    let at = |lat: f64, lon: f64| square(Position { lat, lon }, 800.0);
    assert_eq!(at(0.0001, 0.0001), "0:0");
    assert_eq!(at(0.0071, 0.0071), "0:0");
    assert_eq!(at(0.0001, 0.0072), "0:1");
    assert_eq!(at(-0.0001, -0.0001), "-1:-1");
    assert_eq!(at(34.75, 113.62), "4830:12975");
    assert_eq!(at(34.75, 113.6259), "4830:12975");
    assert_eq!(at(34.75, 113.6261), "4830:12976");

    // 700 m apart in one square is together, 20 m apart across its edge is not.
    let mut pings =
        vec![gps("c", 0, 0.0001, 0.0071), gps("p", 0, 0.0001, 0.0008), gps("q", 0, 0.0001, 0.0072)];
    let mut world = world(vec![feed(Source::Gps, 900 * S, pings.clone())]);
    world.rule.place = Place::Grid { square_m: 800.0 };
    let answered = answer(&world);
    assert_eq!(answered.encounters.len(), 1);
    let encounter = &answered.encounters[0];
    assert_eq!(
        (encounter.person.as_str(), encounter.place.as_deref(), encounter.distance_m),
        ("p", Some("0:0"), None)
    );

    // Bracketed by the square, not by metres.
    pings = vec![
        gps("p", 0, 0.0001, 0.0008),
        gps("p", 60 * S, 0.0001, 0.0071),
        gps("p", 120 * S, 0.0001, 0.0072),
    ];
    world.feeds[0].pings = pings;
    let bracketed: Vec<bool> = stays_of_person(&world, "p").iter().map(|stay| stay.bracketed).collect();
    assert_eq!(bracketed, [true, false, false]);
}

#[test]
fn cells() {
    // The example of the H3 documentation.
    let pings = vec![gps("c", 0, 37.3615593, -122.0553238), gps("p", 0, 37.3615593, -122.0553238)];
    let mut world = world(vec![feed(Source::Gps, 900 * S, pings)]);
    world.rule.place = Place::Cell { resolution: 7 };
    let answered = answer(&world);
    assert_eq!(answered.encounters[0].place.as_deref(), Some("87283472bffffff"));
    assert_eq!(answered.encounters[0].distance_m, None);
}

#[test]
fn venue_floors() {
    // c is in V on floor 2 for [0, 1000): p on floor 2 and q without a floor meet c, r on floor
    // 3 and s in W do not.
    let scans = vec![
        on_floor("2", scan_until("c", 0, 1000 * S, "V")),
        on_floor("2", scan_until("p", 500 * S, 2000 * S, "V")),
        scan_until("q", 900 * S, 2000 * S, "V"),
        on_floor("3", scan_until("r", 0, 1000 * S, "V")),
        on_floor("2", scan_until("s", 0, 1000 * S, "W")),
    ];
    let answered = answer(&world(vec![feed(Source::Venue, 1800 * S, scans)]));
    let met: Vec<_> = answered
        .encounters
        .iter()
        .map(|e| (e.person.as_str(), e.start / S, e.end / S, e.place.as_deref()))
        .collect();
    assert_eq!(met, [("p", 500, 1000, Some("V")), ("q", 900, 1000, Some("V"))]);
    assert!(
        answered.encounters.iter().all(|encounter| encounter.bracketed && encounter.distance_m.is_none())
    );

    // In a mall [0, 1000) and in a shop of it [200, 400) at once: two encounters, the time
    // counted once.
    let mut scans = Vec::new();
    for person in ["c", "p"] {
        scans.push(scan_until(person, 0, 1000 * S, "mall"));
        scans.push(scan_until(person, 200 * S, 400 * S, "shop"));
    }
    let answered = answer(&world(vec![feed(Source::Venue, 1800 * S, scans)]));
    assert_eq!(spans(&answered, "direct"), [(0, 1000), (200, 400)]);
    assert_eq!(answered.exposures[0].direct_ms, 1_000_000);
    assert_eq!((answered.observed[3].stays, answered.observed[3].observed_ms), (2, 1_000_000));
}

#[test]
fn across_sources() {
    // c by gps [0, 900); p by tower 0 [0, 3600) and in venue V at the same position [100, 200);
    // q in U, which has no coordinates.
    let mut at_v = scan_until("p", 100 * S, 200 * S, "V");
    (at_v.lat, at_v.lon) = (Some(0.0), Some(0.0));
    let mut world = world(vec![
        feed(Source::Gps, 900 * S, vec![gps("c", 0, 0.0, 0.0)]),
        feed(Source::Tower, 3600 * S, vec![tower("p", 0, "0")]),
        feed(Source::Venue, 1800 * S, vec![at_v, scan_until("q", 0, 900 * S, "U")]),
    ]);
    assert!(answer(&world).encounters.is_empty());
    world.rule.cross_source = true;
    let answered = answer(&world);
    let met: Vec<_> =
        answered.encounters.iter().map(|e| (e.start / S, e.end / S, e.source, e.case_source)).collect();
    assert_eq!(met, [(0, 900, Source::Tower, Source::Gps), (100, 200, Source::Venue, Source::Gps)]);
    assert!(
        answered
            .encounters
            .iter()
            .all(|encounter| encounter.place.is_none() && encounter.distance_m == Some(0.0))
    );
    assert_eq!(
        (answered.exposures[0].sources.as_str(), answered.exposures[0].direct_ms),
        ("tower,venue", 900_000)
    );
}

#[test]
fn strongest_of_several_cases() {
    // p is with c for 700 s, with d for 800 s and with e for 500 s, which is too short. q is
    // with c for 700 s and r with d for 700.5 s: as many whole seconds, so the person decides.
    let scans = vec![
        scan_until("p", 0, 10_000 * S, "V"),
        scan_until("c", 0, 700 * S, "V"),
        scan_until("d", 1000 * S, 1800 * S, "V"),
        scan_until("e", 3000 * S, 3500 * S, "V"),
        scan_until("r", 1000 * S, 1700 * S + 500, "V"),
        scan_until("q", 0, 700 * S, "V"),
    ];
    let mut world = world(vec![feed(Source::Venue, 1800 * S, scans)]);
    world.cases.push(case("C2", "d", 0, 14 * DAY));
    world.cases.push(case("C3", "e", 0, 14 * DAY));
    let rows: Vec<_> = answer(&world)
        .candidates
        .into_iter()
        .map(|row| (row.person, row.case_id, row.case_count, row.direct_ms))
        .collect();
    let row = |person: &str, case_id: &str, count, direct_ms| {
        (person.to_string(), Some(case_id.to_string()), count, direct_ms)
    };
    assert_eq!(rows, [row("p", "C2", 2, 800_000), row("q", "C1", 1, 700_000), row("r", "C2", 1, 700_500)]);
    let first = &answer(&world).candidates[0];
    assert_eq!((first.first_at, first.last_at, first.evidence_count), (0, 1_800_000, 2));
    assert_eq!(first.expires_at, 606_600_000);
}

#[test]
fn across_cases_two_short_exposures_are_one() {
    // p is with c for 400 s and with d for 500 s, of which 100 s with both: 800 s in all.
    let scans = vec![
        scan_until("p", 0, 10_000 * S, "V"),
        scan_until("c", 0, 400 * S, "V"),
        scan_until("d", 300 * S, 800 * S, "V"),
        scan_until("q", 0, 350 * S, "V"),
    ];
    let mut world = world(vec![feed(Source::Venue, 1800 * S, scans)]);
    world.cases.push(case("C2", "d", 0, 14 * DAY));
    world.rule.direct_ms_min = 800_000;
    assert!(answer(&world).candidates.is_empty());
    world.rule.across_cases = true;
    let rows = answer(&world).candidates;
    // q is with them for 350 s: 50 s of it with both.
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.person.as_str(), row.case_id.as_deref(), row.case_count), ("p", Some("C2"), 2));
    assert_eq!((row.direct_ms, row.confirmed_ms, row.evidence_count), (800_000, 800_000, 2));
    assert_eq!((row.first_at, row.last_at), (0, 800_000));
    world.rule.direct_ms_min = 800_001;
    assert!(answer(&world).candidates.is_empty());
}

/// On trip T of a vehicle, from one time to another.
fn on_trip(person: &str, t: Ms, until: Ms, aboard: Aboard) -> Ping {
    Ping { aboard: Some(aboard), ..scan_until(person, t, until, "T") }
}

#[test]
fn who_sits_near_whom() {
    // c sits in row 10 for [0, 600), p in row 13 from 300 on, q in row 14, r does not say; s sits in row 10 of a bus.
    let row = |row: Option<i64>| Aboard { vehicle: "air", row, ..Aboard::default() };
    let bus = Aboard { vehicle: "bus-ventilated", row: Some(10), ..Aboard::default() };
    let mut world = world(vec![feed(
        Source::Trip,
        0,
        vec![
            on_trip("c", 0, 600 * S, row(Some(10))),
            on_trip("p", 300 * S, 900 * S, row(Some(13))),
            on_trip("q", 0, 900 * S, row(Some(14))),
            on_trip("r", 0, 900 * S, row(None)),
            on_trip("s", 0, 900 * S, bus),
        ],
    )]);
    let answered = answer(&world);
    let met: Vec<_> = answered
        .encounters
        .iter()
        .map(|e| (e.person.as_str(), e.start / S, e.end / S, e.place.as_deref(), e.bracketed))
        .collect();
    assert_eq!(met, [("p", 300, 600, Some("T"), true)]);
    // 300 s are too short for an exposure, and enough for a trip.
    let row = &answered.candidates[0];
    assert_eq!((row.person.as_str(), row.reason.as_str(), row.direct_ms), ("p", "trip", 300_000));
    world.rule.direct_ms_min = 300_000;
    assert_eq!(answer(&world).candidates[0].reason, "exposure,trip");
    // After c left, in the lag: an encounter, and no candidate.
    world.feeds[0].pings[1].t = 600 * S;
    world.rule.lag_ms = 100 * S;
    let answered = answer(&world);
    assert_eq!(spans(&answered, "indirect"), [(600, 700)]);
    assert!(answered.candidates.is_empty());
}

#[test]
fn dwells_in_risk_areas() {
    // A block of a degree with a hole in its middle, listed for [500, 2000). p stands in it for [0, 900), in the hole for
    // [900, 1800), on the border for [1800, 2700); c, who is a case, with p.
    let block = vec![(10.0, 10.0), (11.0, 10.0), (11.0, 11.0), (10.0, 11.0)];
    let hole = vec![(10.4, 10.4), (10.6, 10.4), (10.6, 10.6), (10.4, 10.6)];
    let mut pings = Vec::new();
    for who in ["c", "p"] {
        pings.push(gps(who, 0, 10.2, 10.2));
        pings.push(gps(who, 900 * S, 10.5, 10.5));
        pings.push(gps(who, 1800 * S, 10.0, 10.5));
    }
    let mut world = world(vec![feed(Source::Gps, 900 * S, pings)]);
    world.areas = vec![Area {
        area_id: "A".into(),
        shapes: vec![vec![block, hole]],
        from: 500 * S,
        to: 2000 * S,
        dwell_ms_min: 600 * S,
    }];
    let answered = answer(&world);
    let row = Dwell {
        person: "p".into(),
        area_id: "A".into(),
        dwell_ms: 600_000,
        first_at: 500_000,
        last_at: 2_000_000,
    };
    assert_eq!(answered.dwells, [row]);
    let row = &answered.candidates[0];
    assert_eq!(
        (row.reason.as_str(), row.evidence_count, row.first_at, row.last_at),
        ("area,exposure", 2, 0, 2_700_000)
    );
    world.cases.clear();
    let answered = answer(&world);
    // c is nobody's case now, and dwelt there just the same.
    assert_eq!(answered.candidates.len(), 2);
    let row = &answered.candidates[1];
    assert_eq!((row.reason.as_str(), row.case_id.as_deref(), row.case_count), ("area", None, 0));
    assert_eq!((row.first_at, row.last_at, row.expires_at), (500_000, 2_000_000, 606_800_000));
    world.areas[0].dwell_ms_min = 600_001;
    assert!(answer(&world).candidates.is_empty());
}

//! Hard shapes of input, whose answers are known without any oracle.

use crate::town::{
    Case, DAY, Exposed, GRID, HOLD, HOUR, MINUTE, Ms, NEAR, ORDERS, Order, Presence, Row, SECOND, T0, Town,
    case, exposed, in_rooms, row, sorted,
};

/// Runs the rows in all orders; each takes its own way and gives these exposures.
fn in_all_orders(rows: &[Row], expected: &[Exposed], town: &Town) {
    for order in ORDERS {
        let (way, broken, found) = Town { files: vec![order.of(rows)], ..town.clone() }.exposed();
        assert_eq!((way, broken), (order.way(), None), "{order:?}");
        assert_same(&found, expected, &format!("{order:?}, {}", town.place));
    }
}

/// Tells the first difference instead of all rows.
#[track_caller]
fn assert_same(found: &[Exposed], expected: &[Exposed], what: &str) {
    let differs = found.iter().zip(expected).find(|(a, b)| a != b);
    assert_eq!(found.len(), expected.len(), "{what}: {differs:?}");
    assert_eq!(differs, None, "{what}");
}

/// Pings of somebody in a room, `every` so often; presence ends a hold after the last.
fn dweller(person: i64, room: i64, from: Ms, every: Ms, pings: i64, rows: &mut Vec<Row>) -> Presence {
    rows.extend((0..pings).map(|n| row(person, from + n * every, room as f64 * 2_000.0)));
    Presence { person, room, from, to: from + (pings - 1) * every + HOLD }
}

/// Two of them are cases and one is not; they wander by a metre, so that no two of their stays are alike.
#[test]
fn one_person_with_a_hundred_thousand_pings() {
    let mut rows = Vec::new();
    let mut there = Vec::new();
    for person in 0..3 {
        there.push(dweller(person, 0, T0, SECOND, 100_000, &mut rows));
    }
    rows.iter_mut().for_each(|r| r.east_m = ((r.time / SECOND + r.person) % 2) as f64);
    for person in 3..40 {
        there.push(dweller(person, person % 2, T0 + person * SECOND, 10 * MINUTE, 100, &mut rows));
    }
    let cases = vec![case(0), case(1), case(4)];
    in_all_orders(&rows, &in_rooms(&there, &cases), &Town::new(Vec::new(), cases));
}

#[test]
fn everyone_in_one_square_all_day() {
    let mut rows = Vec::new();
    let there: Vec<Presence> =
        (0..2_000).map(|p| dweller(p, 0, T0 + p * SECOND, 10 * MINUTE, 144, &mut rows)).collect();
    let cases: Vec<Case> = (0..2_000).step_by(4).map(case).collect();
    let expected = in_rooms(&there, &cases);
    assert_eq!(expected.len(), 500 * 1_999);
    in_all_orders(&rows, &expected, &Town { place: GRID, ..Town::new(Vec::new(), cases) });
}

/// Each instant has two pings of each person: the better one is in the room for a third of them, and far
/// away for the others. The worse ones are in another file.
#[test]
fn everything_in_one_second() {
    let persons = -2_500..2_500i64;
    let is_there = |person: i64| person.rem_euclid(3) == 0;
    let (mut good, mut bad, mut there) = (Vec::new(), Vec::new(), Vec::new());
    for person in persons {
        for n in 0..40 {
            let (near, far) = if is_there(person) { (&mut good, &mut bad) } else { (&mut bad, &mut good) };
            near.push(row(person, T0 + n * 25, 0.0));
            far.push(row(person, T0 + n * 25, 40_000.0 + (person + 2_500) as f64 * 1_000.0));
        }
        if is_there(person) {
            there.push(Presence { person, room: 0, from: T0, to: T0 + 39 * 25 + HOLD });
        }
    }
    good.iter_mut().for_each(|r| r.accuracy_m = 5.0);
    let cases = vec![case(0), case(-3), case(1)];
    let expected = in_rooms(&there, &cases);
    for order in ORDERS {
        for place in [GRID, NEAR] {
            let town = Town { place, row_group_rows: 30_000, ..Town::new(Vec::new(), cases.clone()) };
            let (way, _, found) =
                Town { files: vec![order.of(&good), order.of(&bad)], ..town.clone() }.exposed();
            // Two files by person overlap in persons, which is no order.
            let expected_way = if order == Order::Time { "time" } else { "none" };
            assert_eq!(way, expected_way, "{order:?}");
            assert_same(&found, &expected, "two files");
            let both: Vec<Row> = good.iter().chain(&bad).copied().collect();
            let (way, _, found) = Town { files: vec![order.of(&both)], ..town }.exposed();
            assert_eq!(way, order.way());
            assert_same(&found, &expected, "one file");
        }
    }
}

#[test]
fn every_person_a_case() {
    let mut rows = Vec::new();
    let there: Vec<Presence> =
        (0..3_000).map(|p| dweller(p, p / 3, T0 + p * SECOND, 10 * MINUTE, 50, &mut rows)).collect();
    let cases: Vec<Case> = (0..3_000).map(case).collect();
    let expected = in_rooms(&there, &cases);
    assert_eq!(expected.len(), 6_000);
    in_all_orders(&rows, &expected, &Town::new(Vec::new(), cases));
}

#[test]
fn fourteen_days_with_cases_on_one() {
    let mut rows = Vec::new();
    // A ping every quarter of an hour: each stands exactly until the next.
    let there: Vec<Presence> =
        (0..200).map(|p| dweller(p, p / 10, T0 + p * SECOND, HOLD, 14 * 96, &mut rows)).collect();
    let one_day = |person| Case { person, from: T0 + 7 * DAY, to: T0 + 8 * DAY };
    let cases = vec![one_day(0), one_day(1), one_day(15), one_day(199)];
    let expected = in_rooms(&there, &cases);
    assert_eq!(expected.len(), 4 * 9);
    assert!(expected.iter().all(|e| e.2 == DAY));
    let town = Town { as_of: T0 + 14 * DAY, row_group_rows: 20_000, ..Town::new(Vec::new(), cases) };
    let clipped: Vec<Row> = rows.iter().copied().filter(|r| r.time < town.as_of).collect();
    in_all_orders(&clipped, &expected, &town);
    // Only a day's rows of three rooms in twenty are followed, and of others in passing.
    for order in [Order::Time, Order::Person, Order::None] {
        let answer = Town { files: vec![order.of(&clipped)], ..town.clone() }.run().expect("an answer");
        let tracked = answer.counts.rows_tracked;
        assert!(tracked < rows.len() as u64 / 5, "{order:?}: {tracked} of {}", rows.len());
    }
}

/// More rows than one unit of work may have: the cut runs through a case's rows, and its friends'.
#[test]
fn one_row_group_of_all_rows() {
    let mut rows = Vec::new();
    let there: Vec<Presence> =
        (0..4_001).map(|p| dweller(p, p / 4, T0 + p * 777, 7 * MINUTE, 301, &mut rows)).collect();
    assert!(rows.len() > 1 << 20);
    assert_eq!(rows[rows.len() / 2].person, 2_000);
    assert_eq!(rows[rows.len() / 2 - 1].person, 2_000, "the cut runs through somebody's rows");
    let cases = vec![case(0), case(1_999), case(2_000), case(2_001), case(4_000)];
    let expected = in_rooms(&there, &cases);
    assert_eq!(expected.len(), 4 * 3);
    let town = Town { row_group_rows: 1 << 21, ..Town::new(Vec::new(), cases) };
    in_all_orders(&rows, &expected, &town);
    // The number of a bad row is counted in the file, beyond the cut too.
    for order in [Order::Time, Order::Person, Order::None] {
        let mut file = order.of(&rows);
        file.insert(700_000, row(3, T0, f64::NAN));
        let answer =
            Town { files: vec![file], rejected_share_max: 1.0, ..town.clone() }.run().expect("an answer");
        let rejected: Vec<u64> = answer.survey.rejections.iter().map(|r| r.row).collect();
        assert_eq!((answer.counts.paths[0].order, rejected), (order.way(), vec![700_000]));
    }
    // A row of a case beyond the cut, where the order of each half is kept.
    let mut file = Order::Person.of(&rows);
    let early = file.iter().position(|r| r.person == 1_999).expect("the case") + 10;
    let late = file.remove(early);
    file.insert(rows.len() / 2, late);
    let found = Town { files: vec![file], ..town.clone() }.exposed();
    assert_eq!((found.0, found.1), ("none", Some("person")));
    assert_same(&found.2, &expected, "over the cut");
    // With too little memory for any order but that of persons.
    for order in [Order::Time, Order::Person, Order::None] {
        let narrow = Town { memory_bytes: 64 << 20, files: vec![order.of(&rows)], ..town.clone() };
        assert_same(&narrow.exposed().2, &expected, &format!("{order:?} in 64 MiB"));
    }
}

/// A fortnight at home, a ping a minute that wanders by a metre, and a lag of four hours: every ping of one
/// comes after 240 of the other. One goes out for the hours of noon, when the other stays.
#[test]
fn a_household_and_a_lag() {
    let mut rows = Vec::new();
    for person in [0, 1] {
        for n in 0..14 * 24 * 60 {
            let noon = (n / 60) % 24 == 12;
            let east_m = if noon && person == 0 { 5_000.0 } else { ((n + person) % 2) as f64 };
            rows.push(row(person, T0 + n * MINUTE, east_m));
        }
    }
    let lag = "place = \"distance\"\ndistance_m_max = 50\nlag_s_max = 14400";
    let town =
        Town { place: lag, as_of: T0 + 14 * DAY, ..Town::new(vec![Order::Time.of(&rows)], vec![case(0)]) };
    let answer = town.run().expect("an answer");
    let exposures = answer.exposures.whole().expect("exposures");
    assert_same(&exposed(&answer), &[(1, 0, 14 * 23 * HOUR)], "direct");
    assert_eq!(crate::town::lengths(&exposures, "indirect_ms"), [14 * HOUR]);
}

/// As a fleet of collectors leaves them: ten rows a file.
#[test]
fn ten_thousand_files() {
    let mut rows = Vec::new();
    let there: Vec<Presence> =
        (0..1_000).map(|p| dweller(p, p / 4, T0 + p * SECOND, 10 * MINUTE, 97, &mut rows)).collect();
    let cases = vec![case(0), case(500), case(999)];
    let expected = in_rooms(&there, &cases);
    let chunks =
        |order: Order| -> Vec<Vec<Row>> { order.of(&rows).chunks(10).map(<[Row]>::to_vec).collect() };
    let many = rows.len() / 10;
    let cards: Vec<Vec<Row>> = {
        let rows = Order::Time.of(&rows);
        (0..many).map(|file| rows.iter().skip(file).step_by(many).copied().collect()).collect()
    };
    for (files, way) in [(chunks(Order::Time), "time"), (cards, "time"), (chunks(Order::Person), "person")] {
        let (found_way, broken, found) = Town::new(files, cases.clone()).exposed();
        assert_eq!((found_way, broken), (way, None));
        assert_same(&found, &expected, way);
    }
}

/// Who stands for an hour, by pings exactly a hold apart; a person with one ping stands for a hold.
#[test]
fn pings_exactly_a_hold_apart() {
    let mut rows = Vec::new();
    let mut there = vec![dweller(0, 0, T0, HOLD, 4, &mut rows), dweller(1, 0, T0, HOLD + 1, 4, &mut rows)];
    there.push(dweller(2, 0, T0 + 10 * MINUTE, HOLD, 1, &mut rows));
    assert_eq!(there[0].to, T0 + HOUR);
    let cases = vec![case(0)];
    // A millisecond of each of the second person's three gaps is nowhere; the last is beyond the case.
    let expected = sorted(vec![(1, 0, HOUR - 3), (2, 0, HOLD)]);
    for row_group_rows in [1, 2, 3, 100] {
        for order in ORDERS {
            let files = vec![order.of(&rows)];
            let found = Town { row_group_rows, ..Town::new(files, cases.clone()) }.exposed().2;
            assert_same(&found, &expected, &format!("{order:?}, row groups of {row_group_rows}"));
        }
    }
}

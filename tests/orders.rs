//! Files that keep the order that they promise, and files that do not.

use crate::support::{Sandbox, i64s, read, text, text_array, time_array};
use crate::town::{
    Case, DAY, Exposed, GRID, HOUR, MINUTE, Ms, NEAR, NOBODY, ORDERS, Order, Row, SECOND, T0, Town, case, row,
};
use crate::world_files::save;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use copresence::answer::Answer;
use parquet::file::metadata::ParquetMetaDataReader;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everybody goes in and out of the case's room from ping to ping, so that each row counts.
fn in_and_out(persons: i64, pings: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    for person in 0..persons {
        for n in 0..pings {
            let inside = person == 0 || (person + n) % 3 == 0;
            let time = T0 + n * 5 * MINUTE + person * SECOND;
            rows.push(row(person, time, if inside { 0.0 } else { 1_000.0 * person as f64 }));
        }
    }
    rows
}

/// Every row of the middle row group put at every other place of it: statistics say the same, the answer is
/// the same, and what was still in order is not taken for broken.
fn any_row_anywhere(order: Order, persons: i64, pings: i64, group: usize) {
    let rows = order.of(&in_and_out(persons, pings));
    let town = |rows: Vec<Row>| Town {
        row_group_rows: group,
        memory_bytes: 1 << 16,
        ..Town::new(vec![rows], vec![case(0), case(5)])
    };
    let (way, broken, expected) = town(rows.clone()).exposed();
    assert_eq!((way, broken), (order.way(), None));
    let mut fell_back = 0;
    for from in group..2 * group {
        for to in (group..2 * group).filter(|to| *to != from) {
            let mut moved = rows.clone();
            let displaced = moved.remove(from);
            moved.insert(to, displaced);
            let batch_rows = [3, 4, 100][(from + to) % 3];
            for batch_rows in [batch_rows, 1] {
                let (way, broken, found) = Town { batch_rows, ..town(moved.clone()) }.exposed();
                assert_eq!(found, expected, "row {from} at {to}, batches of {batch_rows}");
                let key = |r: &Row| if order == Order::Time { r.time } else { r.person };
                let ordered = moved.is_sorted_by_key(key);
                // The order of persons may be broken where a row group begins or ends without any harm.
                assert!(!ordered || way == order.way(), "row {from} at {to}");
                assert!(broken.is_none() || way == "none" && !ordered, "row {from} at {to}");
                fell_back += usize::from(broken.is_some());
            }
        }
    }
    assert!(fell_back > group, "{fell_back} fell back");
}

#[test]
fn a_row_out_of_the_order_of_time() {
    any_row_anywhere(Order::Time, 6, 6, 12);
}

#[test]
fn a_row_out_of_the_order_of_persons() {
    // Four persons a row group, who begin and end with it; and four and a half.
    any_row_anywhere(Order::Person, 12, 3, 12);
    any_row_anywhere(Order::Person, 12, 4, 18);
}

/// A single row group says nothing of its rows, and a look only of the first.
#[test]
fn out_of_order_far_down() {
    let rows = in_and_out(500, 20);
    for order in [Order::Time, Order::Person] {
        let mut town = Town::new(vec![order.of(&rows)], vec![case(0), case(7)]);
        let expected = town.exposed().2;
        town.files[0].swap(8_000, 8_500);
        assert_eq!(town.exposed(), ("none", Some(order.way()), expected.clone()), "{order:?}");
        town.files[0].swap(100, 200);
        assert_eq!(town.exposed(), ("none", None, expected), "{order:?}");
    }
}

/// Files that each are in order, of which the last is not as its statistics and those before it say.
#[test]
fn the_last_of_many_files_is_broken() {
    let rows = in_and_out(60, 20);
    for order in [Order::Time, Order::Person] {
        let files: Vec<Vec<Row>> = order.of(&rows).chunks(60).map(<[Row]>::to_vec).collect();
        let mut town = Town::new(files, vec![case(0), case(7)]);
        let (way, _, expected) = town.exposed();
        assert_eq!(way, order.way());
        let last = town.files.len() - 1;
        town.files[last].swap(10, 50);
        assert_eq!(town.exposed(), ("none", Some(order.way()), expected), "{order:?}");
    }
}

/// GPS in the order of persons, towers almost so: what was done of the one is done again, with the cases'
/// pings that the other has in truth, which its statistics did not tell.
#[test]
fn one_source_breaks_and_another_does_not() {
    use crate::oracle::{self, Facts, Feed, Motion, Ping, Place, Rule, Source, Weighing, World};
    use crate::world_runs::run;
    use crate::worlds::{Layout, PLAIN, RowOrder, person};
    let feed = |source: Source| Feed {
        source,
        hold_ms: 10 * MINUTE,
        motion: Motion::Hold,
        accuracy_m: 20.0,
        pingpong_ms: 0,
        speed_m_per_s_max: 0.0,
        pings: in_and_out(9, 12)
            .into_iter()
            .map(|r| {
                let tower = (r.east_m / 1_000.0) as i64;
                Ping {
                    person: person(r.person as usize),
                    t: r.time,
                    lat: Some(34.75),
                    lon: Some(113.68 + tower as f64 * 0.01),
                    accuracy_m: None,
                    place_id: (source == Source::Tower).then(|| format!("t{tower}")),
                    aboard: None,
                    until: None,
                    floor: None,
                    facts: Facts::default(),
                }
            })
            .collect(),
    };
    let cases = [1, 5].map(|n| oracle::Case {
        case_id: format!("c{n}"),
        person: person(n),
        from: T0,
        to: T0 + DAY,
        onset: None,
    });
    for cross_source in [false, true] {
        let rule = Rule {
            as_of: T0 + DAY,
            lookback_ms: 2 * DAY,
            place: Place::Distance { m_max: 50.0 },
            cross_source,
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
        let feeds = vec![feed(Source::Gps), feed(Source::Tower)];
        let world = World { feeds, cases: cases.to_vec(), rule, areas: Vec::new(), home: None };
        let expected = oracle::answer(&world);
        let encounters = expected.encounters.len() as u64;
        let expected: Vec<Ms> = expected.exposures.iter().map(|e| e.direct_ms).collect();
        let mut broken = 0;
        for (seed, batch_rows) in (1..20).flat_map(|seed| [(seed, 3), (seed, 100)]) {
            let orders = [RowOrder::PersonTime, RowOrder::AlmostPerson];
            let layout = Layout { orders, seed, batch_rows, row_group_rows: 20, threads: 2, ..PLAIN };
            let answer = run(&world, &layout).expect("an answer");
            let ways: Vec<_> = answer.counts.paths.iter().map(|p| (p.order, p.broken_promise)).collect();
            assert_eq!(ways[0], ("person", None));
            broken += usize::from(ways[1] == ("none", Some("person")));
            assert_eq!(answer.counts.rows_kept, 2 * 9 * 12);
            let found: Vec<Ms> = crate::town::lengths(&answer.exposures.whole().expect("rows"), "direct_ms");
            assert_eq!(found, expected, "seed {seed}");
            assert_eq!(answer.counts.encounters, encounters);
        }
        assert!(broken > 20, "{broken} of 38");
    }
}

/// What a run tells of its rows, but for how many of them lie outside the lookback, which not all are read.
fn told(answer: &Answer) -> (u64, BTreeMap<&'static str, u64>, Vec<u64>, u64, usize) {
    let feed = &answer.survey.feeds[0];
    let counts = &answer.counts;
    assert_eq!(feed.rows_read, feed.rows_kept + feed.rejected_rows() + feed.before + feed.after);
    assert_eq!((counts.rows_kept, counts.rows_rejected), (feed.rows_kept, feed.rejected_rows()));
    assert_eq!(feed.by_day.iter().sum::<u64>(), feed.rows_kept);
    (
        feed.rows_kept,
        feed.rejected.clone(),
        feed.by_day.clone(),
        counts.persons,
        answer.survey.rejections.len(),
    )
}

/// Good rows, and bad ones of each kind spread among them: nobody's, nowhere's, and of other years.
fn with_bad_rows() -> Vec<Row> {
    let mut rows = in_and_out(50, 100);
    for n in 0..90 {
        let at = T0 + n * 6 * MINUTE;
        let bad = match n % 3 {
            0 => row(NOBODY, at, 0.0),
            1 => row(n % 50, at, f64::NAN),
            _ => row(n % 50, at + [-400 * DAY, 400 * DAY][(n / 3 % 2) as usize], 0.0),
        };
        rows.push(bad);
    }
    rows
}

#[test]
fn rows_are_counted_once_whatever_was_promised() {
    let rows = with_bad_rows();
    let mut first = None;
    let mut broken = Vec::new();
    for order in ORDERS {
        for (row_group_rows, swap) in [(500, false), (500, true), (10_000, false), (10_000, true)] {
            let mut town = Town {
                row_group_rows,
                rejected_share_max: 1.0,
                ..Town::new(vec![order.of(&rows)], vec![case(0), case(7)])
            };
            if swap {
                town.files[0].swap(4_600, 4_900);
            }
            let answer = town.run().expect("an answer");
            let found = (told(&answer), crate::town::exposed(&answer));
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{order:?}, {row_group_rows}");
            broken.extend(answer.counts.paths[0].broken_promise);
        }
    }
    let ((kept, rejected, by_day, ..), _) = first.expect("answers");
    assert_eq!(kept, 5_000);
    assert_eq!(rejected, BTreeMap::from([("person_id_missing", 30), ("lon_out_of_range", 30)]));
    assert_eq!(by_day.len(), 14);
    assert!(broken.contains(&"time") && broken.contains(&"person"), "{broken:?}");
}

/// Rejected rows of a pass that was given up do not count for the share at which a run stops.
#[test]
fn a_broken_promise_is_no_reason_to_stop() {
    let rows = with_bad_rows();
    for order in [Order::Time, Order::Person] {
        let mut town = Town {
            row_group_rows: 500,
            // There are 60 in 5,060 of the lookback.
            rejected_share_max: 0.012,
            ..Town::new(vec![order.of(&rows)], vec![case(0)])
        };
        town.files[0].swap(4_600, 4_900);
        let answer = town.run().expect("an answer");
        assert_eq!(answer.counts.paths[0].broken_promise, Some(order.way()));
        town.rejected_share_max = 0.011;
        assert!(town.run().is_err());
    }
}

/// What lies outside the lookback may be in any order, as it does not exist.
#[test]
fn outside_the_lookback_no_order_is_kept() {
    let rows = in_and_out(30, 30);
    for order in [Order::Time, Order::Person] {
        let ordered = order.of(&rows);
        let town = Town::new(vec![ordered.clone()], vec![case(0), case(7)]);
        let expected = town.exposed().2;
        let mut with_others = ordered;
        for n in (0..60).rev() {
            let at = T0 + [-20 * DAY, 20 * DAY][n % 2] - n as Ms * HOUR;
            with_others.insert(n * 14, row((n as i64 * 7) % 30, at, 0.0));
        }
        let found = Town { files: vec![with_others], ..town }.exposed();
        assert_eq!(found, (order.way(), None, expected));
    }
}

/// Signed ids below zero, and unsigned ones that signed integers cannot hold.
#[test]
fn integers_at_both_ends() {
    for unsigned in [false, true] {
        let shift = |rows: Vec<Row>| -> Vec<Row> {
            rows.into_iter().map(|r| Row { person: r.person - 20, ..r }).collect()
        };
        let rows = shift(in_and_out(40, 12));
        let cases: Vec<Case> = vec![case(-20), case(-13), case(5)];
        let mut first: Option<Vec<Exposed>> = None;
        for order in ORDERS {
            let mut ordered = order.of(&rows);
            if unsigned && order.way() == "person" {
                ordered.sort_by_key(|r| r.person as u64);
            }
            let town = Town { unsigned, row_group_rows: 50, ..Town::new(vec![ordered], cases.clone()) };
            let (way, broken, found) = town.exposed();
            assert_eq!((way, broken), (order.way(), None), "unsigned: {unsigned}");
            assert!(found.len() > 39, "{} exposures", found.len());
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{order:?}");
        }
    }
}

/// As little memory as makes rounds of a few rows: a hold reaches over many of them.
#[test]
fn rounds_of_a_few_rows() {
    let rows = in_and_out(12, 60);
    let town = Town { row_group_rows: 4, ..Town::new(vec![Order::Time.of(&rows)], vec![case(0), case(7)]) };
    let expected = town.exposed();
    assert_eq!(expected.0, "time");
    let mut in_time = 0;
    for memory_bytes in (10..20).map(|n| 1 << n) {
        for threads in [1, 7] {
            let (way, broken, found) = Town { memory_bytes, threads, ..town.clone() }.exposed();
            assert_eq!((broken, &found), (None, &expected.2), "{memory_bytes} bytes");
            in_time += usize::from(way == "time");
        }
    }
    // Two holds of rows have to fit: 7,200 bytes of them, in a quarter of the memory.
    assert!(in_time >= 10, "{in_time} by time");
}

/// All of a crowd wait for their next pings at once, while more of them come.
#[test]
fn a_crowd_that_waits() {
    const CROWD: i64 = 20_000;
    let rows: Vec<Row> = (0..CROWD)
        .flat_map(|p| {
            let (came, away_m) = (T0 + CROWD - p, if p == 0 { 9_000.0 } else { 5_000.0 });
            [(0, 0.0), (10, 0.0), (20, away_m)].map(|(after, at_m)| row(p, came + after * MINUTE, at_m))
        })
        .collect();
    let expected: Vec<Exposed> = (1..CROWD).map(|p| (p, 0, 20 * MINUTE - p)).collect();
    for (order, place) in
        [(Order::Time, NEAR), (Order::Time, GRID), (Order::Person, NEAR), (Order::None, NEAR)]
    {
        let town = Town { place, ..Town::new(vec![order.of(&rows)], vec![case(0)]) };
        let (way, broken, found) = town.exposed();
        let wrong = found.iter().zip(&expected).find(|(a, b)| a != b);
        assert_eq!((way, broken, found.len(), wrong), (order.way(), None, expected.len(), None), "{place}");
    }
}

/// Files that say nothing of their rows promise nothing.
#[test]
fn without_statistics() {
    let rows = in_and_out(40, 20);
    let town = Town { row_group_rows: 50, ..Town::new(Vec::new(), vec![case(0), case(7)]) };
    let expected = Town { files: vec![rows.clone()], ..town.clone() }.exposed().2;
    for order in ORDERS {
        let found = Town { files: vec![order.of(&rows)], statistics: false, ..town.clone() }.exposed();
        assert_eq!(found, ("none", None, expected.clone()), "{order:?}");
    }
}

/// Writes another number into a file's footer wherever it stands there.
fn rewrite_statistics(dir: &tempfile::TempDir, file: usize, from: i64, to: i64) {
    let path = dir.path().join(format!("pings/{file:05}.parquet"));
    let bytes = std::fs::read(&path).expect("a file");
    let end = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().expect("four bytes"));
    rewrite(&path, bytes, end - length as usize..end, from, to);
}

/// Writes another number into some bytes of a file wherever it stands there.
fn rewrite(path: &std::path::Path, mut bytes: Vec<u8>, within: std::ops::Range<usize>, from: i64, to: i64) {
    let mut changed = 0;
    for at in within {
        if bytes[at..at + 8] == from.to_le_bytes() {
            bytes[at..at + 8].copy_from_slice(&to.to_le_bytes());
            changed += 1;
        }
    }
    assert!(changed > 0, "the number is there");
    std::fs::write(path, bytes).expect("a file");
}

/// A person's number, which nothing else in a footer looks like.
fn number(person: i64) -> i64 {
    0x5151_5151_5151_0000 + person
}

/// A town in the order of persons, one of whose row groups begins with a case, the tenth, is answered right when it hides that one.
fn hides_a_case(hide: impl Fn(&tempfile::TempDir)) {
    let mut rows = in_and_out(30, 20);
    rows.iter_mut().for_each(|r| r.person = number(r.person));
    let cases = vec![case(number(0)), case(number(10))];
    let town = Town { row_group_rows: 100, ..Town::new(vec![Order::Person.of(&rows)], cases) };
    let (way, broken, expected) = town.exposed();
    assert_eq!((way, broken), ("person", None));
    let dir = town.write();
    hide(&dir);
    let answer = town.run_in(&dir).expect("an answer");
    assert_eq!(crate::town::exposed(&answer), expected);
    assert_eq!(answer.counts.paths[0].broken_promise, Some("person"));
}

/// A row group that says of itself that it begins with a later person than the case, who is in it.
#[test]
fn statistics_that_leave_out_a_case() {
    hides_a_case(|dir| rewrite_statistics(dir, 0, number(10), number(12)));
}

/// A row group that tells who is in it, but whose page index leaves out the case.
#[test]
fn a_page_index_that_leaves_out_a_case() {
    hides_a_case(|dir| {
        let path = dir.path().join("pings/00000.parquet");
        let file = std::fs::File::open(&path).expect("a file");
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).expect("a footer");
        let index = metadata.row_groups().iter().map(|group| group.column(0)).find_map(|column| {
            let first = column.statistics()?.min_bytes_opt()? == number(10).to_le_bytes();
            let index = column.column_index_offset().zip(column.column_index_length()).filter(|_| first)?;
            Some(index.0 as usize..(index.0 + i64::from(index.1)) as usize)
        });
        let bytes = std::fs::read(&path).expect("a file");
        rewrite(&path, bytes, index.expect("a page index"), number(10), number(12));
    });
}

/// A row group that says of itself that it begins ten minutes later than it does. In the quarter of an hour
/// before it somebody waits where the case comes to in these ten minutes.
#[test]
fn statistics_that_are_wrong() {
    let mut rows = Vec::new();
    for n in 0..24 {
        // The case goes to the waiting room after an hour, for five minutes.
        rows.push(row(0, T0 + n * 5 * MINUTE, if n == 12 { 0.0 } else { 3_000.0 }));
        rows.push(row(1 + n, T0 + n * 5 * MINUTE + SECOND, 6_000.0));
    }
    rows.insert(22, row(90, T0 + 53 * MINUTE, 0.0));
    let rows = Order::Time.of(&rows);
    let begins = rows.iter().position(|r| r.time == T0 + 60 * MINUTE).expect("the case's ping");
    let files = vec![rows[..begins].to_vec(), rows[begins..].to_vec()];
    let town = Town { memory_bytes: 1 << 13, row_group_rows: 9, ..Town::new(files, vec![case(0)]) };
    let right = vec![(90, 0, 5 * MINUTE)];
    assert_eq!(town.exposed(), ("time", None, right.clone()));
    let dir = town.write();
    rewrite_statistics(&dir, 1, T0 + 60 * MINUTE, T0 + 70 * MINUTE);
    let answer = town.run_in(&dir).expect("an answer");
    assert_eq!(crate::town::exposed(&answer), right);
    assert_eq!(answer.counts.paths[0].broken_promise, Some("time"));
}

// ----------------------------------------------------------------- through the program, from other files

const CASES: &str = "case_id,person_id,infectious_from,report_id,authority\nc1,ada,2021-01-01,r1,district\n";

fn job(zone: &str, as_of: &str, feed: &str) -> String {
    format!(
        "[job]\npurpose = \"test\"\nas_of = \"{as_of}\"\ntime_zone = \"{zone}\"\nrejected_share_max = 1\n[[feeds]]\n{feed}\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n"
    )
}

fn run(sandbox: &Sandbox) {
    let flags = ["--out", "out", "--force", "--encounters", "all", "--progress", "none"];
    sandbox.copresence(&[&["run", "job.toml"][..], &flags].concat()).succeeds();
}

fn path(sandbox: &Sandbox) -> (String, Option<String>) {
    let manifest = std::fs::read_to_string(sandbox.path("out/manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let path = &manifest["counts"]["paths"][0];
    let word = |key: &str| path[key].as_str().map(str::to_owned);
    (word("order").expect("an order"), word("broken_promise"))
}

/// A folder a tower, each with a file in the order of time, all over the same hours.
#[test]
fn towers_in_folders_of_their_own() {
    let sandbox = Sandbox::new();
    let feed = "source = \"tower\"\npath = \"p\"\ntowers = { path = \"towers.csv\", datum = \"wgs84\" }";
    sandbox.write("job.toml", &job("UTC", "2022-03-22T00:00:00Z", feed));
    sandbox.write("cases.csv", CASES);
    sandbox.write("towers.csv", "tower_id,lat,lon\na,34.75,113.68\nb,34.95,113.68\n");
    // Ada is at a for an hour, then at b; bo comes to a after half an hour, cy to b after an hour and a half.
    let files = [
        ("a", vec![("ada", 0), ("ada", 20), ("bo", 30), ("ada", 40), ("bo", 90)]),
        ("b", vec![("ada", 60), ("cy", 90), ("ada", 110), ("cy", 140)]),
    ];
    for (tower, pings) in files {
        let columns = vec![
            ("person_id", text_array(pings.iter().map(|p| p.0))),
            ("time", time_array(pings.iter().map(|p| T0 + p.1 * MINUTE))),
        ];
        sandbox.write_parquet(&format!("p/tower_id={tower}/x.parquet"), columns);
    }
    run(&sandbox);
    assert_eq!(path(&sandbox), ("time".to_string(), None));
    let exposures = read(sandbox.path("out/exposures.parquet"));
    assert_eq!(text(&exposures, "person_id"), ["bo", "cy"]);
    // Ada's last ping, at 110 minutes, stands for an hour; cy's, at 140, too.
    assert_eq!(i64s(&exposures, "direct_s"), [30 * 60, 80 * 60]);
}

/// Writes wall-clock times of Berlin in row groups of three, everyone in one place.
fn wall_clock(pings: &[(&str, Ms)]) -> Sandbox {
    let sandbox = Sandbox::new();
    let feed = "source = \"gps\"\npath = \"p.parquet\"\ndatum = \"wgs84\"";
    let as_of = if pings[0].1 < 1_620_000_000_000 { "2021-03-29T00:00:00Z" } else { "2021-11-01T00:00:00Z" };
    sandbox.write("job.toml", &job("Europe/Berlin", as_of, feed));
    sandbox.write("cases.csv", CASES);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("person_id", Arc::new(StringArray::from_iter_values(pings.iter().map(|p| p.0)))),
        ("time", Arc::new(TimestampMillisecondArray::from_iter_values(pings.iter().map(|p| p.1)))),
        ("lat", Arc::new(Float64Array::from(vec![52.5; pings.len()]))),
        ("lon", Arc::new(Float64Array::from(vec![13.4; pings.len()]))),
    ];
    save(&sandbox.path("p.parquet"), &RecordBatch::try_from_iter(columns).expect("columns"), 3);
    run(&sandbox);
    sandbox
}

/// On 31 October 2021 the clocks of Berlin showed two to three twice. A file in the order of its hours is
/// out of order on the clock, which takes each time for the earlier one.
#[test]
fn an_hour_that_comes_twice() {
    // Midnight of that day on the wall.
    let at = |minutes: Ms| 1_635_638_400_000 + minutes * MINUTE;
    let by_hour = [
        ("ada", at(100)),
        ("bo", at(110)),
        ("ada", at(120)),
        ("ada", at(130)),
        ("bo", at(170)),
        ("ada", at(125)),
        ("bo", at(185)),
        ("ada", at(190)),
        ("bo", at(195)),
    ];
    let sandbox = wall_clock(&by_hour);
    assert_eq!(path(&sandbox), ("none".to_string(), Some("time".to_string())));
    let found = i64s(&read(sandbox.path("out/exposures.parquet")), "direct_s");
    // In summer time Ada is there from 01:40 to 01:55 and from 02:00 to 02:25, bo from 01:50 to 02:05 and
    // from 02:50 to 03:05; in winter time Ada from 03:10 to 03:25, bo from 03:05 to 03:30.
    assert_eq!(found, [(5 + 5 + 15) * 60]);
    let mut by_clock = by_hour;
    by_clock.sort_by_key(|p| p.1);
    let sandbox = wall_clock(&by_clock);
    assert_eq!(path(&sandbox), ("time".to_string(), None));
    assert_eq!(i64s(&read(sandbox.path("out/exposures.parquet")), "direct_s"), found);
}

/// On 28 March 2021 they skipped it: times in it are rejections, though they may be the ends of row groups.
#[test]
fn an_hour_that_never_was() {
    let at = |minutes: Ms| 1_616_889_600_000 + minutes * MINUTE;
    let pings = [
        ("ada", at(110)),
        ("bo", at(115)),
        ("ada", at(125)),
        ("bo", at(150)),
        ("ada", at(181)),
        ("bo", at(182)),
        ("ada", at(190)),
        ("bo", at(200)),
    ];
    let sandbox = wall_clock(&pings);
    assert_eq!(path(&sandbox), ("none".to_string(), None));
    let rejections = read(sandbox.path("out/rejections.parquet"));
    assert_eq!(i64s(&rejections, "row"), [2, 3]);
    assert_eq!(text(&rejections, "reason"), ["time_not_in_zone", "time_not_in_zone"]);
    // Ada is there from 01:50 to 03:25, which are 35 minutes; bo from 01:55 to 03:17, and from 03:20 on.
    let exposures = read(sandbox.path("out/exposures.parquet"));
    assert_eq!(i64s(&exposures, "direct_s"), [(22 + 5) * 60]);
}

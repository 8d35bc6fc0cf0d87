//! A small town in memory for the benches: pings of one day, in one grid of homes, and its cases.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt64Array};
use copresence::case::Case;
use copresence::index::{Beside, CaseIndex};
use copresence::person::PersonId;
use copresence::ping::{Pings, group_by_person, ping_schema};
use copresence::place::PlaceRule;
use copresence::rule::{CandidateRule, EncounterRule, ExposureRule, Rule, Source, StayRule};
use copresence::stay::{StayColumns, stay_schema};
use copresence::time::{DAY_MS, Millis};
use copresence::track::{Track, TrackRule};
use std::sync::Arc;

/// Start of the day, ms UTC.
pub const DAY: Millis = 1_647_792_000_000;
const PINGS: u64 = 100;

/// A town with so many persons, of whom the first few are cases.
pub struct Town {
    /// All pings, grouped by person.
    pub pings: RecordBatch,
    /// Their stays, grouped by person.
    pub stays: RecordBatch,
    /// The cases.
    pub cases: Vec<Case>,
    /// The cases' stays.
    pub index: CaseIndex,
    /// The rule.
    pub rule: Rule,
    /// The one feed's rule.
    pub feeds: Vec<StayRule>,
}

fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Town {
    /// Makes a town; the same for the same arguments.
    pub fn new(persons: u64, cases: u64, place: PlaceRule) -> Self {
        let mut state = 7;
        let rows = persons * PINGS;
        let (mut lats, mut lons, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..persons {
            let home = (34.7 + random(&mut state) * 0.1, 113.6 + random(&mut state) * 0.1);
            for n in 0..PINGS {
                lats.push(home.0 + random(&mut state) * 2e-4);
                lons.push(home.1 + random(&mut state) * 2e-4);
                times.push(DAY + (n as f64 + random(&mut state)) as Millis * DAY_MS / PINGS as i64);
            }
        }
        let ids = UInt64Array::from_iter_values((0..rows).map(|row| row / PINGS));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids),
            Arc::new(Int64Array::from(times)),
            Arc::new(Float64Array::from(lats)),
            Arc::new(Float64Array::from(lons)),
        ];
        let schema = ping_schema(&arrow::datatypes::DataType::UInt64, Source::Gps.bit(), None, 1);
        let batch = RecordBatch::try_new(schema, columns).expect("columns of one length");
        let at = Pings::of(&batch).times.to_vec();
        let pings = group_by_person(&batch, |row| at[row]).expect("a small batch");
        let feeds = vec![StayRule::of(Source::Gps)];
        let rule = Rule {
            name: "bench".into(),
            version: "1".into(),
            changed: Vec::new(),
            lookback_ms: 14 * DAY_MS,
            notice_ms: 7 * DAY_MS,
            encounter: EncounterRule { place, cross_source: false, lag_ms: 0, contradiction_m: 2_000.0 },
            stay_ms_by_kind: Default::default(),
            exposure: ExposureRule::default(),
            candidate: CandidateRule {
                direct_ms_min: 600_000,
                confirmed_ms_min: None,
                longest_ms_min: None,
                peak_24h_ms_min: None,
                expected_ms_min: None,
                risk_min: None,
                resident: None,
                dwell_ms_min: None,
                across_cases: false,
            },
        };
        let cases: Vec<Case> = (0..cases)
            .map(|n| Case {
                case_id: format!("{n:04}"),
                person: PersonId::Integer(n),
                infectious_from: DAY,
                infectious_to: DAY + DAY_MS,
                onset_at: None,
            })
            .collect();
        let index =
            CaseIndex::build(&pings, &cases, &rule.encounter, &feeds, DAY + DAY_MS, Beside::default());
        let stays = stays_of(&pings, &feeds, &rule.encounter.place);
        Town { pings, stays, cases, index, rule, feeds }
    }
}

/// The stays of pings that are grouped by person.
pub fn stays_of(batch: &RecordBatch, feeds: &[StayRule], place: &PlaceRule) -> RecordBatch {
    let pings = Pings::of(batch);
    let mut rule = TrackRule::new(Source::Gps, feeds, place, DAY + DAY_MS, true);
    let mut stays = StayColumns::new(&stay_schema(&arrow::datatypes::DataType::UInt64, feeds, place, false));
    for group in pings.groups() {
        let person = pings.persons.at(group.start);
        let mut track = Track::default();
        for row in group {
            track.push(pings.at(row), true, &mut rule, &mut |stay| stays.push(person, stay));
        }
        track.finish(&mut rule, &mut |stay| stays.push(person, stay));
    }
    stays.finish().expect("columns of one length")
}

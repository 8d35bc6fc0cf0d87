//! Time is whole milliseconds UTC since 1970; every range is half-open.

use crate::wide::wide;
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
pub use chrono_tz::Tz;

/// Milliseconds UTC since 1970-01-01T00:00:00Z, or a length in milliseconds.
pub type Millis = i64;

/// Milliseconds of an hour.
pub const HOUR_MS: Millis = 3_600_000;
/// Milliseconds of a day of 24 hours.
pub const DAY_MS: Millis = 24 * HOUR_MS;
/// Instants outside +-INSTANT_MS_MAX (about the years -200,000 to 200,000) are unreadable; sums of
/// an instant and a length then never overflow.
pub const INSTANT_MS_MAX: Millis = 6_400_000_000_000_000;

/// The unit of an integer time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// `value` in whole milliseconds, rounded down; `None` outside the readable range.
    #[inline]
    pub fn millis(self, value: i64) -> Option<Millis> {
        let ms = match self {
            TimeUnit::S => value.checked_mul(1_000)?,
            TimeUnit::Ms => value,
            TimeUnit::Us => value.div_euclid(1_000),
            TimeUnit::Ns => value.div_euclid(1_000_000),
        };
        (-INSTANT_MS_MAX..=INSTANT_MS_MAX).contains(&ms).then_some(ms)
    }
}

/// The instant of a local wall-clock time, both in milliseconds: the earlier one where the clock
/// shows it twice, `None` where it never does.
pub fn local_to_utc(local_ms: Millis, zone: Tz) -> Option<Millis> {
    let local = DateTime::from_timestamp_millis(local_ms)?.naive_utc();
    naive_to_utc(local, zone)
}

fn naive_to_utc(local: NaiveDateTime, zone: Tz) -> Option<Millis> {
    zone.from_local_datetime(&local).earliest().map(|t| t.timestamp_millis())
}

/// The first instant of a day in a zone; where the clock skips midnight, the first instant after.
pub fn first_instant_of(date: NaiveDate, zone: Tz) -> Option<Millis> {
    (0..=24 * 4).find_map(|quarter| {
        let local = date.and_time(NaiveTime::MIN) + chrono::TimeDelta::minutes(15 * quarter);
        naive_to_utc(local, zone)
    })
}

/// The day of an instant, in a zone.
pub fn day_of(at: Millis, zone: Tz) -> Option<NaiveDate> {
    Some(DateTime::from_timestamp_millis(at)?.with_timezone(&zone).date_naive())
}

/// The starts of the days that [from, to) touches, each with its date.
pub fn days_in(from: Millis, to: Millis, zone: Tz) -> Vec<(Millis, NaiveDate)> {
    let mut days = Vec::new();
    let mut date = day_of(from, zone);
    while let Some(d) = date {
        let Some(start) = first_instant_of(d, zone) else { break };
        if start >= to {
            break;
        }
        days.push((start, d));
        date = d.checked_add_days(Days::new(1));
    }
    days
}

/// The first instant after `at` at which the clock of a zone shows so many milliseconds of the day, 24 h being midnight; where
/// the clock skips that, the first instant after.
pub fn next_at(at: Millis, of_day_ms: u32, zone: Tz) -> Option<Millis> {
    let today = day_of(at, zone)?;
    // A day later, and one more, as midnight belongs to the next.
    (0..3).find_map(|later| {
        let date = today.checked_add_days(Days::new(later))?;
        let local = date.and_time(NaiveTime::MIN) + chrono::TimeDelta::milliseconds(i64::from(of_day_ms));
        let shown = (0..=24 * 4)
            .find_map(|quarter| naive_to_utc(local + chrono::TimeDelta::minutes(15 * quarter), zone));
        shown.filter(|shown| *shown > at)
    })
}

/// Which end of a range a day stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The day's first midnight.
    Start,
    /// The next midnight.
    End,
}

/// The day that an instant lies in, as intervals that follow one another: from the first instant of a date to the first of the
/// next. Where a clock is set back over midnight, this is not the date that it shows for the second time.
pub fn day_at(at: Millis, zone: Tz) -> Option<(NaiveDate, Millis, Millis)> {
    let shown = day_of(at, zone)?;
    let days = [Some(shown), shown.succ_opt(), shown.pred_opt()].into_iter().flatten();
    days.filter_map(|day| Some((day, date_edge(day, Edge::Start, zone)?, date_edge(day, Edge::End, zone)?)))
        .find(|(_, from, to)| (*from..*to).contains(&at))
}

/// The instant of a date as the start or the end of a range, in a zone.
pub fn date_edge(date: NaiveDate, edge: Edge, zone: Tz) -> Option<Millis> {
    match edge {
        Edge::Start => first_instant_of(date, zone),
        Edge::End => first_instant_of(date.checked_add_days(Days::new(1))?, zone),
    }
}

/// A time as written in a text: an instant, a wall-clock time, or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A time with an offset.
    Instant(Millis),
    /// A time without one.
    Local(NaiveDateTime),
    /// A day.
    Date(NaiveDate),
}

/// Reads `2022-03-21`, `2022-03-21T10:00`, `2022-03-21 10:00:00.5`, with `Z` or `+08:00` for an offset.
pub fn parse(text: &str) -> Option<Written> {
    let text = text.trim();
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(Written::Date(date));
    }
    for format in
        ["%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z", "%Y-%m-%d %H:%M%:z"]
    {
        let zulu = text.strip_suffix(['Z', 'z']).map(|t| format!("{t}+00:00"));
        if let Ok(t) = DateTime::parse_from_str(zulu.as_deref().unwrap_or(text), format) {
            return readable(t.timestamp_millis()).map(Written::Instant);
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(t) = NaiveDateTime::parse_from_str(text, format) {
            return Some(Written::Local(t));
        }
    }
    None
}

fn readable(ms: Millis) -> Option<Millis> {
    TimeUnit::Ms.millis(ms)
}

impl Written {
    /// The instant it stands for: a day as the start or end of a range, a local time in `zone`.
    pub fn instant(self, edge: Edge, zone: Option<Tz>) -> std::result::Result<Millis, NoInstant> {
        match self {
            Written::Instant(ms) => Ok(ms),
            Written::Local(local) => {
                naive_to_utc(local, zone.ok_or(NoInstant::ZoneUnknown)?).ok_or(NoInstant::NotInZone)
            }
            Written::Date(date) => {
                date_edge(date, edge, zone.ok_or(NoInstant::ZoneUnknown)?).ok_or(NoInstant::NotInZone)
            }
        }
    }
}

/// Why a written time names no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoInstant {
    /// It has no offset and the job no `time_zone`.
    ZoneUnknown,
    /// The zone's clock skips it.
    NotInZone,
}

/// `at` as `2022-03-21T02:00:00.000Z`.
pub fn utc_text(at: Millis) -> String {
    match DateTime::from_timestamp_millis(at) {
        Some(t) => t.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => format!("{at} ms"),
    }
}

/// `at` on the clock of `zone`, with its offset.
pub fn local_text(at: Millis, zone: Tz) -> String {
    match DateTime::from_timestamp_millis(at) {
        Some(t) => t.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %:z").to_string(),
        None => format!("{at} ms"),
    }
}

/// Seconds to whole milliseconds, half up; `None` if negative, not finite or absurd.
pub fn seconds_to_millis(seconds: f64) -> Option<Millis> {
    let ms = (seconds * 1_000.0 + 0.5).floor();
    (seconds >= 0.0 && ms.is_finite() && ms < INSTANT_MS_MAX as f64).then_some(ms as Millis)
}

/// The union of ranges [start, end): sorted, apart from one another; touching ones are one.
pub fn union(mut ranges: Vec<(Millis, Millis)>) -> Vec<(Millis, Millis)> {
    unite(&mut ranges);
    ranges
}

/// The same in place.
pub fn unite(ranges: &mut Vec<(Millis, Millis)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, run| {
        let joins = next.0 <= run.1;
        if joins {
            run.1 = run.1.max(next.1);
        }
        joins
    });
}

/// Instants as text in UTC, to the second, or to the millisecond where there are any: 2022-03-21T16:00:00Z. The date is made once for
/// all instants of a day that follow one another.
#[derive(Debug, Default)]
pub struct UtcDates {
    date: String,
    day: Option<i64>,
}

/// Where each digit of a time of day stands, milliseconds of one, and how many of them there are.
const DIGITS: [(usize, i64, i64); 9] = [
    (1, 36_000_000, 10),
    (2, 3_600_000, 10),
    (4, 600_000, 6),
    (5, 60_000, 10),
    (7, 10_000, 6),
    (8, 1_000, 10),
    (10, 100, 10),
    (11, 10, 10),
    (12, 1, 10),
];

impl UtcDates {
    /// Adds an instant to a text.
    pub fn push(&mut self, at: Millis, text: &mut String) {
        let (day, of_day) = (at.div_euclid(DAY_MS), at.rem_euclid(DAY_MS));
        if self.day != Some(day) {
            self.day = Some(day);
            // What lies beyond all dates has none.
            let date = DateTime::from_timestamp_millis(day.saturating_mul(DAY_MS));
            self.date = date.map_or_else(String::new, |date| date.format("%Y-%m-%d").to_string());
        }
        text.push_str(&self.date);
        let mut time = *b"T00:00:00.000";
        for (at, unit_ms, of) in DIGITS {
            time[at] += (of_day / unit_ms % of) as u8;
        }
        let length = if of_day % 1_000 > 0 { time.len() } else { time.len() - 4 };
        text.push_str(std::str::from_utf8(&time[..length]).unwrap_or_default());
        text.push('Z');
    }
}

/// The first and the last of some instants, in whatever order they come.
pub fn ends(times: &[Millis]) -> Option<(Millis, Millis)> {
    let first = *times.first()?;
    Some(wide(
        #[inline(always)]
        || times.iter().fold((first, first), |(min, max), t| (min.min(*t), max.max(*t))),
    ))
}

/// Whether instants of the years that a job can speak of come in their order.
pub fn are_ascending(times: &[Millis]) -> bool {
    // The sign of a difference tells, and several of them are taken at once.
    let later = times.get(1..).unwrap_or_default();
    wide(
        #[inline(always)]
        || times.iter().zip(later).fold(0, |signs, (a, b)| signs | b.wrapping_sub(*a)) >= 0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finer_times_are_floored() {
        assert_eq!(TimeUnit::Ns.millis(-1), Some(-1));
        assert_eq!(TimeUnit::Us.millis(1_999), Some(1));
        assert_eq!(TimeUnit::S.millis(i64::MAX), None);
    }

    #[test]
    fn an_ambiguous_time_is_the_earlier_and_a_skipped_one_is_none() {
        let berlin: Tz = "Europe/Berlin".parse().expect("a zone");
        let twice =
            NaiveDate::from_ymd_opt(2021, 10, 31).and_then(|d| d.and_hms_opt(2, 30, 0)).expect("a time");
        let never =
            NaiveDate::from_ymd_opt(2021, 3, 28).and_then(|d| d.and_hms_opt(2, 30, 0)).expect("a time");
        assert_eq!(naive_to_utc(twice, berlin).map(utc_text), Some("2021-10-31T00:30:00.000Z".into()));
        assert_eq!(naive_to_utc(never, berlin), None);
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_starts_after_it() {
        let beirut: Tz = "Asia/Beirut".parse().expect("a zone");
        let date = NaiveDate::from_ymd_opt(2022, 3, 27).expect("a date");
        assert_eq!(first_instant_of(date, beirut).map(utc_text), Some("2022-03-26T22:00:00.000Z".into()));
    }

    proptest! {
        #[test]
        fn ends_are_found_near_and_far(
            first in any::<Millis>(),
            near in prop::collection::vec(-3i64 << 30..3 << 30, 0..40),
            far in prop::collection::vec(any::<Millis>(), 0..3),
        ) {
            let near = near.iter().filter_map(|step| first.checked_add(*step));
            let times: Vec<Millis> = std::iter::once(first).chain(near).chain(far).collect();
            prop_assert_eq!(ends(&times), times.iter().min().copied().zip(times.iter().max().copied()));
            let times: Vec<Millis> = times.iter().map(|time| time >> 2).collect();
            prop_assert_eq!(are_ascending(&times), times.is_sorted());
            let mut sorted = times;
            sorted.sort_unstable();
            prop_assert!(are_ascending(&sorted));
        }
    }

    #[test]
    fn instants_as_text() {
        let mut dates = UtcDates::default();
        let mut text_of = |at: Millis| {
            let mut text = String::new();
            dates.push(at, &mut text);
            text
        };
        for at in [0, 1, -1, 999, 59_999, 86_399_999, 86_400_000, 1_647_878_400_000, 253_402_300_799_999] {
            let date = DateTime::from_timestamp_millis(at).expect("a date");
            assert_eq!(text_of(at), date.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
        }
    }

    #[test]
    fn written_times() {
        let zone: Tz = "Asia/Shanghai".parse().expect("a zone");
        let at = |t: &str, e| parse(t).and_then(|w| w.instant(e, Some(zone)).ok()).map(utc_text);
        assert_eq!(at("2022-03-21", Edge::Start).as_deref(), Some("2022-03-20T16:00:00.000Z"));
        assert_eq!(at("2022-03-21", Edge::End).as_deref(), Some("2022-03-21T16:00:00.000Z"));
        assert_eq!(at("2022-03-21T08:00:00", Edge::Start).as_deref(), Some("2022-03-21T00:00:00.000Z"));
        assert_eq!(at("2022-03-21T08:00:00Z", Edge::Start).as_deref(), Some("2022-03-21T08:00:00.000Z"));
        assert_eq!(at("2022-03-21 08:00+01:00", Edge::Start).as_deref(), Some("2022-03-21T07:00:00.000Z"));
        assert_eq!(parse("yesterday"), None);
    }

    /// Days follow one another also where a clock is set back over midnight: at 00:01 to 23:01 of the day before.
    #[test]
    fn days_are_intervals() {
        for (zone, around) in [
            (Tz::America__St_Johns, 1_289_097_060_000),
            (Tz::Pacific__Apia, 1_325_239_200_000),
            (Tz::America__Sao_Paulo, 1_540_090_800_000),
            (Tz::Europe__Berlin, 1_648_342_800_000),
        ] {
            let mut last: Option<(NaiveDate, Millis, Millis)> = None;
            for minute in -3_000..3_000 {
                let at = around + minute * 60_000;
                let day = day_at(at, zone).expect("a day");
                assert!((day.1..day.2).contains(&at), "{zone} {at}");
                if let Some(before) = last.filter(|before| *before != day) {
                    assert!(before.0 < day.0 && before.2 <= day.1, "{zone} {before:?} {day:?}");
                }
                last = Some(day);
            }
        }
    }
}

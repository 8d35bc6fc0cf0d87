//! What forbids to go on: a night that is not all there would leave people out whom nobody misses.

use crate::answer::Survey;
use crate::config::{Config, FeedConfig};
use crate::error::{Error, Problem, Result};
use crate::time::{Edge, date_edge};
use chrono::NaiveDate;
use std::collections::BTreeMap;

/// Rows of a feed by day, and within it by hour, as far as that is known.
pub type ByDay = BTreeMap<String, Vec<u64>>;

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Refuses the days that `asked` names, if a feed has too few rows on one, measured by the median of its days before.
/// Days that are not over by as_of are none yet.
pub fn refuse_incomplete(
    config: &Config,
    feed: &FeedConfig,
    days: &ByDay,
    asked: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let Some(share) = config.rows_share_min else { return Ok(()) };
    let is_over = |day: &str| {
        let end = day.parse::<NaiveDate>().ok().and_then(|date| date_edge(date, Edge::End, config.zone()));
        end.is_some_and(|end| end <= config.as_of)
    };
    let rows = |hours: &[u64]| hours.iter().sum::<u64>();
    for (day, hours) in days.iter().filter(|(day, _)| is_over(day) && asked(day)) {
        let before = || days.range(..day.clone()).map(|(_, hours)| hours);
        let Some(usual) = median(before().map(|hours| rows(hours)).collect()) else { continue };
        if rows(hours) as f64 >= share * usual as f64 {
            continue;
        }
        let at = |hours: &[u64], hour: usize| hours.get(hour).copied().unwrap_or(0);
        let lacks = |hour: &usize| {
            let usual = median(before().map(|hours| at(hours, *hour)).collect()).unwrap_or(0);
            usual > 0 && (at(hours, *hour) as f64) < share * usual as f64
        };
        let lacking: Vec<String> = (0..25).filter(lacks).map(|hour| format!("{hour:02}")).collect();
        let which = match hours.len() {
            0 | 1 => String::new(),
            _ => format!("; of the hours after midnight {} lack rows", lacking.join(", ")),
        };
        return Err(Error::Safeguard(Problem::new(
            format!("{} ({} feed), {day}", feed.label, feed.stay.source),
            format!(
                "at least {share} of the {usual} rows that a day before has in the median (rows_share_min)"
            ),
            format!("{}{which}", rows(hours)),
            "wait for the rest of the night, and start again; where the loss is understood, --set rule.safeguards.rows_share_min=0",
        )));
    }
    Ok(())
}

/// Refuses an answer whose last whole day lacks rows of some feed.
pub fn check(config: &Config, survey: &Survey) -> Result<()> {
    for (feed, found) in config.feeds.iter().zip(&survey.feeds) {
        let of_day = |(day, rows): (&(i64, NaiveDate), &u64)| (day.1.to_string(), vec![*rows]);
        // The lookback begins in the middle of its first day, unless at midnight.
        let whole =
            survey.days.iter().zip(&found.by_day).filter(|((start, _), _)| *start >= config.lookback_start());
        let days: ByDay = whole.map(of_day).collect();
        let is_over = |date: &NaiveDate| {
            date_edge(*date, Edge::End, config.zone()).is_some_and(|end| end <= config.as_of)
        };
        let last = survey.days.iter().map(|(_, date)| date).filter(|date| is_over(date)).max();
        let last = last.map(NaiveDate::to_string).unwrap_or_default();
        refuse_incomplete(config, feed, &days, &|day| day == last)?;
    }
    Ok(())
}

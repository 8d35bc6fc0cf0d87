//! A sweep over rules: which values of which keys, in which sets, and which of these one reading of the feeds answers. Whoever
//! meets within 25 m meets within 50 m: where, how likely and how late stays meet nests, so that what the loosest of such rules
//! finds holds what all of them do, and exposures and candidates come of that. Any other key takes a reading of its own.

use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::place::PlaceRule;
use crate::rule::{CandidateRule, EncounterRule, ExposureRule, Rule, Variant};
use crate::synth::draw::{Stream, below};
use crate::truth::{Judged, Truth};
use std::collections::BTreeMap;

/// Sets, at most.
const SETS_MAX: usize = 10_000;
/// Values of a range, at most.
const VALUES_MAX: usize = 10_000;

/// A key, and the values that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vary {
    /// The key, as in `--set`.
    pub key: String,
    /// Its values, as in `--set`.
    pub values: Vec<String>,
}

impl Vary {
    /// Reads `KEY=A,B,C`, `KEY=FROM..TO/STEP` (both ends are in it), or a mixture.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (key, values) = text
            .split_once('=')
            .ok_or("write KEY=A,B,C or KEY=FROM..TO/STEP, as rule.candidate.direct_s_min=300..3600/300")?;
        let mut all = Vec::new();
        for part in values.split(',').map(str::trim) {
            match part.split_once("..") {
                Some((from, rest)) => all.extend(range(from, rest)?),
                None if part.is_empty() => return Err("a value is missing between two commas".into()),
                None => all.push(part.to_string()),
            }
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = all.iter().find(|value| !seen.insert(value.as_str())) {
            return Err(format!("{twice} is there twice"));
        }
        let key = key.trim().to_string();
        if key.is_empty() { Err("name the key before the =".into()) } else { Ok(Vary { key, values: all }) }
    }
}

/// The values of FROM..TO/STEP, with as many decimals as the longest of the three has.
fn range(from: &str, rest: &str) -> std::result::Result<Vec<String>, String> {
    let (to, step) =
        rest.split_once('/').ok_or("a range needs a step: write FROM..TO/STEP, as 300..3600/300")?;
    let decimals = |text: &str| text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let places = [from, to, step].map(decimals).into_iter().max().unwrap_or(0);
    if places > 9 {
        return Err("numbers of a range have at most nine decimals".into());
    }
    // Whole numbers of the last decimal, so that no step is lost or doubled by rounding.
    let scaled = |text: &str| -> std::result::Result<i128, String> {
        let wrong = || format!("{text} is no number such as 300 or 0.05");
        let (sign, plain) = text.strip_prefix('-').map_or((1, text), |plain| (-1, plain));
        let (whole, part) = plain.split_once('.').unwrap_or((plain, ""));
        let digits = format!("{whole}{part:0<places$}");
        let proper =
            !whole.is_empty() && digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if proper { digits.parse::<i128>().map(|n| sign * n).map_err(|_| wrong()) } else { Err(wrong()) }
    };
    let (from, to, step) = (scaled(from)?, scaled(to)?, scaled(step)?);
    if step <= 0 || to < from {
        return Err("a range goes up from its first to its last number, by a step above 0".into());
    }
    if (to - from) / step >= VALUES_MAX as i128 {
        return Err(format!("a range of more than {VALUES_MAX} values"));
    }
    let unit = 10i128.pow(places as u32);
    let text = |value: i128| {
        let sign = if value < 0 { "-" } else { "" };
        let value = value.abs();
        match places {
            0 => format!("{sign}{value}"),
            _ => format!("{sign}{}.{:0places$}", value / unit, value % unit),
        }
    };
    Ok((0..=(to - from) / step).map(|n| text(from + n * step)).collect())
}

/// Every combination of the values, the last key's changing first; each as texts for `--set`, in the order of the keys.
pub fn sets(varied: &[Vary]) -> Result<Vec<Vec<String>>> {
    let refused = |found: String, cure: &str| {
        Err(Error::Job(Problem::new(
            "--vary",
            format!("up to {SETS_MAX} sets of keys of rule and feeds"),
            found,
            cure,
        )))
    };
    let mut keys: Vec<&str> = varied.iter().map(|vary| vary.key.as_str()).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return refused(format!("{} twice", twice[0]), "give all values of a key in one --vary");
    }
    // What is read, and whose, is the same for all sets.
    if let Some(other) = keys.iter().find(|key| !key.starts_with("rule.") && !key.starts_with("feeds[")) {
        return refused(
            (*other).to_string(),
            "name a key below rule or feeds, as rule.candidate.direct_s_min",
        );
    }
    let count = varied.iter().try_fold(1usize, |count, vary| count.checked_mul(vary.values.len()));
    if let Some(count) = count.filter(|count| *count > SETS_MAX) {
        return refused(format!("{count}"), "give fewer values, or several sweeps");
    }
    let mut sets = vec![Vec::new()];
    for vary in varied {
        let with = |set: &Vec<String>, value: &String| {
            let mut set = set.clone();
            set.push(format!("{}={value}", vary.key));
            set
        };
        sets = sets.iter().flat_map(|set| vary.values.iter().map(move |value| with(set, value))).collect();
    }
    Ok(sets)
}

/// What one reading answers.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The job by a rule that finds whatever its variants do.
    pub config: Config,
    /// By variant, the numbers of its sets.
    pub sets: Vec<Vec<usize>>,
}

/// Puts the sets together that one reading answers: those whose jobs differ only in keys that nest. Who has to dwell somewhere
/// for long is looked at only where thresholds are reached, so that such a rule is read for each set.
pub fn passes(configs: Vec<Config>) -> Vec<Pass> {
    let mut alike: Vec<Vec<(usize, Config)>> = Vec::new();
    let mut by_rest: BTreeMap<String, usize> = BTreeMap::new();
    for (number, config) in configs.into_iter().enumerate() {
        let at = *by_rest.entry(rest_of(&config)).or_insert(alike.len());
        if at == alike.len() {
            alike.push(Vec::new());
        }
        alike[at].push((number, config));
    }
    alike.into_iter().filter_map(pass).collect()
}

/// All of a job that one reading cannot vary.
fn rest_of(config: &Config) -> String {
    let mut rest = config.clone();
    rest.rule.changed.clear();
    let Rule { encounter, exposure, candidate, .. } = &mut rest.rule;
    if candidate.resident.is_none() {
        encounter.place = match encounter.place {
            PlaceRule::Distance { .. } => PlaceRule::Distance { distance_m_max: 0.0 },
            PlaceRule::Probability { .. } => {
                PlaceRule::Probability { distance_m_max: 0.0, probability_min: 0.0 }
            }
            place => place,
        };
        encounter.lag_ms = 0;
        // What venues add to a dose is looked up as their table is read.
        let setting_weights = std::mem::take(&mut exposure.setting_weights);
        *exposure = ExposureRule { setting_weights, ..ExposureRule::default() };
        *candidate = CandidateRule {
            direct_ms_min: 0,
            confirmed_ms_min: None,
            longest_ms_min: None,
            peak_24h_ms_min: None,
            expected_ms_min: None,
            risk_min: None,
            ..*candidate
        };
    }
    format!("{rest:?}")
}

/// The reading that answers jobs which only differ in keys that nest.
fn pass(jobs: Vec<(usize, Config)>) -> Option<Pass> {
    let mut config = jobs.first()?.1.clone();
    let mut by_rule: BTreeMap<[String; 2], (Variant, Vec<usize>)> = BTreeMap::new();
    for (number, Config { rule, .. }) in jobs {
        config.rule.encounter = loosest(config.rule.encounter, rule.encounter);
        let Rule { encounter, exposure, candidate, .. } = rule;
        // Those by which the same stays meet stand together.
        let meets = format!("{encounter:?} {}", exposure.risk_distance_m);
        let new = || (Variant { encounter, exposure: exposure.clone(), sets: Vec::new() }, Vec::new());
        let (variant, numbers) = by_rule.entry([meets, format!("{exposure:?}")]).or_insert_with(new);
        variant.sets.push(candidate);
        numbers.push(number);
    }
    let sets;
    (config.variants, sets) = by_rule.into_values().unzip();
    Some(Pass { config, sets })
}

/// A rule by which all stays meet that do by either of two, which differ only in how far, how likely and how late.
fn loosest(a: EncounterRule, b: EncounterRule) -> EncounterRule {
    let place = match (a.place, b.place) {
        (PlaceRule::Distance { distance_m_max: a }, PlaceRule::Distance { distance_m_max: b }) => {
            PlaceRule::Distance { distance_m_max: a.max(b) }
        }
        (
            PlaceRule::Probability { distance_m_max: a, probability_min: of_a },
            PlaceRule::Probability { distance_m_max: b, probability_min: of_b },
        ) => PlaceRule::Probability { distance_m_max: a.max(b), probability_min: of_a.min(of_b) },
        (place, _) => place,
    };
    EncounterRule { place, lag_ms: a.lag_ms.max(b.lag_ms), ..a }
}

/// How often the cases are drawn again for an interval.
const DRAWS: usize = 1_000;

/// A figure, and between what values it lies in 95 of 100 draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// As counted.
    pub value: f64,
    /// The 2.5% quantile.
    pub low: f64,
    /// The 97.5% quantile.
    pub high: f64,
}

/// How a set's candidates stand to the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Candidates who are true contacts.
    pub right: u64,
    /// Candidates who are none.
    pub wrong: u64,
    /// True contacts who are no candidates.
    pub missed: u64,
    /// Share of the candidates who are true contacts.
    pub precision: Estimate,
    /// Share of the true contacts who are candidates.
    pub recall: Estimate,
    /// The harmonic mean of both.
    pub f1: Estimate,
    /// Candidates for each true contact among them.
    pub notified_per_true_contact: Estimate,
    /// The recall of those who have a telephone, where the truth says who has.
    pub recall_of_phones: Option<f64>,
    /// Share of the infected who are candidates, where the truth says who is.
    pub recall_of_infected: Option<f64>,
}

/// What sets are scored by: the truth, and the draws of its cases. People who were near one case stand or fall together, so that cases
/// are drawn, with all who belong to them, and not persons (the cluster bootstrap; Field and Welsh, Journal of the Royal Statistical
/// Society B 69, 2007).
#[derive(Debug)]
pub struct Scoring {
    /// True contacts by case.
    contacts: Vec<u32>,
    /// How often each case is in each draw.
    draws: Vec<Vec<u32>>,
    phones: Option<u64>,
    infected: u64,
}

impl Scoring {
    /// By this truth.
    pub fn new(truth: &Truth) -> Self {
        let mut contacts = vec![0; truth.cases];
        truth.contacts.values().for_each(|contact| contacts[contact.case as usize] += 1);
        let stream = Stream::of_seed(truth.cases as u64);
        let draw = |number: usize| {
            let mut times = vec![0; truth.cases];
            for place in 0..truth.cases as u64 {
                times[below(stream.stream(number as u64).draw(place), truth.cases as u64) as usize] += 1;
            }
            times
        };
        let known = truth.contacts.values().any(|contact| contact.has_phone.is_some());
        let phones = truth.contacts.values().filter(|contact| contact.has_phone == Some(true)).count();
        Scoring {
            contacts,
            draws: (0..DRAWS).map(draw).collect(),
            phones: known.then_some(phones as u64),
            infected: truth.infected.len() as u64,
        }
    }

    /// The score of a set.
    pub fn score(&self, judged: &Judged) -> Score {
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let (all, right, wrong) = (sum(&self.contacts), sum(&judged.right), sum(&judged.wrong));
        let weighted = |counts: &[u32], times: &[u32]| {
            counts.iter().zip(times).fold(0.0, |sum, (n, times)| sum + f64::from(*n) * f64::from(*times))
        };
        // Candidates of no case are in every draw.
        let apart = judged.wrong.get(self.contacts.len()).copied().map_or(0.0, f64::from);
        let drawn: Vec<[f64; 3]> = self
            .draws
            .iter()
            .map(|times| {
                let (right, wrong) = (weighted(&judged.right, times), weighted(&judged.wrong, times));
                [weighted(&self.contacts, times), right, wrong + apart]
            })
            .collect();
        let counted = [all as f64, right as f64, wrong as f64];
        let estimate = |of: fn([f64; 3]) -> f64| {
            let mut values: Vec<f64> = drawn.iter().map(|drawn| of(*drawn)).filter(|v| !v.is_nan()).collect();
            values.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| values.get((share * values.len() as f64) as usize).copied();
            Estimate {
                value: of(counted),
                low: at(0.025).unwrap_or(f64::NAN),
                high: at(0.975).unwrap_or(f64::NAN),
            }
        };
        let share = |part: u64, all: u64| part as f64 / all as f64;
        Score {
            right,
            wrong,
            missed: all - right,
            precision: estimate(|[_, right, wrong]| right / (right + wrong)),
            recall: estimate(|[all, right, _]| right / all),
            f1: estimate(|[all, right, wrong]| 2.0 * right / (all + right + wrong)),
            notified_per_true_contact: estimate(|[_, right, wrong]| (right + wrong) / right),
            recall_of_phones: self.phones.map(|phones| share(judged.with_phone, phones)),
            recall_of_infected: (self.infected > 0).then(|| share(judged.infected, self.infected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> std::result::Result<Vec<String>, String> {
        Vary::parse(&format!("k={text}")).map(|vary| vary.values)
    }

    #[test]
    fn lists_and_ranges_are_read() {
        assert_eq!(values("10,25,50").expect("values"), ["10", "25", "50"]);
        assert_eq!(values("300..900/300").expect("values"), ["300", "600", "900"]);
        assert_eq!(values("300..899/300,7").expect("values"), ["300", "600", "7"]);
        let tenths = values("0.1..0.7/0.1").expect("values");
        assert_eq!(tenths, ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]);
        assert_eq!(values("-0.05..0.05/0.05").expect("values"), ["-0.05", "0.00", "0.05"]);
        assert_eq!(values("grid,distance").expect("values"), ["grid", "distance"]);
        for wrong in
            ["1,,2", "1,1", "1..2", "2..1/1", "1..2/0", "a..b/c", "1..1e9/1", "0..100000/1", "1.2.3..4/1"]
        {
            assert!(values(wrong).is_err(), "{wrong}");
        }
        assert!(Vary::parse("k").is_err() && Vary::parse("=1").is_err());
    }

    #[test]
    fn sets_are_all_combinations() {
        let varied = ["rule.a=1,2", "rule.b=x,y,z"].map(|text| Vary::parse(text).expect("a key"));
        let all = sets(&varied).expect("sets");
        assert_eq!(all.len(), 6);
        assert_eq!(
            (all[0].clone(), all[5].clone()),
            (vec!["rule.a=1".into(), "rule.b=x".into()], vec!["rule.a=2".into(), "rule.b=z".into()])
        );
        assert_eq!(all[1], ["rule.a=1", "rule.b=y"]);
        let many = ["rule.a=1..200/1", "rule.b=1..200/1"].map(|text| Vary::parse(text).expect("a key"));
        assert!(sets(&many).is_err());
        let twice = ["rule.a=1", "rule.a=2"].map(|text| Vary::parse(text).expect("a key"));
        assert!(sets(&twice).is_err());
        assert!(sets(&[Vary::parse("job.store=a,b").expect("a key")]).is_err());
    }
}

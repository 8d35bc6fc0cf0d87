//! What is known of who truly was near a case, and whom it infected: what a rule is judged by. A made-up city has it; of a real one,
//! whoever traced people by other means may.

use crate::person::{PersonId, PersonRef};
use crate::time::Millis;
use hashbrown::{HashMap, HashSet};

/// A true contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The number of the case that the person was near for longest.
    pub case: u32,
    /// Whether the person has a telephone, where that is known.
    pub has_phone: Option<bool>,
}

/// A stretch of time in which a person truly was within so many metres of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meeting {
    /// The case, by its number.
    pub case: u32,
    /// Metres.
    pub within_m: f64,
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Truth {
    /// Persons who were near a case for long enough and are none themselves.
    pub contacts: HashMap<PersonId, Contact>,
    /// Whom the cases infected: the numbers of the cases, by person.
    pub infected: HashMap<PersonId, Vec<u32>>,
    /// When, by person, in the order of case, metres and time.
    pub meetings: HashMap<PersonId, Vec<Meeting>>,
    /// The distances, metres, that there are meetings of; each as its bits.
    pub distances_m: HashSet<u64>,
    /// Cases of the job.
    pub cases: usize,
    /// Whether it says who was infected.
    pub tells_infections: bool,
}

impl Truth {
    /// Whether a person was that near a case at an instant.
    pub fn is_near(&self, person: PersonRef<'_>, case: u32, within_m: f64, at: Millis) -> bool {
        let Some(own) = self.meetings.get(&person) else { return false };
        let key = |m: &Meeting| (m.case, m.within_m, m.start);
        let after = own.partition_point(|m| key(m) <= (case, within_m, at));
        let last = after.checked_sub(1).map(|n| own[n]);
        last.is_some_and(|m| (m.case, m.within_m) == (case, within_m) && at < m.end)
    }

    /// Whether a case infected a person.
    pub fn is_infected(&self, person: PersonRef<'_>, case: u32) -> bool {
        self.infected.get(&person).is_some_and(|cases| cases.contains(&case))
    }
}

/// How the candidates of a rule stand to the truth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// By case: candidates who are true contacts, of that case most.
    pub right: Vec<u32>,
    /// By case: candidates who are none, by their strongest; those of no case last.
    pub wrong: Vec<u32>,
    /// Candidates whom a case of the job infected.
    pub infected: u64,
    /// Candidates who are true contacts and have a telephone.
    pub with_phone: u64,
}

impl Judged {
    /// Counts a candidate, whose strongest exposure is to `case`.
    pub fn count(&mut self, person: PersonRef<'_>, case: Option<u32>, truth: &Truth) {
        self.right.resize(truth.cases, 0);
        self.wrong.resize(truth.cases + 1, 0);
        match truth.contacts.get(&person) {
            Some(contact) => {
                self.right[contact.case as usize] += 1;
                self.with_phone += u64::from(contact.has_phone == Some(true));
            }
            None => self.wrong[case.map_or(truth.cases, |case| case as usize)] += 1,
        }
        self.infected += u64::from(truth.infected.contains_key(&person));
    }

    /// Counts others in.
    pub fn add(&mut self, other: &Judged) {
        let add = |sums: &mut Vec<u32>, counts: &[u32]| {
            sums.resize(sums.len().max(counts.len()), 0);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        add(&mut self.right, &other.right);
        add(&mut self.wrong, &other.wrong);
        self.infected += other.infected;
        self.with_phone += other.with_phone;
    }
}

/// What is foretold and may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foretold {
    /// That two persons whose telephones report at the same time, a minute apart at most, are as near as the rule says.
    AtPings,
    /// The same while a report of either may be older.
    Held,
    /// The same where one of the positions at least is a tower's or a venue's.
    ByPlaces,
    /// That a case infects a person.
    Risk,
}

impl Foretold {
    /// All of them.
    pub const ALL: [Foretold; 4] = [Foretold::AtPings, Foretold::Held, Foretold::ByPlaces, Foretold::Risk];

    /// Its words in outputs.
    pub fn name(self) -> &'static str {
        ["probability at pings", "probability held", "probability by places", "risk"][self as usize]
    }

    /// Where its bins start; the last ends at 1.
    pub fn bins(self) -> &'static [f64; 10] {
        match self {
            // Risks are small.
            Foretold::Risk => &[0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
            _ => &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        }
    }
}

/// Reports of one person that are that much older than the other's are not of the same time, ms.
pub const SAME_TIME_MS: Millis = 60_000;

/// One bin of foretold probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bin {
    /// How often something was foretold.
    pub count: u64,
    /// How often it happened.
    pub happened: u64,
    /// Sum of the probabilities, in units of 2^-40, so that no order of adding changes it.
    foretold: u128,
    /// Sum of the squares of what they were off by, likewise.
    squares: u128,
}

const UNIT: f64 = (1u64 << 40) as f64;

impl Bin {
    /// The mean probability.
    pub fn mean(&self) -> f64 {
        self.foretold as f64 / UNIT / self.count as f64
    }

    fn add(&mut self, other: &Bin) {
        self.count += other.count;
        self.happened += other.happened;
        self.foretold += other.foretold;
        self.squares += other.squares;
    }
}

/// How often what is foretold happens, by how probable it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reliability(pub [[Bin; 10]; Foretold::ALL.len()]);

impl Reliability {
    /// Counts something that was foretold.
    pub fn count(&mut self, what: Foretold, probability: f64, happened: bool) {
        let at = what.bins().partition_point(|from| *from <= probability).saturating_sub(1);
        let off = probability - f64::from(u8::from(happened));
        self.0[what as usize][at].add(&Bin {
            count: 1,
            happened: u64::from(happened),
            foretold: (probability * UNIT).round() as u128,
            squares: (off * off * UNIT).round() as u128,
        });
    }

    /// Counts others in.
    pub fn add(&mut self, other: &Reliability) {
        let bins = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        bins.for_each(|(sum, bin)| sum.add(bin));
    }

    /// The Brier score: the mean of the squares of what the probabilities are off by.
    pub fn brier(&self, what: Foretold) -> Option<f64> {
        let bins = &self.0[what as usize];
        let count: u64 = bins.iter().map(|bin| bin.count).sum();
        let squares: u128 = bins.iter().map(|bin| bin.squares).sum();
        (count > 0).then(|| squares as f64 / UNIT / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reliability_is_counted_by_bin() {
        let mut counted = Reliability::default();
        for n in 0..10 {
            counted.count(Foretold::AtPings, 0.25, n < 3);
            counted.count(Foretold::Risk, 0.0015, false);
        }
        counted.count(Foretold::AtPings, 1.0, true);
        let bin = counted.0[0][2];
        assert_eq!((bin.count, bin.happened, counted.0[0][9].count, counted.0[3][1].count), (10, 3, 1, 10));
        assert!((bin.mean() - 0.25).abs() < 1e-9);
        let brier = (3.0 * 0.75f64.powi(2) + 7.0 * 0.25f64.powi(2)) / 11.0;
        assert!((counted.brier(Foretold::AtPings).expect("a score") - brier).abs() < 1e-9);
        assert_eq!(counted.brier(Foretold::Held), None);
    }

    #[test]
    fn who_is_near_when() {
        let person = PersonId::Integer(4);
        let meeting = |case, within_m, start, end| Meeting { case, within_m, start, end };
        let own = vec![
            meeting(0, 10.0, 100, 200),
            meeting(0, 50.0, 90, 300),
            meeting(0, 50.0, 400, 500),
            meeting(2, 10.0, 0, 1_000),
        ];
        let truth = Truth { meetings: HashMap::from([(person.clone(), own)]), ..Truth::default() };
        let near = |case, within_m, at| truth.is_near(person.as_ref(), case, within_m, at);
        assert!(near(0, 10.0, 100) && near(0, 10.0, 199) && !near(0, 10.0, 200) && !near(0, 10.0, 99));
        assert!(near(0, 50.0, 299) && !near(0, 50.0, 300) && near(0, 50.0, 400) && !near(0, 2.0, 150));
        assert!(!near(1, 50.0, 100) && near(2, 10.0, 0) && !near(2, 50.0, 5));
    }
}

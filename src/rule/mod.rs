//! The tunables of each stage, checked and in milliseconds and metres.

pub mod infectiousness;
pub mod preset;

use crate::place::PlaceRule;
use crate::time::{HOUR_MS, Millis};
use infectiousness::Infectiousness;
use std::collections::BTreeMap;
use std::fmt;

/// The kind of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Source {
    /// A receiver's own position.
    Gps = 0,
    /// A cellular base station, at its position.
    Tower = 1,
    /// A part of a journey in a vehicle, which has no position.
    Trip = 2,
    /// A scan of a venue's code.
    Venue = 3,
}

impl Source {
    /// All kinds, in their order (that of their names).
    pub const ALL: [Source; 4] = [Source::Gps, Source::Tower, Source::Trip, Source::Venue];

    /// Its name in job files and outputs.
    pub fn name(self) -> &'static str {
        match self {
            Source::Gps => "gps",
            Source::Tower => "tower",
            Source::Trip => "trip",
            Source::Venue => "venue",
        }
    }

    /// Whether its stays meet by an id, wherever they are, and several pings of one instant stand beside each other.
    pub fn is_by_id(self) -> bool {
        matches!(self, Source::Trip | Source::Venue)
    }

    /// Its bit in a set of sources.
    pub fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a person does between two pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// Stays where the first one was.
    Hold,
    /// Moves evenly to where the next one is.
    Linear,
}

/// How the pings of one feed become stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StayRule {
    /// The feed's kind.
    pub source: Source,
    /// The longest that one ping stands for.
    pub hold_ms: Millis,
    /// Between two pings.
    pub motion: Motion,
    /// Accuracy of a ping that gives none, metres.
    pub accuracy_m: f64,
    /// Ping-pong (tower): the longest trip away from a tower and back that is dropped; 0 is off.
    pub pingpong_ms: Millis,
    /// Impossible travel (gps): a ping reached and left faster than this is dropped, m/s; 0 is off.
    pub speed_m_per_s_max: f64,
}

impl StayRule {
    /// The defaults of a source: hold 15 min, 1 h, 30 min; accuracy 20 m; ping-pong 120 s for towers.
    pub fn of(source: Source) -> Self {
        StayRule {
            source,
            hold_ms: match source {
                Source::Gps => 900_000,
                Source::Tower => 3_600_000,
                // A trip ends when it says.
                Source::Trip | Source::Venue => 1_800_000,
            },
            motion: Motion::Hold,
            accuracy_m: 20.0,
            pingpong_ms: if source == Source::Tower { 120_000 } else { 0 },
            speed_m_per_s_max: 0.0,
        }
    }

    /// Whether a filter can drop pings, so that a stay depends on more than its next ping.
    pub fn filters(&self) -> bool {
        match self.source {
            Source::Gps => self.speed_m_per_s_max > 0.0,
            Source::Tower => self.pingpong_ms > 0,
            Source::Trip | Source::Venue => false,
        }
    }
}

/// When two stays are an encounter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncounterRule {
    /// When two positions are the same place.
    pub place: PlaceRule,
    /// Whether stays of different kinds meet by position.
    pub cross_source: bool,
    /// How long a place stays infectious after the case left; 0 is off.
    pub lag_ms: Millis,
    /// A scan farther than this, and the uncertainties, from its person's own position gives no exposure, metres.
    pub contradiction_m: f64,
}

/// How encounters add up.
#[derive(Debug, Clone, PartialEq)]
pub struct ExposureRule {
    /// The longest gap that the longest run bridges.
    pub merge_gap_ms: Millis,
    /// How near a dose is taken in, metres.
    pub risk_distance_m: f64,
    /// How infectious a case is by day from onset; always 1 where no curve is given.
    pub infectiousness: Option<Infectiousness>,
    /// What a place adds to a dose.
    pub setting_weights: SettingWeights,
    /// Within how long half of what a case left is gone; without it indirect time adds no dose.
    pub lag_half_life_ms: Option<Millis>,
}

/// How near a dose is taken in, metres: as in the measurements that the risk of an hour comes from.
pub const RISK_DISTANCE_M: f64 = 2.0;

impl Default for ExposureRule {
    fn default() -> Self {
        ExposureRule {
            merge_gap_ms: 0,
            risk_distance_m: RISK_DISTANCE_M,
            infectiousness: None,
            setting_weights: SettingWeights::default(),
            lag_half_life_ms: None,
        }
    }
}

/// Weights of venues, by what is known of them; each is 1 where none is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SettingWeights {
    /// Of venues that are indoors.
    pub indoor: Option<f64>,
    /// Of venues that are not.
    pub outdoor: Option<f64>,
    /// By kind of venue.
    pub kinds: BTreeMap<String, f64>,
}

impl SettingWeights {
    /// The weight of a venue.
    pub fn of(&self, kind: Option<&str>, indoor: Option<bool>) -> f64 {
        let by_kind = kind.and_then(|kind| self.kinds.get(kind)).copied();
        let by_air = match indoor {
            Some(true) => self.indoor,
            Some(false) => self.outdoor,
            None => None,
        };
        by_kind.unwrap_or(1.0) * by_air.unwrap_or(1.0)
    }
}

/// The thresholds that an exposure has to reach, each of them if it is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CandidateRule {
    /// Least direct time.
    pub direct_ms_min: Millis,
    /// Least direct time between bracketed stays.
    pub confirmed_ms_min: Option<Millis>,
    /// Least longest run.
    pub longest_ms_min: Option<Millis>,
    /// Least direct time within some 24 hours.
    pub peak_24h_ms_min: Option<Millis>,
    /// Least expected time together.
    pub expected_ms_min: Option<Millis>,
    /// Least risk.
    pub risk_min: Option<f64>,
    /// How long somebody has to dwell where it was.
    pub resident: Option<Resident>,
    /// Least dwell in a risk area whose listing gives none of its own.
    pub dwell_ms_min: Option<Millis>,
    /// Whether a person's exposures to all cases together have to reach them, not one of them alone.
    pub across_cases: bool,
}

/// A least dwell in the lookback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// Least length of the union of the stays.
    pub ms_min: Millis,
    /// Whose.
    pub of: ResidentOf,
    /// Where.
    pub scope: ResidentScope,
}

/// Whose dwell counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResidentOf {
    /// That of who is exposed.
    Person,
    /// The case's.
    Case,
    /// The longer one.
    Either,
}

/// Which stays count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResidentScope {
    /// All.
    Any,
    /// Those in the squares or cells of the exposure.
    Place,
    /// Those in the job's area.
    Area,
}

impl ResidentOf {
    /// Its word in rule files.
    pub fn name(self) -> &'static str {
        ["person", "case", "either"][self as usize]
    }
}

impl ResidentScope {
    /// Its word in rule files.
    pub fn name(self) -> &'static str {
        ["any", "place", "area"][self as usize]
    }
}

/// Rules of encounters and exposures that one reading answers beside others, and the thresholds of candidates that are
/// asked of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// When two stays meet.
    pub encounter: EncounterRule,
    /// How encounters add up.
    pub exposure: ExposureRule,
    /// Who becomes a candidate.
    pub sets: Vec<CandidateRule>,
}

impl Variant {
    /// Whether the same stays meet by this and by another, as likely.
    pub fn meets_alike(&self, other: &Variant) -> bool {
        let weighs_alike = self.exposure.risk_distance_m == other.exposure.risk_distance_m
            && self.exposure.setting_weights == other.exposure.setting_weights;
        self.encounter == other.encounter && (weighs_alike || !self.encounter.place.is_uncertain())
    }
}

/// A whole rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Keys that differ from the preset, or that the command line set.
    pub changed: Vec<String>,
    /// Only pings in [as_of - lookback, as_of) exist.
    pub lookback_ms: Millis,
    /// A candidate expires this long after its last encounter.
    pub notice_ms: Millis,
    /// When two stays meet.
    pub encounter: EncounterRule,
    /// How long a scan without a check-out stands for by the kind of its venue, where the venue itself does not say.
    pub stay_ms_by_kind: BTreeMap<String, Millis>,
    /// How encounters add up.
    pub exposure: ExposureRule,
    /// Who becomes a candidate.
    pub candidate: CandidateRule,
}

/// Name and version, and whether the job changed it: what every output says.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)?;
        if !self.changed.is_empty() {
            f.write_str("+changed")?;
        }
        Ok(())
    }
}

/// The stretch in which `peak_24h_s` is sought.
pub const PEAK_MS: Millis = 24 * HOUR_MS;

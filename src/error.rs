//! What can go wrong, each said once: where, what was expected, what was found, and how to mend it.

use std::fmt;

/// One failure in four parts. It never holds a person_id: rows are named by file and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: the job key, the file, the row group or the row.
    pub place: String,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What to do about it.
    pub cure: String,
}

impl Problem {
    /// Puts the four parts together.
    pub fn new(
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Problem { place: place.into(), expected: expected.into(), found: found.into(), cure: cure.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n  expected: {}\n  found:    {}\n  to mend:  {}",
            self.place, self.expected, self.found, self.cure
        )
    }
}

/// Why a command stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The command line or the job file is wrong.
    #[error("{0}")]
    Job(Problem),
    /// An input file is missing, broken, or not what the job file says it is.
    #[error("{0}")]
    Input(Problem),
    /// The result could not be written.
    #[error("{0}")]
    Output(Problem),
    /// The work does not fit the memory it was given.
    #[error("{0}")]
    Memory(Problem),
    /// A safeguard of the rule forbids to go on.
    #[error("{0}")]
    Safeguard(Problem),
    /// Somebody asked it to stop.
    #[error("stopped on request; nothing was written")]
    Interrupted,
}

impl Error {
    /// The process's exit code: 1 failed, 2 bad usage or job file, 3 stopped by a safeguard, 130 by a signal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Job(_) => 2,
            Error::Input(_) | Error::Output(_) | Error::Memory(_) => 1,
            Error::Safeguard(_) => 3,
            Error::Interrupted => 130,
        }
    }
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// The nearest of `known` to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= (k.len().min(word.len()) / 3).max(1))
        .min()
        .map(|(_, k)| k)
}

//! The run over controls: the same pings once more, read for who would be a candidate by persons who are no cases, put on other
//! days. Nothing of the answer proper hangs on it.

use super::{Job, compute, order, pool};
use crate::config::Config;
use crate::control::{Controls, Draw, Rotation, cases};
use crate::error::Result;
use crate::io::inputs::{self, Inputs};
use crate::io::store::Store;
use crate::person::{PersonId, PersonSet};
use crate::ping::Pings;
use crate::pipeline::watch::{Stage, Watch};
use crate::resolve::Scope;
use crate::rule::{Source, Variant};
use rayon::prelude::*;
use std::path::Path;

/// Draws as many persons as the job asks for, and counts whom they would make candidates.
pub fn count(
    config: &Config,
    inputs: &Inputs,
    store: Option<&Store>,
    spill: &Path,
    watch: &Watch,
) -> Result<Option<Controls>> {
    let (from, until) = (config.lookback_start(), config.as_of);
    let Some(rotation) = config.controls.and_then(|_| Rotation::new(from, until)) else { return Ok(None) };
    let real = &inputs.cases.cases;
    let persons = if real.is_empty() { Vec::new() } else { drawn(config, inputs, watch)? };
    let mut controls =
        Controls { persons: persons.len() as u64, rotated_days: rotation.days(), ..Controls::default() };
    if persons.is_empty() {
        return Ok(Some(controls));
    }
    let mut rule = config.rule.clone();
    rule.candidate.dwell_ms_min = None;
    let (encounter, exposure, sets) = (rule.encounter, rule.exposure.clone(), vec![rule.candidate]);
    let config = Config {
        rule,
        variants: vec![Variant { encounter, exposure, sets }],
        risk_areas: None,
        exposures: Scope::None,
        encounters: Scope::None,
        ..config.clone()
    };
    let mut own = inputs::open(&config, store)?;
    own.cases.cases = cases(real, &persons, (from, until));
    own.controls = Some((rotation, persons.len() as u32));
    let answer = compute(&config, &own, spill, watch)?;
    for found in &answer.variants {
        controls.exposures = found.exposures;
        controls.left_out_pairs = found.left_out_pairs;
        controls.candidates = found.sets.iter().map(|set| set.candidates).sum();
    }
    Ok(Some(controls))
}

/// Persons who are no cases and have a ping in the lookback.
fn drawn(config: &Config, inputs: &Inputs, watch: &Watch) -> Result<Vec<PersonId>> {
    let count = config.controls.unwrap_or(0) as usize;
    let decoder = inputs.decoder_without_accuracies();
    let job = Job::new(config, inputs, decoder.as_ref().unwrap_or(&inputs.decoder), watch);
    let cases: PersonSet = inputs.cases.cases.iter().map(|case| case.person.clone()).collect();
    let units: Vec<_> = Source::ALL.into_iter().flat_map(|source| order::units(&job, source)).collect();
    watch.start(Stage::Scan, inputs.tasks().1);
    let draw = || {
        let of_unit = |unit| {
            let mut draw = Draw::new(count);
            job.read(unit, None, None, &mut |decoded| {
                let persons = Pings::of(&decoded.pings).persons;
                (0..persons.len()).for_each(|row| draw.see(persons.at(row), job.decoder.person, &cases));
                Ok(())
            })?;
            Ok(draw)
        };
        let all = units.par_iter().map(of_unit);
        all.try_reduce(|| Draw::new(count), |a, b| Ok(a.with(b)))
    };
    Ok(pool(config.threads)?.install(draw)?.persons())
}

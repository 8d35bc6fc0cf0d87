//! One source on its way through the run: in which order its rows come, and what they have come to.

use super::Job;
use super::guided::Guided;
use super::intake::Intake;
use super::order::{self, Unit};
use super::parts::{Gathering, Parts, Room, To};
use super::resolving::AtOnce;
use super::{person_order, survivors, time_order, unordered};
use crate::answer::SourcePath;
use crate::error::Result;
use crate::index::CaseIndex;
use crate::index::sieve::Sieve;
use crate::person::PersonSet;
use crate::ping::Order;
use crate::rule::Source;
use crate::track::dwelling::DwellSums;
use arrow::array::RecordBatch;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// One source on its way through the run.
pub struct Lane<'r> {
    /// The source.
    pub source: Source,
    /// The order of its rows.
    pub order: Order,
    /// Whether rows in no order are read again when the cases are known.
    pub again: bool,
    /// The order that it seemed to have, if it broke the promise.
    promised: Option<Order>,
    /// What is read.
    pub units: Vec<Unit>,
    stays: Parts<'r>,
    /// Pings that are parted.
    pub pings: Parts<'r>,
    /// What was counted, and the cases' pings.
    pub intake: Intake,
    /// Rows that the sieve marked.
    pub marked: u64,
    /// Rows that went to tracks.
    pub tracked: u64,
    /// How long everyone dwells where it may count, if that was added up.
    pub dwellings: Option<DwellSums>,
    /// Whether persons were resolved as their rows came.
    at_once: bool,
    /// What finds its rows, if they are in the order of space.
    guided: Option<Guided>,
}

impl<'r> Lane<'r> {
    /// Nothing read yet, but perhaps some rows to see their order.
    pub fn new(job: &Job<'_>, source: Source, room: &'r Room) -> Result<Self> {
        let units = order::units(job, source);
        let guided = Guided::open(job, source)?;
        let order = match &guided {
            // Of space: what comes when is all the same.
            Some(_) => Order::None,
            None => order::order_of(job, source, &units)?,
        };
        let again =
            order == Order::None && guided.is_none() && unordered::is_worth_reading_again(job, source);
        Ok(Lane {
            source,
            order,
            again,
            promised: None,
            units,
            stays: Parts::new(room, job.parts),
            pings: Parts::new(room, job.parts),
            intake: Intake::new(job),
            marked: 0,
            tracked: 0,
            dwellings: None,
            at_once: false,
            guided,
        })
    }

    /// Starts again in the way that needs no order.
    pub fn give_up_order(&mut self, job: &Job<'_>) -> Result<()> {
        self.promised = Some(self.order);
        self.order = Order::None;
        self.reset(job)?;
        self.gather(job)
    }

    /// Throws away what was read.
    pub fn reset(&mut self, job: &Job<'_>) -> Result<()> {
        self.stays.clear()?;
        self.pings.clear()?;
        self.intake = Intake::new(job);
        (self.marked, self.tracked, self.dwellings) = (0, 0, None);
        self.count_anew(job);
        Ok(())
    }

    /// Rows that are read again are not counted twice.
    fn count_anew(&self, job: &Job<'_>) {
        job.case_rows.store(0, Ordering::Relaxed);
        let of_source = job.feeds.iter().zip(&job.rejected).filter(|(f, _)| f.source == self.source);
        of_source.for_each(|(_, rejected)| rejected.store(0, Ordering::Relaxed));
    }

    /// Reads all rows once more for the stays in some places: where the order helps, of everyone; else of these persons,
    /// whose pings come back.
    pub fn stays_in<'a>(
        &self,
        job: &Job<'_>,
        places: &Sieve,
        persons: &PersonSet,
        room: &'a Room,
    ) -> Result<(Parts<'a>, Parts<'a>)> {
        let (stays, pings) = (Parts::new(room, job.parts), Parts::new(room, job.parts));
        let gathering = Gathering::new(&pings, &job.decoder.schema);
        self.count_anew(job);
        let found = match self.order {
            Order::Time => time_order::pass(job, self.source, self.units.clone(), Some(places), &stays)?,
            Order::Person => person_order::pass(
                job,
                self.source,
                &self.units,
                places,
                To::Parts(&stays, &job.packing),
                &gathering,
            )?,
            Order::None => None,
        };
        if found.is_none() {
            stays.clear()?;
            self.gather_persons(job, persons, &gathering)?;
        }
        gathering.finish()?;
        Ok((stays, pings))
    }

    /// Gathers all pings of these persons.
    pub fn gather_persons(
        &self,
        job: &Job<'_>,
        persons: &PersonSet,
        gathering: &Gathering<'_, '_>,
    ) -> Result<()> {
        match &self.guided {
            Some(guided) => guided.gather_persons(job, persons, gathering),
            None => survivors::gather(job, &self.units, persons, gathering),
        }
    }

    fn gather(&mut self, job: &Job<'_>) -> Result<()> {
        let gathering = Gathering::new(&self.pings, &job.decoder.schema).packed(job.decoder.from);
        self.intake = unordered::gather(job, self.source, &self.units, &gathering)?;
        gathering.finish()
    }

    /// Whether all rows are read when the cases are known.
    pub fn after_cases(&self, job: &Job<'_>) -> bool {
        self.is_read_in_order(job) || self.again || self.guided.is_some()
    }

    /// Whether rows that are read when the cases are known have to be in the order that they promise.
    pub fn is_read_in_order(&self, job: &Job<'_>) -> bool {
        // Where days are moved, what a ping meets may come days later.
        self.order == Order::Person || (self.order == Order::Time && job.inputs.controls.is_some())
    }

    /// The pass that finds the cases' pings; in the order of time it is the only one.
    pub fn first_pass(&mut self, job: &Job<'_>) -> Result<()> {
        if let Some(guided) = &self.guided {
            self.intake = guided.case_pings(job, self.source)?;
            return Ok(());
        }
        match self.order {
            Order::None if self.again => {
                self.intake = unordered::survey(job, &self.units)?;
                Ok(())
            }
            Order::None => self.gather(job),
            Order::Time if job.inputs.controls.is_some() => {
                self.intake.case_pings = unordered::survey(job, &self.units)?.case_pings;
                self.count_anew(job);
                Ok(())
            }
            Order::Time => match time_order::pass(job, self.source, self.units.clone(), None, &self.stays)? {
                Some(found) => {
                    (self.intake, self.marked, self.tracked) = (found.intake, found.marked, found.tracked);
                    self.dwellings = found.dwellings;
                    Ok(())
                }
                None => self.give_up_order(job),
            },
            Order::Person => {
                self.intake.case_pings = person_order::case_pings(job, &self.units)?;
                Ok(())
            }
        }
    }

    /// What is read when the cases are known; with `at_once` persons are resolved as their rows come. Says whether rows were in the order of persons, if they had to.
    pub fn second_pass(
        &mut self,
        job: &Job<'_>,
        index: &CaseIndex,
        at_once: Option<&AtOnce<'_>>,
    ) -> Result<bool> {
        if let Some(guided) = &self.guided {
            let gathering = Gathering::new(&self.pings, &job.decoder.schema);
            self.marked = guided.find(job, self.source, index, &self.stays, &gathering)?;
            gathering.finish()?;
            guided.count_in(&mut self.intake);
            return Ok(true);
        }
        if self.again {
            let gathering = Gathering::new(&self.pings, &job.decoder.schema).packed(job.decoder.from);
            unordered::gather_near(job, self.source, &self.units, index.sieve(), &gathering)?;
            gathering.finish()?;
            return Ok(true);
        }
        let sieve = index.sieve();
        let found = if self.order == Order::Time {
            time_order::pass(job, self.source, self.units.clone(), Some(sieve), &self.stays)?
        } else {
            let edges = Gathering::new(&self.pings, &job.decoder.schema);
            let to = at_once.map_or(To::Parts(&self.stays, &job.packing), To::Kernel);
            let found = person_order::pass(job, self.source, &self.units, sieve, to, &edges)?;
            edges.finish()?;
            found
        };
        let Some(found) = found else { return Ok(false) };
        // Where statistics hid rows of cases, not all was known.
        let known = self.intake.case_pings.iter().map(|pings| pings.num_rows() as u64).sum::<u64>();
        if self.order == Order::Person && found.intake.case_rows != known {
            return Ok(false);
        }
        let case_pings = std::mem::take(&mut self.intake.case_pings);
        (self.intake, self.marked, self.tracked) = (found.intake, found.marked, found.tracked);
        self.intake.case_pings = case_pings;
        self.at_once = at_once.is_some();
        Ok(true)
    }

    /// Bytes of its stays and pings; `None` if some of them are in the spill folder.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.stays.bytes()? + self.pings.bytes()?)
    }

    /// All of the lane's stays of some parts.
    pub fn stays_of(
        &self,
        parts: Range<usize>,
        job: &Job<'_>,
        index: &CaseIndex,
    ) -> Result<(Vec<RecordBatch>, (u64, u64))> {
        let (mut stays, mut pings) = (Vec::new(), Vec::new());
        for part in parts {
            stays.extend(self.stays.take(part)?);
            pings.extend(self.pings.take(part)?);
        }
        if self.guided.is_some() {
            stays = Guided::joined(job, self.source, stays)?.into_iter().collect();
        }
        let mut counts = (0, 0);
        if !pings.is_empty() {
            stays.extend(unordered::stays_of(job, self.source, index.sieve(), pings, &mut counts)?);
        }
        Ok((stays, counts))
    }

    /// What the manifest says of it.
    pub fn path(&self, job: &Job<'_>) -> SourcePath {
        SourcePath {
            source: self.source.name(),
            order: if self.guided.is_some() { "space" } else { self.order.name() },
            broken_promise: self.promised.map(Order::name),
            found: self.guided.as_ref().map(Guided::found),
            readings: u8::from(job.began_before)
                + match (self.again, self.source) {
                    (true, _) => 3,
                    // Scans and trips are read again when the cases' venues and trips are known.
                    (false, source) if source.is_by_id() => 2,
                    (false, _) => 1,
                },
            dwells_summed: self.dwellings.is_some(),
            resolved_at_once: self.at_once,
        }
    }
}

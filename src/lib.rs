//! copresence finds who shared place and time with confirmed cases, from location pings in Parquet, and
//! writes the people whom a public-health team may review: candidates, each with its evidence.
//!
//! # The flow
//!
//! One direction, one noun a step:
//!
//! ```text
//! feeds -> Ping -> Stay -> Encounter -> Exposure -> Candidate
//! ```
//!
//! [`pipeline::compute`] reads every row once, by the order that a source's files keep: the sieve
//! ([`index::sieve`], made from the cases' stays and the risk areas) marks the pings that can matter at all, and a [`track::Track`]
//! turns each marked ping and its closer into a stay. In the order of time a window moves over the files; in
//! that of persons each person's rows stand together; in no order rows are parted by person first, in memory
//! or in a spill folder. Then [`resolve::resolve`] turns the stays, part by part and person by person, into
//! encounters, exposures and candidates by way of the [`index::CaseIndex`]. Who met a case by a scan, or whose answer hangs
//! on how long they dwell anywhere, waits: all their pings are read once more, for [`contradiction`] and [`resident`].
//!
//! # Code map
//!
//! | part | modules | may use |
//! |---|---|---|
//! | words | [`time`], [`wide`], [`geo`], [`packed`], [`lattice`], [`rice`], [`datum`], [`person`], [`place`], [`trip`], [`case`], [`rule`] | one another, downwards |
//! | the flow | [`ping`], [`uncertainty`], [`stay`], [`region`], [`risk_area`], [`track`], [`contradiction`], [`resident`], [`index`], [`encounter`], [`dose`], [`exposure`], [`candidate`], [`truth`], [`resolve`] | words, and the steps before |
//! | whole | [`config`], [`pipeline`], [`error`] | everything but `cli` |
//! | a made-up city | [`synth`], [`city`] | words, ping, dose |
//! | edge | [`io`] | words, the schema of the flow, config |
//!
//! # Invariants
//!
//! - Times are whole milliseconds UTC, ranges are half-open, distances are metres on one sphere.
//! - The flow does no I/O, logs nothing, reads no clock and no environment.
//! - Only cases' stays are indexed; everyone's stays probe.
//! - The sieve and the marked sets may let through too much, never too little; exact tests decide.
//! - What files promise of their order is verified while reading; who breaks it is read in the way that needs none.
//! - The answer is one total order of rows: the same for any threads, memory, batches and order of input.
//! - No error, log or progress line holds a person_id.

pub mod answer;
pub mod candidate;
pub mod case;
pub mod city;
pub mod cli;
pub mod config;
pub mod contradiction;
pub mod control;
pub mod datum;
pub mod dose;
pub mod encounter;
pub mod error;
pub mod exposure;
pub mod geo;
pub mod index;
pub mod io;
pub mod lattice;
pub mod packed;
pub mod person;
pub mod ping;
pub mod pipeline;
pub mod place;
pub mod region;
pub mod resident;
pub mod resolve;
pub mod rice;
pub mod risk_area;
pub mod rule;
pub mod stay;
pub mod sweep;
pub mod synth;
pub mod time;
pub mod track;
pub mod trip;
pub mod truth;
pub mod uncertainty;
pub mod wide;

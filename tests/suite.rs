//! All integration tests, one binary.

mod against_oracle;
mod bytes;
mod cli;
mod errors;
mod evidence;
mod faults;
mod inputs;
mod kills;
mod more_evidence;
mod nights;
mod oracle;
mod orders;
mod properties;
mod real_data;
mod rules;
mod shapes;
mod store;
mod support;
mod sweep;
mod synth;
mod tidy;
mod town;
mod world_areas;
mod world_files;
mod world_runs;
mod worlds;

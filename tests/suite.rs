//! All integration tests, one binary.

mod against_oracle;
mod oracle;
mod real_data;
mod support;
mod worlds;

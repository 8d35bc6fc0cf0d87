//! All integration tests, one binary.

mod against_oracle;
mod bytes;
mod oracle;
mod properties;
mod real_data;
mod support;
mod worlds;

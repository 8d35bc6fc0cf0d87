//! The program: parse, run, exit code.

use clap::Parser;
use copresence::cli::{self, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::quiet_decoder_panics();
    let cli = Cli::parse();
    let log = cli.log_format();
    cli::start_log(log);
    match cli.run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            cli::show_error(&error, log);
            ExitCode::from(error.exit_code())
        }
    }
}

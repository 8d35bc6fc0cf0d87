//! The program: parse, run, exit code.

use copresence::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::quiet_decoder_panics();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
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

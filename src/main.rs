//! The binary: arguments, configuration, app, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    souk::cli::run()
}

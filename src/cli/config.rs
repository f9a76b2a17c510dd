//! `souk config print`: the configuration as it is in force, secrets masked.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, print};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration in force; secrets read ***
    Print,
}

pub(super) fn run(config: &Config, command: &ConfigCommand) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Print => {
            let text = config.to_toml_masked().map_err(|error| Failure::GaveUp(error.to_string()))?;
            print(text.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

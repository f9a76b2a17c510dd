//! `souk config`: the configuration as it is in force, secrets masked, and what every setting means.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, print};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration in force; secrets read ***
    Print,
    /// Print what every setting means, as docs/configuration.md has it
    Reference,
}

pub(super) fn run(config: &Config, command: &ConfigCommand) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Print => {
            let text = config.to_toml_masked().map_err(|error| Failure::GaveUp(error.to_string()))?;
            print(text.trim_end());
        }
        ConfigCommand::Reference => {
            let text = Config::reference().map_err(|error| Failure::GaveUp(error.to_string()))?;
            print(text.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

//! `souk documents manifest`: the manifest of the documents that a client sends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, print};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum DocumentsCommand {
    /// Print the manifest of trusted documents: their texts by their SHA-256, as JSON
    Manifest {
        /// A folder with .graphql files, one such file, or a manifest
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
}

pub(super) fn run(config: &Config, command: &DocumentsCommand) -> Result<ExitCode, Failure> {
    match command {
        DocumentsCommand::Manifest { path } => print(crate::app::read_trusted_documents(config, path)?.manifest()),
    }
    Ok(ExitCode::SUCCESS)
}

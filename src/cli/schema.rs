//! `souk schema print`: the schema that `schema.graphql` is a snapshot of.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Failure, print};

#[derive(Subcommand)]
pub(super) enum SchemaCommand {
    /// Print the schema in SDL
    Print,
}

pub(super) fn run(command: &SchemaCommand) -> Result<ExitCode, Failure> {
    match command {
        SchemaCommand::Print => print(crate::gateway::schema::sdl().trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

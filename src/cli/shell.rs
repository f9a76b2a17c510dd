//! `souk completions` and `souk man`: what packages and shells want of the command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure};

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// Whose completions; `source <(souk completions bash)` tries them
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// Write the page of every command into this folder instead of the main one to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(arguments: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "souk", &mut script);
    write(&script)
}

pub(super) fn man(arguments: &ManArgs) -> Result<ExitCode, Failure> {
    let failed = |error| Failure::GaveUp(format!("could not write the manual: {error}"));
    if let Some(dir) = &arguments.dir {
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
    Ok(write(&page))
}

/// A reader that has gone away is no failure.
fn write(text: &[u8]) -> ExitCode {
    let _ = std::io::stdout().write_all(text);
    ExitCode::SUCCESS
}

//! `souk recommendations rebuild`: learns anew from every order, server running or not, with progress on a terminal.

use std::process::ExitCode;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, print, runtime};
use crate::app::{self, Rebuilt};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum RecommendationsCommand {
    /// Count every order again and replace what was learned; a server goes on serving meanwhile
    Rebuild,
}

pub(super) fn run(config: &Config, command: &RecommendationsCommand) -> Result<ExitCode, Failure> {
    match command {
        RecommendationsCommand::Rebuild => rebuild(config),
    }
}

fn rebuild(config: &Config) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let (orders, recommendations) = runtime.block_on(app::open_history(config))?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} left")
        .expect("the template is fixed and names known keys only");
    let bar = ProgressBar::new(0).with_style(style);
    let progress = |done: u64, of: u64| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let limits = config.recommendations.rules().limits;
    let rebuilt = runtime.block_on(app::rebuild(&*orders, &*recommendations, limits, &progress));
    bar.finish_and_clear();
    match rebuilt.map_err(|error| Failure::GaveUp(error.to_string()))? {
        Rebuilt::Done(orders) => {
            print(format_args!("{orders} orders counted"));
            Ok(ExitCode::SUCCESS)
        }
        Rebuilt::Superseded => Err(Failure::GaveUp("another rebuild has begun since; it goes on".into())),
    }
}

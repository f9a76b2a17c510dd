//! `souk migrate`: brings the stores to this version's schema, so that the next start need not.

use std::process::ExitCode;

use super::{Failure, print, runtime};
use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<ExitCode, Failure> {
    let _lock = app::lock_data_dir(config)?;
    for line in runtime()?.block_on(app::migrate(config))? {
        print(line);
    }
    Ok(ExitCode::SUCCESS)
}

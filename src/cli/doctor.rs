//! `souk doctor`: what a start would stumble over, and how to mend it.

use std::process::ExitCode;

use super::{Failure, print, runtime};
use crate::app::doctor::{Verdict, examine};
use crate::config::Config;

/// Exit code 0 when nothing is bad, 1 otherwise.
pub(super) fn run(config: &Config) -> Result<ExitCode, Failure> {
    let findings = runtime()?.block_on(examine(config));
    for finding in &findings {
        print(finding);
    }
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    if bad > 0 {
        return Err(Failure::GaveUp(format!("{bad} of {} parts need mending", findings.len())));
    }
    Ok(ExitCode::SUCCESS)
}

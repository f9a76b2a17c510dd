//! `souk doctor`: looks at everything that a start needs, changes nothing, and says how to mend what is wrong.
//!
//! Each part gives findings: `local` looks at this machine, `stores` and `servers` at what the configuration names. What cannot
//! be reached is a finding too, so one that is away hides nothing of the others.

mod local;
mod servers;
mod stores;

use std::fmt;

use crate::config::Config;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// The shop runs, but not as it should.
    Doubtful,
    /// The shop does not start, or loses one of its promises.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Doubtful => "warn",
            Self::Bad => "BAD",
        })
    }
}

/// What was seen of one part.
#[derive(Debug)]
pub struct Finding {
    pub part: String,
    pub verdict: Verdict,
    pub seen: String,
    /// How to mend it; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn good(part: impl Into<String>, seen: impl fmt::Display) -> Self {
        Self { part: part.into(), verdict: Verdict::Good, seen: seen.to_string(), remedy: String::new() }
    }

    fn doubtful(part: impl Into<String>, seen: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { part: part.into(), verdict: Verdict::Doubtful, seen: seen.to_string(), remedy: remedy.into() }
    }

    fn bad(part: impl Into<String>, seen: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { part: part.into(), verdict: Verdict::Bad, seen: seen.to_string(), remedy: remedy.into() }
    }
}

/// Two lines at most: what was seen, and how to mend it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<27}  {}", self.verdict, self.part, self.seen)?;
        if !self.remedy.is_empty() {
            write!(f, "\n{:35}-> {}", "", self.remedy)?;
        }
        Ok(())
    }
}

/// Looks at all parts, one after the other. Takes some seconds for each server that is away.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = local::look(config);
    findings.extend(stores::look(config).await);
    findings.extend(servers::look(config).await);
    findings
}

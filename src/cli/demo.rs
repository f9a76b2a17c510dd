//! `souk demo`: fills an empty shop and ends, with progress on a terminal.

use std::cell::RefCell;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, print};
use crate::app;
use crate::config::Config;

pub(super) fn run(mut config: Config) -> Result<ExitCode, Failure> {
    if config.is_production() {
        return Err(Failure::usage("demo data is refused in production (environment = \"production\")"));
    }
    config.demo = false;
    let bar = RefCell::new(None::<(String, ProgressBar)>);
    let progress = |what: &str, done: usize, of: usize| {
        let mut bar = bar.borrow_mut();
        if bar.as_ref().is_none_or(|(shown, _)| shown != what) {
            let style = ProgressStyle::with_template("{msg:>10} {bar:40} {pos}/{len}")
                .expect("the template is fixed and names known keys only");
            let next = ProgressBar::new(of as u64).with_style(style).with_message(what.to_owned());
            if let Some((_, last)) = bar.replace((what.to_owned(), next)) {
                last.finish();
            }
        }
        if let Some((_, bar)) = bar.as_ref() {
            bar.set_position(done as u64);
        }
    };
    let filled = app::fill_with_demo_data(config, &progress)?;
    if let Some((_, last)) = bar.take() {
        last.finish();
    }
    if filled {
        print(app::demo_accounts());
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::usage("the shop has products or customers already: demo data goes into an empty one"))
    }
}

//! `souk demo`: fills an empty shop and ends, with progress on a terminal; with `--walk` see `walk.rs`.

use std::cell::RefCell;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, print};
use crate::app;
use crate::config::Config;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Walk every query and mutation of a running shop instead, and check each answer
    #[arg(long)]
    pub(super) walk: bool,
    /// The shop's GraphQL address
    #[arg(long, requires = "walk", default_value = "http://127.0.0.1:4000/graphql")]
    pub(super) url: String,
    /// E-mail address of an administrator of the shop [default: the demo shop's]
    #[arg(long, requires_all = ["walk", "password_stdin"], value_name = "EMAIL")]
    pub(super) admin: Option<String>,
    /// Read the administrator's password from standard input; a final line end does not count
    #[arg(long, requires = "admin")]
    pub(super) password_stdin: bool,
}

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

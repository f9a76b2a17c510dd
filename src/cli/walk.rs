//! `souk demo --walk`: every query and mutation of a running shop, ticked off or told.

use std::process::ExitCode;
use std::time::Instant;

use super::demo::DemoArgs;
use super::{Failure, password_from_stdin, print, runtime};
use crate::app::walk::{Stumble, Walker, chapters};
use crate::app::{DEMO_ACCOUNTS, DEMO_PASSWORD};
use crate::domain::users::Role;

pub(super) fn run(arguments: &DemoArgs) -> Result<ExitCode, Failure> {
    let (email, password) = match &arguments.admin {
        Some(email) => (email.clone(), password_from_stdin()?),
        None => (demo_admin().to_owned(), DEMO_PASSWORD.to_owned()),
    };
    runtime()?.block_on(walk(&arguments.url, &email, &password))
}

fn demo_admin() -> &'static str {
    let admin = DEMO_ACCOUNTS.iter().find(|(role, ..)| *role == Role::Admin);
    admin.map(|(.., email)| *email).expect("the demo shop has an administrator")
}

/// Ends at the first step that does not succeed: the later ones build on it.
async fn walk(url: &str, email: &str, password: &str) -> Result<ExitCode, Failure> {
    let gave_up = |stumble: Stumble| Failure::GaveUp(stumble.to_string());
    let mut walker = Walker::new(url, email, password).map_err(gave_up)?;
    let began = Instant::now();
    let mut steps = 0;
    for chapter in chapters() {
        print(format_args!("\n{}: {}", chapter.title, chapter.about));
        for step in &chapter.steps {
            let began = Instant::now();
            let taken = walker.take(step).await;
            let tick = if taken.is_ok() { '✓' } else { '✗' };
            print(format_args!("  {tick} {:>6} ms  {}", began.elapsed().as_millis(), step.name));
            taken.map_err(|stumble| Failure::GaveUp(format!("\"{}\": {stumble}", step.name)))?;
            steps += 1;
        }
    }
    print(format_args!("\n{steps} steps, each answer as it should be, in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(ExitCode::SUCCESS)
}

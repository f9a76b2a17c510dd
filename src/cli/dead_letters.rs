//! `souk dead-letters`: messages that failed for good, server running or not.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{Failure, print, runtime};
use crate::actors::clock::now;
use crate::actors::operations::{Replay, replay};
use crate::app;
use crate::config::Config;
use crate::domain::page::PageRequest;
use crate::gateway::dead_letters::stored_id;
use crate::store::operations::{DeadLetter, OperationsStore, SettleDeadLetter};

/// Who settles a letter here, in its audit record.
const ACTOR: &str = "command line";

#[derive(Subcommand)]
pub(super) enum DeadLettersCommand {
    /// List them, newest first
    List(ListArgs),
    /// Send letters back to the group that failed on them
    Replay(IdArgs),
    /// Give letters up; they stay in the list with who did it
    Discard(IdArgs),
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// Only those of this group
    #[arg(long)]
    source: Option<String>,
    /// Also those that were replayed or discarded
    #[arg(long)]
    all: bool,
    /// Print everything about each letter, as JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct IdArgs {
    /// As `list` shows them, or as the API does (`dlt_...`)
    #[arg(required = true)]
    ids: Vec<String>,
}

pub(super) fn run(config: &Config, command: &DeadLettersCommand) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let operations = app::open_operations(config).await?;
        match command {
            DeadLettersCommand::List(arguments) => list(&operations, arguments).await,
            DeadLettersCommand::Replay(arguments) => settle(&operations, &arguments.ids, Settling::Replay).await,
            DeadLettersCommand::Discard(arguments) => settle(&operations, &arguments.ids, Settling::Discard).await,
        }
    })
}

fn store_failure(error: crate::store::StoreError) -> Failure {
    Failure::GaveUp(error.to_string())
}

async fn list(operations: &Arc<dyn OperationsStore>, arguments: &ListArgs) -> Result<ExitCode, Failure> {
    let mut page = PageRequest::first(100);
    loop {
        let listed = operations
            .list_dead_letters(arguments.source.as_deref(), !arguments.all, &page)
            .await
            .map_err(store_failure)?;
        for (_, letter) in &listed.entries {
            if arguments.json {
                let line = serde_json::to_string(letter).map_err(|error| Failure::GaveUp(error.to_string()))?;
                print(line);
            } else {
                print(summary(letter));
            }
        }
        page.after = listed.entries.last().map(|(cursor, _)| cursor.clone());
        if !listed.has_next {
            if !arguments.json {
                print(format_args!("{} dead letters", listed.total));
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn summary(letter: &DeadLetter) -> String {
    let by = |who: &Option<String>| who.clone().unwrap_or_else(|| "somebody".to_owned());
    let state = match (letter.replayed_at, letter.discarded_at) {
        (_, Some(at)) => format!("discarded {at} by {}", by(&letter.discarded_by)),
        (Some(at), None) => format!("replayed {at} by {}", by(&letter.replayed_by)),
        (None, None) => "open".to_owned(),
    };
    format!("{}  {}  after {} attempts  {}  {}", letter.id, letter.failed_at, letter.attempts, state, letter.reason)
}

#[derive(Clone, Copy)]
enum Settling {
    Replay,
    Discard,
}

async fn settle(operations: &Arc<dyn OperationsStore>, ids: &[String], how: Settling) -> Result<ExitCode, Failure> {
    let mut all_settled = true;
    for given in ids {
        let stored = stored_id(given);
        let id = stored.as_ref().unwrap_or(given);
        let outcome = match how {
            Settling::Replay => match replay(operations.as_ref(), id, ACTOR, now()).await.map_err(store_failure)? {
                Replay::Settled(outcome) => outcome,
                Replay::NotReplayable(reason) => {
                    all_settled = false;
                    eprintln!("souk: {id} cannot be replayed: {reason}");
                    continue;
                }
            },
            Settling::Discard => operations.discard_dead_letter(id, ACTOR, now()).await.map_err(store_failure)?,
        };
        match outcome {
            SettleDeadLetter::Settled(letter) | SettleDeadLetter::AlreadySettled(letter) => print(summary(&letter)),
            SettleDeadLetter::NotFound => {
                all_settled = false;
                eprintln!("souk: there is no dead letter {id}");
            }
        }
    }
    Ok(if all_settled { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

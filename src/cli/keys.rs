//! `souk keys`: the keys that sign access tokens, server running or not.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Failure, print, runtime};
use crate::app::{self, KeyView};
use crate::config::Config;
use crate::domain::signing_keys::KeyState;

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// List them, newest first
    List,
    /// Announce a new key, which signs in the place of the present one once every server knows it
    Rotate(RotateArgs),
}

#[derive(Args)]
pub(super) struct RotateArgs {
    /// How long the present key's tokens are accepted after that [default: until they have expired]; 0 after a theft
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=31_536_000))]
    overlap: Option<u32>,
}

pub(super) fn run(config: &Config, command: &KeysCommand) -> Result<ExitCode, Failure> {
    let keys = runtime()?.block_on(async {
        match command {
            KeysCommand::List => app::signing_keys(config).await,
            KeysCommand::Rotate(arguments) => app::rotate_keys(config, arguments.overlap).await,
        }
    })?;
    for key in keys {
        print(line_of(&key));
    }
    Ok(ExitCode::SUCCESS)
}

fn line_of(key: &KeyView) -> String {
    let state = match key.state {
        KeyState::Announced => format!("announced, signs from {}", key.term.signs_from),
        KeyState::Signs => "signs".to_owned(),
        KeyState::Accepted => "accepted".to_owned(),
        KeyState::Over => "over".to_owned(),
    };
    match key.term.accepted_until {
        Some(end) => format!("{}  {state}, until {end}", key.id),
        None => format!("{}  {state}", key.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::users::key_ring::KeyMaterial;
    use crate::domain::signing_keys::KeyTerm;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_line_says_what_a_key_does_and_until_when() {
        let id = KeyMaterial::generate().id;
        let line = |state, signs_from, accepted_until: Option<i64>| {
            let term = KeyTerm { signs_from: Timestamp(signs_from), accepted_until: accepted_until.map(Timestamp) };
            line_of(&KeyView { id, state, term })
        };
        assert_eq!(line(KeyState::Signs, 0, None), format!("{id}  signs"));
        assert_eq!(
            line(KeyState::Announced, 15_000, None),
            format!("{id}  announced, signs from 1970-01-01T00:00:15.000Z")
        );
        assert_eq!(line(KeyState::Accepted, 0, Some(1_000)), format!("{id}  accepted, until 1970-01-01T00:00:01.000Z"));
    }
}

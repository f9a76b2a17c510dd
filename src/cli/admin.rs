//! `souk admin create`: the first administrator, server running or not.

use std::io::Read;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Failure, print};
use crate::actors::errors::DomainError;
use crate::actors::users::messages::{CreateAccount, Password};
use crate::app;
use crate::config::Config;
use crate::domain::text::Email;
use crate::domain::users::Role;

#[derive(Subcommand)]
pub(super) enum AdminCommand {
    /// Create an account with the role ADMIN
    Create(CreateArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[arg(long)]
    email: String,
    #[arg(long)]
    name: String,
    /// Read the password from standard input; a final line end does not count
    #[arg(long, required = true)]
    password_stdin: bool,
}

pub(super) fn run(config: &Config, command: &AdminCommand) -> Result<ExitCode, Failure> {
    let AdminCommand::Create(arguments) = command;
    let email = Email::parse(&arguments.email).map_err(|reason| Failure::usage(format!("--email: {reason}")))?;
    let mut password = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut password)
        .map_err(|error| Failure::usage(format!("could not read the password from standard input: {error}")))?;
    let password =
        password.strip_suffix('\n').map_or(password.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    let account = CreateAccount {
        email,
        name: arguments.name.clone(),
        password: Password(password.to_owned()),
        role: Role::Admin,
    };
    match app::create_account(config, account)? {
        Ok(user) => {
            print(format_args!("created {} (ADMIN)", user.id));
            Ok(ExitCode::SUCCESS)
        }
        Err(DomainError::InvalidInput { field, reason }) => {
            Err(Failure::usage(format!("--{}: {reason}", field.join("."))))
        }
        Err(refusal @ (DomainError::WeakPassword(_) | DomainError::EmailTaken)) => Err(Failure::usage(refusal)),
        Err(fault) => Err(Failure::GaveUp(fault.to_string())),
    }
}

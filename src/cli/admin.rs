//! `souk admin create`: the first administrator, server running or not.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Failure, password_from_stdin, print};
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
    let password = Password(password_from_stdin()?);
    let account = CreateAccount { email, name: arguments.name.clone(), password, role: Role::Admin };
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

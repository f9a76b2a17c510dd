//! The command line: one file a command.
//!
//! Exit codes: 0 done or stopped; 2 bad arguments or configuration, said on stderr with what would be right; 1 gave up.

mod admin;
mod config;
mod dead_letters;
mod demo;
mod doctor;
mod documents;
mod keys;
mod migrate;
mod orders;
mod recommendations;
mod schema;
mod serve;
mod shell;
mod walk;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{CliOverrides, Config, ConfigError, process_environment};
use crate::telemetry::build::VERSION_AND_BUILD;

/// A real-time, event-driven e-commerce backend.
#[derive(Parser)]
#[command(name = "souk", version = VERSION_AND_BUILD, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct SettingsArgs {
    /// Configuration file [default: config.toml of the working folder, else the built-in defaults]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Folder of the embedded stores [default: souk-data]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Address of the public listener; port 0 is any free port [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDR:PORT", global = true)]
    listen: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the shop (the default)
    Serve,
    /// Bring the stores to this version's schema
    Migrate,
    /// Look at everything that a start needs, and say how to mend what is wrong
    Doctor,
    /// Fill an empty shop with demo data, or walk through a running one
    Demo(demo::DemoArgs),
    /// Accounts that run the shop
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Messages that failed for good
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Orders that need help
    #[command(subcommand)]
    Orders(orders::OrdersCommand),
    /// What is learned from orders
    #[command(subcommand)]
    Recommendations(recommendations::RecommendationsCommand),
    /// The configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Documents that clients send
    #[command(subcommand)]
    Documents(documents::DocumentsCommand),
    /// The GraphQL schema
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    /// Print a shell's completions
    Completions(shell::CompletionsArgs),
    /// Print the manual
    Man(shell::ManArgs),
}

/// Why a command ended without success.
pub(crate) enum Failure {
    /// Bad arguments or configuration: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    GaveUp(String),
}

impl Failure {
    fn usage(reason: impl fmt::Display) -> Self {
        Self::Usage(reason.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::GaveUp(format!("{error:#}"))
    }
}

impl From<crate::app::AppError> for Failure {
    fn from(error: crate::app::AppError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::GaveUp(error.to_string()) }
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = dispatch(&cli);
    match outcome {
        Ok(code) => code,
        Err(Failure::Usage(reason)) => {
            eprintln!("souk: {reason}");
            ExitCode::from(2)
        }
        Err(Failure::GaveUp(reason)) => {
            eprintln!("souk: {reason}");
            ExitCode::from(1)
        }
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Some(Command::Schema(command)) => return schema::run(command),
        Some(Command::Completions(arguments)) => return Ok(shell::completions(arguments)),
        Some(Command::Man(arguments)) => return shell::man(arguments),
        Some(Command::Demo(arguments)) if arguments.walk => return walk::run(arguments),
        _ => {}
    }
    let config = load(&cli.settings)?;
    match &cli.command {
        None | Some(Command::Serve) => serve::run(config),
        Some(Command::Migrate) => migrate::run(&config),
        Some(Command::Doctor) => doctor::run(&config),
        Some(Command::Demo(_)) => demo::run(config),
        Some(Command::Admin(command)) => admin::run(&config, command),
        Some(Command::Keys(command)) => keys::run(&config, command),
        Some(Command::DeadLetters(command)) => dead_letters::run(&config, command),
        Some(Command::Orders(command)) => orders::run(&config, command),
        Some(Command::Recommendations(command)) => recommendations::run(&config, command),
        Some(Command::Documents(command)) => documents::run(&config, command),
        Some(Command::Config(command)) => config::run(&config, command),
        Some(Command::Schema(_) | Command::Completions(_) | Command::Man(_)) => {
            unreachable!("answered before the configuration is read")
        }
    }
}

fn load(settings: &SettingsArgs) -> Result<Config, Failure> {
    let file = settings.config.clone().or_else(Config::default_file);
    let overrides = CliOverrides { data_dir: settings.data_dir.clone(), listen: settings.listen.clone() };
    Ok(Config::load(file.as_deref(), process_environment(), overrides)?)
}

/// A runtime for a command that only speaks with the stores.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::GaveUp(format!("could not start a runtime: {error}")))
}

/// A password that is piped in; a final line end does not count.
fn password_from_stdin() -> Result<String, Failure> {
    use std::io::Read;
    let mut password = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut password)
        .map_err(|error| Failure::usage(format!("could not read the password from standard input: {error}")))?;
    let line = password.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(line.unwrap_or(&password).to_owned())
}

/// Writes a command's result to stdout; a reader that has gone away (`| head`) is no failure.
fn print(text: impl fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

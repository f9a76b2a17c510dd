//! `souk orders settle`: what a lost event log leaves PENDING, server running or not.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Failure, print, runtime};
use crate::actors::clock::now;
use crate::app;
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum OrdersCommand {
    /// Decide orders that wait for a verdict which no event will bring: those of an event log that is lost
    Settle(SettleArgs),
}

#[derive(Args)]
pub(super) struct SettleArgs {
    /// Only orders that were placed so long ago
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    older_than: u32,
}

pub(super) fn run(config: &Config, command: &OrdersCommand) -> Result<ExitCode, Failure> {
    let OrdersCommand::Settle(SettleArgs { older_than }) = command;
    let placed_before = now().plus_millis(-i64::from(*older_than) * 1_000);
    let settled = runtime()?.block_on(async {
        let (orders, products) = app::open_flow(config).await?;
        let settled = app::settle_pending(orders.as_ref(), products.as_ref(), placed_before).await;
        settled.map_err(|error| Failure::GaveUp(error.to_string()))
    })?;
    print(format_args!("{settled} orders have their verdict"));
    Ok(ExitCode::SUCCESS)
}

//! `souk serve`: runs the shop until it is stopped or gives up.

use std::io::IsTerminal;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, print};
use crate::app::{self, App, AppError, Ended};
use crate::config::{Config, LogFormat, Role};
use crate::telemetry::traces::TraceSettings;
use crate::telemetry::{self, LogStyle};

pub(super) fn run(config: Config) -> Result<ExitCode, Failure> {
    let style = match config.log.format {
        LogFormat::Auto => LogStyle::Auto,
        LogFormat::Json => LogStyle::Json,
        LogFormat::Text => LogStyle::Text,
    };
    let endpoint = Some(config.traces.otlp_endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
    let traces = TraceSettings { endpoint, sample_percent: config.traces.sample_percent };
    // Dropped last: what the end of the shop does is told too.
    let _telemetry = telemetry::init(style, &config.log.level, &traces).map_err(Failure::usage)?;
    app::raise_open_files_limit();
    actix_rt::System::new().block_on(serve(config))
}

async fn serve(config: Config) -> Result<ExitCode, Failure> {
    let stop = stop_signal().map_err(|error| Failure::GaveUp(format!("could not listen for signals: {error}")))?;
    let stop = async {
        stop.await;
        tracing::info!("souk stops");
    };
    let mut stop = std::pin::pin!(stop);
    let roles = config.roles.iter().map(Role::name).collect::<Vec<_>>().join(",");
    tracing::info!(version = env!("CARGO_PKG_VERSION"), roles, "souk starts");
    let app = match App::start_unless(config, &mut stop).await {
        Ok(app) => app,
        Err(AppError::Stopped) => {
            tracing::info!("souk has stopped");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    if app.has_demo_data() && std::io::stderr().is_terminal() {
        eprintln!("{}", app.banner());
    } else if app.has_demo_data() {
        eprintln!("{}", app::demo_accounts());
    }
    if let Some(address) = app.public_address() {
        print(format_args!("souk ready: http://{address}/graphql"));
    }
    print(format_args!("souk admin: http://{}", app.admin_address()));
    let public = app.public_address().map(tracing::field::display);
    tracing::info!(public, admin = %app.admin_address(), "souk is ready");
    match app.run_until(stop).await {
        Ended::Stopped => {
            tracing::info!("souk has stopped");
            Ok(ExitCode::SUCCESS)
        }
        Ended::Escalated { who, why } => Err(AppError::Escalated { who, why }.into()),
    }
}

/// Resolves at the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

//! How the process tells what it does.
//!
//! [`init`] is called once by `main`, before anything can log. [`Metrics`] is made once by `app` and handed to
//! whoever counts; its registry is the only one, so the admin listener shows all of it.

pub mod build;
mod logs;
pub mod metrics;
pub mod request_spans;
pub mod trace_context;
pub mod traces;

pub use logs::{LogStyle, TelemetryError, init};
pub use metrics::{CacheMeter, Metrics};

//! Logs and metric names.

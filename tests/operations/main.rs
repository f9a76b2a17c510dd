//! What operators have: dashboards, alerts with their runbook, logs that can be followed.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod canary;
mod dashboards;
mod dead_letters;
mod doctor;
mod files;
mod logs;
mod lost_log;
mod monitoring;
mod prometheus;
mod scene;
mod traces;

//! Where a record goes.

use super::super::Record;
use super::super::envelope::Envelope;
use super::BatchHandler;
use crate::domain::events::HEADER_REPLAY_GROUP;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Of no concern to the group: only the offset moves.
    Skip,
    /// To the handler, unless an earlier event of its key is parked.
    Handle,
    /// No event: a dead letter at once, for this reason.
    DeadLetter(String),
}

pub(super) fn route(record: &Record, group: &str, handler: &dyn BatchHandler) -> Route {
    if record.header(HEADER_REPLAY_GROUP).is_some_and(|addressed| addressed != group) {
        return Route::Skip;
    }
    match Envelope::of(record) {
        Ok(envelope) if handler.wants(envelope.event_type) => Route::Handle,
        Ok(_) => Route::Skip,
        Err(error) => Route::DeadLetter(error.to_string()),
    }
}

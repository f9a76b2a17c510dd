//! What a request is called: in every line that the log has about it and in every error of its answer.

use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName};
use tracing::Span;
use uuid::Uuid;

use crate::telemetry::trace_context::{TraceId, trace_of};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const MAX_REQUEST_ID_BYTES: usize = 64;

#[derive(Debug, Clone)]
pub struct RequestIds {
    /// In `extensions.requestId` of every error and in the header `x-request-id` of every answer.
    pub request: Arc<str>,
    /// In `extensions.traceId` of every error.
    pub trace: TraceId,
}

impl RequestIds {
    /// By the client's own names for its request, where it has some that are safe in a log line.
    pub fn of(headers: &HeaderMap) -> Self {
        let trace = headers.get(&TRACEPARENT).and_then(|value| trace_of(value.to_str().ok()?));
        Self {
            request: client_request_id(headers).unwrap_or_else(new_request_id),
            trace: trace.unwrap_or_else(TraceId::random),
        }
    }

    /// Of another operation on the same socket.
    pub fn another(&self) -> Self {
        Self { request: new_request_id(), trace: TraceId::random() }
    }

    /// What is done inside it is about this request. Kept at any level of the log: errors are told at the highest.
    pub fn span(&self) -> Span {
        tracing::error_span!("request", request_id = &*self.request, trace_id = %self.trace)
    }
}

/// An id that no other request has.
fn new_request_id() -> Arc<str> {
    let mut buffer = Uuid::encode_buffer();
    (&*Uuid::now_v7().simple().encode_lower(&mut buffer)).into()
}

fn client_request_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(&X_REQUEST_ID)?.to_str().ok()?;
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(is_safe)).then(|| id.into())
}

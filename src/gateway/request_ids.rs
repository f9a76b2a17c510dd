//! What a request is called: in every line that the log has about it and in every error of its answer.

use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName};
use tracing::Span;
use uuid::Uuid;

use crate::telemetry::request_spans;
use crate::telemetry::trace_context::{TraceId, TraceParent};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const MAX_REQUEST_ID_BYTES: usize = 64;

#[derive(Debug, Clone)]
pub struct RequestIds {
    /// In `extensions.requestId` of every error and in the header `x-request-id` of every answer.
    pub request: Arc<str>,
    /// In `extensions.traceId` of every error.
    pub trace: TraceId,
    /// The client's span that asks, where it has one.
    caller: Option<TraceParent>,
}

impl RequestIds {
    /// By the client's own names for its request, where it has some that are safe in a log line.
    pub fn of(headers: &HeaderMap) -> Self {
        let caller = headers.get(&TRACEPARENT).and_then(|value| TraceParent::parse(value.to_str().ok()?));
        Self {
            request: client_request_id(headers).unwrap_or_else(new_request_id),
            trace: caller.map_or_else(TraceId::random, |caller| caller.trace),
            caller,
        }
    }

    /// Of another operation on the same socket.
    pub fn another(&self) -> Self {
        Self { request: new_request_id(), trace: TraceId::random(), caller: None }
    }

    /// What is done inside it is about this request.
    pub fn span(&self) -> Span {
        request_spans::open(&self.request, self.trace, self.caller)
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

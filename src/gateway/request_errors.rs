//! Errors of a request as a whole: what a transport answers when it does not execute.

use std::time::Duration;

use async_graphql::{ErrorExtensionValues, Pos, Response, ServerError};
use serde::Serialize;
use serde::ser::SerializeMap;

use super::request_ids::RequestIds;
use super::top_level_errors::Code;

/// Why a request is not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    pub code: Code,
    pub message: String,
    pub locations: Vec<Pos>,
    /// When it may be tried again.
    pub retry_after: Option<Duration>,
}

impl RequestError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), locations: Vec::new(), retry_after: None }
    }

    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Code::BadUserInput, message)
    }

    pub fn unauthenticated() -> Self {
        Self::new(
            Code::Unauthenticated,
            "the access token or API key is not valid: sign in again, refresh the token, or use another key",
        )
    }

    pub fn timeout() -> Self {
        Self::new(Code::Timeout, "no answer in time: whether the operation was done is unknown")
    }

    pub fn shutting_down() -> Self {
        let error = Self::new(Code::Unavailable, "shutting down");
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    /// The error in the form in which every error of the API is answered.
    pub fn into_response(self, ids: &RequestIds) -> Response {
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", self.code.as_str());
        name(&mut extensions, ids);
        let mut error = ServerError::new(self.message, None);
        error.locations = self.locations;
        error.extensions = Some(extensions);
        Response::from_errors(vec![error])
    }
}

/// Whether nothing was executed: there is no data and no error belongs to a field.
pub fn is_request_error(response: &Response) -> bool {
    response.data == async_graphql::Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// So many errors of a request that is not executed are told.
const MAX_ERRORS: usize = 20;

/// Leaves out what would make the refusal of a bad document larger than the document.
pub fn limit_errors(response: &mut Response) {
    let count = response.errors.len();
    if count > MAX_ERRORS && is_request_error(response) {
        response.errors.truncate(MAX_ERRORS);
        let message = format!("{} more errors are not told", count - MAX_ERRORS);
        response.errors.push(ServerError::new(message, None));
    }
}

/// Gives every error a code and the request's id: what the transports fall back to without the schema's own finisher.
pub fn complete_errors(response: &mut Response, ids: &RequestIds) {
    for error in &mut response.errors {
        let code = if error.path.is_empty() { "GRAPHQL_VALIDATION_FAILED" } else { "INTERNAL_SERVER_ERROR" };
        let extensions = error.extensions.get_or_insert_default();
        if extensions.get("code").is_none() {
            extensions.set("code", code);
        }
        name(extensions, ids);
    }
}

/// Says whose error it is.
pub(super) fn name(extensions: &mut ErrorExtensionValues, ids: &RequestIds) {
    extensions.set("requestId", &*ids.request);
    extensions.set("traceId", ids.trace.to_string());
}

/// A response as the specification wants it: a request error has no `data` at all.
pub struct ResponseBody<'a>(pub &'a Response);

impl Serialize for ResponseBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(response) = self;
        let mut map = serializer.serialize_map(None)?;
        if !is_request_error(response) {
            map.serialize_entry("data", &response.data)?;
        }
        if !response.errors.is_empty() {
            map.serialize_entry("errors", &response.errors)?;
        }
        if !response.extensions.is_empty() {
            map.serialize_entry("extensions", &response.extensions)?;
        }
        map.end()
    }
}

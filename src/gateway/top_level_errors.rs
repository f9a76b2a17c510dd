//! Top-level errors: transport, sign-in and faults. Everything in `errors` of a response has a code and a request id.
//!
//! What resolvers refuse carries its code from the start. What async-graphql itself refuses (syntax, validation,
//! limits, values of the wrong type) has none: `finish_response` recognises it and completes it, so that no answer
//! leaves without both, and none with an internal message.

use async_graphql::{Error, ErrorExtensionValues, PathSegment, Response, ServerError};

use super::context::RequestInfo;
use super::request_errors::name;

/// `extensions.code` of a top-level error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    GraphqlParseFailed,
    GraphqlValidationFailed,
    BadUserInput,
    QueryTooComplex,
    DocumentNotTrusted,
    PersistedQueryNotFound,
    PersistedQueryNotSupported,
    Unauthenticated,
    Forbidden,
    RateLimited,
    Busy,
    Unavailable,
    Timeout,
    InternalServerError,
}

impl Code {
    pub const ALL: [Self; 14] = [
        Self::GraphqlParseFailed,
        Self::GraphqlValidationFailed,
        Self::BadUserInput,
        Self::QueryTooComplex,
        Self::DocumentNotTrusted,
        Self::PersistedQueryNotFound,
        Self::PersistedQueryNotSupported,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::RateLimited,
        Self::Busy,
        Self::Unavailable,
        Self::Timeout,
        Self::InternalServerError,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// Whether the caller could do nothing about it.
    pub fn is_servers_fault(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::Timeout | Self::InternalServerError)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::GraphqlParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::GraphqlValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::DocumentNotTrusted => "DOCUMENT_NOT_TRUSTED",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::PersistedQueryNotSupported => "PERSISTED_QUERY_NOT_SUPPORTED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::Busy => "BUSY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::InternalServerError => "INTERNAL_SERVER_ERROR",
        }
    }

    /// An error with this code.
    pub fn error(self, message: impl Into<String>) -> Error {
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", self.as_str());
        Error { message: message.into(), source: None, extensions: Some(extensions) }
    }
}

/// What a client is told of a fault of the program.
pub const INTERNAL_MESSAGE: &str = "something went wrong on our side";

/// How async-graphql words a value that does not fit its argument; its place is the argument's name.
const ARGUMENT_ERROR: &str = "Invalid value for argument ";
/// The same, found while costs are counted; its place is the field.
const COST_ERROR: &str = "Failed to parse ";

/// How a value of another type is told, and before the value itself.
const TYPE_ERROR: &str = "Expected input type ";
const FOUND: &str = ", found ";

/// The code of an error that async-graphql made itself. Its errors have no kind, only their place and their words:
/// those with a path come from reading arguments while resolving, those without from parsing and validation.
pub fn code_for_request_error(error: &ServerError) -> Code {
    let message = error.message.as_str();
    if !error.path.is_empty() {
        return if is_missing_data(message) { Code::InternalServerError } else { Code::BadUserInput };
    }
    const TOO_COMPLEX: [&str; 4] = [
        "Query is too complex.",
        "Query is nested too deep.",
        "The recursion depth of the query cannot be greater",
        "The number of directives on the field",
    ];
    // The parser's own words; a syntax error comes with a drawing of its place.
    const PARSE: [&str; 4] = [
        " --> ",
        "document contains multiple operations",
        "document does not contain an operation",
        "recursion limit exceeded.",
    ];
    let starts_with_any = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    if starts_with_any(&TOO_COMPLEX) {
        Code::QueryTooComplex
    } else if starts_with_any(&PARSE) || (message.ends_with(" is defined twice") && !message.contains('"')) {
        Code::GraphqlParseFailed
    } else if starts_with_any(&[
        "Unknown operation named",
        "Operation name required",
        "Subscriptions are not supported on this transport",
    ]) || is_undefined_variable(message)
    {
        Code::BadUserInput
    } else if is_missing_data(message) {
        Code::InternalServerError
    } else {
        Code::GraphqlValidationFailed
    }
}

/// A resolver asked for request or schema data that nobody put there: a fault of ours.
fn is_missing_data(message: &str) -> bool {
    message.starts_with("Data `")
}

/// A variable without a value, found while costs are counted.
fn is_undefined_variable(message: &str) -> bool {
    message.starts_with("Variable ") && message.ends_with(" is not defined.")
}

/// Tells wrong values of variables (BAD_USER_INPUT) from wrong literals (GRAPHQL_VALIDATION_FAILED), which
/// async-graphql reports in the same words. To be called before [`finish_response`], with the request's query; without
/// it every wrong value counts as a literal.
pub fn refine_value_errors(response: &mut Response, query: &str) {
    for error in response.errors.iter_mut().filter(|error| error.path.is_empty()) {
        let Some(text) = error.locations.first().and_then(|at| text_from(query, at.line, at.column)) else { continue };
        let value = if error.message.starts_with(ARGUMENT_ERROR) {
            text.split_once(':').map(|(_, value)| first_value(value))
        } else if error.message.starts_with(COST_ERROR) {
            text.find('(').map(|at| first_value(&text[at..]))
        } else {
            None
        };
        if value.is_some_and(|value| outside_strings(value).any(|(_, symbol)| symbol == '$')) {
            set_code(error, Code::BadUserInput);
        }
    }
}

/// The query from a place on; lines and columns count from 1, columns in characters.
fn text_from(query: &str, line: usize, column: usize) -> Option<&str> {
    let line: usize = query.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let text = query.get(line..)?;
    let column: usize = text.chars().take(column.checked_sub(1)?).map(char::len_utf8).sum();
    text.get(column..)
}

/// The value with which the text starts: a word, a string, or everything up to the bracket that closes its first one.
fn first_value(text: &str) -> &str {
    let text = text.trim_start();
    let mut depth = 0usize;
    for (at, symbol) in outside_strings(text) {
        match symbol {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' if depth <= 1 => return &text[..at],
            '}' | ']' | ')' => depth -= 1,
            _ if depth == 0 && (symbol.is_whitespace() || symbol == ',') => return &text[..at],
            _ => {}
        }
    }
    text
}

/// The characters of a text that are not inside a string.
fn outside_strings(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut in_string = false;
    let mut escaped = false;
    text.char_indices().filter(move |(_, symbol)| {
        let was_in_string = in_string;
        if in_string {
            in_string = escaped || *symbol != '"';
            escaped = !escaped && *symbol == '\\';
        } else {
            in_string = *symbol == '"';
        }
        !was_in_string && !in_string
    })
}

fn set_code(error: &mut ServerError, code: Code) {
    error.extensions.get_or_insert_default().set("code", code.as_str());
}

/// Makes a response fit to leave: every error has a code and the request id, none an internal message.
pub fn finish_response(response: &mut Response, info: &RequestInfo) {
    for error in &mut response.errors {
        finish_error(error, info);
    }
}

/// Makes one error fit to leave.
pub fn finish_error(error: &mut ServerError, info: &RequestInfo) {
    leave_value_out(error);
    let has_code = error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some());
    if !has_code {
        let code = code_for_request_error(error);
        if code == Code::InternalServerError {
            let field = error.path.iter().map(segment_text).collect::<Vec<_>>().join(".");
            tracing::error!(field, cause = error.message, "a resolver failed");
            error.message = INTERNAL_MESSAGE.into();
        } else if let Some(limit) = limit_of(&error.message) {
            error.message = limit.to_owned();
        }
        set_code(error, code);
    }
    name(error.extensions.get_or_insert_default(), &info.ids);
}

/// A refusal in words that name the limit, where async-graphql does not.
fn limit_of(message: &str) -> Option<&'static str> {
    match message {
        "Query is too complex." => {
            Some("the operation is too complex: it costs more than gateway.max_complexity allows")
        }
        "Query is nested too deep." => {
            Some("the operation is too deep: it has more levels than gateway.max_depth allows")
        }
        _ => None,
    }
}

/// A value of the wrong type may be a password that came to the wrong place.
fn leave_value_out(error: &mut ServerError) {
    let told = error.message.find(TYPE_ERROR);
    if let Some(end) = told.and_then(|start| Some(start + error.message[start..].find(FOUND)?)) {
        error.message.truncate(end);
    }
}

fn segment_text(segment: &PathSegment) -> String {
    match segment {
        PathSegment::Field(name) => name.clone(),
        PathSegment::Index(index) => index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::request_ids::RequestIds;
    use async_graphql::Value;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn code(message: &str) -> &'static str {
        code_for_request_error(&ServerError::new(message, None)).as_str()
    }

    #[test]
    fn a_value_is_told_by_where_it_came_from() {
        let is_variable = |query: &str, message: &str, line, column| {
            let at = async_graphql::Pos { line, column };
            let mut response = Response::from_errors(vec![ServerError::new(message, Some(at))]);
            refine_value_errors(&mut response, query);
            response.errors[0].extensions.is_some()
        };
        let query =
            "query($n: Int) {\n  é: products(first: $n, where: {search: \"$\\\"$\", category: [\"a\"]}) { id }\n}";
        let column = |needle: &str| {
            let line = query.lines().nth(1).unwrap();
            line[..line.find(needle).unwrap()].chars().count() + 1
        };
        assert!(is_variable(query, ARGUMENT_ERROR, 2, column("first")));
        assert!(!is_variable(query, ARGUMENT_ERROR, 2, column("where")));
        assert!(is_variable(query, COST_ERROR, 2, column("products")));
        assert!(!is_variable(query, "Unknown field", 2, column("first")));
        for (query, expected) in [
            ("{a(x: {y: [1, $z]})}", true),
            ("{a(x: 1, y: $z)}", false),
            ("{a(x: {b: 1} y: $z)}", false),
            ("{a(x: 1) b(y: $z)}", false),
            ("{a(x:\n $z)}", true),
        ] {
            assert_eq!(is_variable(query, ARGUMENT_ERROR, 1, 4), expected, "{query}");
        }
        assert!(!is_variable("{a}", ARGUMENT_ERROR, 9, 9));
    }

    #[test]
    fn every_error_leaves_with_a_code_and_the_request_id_and_no_internals() {
        let mut headers = actix_web::http::header::HeaderMap::new();
        for (name, value) in [("x-request-id", "r-1"), ("traceparent", TRACEPARENT)] {
            headers.insert(name.parse().unwrap(), value.parse().unwrap());
        }
        let ids = RequestIds::of(&headers);
        let info = RequestInfo { ids, client_address: [127, 0, 0, 1].into(), user_agent: None };
        let mut missing = ServerError::new("Data `souk::gateway::context::Shop` does not exist.", None);
        missing.path = vec![PathSegment::Field("me".into())];
        let denied = Code::Forbidden.error("no").into_server_error(Default::default());
        let mut value =
            ServerError::new("Failed to parse \"Int\": Expected input type \"Int\", found \"hunter2\".", None);
        value.path = vec![PathSegment::Field("users".into())];
        let mut response = Response::from_errors(vec![missing, denied, ServerError::new("x", None), value]);
        finish_response(&mut response, &info);
        let codes: Vec<_> = response
            .errors
            .iter()
            .map(|error| {
                let extensions = error.extensions.as_ref().unwrap();
                assert_eq!(extensions.get("requestId"), Some(&Value::String("r-1".into())));
                assert_eq!(extensions.get("traceId"), Some(&Value::String(TRACEPARENT[3..35].into())));
                extensions.get("code").cloned().unwrap().into_json().unwrap()
            })
            .collect();
        assert_eq!(codes, ["INTERNAL_SERVER_ERROR", "FORBIDDEN", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT"]);
        assert_eq!(response.errors[0].message, INTERNAL_MESSAGE);
        assert_eq!(response.errors[3].message, "Failed to parse \"Int\": Expected input type \"Int\"");
    }

    #[test]
    fn what_comes_with_a_path_is_a_value_that_does_not_fit() {
        let mut error = ServerError::new("Only integers from -2147483648 to 2147483647 are accepted.", None);
        error.path = vec![PathSegment::Field("products".into())];
        assert_eq!(code_for_request_error(&error), Code::BadUserInput);
        assert_eq!(code("Unknown operation named \"x\""), "BAD_USER_INPUT");
    }
}

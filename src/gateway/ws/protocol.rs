//! The messages of `graphql-transport-ws` and the codes with which a socket is closed.

use std::borrow::Cow;

use actix_ws::{CloseCode, CloseReason};
use async_graphql::{Response, ServerError, Variables};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::gateway::json_limits;
use crate::gateway::request_errors::ResponseBody;
use crate::gateway::service::Parameters;

pub(super) const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Longer ids would have to be kept for each operation.
const MAX_ID_BYTES: usize = 256;

/// Why a socket is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: Cow<'static, str>,
}

impl Close {
    pub(super) const NORMAL: Self = Self::new(1000, "bye");
    pub(super) const GOING_AWAY: Self = Self::new(1001, "shutting down");
    pub(super) const PROTOCOL_ERROR: Self = Self::new(1002, "broken frame");
    pub(super) const NOT_UTF8: Self = Self::new(1007, "text is not UTF-8");
    pub(super) const TOO_LARGE: Self = Self::new(1009, "message too large");
    pub(super) const TRY_AGAIN_LATER: Self = Self::new(1013, "the session cannot be checked at present");
    pub(super) const UNAUTHORIZED: Self = Self::new(4401, "Unauthorized");
    pub(super) const FORBIDDEN: Self = Self::new(4403, "Forbidden");
    pub(super) const SUBPROTOCOL_NOT_ACCEPTABLE: Self = Self::new(4406, "Subprotocol not acceptable");
    pub(super) const INIT_TIMEOUT: Self = Self::new(4408, "Connection initialisation timeout");
    pub(super) const SLOW_CONSUMER: Self = Self::new(4413, "Slow consumer");
    pub(super) const SECOND_INIT: Self = Self::new(4429, "Too many initialisation requests");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    pub(super) fn invalid_message(why: &str) -> Self {
        Self { code: 4400, reason: format!("Invalid message: {why}").into() }
    }

    pub(super) fn id_in_use(id: &str) -> Self {
        Self { code: 4409, reason: format!("Subscriber for {id} already exists").into() }
    }
}

impl From<Close> for CloseReason {
    fn from(close: Close) -> Self {
        Self { code: CloseCode::from(close.code), description: Some(close.reason.into_owned()) }
    }
}

/// What a client may say.
pub(super) enum ClientMessage {
    /// With the value of `Authorization` in the payload, if there is one that is not null.
    ConnectionInit {
        authorization: Option<serde_json::Value>,
    },
    /// With the payload, which the answer repeats.
    Ping {
        payload: Option<Box<RawValue>>,
    },
    Pong,
    Subscribe {
        id: String,
        parameters: Parameters,
    },
    Complete {
        id: String,
    },
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawSubscribe {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<Variables>,
    extensions: Option<std::collections::HashMap<String, async_graphql::Value>>,
}

impl ClientMessage {
    /// An error is the reason to close with 4400.
    pub(super) fn parse(text: &str) -> Result<Self, Close> {
        let raw: RawMessage<'_> =
            serde_json::from_str(text).map_err(|_| Close::invalid_message("not a JSON object with a type"))?;
        if let Some(payload) = raw.payload {
            json_limits::check("the payload", payload.get()).map_err(|error| Close::invalid_message(&error.message))?;
        }
        match &*raw.kind {
            "connection_init" => {
                Ok(Self::ConnectionInit { authorization: optional_object(raw.payload)?.and_then(authorization) })
            }
            "ping" => {
                optional_object(raw.payload)?;
                Ok(Self::Ping { payload: raw.payload.map(ToOwned::to_owned) })
            }
            "pong" => optional_object(raw.payload).map(|_| Self::Pong),
            "subscribe" => {
                let id = id(raw.id)?;
                let payload = raw.payload.filter(|payload| payload.get().starts_with('{'));
                let payload = payload.ok_or_else(|| Close::invalid_message("subscribe needs a payload"))?;
                let RawSubscribe { query, operation_name, variables, extensions } = serde_json::from_str(payload.get())
                    .map_err(|_| Close::invalid_message("the payload of subscribe has a wrong type"))?;
                let parameters = Parameters {
                    query,
                    operation_name,
                    variables: variables.unwrap_or_default(),
                    extensions: extensions.unwrap_or_default(),
                };
                if !parameters.has_text() {
                    return Err(Close::invalid_message("the payload of subscribe has no query"));
                }
                Ok(Self::Subscribe { id, parameters })
            }
            "complete" => Ok(Self::Complete { id: id(raw.id)? }),
            _ => Err(Close::invalid_message("unknown type")),
        }
    }
}

fn id(id: Option<Cow<'_, str>>) -> Result<String, Close> {
    match id {
        Some(id) if !id.is_empty() && id.len() <= MAX_ID_BYTES => Ok(id.into_owned()),
        _ => Err(Close::invalid_message("an id of 1 to 256 bytes is needed")),
    }
}

type Object = serde_json::Map<String, serde_json::Value>;

fn optional_object(payload: Option<&RawValue>) -> Result<Option<Object>, Close> {
    payload
        .map(|payload| serde_json::from_str(payload.get()))
        .transpose()
        .map_err(|_| Close::invalid_message("the payload must be an object"))
}

/// Clients write the name as a header's, in whatever case.
fn authorization(payload: Object) -> Option<serde_json::Value> {
    payload
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value)
        .filter(|value| !value.is_null())
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ServerMessage<'a> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a RawValue>,
    },
    Next {
        id: &'a str,
        payload: ResponseBody<'a>,
    },
    Error {
        id: &'a str,
        payload: &'a [ServerError],
    },
    Complete {
        id: &'a str,
    },
}

fn text(message: &ServerMessage<'_>) -> String {
    serde_json::to_string(message).expect("a message of the protocol has only text keys")
}

pub(super) fn connection_ack() -> String {
    text(&ServerMessage::ConnectionAck)
}

pub(super) fn pong(payload: Option<&RawValue>) -> String {
    text(&ServerMessage::Pong { payload })
}

pub(super) fn next(id: &str, response: &Response) -> String {
    text(&ServerMessage::Next { id, payload: ResponseBody(response) })
}

pub(super) fn error(id: &str, response: &Response) -> String {
    text(&ServerMessage::Error { id, payload: &response.errors })
}

pub(super) fn complete(id: &str) -> String {
    text(&ServerMessage::Complete { id })
}

//! GraphQL over WebSocket: the protocol `graphql-transport-ws`, complete, on the path of the API.
//!
//! [`upgrade`] judges the handshake and starts one task a socket ([`socket::Socket`]), which reads messages
//! ([`protocol`]), runs operations ([`operations`]) and writes their results in turn. A client that does not take what
//! is written stops its own operations; nothing piles up for it.
//!
//! Close codes: 1001 shutting down; 1002, 1007 and 1009 broken, not UTF-8 or too large frames; 1013 the session could
//! not be checked for 30 s; 4400 an invalid message; 4401 subscribe before the acknowledgement; 4403 a bad, expired or
//! revoked token; 4406 another subprotocol; 4408 no `connection_init` in time; 4409 an id in use; 4413 a client too
//! slow; 4429 a second `connection_init`. npm's client `graphql-ws` comes back after 1001, 1013, 4403 and 4413.

mod operations;
mod protocol;
mod socket;

use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use tracing::Instrument;

use super::http::{Transport, credential, error_response, request_info};
use super::request_errors::RequestError;
use super::settings::HttpSettings;
use super::top_level_errors::Code;
use protocol::{Close, SUBPROTOCOL};
use socket::Socket;

/// Whether the request wants to become a WebSocket.
pub(super) fn is_upgrade(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Answers the handshake and, if it is in order, starts the socket.
pub(super) fn upgrade(request: HttpRequest, body: Payload, transport: &Transport) -> HttpResponse {
    let settings = &transport.service.settings;
    let info = request_info(&request, settings);
    if !is_own_or_listed_page(request.headers(), settings) {
        let error = RequestError::new(Code::Forbidden, "pages of this origin may not use the API");
        return error_response(StatusCode::FORBIDDEN, error, &info.ids);
    }
    let Some(active) = transport.drain.enter() else {
        return error_response(StatusCode::SERVICE_UNAVAILABLE, RequestError::shutting_down(), &info.ids);
    };
    let (response, session, messages) = match actix_ws::handle_with_protocols(&request, body, &[SUBPROTOCOL]) {
        Ok(parts) => parts,
        Err(_) => {
            let error = RequestError::bad_input("the WebSocket handshake is not in order");
            return error_response(StatusCode::BAD_REQUEST, error, &info.ids);
        }
    };
    let agreed = response.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let messages = messages
        .max_frame_size(settings.max_socket_message_bytes)
        .aggregate_continuations()
        .max_continuation_size(settings.max_socket_message_bytes);
    let shown = credential(request.headers());
    let socket = Socket::new(Arc::clone(&transport.service), session, messages, shown, info);
    let draining = transport.drain.watch();
    let serving = async move {
        if agreed {
            socket.run(draining).await;
        } else {
            socket.close(Close::SUBPROTOCOL_NOT_ACCEPTABLE).await;
        }
        drop(active);
    };
    actix_web::rt::spawn(serving.in_current_span());
    response
}

/// Browsers open WebSockets for any page, so its origin is judged here. Programs send no `Origin`.
fn is_own_or_listed_page(headers: &HeaderMap, settings: &HttpSettings) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if (settings.allows_origin)(origin) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(|authority| authority.to_string()));
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

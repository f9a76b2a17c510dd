//! GraphQL over server-sent events: an operation a connection, for clients that have no WebSocket.
//!
//! It follows the distinct connections mode of the protocol of npm's `graphql-sse`: `Accept: text/event-stream` on GET or
//! POST, an event `next` for each result, `complete` at the end. A client that takes single answers as well gets a stream for
//! subscriptions only. What fails before execution is answered as it is without a stream. Events of `orderUpdated` and
//! `orderUpdates` have ids: a client that comes back with `Last-Event-ID` goes on after that one, whatever `after` says, so
//! from its first event on a browser's `EventSource` misses and repeats nothing.
//!
//! A stream whose token expires or whose session ends is told `UNAUTHENTICATED` and completed. Shutting down ends it without
//! `complete`, so that its client comes back. A client that has left is found out by the next event or comment; one that
//! takes nothing for `slow_consumer_timeout` is cut off.

use std::convert::Infallible;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::Bytes;
use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::gateway::auth::AuthError;
use crate::gateway::context::{EventIds, RequestInfo, Viewer};
use crate::gateway::drain::Active;
use crate::gateway::request_errors::{RequestError, ResponseBody};
use crate::gateway::service::{GraphqlService, ParsedRequest};
use crate::gateway::signed_in::{SignedIn, SignedOut, session_changed};
use crate::telemetry::metrics::Open;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
/// A comment, which clients pass over.
const KEEPALIVE: Bytes = Bytes::from_static(b":\n\n");
const COMPLETE: Bytes = Bytes::from_static(b"event: complete\ndata:\n\n");
/// Events that wait for the connection to take them.
const WAITING: usize = 4;

/// What the client has seen last, of a stream before this one.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let seen = headers.get("last-event-id")?.to_str().ok()?;
    (!seen.is_empty()).then(|| seen.to_owned())
}

/// One whole stream.
pub(super) struct EventStream {
    pub(super) service: Arc<GraphqlService>,
    pub(super) info: RequestInfo,
    pub(super) viewer: Viewer,
    pub(super) signed_in: Option<SignedIn>,
    pub(super) event_ids: Arc<EventIds>,
    pub(super) draining: watch::Receiver<bool>,
    /// Counts the stream among what is open.
    pub(super) _active: Active,
}

impl EventStream {
    /// Starts the operation; the response carries its results as they come.
    pub(super) fn response(self, parsed: ParsedRequest) -> HttpResponse {
        let (events, taken) = mpsc::channel(WAITING);
        actix_web::rt::spawn(self.run(parsed, events));
        let body =
            stream::unfold(taken, |mut taken| async move { Some((Ok::<_, Infallible>(taken.recv().await?), taken)) });
        HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .insert_header((header::VARY, HeaderValue::from_static(super::VARY)))
            // Proxies that gather answers would keep the events back.
            .insert_header(("x-accel-buffering", "no"))
            .streaming(body)
    }

    async fn run(mut self, parsed: ParsedRequest, events: mpsc::Sender<Bytes>) {
        if parsed.facts.kind != OperationType::Subscription {
            let response = self.service.execute(parsed, self.viewer, &self.info).await;
            let _ =
                self.send(&events, next(None, &response)).await.is_ok() && self.send(&events, COMPLETE).await.is_ok();
            return;
        }
        let meter = Arc::clone(self.service.meters.of(&parsed.facts.root_fields));
        let _open = Open::new(&self.service.meters.metrics.subscriptions_open);
        let parsed = parsed.with_event_ids(Arc::clone(&self.event_ids));
        let mut responses = self.service.subscribe(parsed, self.viewer, &self.info);
        let keepalive = self.service.settings.keepalive_interval;
        let mut draining = self.draining.clone();
        let mut quiet_until = Instant::now() + keepalive;
        loop {
            let look = self.signed_in.as_ref().map_or(quiet_until, SignedIn::next_look);
            let delivers = !self.signed_in.as_ref().is_some_and(SignedIn::is_check_too_old);
            let sent = tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining) => return,
                () = events.closed() => return,
                () = sleep_until(look.min(quiet_until)) => {
                    if let Some(error) = self.signed_out() {
                        return self.end(&events, error).await;
                    }
                    if Instant::now() < quiet_until { Ok(()) } else { self.send(&events, KEEPALIVE).await }
                }
                () = session_changed(&mut self.signed_in) => match self.signed_out() {
                    Some(error) => return self.end(&events, error).await,
                    None => Ok(()),
                },
                response = responses.next(), if delivers => match response {
                    Some(mut response) => {
                        self.service.finish(&mut response, &self.info);
                        meter.note(&response);
                        self.service.meters.metrics.subscription_messages.inc();
                        self.send(&events, next(self.event_ids.take(), &response)).await
                    }
                    None => return drop(self.send(&events, COMPLETE).await),
                },
            };
            match sent {
                Ok(()) if Instant::now() >= quiet_until => quiet_until = Instant::now() + keepalive,
                Ok(()) => {}
                Err(Gone) => return,
            }
        }
    }

    /// What the client is told when it is not signed in any more.
    fn signed_out(&mut self) -> Option<RequestError> {
        match self.signed_in.as_mut()?.look() {
            Ok(()) => None,
            Err(SignedOut::Ended) => Some(AuthError::BadToken.into()),
            Err(SignedOut::Unknown) => Some(AuthError::Unavailable.into()),
        }
    }

    async fn end(&self, events: &mpsc::Sender<Bytes>, error: RequestError) {
        let response = error.into_response(&self.info.ids);
        if self.send(events, next(None, &response)).await.is_ok() {
            drop(self.send(events, COMPLETE).await);
        }
    }

    async fn send(&self, events: &mpsc::Sender<Bytes>, event: Bytes) -> Result<(), Gone> {
        match timeout(self.service.settings.slow_consumer_timeout, events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

/// The client has left, or takes nothing.
struct Gone;

fn next(id: Option<String>, response: &Response) -> Bytes {
    let mut event = Vec::with_capacity(256);
    event.extend_from_slice(b"event: next\n");
    if let Some(id) = id {
        event.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    event.extend_from_slice(b"data: ");
    // JSON has no line breaks of its own.
    serde_json::to_writer(&mut event, &ResponseBody(response)).expect("a GraphQL response has only text keys");
    event.extend_from_slice(b"\n\n");
    event.into()
}

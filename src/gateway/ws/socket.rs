//! The life of one socket: initialisation, messages, operations, keepalive, and its end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, ProtocolError, Session};
use async_graphql::parser::types::OperationType;
use futures_util::stream::{AbortHandle, Abortable, SelectAll, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::operations::{self, Operation, Output};
use super::protocol::{self, ClientMessage, Close};
use crate::actors::clock;
use crate::gateway::auth::{AuthError, Credential, VerifiedToken};
use crate::gateway::context::{RequestInfo, Viewer};
use crate::gateway::request_errors::RequestError;
use crate::gateway::server::new_request_id;
use crate::gateway::service::{GraphqlService, Parameters};
use crate::gateway::session_check::Watch;
use crate::gateway::settings::HttpSettings;
use crate::gateway::top_level_errors::Code;

/// How long a client has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A socket whose session cannot be checked for so long is closed.
const MAX_UNCHECKED: Duration = Duration::from_secs(30);
/// How soon a session is looked at again whose check is overdue.
const CHECK_RETRY: Duration = Duration::from_secs(1);
/// The oldest copy of a session by which a socket opens, and how late a check of all sessions may be: with the interval of
/// the checks, less than 5 s.
const MAX_CHECK_AGE: Duration = Duration::from_millis(500);

struct RunningOperation {
    abort: AbortHandle,
    /// A query or mutation: shutting down waits for it.
    is_brief: bool,
}

/// What is known after `connection_init`.
struct SignedIn {
    token: VerifiedToken,
    session: Watch,
    next_look: Instant,
}

pub(super) struct Socket {
    service: Arc<GraphqlService>,
    session: Session,
    messages: AggregatedMessageStream,
    /// Of the handshake: it counts unless `connection_init` brings another.
    shown: Credential,
    info: RequestInfo,
    operations: SelectAll<Abortable<Operation>>,
    running: HashMap<Arc<str>, RunningOperation>,
    acknowledged: bool,
    signed_in: Option<SignedIn>,
    /// Draining: no new operations, and the end after the last brief one.
    leaving: bool,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
}

impl Socket {
    pub(super) fn new(
        service: Arc<GraphqlService>,
        session: Session,
        messages: AggregatedMessageStream,
        shown: Credential,
        info: RequestInfo,
    ) -> Self {
        let now = Instant::now();
        Self {
            service,
            session,
            messages,
            shown,
            info,
            operations: SelectAll::new(),
            running: HashMap::new(),
            acknowledged: false,
            signed_in: None,
            leaving: false,
            opened_at: now,
            heard_at: now,
            pinged_at: now,
        }
    }

    /// Serves until either side ends it.
    pub(super) async fn run(mut self, mut draining: watch::Receiver<bool>) {
        let end = loop {
            if let Err(close) = self.step(&mut draining).await {
                break close;
            }
        };
        match end {
            Some(close) => self.close(close).await,
            // The client is gone.
            None => drop(self),
        }
    }

    /// One thing that happens. An error ends the socket, with a close frame if there is somebody to read it.
    ///
    /// What is due comes before what has arrived: neither a busy client nor a busy subscription puts off the check of the
    /// session or the keepalive. Results wait while the last check is too old to deliver anything by it.
    async fn step(&mut self, draining: &mut watch::Receiver<bool>) -> Result<(), Option<Close>> {
        let deadline = self.next_deadline();
        let delivers = !self.operations.is_empty() && !self.is_check_too_old();
        tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining), if !self.leaving => {
                self.leaving = true;
                self.leave_if_done()
            }
            () = sleep_until(deadline) => self.on_deadline().await,
            () = session_changed(&mut self.signed_in) => self.look_at_session(),
            message = self.messages.recv() => {
                self.heard_at = Instant::now();
                match message {
                    Some(Ok(message)) => self.on_frame(message).await,
                    Some(Err(error)) => Err(Some(close_of(&error))),
                    None => Err(None),
                }
            }
            Some(output) = self.operations.next(), if delivers => self.on_output(output).await,
        }
    }

    async fn on_frame(&mut self, frame: AggregatedMessage) -> Result<(), Option<Close>> {
        match frame {
            AggregatedMessage::Text(text) => {
                let message = ClientMessage::parse(&text)?;
                self.on_message(message).await
            }
            AggregatedMessage::Binary(_) => Err(Some(Close::invalid_message("binary"))),
            AggregatedMessage::Ping(payload) => self.session.pong(&payload).await.map_err(|_| None),
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(_) => Err(Some(Close::NORMAL)),
        }
    }

    async fn on_message(&mut self, message: ClientMessage) -> Result<(), Option<Close>> {
        match message {
            ClientMessage::ConnectionInit { authorization } => self.initialise(authorization).await,
            ClientMessage::Ping { payload } => self.send(protocol::pong(payload.as_deref())).await,
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { id, parameters } => self.subscribe(id.into(), parameters).await,
            ClientMessage::Complete { id } => {
                if let Some(operation) = self.running.remove(id.as_str()) {
                    operation.abort.abort();
                }
                self.leave_if_done()
            }
        }
    }

    async fn initialise(&mut self, authorization: Option<serde_json::Value>) -> Result<(), Option<Close>> {
        if self.acknowledged {
            return Err(Some(Close::SECOND_INIT));
        }
        let given = match authorization {
            None => Credential::None,
            Some(serde_json::Value::String(value)) => Credential::parse(&value),
            Some(_) => Credential::Malformed,
        };
        let shown = std::mem::replace(&mut self.shown, Credential::None);
        let credential = if given == Credential::None { shown } else { given };
        let auth = &self.service.auth;
        let (_, token) = auth.viewer(&credential).await.map_err(|error| Some(close_of_auth(error)))?;
        if let Some(token) = token {
            let session = auth.watch(&token, MAX_CHECK_AGE).await.map_err(|error| Some(close_of_auth(error)))?;
            self.signed_in = Some(SignedIn { token, session, next_look: Instant::now() });
        }
        self.acknowledged = true;
        self.send(protocol::connection_ack()).await
    }

    async fn subscribe(&mut self, id: Arc<str>, parameters: Parameters) -> Result<(), Option<Close>> {
        if !self.acknowledged {
            return Err(Some(Close::UNAUTHORIZED));
        }
        if self.running.contains_key(&id) {
            return Err(Some(Close::id_in_use(&id)));
        }
        let info = RequestInfo { request_id: new_request_id(), ..self.info.clone() };
        match self.start(&id, parameters, &info).await? {
            Ok(()) => Ok(()),
            Err(error) => self.on_output(operations::refused(id, &error.into_response(&info.request_id))).await,
        }
    }

    async fn start(
        &mut self,
        id: &Arc<str>,
        parameters: Parameters,
        info: &RequestInfo,
    ) -> Result<Result<(), RequestError>, Option<Close>> {
        if self.leaving {
            return Ok(Err(RequestError::shutting_down()));
        }
        let limit = self.settings().max_subscriptions_per_socket;
        if self.running.len() >= limit {
            let message = format!("this socket has {limit} operations running: complete one first");
            return Ok(Err(RequestError::new(Code::Busy, message)));
        }
        let parsed = match self.service.parse(parameters) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(error)),
        };
        let viewer = match &self.signed_in {
            Some(signed_in) if !parsed.facts.ignores_token => {
                let age = crate::gateway::session_check::MAX_COPY_AGE;
                match self.service.auth.check_session(&signed_in.token, age).await {
                    Ok(viewer) => viewer,
                    Err(AuthError::BadToken) => return Err(Some(Close::FORBIDDEN)),
                    Err(error) => return Ok(Err(error.into())),
                }
            }
            _ => Viewer::Anonymous,
        };
        let is_brief = parsed.facts.kind != OperationType::Subscription;
        let (abort, registration) = AbortHandle::new_pair();
        let operation = operations::start(Arc::clone(&self.service), Arc::clone(id), parsed, viewer, info.clone());
        self.operations.push(Abortable::new(operation, registration));
        self.running.insert(Arc::clone(id), RunningOperation { abort, is_brief });
        Ok(Ok(()))
    }

    async fn on_output(&mut self, output: Output) -> Result<(), Option<Close>> {
        for message in output.messages {
            self.send(message).await?;
        }
        if output.is_last {
            self.running.remove(&output.id);
        }
        self.leave_if_done()
    }

    /// Waits for room; the streams of this socket wait with it. A client that makes none is closed.
    async fn send(&mut self, message: String) -> Result<(), Option<Close>> {
        match timeout(self.settings().slow_consumer_timeout, self.session.text(message)).await {
            Ok(sent) => sent.map_err(|_| None),
            Err(_) => Err(Some(Close::SLOW_CONSUMER)),
        }
    }

    fn leave_if_done(&self) -> Result<(), Option<Close>> {
        let done = self.leaving && !self.running.values().any(|operation| operation.is_brief);
        if done { Err(Some(Close::GOING_AWAY)) } else { Ok(()) }
    }

    fn next_deadline(&self) -> Instant {
        let keepalive = self.pinged_at + self.settings().keepalive_interval;
        let init = self.opened_at + self.settings().connection_init_timeout;
        match &self.signed_in {
            _ if !self.acknowledged => init.min(keepalive),
            Some(signed_in) => signed_in.next_look.min(keepalive),
            None => keepalive,
        }
    }

    async fn on_deadline(&mut self) -> Result<(), Option<Close>> {
        let now = Instant::now();
        if !self.acknowledged && now >= self.opened_at + self.settings().connection_init_timeout {
            return Err(Some(Close::INIT_TIMEOUT));
        }
        if self.signed_in.as_ref().is_some_and(|signed_in| now >= signed_in.next_look) {
            self.look_at_session()?;
        }
        let interval = self.settings().keepalive_interval;
        if now >= self.pinged_at + interval {
            if now >= self.heard_at + interval * 2 {
                return Err(None);
            }
            self.pinged_at = now;
            let ping = timeout(self.settings().slow_consumer_timeout, self.session.ping(b""));
            ping.await.map_err(|_| Some(Close::SLOW_CONSUMER))?.map_err(|_| None)?;
        }
        Ok(())
    }

    /// While signed in: whether the token still serves, by what was last seen of its session. While sessions cannot be
    /// read the socket goes on for a time: a restart of the users actor is not its fault.
    fn look_at_session(&mut self) -> Result<(), Option<Close>> {
        let (oldest, retry) = (self.max_check_age(), CHECK_RETRY.min(self.settings().session_check_interval));
        let Some(signed_in) = &mut self.signed_in else { return Ok(()) };
        let left_ms = signed_in.token.expires_at.saturating_mul(1_000).saturating_sub(clock::now().0);
        let seen = signed_in.session.latest();
        if left_ms <= 0 || signed_in.token.viewer(seen.state).is_err() {
            return Err(Some(Close::FORBIDDEN));
        }
        let age = seen.asked_at.elapsed();
        if age >= MAX_UNCHECKED {
            return Err(Some(Close::TRY_AGAIN_LATER));
        }
        let now = Instant::now();
        let next = if age < oldest { seen.asked_at + oldest } else { now + retry };
        signed_in.next_look = next.min(now + Duration::from_millis(left_ms.unsigned_abs()));
        Ok(())
    }

    /// Whether the session was checked too long ago to deliver results by it. All sessions are checked at an interval, so
    /// this is so only while they cannot be read, or after something else took long.
    fn is_check_too_old(&self) -> bool {
        let oldest = self.max_check_age();
        self.signed_in.as_ref().is_some_and(|signed_in| signed_in.session.latest().asked_at.elapsed() >= oldest)
    }

    /// With the age that a session's state may have when it is asked for: 5 s under the usual interval.
    fn max_check_age(&self) -> Duration {
        self.settings().session_check_interval + MAX_CHECK_AGE
    }

    fn settings(&self) -> &HttpSettings {
        &self.service.settings
    }

    /// Sends the close frame and gives the client a moment to take it: a connection that ends with unread bytes is
    /// reset, and the frame would be lost.
    pub(super) async fn close(mut self, close: Close) {
        debug!(request.id = %self.info.request_id, code = close.code, "closing a socket");
        self.running.clear();
        self.operations.clear();
        let farewell = async {
            if self.session.close(Some(close.into())).await.is_ok() {
                while let Some(Ok(_)) = self.messages.recv().await {}
            }
        };
        // Nothing more can be done for a client that does not take even this.
        drop(timeout(CLOSE_TIMEOUT, farewell).await);
    }
}

/// Resolves when the session of who is signed in has changed.
async fn session_changed(signed_in: &mut Option<SignedIn>) {
    match signed_in {
        Some(signed_in) => signed_in.session.changed().await,
        None => std::future::pending().await,
    }
}

fn close_of_auth(error: AuthError) -> Close {
    match error {
        AuthError::BadToken => Close::FORBIDDEN,
        AuthError::Unavailable => Close::TRY_AGAIN_LATER,
    }
}

fn close_of(error: &ProtocolError) -> Close {
    match error {
        ProtocolError::Overflow => Close::TOO_LARGE,
        ProtocolError::Io(error) if error.kind() == io::ErrorKind::InvalidData => Close::NOT_UTF8,
        // The stream of whole messages has no error of its own for fragments that are too many.
        ProtocolError::Io(error) if error.to_string().contains("continuation size") => Close::TOO_LARGE,
        _ => Close::PROTOCOL_ERROR,
    }
}

//! The life of one socket: initialisation, messages, operations, keepalive, and its end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, ProtocolError, Session};
use async_graphql::parser::types::OperationType;
use futures_util::stream::{AbortHandle, Abortable, SelectAll, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, Span, debug};

use super::operations::{self, Operation, Output};
use super::protocol::{self, ClientMessage, Close};
use crate::gateway::auth::{AuthError, Credential};
use crate::gateway::context::{RequestInfo, Viewer};
use crate::gateway::request_errors::RequestError;
use crate::gateway::service::{GraphqlService, Parameters};
use crate::gateway::settings::HttpSettings;
use crate::gateway::signed_in::{SignedIn, SignedOut, session_changed};
use crate::gateway::top_level_errors::Code;
use crate::telemetry::metrics::Open;

struct RunningOperation {
    abort: AbortHandle,
    /// A query or mutation: shutting down waits for it.
    is_brief: bool,
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
    /// The client has sent its close frame: nothing comes after it.
    heard_close: bool,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    _open: Open,
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
        let open = Open::new(&service.meters.metrics.sockets_open);
        Self {
            _open: open,
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
            heard_close: false,
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
            AggregatedMessage::Ping(payload) => {
                let pong = timeout(self.settings().slow_consumer_timeout, self.session.pong(&payload));
                pong.await.map_err(|_| Some(Close::SLOW_CONSUMER))?.map_err(|_| None)
            }
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(_) => {
                self.heard_close = true;
                Err(Some(Close::NORMAL))
            }
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
        let shown = self.service.auth.viewer(&credential, self.info.client_address).await;
        let (_, proof) = shown.map_err(|error| Some(close_of_auth(error)))?;
        if let Some(proof) = proof {
            let interval = self.settings().session_check_interval;
            let signed_in = SignedIn::watch(&self.service.auth, proof, interval).await;
            self.signed_in = Some(signed_in.map_err(|error| Some(close_of_auth(error)))?);
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
        let info = RequestInfo { ids: self.info.ids.another(), ..self.info.clone() };
        let span = info.ids.span();
        match self.start(&id, parameters, &info, &span).instrument(span.clone()).await? {
            Ok(()) => Ok(()),
            Err(error) => self.on_output(operations::refused(id, &error.into_response(&info.ids))).await,
        }
    }

    async fn start(
        &mut self,
        id: &Arc<str>,
        parameters: Parameters,
        info: &RequestInfo,
        span: &Span,
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
                match self.service.auth.check(&signed_in.proof(), age).await {
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
        let operation = operations::inside(span.clone(), operation);
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
            Some(signed_in) => signed_in.next_look().min(keepalive),
            None => keepalive,
        }
    }

    async fn on_deadline(&mut self) -> Result<(), Option<Close>> {
        let now = Instant::now();
        if !self.acknowledged && now >= self.opened_at + self.settings().connection_init_timeout {
            return Err(Some(Close::INIT_TIMEOUT));
        }
        if self.signed_in.as_ref().is_some_and(|signed_in| now >= signed_in.next_look()) {
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

    fn look_at_session(&mut self) -> Result<(), Option<Close>> {
        match self.signed_in.as_mut().map(SignedIn::look) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(SignedOut::Ended)) => Err(Some(Close::FORBIDDEN)),
            Some(Err(SignedOut::Unknown)) => Err(Some(Close::TRY_AGAIN_LATER)),
        }
    }

    /// Results wait while the session is not known well enough to deliver them.
    fn is_check_too_old(&self) -> bool {
        self.signed_in.as_ref().is_some_and(SignedIn::is_check_too_old)
    }

    fn settings(&self) -> &HttpSettings {
        &self.service.settings
    }

    /// Sends the close frame and waits for the client's, unless that has come: a connection that ends with unread bytes is
    /// reset, and the frame would be lost. After both the connection ends (RFC 6455, 5.5.1).
    pub(super) async fn close(mut self, close: Close) {
        debug!(code = close.code, "closing a socket");
        self.running.clear();
        self.operations.clear();
        let patience = self.settings().close_timeout;
        let farewell = async {
            if self.session.close(Some(close.into())).await.is_err() || self.heard_close {
                return;
            }
            while let Some(Ok(message)) = self.messages.recv().await {
                if matches!(message, AggregatedMessage::Close(_)) {
                    return;
                }
            }
        };
        // Nothing more can be done for a client that does not take even this.
        drop(timeout(patience, farewell).await);
    }
}

fn close_of_auth(error: AuthError) -> Close {
    match error {
        AuthError::BadToken => Close::FORBIDDEN,
        AuthError::Unavailable | AuthError::TooMany(_) => Close::TRY_AGAIN_LATER,
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

//! One operation of a socket as a stream of the messages that it sends.

use std::pin::Pin;
use std::sync::Arc;

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use futures_util::future::FutureExt;
use futures_util::stream::{self, Stream, StreamExt};
use tracing::Span;

use super::protocol;
use crate::gateway::context::{RequestInfo, Viewer};
use crate::gateway::meters::OperationMeter;
use crate::gateway::request_errors::is_request_error;
use crate::gateway::service::{GraphqlService, ParsedRequest};
use crate::telemetry::metrics::Open;

/// What an operation has to send now.
pub(super) struct Output {
    pub(super) id: Arc<str>,
    pub(super) messages: Vec<String>,
    /// Nothing of this operation comes any more: its id is free.
    pub(super) is_last: bool,
}

pub(super) type Operation = Pin<Box<dyn Stream<Item = Output>>>;

/// The operation, polled inside a span.
pub(super) fn inside(span: Span, mut operation: Operation) -> Operation {
    Box::pin(stream::poll_fn(move |task| {
        let _inside = span.enter();
        operation.as_mut().poll_next(task)
    }))
}

/// Starts an operation. Queries and mutations end after their one result; both have a deadline, subscriptions none.
pub(super) fn start(
    service: Arc<GraphqlService>,
    id: Arc<str>,
    parsed: ParsedRequest,
    viewer: Viewer,
    info: RequestInfo,
) -> Operation {
    if parsed.facts.kind == OperationType::Subscription {
        return subscription(service, id, parsed, viewer, info);
    }
    Box::pin(stream::once(async move {
        let response = service.execute(parsed, viewer, &info).await;
        if is_request_error(&response) {
            refused(id, &response)
        } else {
            let messages = vec![protocol::next(&id, &response), protocol::complete(&id)];
            Output { id, messages, is_last: true }
        }
    }))
}

/// An operation that failed before it was executed: `error` ends it, no `complete` follows.
pub(super) fn refused(id: Arc<str>, response: &Response) -> Output {
    Output { messages: vec![protocol::error(&id, response)], id, is_last: true }
}

fn subscription(
    service: Arc<GraphqlService>,
    id: Arc<str>,
    parsed: ParsedRequest,
    viewer: Viewer,
    info: RequestInfo,
) -> Operation {
    let meter = Arc::clone(service.meters.of(&parsed.facts.root_fields));
    let open = Open::new(&service.meters.metrics.subscriptions_open);
    let responses = service.subscribe(parsed, viewer, &info);
    let state = Running { service, id, info, responses, meter, is_first: true, is_over: false, _open: open };
    Box::pin(stream::unfold(state, |mut running| async move {
        let output = running.output().await?;
        Some((output, running))
    }))
}

struct Running {
    service: Arc<GraphqlService>,
    id: Arc<str>,
    info: RequestInfo,
    responses: stream::BoxStream<'static, Response>,
    meter: Arc<OperationMeter>,
    is_first: bool,
    is_over: bool,
    _open: Open,
}

impl Running {
    fn finish(&self, response: &mut Response) {
        self.service.finish(response, &self.info);
        self.meter.note(response);
        self.service.meters.metrics.subscription_messages.inc();
    }

    async fn output(&mut self) -> Option<Output> {
        if self.is_over {
            return None;
        }
        let id = Arc::clone(&self.id);
        let Some(mut response) = self.responses.next().await else {
            self.is_over = true;
            return Some(Output { messages: vec![protocol::complete(&id)], id, is_last: true });
        };
        let could_be_refusal = self.is_first && response.data == async_graphql::Value::Null;
        self.is_first = false;
        self.finish(&mut response);
        if is_request_error(&response) {
            self.is_over = true;
            return Some(refused(id, &response));
        }
        if could_be_refusal && !response.errors.is_empty() {
            // A subscription that never began (no leave, no such object) says so once and is over at once. An event
            // that failed looks the same, but more may follow it.
            match self.responses.next().now_or_never() {
                Some(None) => {
                    self.is_over = true;
                    return Some(refused(id, &response));
                }
                Some(Some(mut second)) => {
                    self.finish(&mut second);
                    let messages = vec![protocol::next(&id, &response), protocol::next(&id, &second)];
                    return Some(Output { id, messages, is_last: false });
                }
                None => {}
            }
        }
        Some(Output { messages: vec![protocol::next(&id, &response)], id, is_last: false })
    }
}

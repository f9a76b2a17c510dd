//! What both transports do with a request: limits, parsing, who asks, execution, and finishing the answer.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use async_graphql::parser::types::OperationType;
use async_graphql::{Data, Executor, Request, Response, Value, Variables};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::timeout;
use tracing::Instrument;

use super::auth::{Auth, Credential};
use super::context::{EventIds, RequestInfo, Viewer};
use super::documents::{Document, DocumentCache, OperationFacts};
use super::failed_fields::FieldTypes;
use super::field_names::FieldNames;
use super::input_values::InputTypes;
use super::meters::Meters;
use super::order_placement::LONGEST_WAIT;
use super::persisted_queries::{PersistedQueries, RequestText, is_named};
use super::request_errors::{RequestError, complete_errors, is_request_error, limit_errors};
use super::settings::HttpSettings;
use super::top_level_errors::refine_value_errors;
use super::trusted_documents::TrustedDocuments;
use crate::telemetry::{Metrics, traces};

/// So many waits for a verdict an operation may have on top of the request's own time.
const MAX_VERDICT_WAITS: u32 = 3;

/// Adds to a request what its resolvers need besides the viewer and the request's info: loaders of its own.
pub type PrepareRequest = Arc<dyn Fn(Request, Viewer) -> Request + Send + Sync>;

/// Gives every error its code and the request's id, and logs faults.
pub type FinishResponse = Arc<dyn Fn(&mut Response, &RequestInfo) + Send + Sync>;

/// An executor of any schema: its `Executor` without the type.
trait AnyExecutor: Send + Sync {
    fn execute(&self, request: Request) -> BoxFuture<'static, Response>;
    fn execute_stream(&self, request: Request) -> BoxStream<'static, Response>;
}

impl<E: Executor> AnyExecutor for E {
    fn execute(&self, request: Request) -> BoxFuture<'static, Response> {
        let executor = self.clone();
        Box::pin(async move { Executor::execute(&executor, request).await })
    }

    fn execute_stream(&self, request: Request) -> BoxStream<'static, Response> {
        Executor::execute_stream(self, request, None::<Arc<Data>>)
    }
}

/// The parameters of a GraphQL request, their types already checked.
#[derive(Default)]
pub struct Parameters {
    /// May be missing where `extensions` name it.
    pub query: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Variables,
    pub extensions: std::collections::HashMap<String, Value>,
}

impl Parameters {
    /// Whether there is a text, or something that may name one.
    pub fn has_text(&self) -> bool {
        self.query.is_some() || is_named(&self.extensions)
    }
}

/// A request whose text is parsed; the next question is who asks.
pub struct ParsedRequest {
    pub facts: OperationFacts,
    text: RequestText,
    parameters: Parameters,
    document: Arc<Document>,
    was_cached: bool,
    event_ids: Option<Arc<EventIds>>,
}

impl ParsedRequest {
    /// Of a transport that numbers the events of subscriptions.
    pub fn with_event_ids(self, event_ids: Arc<EventIds>) -> Self {
        Self { event_ids: Some(event_ids), ..self }
    }
}

/// One for the whole process, behind an `Arc`.
pub struct GraphqlService {
    executor: Box<dyn AnyExecutor>,
    prepare: PrepareRequest,
    finish: FinishResponse,
    documents: DocumentCache,
    persisted: Arc<PersistedQueries>,
    /// Where they are set, nothing else is executed.
    trusted: Option<TrustedDocuments>,
    sdl: String,
    types: Arc<FieldTypes>,
    inputs: InputTypes,
    pub meters: Meters,
    pub auth: Auth,
    pub settings: HttpSettings,
}

impl GraphqlService {
    pub fn new(executor: impl Executor, auth: Auth, settings: HttpSettings) -> Self {
        Self {
            executor: Box::new(executor),
            prepare: Arc::new(|request, _| request),
            finish: Arc::new(|response, info| complete_errors(response, &info.ids)),
            documents: DocumentCache::new(settings.document_limits),
            persisted: Arc::new(PersistedQueries::new(settings.persisted_query_bytes)),
            trusted: None,
            sdl: String::new(),
            types: Arc::default(),
            inputs: InputTypes::default(),
            meters: Meters::default(),
            auth,
            settings,
        }
    }

    /// Sets what is added to every request before it is executed.
    pub fn preparing_with(mut self, prepare: PrepareRequest) -> Self {
        self.prepare = prepare;
        self
    }

    /// Sets what is done to every response of the schema.
    pub fn finishing_with(mut self, finish: FinishResponse) -> Self {
        self.finish = finish;
        self
    }

    /// Sets the only documents that are executed, where there are some.
    pub fn trusting(mut self, documents: Option<TrustedDocuments>) -> Self {
        self.trusted = documents;
        self
    }

    /// Sets the schema's text: its types tell what an error leaves of the data and whether values fit.
    pub fn typed_by(mut self, sdl: &str) -> Self {
        self.types = Arc::new(FieldTypes::of(sdl));
        self.inputs = InputTypes::of(sdl);
        self.documents.knowing(FieldNames::of(sdl));
        self.sdl = sdl.trim_end().to_owned() + "\n";
        self
    }

    /// The schema's text.
    pub fn sdl(&self) -> &str {
        &self.sdl
    }

    /// Sets where operations are counted, each by a root field of the schema's text; `None`: nowhere.
    pub fn metered_by(mut self, metrics: Option<&Metrics>) -> Self {
        let Some(metrics) = metrics else { return self };
        self.meters = Meters::new(&metrics.gateway, self.types.root_fields());
        self.documents.metered_by(metrics.caches.of("documents"));
        if let Some(persisted) = Arc::get_mut(&mut self.persisted) {
            persisted.metered_by(metrics.caches.of("persisted-queries"));
        }
        self
    }

    /// Checks the limits, parses, and finds the operation that is meant.
    pub fn parse(&self, parameters: Parameters) -> Result<ParsedRequest, RequestError> {
        self.try_parse(parameters).inspect_err(|error| self.meters.note_error(error.code))
    }

    fn try_parse(&self, mut parameters: Parameters) -> Result<ParsedRequest, RequestError> {
        let query = parameters.query.take();
        let text = match &self.trusted {
            Some(trusted) => trusted.text_of(query, &parameters.extensions)?,
            None => self.persisted.text_of(query, &parameters.extensions)?,
        };
        let (document, was_cached) = self.documents.get(&text.text)?;
        let facts = document.operation(parameters.operation_name.as_deref(), &parameters.variables)?;
        if !was_cached {
            self.inputs.check_literals(document.parsed())?;
        }
        self.inputs.check_variables(document.parsed(), parameters.operation_name.as_deref(), &parameters.variables)?;
        Ok(ParsedRequest { facts, text, parameters, document, was_cached, event_ids: None })
    }

    /// Who asks. Some operations take no notice of what was shown.
    pub async fn viewer(
        &self,
        parsed: &ParsedRequest,
        credential: &Credential,
        info: &RequestInfo,
    ) -> Result<Viewer, RequestError> {
        if parsed.facts.ignores_token {
            return Ok(Viewer::Anonymous);
        }
        match self.auth.viewer(credential, info.client_address).await {
            Ok((viewer, _)) => Ok(viewer),
            Err(error) => {
                let error = RequestError::from(error);
                self.meters.note_error(error.code);
                self.meters.of(&parsed.facts.root_fields).note_refusal(error.code);
                Err(error)
            }
        }
    }

    /// Runs a query or mutation to its end, or to the deadline.
    pub async fn execute(&self, parsed: ParsedRequest, viewer: Viewer, info: &RequestInfo) -> Response {
        debug_assert_ne!(parsed.facts.kind, OperationType::Subscription);
        let (document, was_cached) = (Arc::clone(&parsed.document), parsed.was_cached);
        let operation_name = parsed.parameters.operation_name.clone();
        let waits = LONGEST_WAIT * parsed.facts.verdict_waits.min(MAX_VERDICT_WAITS);
        let limit = self.settings.request_timeout + waits;
        let meter = self.settings.metrics.then(|| Arc::clone(self.meters.of(&parsed.facts.root_fields)));
        let (kind, name) = (parsed.facts.kind, parsed.facts.root_fields.name());
        let span = tracing::info_span!(target: traces::TARGET, "operation", otel.name = format_args!("{kind} {name}"));
        let (request, RequestText { text, keep_as }) = self.request(parsed, viewer, info);
        let began = Instant::now();
        let response = match timeout(limit, self.executor.execute(request).instrument(span)).await {
            Ok(mut response) => {
                self.types.put_nulls(&mut response, document.parsed(), operation_name.as_deref());
                if !is_request_error(&response) {
                    if !was_cached {
                        self.documents.keep(&text, document);
                    }
                    if let Some(hash) = keep_as {
                        self.persisted.keep(hash, &text);
                    }
                }
                limit_errors(&mut response);
                refine_value_errors(&mut response, &text);
                (self.finish)(&mut response, info);
                response
            }
            Err(_) => {
                tracing::warn!("no answer in time");
                RequestError::timeout().into_response(&info.ids)
            }
        };
        if let Some(meter) = meter {
            meter.seconds.observe(began.elapsed().as_secs_f64());
            meter.note(&response);
            self.meters.note_errors(&response);
        }
        response
    }

    /// Starts a subscription. Its responses still have to be given to [`Self::finish`].
    pub fn subscribe(&self, parsed: ParsedRequest, viewer: Viewer, info: &RequestInfo) -> BoxStream<'static, Response> {
        let (types, document) = (Arc::clone(&self.types), Arc::clone(&parsed.document));
        let operation_name = parsed.parameters.operation_name.clone();
        let (request, RequestText { text, mut keep_as }) = self.request(parsed, viewer, info);
        let persisted = Arc::clone(&self.persisted);
        let mut responses = self.executor.execute_stream(request);
        stream::poll_fn(move |task| {
            let polled = responses.poll_next_unpin(task);
            // Validation never waits: what waits, or answers more than a refusal, has passed it.
            let is_valid = match &polled {
                Poll::Ready(Some(response)) => !is_request_error(response),
                Poll::Ready(None) => false,
                Poll::Pending => true,
            };
            if let Some(hash) = keep_as.take_if(|_| is_valid) {
                persisted.keep(hash, &text);
            }
            polled.map(|polled| {
                polled.map(|mut response| {
                    limit_errors(&mut response);
                    types.put_nulls(&mut response, document.parsed(), operation_name.as_deref());
                    refine_value_errors(&mut response, &text);
                    response
                })
            })
        })
        .boxed()
    }

    pub fn finish(&self, response: &mut Response, info: &RequestInfo) {
        (self.finish)(response, info);
        self.meters.note_errors(response);
    }

    /// The request with its text, which execution does not need: it has the parsed document.
    fn request(&self, parsed: ParsedRequest, viewer: Viewer, info: &RequestInfo) -> (Request, RequestText) {
        let Parameters { query: _, operation_name, variables, extensions } = parsed.parameters;
        let mut request = Request::new(String::new()).variables(variables).data(viewer).data(info.clone());
        request.operation_name = operation_name;
        request.extensions.0 = extensions;
        if let Some(event_ids) = parsed.event_ids {
            request = request.data(event_ids);
        }
        request.set_parsed_query(parsed.document.tree());
        if !self.settings.introspection {
            request = request.disable_introspection();
        }
        ((self.prepare)(request, viewer), parsed.text)
    }
}

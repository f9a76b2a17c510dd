//! GraphQL over HTTP: `POST` and `GET /graphql` after the specification's draft, written out here and in `http/`.
//!
//! Method, `Accept`, `Content-Type` and `Content-Encoding` are judged before the body is read; what is refused is never
//! executed. The parameters' types are judged before the text is parsed, and the text before anybody asks who calls.
//!
//! Statuses: an answer that holds data is 200. A request error of a well-formed request (syntax, validation, limits) is
//! 400 as `application/graphql-response+json` and 200 as `application/json`, as the specification wants it. What is no
//! GraphQL request is 4xx either way: 400 malformed, 401 a bad token, 403 a foreign page, 405, 406, 408 a body that does
//! not come, 413, 415, 429 too many wrong API keys. 503 and 504 tell that the shop cannot answer now.

mod event_stream;
mod negotiation;
mod parameters;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder};
use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::time::timeout;

use super::auth::Credential;
use super::client_address::client_address;
use super::context::{EventIds, RequestInfo, Viewer};
use super::drain::Drain;
use super::entity_tags::tagged;
use super::request_errors::{RequestError, ResponseBody, is_request_error};
use super::request_ids::RequestIds;
use super::service::{GraphqlService, ParsedRequest};
use super::settings::HttpSettings;
use super::signed_in::SignedIn;
use super::top_level_errors::Code;
use super::ws;
use event_stream::EventStream;
use negotiation::{EventStream as EventStreamWanted, MediaType};

/// What the routes of the public listener share.
#[derive(Clone)]
pub struct Transport {
    pub service: Arc<GraphqlService>,
    pub drain: Arc<Drain>,
}

/// A body must arrive within this time.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// The headers on which an answer of the API depends.
const VARY: &str = "Accept, Origin, Authorization";

/// An answer before execution: its status, and the error it carries.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: RequestError,
    header: Option<(&'static str, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, error: RequestError) -> Self {
        Self { status, error, header: None }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RequestError::bad_input(message))
    }

    fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, RequestError::bad_input(message))
    }

    fn method_not_allowed(allowed: &'static str, message: &'static str) -> Self {
        let header = Some(("allow", allowed));
        Self { header, ..Self::with_status(StatusCode::METHOD_NOT_ALLOWED, message) }
    }

    /// Of an error found after the request proved to be well formed.
    fn of(error: RequestError, media_type: MediaType) -> Self {
        let status = match error.code {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable | Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => media_type.request_error_status(),
        };
        let header =
            (status == StatusCode::UNAUTHORIZED).then_some(("www-authenticate", "Bearer error=\"invalid_token\""));
        Self { status, error, header }
    }
}

/// Every method of `/graphql`.
pub async fn graphql(request: HttpRequest, body: web::Payload, transport: web::Data<Transport>) -> HttpResponse {
    if ws::is_upgrade(&request) {
        return ws::upgrade(request, body, &transport);
    }
    let settings = &transport.service.settings;
    let info = request_info(&request, settings);
    let event_stream = EventStreamWanted::wanted(request.headers());
    // A client of streams knows the newer form: what is refused before a stream begins has a status that says so.
    let otherwise = (event_stream != EventStreamWanted::Refused).then_some(MediaType::GraphqlResponse);
    let negotiated = negotiation::accepted(request.headers()).or(otherwise);
    let media_type = negotiated.unwrap_or(MediaType::Json);
    let answer = answer(&request, body, &transport, &info, negotiated, event_stream).await;
    let mut response = match answer {
        Ok(Answer::Shared(response)) if response.errors.is_empty() => {
            tagged(&request, media_type.content_type(), VARY, body_of(&response))
        }
        Ok(Answer::Whole(response) | Answer::Shared(response)) => graphql_response(&response, media_type),
        Ok(Answer::Stream(response)) => response,
        Err(refusal) => refuse(refusal, media_type, &info.ids),
    };
    allow_origin(request.headers(), response.headers_mut(), settings);
    response
}

/// What a request that was not refused is answered with.
enum Answer {
    Whole(Response),
    /// Of a query by GET that nobody showed a token for, about nothing that is anybody's.
    Shared(Response),
    Stream(HttpResponse),
}

async fn answer(
    request: &HttpRequest,
    body: web::Payload,
    transport: &Transport,
    info: &RequestInfo,
    negotiated: Option<MediaType>,
    event_stream: EventStreamWanted,
) -> Result<Answer, Refusal> {
    const ALLOWED: &str = "GET, POST, OPTIONS";
    let service = &transport.service;
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Refusal::method_not_allowed(ALLOWED, "use POST, or GET for a query"));
    }
    let media_type = negotiated.ok_or_else(|| {
        Refusal::with_status(
            StatusCode::NOT_ACCEPTABLE,
            "this server answers application/graphql-response+json, application/json and text/event-stream, in UTF-8",
        )
    })?;
    let by_get = request.method() == Method::GET;
    let parameters = if by_get {
        parameters::from_query_string(request.query_string())?
    } else {
        negotiation::check_content(request.headers())?;
        let bytes = read_body(request.headers(), body, service.settings.max_body_bytes).await?;
        parameters::from_json(&bytes, &service.settings.document_limits, media_type)?
    };
    let credential = credential(request.headers());

    let parsed = service.parse(parameters).map_err(|error| Refusal::of(error, media_type))?;
    let streams = match parsed.facts.kind {
        OperationType::Subscription => event_stream != EventStreamWanted::Refused,
        _ => event_stream == EventStreamWanted::Preferred,
    };
    match parsed.facts.kind {
        OperationType::Mutation if by_get => {
            return Err(Refusal::method_not_allowed("POST", "a mutation needs POST"));
        }
        OperationType::Subscription if !streams => {
            let message = "a subscription needs a WebSocket on this path, with the subprotocol graphql-transport-ws, or \
                           Accept: text/event-stream";
            return Err(Refusal::of(RequestError::bad_input(message), media_type));
        }
        _ => {}
    }
    let refused = |error: RequestError| Refusal::of(error, media_type);
    if streams {
        let stream =
            open_event_stream(transport, &parsed, &credential, request.headers(), info).await.map_err(refused)?;
        return Ok(Answer::Stream(stream.response(parsed)));
    }
    let viewer = service.viewer(&parsed, &credential, info).await.map_err(refused)?;
    let is_shared = by_get && parsed.facts.is_shared && !request.headers().contains_key(header::AUTHORIZATION);
    let response = service.execute(parsed, viewer, info).await;
    Ok(if is_shared { Answer::Shared(response) } else { Answer::Whole(response) })
}

async fn open_event_stream(
    transport: &Transport,
    parsed: &ParsedRequest,
    credential: &Credential,
    headers: &HeaderMap,
    info: &RequestInfo,
) -> Result<EventStream, RequestError> {
    let service = &transport.service;
    let active = transport.drain.enter().ok_or_else(RequestError::shutting_down)?;
    let (viewer, signed_in) = if parsed.facts.ignores_token {
        (Viewer::Anonymous, None)
    } else {
        let (viewer, proof) = service.auth.viewer(credential, info.client_address).await?;
        let interval = service.settings.session_check_interval;
        let signed_in = match proof {
            Some(proof) => Some(SignedIn::watch(&service.auth, proof, interval).await?),
            None => None,
        };
        (viewer, signed_in)
    };
    Ok(EventStream {
        service: Arc::clone(service),
        info: info.clone(),
        viewer,
        signed_in,
        event_ids: EventIds::after(event_stream::last_event_id(headers)),
        draining: transport.drain.watch(),
        _active: active,
    })
}

async fn read_body(headers: &HeaderMap, mut body: web::Payload, max_bytes: usize) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max_bytes} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large());
    }
    let reading = async {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_| Refusal::bad_request("the body broke off"))?;
            if first.len() + rest.len() + chunk.len() > max_bytes {
                return Err(too_large());
            }
            // Nearly every body comes in one piece: it is used as it came.
            match (first.is_empty(), rest.is_empty()) {
                (true, true) => first = chunk,
                (false, true) => {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                    rest.extend_from_slice(&chunk);
                }
                _ => rest.extend_from_slice(&chunk),
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    };
    timeout(BODY_TIMEOUT, reading).await.map_err(|_| {
        let error = RequestError::new(Code::Timeout, "the body did not arrive in time");
        Refusal::new(StatusCode::REQUEST_TIMEOUT, error)
    })?
}

fn graphql_response(response: &Response, media_type: MediaType) -> HttpResponse {
    let status = match response.errors.first() {
        Some(error) if is_request_error(response) => status_of_request_error(error, media_type),
        _ => StatusCode::OK,
    };
    let mut builder = HttpResponse::build(status);
    for (name, value) in &response.http_headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_str().as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            builder.append_header((name, value));
        }
    }
    json_body(&mut builder, media_type, response)
}

/// A timeout is known only when the response is there already.
fn status_of_request_error(error: &async_graphql::ServerError, media_type: MediaType) -> StatusCode {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    match code {
        Some(async_graphql::Value::String(code)) if code == Code::Timeout.as_str() => StatusCode::GATEWAY_TIMEOUT,
        _ => media_type.request_error_status(),
    }
}

fn refuse(refusal: Refusal, media_type: MediaType, ids: &RequestIds) -> HttpResponse {
    let mut builder = HttpResponse::build(refusal.status);
    if let Some(header) = refusal.header {
        builder.insert_header(header);
    }
    if let Some(retry_after) = refusal.error.retry_after {
        builder.insert_header((header::RETRY_AFTER, retry_after.as_secs().max(1)));
    }
    if matches!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // The rest of the body is not read.
        builder.force_close();
    }
    json_body(&mut builder, media_type, &refusal.error.into_response(ids))
}

/// An error of the listener itself, in the API's form.
pub(super) fn error_response(status: StatusCode, error: RequestError, ids: &RequestIds) -> HttpResponse {
    refuse(Refusal::new(status, error), MediaType::Json, ids)
}

fn json_body(builder: &mut HttpResponseBuilder, media_type: MediaType, response: &Response) -> HttpResponse {
    builder
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type.content_type())))
        .insert_header((header::VARY, HeaderValue::from_static(VARY)))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .body(body_of(response))
}

fn body_of(response: &Response) -> Vec<u8> {
    serde_json::to_vec(&ResponseBody(response)).expect("a GraphQL response has only text keys")
}

/// `OPTIONS /graphql`: the question a browser asks before a page of another origin may call.
pub async fn preflight(request: HttpRequest, transport: web::Data<Transport>) -> HttpResponse {
    const PREFLIGHT: [(HeaderName, HeaderValue); 4] = [
        (header::ALLOW, HeaderValue::from_static("GET, POST, OPTIONS")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "authorization, content-type, accept, if-none-match, last-event-id, x-request-id, traceparent, tracestate",
            ),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    let mut response = HttpResponse::NoContent().finish();
    allow_origin(request.headers(), response.headers_mut(), &transport.service.settings);
    let allowed = response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    for (name, value) in PREFLIGHT.into_iter().take(if allowed { 4 } else { 1 }) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Lets a page of a listed origin read the answer. Other pages get the same answer without leave to read it: the API
/// takes no cookies, so a foreign page can do no more than anybody.
fn allow_origin(request: &HeaderMap, response: &mut HeaderMap, settings: &HttpSettings) {
    let Some(origin) = request.get(header::ORIGIN) else { return };
    if origin.to_str().is_ok_and(|origin| (settings.allows_origin)(origin)) {
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response
            .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag, x-request-id, retry-after"));
    }
}

/// What the client shows. Two headers are none that could be believed.
pub(super) fn credential(headers: &HeaderMap) -> Credential {
    let mut values = headers.get_all(header::AUTHORIZATION);
    match (values.next(), values.next()) {
        (None, _) => Credential::None,
        (Some(value), None) => value.to_str().map_or(Credential::Malformed, Credential::parse),
        _ => Credential::Malformed,
    }
}

/// As `server` has put them into the request's extensions.
pub(super) fn ids_of(request: &HttpRequest) -> RequestIds {
    request.extensions().get().cloned().unwrap_or_else(|| RequestIds::of(request.headers()))
}

/// Where the request came from.
pub(super) fn request_info(request: &HttpRequest, settings: &HttpSettings) -> RequestInfo {
    let ids = ids_of(request);
    let headers = request.headers();
    let forwarded: Vec<&str> =
        headers.get_all("x-forwarded-for").map(|line| line.to_str().unwrap_or("unknown")).collect();
    let user_agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    RequestInfo {
        ids,
        client_address: client_address(request.peer_addr(), forwarded.into_iter(), &settings.trusts_proxy),
        user_agent: user_agent.map(str::to_owned),
    }
}

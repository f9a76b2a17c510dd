//! The public listener: its routes, the headers of every answer, metrics, and its orderly end.
//!
//! Every request gets an id, every answer carries it. [`PublicServer::drain`] turns new work away and waits for what
//! was accepted; [`PublicServer::stop`] then closes the port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Condition, Next, from_fn};
use actix_web::{App, Error, HttpMessage, HttpRequest, HttpResponse, HttpServer, guard, web};
use actix_web_prom::{PrometheusMetrics, PrometheusMetricsBuilder};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument;

use super::drain::Drain;
use super::graphiql;
use super::http::{Transport, error_response, graphql, ids_of, preflight};
use super::key_set::key_set;
use super::mail_pages::{MailActions, mail_page};
use super::request_errors::RequestError;
use super::request_ids::{RequestIds, X_REQUEST_ID};
use super::schema_file::schema_file;
use super::service::GraphqlService;
use super::top_level_errors::Code;

const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Within this time the head of a request must have come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a client still sends is read after the end of a connection, so that it is not reset before the last answer
/// was read. A socket whose closing handshake is done ends so much later, too, and its client may wait for that. actix-http
/// counts from a time that is up to 500 ms old and misses a deadline that is past: it must be well above.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_CONNECTIONS_PER_WORKER: usize = 25_000;
const BACKLOG: u32 = 4_096;

/// The methods of RFC 9110 and PATCH. Every other name is refused and not counted.
const KNOWN_METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// Of an answer that is no page: nothing in it may run or be shown in a frame.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the listener: {0}")]
    Start(#[source] io::Error),
    #[error("cannot register the metrics of HTTP: {0}")]
    Metrics(String),
}

/// The public listener while it runs.
pub struct PublicServer {
    address: SocketAddr,
    handle: ServerHandle,
    drain: Arc<Drain>,
    /// Looks at the sessions of open sockets.
    watching: JoinHandle<()>,
}

impl PublicServer {
    /// Binds the address (port 0: any free port) and serves until it is stopped. Must be called inside an actix system.
    pub fn start(
        listen: SocketAddr,
        service: Arc<GraphqlService>,
        mail_actions: Arc<dyn MailActions>,
        metrics: &Registry,
    ) -> Result<Self, ServerError> {
        let (listener, address) = bind(listen)?;
        let drain = Drain::new();
        let transport = web::Data::new(Transport { service: Arc::clone(&service), drain: Arc::clone(&drain) });
        let http_metrics = http_metrics(metrics)?;
        let (graphiql, introspection) = (service.settings.graphiql, service.settings.introspection);
        let is_counted = service.settings.metrics;
        let server = HttpServer::new(move || {
            App::new()
                .app_data(transport.clone())
                .app_data(web::Data::from(Arc::clone(&mail_actions)))
                .configure(|config| routes(config, graphiql, introspection))
                .wrap(from_fn(identify))
                .wrap(Condition::new(is_counted, http_metrics.clone()))
                .wrap(from_fn(only_known_methods))
        })
        .workers(service.settings.workers)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .max_connections(MAX_CONNECTIONS_PER_WORKER)
        .backlog(BACKLOG)
        .tcp_nodelay(true)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)
        .map_err(ServerError::Start)?
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let watching = actix_web::rt::spawn(async move {
            service.auth.keep_watch(service.settings.session_check_interval).await;
        });
        Ok(Self { address, handle, drain, watching })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Turns away what is new (503), closes sockets (1001) and waits for what was accepted. False: some of it was not
    /// done within `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.drain.begin();
        timeout(limit, self.drain.idle()).await.is_ok()
    }

    /// Closes the port. Connections that still write an answer get a second for it.
    pub async fn stop(&self) {
        self.drain.begin();
        self.handle.stop(true).await;
        self.watching.abort();
    }
}

pub(super) fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listen = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let real = listener.local_addr().map_err(listen)?;
    Ok((listener, real))
}

fn http_metrics(registry: &Registry) -> Result<PrometheusMetrics, ServerError> {
    PrometheusMetricsBuilder::new("souk")
        .registry(registry.clone())
        .mask_unmatched_patterns("unknown")
        .build()
        .map_err(|error| ServerError::Metrics(error.to_string()))
}

fn routes(config: &mut web::ServiceConfig, serves_graphiql: bool, serves_schema: bool) {
    config.service(
        web::resource("/graphql")
            .route(web::route().guard(guard::Options()).to(preflight))
            .default_service(web::to(graphql)),
    );
    config.service(web::resource("/mail/{action}").to(mail_page));
    if serves_schema {
        config.service(page("/schema.graphql").route(web::get().to(schema_file)));
    }
    config.service(page("/.well-known/jwks.json").route(web::get().to(key_set)));
    if serves_graphiql {
        config
            .service(page("/graphiql").route(web::get().to(graphiql::page)))
            .service(page("/graphiql/{file}").route(web::get().to(graphiql::asset)))
            .service(page("/").route(web::get().to(to_graphiql)));
    }
    config.default_service(web::to(not_found));
}

fn page(path: &str) -> actix_web::Resource {
    web::resource(path)
        .route(web::route().guard(guard::fn_guard(|context| context.head().method != Method::GET)).to(only_get))
}

async fn only_get() -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET")).finish()
}

async fn to_graphiql() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, "/graphiql")).finish()
}

/// In front of the metrics, which keep a series for each method: a name that a client has made up leaves none behind.
async fn only_known_methods<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if KNOWN_METHODS.contains(request.method()) {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let ids = RequestIds::of(request.headers());
    let error = RequestError::new(Code::BadUserInput, "this server does not know the method");
    let mut response = request.into_response(error_response(StatusCode::NOT_IMPLEMENTED, error, &ids));
    put_headers_of_every_answer(response.headers_mut(), &ids);
    Ok(response.map_into_right_body())
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    let error = RequestError::new(Code::BadUserInput, "there is nothing here: the API is at /graphql");
    error_response(StatusCode::NOT_FOUND, error, &ids_of(&request))
}

/// Around every request: its id, whether it is taken at all, and the headers that every answer has.
async fn identify(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let ids = RequestIds::of(request.headers());
    request.extensions_mut().insert(ids.clone());
    let drain = request.app_data::<web::Data<Transport>>().map(|transport| Arc::clone(&transport.drain));
    let active = drain.as_ref().and_then(Drain::enter);
    let mut response = if active.is_some() {
        next.call(request).instrument(ids.span()).await?.map_into_boxed_body()
    } else {
        let refusal = error_response(StatusCode::SERVICE_UNAVAILABLE, RequestError::shutting_down(), &ids);
        request.into_response(refusal)
    };
    if drain.is_some_and(|drain| drain.is_draining()) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    put_headers_of_every_answer(response.headers_mut(), &ids);
    Ok(response)
}

fn put_headers_of_every_answer(headers: &mut HeaderMap, ids: &RequestIds) {
    if let Ok(id) = HeaderValue::from_str(&ids.request) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DATA_POLICY));
    }
}

//! The operators' listener: health, metrics and, where they are enabled, failure switches. It is not for the internet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::{BoxFuture, join_all};
use prometheus::Registry;
use serde::Serialize;
use tokio::time::timeout;

use super::server::{ServerError, bind};
use crate::telemetry::metrics::{ProcessMetrics, render};

/// A dependency that does not answer within this time is away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a report waits for a dependency without which the process goes on: of one that hangs it tells what was found last,
/// well within the second that an orchestrator's probe waits.
const OPTIONAL_PATIENCE: Duration = Duration::from_millis(250);

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Starting,
    Ready,
    Draining,
    /// Supervision gave up: the process is about to end.
    Escalated,
}

/// Asks a dependency whether it is there.
pub type ProbeFn = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

#[derive(Clone)]
pub struct Probe {
    pub name: String,
    /// Without it the process serves nobody; the others only make it degraded.
    pub required: bool,
    pub check: ProbeFn,
}

/// Shared by `app`, which sets the phase, and the listener, which tells it.
#[derive(Clone)]
pub struct Health(Arc<HealthInner>);

struct HealthInner {
    phase: Mutex<Phase>,
    probes: Mutex<Vec<Probe>>,
    /// Dependencies that have no probe yet, and whether they are required.
    expected: Mutex<BTreeMap<String, bool>>,
    metrics: Option<ProcessMetrics>,
    /// When the probes were last sent out.
    asked_at: Mutex<Option<Instant>>,
    /// Dependencies that were down when last asked.
    down: Mutex<BTreeSet<String>>,
    /// What was found last, by when it was asked.
    found: Mutex<BTreeMap<String, (Instant, Finding)>>,
}

/// What a probe found.
#[derive(Clone)]
struct Finding {
    name: String,
    required: bool,
    is_up: bool,
    latency: Duration,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DependencyReport {
    state: &'static str,
    latency_ms: u64,
    required: bool,
}

impl DependencyReport {
    fn of(Finding { required, is_up, latency, .. }: Finding) -> Self {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        Self { state: if is_up { "up" } else { "down" }, latency_ms, required }
    }

    fn unknown(required: bool) -> Self {
        Self { state: "unknown", latency_ms: 0, required }
    }
}

#[derive(Debug, Serialize)]
struct ReadyReport {
    status: &'static str,
    phase: Phase,
    dependencies: BTreeMap<String, DependencyReport>,
}

impl Default for Health {
    fn default() -> Self {
        Self::noted_in(None)
    }
}

impl Health {
    /// What the probes find is also shown by these metrics.
    pub fn metered_by(metrics: &ProcessMetrics) -> Self {
        Self::noted_in(Some(metrics.clone()))
    }

    fn noted_in(metrics: Option<ProcessMetrics>) -> Self {
        Self(Arc::new(HealthInner {
            phase: Mutex::new(Phase::Starting),
            probes: Mutex::default(),
            expected: Mutex::default(),
            metrics,
            asked_at: Mutex::default(),
            down: Mutex::default(),
            found: Mutex::default(),
        }))
    }

    pub fn phase(&self) -> Phase {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An escalation is final: the draining that follows it does not hide it.
    pub fn set_phase(&self, phase: Phase) {
        let mut current = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Phase::Escalated {
            *current = phase;
        }
    }

    /// The dependency is named from here on; its probe follows once there is something to ask.
    pub fn expect(&self, name: String, required: bool) {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(name, required);
    }

    pub fn add_probe(&self, probe: Probe) {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).remove(&probe.name);
        self.0.probes.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
    }

    /// Asks every dependency. One that is not required and does not answer soon is told as it was found before, if it ever was;
    /// what it answers then is noted for the next time. Must be called inside a runtime.
    async fn ask(&self) -> BTreeMap<String, DependencyReport> {
        *self.0.asked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let probes = self.0.probes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = probes.into_iter().map(|Probe { name, required, check }| {
            let (health, of) = (self.clone(), name.clone());
            let asked = tokio::spawn(async move { health.ask_one(of, required, check).await });
            async move {
                let patience = if required { 2 * PROBE_TIMEOUT } else { OPTIONAL_PATIENCE };
                let finding = match timeout(patience, asked).await {
                    Ok(Ok(finding)) => Some(finding),
                    // It panicked.
                    Ok(Err(_)) => Some(Finding { name: name.clone(), required, is_up: false, latency: Duration::ZERO }),
                    Err(_) => self.found().get(&name).map(|(_, finding)| finding.clone()),
                };
                (name, finding.map_or_else(|| DependencyReport::unknown(required), DependencyReport::of))
            }
        });
        join_all(asked).await.into_iter().collect()
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<String, (Instant, Finding)>> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_one(&self, name: String, required: bool, check: ProbeFn) -> Finding {
        let asked_at = Instant::now();
        let is_up = timeout(PROBE_TIMEOUT, check()).await.unwrap_or(false);
        let finding = Finding { name, required, is_up, latency: asked_at.elapsed() };
        let mut found = self.found();
        // One that was asked later may have answered sooner.
        if found.get(&finding.name).is_none_or(|(known_of, _)| *known_of <= asked_at) {
            found.insert(finding.name.clone(), (asked_at, finding.clone()));
            self.log_change(&finding);
            if let Some(metrics) = &self.0.metrics {
                let label = &[finding.name.as_str()];
                metrics.dependency_up.with_label_values(label).set(i64::from(finding.is_up));
                metrics.dependency_seconds.with_label_values(label).set(finding.latency.as_secs_f64());
            }
        }
        finding
    }

    /// Says once when a dependency goes away and once when it is back.
    fn log_change(&self, Finding { name, is_up, required, .. }: &Finding) {
        let mut down = self.0.down.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_up && down.remove(name) {
            tracing::info!(dependency = name, "a dependency is back");
        } else if !is_up && down.insert(name.clone()) {
            tracing::warn!(dependency = name, required, "a dependency is down");
        }
    }

    /// Asks the dependencies for the sake of the metrics, unless that was done less than `age` ago.
    pub async fn ask_again_after(&self, age: Duration) {
        let asked_at = *self.0.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_at.is_none_or(|asked_at| asked_at.elapsed() >= age) {
            self.ask().await;
        }
    }

    async fn report(&self) -> (StatusCode, ReadyReport) {
        let expected = self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unknown = |(name, required)| (name, DependencyReport::unknown(required));
        let mut dependencies: BTreeMap<_, _> = expected.into_iter().map(unknown).collect();
        dependencies.extend(self.ask().await);
        let is_down = |required| {
            move |dependency: &DependencyReport| dependency.state == "down" && dependency.required == required
        };
        let phase = self.phase();
        let (code, status) = match phase {
            Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Phase::Escalated => (StatusCode::SERVICE_UNAVAILABLE, "escalated"),
            Phase::Ready if dependencies.values().any(is_down(true)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Phase::Ready if dependencies.values().any(is_down(false)) => (StatusCode::OK, "degraded"),
            Phase::Ready => (StatusCode::OK, "ready"),
        };
        (code, ReadyReport { status, phase, dependencies })
    }
}

/// What a failure switch does to an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    Panic,
    /// Blocks its thread for 20 s.
    Freeze,
    /// Stops it and fails its next three starts.
    FailStart,
}

/// Queues one fault for an actor of this name. False: there is no such actor.
pub type FaultSwitch = Arc<dyn Fn(&str, FaultKind) -> bool + Send + Sync>;

/// Brings what is counted elsewhere into the registry before it is shown.
pub type BeforeScrape = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

struct Admin {
    health: Health,
    /// `None` when nothing is counted.
    metrics: Option<Registry>,
    before_scrape: BeforeScrape,
    /// `None` when faults are not enabled.
    faults: Option<FaultSwitch>,
}

/// The admin listener while it runs.
pub struct AdminServer {
    address: SocketAddr,
    handle: ServerHandle,
}

impl AdminServer {
    /// Binds the address (port 0: any free port) and serves until it is stopped. Must be called inside an actix system.
    pub fn start(
        listen: SocketAddr,
        health: Health,
        metrics: Option<Registry>,
        before_scrape: BeforeScrape,
        faults: Option<FaultSwitch>,
    ) -> Result<Self, ServerError> {
        let (listener, address) = bind(listen)?;
        let admin = web::Data::new(Admin { health, metrics, before_scrape, faults });
        let server = HttpServer::new(move || App::new().app_data(admin.clone()).configure(routes))
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1)
            .listen(listener)
            .map_err(ServerError::Start)?
            .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { address, handle })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port at once: it has nothing to finish.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/health/live").to(live))
        .service(web::resource("/health/ready").to(ready))
        .service(web::resource("/metrics").to(metrics))
        .service(web::resource("/faults/{actor}/{fault}").to(fault));
}

/// `Some`: the answer to a method that is not meant.
fn other_than(method: Method, request: &HttpRequest) -> Option<HttpResponse> {
    (request.method() != method)
        .then(|| HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, method.as_str())).finish())
}

async fn live(request: HttpRequest) -> HttpResponse {
    other_than(Method::GET, &request).unwrap_or_else(|| json(StatusCode::OK, &serde_json::json!({ "status": "live" })))
}

async fn ready(request: HttpRequest, admin: web::Data<Admin>) -> HttpResponse {
    if let Some(refusal) = other_than(Method::GET, &request) {
        return refusal;
    }
    let (status, report) = admin.health.report().await;
    json(status, &report)
}

fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

async fn metrics(request: HttpRequest, admin: web::Data<Admin>) -> HttpResponse {
    let Some(registry) = &admin.metrics else { return HttpResponse::NotFound().finish() };
    if let Some(refusal) = other_than(Method::GET, &request) {
        return refusal;
    }
    (admin.before_scrape)().await;
    match render(registry) {
        Ok(text) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
            .body(text),
        Err(error) => {
            tracing::error!(%error, "could not write the metrics");
            HttpResponse::InternalServerError().finish()
        }
    }
}

async fn fault(request: HttpRequest, path: web::Path<(String, String)>, admin: web::Data<Admin>) -> HttpResponse {
    let Some(switch) = &admin.faults else { return HttpResponse::NotFound().finish() };
    if let Some(refusal) = other_than(Method::POST, &request) {
        return refusal;
    }
    let (actor, fault) = path.into_inner();
    let kind = match fault.as_str() {
        "panic" => FaultKind::Panic,
        "freeze" => FaultKind::Freeze,
        "fail-start" => FaultKind::FailStart,
        _ => return HttpResponse::NotFound().finish(),
    };
    if !switch(&actor, kind) {
        return HttpResponse::NotFound().finish();
    }
    tracing::warn!(%actor, ?kind, "queued a fault");
    HttpResponse::Accepted().finish()
}

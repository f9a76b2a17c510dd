//! What HTTP counts: requests and their time, by endpoint, method and status.
//!
//! Pages are counted by actix-web-prom, which makes the name of each request's route anew and finds its two series by it.
//! Nearly all requests go to `/graphql`: they are counted here, into the same families, with the series of the usual
//! answer kept at hand. Their time ends when the answer is handed over, so a stream or socket counts with what it took to
//! begin.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web_prom::{PrometheusMetrics, PrometheusMetricsBuilder};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

const NAMESPACE: &str = "souk";
const LABELS: [&str; 3] = ["endpoint", "method", "status"];

/// Counts the requests to one endpoint.
pub(super) struct EndpointMetrics {
    endpoint: &'static str,
    families: Families,
    /// Of a POST that is answered with 200.
    usual: OnceLock<Series>,
}

struct Series {
    seconds: Histogram,
    requests: IntCounter,
}

/// The two families of the registry: what is counted here, and what actix-web-prom counted of the pages.
#[derive(Clone)]
struct Families {
    seconds: HistogramVec,
    requests: IntCounterVec,
    pages: Registry,
}

/// Of the endpoint, and for the middleware of all others.
pub(super) fn register(
    registry: &Registry,
    endpoint: &'static str,
) -> Result<(Arc<EndpointMetrics>, PrometheusMetrics), Box<dyn std::error::Error + Send + Sync>> {
    let pages = Registry::new();
    let of_pages =
        PrometheusMetricsBuilder::new(NAMESPACE).registry(pages.clone()).mask_unmatched_patterns("unknown").build()?;
    // Named as actix-web-prom names them.
    let seconds =
        HistogramOpts::new("http_requests_duration_seconds", "HTTP request duration in seconds for all requests");
    let requests = Opts::new("http_requests_total", "Total number of HTTP requests").namespace(NAMESPACE);
    let families = Families {
        seconds: HistogramVec::new(seconds.namespace(NAMESPACE), &LABELS)?,
        requests: IntCounterVec::new(requests, &LABELS)?,
        pages,
    };
    registry.register(Box::new(families.clone()))?;
    Ok((Arc::new(EndpointMetrics { endpoint, families, usual: OnceLock::new() }), of_pages))
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        [self.seconds.desc(), self.requests.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        [self.pages.gather(), self.seconds.collect(), self.requests.collect()].concat()
    }
}

impl EndpointMetrics {
    fn series(&self, method: &Method, status: StatusCode) -> Series {
        let labels = [self.endpoint, method.as_str(), status.as_str()];
        Series {
            seconds: self.families.seconds.with_label_values(&labels),
            requests: self.families.requests.with_label_values(&labels),
        }
    }

    fn note(&self, method: &Method, status: StatusCode, took: Duration) {
        if method == Method::POST && status == StatusCode::OK {
            self.usual.get_or_init(|| self.series(method, status)).note(took);
        } else {
            self.series(method, status).note(took);
        }
    }
}

impl Series {
    fn note(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.requests.inc();
    }
}

/// Middleware of the endpoint.
pub(super) async fn count<B: MessageBody + 'static>(
    metrics: Arc<EndpointMetrics>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let (began, method) = (Instant::now(), request.method().clone());
    let response = next.call(request).await?;
    metrics.note(&method, response.status(), began.elapsed());
    Ok(response)
}

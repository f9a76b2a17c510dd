//! Traces: what one request, event or mail leads to, in spans that a collector gets over OTLP.
//!
//! A span of a trace is a `tracing` span of the target [`TARGET`], or that of a request. Requests know their trace whether or
//! not anything is sent: events carry it on in their header `traceparent`. All other spans, and all of OpenTelemetry, exist
//! only where a collector is configured, so that they cost nothing elsewhere.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId as OtelTraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, StringValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracer, SdkTracerProvider};
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use super::build::VERSION_AND_BUILD;
use super::request_spans;
use super::trace_context::{TraceId, TraceParent};

/// Of the spans that exist for traces only.
pub const TARGET: &str = "souk::trace";

/// How long the collector may take for a batch, and for the last one at the end of the process.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where spans go.
#[derive(Debug, Clone, Default)]
pub struct TraceSettings {
    /// The collector's address, such as `http://127.0.0.1:4318`; `None`: nothing is sent.
    pub endpoint: Option<String>,
    /// Of a hundred traces so many are sent, whichever process they pass through.
    pub sample_percent: u32,
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct TraceGuard(pub(super) Option<SdkTracerProvider>);

impl Drop for TraceGuard {
    fn drop(&mut self) {
        let Some(provider) = &self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

thread_local! {
    /// What the next trace is called, where that is settled.
    static SETTLED: Cell<Option<OtelTraceId>> = const { Cell::new(None) };
}

/// Random ids, but for a trace whose id is settled.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> OtelTraceId {
        SETTLED.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

pub(super) fn provider(settings: &TraceSettings) -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
    let Some(endpoint) = &settings.endpoint else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let resource = Resource::builder_empty()
        .with_service_name("souk")
        .with_attribute(KeyValue::new("service.version", VERSION_AND_BUILD))
        .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()))
        .build();
    // By the trace's id alone: every process decides alike, and no client decides for the shop.
    let sampler = Sampler::TraceIdRatioBased(f64::from(settings.sample_percent) / 100.0);
    let builder = SdkTracerProvider::builder().with_id_generator(Ids::default()).with_sampler(sampler);
    Ok(Some(builder.with_resource(resource).with_batch_exporter(exporter).build()))
}

/// Makes spans of the target and of requests spans of traces.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer: OpenTelemetryLayer<S, SdkTracer> = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("souk"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false);
    let is_of_a_trace =
        filter_fn(|metadata| request_spans::is_one(metadata) || (metadata.is_span() && metadata.target() == TARGET));
    layer.with_filter(is_of_a_trace.with_max_level_hint(LevelFilter::INFO))
}

/// What the log shows: everything but the spans that exist for traces.
pub(super) fn concerns_logs(metadata: &Metadata<'_>) -> bool {
    metadata.target() != TARGET
}

/// Makes the new span of a request one of `trace`: below the caller's span where there is one, else the trace's first.
pub(super) fn follow(span: &Span, request: &Arc<str>, trace: TraceId, caller: Option<TraceParent>) {
    match caller {
        Some(caller) => continue_from(span, caller),
        None => {
            SETTLED.set(Some(OtelTraceId::from_bytes(trace.to_bytes())));
            // Gives the span its ids.
            drop(span.context());
            SETTLED.set(None);
        }
    }
    span.set_attribute("request_id", StringValue::from(Arc::clone(request)));
}

/// Makes a new span one below `cause`, of this or another process.
pub fn continue_from(span: &Span, cause: TraceParent) {
    let flags = if cause.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let cause = SpanContext::new(
        OtelTraceId::from_bytes(cause.trace.to_bytes()),
        SpanId::from_bytes(cause.span.to_be_bytes()),
        flags,
        true,
        TraceState::default(),
    );
    // It fails only for a span that no layer looks at.
    let _ = span.set_parent(Context::new().with_remote_span_context(cause));
}

/// The span as the cause of what follows from it; `None` where no trace is known.
pub fn cause_in(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let of_collector = context.span();
    let known = of_collector.span_context();
    if !known.is_valid() {
        return request_spans::cause_in(span);
    }
    Some(TraceParent {
        trace: TraceId::from_bytes(known.trace_id().to_bytes()),
        span: u64::from_be_bytes(known.span_id().to_bytes()),
        sampled: known.is_sampled(),
    })
}

/// As [`cause_in`], of the span that is entered.
pub fn current_cause() -> Option<TraceParent> {
    cause_in(&Span::current())
}

/// As [`cause_in`]; of a span that exists for traces only and so not without a collector: what it would be below.
pub fn cause_of(span: &Span) -> Option<TraceParent> {
    if span.is_disabled() { current_cause() } else { cause_in(span) }
}

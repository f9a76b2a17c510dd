//! Traces: what one request, event or mail leads to, in spans that a collector gets over OTLP.
//!
//! A span of a trace is a `tracing` span of the target [`TARGET`], or that of a request. Requests know their trace whether or
//! not anything is sent: events carry it on in their header `traceparent`. All other spans exist only where a collector is
//! configured, so that they cost nothing elsewhere.

use std::cell::Cell;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId as OtelTraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracer, SdkTracerProvider};
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::build::VERSION_AND_BUILD;
use super::trace_context::{TraceId, TraceParent};

/// Of the spans that exist for traces only.
pub const TARGET: &str = "souk::trace";
/// The name of a request's span, which the log knows too.
pub const REQUEST: &str = "request";

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
pub struct TraceGuard(SdkTracerProvider);

impl TraceGuard {
    pub(super) fn new(provider: SdkTracerProvider) -> Self {
        Self(provider)
    }
}

impl Drop for TraceGuard {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
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

pub(super) fn provider(settings: &TraceSettings) -> Result<SdkTracerProvider, ExporterBuildError> {
    let builder = SdkTracerProvider::builder().with_id_generator(Ids::default());
    let Some(endpoint) = &settings.endpoint else {
        return Ok(builder.with_sampler(Sampler::AlwaysOff).build());
    };
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
    Ok(builder.with_sampler(sampler).with_resource(resource).with_batch_exporter(exporter).build())
}

/// Makes spans of the target, or of requests only, spans of traces.
pub(super) fn layer<S>(provider: &SdkTracerProvider, all: bool) -> impl Layer<S>
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
    layer.with_filter(tracing_subscriber::filter::filter_fn(move |metadata| {
        metadata.is_span() && (metadata.name() == REQUEST || (all && metadata.target() == TARGET))
    }))
}

/// What the log shows: everything but the spans that exist for traces.
pub(super) fn concerns_logs(metadata: &Metadata<'_>) -> bool {
    metadata.target() != TARGET
}

/// Makes a new span one of `trace`: below the caller's span where there is one, else the trace's first.
pub fn follow(span: &Span, trace: TraceId, caller: Option<TraceParent>) {
    match caller {
        Some(caller) => continue_from(span, caller),
        None => {
            SETTLED.set(Some(OtelTraceId::from_bytes(trace.to_bytes())));
            // Gives the span its ids.
            drop(span.context());
            SETTLED.set(None);
        }
    }
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
    let span = context.span();
    let known = span.span_context();
    known.is_valid().then(|| TraceParent {
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

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    /// Runs with a layer as a process without a collector has it.
    fn within(work: impl FnOnce()) {
        let provider = provider(&TraceSettings::default()).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(&provider, false));
        tracing::subscriber::with_default(subscriber, work);
    }

    #[test]
    fn what_a_request_causes_belongs_to_its_trace_also_without_a_collector() {
        within(|| {
            let trace = TraceId::random();
            let span = tracing::error_span!("request");
            follow(&span, trace, None);
            let first = span.in_scope(current_cause).unwrap();
            assert_eq!((first.trace, first.sampled), (trace, false));
            let below = tracing::error_span!("request");
            continue_from(&below, first);
            let second = below.in_scope(current_cause).unwrap();
            assert_eq!(second.trace, trace);
            assert_ne!(second.span, first.span);
        });
    }

    #[test]
    fn spans_for_traces_alone_do_not_exist_without_a_collector_and_outside_of_a_request_there_is_no_cause() {
        within(|| {
            assert!(tracing::info_span!(target: TARGET, "store").is_disabled());
            assert_eq!(current_cause(), None);
        });
    }
}

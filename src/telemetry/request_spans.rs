//! The span of a request: what the request is called in every line that the log has about it, and the cause of the events
//! that follow from it.
//!
//! Most requests leave no line behind. So a span keeps its names as they are, beside it in the registry, and they become
//! text with the first line that is written inside it.

use std::sync::Arc;

use tracing::{Event, Metadata, Span, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::Identity;
use tracing_subscriber::registry::{LookupSpan, Registry, SpanRef};
use tracing_subscriber::{Layer, fmt};

use super::trace_context::{TraceId, TraceParent};
use super::traces;

struct Names {
    request: Arc<str>,
    /// The span itself as a cause, where no collector gives it an id.
    cause: TraceParent,
    are_text: bool,
}

/// What is done inside it is about this request. `caller`: the client's span that asks. It exists at any level of the log:
/// errors are told at the highest.
pub fn open(request: &Arc<str>, trace: TraceId, caller: Option<TraceParent>) -> Span {
    let span = tracing::error_span!("request");
    traces::follow(&span, request, trace, caller);
    let cause = TraceParent { trace, span: rand::random::<u64>().max(1), sampled: false };
    let names = Names { request: Arc::clone(request), cause, are_text: false };
    look_at(&span, |span| span.extensions_mut().insert(names));
    span
}

/// The request that the span belongs to, as a cause.
pub(super) fn cause_in(span: &Span) -> Option<TraceParent> {
    look_at(span, |span| span.scope().find_map(|span| span.extensions().get::<Names>().map(|names| names.cause)))?
}

fn look_at<T>(span: &Span, look: impl FnOnce(SpanRef<'_, Registry>) -> T) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| dispatch.downcast_ref::<Registry>()?.span(id).map(look))?
}

pub(super) fn is_one(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == "request"
}

/// Lets the spans of requests exist also where no log and no collector wants them: events carry their traces on.
pub(super) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Identity::new().with_filter(filter_fn(is_one).with_max_level_hint(LevelFilter::ERROR))
}

/// Lines of a format, in which the spans of requests have their names.
pub(super) struct Named<E> {
    pub(super) format: E,
    pub(super) is_json: bool,
}

impl<S, N, E> FormatEvent<S, N> for Named<E>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        for span in context.event_scope().into_iter().flatten() {
            self.write_names::<S, N>(&span);
        }
        self.format.format_event(context, writer, event)
    }
}

impl<E> Named<E> {
    fn write_names<S: for<'a> LookupSpan<'a>, N: 'static>(&self, span: &SpanRef<'_, S>) {
        let mut extensions = span.extensions_mut();
        let Some(names) = extensions.get_mut::<Names>().filter(|names| !names.are_text) else { return };
        names.are_text = true;
        // No id has anything in it that would have to be escaped.
        let (request, trace) = (Arc::clone(&names.request), names.cause.trace);
        if let Some(text) = extensions.get_mut::<FormattedFields<N>>() {
            text.fields = if self.is_json {
                format!(r#"{{"request_id":"{request}","trace_id":"{trace}"}}"#)
            } else {
                format!(r#"request_id="{request}" trace_id={trace}"#)
            };
        }
    }
}

/// What the log is written with: lines of text, or of JSON.
pub(super) fn lines<S, N, E, W>(layer: fmt::Layer<S, N, E, W>, is_json: bool) -> fmt::Layer<S, N, Named<E>, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N> + 'static,
    W: for<'a> fmt::MakeWriter<'a> + 'static,
{
    layer.map_event_format(|format| Named { format, is_json })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use tracing_subscriber::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn names() -> (Arc<str>, TraceId) {
        ("a-request".into(), TraceId::random())
    }

    #[test]
    fn every_line_of_json_names_its_request() {
        let (written, (request, trace)) = (Written::default(), names());
        let writer = written.clone();
        let json = fmt::Layer::new().json().flatten_event(true).with_current_span(false);
        let subscriber =
            tracing_subscriber::registry().with(lines(json, true).with_writer(move || writer.clone())).with(layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = open(&request, trace, None);
            span.in_scope(|| tracing::info!("first"));
            span.in_scope(|| tracing::info_span!("inner", depth = 1).in_scope(|| tracing::info!("second")));
            tracing::info!("outside");
        });
        let lines: Vec<serde_json::Value> =
            written.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let named = serde_json::json!({ "name": "request", "request_id": "a-request", "trace_id": trace.to_string() });
        let inner = serde_json::json!({ "name": "inner", "depth": 1 });
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["spans"], serde_json::json!([named]));
        assert_eq!(lines[1]["spans"], serde_json::json!([named, inner]));
        assert_eq!(lines[2]["spans"], serde_json::Value::Null);
    }

    #[test]
    fn every_line_of_text_names_its_request() {
        let (written, (request, trace)) = (Written::default(), names());
        let writer = written.clone();
        let text = lines(fmt::Layer::new().with_ansi(false), false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(text), || {
            open(&request, trace, None).in_scope(|| tracing::info!("done"));
        });
        let named = format!(r#"request{{request_id="a-request" trace_id={trace}}}"#);
        assert!(written.lines()[0].contains(&named), "{:?}", written.lines());
    }

    #[test]
    fn a_request_is_the_cause_of_what_follows_from_it_also_without_a_log_and_a_collector() {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer()), || {
            let (request, trace) = names();
            let span = open(&request, trace, None);
            let cause = span.in_scope(traces::current_cause).unwrap();
            assert_eq!((cause.trace, cause.sampled), (trace, false));
            let caller = TraceParent { sampled: true, ..cause };
            let below = open(&request, trace, Some(caller)).in_scope(traces::current_cause).unwrap();
            assert_eq!((below.trace, below.sampled), (trace, false));
            assert_ne!(below.span, caller.span);
            assert_eq!(traces::current_cause(), None);
        });
    }
}

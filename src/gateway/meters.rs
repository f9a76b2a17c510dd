//! What the gateway counts of each operation.
//!
//! An operation is called by its root field, if the schema knows it; operations of several different ones are all called
//! `several`, those of introspection `introspection`, all others `unknown`. So clients cannot make up names. The handles
//! of a name are taken when it is first used and kept.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_graphql::parser::types::{FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Response, Value};
use prometheus::{Histogram, IntCounter};

use super::top_level_errors::Code;
use crate::telemetry::metrics::{GatewayMetrics, Metrics};

const SEVERAL: &str = "several";
const INTROSPECTION: &str = "introspection";
const UNKNOWN: &str = "unknown";

/// The root fields of one operation, as far as they give it its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootFields {
    One(Name),
    Several,
}

impl RootFields {
    /// Called after the sizes are known: there is no cycle and no more than the allowed fields.
    pub(super) fn of(selections: &SelectionSet, fragments: &HashMap<Name, Positioned<FragmentDefinition>>) -> Self {
        let mut found = None;
        collect(selections, fragments, &mut found);
        // Nothing but `__typename`, or nothing at all.
        found.unwrap_or_else(|| Self::One(Name::new("__typename")))
    }

    pub fn name(&self) -> &str {
        match self {
            Self::One(name) => name,
            Self::Several => SEVERAL,
        }
    }
}

fn collect(
    selections: &SelectionSet,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    found: &mut Option<RootFields>,
) {
    for selection in &selections.items {
        match &selection.node {
            Selection::Field(field) => {
                let name = &field.node.name.node;
                match found {
                    _ if name == "__typename" => {}
                    None => *found = Some(RootFields::One(name.clone())),
                    Some(RootFields::One(known)) if known == name => {}
                    Some(_) => *found = Some(RootFields::Several),
                }
            }
            Selection::InlineFragment(inline) => collect(&inline.node.selection_set.node, fragments, found),
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = fragments.get(&spread.node.fragment_name.node) {
                    collect(&fragment.node.selection_set.node, fragments, found);
                }
            }
        }
    }
}

/// The counters of one operation.
pub struct OperationMeter {
    pub seconds: Histogram,
    failed_by_client: IntCounter,
    failed_by_server: IntCounter,
}

impl OperationMeter {
    fn new(metrics: &GatewayMetrics, operation: &str) -> Self {
        let failed = |fault| metrics.operations_failed.with_label_values(&[operation, fault]);
        Self {
            seconds: metrics.operation_seconds.with_label_values(&[operation]),
            failed_by_client: failed("client"),
            failed_by_server: failed("server"),
        }
    }

    /// Counts one answer, if it has errors.
    pub fn note(&self, response: &Response) {
        if response.errors.is_empty() {
            return;
        }
        let is_fault = |code: &str| Code::named(code).is_none_or(Code::is_servers_fault);
        if response.errors.iter().filter_map(code_of).any(is_fault) {
            self.failed_by_server.inc();
        } else {
            self.failed_by_client.inc();
        }
    }

    /// Counts one that was refused before it was executed.
    pub fn note_refusal(&self, code: Code) {
        if code.is_servers_fault() { &self.failed_by_server } else { &self.failed_by_client }.inc();
    }
}

fn code_of(error: &async_graphql::ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

/// The meters of all operations of a schema.
pub struct Meters {
    pub metrics: GatewayMetrics,
    by_name: HashMap<Name, OnceLock<Arc<OperationMeter>>>,
    several: Arc<OperationMeter>,
    introspection: Arc<OperationMeter>,
    unknown: Arc<OperationMeter>,
    /// By the place in [`Code::ALL`].
    errors: [IntCounter; Code::ALL.len()],
}

impl Meters {
    pub fn new(metrics: &GatewayMetrics, root_fields: impl Iterator<Item = Name>) -> Self {
        let meter = |name| Arc::new(OperationMeter::new(metrics, name));
        Self {
            by_name: root_fields.map(|name| (name, OnceLock::new())).collect(),
            several: meter(SEVERAL),
            introspection: meter(INTROSPECTION),
            unknown: meter(UNKNOWN),
            errors: Code::ALL.map(|code| metrics.errors.with_label_values(&[code.as_str()])),
            metrics: metrics.clone(),
        }
    }

    pub fn of(&self, fields: &RootFields) -> &Arc<OperationMeter> {
        let name = match fields {
            RootFields::Several => return &self.several,
            RootFields::One(name) => name,
        };
        match self.by_name.get(name) {
            Some(meter) => meter.get_or_init(|| Arc::new(OperationMeter::new(&self.metrics, name))),
            None if name.starts_with("__") => &self.introspection,
            None => &self.unknown,
        }
    }

    /// Counts the errors of an answer, each by its code.
    pub fn note_errors(&self, response: &Response) {
        for code in response.errors.iter().filter_map(code_of).filter_map(Code::named) {
            self.note_error(code);
        }
    }

    pub fn note_error(&self, code: Code) {
        self.errors[code as usize].inc();
    }
}

impl Default for Meters {
    /// Counts where nobody looks.
    fn default() -> Self {
        Self::new(&Metrics::new().gateway, std::iter::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;

    fn root_fields(text: &str) -> RootFields {
        let document = parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        RootFields::of(&operation.node.selection_set.node, &document.fragments)
    }

    #[test]
    fn an_operation_is_called_by_its_one_root_field_however_it_is_written() {
        let one = |name| RootFields::One(Name::new(name));
        for (text, expected) in [
            ("{ order { id } }", one("order")),
            ("query Made { up: order { id } also: order { id } __typename }", one("order")),
            ("mutation { ...F } fragment F on Mutation { ... on Mutation { a: signIn { a } } }", one("signIn")),
            ("{ order { id } me { id } order { id } }", RootFields::Several),
            ("{ __typename }", one("__typename")),
        ] {
            assert_eq!(root_fields(text), expected, "{text}");
        }
    }

    #[test]
    fn names_that_the_schema_does_not_know_share_one_meter() {
        let metrics = Metrics::new();
        let meters = Meters::new(&metrics.gateway, [Name::new("order")].into_iter());
        let of = |name: &str| Arc::clone(meters.of(&RootFields::One(Name::new(name))));
        for made_up in 0..1_000 {
            of(&format!("field{made_up}")).seconds.observe(0.1);
        }
        of("order").seconds.observe(0.1);
        assert!(Arc::ptr_eq(&of("order"), &of("order")));
        assert!(Arc::ptr_eq(&of("__schema"), &of("__type")));
        let text = metrics.render().unwrap();
        let counts: Vec<&str> =
            text.lines().filter(|line| line.starts_with("souk_graphql_operation_seconds_count")).collect();
        assert_eq!(counts.len(), 4, "{counts:?}");
        assert!(text.contains("souk_graphql_operation_seconds_count{operation=\"order\"} 1"), "{text}");
        assert!(text.contains("souk_graphql_operation_seconds_count{operation=\"unknown\"} 1000"), "{text}");
    }

    #[test]
    fn an_answer_is_the_servers_fault_if_one_of_its_errors_is() {
        let metrics = Metrics::new();
        let meters = Meters::new(&metrics.gateway, std::iter::empty());
        let meter = meters.of(&RootFields::Several);
        let answer = |codes: &[Code]| {
            let errors = codes.iter().map(|code| code.error("no").into_server_error(Default::default()));
            let response = Response::from_errors(errors.collect());
            meters.note_errors(&response);
            meter.note(&response);
        };
        answer(&[]);
        answer(&[Code::Forbidden, Code::BadUserInput]);
        answer(&[Code::Forbidden, Code::Timeout]);
        let text = metrics.render().unwrap();
        for line in [
            "souk_graphql_operations_failed_total{fault=\"client\",operation=\"several\"} 1",
            "souk_graphql_operations_failed_total{fault=\"server\",operation=\"several\"} 1",
            "souk_graphql_errors_total{code=\"FORBIDDEN\"} 2",
            "souk_graphql_errors_total{code=\"TIMEOUT\"} 1",
            "souk_graphql_errors_total{code=\"BUSY\"} 0",
        ] {
            assert!(text.contains(line), "no `{line}` in:\n{text}");
        }
    }
}

//! Parsed documents: what a text says, known before it is executed, and kept for the next request with the same text.
//!
//! Clients send the same few documents over and over. A copy of the tree costs a fraction of parsing the text.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::types::{ExecutableDocument, FragmentDefinition, OperationType, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Value, Variables};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::document_limits::{DocumentLimits, check, within};
use super::field_names::FieldNames;
use super::introspection_cost;
use super::meters::RootFields;
use super::request_errors::RequestError;
use super::top_level_errors::Code;
use crate::telemetry::CacheMeter;

/// Longer texts are parsed each time: there are few, and they would push out many short ones.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;
/// Of all cached texts together. Their trees take about ten times as much.
const CACHED_TEXT_BYTES: u64 = 1024 * 1024;

/// Operations made only of these take no notice of the request's token: whoever has a stale one must get by.
const TOKEN_FREE_FIELDS: [&str; 8] = [
    "signIn",
    "signUp",
    "tokenRefresh",
    "passwordReset",
    "passwordResetRequest",
    "emailVerify",
    "unsubscribe",
    "__typename",
];

/// Queries made only of these are answered alike to everybody who shows no token.
const SHARED_FIELDS: [&str; 6] = ["product", "products", "categories", "__typename", "__schema", "__type"];

/// The mutation whose answer may wait for stock's verdict.
const WAITING_FIELD: &str = "orderPlace";

/// What is known of one operation of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationFacts {
    pub kind: OperationType,
    pub root_fields: RootFields,
    /// Its token, good or bad, does not count.
    pub ignores_token: bool,
    /// A query about nothing that is anybody's: an anonymous answer may be kept and shown to others.
    pub is_shared: bool,
    /// How many of its root fields may wait for stock's verdict, one after the other.
    pub verdict_waits: u32,
}

#[derive(Debug)]
struct Operation {
    name: Option<Name>,
    facts: OperationFacts,
    /// Variables that are never null, and whether they have a default, for which they may be left out.
    non_null_variables: Vec<(Name, bool)>,
}

#[derive(Debug)]
pub struct Document {
    parsed: ExecutableDocument,
    operations: Vec<Operation>,
}

impl Document {
    /// Checks the text against the limits and parses it.
    pub fn parse(text: &str, limits: &DocumentLimits, names: &FieldNames) -> Result<Self, RequestError> {
        check(text, limits, names)?;
        let parsed = async_graphql::parser::parse_query(text).map_err(|error| RequestError {
            locations: error.positions().collect(),
            ..RequestError::new(Code::GraphqlParseFailed, without_drawing(&error.to_string()))
        })?;
        let mut sizes = Sizes { fragments: &parsed.fragments, known: HashMap::new() };
        let mut operations = Vec::new();
        for (name, operation) in parsed.operations.iter() {
            let selections = &operation.node.selection_set.node;
            let fields = sizes.of(selections);
            within(fields, limits.max_root_fields, "root fields")?;
            introspection_cost::check(selections, &parsed.fragments)?;
            let kind = operation.node.ty;
            if kind == OperationType::Subscription && fields != 1 {
                let message = format!("a subscription selects one root field, this one selects {fields}");
                return Err(RequestError {
                    locations: vec![operation.pos],
                    ..RequestError::new(Code::GraphqlValidationFailed, message)
                });
            }
            let is_mutation = kind == OperationType::Mutation;
            let ignores_token = is_mutation && has_only(&TOKEN_FREE_FIELDS, selections, &parsed.fragments, 0);
            let is_shared = kind == OperationType::Query && has_only(&SHARED_FIELDS, selections, &parsed.fragments, 0);
            let verdict_waits = if is_mutation { waiting_fields(selections, &parsed.fragments) } else { 0 };
            let root_fields = RootFields::of(selections, &parsed.fragments);
            let definitions = operation.node.variable_definitions.iter().map(|definition| &definition.node);
            let non_null_variables = definitions
                .filter(|definition| !definition.var_type.node.nullable)
                .map(|definition| (definition.name.node.clone(), definition.default_value.is_some()))
                .collect();
            operations.push(Operation {
                name: name.cloned(),
                facts: OperationFacts { kind, root_fields, ignores_token, is_shared, verdict_waits },
                non_null_variables,
            });
        }
        Ok(Self { parsed, operations })
    }

    pub fn parsed(&self) -> &ExecutableDocument {
        &self.parsed
    }

    /// The tree, for the executor, which takes its own.
    pub fn tree(&self) -> ExecutableDocument {
        self.parsed.clone()
    }

    /// The operation that a request means. Refused without its required variables: the executor would miss one only
    /// when it comes to the field that wants it, with other fields executed already.
    pub fn operation(&self, name: Option<&str>, variables: &Variables) -> Result<OperationFacts, RequestError> {
        let operation = match name {
            Some(wanted) => self
                .operations
                .iter()
                .find(|operation| operation.name.as_deref() == Some(wanted))
                .ok_or_else(|| RequestError::bad_input("operationName names no operation of the document"))?,
            None if self.operations.len() == 1 => &self.operations[0],
            None => {
                let message = "the document has several operations: operationName must name one";
                return Err(RequestError::bad_input(message));
            }
        };
        for (name, has_default) in &operation.non_null_variables {
            let is_missing = match variables.get(name) {
                None => !has_default,
                Some(value) => *value == Value::Null,
            };
            if is_missing {
                return Err(RequestError::bad_input(format!("the variable ${name} needs a value that is not null")));
            }
        }
        Ok(operation.facts.clone())
    }
}

/// What the parser says, without its drawing of the place: that repeats a line of the document, which may hold a password.
fn without_drawing(error: &str) -> String {
    let reason = error.lines().find_map(|line| line.trim_start().strip_prefix("= "));
    reason.map_or_else(|| error.to_owned(), |reason| format!("syntax error: {reason}"))
}

/// How many fields fragments have at their own level, each reckoned once. The text has been checked: no fragment spreads
/// itself.
struct Sizes<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    known: HashMap<&'a str, usize>,
}

impl<'a> Sizes<'a> {
    fn of(&mut self, selections: &'a SelectionSet) -> usize {
        let fields = selections.items.iter().map(|selection| match &selection.node {
            Selection::Field(_) => 1,
            Selection::InlineFragment(fragment) => self.of(&fragment.node.selection_set.node),
            Selection::FragmentSpread(spread) => self.of_fragment(&spread.node.fragment_name.node),
        });
        fields.fold(0, usize::saturating_add)
    }

    fn of_fragment(&mut self, name: &'a Name) -> usize {
        // One that is missing is reported by validation.
        let Some(fragment) = self.fragments.get(name) else { return 0 };
        if let Some(&size) = self.known.get(name.as_str()) {
            return size;
        }
        let size = self.of(&fragment.node.selection_set.node);
        self.known.insert(name.as_str(), size);
        size
    }
}

/// Called after the sizes are known: there is no cycle and no more than the allowed root fields.
fn has_only(
    names: &[&str],
    selections: &SelectionSet,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    level: usize,
) -> bool {
    level < 8
        && selections.items.iter().all(|selection| match &selection.node {
            Selection::Field(field) => names.contains(&field.node.name.node.as_str()),
            Selection::InlineFragment(inline) => has_only(names, &inline.node.selection_set.node, fragments, level + 1),
            Selection::FragmentSpread(spread) => fragments
                .get(&spread.node.fragment_name.node)
                .is_some_and(|fragment| has_only(names, &fragment.node.selection_set.node, fragments, level + 1)),
        })
}

/// How many root fields wait for a verdict. Called after the sizes are known, as [`has_only`] is.
fn waiting_fields(selections: &SelectionSet, fragments: &HashMap<Name, Positioned<FragmentDefinition>>) -> u32 {
    let of = |selection: &Positioned<Selection>| match &selection.node {
        Selection::Field(field) => u32::from(field.node.name.node == WAITING_FIELD),
        Selection::InlineFragment(inline) => waiting_fields(&inline.node.selection_set.node, fragments),
        Selection::FragmentSpread(spread) => fragments
            .get(&spread.node.fragment_name.node)
            .map_or(0, |fragment| waiting_fields(&fragment.node.selection_set.node, fragments)),
    };
    selections.items.iter().map(of).sum()
}

#[derive(Clone)]
struct TextBytes;

impl Weighter<Arc<str>, Arc<Document>> for TextBytes {
    fn weight(&self, text: &Arc<str>, _: &Arc<Document>) -> u64 {
        text.len() as u64 + 64
    }
}

/// Documents that were executed before, by their text.
pub struct DocumentCache {
    limits: DocumentLimits,
    names: FieldNames,
    documents: Cache<Arc<str>, Arc<Document>, TextBytes>,
    meter: Option<CacheMeter>,
}

impl DocumentCache {
    pub fn new(limits: DocumentLimits) -> Self {
        Self {
            limits,
            names: FieldNames::default(),
            documents: Cache::with_weighter(1_000, CACHED_TEXT_BYTES, TextBytes),
            meter: None,
        }
    }

    /// Sets which names fields have.
    pub fn knowing(&mut self, names: FieldNames) {
        self.names = names;
    }

    pub fn metered_by(&mut self, meter: CacheMeter) {
        self.meter = Some(meter);
    }

    /// The document and whether it came from the cache.
    pub fn get(&self, text: &str) -> Result<(Arc<Document>, bool), RequestError> {
        let kept = self.documents.get(text);
        if let Some(meter) = &self.meter {
            meter.note(usize::from(kept.is_some()), usize::from(kept.is_none()));
        }
        if let Some(document) = kept {
            return Ok((document, true));
        }
        Ok((Arc::new(Document::parse(text, &self.limits, &self.names)?), false))
    }

    /// Keeps a document for which the schema had an answer: what fails validation is not worth its place.
    pub fn keep(&self, text: &str, document: Arc<Document>) {
        if text.len() <= MAX_CACHED_TEXT_BYTES {
            self.documents.insert(text.into(), document);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document, RequestError> {
        Document::parse(text, &DocumentLimits::default(), &FieldNames::default())
    }

    #[test]
    fn a_syntax_error_tells_its_reason_and_place_and_repeats_nothing() {
        let text =
            "mutation {\n".to_owned() + &"#\n".repeat(100) + "signIn(input: { password: \"hunter2 hunter2\", ) }";
        let error = parse(&text).unwrap_err();
        assert_eq!((error.code, error.locations[0].line), (Code::GraphqlParseFailed, 102));
        assert!(error.message.starts_with("syntax error: expected "), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        assert_eq!(parse("fragment F on Query { a }").unwrap_err().message, "document does not contain an operation");
    }

    #[test]
    fn operations_made_only_of_token_free_fields_are_known() {
        let cases = [
            ("mutation { signIn { a } }", true),
            ("mutation { a: signIn { a } b: signUp { a } __typename }", true),
            (
                "mutation { passwordResetRequest { a } unsubscribe { a } ...F } fragment F on Mutation { emailVerify { a } }",
                true,
            ),
            ("mutation { ... on Mutation { tokenRefresh { a } passwordReset { b } } }", true),
            ("mutation { signIn { a } signOut { a } }", false),
            ("mutation { signIn: orderPlace { a } }", false),
            ("mutation { ...F } fragment F on Mutation { signIn { a } orderPlace { a } }", false),
            ("mutation { passwordChange { a } }", false),
            ("mutation { ...Missing }", false),
            ("query { signIn { a } }", false),
            ("{ __typename }", false),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse(text).unwrap().operation(None, &Variables::default()).unwrap().ignores_token,
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn queries_that_are_answered_alike_to_everybody_are_known() {
        let cases = [
            ("{ product { a } products { me } categories { b } __typename }", true),
            ("query Q { ...F ... on Query { __schema { a } } } fragment F on Query { __type { a } }", true),
            ("{ me { a } }", false),
            ("{ products { a } order { a } }", false),
            ("{ products: me { a } }", false),
            ("{ node { a } }", false),
            ("{ products { a } ...F } fragment F on Query { me { a } }", false),
            ("mutation { products { a } }", false),
            ("subscription { products { a } }", false),
        ];
        for (text, expected) in cases {
            let facts = parse(text).unwrap().operation(None, &Variables::default()).unwrap();
            assert_eq!(facts.is_shared, expected, "{text}");
        }
    }

    #[test]
    fn a_subscription_selects_one_root_field() {
        for text in [
            "subscription { a }",
            "subscription { b: a { c d } }",
            "subscription { ...F } fragment F on Subscription { a }",
            "subscription { ... on Subscription { a } }",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "subscription { a b }",
            "subscription { x: a y: a }",
            "subscription { a ...F } fragment F on Subscription { b }",
            "query Q { a } subscription S { a ... on Subscription { b } }",
        ] {
            assert_eq!(parse(text).unwrap_err().code, Code::GraphqlValidationFailed, "{text}");
        }
    }

    #[test]
    fn the_root_fields_that_wait_for_a_verdict_are_counted() {
        let cases = [
            ("mutation { orderCancel { a } }", 0),
            ("mutation { a: orderPlace { a } orderPlace { a } orderCancel { orderPlace } }", 2),
            ("mutation { ...F ...F } fragment F on Mutation { ... on Mutation { orderPlace { a } } }", 2),
            ("{ orderPlace { a } }", 0),
        ];
        for (text, expected) in cases {
            let facts = parse(text).unwrap().operation(None, &Variables::default()).unwrap();
            assert_eq!(facts.verdict_waits, expected, "{text}");
        }
    }

    #[test]
    fn the_operation_is_picked_by_name() {
        let document = parse("query A { a } mutation B { b }").unwrap();
        assert_eq!(document.operation(Some("A"), &Variables::default()).unwrap().kind, OperationType::Query);
        assert_eq!(document.operation(Some("B"), &Variables::default()).unwrap().kind, OperationType::Mutation);
        assert!(document.operation(Some("C"), &Variables::default()).is_err());
        assert!(document.operation(None, &Variables::default()).is_err());
        assert!(parse("{ a }").unwrap().operation(Some("A"), &Variables::default()).is_err());
        assert!(parse("query($a: Int!) { a }").unwrap().operation(None, &Variables::default()).is_err());
        assert!(parse("query($a: Int! = 1, $b: Int) { a }").unwrap().operation(None, &Variables::default()).is_ok());
        assert_eq!(
            parse("query A { a }").unwrap().operation(None, &Variables::default()).unwrap().kind,
            OperationType::Query
        );
    }

    #[test]
    fn fragments_count_where_they_are_spread() {
        let mut doubling = String::from("{ ...F0 }");
        for link in 0..200 {
            doubling += &format!(" fragment F{link} on Query {{ ...F{0} ...F{0} }}", link + 1);
        }
        doubling += " fragment F200 on Query { a }";
        assert_eq!(parse(&doubling).unwrap_err().code, Code::QueryTooComplex);

        let sixty = "a ".repeat(30);
        let spread_twice = format!("{{ ...F ...F }} fragment F on Query {{ {sixty} }}");
        assert!(parse(&spread_twice).unwrap_err().message.contains("root fields"));
        assert_eq!(
            parse("{ ...F } fragment F on Query { ...G } fragment G on Query { ...F }").unwrap_err().code,
            Code::GraphqlValidationFailed
        );
        assert_eq!(parse("{ a").unwrap_err().code, Code::GraphqlParseFailed);
    }
}

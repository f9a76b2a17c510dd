//! The walk of `assets/walk/`: it leaves no operation out, and what is made of it works: the Postman collection, the walk
//! for a terminal. The API guide has its examples tried here, too.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod collection;
mod guide;
mod postman;
mod terminal;

use std::collections::BTreeSet;

use async_graphql::parser::types::{Selection, TypeKind, TypeSystemDefinition};
use async_graphql::parser::{parse_query, parse_schema};
use souk::app::walk::{Step, chapters};
use souk::gateway::schema::sdl;

/// The fields of a root type of the schema.
fn root_fields(root: &str) -> BTreeSet<String> {
    let document = parse_schema(sdl()).unwrap();
    let types = document.definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) if definition.node.name.node == root => Some(definition.node.kind),
        _ => None,
    });
    let fields = types.flat_map(|kind| match kind {
        TypeKind::Object(object) => object.fields,
        _ => Vec::new(),
    });
    fields.map(|field| field.node.name.node.to_string()).collect()
}

/// The fields of the root type that a step asks for.
fn asked(step: &Step) -> BTreeSet<String> {
    let document = parse_query(&step.query).unwrap_or_else(|error| panic!("{}: {error}", step.name));
    let selections = document.operations.iter().flat_map(|(_, operation)| &operation.node.selection_set.node.items);
    let fields = selections.filter_map(|selection| match &selection.node {
        Selection::Field(field) => Some(field.node.name.node.to_string()),
        _ => None,
    });
    fields.collect()
}

#[test]
fn every_query_and_mutation_is_walked_to_success_or_to_its_refusal() {
    let steps: Vec<_> = chapters().into_iter().flat_map(|chapter| chapter.steps).collect();
    let admitted: BTreeSet<_> = steps.iter().filter(|step| step.error.is_none()).flat_map(asked).collect();
    let all: BTreeSet<_> = root_fields("Query").union(&root_fields("Mutation")).cloned().collect();
    assert!(all.contains("products") && all.contains("orderPlace"), "the roots are read: {all:?}");
    assert_eq!(all.difference(&admitted).collect::<Vec<_>>(), Vec::<&String>::new(), "no step walks these");
}

/// What only a mailed token or a letter that has failed could bring to success.
const REFUSED_ONLY: [&str; 5] =
    ["deadLetterDiscard", "deadLetterReplay", "emailVerify", "passwordReset", "unsubscribe"];

#[test]
fn every_operation_that_needs_no_mailed_token_and_no_dead_letter_succeeds_once() {
    let steps: Vec<_> = chapters().into_iter().flat_map(|chapter| chapter.steps).collect();
    let good = steps.iter().filter(|step| step.error.is_none() && step.refused.is_none());
    let succeed: BTreeSet<_> = good.flat_map(asked).collect();
    let all: BTreeSet<_> = root_fields("Query").union(&root_fields("Mutation")).cloned().collect();
    assert!(all.difference(&succeed).eq(REFUSED_ONLY), "refused only: {:?}", all.difference(&succeed));
}

#[test]
fn every_step_says_what_its_answer_has() {
    for step in chapters().into_iter().flat_map(|chapter| chapter.steps) {
        let says = !step.expect.is_empty() || !step.save.is_empty() || step.refused.is_some() || step.error.is_some();
        assert!(says, "{} checks nothing", step.name);
    }
}

//! Who may do what, as a table: every field of the schema × who asks × whose object it is about.
//!
//! The rows are made from the schema's text: every field, through every field of `Query` that leads to its type, and
//! every mutation and subscription with the fields of what it answers. What each cell must be follows from the
//! `@access` rules alone (`expectation`); what it is comes from a running shop. `docs/access.md` is the table.

mod arguments;
mod expectation;
mod outcome;
mod rows;
mod subscriptions;
mod table;
mod world;

use std::path::Path;

use futures_util::StreamExt;
use serde_json::{Value, json};

use outcome::Outcome;
use rows::{Row, Schema};
use world::{Caller, Target, World};

/// How many rows are asked at the same time.
const AT_ONCE: usize = 8;

/// What one cell must be and is.
pub struct Cell {
    pub caller: Caller,
    pub target: Target,
    pub expected: Outcome,
    pub observed: Outcome,
}

pub struct Judged {
    pub row: Row,
    pub cells: Vec<Cell>,
}

#[actix_rt::test]
async fn nobody_gets_in_where_the_rules_of_the_schema_do_not_let_them() {
    let schema = Schema::parse(include_str!("../../schema.graphql"));
    let world = World::new().await;
    let mut judged = subscriptions::judge(&schema, &world).await;
    let queries = schema.rows_of("Query");
    judged.extend(
        futures_util::stream::iter(queries)
            .map(|row| judge(&schema, &world, row))
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await,
    );
    // One after the other: a mutation changes what the next one finds. Those who may not come first, so that what they
    // leave unchanged can be seen.
    let before = world.strangers_things().await;
    let mut mutations: Vec<_> =
        schema.rows_of("Mutation").into_iter().map(|row| Judged { row, cells: Vec::new() }).collect();
    for caller in Caller::ALL {
        if caller == Caller::Staff {
            assert_eq!(world.strangers_things().await, before, "customers changed what is not theirs");
        }
        for mutation in &mut mutations {
            mutation.cells.extend(judge_caller(&schema, &world, &mutation.row, caller).await);
        }
    }
    judged.extend(mutations);

    let wrong: Vec<_> = judged.iter().flat_map(table::wrong_cells).collect();
    assert!(wrong.is_empty(), "{} cells are not as the rules say\n{}", wrong.len(), wrong.join("\n"));
    let missing = schema.fields_without_a_row(&judged);
    assert!(missing.is_empty(), "no row leads to {missing:?}");

    let text = table::document(&judged);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md");
    if std::fs::read_to_string(&kept).ok().as_deref() != Some(text.as_str()) {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("access.md");
        std::fs::write(&made, text).unwrap();
        panic!("docs/access.md is not the table that was seen: compare it with {}", made.display());
    }
}

async fn judge(schema: &Schema, world: &World, row: Row) -> Judged {
    let mut cells = Vec::new();
    for caller in Caller::ALL {
        cells.extend(judge_caller(schema, world, &row, caller).await);
    }
    Judged { row, cells }
}

async fn judge_caller(schema: &Schema, world: &World, row: &Row, caller: Caller) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut answers = Vec::new();
    for &target in caller.targets(row.about(schema)) {
        let (query, session) = (row.document(), world.session(caller, row).await);
        let variables = arguments::of(world, row, caller, target, session.as_ref());
        let token = session.as_ref().map(|account| account.token.as_str());
        let answer = world.app.answer(token, &query, variables.clone()).await;
        let observed = outcome::of(row, &answer);
        cells.push(Cell { caller, target, expected: expectation::of(schema, row, caller, target), observed });
        answers.push((target, without_ids(&answer, &variables)));
    }
    let answer_about = |wanted: Target| answers.iter().find(|(target, _)| *target == wanted).map(|(_, answer)| answer);
    let is_owned = row.about(schema) == rows::About::Owned;
    if let (true, false, Some(foreign), Some(missing)) =
        (is_owned, caller.is_staff(), answer_about(Target::Foreign), answer_about(Target::Missing))
    {
        assert_eq!(foreign, missing, "{caller:?} can tell foreign from missing: {}", row.document());
    }
    cells
}

/// The answer as a text in which what the caller gave, and what differs between any two requests, is blotted out.
fn without_ids(answer: &Value, variables: &Value) -> String {
    let mut answer = answer.clone();
    for error in answer["errors"].as_array_mut().into_iter().flatten() {
        error["extensions"]["requestId"] = json!(null);
        error["extensions"]["traceId"] = json!(null);
    }
    let mut text = answer.to_string();
    if let Some(id) = variables["id"].as_str() {
        text = text.replace(id, "ID");
    }
    text
}

#[test]
fn a_cell_that_lets_somebody_in_against_the_rules_is_found() {
    let schema = Schema::parse(include_str!("../../schema.graphql"));
    let row = schema.rows_of("Query").into_iter().find(|row| row.entry() == "orders").unwrap();
    let leak = Cell {
        caller: Caller::Owner,
        target: Target::Any,
        expected: expectation::of(&schema, &row, Caller::Owner, Target::Any),
        observed: Outcome::Answered,
    };
    assert_eq!(leak.expected, Outcome::Refused("FORBIDDEN".into()));
    assert_eq!(table::wrong_cells(&Judged { row, cells: vec![leak] }).len(), 1);
}

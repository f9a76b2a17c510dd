//! The table as text.

use std::fmt::Write;

use super::outcome::Outcome;
use super::rows::Row;
use super::world::{Caller, Target};
use super::{Cell, Judged};

const HEAD: &str = "# Who may do what

Every field of the API, who asks for it, and whose object it is about. This table is made by the test
`nobody_gets_in_where_the_rules_of_the_schema_do_not_let_them` (tests/schema/access.rs) from a running shop, and the test fails when
a cell is not what the `@access` rules of [schema.graphql](../schema.graphql) say, or when this file is not what it saw.

A row is a way to a field: the root field by which one comes in, and the type on which the fields are. Fields that are answered
alike share a row. Where the root field takes the id of something that belongs to a user, a cell has three parts: the caller's own
object / somebody else's / one that does not exist. Where it takes the id of something of the shop it has two: one that exists / one
that does not. The other user is a customer who owns nothing that is asked for.

- `yes`: answered. `null`: answered with null and without an error, as if there were no such object.
- A code: refused with it, at the top level or, NOT_FOUND, in `userErrors`. Foreign and missing objects are answered alike, to the letter, to everybody who is not staff.
";

pub fn wrong_cells(judged: &Judged) -> Vec<String> {
    let wrong = judged.cells.iter().filter(|cell| cell.expected != cell.observed);
    let line = |cell: &Cell| {
        let Cell { caller, target, expected, observed } = cell;
        format!("{caller:?} {target:?}: {observed:?}, expected {expected:?}: {}", judged.row.document())
    };
    wrong.map(line).collect()
}

pub fn document(judged: &[Judged]) -> String {
    let cells: usize = judged.iter().map(|judged| judged.cells.len()).sum();
    let leaks = judged.iter().map(|judged| wrong_cells(judged).len()).sum::<usize>();
    let mut text = format!("{HEAD}\n{} ways, {cells} cells, {leaks} leaks.\n", judged.len());
    for (operation, title) in [("query", "Queries"), ("mutation", "Mutations"), ("subscription", "Subscriptions")] {
        write!(text, "\n## {title}\n\n| by | fields | rule | anonymous | other user | owner | staff | admin |\n")
            .and_then(|()| text.write_str("| -- | ------ | ---- | --------- | ---------- | ----- | ----- | ----- |\n"))
            .expect("a String takes what is written");
        let mut rows: Vec<&Judged> = judged.iter().filter(|judged| judged.row.operation == operation).collect();
        rows.sort_by_key(|judged| (judged.row.entry().to_owned(), judged.row.steps.len() > 1, kind_of(&judged.row)));
        for group in rows.chunk_by(|one, next| heading(one) == heading(next)) {
            let fields: Vec<_> = group.iter().map(|judged| judged.row.last().field.as_str()).collect();
            let (entry, type_name, rule, answers) = heading(group[0]);
            writeln!(text, "| {entry} | {type_name}: {} | {rule} | {answers} |", fields.join(", "))
                .expect("a String takes what is written");
        }
    }
    text
}

fn kind_of(row: &Row) -> (String, String) {
    (row.last().type_name.clone(), row.last().rule.clone())
}

/// What rows have in common that share a line.
fn heading(judged: &Judged) -> (String, String, String, String) {
    let row = &judged.row;
    let narrowed = row.steps[0].narrowed.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    let (type_name, rule) = kind_of(row);
    let answers: Vec<_> = Caller::ALL.map(|caller| answers_to(&judged.cells, caller)).into();
    (format!("{}{narrowed}", row.entry()), type_name, rule, answers.join(" | "))
}

fn answers_to(cells: &[Cell], caller: Caller) -> String {
    let of_caller: Vec<&Cell> = cells.iter().filter(|cell| cell.caller == caller).collect();
    let words: Vec<_> = of_caller.iter().map(|cell| word(&cell.observed)).collect();
    let is_alike = words.windows(2).all(|pair| pair[0] == pair[1]);
    let mut text = if is_alike { words[..1].join("") } else { words.join(" / ") };
    // Own objects are asked about by those who have some.
    if !is_alike && of_caller.len() == 2 && cells.iter().any(|cell| cell.target == Target::Own) {
        text = format!("- / {text}");
    }
    text
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered => "yes".into(),
        Outcome::Null => "null".into(),
        Outcome::Refused(code) => code.clone(),
        Outcome::Nothing => "nothing".into(),
    }
}

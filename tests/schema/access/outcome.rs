//! What an answer says about a row: whether its field was answered.

use serde_json::Value;

use super::rows::{Row, Step};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The field stands in the answer.
    Answered,
    /// A field on the way to it is null, without an error.
    Null,
    /// With a code: at the top level, or a mutation's NOT_FOUND or FORBIDDEN.
    Refused(String),
    /// A list on the way is empty, which says nothing: the world lacks something.
    Nothing,
}

pub fn of(row: &Row, answer: &Value) -> Outcome {
    if let Some(code) = answer["errors"][0]["extensions"]["code"].as_str() {
        return Outcome::Refused(code.into());
    }
    let payload = &answer["data"][row.entry()];
    if row.operation == "mutation" {
        let refusals = payload["refused"].as_array().into_iter().flatten().filter_map(|error| error["code"].as_str());
        // Any other refusal is about the input of somebody who was let in.
        if let Some(code) = refusals.into_iter().find(|code| ["NOT_FOUND", "FORBIDDEN"].contains(code)) {
            return Outcome::Refused(code.into());
        }
    }
    follow(&answer["data"], &row.steps)
}

fn follow(object: &Value, steps: &[Step]) -> Outcome {
    let [step, rest @ ..] = steps else { return Outcome::Answered };
    let value = &object[&step.field];
    match value {
        // A null leaf is an answer; a null object is not.
        Value::Null if rest.is_empty() && object.get(&step.field).is_some() && !is_hidden(step) => Outcome::Answered,
        Value::Null => Outcome::Null,
        // Which kind of error there is, if one, has nothing to do with who asks.
        Value::Array(_) if rest.is_empty() || step.field == "userErrors" => Outcome::Answered,
        Value::Array(entries) => {
            let outcomes: Vec<_> = entries.iter().map(|entry| follow(entry, rest)).collect();
            let best = [Outcome::Answered, Outcome::Null].into_iter().find(|outcome| outcomes.contains(outcome));
            best.or_else(|| outcomes.into_iter().next()).unwrap_or(Outcome::Nothing)
        }
        _ if rest.is_empty() => Outcome::Answered,
        object => follow(object, rest),
    }
}

/// Root fields that answer null to whom they do not answer.
fn is_hidden(step: &Step) -> bool {
    step.type_name == "Query"
}

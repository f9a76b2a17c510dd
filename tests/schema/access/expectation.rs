//! What the rules of the schema say about a cell. Nothing here looks at the shop's own code.

use super::outcome::Outcome;
use super::rows::{About, Row, Schema};
use super::world::{Caller, Target};

/// Types that only staff see as a whole, so that `node` does not show them to others.
const OF_STAFF: [&str; 2] = ["Campaign", "DeadLetter"];

pub fn of(schema: &Schema, row: &Row, caller: Caller, target: Target) -> Outcome {
    for (depth, step) in row.steps.iter().enumerate() {
        if let Some(code) = denied(&step.rule, caller, depth, row) {
            return Outcome::Refused(code.into());
        }
        if depth == 0 && !is_visible(schema, row, caller, target) {
            return match row.operation {
                "query" => Outcome::Null,
                "subscription" => Outcome::Refused("BAD_USER_INPUT".into()),
                _ => Outcome::Refused("NOT_FOUND".into()),
            };
        }
    }
    Outcome::Answered
}

/// By the rule of one field alone.
fn denied(rule: &str, caller: Caller, depth: usize, row: &Row) -> Option<&'static str> {
    let is_admitted = match rule {
        "PUBLIC" => true,
        "USER" => caller != Caller::Anonymous,
        // Within an object that is theirs, or that only its owner or staff get to; a session is of whom it signs in.
        "OWNER" => caller != Caller::Anonymous || (depth > 0 && row.operation == "mutation"),
        "STAFF" => caller.is_staff(),
        "ADMIN" => caller == Caller::Admin,
        unknown => panic!("{unknown} is no rule"),
    };
    let code = if caller == Caller::Anonymous { "UNAUTHENTICATED" } else { "FORBIDDEN" };
    (!is_admitted).then_some(code)
}

fn is_visible(schema: &Schema, row: &Row, caller: Caller, target: Target) -> bool {
    if row.entry() == "me" {
        return caller != Caller::Anonymous;
    }
    // What somebody has read is theirs to say.
    if row.entry() == "notificationsMarkRead" {
        return target == Target::Own;
    }
    match (row.about(schema), target) {
        (_, Target::Missing) => false,
        (About::Owned, Target::Foreign) => caller.is_staff(),
        (About::Shared, _) if row.entry() == "node" && OF_STAFF.contains(&row.subject()) => caller.is_staff(),
        _ => true,
    }
}

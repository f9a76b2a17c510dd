//! Which changes of a schema break a client that was written against the older one.

use crate::model::{Kind, Parts};

/// A breaking change: the coordinate it is about, and what happened there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaking {
    pub coordinate: String,
    pub what: String,
}

pub fn breaking_changes(old: &Parts, new: &Parts) -> Vec<Breaking> {
    let mut changes = Vec::new();
    let mut report = |coordinate: &str, what: String| {
        changes.push(Breaking { coordinate: coordinate.to_owned(), what });
    };
    for (coordinate, was) in old {
        let Some(is) = new.get(coordinate) else {
            // What goes with its owner is not reported twice.
            if owner(coordinate).is_none_or(|owner| new.contains_key(owner)) {
                report(coordinate, "removed".into());
            }
            continue;
        };
        let compatible = match (was.kind, is.kind) {
            (Kind::Field, Kind::Field) => fits(&was.ty, &is.ty),
            // What a caller gave before must still be taken.
            (Kind::Input, Kind::Input) => {
                fits(&is.ty, &was.ty) || (is.default.is_some() && fits(nullable(&is.ty), &was.ty))
            }
            _ => was.ty == is.ty && was.kind == is.kind,
        };
        if !compatible {
            report(coordinate, format!("changed from {} to {}", was.ty, is.ty));
        } else if is.is_required() && !was.is_required() {
            report(coordinate, "became required".into());
        }
    }
    for (coordinate, part) in new {
        let is_new = !old.contains_key(coordinate);
        if is_new && part.is_required() && owner(coordinate).is_some_and(|owner| old.contains_key(owner)) {
            report(coordinate, "added, and required".into());
        }
    }
    changes
}

/// The part that a part belongs to.
pub fn owner(coordinate: &str) -> Option<&str> {
    if let Some((field, _)) = coordinate.split_once('(') {
        return Some(field);
    }
    coordinate.split_once(['.', ' ']).map(|(owner, _)| owner)
}

fn nullable(ty: &str) -> &str {
    ty.strip_suffix('!').unwrap_or(ty)
}

/// Whether each value of `narrow` is one of `wide`: nothing that could not be null may become null.
fn fits(wide: &str, narrow: &str) -> bool {
    let contents = |ty: &str| -> Option<String> { Some(ty.strip_prefix('[')?.strip_suffix(']')?.to_owned()) };
    if wide.ends_with('!') && !narrow.ends_with('!') {
        return false;
    }
    let (wide, narrow) = (nullable(wide), nullable(narrow));
    match (contents(wide), contents(narrow)) {
        (Some(wide), Some(narrow)) => fits(&wide, &narrow),
        (None, None) => wide == narrow,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parts;

    const OLD: &str = "
        enum Color { RED GREEN }
        interface Node { id: ID! }
        type Lamp implements Node { id: ID! color: Color names: [String!] watts(unit: String, exact: Boolean!): Int! }
        input LampInput { color: Color!, watts: Int = 5 }
        type Query { lamp(id: ID!): Lamp lamps(first: Int): [Lamp!]! }
    ";

    /// The breaking changes when `from` becomes `to` in the old schema.
    fn changed(from: &str, to: &str) -> Vec<String> {
        assert!(OLD.contains(from), "{from}");
        breaking_changes(&parts(OLD), &parts(&OLD.replacen(from, to, 1)))
            .into_iter()
            .map(|change| format!("{} {}", change.coordinate, change.what))
            .collect()
    }

    #[test]
    fn what_a_client_relies_on_must_stay() {
        for (from, to, breaks) in [
            ("RED ", "", "Color.RED removed"),
            ("color: Color ", "", "Lamp.color removed"),
            (" implements Node", "", "Lamp implements Node removed"),
            ("(first: Int)", "", "Query.lamps(first:) removed"),
            ("color: Color!, ", "", "LampInput.color removed"),
            ("color: Color ", "color: String ", "Lamp.color changed from Color to String"),
            ("watts: Int = 5", "watts: Int!", "LampInput.watts changed from Int to Int!"),
            ("[Lamp!]!", "[Lamp]!", "Query.lamps changed from [Lamp!]! to [Lamp]!"),
            ("[Lamp!]!", "[Lamp!]", "Query.lamps changed from [Lamp!]! to [Lamp!]"),
            ("[Lamp!]!", "Lamp!", "Query.lamps changed from [Lamp!]! to Lamp!"),
            ("first: Int", "first: Int!", "Query.lamps(first:) changed from Int to Int!"),
            ("first: Int", "first: Int, size: Int!", "Query.lamps(size:) added, and required"),
            ("watts: Int = 5", "watts: Int = 5 depth: Int!", "LampInput.depth added, and required"),
            ("enum Color { RED GREEN }", "scalar Color", "Color changed from enum to scalar"),
        ] {
            assert!(changed(from, to).contains(&breaks.to_owned()), "{from} -> {to}: {:?}", changed(from, to));
        }
    }

    #[test]
    fn a_removed_type_is_reported_once() {
        let without = OLD.replace("input LampInput { color: Color!, watts: Int = 5 }", "");
        let changes = breaking_changes(&parts(OLD), &parts(&without));
        assert_eq!(changes.iter().map(|change| change.coordinate.as_str()).collect::<Vec<_>>(), ["LampInput"]);
    }

    #[test]
    fn what_only_adds_or_promises_more_is_welcome() {
        for (from, to) in [
            ("GREEN", "GREEN BLUE"),
            ("color: Color ", "color: Color! "),
            ("names: [String!]", "names: [String!]!"),
            ("exact: Boolean!", "exact: Boolean"),
            ("exact: Boolean!", "exact: Boolean! = true"),
            ("first: Int", "first: Int! = 20"),
            ("first: Int", "first: Int, after: String"),
            ("watts: Int = 5", "watts: Int"),
            ("lamp(id: ID!): Lamp", "lamp(id: ID!): Lamp shade(id: ID!): Lamp"),
        ] {
            assert_eq!(changed(from, to), Vec::<String>::new(), "{from} -> {to}");
        }
    }
}

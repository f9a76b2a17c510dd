//! What introspection would list. A schema's types refer to one another, so every list inside a list multiplies the answer,
//! and a short query can ask for more than any client could read.

use std::collections::HashMap;

use async_graphql::parser::types::{FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned};

use super::request_errors::RequestError;
use super::top_level_errors::Code;

/// So many entries a list of introspection has, about, in a schema of this size.
const LISTS: [(&str, u64); 8] = [
    ("types", 100),
    ("fields", 6),
    ("inputFields", 6),
    ("enumValues", 6),
    ("directives", 5),
    ("possibleTypes", 4),
    ("args", 2),
    ("interfaces", 2),
];

/// The query of code generators, with everything in it, costs 105,000.
const MAX_COST: u64 = 300_000;

/// Called after the sizes are known: there is no cycle, and a bounded number of selections.
pub fn check(
    selections: &SelectionSet,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
) -> Result<(), RequestError> {
    let cost = cost(selections, fragments, true);
    if cost <= MAX_COST {
        return Ok(());
    }
    let message = format!("the introspection would list {cost} entries, about; at most {MAX_COST} are answered");
    Err(RequestError::new(Code::QueryTooComplex, message))
}

fn cost(selections: &SelectionSet, fragments: &HashMap<Name, Positioned<FragmentDefinition>>, at_root: bool) -> u64 {
    let of = |selection: &Positioned<Selection>| match &selection.node {
        Selection::Field(field) => {
            let name = field.node.name.node.as_str();
            if at_root && !matches!(name, "__schema" | "__type") {
                return 0;
            }
            let entries = LISTS.iter().find(|(list, _)| *list == name).map_or(1, |(_, entries)| *entries);
            let inner = cost(&field.node.selection_set.node, fragments, false);
            entries.saturating_mul(inner).saturating_add(1)
        }
        Selection::InlineFragment(inline) => cost(&inline.node.selection_set.node, fragments, at_root),
        Selection::FragmentSpread(spread) => fragments
            .get(&spread.node.fragment_name.node)
            .map_or(0, |fragment| cost(&fragment.node.selection_set.node, fragments, at_root)),
    };
    selections.items.iter().map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_answered(text: &str) -> bool {
        let document = async_graphql::parser::parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        check(&operation.node.selection_set.node, &document.fragments).is_ok()
    }

    #[test]
    fn the_query_of_code_generators_is_answered() {
        let of_type = "ofType { kind name ".repeat(9) + &"}".repeat(9);
        let query = format!(
            "{{ __schema {{ description queryType {{ name kind }} types {{ ...T }}
               directives {{ name description isRepeatable locations args(includeDeprecated: true) {{ ...V }} }} }} }}
             fragment T on __Type {{ kind name description specifiedByURL isOneOf
               fields(includeDeprecated: true) {{ name description args(includeDeprecated: true) {{ ...V }}
                 type {{ ...R }} isDeprecated deprecationReason }}
               inputFields(includeDeprecated: true) {{ ...V }} interfaces {{ ...R }}
               enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }}
               possibleTypes {{ ...R }} }}
             fragment V on __InputValue {{ name description type {{ ...R }} defaultValue isDeprecated deprecationReason }}
             fragment R on __Type {{ kind name {of_type} }}"
        );
        assert!(is_answered(&query));
        assert!(is_answered("{ products { fields { fields { fields { fields { types { name } } } } } } }"));
    }

    #[test]
    fn lists_inside_lists_are_refused() {
        let nested = |levels: usize| {
            let (open, close) = ("fields { type { ".repeat(levels), "} }".repeat(levels));
            format!("{open} name {close}")
        };
        assert!(is_answered(&format!("{{ __schema {{ types {{ {} }} }} }}", nested(3))));
        assert!(!is_answered(&format!("{{ __schema {{ types {{ {} }} }} }}", nested(5))));
        assert!(!is_answered(&format!("{{ __type(name: \"Query\") {{ {} }} }}", nested(8))));
        let aliases: String =
            (0..50).map(|n| format!("a{n}: fields {{ type {{ ofType {{ kind name }} }} }} ")).collect();
        assert!(is_answered(&format!("{{ __schema {{ types {{ {aliases} }} }} }}")));
        let spread = "...F ".repeat(4);
        let text = format!("{{ __schema {{ types {{ {spread} }} }} }} fragment F on __Type {{ {aliases} }}");
        assert!(!is_answered(&text));
        let wide = "possibleTypes { interfaces { ".repeat(6) + "name" + &"} }".repeat(6);
        assert!(!is_answered(&format!("{{ __schema {{ types {{ {wide} }} }} }}")));
    }
}

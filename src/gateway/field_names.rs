//! The names that fields of the schema have: a text full of others is refused before anything looks for them.

use std::collections::HashSet;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};

/// Fields that no schema's text lists, because every schema has them.
const OF_INTROSPECTION: [&str; 28] = [
    "__schema",
    "__type",
    "__typename",
    "args",
    "defaultValue",
    "deprecationReason",
    "description",
    "directives",
    "enumValues",
    "fields",
    "inputFields",
    "interfaces",
    "isDeprecated",
    "isOneOf",
    "isRepeatable",
    "kind",
    "locations",
    "mutationType",
    "name",
    "ofType",
    "onField",
    "onFragment",
    "onOperation",
    "possibleTypes",
    "queryType",
    "specifiedByURL",
    "subscriptionType",
    "types",
];

#[derive(Default)]
pub struct FieldNames {
    /// `None`: every name is taken for known.
    known: Option<HashSet<Box<[u8]>>>,
}

impl FieldNames {
    /// Of every type of a schema's text. A text that cannot be parsed makes no name unknown.
    pub fn of(sdl: &str) -> Self {
        let Ok(schema) = parse_schema(sdl) else { return Self::default() };
        let mut known: HashSet<Box<[u8]>> = OF_INTROSPECTION.map(|name| name.as_bytes().into()).into();
        for definition in schema.definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let fields = match definition.node.kind {
                TypeKind::Object(object) => object.fields,
                TypeKind::Interface(interface) => interface.fields,
                _ => continue,
            };
            known.extend(fields.iter().map(|field| field.node.name.node.as_bytes().into()));
        }
        Self { known: Some(known) }
    }

    pub fn has(&self, name: &[u8]) -> bool {
        self.known.as_ref().is_none_or(|known| known.contains(name))
    }
}

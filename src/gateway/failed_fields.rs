//! What an error leaves of the data, as the specification has it: the nearest nullable position is null, and whatever
//! stands beside it stays.
//!
//! async-graphql leaves a failed field out of its object, nullable or not, and answers null for an object all of whose
//! fields failed. The types of the schema's text tell what should be there; an answer without errors costs nothing.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, OperationType, Selection, SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, PathSegment, Response, Value};

/// The type of each field, by the type that has it.
#[derive(Default)]
pub struct FieldTypes(HashMap<Name, HashMap<Name, Type>>);

/// A set of selections and the type of the object that it is about.
type Selected<'a> = (&'a str, &'a SelectionSet);

impl FieldTypes {
    /// From a schema's text. A text that cannot be parsed has no types, and answers stay as they are.
    pub fn of(sdl: &str) -> Self {
        let mut types = HashMap::new();
        for definition in parse_schema(sdl).map(|schema| schema.definitions).unwrap_or_default() {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let fields = match definition.node.kind {
                TypeKind::Object(object) => object.fields,
                TypeKind::Interface(interface) => interface.fields,
                _ => continue,
            };
            let fields = fields.into_iter().map(|field| (field.node.name.node, field.node.ty.node)).collect();
            types.insert(definition.node.name.node, fields);
        }
        Self(types)
    }

    /// The fields of the roots: what operations are made of.
    pub fn root_fields(&self) -> impl Iterator<Item = Name> {
        ["Query", "Mutation", "Subscription"]
            .iter()
            .filter_map(|root| self.0.get(*root))
            .flat_map(|fields| fields.keys().cloned())
    }

    /// Puts null where the response's errors leave it.
    pub fn put_nulls(&self, response: &mut Response, document: &ExecutableDocument, operation: Option<&str>) {
        let nulls: Vec<Vec<PathSegment>> = response
            .errors
            .iter()
            .filter(|error| !error.path.is_empty())
            .filter_map(|error| {
                let kept = self.nullable_part(document, operation, &error.path)?;
                Some(error.path[..kept].to_vec())
            })
            .collect();
        // What is left out comes back first, so that a null further out then covers what is inside it.
        for path in &nulls {
            if let Some(place) = place(&mut response.data, path, true) {
                *place = Value::Null;
            }
        }
        for path in &nulls {
            if let Some(place) = place(&mut response.data, path, false) {
                *place = Value::Null;
            }
        }
    }

    /// How much of an error's path leads to the innermost position that may be null; 0 is the whole data. `None`: the
    /// path is not one of this schema's.
    fn nullable_part(
        &self,
        document: &ExecutableDocument,
        operation: Option<&str>,
        path: &[PathSegment],
    ) -> Option<usize> {
        let (_, operation) = document
            .operations
            .iter()
            .find(|(name, _)| operation.is_none_or(|wanted| name.is_some_and(|name| name.as_str() == wanted)))?;
        let root = match operation.node.ty {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        let mut selected: Vec<Selected<'_>> = vec![(root, &operation.node.selection_set.node)];
        let mut at: Option<&Type> = None;
        let mut kept = 0;
        for (index, segment) in path.iter().enumerate() {
            let next = match (segment, at.map(|at| &at.base)) {
                (PathSegment::Field(key), _) => {
                    let mut found = Vec::new();
                    for &(type_name, set) in &selected {
                        self.fields_of(document, type_name, set, key, &mut found);
                    }
                    let (field_type, _) = *found.first()?;
                    let name = innermost(field_type);
                    selected = found.into_iter().map(|(_, set)| (name, set)).collect();
                    field_type
                }
                (PathSegment::Index(_), Some(BaseType::List(entry))) => entry,
                (PathSegment::Index(_), _) => return None,
            };
            if next.nullable {
                kept = index + 1;
            }
            at = Some(next);
        }
        Some(kept)
    }

    /// The fields with this response key, through all fragments. There are no cycles: the document was validated.
    fn fields_of<'a>(
        &'a self,
        document: &'a ExecutableDocument,
        type_name: &'a str,
        set: &'a SelectionSet,
        key: &str,
        found: &mut Vec<(&'a Type, &'a SelectionSet)>,
    ) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) if field.node.response_key().node == key => {
                    let types = self.0.get(type_name);
                    let field_type = types.and_then(|fields| fields.get(&field.node.name.node));
                    found.extend(field_type.map(|field_type| (field_type, &field.node.selection_set.node)));
                }
                Selection::Field(_) => {}
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref();
                    let inner = condition.map_or(type_name, |condition| condition.node.on.node.as_str());
                    self.fields_of(document, inner, &inline.node.selection_set.node, key, found);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                        let inner = fragment.node.type_condition.node.on.node.as_str();
                        self.fields_of(document, inner, &fragment.node.selection_set.node, key, found);
                    }
                }
            }
        }
    }
}

fn innermost(of: &Type) -> &str {
    match &of.base {
        BaseType::Named(name) => name,
        BaseType::List(entry) => innermost(entry),
    }
}

/// The place of a path in the data; with `make`, objects and fields on the way that are missing are made.
fn place<'a>(data: &'a mut Value, path: &[PathSegment], make: bool) -> Option<&'a mut Value> {
    let mut at = data;
    for segment in path {
        if make && matches!((&*at, segment), (Value::Null, PathSegment::Field(_))) {
            *at = Value::Object(Default::default());
        }
        at = match (at, segment) {
            (Value::Object(fields), PathSegment::Field(key)) => {
                if make {
                    fields.entry(Name::new(key)).or_insert(Value::Null);
                }
                fields.get_mut(key.as_str())?
            }
            (Value::List(entries), PathSegment::Index(index)) => entries.get_mut(*index)?,
            _ => return None,
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use async_graphql::ServerError;
    use async_graphql::parser::parse_query;
    use serde_json::{Value as Json, json};

    use super::*;

    const SCHEMA: &str = "type Query { one: Thing, sure: Thing!, things: [Thing!]!, some: [Thing] }
        interface Named { name: String! } type Thing implements Named { name: String!, note: String, inner: Thing! }";

    /// What is left of the data after errors at these places.
    fn left(query: &str, data: Json, errors: &[&str]) -> Json {
        let mut response = Response::new(Value::from_json(data).unwrap());
        for path in errors {
            let mut error = ServerError::new("it failed", None);
            error.path = path
                .split('.')
                .map(|part| part.parse().map_or_else(|_| PathSegment::Field(part.into()), PathSegment::Index))
                .collect();
            response.errors.push(error);
        }
        FieldTypes::of(SCHEMA).put_nulls(&mut response, &parse_query(query).unwrap(), None);
        response.data.into_json().unwrap()
    }

    #[test]
    fn only_the_nearest_nullable_position_is_null() {
        let a_thing = json!({ "name": "x" });
        let cases = [
            (
                "{ one { name } sure { name } }",
                json!({ "sure": a_thing }),
                &["one"][..],
                json!({ "one": null, "sure": a_thing }),
            ),
            ("{ a: one { name } }", json!(null), &["a"], json!({ "a": null })),
            ("{ one { name } sure { name } }", json!({ "one": a_thing }), &["sure"], json!(null)),
            (
                "{ one { name note } }",
                json!({ "one": a_thing }),
                &["one.note"],
                json!({ "one": { "name": "x", "note": null } }),
            ),
            ("{ one { note } }", json!({ "one": null }), &["one.note"], json!({ "one": { "note": null } })),
            (
                "{ one { inner { name } } }",
                json!({ "one": { "inner": null } }),
                &["one.inner.name"],
                json!({ "one": null }),
            ),
            (
                "{ one { note inner { name note } } }",
                json!({ "one": { "inner": { "note": "n" } } }),
                &["one.note", "one.inner.name"],
                json!({ "one": null }),
            ),
            ("{ things { name } }", json!({ "things": [a_thing, null] }), &["things.1.name"], json!(null)),
            (
                "{ some { name } }",
                json!({ "some": [a_thing, null] }),
                &["some.1.name"],
                json!({ "some": [a_thing, null] }),
            ),
            (
                "{ things { n: note } }",
                json!({ "things": [null, { "n": "y" }] }),
                &["things.0.n"],
                json!({ "things": [{ "n": null }, { "n": "y" }] }),
            ),
            ("{ ...F } fragment F on Query { ... { one { name } } }", json!(null), &["one"], json!({ "one": null })),
            ("{ __schema { x } }", json!({ "a": 1 }), &["__schema.x"], json!({ "a": 1 })),
        ];
        for (query, data, errors, expected) in cases {
            assert_eq!(left(query, data, errors), expected, "{query} {errors:?}");
        }
    }
}

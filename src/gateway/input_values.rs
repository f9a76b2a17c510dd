//! Values that do not fit their types, of variables and in the text of a document: the specification refuses them before
//! anything is executed.
//!
//! async-graphql lets an Int out of its range and a scalar in place of an input object pass until the field that wants
//! them is reached, with other fields, mutations too, executed already.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, FieldDefinition, OperationDefinition, OperationType, Selection, SelectionSet, Type,
    TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

use super::request_errors::RequestError;
use super::top_level_errors::Code;

#[derive(Default)]
pub struct InputTypes {
    /// The type of each field of each input object.
    objects: HashMap<Name, HashMap<Name, Type>>,
    /// The fields that are selected of each other type.
    outputs: HashMap<Name, HashMap<Name, Output>>,
}

struct Output {
    arguments: HashMap<Name, Type>,
    /// Whose fields are selected below it.
    leads_to: Name,
}

impl Output {
    fn of(field: FieldDefinition) -> Self {
        let arguments = field.arguments.into_iter().map(|argument| (argument.node.name.node, argument.node.ty.node));
        Self { arguments: arguments.collect(), leads_to: innermost(&field.ty.node.base).clone() }
    }
}

fn innermost(of: &BaseType) -> &Name {
    match of {
        BaseType::Named(name) => name,
        BaseType::List(entry) => innermost(&entry.base),
    }
}

impl InputTypes {
    /// From a schema's text. A text that cannot be parsed has no types, and nothing is judged here.
    pub fn of(sdl: &str) -> Self {
        let mut types = Self::default();
        for definition in parse_schema(sdl).map(|schema| schema.definitions).unwrap_or_default() {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let name = definition.node.name.node;
            let fields = match definition.node.kind {
                TypeKind::InputObject(input) => {
                    let fields = input.fields.into_iter().map(|field| (field.node.name.node, field.node.ty.node));
                    types.objects.insert(name, fields.collect());
                    continue;
                }
                TypeKind::Object(object) => object.fields,
                TypeKind::Interface(interface) => interface.fields,
                _ => continue,
            };
            let fields = fields.into_iter().map(|field| (field.node.name.node.clone(), Output::of(field.node)));
            types.outputs.insert(name, fields.collect());
        }
        types
    }

    /// Refuses the first variable of the operation whose value does not fit.
    pub fn check_variables(
        &self,
        document: &ExecutableDocument,
        operation: Option<&str>,
        variables: &Variables,
    ) -> Result<(), RequestError> {
        let is_meant = |name: Option<&Name>| operation.is_none_or(|wanted| name.is_some_and(|name| *name == wanted));
        let meant = document.operations.iter().find(|(name, _)| is_meant(*name));
        let definitions = meant.map(|(_, operation)| &operation.node);
        let definitions: &[_] =
            definitions.map_or(&[], |OperationDefinition { variable_definitions, .. }| variable_definitions);
        for definition in definitions {
            let (name, of) = (&definition.node.name.node, &definition.node.var_type.node);
            let Some(value) = variables.get(name) else { continue };
            self.fits(value, &of.base)
                .map_err(|reason| RequestError::bad_input(format!("the variable ${name} does not fit: {reason}")))?;
        }
        Ok(())
    }

    /// Refuses the first value in the document's text that does not fit.
    pub fn check_literals(&self, document: &ExecutableDocument) -> Result<(), RequestError> {
        for (_, operation) in document.operations.iter() {
            for definition in &operation.node.variable_definitions {
                let (name, of) = (&definition.node.name.node, &definition.node.var_type.node.base);
                if let Some(default) = &definition.node.default_value {
                    self.literal_fits(&default.node, of, default.pos, &format!("the default of ${name}"))?;
                }
            }
            let root = match operation.node.ty {
                OperationType::Query => "Query",
                OperationType::Mutation => "Mutation",
                OperationType::Subscription => "Subscription",
            };
            self.check_arguments(root, &operation.node.selection_set.node)?;
        }
        document.fragments.values().try_for_each(|Positioned { node: fragment, .. }| {
            self.check_arguments(&fragment.type_condition.node.on.node, &fragment.selection_set.node)
        })
    }

    /// Names that the schema does not have are left to validation.
    fn check_arguments(&self, selected_of: &str, selections: &SelectionSet) -> Result<(), RequestError> {
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(Positioned { node: field, .. }) => {
                    let outputs = self.outputs.get(selected_of);
                    let Some(output) = outputs.and_then(|outputs| outputs.get(&field.name.node)) else { continue };
                    for (name, value) in &field.arguments {
                        let Some(of) = output.arguments.get(&name.node) else { continue };
                        // Values of variables are judged by themselves.
                        let literal = value.node.clone().into_const_with(|_| Ok::<_, ()>(Value::Null));
                        if let Ok(literal) = literal {
                            self.literal_fits(&literal, &of.base, value.pos, &format!("the argument {}", name.node))?;
                        }
                    }
                    self.check_arguments(&output.leads_to, &field.selection_set.node)?;
                }
                Selection::InlineFragment(Positioned { node: inline, .. }) => {
                    let condition = inline.type_condition.as_ref();
                    let inner = condition.map_or(selected_of, |condition| condition.node.on.node.as_str());
                    self.check_arguments(inner, &inline.selection_set.node)?;
                }
                // Fragments are looked at where they are defined.
                Selection::FragmentSpread(_) => {}
            }
        }
        Ok(())
    }

    fn literal_fits(&self, literal: &Value, of: &BaseType, at: Pos, what: &str) -> Result<(), RequestError> {
        self.fits(literal, of).map_err(|reason| RequestError {
            locations: vec![at],
            ..RequestError::new(Code::GraphqlValidationFailed, format!("{what} does not fit: {reason}"))
        })
    }

    /// Nulls, enums and other scalars are judged by validation.
    fn fits(&self, value: &Value, of: &BaseType) -> Result<(), String> {
        match (of, value) {
            (_, Value::Null) => Ok(()),
            (BaseType::List(entry), Value::List(values)) => {
                values.iter().try_for_each(|value| self.fits(value, &entry.base))
            }
            // One entry stands for a list of it.
            (BaseType::List(entry), value) => self.fits(value, &entry.base),
            (BaseType::Named(name), Value::Number(number)) if name == "Int" => {
                let in_range = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
                if in_range { Ok(()) } else { Err("an Int is a 32-bit integer".to_owned()) }
            }
            (BaseType::Named(name), value) => match (self.objects.get(name), value) {
                (None, _) => Ok(()),
                (Some(fields), Value::Object(values)) => values
                    .iter()
                    .filter_map(|(name, value)| Some((value, fields.get(name)?)))
                    .try_for_each(|(value, of)| self.fits(value, &of.base)),
                (Some(_), _) => Err(format!("{name} is an object")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    #[test]
    fn integers_out_of_range_and_scalars_for_objects_are_refused_at_any_depth() {
        let types = InputTypes::of("input In { n: Int, more: [In!], id: ID }");
        let document = parse_query("query($in: In, $n: Int, $ns: [Int!]) { a }").unwrap();
        let fits = |variables| types.check_variables(&document, None, &Variables::from_json(variables)).is_ok();
        for variables in [
            json!({}),
            json!({ "n": i32::MIN, "ns": [i32::MAX], "in": null }),
            json!({ "n": "left to validation", "ns": 1, "other": 1e10 }),
            json!({ "in": { "n": 1, "id": 5_000_000_000_i64, "more": [{ "n": null }] } }),
        ] {
            assert!(fits(variables.clone()), "{variables}");
        }
        for variables in [
            json!({ "n": 2_147_483_648_u32 }),
            json!({ "n": u64::MAX }),
            json!({ "n": 1.5 }),
            json!({ "ns": [1, -2_147_483_649_i64] }),
            json!({ "in": 5 }),
            json!({ "in": { "more": [{ "more": ["x"] }] } }),
            json!({ "in": { "more": { "n": 3_000_000_000_u32 } } }),
        ] {
            assert!(!fits(variables.clone()), "{variables}");
        }
    }
    #[test]
    fn literals_that_do_not_fit_are_refused_wherever_they_stand() {
        let types = InputTypes::of(
            "type Query { a(n: Int, ns: [Int!], in: In, long: Long): [Thing!]! } type Mutation { m(n: Int!): Thing }
             interface Node { b(n: Int): Int } type Thing implements Node { b(n: Int): Int, more(in: [In]): Thing }
             input In { n: Int, more: [In!], id: ID } scalar Long",
        );
        let check = |text: &str| types.check_literals(&parse_query(text).unwrap());
        for text in [
            "{ a(n: 2147483647, ns: 1, long: 2147483648, in: { n: -2147483648, id: 5000000000 }) { b(n: null) } }",
            "query($n: Int = 1) { a(n: $n, ns: [1, $n], in: { n: $n, more: { n: $n } }) { unknown(n: 3000000000) } }",
            "mutation { m(n: \"left to validation\") { b } }",
            "{ a(unknown: 3000000000) { b } b(n: 3000000000) }",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
        for text in [
            "{ a(n: 2147483648) { b } }",
            "{ a(n: 1.5) { b } }",
            "{ a(ns: [1, -2147483649]) { b } }",
            "{ a(in: { more: [{ n: 3000000000 }] }) { b } }",
            "{ a(in: 5) { b } }",
            "{ a { more(in: [\"x\"]) { b } } }",
            "mutation { ok: m(n: 1) { b } m(n: 3000000000) { b } }",
            "{ ... on Query { a { ... { ... on Node { b(n: 3000000000) } } } } }",
            "{ ...F } fragment F on Query { a { b(n: 3000000000) } }",
            "query($n: Int = 3000000000) { a(n: $n) { b } }",
            "query One { a { b } } query Other { a(n: 3000000000) { b } }",
        ] {
            let error = check(text).expect_err(text);
            assert_eq!((error.code, error.locations.len()), (Code::GraphqlValidationFailed, 1), "{text}");
        }
    }
}

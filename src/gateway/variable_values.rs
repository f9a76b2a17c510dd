//! Values of variables that do not fit their types: the specification refuses them before anything is executed.
//!
//! async-graphql lets an Int out of its range and a scalar in place of an input object pass until the field that wants
//! them is reached, with other fields, mutations too, executed already.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, OperationDefinition, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Value, Variables};

use super::request_errors::RequestError;

/// The type of each field of each input object.
#[derive(Default)]
pub struct InputTypes(HashMap<Name, HashMap<Name, Type>>);

impl InputTypes {
    /// From a schema's text. A text that cannot be parsed has no types, and nothing is judged here.
    pub fn of(sdl: &str) -> Self {
        let mut types = HashMap::new();
        for definition in parse_schema(sdl).map(|schema| schema.definitions).unwrap_or_default() {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let TypeKind::InputObject(input) = definition.node.kind else { continue };
            let fields = input.fields.into_iter().map(|field| (field.node.name.node, field.node.ty.node)).collect();
            types.insert(definition.node.name.node, fields);
        }
        Self(types)
    }

    /// Refuses the first variable of the operation whose value does not fit.
    pub fn check(
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
                if in_range { Ok(()) } else { Err(format!("{number} is no 32-bit integer")) }
            }
            (BaseType::Named(name), value) => match (self.0.get(name), value) {
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
        let fits = |variables| types.check(&document, None, &Variables::from_json(variables)).is_ok();
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
}

//! A schema's text as a flat list of its parts, each under its schema coordinate: `Type`, `Type.field`,
//! `Type.field(argument:)`, `Enum.VALUE`, `Type implements Interface`.

use std::collections::BTreeMap;

use async_graphql::Positioned;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    ConstDirective, FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind, TypeSystemDefinition,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Type,
    Implements,
    Field,
    /// An argument or an input field.
    Input,
    EnumValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub kind: Kind,
    /// Of a type: its kind in words. Of an implementation and an enum value: empty.
    pub ty: String,
    pub default: Option<String>,
    /// Of `@access`.
    pub rule: Option<String>,
    pub described: bool,
}

impl Part {
    /// A caller has to give it.
    pub fn is_required(&self) -> bool {
        self.kind == Kind::Input && self.ty.ends_with('!') && self.default.is_none()
    }
}

pub type Parts = BTreeMap<String, Part>;

pub fn parts(sdl: &str) -> Parts {
    let document = parse_schema(sdl).expect("the text is a schema");
    let mut parts = Parts::new();
    for definition in document.definitions {
        if let TypeSystemDefinition::Type(definition) = definition {
            add_type(&mut parts, &definition.node);
        }
    }
    parts
}

fn plain(kind: Kind, ty: &str, described: bool) -> Part {
    Part { kind, ty: ty.into(), default: None, rule: None, described }
}

fn add_type(parts: &mut Parts, definition: &TypeDefinition) {
    let name = definition.name.node.as_str();
    let described = definition.description.is_some();
    let mut add = |word: &str| parts.insert(name.into(), plain(Kind::Type, word, described));
    match &definition.kind {
        TypeKind::Scalar => drop(add("scalar")),
        TypeKind::Object(object) => {
            add("type");
            for interface in &object.implements {
                parts.insert(format!("{name} implements {}", interface.node), plain(Kind::Implements, "", true));
            }
            add_fields(parts, name, &object.fields);
        }
        TypeKind::Interface(interface) => {
            add("interface");
            add_fields(parts, name, &interface.fields);
        }
        TypeKind::Union(union) => {
            add("union");
            for member in &union.members {
                parts.insert(format!("{} implements {name}", member.node), plain(Kind::Implements, "", true));
            }
        }
        TypeKind::Enum(values) => {
            add("enum");
            for value in &values.values {
                let described = value.node.description.is_some();
                parts.insert(format!("{name}.{}", value.node.value.node), plain(Kind::EnumValue, "", described));
            }
        }
        TypeKind::InputObject(input) => {
            add("input");
            for field in &input.fields {
                parts.insert(format!("{name}.{}", field.node.name.node), input_part(&field.node));
            }
        }
    }
}

fn add_fields(parts: &mut Parts, name: &str, fields: &[Positioned<FieldDefinition>]) {
    for field in fields {
        let field = &field.node;
        let coordinate = format!("{name}.{}", field.name.node);
        for argument in &field.arguments {
            parts.insert(format!("{coordinate}({}:)", argument.node.name.node), input_part(&argument.node));
        }
        let part = Part {
            kind: Kind::Field,
            ty: field.ty.node.to_string(),
            default: None,
            rule: rule(&field.directives),
            described: field.description.is_some(),
        };
        parts.insert(coordinate, part);
    }
}

fn input_part(input: &InputValueDefinition) -> Part {
    Part {
        kind: Kind::Input,
        ty: input.ty.node.to_string(),
        default: input.default_value.as_ref().map(|value| value.node.to_string()),
        rule: None,
        described: input.description.is_some(),
    }
}

fn rule(directives: &[Positioned<ConstDirective>]) -> Option<String> {
    let access = directives.iter().find(|directive| directive.node.name.node == "access")?;
    Some(access.node.get_argument("rule")?.node.to_string())
}

//! The rows of the table: a way from a root field to a field of a type.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Judged;
use crate::model::{Kind, Parts, parts};

/// Types whose objects belong to somebody.
const OWNED: [&str; 5] = ["User", "Order", "OrderUpdate", "Notification", "ApiKey"];

/// Fields of a way: further in there is nothing that a shorter way does not lead to.
const LONGEST: usize = 4;

/// What the root field's id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// There is none.
    Nothing,
    /// An object that belongs to a user.
    Owned,
    /// An object of the shop.
    Shared,
}

/// One field of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub type_name: String,
    pub field: String,
    pub rule: String,
    /// The named type of the field, without lists and non-nulls.
    pub answers: String,
    /// The object type that is asked for by a fragment where the field answers an interface.
    pub narrowed: Option<String>,
    pub has_subfields: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub operation: &'static str,
    pub steps: Vec<Step>,
}

pub struct Schema {
    parts: Parts,
}

impl Schema {
    pub fn parse(sdl: &str) -> Self {
        Self { parts: parts(sdl) }
    }

    fn fields_of(&self, type_name: &str) -> Vec<Step> {
        let prefix = format!("{type_name}.");
        let fields = self.parts.iter().filter(|(coordinate, part)| {
            part.kind == Kind::Field && coordinate.starts_with(&prefix) && !coordinate.contains('(')
        });
        let mut fields: Vec<_> = fields.collect();
        // A list on the way may be empty.
        fields.sort_by_key(|(_, part)| part.ty.starts_with('['));
        fields
            .into_iter()
            .map(|(coordinate, part)| {
                let answers = part.ty.replace(['[', ']', '!'], "");
                let kind = self.parts.get(&answers).map(|part| part.ty.as_str());
                Step {
                    type_name: type_name.into(),
                    field: coordinate[prefix.len()..].into(),
                    rule: part.rule.clone().unwrap_or_else(|| panic!("{coordinate} has no rule")),
                    has_subfields: matches!(kind, Some("type" | "interface")),
                    answers,
                    narrowed: None,
                }
            })
            .collect()
    }

    fn implementers(&self, interface: &str) -> Vec<String> {
        let suffix = format!(" implements {interface}");
        self.parts.keys().filter_map(|name| name.strip_suffix(&suffix)).map(str::to_owned).collect()
    }

    /// Every field of every type that a root type leads to: for each of its fields, by the shortest way. Of a mutation only
    /// what no query leads to: its payload, and a session.
    pub fn rows_of(&self, root: &'static str) -> Vec<Row> {
        let operation = match root {
            "Query" => "query",
            "Mutation" => "mutation",
            _ => "subscription",
        };
        let known: BTreeSet<String> = match root {
            "Query" => BTreeSet::new(),
            _ => self.rows_of("Query").into_iter().map(|row| row.last().type_name.clone()).collect(),
        };
        let errors: BTreeSet<_> = self.implementers("UserError").into_iter().chain(["UserError".into()]).collect();
        let (mut rows, mut seen_errors) = (Vec::new(), BTreeSet::new());
        for entry in self.fields_of(root) {
            // These are given a wrong token or password, or need one: others show what is in a session.
            let is_in_vain = ["passwordReset", "passwordChange", "tokenRefresh"].contains(&entry.field.as_str());
            let mut reached = BTreeSet::new();
            let mut ways = VecDeque::from([vec![entry]]);
            while let Some(way) = ways.pop_front() {
                rows.push(Row { operation, steps: way.clone() });
                let last = &way[way.len() - 1];
                let mut types = vec![(last.answers.clone(), None)];
                types.extend(self.implementers(&last.answers).into_iter().map(|name| (name.clone(), Some(name))));
                for (type_name, narrowed) in types.into_iter().filter(|_| last.has_subfields) {
                    // Every mutation leads to errors: one of them is enough to see their fields.
                    let is_error = errors.contains(&type_name);
                    let is_new = if is_error { &mut seen_errors } else { &mut reached }.insert(type_name.clone());
                    if known.contains(&type_name) || !is_new || (is_in_vain && way.len() > 1) || way.len() == LONGEST {
                        continue;
                    }
                    let mut towards = way.clone();
                    towards.last_mut().unwrap().narrowed = narrowed;
                    ways.extend(
                        self.fields_of(&type_name).into_iter().map(|field| [towards.as_slice(), &[field]].concat()),
                    );
                }
            }
        }
        rows
    }

    pub fn fields_without_a_row(&self, judged: &[Judged]) -> Vec<String> {
        let seen: BTreeSet<_> = judged.iter().map(|judged| judged.row.last().coordinate()).collect();
        let fields = self.parts.iter().filter(|(_, part)| part.kind == Kind::Field).map(|(coordinate, _)| coordinate);
        fields.filter(|coordinate| !seen.contains(*coordinate)).cloned().collect()
    }

    /// The arguments of a field, by name, with their types.
    fn arguments_of(&self, step: &Step) -> BTreeMap<&str, &str> {
        let prefix = format!("{}(", step.coordinate());
        let arguments = self.parts.iter().filter_map(|(coordinate, part)| {
            Some((coordinate.strip_prefix(&prefix)?.trim_end_matches(":)"), part.ty.as_str()))
        });
        arguments.collect()
    }
}

impl Step {
    pub fn coordinate(&self) -> String {
        format!("{}.{}", self.type_name, self.field)
    }
}

impl Row {
    pub fn entry(&self) -> &str {
        &self.steps[0].field
    }

    pub fn last(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }

    /// The type of the object that the root field's id names.
    pub fn subject(&self) -> &str {
        let entry = &self.steps[0];
        match self.entry() {
            "stockAdjust" | "stockChanged" | "productUpdate" | "productArchive" | "recommendationRate" => "Product",
            "orderCancel" | "orderShip" | "orderDeliver" => "Order",
            "userRoleUpdate" => "User",
            "apiKeyRevoke" => "ApiKey",
            "notificationsMarkRead" => "Notification",
            "deadLetterReplay" | "deadLetterDiscard" => "DeadLetter",
            // Narrowed to nothing, any object serves.
            "node" => entry.narrowed.as_deref().unwrap_or("Order"),
            _ => &entry.answers,
        }
    }

    pub fn about(&self, schema: &Schema) -> About {
        let arguments = schema.arguments_of(&self.steps[0]);
        if !arguments.values().any(|ty| ty.contains("ID")) {
            return About::Nothing;
        }
        if OWNED.contains(&self.subject()) { About::Owned } else { About::Shared }
    }

    /// The operation's text; its arguments are variables.
    pub fn document(&self) -> String {
        let mut text = String::new();
        for step in self.steps.iter().rev() {
            let selection = match (&step.narrowed, text.as_str()) {
                (_, "") if step.has_subfields => " { __typename }".to_owned(),
                (_, "") => String::new(),
                (Some(narrowed), inner) => format!(" {{ __typename ... on {narrowed} {{ {inner} }} }}"),
                (None, inner) => format!(" {{ __typename {inner} }}"),
            };
            text = format!("{}{}{selection}", step.field, "@ARGUMENTS");
        }
        // Only the root field has arguments.
        let (declared, given) = super::arguments::text_of(self.entry());
        let text = text.replacen("@ARGUMENTS", given, 1).replace("@ARGUMENTS", "");
        let text = if self.operation == "mutation" { with_user_errors(&text) } else { text };
        format!("{}{declared} {{ {text} }}", self.operation)
    }
}

/// A mutation's refusal stands in its payload.
fn with_user_errors(text: &str) -> String {
    text.replacen("{ __typename", "{ __typename refused: userErrors { code }", 1)
}

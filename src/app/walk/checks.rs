//! Placeholders, and whether an answer says what its step expects.

use std::fmt;

use serde_json::Value;

use super::Variables;
use super::steps::{Check, Rule, Step};

/// What an answer had to say, and what it said.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub expected: String,
    pub came: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, but it is {}", self.expected, self.came)
    }
}

/// The value with each `{{name}}` in its texts replaced by the variable. What no variable stands for stays.
pub fn fill(value: &Value, variables: &Variables) -> Value {
    match value {
        Value::String(text) => {
            let filled = variables
                .iter()
                .filter(|_| text.contains("{{"))
                .fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value));
            Value::String(filled)
        }
        Value::Array(entries) => entries.iter().map(|entry| fill(entry, variables)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), fill(value, variables)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// The names between double braces in the value's texts.
pub fn placeholders(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            let after_braces = text.split("{{").skip(1);
            after_braces.filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.to_owned()).collect()
        }
        Value::Array(entries) => entries.iter().flat_map(placeholders).collect(),
        Value::Object(fields) => fields.values().flat_map(placeholders).collect(),
        _ => Vec::new(),
    }
}

/// What stands at a path such as `order.lines.0.quantity`; null when nothing does.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, part| match part.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[part],
    })
}

/// Whether the answer of a shop is what the step expects, and if not, in what first.
pub fn verify(step: &Step, answer: &Value, variables: &Variables) -> Result<(), Mismatch> {
    let differs = |expected: String, came: &Value| Err(Mismatch { expected, came: came.to_string() });
    let code = at(answer, "errors.0.extensions.code");
    match &step.error {
        Some(error) if code == error => {}
        Some(error) => return differs(format!("the error {error}"), answer),
        None if answer.get("errors").is_none() => {}
        None => return differs("no errors".to_owned(), &answer["errors"]),
    }
    let data = &answer["data"];
    let payloads = data.as_object().into_iter().flat_map(|fields| fields.values());
    let user_errors: Value =
        payloads.filter_map(|payload| payload.get("userErrors")?.as_array()).flatten().cloned().collect();
    match &step.refused {
        Some(refused) if at(&user_errors, "0.code") == refused => {}
        Some(refused) => return differs(format!("a refusal as {refused}"), answer),
        None if user_errors == Value::Array(Vec::new()) => {}
        None => return differs("nothing refused".to_owned(), &user_errors),
    }
    for (path, check) in &step.expect {
        let came = at(data, path);
        if let Err(expected) = holds(check, came, variables) {
            return differs(format!("{path} {expected}"), came);
        }
    }
    Ok(())
}

/// `Err` says in words what was expected.
fn holds(check: &Check, came: &Value, variables: &Variables) -> Result<(), String> {
    let (holds, expected) = match check {
        Check::Equals(value) => {
            let value = fill(value, variables);
            (*came == value, format!("to be {value}"))
        }
        Check::Rule(Rule::Present(true)) => (!came.is_null(), "to be there".to_owned()),
        Check::Rule(Rule::Present(false)) => (came.is_null(), "to be null".to_owned()),
        Check::Rule(Rule::AtLeast(least)) => {
            (came.as_i64().is_some_and(|number| number >= *least), format!("to be at least {least}"))
        }
        Check::Rule(Rule::Length(length)) => {
            (came.as_array().is_some_and(|entries| entries.len() == *length), format!("to have {length} entries"))
        }
        Check::Rule(Rule::Contains(part)) => {
            let part = fill(part, variables);
            (contains(came, &part) == Some(true), format!("to contain {part}"))
        }
        Check::Rule(Rule::Lacks(part)) => {
            let part = fill(part, variables);
            (contains(came, &part) == Some(false), format!("not to contain {part}"))
        }
    };
    if holds { Ok(()) } else { Err(expected) }
}

/// `None` when the whole is neither a list nor a text.
fn contains(whole: &Value, part: &Value) -> Option<bool> {
    match whole {
        Value::Array(entries) => Some(entries.contains(part)),
        Value::String(text) => Some(text.contains(part.as_str()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(text: &str) -> Step {
        toml::from_str(&format!("name = 'a step'\nquery = '{{ me {{ id }} }}'\n{text}")).expect("a step")
    }

    fn verdict(text: &str, answer: Value) -> Result<(), String> {
        let variables = Variables::from([("lamp".to_owned(), "prd_1".to_owned())]);
        verify(&step(text), &answer, &variables).map_err(|mismatch| mismatch.to_string())
    }

    #[test]
    fn placeholders_are_filled_wherever_a_text_stands() {
        let variables = Variables::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let value = json!({ "x": ["{{a}}-{{b}}", 3, { "y": "{{c}} {{a}}" }] });
        assert_eq!(fill(&value, &variables), json!({ "x": ["1-2", 3, { "y": "{{c}} 1" }] }));
        assert_eq!(placeholders(&value), ["a", "b", "c", "a"]);
    }

    #[test]
    fn an_answer_with_errors_is_only_good_where_they_are_expected() {
        let failed = json!({ "errors": [{ "message": "no", "extensions": { "code": "FORBIDDEN" } }] });
        assert_eq!(verdict("error = 'FORBIDDEN'", failed.clone()), Ok(()));
        assert!(verdict("", failed.clone()).is_err());
        assert!(verdict("error = 'TIMEOUT'", failed).is_err());
        assert!(verdict("error = 'FORBIDDEN'", json!({ "data": { "me": null } })).is_err());
    }

    #[test]
    fn a_refusal_is_only_good_where_it_is_expected() {
        let refused = json!({ "data": { "signUp": { "userErrors": [{ "code": "EMAIL_TAKEN" }] } } });
        assert_eq!(verdict("refused = 'EMAIL_TAKEN'", refused.clone()), Ok(()));
        assert_eq!(
            verdict("", refused.clone()),
            Err(r#"expected nothing refused, but it is [{"code":"EMAIL_TAKEN"}]"#.into())
        );
        assert!(verdict("refused = 'CONFLICT'", refused).is_err());
        assert!(verdict("refused = 'CONFLICT'", json!({ "data": { "signUp": { "userErrors": [] } } })).is_err());
    }

    #[test]
    fn each_kind_of_check_tells_the_good_from_the_bad() {
        let data = json!({ "data": { "n": 3, "text": "a lamp", "list": [{ "id": "prd_1" }, { "id": "prd_2" }], "none": null } });
        for (check, good) in [
            ("'n' = 3", true),
            ("'n' = 4", false),
            ("'list.0.id' = '{{lamp}}'", true),
            ("'list.1.id' = '{{lamp}}'", false),
            ("'list.2.id' = '{{lamp}}'", false),
            ("'n' = { present = true }", true),
            ("'none' = { present = true }", false),
            ("'none' = { present = false }", true),
            ("'text' = { present = false }", false),
            ("'n' = { at_least = 3 }", true),
            ("'n' = { at_least = 4 }", false),
            ("'text' = { at_least = 0 }", false),
            ("'list' = { length = 2 }", true),
            ("'list' = { length = 1 }", false),
            ("'list' = { contains = { id = '{{lamp}}' } }", true),
            ("'list' = { contains = { id = 'prd_3' } }", false),
            ("'text' = { contains = 'lamp' }", true),
            ("'text' = { contains = 'kettle' }", false),
            ("'none' = { contains = 'kettle' }", false),
            ("'list' = { lacks = { id = 'prd_3' } }", true),
            ("'list' = { lacks = { id = '{{lamp}}' } }", false),
            ("'none' = { lacks = 'kettle' }", false),
        ] {
            let verdict = verdict(&format!("[expect]\n{check}"), data.clone());
            assert_eq!(verdict.is_ok(), good, "{check}: {verdict:?}");
        }
    }

    #[test]
    fn a_mismatch_says_what_was_expected_and_what_came() {
        let verdict =
            verdict("[expect]\n'order.status' = 'SHIPPED'", json!({ "data": { "order": { "status": "PENDING" } } }));
        assert_eq!(verdict, Err(r#"expected order.status to be "SHIPPED", but it is "PENDING""#.into()));
    }
}

//! The walk as a Postman collection (format v2.1) with its environment.

use serde_json::{Map, Value, json};
use souk::app::walk::{Chapter, Check, Rule, Step, chapters, placeholders};
use souk::app::{DEMO_ACCOUNTS, DEMO_PASSWORD};
use souk::domain::users::Role;

const ABOUT: &str = "Fills the shop and walks every query and mutation, with tests on each answer. Run the collection as a whole, in its \
order: later requests use what earlier ones have saved. It can be run again in the same shop.\n\n\
The environment says where the shop is and who runs it (the demo shop's administrator unless changed). Mailed tokens are \
walked to their refusal, since only the mailbox has them.\n\n\
Subscriptions never end by themselves, which a run of a collection would wait for: GraphiQL and docs/api.md show them.";

/// Between two times of asking for what follows by an event, in milliseconds.
const ASK_AGAIN_MS: u64 = 500;

pub fn collection() -> Value {
    let mut folders: Vec<_> = chapters().iter().map(folder).collect();
    let first = &mut folders[0]["item"][0]["event"];
    first.as_array_mut().expect("each request has tests").insert(0, script("prerequest", &start_of_a_run()));
    json!({
        "info": {
            "name": "Souk",
            "description": ABOUT,
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "item": folders,
        "variable": [{ "key": "nobodyToken", "value": "of-no-shop", "type": "string" }],
    })
}

pub fn environment() -> Value {
    let admin = DEMO_ACCOUNTS.iter().find(|(role, ..)| *role == Role::Admin).map(|(.., email)| email);
    json!({
        "name": "Souk",
        "values": [
            { "key": "url", "value": "http://127.0.0.1:4000/graphql", "type": "default", "enabled": true },
            { "key": "adminEmail", "value": admin, "type": "default", "enabled": true },
            { "key": "adminPassword", "value": DEMO_PASSWORD, "type": "secret", "enabled": true },
        ],
        "_postman_variable_scope": "environment",
    })
}

fn folder(chapter: &Chapter) -> Value {
    let items: Vec<_> = chapter.steps.iter().map(item).collect();
    json!({ "name": chapter.title, "description": chapter.about, "item": items })
}

fn item(step: &Step) -> Value {
    let auth = match step.token_variable() {
        Some(name) => json!({
            "type": "bearer",
            "bearer": [{ "key": "token", "value": format!("{{{{{name}}}}}"), "type": "string" }],
        }),
        None => json!({ "type": "noauth" }),
    };
    let variables = if step.variables.is_empty() { String::new() } else { pretty(&step.variables) };
    json!({
        "name": step.name,
        "event": [script("test", &tests(step))],
        "request": {
            "method": "POST",
            "auth": auth,
            "header": [],
            "body": { "mode": "graphql", "graphql": { "query": step.query, "variables": variables } },
            "url": { "raw": "{{url}}", "host": ["{{url}}"] },
        },
    })
}

fn pretty(variables: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(variables).expect("a JSON value is text")
}

fn script(listen: &str, lines: &[String]) -> Value {
    json!({ "listen": listen, "script": { "type": "text/javascript", "exec": lines } })
}

/// New names and a new password for each run.
fn start_of_a_run() -> Vec<String> {
    [
        "const run = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);",
        r#"pm.collectionVariables.set("run", run);"#,
        r#"pm.collectionVariables.set("password", "walk-" + pm.variables.replaceIn("{{$guid}}"));"#,
        r#"pm.collectionVariables.unset("tries");"#,
    ]
    .map(str::to_owned)
    .into()
}

fn tests(step: &Step) -> Vec<String> {
    let mut lines = vec![
        "const { get } = require(\"lodash\");".to_owned(),
        "const answer = pm.response.json();".to_owned(),
        "const at = (path) => get(answer.data, path);".to_owned(),
    ];
    if step.expect.values().any(|check| expected(check).is_some_and(|value| !placeholders(value).is_empty())) {
        lines.push("const filled = (value) => JSON.parse(pm.variables.replaceIn(JSON.stringify(value)));".to_owned());
    }
    let mut checks = vec![match &step.error {
        Some(code) => (
            format!("fails as {code}"),
            format!("pm.expect(get(answer, \"errors.0.extensions.code\")).to.eql({})", text(code)),
        ),
        None => ("answers without errors".to_owned(), "pm.expect(answer.errors).to.be.undefined".to_owned()),
    }];
    if step.error.is_none() && step.query.trim_start().starts_with("mutation") {
        lines.push(
            "const userErrors = Object.values(answer.data || {}).flatMap((payload) => (payload && payload.userErrors) || []);"
                .to_owned(),
        );
        checks.push(match &step.refused {
            Some(code) => (
                format!("is refused as {code}"),
                format!("pm.expect(get(userErrors, \"0.code\")).to.eql({})", text(code)),
            ),
            None => ("nothing is refused".to_owned(), "pm.expect(userErrors).to.eql([])".to_owned()),
        });
    }
    checks.extend(step.expect.iter().map(|(path, check)| check_of(path, check)));
    let save = step.save.iter().map(|(name, path)| {
        (
            format!("{path} is kept as {name}"),
            format!(
                "{{ pm.expect(at({0})).to.be.a(\"string\"); pm.collectionVariables.set({1}, at({0})); }}",
                text(path),
                text(name)
            ),
        )
    });
    match step.within_ms {
        None => lines.extend(checks.into_iter().chain(save).map(|(name, check)| test(&name, &check))),
        Some(within) => {
            lines.push("// It follows by an event: asked again until it is there.".to_owned());
            lines.push("const checks = {".to_owned());
            lines.extend(checks.iter().map(|(name, check)| format!("  {}: () => {check},", text(name))));
            lines.push("};".to_owned());
            lines.push(
                "const holds = (check) => { try { check(); return true; } catch (error) { return false; } };"
                    .to_owned(),
            );
            lines.push(r#"const tries = Number(pm.collectionVariables.get("tries") || 0) + 1;"#.to_owned());
            lines.push(format!(
                "if (tries < {} && !Object.values(checks).every(holds)) {{",
                within.div_ceil(ASK_AGAIN_MS).max(2)
            ));
            lines.push(r#"  pm.collectionVariables.set("tries", tries);"#.to_owned());
            lines.push("  pm.execution.setNextRequest(pm.info.requestName);".to_owned());
            lines.push(format!("  setTimeout(() => {{}}, {ASK_AGAIN_MS});"));
            lines.push("} else {".to_owned());
            lines.push(r#"  pm.collectionVariables.unset("tries");"#.to_owned());
            lines.push("  Object.entries(checks).forEach(([name, check]) => pm.test(name, check));".to_owned());
            lines.extend(save.map(|(name, check)| format!("  {}", test(&name, &check))));
            lines.push("}".to_owned());
        }
    }
    lines
}

fn test(name: &str, check: &str) -> String {
    format!("pm.test({}, () => {check});", text(name))
}

/// A text as JavaScript writes it.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// The value that the check compares with.
fn expected(check: &Check) -> Option<&Value> {
    match check {
        Check::Equals(value) | Check::Rule(Rule::Contains(value) | Rule::Lacks(value)) => Some(value),
        Check::Rule(_) => None,
    }
}

/// The name and the JavaScript of a check.
fn check_of(path: &str, check: &Check) -> (String, String) {
    let value = expected(check)
        .map(|value| if placeholders(value).is_empty() { value.to_string() } else { format!("filled({value})") });
    let value = value.unwrap_or_default();
    let (words, assertion) = match check {
        Check::Equals(_) => ("is as expected".to_owned(), format!("to.eql({value})")),
        Check::Rule(Rule::Present(true)) => ("is there".to_owned(), "to.exist".to_owned()),
        Check::Rule(Rule::Present(false)) => ("is null".to_owned(), "to.not.exist".to_owned()),
        Check::Rule(Rule::AtLeast(least)) => (format!("is at least {least}"), format!("to.be.at.least({least})")),
        Check::Rule(Rule::Length(length)) => (format!("has {length} entries"), format!("to.have.lengthOf({length})")),
        Check::Rule(Rule::Contains(_)) => ("contains what is expected".to_owned(), format!("to.deep.include({value})")),
        Check::Rule(Rule::Lacks(_)) => {
            ("lacks what must not be there".to_owned(), format!("to.not.deep.include({value})"))
        }
    };
    (format!("{path} {words}"), format!("pm.expect(at({})).{assertion}", text(path)))
}

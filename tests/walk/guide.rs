//! The examples of `docs/api.md`, in their order, against a shop: each answer is the one that the guide shows.
//!
//! Ids, tokens, cursors, numbers and times differ from shop to shop. What stands at their place in an answer is taken
//! for what the guide shows there, in every later example too, so that an id shown twice must be one id.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use souk::actors::users::messages::{CreateAccount, Password};
use souk::domain::text::Email;
use souk::domain::users::Role;

use crate::support::{Socket, TestApp, eventually, spawn_app};

/// The fields that differ from shop to shop.
const OWN_TO_A_SHOP: [&str; 12] = [
    "accessToken",
    "endCursor",
    "expiresAt",
    "failedAt",
    "id",
    "number",
    "prefix",
    "productId",
    "refreshToken",
    "requestId",
    "secret",
    "traceId",
];

const STAFF: &str = "staff@demo.example";

struct Example {
    line: usize,
    /// Whose token is sent, by the address, or which API key, by its name.
    asker: Option<String>,
    query: String,
    /// Of a subscription several.
    answers: Vec<Value>,
}

struct Block<'a> {
    line: usize,
    language: &'a str,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<_> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push(Block { line: number + 1, language, text: text.join("\n") });
        }
    }
    blocks
}

fn examples(guide: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for Block { line, language, text } in blocks(guide) {
        match language {
            "graphql" => {
                let asker = text.strip_prefix("# as ").and_then(|rest| rest.lines().next()).map(str::to_owned);
                examples.push(Example { line, asker, query: text, answers: Vec::new() });
            }
            "json" => {
                let answer = serde_json::from_str(&text).unwrap_or_else(|error| panic!("docs/api.md:{line}: {error}"));
                examples.last_mut().expect("an answer follows its example").answers.push(answer);
            }
            _ => {}
        }
    }
    examples
}

/// What stands in this shop for what the guide shows.
#[derive(Default, Clone)]
struct Learned(BTreeMap<String, String>);

impl Learned {
    fn translate(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (shown, own)| text.replace(shown, own))
    }

    /// Whether the answer is what is shown; learns what is own to this shop.
    fn accept(&mut self, shown: &Value, came: &Value, field: &str) -> Result<(), String> {
        let differs = || Err(format!("{field}: the guide shows {shown}, the shop answers {came}"));
        match (shown, came) {
            (Value::Object(shown_fields), Value::Object(fields)) => {
                if !shown_fields.keys().eq(fields.keys()) {
                    return differs();
                }
                shown_fields.iter().try_for_each(|(name, value)| self.accept(value, &fields[name], name))
            }
            (Value::Array(shown_entries), Value::Array(entries)) => {
                if shown_entries.len() != entries.len() {
                    return differs();
                }
                shown_entries.iter().zip(entries).try_for_each(|(shown, came)| self.accept(shown, came, field))
            }
            (Value::String(text), Value::String(own)) if OWN_TO_A_SHOP.contains(&field) => {
                let known = self.0.entry(text.clone()).or_insert_with(|| own.clone());
                if known == own { Ok(()) } else { differs() }
            }
            // A number may also stand within a text.
            (Value::String(text), Value::String(own)) if self.translate(text) == *own => Ok(()),
            _ if shown == came => Ok(()),
            _ => differs(),
        }
    }
}

/// Of an answer the guide shows the data, or all of it when there are errors.
fn as_shown(mut answer: Value) -> Value {
    if answer.get("errors").is_some() { answer } else { answer["data"].take() }
}

async fn create_staff(app: &TestApp) {
    let account = CreateAccount {
        email: Email::parse(STAFF).unwrap(),
        name: "Demo Staff".into(),
        password: Password(souk::app::DEMO_PASSWORD.into()),
        role: Role::Staff,
    };
    let config = app.config.clone();
    // On a thread of its own: the command runs a runtime of its own.
    let created = std::thread::spawn(move || souk::app::create_account(&config, account)).join().unwrap();
    created.expect("the users store opens").expect("the account is new");
}

/// Waits until one of these has the mail with what was picked for them.
async fn digest_of(app: &TestApp, tokens: impl Iterator<Item = &String> + Clone) {
    let query = "{ me { notifications(first: 100) { nodes { kind } } } }";
    eventually("somebody has the recommendations' mail", || async {
        for token in tokens.clone() {
            let told = app.answer(Some(token.as_str()), query, json!({})).await.to_string();
            if told.contains("\"RECOMMENDATION\"") {
                return Some(());
            }
        }
        None
    })
    .await;
}

#[actix_rt::test]
async fn every_example_is_answered_as_the_guide_shows() {
    let guide = include_str!("../../docs/api.md");
    let app = spawn_app().await;
    create_staff(&app).await;
    let mut learned = Learned::default();
    let mut tokens = BTreeMap::new();
    let examples = examples(guide);
    assert!(examples.len() > 20, "the guide has its examples");
    for Example { line, asker, query, answers } in examples {
        let token: Option<String> = asker.map(|asker| tokens.get(&asker).cloned().expect("who asks has signed in"));
        let query = learned.translate(&query);
        let place = format!("docs/api.md:{line}");
        if query.contains("subscription {") {
            let mut socket = Socket::connect(app.public, token.as_deref()).await;
            let id = socket.subscribe(&query, json!({})).await;
            for shown in &answers {
                let came = socket.data_of(&id).await;
                learned.accept(shown, &came, "data").unwrap_or_else(|reason| panic!("{place}: {reason}"));
            }
            continue;
        }
        let [shown] = answers.as_slice() else { panic!("{place}: an example has one answer") };
        if query.contains("orderShip") {
            // The guide shows a shop in which it had come by then; it is nobody's answer and comes when it comes.
            digest_of(&app, tokens.values()).await;
        }
        let ask = || async { as_shown(app.answer(token.as_deref(), &query, json!({})).await) };
        let came = if query.contains("mutation {") {
            ask().await
        } else {
            // What follows by an event is not there at once.
            let last = std::cell::RefCell::new(Value::Null);
            let good = || async {
                let came = ask().await;
                last.replace(came.clone());
                learned.clone().accept(shown, &came, "data").is_ok().then_some(came)
            };
            eventually(&format!("{place}: the shop answers {shown}"), good).await
        };
        learned.accept(shown, &came, "data").unwrap_or_else(|reason| panic!("{place}: {reason}"));
        for payload in came.as_object().into_iter().flat_map(|fields| fields.values()) {
            let session = &payload["session"];
            if let (Some(email), Some(token)) = (session["user"]["email"].as_str(), session["accessToken"].as_str()) {
                tokens.insert(email.to_owned(), token.to_owned());
            }
            if let (Some(name), Some(secret)) = (payload["apiKey"]["name"].as_str(), payload["secret"].as_str()) {
                tokens.insert(name.to_owned(), secret.to_owned());
            }
        }
    }
}

#[actix_rt::test]
async fn the_shell_example_is_answered() {
    let app = spawn_app().await;
    let guide = include_str!("../../docs/api.md");
    let shell: Vec<_> = blocks(guide).into_iter().filter(|block| block.language == "sh").collect();
    let [Block { text, .. }] = shell.as_slice() else { panic!("the guide has one shell example") };
    let command = text.replace("127.0.0.1:4000", &app.public.to_string());
    let output = Command::new("sh").args(["-c", &command]).output().expect("sh runs");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("curl prints the answer");
    assert_eq!(answer, json!({ "data": { "products": { "totalCount": 0 } } }));
}

#[test]
fn an_answer_that_differs_from_the_guide_is_told() {
    let shown = json!({ "order": { "id": "ord_1", "status": "PENDING", "lines": [{ "productId": "prd_1" }] } });
    let mut learned = Learned::default();
    let mut verdict = |came: Value| learned.accept(&shown, &came, "data");
    let good = json!({ "order": { "id": "ord_7", "status": "PENDING", "lines": [{ "productId": "prd_7" }] } });
    assert_eq!(verdict(good.clone()), Ok(()));
    for (path, value) in [
        ("/order/id", json!("ord_8")),
        ("/order/status", json!("SHIPPED")),
        ("/order/lines", json!([])),
        ("/order/lines/0", json!({ "productId": "prd_7", "quantity": 1 })),
        ("/order/lines/0/productId", json!(null)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert!(verdict(bad).is_err(), "{path}");
    }
    assert_eq!(learned.translate("order(id: \"ord_1\") of prd_1"), "order(id: \"ord_7\") of prd_7");
}

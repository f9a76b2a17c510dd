//! A row of the table, and how it is judged.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Client;

/// The media types of an answer: the newer, then the older.
pub const MEDIA_TYPES: [&str; 2] = ["application/graphql-response+json", "application/json"];

/// Where a refusal is expected.
pub enum Expected {
    /// In the payload's `userErrors`, with the code and the dotted path of the input; an empty path is none.
    UserError(String, String),
    /// At the top level, with the code; nothing was executed: the statuses are those of the two media types.
    Refused([u16; 2], String),
    /// At the top level, of a field that was executed: 200. The dotted path in `extensions.field`; empty is none.
    FieldError(String, String),
    /// No error, but the pointed-to value: what is malformed, foreign and missing is answered alike.
    Value(String, Value),
}

/// What is sent and what is expected.
pub struct Row {
    pub name: String,
    pub method: Method,
    /// After the path of the API.
    pub query_string: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub expected: Expected,
}

impl Row {
    /// A POST of a document with variables.
    pub fn post(name: &str, token: Option<&str>, query: &str, variables: Value, expected: Expected) -> Self {
        let body = json!({ "query": query, "variables": variables });
        Self::raw(name, &[("content-type", "application/json")], body.to_string().as_bytes(), expected)
            .with_token(token)
    }

    /// A POST of any bytes.
    pub fn raw(name: &str, headers: &[(&str, &str)], body: &[u8], expected: Expected) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let query_string = String::new();
        Self { name: name.into(), method: Method::POST, query_string, headers, body: body.into(), expected }
    }

    /// A request without a body.
    pub fn bare(name: &str, method: Method, query_string: &str, expected: Expected) -> Self {
        Self { method, query_string: query_string.into(), ..Self::raw(name, &[], b"", expected) }
    }

    pub fn with_token(mut self, token: Option<&str>) -> Self {
        self.headers.extend(token.map(|token| ("authorization".into(), format!("Bearer {token}"))));
        self
    }

    /// Sends the row as both media types; every failure as a line.
    pub async fn judge(&self, client: &Client) -> Vec<String> {
        let mut failures = Vec::new();
        for (position, accept) in MEDIA_TYPES.into_iter().enumerate() {
            let url = format!("{}{}", client.url("/graphql"), self.query_string);
            let mut request = client.http.request(self.method.clone(), url).header("accept", accept);
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            let response = request.body(self.body.clone()).send().await.unwrap();
            let status = response.status().as_u16();
            let has_request_id = response.headers().contains_key("x-request-id");
            let text = response.text().await.unwrap();
            let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let mut problems = general_problems(status, has_request_id, &body);
            problems.extend(self.problems(position, status, &body));
            let start: String = text.chars().take(600).collect();
            failures
                .extend(problems.into_iter().map(|problem| format!("{} [{accept}]: {problem}\n  {start}", self.name)));
        }
        failures
    }

    fn problems(&self, position: usize, status: u16, body: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |what: &str, found: &Value, expected: Value| {
            if *found != expected {
                problems.push(format!("{what} is {found}, expected {expected}"));
            }
        };
        let error = &body["errors"][0];
        match &self.expected {
            Expected::UserError(code, field) => {
                expect("status", &json!(status), json!(200));
                expect("errors", &body["errors"], Value::Null);
                let payload = body["data"].as_object().and_then(|data| data.values().next()).unwrap_or(&Value::Null);
                let error = &payload["userErrors"][0];
                expect("userErrors.code", &error["code"], json!(code));
                expect("userErrors.field", &error["field"], dotted(field));
                for (name, value) in payload.as_object().into_iter().flatten() {
                    if name != "userErrors" && value.is_object() {
                        expect(name, value, Value::Null);
                    }
                }
            }
            Expected::Refused(statuses, code) => {
                expect("status", &json!(status), json!(statuses[position]));
                expect("code", &error["extensions"]["code"], json!(code));
                expect("has data", &json!(body.get("data").is_some()), json!(false));
            }
            Expected::FieldError(code, field) => {
                expect("status", &json!(status), json!(200));
                expect("code", &error["extensions"]["code"], json!(code));
                expect("extensions.field", &error["extensions"]["field"], dotted(field));
                expect("has a path", &json!(error["path"].is_array()), json!(true));
                expect("has data", &json!(body.get("data").is_some()), json!(true));
            }
            Expected::Value(pointer, value) => {
                expect("status", &json!(status), json!(200));
                expect("errors", &body["errors"], Value::Null);
                expect(pointer, body.pointer(pointer).unwrap_or(&json!("nothing")), value.clone());
            }
        }
        problems
    }
}

/// What holds for every answer.
fn general_problems(status: u16, has_request_id: bool, body: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    if status >= 500 {
        problems.push(format!("status {status}"));
    }
    if !has_request_id {
        problems.push("no header x-request-id".into());
    }
    if !body.is_object() {
        problems.push("the answer is no JSON object".into());
    }
    for error in body["errors"].as_array().into_iter().flatten() {
        for name in ["code", "requestId"] {
            if error["extensions"][name].as_str().is_none_or(str::is_empty) {
                problems.push(format!("an error without extensions.{name}"));
            }
        }
        if error["extensions"]["code"] == "INTERNAL_SERVER_ERROR" {
            problems.push("INTERNAL_SERVER_ERROR".into());
        }
    }
    problems
}

fn dotted(path: &str) -> Value {
    if path.is_empty() { Value::Null } else { json!(path.split('.').collect::<Vec<_>>()) }
}

pub fn user_error(code: &str, field: &str) -> Expected {
    Expected::UserError(code.into(), field.into())
}

pub fn field_error(code: &str, field: &str) -> Expected {
    Expected::FieldError(code.into(), field.into())
}

/// A well-formed request that is refused as a whole.
pub fn request_error(code: &str) -> Expected {
    Expected::Refused([400, 200], code.into())
}

/// What is no GraphQL request, or none that may be made: one status for both media types.
pub fn refused(status: u16, code: &str) -> Expected {
    Expected::Refused([status, status], code.into())
}

pub fn is_null(field: &str) -> Expected {
    Expected::Value(format!("/data/{field}"), Value::Null)
}

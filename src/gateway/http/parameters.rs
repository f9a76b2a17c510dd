//! The parameters of a GraphQL request, from a body or a query string, with their types judged one by one.

use std::borrow::Cow;
use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web;
use async_graphql::{Value, Variables};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Refusal;
use super::negotiation::MediaType;
use crate::gateway::document_limits::DocumentLimits;
use crate::gateway::json_limits;
use crate::gateway::service::Parameters;

/// The members as they came: what each must be is said by a message of its own.
#[derive(Deserialize)]
struct RawParameters<'a> {
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow, rename = "operationName")]
    operation_name: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

/// Says where, and repeats nothing of the body: it may hold a password.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "the body is no JSON object of a request with each part once",
        _ => "the body is not JSON",
    };
    format!("{what}: line {}, column {}", error.line(), error.column())
}

/// From the body of a POST.
pub(super) fn from_json(bytes: &[u8], limits: &DocumentLimits, media_type: MediaType) -> Result<Parameters, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::bad_request("the body is not UTF-8"))?;
    match text.trim_ascii_start().bytes().next() {
        None => return Err(Refusal::bad_request("the body is empty")),
        Some(b'[') => return Err(Refusal::bad_request("batches are not taken: send one request at a time")),
        _ => {}
    }
    let raw: RawParameters<'_> =
        serde_json::from_str(text).map_err(|error| Refusal::bad_request(what_is_wrong(&error)))?;
    if raw.query.is_some_and(|query| json_limits::unpacks_to_more_than(limits.max_bytes, query.get())) {
        return Err(Refusal::of(limits.too_long(), media_type));
    }
    let parameters = Parameters {
        query: match raw.query {
            Some(query) => Some(text_of(query).ok_or_else(|| Refusal::bad_request("query must be a string"))?),
            None => None,
        },
        operation_name: match raw.operation_name {
            Some(name) => {
                Some(text_of(name).ok_or_else(|| Refusal::bad_request("operationName must be a string or null"))?)
            }
            None => None,
        },
        variables: raw.variables.map_or_else(|| Ok(Variables::default()), |raw| object("variables", raw.get()))?,
        extensions: extensions(raw.extensions.map(RawValue::get))?,
    };
    with_text(parameters)
}

/// From the query string of a GET.
pub(super) fn from_query_string(text: &str) -> Result<Parameters, Refusal> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(text)
        .map_err(|_| Refusal::bad_request("the query string cannot be read"))?
        .into_inner();
    let mut found: HashMap<String, String> = HashMap::new();
    for (name, value) in pairs {
        if matches!(name.as_str(), "query" | "operationName" | "variables" | "extensions")
            && found.insert(name, value).is_some()
        {
            return Err(Refusal::bad_request("a parameter was given twice"));
        }
    }
    // An empty one says nothing, as the specification has it for operationName.
    let mut given = |name: &str| found.remove(name).filter(|value| !value.is_empty());
    with_text(Parameters {
        query: given("query"),
        operation_name: given("operationName"),
        variables: given("variables").map_or_else(|| Ok(Variables::default()), |text| nullable("variables", &text))?,
        extensions: extensions(given("extensions").as_deref())?,
    })
}

fn with_text(parameters: Parameters) -> Result<Parameters, Refusal> {
    if parameters.has_text() { Ok(parameters) } else { Err(Refusal::bad_request("query is missing")) }
}

fn text_of(raw: &RawValue) -> Option<String> {
    if !raw.get().starts_with('"') {
        return None;
    }
    serde_json::from_str::<Cow<'_, str>>(raw.get()).ok().map(Cow::into_owned)
}

fn extensions(text: Option<&str>) -> Result<HashMap<String, Value>, Refusal> {
    text.map_or_else(|| Ok(HashMap::new()), |text| nullable("extensions", text))
}

fn nullable<T: DeserializeOwned + Default>(name: &str, text: &str) -> Result<T, Refusal> {
    if text.trim_ascii() == "null" { Ok(T::default()) } else { object(name, text) }
}

fn object<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Refusal> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Refusal::bad_request(format!("{name} must be an object or null")));
    }
    json_limits::check(name, text).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))?;
    serde_json::from_str(text).map_err(|error| Refusal::bad_request(format!("{name}: {error}")))
}

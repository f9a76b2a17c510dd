//! Automatic persisted queries over HTTP and server-sent events.

use std::sync::atomic::Ordering;

use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use souk::gateway::persisted_queries::{hash_digits, hash_of};

use crate::events::Events;
use crate::harness::Server;

const NEWER: &str = "application/graphql-response+json";

pub fn named(text: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash_digits(&hash_of(text)) } })
}

impl Server {
    async fn send(&self, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.url("/graphql")).header(ACCEPT, NEWER).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The answer to the hash of a text, sent without it.
    async fn by_hash(&self, text: &str) -> Value {
        self.send(&json!({ "extensions": named(text) })).await.1
    }

    async fn get_named(&self, text: Option<&str>, extensions: &Value) -> (u16, Value) {
        let extensions = extensions.to_string();
        let mut parameters = vec![("extensions", extensions.as_str())];
        parameters.extend(text.map(|text| ("query", text)));
        let request = self.http.get(self.url("/graphql")).header(ACCEPT, NEWER).query(&parameters);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("")
}

const NOT_FOUND: &str = "PERSISTED_QUERY_NOT_FOUND";

#[actix_web::test]
async fn a_query_that_was_sent_with_its_hash_is_known_by_it_over_post_and_get() {
    let server = Server::start().await;
    let text = "query($n: String) { hello(name: $n) }";
    let unknown = server.by_hash(text).await;
    assert_eq!((code(&unknown), &unknown["errors"][0]["message"]), (NOT_FOUND, &json!("PersistedQueryNotFound")));
    assert!(unknown.get("data").is_none());
    let body = json!({ "query": text, "variables": { "n": "Ann" }, "extensions": named(text) });
    assert_eq!(server.send(&body).await, (200, json!({ "data": { "hello": "hello Ann" } })));
    let body = json!({ "query": null, "variables": { "n": "Bob" }, "extensions": named(text) });
    assert_eq!(server.send(&body).await, (200, json!({ "data": { "hello": "hello Bob" } })));
    assert_eq!(server.get_named(None, &named(text)).await, (200, json!({ "data": { "hello": "hello you" } })));

    let other = "{ who }";
    assert_eq!(server.get_named(None, &named(other)).await.0, 400);
    assert_eq!(server.get_named(Some(other), &named(other)).await, (200, json!({ "data": { "who": "nobody" } })));
    assert_eq!(server.by_hash(other).await, json!({ "data": { "who": "nobody" } }));
}

#[actix_web::test]
async fn what_is_refused_is_never_kept() {
    let server = Server::start().await;
    for text in [
        "{",
        "{ nothing }",
        "{ double }",
        "query A { hello } query B { hello }",
        "subscription { count(to: 1) }",
        "query($n: Int!) { double(number: $n) }",
        &format!("{{ {} }}", "hello ".repeat(51)),
    ] {
        let (status, answer) = server.send(&json!({ "query": text, "extensions": named(text) })).await;
        assert_eq!((status, answer.get("data")), (400, None), "{text:.60} {answer}");
        assert_eq!(code(&server.by_hash(text).await), NOT_FOUND, "{text:.60}");
    }
    let (text, forged) = ("{ hello }", named("{ who }"));
    let (status, answer) = server.send(&json!({ "query": text, "extensions": forged })).await;
    assert_eq!((status, code(&answer)), (400, "BAD_USER_INPUT"));
    for text in [text, "{ who }"] {
        assert_eq!(code(&server.by_hash(text).await), NOT_FOUND);
    }
    // What was executed and failed is kept: the client will want it again.
    server.send(&json!({ "query": "{ failsHard }", "extensions": named("{ failsHard }") })).await;
    assert_eq!(code(&server.by_hash("{ failsHard }").await), "INTERNAL_SERVER_ERROR");
}

#[actix_web::test]
async fn a_mutation_that_is_known_is_still_refused_by_get() {
    let server = Server::start().await;
    let text = "mutation { bump }";
    server.send(&json!({ "query": text, "extensions": named(text) })).await;
    assert_eq!(server.get_named(None, &named(text)).await.0, 405);
    assert_eq!(server.world.mutations.load(Ordering::SeqCst), 1);
    assert_eq!(server.by_hash(text).await, json!({ "data": { "bump": 2 } }));
}

#[actix_web::test]
async fn a_request_without_text_and_hash_is_malformed() {
    let server = Server::start().await;
    for body in [json!({ "extensions": {} }), json!({ "extensions": { "persistedQuery": null } })] {
        let (status, answer) = server.send(&body).await;
        assert_eq!((status, code(&answer)), (400, "BAD_USER_INPUT"));
        assert_eq!(server.get_named(None, &body["extensions"]).await.0, 400);
    }
    let (_, answer) = server.send(&json!({ "extensions": { "persistedQuery": { "version": 1 } } })).await;
    assert_eq!(code(&answer), "BAD_USER_INPUT");
}

#[actix_web::test]
async fn switched_off_they_are_not_supported() {
    let server = Server::start_with(|settings| settings.persisted_query_bytes = 0).await;
    let (_, answer) = server.send(&json!({ "query": "{ hello }", "extensions": named("{ hello }") })).await;
    assert_eq!(code(&answer), "PERSISTED_QUERY_NOT_SUPPORTED");
    assert_eq!(answer["errors"][0]["message"], "PersistedQueryNotSupported");
    assert_eq!(server.send(&json!({ "query": "{ hello }" })).await.0, 200);
}

#[actix_web::test]
async fn an_event_stream_begins_by_hash() {
    let server = Server::start().await;
    let text = "subscription { count(to: 1) }";
    for query in [json!(text), Value::Null] {
        let request = server.http.post(server.url("/graphql")).header(ACCEPT, "text/event-stream");
        let response = request.json(&json!({ "query": query, "extensions": named(text) })).send().await.unwrap();
        let mut events = Events::of(response);
        assert_eq!(events.next().await.unwrap().data, json!({ "data": { "count": 1 } }));
    }
}

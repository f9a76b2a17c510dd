//! Server-sent events: operations and their ends, refusals, sessions, and shutting down.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{ACCEPT, ALLOW};
use serde_json::{Value, json};

use crate::events::{Event, Events};
use crate::harness::{Server, eventually};

const STREAM: &str = "text/event-stream";

async fn post(server: &Server, token: Option<&str>, query: &str) -> reqwest::Response {
    let mut request = server.http.post(server.url("/graphql")).header(ACCEPT, STREAM).json(&json!({ "query": query }));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

async fn get(server: &Server, query: &str) -> reqwest::Response {
    let url = reqwest::Url::parse_with_params(&server.url("/graphql"), [("query", query)]).unwrap();
    server.http.get(url).header(ACCEPT, STREAM).send().await.unwrap()
}

fn next(data: Value) -> Event {
    Event { name: "next".into(), id: None, data: json!({ "data": data }) }
}

fn complete() -> Event {
    Event { name: "complete".into(), id: None, data: Value::Null }
}

#[actix_web::test]
async fn a_subscription_streams_its_results_and_completes_by_post_and_by_get() {
    let server = Server::start().await;
    let query = "subscription { count(to: 3) }";
    for response in [post(&server, None, query).await, get(&server, query).await] {
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut events = Events::of(response);
        for number in 1..=3 {
            assert_eq!(events.next().await, Some(next(json!({ "count": number }))));
        }
        assert_eq!(events.next().await, Some(complete()));
        assert_eq!(events.next().await, None);
    }
}

#[actix_web::test]
async fn a_query_is_one_result_and_a_mutation_by_get_is_refused() {
    let server = Server::start().await;
    let mut events = Events::of(get(&server, "{ hello }").await);
    assert_eq!(events.next().await, Some(next(json!({ "hello": "hello you" }))));
    assert_eq!((events.next().await, events.next().await), (Some(complete()), None));
    let mut events = Events::of(post(&server, None, "mutation { bump }").await);
    assert_eq!(events.next().await, Some(next(json!({ "bump": 1 }))));
    let refused = get(&server, "mutation { bump }").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()[ALLOW]), (405, &"POST".parse().unwrap()));
    assert_eq!(server.world.mutations.load(Ordering::SeqCst), 1);
}

#[actix_web::test]
async fn what_fails_before_execution_is_no_stream() {
    let server = Server::start().await;
    let cases = [
        (post(&server, None, "subscription {").await, 400, "GRAPHQL_PARSE_FAILED"),
        (post(&server, Some("nonsense"), "subscription { count(to: 1) }").await, 401, "UNAUTHENTICATED"),
    ];
    for (response, status, code) in cases {
        assert_eq!(response.status().as_u16(), status, "{code}");
        let text = response.text().await.unwrap();
        assert!(text.contains(code), "{text}");
    }
}

#[actix_web::test]
async fn a_subscription_that_is_refused_says_so_and_completes() {
    let server = Server::start().await;
    let cases =
        [("subscription { refused }", "UNAUTHENTICATED"), ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED")];
    for (query, code) in cases {
        let mut events = Events::of(post(&server, None, query).await);
        let refusal = events.next().await.unwrap();
        assert_eq!(refusal.data["errors"][0]["extensions"]["code"], code);
        assert!(refusal.data["errors"][0]["extensions"]["requestId"].is_string());
        assert_eq!(events.next().await, Some(complete()));
    }
}

#[actix_web::test]
async fn without_its_accept_header_a_subscription_is_refused() {
    let server = Server::start().await;
    for accept in ["application/json", "*/*", "application/json, text/event-stream;q=0"] {
        let request = server.http.post(server.url("/graphql")).header(ACCEPT, accept);
        let response = request.json(&json!({ "query": "subscription { count(to: 1) }" })).send().await.unwrap();
        let answer: Value = response.json().await.unwrap();
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("text/event-stream"), "{answer}");
    }
}

#[actix_web::test]
async fn a_client_that_takes_everything_gets_a_stream_for_a_subscription_and_one_answer_for_a_query() {
    let server = Server::start().await;
    let accept = "application/graphql-response+json, application/json, text/event-stream";
    let ask = async |query: &str| {
        let request = server.http.post(server.url("/graphql")).header(ACCEPT, accept);
        request.json(&json!({ "query": query })).send().await.unwrap()
    };
    let answer: Value = ask("{ hello }").await.json().await.unwrap();
    assert_eq!(answer, json!({ "data": { "hello": "hello you" } }));
    let mut events = Events::of(ask("subscription { count(to: 1) }").await);
    assert_eq!(events.next().await, Some(next(json!({ "count": 1 }))));
    let response = ask("subscription {").await;
    assert_eq!(response.status().as_u16(), 400);
}

#[actix_web::test]
async fn a_client_that_leaves_ends_its_subscription() {
    // At the next comment at the latest.
    let server = Server::start_with(|settings| settings.keepalive_interval = Duration::from_millis(50)).await;
    let mut events = Events::of(post(&server, None, "subscription { events }").await);
    let open = || server.world.open_streams.load(Ordering::SeqCst);
    eventually("the stream is open", async || open() == 1).await;
    server.world.events.send("one".into()).unwrap();
    assert_eq!(events.data().await.1["events"], "one");
    drop(events);
    eventually("the stream is closed", async || open() == 0).await;
}

#[actix_web::test]
async fn the_end_of_a_session_and_of_a_token_end_the_stream_with_their_reason() {
    let server = Server::start_with(|settings| settings.session_check_interval = Duration::from_millis(50)).await;
    let mut revoked = Events::of(post(&server, Some(&server.token(7)), "subscription { events }").await);
    // Two seconds are left of it.
    server.token(8);
    let nearly_over = server.token_at(8, -898_000);
    let mut expired = Events::of(post(&server, Some(&nearly_over), "subscription { events }").await);
    server.set_session(7, |state| state.ended = true);
    for events in [&mut revoked, &mut expired] {
        let reason = events.next().await.unwrap();
        assert_eq!(reason.data["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
        assert_eq!((events.next().await, events.next().await), (Some(complete()), None));
    }
    eventually("both are closed", async || server.world.open_streams.load(Ordering::SeqCst) == 0).await;
}

#[actix_web::test]
async fn a_stream_that_has_nothing_to_say_is_kept_alive_by_comments() {
    let server = Server::start_with(|settings| settings.keepalive_interval = Duration::from_millis(20)).await;
    let mut response = post(&server, None, "subscription { events }").await;
    for _ in 0..2 {
        let chunk = response.chunk().await.unwrap().unwrap();
        assert!(chunk.starts_with(b":\n\n"), "{chunk:?}");
    }
}

#[actix_web::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let server = Server::start_with(|settings| settings.slow_consumer_timeout = Duration::from_millis(50)).await;
    let response = post(&server, None, "subscription { events }").await;
    let open = || server.world.open_streams.load(Ordering::SeqCst);
    eventually("the stream is open", async || open() == 1).await;
    // More than all buffers on the way, fewer than the schema keeps for a subscriber.
    for _ in 0..90 {
        server.world.events.send("x".repeat(1_000_000)).unwrap();
    }
    eventually("the stream is closed", async || open() == 0).await;
    drop(response);
}

#[actix_web::test]
async fn shutting_down_ends_streams_without_completing_them() {
    let server = Server::start().await;
    let mut events = Events::of(post(&server, None, "subscription { events }").await);
    eventually("the stream is open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    assert!(server.public.drain(Duration::from_secs(10)).await);
    assert_eq!(events.next().await, None);
}

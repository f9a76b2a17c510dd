//! What operations answer, side by side, and how they end.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::harness::{Server, eventually};

#[actix_web::test]
async fn operations_answer_next_and_complete_or_error_alone() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let next = |id: &str, data: Value| json!({ "type": "next", "id": id, "payload": { "data": data } });
    let complete = |id: &str| json!({ "type": "complete", "id": id });

    client.subscribe("q", "{ hello }").await;
    assert_eq!(client.receive().await, next("q", json!({ "hello": "hello you" })));
    assert_eq!(client.receive().await, complete("q"));
    client.subscribe("q", "mutation { bump }").await;
    assert_eq!(client.receive().await, next("q", json!({ "bump": 1 })));
    assert_eq!(client.receive().await, complete("q"));
    client.subscribe("s", "subscription { count(to: 3) }").await;
    for number in 1..=3 {
        assert_eq!(client.receive().await, next("s", json!({ "count": number })));
    }
    assert_eq!(client.receive().await, complete("s"));
    client
        .send(json!({ "type": "subscribe", "id": "v", "payload": {
            "query": "query A($n: String) { hello(name: $n) } query B { who }",
            "variables": { "n": "Ann" }, "operationName": "A", "extensions": null } }))
        .await;
    assert_eq!(client.receive().await["payload"]["data"]["hello"], "hello Ann");
    assert_eq!(client.receive().await, complete("v"));

    // Failures before execution.
    for (query, code) in [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { refused }", "UNAUTHENTICATED"),
        ("query A { hello } query B { hello }", "BAD_USER_INPUT"),
        (&format!("{{ {} }}", "hello ".repeat(51)), "QUERY_TOO_COMPLEX"),
    ] {
        client.subscribe("e", query).await;
        let message = client.receive().await;
        assert_eq!(message["type"], "error", "{query} {message}");
        assert_eq!(
            (&message["id"], &message["payload"][0]["extensions"]["code"]),
            (&json!("e"), &json!(code)),
            "{query}"
        );
        assert!(message["payload"][0]["extensions"]["requestId"].is_string(), "{message}");
        client.expect_silence().await;
    }
    // Failures while executing are results.
    client.subscribe("f", "{ fails }").await;
    let message = client.receive().await;
    assert_eq!((&message["type"], &message["payload"]["data"]), (&json!("next"), &json!({ "fails": null })));
    assert_eq!(client.receive().await, complete("f"));
    client.subscribe("g", "{ failsHard }").await;
    assert_eq!(client.receive().await["payload"]["data"], Value::Null);
    assert_eq!(client.receive().await, complete("g"));
    client.subscribe("h", "subscription { sometimes }").await;
    assert_eq!(client.receive().await["type"], "next");
    assert_eq!(client.receive().await, next("h", json!({ "sometimes": 2 })));
}

#[actix_web::test]
async fn operations_run_side_by_side() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.subscribe("slow", "{ slow }").await;
    client.subscribe("events", "subscription { events }").await;
    client.subscribe("fast", "{ hello }").await;
    assert_eq!(client.receive().await["id"], "fast");
    assert_eq!(client.receive().await, json!({ "type": "complete", "id": "fast" }));
    eventually("the stream is open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    server.world.events.send("news".into()).unwrap();
    assert_eq!(client.receive().await["payload"]["data"]["events"], "news");
    server.world.go.notify_one();
    assert_eq!(client.receive().await["payload"]["data"]["slow"], "done");
}

#[actix_web::test]
async fn an_id_in_use_closes_4409_and_is_free_after_its_end() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.subscribe("1", "subscription { events }").await;
    client.subscribe("1", "{ hello }").await;
    assert_eq!(client.close_code().await, 4409);

    let mut client = server.connect().await;
    client.subscribe("1", "subscription { events }").await;
    client.send(json!({ "type": "complete", "id": "1" })).await;
    client.subscribe("1", "{ hello }").await;
    assert_eq!(client.receive().await["payload"]["data"]["hello"], "hello you");
}

#[actix_web::test]
async fn completing_stops_an_operation_and_nothing_follows() {
    let server = Server::start().await;
    let open = async |count: usize| {
        eventually("streams", async || server.world.open_streams.load(Ordering::SeqCst) == count).await;
    };
    let mut client = server.connect().await;
    client.subscribe("a", "subscription { events }").await;
    client.subscribe("b", "subscription { events }").await;
    open(2).await;
    client.send(json!({ "type": "complete", "id": "a" })).await;
    open(1).await;
    server.world.events.send("news".into()).unwrap();
    let message = client.receive().await;
    assert_eq!((&message["id"], &message["payload"]["data"]["events"]), (&json!("b"), &json!("news")));
    client.expect_silence().await;
    client.0.close(None).await.unwrap();
    open(0).await;

    // A client that is simply gone.
    let mut client = server.connect().await;
    client.subscribe("a", "subscription { events }").await;
    open(1).await;
    drop(client);
    open(0).await;
}

#[actix_web::test]
async fn a_socket_has_a_limit_of_operations() {
    let server = Server::start_with(|settings| settings.max_subscriptions_per_socket = 2).await;
    let mut client = server.connect().await;
    for id in ["1", "2", "3"] {
        client.subscribe(id, "subscription { events }").await;
    }
    let message = client.receive().await;
    assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("3")));
    assert_eq!(message["payload"][0]["extensions"]["code"], "BUSY");
    client.send(json!({ "type": "complete", "id": "1" })).await;
    client.subscribe("3", "{ hello }").await;
    assert_eq!(client.receive().await["type"], "next");
}

//! Automatic persisted queries on a socket.

use serde_json::{Value, json};

use super::Client;
use crate::harness::Server;
use crate::persisted_queries::named;

/// The first message that answers an operation, which is completed.
async fn first(client: &mut Client, query: Option<&str>, extensions: Value) -> Value {
    let mut payload = json!({ "extensions": extensions });
    if let Some(query) = query {
        payload["query"] = query.into();
    }
    client.send(json!({ "type": "subscribe", "id": "p", "payload": payload })).await;
    let message = client.receive().await;
    if message["type"] == "next" {
        client.send(json!({ "type": "complete", "id": "p" })).await;
    }
    message
}

#[actix_web::test]
async fn operations_are_known_by_their_hash() {
    let server = Server::start().await;
    for text in ["{ hello }", "subscription { sometimes }", "subscription { count(to: 1) }"] {
        let mut client = server.connect().await;
        let unknown = first(&mut client, None, named(text)).await;
        assert_eq!(unknown["payload"][0]["extensions"]["code"], "PERSISTED_QUERY_NOT_FOUND");
        let sent = first(&mut client, Some(text), named(text)).await;
        let mut other = server.connect().await;
        let known = first(&mut other, None, named(text)).await;
        assert_eq!((&sent["type"], &sent["payload"]["data"]), (&known["type"], &known["payload"]["data"]), "{text}");
        assert_eq!(known["type"], "next", "{known}");
    }
}

#[actix_web::test]
async fn a_subscription_that_has_told_nothing_yet_is_kept_and_one_that_was_refused_is_not() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let (quiet, invalid) = ("subscription { events }", "subscription { nothing }");
    let payload = json!({ "query": quiet, "extensions": named(quiet) });
    client.send(json!({ "type": "subscribe", "id": "quiet", "payload": payload })).await;
    client.expect_silence().await;
    let refused = first(&mut client, Some(invalid), named(invalid)).await;
    assert_eq!(refused["payload"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED");
    let unknown = first(&mut client, None, named(invalid)).await;
    assert_eq!(unknown["payload"][0]["extensions"]["code"], "PERSISTED_QUERY_NOT_FOUND");
    client.send(json!({ "type": "subscribe", "id": "again", "payload": { "extensions": named(quiet) } })).await;
    client.expect_silence().await;
    let told = server.world.events.send("news".into()).unwrap();
    assert_eq!(told, 2);
}

#[actix_web::test]
async fn an_operation_without_text_and_hash_is_an_invalid_message() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(json!({ "type": "subscribe", "id": "p", "payload": { "extensions": {} } })).await;
    assert_eq!(client.close_code().await, 4400);
}

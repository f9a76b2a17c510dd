//! Handshake, initialisation, and messages that are wrong.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{PATIENCE, subscribe};
use crate::harness::Server;

#[actix_web::test]
async fn wrong_messages_close_with_their_codes() {
    let server = Server::start().await;
    let text = |value: Value| Message::text(value.to_string());
    let long_id = "x".repeat(257);
    // What is sent before and after the acknowledgement.
    let unacknowledged = [
        (text(subscribe("1", "{ hello }")), 4401),
        (text(json!({ "type": "connection_init", "payload": [] })), 4400),
        (text(json!({ "type": "connection_init", "payload": "x" })), 4400),
        (text(json!({ "type": "connection_init", "payload": { "Authorization": "Bearer x" } })), 4403),
        (text(json!({ "type": "connection_init", "payload": { "authorization": "nonsense" } })), 4403),
        (text(json!({ "type": "connection_init", "payload": { "Authorization": 1 } })), 4403),
        (Message::text("not json"), 4400),
    ];
    let acknowledged = [
        (text(json!({ "type": "connection_init" })), 4429),
        (Message::text("not json"), 4400),
        (Message::text(""), 4400),
        (text(json!([])), 4400),
        (text(json!("ping")), 4400),
        (text(json!({})), 4400),
        (text(json!({ "type": 1 })), 4400),
        (text(json!({ "type": "unknown" })), 4400),
        (text(json!({ "type": "connection_ack" })), 4400),
        (text(json!({ "type": "next", "id": "1", "payload": {} })), 4400),
        (text(json!({ "type": "start", "id": "1", "payload": { "query": "{ hello }" } })), 4400),
        (text(json!({ "type": "ping", "payload": 1 })), 4400),
        (text(json!({ "type": "pong", "payload": [] })), 4400),
        (text(json!({ "type": "subscribe", "payload": { "query": "{ hello }" } })), 4400),
        (text(json!({ "type": "subscribe", "id": "", "payload": { "query": "{ hello }" } })), 4400),
        (text(json!({ "type": "subscribe", "id": 1, "payload": { "query": "{ hello }" } })), 4400),
        (text(subscribe(&long_id, "{ hello }")), 4400),
        (text(json!({ "type": "subscribe", "id": "1" })), 4400),
        (text(json!({ "type": "subscribe", "id": "1", "payload": null })), 4400),
        (text(json!({ "type": "subscribe", "id": "1", "payload": {} })), 4400),
        (text(json!({ "type": "subscribe", "id": "1", "payload": { "query": 1 } })), 4400),
        (text(json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "variables": [] } })), 4400),
        (
            text(json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "operationName": 1 } })),
            4400,
        ),
        (text(json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ hello }", "extensions": 1 } })), 4400),
        (text(json!({ "type": "complete" })), 4400),
        (Message::binary(b"{}".to_vec()), 4400),
        (Message::text("x".repeat(1_048_577)), 1009),
        (Message::Frame(Frame::message(&b"\xff\xfe"[..], OpCode::Data(Data::Text), true)), 1007),
    ];
    for (message, code) in unacknowledged {
        let mut client = server.open().await;
        client.send_raw(message.clone()).await;
        assert_eq!(client.close_code().await, code, "{message:.100}");
    }
    for (message, code) in acknowledged {
        let mut client = server.connect().await;
        // What is too large may be refused while it is still being sent.
        drop(client.0.send(message.clone()).await);
        assert_eq!(client.close_code().await, code, "{:.100}", format!("{message:?}"));
    }
}

#[actix_web::test]
async fn a_message_in_too_many_fragments_is_too_large() {
    let server = Server::start_with(|settings| settings.max_socket_message_bytes = 1_000).await;
    let mut client = server.connect().await;
    for part in 0..3 {
        let opcode = OpCode::Data(if part == 0 { Data::Text } else { Data::Continue });
        drop(client.0.send(Message::Frame(Frame::message(vec![b'x'; 600], opcode, false))).await);
    }
    assert_eq!(client.close_code().await, 1009);
}

#[actix_web::test]
async fn a_message_in_fragments_is_read_whole() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let text = json!({ "type": "ping", "payload": { "x": 1 } }).to_string();
    let (first, last) = text.as_bytes().split_at(10);
    client.send_raw(Message::Frame(Frame::message(first.to_vec(), OpCode::Data(Data::Text), false))).await;
    client.send_raw(Message::Frame(Frame::message(last.to_vec(), OpCode::Data(Data::Continue), true))).await;
    assert_eq!(client.receive().await, json!({ "type": "pong", "payload": { "x": 1 } }));
}

#[actix_web::test]
async fn the_subprotocol_is_agreed_or_refused() {
    let server = Server::start().await;
    let mut client = server.open_with(&[("sec-websocket-protocol", "x, graphql-transport-ws")]).await.ok().unwrap();
    client.init(json!({ "type": "connection_init", "payload": {} })).await;
    let mut client = server.open_with(&[]).await.ok().unwrap();
    assert_eq!(client.close_code().await, 4406);
    // A client that asked for another one only breaks off by itself: it reads the handshake's answer as a refusal.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(server.public.address()).await.unwrap();
    let handshake = "GET /graphql HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\
                     sec-websocket-protocol: graphql-ws\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.to_lowercase().contains("sec-websocket-protocol"), "{answer}");
    assert!(answer.contains("Subprotocol not acceptable"), "{answer}");
}

#[actix_web::test]
async fn foreign_pages_open_no_socket() {
    let server =
        Server::start_with(|settings| settings.allows_origin = Arc::new(|origin| origin == "https://shop.test")).await;
    let own = format!("http://{}", server.public.address());
    for (origin, opens) in [(&*own, true), ("https://shop.test", true), ("https://evil.test", false), ("null", false)] {
        let headers = [("sec-websocket-protocol", "graphql-transport-ws"), ("origin", origin)];
        assert_eq!(server.open_with(&headers).await.err(), if opens { None } else { Some(403) }, "{origin}");
    }
}

#[actix_web::test]
async fn no_initialisation_in_time_closes_4408() {
    let server = Server::start_with(|settings| settings.connection_init_timeout = Duration::from_millis(50)).await;
    assert_eq!(server.open().await.close_code().await, 4408);
    // A ping does not count as one.
    let mut client = server.open().await;
    client.send(json!({ "type": "ping" })).await;
    assert_eq!(client.close_code().await, 4408);
}

#[actix_web::test]
async fn pings_are_answered_on_both_levels() {
    let server = Server::start().await;
    let mut client = server.open().await;
    client.send(json!({ "type": "ping" })).await;
    assert_eq!(client.receive().await, json!({ "type": "pong" }));
    client.init(json!({ "type": "connection_init", "payload": null })).await;
    client.send(json!({ "type": "ping", "payload": { "a": [1, null] } })).await;
    assert_eq!(client.receive().await, json!({ "type": "pong", "payload": { "a": [1, null] } }));
    client.send(json!({ "type": "pong" })).await;
    client.send(json!({ "type": "complete", "id": "never-was" })).await;
    client.expect_silence().await;
    client.send_raw(Message::Ping(b"abc".to_vec().into())).await;
    loop {
        if let Some(Message::Pong(payload)) = client.frame().await {
            assert_eq!(&payload[..], b"abc");
            break;
        }
    }
}

#[actix_web::test]
async fn a_broken_handshake_is_a_bad_request() {
    let server = Server::start().await;
    let answer = server.http.get(server.url("/graphql")).header("upgrade", "websocket").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
}

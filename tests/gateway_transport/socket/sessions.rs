//! Who a socket belongs to, and what the end of a session does to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use souk::gateway::session_check::MAX_COPY_AGE;
use souk::gateway::settings::HttpSettings;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{Client, PATIENCE, init_with};
use crate::harness::{Server, eventually, session};

#[actix_web::test]
async fn a_token_may_come_by_payload_or_handshake() {
    let server = Server::start().await;
    let token = server.token(7);
    let bearer = format!("Bearer {token}");
    let plain = json!({ "type": "connection_init" });
    let handshake = |value: &str| {
        [("sec-websocket-protocol", "graphql-transport-ws".to_owned()), ("authorization", value.to_owned())]
    };
    let cases = [
        ("", init_with(&token), "STAFF"),
        ("", json!({ "type": "connection_init", "payload": { "authorization": bearer } }), "STAFF"),
        (&*bearer, plain.clone(), "STAFF"),
        ("Bearer x", init_with(&token), "STAFF"),
        ("", plain.clone(), "nobody"),
        ("", json!({ "type": "connection_init", "payload": { "Authorization": null } }), "nobody"),
        ("", json!({ "type": "connection_init", "payload": { "Authorization": "" } }), "nobody"),
    ];
    for (shown, init, expected) in cases {
        let headers = handshake(shown);
        let headers: Vec<(&'static str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = server.open_with(&headers).await.ok().unwrap();
        client.init(init.clone()).await;
        client.subscribe("1", "{ who }").await;
        assert_eq!(client.receive().await["payload"]["data"]["who"], expected, "{shown} {init}");
    }
    let headers = handshake("Bearer x");
    let headers: Vec<(&'static str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut client = server.open_with(&headers).await.ok().unwrap();
    client.send(plain).await;
    assert_eq!(client.close_code().await, 4403);
    let mut client = server.open().await;
    client.send(init_with(&server.token_at(7, -1_000_000))).await;
    assert_eq!(client.close_code().await, 4403);
}

fn watchful(settings: &mut HttpSettings) {
    settings.session_check_interval = Duration::from_millis(20);
}

#[actix_web::test]
async fn the_end_of_a_session_closes_4403() {
    let server = Server::start_with(watchful).await;
    let mut client = server.connect_as(&server.token(7)).await;
    let mut other = server.connect_as(&server.token(8)).await;
    client.subscribe("1", "subscription { events }").await;
    server.set_session(7, |state| state.ended = true);
    assert_eq!(client.close_code().await, 4403);
    other.expect_silence().await;
    server.set_session(8, |state| state.token_epoch = 2);
    assert_eq!(other.close_code().await, 4403);

    // What this process knows of closes an idle socket without waiting for the next check, and refuses an operation.
    let server = Server::start().await;
    let mut idle = server.connect_as(&server.token(9)).await;
    server.set_session(9, |state| state.ended = true);
    server.sessions.forget(session(9));
    let began = Instant::now();
    assert_eq!(idle.close_code().await, 4403);
    assert!(began.elapsed() < Duration::from_secs(3));
    let mut client = server.connect_as(&server.token(7)).await;
    server.set_session(7, |state| state.ended = true);
    server.sessions.forget(session(7));
    client.subscribe("1", "{ who }").await;
    assert_eq!(client.close_code().await, 4403);
}

#[actix_web::test]
async fn a_socket_does_not_open_by_an_old_copy_of_its_session() {
    let server = Server::start().await;
    let token = server.token(7);
    // This process has a copy of the session; then another process ends it.
    server.connect_as(&token).await;
    server.set_session(7, |state| state.ended = true);
    let ended_at = Instant::now();
    eventually("no socket opens", async || {
        let mut client = server.open().await;
        client.send(init_with(&token)).await;
        matches!(client.frame().await, Some(Message::Close(Some(close))) if u16::from(close.code) == 4403)
    })
    .await;
    assert!(ended_at.elapsed() < MAX_COPY_AGE, "a request may go by an older copy than a socket");
}

#[actix_web::test]
async fn the_end_of_a_session_closes_a_busy_socket_too() {
    let server = Server::start_with(watchful).await;
    let mut client = server.connect_as(&server.token(7)).await;
    client.subscribe("1", "subscription { flood }").await;
    // The client takes all that comes: there is always a next result ready.
    for _ in 0..10 {
        assert_eq!(client.receive().await["type"], "next");
    }
    server.set_session(7, |state| state.ended = true);
    let closed = async {
        loop {
            match client.frame().await {
                Some(Message::Close(frame)) => return frame.map(|frame| u16::from(frame.code)),
                Some(_) => {}
                None => return None,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, closed).await.unwrap(), Some(4403));
}

/// Whether a result that is ready stays away: what may be delivered comes before the answer to one of these pings.
async fn is_held_back(client: &mut Client) -> bool {
    for _ in 0..3 {
        client.send(json!({ "type": "ping" })).await;
        if client.receive().await["type"] == "next" {
            assert_eq!(client.receive().await, json!({ "type": "pong" }));
            return false;
        }
    }
    true
}

#[actix_web::test]
async fn results_wait_while_the_session_cannot_be_checked() {
    let server = Server::start_with(watchful).await;
    let mut client = server.connect_as(&server.token(7)).await;
    client.subscribe("1", "subscription { events }").await;
    eventually("open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    server.world.sessions_down.store(true, Ordering::SeqCst);
    server.sessions.forget_all();
    // Results go out until the last check is too old for it.
    let held = async {
        loop {
            server.world.events.send("news".into()).unwrap();
            if is_held_back(&mut client).await {
                return;
            }
        }
    };
    timeout(PATIENCE, held).await.expect("results never stay away");
    server.world.sessions_down.store(false, Ordering::SeqCst);
    assert_eq!(client.receive().await["payload"]["data"]["events"], "news");
    client.expect_silence().await;
}

#[actix_web::test]
async fn an_expired_token_closes_4403() {
    let server = Server::start_with(watchful).await;
    server.set_session(7, |_| {});
    // It has a second to live.
    let mut client = server.connect_as(&server.token_at(7, -899_000)).await;
    assert_eq!(client.close_code().await, 4403);
}

#[actix_web::test]
async fn a_socket_outlives_a_short_absence_of_the_sessions() {
    let server = Server::start_with(watchful).await;
    let mut client = server.connect_as(&server.token(7)).await;
    server.world.sessions_down.store(true, Ordering::SeqCst);
    server.sessions.forget_all();
    client.subscribe("1", "{ who }").await;
    let message = client.receive().await;
    assert_eq!(
        (&message["type"], &message["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("UNAVAILABLE"))
    );
    server.world.sessions_down.store(false, Ordering::SeqCst);
    eventually("operations work again", async || {
        let mut other = server.open().await;
        other.send(init_with(&server.token(7))).await;
        matches!(other.frame().await, Some(Message::Text(_)))
    })
    .await;
    client.subscribe("2", "{ who }").await;
    assert_eq!(client.receive().await["type"], "next");
}

//! Keepalive, clients that take nothing, and the end of the process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use souk::gateway::settings::HttpSettings;
use tokio_tungstenite::tungstenite::Message;

use super::PATIENCE;
use crate::harness::{Server, eventually};

#[actix_web::test]
async fn the_server_pings_and_drops_a_silent_client() {
    let server = Server::start_with(|settings| settings.keepalive_interval = Duration::from_millis(50)).await;
    let mut client = server.connect().await;
    let mut pings = 0;
    while pings < 4 {
        // Reading answers each ping.
        pings += usize::from(matches!(client.frame().await, Some(Message::Ping(_))));
    }
    client.expect_silence().await;
    client.subscribe("1", "subscription { events }").await;
    eventually("open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    // From here the client reads nothing, so it answers nothing.
    eventually("dropped", async || server.world.open_streams.load(Ordering::SeqCst) == 0).await;
}

#[actix_web::test]
async fn a_client_that_takes_nothing_is_closed_and_its_operations_end() {
    let server = Server::start_with(|settings| settings.slow_consumer_timeout = Duration::from_millis(200)).await;
    let mut client = server.connect().await;
    client.subscribe("e", "subscription { events }").await;
    eventually("open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    client.subscribe("f", "subscription { flood }").await;
    eventually("ended", async || server.world.open_streams.load(Ordering::SeqCst) == 0).await;
}

#[actix_web::test]
async fn the_connection_ends_when_both_have_said_so_whoever_began() {
    let patient = |settings: &mut HttpSettings| settings.close_timeout = Duration::from_secs(3_600);
    let server = Server::start_with(patient).await;
    let mut refused = server.connect().await;
    refused.send(json!({ "type": "nonsense" })).await;
    assert_eq!(refused.close_code().await, 4400);
    let mut leaving = server.connect().await;
    leaving.0.close(None).await.unwrap();
    for client in [&mut refused, &mut leaving] {
        while client.frame().await.is_some() {}
    }
}

#[actix_web::test]
async fn a_client_that_pings_and_takes_nothing_is_closed() {
    let server = Server::start_with(|settings| settings.slow_consumer_timeout = Duration::from_millis(200)).await;
    let mut client = server.connect().await;
    client.subscribe("e", "subscription { events }").await;
    eventually("open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    // What the server says is not read.
    let pings = async {
        while client.0.send(Message::Ping(vec![0; 125].into())).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let ended = eventually("ended", async || server.world.open_streams.load(Ordering::SeqCst) == 0);
    tokio::select! {
        () = pings => {}
        () = ended => {}
    }
}

#[actix_web::test]
async fn stopping_finishes_what_runs_and_closes_1001() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    let mut new = server.open().await;
    let mut watching = server.connect().await;
    watching.subscribe("1", "subscription { events }").await;
    let mut busy = server.connect().await;
    busy.subscribe("1", "mutation { bump }").await;
    busy.receive().await;
    busy.receive().await;
    busy.subscribe("2", "{ slow }").await;
    server.world.slow_begun.notified().await;
    let clients = async {
        assert_eq!(idle.close_code().await, 1001);
        assert_eq!(new.close_code().await, 1001);
        assert_eq!(watching.close_code().await, 1001);
        busy.subscribe("3", "{ hello }").await;
        let refused = busy.receive().await;
        assert_eq!(refused["payload"][0]["extensions"]["code"], "UNAVAILABLE");
        server.world.go.notify_one();
        assert_eq!(busy.receive().await["payload"]["data"]["slow"], "done");
        assert_eq!(busy.receive().await["type"], "complete");
        assert_eq!(busy.close_code().await, 1001);
        let refused = server.open_with(&[("sec-websocket-protocol", "graphql-transport-ws")]).await;
        assert_eq!(refused.err(), Some(503));
    };
    let (drained, ()) = tokio::join!(server.public.drain(PATIENCE), clients);
    assert!(drained);
    server.public.stop().await;
}

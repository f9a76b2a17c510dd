//! graphql-transport-ws with a raw client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use souk::gateway::settings::HttpSettings;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{Server, eventually, session};

const PATIENCE: Duration = Duration::from_secs(10);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Server {
    async fn open_with(&self, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
        let mut request = format!("ws://{}/graphql", self.public.address()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Client(stream)),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn open(&self) -> Client {
        self.open_with(&[("sec-websocket-protocol", "graphql-transport-ws")]).await.ok().unwrap()
    }

    /// A socket that is acknowledged, of nobody.
    async fn connect(&self) -> Client {
        let mut client = self.open().await;
        client.init(json!({ "type": "connection_init" })).await;
        client
    }

    async fn connect_as(&self, token: &str) -> Client {
        let mut client = self.open().await;
        client.init(init_with(token)).await;
        client
    }
}

fn init_with(token: &str) -> Value {
    json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } })
}

fn subscribe(id: &str, query: &str) -> Value {
    json!({ "type": "subscribe", "id": id, "payload": { "query": query } })
}

impl Client {
    async fn init(&mut self, message: Value) {
        self.send(message).await;
        assert_eq!(self.receive().await, json!({ "type": "connection_ack" }));
    }

    async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    async fn send_raw(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    async fn frame(&mut self) -> Option<Message> {
        timeout(PATIENCE, self.0.next()).await.expect("nothing came").map(|frame| frame.expect("a frame"))
    }

    async fn receive(&mut self) -> Value {
        loop {
            match self.frame().await.expect("closed without a close frame") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// The code of the close frame; what comes before it is dropped.
    async fn close_code(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Some(Message::Close(Some(close))) => return close.code.into(),
                Some(Message::Close(None)) | None => return 0,
                Some(_) => {}
            }
        }
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(subscribe(id, query)).await;
    }

    /// Nothing more had been on its way: the answer to a ping is the next thing that comes.
    async fn expect_silence(&mut self) {
        self.send(json!({ "type": "ping", "payload": { "silence": true } })).await;
        assert_eq!(self.receive().await, json!({ "type": "pong", "payload": { "silence": true } }));
    }
}

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
    let began = tokio::time::Instant::now();
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
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.set_session(7, |state| state.ended = true);
    let mut client = server.open().await;
    client.send(init_with(&token)).await;
    assert_eq!(client.close_code().await, 4403);
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

#[actix_web::test]
async fn results_wait_while_the_session_cannot_be_checked() {
    let server = Server::start_with(watchful).await;
    let mut client = server.connect_as(&server.token(7)).await;
    client.subscribe("1", "subscription { events }").await;
    eventually("open", async || server.world.open_streams.load(Ordering::SeqCst) == 1).await;
    server.world.sessions_down.store(true, Ordering::SeqCst);
    server.sessions.forget_all();
    // Longer than the oldest check by which anything is delivered.
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.world.events.send("held".into()).unwrap();
    client.expect_silence().await;
    server.world.sessions_down.store(false, Ordering::SeqCst);
    assert_eq!(client.receive().await["payload"]["data"]["events"], "held");
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

#[actix_web::test]
async fn a_broken_handshake_is_a_bad_request() {
    let server = Server::start().await;
    let answer = server.http.get(server.url("/graphql")).header("upgrade", "websocket").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
}

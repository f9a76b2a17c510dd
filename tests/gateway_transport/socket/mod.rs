//! graphql-transport-ws with a raw client.

mod lifetime;
mod operations;
mod persisted_queries;
mod protocol;
mod sessions;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::Server;

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

//! A client of graphql-transport-ws: one socket, any number of operations.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::DEADLINE;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct Socket {
    stream: Stream,
    next_id: u64,
    waiting: HashMap<String, VecDeque<Value>>,
}

impl Socket {
    /// Connected and acknowledged.
    pub async fn connect(address: SocketAddr, token: Option<&str>) -> Self {
        let mut socket = Self::open(address).await;
        let payload = token.map_or(json!({}), |token| json!({ "Authorization": format!("Bearer {token}") }));
        socket.send(&json!({ "type": "connection_init", "payload": payload })).await;
        let answer = socket.receive().await.expect("the server acknowledges");
        assert_eq!(answer["type"], "connection_ack", "{answer}");
        socket
    }

    /// Upgraded, nothing said yet.
    pub async fn open(address: SocketAddr) -> Self {
        Self::upgrade(address, None).await
    }

    /// Connected with a token in the upgrade's header, and acknowledged.
    pub async fn connect_by_header(address: SocketAddr, token: &str) -> Self {
        let mut socket = Self::upgrade(address, Some(token)).await;
        socket.send(&json!({ "type": "connection_init" })).await;
        assert_eq!(socket.receive().await.expect("the server acknowledges")["type"], "connection_ack");
        socket
    }

    async fn upgrade(address: SocketAddr, token: Option<&str>) -> Self {
        let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let connected = tokio::time::timeout(DEADLINE, connect_async(request)).await.expect("connects in time");
        Self { stream: connected.expect("the upgrade is accepted").0, next_id: 1, waiting: HashMap::new() }
    }

    pub async fn send(&mut self, message: &Value) {
        self.stream.send(Message::text(message.to_string())).await.expect("the socket takes a message");
    }

    /// The next protocol message; `None` when the server closed.
    pub async fn receive(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a message in time");
            match next {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("messages are JSON")),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The code with which the server closes.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a close in time");
            match next {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Starts an operation; its id.
    pub async fn subscribe(&mut self, query: &str, variables: Value) -> String {
        let id = self.next_id.to_string();
        self.next_id += 1;
        let payload = json!({ "query": query, "variables": variables });
        self.send(&json!({ "id": id, "type": "subscribe", "payload": payload })).await;
        id
    }

    /// The next message of an operation: `next`, `error` or `complete`; `None` when the server closed.
    pub async fn next_of(&mut self, id: &str) -> Option<Value> {
        if let Some(message) = self.waiting.get_mut(id).and_then(VecDeque::pop_front) {
            return Some(message);
        }
        loop {
            let message = self.receive().await?;
            match message["id"].as_str() {
                Some(of) if of == id => return Some(message),
                Some(other) => self.waiting.entry(other.to_owned()).or_default().push_back(message),
                None => {}
            }
        }
    }

    /// The data of the next result of an operation.
    pub async fn data_of(&mut self, id: &str) -> Value {
        let message = self.next_of(id).await.expect("the socket stays open");
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        message["payload"]["data"].clone()
    }

    /// Ends an operation from the client's side.
    pub async fn complete(&mut self, id: &str) {
        self.send(&json!({ "id": id, "type": "complete" })).await;
    }
}

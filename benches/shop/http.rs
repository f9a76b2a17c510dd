//! The smallest HTTP/1.1 client that can be trusted: one kept-alive connection, one request at a time, bytes that were
//! made before the clock runs.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the body of the last answer lies.
    body: std::ops::Range<usize>,
}

/// The bytes of a GraphQL request.
pub fn graphql_request(token: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    format!(
        "POST /graphql HTTP/1.1\r\nhost: souk\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         {authorization}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server accepts connections");
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(8_192), body: 0..0 }
    }

    /// Sends a request and reads its answer: the status and the body.
    pub async fn call(&mut self, request: &[u8]) -> (u16, &str) {
        self.stream.write_all(request).await.expect("the server takes a request");
        self.buffer.clear();
        let (status, end) = loop {
            if let Some((status, head, length)) = head(&self.buffer) {
                self.body = head..head + length;
                break (status, head + length);
            }
            self.read_more().await;
        };
        while self.buffer.len() < end {
            self.read_more().await;
        }
        (status, std::str::from_utf8(&self.buffer[self.body.clone()]).expect("answers are UTF-8"))
    }

    async fn read_more(&mut self) {
        let count = self.stream.read_buf(&mut self.buffer).await.expect("the server answers");
        assert!(count > 0, "the server closed the connection");
    }
}

/// Status, length of the head and length of the body, once the head is complete.
fn head(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("heads are ASCII");
    let status = head[9..12].parse().expect("an HTTP status");
    let length = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().expect("a length"))
    });
    Some((status, end, length.expect("answers have a length")))
}

//! A client of server-sent events: what it is told, event by event.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    /// Null where there is none.
    pub data: Value,
}

pub struct Events {
    response: reqwest::Response,
    read: String,
}

impl Events {
    /// Of an answer that is a stream.
    pub fn of(response: reqwest::Response) -> Self {
        let content_type = response.headers()[reqwest::header::CONTENT_TYPE].to_str().unwrap();
        assert_eq!((response.status().as_u16(), content_type), (200, "text/event-stream; charset=utf-8"));
        Self { response, read: String::new() }
    }

    /// The next event, passing over comments; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let event = parsed(block);
                self.read = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("an event comes");
            // A server that goes away may break off the chunked body.
            self.read.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    /// Waits until something has come that is not read yet. May be given up at any moment.
    pub async fn peek(&mut self) {
        if self.read.is_empty() {
            let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The data of the next event, which is a result without errors.
    pub async fn data(&mut self) -> (Option<String>, Value) {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, "next");
        assert!(event.data.get("errors").is_none(), "{}", event.data);
        (event.id, event.data["data"].clone())
    }
}

fn parsed(block: &str) -> Option<Event> {
    let mut event = Event { name: String::new(), id: None, data: Value::Null };
    for line in block.lines().filter(|line| !line.starts_with(':')) {
        let (field, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" if !value.is_empty() => event.data = serde_json::from_str(value).unwrap(),
            _ => {}
        }
    }
    (!event.name.is_empty()).then_some(event)
}

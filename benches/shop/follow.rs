//! An open loop: orders come at a fixed rate, and some customers follow theirs with `orderUpdates`. The clock of an order
//! starts when it was due, so that a slow server cannot hide behind clients that wait for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::http::Connection;
use crate::job::{Done, Target};
use crate::load::{Failures, OrderRequest, is_accepted};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connected, acknowledged and subscribed.
pub async fn subscribe(address: SocketAddr, token: &str, query: &str) -> Socket {
    let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let mut socket = connect_async(request).await.expect("the upgrade is accepted").0;
    let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } });
    socket.send(Message::text(init.to_string())).await.unwrap();
    let acknowledged = socket.next().await.unwrap().unwrap();
    assert!(acknowledged.to_text().unwrap().contains("connection_ack"), "{acknowledged}");
    let subscribe = json!({ "id": "1", "type": "subscribe", "payload": { "query": query } });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    socket
}

/// When each followed order was due and when its CONFIRMED came, whichever is known first.
#[derive(Default)]
struct Watched {
    orders: HashMap<String, (Option<Instant>, Option<Instant>)>,
    latencies_ms: Vec<f64>,
}

impl Watched {
    fn note(&mut self, id: &str, due: Option<Instant>, confirmed: Option<Instant>) {
        let known = self.orders.entry(id.to_owned()).or_default();
        known.0 = known.0.or(due);
        known.1 = known.1.or(confirmed);
        if let (Some(due), Some(confirmed)) = *known {
            self.latencies_ms.push(confirmed.duration_since(due).as_secs_f64() * 1e3);
            self.orders.remove(id);
        }
    }
}

fn text_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    rest.split('"').next()
}

async fn watch(mut socket: Socket, watched: Rc<RefCell<Watched>>) {
    while let Some(Ok(message)) = socket.next().await {
        let Ok(text) = message.to_text() else { continue };
        if text.contains("\"CONFIRMED\"")
            && let Some(id) = text_after(text, "\"id\":\"ord_")
        {
            watched.borrow_mut().note(id, None, Some(Instant::now()));
        }
    }
}

pub async fn follow(
    target: Target,
    followers: usize,
    per_second: f64,
    seconds: f64,
    lines: usize,
    prefix: String,
) -> Done {
    const CLIENTS: usize = 128;
    let watched = Rc::new(RefCell::new(Watched::default()));
    let failures = Rc::new(Failures::default());
    let products = Rc::new(target.products);
    let (next, total) = (Rc::new(Cell::new(0)), (per_second * seconds) as usize);
    let watching = LocalSet::new();
    let placing = LocalSet::new();
    for token in &target.tokens[..followers] {
        let query = "subscription { orderUpdates { event { status } order { id } } }";
        watching.spawn_local(watch(subscribe(target.address, token, query).await, Rc::clone(&watched)));
    }
    watching.run_until(sleep(Duration::from_millis(500))).await;
    let mut connections = Vec::new();
    for client in 0..CLIENTS {
        let customer = client % target.tokens.len();
        let prefix = format!("{prefix}-{client}");
        let request = OrderRequest::new(&target.tokens[customer], Rc::clone(&products), lines, &prefix);
        connections.push((Connection::open(target.address).await, request, customer < followers));
    }
    let began = Instant::now();
    for (mut connection, mut request, followed) in connections {
        let (next, failures, watched) = (Rc::clone(&next), Rc::clone(&failures), Rc::clone(&watched));
        placing.spawn_local(async move {
            loop {
                let number = next.get();
                if number >= total {
                    return;
                }
                next.set(number + 1);
                let due = began + Duration::from_secs_f64(number as f64 / per_second);
                sleep_until(due).await;
                let (status, body) = connection.call(request.numbered(number)).await;
                if !is_accepted(status, body) {
                    failures.note(status, body);
                } else if followed && let Some(id) = text_after(body, "\"id\":\"ord_") {
                    watched.borrow_mut().note(id, Some(due), None);
                }
            }
        });
    }
    watching.run_until(placing).await;
    let seconds = began.elapsed().as_secs_f64();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !watched.borrow().orders.is_empty() && Instant::now() < deadline {
        watching.run_until(sleep(Duration::from_millis(20))).await;
    }
    for id in watched.borrow().orders.keys() {
        failures.note(0, &format!("ord_{id} was never seen CONFIRMED"));
    }
    let mut latencies_ms = std::mem::take(&mut watched.borrow_mut().latencies_ms);
    latencies_ms.sort_by(f64::total_cmp);
    Done { latencies_ms, ..failures.done_in(seconds) }
}

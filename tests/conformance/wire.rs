//! A way to the server on which a store's commands are counted and their answers can be lost.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mongodb::bson::doc;
use souk::store::mongo::MongoSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::mongo::Databases;

/// What a driver sends without being asked.
const OF_THE_DRIVER: [&str; 4] = ["hello", "isMaster", "ismaster", "endSessions"];

const HEADER_BYTES: usize = 16;
const OP_MSG: i32 = 2013;

#[derive(Default)]
struct Traffic {
    commands: Mutex<Vec<String>>,
    /// Answers to inserts that are still to be lost, each with its connection.
    losing: AtomicU32,
}

/// A forwarder in front of the primary, for as long as it lives.
pub struct Wire {
    pub settings: MongoSettings,
    traffic: Arc<Traffic>,
    _connections: JoinSet<()>,
}

impl Wire {
    pub async fn to(databases: &Databases) -> Self {
        let hello = databases.client().await.database("admin").run_command(doc! { "hello": 1 }).await.unwrap();
        let server = hello.get_str("primary").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("mongodb://{}/?directConnection=true", listener.local_addr().unwrap());
        let traffic = Arc::<Traffic>::default();
        let counted = traffic.clone();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut forwarded = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                forwarded.spawn(forward(client, server, counted.clone()));
            }
        });
        let settings = MongoSettings { uri, ..databases.settings.clone() };
        Self { settings, traffic, _connections: connections }
    }

    /// The commands that were sent while `calls` ran, in alphabetical order.
    pub async fn commands(&self, calls: impl Future<Output = ()>) -> Vec<String> {
        self.traffic.commands.lock().unwrap().clear();
        calls.await;
        let mut commands = std::mem::take(&mut *self.traffic.commands.lock().unwrap());
        commands.sort();
        commands
    }

    /// From now on the answers to so many inserts never come.
    pub fn lose_inserts(&self, count: u32) {
        self.traffic.losing.store(count, Ordering::SeqCst);
    }
}

async fn forward(client: TcpStream, server: TcpStream, traffic: Arc<Traffic>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let loses = AtomicU32::new(0);
    tokio::select! {
        () = ask(from_client, to_server, &traffic, &loses) => {}
        () = answer(from_server, to_client, &loses) => {}
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, traffic: &Traffic, loses: &AtomicU32) {
    while let Some(message) = message(&mut from).await {
        if let Some(command) = command(&message).filter(|command| !OF_THE_DRIVER.contains(&command.as_str())) {
            let lose = |left: u32| if command == "insert" { left.checked_sub(1) } else { None };
            if traffic.losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                loses.store(1, Ordering::SeqCst);
            }
            traffic.commands.lock().unwrap().push(command);
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, loses: &AtomicU32) {
    while let Some(message) = message(&mut from).await {
        if loses.load(Ordering::SeqCst) > 0 || to.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// The next message whole; `None` at the end of the connection.
async fn message(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut message = vec![0; HEADER_BYTES];
    from.read_exact(&mut message).await.ok()?;
    let length = i32::from_le_bytes(message[..4].try_into().unwrap());
    message.resize(usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[HEADER_BYTES..]).await.ok()?;
    Some(message)
}

/// A command is named by the first field of its document, which comes after the flags, the kind of the section and its
/// own length.
fn command(message: &[u8]) -> Option<String> {
    let code = i32::from_le_bytes(message[12..HEADER_BYTES].try_into().unwrap());
    let sections = message.get(HEADER_BYTES + 4..)?;
    if code != OP_MSG || sections.first() != Some(&0) {
        return None;
    }
    let name = sections.get(6..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8(name.to_vec()).unwrap())
}

//! A mail server that does what a test tells it: takes mails and keeps them, or refuses, stalls or drops at any command.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::DEADLINE;

/// What a connection is at when the script is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Greeting,
    Hello,
    /// With the user and the password that were given.
    SignIn(String, String),
    Sender(String),
    Recipient(String),
    /// Before the content, for this recipient.
    Data(String),
    /// The content has arrived whole, for this recipient.
    Content(String),
}

/// What the server does at a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// As a server that is well.
    Usual,
    /// This line instead; a code of 4 or 5 refuses.
    Say(&'static str),
    /// This line, and then the connection is closed.
    Last(&'static str),
    /// Nothing, ever.
    Stall,
    /// The connection is closed without a word; at `Data` in the middle of the content.
    Drop,
}

/// A mail that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub from: String,
    pub to: String,
    pub content: Vec<u8>,
    pub at: Instant,
    /// Counts the connections from 0.
    pub connection: usize,
}

impl Taken {
    /// The value of a header that is not folded.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.content).ok()?.split("\r\n\r\n").next()?;
        let lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// `X-Souk-Notification`.
    pub fn notification(&self) -> &str {
        self.header("X-Souk-Notification").expect("every mail names its notification")
    }
}

type Script = Box<dyn Fn(&Turn) -> Answer + Send + Sync>;

/// A server on a free port of this machine. Gone when dropped.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    script: Script,
    taken: Mutex<Vec<Taken>>,
    /// How many were taken; also how a waiting test is woken.
    count: watch::Sender<usize>,
    connections: Mutex<usize>,
    open: Mutex<Vec<JoinHandle<()>>>,
}

impl Sink {
    /// Takes every mail.
    pub async fn start() -> Self {
        Self::scripted(|_| Answer::Usual).await
    }

    pub async fn scripted(script: impl Fn(&Turn) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            taken: Mutex::default(),
            count: watch::Sender::new(0),
            connections: Mutex::default(),
            open: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut connections = own.connections.lock().unwrap();
                    *connections += 1;
                    *connections - 1
                };
                let task = tokio::spawn(Connection::new(stream, Arc::clone(&own), number).serve());
                own.open.lock().unwrap().push(task);
            }
        });
        Self { address, shared, listening }
    }

    /// `smtp://` with this server, unencrypted.
    pub fn uri(&self) -> String {
        format!("smtp://{}?tls=none", self.address)
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until so many mails were taken; gives up when for a whole deadline not one comes.
    pub async fn wait_for(&self, count: usize) -> Vec<Taken> {
        let mut counts = self.shared.count.subscribe();
        loop {
            let so_far = *counts.borrow_and_update();
            if so_far >= count {
                return self.taken();
            }
            let another = tokio::time::timeout(DEADLINE, counts.changed()).await;
            assert!(another.is_ok(), "{so_far} of {count} mails, and none more within {DEADLINE:?}");
        }
    }

    /// Closes every connection that is open, as a server that restarts does; new ones are taken.
    pub fn close_connections(&self) {
        for task in self.shared.open.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.listening.abort();
        self.close_connections();
    }
}

/// A port of this machine at which nobody listens.
pub async fn refused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// One client's connection.
struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    shared: Arc<Shared>,
    number: usize,
    from: String,
    to: Option<String>,
}

/// Why a connection ends: its client left, or the script says so.
struct Over;

impl Connection {
    fn new(stream: TcpStream, shared: Arc<Shared>, number: usize) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer, shared, number, from: String::new(), to: None }
    }

    async fn serve(mut self) {
        drop(self.talk().await);
    }

    /// Until it is over.
    async fn talk(&mut self) -> Result<(), Over> {
        self.turn(Turn::Greeting, "220 sink").await?;
        loop {
            let line = self.line().await?;
            let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.turn(Turn::Hello, "250-sink\r\n250 AUTH PLAIN").await?,
                "AUTH" => {
                    let (user, password) = credentials(&line).unwrap_or_default();
                    self.turn(Turn::SignIn(user, password), "235 signed in").await?
                }
                "MAIL" => {
                    self.from = address(&line);
                    self.turn(Turn::Sender(self.from.clone()), "250 ok").await?
                }
                "RCPT" => {
                    let to = address(&line);
                    let taken = self.turn(Turn::Recipient(to.clone()), "250 ok").await?;
                    self.to = taken.then_some(to);
                    taken
                }
                "DATA" if self.to.is_none() => self.say("503 no recipient").await?,
                "DATA" => self.content().await?,
                "RSET" => {
                    self.to = None;
                    self.say("250 ok").await?
                }
                "NOOP" => self.say("250 ok").await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Err(Over);
                }
                _ => self.say("500 what?").await?,
            };
        }
    }

    async fn content(&mut self) -> Result<bool, Over> {
        let to = self.to.take().unwrap_or_default();
        match (self.shared.script)(&Turn::Data(to.clone())) {
            Answer::Drop => {
                self.say("354 go on").await?;
                // In the middle: the content has begun to come.
                self.reader.read_u8().await.map_err(|_| Over)?;
                return Err(Over);
            }
            answer => {
                if !self.answer(answer, "354 go on").await? {
                    return Ok(false);
                }
            }
        }
        let mut content = Vec::new();
        loop {
            let start = content.len();
            if self.reader.read_until(b'\n', &mut content).await.map_err(|_| Over)? == 0 {
                return Err(Over);
            }
            match &content[start..] {
                b".\r\n" => {
                    content.truncate(start);
                    break;
                }
                [b'.', ..] => drop(content.remove(start)),
                _ => {}
            }
        }
        let answer = (self.shared.script)(&Turn::Content(to.clone()));
        // What is answered with 250 was taken before; what is dropped here was taken too, and its client does not know.
        if matches!(answer, Answer::Usual | Answer::Drop) {
            let taken = Taken { from: self.from.clone(), to, content, at: Instant::now(), connection: self.number };
            self.shared.taken.lock().unwrap().push(taken);
            self.shared.count.send_modify(|count| *count += 1);
        }
        self.answer(answer, "250 taken").await
    }

    /// False: the answer refuses.
    async fn turn(&mut self, turn: Turn, usual: &str) -> Result<bool, Over> {
        let answer = (self.shared.script)(&turn);
        self.answer(answer, usual).await
    }

    async fn answer(&mut self, answer: Answer, usual: &str) -> Result<bool, Over> {
        match answer {
            Answer::Usual => self.say(usual).await,
            Answer::Say(line) => self.say(line).await,
            Answer::Last(line) => {
                self.say(line).await?;
                Err(Over)
            }
            Answer::Stall => std::future::pending().await,
            Answer::Drop => Err(Over),
        }
    }

    async fn say(&mut self, line: &str) -> Result<bool, Over> {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.map_err(|_| Over)?;
        Ok(!line.starts_with(['4', '5']))
    }

    async fn line(&mut self) -> Result<String, Over> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).await {
            Ok(read) if read > 0 => Ok(line),
            _ => Err(Over),
        }
    }
}

/// Between the angle brackets of MAIL or RCPT.
fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}

/// Of `AUTH PLAIN`: base64 of NUL, user, NUL, password.
fn credentials(line: &str) -> Option<(String, String)> {
    let coded = line.split_whitespace().nth(2)?;
    let plain = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(coded).ok()?).ok()?;
    let mut parts = plain.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}

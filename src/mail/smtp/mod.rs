//! Delivery by SMTP, one command at a time, so that each failure is known by the stage at which it happened.
//!
//! lettre's own transport answers with the server's code but not with the command that got it, and its timeout does not end
//! a server's silence. A delivery here is: take a connection that an earlier one left, or open one; name sender and
//! recipient; hand over the content; leave the connection for the next. All of it has one deadline. Deliveries share
//! nothing but the idle connections, so a stalled one holds back no other.

mod server;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Noop, Rcpt, Rset};
use tokio::time::{Instant, timeout};

use super::{DeliveryFailure, FailureClass, Mail, Mailer, message};
use crate::config::{MailConfig, MailSender};

use server::Server;
pub use server::ServerError;

/// Servers close connections that do nothing: an older one is not worth the try.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long an idle connection may take to answer before a new one is opened: the server may be gone without a word.
const REUSE_ANSWER: Duration = Duration::from_secs(2);

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Connection,
    Tls,
    SignIn,
    Sender,
    Recipient,
    Data,
    Content,
}

impl Stage {
    fn words(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Tls => "TLS",
            Self::SignIn => "sign-in",
            Self::Sender => "sender (MAIL)",
            Self::Recipient => "recipient (RCPT)",
            Self::Data => "DATA",
            Self::Content => "content",
        }
    }
}

pub struct SmtpMailer {
    server: Server,
    sender: MailSender,
    deadline: Duration,
    idle: Mutex<Vec<Idle>>,
}

/// A connection on which nothing is in progress.
struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
    /// The server still holds what was said of a mail that it refused.
    needs_reset: bool,
}

impl SmtpMailer {
    /// In production the server must offer TLS, whatever the URI leaves open. Blocks: it reads the trusted certificates.
    pub fn new(config: &MailConfig, sender: MailSender, production: bool) -> Result<Self, ServerError> {
        Ok(Self {
            server: Server::new(config.uri.expose(), &config.tls_ca_file, production)?,
            sender,
            deadline: Duration::from_millis(config.deadline_ms),
            idle: Mutex::default(),
        })
    }

    async fn attempt(&self, stage: &mut Stage, mail: &Mail, content: &[u8]) -> Result<(), Error> {
        let (mut connection, from) = (None, self.sender_address());
        // Nothing of the mail has been said yet: whatever is wrong with an old connection, a new one tells.
        while let Some(idle) = self.take_idle() {
            if let Ok(Some(usable)) = timeout(REUSE_ANSWER, reused(idle, from.clone())).await {
                connection = Some(usable);
                break;
            }
        }
        let mut connection = match connection {
            Some(connection) => connection,
            None => {
                let mut fresh = self.server.connect(stage).await?;
                *stage = Stage::Sender;
                fresh.command(MailFrom::new(Some(from), vec![])).await?;
                fresh
            }
        };
        let outcome = hand_over(&mut connection, stage, mail, content).await;
        // After a refusal that is not the end of the connection, client and server agree on what comes next.
        let needs_reset = outcome.is_err();
        let goes_on = outcome.as_ref().err().is_none_or(|error| code(error).is_some_and(|code| code != "421"));
        if goes_on {
            self.keep(connection, needs_reset);
        }
        outcome
    }

    fn keep(&self, connection: AsyncSmtpConnection, needs_reset: bool) {
        self.lock_idle().push(Idle { connection, since: Instant::now(), needs_reset });
    }

    fn sender_address(&self) -> Address {
        Address::new_dangerous(&self.sender.local, &self.sender.host)
    }

    /// The connection that was used last.
    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.lock_idle();
        idle.retain(|one| one.since.elapsed() < IDLE_MAX);
        idle.pop()
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn deliver(&self, mail: &Mail) -> Result<(), DeliveryFailure> {
        let content = message::bytes(mail, &self.sender);
        let mut stage = Stage::Connection;
        match timeout(self.deadline, self.attempt(&mut stage, mail, &content)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failure(stage, &error)),
            Err(_) => Err(DeliveryFailure {
                class: if stage < Stage::Recipient { FailureClass::NotReached } else { FailureClass::Transient },
                reason: format!("{}: no answer within {} ms", stage.words(), self.deadline.as_millis()),
            }),
        }
    }

    /// The connection that it takes to find out is left for the next mail.
    async fn is_there(&self) -> bool {
        let asked = timeout(self.deadline, async {
            while let Some(Idle { mut connection, needs_reset, .. }) = self.take_idle() {
                if timeout(REUSE_ANSWER, connection.command(Noop)).await.is_ok_and(|answer| answer.is_ok()) {
                    self.keep(connection, needs_reset);
                    return true;
                }
            }
            match self.server.connect(&mut { Stage::Connection }).await {
                Ok(connection) => {
                    self.keep(connection, false);
                    true
                }
                Err(_) => false,
            }
        });
        asked.await.unwrap_or(false)
    }
}

/// An idle connection with the sender named, if it still serves.
async fn reused(idle: Idle, from: Address) -> Option<AsyncSmtpConnection> {
    let mut connection = idle.connection;
    if idle.needs_reset {
        connection.command(Rset).await.ok()?;
    }
    connection.command(MailFrom::new(Some(from), vec![])).await.ok()?;
    Some(connection)
}

async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    stage: &mut Stage,
    mail: &Mail,
    content: &[u8],
) -> Result<(), Error> {
    *stage = Stage::Recipient;
    let (local, host) = mail.to.as_str().rsplit_once('@').expect("an e-mail address has a local part and a host");
    connection.command(Rcpt::new(Address::new_dangerous(local, host), vec![])).await?;
    *stage = Stage::Data;
    connection.command(Data).await?;
    *stage = Stage::Content;
    connection.message(content).await?;
    Ok(())
}

fn failure(stage: Stage, error: &Error) -> DeliveryFailure {
    let class = match () {
        () if stage < Stage::Recipient => FailureClass::NotReached,
        () if error.is_permanent() => FailureClass::Permanent,
        () => FailureClass::Transient,
    };
    DeliveryFailure { class, reason: format!("{}: {}", stage.words(), what_happened(error)) }
}

/// In words that repeat nothing of a server's text but its codes: it may quote the recipient.
fn what_happened(error: &Error) -> String {
    if let Some(code) = code(error) {
        let enhanced = enhanced_code(error).map(|enhanced| format!(" {enhanced}")).unwrap_or_default();
        return format!("the server answered {code}{enhanced}");
    }
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    if let Some(io) = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).last() {
        return io.to_string();
    }
    match () {
        () if error.is_response() => "the connection ended, or the answer was not one of SMTP".to_owned(),
        () if error.is_client() => "the server does not offer what is asked of it".to_owned(),
        () => "the connection failed".to_owned(),
    }
}

fn code(error: &Error) -> Option<String> {
    error.status().map(|code| code.to_string())
}

/// RFC 3463's `5.1.1`, where the answer starts with one.
fn enhanced_code(error: &Error) -> Option<String> {
    let text = std::error::Error::source(error)?.to_string();
    let first = text.split_whitespace().next()?;
    let parts: Vec<&str> = first.split('.').collect();
    let digits = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(digits)).then(|| first.to_owned())
}

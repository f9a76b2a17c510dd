//! Mails: what they say, how they are written down, and how they are delivered.
//!
//! The notifications actor fills a [`letters::Letter`]; [`letters::Letters`] turns it into a [`Mail`], whose header values
//! hold nothing that could break a header; a [`Mailer`] delivers that. Two adapters: a server spoken to by SMTP
//! ([`smtp`]), and a directory of `.eml` files ([`directory`]).
//!
//! SMTP cannot deliver exactly once: a server may have taken a mail whose last answer never came. Every attempt therefore
//! carries the same `Message-ID`, and a crash repeats at most the deliveries that were in flight.

pub mod directory;
mod header;
pub mod letters;
mod message;
pub mod smtp;

use async_trait::async_trait;

use crate::domain::ids::NotificationId;
use crate::domain::text::{Email, InvalidText};
use crate::domain::time::Timestamp;

/// Delivers mails. An attempt ends within `mail.deadline_ms`; nothing is tried twice in it that a server could have taken.
#[async_trait]
pub trait Mailer: Send + Sync {
    async fn deliver(&self, mail: &Mail) -> Result<(), DeliveryFailure>;

    /// Whether a mail could be delivered now: a server that lets sign in, a folder that can be written to.
    async fn is_there(&self) -> bool;
}

/// Why a mail was not delivered. The reason names no address and no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DeliveryFailure {
    pub class: FailureClass,
    pub reason: String,
}

/// Who failed, and so what another attempt may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// It never got as far as naming the recipient: no connection, no TLS, sign-in refused, server busy. Says nothing
    /// about the mail.
    NotReached,
    /// The server has heard of the recipient and may take the mail another time, or may have taken it: 4xx, a lost
    /// connection, no answer in time.
    Transient,
    /// The server refused this mail for good: 5xx to its recipient or its content.
    Permanent,
}

/// A mail as it is delivered, the same over all attempts.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    notification_id: NotificationId,
    to: Email,
    name: String,
    subject: String,
    at: Timestamp,
    text: String,
    html: String,
    unsubscribe_url: Option<String>,
}

/// What a [`Mail`] is made of.
pub struct MailParts {
    pub notification_id: NotificationId,
    pub to: Email,
    /// Of the recipient; may be empty.
    pub name: String,
    pub subject: String,
    /// The `Date` of every attempt.
    pub at: Timestamp,
    pub text: String,
    pub html: String,
    /// Where one POST without a body ends mails of this sort (RFC 8058).
    pub unsubscribe_url: Option<String>,
}

impl Mail {
    /// Refuses control characters, CR and LF among them, in everything that becomes part of a header.
    pub fn new(parts: MailParts) -> Result<Self, InvalidText> {
        header::check("the recipient's name", &parts.name)?;
        header::check("the subject", &parts.subject)?;
        if let Some(url) = &parts.unsubscribe_url {
            header::check_url(url)?;
        }
        let MailParts { notification_id, to, name, subject, at, text, html, unsubscribe_url } = parts;
        Ok(Self { notification_id, to, name, subject, at, text, html, unsubscribe_url })
    }

    pub fn notification_id(&self) -> NotificationId {
        self.notification_id
    }
}

/// A mail's text may hold a token, and its recipient is nobody's business.
impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mail({})", self.notification_id)
    }
}

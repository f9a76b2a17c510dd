//! Mailers: one suite over every adapter, and what the SMTP adapter makes of servers that refuse, stall and drop.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod conformance;
mod real_server;
mod smtp;

use souk::config::MailSender;
use souk::domain::ids::{MailRequestId, NotificationId, TypedId};
use souk::domain::notifications::content::Content;
use souk::domain::text::Email;
use souk::domain::time::Timestamp;
use souk::mail::letters::{Letter, Letters};
use souk::mail::{Mail, Mailer};
use uuid::Uuid;

pub fn sender() -> MailSender {
    MailSender::parse("Souk <souk@shop.example>").unwrap()
}

pub fn new_id() -> NotificationId {
    NotificationId::from_uuid(Uuid::now_v7())
}

/// A mail with a token in it, to this address.
pub fn mail(id: NotificationId, to: &str) -> Mail {
    let content = Content::PasswordReset { request_id: MailRequestId::from_uuid(Uuid::now_v7()) };
    let letter = Letter {
        notification_id: id,
        to: &Email::parse(to).unwrap(),
        name: "Søren, \"the\" <tester>",
        subject: "Grüße: a new password",
        at: Timestamp(1_764_230_400_000),
        content: &content,
        link_token: Some(TOKEN),
        unsubscribe_token: None,
    };
    Letters::new("https://shop.example").write(&letter).unwrap()
}

pub const TOKEN: &str = "s3cret-t0ken";

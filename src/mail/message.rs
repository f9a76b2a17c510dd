//! A mail as bytes on the wire or in a file (RFC 5322): ASCII only, so that every server takes it.

use chrono::DateTime;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, MultiPart, SinglePart};

use super::{Mail, header};
use crate::config::MailSender;

pub fn bytes(mail: &Mail, sender: &MailSender) -> Vec<u8> {
    let date = DateTime::from_timestamp_millis(mail.at.0).unwrap_or_default().to_rfc2822();
    let mut headers = vec![
        ("From", header::mailbox(&sender.name, &sender.address())),
        ("To", header::mailbox(&mail.name, mail.to.as_str())),
        ("Subject", header::unstructured(&mail.subject)),
        ("Date", date),
        ("Message-ID", message_id(mail, sender)),
        ("MIME-Version", "1.0".to_owned()),
        // Nobody's out-of-office assistant is to answer it (RFC 3834).
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Souk-Notification", mail.notification_id.to_string()),
    ];
    if let Some(url) = &mail.unsubscribe_url {
        headers.push(("List-Unsubscribe", format!("<{url}>")));
        headers.push(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
    }
    let mut bytes: Vec<u8> =
        headers.into_iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()).collect();
    let parts =
        MultiPart::alternative().singlepart(plain_text(&mail.text)).singlepart(SinglePart::html(mail.html.clone()));
    bytes.extend(parts.formatted());
    bytes
}

/// The longest line that may be sent as it is, without its end (RFC 5322, 2.1.1).
const MAX_LINE: usize = 998;

/// The text part. ASCII goes as it is, so that a link stays whole on its line also where nobody decodes it.
fn plain_text(text: &str) -> SinglePart {
    if !text.is_ascii() || text.lines().any(|line| line.len() > MAX_LINE) {
        return SinglePart::plain(text.to_owned());
    }
    let lines: Vec<&str> = text.lines().collect();
    let body = Body::dangerous_pre_encoded(lines.join("\r\n").into_bytes(), ContentTransferEncoding::SevenBit);
    SinglePart::builder().header(ContentType::TEXT_PLAIN).body(body)
}

/// The same for every attempt, so that a mailbox can tell a repeated mail.
fn message_id(mail: &Mail, sender: &MailSender) -> String {
    format!("<{}@{}>", mail.notification_id, sender.host)
}

//! A mail as bytes on the wire or in a file (RFC 5322): ASCII only, so that every server takes it.

use chrono::DateTime;
use lettre::message::MultiPart;

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
    bytes.extend(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()).formatted());
    bytes
}

/// The same for every attempt, so that a mailbox can tell a repeated mail.
fn message_id(mail: &Mail, sender: &MailSender) -> String {
    format!("<{}@{}>", mail.notification_id, sender.host)
}

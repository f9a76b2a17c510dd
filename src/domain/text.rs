//! Text that comes from outside: parsed once into types that cannot hold what is refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is refused, in words for the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(pub String);

fn refuse<T>(reason: impl Into<String>) -> Result<T, InvalidText> {
    Err(InvalidText(reason.into()))
}

/// Checks a text of `min` to `max` characters without control characters (a tab is one), not blank when `min > 0`.
pub fn check_text(what: &str, text: &str, min: usize, max: usize) -> Result<(), InvalidText> {
    let count = text.chars().count();
    if count < min || (min > 0 && text.trim().is_empty()) {
        return refuse(format!("{what} must not be empty"));
    }
    if count > max {
        return refuse(format!("{what} has {count} characters, at most {max} are allowed"));
    }
    if text.chars().any(char::is_control) {
        return refuse(format!("{what} contains a control character"));
    }
    Ok(())
}

/// The longest name of a person or a product.
pub const MAX_NAME: usize = 100;
/// The longest description, reason or note.
pub const MAX_TEXT: usize = 5_000;
/// The longest idempotency key.
pub const MAX_KEY: usize = 255;

/// A plain e-mail address, at most 254 characters, compared without case.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Accepts `local@domain` in plain ASCII dot-atoms (RFC 5321's Mailbox without quoting, literals or a display name).
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let invalid = || refuse("not an e-mail address");
        if text.len() > 254 {
            return refuse("an e-mail address has at most 254 characters");
        }
        let Some((local, domain)) = text.rsplit_once('@') else { return invalid() };
        let local_ok = !local.is_empty()
            && local.len() <= 64
            && local.split('.').all(|atom| {
                !atom.is_empty()
                    && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
            });
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let domain_ok = domain.contains('.') && domain.split('.').all(label_ok);
        if local_ok && domain_ok { Ok(Self(text.to_owned())) } else { invalid() }
    }

    /// Of an account that was deleted: no mail server can have it.
    pub fn erased() -> Self {
        Self("deleted@account.invalid".to_owned())
    }

    /// As it was given: this is where mail is sent to.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which it is unique.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// An address never stands in a log line.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_are_accepted_and_compared_without_case() {
        for text in ["a@b.co", "Ada.Lovelace+shop@Example.COM", "o'neil@x-y.example"] {
            assert!(Email::parse(text).is_ok(), "{text}");
        }
        assert_eq!(Email::parse("A@B.co").unwrap().key(), Email::parse("a@b.CO").unwrap().key());
        assert!(Email::parse(Email::erased().as_str()).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("{}@example.com", "a".repeat(250));
        for text in [
            "",
            "a",
            "a@",
            "@b.co",
            "a@b",
            "a b@c.de",
            "Ada <a@b.co>",
            "a@b.co\r\nBcc: x@y.zz",
            "a@b..co",
            ".a@b.co",
            "a@-b.co",
            "a@b@c.de\0",
            &long,
        ] {
            assert!(Email::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn control_characters_and_lengths_are_checked() {
        assert!(check_text("name", "Ada", 1, 100).is_ok());
        for text in ["", "   ", "a\tb", "a\0b", "a\nb", "a\u{85}b"] {
            assert!(check_text("name", text, 1, 100).is_err(), "{text:?}");
        }
        assert!(check_text("name", &"é".repeat(100), 1, 100).is_ok());
        assert!(check_text("name", &"é".repeat(101), 1, 100).is_err());
    }
}

//! Header values: what may stand in one, and how it is written in ASCII (RFC 5322, RFC 2047).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::text::InvalidText;

/// The longest value that is written as it is; a longer one is folded as encoded words.
const MAX_PLAIN: usize = 60;
/// Bytes of text in one encoded word: 52 characters of base64, so that a line stays below 76 characters.
const WORD_BYTES: usize = 39;

/// Refuses what could end a header or hide in one.
pub fn check(what: &str, value: &str) -> Result<(), InvalidText> {
    if value.chars().any(char::is_control) {
        return Err(InvalidText(format!("{what} contains a control character")));
    }
    Ok(())
}

/// Refuses what could not stand between the angle brackets of `List-Unsubscribe`.
pub fn check_url(url: &str) -> Result<(), InvalidText> {
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\",".contains(&byte));
    if !plain || url.len() > 900 {
        return Err(InvalidText("the link to unsubscribe is no plain URL".into()));
    }
    Ok(())
}

/// Free text such as a subject.
pub fn unstructured(value: &str) -> String {
    let plain = value.len() <= MAX_PLAIN
        && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && !value.contains("=?");
    if plain { value.to_owned() } else { encoded_words(value) }
}

/// A mailbox: the name, if there is one, and the address in angle brackets.
pub fn mailbox(name: &str, address: &str) -> String {
    if name.trim().is_empty() {
        return address.to_owned();
    }
    let plain = name.len() <= MAX_PLAIN
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '-_.,&".contains(&byte))
        && !name.starts_with(' ')
        && !name.ends_with(' ');
    let name = if plain { format!("\"{name}\"") } else { encoded_words(name) };
    let fold = if name.len() + address.len() <= MAX_PLAIN { "" } else { "\r\n" };
    format!("{name}{fold} <{address}>")
}

fn encoded_words(value: &str) -> String {
    let mut words = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(rest.floor_char_boundary(WORD_BYTES));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = tail;
    }
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_plain_text_stays_readable_and_all_else_is_encoded() {
        assert_eq!(unstructured("Your order is on its way"), "Your order is on its way");
        assert_eq!(unstructured("Grüße"), "=?utf-8?B?R3LDvMOfZQ==?=");
        assert_eq!(unstructured("=?utf-8?Q?x?="), "=?utf-8?B?PT91dGYtOD9RP3g/PQ==?=", "it is text, not an encoding");
        assert_eq!(mailbox("Ada Lovelace", "a@b.co"), "\"Ada Lovelace\" <a@b.co>");
        let long = format!("{}@b.co", "a".repeat(60));
        assert_eq!(mailbox("Ada", &long), format!("\"Ada\"\r\n <{long}>"));
        assert_eq!(mailbox("", "a@b.co"), "a@b.co");
    }

    #[test]
    fn long_text_is_folded_between_characters() {
        for line in unstructured(&"é😀".repeat(200)).split("\r\n ") {
            assert!(line.len() <= 75, "{line}");
            let word = line.strip_prefix("=?utf-8?B?").and_then(|rest| rest.strip_suffix("?=")).unwrap();
            assert!(String::from_utf8(STANDARD.decode(word).unwrap()).is_ok());
        }
    }

    #[test]
    fn control_characters_and_broken_links_are_refused() {
        for text in ["a\r\nBcc: x@y.zz", "a\tb", "a\0", "\u{85}", "\u{7f}"] {
            assert!(check("the subject", text).is_err(), "{text:?}");
        }
        for url in ["https://a/ b", "https://a/>", "https://a/\r\n", "https://a/é", "https://a/,<mailto:x@y.zz>"] {
            assert!(check_url(url).is_err(), "{url:?}");
        }
        assert!(check_url("https://shop.example/mail/unsubscribe?token=a-b_c.d").is_ok());
    }
}

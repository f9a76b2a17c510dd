//! Which texts are passwords, and which are good enough for a new one.
//!
//! A password is its NFKC form: what is typed full-width, as a ligature or with a composed accent on one keyboard is the same
//! password on another. Its length is counted in code points of that form, and nothing of it is ever cut off.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

/// The fewest and the most characters (code points, after NFKC) of a password.
pub const PASSWORD_LENGTH: RangeInclusive<usize> = 8..=128;

/// No character is written in more bytes than 32, also where accents are typed apart: what is longer is refused before it
/// is normalised, which costs time by its length.
const MOST_BYTES: usize = 32 * *PASSWORD_LENGTH.end();

/// The passwords that are tried first, by `assets/passwords/README.md`: in lower case, sorted.
static COMMON: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("../../assets/passwords/common.txt").lines().collect());

/// Why a text is no password, or no good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefusal {
    #[error("a password has at least {} characters", PASSWORD_LENGTH.start())]
    TooShort,
    #[error("a password has at most {} characters", PASSWORD_LENGTH.end())]
    TooLong,
    #[error("a password has no control characters")]
    ControlCharacter,
    #[error("this password is among those that are guessed first")]
    Common,
}

/// The form that counts. Refused: what nobody can have as a password, now or earlier.
pub fn normalised(typed: &str) -> Result<String, PasswordRefusal> {
    if typed.len() > MOST_BYTES {
        return Err(PasswordRefusal::TooLong);
    }
    let password: String = typed.nfkc().collect();
    let length = password.chars().count();
    if length < *PASSWORD_LENGTH.start() {
        return Err(PasswordRefusal::TooShort);
    }
    if length > *PASSWORD_LENGTH.end() {
        return Err(PasswordRefusal::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordRefusal::ControlCharacter);
    }
    Ok(password)
}

/// The form of a password that somebody chooses; a common one is refused however it is capitalised.
pub fn chosen(typed: &str) -> Result<String, PasswordRefusal> {
    let password = normalised(typed)?;
    if COMMON.binary_search(&password.to_lowercase().as_str()).is_ok() {
        return Err(PasswordRefusal::Common);
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_code_points_of_the_normal_form() {
        let cases = [
            ("1234567".to_owned(), Err(PasswordRefusal::TooShort)),
            ("🐪".repeat(7), Err(PasswordRefusal::TooShort)),
            ("🐪".repeat(8), Ok(8)),
            ("é".repeat(128), Ok(128)),
            ("e\u{301}".repeat(128), Ok(128)),
            ("é".repeat(129), Err(PasswordRefusal::TooLong)),
            // One code point that stands for three.
            ("ﬃ".repeat(3), Ok(9)),
            ("ﬃ".repeat(43), Err(PasswordRefusal::TooLong)),
            ("\u{fdfa}".repeat(8), Err(PasswordRefusal::TooLong)),
            ("x".repeat(100_000), Err(PasswordRefusal::TooLong)),
            ("1234567\0".to_owned(), Err(PasswordRefusal::ControlCharacter)),
            ("correct\thorse".to_owned(), Err(PasswordRefusal::ControlCharacter)),
        ];
        for (typed, expected) in cases {
            let length = normalised(&typed).map(|password| password.chars().count());
            assert_eq!(length, expected, "{:.40}", typed.escape_debug().to_string());
        }
    }

    #[test]
    fn every_way_to_type_a_password_is_one_password() {
        let plain = normalised("caf\u{e9}-office-12").unwrap();
        for typed in ["cafe\u{301}-office-12", "ｃａｆｅ\u{301}-office-12", "café-o\u{fb03}ce-12", "café-office-①②"]
        {
            assert_eq!(normalised(typed).as_ref(), Ok(&plain), "{typed}");
        }
        assert_ne!(normalised("CAFÉ-OFFICE-12"), Ok(plain));
    }

    #[test]
    fn a_common_password_may_be_had_but_not_chosen() {
        for typed in ["password1", "PASSWORD1", "Password1", "ｐａｓｓｗｏｒｄ１", "12345678", "iloveyou"] {
            assert_eq!(chosen(typed), Err(PasswordRefusal::Common), "{typed}");
            assert!(normalised(typed).is_ok(), "{typed}");
        }
        for typed in ["password1 ", "correct horse", "a password of my own", "12345678 12345678"] {
            assert!(chosen(typed).is_ok(), "{typed}");
        }
    }

    #[test]
    fn the_list_is_in_the_form_that_is_looked_up() {
        assert_eq!(COMMON.len(), 5_000);
        assert!(COMMON.is_sorted_by(|one, next| one < next));
        for common in COMMON.iter() {
            assert_eq!(normalised(common).map(|form| form.to_lowercase()).as_deref(), Ok(*common));
        }
    }
}

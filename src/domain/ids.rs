//! Typed identifiers: 128 bits, written as `ord_` and 26 characters of Crockford's base32 (the TypeID text form).
//!
//! Ids are made from a time-ordered UUID, so that new rows land at the end of an index. To a client they are opaque.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

/// The text is not an id of the kind that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this type")]
pub struct InvalidId;

/// What a character stands for; [`NO_DIGIT`] for none.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        digits[ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
};
const NO_DIGIT: u8 = u8::MAX;

fn encode(value: u128) -> [u8; TEXT_LEN] {
    std::array::from_fn(|place| ALPHABET[(value >> (5 * (TEXT_LEN - 1 - place))) as usize & 31])
}

fn decode(text: &str) -> Result<u128, InvalidId> {
    // 26 digits carry 130 bits: the first may only use its three low ones.
    if text.len() != TEXT_LEN || !(b'0'..=b'7').contains(&text.as_bytes()[0]) {
        return Err(InvalidId);
    }
    text.bytes().try_fold(0u128, |value, byte| match DIGITS[byte as usize] {
        NO_DIGIT => Err(InvalidId),
        digit => Ok((value << 5) | u128::from(digit)),
    })
}

/// What every typed id has in common: its prefix and its 128 bits.
pub trait TypedId: Copy + fmt::Display + FromStr<Err = InvalidId> {
    /// Names the type in the id's text form.
    const PREFIX: &'static str;
    /// The id with these 128 bits.
    fn from_uuid(value: Uuid) -> Self;
    /// The 128 bits.
    fn uuid(self) -> Uuid;
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl TypedId for $name {
            const PREFIX: &'static str = $prefix;
            fn from_uuid(value: Uuid) -> Self {
                Self(value)
            }
            fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl $name {
            /// The 128 bits as stored.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
            /// The id with these stored bits.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = encode(self.0.as_u128());
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix(concat!($prefix, "_")).ok_or(InvalidId)?;
                Ok(Self(Uuid::from_u128(decode(digits)?)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

typed_id!(/** A user, whatever the role. */ UserId, "usr");
typed_id!(/** A sign-in of one user on one device: the family of its refresh tokens. */ SessionId, "ses");
typed_id!(/** A product of the catalogue. */ ProductId, "prd");
typed_id!(/** An order. */ OrderId, "ord");
typed_id!(/** A notification. */ NotificationId, "ntf");
typed_id!(/** A campaign. */ CampaignId, "cmp");
typed_id!(
    /** What a person asked for that a mailed link completes: a password reset, an e-mail verification. */
    MailRequestId,
    "mrq"
);
typed_id!(/** A key by which a machine acts for its user. */ ApiKeyId, "key");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        for value in [0, 1, u128::MAX, 0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc] {
            let id = OrderId::from_uuid(Uuid::from_u128(value));
            assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
            assert_eq!(serde_json::from_str::<OrderId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }
    }

    #[test]
    fn an_id_of_another_type_or_a_broken_one_is_refused() {
        let user = UserId::from_uuid(Uuid::from_u128(7)).to_string();
        for text in
            [user.as_str(), "", "ord_", "ord_8zzzzzzzzzzzzzzzzzzzzzzzzz", "ord_0000000000000000000000000U", "ord_é"]
        {
            assert_eq!(text.parse::<OrderId>(), Err(InvalidId), "{text}");
        }
    }
}

//! Values as documents hold them: times are BSON dates, to be read by a person and compared by the server.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime};

use super::failure::{Failure, broken};
use crate::domain::time::Timestamp;
use crate::domain::users::TokenHash;

pub(super) fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.0)
}

/// A field of a document: `#[serde(with = "values::time")]`.
pub(super) mod time {
    use mongodb::bson::DateTime;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::domain::time::Timestamp;

    pub(in crate::store::mongo) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        super::date(*at).serialize(serializer)
    }

    pub(in crate::store::mongo) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        Ok(Timestamp(DateTime::deserialize(deserializer)?.timestamp_millis()))
    }
}

/// A field that may be missing: `#[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]`.
pub(super) mod optional_time {
    use mongodb::bson::DateTime;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::domain::time::Timestamp;

    pub(in crate::store::mongo) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(super::date).serialize(serializer)
    }

    pub(in crate::store::mongo) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<DateTime>::deserialize(deserializer)?.map(|at| Timestamp(at.timestamp_millis())))
    }
}

/// A digest of a token.
pub(super) fn hash(token: TokenHash) -> Binary {
    bytes(token.0.to_vec())
}

pub(super) fn hash_of(stored: &Binary) -> Result<TokenHash, Failure> {
    stored.bytes.as_slice().try_into().map(TokenHash).map_err(|_| broken("a stored digest has another length"))
}

pub(super) fn bytes(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

//! The contract's scalars: exact on the wire, checked on the way in.

use std::borrow::Cow;

use async_graphql::{InputValueError, InputValueResult, Number, Scalar, ScalarType, Value};

use crate::domain::money::Currency;
use crate::domain::time::Timestamp;

/// A point in time: RFC 3339, in UTC, with milliseconds. As input any offset is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime(pub Timestamp);

/// A point in time: RFC 3339, in UTC, with milliseconds. As input any offset is accepted.
#[Scalar(name = "DateTime")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(text.parse::<Timestamp>()?)),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(text) if text.parse::<Timestamp>().is_ok())
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A decimal number as a string, exact: `"129.00"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal(pub String);

/// A decimal number as a string, exact: `129.00`.
#[Scalar(name = "Decimal")]
impl ScalarType for Decimal {
    /// No input is a decimal: amounts come in minor units.
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text)),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// A 64-bit signed integer, as a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Long(pub i64);

/// A 64-bit signed integer, as a JSON number.
#[Scalar(name = "Long")]
impl ScalarType for Long {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => {
                number.as_i64().map(Self).ok_or_else(|| InputValueError::custom("not a 64-bit integer"))
            }
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::Number(number) if number.is_i64())
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

impl From<u64> for Long {
    /// A count past 2^63 - 1 stays there.
    fn from(count: u64) -> Self {
        Self(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// A currency by its ISO 4217 code: `"EUR"`.
///
/// As input it is kept as it came: whether it is the shop's currency is a question of business, answered with a field
/// path, like every other wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrencyCode(pub Cow<'static, str>);

impl From<Currency> for CurrencyCode {
    fn from(currency: Currency) -> Self {
        Self(Cow::Owned(currency.as_str().to_owned()))
    }
}

/// A currency by its ISO 4217 code, e.g. EUR.
#[Scalar(name = "CurrencyCode")]
impl ScalarType for CurrencyCode {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text.into())),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An opaque position in a list or a stream. It is valid only where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// An opaque position in a list or a stream. It is valid only where it came from.
#[Scalar(name = "Cursor")]
impl ScalarType for Cursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text)),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_is_every_64_bit_integer_and_nothing_else() {
        for number in [i64::MIN, -1, 0, i64::MAX] {
            let value = Long(number).to_value();
            assert!(Long::is_valid(&value));
            assert_eq!(Long::parse(value).ok(), Some(Long(number)));
        }
        for json in ["1.5", "1.0", "9223372036854775808", "\"1\"", "true", "1e3"] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert!(!Long::is_valid(&value) && Long::parse(value).is_err(), "{json}");
        }
    }

    #[test]
    fn a_time_is_given_in_utc_and_taken_with_any_offset() {
        let at = DateTime::parse(Value::String("2026-11-23T18:00:00+02:00".into())).ok().unwrap();
        assert_eq!(at.to_value(), Value::String("2026-11-23T16:00:00.000Z".into()));
        for broken in ["", "2026-11-23", "2026-11-23T18:00:00", "noon"] {
            assert!(!DateTime::is_valid(&Value::String(broken.into())), "{broken}");
        }
    }
}

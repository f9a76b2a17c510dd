//! Exact money: an integer count of a currency's minor unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An ISO 4217 code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// The text is not three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three capital letters (ISO 4217)")]
pub struct InvalidCurrency;

impl Currency {
    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is made of ASCII letters only")
    }

    /// Digits after the decimal point: ISO 4217's exponent, 2 for codes that its list gives none or does not have.
    pub fn exponent(&self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF" | b"UGX"
            | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }
}

impl FromStr for Currency {
    type Err = InvalidCurrency;
    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        match text.as_bytes().try_into() {
            Ok(code) if text.bytes().all(|byte| byte.is_ascii_uppercase()) => Ok(Self(code)),
            _ => Err(InvalidCurrency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount of one currency. Prices and totals are never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Cents of a euro, whole yen.
    pub minor_units: i64,
    pub currency: Currency,
}

/// A sum or product left the 64-bit range, or two currencies met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount does not fit")]
pub struct AmountOverflow;

impl Money {
    pub fn new(minor_units: i64, currency: Currency) -> Self {
        Self { minor_units, currency }
    }

    /// This amount `quantity` times.
    pub fn times(self, quantity: u32) -> Result<Self, AmountOverflow> {
        let minor_units = self.minor_units.checked_mul(i64::from(quantity)).ok_or(AmountOverflow)?;
        Ok(Self { minor_units, ..self })
    }

    /// The sum of two amounts of one currency.
    pub fn plus(self, other: Self) -> Result<Self, AmountOverflow> {
        if self.currency != other.currency {
            return Err(AmountOverflow);
        }
        let minor_units = self.minor_units.checked_add(other.minor_units).ok_or(AmountOverflow)?;
        Ok(Self { minor_units, ..self })
    }

    /// The amount in major units, exact, as a decimal: `129.00`.
    pub fn decimal(&self) -> String {
        let exponent = self.currency.exponent();
        if exponent == 0 {
            return self.minor_units.to_string();
        }
        let scale = 10i64.pow(exponent).unsigned_abs();
        let sign = if self.minor_units < 0 { "-" } else { "" };
        let units = self.minor_units.unsigned_abs();
        format!("{sign}{}.{:0width$}", units / scale, units % scale, width = exponent as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(minor_units: i64, currency: &str) -> Money {
        Money::new(minor_units, currency.parse().unwrap())
    }

    #[test]
    fn the_decimal_follows_the_currency_and_is_exact() {
        assert_eq!(money(12900, "EUR").decimal(), "129.00");
        assert_eq!(money(5, "EUR").decimal(), "0.05");
        assert_eq!(money(i64::MAX, "EUR").decimal(), "92233720368547758.07");
        assert_eq!(money(129, "JPY").decimal(), "129");
        assert_eq!(money(1290, "KWD").decimal(), "1.290");
    }

    #[test]
    fn sums_and_products_outside_64_bits_are_refused() {
        assert_eq!(money(i64::MAX, "EUR").times(2), Err(AmountOverflow));
        assert_eq!(money(i64::MAX, "EUR").plus(money(1, "EUR")), Err(AmountOverflow));
        assert_eq!(money(1, "EUR").plus(money(1, "USD")), Err(AmountOverflow));
        assert_eq!(money(250, "EUR").times(4), Ok(money(1000, "EUR")));
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        for text in ["eur", "EU", "EURO", "E1R", ""] {
            assert_eq!(text.parse::<Currency>(), Err(InvalidCurrency), "{text}");
        }
    }
}

//! Amounts as documents hold them: whole minor units, to be compared by the server.

use serde::{Deserialize, Serialize};

use crate::domain::money::{Currency, Money};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MoneyDocument {
    minor_units: i64,
    currency: Currency,
}

impl From<Money> for MoneyDocument {
    fn from(money: Money) -> Self {
        Self { minor_units: money.minor_units, currency: money.currency }
    }
}

impl From<MoneyDocument> for Money {
    fn from(money: MoneyDocument) -> Self {
        Self::new(money.minor_units, money.currency)
    }
}

//! Money in the API: exact minor units, and the decimal for people.

use async_graphql::{InputObject, SimpleObject};

use super::errors::Problem;
use super::scalars::{CurrencyCode, Decimal, Long};
use crate::domain::money::{Currency, Money as DomainMoney};

/// An exact amount of money.
#[derive(SimpleObject)]
pub struct Money {
    /// The amount in the currency's smallest unit: cents of a euro, whole yen.
    minor_units: Long,
    /// The currency of the amount.
    currency: CurrencyCode,
    /// The amount in the currency's main unit, for showing: `"129.00"`.
    amount: Decimal,
}

impl From<DomainMoney> for Money {
    fn from(money: DomainMoney) -> Self {
        Self { minor_units: Long(money.minor_units), currency: money.currency.into(), amount: Decimal(money.decimal()) }
    }
}

/// An exact amount of the shop's currency.
#[derive(InputObject)]
pub struct MoneyInput {
    /// The amount in the currency's smallest unit.
    pub minor_units: Long,
    /// Must be the shop's currency.
    pub currency: CurrencyCode,
}

impl MoneyInput {
    /// The amount, if it is in the shop's currency. The problem's path starts at this input.
    pub fn in_currency(&self, shop: Currency) -> Result<DomainMoney, Problem> {
        if self.currency.0 == shop.as_str() {
            return Ok(DomainMoney::new(self.minor_units.0, shop));
        }
        Err(Problem::new("currency", format!("this shop sells in {shop} only")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shops_currency_is_accepted() {
        let euro: Currency = "EUR".parse().unwrap();
        let input = |code: &'static str| MoneyInput { minor_units: Long(5), currency: CurrencyCode(code.into()) };
        assert_eq!(input("EUR").in_currency(euro).ok(), Some(DomainMoney::new(5, euro)));
        for other in ["USD", "eur", "", "EUR "] {
            let problem = input(other).in_currency(euro).err().unwrap();
            assert_eq!(problem.field, ["currency"]);
        }
    }
}

//! Events that launch a campaign: a product costs less, or is in stock again. Written to are those who bought something of
//! the product's category.

use super::campaigns::{Audience, Campaign, LaunchKey, Pitch};
use super::events::{PendingEvent, ProductChanged, StockChanged};
use super::ids::CampaignId;
use super::products::Product;
use super::time::Timestamp;

/// An older event launches nothing: what it tells may be over. Milliseconds.
pub const MAX_AGE_MS: i64 = 60 * 60 * 1_000;

/// Which events launch a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TriggerRules {
    /// Launched by a price that falls by at least so many percent; 0: by none.
    pub price_cut_percent: u32,
    /// Launched by stock that rises from nothing, once a product and day (UTC): a cancelled order brings stock back too,
    /// and whoever orders and cancels again and again is not to write to everybody.
    pub back_in_stock: bool,
}

/// An event that may launch a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductNews {
    /// `ce_id`: the same event launches one campaign.
    pub event_id: String,
    pub at: Timestamp,
    pub what: WhatHappened,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhatHappened {
    Edited(ProductChanged),
    StockMoved(StockChanged),
}

impl TriggerRules {
    /// By how many percent a price fell, if that launches a campaign.
    fn price_cut(self, change: &ProductChanged) -> Option<i128> {
        let (before, now) = (i128::from(change.previous_price.minor_units), i128::from(change.price.minor_units));
        let cut = before - now;
        let launches = self.price_cut_percent > 0
            && !change.archived
            && cut > 0
            && cut * 100 >= before * i128::from(self.price_cut_percent);
        launches.then(|| cut * 100 / before)
    }

    /// Whether stock came back in a way that launches a campaign; which product it is has still to be asked.
    pub fn is_return(self, change: &StockChanged) -> bool {
        self.back_in_stock && change.previous <= 0 && change.available > 0
    }

    /// What is said about an edited product.
    pub fn pitch_of_edit(self, change: &ProductChanged) -> Option<Pitch> {
        let percent = self.price_cut(change)?;
        Some(Pitch {
            subject: format!("{} costs less now", change.name),
            message: format!("The price of {} has fallen by {percent} %.", change.name),
            audience: Audience::BuyersOf(change.category.clone()),
        })
    }

    /// What is said about a product that is back; nothing when it is sold out or archived by now.
    pub fn pitch_of_return(self, product: &Product) -> Option<Pitch> {
        (!product.archived && product.available > 0).then(|| Pitch {
            subject: format!("{} is back", product.name),
            message: format!("{} is in stock again.", product.name),
            audience: Audience::BuyersOf(product.category.clone()),
        })
    }
}

impl ProductNews {
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.millis_since(self.at) > MAX_AGE_MS
    }

    /// The campaign that this event launches.
    pub fn campaign(&self, id: CampaignId, pitch: Pitch, at: Timestamp) -> (Campaign, PendingEvent) {
        let key = match &self.what {
            WhatHappened::Edited(_) => LaunchKey::Event(self.event_id.clone()),
            WhatHappened::StockMoved(change) => LaunchKey::Return { product: change.product_id, at: self.at },
        };
        Campaign::launch(id, &key, pitch, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ProductId, TypedId};
    use crate::domain::money::Money;
    use uuid::Uuid;

    const RULES: TriggerRules = TriggerRules { price_cut_percent: 20, back_in_stock: true };

    fn edit(before: i64, now: i64) -> ProductChanged {
        let money = |minor| Money::new(minor, "EUR".parse().unwrap());
        ProductChanged {
            product_id: ProductId::from_uuid(Uuid::nil()),
            sku: "LMP".into(),
            name: "Brass Lamp".into(),
            category: "Lighting".into(),
            price: money(now),
            previous_price: money(before),
            archived: false,
            version: 2,
        }
    }

    fn moved(previous: i32, available: i32) -> StockChanged {
        StockChanged { product_id: ProductId::from_uuid(Uuid::nil()), available, previous }
    }

    #[test]
    fn a_price_launches_when_it_falls_far_enough() {
        let says = |before, now| RULES.pitch_of_edit(&edit(before, now)).map(|pitch| pitch.message);
        assert_eq!(says(1_000, 800).as_deref(), Some("The price of Brass Lamp has fallen by 20 %."));
        assert_eq!(says(i64::MAX, 0).as_deref(), Some("The price of Brass Lamp has fallen by 100 %."));
        for (before, now) in [(1_000, 801), (1_000, 1_000), (1_000, 2_000), (0, 0), (0, 5)] {
            assert_eq!(says(before, now), None, "{before} to {now}");
        }
        assert_eq!(RULES.pitch_of_edit(&ProductChanged { archived: true, ..edit(1_000, 1) }), None);
        assert_eq!(TriggerRules::default().pitch_of_edit(&edit(1_000, 1)), None, "no trigger is on by default");
        let pitch = RULES.pitch_of_edit(&edit(1_000, 1)).unwrap();
        assert_eq!(pitch.audience, Audience::BuyersOf("Lighting".into()));
        assert!(pitch.check().is_ok());
    }

    #[test]
    fn stock_launches_when_it_comes_back_from_nothing() {
        assert!(RULES.is_return(&moved(0, 5)));
        for (previous, available) in [(1, 5), (0, 0), (5, 0)] {
            assert!(!RULES.is_return(&moved(previous, available)), "{previous} to {available}");
        }
        assert!(!TriggerRules::default().is_return(&moved(0, 5)));
    }

    #[test]
    fn an_old_event_is_stale() {
        let what = WhatHappened::StockMoved(moved(0, 5));
        let news = ProductNews { event_id: "prd_1-2".into(), at: Timestamp(0), what };
        assert!(!news.is_stale(Timestamp(MAX_AGE_MS)) && news.is_stale(Timestamp(MAX_AGE_MS + 1)));
    }
}

//! Orders: how one is built, the one table of its transitions, and the events that each change announces.

use serde::{Deserialize, Serialize};

use super::events::{InventoryDecided, OrderChanged, PendingEvent, Topic, event_type, source};
use super::ids::{OrderId, ProductId, UserId};
use super::inventory::{Shortage, WantedLine};
use super::money::{AmountOverflow, Currency, Money};
use super::time::Timestamp;

/// The most lines of an order, before and after merging.
pub const MAX_LINES: usize = 100;
/// The most pieces on a line as it is given. Lines of one product are merged, so an order may hold more of it.
pub const MAX_QUANTITY: u32 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    Pending,
    Confirmed,
    Rejected,
    Shipped,
    Delivered,
    Cancelled,
}

impl OrderStatus {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Confirmed, Self::Rejected, Self::Shipped, Self::Delivered, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Confirmed => "CONFIRMED",
            Self::Rejected => "REJECTED",
            Self::Shipped => "SHIPPED",
            Self::Delivered => "DELIVERED",
            Self::Cancelled => "CANCELLED",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// The transition table: what may follow this status.
    pub fn successors(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Confirmed, Self::Rejected, Self::Cancelled],
            Self::Confirmed => &[Self::Shipped, Self::Cancelled],
            Self::Shipped => &[Self::Delivered],
            Self::Rejected | Self::Delivered | Self::Cancelled => &[],
        }
    }

    /// `ce_type` of reaching this status.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Pending => event_type::ORDER_PLACED,
            Self::Confirmed => event_type::ORDER_CONFIRMED,
            Self::Rejected => event_type::ORDER_REJECTED,
            Self::Shipped => event_type::ORDER_SHIPPED,
            Self::Delivered => event_type::ORDER_DELIVERED,
            Self::Cancelled => event_type::ORDER_CANCELLED,
        }
    }
}

/// A product as it was when it was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub category: String,
    pub unit_price: Money,
    pub quantity: u32,
}

impl OrderLine {
    /// Cannot overflow: the order's total was checked when it was built.
    pub fn total(&self) -> Money {
        self.unit_price.times(self.quantity).unwrap_or(self.unit_price)
    }
}

/// An entry of an order's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// From 1 (PENDING), without gaps: the cursor of `orderUpdated`.
    pub sequence: i32,
    pub status: OrderStatus,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// SHA-256 over the merged lines: tells a repeated request from another one under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDigest(pub [u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    /// For people: unique, readable over the phone.
    pub number: String,
    pub customer_id: UserId,
    pub status: OrderStatus,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    pub timeline: Vec<TimelineEntry>,
    /// Of a REJECTED order: what was short.
    pub shortages: Vec<Shortage>,
    /// Of a REJECTED order: what is no longer sold.
    pub unavailable: Vec<ProductId>,
    /// Unique for the customer.
    pub idempotency_key: String,
    pub input_digest: InputDigest,
    pub created_at: Timestamp,
}

/// A change that the table does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {} cannot become {}", from.as_str(), to.as_str())]
pub struct IllegalTransition {
    pub from: OrderStatus,
    pub to: OrderStatus,
}

/// What an order is built from; the lines are merged and carry the products' present names and prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    pub id: OrderId,
    pub number: String,
    pub customer_id: UserId,
    pub lines: Vec<OrderLine>,
    pub currency: Currency,
    pub idempotency_key: String,
    pub input_digest: InputDigest,
}

impl NewOrder {
    /// The sum of the lines.
    pub fn total(&self) -> Result<Money, AmountOverflow> {
        let nothing = Money::new(0, self.currency);
        self.lines.iter().try_fold(nothing, |sum, line| sum.plus(line.unit_price.times(line.quantity)?))
    }

    /// The PENDING order with the event that announces it.
    pub fn place(self, at: Timestamp) -> Result<(Order, PendingEvent), AmountOverflow> {
        let total = self.total()?;
        let order = Order {
            id: self.id,
            number: self.number,
            customer_id: self.customer_id,
            status: OrderStatus::Pending,
            lines: self.lines,
            total,
            timeline: vec![TimelineEntry { sequence: 1, status: OrderStatus::Pending, at, note: None }],
            shortages: Vec::new(),
            unavailable: Vec::new(),
            idempotency_key: self.idempotency_key,
            input_digest: self.input_digest,
            created_at: at,
        };
        let event = order.last_event();
        Ok((order, event))
    }
}

impl Order {
    /// The sequence of the last timeline entry.
    pub fn version(&self) -> i32 {
        self.timeline.last().map_or(0, |entry| entry.sequence)
    }

    /// When the last timeline entry was made.
    pub fn updated_at(&self) -> Timestamp {
        self.timeline.last().map_or(self.created_at, |entry| entry.at)
    }

    /// Moves the order on and returns the event that announces it.
    pub fn advance(
        &mut self,
        to: OrderStatus,
        note: Option<String>,
        at: Timestamp,
    ) -> Result<PendingEvent, IllegalTransition> {
        if !self.status.successors().contains(&to) {
            return Err(IllegalTransition { from: self.status, to });
        }
        self.status = to;
        self.timeline.push(TimelineEntry { sequence: self.version() + 1, status: to, at, note });
        Ok(self.last_event())
    }

    /// Applies stock's verdict; `None` when the order is no longer PENDING: then it changes nothing.
    pub fn apply_verdict(&mut self, verdict: &Verdict, at: Timestamp) -> Option<PendingEvent> {
        if self.status != OrderStatus::Pending {
            return None;
        }
        let to = match verdict {
            Verdict::Reserved => OrderStatus::Confirmed,
            Verdict::Rejected { shortages, unavailable } => {
                self.shortages.clone_from(shortages);
                self.unavailable.clone_from(unavailable);
                OrderStatus::Rejected
            }
        };
        self.advance(to, None, at).ok()
    }

    /// What inventory needs to know of this order.
    pub fn wanted_lines(&self) -> Vec<WantedLine> {
        self.lines.iter().map(|line| WantedLine { product_id: line.product_id, quantity: line.quantity }).collect()
    }

    /// The event of the last timeline entry.
    fn last_event(&self) -> PendingEvent {
        self.event_of(self.timeline.last().expect("an order's timeline starts with PENDING"))
    }

    /// The event that announces the timeline entry of this sequence: the same whenever it is asked for.
    pub fn event(&self, sequence: i64) -> Option<PendingEvent> {
        let entry = self.timeline.iter().find(|entry| i64::from(entry.sequence) == sequence)?;
        Some(self.event_of(entry))
    }

    fn event_of(&self, entry: &TimelineEntry) -> PendingEvent {
        let rejected = entry.status == OrderStatus::Rejected;
        let body = OrderChanged {
            order_id: self.id,
            number: self.number.clone(),
            customer_id: self.customer_id,
            status: entry.status,
            sequence: i64::from(entry.sequence),
            note: entry.note.clone(),
            lines: self.lines.clone(),
            total: self.total,
            shortages: if rejected { self.shortages.clone() } else { Vec::new() },
            unavailable: if rejected { self.unavailable.clone() } else { Vec::new() },
        };
        PendingEvent::new(
            Topic::OrderEvents,
            source::ORDERS,
            entry.status.event_type(),
            self.id.to_string(),
            i64::from(entry.sequence),
            entry.at,
            &body,
        )
    }
}

/// Stock's answer to a placed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Reserved,
    Rejected { shortages: Vec<Shortage>, unavailable: Vec<ProductId> },
}

impl Verdict {
    /// The verdict that an event of inventory carries, if it carries one.
    pub fn from_event(event_type: &str, body: InventoryDecided) -> Option<Self> {
        match event_type {
            event_type::INVENTORY_RESERVED => Some(Self::Reserved),
            event_type::INVENTORY_REJECTED => {
                Some(Self::Rejected { shortages: body.shortages, unavailable: body.unavailable })
            }
            _ => None,
        }
    }
}

/// The hundredths of a second of a day have 24 bits; what is left of the number's 40 bits is random.
const RANDOM_BITS: u32 = 16;

/// An order's number: the day it was placed and eight digits, without look-alikes, which grow with the time of the day
/// (UTC, in hundredths of a second) and end in random ones. New numbers land at the end of an index.
pub fn order_number(at: Timestamp, random: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let day = at.to_string();
    let hundredths = (at.0.rem_euclid(DAY_MS) / 10).unsigned_abs();
    let digits = (hundredths << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1));
    let mut number = String::with_capacity(16);
    number.push_str(&day[2..4]);
    number.push_str(&day[5..7]);
    number.push_str(&day[8..10]);
    for position in (0..8).rev() {
        if position % 4 == 3 {
            number.push('-');
        }
        number.push(DIGITS[((digits >> (5 * position)) & 31) as usize] as char);
    }
    number
}

/// Which orders a list holds; `None` does not filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderFilter {
    pub statuses: Option<Vec<OrderStatus>>,
    pub number: Option<String>,
    pub customer_id: Option<UserId>,
    /// Exclusive.
    pub placed_after: Option<Timestamp>,
    /// Exclusive.
    pub placed_before: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn new_order(price: i64, quantity: u32) -> NewOrder {
        let currency: Currency = "EUR".parse().unwrap();
        NewOrder {
            id: OrderId::from_uuid(Uuid::from_u128(1)),
            number: order_number(Timestamp(0), 0x1234_5678_9abc),
            customer_id: UserId::from_uuid(Uuid::from_u128(2)),
            lines: vec![OrderLine {
                product_id: ProductId::from_uuid(Uuid::from_u128(3)),
                sku: "LMP-100".into(),
                name: "Brass Lamp".into(),
                category: "Lighting".into(),
                unit_price: Money::new(price, currency),
                quantity,
            }],
            currency,
            idempotency_key: "k".into(),
            input_digest: InputDigest([0; 32]),
        }
    }

    #[test]
    fn the_transition_table_is_the_only_way_on() {
        let legal = [
            ("PENDING", "CONFIRMED"),
            ("PENDING", "REJECTED"),
            ("PENDING", "CANCELLED"),
            ("CONFIRMED", "SHIPPED"),
            ("CONFIRMED", "CANCELLED"),
            ("SHIPPED", "DELIVERED"),
        ];
        for from in OrderStatus::ALL {
            for to in OrderStatus::ALL {
                let (mut order, _) = new_order(100, 1).place(Timestamp(0)).unwrap();
                order.status = from;
                let allowed = legal.contains(&(from.as_str(), to.as_str()));
                assert_eq!(order.advance(to, None, Timestamp(1)).is_ok(), allowed, "{from:?} -> {to:?}");
                assert_eq!(order.timeline.len(), if allowed { 2 } else { 1 });
            }
        }
    }

    #[test]
    fn a_verdict_that_comes_too_late_changes_nothing() {
        let (mut order, _) = new_order(100, 1).place(Timestamp(0)).unwrap();
        order.advance(OrderStatus::Cancelled, None, Timestamp(1)).unwrap();
        assert_eq!(order.apply_verdict(&Verdict::Reserved, Timestamp(2)), None);
        assert_eq!(order.status, OrderStatus::Cancelled);
    }

    #[test]
    fn a_total_past_64_bits_is_refused() {
        assert!(new_order(i64::MAX, 1).place(Timestamp(0)).is_ok());
        assert_eq!(new_order(i64::MAX, 2).place(Timestamp(0)), Err(AmountOverflow));
    }

    #[test]
    fn a_number_names_the_day_and_has_no_look_alikes() {
        let numbered = |time: &str, random| order_number(time.parse().unwrap(), random);
        assert_eq!(numbered("2026-11-23T00:00:00Z", 0), "261123-0000-0000");
        assert_eq!(numbered("2026-11-23T23:59:59.999Z", u64::MAX), "261123-GFAZ-ZZZZ");
    }

    #[test]
    fn numbers_grow_with_time() {
        let day = "2026-11-23T00:00:00Z".parse::<Timestamp>().unwrap();
        let numbers: Vec<String> = (0..100_u64)
            .map(|n| order_number(day.plus_millis(n as i64 * 863_999), n.wrapping_mul(u64::MAX / 7)))
            .collect();
        assert!(numbers.is_sorted());
    }

    #[test]
    fn every_entry_of_a_timeline_has_the_event_that_announced_it() {
        let (mut order, placed) = new_order(1, 1).place(Timestamp(1)).unwrap();
        let shortage = Shortage { product_id: order.lines[0].product_id, requested: 1, available: 0 };
        let verdict = Verdict::Rejected { shortages: vec![shortage], unavailable: Vec::new() };
        let rejected = order.apply_verdict(&verdict, Timestamp(2)).unwrap();
        assert_eq!((order.event(1), order.event(2), order.event(3)), (Some(placed), Some(rejected), None));
    }
}

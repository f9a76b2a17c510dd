//! An order as its one document, with its timeline and the events of it that are still to be published.
//!
//! A change is stamped when it is written: with the microseconds of its time, and later than every change that this
//! process has stamped at that time and than the order's own last one. So the stamps tell whether an order has moved since
//! it was read, and give the changes of a customer an order (`order_changes`).

use std::sync::atomic::{AtomicI64, Ordering};

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc, serialize_to_bson};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, broken};
use super::migrations::{self, Migration, collection, index, indexes, partial_index, unique_index};
use super::money::MoneyDocument;
use super::order_changes::Change;
use super::updates::Update;
use super::values;
use super::{consumption, outbox};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::inventory::Shortage;
use crate::domain::orders::{InputDigest, Order, OrderLine, OrderStatus, TimelineEntry};
use crate::domain::time::Timestamp;

pub(super) const ORDERS: &str = "orders";

/// The sequence of the event that announces a new order.
pub(super) const PLACED: i64 = 1;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "orders", changes: orders },
    Migration { name: "stream of changes from its index", changes: stream_index },
];

fn orders() -> Vec<migrations::Change> {
    let mut changes = Vec::from(outbox::collections());
    changes.extend([
        collection(
            ORDERS,
            &[
                ("_id", &["string"]),
                ("number", &["string"]),
                ("customerId", &["string"]),
                ("status", &["string"]),
                ("lines", &["array"]),
                ("total", &["object"]),
                ("timeline", &["array"]),
                ("shortages?", &["array"]),
                ("unavailable?", &["array"]),
                ("idempotencyKey", &["string"]),
                ("inputDigest", &["binData"]),
                ("placedAt", &["date"]),
                ("stampMicros", &["long"]),
                ("pending", &["array"]),
            ],
        ),
        indexes(
            ORDERS,
            [
                unique_index("orders_by_number", doc! { "number": 1 }),
                unique_index("orders_by_key", doc! { "customerId": 1, "idempotencyKey": 1 }),
                index("orders_by_customer", doc! { "customerId": 1, "placedAt": 1, "_id": 1 }),
                index("orders_by_status", doc! { "status": 1, "placedAt": 1, "_id": 1 }),
                index("orders_by_time", doc! { "placedAt": 1, "_id": 1 }),
                index("orders_by_change", doc! { "customerId": 1, "stampMicros": 1 }),
                // Of the orders that have something to publish only: nearly empty whenever it is swept.
                partial_index("orders_pending", doc! { "pending.at": 1 }, doc! { "pending.at": { "$exists": true } }),
            ],
        ),
    ]);
    changes.extend(consumption::collections());
    changes
}

/// With the ids a stream reads the stamps of its window from the index alone.
fn stream_index() -> Vec<migrations::Change> {
    vec![
        indexes(ORDERS, [index("orders_by_customer_change", doc! { "customerId": 1, "stampMicros": 1, "_id": 1 })]),
        migrations::Change::DropIndex { collection: ORDERS, name: "orders_by_change" },
    ]
}

/// Gives changes their stamps. Changes that are stamped at one time get neighbouring ones, in this order; a clock that
/// was put back is followed.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    last: AtomicI64,
}

impl Stamps {
    /// Stamps of one time that are told apart.
    const ROOM: i64 = 1_000_000;

    /// The stamp of a change that follows one with the stamp `after`; of the first one it is 0.
    pub(super) fn next(&self, at: Timestamp, after: i64) -> i64 {
        let floor = at.0.saturating_mul(1_000).max(after.saturating_add(1));
        let next = |last: i64| {
            let crowded = (0..Self::ROOM).contains(&last.saturating_sub(floor));
            if crowded { last + 1 } else { floor }
        };
        match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last))) {
            Ok(last) | Err(last) => next(last),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderDocument {
    #[serde(rename = "_id")]
    pub id: OrderId,
    number: String,
    pub customer_id: UserId,
    status: OrderStatus,
    lines: Vec<LineDocument>,
    total: MoneyDocument,
    timeline: Vec<EntryDocument>,
    /// Of a REJECTED order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shortages: Vec<ShortageDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unavailable: Vec<ProductId>,
    pub idempotency_key: String,
    input_digest: Binary,
    #[serde(with = "values::time")]
    pub placed_at: Timestamp,
    /// Of the last change.
    pub stamp_micros: i64,
    /// The entries of the timeline whose events are still to be published.
    pub pending: Vec<PendingEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineDocument {
    product_id: ProductId,
    sku: String,
    name: String,
    category: String,
    unit_price: MoneyDocument,
    quantity: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryDocument {
    sequence: i32,
    status: OrderStatus,
    #[serde(with = "values::time")]
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    stamp_micros: i64,
}

/// What was short, as `orders` and `decisions` hold it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShortageDocument {
    product_id: ProductId,
    requested: u32,
    available: i32,
}

/// What of an event the order itself does not say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PendingEntry {
    pub sequence: i64,
    #[serde(with = "values::time")]
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl From<&Shortage> for ShortageDocument {
    fn from(shortage: &Shortage) -> Self {
        let Shortage { product_id, requested, available } = *shortage;
        Self { product_id, requested, available }
    }
}

impl From<ShortageDocument> for Shortage {
    fn from(shortage: ShortageDocument) -> Self {
        let ShortageDocument { product_id, requested, available } = shortage;
        Self { product_id, requested, available }
    }
}

impl EntryDocument {
    fn of(entry: &TimelineEntry, stamp_micros: i64) -> Self {
        let TimelineEntry { sequence, status, at, note } = entry.clone();
        Self { sequence, status, at, note, stamp_micros }
    }
}

impl PendingEntry {
    /// Refuses an event that is not the one of the order's last change.
    fn of(order: &Order, event: &PendingEvent) -> Result<Self, Failure> {
        if event.sequence != i64::from(order.version()) || event.aggregate != order.id.to_string() {
            return Err(broken(format!("{} is not the event of the change of {}", event.id(), order.id)));
        }
        Ok(Self { sequence: event.sequence, at: event.at, headers: event.headers.clone() })
    }
}

impl OrderDocument {
    /// Of an order that was just placed.
    pub(super) fn placed(order: &Order, event: &PendingEvent, stamps: &Stamps) -> Result<Self, Failure> {
        let pending = PendingEntry::of(order, event)?;
        let timeline: Vec<_> = order
            .timeline
            .iter()
            .scan(0, |last, entry| {
                *last = stamps.next(entry.at, *last);
                Some(EntryDocument::of(entry, *last))
            })
            .collect();
        Ok(Self {
            id: order.id,
            number: order.number.clone(),
            customer_id: order.customer_id,
            status: order.status,
            lines: order.lines.iter().map(LineDocument::from).collect(),
            total: order.total.into(),
            stamp_micros: timeline.last().map_or(0, |entry| entry.stamp_micros),
            timeline,
            shortages: order.shortages.iter().map(ShortageDocument::from).collect(),
            unavailable: order.unavailable.clone(),
            idempotency_key: order.idempotency_key.clone(),
            input_digest: Binary { subtype: BinarySubtype::Generic, bytes: order.input_digest.0.to_vec() },
            placed_at: order.created_at,
            pending: vec![pending],
        })
    }

    /// Every entry of its timeline, as the stream of changes sees it.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        let order = self.id;
        let change =
            move |entry: &EntryDocument| Change { stamp_micros: entry.stamp_micros, order, sequence: entry.sequence };
        self.timeline.iter().map(change)
    }

    pub(super) fn order(self) -> Result<Order, Failure> {
        let digest = self.input_digest.bytes.try_into().map_err(|_| broken("an order has no input digest"))?;
        Ok(Order {
            id: self.id,
            number: self.number,
            customer_id: self.customer_id,
            status: self.status,
            lines: self.lines.into_iter().map(OrderLine::from).collect(),
            total: self.total.into(),
            timeline: self.timeline.into_iter().map(TimelineEntry::from).collect(),
            shortages: self.shortages.into_iter().map(Shortage::from).collect(),
            unavailable: self.unavailable,
            idempotency_key: self.idempotency_key,
            input_digest: InputDigest(digest),
            created_at: self.placed_at,
        })
    }
}

impl From<&OrderLine> for LineDocument {
    fn from(line: &OrderLine) -> Self {
        let OrderLine { product_id, sku, name, category, unit_price, quantity } = line.clone();
        Self { product_id, sku, name, category, unit_price: unit_price.into(), quantity }
    }
}

impl From<LineDocument> for OrderLine {
    fn from(line: LineDocument) -> Self {
        let LineDocument { product_id, sku, name, category, unit_price, quantity } = line;
        Self { product_id, sku, name, category, unit_price: unit_price.into(), quantity }
    }
}

impl From<EntryDocument> for TimelineEntry {
    fn from(entry: EntryDocument) -> Self {
        let EntryDocument { sequence, status, at, note, .. } = entry;
        Self { sequence, status, at, note }
    }
}

/// What moves an order to the end of its timeline, if nobody has moved it since it was read with `stamp_micros`.
pub(super) fn change(
    order: &Order,
    event: &PendingEvent,
    stamp_micros: i64,
    stamps: &Stamps,
) -> Result<(Document, Document), Failure> {
    let (fields, timeline) = moved(order, stamp_micros, stamps)?;
    let unmoved = doc! { "_id": order.id.to_string(), "stampMicros": stamp_micros };
    let pending = serialize_to_bson(&PendingEntry::of(order, event)?)?;
    Ok((unmoved, doc! { "$set": fields, "$push": { "timeline": timeline, "pending": pending } }))
}

/// As [`change`], by a verdict and in the transaction in which the order was read: one that has moved since is a conflict,
/// so the filter is the key alone, which is found without a plan. The event of the placement was read from the log by
/// whoever has made the verdict, so it is published and forgotten here. The verdict's own event is not noted here: it
/// waits in `pending_events`, with those of the other verdicts of the transaction.
pub(super) fn change_by_verdict(
    order: &Order,
    (stamp_micros, mut pending): (i64, Vec<PendingEntry>),
    stamps: &Stamps,
) -> Result<Update, Failure> {
    let (mut fields, timeline) = moved(order, stamp_micros, stamps)?;
    pending.retain(|entry| entry.sequence != PLACED);
    fields.insert("pending", serialize_to_bson(&pending)?);
    let key = doc! { "_id": order.id.to_string() };
    Ok(Update::one(key, doc! { "$set": fields, "$push": { "timeline": timeline } }))
}

/// The fields of an order's last change, and the entry of its timeline.
fn moved(order: &Order, stamp_micros: i64, stamps: &Stamps) -> Result<(Document, Bson), Failure> {
    let entry = order.timeline.last().ok_or_else(|| broken("an order has no timeline"))?;
    let stamp = stamps.next(entry.at, stamp_micros);
    let mut fields = doc! { "status": order.status.as_str(), "stampMicros": stamp };
    if !order.shortages.is_empty() {
        let shortages: Vec<_> = order.shortages.iter().map(ShortageDocument::from).collect();
        fields.insert("shortages", serialize_to_bson(&shortages)?);
    }
    if !order.unavailable.is_empty() {
        fields.insert("unavailable", order.unavailable.iter().map(|id| Bson::from(id.to_string())).collect::<Vec<_>>());
    }
    Ok((fields, serialize_to_bson(&EntryDocument::of(entry, stamp))?))
}

/// What forgets events of an order that are published.
pub(super) fn forget(id: OrderId, sequences: Vec<i64>) -> Update {
    let published = doc! { "$pull": { "pending": { "sequence": { "$in": sequences } } } };
    Update::one(doc! { "_id": id.to_string() }, published)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_one_time_are_stamped_in_their_order() {
        let stamps = Stamps::default();
        let given = [5, 5, 6, 5, 5].map(|at| stamps.next(Timestamp(at), 0));
        assert_eq!(given, [5_000, 5_001, 6_000, 6_001, 6_002]);
    }

    #[test]
    fn an_order_is_stamped_later_each_time_whatever_the_clock_says() {
        let stamps = Stamps::default();
        let first = stamps.next(Timestamp(90_000), 0);
        assert_eq!(stamps.next(Timestamp(1), first), first + 1);
    }

    #[test]
    fn a_clock_that_was_put_back_is_followed() {
        let stamps = Stamps::default();
        stamps.next(Timestamp(9_000_000), 0);
        assert_eq!(stamps.next(Timestamp(8_000_000), 0), 8_000_000_000);
    }
}

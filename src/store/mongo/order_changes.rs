//! The stream of a customer's order changes. Its cursor is the newest stamp that was sent (w) and, of each order that was
//! sent in the 60 s before it, the last entry: a read takes what changed since w - 60 s and leaves out what is in there.
//!
//! Exact while a commit's delay and the clocks' skew together stay under that window: a change that becomes visible late
//! is still found, and nothing comes twice. What is sent of an order is always its entries up to one, for they become
//! visible in sequence and their stamps grow.
//!
//! A stream that goes on in this process is known by its last cursor: of it only the stamps in the window are read, and the
//! orders of those that are new.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::options::Hint;
use serde::Deserialize;

use super::connections::lock;
use super::failure::Failure;
use super::order_documents::{ORDERS, OrderDocument};
use super::orders::{MongoOrderStore, by_ids};
use crate::domain::ids::{OrderId, UserId};
use crate::domain::orders::Order;

/// In the stamps' unit.
const WINDOW_MICROS: i64 = 60_000_000;

/// Where the window of a position with this newest stamp begins.
fn window_of(newest_micros: i64) -> i64 {
    newest_micros.saturating_sub(WINDOW_MICROS)
}

/// Stamps of a window that one reply holds.
const STAMPS_A_REPLY: u32 = 10_000;

/// The first byte of a cursor.
const FORMAT: u8 = 1;
const ID_BYTES: usize = 16;

/// A timeline entry as the stream sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub stamp_micros: i64,
    pub order: OrderId,
    pub sequence: i32,
}

/// An entry that was sent, of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    sequence: i32,
    stamp_micros: i64,
}

/// Where a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Position {
    newest_micros: i64,
    recent: BTreeMap<OrderId, Sent>,
}

/// A cursor as it was given: what it says is not yet held against the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    newest_micros: i64,
    recent: BTreeMap<OrderId, i32>,
}

impl Cursor {
    /// `None`: this is no cursor of such a stream.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let rest = bytes.strip_prefix(&[FORMAT])?;
        let (newest, mut rest) = rest.split_first_chunk()?;
        let mut recent = BTreeMap::new();
        while !rest.is_empty() {
            let (id, after_id) = rest.split_first_chunk::<ID_BYTES>()?;
            let (sequence, after) = after_id.split_first_chunk()?;
            recent.insert(OrderId::from_bytes(*id), i32::from_be_bytes(*sequence));
            rest = after;
        }
        Some(Self { newest_micros: i64::from_be_bytes(*newest), recent })
    }

    /// The position, with what was found of the customer in its window. `None`: what it says was sent is not there, so another
    /// store has made it.
    fn resume(&self, found: &[Change]) -> Option<Position> {
        let mut position = Position { newest_micros: self.newest_micros, recent: BTreeMap::new() };
        for change in found {
            if self.recent.get(&change.order) == Some(&change.sequence) {
                let Change { stamp_micros, order, sequence } = *change;
                position.recent.insert(order, Sent { sequence, stamp_micros });
            }
        }
        let newest = position.recent.values().map(|sent| sent.stamp_micros).max().unwrap_or_default();
        (position.recent.len() == self.recent.len() && newest == self.newest_micros).then_some(position)
    }
}

impl Position {
    pub(super) fn encode(&self) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.newest_micros.to_be_bytes());
        for (order, sent) in &self.recent {
            bytes.extend(order.as_bytes());
            bytes.extend(sent.sequence.to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Notes an entry as sent and forgets those that the window has left behind.
    pub(super) fn send(&mut self, change: &Change) {
        let Change { stamp_micros, order, sequence } = *change;
        self.recent.insert(order, Sent { sequence, stamp_micros });
        if stamp_micros > self.newest_micros {
            self.newest_micros = stamp_micros;
            let since = self.since_micros();
            self.recent.retain(|_, sent| sent.stamp_micros >= since);
        }
    }

    /// From when on a read takes what changed.
    fn since_micros(&self) -> i64 {
        window_of(self.newest_micros)
    }

    fn has_sent(&self, change: &Change) -> bool {
        self.recent.get(&change.order).is_some_and(|sent| change.sequence <= sent.sequence)
    }
}

/// The positions of the streams that were read recently, by customer and cursor: two generations, of which the older goes
/// when the newer is full.
#[derive(Debug, Default)]
pub(super) struct Positions {
    generations: Mutex<(Known, Known)>,
}

#[derive(Debug, Default)]
struct Known {
    positions: HashMap<(UserId, String), Arc<Position>>,
    /// Orders in all of them.
    orders: usize,
}

/// Positions of a generation, and orders in them: some 10 MB.
const GENERATION: usize = 2_048;
const GENERATION_ORDERS: usize = 128 * 1024;

impl Positions {
    fn of(&self, customer: UserId, cursor: &str) -> Option<Arc<Position>> {
        let (recent, older) = &*lock(&self.generations);
        let key = (customer, cursor.to_owned());
        recent.positions.get(&key).or_else(|| older.positions.get(&key)).cloned()
    }

    pub(super) fn note(&self, customer: UserId, cursor: String, position: Position) {
        let (recent, older) = &mut *lock(&self.generations);
        if recent.positions.len() >= GENERATION || recent.orders >= GENERATION_ORDERS {
            *older = std::mem::take(recent);
        }
        recent.orders += position.recent.len();
        let replaced = recent.positions.insert((customer, cursor), Arc::new(position));
        recent.orders -= replaced.map_or(0, |position| position.recent.len());
    }

    /// A stream has gone on from here. Another one that is at the same place reads the whole window once.
    pub(super) fn forget(&self, customer: UserId, cursor: &str) {
        let (recent, older) = &mut *lock(&self.generations);
        let key = (customer, cursor.to_owned());
        for known in [recent, older] {
            known.orders -= known.positions.remove(&key).map_or(0, |position| position.recent.len());
        }
    }
}

/// Up to `limit` of the entries that this position has not sent, oldest first.
fn unsent(position: &Position, found: Vec<Change>, limit: usize) -> Vec<Change> {
    let since = position.since_micros();
    let mut unsent: Vec<Change> = found;
    unsent.retain(|change| change.stamp_micros >= since && !position.has_sent(change));
    unsent.sort_unstable_by_key(|change| (change.stamp_micros, change.order, change.sequence));
    // An order that moves on in the index during the read may be met twice.
    unsent.dedup();
    unsent.truncate(limit);
    unsent
}

#[derive(Deserialize)]
struct ChangedOrder {
    #[serde(rename = "_id")]
    id: OrderId,
    timeline: Vec<ChangedEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangedEntry {
    sequence: i32,
    stamp_micros: i64,
}

/// The index of the stream; those that begin with the customer like it would be entered as gladly, and read to the end.
fn by_change() -> Hint {
    Hint::Keys(doc! { "customerId": 1, "stampMicros": 1, "_id": 1 })
}

/// The customer's orders that have changed since.
fn changed_since(customer: UserId, since_micros: i64) -> Document {
    doc! { "customerId": customer.to_string(), "stampMicros": { "$gte": since_micros } }
}

/// Every entry of the orders that match.
async fn entries(
    orders: &Collection<ChangedOrder>,
    matched: Document,
    hint: Option<Hint>,
) -> Result<Vec<Change>, Failure> {
    let fields = doc! { "timeline.sequence": 1, "timeline.stampMicros": 1 };
    let mut find = orders.find(matched).projection(fields);
    if let Some(hint) = hint {
        find = find.hint(hint);
    }
    let found: Vec<ChangedOrder> = find.await?.try_collect().await?;
    let entries = found.into_iter().flat_map(|order| {
        let change = move |ChangedEntry { sequence, stamp_micros }| Change { stamp_micros, order: order.id, sequence };
        order.timeline.into_iter().map(change)
    });
    Ok(entries.collect())
}

/// The orders in the position's window of which it has not sent all.
async fn moved_since(
    orders: &Collection<OrderDocument>,
    customer: UserId,
    position: &Position,
) -> Result<Vec<OrderId>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stamped {
        #[serde(rename = "_id")]
        id: OrderId,
        stamp_micros: i64,
    }
    let stamps = orders.clone_with_type::<Stamped>();
    let stamped = stamps.find(changed_since(customer, position.since_micros()));
    let mut stamped =
        stamped.projection(doc! { "stampMicros": 1 }).hint(by_change()).batch_size(STAMPS_A_REPLY).await?;
    let mut moved = Vec::new();
    while let Some(Stamped { id, stamp_micros }) = stamped.try_next().await? {
        if position.recent.get(&id).is_none_or(|sent| sent.stamp_micros < stamp_micros) {
            moved.push(id);
        }
    }
    Ok(moved)
}

/// As [`MongoOrderStore::unsent_changes`], of a stream whose position is known.
async fn unsent_since(
    orders: &Collection<OrderDocument>,
    customer: UserId,
    position: &Position,
    limit: usize,
) -> Result<Unsent, Failure> {
    let mut unsent_now = Unsent { position: position.clone(), changes: Vec::new(), orders: HashMap::new() };
    let moved = moved_since(orders, customer, position).await?;
    if moved.len() > limit {
        // More than a page: which ones the page has, their entries tell.
        let found = entries(&orders.clone_with_type(), by_ids(&moved), None).await?;
        unsent_now.changes = unsent(position, found, limit);
    } else if !moved.is_empty() {
        let moved: Vec<OrderDocument> = orders.find(by_ids(&moved)).await?.try_collect().await?;
        unsent_now.changes = unsent(position, moved.iter().flat_map(OrderDocument::changes).collect(), limit);
        let moved = moved.into_iter().map(|order| Ok((order.id, order.order()?)));
        unsent_now.orders = moved.collect::<Result<_, Failure>>()?;
    }
    Ok(unsent_now)
}

/// What a stream is to send next.
pub(super) struct Unsent {
    /// Before what it sends.
    pub position: Position,
    pub changes: Vec<Change>,
    /// Those of the changes that were read with them.
    pub orders: HashMap<OrderId, Order>,
}

impl MongoOrderStore {
    /// The position of a stream that starts now: everything that can be seen was sent.
    pub(super) async fn newest_position(&self, customer: UserId) -> Result<Position, crate::store::StoreError> {
        let (stamped, orders) = (self.database.collection::<Document>(ORDERS), self.database.collection(ORDERS));
        self.database
            .read(async move {
                let newest = stamped
                    .find_one(doc! { "customerId": customer.to_string() })
                    .sort(doc! { "stampMicros": -1 })
                    .projection(doc! { "stampMicros": 1 })
                    .hint(by_change())
                    .await?;
                let Some(newest) = newest else { return Ok(Position::default()) };
                let newest = newest.get_i64("stampMicros").unwrap_or_default();
                let mut found = entries(&orders, changed_since(customer, window_of(newest)), Some(by_change())).await?;
                found.sort_unstable_by_key(|change| (change.stamp_micros, change.sequence));
                let mut position = Position::default();
                found.iter().for_each(|change| position.send(change));
                Ok(position)
            })
            .await
    }

    /// `None`: this is no cursor of this store's.
    pub(super) async fn unsent_changes(
        &self,
        customer: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Option<Unsent>, crate::store::StoreError> {
        if let Some(position) = self.positions.of(customer, cursor) {
            let orders = self.database.collection(ORDERS);
            let read = async move { unsent_since(&orders, customer, &position, limit as usize).await };
            return Ok(Some(self.database.read(read).await?));
        }
        let orders = self.database.collection(ORDERS);
        let Some(parsed) = Cursor::decode(cursor) else { return Ok(None) };
        let changed = changed_since(customer, window_of(parsed.newest_micros));
        let found = self.database.read(async move { entries(&orders, changed, Some(by_change())).await }).await?;
        let Some(position) = parsed.resume(&found) else { return Ok(None) };
        let changes = unsent(&position, found, limit as usize);
        if changes.is_empty() {
            self.positions.note(customer, cursor.to_owned(), position.clone());
        }
        Ok(Some(Unsent { position, changes, orders: HashMap::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    const SECOND: i64 = 1_000_000;

    fn change(order: u128, sequence: i32, seconds: i64) -> Change {
        Change { stamp_micros: seconds * SECOND, order: OrderId::from_uuid(Uuid::from_u128(order)), sequence }
    }

    /// What a stream sends that reads these, and its cursor then.
    fn read(cursor: &str, found: &[Change]) -> (Vec<Change>, String) {
        let mut position = Cursor::decode(cursor).unwrap().resume(found).unwrap();
        let unsent = unsent(&position, found.to_vec(), 100);
        unsent.iter().for_each(|change| position.send(change));
        (unsent, position.encode())
    }

    fn start() -> String {
        Position::default().encode()
    }

    #[test]
    fn a_stream_sends_each_change_once_and_in_order() {
        let (placed, other, confirmed) = (change(1, 1, 100), change(2, 1, 101), change(1, 2, 102));
        let (sent, cursor) = read(&start(), &[other, placed]);
        assert_eq!(sent, [placed, other]);
        let (sent, cursor) = read(&cursor, &[placed, confirmed, other]);
        assert_eq!(sent, [confirmed]);
        assert_eq!(read(&cursor, &[placed, confirmed, other]), (vec![], cursor));
    }

    #[test]
    fn a_change_that_becomes_visible_late_is_sent_within_the_window() {
        let (early, late) = (change(1, 1, 100), change(2, 1, 159));
        let (_, cursor) = read(&start(), &[late]);
        let (sent, cursor) = read(&cursor, &[early, late]);
        assert_eq!(sent, [early]);
        assert_eq!(read(&cursor, &[early, late]).0, []);
    }

    #[test]
    fn a_cursor_remembers_the_window_only() {
        let (old, new) = (change(1, 1, 100), change(2, 1, 161));
        let (_, cursor) = read(&start(), &[old, new]);
        let remembered = Cursor::decode(&cursor).unwrap().recent;
        assert_eq!(remembered.into_keys().collect::<Vec<_>>(), [new.order]);
        // The old order has changed again: what the window has left behind does not come with it.
        let shipped = change(1, 2, 200);
        assert_eq!(read(&cursor, &[new, old, shipped]).0, [shipped]);
    }

    #[test]
    fn a_limit_cuts_the_newest_off() {
        let changes: Vec<_> = (0..5).map(|n| change(n, 1, n as i64)).collect();
        assert_eq!(unsent(&Position::default(), changes.clone(), 2), changes[..2]);
    }

    #[test]
    fn a_cursor_whose_changes_are_not_there_is_anothers() {
        let sent = [change(1, 1, 100), change(2, 1, 101)];
        let (_, cursor) = read(&start(), &sent);
        let cursor = Cursor::decode(&cursor).unwrap();
        for found in [&[][..], &sent[..1], &sent[1..], &[change(1, 1, 100), change(2, 1, 99)]] {
            assert_eq!(cursor.resume(found), None, "{found:?}");
        }
        for text in ["", "no cursor", "Mw", "AQ", &start()[1..]] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}

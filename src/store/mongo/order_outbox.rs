//! The outbox of the orders, in two places. That an order was placed, or moved on by whoever asked for it, is noted in its own
//! document, which is all that such a change writes, and a sweep makes the event anew. What commits in transactions of
//! many, verdicts and dead letters, waits in `pending_events` like elsewhere.
//!
//! A verdict is always an order's second event, and its transaction forgets that the first is pending. So of an order what
//! is in `pending_events` comes before what is in its document.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::doc;
use tokio::sync::{mpsc, watch};

use super::failure::{Failure, broken};
use super::order_documents::{ORDERS, OrderDocument, PLACED, forget};
use super::orders::MongoOrderStore;
use super::outbox;
use super::values::date;
use crate::domain::events::PendingEvent;
use crate::domain::ids::OrderId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::outbox::{Backlog, Outbox, PendingEventId};

/// The sequence of a verdict's event.
const VERDICT: i64 = 2;

#[async_trait]
impl Outbox for MongoOrderStore {
    fn domain(&self) -> &'static str {
        self.database.domain()
    }

    fn committed(&self) -> mpsc::Receiver<Vec<PendingEvent>> {
        self.database.committed()
    }

    fn foreign_writes(&self) -> watch::Receiver<u64> {
        self.database.foreign_writes()
    }

    async fn pending(&self, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let orders = self.database.collection::<OrderDocument>(ORDERS);
        let mut of_orders = self
            .database
            .read(async move {
                // By the index, so those that have waited longest.
                let waiting =
                    orders.find(doc! { "pending.at": { "$lt": date(before) } }).limit(i64::from(limit)).await?;
                let mut orders: Vec<OrderDocument> = waiting.try_collect().await?;
                orders.sort_unstable_by_key(|order| order.id);
                let mut events = Vec::new();
                for order in orders {
                    events.append(&mut unpublished(order, before)?);
                }
                events.truncate(limit as usize);
                Ok(events)
            })
            .await?;
        let behind: BTreeSet<&String> =
            of_orders.iter().filter(|event| event.sequence > VERDICT).map(|event| &event.aggregate).collect();
        let behind: Vec<String> = behind.into_iter().cloned().collect();
        let mut events = self.database.pending_of(&behind).await?;
        events.append(&mut of_orders);
        in_sequence(&mut events);
        events.truncate(limit as usize);
        let rest = limit as usize - events.len();
        if rest > 0 {
            // Beyond those that are there already.
            let others = self.database.pending(before, (rest + behind.len()) as u32).await?;
            let others = others.into_iter().filter(|event| behind.binary_search(&event.aggregate).is_err());
            events.extend(others.take(rest));
        }
        Ok(events)
    }

    async fn pending_of(&self, aggregates: &[String]) -> Result<Vec<PendingEvent>, StoreError> {
        let ids = aggregates.iter().filter_map(|aggregate| aggregate.parse::<OrderId>().ok());
        let of_orders: Vec<String> = ids.map(|id| id.to_string()).collect();
        let orders = self.database.collection::<OrderDocument>(ORDERS);
        let waiting = doc! { "_id": { "$in": of_orders }, "pending.at": { "$exists": true } };
        let of_orders = self.database.read(async move {
            let mut found = orders.find(waiting).await?;
            let mut events = Vec::new();
            while let Some(order) = found.try_next().await? {
                events.append(&mut unpublished(order, Timestamp(i64::MAX))?);
            }
            Ok(events)
        });
        // First what comes later: a verdict that commits between the two reads, and what is done with the order then, are not
        // torn apart.
        let mut events = of_orders.await?;
        events.extend(self.database.pending_of(aggregates).await?);
        in_sequence(&mut events);
        Ok(events)
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let orders = self.database.collection(ORDERS);
        let waiting = doc! { "pending.at": { "$exists": true } };
        let (each, oldest) = (doc! { "$toLong": { "$size": "$pending" } }, doc! { "$min": "$pending.at" });
        let of_orders = async move { outbox::count(&orders, waiting, each.into(), oldest.into()).await };
        Ok(self.database.read(of_orders).await?.and(self.database.backlog().await?))
    }

    async fn clear(&self, published: Vec<PendingEventId>) -> Result<(), StoreError> {
        let (placed, later): (Vec<_>, Vec<_>) = published.into_iter().partition(|(_, sequence)| *sequence == PLACED);
        let mut verdicts: HashSet<String> =
            later.iter().filter(|(_, sequence)| *sequence == VERDICT).map(|(aggregate, _)| aggregate.clone()).collect();
        let elsewhere = self.database.forget(later).await?;
        for (aggregate, _) in &elsewhere {
            verdicts.remove(aggregate);
        }
        let (mut of_orders, mut others): (BTreeMap<OrderId, Vec<i64>>, _) = (BTreeMap::new(), Vec::new());
        // That a judged order was placed its verdict has forgotten.
        let placed = placed.into_iter().filter(|(aggregate, _)| !verdicts.contains(aggregate));
        for (aggregate, sequence) in placed.chain(elsewhere) {
            match aggregate.parse() {
                Ok(id) => of_orders.entry(id).or_default().push(sequence),
                Err(_) => others.push((aggregate, sequence)),
            }
        }
        if !of_orders.is_empty() {
            let forgotten = of_orders.into_iter().map(|(id, sequences)| forget(id, sequences)).collect();
            self.database.update(ORDERS, forgotten).await?;
        }
        self.database.clear(others).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.database.check().await
    }
}

fn in_sequence(events: &mut [PendingEvent]) {
    events.sort_unstable_by(|one, other| (&one.aggregate, one.sequence).cmp(&(&other.aggregate, other.sequence)));
}

/// The order's pending events in sequence, up to the first that is too young.
fn unpublished(document: OrderDocument, before: Timestamp) -> Result<Vec<PendingEvent>, Failure> {
    let mut entries = document.pending.clone();
    entries.sort_unstable_by_key(|entry| entry.sequence);
    let order = document.order()?;
    entries
        .into_iter()
        .take_while(|entry| entry.at < before)
        .map(|entry| {
            let missing = || broken(format!("no order has the event {}-{}", order.id, entry.sequence));
            let mut event = order.event(entry.sequence).ok_or_else(missing)?;
            event.headers = entry.headers;
            Ok(event)
        })
        .collect()
}

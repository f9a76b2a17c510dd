//! Orders in collection `orders`, one readable document each (`order_documents`).
//!
//! What changes one order is a conditional write of its document and needs no transaction; verdicts commit with their
//! group's offset. A list is found and counted by an index that has its order.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, try_join};
use futures_util::{FutureExt, TryStreamExt};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;

use super::failure::{Failure, broken};
use super::order_changes::{Positions, Unsent};
use super::order_documents::{MIGRATIONS, ORDERS, OrderDocument, Stamps, change, change_by_verdict};
use super::order_insertion;
use super::outbox;
use super::transaction::Tx;
use super::values::date;
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, UserId};
use crate::domain::orders::{Order, OrderFilter, OrderStatus, Verdict};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::orders::{
    AdvanceOrder, InsertOrder, Judged, OrderAdvance, OrderChangeEntry, OrderStore, PendingOrders,
};
use crate::store::outbox::Backlog;
use crate::store::{StoreError, cursor};
use crate::telemetry::traces;

/// Orders in their MongoDB database.
pub struct MongoOrderStore {
    pub(super) database: super::database::MongoDatabase,
    stamps: Arc<Stamps>,
    /// Of the streams of changes.
    pub(super) positions: Positions,
}

super::store_over_database!(MongoOrderStore, Orders, MIGRATIONS, stamps: Arc::default(), positions: Positions::default());

#[async_trait]
impl OrderStore for MongoOrderStore {
    async fn insert_orders(&self, batch: Vec<(Order, PendingEvent)>) -> Result<Vec<InsertOrder>, StoreError> {
        let documents: Result<Vec<_>, Failure> =
            batch.iter().map(|(order, event)| OrderDocument::placed(order, event, &self.stamps)).collect();
        let (documents, database) = (documents?, self.database.clone());
        let events = batch.into_iter().map(|(_, event)| event).collect();
        self.database.write(async move { order_insertion::insert(&database, documents, events).await }).await
    }

    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<Order>, StoreError> {
        let (orders, filter) = (self.database.collection::<OrderDocument>(ORDERS), by_ids(ids));
        self.database
            .read(async move {
                let found: Vec<OrderDocument> = orders.find(filter).await?.try_collect().await?;
                found.into_iter().map(OrderDocument::order).collect()
            })
            .await
    }

    async fn order_by_key(&self, customer: UserId, idempotency_key: &str) -> Result<Option<Order>, StoreError> {
        let orders = self.database.collection::<OrderDocument>(ORDERS);
        let key = doc! { "customerId": customer.to_string(), "idempotencyKey": idempotency_key };
        self.database.read(async move { orders.find_one(key).await?.map(OrderDocument::order).transpose() }).await
    }

    async fn list_orders(&self, filter: &OrderFilter, page: &PageRequest) -> Result<Page<Order>, StoreError> {
        let orders = self.database.collection::<OrderDocument>(ORDERS);
        let (filter, page) = (conditions(filter), page.clone());
        let mut listed = filter.clone();
        if let Some(after) = &page.after {
            let (placed_at, id): (Timestamp, OrderId) = cursor::decode(after)?;
            // The first comparison is what an index is entered by.
            let past = doc! { "$or": [
                { "placedAt": { "$lt": date(placed_at) } },
                { "placedAt": date(placed_at), "_id": { "$lt": id.to_string() } },
            ] };
            listed = doc! { "$and": [listed, { "placedAt": { "$lte": date(placed_at) } }, past] };
        }
        self.database
            .read(async move {
                let newest_first = doc! { "placedAt": -1, "_id": -1 };
                let found = orders.find(listed).sort(newest_first).limit(i64::from(page.first) + 1);
                // One reply holds the page.
                let found = async { found.batch_size(page.first + 2).await?.try_collect::<Vec<_>>().await };
                let (found, total) = try_join(found, orders.count_documents(filter).into_future()).await?;
                let entries: Result<Vec<_>, Failure> = found.into_iter().map(listed_order).collect();
                Ok(cursor::page(entries?, &page, total as i64))
            })
            .await
    }

    async fn bought_orders(&self, after: Option<&str>, limit: u32) -> Result<Vec<(String, Order)>, StoreError> {
        let orders = self.database.collection::<OrderDocument>(ORDERS);
        let bought = [OrderStatus::Confirmed, OrderStatus::Shipped, OrderStatus::Delivered].map(OrderStatus::as_str);
        let mut filter = doc! { "status": { "$in": bought.to_vec() } };
        if let Some(after) = after {
            let after: OrderId = cursor::decode(after)?;
            filter.insert("_id", doc! { "$gt": after.to_string() });
        }
        self.database
            .read(async move {
                // By id, for nothing that changes of an order moves it in that order.
                let walk = orders.find(filter).sort(doc! { "_id": 1 }).hint(Hint::Keys(doc! { "_id": 1 }));
                let found: Vec<OrderDocument> = walk.limit(i64::from(limit)).await?.try_collect().await?;
                found.into_iter().map(|order| Ok((cursor::encode(&order.id), order.order()?))).collect()
            })
            .await
    }

    async fn advance_order(&self, advance: OrderAdvance, at: Timestamp) -> Result<AdvanceOrder, StoreError> {
        let (database, stamps) = (self.database.clone(), Arc::clone(&self.stamps));
        let cause = traces::current_cause();
        self.database
            .write(async move {
                let orders = database.collection::<OrderDocument>(ORDERS);
                loop {
                    let found = orders.find_one(doc! { "_id": advance.id.to_string() }).await?;
                    let Some(document) = found.filter(|order| is_meant(&advance, order)) else {
                        return Ok(AdvanceOrder::NotFound);
                    };
                    let read = document.stamp_micros;
                    let mut order = document.order()?;
                    let mut event = match order.advance(advance.to, advance.note.clone(), at) {
                        Ok(event) => event,
                        Err(illegal) => return Ok(AdvanceOrder::Illegal(illegal)),
                    };
                    if let Some(cause) = cause {
                        event.follow(&cause.to_string());
                    }
                    let (unmoved, change) = change(&order, &event, read, &stamps)?;
                    // One that has moved meanwhile is judged anew; the call's deadline bounds that.
                    if orders.update_one(unmoved, change).await?.matched_count == 1 {
                        database.announce(vec![event]);
                        return Ok(AdvanceOrder::Advanced(Box::new(order)));
                    }
                }
            })
            .await
    }

    async fn apply_verdicts(
        &self,
        verdicts: Vec<(OrderId, Verdict)>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<Vec<Judged>>, StoreError> {
        let input = (verdicts, at, Arc::clone(&self.stamps));
        self.database
            .consume_with(consumption, input, |tx, (verdicts, at, stamps)| judge(tx, verdicts, *at, stamps))
            .await
    }

    async fn pending_orders(&self) -> Result<PendingOrders, StoreError> {
        let orders = self.database.collection(ORDERS);
        let pending = doc! { "status": OrderStatus::Pending.as_str() };
        let counted = async move { outbox::count(&orders, pending, Bson::Int64(1), "$placedAt".into()).await };
        let Backlog { events: count, oldest } = self.database.read(counted).await?;
        Ok(PendingOrders { count, oldest })
    }

    async fn latest_change(&self, customer: UserId) -> Result<String, StoreError> {
        let position = self.newest_position(customer).await?;
        let cursor = position.encode();
        self.positions.note(customer, cursor.clone(), position);
        Ok(cursor)
    }

    async fn changes_after(
        &self,
        customer: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Option<Vec<OrderChangeEntry>>, StoreError> {
        let Some(unsent) = self.unsent_changes(customer, cursor, limit).await? else { return Ok(None) };
        let Unsent { mut position, changes, mut orders } = unsent;
        let missing: Vec<OrderId> =
            changes.iter().map(|change| change.order).filter(|order| !orders.contains_key(order)).collect();
        if !missing.is_empty() {
            orders.extend(self.orders(&missing).await?.into_iter().map(|order| (order.id, order)));
        }
        let entries = changes.into_iter().map(|change| {
            position.send(&change);
            let order = orders.get(&change.order).cloned();
            let order = order.ok_or_else(|| broken(format!("the order {} is gone", change.order)))?;
            Ok(OrderChangeEntry { cursor: position.encode(), sequence: change.sequence, order })
        });
        let entries: Vec<OrderChangeEntry> = entries.collect::<Result<_, Failure>>()?;
        if let Some(last) = entries.last() {
            self.positions.forget(customer, cursor);
            self.positions.note(customer, last.cursor.clone(), position);
        }
        Ok(Some(entries))
    }
}

pub(super) fn by_ids(ids: &[OrderId]) -> Document {
    doc! { "_id": { "$in": ids.iter().map(|id| Bson::from(id.to_string())).collect::<Vec<_>>() } }
}

fn is_meant(advance: &OrderAdvance, order: &OrderDocument) -> bool {
    advance.customer_id.is_none_or(|customer| customer == order.customer_id)
}

fn listed_order(document: OrderDocument) -> Result<(String, Order), Failure> {
    Ok((cursor::encode(&(document.placed_at, document.id)), document.order()?))
}

/// The filter in the server's terms.
fn conditions(filter: &OrderFilter) -> Document {
    let mut conditions = Document::new();
    if let Some(number) = &filter.number {
        conditions.insert("number", number);
    }
    if let Some(customer) = filter.customer_id {
        conditions.insert("customerId", customer.to_string());
    }
    if let Some(statuses) = &filter.statuses {
        let statuses: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        conditions.insert("status", doc! { "$in": statuses });
    }
    let mut placed = Document::new();
    for (bound, compare) in [(filter.placed_after, "$gt"), (filter.placed_before, "$lt")] {
        placed.extend(bound.map(|at| (compare.to_owned(), date(at).into())));
    }
    if !placed.is_empty() {
        conditions.insert("placedAt", placed);
    }
    conditions
}

/// Two reads and a write, whatever the batch: the orders in one command, their changes in another.
fn judge<'a>(
    tx: &'a mut Tx,
    verdicts: &'a [(OrderId, Verdict)],
    at: Timestamp,
    stamps: &'a Stamps,
) -> BoxFuture<'a, Result<Vec<Judged>, Failure>> {
    async move {
        let mut judged = Vec::with_capacity(verdicts.len());
        if verdicts.is_empty() {
            return Ok(judged);
        }
        let ids: Vec<OrderId> = verdicts.iter().map(|(id, _)| *id).collect();
        let orders = tx.collection::<OrderDocument>(ORDERS);
        let mut found = orders.find(by_ids(&ids)).session(tx.session()).await?;
        let mut stored = HashMap::new();
        while let Some(mut document) = found.next(tx.session()).await.transpose()? {
            let read = (document.stamp_micros, std::mem::take(&mut document.pending));
            stored.insert(document.id, (read, document.order()?));
        }
        let mut updates = Vec::new();
        for (id, verdict) in verdicts {
            let Some((read, order)) = stored.get_mut(id) else { continue };
            let Some(event) = order.apply_verdict(verdict, at) else { continue };
            updates.push(change_by_verdict(order, read.clone(), stamps)?);
            judged.push(Judged { placed_at: order.created_at, status: order.status });
            tx.emit(event);
        }
        if updates.is_empty() {
            return Ok(judged);
        }
        let expected = updates.len() as u64;
        // One that was moved since the snapshot is a conflict, not a miss.
        match tx.update(ORDERS, updates).await?.matched {
            matched if matched == expected => Ok(judged),
            _ => Err(broken("an order of a verdict is gone")),
        }
    }
    .boxed()
}

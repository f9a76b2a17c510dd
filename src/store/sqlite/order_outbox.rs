//! The outbox of the orders file. An order's event says what its row says: only that it is still to be published is
//! stored, and a sweep makes the event anew. What has no order, a dead letter, waits in `pending_events` like elsewhere.

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::database::Write;
use super::failure::{Failure, broken};
use super::orders::{SqliteOrderStore, by_id};
use super::outbox;
use crate::domain::events::PendingEvent;
use crate::domain::ids::OrderId;
use crate::domain::orders::Order;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::outbox::{Backlog, Outbox, PendingEventId};

/// The key is the order of publication; ids grow with time, so new rows land at the end. As in `pending_events`, no
/// index on the age: the table is nearly empty whenever it is swept.
pub(super) const SCHEMA: &str = "
    CREATE TABLE unpublished (
        order_id BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        -- JSON, beyond what the order's row says; NULL when there are none.
        headers TEXT,
        PRIMARY KEY (order_id, sequence)
    ) STRICT, WITHOUT ROWID;";

/// Notes that an order's event is to be published, in the transaction of the change that it announces.
pub(super) fn announce(write: &mut Write<'_>, order: &Order, mut event: PendingEvent) -> Result<(), Failure> {
    write.trace(&mut event);
    if event.sequence != i64::from(order.version()) || event.aggregate != order.id.to_string() {
        return Err(broken(format!("{} is not the event of the change of {}", event.id(), order.id)));
    }
    let headers = if event.headers.is_empty() { None } else { Some(serde_json::to_string(&event.headers)?) };
    write
        .sql()
        .prepare_cached("INSERT INTO unpublished (order_id, sequence, created_at, headers) VALUES (?1, ?2, ?3, ?4)")?
        .execute((order.id.as_bytes(), event.sequence, event.at.0, headers))?;
    write.publish(event);
    Ok(())
}

#[async_trait]
impl Outbox for SqliteOrderStore {
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
        self.database
            .read(move |connection| {
                let mut events = unpublished(connection, before, limit)?;
                let rest = limit.saturating_sub(events.len() as u32);
                events.extend(outbox::select(connection, before, rest)?);
                Ok(events)
            })
            .await
    }

    async fn pending_of(&self, aggregates: &[String]) -> Result<Vec<PendingEvent>, StoreError> {
        let aggregates = aggregates.to_vec();
        self.database
            .read(move |connection| {
                // One process writes this file, so it is rarely asked and the table nearly empty.
                let mut events = unpublished(connection, Timestamp(i64::MAX), u32::MAX)?;
                events.retain(|event| aggregates.contains(&event.aggregate));
                events.extend(outbox::select_of(connection, &aggregates)?);
                Ok(events)
            })
            .await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.database
            .read(|connection| {
                let of_orders = outbox::count(connection, "SELECT COUNT(*), MIN(created_at) FROM unpublished")?;
                Ok(of_orders.and(outbox::backlog(connection)?))
            })
            .await
    }

    async fn clear(&self, published: Vec<PendingEventId>) -> Result<(), StoreError> {
        self.database
            .ride_along(move |write| {
                let mut of_orders =
                    write.sql().prepare_cached("DELETE FROM unpublished WHERE order_id = ?1 AND sequence = ?2")?;
                let mut others = Vec::new();
                for (aggregate, sequence) in published {
                    match aggregate.parse::<OrderId>() {
                        Ok(id) if of_orders.execute((id.as_bytes(), sequence))? > 0 => {}
                        // Also an order's own event of before it was made anew from its row.
                        _ => others.push((aggregate, sequence)),
                    }
                }
                outbox::delete(write.sql(), &others)
            })
            .await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.database.check().await
    }
}

fn unpublished(connection: &Connection, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT order_id, sequence, headers FROM unpublished WHERE created_at < ?1
         ORDER BY order_id, sequence LIMIT ?2",
    )?;
    let mut rows = statement.query((before.0, limit))?;
    let mut events = Vec::new();
    let mut order: Option<Order> = None;
    while let Some(row) = rows.next()? {
        let (id, sequence) = (OrderId::from_bytes(row.get(0)?), row.get(1)?);
        if order.as_ref().is_none_or(|order| order.id != id) {
            order = by_id(connection, id)?.map(|(_, order)| order);
        }
        let mut event = order
            .as_ref()
            .and_then(|order| order.event(sequence))
            .ok_or_else(|| broken(format!("no order has the event {id}-{sequence}")))?;
        let headers: Option<String> = row.get(2)?;
        event.headers = headers.map_or(Ok(Vec::new()), |json| serde_json::from_str(&json))?;
        events.push(event);
    }
    Ok(events)
}

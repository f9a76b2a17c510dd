//! Port of the orders store.

use async_trait::async_trait;

use super::StoreError;
use super::consumption::{Consumed, Consumption};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, UserId};
use crate::domain::orders::{IllegalTransition, Order, OrderFilter, OrderStatus, Verdict};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;

/// What became of one order of a batch. One row's failure never fails its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertOrder {
    Inserted,
    /// The customer has an order under this key already (perhaps of the same batch): this one.
    Replayed(Box<Order>),
    /// Another order has this number or id: build it anew.
    NumberTaken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdvanceOrder {
    Advanced(Box<Order>),
    NotFound,
    Illegal(IllegalTransition),
}

/// A change of an order by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAdvance {
    pub id: OrderId,
    /// Only an order of this customer; another one is answered as missing.
    pub customer_id: Option<UserId>,
    pub to: OrderStatus,
    pub note: Option<String>,
}

/// A timeline entry as the customer's stream of all orders carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderChangeEntry {
    /// A position in the store: entries of a customer come in this order.
    pub cursor: String,
    /// Of the entry.
    pub sequence: i32,
    pub order: Order,
}

/// An order that a verdict has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    pub placed_at: Timestamp,
    /// What it is now.
    pub status: OrderStatus,
}

/// The orders that wait for stock's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PendingOrders {
    pub count: u64,
    /// When the oldest was placed.
    pub oldest: Option<Timestamp>,
}

#[async_trait]
pub trait OrderStore: Send + Sync {
    /// Saves a batch in one commit, each order with its event; the outcomes are in the batch's order.
    async fn insert_orders(&self, batch: Vec<(Order, PendingEvent)>) -> Result<Vec<InsertOrder>, StoreError>;

    /// Those that exist, in no order.
    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<Order>, StoreError>;

    async fn order_by_key(&self, customer: UserId, idempotency_key: &str) -> Result<Option<Order>, StoreError>;

    /// Newest first.
    async fn list_orders(&self, filter: &OrderFilter, page: &PageRequest) -> Result<Page<Order>, StoreError>;

    /// Up to `limit` orders that are CONFIRMED, SHIPPED or DELIVERED, each with its cursor, oldest first, after a cursor.
    /// Each is in one page of a walk, whatever changes meanwhile; one that is confirmed behind the walk is in none.
    async fn bought_orders(&self, after: Option<&str>, limit: u32) -> Result<Vec<(String, Order)>, StoreError>;

    /// Moves an order on by the transition table, with its event.
    async fn advance_order(&self, advance: OrderAdvance, at: Timestamp) -> Result<AdvanceOrder, StoreError>;

    /// Applies stock's verdicts; one for an order that is not PENDING or not there changes nothing.
    /// Answers those that were moved on.
    async fn apply_verdicts(
        &self,
        verdicts: Vec<(OrderId, Verdict)>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<Vec<Judged>>, StoreError>;

    async fn pending_orders(&self) -> Result<PendingOrders, StoreError>;

    /// The position after which a stream that starts now begins.
    async fn latest_change(&self, customer: UserId) -> Result<String, StoreError>;

    /// Up to `limit` timeline entries of a customer's orders after a cursor, oldest first.
    /// `None`: the cursor is not one of this store's.
    async fn changes_after(
        &self,
        customer: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Option<Vec<OrderChangeEntry>>, StoreError>;
}

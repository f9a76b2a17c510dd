//! What the orders actor can be asked.

use actix::Message;

use crate::actors::errors::DomainError;
use crate::domain::ids::{OrderId, UserId};
use crate::domain::inventory::WantedLine;
use crate::domain::orders::{Order, OrderFilter, Verdict};
use crate::domain::page::{Page, PageRequest};
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::orders::{OrderAdvance, OrderChangeEntry};

/// An order as `PlaceOrder` left it.
#[derive(Debug, Clone)]
pub struct Placed {
    pub order: Order,
    /// The key had placed this order before.
    pub replayed: bool,
}

/// Places an order, durably, and answers without waiting for stock's verdict. Refusals: InvalidInput
/// (`idempotencyKey`, `lines`, `lines.N.quantity`), NotFound (`lines.N.productId`), ProductUnavailable,
/// IdempotencyKeyReused, Busy. An existing order under the key wins over every product error.
#[derive(Message)]
#[rtype(result = "Result<Placed, DomainError>")]
pub struct PlaceOrder {
    pub customer_id: UserId,
    pub idempotency_key: String,
    /// As given: the actor checks and merges them.
    pub lines: Vec<WantedLine>,
}

/// Those that exist, in no order; with a customer only theirs.
#[derive(Message)]
#[rtype(result = "Result<Vec<Order>, DomainError>")]
pub struct GetOrders {
    pub ids: Vec<OrderId>,
    pub customer_id: Option<UserId>,
}

/// Newest first. Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<Page<Order>, DomainError>")]
pub struct ListOrders {
    pub filter: OrderFilter,
    pub page: PageRequest,
}

/// Cancels, ships or delivers. Refusals: InvalidInput (`note`, `reason`), NotFound, IllegalTransition.
#[derive(Message)]
#[rtype(result = "Result<Order, DomainError>")]
pub struct AdvanceOrder {
    pub advance: OrderAdvance,
}

/// Applies stock's verdicts, with the offset of the events that carried them.
#[derive(Message)]
#[rtype(result = "Result<Consumed<()>, StoreError>")]
pub struct ApplyVerdicts {
    pub verdicts: Vec<(OrderId, Verdict)>,
    pub consumption: Consumption,
}

/// The position after which a stream of this customer's changes begins now.
#[derive(Message)]
#[rtype(result = "Result<String, DomainError>")]
pub struct LatestChange {
    pub customer_id: UserId,
}

/// Changes of a customer's orders after a cursor, oldest first. Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<Vec<OrderChangeEntry>, DomainError>")]
pub struct ChangesAfter {
    pub customer_id: UserId,
    pub cursor: String,
    pub limit: u32,
}

//! Orders: what a customer bought and what became of it. Placing one is in `order_placement`.

use async_graphql::{ComplexObject, Context, Enum, Error, ID, InputObject, Object, SimpleObject};

use super::access::{Guarded, Owned};
use super::connections::{Connection, NOTE_COST, list_cost, mutation_cost, page_cost, page_request, root_cost};
use super::context::{Shop, Viewer, answered};
use super::cursors::CursorKind;
use super::errors::{Inputs, UserError, bad_input, query_error, user_errors};
use super::loaders::Loaders;
use super::money::Money;
use super::products::Product;
use super::scalars::{Cursor, DateTime};
use super::users::User;
use crate::actors::errors::DomainError;
use crate::actors::orders::messages::{AdvanceOrder, GetOrders, ListOrders};
use crate::domain::ids::{OrderId, UserId};
use crate::domain::orders::{
    Order as DomainOrder, OrderFilter, OrderLine as DomainLine, OrderStatus as DomainStatus, TimelineEntry,
};
use crate::domain::page::PageRequest;
use crate::domain::text::{MAX_TEXT, check_text};
use crate::store::orders::OrderAdvance;

/// What has become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainStatus")]
pub enum OrderStatus {
    /// Placed; stock has not answered yet.
    Pending,
    /// Everything is reserved.
    Confirmed,
    /// Something was short or no longer sold; nothing is reserved.
    Rejected,
    /// On its way.
    Shipped,
    /// Arrived.
    Delivered,
    /// Called off; what was reserved went back into stock.
    Cancelled,
}

/// A product as it was when it was ordered.
pub struct OrderLine(DomainLine);

/// A line of an order: the product as it was when it was ordered.
#[Object]
impl OrderLine {
    /// The product as it is now; null when it is gone.
    async fn product(&self, ctx: &Context<'_>) -> Result<Option<Product>, Error> {
        Ok(Loaders::product(ctx, self.0.product_id).await?.map(Product))
    }

    /// The product's id.
    async fn product_id(&self) -> ID {
        self.0.product_id.to_string().into()
    }

    /// The product's stock keeping unit when it was ordered.
    async fn sku(&self) -> &str {
        &self.0.sku
    }

    /// The product's name when it was ordered.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The product's category when it was ordered.
    async fn category(&self) -> &str {
        &self.0.category
    }

    /// What one piece cost when it was ordered.
    async fn unit_price(&self) -> Money {
        self.0.unit_price.into()
    }

    /// How many pieces.
    async fn quantity(&self) -> i32 {
        i32::try_from(self.0.quantity).unwrap_or(i32::MAX)
    }

    /// What the line costs.
    async fn total(&self) -> Money {
        self.0.total().into()
    }
}

/// A change of an order's status.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct OrderEvent {
    /// Counts the order's changes from 1, without gaps.
    pub(super) sequence: i32,
    /// The status that the order reached.
    status: OrderStatus,
    /// When.
    at: DateTime,
    #[graphql(skip)]
    note: Option<String>,
}

#[ComplexObject]
impl OrderEvent {
    /// The reason or note of whoever made the change.
    #[graphql(complexity = "NOTE_COST")]
    async fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

impl From<TimelineEntry> for OrderEvent {
    fn from(entry: TimelineEntry) -> Self {
        Self { sequence: entry.sequence, status: entry.status.into(), at: DateTime(entry.at), note: entry.note }
    }
}

/// An order with the rule that only its customer and staff may look.
pub type Order = Guarded<OrderFields>;

/// The fields of an order; see [`Order`].
pub struct OrderFields {
    order: DomainOrder,
    shown_to: Option<Viewer>,
}

impl Order {
    pub fn new(order: DomainOrder) -> Self {
        Self::shown_to(order, None)
    }

    /// An order as another viewer than the request's sees it; see [`User::shown_to`].
    pub fn shown_to(order: DomainOrder, viewer: Option<Viewer>) -> Self {
        Guarded(OrderFields { order, shown_to: viewer })
    }
}

impl Owned for OrderFields {
    fn owner(&self) -> Option<UserId> {
        Some(self.order.customer_id)
    }

    fn shown_to(&self) -> Option<Viewer> {
        self.shown_to
    }
}

/// What a customer ordered, and what became of it.
#[Object(name = "Order")]
impl OrderFields {
    /// The order's id.
    pub async fn id(&self) -> ID {
        self.order.id.to_string().into()
    }

    /// The order's number, for people: unique, readable over the phone.
    async fn number(&self) -> &str {
        &self.order.number
    }

    /// Who ordered.
    async fn customer(&self, ctx: &Context<'_>) -> Result<User, Error> {
        let customer = Loaders::user(ctx, self.order.customer_id).await?;
        let gone = || query_error(ctx, DomainError::Internal(format!("order {} has no customer", self.order.id)));
        Ok(User::shown_to(customer.ok_or_else(gone)?, self.shown_to))
    }

    /// What has become of the order.
    async fn status(&self) -> OrderStatus {
        self.order.status.into()
    }

    /// What was ordered, each product once.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn lines(&self) -> Vec<OrderLine> {
        self.order.lines.iter().cloned().map(OrderLine).collect()
    }

    /// What the order costs.
    async fn total(&self) -> Money {
        self.order.total.into()
    }

    /// Every change of the status, oldest first.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn timeline(&self) -> Vec<OrderEvent> {
        self.order.timeline.iter().cloned().map(OrderEvent::from).collect()
    }

    /// What the status may become next.
    async fn available_transitions(&self) -> Vec<OrderStatus> {
        self.order.status.successors().iter().copied().map(OrderStatus::from).collect()
    }

    /// The sequence of the last change.
    async fn version(&self) -> i32 {
        self.order.version()
    }

    /// When the order was placed.
    async fn created_at(&self) -> DateTime {
        DateTime(self.order.created_at)
    }

    /// When the status last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.order.updated_at())
    }
}

/// Which orders a list holds. What is left out does not filter.
#[derive(InputObject, Default)]
pub struct OrderWhere {
    /// Any of these.
    status: Option<Vec<OrderStatus>>,
    /// The order with this number.
    number: Option<String>,
    /// Orders of this customer.
    customer_id: Option<ID>,
    /// Placed after this time, exclusive.
    placed_after: Option<DateTime>,
    /// Placed before this time, exclusive.
    placed_before: Option<DateTime>,
}

impl OrderWhere {
    /// `None`: no order can fit, for its customer does not exist.
    fn filter(self) -> Result<Option<OrderFilter>, Error> {
        if let Some(number) = &self.number {
            check_text("number", number, 0, MAX_TEXT).map_err(|refusal| bad_input("where.number", refusal))?;
        }
        let Ok(customer_id) = self.customer_id.map(|id| id.parse()).transpose() else { return Ok(None) };
        Ok(Some(OrderFilter {
            statuses: self.status.map(|statuses| statuses.into_iter().map(DomainStatus::from).collect()),
            number: self.number,
            customer_id,
            placed_after: self.placed_after.map(|DateTime(at)| at),
            placed_before: self.placed_before.map(|DateTime(at)| at),
        }))
    }
}

/// A page of orders, newest first.
pub async fn list(
    ctx: &Context<'_>,
    filter: OrderFilter,
    (page, kind): (PageRequest, CursorKind),
    shown_to: Option<Viewer>,
) -> Result<Connection<Order>, Error> {
    let shop = ctx.data::<Shop>()?;
    let page = answered(shop.orders.ask(ListOrders { filter, page }, shop.ask_deadline).await)
        .map_err(|error| query_error(ctx, error))?;
    Ok(Connection::of(page, kind, |order| Order::shown_to(order, shown_to)))
}

/// The order of an id if the viewer may see it: their own, or any for staff.
pub async fn visible_order(ctx: &Context<'_>, id: OrderId) -> Result<Option<Order>, Error> {
    let viewer = Viewer::of(ctx);
    let Some(user_id) = viewer.user_id() else { return Ok(None) };
    let shop = ctx.data::<Shop>()?;
    let message = GetOrders { ids: vec![id], customer_id: viewer.confined_to(user_id) };
    let orders = answered(shop.orders.ask(message, shop.ask_deadline).await);
    Ok(orders.map_err(|error| query_error(ctx, error))?.into_iter().next().map(Order::new))
}

#[derive(Default)]
pub struct OrderQuery;

#[Object]
impl OrderQuery {
    /// An order by id; null when there is none, or when it is not yours and you are not staff.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: ID,
    ) -> Result<Option<Order>, Error> {
        match id.parse() {
            Ok(id) => visible_order(ctx, id).await,
            Err(_) => Ok(None),
        }
    }

    /// All orders, newest first.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor; it is good only under the same `where`.")] after: Option<
            Cursor,
        >,
        #[graphql(name = "where", desc = "Which orders.")] filter: Option<OrderWhere>,
    ) -> Result<Connection<Order>, Error> {
        let page = page_request(ctx, first, after.as_ref(), CursorKind::Orders)?;
        match filter.unwrap_or_default().filter()? {
            Some(filter) => list(ctx, filter, (page, CursorKind::Orders), None).await,
            None => Ok(Connection::empty(CursorKind::Orders)),
        }
    }
}

/// What a change of an order answers.
#[derive(SimpleObject)]
pub struct OrderPayload {
    /// The order after the change; null when it was refused.
    order: Option<Order>,
    /// Why nothing was changed; empty when it was.
    user_errors: Vec<UserError>,
}

/// Moves an order on; a customer reaches only their own.
async fn advance(
    ctx: &Context<'_>,
    id: &ID,
    to: DomainStatus,
    note: Option<String>,
    inputs: Inputs,
) -> Result<OrderPayload, Error> {
    let shop = ctx.data::<Shop>()?;
    let viewer = Viewer::of(ctx);
    let result = match (id.parse(), viewer.user_id()) {
        (Ok(id), Some(user_id)) => {
            let advance = OrderAdvance { id, customer_id: viewer.confined_to(user_id), to, note };
            answered(shop.orders.ask(AdvanceOrder { advance }, shop.ask_deadline).await)
        }
        _ => Err(DomainError::NotFound { what: "the order", field: Vec::new() }),
    };
    Ok(match result {
        Ok(order) => OrderPayload { order: Some(Order::new(order)), user_errors: Vec::new() },
        Err(error) => OrderPayload { order: None, user_errors: user_errors(ctx, inputs, error)? },
    })
}

#[derive(Default)]
pub struct OrderMutation;

#[Object]
impl OrderMutation {
    /// Calls an order off that is PENDING or CONFIRMED; what was reserved goes back into stock.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn order_cancel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: ID,
        #[graphql(desc = "Why, up to 5,000 characters.")] reason: Option<String>,
    ) -> Result<OrderPayload, Error> {
        let inputs = Inputs::PLAIN.about("id").renaming(&[("note", "reason")]);
        advance(ctx, &id, DomainStatus::Cancelled, reason, inputs).await
    }

    /// Sends a CONFIRMED order off.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn order_ship(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: ID,
        #[graphql(desc = "For the customer, e.g. a tracking number; up to 5,000 characters.")] note: Option<String>,
    ) -> Result<OrderPayload, Error> {
        advance(ctx, &id, DomainStatus::Shipped, note, Inputs::PLAIN.about("id")).await
    }

    /// Marks a SHIPPED order as arrived.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn order_deliver(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: ID,
        #[graphql(desc = "For the customer; up to 5,000 characters.")] note: Option<String>,
    ) -> Result<OrderPayload, Error> {
        advance(ctx, &id, DomainStatus::Delivered, note, Inputs::PLAIN.about("id")).await
    }
}

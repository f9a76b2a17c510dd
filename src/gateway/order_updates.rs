//! Live orders: `orderUpdated` follows one order's timeline, `orderUpdates` all orders of a customer.
//!
//! Both watch the live hub before their first read, and each wake only makes them read on from what they sent last:
//! nothing is lost or repeated, however often they are woken. A read that fails because an actor is busy or coming
//! back is tried again; the stream goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use async_graphql::{Context, Error, ID, SimpleObject, Subscription};
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::access::Denied;
use super::connections::{position, root_cost};
use super::context::{EventIds, RequestInfo, Shop, Viewer, answered};
use super::cursors::CursorKind;
use super::errors::{bad_input, top_level};
use super::following::{FIRST_READ_ATTEMPTS, GrowingList, follow, read_again_and_again};
use super::orders::{Order, OrderEvent};
use super::scalars::Cursor;
use crate::actors::errors::DomainError;
use crate::actors::live::{LiveKey, LiveWatch};
use crate::actors::orders::messages::{ChangesAfter, GetOrders, LatestChange};
use crate::domain::ids::{OrderId, UserId};
use crate::domain::orders::{Order as DomainOrder, OrderStatus};
use crate::store::orders::OrderChangeEntry;

/// A change of an order, as it happened.
#[derive(SimpleObject)]
pub struct OrderUpdate {
    /// The position of this change. Those of `orderUpdates` are good as its `after`; an `orderUpdated` goes on after
    /// `event.sequence`.
    cursor: Cursor,
    /// The change.
    event: OrderEvent,
    /// The order as this change left it.
    order: Order,
}

impl OrderUpdate {
    /// The update of one timeline entry; `None` when the order has no such entry.
    fn of(order: &DomainOrder, sequence: i32, cursor: Cursor) -> Option<Self> {
        let order = as_of(order, sequence)?;
        let event = order.timeline.last()?.clone().into();
        Some(Self { cursor, event, order: Order::new(order) })
    }
}

/// The order as it was right after the change with this sequence.
fn as_of(order: &DomainOrder, sequence: i32) -> Option<DomainOrder> {
    let position = order.timeline.iter().position(|entry| entry.sequence == sequence)?;
    let mut order = order.clone();
    order.timeline.truncate(position + 1);
    order.status = order.timeline.last()?.status;
    if order.status != OrderStatus::Rejected {
        order.shortages.clear();
        order.unavailable.clear();
    }
    Some(order)
}

/// Follows one order.
struct OneOrder {
    shop: Shop,
    info: Option<RequestInfo>,
    event_ids: Option<Arc<EventIds>>,
    watch: LiveWatch,
    id: OrderId,
    /// Only an order of this customer; asked again at every read.
    confined_to: Option<UserId>,
    last_sent: i32,
    waiting: VecDeque<OrderUpdate>,
    ended: bool,
}

impl OneOrder {
    async fn read(&self, attempts: Option<u32>) -> Result<Option<DomainOrder>, DomainError> {
        let Self { shop, id, confined_to, .. } = self;
        let mut found = read_again_and_again(attempts, || {
            let message = GetOrders { ids: vec![*id], customer_id: *confined_to };
            async move { answered(shop.orders.ask(message, shop.ask_deadline).await) }
        })
        .await?;
        Ok(found.pop())
    }

    fn queue(&mut self, order: &DomainOrder) {
        for entry in order.timeline.iter().filter(|entry| entry.sequence > self.last_sent) {
            let position = format!("{}:{}", self.id, entry.sequence);
            let cursor = self.shop.cursors.seal(CursorKind::OrderTimeline, &position);
            self.waiting.extend(OrderUpdate::of(order, entry.sequence, cursor));
        }
        self.last_sent = self.last_sent.max(order.version());
    }

    async fn next(&mut self) -> Option<Result<OrderUpdate, Error>> {
        while !self.ended {
            if let Some(update) = self.waiting.pop_front() {
                if let Some(event_ids) = &self.event_ids {
                    event_ids.put(update.event.sequence.to_string());
                }
                return Some(Ok(update));
            }
            self.watch.changed().await;
            match self.read(None).await {
                Ok(Some(order)) => self.queue(&order),
                // It was the viewer's when the stream began.
                Ok(None) => self.ended = true,
                Err(fault) => {
                    self.ended = true;
                    return Some(Err(top_level(self.info.as_ref(), fault)));
                }
            }
        }
        None
    }
}

/// The changes of all orders of a customer.
struct CustomerChanges {
    customer_id: UserId,
}

#[async_trait]
impl GrowingList for CustomerChanges {
    type Entry = OrderChangeEntry;

    async fn end(&self, shop: &Shop) -> Result<String, DomainError> {
        answered(shop.orders.ask(LatestChange { customer_id: self.customer_id }, shop.ask_deadline).await)
    }

    async fn after(
        &self,
        shop: &Shop,
        cursor: String,
        limit: u32,
    ) -> Result<Vec<(String, OrderChangeEntry)>, DomainError> {
        let message = ChangesAfter { customer_id: self.customer_id, cursor, limit };
        let entries = answered(shop.orders.ask(message, shop.ask_deadline).await)?;
        Ok(entries.into_iter().map(|entry| (entry.cursor.clone(), entry)).collect())
    }
}

#[derive(Default)]
pub struct OrderSubscription;

#[Subscription]
impl OrderSubscription {
    /// An order's latest change, then every one that follows. With `after`, every change above that sequence:
    /// nothing is lost or repeated over a reconnect, and 0 gives the whole timeline.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn order_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's id.")] id: ID,
        #[graphql(desc = "The sequence of the last change that the caller has seen.")] after: Option<i32>,
    ) -> Result<BoxStream<'static, Result<OrderUpdate, Error>>, Error> {
        let event_ids = EventIds::of(ctx);
        let after = match event_ids.as_ref().and_then(|ids| ids.last_seen()) {
            Some(seen) => Some(seen.parse().map_err(|_| bad_input("after", "Last-Event-ID is none of this order"))?),
            None => after,
        };
        if after.is_some_and(|after| after < 0) {
            return Err(bad_input("after", "after is 0 or a sequence"));
        }
        let viewer = Viewer::of(ctx);
        let user_id = viewer.user_id().ok_or(Denied::Unauthenticated)?;
        // A foreign order, a missing one and what is no id at all are answered alike.
        let not_found = || bad_input("id", "the order was not found");
        let id: OrderId = id.parse().map_err(|_| not_found())?;
        let shop = ctx.data::<Shop>()?.clone();
        let mut feed = OneOrder {
            watch: shop.live.watch(LiveKey::Order(id)),
            shop,
            info: ctx.data_opt::<RequestInfo>().cloned(),
            event_ids,
            id,
            confined_to: viewer.confined_to(user_id),
            last_sent: 0,
            waiting: VecDeque::new(),
            ended: false,
        };
        let order = feed.read(Some(FIRST_READ_ATTEMPTS)).await;
        let order = order.map_err(|fault| top_level(feed.info.as_ref(), fault))?.ok_or_else(not_found)?;
        if after.is_some_and(|after| after > order.version()) {
            return Err(bad_input("after", "the order has no change with this sequence yet"));
        }
        feed.last_sent = after.unwrap_or(order.version() - 1);
        feed.queue(&order);
        Ok(stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) }).boxed())
    }

    /// Every change of every order of mine from now on, or after a cursor.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn order_updates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The cursor of the last update that the caller has seen.")] after: Option<Cursor>,
    ) -> Result<BoxStream<'static, Result<OrderUpdate, Error>>, Error> {
        let viewer = Viewer::of(ctx);
        let customer_id = viewer.user_id().ok_or(Denied::Unauthenticated)?;
        let event_ids = EventIds::of(ctx);
        let seen = event_ids.as_ref().and_then(|ids| ids.last_seen()).map(|seen| Cursor(seen.to_owned()));
        let after = position(ctx, seen.or(after).as_ref(), CursorKind::OrderChanges(customer_id))?;
        let cursors = ctx.data::<Shop>()?.cursors.clone();
        let changes = follow(ctx, LiveKey::Customer(customer_id), CustomerChanges { customer_id }, after).await?;
        let updates = changes.try_filter_map(move |(position, entry)| {
            let cursor = cursors.seal(CursorKind::OrderChanges(customer_id), &position);
            let update = OrderUpdate::of(&entry.order, entry.sequence, cursor);
            if let (Some(event_ids), Some(update)) = (&event_ids, &update) {
                event_ids.put(update.cursor.0.clone());
            }
            std::future::ready(Ok(update))
        });
        Ok(updates.boxed())
    }
}

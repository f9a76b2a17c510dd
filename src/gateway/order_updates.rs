//! Live orders: `orderUpdated` follows one order's timeline, `orderUpdates` all orders of a customer.
//!
//! Both watch the live hub before their first read, and each wake only makes them read on from what they sent last:
//! nothing is lost or repeated, however often they are woken. A read that fails because an actor is busy or coming
//! back is tried again; the stream goes on.

use std::collections::VecDeque;
use std::time::Duration;

use async_graphql::{Context, Error, ID, SimpleObject, Subscription};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::access::Denied;
use super::connections::root_cost;
use super::context::{RequestInfo, Shop, Viewer, answered};
use super::errors::{bad_input, top_level};
use super::orders::{Order, OrderEvent};
use super::scalars::{Cursor, CursorKind};
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

/// How long a failed read waits before it is tried again, from and to.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How many reads may fail before a stream that has sent nothing yet is given up.
pub const FIRST_READ_ATTEMPTS: u32 = 4;

/// Reads until it succeeds or there is no point in going on.
pub async fn read_again_and_again<T, F>(
    attempts: Option<u32>,
    mut read: impl FnMut() -> F + Send,
) -> Result<T, DomainError>
where
    F: Future<Output = Result<T, DomainError>> + Send,
{
    let mut pause = RETRY.0;
    let mut failures = 0;
    loop {
        match read().await {
            Err(DomainError::Busy { .. } | DomainError::Unavailable(_) | DomainError::Timeout)
                if attempts.is_none_or(|most| failures + 1 < most) =>
            {
                failures += 1;
                // Spread over time: an actor that comes back is not met by all its streams at once.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                pause = (pause * 2).min(RETRY.1);
            }
            answer => return answer,
        }
    }
}

/// Follows one order.
struct OneOrder {
    shop: Shop,
    info: Option<RequestInfo>,
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
            self.waiting.extend(OrderUpdate::of(
                order,
                entry.sequence,
                Cursor::of(CursorKind::OrderTimeline, &position),
            ));
        }
        self.last_sent = self.last_sent.max(order.version());
    }

    async fn next(&mut self) -> Option<Result<OrderUpdate, Error>> {
        while !self.ended {
            if let Some(update) = self.waiting.pop_front() {
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

/// Follows all orders of a customer.
struct AllOrders {
    shop: Shop,
    info: Option<RequestInfo>,
    watch: LiveWatch,
    customer_id: UserId,
    /// Of the last entry that was read.
    position: String,
    waiting: VecDeque<OrderChangeEntry>,
    /// True when there may be more to read without a wake.
    behind: bool,
    ended: bool,
}

/// How many entries one read of `orderUpdates` takes.
const ENTRIES_PER_READ: u32 = 100;

impl AllOrders {
    async fn read(&mut self, attempts: Option<u32>) -> Result<(), DomainError> {
        let Self { shop, customer_id, position, .. } = self;
        let shop = &*shop;
        let entries = read_again_and_again(attempts, || {
            let message = ChangesAfter { customer_id: *customer_id, cursor: position.clone(), limit: ENTRIES_PER_READ };
            async move { answered(shop.orders.ask(message, shop.ask_deadline).await) }
        })
        .await?;
        self.behind = entries.len() >= ENTRIES_PER_READ as usize;
        if let Some(last) = entries.last() {
            self.position.clone_from(&last.cursor);
        }
        self.waiting.extend(entries);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<OrderUpdate, Error>> {
        while !self.ended {
            while let Some(entry) = self.waiting.pop_front() {
                let cursor = Cursor::of(CursorKind::OrderChanges, &entry.cursor);
                if let Some(update) = OrderUpdate::of(&entry.order, entry.sequence, cursor) {
                    return Some(Ok(update));
                }
            }
            if !self.behind {
                self.watch.changed().await;
            }
            if let Err(fault) = self.read(None).await {
                self.ended = true;
                return Some(Err(top_level(self.info.as_ref(), fault)));
            }
        }
        None
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
        let after = after.map(|cursor| cursor.position(CursorKind::OrderChanges)).transpose();
        let after = after.map_err(|broken| bad_input("after", broken))?;
        let shop = ctx.data::<Shop>()?.clone();
        let info = ctx.data_opt::<RequestInfo>().cloned();
        let watch = shop.live.watch(LiveKey::Customer(customer_id));
        let resumed = after.is_some();
        let position = match after {
            Some(position) => Ok(position),
            None => {
                let shop = &shop;
                read_again_and_again(Some(FIRST_READ_ATTEMPTS), || async move {
                    answered(shop.orders.ask(LatestChange { customer_id }, shop.ask_deadline).await)
                })
                .await
            }
        };
        let position = position.map_err(|fault| top_level(info.as_ref(), fault))?;
        let mut feed = AllOrders {
            shop,
            info,
            watch,
            customer_id,
            position,
            waiting: VecDeque::new(),
            behind: false,
            ended: false,
        };
        if resumed {
            // Tells a broken cursor before anything is sent.
            let read = feed.read(Some(FIRST_READ_ATTEMPTS)).await;
            read.map_err(|fault| top_level(feed.info.as_ref(), fault))?;
        }
        Ok(stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) }).boxed())
    }
}

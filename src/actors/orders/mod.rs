//! The orders actor: places orders through its writer, moves them on, applies stock's verdicts.
//!
//! `PlaceOrder`: check and merge the lines, take the products' present names and prices, build the PENDING order, hand
//! it to the writer, answer once it is durable. The store's unique key per customer decides who was first; what became
//! of an order whose write has an unknown outcome is looked up before anything is answered.

pub mod ids;
pub mod messages;
pub mod verdict;
pub mod writer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture, Supervised};
use sha2::{Digest, Sha256};

use self::ids::OrderIds;
use self::messages::{
    AdvanceOrder, ApplyVerdicts, ChangesAfter, GetOrders, LatestChange, ListOrders, PlaceOrder, Placed,
};
use self::writer::{OrderWriter, WriteError, WriteOrder};
use crate::actors::ask::{Address, AskError};
use crate::actors::clock::now;
use crate::actors::errors::{DomainError, path};
use crate::actors::products::ProductActor;
use crate::actors::products::messages::GetOffers;
use crate::domain::ids::ProductId;
use crate::domain::inventory::{WantedLine, merge_lines};
use crate::domain::money::Currency;
use crate::domain::orders::{
    InputDigest, MAX_LINES, MAX_QUANTITY, NewOrder, Order, OrderLine, OrderStatus, order_number,
};
use crate::domain::page::Page;
use crate::domain::products::Product;
use crate::domain::text::{MAX_KEY, MAX_TEXT, check_text};
use crate::store::StoreError;
use crate::store::consumption::Consumed;
use crate::store::orders::{AdvanceOrder as Advanced, InsertOrder, Judged, OrderChangeEntry, OrderStore};
use crate::telemetry::traces;

/// A number that was taken is drawn anew this often: 40 random bits a day collide rarely, five times never.
const NUMBER_ATTEMPTS: usize = 5;

/// A write that was interrupted is repeated this often before the caller is told to come back.
const WRITE_ATTEMPTS: usize = 4;

/// The asks that a placement may have to wait for in turn: the products, the write, and the write again after a
/// timeout. Whoever asks for a placement waits for as many deadlines, or nobody would hear what became of the order.
pub const ASKS_OF_A_PLACEMENT: u32 = 3;

/// The orders actor's tools.
pub struct OrderTools {
    pub store: Arc<dyn OrderStore>,
    pub products: Address<ProductActor>,
    pub writer: Address<OrderWriter>,
    pub ids: OrderIds,
    pub currency: Currency,
    pub ask_deadline: Duration,
    pub observe_verdict: VerdictObserver,
}

/// Told of each verdict that moved an order on: to what, and how long after it was placed.
pub type VerdictObserver = Arc<dyn Fn(OrderStatus, Duration) + Send + Sync>;

pub struct OrderActor {
    tools: Arc<OrderTools>,
}

impl OrderActor {
    pub fn new(tools: Arc<OrderTools>) -> Self {
        Self { tools }
    }

    fn beside<T, E, F>(&self, work: impl FnOnce(Arc<OrderTools>) -> F) -> ResponseFuture<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.tools)))
    }
}

impl Actor for OrderActor {
    type Context = Context<Self>;
}

impl Supervised for OrderActor {}

/// Checks the lines as they came and merges those of one product.
fn checked_lines(lines: &[WantedLine]) -> Result<Vec<WantedLine>, DomainError> {
    if lines.is_empty() {
        return Err(DomainError::invalid("lines", "an order has at least one line"));
    }
    if lines.len() > MAX_LINES {
        return Err(DomainError::invalid("lines", format!("an order has at most {MAX_LINES} lines")));
    }
    for (position, line) in lines.iter().enumerate() {
        if !(1..=MAX_QUANTITY).contains(&line.quantity) {
            let field = format!("lines.{position}.quantity");
            return Err(DomainError::invalid(&field, format!("a quantity is 1 to {MAX_QUANTITY}")));
        }
    }
    Ok(merge_lines(lines))
}

/// What makes two requests the same: the set of products and quantities, not the order of lines.
fn digest_of(merged: &[WantedLine]) -> InputDigest {
    let mut sorted: Vec<&WantedLine> = merged.iter().collect();
    sorted.sort_unstable_by_key(|line| line.product_id);
    let mut hasher = Sha256::new();
    for line in sorted {
        hasher.update(line.product_id.as_bytes());
        hasher.update(line.quantity.to_be_bytes());
    }
    InputDigest(hasher.finalize().into())
}

/// The lines with what the products are called and cost now; refuses the first that cannot be ordered.
fn priced_lines(
    given: &[WantedLine],
    merged: &[WantedLine],
    products: &[Arc<Product>],
) -> Result<Vec<OrderLine>, DomainError> {
    let field = |id: ProductId| {
        let position = given.iter().position(|line| line.product_id == id).unwrap_or_default();
        path(&format!("lines.{position}.productId"))
    };
    merged
        .iter()
        .map(|line| match products.iter().find(|product| product.id == line.product_id) {
            None => Err(DomainError::NotFound { what: "the product", field: field(line.product_id) }),
            Some(product) if product.archived => {
                Err(DomainError::ProductUnavailable { product_id: product.id, field: field(product.id) })
            }
            Some(product) => Ok(OrderLine {
                product_id: product.id,
                sku: product.sku.clone(),
                name: product.name.clone(),
                category: product.category.clone(),
                unit_price: product.price,
                quantity: line.quantity,
            }),
        })
        .collect()
}

impl OrderTools {
    async fn place(&self, request: PlaceOrder) -> Result<Placed, DomainError> {
        check_text("idempotencyKey", &request.idempotency_key, 1, MAX_KEY)
            .map_err(|reason| DomainError::invalid("idempotencyKey", reason))?;
        let merged = checked_lines(&request.lines)?;
        let digest = digest_of(&merged);
        match self.build(&request, &merged, digest).await {
            Ok(order) => self.write(order).await,
            // An existing order wins over every product error.
            Err(refusal) => match self.store.order_by_key(request.customer_id, &request.idempotency_key).await? {
                Some(order) => replay(order, digest),
                None => Err(refusal),
            },
        }
    }

    async fn build(
        &self,
        request: &PlaceOrder,
        merged: &[WantedLine],
        input_digest: InputDigest,
    ) -> Result<NewOrder, DomainError> {
        let ids = merged.iter().map(|line| line.product_id).collect();
        let products = self.products.ask(GetOffers { ids }, self.ask_deadline).await??;
        let lines = priced_lines(&request.lines, merged, &products)?;
        let order = NewOrder {
            id: self.ids.next(),
            number: order_number(now(), rand::random()),
            customer_id: request.customer_id,
            lines,
            currency: self.currency,
            idempotency_key: request.idempotency_key.clone(),
            input_digest,
        };
        // A total that does not fit is refused here, where an earlier order under the key can still win over it.
        order.total().map_err(|error| DomainError::invalid("lines", error))?;
        Ok(order)
    }

    async fn write(&self, mut new_order: NewOrder) -> Result<Placed, DomainError> {
        let (id, digest) = (new_order.id, new_order.input_digest);
        let mut interruptions = 0;
        let mut timed_out = false;
        let mut numbers = 0;
        loop {
            let (order, mut event) =
                new_order.clone().place(now()).map_err(|error| DomainError::invalid("lines", error))?;
            if let Some(cause) = traces::current_cause() {
                event.follow(&cause.to_string());
            }
            let written = self.writer.ask(WriteOrder { order: order.clone(), event }, self.ask_deadline).await;
            match written {
                Ok(Ok(InsertOrder::Inserted)) => return Ok(Placed { order, replayed: false }),
                // Our own write whose answer was lost.
                Ok(Ok(InsertOrder::Replayed(existing))) if existing.id == id => {
                    return Ok(Placed { order: *existing, replayed: false });
                }
                Ok(Ok(InsertOrder::Replayed(existing))) => return replay(*existing, digest),
                Ok(Ok(InsertOrder::NumberTaken)) if numbers < NUMBER_ATTEMPTS => {
                    numbers += 1;
                    new_order.number = order_number(now(), rand::random());
                }
                Ok(Ok(InsertOrder::NumberTaken)) => {
                    return Err(DomainError::Internal("no free order number was found".into()));
                }
                // Of an earlier write nobody knows: busy would say that nothing was done.
                Err(AskError::Busy) if timed_out || interruptions > 0 => {
                    return self.settle_unknown(&new_order, AskError::Timeout.into()).await;
                }
                Err(AskError::Busy) => return Err(AskError::Busy.into()),
                // The outcome is unknown, and the store may have the write still in its queue, where no read sees it.
                // The same order goes behind it: its id and key are unique, so it is written once and found then.
                Err(AskError::Interrupted) | Ok(Err(WriteError::Interrupted)) if interruptions < WRITE_ATTEMPTS => {
                    interruptions += 1;
                }
                Err(AskError::Timeout) if !timed_out => timed_out = true,
                Ok(Err(WriteError::Interrupted)) => {
                    return self.settle_unknown(&new_order, AskError::Interrupted.into()).await;
                }
                Err(error) => return self.settle_unknown(&new_order, error.into()).await,
                Ok(Err(WriteError::Store(error))) => return self.settle_unknown(&new_order, error.into()).await,
            }
        }
    }

    /// What became of a write that gave no answer: looked up before anything is said.
    async fn settle_unknown(&self, order: &NewOrder, failure: DomainError) -> Result<Placed, DomainError> {
        match self.store.order_by_key(order.customer_id, &order.idempotency_key).await {
            Ok(Some(existing)) if existing.id == order.id => Ok(Placed { order: existing, replayed: false }),
            Ok(Some(existing)) => replay(existing, order.input_digest),
            Ok(None) | Err(_) => Err(failure),
        }
    }
}

fn replay(order: Order, digest: InputDigest) -> Result<Placed, DomainError> {
    if order.input_digest == digest {
        Ok(Placed { order, replayed: true })
    } else {
        Err(DomainError::IdempotencyKeyReused)
    }
}

impl Handler<PlaceOrder> for OrderActor {
    type Result = ResponseFuture<Result<Placed, DomainError>>;

    fn handle(&mut self, request: PlaceOrder, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { tools.place(request).await })
    }
}

impl Handler<GetOrders> for OrderActor {
    type Result = ResponseFuture<Result<Vec<Order>, DomainError>>;

    fn handle(&mut self, GetOrders { ids, customer_id }: GetOrders, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let mut orders = tools.store.orders(&ids).await?;
            orders.retain(|order| customer_id.is_none_or(|customer| customer == order.customer_id));
            Ok(orders)
        })
    }
}

impl Handler<ListOrders> for OrderActor {
    type Result = ResponseFuture<Result<Page<Order>, DomainError>>;

    fn handle(&mut self, ListOrders { filter, page }: ListOrders, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.list_orders(&filter, &page).await?) })
    }
}

impl Handler<AdvanceOrder> for OrderActor {
    type Result = ResponseFuture<Result<Order, DomainError>>;

    fn handle(&mut self, AdvanceOrder { advance }: AdvanceOrder, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            if let Some(note) = &advance.note {
                check_text("the text", note, 0, MAX_TEXT).map_err(|reason| DomainError::invalid("note", reason))?;
            }
            match tools.store.advance_order(advance, now()).await? {
                Advanced::Advanced(order) => Ok(*order),
                Advanced::NotFound => Err(DomainError::NotFound { what: "the order", field: path("id") }),
                Advanced::Illegal(illegal) => Err(illegal.into()),
            }
        })
    }
}

impl Handler<ApplyVerdicts> for OrderActor {
    type Result = ResponseFuture<Result<Consumed<()>, StoreError>>;

    fn handle(&mut self, message: ApplyVerdicts, _: &mut Context<Self>) -> Self::Result {
        let ApplyVerdicts { verdicts, consumption } = message;
        self.beside(|tools| async move {
            let at = now();
            let Consumed::Done(judged) = tools.store.apply_verdicts(verdicts, consumption, at).await? else {
                return Ok(Consumed::Lost);
            };
            for Judged { placed_at, status } in judged {
                (tools.observe_verdict)(
                    status,
                    Duration::from_millis(at.millis_since(placed_at).max(0).unsigned_abs()),
                );
            }
            Ok(Consumed::Done(()))
        })
    }
}

impl Handler<LatestChange> for OrderActor {
    type Result = ResponseFuture<Result<String, DomainError>>;

    fn handle(&mut self, LatestChange { customer_id }: LatestChange, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.latest_change(customer_id).await?) })
    }
}

impl Handler<ChangesAfter> for OrderActor {
    type Result = ResponseFuture<Result<Vec<OrderChangeEntry>, DomainError>>;

    fn handle(&mut self, message: ChangesAfter, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let ChangesAfter { customer_id, cursor, limit } = message;
            let changes = tools.store.changes_after(customer_id, &cursor, limit).await?;
            changes.ok_or_else(|| DomainError::invalid("after", "not a cursor of this stream"))
        })
    }
}

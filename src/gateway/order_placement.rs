//! Placing an order: first it is stored, then the answer may wait for stock's verdict.
//!
//! Once the order is stored nothing turns the answer into an error any more: when the verdict cannot be read in time,
//! the order is answered as it was last seen.

use std::time::Duration;

use async_graphql::{Context, Error, ID, InputObject, Object, SimpleObject};
use uuid::Uuid;

use super::connections::mutation_cost;
use super::context::{Shop, Viewer, answered};
use super::errors::{ErrorCode, Inputs, Problem, UserError, user_errors};
use super::orders::Order;
use crate::actors::errors::DomainError;
use crate::actors::orders::ASKS_OF_A_PLACEMENT;
use crate::actors::orders::messages::{PlaceOrder, Placed};
use crate::actors::orders::verdict::await_verdict;
use crate::domain::ids::{ProductId, TypedId};
use crate::domain::inventory::WantedLine;
use crate::domain::orders::{Order as DomainOrder, OrderStatus};

/// How long the answer waits for the verdict when the caller names no time. Milliseconds.
const DEFAULT_WAIT_MS: i32 = 1_000;
/// The longest wait. Milliseconds.
const MAX_WAIT_MS: i32 = 30_000;
/// The longest wait of one field.
pub const LONGEST_WAIT: Duration = Duration::from_millis(MAX_WAIT_MS.unsigned_abs() as u64);

/// A product and how many pieces of it.
#[derive(InputObject)]
pub struct OrderLineInput {
    /// The product's id.
    product_id: ID,
    /// How many pieces, 1 to 10,000.
    quantity: i32,
}

/// A new order.
#[derive(InputObject)]
pub struct OrderPlaceInput {
    /// Chosen by the caller, 1 to 255 characters: repeating the same order under the same key places it once.
    idempotency_key: String,
    /// What is ordered, 1 to 100 lines; lines of one product become one.
    lines: Vec<OrderLineInput>,
    /// How long to wait for the stock verdict, in milliseconds, 0 to 30,000; 0 answers PENDING at once.
    #[graphql(default_with = "Some(DEFAULT_WAIT_MS)")]
    wait_ms: Option<i32>,
}

impl OrderPlaceInput {
    fn wait(&self) -> Result<Duration, Problem> {
        let wait_ms = self.wait_ms.unwrap_or(DEFAULT_WAIT_MS);
        match u64::try_from(wait_ms) {
            Ok(millis) if wait_ms <= MAX_WAIT_MS => Ok(Duration::from_millis(millis)),
            _ => Err(Problem::new("waitMs", format!("waitMs is 0 to {MAX_WAIT_MS}"))),
        }
    }

    /// The lines as the actor checks them. What cannot be a product's id or a quantity becomes one that is always
    /// refused, so that the actor, which looks the key up first, is the only judge of a line.
    fn wanted_lines(&self) -> Vec<WantedLine> {
        let no_product = ProductId::from_uuid(Uuid::nil());
        self.lines
            .iter()
            .map(|line| WantedLine {
                product_id: line.product_id.parse().unwrap_or(no_product),
                quantity: u32::try_from(line.quantity).unwrap_or(0),
            })
            .collect()
    }
}

/// What placing an order answers.
#[derive(SimpleObject)]
pub struct OrderPlacePayload {
    /// The order, also when stock rejected it; null when it was not stored.
    order: Option<Order>,
    /// True when this key had already placed this order.
    replayed: bool,
    /// Why the order was not stored, or why stock rejected it.
    user_errors: Vec<UserError>,
}

#[derive(Default)]
pub struct OrderPlacementMutation;

#[Object]
impl OrderPlacementMutation {
    /// Places an order and waits a while for stock's verdict. Once it is answered with an order, the order is durable.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn order_place(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new order.")] input: OrderPlaceInput,
    ) -> Result<OrderPlacePayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let refused = |error| {
            let user_errors = user_errors(ctx, Inputs::OBJECT, error)?;
            Ok(OrderPlacePayload { order: None, replayed: false, user_errors })
        };
        let wait = match input.wait() {
            Ok(wait) => wait,
            Err(problem) => return refused(problem.into()),
        };
        let Some(customer_id) = Viewer::of(ctx).user_id() else {
            return refused(DomainError::NotFound { what: "the customer", field: Vec::new() });
        };
        let lines = input.wanted_lines();
        let message = PlaceOrder { customer_id, idempotency_key: input.idempotency_key.clone(), lines: lines.clone() };
        let deadline = shop.ask_deadline * ASKS_OF_A_PLACEMENT;
        let Placed { order, replayed } = match answered(shop.orders.ask(message, deadline).await) {
            Ok(placed) => placed,
            Err(error) => return refused(error),
        };
        let order = await_verdict(&shop.orders, &shop.live, order, customer_id, wait, shop.ask_deadline).await;
        let user_errors = rejection(&order, &lines);
        Ok(OrderPlacePayload { order: Some(Order::new(order)), replayed, user_errors })
    }
}

/// Why stock rejected an order: an error for each short product and for each that is no longer sold.
fn rejection(order: &DomainOrder, lines: &[WantedLine]) -> Vec<UserError> {
    if order.status != OrderStatus::Rejected {
        return Vec::new();
    }
    let line_of = |product_id: ProductId, field: &str| {
        let line = lines.iter().position(|line| line.product_id == product_id)?;
        Some(vec!["input".into(), "lines".into(), line.to_string(), field.to_owned()])
    };
    let name_of = |product_id: ProductId| {
        order.lines.iter().find(|line| line.product_id == product_id).map_or("a product", |line| &line.name)
    };
    let short = order.shortages.iter().map(|shortage| {
        UserError::shortage(shortage, name_of(shortage.product_id), line_of(shortage.product_id, "quantity"))
    });
    let unavailable = order.unavailable.iter().map(|&product_id| {
        let message = format!("{} is no longer sold", name_of(product_id));
        UserError::input(ErrorCode::ProductUnavailable, message, line_of(product_id, "productId"))
    });
    short.chain(unavailable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(wait_ms: Option<i32>) -> OrderPlaceInput {
        let line = |product_id: &str, quantity| OrderLineInput { product_id: product_id.into(), quantity };
        let known = ProductId::from_uuid(Uuid::from_u128(1)).to_string();
        OrderPlaceInput { idempotency_key: "k".into(), lines: vec![line(&known, 2), line("nonsense", -1)], wait_ms }
    }

    #[test]
    fn a_wait_is_0_to_30_seconds_and_1_unless_told() {
        assert_eq!(input(None).wait(), Ok(Duration::from_secs(1)));
        assert_eq!(input(Some(0)).wait(), Ok(Duration::ZERO));
        assert_eq!(input(Some(30_000)).wait(), Ok(Duration::from_secs(30)));
        for wait_ms in [-1, 30_001, i32::MIN, i32::MAX] {
            assert_eq!(input(Some(wait_ms)).wait().unwrap_err().field, ["waitMs"]);
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_one_that_the_actor_refuses() {
        let lines = input(None).wanted_lines();
        assert_eq!(lines[0], WantedLine { product_id: ProductId::from_uuid(Uuid::from_u128(1)), quantity: 2 });
        assert_eq!(lines[1], WantedLine { product_id: ProductId::from_uuid(Uuid::nil()), quantity: 0 });
    }
}

//! An orders store that makes its orders when they are read: a million of them take no room.

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use souk::domain::events::PendingEvent;
use souk::domain::ids::{OrderId, ProductId, TypedId, UserId};
use souk::domain::money::{Currency, Money};
use souk::domain::orders::{InputDigest, NewOrder, Order, OrderFilter, OrderLine, Verdict};
use souk::domain::page::{Page, PageRequest};
use souk::domain::time::Timestamp;
use souk::store::StoreError;
use souk::store::consumption::{Consumed, Consumption};
use souk::store::orders::{
    AdvanceOrder, InsertOrder, Judged, OrderAdvance, OrderChangeEntry, OrderStore, PendingOrders,
};
use uuid::Uuid;

pub struct GeneratedOrders {
    pub orders: u64,
    pub products: u64,
}

/// Customers of the orders.
const CUSTOMERS: u64 = 100_000;

impl GeneratedOrders {
    /// One to five lines; of two products the more popular is the more probable.
    fn order(&self, number: u64) -> Order {
        let currency: Currency = "EUR".parse().expect("a currency");
        let mut random = StdRng::seed_from_u64(number);
        let mut products: Vec<u64> = (0..random.random_range(1..=5))
            .map(|_| (self.products as f64 * random.random::<f64>().powi(3)) as u64)
            .collect();
        products.sort_unstable();
        products.dedup();
        let lines = products.into_iter().map(|product| OrderLine {
            product_id: ProductId::from_uuid(Uuid::from_u128(u128::from(product))),
            sku: format!("SKU-{product}"),
            name: format!("Product {product}"),
            category: format!("Category {}", product % 50),
            unit_price: Money::new(100, currency),
            quantity: 1,
        });
        let new = NewOrder {
            id: OrderId::from_uuid(Uuid::from_u128(u128::from(number))),
            number: number.to_string(),
            customer_id: UserId::from_uuid(Uuid::from_u128(u128::from(number % CUSTOMERS))),
            lines: lines.collect(),
            currency,
            idempotency_key: number.to_string(),
            input_digest: InputDigest([0; 32]),
        };
        new.place(Timestamp(number as i64)).expect("a total that fits").0
    }
}

fn not_generated<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("generated orders are only walked".into()))
}

#[async_trait]
impl OrderStore for GeneratedOrders {
    async fn bought_orders(&self, after: Option<&str>, limit: u32) -> Result<Vec<(String, Order)>, StoreError> {
        let first = after.map_or(0, |after| after.parse::<u64>().expect("its own cursor") + 1);
        let end = self.orders.min(first + u64::from(limit));
        Ok((first..end).map(|number| (number.to_string(), self.order(number))).collect())
    }

    async fn list_orders(&self, _: &OrderFilter, _: &PageRequest) -> Result<Page<Order>, StoreError> {
        Ok(Page { entries: Vec::new(), has_next: false, has_previous: false, total: self.orders })
    }

    async fn insert_orders(&self, _: Vec<(Order, PendingEvent)>) -> Result<Vec<InsertOrder>, StoreError> {
        not_generated()
    }

    async fn orders(&self, _: &[OrderId]) -> Result<Vec<Order>, StoreError> {
        not_generated()
    }

    async fn order_by_key(&self, _: UserId, _: &str) -> Result<Option<Order>, StoreError> {
        not_generated()
    }

    async fn advance_order(&self, _: OrderAdvance, _: Timestamp) -> Result<AdvanceOrder, StoreError> {
        not_generated()
    }

    async fn apply_verdicts(
        &self,
        _: Vec<(OrderId, Verdict)>,
        _: Consumption,
        _: Timestamp,
    ) -> Result<Consumed<Vec<Judged>>, StoreError> {
        not_generated()
    }

    async fn pending_orders(&self) -> Result<PendingOrders, StoreError> {
        not_generated()
    }

    async fn latest_change(&self, _: UserId) -> Result<String, StoreError> {
        not_generated()
    }

    async fn changes_after(&self, _: UserId, _: &str, _: u32) -> Result<Option<Vec<OrderChangeEntry>>, StoreError> {
        not_generated()
    }
}

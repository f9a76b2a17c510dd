//! What must hold when everything has come to rest, read from the stores and from the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use souk::config::{Config, Domain};
use souk::domain::events::Topic;
use souk::domain::ids::{OrderId, ProductId};
use souk::domain::inventory::Decision;
use souk::domain::orders::{Order, OrderStatus};
use souk::domain::page::PageRequest;
use souk::domain::products::{ProductFilter, ProductSort};
use souk::domain::time::Timestamp;
use souk::store::mongo::{MongoSettings, MongoStores};
use souk::store::operations::OperationsStore;
use souk::store::orders::OrderStore;
use souk::store::outbox::Outbox;
use souk::store::products::ProductStore;

use crate::support::{eventually_within, kafka};

/// Orders that are read at once.
const AT_ONCE: usize = 1_000;

/// What the books say, for the report.
#[derive(Debug, Default)]
pub struct Totals {
    pub orders: usize,
    pub confirmed: usize,
    pub rejected: usize,
    /// Records of the log that carry an event of orders or stock, and how many of them had been there before.
    pub events: usize,
    pub duplicates: usize,
}

pub async fn open(config: &Config) -> MongoStores {
    let settings = MongoSettings {
        uri: config.store.uri.expose().to_owned(),
        uris: BTreeMap::new(),
        prefix: config.store.prefix.clone(),
    };
    MongoStores::open(&settings, Duration::from_secs(30)).await.unwrap()
}

/// Waits until nothing is in flight, and checks the books. `opening` is every product's stock at the beginning.
pub async fn check(config: &Config, answered: &BTreeMap<String, String>, ids: &[OrderId], opening: i32) -> Totals {
    let stores = open(config).await;
    let mut reserved: HashMap<ProductId, i64> = HashMap::new();
    let mut totals = Totals { orders: ids.len(), ..Totals::default() };
    for ids in ids.chunks(AT_ONCE) {
        let orders = eventually_within(Duration::from_secs(120), "every order has its verdict", async || {
            let orders = stores.orders.orders(ids).await.ok()?;
            let decided = orders.iter().all(|order| order.status != OrderStatus::Pending);
            (orders.len() == ids.len() && decided).then_some(orders)
        })
        .await;
        let decisions: HashMap<OrderId, Decision> = stores.products.decisions(ids).await.unwrap().into_iter().collect();
        for order in &orders {
            check_order(order, &decisions);
            if order.status == OrderStatus::Confirmed {
                totals.confirmed += 1;
                for line in &order.lines {
                    *reserved.entry(line.product_id).or_default() += i64::from(line.quantity);
                }
            } else {
                totals.rejected += 1;
            }
        }
    }
    let outboxes: [&dyn Outbox; 3] = [&*stores.orders, &*stores.products, &*stores.operations];
    for outbox in outboxes {
        eventually_within(Duration::from_secs(60), "everything is published", async || {
            outbox.pending(Timestamp(i64::MAX), 1).await.ok()?.is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(answered.len(), ids.len(), "one order a key");
    assert_eq!(stored_orders(config).await, ids.len() as u64, "no order that nobody asked for");
    let page = PageRequest::first(100);
    let products = stores.products.list_products(&ProductFilter::default(), ProductSort::Name, &page).await.unwrap();
    for (_, product) in products.entries {
        let taken = reserved.get(&product.id).copied().unwrap_or_default();
        assert_eq!(i64::from(product.available), i64::from(opening) - taken, "{}", product.sku);
    }
    let letters = stores.operations.list_dead_letters(None, false, &PageRequest::first(5)).await.unwrap();
    assert_eq!(letters.total, 0, "{:?}", letters.entries);
    check_log(config, &mut totals);
    stores.close();
    totals
}

fn check_order(order: &Order, decisions: &HashMap<OrderId, Decision>) {
    let decision = decisions.get(&order.id);
    match order.status {
        OrderStatus::Confirmed => {
            assert!(matches!(decision, Some(Decision::Reserved { .. })), "{order:?} {decision:?}")
        }
        OrderStatus::Rejected => assert!(matches!(decision, Some(Decision::Rejected { .. })), "{order:?} {decision:?}"),
        _ => panic!("nobody cancelled or shipped {order:?}"),
    }
    assert_eq!(order.timeline.len(), 2, "placed once, decided once: {order:?}");
}

async fn stored_orders(config: &Config) -> u64 {
    let client = mongodb::Client::with_uri_str(config.store.uri.expose()).await.unwrap();
    let database = client.database(&format!("{}{}", config.store.prefix, Domain::Orders.name()));
    database.collection::<mongodb::bson::Document>("orders").count_documents(mongodb::bson::doc! {}).await.unwrap()
}

/// Every order has its two events, every event its order; what was published twice is counted.
fn check_log(config: &Config, totals: &mut Totals) {
    let mut seen: HashSet<String> = HashSet::new();
    let mut by_order: HashMap<String, HashSet<String>> = HashMap::new();
    for record in kafka::records(config, Topic::OrderEvents) {
        totals.events += 1;
        totals.duplicates += usize::from(!seen.insert(record.id));
        by_order.entry(record.key).or_default().insert(record.kind);
    }
    assert_eq!(by_order.len(), totals.orders, "every event has its order");
    for (order, types) in by_order {
        assert_eq!(types.len(), 2, "{order}: {types:?}");
    }
}

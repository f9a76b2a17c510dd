//! A shop whose event log is lost: what was answered is not.

use std::path::Path;

use serde_json::json;
use souk::domain::ids::{OrderId, TypedId};
use souk::domain::money::Money;
use souk::domain::orders::{InputDigest, NewOrder, OrderLine, OrderStatus, order_number};
use souk::domain::time::Timestamp;
use souk::store::orders::{AdvanceOrder, OrderAdvance, OrderStore};
use souk::store::outbox::Outbox;
use souk::store::sqlite::SqliteOrderStore;
use uuid::Uuid;

use crate::support::client::Account;
use crate::support::process::{ShopProcess, run};
use crate::support::{PASSWORD, eventually};

const CHEAP: (&str, &str) = ("SOUK__AUTH__BCRYPT_COST", "4");
const NO_DEMO: (&str, &str) = ("SOUK__DEMO", "false");

/// So many orders of two pieces whose events were published to a log that is no more, a second apart.
async fn place_into_the_void(data: &Path, customer: &Account, product: &str, count: i64) -> Vec<String> {
    let (orders, _) = SqliteOrderStore::open_in(data).unwrap();
    let unit_price = Money { minor_units: 1_250, currency: "EUR".parse().unwrap() };
    let new = |at: Timestamp| {
        let id = OrderId::from_uuid(Uuid::now_v7());
        let (sku, name, category) = ("LAMP".into(), "Lamp".into(), "Lighting".into());
        let new = NewOrder {
            id,
            number: order_number(at, id.uuid().as_u128() as u64),
            customer_id: customer.id.parse().unwrap(),
            lines: vec![OrderLine {
                product_id: product.parse().unwrap(),
                sku,
                name,
                category,
                unit_price,
                quantity: 2,
            }],
            currency: unit_price.currency,
            idempotency_key: id.to_string(),
            input_digest: InputDigest([7; 32]),
        };
        new.place(at).unwrap()
    };
    let placed: Vec<_> = (1..=count).map(|second| new(Timestamp(second * 1_000))).collect();
    let ids: Vec<String> = placed.iter().map(|(order, _)| order.id.to_string()).collect();
    orders.insert_orders(placed).await.unwrap();
    orders.clear(ids.iter().map(|id| (id.clone(), 1)).collect()).await.unwrap();
    orders.close();
    ids
}

/// Cancels an order; the log that had the event of it is no more.
async fn cancel_into_the_void(data: &Path, id: &str) {
    let (orders, _) = SqliteOrderStore::open_in(data).unwrap();
    let (id, customer_id) = (id.parse::<OrderId>().unwrap(), None);
    let advance = OrderAdvance { id, customer_id, to: OrderStatus::Cancelled, note: None };
    let cancelled = orders.advance_order(advance, souk::actors::clock::now()).await;
    assert!(matches!(cancelled.unwrap(), AdvanceOrder::Advanced(_)));
    orders.clear(vec![(id.to_string(), 3)]).await.unwrap();
    assert_eq!(orders.backlog().await.unwrap().events, 0);
    orders.close();
}

#[actix_rt::test]
async fn orders_whose_events_are_lost_with_their_log_are_settled_by_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let admin = ["admin", "create", "--email", "boss@test.example", "--name", "Boss", "--password-stdin"];
    assert_eq!(run(&data, &admin, &[CHEAP], PASSWORD).0, 0);
    let shop = ShopProcess::start(&data, &[CHEAP, NO_DEMO]);
    let client = shop.client();
    let staff = client.sign_in("boss@test.example", PASSWORD).await;
    let customer = client.sign_up().await;
    let product = client.create_product(&staff, 4).await;
    let bought = client.place(&customer, "bought", &[(&product, 1)], 10_000).await;
    assert_eq!(bought["order"]["status"], "CONFIRMED", "{bought}");
    shop.stop();
    cancel_into_the_void(&data, bought["order"]["id"].as_str().unwrap()).await;
    // More than are decided at once; there is enough for the one that came first.
    let placed = place_into_the_void(&data, &customer, &product, 150).await;

    let shop = ShopProcess::start(&data, &[CHEAP, NO_DEMO]);
    let client = shop.client();
    let statuses = async || {
        let mut statuses = Vec::new();
        for id in [&placed[0], &placed[1], &placed[149]] {
            statuses.push(client.order(&customer, id).await["status"].as_str().unwrap().to_owned());
        }
        statuses
    };
    let settle = |older_than: &str| {
        let (code, stdout, stderr) = run(&data, &["orders", "settle", "--older-than", older_than], &[], "");
        assert_eq!(code, 0, "{stderr}");
        stdout.trim().to_owned()
    };
    assert_eq!(settle("4000000000"), "0 orders have their verdict");
    assert_eq!(statuses().await, ["PENDING"; 3]);
    assert_eq!(settle("600"), "150 orders have their verdict");
    assert_eq!(statuses().await, ["CONFIRMED", "REJECTED", "REJECTED"]);
    assert_eq!(settle("600"), "0 orders have their verdict");
    eventually("the stock is what is left", async || (client.available(&product).await == 1).then_some(())).await;
    assert_eq!(settle("0"), "0 orders have their verdict");
    eventually("what was cancelled is back", async || (client.available(&product).await == 2).then_some(())).await;
    // What follows from a verdict follows from this one.
    let inbox = "{ me { notifications { totalCount } } }";
    eventually("the buyer is told of each, of what they bought before, and was welcomed", async || {
        let told = client.query(Some(&customer.token), inbox, json!({})).await;
        (told["me"]["notifications"]["totalCount"] == 152).then_some(())
    })
    .await;
}

//! Stock decisions of the products store.

use std::collections::HashMap;
use std::sync::Arc;

use souk::domain::events::{InventoryDecided, StockChanged, event_type};
use souk::domain::ids::{OrderId, ProductId};
use souk::domain::inventory::{Decision, InventoryRequest, Shortage, WantedLine};
use souk::store::consumption::{Consumed, Consumption};
use souk::store::products::{EditProduct, InsertProduct, ProductStore};

use crate::harness::{Under, at, id, product, step};

type Products = Under<dyn ProductStore>;

conformance!(products:
    of_fifty_buyers_of_ten_pieces_ten_get_one,
    one_batch_decides_in_its_order,
    two_lines_are_taken_both_or_not_at_all,
    opposite_line_orders_never_oversell,
    one_product_on_two_lines_counts_as_their_sum,
    a_repeated_placement_takes_nothing,
    a_cancellation_gives_back_once,
    a_cancellation_before_its_placement_wins,
    archived_and_unknown_products_are_refused,
    cancellations_in_between_keep_the_sum,
    decisions_and_offset_are_written_together_or_not_at_all,
    stock_and_edits_share_one_event_sequence,
    a_large_batch_is_decided,
);

async fn stocked(products: &Products, available: &[i32]) -> Vec<ProductId> {
    let mut ids = Vec::new();
    for (n, &pieces) in available.iter().enumerate() {
        let (product, event) = product(&format!("SKU-{n}"), pieces);
        ids.push(product.id);
        assert_eq!(products.port.insert_product(product, event).await.unwrap(), InsertProduct::Inserted);
    }
    let created = products.pending().await.into_iter().map(|event| (event.aggregate, event.sequence)).collect();
    products.outbox.clear(created).await.unwrap();
    ids
}

fn placed(order_id: OrderId, lines: &[(ProductId, u32)]) -> InventoryRequest {
    let lines = lines.iter().map(|&(product_id, quantity)| WantedLine { product_id, quantity }).collect();
    InventoryRequest::Placed { order_id, lines }
}

fn cancelled(order_id: OrderId) -> InventoryRequest {
    InventoryRequest::Cancelled { order_id }
}

async fn decide(port: &Arc<dyn ProductStore>, requests: Vec<InventoryRequest>) {
    let done = port.decide_inventory(requests, Consumption::default(), at(2)).await.unwrap();
    assert_eq!(done, Consumed::Done(()));
}

async fn available(products: &Products, id: ProductId) -> i32 {
    products.port.products(&[id]).await.unwrap()[0].available
}

async fn decision(products: &Products, order: OrderId) -> Decision {
    products.port.decisions(&[order]).await.unwrap().remove(0).1
}

async fn reserved(products: &Products, orders: &[OrderId]) -> usize {
    let decisions = products.port.decisions(orders).await.unwrap();
    decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Reserved { .. })).count()
}

async fn of_fifty_buyers_of_ten_pieces_ten_get_one(products: Products) {
    let product = stocked(&products, &[10]).await[0];
    let orders: Vec<OrderId> = (0..50).map(|_| id()).collect();
    let buyers: Vec<_> = orders
        .iter()
        .map(|&order| {
            let port = products.port.clone();
            tokio::spawn(async move { decide(&port, vec![placed(order, &[(product, 1)])]).await })
        })
        .collect();
    for buyer in buyers {
        buyer.await.unwrap();
    }
    assert_eq!(reserved(&products, &orders).await, 10);
    assert_eq!(available(&products, product).await, 0);
    assert_eq!(products.port.decisions(&orders).await.unwrap().len(), 50);
}

async fn one_batch_decides_in_its_order(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    let [one, two, three]: [OrderId; 3] = [id(), id(), id()];
    decide(
        &products.port,
        vec![placed(one, &[(product, 3)]), placed(two, &[(product, 3)]), placed(three, &[(product, 2)])],
    )
    .await;
    assert!(matches!(decision(&products, one).await, Decision::Reserved { .. }));
    let shortage = Shortage { product_id: product, requested: 3, available: 2 };
    assert_eq!(decision(&products, two).await, Decision::Rejected { shortages: vec![shortage], unavailable: vec![] });
    assert!(matches!(decision(&products, three).await, Decision::Reserved { .. }));
    let events = products.pending().await;
    let rejected = events.iter().find(|event| event.event_type == event_type::INVENTORY_REJECTED).unwrap();
    let body: InventoryDecided = serde_json::from_str(&rejected.body).unwrap();
    assert_eq!((body.order_id, body.shortages), (two, vec![shortage]));
    let stock = events.iter().find(|event| event.event_type == event_type::STOCK_CHANGED).unwrap();
    let body: StockChanged = serde_json::from_str(&stock.body).unwrap();
    assert_eq!((body.previous, body.available, stock.sequence), (5, 0, 2));
    assert_eq!(events.len(), 4);
}

async fn two_lines_are_taken_both_or_not_at_all(products: Products) {
    let stock = stocked(&products, &[5, 0]).await;
    let order = id();
    decide(&products.port, vec![placed(order, &[(stock[0], 1), (stock[1], 1)])]).await;
    assert!(matches!(decision(&products, order).await, Decision::Rejected { .. }));
    assert_eq!(available(&products, stock[0]).await, 5);
}

async fn opposite_line_orders_never_oversell(products: Products) {
    let stock = stocked(&products, &[10, 10]).await;
    let orders: Vec<OrderId> = (0..40).map(|_| id()).collect();
    let buyers: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(n, &order)| {
            let port = products.port.clone();
            let (one, two) = if n % 2 == 0 { (stock[0], stock[1]) } else { (stock[1], stock[0]) };
            tokio::spawn(async move { decide(&port, vec![placed(order, &[(one, 1), (two, 1)])]).await })
        })
        .collect();
    for buyer in buyers {
        buyer.await.unwrap();
    }
    assert_eq!(reserved(&products, &orders).await, 10);
    assert_eq!((available(&products, stock[0]).await, available(&products, stock[1]).await), (0, 0));
}

async fn one_product_on_two_lines_counts_as_their_sum(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    let [one, two]: [OrderId; 2] = [id(), id()];
    decide(
        &products.port,
        vec![placed(one, &[(product, 3), (product, 3)]), placed(two, &[(product, 3), (product, 2)])],
    )
    .await;
    assert!(matches!(decision(&products, one).await, Decision::Rejected { .. }));
    let lines = vec![WantedLine { product_id: product, quantity: 5 }];
    assert_eq!(decision(&products, two).await, Decision::Reserved { lines });
    assert_eq!(available(&products, product).await, 0);
}

async fn a_repeated_placement_takes_nothing(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    let order = id();
    for _ in 0..3 {
        decide(&products.port, vec![placed(order, &[(product, 2)])]).await;
    }
    assert_eq!(available(&products, product).await, 3);
    assert_eq!(products.pending().await.len(), 2);
}

async fn a_cancellation_gives_back_once(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    let order = id();
    decide(&products.port, vec![placed(order, &[(product, 2)])]).await;
    for _ in 0..2 {
        decide(&products.port, vec![cancelled(order)]).await;
    }
    assert_eq!(available(&products, product).await, 5);
    assert_eq!(decision(&products, order).await, Decision::Released);
    let sequences: Vec<i64> = products
        .pending()
        .await
        .iter()
        .filter(|event| event.aggregate == order.to_string())
        .map(|event| event.sequence)
        .collect();
    assert_eq!(sequences, [1, 2]);
}

async fn a_cancellation_before_its_placement_wins(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    let order = id();
    decide(&products.port, vec![cancelled(order)]).await;
    decide(&products.port, vec![placed(order, &[(product, 2)])]).await;
    assert_eq!(decision(&products, order).await, Decision::Released);
    assert_eq!(available(&products, product).await, 5);
}

async fn archived_and_unknown_products_are_refused(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    let edit = souk::domain::products::ProductEdit { archive: true, ..Default::default() };
    assert!(matches!(products.port.edit_product(product, 1, edit, at(2)).await.unwrap(), EditProduct::Edited(_)));
    let (order, unknown) = (id(), id());
    decide(&products.port, vec![placed(order, &[(product, 1), (unknown, 1)])]).await;
    assert_eq!(
        decision(&products, order).await,
        Decision::Rejected { shortages: vec![], unavailable: vec![product, unknown] }
    );
}

async fn cancellations_in_between_keep_the_sum(products: Products) {
    let stock = stocked(&products, &[20, 20]).await;
    let orders: Vec<OrderId> = (0..60).map(|_| id()).collect();
    let buyers: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(n, &order)| {
            let port = products.port.clone();
            let lines = [(stock[n % 2], 2), (stock[(n + 1) % 2], 1)];
            tokio::spawn(async move {
                decide(&port, vec![placed(order, &lines)]).await;
                if n % 3 == 0 {
                    decide(&port, vec![cancelled(order)]).await;
                }
            })
        })
        .collect();
    for buyer in buyers {
        buyer.await.unwrap();
    }
    let mut taken: HashMap<ProductId, i32> = HashMap::new();
    for (_, decision) in products.port.decisions(&orders).await.unwrap() {
        if let Decision::Reserved { lines } = decision {
            for line in lines {
                *taken.entry(line.product_id).or_default() += line.quantity as i32;
            }
        }
    }
    for product in stock {
        assert_eq!(available(&products, product).await, 20 - taken[&product]);
    }
}

async fn decisions_and_offset_are_written_together_or_not_at_all(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    products.progress.consume(step("inventory", 0, 5)).await.unwrap();
    let order = id();
    let requests = vec![placed(order, &[(product, 1)])];
    let lost = products.port.decide_inventory(requests.clone(), step("inventory", 4, 6), at(2)).await.unwrap();
    assert_eq!(lost, Consumed::Lost);
    assert_eq!(available(&products, product).await, 5);
    assert_eq!(products.port.decisions(&[order]).await.unwrap(), []);
    assert_eq!(products.pending().await, []);
    let done = products.port.decide_inventory(requests, step("inventory", 5, 6), at(2)).await.unwrap();
    assert_eq!(done, Consumed::Done(()));
    assert_eq!((available(&products, product).await, products.offset("inventory").await), (4, Some(6)));
}

async fn stock_and_edits_share_one_event_sequence(products: Products) {
    let product = stocked(&products, &[5]).await[0];
    decide(&products.port, vec![placed(id(), &[(product, 1)])]).await;
    let edit = souk::domain::products::ProductEdit { name: Some("New".into()), ..Default::default() };
    products.port.edit_product(product, 1, edit, at(2)).await.unwrap();
    decide(&products.port, vec![placed(id(), &[(product, 1)])]).await;
    let sequences: Vec<i64> = products
        .pending()
        .await
        .iter()
        .filter(|event| event.aggregate == product.to_string())
        .map(|event| event.sequence)
        .collect();
    assert_eq!(sequences, [2, 3, 4]);
    let now = products.port.products(&[product]).await.unwrap().remove(0);
    assert_eq!((now.available, now.version, now.event_sequence), (3, 2, 4));
}

async fn a_large_batch_is_decided(products: Products) {
    let stock = stocked(&products, &[400; 20]).await;
    let orders: Vec<OrderId> = (0..1_000).map(|_| id()).collect();
    let requests =
        orders.iter().enumerate().map(|(n, &order)| placed(order, &[(stock[n % 20], 1), (stock[(n + 1) % 20], 1)]));
    decide(&products.port, requests.collect()).await;
    assert_eq!(reserved(&products, &orders).await, 1_000);
    for product in stock {
        assert_eq!(available(&products, product).await, 300);
    }
}

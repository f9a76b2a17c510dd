//! Many buyers at once: stock is never oversold and never lost.

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;

use crate::support::{Account, TestApp, eventually, spawn_app};

/// Customers that share the orders of a crowd; an order needs no customer of its own to contend.
async fn customers(app: &TestApp, count: usize) -> Vec<Account> {
    stream::iter(0..count).map(|_| app.sign_up()).buffer_unordered(8).collect().await
}

fn count(orders: &[Value], status: &str) -> usize {
    orders.iter().filter(|order| order["order"]["status"] == status).count()
}

#[actix_rt::test]
async fn five_hundred_buyers_of_ten_pieces_buy_ten() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let buyers = customers(&app, 50).await;
    let orders: Vec<Value> = stream::iter(0..500)
        .map(|n| {
            let (app, buyer, product) = (&app, &buyers[n % buyers.len()], product.as_str());
            async move { app.place(buyer, &format!("rush-{n}"), &[(product, 1)], 30_000).await }
        })
        .buffer_unordered(500)
        .collect()
        .await;
    assert_eq!((count(&orders, "CONFIRMED"), count(&orders, "REJECTED")), (10, 490));
    let refused = orders.iter().filter(|order| order["userErrors"][0]["code"] == "INSUFFICIENT_STOCK").count();
    assert_eq!(refused, 490);
    assert_eq!(app.available(&product).await, 0);
}

#[actix_rt::test]
async fn two_line_orders_in_opposite_order_with_cancels_in_between_keep_the_books() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (left, right) = (app.create_product(&staff, 40).await, app.create_product(&staff, 40).await);
    let buyers = customers(&app, 20).await;
    let place = |n: usize| {
        let (app, buyer, left, right) = (&app, &buyers[n % buyers.len()], left.as_str(), right.as_str());
        async move {
            let lines = match n % 3 {
                0 => vec![(left, 1), (right, 1)],
                1 => vec![(right, 1), (left, 1)],
                // The same product on two lines counts as its sum.
                _ => vec![(left, 1), (left, 1)],
            };
            let order = app.place(buyer, &format!("pair-{n}"), &lines, 30_000).await;
            if n.is_multiple_of(5) && order["order"]["status"] == "CONFIRMED" {
                let cancel = "mutation($id: ID!) { orderCancel(id: $id) { order { status } userErrors { code } } }";
                let id = serde_json::json!({ "id": order["order"]["id"] });
                let cancelled = app.query(Some(&buyer.token), cancel, id).await;
                assert_eq!(cancelled["orderCancel"]["order"]["status"], "CANCELLED", "{cancelled}");
                return None;
            }
            Some((n, order))
        }
    };
    let orders: Vec<_> =
        stream::iter(0..300).map(place).buffer_unordered(100).filter_map(async |kept| kept).collect().await;
    let confirmed = orders.iter().filter(|(_, order)| order["order"]["status"] == "CONFIRMED");
    let (mut of_left, mut of_right) = (0, 0);
    for (n, _) in confirmed {
        of_left += if n % 3 == 2 { 2 } else { 1 };
        of_right += if n % 3 == 2 { 0 } else { 1 };
    }
    eventually("stock equals its opening minus what was confirmed", async || {
        let now = (app.available(&left).await, app.available(&right).await);
        (now == (40 - of_left, 40 - of_right)).then_some(())
    })
    .await;
}

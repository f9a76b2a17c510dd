//! Live orders over server-sent events: an `EventSource` that comes back goes on where it was.

use std::time::Duration;

use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::events::Events;
use crate::support::{Account, TestApp, spawn_app};

async fn follow(app: &TestApp, account: &Account, query: &str, variables: Value, seen: Option<&str>) -> Events {
    let body = json!({ "query": query, "variables": variables });
    let request = reqwest::Client::new().post(app.url("/graphql")).header(ACCEPT, "text/event-stream").json(&body);
    let request = request.bearer_auth(&account.token);
    let request = match seen {
        Some(seen) => request.header("last-event-id", seen),
        None => request,
    };
    Events::of(request.send().await.unwrap())
}

#[actix_rt::test]
async fn an_orders_stream_resumed_by_last_event_id_goes_on_with_the_next_change_whatever_after_says() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let customer = app.sign_up().await;
    let placed = app.place(&customer, "one", &[(&product, 1)], 10_000).await;
    let query = "subscription($id: ID!) { orderUpdated(id: $id, after: 0) { event { status } } }";
    let variables = json!({ "id": placed["order"]["id"] });
    let mut events = follow(&app, &customer, query, variables.clone(), None).await;
    let (id, update) = events.data().await;
    assert_eq!((id.as_deref(), &update["orderUpdated"]["event"]["status"]), (Some("1"), &json!("PENDING")));
    drop(events);
    let mut events = follow(&app, &customer, query, variables.clone(), Some("1")).await;
    let (id, update) = events.data().await;
    assert_eq!((id.as_deref(), &update["orderUpdated"]["event"]["status"]), (Some("2"), &json!("CONFIRMED")));
    let mut refused = follow(&app, &customer, query, variables, Some("no sequence")).await;
    let refusal = refused.next().await.unwrap().data;
    assert_eq!(refusal["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
}

#[actix_rt::test]
async fn all_orders_resumed_by_last_event_id_over_many_disconnects_miss_and_repeat_nothing() {
    const ORDERS: usize = 60;
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 1_000).await;
    let customer = app.sign_up().await;
    let query = "subscription { orderUpdates { order { id } event { sequence } } }";
    let mut events = follow(&app, &customer, query, json!({}), None).await;
    // The stream begins some time after its answer has: orders are placed until one is seen, and read to the last of them.
    let mut last_opening = Value::Null;
    let mut begun = false;
    for n in 0.. {
        if begun {
            break;
        }
        let placed = app.place(&customer, &format!("opening-{n}"), &[(&product, 1)], 10_000).await;
        last_opening = placed["order"]["id"].clone();
        begun = timeout(Duration::from_millis(200), events.peek()).await.is_ok();
    }
    let mut seen_last = None;
    while seen_last.is_none() {
        let (id, update) = events.data().await;
        let update = &update["orderUpdates"];
        let is_last = update["order"]["id"] == last_opening && update["event"]["sequence"] == 2;
        seen_last = id.filter(|_| is_last);
    }
    let mut events = follow(&app, &customer, query, json!({}), seen_last.as_deref()).await;
    let placing = async {
        for n in 0..ORDERS {
            app.place(&customer, &format!("steady-{n}"), &[(&product, 1)], 0).await;
        }
    };
    let watching = async {
        let mut seen = Vec::new();
        while seen.len() < 2 * ORDERS {
            let (id, update) = events.data().await;
            let update = &update["orderUpdates"];
            let order = update["order"]["id"].as_str().unwrap().to_owned();
            seen.push((order, update["event"]["sequence"].as_i64().unwrap()));
            if seen.len() % 3 == 0 {
                drop(events);
                events = follow(&app, &customer, query, json!({}), id.as_deref()).await;
            }
        }
        seen
    };
    let (seen, ()) = tokio::join!(watching, placing);
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), 2 * ORDERS, "every change came once");
}

//! What `/metrics` shows after traffic: every family, plausible values, a bounded number of series.

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use souk::domain::ids::{ProductId, TypedId, UserId};
use uuid::Uuid;

use crate::support::client::unique;
use crate::support::events::Events;
use crate::support::scrape::Scrape;
use crate::support::{Socket, TestApp, eventually, spawn_app};

/// More series than this an operator's Prometheus would feel.
const MOST_SERIES: usize = 2_000;

/// Families that a shop on embedded adapters shows after some traffic, whatever their value.
const FAMILIES: &[&str] = &[
    "souk_build_info",
    "souk_ready",
    "souk_dependency_up",
    "souk_dependency_answer_seconds",
    "souk_http_requests_total",
    "souk_http_requests_duration_seconds_count",
    "souk_graphql_operation_seconds_count",
    "souk_graphql_operations_failed_total",
    "souk_graphql_errors_total",
    "souk_gateway_sockets_open",
    "souk_gateway_subscriptions_open",
    "souk_gateway_subscription_messages_total",
    "souk_sign_in_queue_hashes",
    "souk_sign_in_refused_total",
    "souk_actor_up",
    "souk_actor_messages_handled_total",
    "souk_actor_messages_in_flight",
    "souk_actor_mailbox_depth",
    "souk_actor_handler_seconds_count",
    "souk_actor_panics_total",
    "souk_actor_freezes_total",
    "souk_actor_restarts_total",
    "souk_actor_escalations_total",
    "souk_actor_asks_failed_total",
    "souk_order_writer_batch_orders_count",
    "souk_order_writer_commit_seconds_count",
    "souk_order_verdict_seconds_count",
    "souk_orders_pending",
    "souk_orders_pending_oldest_seconds",
    "souk_outbox_events",
    "souk_outbox_oldest_seconds",
    "souk_outbox_events_published_total",
    "souk_outbox_events_refused_total",
    "souk_outbox_failures_total",
    "souk_consumer_events_handled_total",
    "souk_consumer_retries_total",
    "souk_consumer_lag_events",
    "souk_consumer_parked_events",
    "souk_consumer_waits_total",
    "souk_consumer_events_missed_total",
    "souk_dead_letters_total",
    "souk_notification_mails_total",
    "souk_notification_queue_depth",
    "souk_notification_queue_oldest_seconds",
    "souk_campaigns_launched_total",
    "souk_campaign_chunks_total",
    "souk_campaign_recipients_total",
    "souk_cache_hits_total",
    "souk_cache_misses_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_threads",
];

async fn launch_campaign(app: &TestApp, token: &str) {
    let input = json!({ "idempotencyKey": "spring", "subject": "Lamps", "message": "Half price." });
    let query = "mutation($input: CampaignLaunchInput!) { campaignLaunch(input: $input) { userErrors { code } } }";
    let launched = app.query(Some(token), query, json!({ "input": input })).await;
    assert_eq!(launched["campaignLaunch"]["userErrors"], json!([]));
}

#[actix_rt::test]
async fn a_scrape_after_traffic_shows_every_family_with_plausible_values() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (lamp, scarce) = (app.create_product(&staff, 100).await, app.create_product(&staff, 1).await);
    let customer = app.sign_up().await;
    let wants = "mutation { preferencesUpdate(input: { promotions: true }) { userErrors { code } } }";
    app.query(Some(&customer.token), wants, json!({})).await;
    for order in 0..3 {
        let placed = app.place(&customer, &format!("order {order}"), &[(&lamp, 1)], 10_000).await;
        assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
    }
    assert_eq!(app.place(&customer, "short", &[(&scarce, 2)], 10_000).await["order"]["status"], "REJECTED");
    for _ in 0..2 {
        app.available(&lamp).await;
    }
    app.answer(None, "{ me { id } }", json!({})).await;
    let refused = app.answer(None, "{ order(id: \"x\") { id } nonsense }", json!({})).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED", "{refused}");
    launch_campaign(&app, &staff.token).await;
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let follow = "subscription { orderUpdates { cursor } }";
    let updates = socket.subscribe(follow, json!({})).await;
    let stream = app.http.post(app.url("/graphql")).header("accept", "text/event-stream").bearer_auth(&customer.token);
    let mut stream = Events::of(stream.json(&json!({ "query": follow })).send().await.unwrap());
    eventually("both follow", async || {
        (Scrape::of(app.admin).await.value("souk_gateway_subscriptions_open") == 2.0).then_some(())
    })
    .await;
    app.place(&customer, "watched", &[(&lamp, 1)], 0).await;
    socket.data_of(&updates).await;
    stream.data().await;

    // The mails: of the sign-up, of five orders' verdicts, of the campaign.
    let scrape = eventually("everything is published, consumed and sent", async || {
        let scrape = Scrape::of(app.admin).await;
        let is_quiet = scrape.sum("souk_outbox_events") == Some(0.0)
            && scrape.sum("souk_consumer_lag_events") == Some(0.0)
            && scrape.sum("souk_orders_pending") == Some(0.0)
            && scrape.value("souk_notification_mails_total{outcome=\"sent\"}") >= 7.0
            && scrape.sum("souk_notification_queue_depth") == Some(0.0);
        is_quiet.then_some(scrape)
    })
    .await;
    let missing: Vec<_> = FAMILIES.iter().filter(|family| scrape.sum(family).is_none()).collect();
    assert!(missing.is_empty(), "no {missing:?} in:\n{}", scrape.text);
    for (series, expected) in [
        ("souk_ready", 1.0),
        ("souk_dependency_up{dependency=\"store.orders\"}", 1.0),
        ("souk_outbox_events{domain=\"operations\"}", 0.0),
        ("souk_graphql_operation_seconds_count{operation=\"orderPlace\"}", 5.0),
        ("souk_graphql_operation_seconds_count{operation=\"signUp\"}", 1.0),
        ("souk_graphql_operations_failed_total{fault=\"client\",operation=\"several\"}", 1.0),
        ("souk_graphql_errors_total{code=\"GRAPHQL_VALIDATION_FAILED\"}", 1.0),
        ("souk_gateway_sockets_open", 1.0),
        ("souk_gateway_subscriptions_open", 2.0),
        ("souk_sign_in_queue_hashes", 0.0),
        ("souk_order_writer_batch_orders_sum", 5.0),
        ("souk_order_verdict_seconds_count{status=\"CONFIRMED\"}", 4.0),
        ("souk_order_verdict_seconds_count{status=\"REJECTED\"}", 1.0),
        ("souk_outbox_oldest_seconds{domain=\"orders\"}", 0.0),
        ("souk_consumer_events_handled_total{group=\"inventory\",topic=\"order-events\"}", 5.0),
        ("souk_campaigns_launched_total{cause=\"staff\"}", 1.0),
        ("souk_campaign_recipients_total", 1.0),
    ] {
        assert!((scrape.value(series) - expected).abs() < f64::EPSILON, "{series}: {}", scrape.value(series));
    }
    for (series, least) in [
        ("souk_gateway_subscription_messages_total", 2.0),
        ("souk_actor_messages_handled_total{actor=\"orders\"}", 5.0),
        ("souk_actor_handler_seconds_count{actor=\"orders.writer\"}", 5.0),
        ("souk_outbox_events_published_total{domain=\"orders\"}", 10.0),
        ("souk_cache_hits_total{cache=\"documents\"}", 3.0),
        ("souk_cache_hits_total{cache=\"tokens\"}", 3.0),
        ("souk_cache_misses_total{cache=\"products\"}", 1.0),
        ("process_threads", 5.0),
    ] {
        assert!(scrape.value(series) >= least, "{series}: {}", scrape.value(series));
    }
    let verdicts = scrape.sum("souk_order_verdict_seconds_sum").unwrap();
    assert!(verdicts > 0.0 && verdicts < 60.0, "five verdicts took {verdicts} s");

    drop((socket, stream));
    for order in 0..2 {
        // The stream's end is noticed when there is something to tell.
        app.place(&customer, &format!("unwatched {order}"), &[(&lamp, 1)], 10_000).await;
    }
    eventually("socket and stream are gone", async || {
        let scrape = Scrape::of(app.admin).await;
        let open = scrape.value("souk_gateway_sockets_open") + scrape.value("souk_gateway_subscriptions_open");
        (open == 0.0).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn ten_thousand_names_of_clients_leave_few_series() {
    const REQUESTS: usize = 400;
    const IDS_A_REQUEST: usize = 25;
    let app = spawn_app().await;
    let staff = app.staff().await;
    app.create_product(&staff, 100).await;
    let before = Scrape::of(app.admin).await.len();
    let client = reqwest::Client::new();
    // Each request has an operation, a field, a path, a request id of its own, and asks for users and products of its own.
    let ask = async |number: usize| {
        let fields: String = (0..IDS_A_REQUEST)
            .map(|field| {
                let product = ProductId::from_uuid(Uuid::now_v7());
                let user = UserId::from_uuid(Uuid::now_v7());
                format!("p{field}: product(id: \"{product}\") {{ id }} u{field}: user(id: \"{user}\") {{ id }} ")
            })
            .collect();
        let query = format!("query Operation{number} {{ {fields} }}");
        let answer = app.answer(Some(&staff.token), &query, json!({})).await;
        assert_eq!(answer["data"]["p0"], Value::Null, "{answer}");
        app.answer(None, &format!("{{ field{number} }}"), json!({})).await;
        let path = app.url(&format!("/{}", unique("path")));
        let unknown = client.get(path).header("x-request-id", unique("request")).send().await.unwrap();
        assert_eq!(unknown.status(), 404);
    };
    stream::iter(0..REQUESTS).for_each_concurrent(8, ask).await;
    let customers = stream::iter(0..100).map(|_| app.sign_up()).buffer_unordered(8).collect::<Vec<_>>().await;
    assert_eq!(customers.len(), 100);

    let scrape = Scrape::of(app.admin).await;
    assert!(scrape.len() < MOST_SERIES, "{} series:\n{}", scrape.len(), scrape.text);
    let more = scrape.len() - before;
    assert!(more < 200, "{more} series more than before");
    for made_up in ["Operation1", "field1", "path-", "request-", "prd_", "usr_", "test.example"] {
        assert!(!scrape.text.contains(made_up), "{made_up} in:\n{}", scrape.text);
    }
}

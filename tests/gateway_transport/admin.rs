//! The admin listener.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::{Client, Method};
use serde_json::Value;
use souk::gateway::admin::{AdminServer, FaultKind, FaultSwitch, Health, Phase, Probe};

use crate::harness::eventually;

fn start(health: &Health, faults: Option<FaultSwitch>) -> AdminServer {
    let registry = prometheus::Registry::new();
    let counter = prometheus::IntCounter::new("souk_things_total", "Things.").unwrap();
    registry.register(Box::new(counter)).unwrap();
    start_with(health, Some(registry), faults)
}

fn start_with(health: &Health, registry: Option<prometheus::Registry>, faults: Option<FaultSwitch>) -> AdminServer {
    AdminServer::start(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        health.clone(),
        registry,
        Arc::new(|| Box::pin(async {})),
        faults,
    )
    .unwrap()
}

async fn ask(server: &AdminServer, method: Method, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", server.address());
    let answer = Client::new().request(method, url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[actix_web::test]
async fn where_nothing_is_counted_there_are_no_metrics() {
    let health = Health::default();
    let counting = start(&health, None);
    assert_eq!(ask(&counting, Method::GET, "/metrics").await.0, 200);
    let other = start_with(&health, None, None);
    assert_eq!(ask(&other, Method::GET, "/metrics").await.0, 404);
    assert_eq!(ask(&other, Method::GET, "/health/live").await.0, 200);
}

#[actix_web::test]
async fn readiness_tells_the_phase_and_each_dependency() {
    let health = Health::default();
    let (store_up, broker_up) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    for (name, required, up) in [("store.orders", true, &store_up), ("kafka", false, &broker_up)] {
        let up = Arc::clone(up);
        let check = Arc::new(move || {
            let up = up.load(Ordering::SeqCst);
            Box::pin(async move { up }) as futures_util::future::BoxFuture<'static, bool>
        });
        health.add_probe(Probe { name: name.into(), required, check });
    }
    let server = start(&health, None);
    let ready = async || {
        let (status, text) = ask(&server, Method::GET, "/health/ready").await;
        let report: Value = serde_json::from_str(&text).unwrap();
        (status, report["status"].as_str().unwrap().to_owned(), report)
    };
    assert_eq!(ask(&server, Method::GET, "/health/live").await.0, 200);
    assert_eq!(ready().await.1, "starting");
    assert_eq!(ready().await.0, 503);
    health.set_phase(Phase::Ready);
    let (status, text, report) = ready().await;
    assert_eq!((status, &*text), (200, "ready"));
    assert_eq!(report["dependencies"]["store.orders"]["state"], "up");
    assert!(report["dependencies"]["kafka"]["latencyMs"].is_number());
    broker_up.store(false, Ordering::SeqCst);
    let (status, text, report) = ready().await;
    assert_eq!((status, &*text, &report["dependencies"]["kafka"]["state"]), (200, "degraded", &Value::from("down")));
    store_up.store(false, Ordering::SeqCst);
    assert_eq!((ready().await.0, ready().await.1), (503, "unavailable".into()));
    health.set_phase(Phase::Draining);
    assert_eq!((ready().await.0, ready().await.1), (503, "draining".into()));
    health.set_phase(Phase::Escalated);
    health.set_phase(Phase::Draining);
    assert_eq!((ready().await.0, ready().await.1), (503, "escalated".into()));
    assert_eq!(ask(&server, Method::GET, "/health/live").await.0, 200);
}

#[actix_web::test]
async fn a_dependency_that_hangs_and_can_be_done_without_holds_no_report_up() {
    let health = Health::default();
    let answers = Arc::new(AtomicBool::new(true));
    let hangs = Arc::clone(&answers);
    let check = Arc::new(move || {
        let answers = hangs.load(Ordering::SeqCst);
        let check = async move { if answers { true } else { std::future::pending().await } };
        Box::pin(check) as futures_util::future::BoxFuture<'static, bool>
    });
    health.add_probe(Probe { name: "mail".into(), required: false, check });
    health.set_phase(Phase::Ready);
    let server = start(&health, None);
    let state = async || {
        let (status, text) = ask(&server, Method::GET, "/health/ready").await;
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200);
        (report["status"].as_str().unwrap().to_owned(), report["dependencies"]["mail"]["state"].clone())
    };
    answers.store(false, Ordering::SeqCst);
    assert_eq!(state().await, ("ready".into(), "unknown".into()), "it has never answered");
    answers.store(true, Ordering::SeqCst);
    assert_eq!(state().await, ("ready".into(), "up".into()));
    answers.store(false, Ordering::SeqCst);
    // As it was found last, until the probe has given up.
    assert_eq!(state().await, ("ready".into(), "up".into()));
    eventually("it is found to hang", async || state().await == ("degraded".into(), "down".into())).await;
}

#[actix_web::test]
async fn faults_are_queued_only_where_they_are_enabled() {
    let health = Health::default();
    let without = start(&health, None);
    for method in [Method::POST, Method::GET] {
        assert_eq!(ask(&without, method, "/faults/orders/panic").await.0, 404);
    }
    let queued = Arc::new(Mutex::new(Vec::new()));
    let switch: FaultSwitch = {
        let queued = Arc::clone(&queued);
        Arc::new(move |actor: &str, kind| {
            let known = ["orders", "orders.writer"].contains(&actor);
            if known {
                queued.lock().unwrap().push((actor.to_owned(), kind));
            }
            known
        })
    };
    let with = start(&health, Some(switch));
    let cases = [
        (Method::POST, "/faults/orders/panic", 202),
        (Method::POST, "/faults/orders.writer/freeze", 202),
        (Method::POST, "/faults/orders/fail-start", 202),
        (Method::POST, "/faults/orders/other", 404),
        (Method::POST, "/faults/nobody/panic", 404),
        (Method::GET, "/faults/orders/panic", 405),
        (Method::PUT, "/faults/orders/panic", 405),
        (Method::POST, "/faults/orders", 404),
    ];
    for (method, path, status) in cases {
        assert_eq!(ask(&with, method, path).await.0, status, "{path}");
    }
    let expected =
        [("orders", FaultKind::Panic), ("orders.writer", FaultKind::Freeze), ("orders", FaultKind::FailStart)];
    assert_eq!(*queued.lock().unwrap(), expected.map(|(actor, kind)| (actor.to_owned(), kind)));
}

#[actix_web::test]
async fn metrics_are_shown_and_other_methods_refused() {
    let server = start(&Health::default(), None);
    let (status, text) = ask(&server, Method::GET, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("souk_things_total 0"), "{text}");
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert_eq!(ask(&server, Method::POST, path).await.0, 405, "{path}");
    }
    assert_eq!(ask(&server, Method::GET, "/none").await.0, 404);
}

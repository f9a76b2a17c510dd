//! What becomes of a notification with each failure of its server, as its user and staff see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::*;
use crate::support::sink::{Answer, Sink, Turn, refused_address};
use crate::support::{TestApp, eventually, spawn_app_with};

const MAX_ATTEMPTS: i64 = 3;

async fn shop(uri: &str) -> TestApp {
    spawn_app_with(|config| {
        mails_to(config, uri);
        config.mail.deadline_ms = 500;
        config.notifications.max_attempts = u32::try_from(MAX_ATTEMPTS).unwrap();
        config.notifications.backoff_base_ms = 10;
        config.notifications.backoff_max_ms = 20;
    })
    .await
}

/// The one notification of an account, as staff see it.
async fn notification(shop: &TestApp, staff: &Account, of: &Account) -> Option<Value> {
    let query = "query($id: ID!) { user(id: $id) { notifications { nodes {
        id kind priority status attempts lastError subject body sentAt } } } }";
    let mut data = shop.query(Some(&staff.token), query, json!({ "id": of.id })).await;
    data["user"]["notifications"]["nodes"].get_mut(0).map(Value::take)
}

async fn becomes(shop: &TestApp, staff: &Account, of: &Account, status: &str) -> Value {
    eventually(&format!("{} is {status}", of.email), || async {
        notification(shop, staff, of).await.filter(|notification| notification["status"] == status)
    })
    .await
}

/// What `/health/ready` says, with 200, of the shop and of its mail.
async fn readiness(shop: &TestApp) -> (String, String) {
    let answer = reqwest::get(format!("http://{}/health/ready", shop.admin)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let report: Value = answer.json().await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&report["status"]), text(&report["dependencies"]["mail"]["state"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_a_server_has_its_outcome() {
    let seen = Mutex::new(HashMap::<String, u32>::new());
    let sink = Sink::scripted(move |turn| {
        let times = |to: &str| {
            let mut seen = seen.lock().unwrap();
            let times = seen.entry(to.to_owned()).or_default();
            *times += 1;
            *times
        };
        match turn {
            Turn::Recipient(to) if to.starts_with("later") && times(to) < 3 => Answer::Say("451 4.7.1 greylisted"),
            Turn::Recipient(to) if to.starts_with("never") => Answer::Say("451 4.2.1 not now"),
            Turn::Recipient(to) if to.starts_with("closing") && times(to) < 2 => Answer::Last("421 4.3.2 going down"),
            Turn::Recipient(to) if to.starts_with("gone") => Answer::Say("550 5.1.1 no such user"),
            Turn::Recipient(to) if to.starts_with("stalls") => Answer::Stall,
            Turn::Data(to) if to.starts_with("drops") && times(to) < 2 => Answer::Drop,
            Turn::Content(to) if to.starts_with("spam") => Answer::Say("554 5.7.1 spam"),
            _ => Answer::Usual,
        }
    })
    .await;
    let shop = shop(&sink.uri()).await;
    let staff = shop.staff().await;

    for (who, status, attempts, error) in [
        ("well", "SENT", 1, ""),
        ("later", "SENT", 3, ""),
        ("closing", "SENT", 2, ""),
        ("drops", "SENT", 2, ""),
        ("never", "DEAD", MAX_ATTEMPTS, "recipient (RCPT): the server answered 451 4.2.1"),
        ("stalls", "DEAD", MAX_ATTEMPTS, "recipient (RCPT): no answer within 500 ms"),
        ("gone", "DEAD", 1, "recipient (RCPT): the server answered 550 5.1.1"),
        ("spam", "DEAD", 1, "content: the server answered 554 5.7.1"),
    ] {
        let account = sign_up(&shop, &format!("{who}@test.example")).await;
        let notification = becomes(&shop, &staff, &account, status).await;
        assert_eq!(notification["attempts"], attempts, "{who}: {notification}");
        assert_eq!(notification["lastError"].as_str().unwrap_or_default(), error, "{who}: {notification}");
        assert_eq!(notification["sentAt"].is_string(), status == "SENT", "{who}");
        let arrived = sink.taken().into_iter().filter(|taken| taken.to == account.email).collect::<Vec<_>>();
        assert_eq!(arrived.len(), usize::from(status == "SENT"), "{who}");
        for mail in arrived {
            assert_eq!(mail.notification(), notification["id"].as_str().unwrap());
        }
    }
    let letters = eventually("the dead letters are there", || async {
        let query = "{ deadLetters(source: \"notifications\") { nodes { reason attempts key payload } } }";
        let data = shop.query(Some(&staff.token), query, json!({})).await;
        let letters = data["deadLetters"]["nodes"].as_array().unwrap().clone();
        (letters.len() == 4).then_some(letters)
    })
    .await;
    for letter in letters {
        assert!(!letter.to_string().contains("test.example"), "no address: {letter}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_reached_costs_no_attempt_of_the_few_that_there_are() {
    let busy = Arc::new(AtomicBool::new(true));
    let own = Arc::clone(&busy);
    let sink = Sink::scripted(move |turn| match turn {
        Turn::Greeting if own.load(Ordering::SeqCst) => Answer::Last("421 4.3.2 busy"),
        _ => Answer::Usual,
    })
    .await;
    let shop = shop(&sink.uri()).await;
    let staff = shop.staff().await;
    let account = sign_up(&shop, "patient@test.example").await;
    let tried = eventually("it was tried more often than a refused mail would be", || async {
        notification(&shop, &staff, &account).await.filter(|one| one["attempts"].as_i64() > Some(MAX_ATTEMPTS + 2))
    })
    .await;
    assert_eq!(tried["status"], "QUEUED", "{tried}");
    assert_eq!(tried["lastError"], "connection: the server answered 421 4.3.2");
    assert_eq!(readiness(&shop).await, ("degraded".into(), "down".into()));
    busy.store(false, Ordering::SeqCst);
    becomes(&shop, &staff, &account, "SENT").await;
    assert_eq!(readiness(&shop).await, ("ready".into(), "up".into()));
    let arrived = sink.taken().into_iter().filter(|taken| taken.to == account.email).count();
    assert_eq!(arrived, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_without_its_mail_server_starts_serves_and_keeps_the_mail() {
    let shop = shop(&format!("smtp://{}?tls=none", refused_address().await)).await;
    let staff = shop.staff().await;
    let account = sign_up(&shop, "patient@test.example").await;
    let tried = eventually("it was tried often", || async {
        notification(&shop, &staff, &account).await.filter(|one| one["attempts"].as_i64() > Some(MAX_ATTEMPTS + 2))
    })
    .await;
    assert_eq!(tried["status"], "QUEUED", "{tried}");
    assert!(tried["lastError"].as_str().unwrap().starts_with("connection: "), "{tried}");
    assert_eq!(readiness(&shop).await, ("degraded".into(), "down".into()));
}

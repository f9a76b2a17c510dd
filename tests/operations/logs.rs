//! What the log says of a request can be found by its ids, and its client knows them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::process::{ShopProcess, run};
use crate::support::{PASSWORD, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[actix_rt::test]
async fn every_line_about_a_request_and_every_error_of_its_answer_has_its_ids() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let created = ["admin", "create", "--email", "a@test.example", "--name", "A", "--password-stdin"];
    let (code, _, stderr) = run(&data, &created, &[("SOUK__AUTH__BCRYPT_COST", "4")], PASSWORD);
    assert_eq!(code, 0, "{stderr}");
    let settings = [("SOUK__FAULTS__ENABLED", "true"), ("SOUK__SUPERVISION__ASK_TIMEOUT_MS", "300")];
    let shop = ShopProcess::start(&data, &settings);
    let client = shop.client();
    let admin = client.sign_in("a@test.example", PASSWORD).await;
    let fault = format!("http://{}/faults/users/freeze", shop.admin);
    assert_eq!(client.http.post(fault).send().await.unwrap().status(), 202);

    // The users actor stands still until its freeze is noticed.
    let answer = eventually("a question is not answered in time", async || {
        let query = json!({ "query": "{ me { name } users(first: 1) { totalCount } }" });
        let asked = client.http.post(client.url("/graphql")).bearer_auth(&admin.token).json(&query);
        let asked = asked
            .header("x-request-id", "the-slow-one")
            .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
        let answer: Value = asked.send().await.unwrap().json().await.unwrap();
        answer["errors"].is_array().then_some(answer)
    })
    .await;
    for error in answer["errors"].as_array().unwrap() {
        let extensions = &error["extensions"];
        assert_eq!(
            (&extensions["requestId"], &extensions["traceId"]),
            (&json!("the-slow-one"), &json!(TRACE)),
            "{answer}"
        );
    }
    let unnamed = client.answer(None, "{ nonsense }", json!({})).await;
    let made_up = unnamed["errors"][0]["extensions"]["traceId"].as_str().unwrap().to_owned();
    assert_eq!(made_up.len(), 32, "{unnamed}");
    assert_ne!(made_up, TRACE);

    let exit = {
        shop.signal("TERM");
        shop.wait(Duration::from_secs(60))
    };
    let lines: Vec<Value> = exit
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON beside a terminal: {line}")))
        .collect();
    let unanswered = |line: &&Value| line["message"].as_str().is_some_and(|message| message.starts_with("could not"));
    let told: Vec<&Value> = lines.iter().filter(unanswered).collect();
    assert!(!told.is_empty(), "{}", exit.stderr);
    for line in told {
        let spans = line["spans"].as_array().unwrap_or_else(|| panic!("about no request: {line}"));
        let named = |span: &&Value| span["request_id"] == "the-slow-one" && span["trace_id"] == TRACE;
        assert!(spans.iter().any(|span| named(&span)), "{line}");
    }
}

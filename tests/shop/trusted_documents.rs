//! A shop that executes known documents only.

use std::fs;

use serde_json::{Value, json};
use souk::gateway::persisted_queries::{hash_digits, hash_of};

use crate::support::process::run;
use crate::support::{Socket, TestApp, spawn_app_with};

const NAMES: &str = "query Names { categories { name } }";
const STOCK: &str = "subscription Stock($ids: [ID!]!) { stockChanged(productIds: $ids) { available } }";

/// A folder with both, and the shop that trusts it.
async fn shop() -> (TestApp, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("inner")).unwrap();
    fs::write(dir.path().join("names.graphql"), format!("{NAMES}\n")).unwrap();
    fs::write(dir.path().join("inner/stock.graphql"), STOCK).unwrap();
    let folder = dir.path().to_owned();
    (spawn_app_with(|config| config.gateway.trusted_documents = folder).await, dir)
}

fn named(text: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash_digits(&hash_of(text)) } })
}

async fn post(app: &TestApp, body: &Value) -> Value {
    app.http.post(app.url("/graphql")).json(body).send().await.unwrap().json().await.unwrap()
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("")
}

#[actix_rt::test]
async fn only_documents_known_by_text_or_hash_are_executed() {
    let (app, _dir) = shop().await;
    let executed = json!({ "data": { "categories": [] } });
    for body in [
        json!({ "query": NAMES }),
        json!({ "query": format!("{NAMES}\n") }),
        json!({ "extensions": named(NAMES) }),
        json!({ "query": NAMES, "operationName": "Names", "extensions": named(NAMES) }),
    ] {
        assert_eq!(post(&app, &body).await, executed, "{body}");
    }
    let by_get = app.http.get(app.url("/graphql")).query(&[("extensions", named(NAMES).to_string())]);
    assert_eq!(by_get.send().await.unwrap().json::<Value>().await.unwrap(), executed);

    for text in
        ["{ categories { name } }", "{ __typename }", "{", &NAMES.replace(' ', "  "), &format!("{NAMES} # more")]
    {
        let refused = post(&app, &json!({ "query": text })).await;
        assert_eq!((code(&refused), refused.get("data")), ("DOCUMENT_NOT_TRUSTED", None), "{text}");
        assert_eq!(code(&post(&app, &json!({ "extensions": named(text) })).await), "DOCUMENT_NOT_TRUSTED", "{text}");
        let both = json!({ "query": text, "extensions": named(text) });
        for _ in 0..2 {
            assert_eq!(code(&post(&app, &both).await), "DOCUMENT_NOT_TRUSTED", "{text} cannot be brought in");
        }
    }
    let mismatch = json!({ "query": "{ __typename }", "extensions": named(NAMES) });
    assert_eq!(code(&post(&app, &mismatch).await), "BAD_USER_INPUT");
    let graphiql = app.http.get(app.url("/graphiql")).send().await.unwrap();
    assert_eq!(graphiql.status().as_u16(), 404);
}

#[actix_rt::test]
async fn a_socket_executes_no_other_documents_either() {
    let (app, _dir) = shop().await;
    let mut socket = Socket::connect(app.public, None).await;
    let other = socket.subscribe(&STOCK.replace("available", "id"), json!({ "ids": [] })).await;
    let refused = socket.next_of(&other).await.unwrap();
    assert_eq!(
        (&refused["type"], &refused["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("DOCUMENT_NOT_TRUSTED"))
    );
    // Executed, and refused for its input.
    let known = socket.subscribe(STOCK, json!({ "ids": [] })).await;
    let executed = socket.next_of(&known).await.unwrap();
    assert_eq!(executed["payload"][0]["extensions"]["code"], "BAD_USER_INPUT", "{executed}");
}

#[actix_rt::test]
async fn the_manifest_of_a_folder_is_printed_and_a_wrong_one_stops_the_start() {
    let (app, dir) = shop().await;
    drop(app);
    let folder = dir.path().to_str().unwrap();
    let data = dir.path().join("data");
    let (code, manifest, stderr) = run(&data, &["documents", "manifest", folder], &[], "");
    assert_eq!(code, 0, "{stderr}");
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest, json!({ hash_digits(&hash_of(NAMES)): NAMES, hash_digits(&hash_of(STOCK)): STOCK }));

    let wrong = dir.path().join("wrong.json");
    fs::write(&wrong, json!({ hash_digits(&hash_of(NAMES)): STOCK }).to_string()).unwrap();
    let settings = [
        ("SOUK__GATEWAY__TRUSTED_DOCUMENTS", wrong.to_str().unwrap()),
        ("SOUK__DEMO", "false"),
        ("SOUK__GATEWAY__LISTEN", "127.0.0.1:0"),
        ("SOUK__ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    let (code, _, stderr) = run(&data, &["serve"], &settings, "");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("wrong.json") && stderr.contains("is not the SHA-256 of its text"), "{stderr}");
}

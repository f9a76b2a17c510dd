//! `souk dead-letters` beside a running shop: the same letters as the API's, by the ids of either.

use serde_json::{Value, json};

use super::scene::{emit, nonsense};
use crate::support::client::{Account, Client};
use crate::support::process::{ShopProcess, run};
use crate::support::{PASSWORD, eventually};

/// The API's id of the open letter.
async fn open_letter(client: &Client, staff: &Account) -> String {
    let query = "{ deadLetters { nodes { id replayedAt discardedAt } } }";
    eventually("there is an open letter", async || {
        let listed = client.query(Some(&staff.token), query, json!({})).await;
        let letters = listed["deadLetters"]["nodes"].as_array().unwrap().clone();
        let open = letters.iter().find(|letter| letter["replayedAt"].is_null() && letter["discardedAt"].is_null());
        open.and_then(|letter| letter["id"].as_str()).map(str::to_owned)
    })
    .await
}

#[actix_rt::test]
async fn letters_are_settled_on_the_command_line_by_its_ids_and_by_those_of_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let admin = ["admin", "create", "--email", "boss@test.example", "--name", "Boss", "--password-stdin"];
    let (code, _, stderr) = run(&data, &admin, &[("SOUK__AUTH__BCRYPT_COST", "4")], PASSWORD);
    assert_eq!(code, 0, "{stderr}");
    let shop = ShopProcess::start(&data, &[]);
    let client = shop.client();
    let staff = client.sign_in("boss@test.example", PASSWORD).await;
    let command = |arguments: &[&str]| run(&data, &[&["dead-letters"], arguments].concat(), &[], "");
    let listed = |arguments: &[&str]| -> Vec<Value> {
        let (code, stdout, stderr) = command(&[&["list", "--json"], arguments].concat());
        assert_eq!(code, 0, "{stderr}");
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };

    emit(&data, nonsense(json!("no order"))).await;
    let first = open_letter(&client, &staff).await;
    let known = listed(&["--source", "inventory"]).remove(0)["id"].as_str().unwrap().to_owned();
    for (what, id) in [("replay", "dlt_bm90aGluZw"), ("discard", "nothing")] {
        let (code, _, stderr) = command(&[what, id]);
        assert_eq!((code, stderr.trim()), (2, "souk: there is no dead letter nothing"), "{what}");
    }
    let (code, stdout, stderr) = command(&["replay", &first]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("replayed") && stdout.contains("by command line"), "{stdout}");

    // What is none fails again: another letter.
    let second = open_letter(&client, &staff).await;
    assert_ne!(first, second);
    let open: Vec<_> = listed(&[]).iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    for id in open {
        assert_ne!(id, known);
        let (code, stdout, stderr) = command(&["discard", &id]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.starts_with(&id) && stdout.contains("discarded"), "{stdout}");
    }
    let (code, stdout, _) = command(&["list"]);
    assert_eq!((code, stdout.trim()), (0, "0 dead letters"));
    assert!(listed(&["--all"]).len() >= 2);
}

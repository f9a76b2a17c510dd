//! Events that failed for good, as staff see them: browsed, watched, sent back, given up.

use serde_json::{Value, json};
use souk::domain::events::{PendingEvent, Topic, event_type, source};
use souk::domain::time::Timestamp;
use souk::store::consumption::Consumption;

use crate::support::{Account, Socket, TestApp, eventually, spawn_app};

const LETTER: &str = "id source reason attempts key payload headers { name value } failedAt replayedAt replayedBy
    discardedAt discardedBy";

/// Puts an event into the orders' outbox, as a process of another version might, that no group can read. The outbox has
/// room for one event of a key and sequence, until it is published.
async fn emit_nonsense(app: &TestApp, key: &str, sequence: i64) {
    let body = json!({ "nonsense": key });
    let (topic, kind) = (Topic::OrderEvents, event_type::ORDER_PLACED);
    let event = PendingEvent::new(topic, source::ORDERS, kind, key.to_owned(), sequence, Timestamp(1), &body);
    let emitted = Consumption { group: "nobody".into(), dead_letters: vec![event], ..Consumption::default() };
    app.stores.order_consumption.consume(emitted).await.unwrap();
}

async fn letters(app: &TestApp, staff: &Account, source: &str) -> Vec<Value> {
    let query =
        format!("query($source: String) {{ deadLetters(source: $source) {{ totalCount nodes {{ {LETTER} }} }} }}");
    let data = app.query(Some(&staff.token), &query, json!({ "source": source })).await;
    let nodes = data["deadLetters"]["nodes"].as_array().unwrap().clone();
    assert_eq!(data["deadLetters"]["totalCount"], nodes.len());
    nodes
}

async fn settle(app: &TestApp, staff: &Account, mutation: &str, ids: &[&Value]) -> Value {
    let query = format!(
        "mutation($ids: [ID!]!) {{ {mutation}(ids: $ids) {{ deadLetters {{ {LETTER} }} userErrors {{ code field }} }} }}"
    );
    app.query(Some(&staff.token), &query, json!({ "ids": ids })).await[mutation].take()
}

#[actix_rt::test]
async fn an_event_that_failed_for_good_is_seen_with_all_that_it_carried() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    emit_nonsense(&app, "order-1", 1).await;
    let found = eventually("the letter is kept", async || letters(&app, &staff, "inventory").await.pop()).await;
    assert_eq!((&found["source"], &found["key"]), (&json!("inventory"), &json!("order-1")));
    assert_eq!(found["payload"], json!({ "nonsense": "order-1" }).to_string());
    assert_eq!(found["attempts"], 1, "what cannot be read is not tried again");
    assert!(found["reason"].as_str().unwrap().contains(event_type::ORDER_PLACED), "{found}");
    let header = |name: &str| {
        let headers = found["headers"].as_array().unwrap();
        headers.iter().find(|header| header["name"] == name).map(|header| header["value"].clone())
    };
    assert_eq!(header("ce_type"), Some(json!(event_type::ORDER_PLACED)));
    assert_eq!(header("ce_id"), Some(json!("order-1-1")));
    for name in ["replayedAt", "replayedBy", "discardedAt", "discardedBy"] {
        assert_eq!(found[name], Value::Null, "{name}");
    }
    assert_eq!(letters(&app, &staff, "orders").await, Vec::<Value>::new(), "only the group that failed");
    let node = format!("query($id: ID!) {{ node(id: $id) {{ __typename ... on DeadLetter {{ {LETTER} }} }} }}");
    let by_id = async |token: &str| app.query(Some(token), &node, json!({ "id": found["id"] })).await["node"].take();
    let mut seen = by_id(&staff.token).await;
    assert_eq!(seen.as_object_mut().unwrap().remove("__typename"), Some(json!("DeadLetter")));
    assert_eq!(seen, found);
    let customer = app.sign_up().await;
    assert_eq!(by_id(&customer.token).await, Value::Null);
}

#[actix_rt::test]
async fn a_letter_goes_back_once_and_is_a_new_one_when_it_fails_again() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    emit_nonsense(&app, "order-1", 1).await;
    let first = eventually("the letter is kept", async || letters(&app, &staff, "inventory").await.pop()).await;
    let replayed = settle(&app, &staff, "deadLetterReplay", &[&first["id"]]).await;
    assert_eq!(replayed["userErrors"], json!([]));
    assert_eq!(replayed["deadLetters"][0]["replayedBy"], json!(staff.id));
    assert!(replayed["deadLetters"][0]["replayedAt"].is_string());
    let both = eventually("it failed again", async || {
        let found = letters(&app, &staff, "inventory").await;
        (found.len() == 2).then_some(found)
    })
    .await;
    assert_ne!(both[0]["id"], first["id"]);
    assert_eq!((&both[0]["payload"], &both[0]["replayedAt"]), (&first["payload"], &Value::Null));

    // Again, with itself and with one that there is not: the same answer, one effect, and one refusal.
    let missing = json!("dlt_YQ");
    let again = settle(&app, &staff, "deadLetterReplay", &[&first["id"], &missing, &first["id"]]).await;
    assert_eq!(again["deadLetters"], replayed["deadLetters"]);
    assert_eq!(again["userErrors"], json!([{ "code": "NOT_FOUND", "field": ["ids", "1"] }]));

    let discarded = settle(&app, &staff, "deadLetterDiscard", &[&both[0]["id"]]).await;
    assert_eq!(discarded["userErrors"], json!([]));
    assert_eq!(discarded["deadLetters"][0]["discardedBy"], json!(staff.id));
    assert!(discarded["deadLetters"][0]["discardedAt"].is_string());
    let twice = settle(&app, &staff, "deadLetterDiscard", &[&both[0]["id"]]).await;
    assert_eq!(twice, discarded);
    let refused = settle(&app, &staff, "deadLetterReplay", &[&both[0]["id"]]).await;
    assert_eq!(refused, json!({ "deadLetters": [], "userErrors": [{ "code": "CONFLICT", "field": ["ids", "0"] }] }));

    // Whatever was sent back has arrived before this one.
    emit_nonsense(&app, "order-1", 2).await;
    let all = eventually("a later event failed too", async || {
        let found = letters(&app, &staff, "inventory").await;
        (found.len() > 2).then_some(found)
    })
    .await;
    assert_eq!(all.len(), 3, "one replay, one letter of the next round");
}

#[actix_rt::test]
async fn new_letters_are_pushed_once_and_in_order() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    emit_nonsense(&app, "before", 1).await;
    eventually("the letter is kept", async || letters(&app, &staff, "inventory").await.pop()).await;
    let mut socket = Socket::connect(app.public, Some(&staff.token)).await;
    let stream = socket.subscribe("subscription { deadLetterAdded { key } }", json!({})).await;
    // The subscription has no first message: letters come one after the other until some are seen.
    let emitting = async {
        for n in 1_u64.. {
            let key = n.to_string();
            emit_nonsense(&app, &key, 1).await;
            let is_newest = async || (letters(&app, &staff, "inventory").await[0]["key"] == key.as_str()).then_some(());
            eventually("the letter is kept", is_newest).await;
        }
    };
    let watching = async {
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < 4 {
            let letter = socket.data_of(&stream).await["deadLetterAdded"].take();
            seen.push(letter["key"].as_str().unwrap().parse().expect("nothing from before is sent"));
        }
        seen
    };
    let seen = tokio::select! {
        seen = watching => seen,
        () = emitting => panic!("letters come without end"),
    };
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "none missed, none twice: {seen:?}");
}

//! API keys: those that are not made, not revoked, and not taken for one.

use serde_json::{Value, json};

use crate::row::{Row, field_error, refused, request_error, user_error};
use crate::world::World;

const CREATE: &str = "mutation($input: ApiKeyCreateInput!) { apiKeyCreate(input: $input) {
    apiKey { id } secret userErrors { code message field } } }";
const REVOKE: &str = "mutation($id: ID!) { apiKeyRevoke(id: $id) { apiKey { id } userErrors { code message field } } }";

#[actix_rt::test]
async fn keys_refuse_bad_input_strangers_and_forgeries() {
    let world = World::new().await;
    let (customer, stranger) = (Some(world.customer.token.as_str()), Some(world.stranger.token.as_str()));
    let good = json!({ "name": "Machine", "scopes": ["ORDERS_READ"] });
    let made = world.app.query(customer, CREATE, json!({ "input": good })).await["apiKeyCreate"].take();
    let (id, secret) = (made["apiKey"]["id"].clone(), made["secret"].as_str().unwrap().to_owned());
    let with = |field: &str, value: Value| {
        let mut input = good.clone();
        input[field] = value;
        json!({ "input": input })
    };
    let mut rows = Vec::new();
    let mut create = |name: &str, by: Option<&str>, variables: Value, expected| {
        rows.push(Row::post(&format!("apiKeyCreate: {name}"), by, CREATE, variables, expected));
    };
    for (name, text) in [
        ("empty", String::new()),
        ("blank", "   ".into()),
        ("101 characters", "é".repeat(101)),
        ("NUL", "A\0".into()),
        ("tab", "A\tB".into()),
    ] {
        let expected = user_error("INVALID_INPUT", "input.name");
        create(&format!("{name} name"), customer, with("name", json!(text)), expected);
    }
    create("no scopes", customer, with("scopes", json!([])), user_error("INVALID_INPUT", "input.scopes"));
    for scope in ["CATALOGUE_WRITE", "CAMPAIGNS", "OPERATIONS"] {
        let expected = user_error("INVALID_INPUT", "input.scopes");
        create(&format!("{scope} of a customer"), customer, with("scopes", json!(["ORDERS_READ", scope])), expected);
    }
    for expiry in ["2020-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z"] {
        let expected = user_error("INVALID_INPUT", "input.expiresAt");
        create(&format!("expires {expiry}"), customer, with("expiresAt", json!(expiry)), expected);
    }
    for (field, value) in [
        ("scopes", json!(["EVERYTHING"])),
        ("scopes", json!([null])),
        ("scopes", Value::Null),
        ("name", Value::Null),
        ("name", json!(5)),
        ("expiresAt", json!("tomorrow")),
        ("expiresAt", json!(1_800_000_000)),
        ("userId", json!(world.stranger.id)),
    ] {
        let name = format!("{field} is {value}");
        create(&name, customer, with(field, value), request_error("BAD_USER_INPUT"));
    }
    create("anonymous", None, json!({ "input": good }), field_error("UNAUTHENTICATED", ""));
    create("by a key", Some(&secret), json!({ "input": good }), field_error("FORBIDDEN", ""));

    let mut revoke = |name: &str, by: Option<&str>, id: Value, expected| {
        rows.push(Row::post(&format!("apiKeyRevoke: {name}"), by, REVOKE, json!({ "id": id }), expected));
    };
    for (name, id) in [
        ("missing", json!("key_00000000000000000000000001")),
        ("malformed", json!("key_x")),
        ("empty", json!("")),
        ("NUL", json!("\0")),
        ("of an order", json!(world.order)),
        ("the prefix", json!(secret[..31])),
        ("foreign", id.clone()),
    ] {
        revoke(&format!("{name} id"), stranger, id, user_error("NOT_FOUND", "id"));
    }
    revoke("a null id", customer, Value::Null, request_error("BAD_USER_INPUT"));
    revoke("anonymous", None, id.clone(), field_error("UNAUTHENTICATED", ""));
    revoke("by itself", Some(&secret), id, field_error("FORBIDDEN", ""));

    let (start, random) = secret.split_at(secret.len() - 43);
    for (name, token) in [
        ("cut short", secret[..secret.len() - 1].to_owned()),
        ("with something behind", format!("{secret}A")),
        ("in capitals", secret.to_uppercase()),
        ("of another id", format!("souk_00000000000000000000000001_{random}")),
        ("with another secret", format!("{start}{}", "A".repeat(43))),
        ("its start", start.to_owned()),
        ("its secret", random.to_owned()),
        ("its id", secret.replacen("souk_", "key_", 1)),
        ("NUL's base64", "souk_".to_owned() + &"A".repeat(70)),
        ("4,000 characters", "souk_".to_owned() + &"0".repeat(4_000)),
    ] {
        let query = "{ me { id } }";
        let expected = refused(401, "UNAUTHENTICATED");
        rows.push(Row::post(&format!("an API key {name}"), Some(&token), query, json!({}), expected));
    }
    world.judge(&rows).await;
}

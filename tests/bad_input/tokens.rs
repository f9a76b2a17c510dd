//! Tokens that are not good, and operations that do not care.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use souk::actors::clock::now;
use souk::actors::users::key_ring::KeyMaterial;
use souk::actors::users::keys::stored_keys;
use souk::actors::users::tokens::AccessTokens;
use souk::domain::ids::{SessionId, TypedId, UserId};
use souk::domain::users::Role;
use uuid::Uuid;

use crate::row::{Row, refused, user_error};
use crate::support::PASSWORD;
use crate::support::client::ORDER_PLACE;
use crate::world::World;

/// The customer's token with its parts changed.
fn forged(
    token: &str,
    header: Option<serde_json::Value>,
    change: impl FnOnce(&mut serde_json::Value),
    signed: bool,
) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let part = |at: usize| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[at]).unwrap()).unwrap()
    };
    let mut claims = part(1);
    change(&mut claims);
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", encode(header.unwrap_or_else(|| part(0))), encode(claims), if signed { parts[2] } else { "" })
}

#[actix_rt::test]
async fn a_bad_token_makes_a_request_unauthenticated() {
    let world = World::new().await;
    let token = world.customer.token.as_str();
    let auth = &world.app.config.auth;
    let keys = stored_keys(world.app.stores.users.as_ref(), "").await.unwrap();
    let ours = AccessTokens::new(&keys, &auth.issuer, &auth.audience, 900).unwrap();
    let claims = ours.verify(token).unwrap().claims;
    let (user, session, epoch) = (claims.sub, claims.sid, claims.epoch);
    let sign =
        |tokens: &AccessTokens, ago: i64| tokens.sign(user, session, Role::Admin, epoch, now().plus_millis(-ago)).0;
    let made = |keys: &[KeyMaterial], issuer: &str, audience: &str| {
        sign(&AccessTokens::new(keys, issuer, audience, 900).unwrap(), 0)
    };
    let nobody = (UserId::from_uuid(Uuid::nil()), SessionId::from_uuid(Uuid::nil()));
    let none = json!({ "alg": "none", "typ": "at+jwt", "kid": "x" });
    let hs256 = json!({ "alg": "HS256", "typ": "at+jwt", "kid": claims.jti });
    let to_admin = |claims: &mut serde_json::Value| claims["role"] = json!("ADMIN");
    let tokens = [
        ("broken", "abc".to_owned()),
        ("three empty parts", "..".into()),
        ("cut short", token[..token.len() - 4].into()),
        ("expired", sign(&ours, 3_600_000)),
        ("not yet valid", sign(&ours, -3_600_000)),
        ("of another key", made(&[KeyMaterial::generate()], &auth.issuer, &auth.audience)),
        ("of another issuer", made(&keys, "elsewhere", &auth.audience)),
        ("of another audience", made(&keys, &auth.issuer, "elsewhere")),
        ("alg none", forged(token, Some(none), |_| (), false)),
        ("alg HS256", forged(token, Some(hs256), to_admin, true)),
        ("changed claims", forged(token, None, to_admin, true)),
        ("without a signature", forged(token, None, |_| (), false)),
        ("of no session", ours.sign(nobody.0, nobody.1, Role::Admin, 0, now()).0),
        ("of another user's session", ours.sign(nobody.0, session, Role::Admin, epoch, now()).0),
        ("of another epoch", ours.sign(user, session, Role::Admin, epoch + 1, now()).0),
        ("a refresh token", world.customer.refresh_token.clone()),
        ("8,000 characters", "x".repeat(8_000)),
    ];
    let mut rows = Vec::new();
    let order = json!({ "input": { "idempotencyKey": "t", "lines": [{ "productId": world.product, "quantity": 1 }] } });
    for (name, token) in &tokens {
        let unauthenticated = || refused(401, "UNAUTHENTICATED");
        rows.push(Row::post(&format!("token: {name}"), Some(token), ORDER_PLACE, order.clone(), unauthenticated()));
        rows.push(Row::post(
            &format!("token: {name}, public query"),
            Some(token),
            "{ categories { name } }",
            json!({}),
            unauthenticated(),
        ));
    }
    let body = json!({ "query": "{ me { id } }" }).to_string();
    for (name, value) in
        [("another scheme", "Basic YTpi"), ("no scheme", token), ("no token", "Bearer"), ("two words", "Bearer a b")]
    {
        let headers = [("content-type", "application/json"), ("authorization", value)];
        rows.push(Row::raw(
            &format!("authorization: {name}"),
            &headers,
            body.as_bytes(),
            refused(401, "UNAUTHENTICATED"),
        ));
    }
    let twice = [("content-type", "application/json"), ("authorization", "Bearer a"), ("authorization", "Bearer b")];
    rows.push(Row::raw("authorization: twice", &twice, body.as_bytes(), refused(401, "UNAUTHENTICATED")));

    // What signs in takes no notice of a stale token.
    let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken } userErrors { code message field } } }";
    let input = json!({ "input": { "email": world.customer.email, "password": format!("{PASSWORD}!") } });
    rows.push(Row::post(
        "signIn: with an expired token",
        Some(&tokens[3].1),
        sign_in,
        input.clone(),
        user_error("INVALID_CREDENTIALS", ""),
    ));
    let mixed = "mutation($input: SignInInput!) { signIn(input: $input) { userErrors { code } } preferencesUpdate(input: {}) { userErrors { code } } }";
    rows.push(Row::post(
        "signIn and more: with an expired token",
        Some(&tokens[3].1),
        mixed,
        input,
        refused(401, "UNAUTHENTICATED"),
    ));
    world.judge(&rows).await;
}

//! `/.well-known/jwks.json`: the public halves of the keys that sign access tokens (RFC 7517, RFC 8037), for services that
//! check tokens themselves. A key stands there before it signs, and until what it signed is accepted no more.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::http::Transport;
use crate::actors::clock::now;
use crate::actors::users::key_ring::PublicKey;

/// `GET /.well-known/jwks.json`
pub(super) async fn key_set(transport: web::Data<Transport>) -> HttpResponse {
    let max_age = transport.service.settings.key_set_max_age.as_secs();
    let keys: Vec<Value> = transport.service.auth.keys().public_keys(now()).iter().map(jwk).collect();
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/jwk-set+json"))
        .insert_header((header::CACHE_CONTROL, format!("public, max-age={max_age}")))
        .body(json!({ "keys": keys }).to_string())
}

fn jwk(key: &PublicKey) -> Value {
    json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
        "kid": key.id.to_string(),
        "x": URL_SAFE_NO_PAD.encode(key.bytes),
    })
}

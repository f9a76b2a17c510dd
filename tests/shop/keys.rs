//! Signing keys: rotated beside a serving shop, and their public halves for everybody.

use std::collections::HashSet;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use serde_json::{Value, json};

use crate::support::process::{ShopProcess, souk};
use crate::support::{Account, Client, PASSWORD, Socket, TestApp, eventually, spawn_app_with};

const ME: &str = "{ me { email } }";
const REFRESH: &str = "mutation($token: String!) { tokenRefresh(refreshToken: $token) {
    session { accessToken refreshToken } userErrors { code } } }";

/// How often the keys are changed under load.
const ROTATIONS: usize = 20;

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

fn kid(token: &str) -> String {
    part(token, 0)["kid"].as_str().unwrap().to_owned()
}

async fn quick_shop() -> TestApp {
    spawn_app_with(|config| {
        config.limits.enabled = false;
        config.auth.key_refresh_ms = 50;
    })
    .await
}

/// As `souk keys rotate` does it; the id of the new key.
async fn rotate(app: &TestApp, overlap_seconds: Option<u32>) -> String {
    souk::app::rotate_keys(&app.config, overlap_seconds).await.unwrap()[0].id.to_string()
}

async fn signs(app: &TestApp, account: &Account, key: &str) {
    eventually("the new key signs", async || {
        (kid(&app.sign_in(&account.email, PASSWORD).await.token) == key).then_some(())
    })
    .await;
}

async fn is_void(client: &Client, token: &str) -> bool {
    client.answer(Some(token), ME, json!({})).await["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
}

async fn key_set(client: &Client) -> Vec<Value> {
    let response = client.http.get(client.url("/.well-known/jwks.json")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/jwk-set+json");
    // These shops read their keys more than once a second, and a new one signs three readings later.
    assert_eq!(response.headers()["cache-control"], "public, max-age=0");
    response.json::<Value>().await.unwrap()["keys"].as_array().unwrap().clone()
}

fn kids(keys: &[Value]) -> HashSet<String> {
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Asks and refreshes until it is told to stop; the ids of the keys that it saw, and how much it asked. A request that fails
/// fails the test.
async fn customer(client: Client, mut account: Account, stop: Arc<AtomicBool>) -> (HashSet<String>, usize) {
    let (mut seen, mut requests) = (HashSet::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..3 {
            let me = client.query(Some(&account.token), ME, json!({})).await;
            assert_eq!(me["me"]["email"], json!(account.email));
        }
        let refreshed = client.query(None, REFRESH, json!({ "token": account.refresh_token })).await;
        let session = &refreshed["tokenRefresh"]["session"];
        account.token = session["accessToken"].as_str().expect("a session").to_owned();
        account.refresh_token = session["refreshToken"].as_str().unwrap().to_owned();
        seen.insert(kid(&account.token));
        requests += 4;
    }
    (seen, requests)
}

#[actix_rt::test]
async fn keys_are_rotated_under_load_without_a_failed_request_and_the_old_one_ends() {
    let app = quick_shop().await;
    let early = app.sign_up().await;
    let mut socket = Socket::connect(app.public, Some(&early.token)).await;
    let stop = Arc::<AtomicBool>::default();
    let mut customers = Vec::new();
    for _ in 0..4 {
        let client = Client::new(app.public);
        customers.push(actix_rt::spawn(customer(client, app.sign_up().await, Arc::clone(&stop))));
    }
    let mut keys = vec![kid(&early.token)];
    for _ in 0..ROTATIONS {
        let key = rotate(&app, None).await;
        signs(&app, &early, &key).await;
        keys.push(key);
    }
    stop.store(true, Ordering::Relaxed);
    let (mut seen, mut requests) = (HashSet::new(), 0);
    for customer in customers {
        let (keys, asked) = customer.await.unwrap();
        seen.extend(keys);
        requests += asked;
    }
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), ROTATIONS + 1);
    assert!(seen.len() > ROTATIONS / 2 && requests > 10 * ROTATIONS, "{} keys, {requests} requests", seen.len());
    // What the first key signed is good until it expires, on sockets too.
    assert!(!is_void(&app, &early.token).await);
    assert_eq!(kids(&key_set(&app).await), keys.iter().cloned().collect());

    // Without an overlap nothing of the old keys is accepted once the new one signs; sessions go on.
    let last = rotate(&app, Some(0)).await;
    signs(&app, &early, &last).await;
    eventually("the old key's token is refused", async || is_void(&app, &early.token).await.then_some(())).await;
    assert_eq!(socket.close_code().await, Some(4403));
    assert_eq!(kids(&key_set(&app).await), HashSet::from([last]));
    let refreshed = app.query(None, REFRESH, json!({ "token": early.refresh_token })).await;
    let token = refreshed["tokenRefresh"]["session"]["accessToken"].as_str().unwrap();
    assert!(!is_void(&app, token).await);
}

#[actix_rt::test]
async fn a_token_is_checked_by_the_key_set_alone() {
    let app = quick_shop().await;
    let account = app.sign_up().await;
    let next = rotate(&app, None).await;
    let keys = eventually("the next key is announced", async || {
        let keys = key_set(&app).await;
        kids(&keys).contains(&next).then_some(keys)
    })
    .await;
    let key = keys.iter().find(|key| key["kid"] == json!(kid(&account.token))).unwrap();
    let about = json!([key["kty"], key["crv"], key["alg"], key["use"]]);
    assert_eq!(about, json!(["OKP", "Ed25519", "EdDSA", "sig"]));
    assert_eq!(key.as_object().unwrap().len(), 6, "nothing of the private half");
    let public: [u8; 32] = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap().try_into().unwrap();
    let (content, signature) = account.token.rsplit_once('.').unwrap();
    let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    VerifyingKey::from_bytes(&public).unwrap().verify_strict(content.as_bytes(), &signature).unwrap();

    let posted = app.http.post(app.url("/.well-known/jwks.json")).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), posted.headers()["allow"].to_str().unwrap()), (405, "GET"));
}

fn keys_command(data_dir: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = souk(data_dir);
    command.arg("keys").args(arguments).envs(settings.iter().copied()).output().unwrap()
}

/// What it prints, of a command that must work.
fn listed(output: Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[actix_rt::test]
async fn the_command_rotates_beside_a_server_and_refuses_what_would_lock_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let secret = ("SOUK__AUTH__KEY_SECRET", "a secret of this test, long enough");
    let settings = [secret, ("SOUK__AUTH__KEY_REFRESH_MS", "50")];
    let shop = ShopProcess::start(&data_dir, &settings);
    let client = shop.client();
    let account = client.sign_up().await;
    let old = kid(&account.token);
    assert_eq!(listed(keys_command(&data_dir, &["list"], &settings)), [format!("{old}  signs")]);

    let rotated = listed(keys_command(&data_dir, &["rotate"], &settings));
    let (new, rest) = rotated[0].split_once("  ").unwrap();
    assert!(rest.starts_with("announced, signs from 20"), "{rotated:?}");
    assert!(rotated[1].starts_with(&format!("{old}  signs, until 20")) && rotated.len() == 2, "{rotated:?}");
    eventually("the new key signs", async || {
        (kid(&client.sign_in(&account.email, PASSWORD).await.token) == new).then_some(())
    })
    .await;
    assert!(!is_void(&client, &account.token).await);

    // A key under another secret would be one that no server can read.
    for (other, what) in [("", "set auth.key_secret"), ("another secret, long enough too", "another auth.key_secret")] {
        let refused = keys_command(&data_dir, &["rotate"], &[("SOUK__AUTH__KEY_SECRET", other)]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && said.contains(what), "{said}");
    }
    assert_eq!(listed(keys_command(&data_dir, &["list"], &settings)).len(), 2);

    // Keys in files are the operator's to change.
    let file = folder.path().join("key.pem");
    let key = SigningKey::from_bytes(&[7; 32]);
    std::fs::write(&file, key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
    let in_files = [("SOUK__AUTH__SIGNING_KEY_FILE", file.to_str().unwrap())];
    let refused = keys_command(&data_dir, &["rotate"], &in_files);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("auth.verification_key_files"), "{said}");
    assert!(listed(keys_command(&data_dir, &["list"], &in_files))[0].ends_with("  signs"));
    assert!(shop.stop().status.success());
}

#[actix_rt::test]
async fn keys_that_were_stored_without_a_secret_are_sealed_by_the_first_start_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let stored = || -> Vec<(bool, Vec<u8>)> {
        let file = rusqlite::Connection::open(data_dir.join("users.db")).unwrap();
        let mut both = file
            .prepare("SELECT encrypted, private_key FROM signing_keys UNION ALL SELECT encrypted, secret FROM server_secrets")
            .unwrap();
        both.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let secret = ("SOUK__AUTH__KEY_SECRET", "a secret of this test, long enough");
    // Looking makes none.
    assert!(listed(keys_command(&data_dir, &["list"], &[])).is_empty());
    let shop = ShopProcess::start(&data_dir, &[]);
    let account = shop.client().sign_up().await;
    assert!(shop.stop().status.success());
    let plain = stored();
    assert!(plain.len() == 2 && plain.iter().all(|(encrypted, _)| !encrypted));
    // A mistyped secret after something is sealed under the right one is refused, and seals nothing.
    assert!(listed(keys_command(&data_dir, &["rotate"], &[secret])).len() == 2);
    let before = stored();
    let mut mistyped = souk(&data_dir);
    mistyped.env("SOUK__AUTH__KEY_SECRET", "a secret of this test, mistyped").env("SOUK__DEMO", "false");
    assert_eq!(mistyped.output().unwrap().status.code(), Some(2));
    assert!(stored() == before);

    let shop = ShopProcess::start(&data_dir, &[secret]);
    assert!(!is_void(&shop.client(), &account.token).await, "the same key, sealed");
    assert!(shop.stop().status.success());
    assert!(stored().iter().all(|(encrypted, _)| *encrypted));
    let file = std::fs::read(data_dir.join("users.db")).unwrap();
    for (_, bytes) in plain {
        assert!(!file.windows(bytes.len()).any(|window| window == bytes), "it is still in the file");
    }
    let refused = keys_command(&data_dir, &["list"], &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
}

//! Password reset by mail and password change.

use serde_json::{Value, json};
use souk::domain::mail_requests::MailRequestKind;
use souk::domain::text::Email;

use crate::support::{Account, MailLinks, PASSWORD, TestApp, eventually, spawn_app, spawn_app_in, spawn_app_with};

const NEW_PASSWORD: &str = "another horse battery";

const SIGN_UP: &str =
    "mutation($input: SignUpInput!) { signUp(input: $input) { userErrors { __typename code message field } } }";
const REQUEST: &str = "mutation($email: String!) { passwordResetRequest(email: $email) {
    accepted userErrors { __typename code message field } } }";
const RESET: &str =
    "mutation($token: String!, $password: String!) { passwordReset(token: $token, newPassword: $password) {
    session { accessToken refreshToken user { id email sessions { current } } } userErrors { code field } } }";
const CHANGE: &str =
    "mutation($current: String!, $new: String!) { passwordChange(currentPassword: $current, newPassword: $new) {
    session { accessToken refreshToken user { email } } userErrors { __typename code field } } }";
const SIGN_IN: &str =
    "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken } userErrors { code } } }";

async fn request(app: &TestApp, email: &str) -> Value {
    app.answer(None, REQUEST, json!({ "email": email })).await
}

async fn reset(app: &TestApp, token: &str, password: &str) -> Value {
    app.query(None, RESET, json!({ "token": token, "password": password })).await["passwordReset"].take()
}

async fn sign_in_code(app: &TestApp, email: &str, password: &str) -> Value {
    let input = json!({ "input": { "email": email, "password": password } });
    let answer = app.query(None, SIGN_IN, input).await;
    answer["signIn"]["userErrors"][0]["code"].clone()
}

async fn is_void(app: &TestApp, token: &str) -> bool {
    let answer = app.answer(Some(token), "{ me { email } }", json!({})).await;
    answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
}

async fn reset_token(app: &TestApp, account: &Account) -> String {
    assert_eq!(request(app, &account.email).await["data"]["passwordResetRequest"]["accepted"], true);
    MailLinks::of(app).await.newest(account, MailRequestKind::PasswordReset).await
}

#[actix_rt::test]
async fn a_reset_sets_the_password_once_ends_all_sessions_and_signs_in() {
    let app = spawn_app().await;
    let before = app.sign_up().await;
    let elsewhere = app.sign_in(&before.email, PASSWORD).await;
    let token = reset_token(&app, &before).await;
    let done = reset(&app, &token, NEW_PASSWORD).await;
    assert_eq!(done["session"]["user"]["email"], json!(before.email), "{done}");
    assert_eq!(done["session"]["user"]["sessions"], json!([{ "current": true }]), "{done}");
    assert!(is_void(&app, &before.token).await && is_void(&app, &elsewhere.token).await);
    let refresh = "mutation($token: String!) { tokenRefresh(refreshToken: $token) { userErrors { code } } }";
    let old = app.query(None, refresh, json!({ "token": before.refresh_token })).await;
    assert_eq!(old["tokenRefresh"]["userErrors"][0]["code"], "TOKEN_INVALID");
    assert!(!is_void(&app, done["session"]["accessToken"].as_str().unwrap()).await);
    assert_eq!(sign_in_code(&app, &before.email, PASSWORD).await, "INVALID_CREDENTIALS");
    assert!(sign_in_code(&app, &before.email, NEW_PASSWORD).await.is_null());

    let replayed = reset(&app, &token, "a third horse").await;
    assert_eq!(replayed["userErrors"], json!([{ "code": "TOKEN_INVALID", "field": ["token"] }]), "{replayed}");
    assert!(replayed["session"].is_null());
    assert!(sign_in_code(&app, &before.email, NEW_PASSWORD).await.is_null());
}

#[actix_rt::test]
async fn a_weak_password_does_not_use_the_token_up_and_a_newer_request_voids_it() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let first = reset_token(&app, &account).await;
    let weak = reset(&app, &first, "short").await;
    assert_eq!(weak["userErrors"], json!([{ "code": "WEAK_PASSWORD", "field": ["newPassword"] }]), "{weak}");
    let second = reset_token(&app, &account).await;
    assert_ne!(first, second);
    assert_eq!(reset(&app, &first, NEW_PASSWORD).await["userErrors"][0]["code"], "TOKEN_INVALID");
    assert!(!is_void(&app, &account.token).await);
    assert_eq!(reset(&app, &second, "short").await["userErrors"][0]["code"], "WEAK_PASSWORD");
    assert!(reset(&app, &second, NEW_PASSWORD).await["session"].is_object());
}

#[actix_rt::test]
async fn a_common_password_is_no_new_password() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let input = json!({ "input": { "email": "new@test.example", "name": "New", "password": "Password123" } });
    let refused = app.query(None, SIGN_UP, input).await["signUp"]["userErrors"][0].take();
    let expected = json!({
        "__typename": "InputError",
        "code": "WEAK_PASSWORD",
        "message": "this password is among those that are guessed first",
        "field": ["input", "password"],
    });
    assert_eq!(refused, expected);
    let weak = json!([{ "code": "WEAK_PASSWORD", "field": ["newPassword"] }]);
    let token = reset_token(&app, &account).await;
    assert_eq!(reset(&app, &token, "PASSWORD123").await["userErrors"], weak);
    let variables = json!({ "current": PASSWORD, "new": "ｐａｓｓｗｏｒｄ１２３" });
    let changed = app.query(Some(&account.token), CHANGE, variables).await["passwordChange"].take();
    assert_eq!(changed["userErrors"][0]["code"], "WEAK_PASSWORD", "{changed}");
    assert!(reset(&app, &token, NEW_PASSWORD).await["session"].is_object());
}

#[actix_rt::test]
async fn a_password_is_the_same_however_it_is_typed_and_counts_to_its_end() {
    let app = spawn_app().await;
    let long = "x".repeat(127);
    // Chosen; what signs in besides; what does not.
    let cases = [
        ("caf\u{e9} office".to_owned(), "ｃａｆe\u{301} o\u{fb03}ce".to_owned(), "cafe office".to_owned()),
        (format!("{long}1"), format!("{long}１"), format!("{long}2")),
        ("🐪".repeat(19), "🐪".repeat(19), "🐪".repeat(18)),
    ];
    for (n, (chosen, same, other)) in cases.into_iter().enumerate() {
        let email = format!("typed-{n}@test.example");
        let input = json!({ "input": { "email": email, "name": "Ada", "password": chosen } });
        assert_eq!(app.query(None, SIGN_UP, input).await["signUp"]["userErrors"], json!([]));
        assert!(sign_in_code(&app, &email, &chosen).await.is_null());
        assert!(sign_in_code(&app, &email, &same).await.is_null(), "{same}");
        assert_eq!(sign_in_code(&app, &email, &other).await, "INVALID_CREDENTIALS", "{other}");
    }
}

#[actix_rt::test]
async fn a_sign_in_hashes_the_password_anew_when_the_cost_has_changed() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let dir = tokio::task::spawn_blocking(move || app.stop()).await.unwrap();
    let app = spawn_app_in(dir, |config| {
        config.limits.enabled = false;
        config.auth.bcrypt_cost = 5;
    })
    .await;
    let email = Email::parse(&account.email).unwrap();
    let hash = async || app.stores.users.credentials(&email).await.unwrap().unwrap().1.0;
    assert_eq!(sign_in_code(&app, &account.email, "wrong password").await, "INVALID_CREDENTIALS");
    assert!(hash().await.starts_with("$2b$04$"));
    assert!(sign_in_code(&app, &account.email, PASSWORD).await.is_null());
    eventually("a hash of the new cost", async || hash().await.starts_with("$2b$05$").then_some(())).await;
    // Nobody was signed out by it, and the password is the same.
    assert!(!is_void(&app, &account.token).await);
    assert!(sign_in_code(&app, &account.email, PASSWORD).await.is_null());
    assert_eq!(sign_in_code(&app, &account.email, "wrong password").await, "INVALID_CREDENTIALS");
}

#[actix_rt::test]
async fn of_two_simultaneous_resets_with_one_token_one_wins() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let token = reset_token(&app, &account).await;
    let (one, other) = tokio::join!(reset(&app, &token, "horse number one"), reset(&app, &token, "horse number two"));
    let winners = [&one, &other].iter().filter(|answer| answer["session"].is_object()).count();
    assert_eq!(winners, 1, "{one} {other}");
}

#[actix_rt::test]
async fn an_unknown_address_is_answered_like_a_known_one() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let known = request(&app, &account.email.to_uppercase()).await;
    assert_eq!(known["data"]["passwordResetRequest"], json!({ "accepted": true, "userErrors": [] }));
    assert_eq!(request(&app, "nobody@test.example").await, known);
}

#[actix_rt::test]
async fn resets_are_limited_per_account_whether_or_not_there_is_one() {
    let app = spawn_app_with(|_| {}).await;
    let account = app.sign_up().await;
    for email in [account.email.as_str(), "nobody@test.example"] {
        for _ in 0..3 {
            assert_eq!(request(&app, email).await["data"]["passwordResetRequest"]["accepted"], true);
        }
        let limited = request(&app, &email.to_uppercase()).await["data"]["passwordResetRequest"].take();
        assert_eq!(limited["accepted"], false);
        assert_eq!(limited["userErrors"][0]["code"], "RATE_LIMITED", "{limited}");
        assert_eq!(limited["userErrors"][0]["__typename"], "RetryLaterError", "{limited}");
    }
}

#[actix_rt::test]
async fn a_changed_password_ends_the_other_sessions_and_goes_on_with_a_new_one() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let elsewhere = app.sign_in(&account.email, PASSWORD).await;
    let change = async |token: &str, current: &str, new: &str| {
        app.query(Some(token), CHANGE, json!({ "current": current, "new": new })).await["passwordChange"].take()
    };
    let wrong = change(&account.token, "not the password", NEW_PASSWORD).await;
    assert_eq!(wrong["userErrors"][0]["code"], "INVALID_CREDENTIALS", "{wrong}");
    assert_eq!(wrong["userErrors"][0]["field"], json!(["currentPassword"]));
    let weak = change(&account.token, PASSWORD, "short").await;
    assert_eq!(weak["userErrors"][0]["code"], "WEAK_PASSWORD", "{weak}");
    assert!(!is_void(&app, &elsewhere.token).await);

    let pending = reset_token(&app, &account).await;
    let done = change(&account.token, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(done["session"]["user"]["email"], json!(account.email), "{done}");
    assert!(is_void(&app, &account.token).await && is_void(&app, &elsewhere.token).await);
    assert!(!is_void(&app, done["session"]["accessToken"].as_str().unwrap()).await);
    assert_eq!(sign_in_code(&app, &account.email, PASSWORD).await, "INVALID_CREDENTIALS");
    assert!(sign_in_code(&app, &account.email, NEW_PASSWORD).await.is_null());
    assert_eq!(reset(&app, &pending, "a third horse").await["userErrors"][0]["code"], "TOKEN_INVALID");
}

#[actix_rt::test]
async fn guesses_of_a_signed_in_users_password_are_limited() {
    let app = spawn_app_with(|config| config.limits.sign_in_per_account_per_minute = 3).await;
    let account = app.sign_up().await;
    let mut codes = Vec::new();
    for query in [CHANGE, CHANGE, EXPORT, DELETE] {
        let variables = json!({ "current": "wrong password", "new": NEW_PASSWORD });
        let answer = app.query(Some(&account.token), query, variables).await;
        let payload = answer.as_object().unwrap().values().next().unwrap().clone();
        codes.push(payload["userErrors"][0]["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(codes, ["INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "RATE_LIMITED"]);
}

const EXPORT: &str = "mutation($current: String!) { accountExport(password: $current) { userErrors { code } } }";
const DELETE: &str = "mutation($current: String!) { accountDelete(password: $current) { userErrors { code } } }";

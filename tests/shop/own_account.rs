//! What users do with their own accounts: verify the address, end mails, change the name, see their sessions, take their
//! data away, and leave. Also through the pages of mailed links.

use serde_json::{Value, json};
use souk::domain::mail_requests::MailRequestKind;
use souk::domain::users::{Role, Subscription};

use crate::support::client::unique;
use crate::support::{Account, MailLinks, PASSWORD, TestApp, spawn_app, spawn_app_with};

const VERIFY: &str = "mutation($token: String!) { emailVerify(token: $token) {
    user { id email emailVerified preferences { promotions } } userErrors { code field } } }";
const RESEND: &str = "mutation { emailVerificationResend { user { emailVerified } userErrors { code } } }";
const UNSUBSCRIBE: &str =
    "mutation($token: String!) { unsubscribe(token: $token) { unsubscribed userErrors { code field } } }";
const DELETE: &str =
    "mutation($password: String!) { accountDelete(password: $password) { deleted userErrors { code field } } }";

async fn me(app: &TestApp, account: &Account) -> Value {
    let fields = "{ me { name emailVerified preferences { orderUpdates promotions recommendations } } }";
    app.query(Some(&account.token), fields, json!({})).await["me"].take()
}

async fn verify(app: &TestApp, token: &str) -> Value {
    app.query(None, VERIFY, json!({ "token": token })).await["emailVerify"].take()
}

async fn post(app: &TestApp, path: &str, body: &'static str) -> (u16, String) {
    let form = app.http.post(app.url(path)).header("content-type", "application/x-www-form-urlencoded");
    let response = form.body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[actix_rt::test]
async fn a_sign_up_asks_for_a_verification_that_serves_once() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let token = MailLinks::of(&app).await.newest(&account, MailRequestKind::Verification).await;
    let verified = verify(&app, &token).await;
    assert_eq!(verified["user"]["emailVerified"], true, "{verified}");
    assert_eq!(verified["user"]["email"], json!(account.email), "whom it is about may look");
    assert_eq!(me(&app, &account).await["emailVerified"], true);
    let again = verify(&app, &token).await;
    assert_eq!(again["userErrors"], json!([{ "code": "TOKEN_INVALID", "field": ["token"] }]), "{again}");
}

#[actix_rt::test]
async fn another_verification_voids_the_one_before_and_a_verified_address_gets_none() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let links = MailLinks::of(&app).await;
    let resent = app.query(Some(&account.token), RESEND, json!({})).await;
    assert_eq!(resent["emailVerificationResend"]["user"]["emailVerified"], false, "{resent}");
    let tokens = links.tokens_of(&account, MailRequestKind::Verification).await;
    assert_eq!(tokens.len(), 2);
    assert_eq!(verify(&app, &tokens[1]).await["userErrors"][0]["code"], "TOKEN_INVALID");
    assert_eq!(verify(&app, &tokens[0]).await["user"]["emailVerified"], true);
    let resent = app.query(Some(&account.token), RESEND, json!({})).await;
    assert_eq!(resent["emailVerificationResend"]["user"]["emailVerified"], true, "{resent}");
    assert_eq!(links.tokens_of(&account, MailRequestKind::Verification).await.len(), 2);
}

#[actix_rt::test]
async fn verification_mails_are_limited() {
    let app = spawn_app_with(|config| config.limits.reset_per_account_per_hour = 1).await;
    let account = app.sign_up().await;
    let mut codes = Vec::new();
    for _ in 0..2 {
        let answer = app.query(Some(&account.token), RESEND, json!({})).await;
        codes.push(answer["emailVerificationResend"]["userErrors"][0]["code"].clone());
    }
    assert_eq!(codes, [Value::Null, json!("RATE_LIMITED")]);
}

#[actix_rt::test]
async fn an_unsubscribe_token_ends_its_mails_without_a_sign_in_and_again() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let all =
        "mutation { preferencesUpdate(input: { promotions: true, recommendations: true }) { userErrors { code } } }";
    app.query(Some(&account.token), all, json!({})).await;
    let links = MailLinks::of(&app).await;
    let token = links.unsubscribe(&account, Subscription::Promotions);
    assert!(!token.contains(&account.id[4..]));
    for _ in 0..2 {
        let ended = app.query(Some("broken"), UNSUBSCRIBE, json!({ "token": token })).await;
        assert_eq!(ended["unsubscribe"], json!({ "unsubscribed": true, "userErrors": [] }));
        let preferences = me(&app, &account).await["preferences"].take();
        assert_eq!(preferences, json!({ "orderUpdates": true, "promotions": false, "recommendations": true }));
    }
    // One click, and a token of another purpose.
    let token = links.unsubscribe(&account, Subscription::Recommendations);
    let path = format!("/mail/unsubscribe?token={token}");
    for _ in 0..2 {
        assert_eq!(post(&app, &path, "List-Unsubscribe=One-Click").await.0, 200);
        assert_eq!(me(&app, &account).await["preferences"]["recommendations"], false);
    }
    let other = links.newest(&account, MailRequestKind::Verification).await;
    assert_eq!(post(&app, &format!("/mail/unsubscribe?token={other}"), "").await.0, 400);
    let refused = app.query(None, UNSUBSCRIBE, json!({ "token": other })).await;
    let errors = json!([{ "code": "TOKEN_INVALID", "field": ["token"] }]);
    assert_eq!(refused["unsubscribe"], json!({ "unsubscribed": false, "userErrors": errors }));
}

#[actix_rt::test]
async fn the_pages_of_links_verify_and_reset() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let links = MailLinks::of(&app).await;
    let verification = format!("/mail/verify?token={}", links.newest(&account, MailRequestKind::Verification).await);
    let opened = app.http.get(app.url(&verification)).send().await.unwrap();
    assert_eq!(opened.status(), 200);
    assert_eq!(me(&app, &account).await["emailVerified"], false, "opening it does nothing");
    assert_eq!(post(&app, &verification, "").await.0, 200);
    assert_eq!(me(&app, &account).await["emailVerified"], true);
    assert_eq!(post(&app, &verification, "").await.0, 400);

    let request = "mutation($email: String!) { passwordResetRequest(email: $email) { accepted } }";
    app.query(None, request, json!({ "email": account.email })).await;
    let reset = format!("/mail/reset?token={}", links.newest(&account, MailRequestKind::PasswordReset).await);
    let (status, page) = post(&app, &reset, "password=short").await;
    assert_eq!(status, 400);
    assert!(page.contains("at least 8 characters"), "{page}");
    assert_eq!(post(&app, &reset, "password=a+whole+new+one").await.0, 200);
    assert_eq!(post(&app, &reset, "password=a+whole+new+two").await.0, 400);
    let signed_in = app.sign_in(&account.email, "a whole new one").await;
    let sessions = app.query(Some(&signed_in.token), "{ me { sessions { current } } }", json!({})).await;
    assert_eq!(sessions["me"]["sessions"], json!([{ "current": true }]), "the page began no session");
}

#[actix_rt::test]
async fn a_new_name_is_shown_and_found() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let staff = app.staff().await;
    let update =
        "mutation($input: UserUpdateInput!) { userUpdate(input: $input) { user { name } userErrors { code field } } }";
    let renamed = app.query(Some(&account.token), update, json!({ "input": { "name": "Augusta Byron" } })).await;
    assert_eq!(renamed["userUpdate"]["user"]["name"], "Augusta Byron", "{renamed}");
    let unchanged = app.query(Some(&account.token), update, json!({ "input": {} })).await;
    assert_eq!(unchanged["userUpdate"]["user"]["name"], "Augusta Byron", "{unchanged}");
    let found = app.query(Some(&staff.token), "{ users(search: \"byron\") { nodes { id } } }", json!({})).await;
    assert_eq!(found["users"]["nodes"], json!([{ "id": account.id }]));
}

#[actix_rt::test]
async fn users_see_where_they_are_signed_in_and_strangers_do_not() {
    let app = spawn_app().await;
    let first = app.sign_up().await;
    let second = app.sign_in(&first.email, PASSWORD).await;
    let sessions = "{ me { sessions { id userAgent createdAt lastUsedAt current } } }";
    let seen = app.query(Some(&first.token), sessions, json!({})).await["me"]["sessions"].take();
    let current: Vec<_> = seen.as_array().unwrap().iter().map(|session| session["current"].clone()).collect();
    assert_eq!(current, [json!(false), json!(true)], "newest first: {seen}");
    let sign_out = "mutation($token: String!) { signOut(refreshToken: $token) { signedOut } }";
    app.query(Some(&second.token), sign_out, json!({ "token": second.refresh_token })).await;
    let seen = app.query(Some(&first.token), sessions, json!({})).await["me"]["sessions"].take();
    assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
    let staff = app.staff().await;
    let of_user = "query($id: ID!) { user(id: $id) { sessions { current } } }";
    let seen = app.query(Some(&staff.token), of_user, json!({ "id": first.id })).await;
    assert_eq!(seen["user"]["sessions"], json!([{ "current": false }]));
    let stranger = app.sign_up().await;
    let hidden = app.query(Some(&stranger.token), of_user, json!({ "id": first.id })).await;
    assert!(hidden["user"].is_null());
}

#[actix_rt::test]
async fn an_export_holds_what_is_kept_and_no_secret() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let account = app.sign_up().await;
    let product = app.create_product(&staff, 10).await;
    let placed = app.place(&account, &unique("key"), &[(&product, 2)], 5_000).await;
    let export =
        "mutation($password: String!) { accountExport(password: $password) { export userErrors { code field } } }";
    let refused = app.query(Some(&account.token), export, json!({ "password": "wrong password" })).await;
    let errors = json!([{ "code": "INVALID_CREDENTIALS", "field": ["password"] }]);
    assert_eq!(refused["accountExport"], json!({ "export": null, "userErrors": errors }));
    let exported = app.query(Some(&account.token), export, json!({ "password": PASSWORD })).await;
    let text = exported["accountExport"]["export"].as_str().unwrap();
    let kept: Value = serde_json::from_str(text).unwrap();
    assert_eq!(kept["account"]["email"], json!(account.email));
    assert_eq!(kept["account"]["name"], "Test Customer");
    assert_eq!(kept["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(kept["mailRequests"][0]["kind"], "verification");
    assert_eq!(kept["orders"][0]["number"], placed["order"]["number"]);
    assert_eq!(kept["orders"][0]["lines"][0]["quantity"], 2);
    let token = MailLinks::of(&app).await.newest(&account, MailRequestKind::Verification).await;
    for secret in [token.as_str(), "$2", "hash", account.refresh_token.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[actix_rt::test]
async fn a_deleted_account_is_gone_but_for_its_orders_and_its_address_is_free() {
    let app = spawn_app().await;
    let admin = app.account(Role::Admin).await;
    let account = app.sign_up().await;
    let product = app.create_product(&admin, 10).await;
    let placed = app.place(&account, &unique("key"), &[(&product, 2)], 5_000).await;
    let wrong = app.query(Some(&account.token), DELETE, json!({ "password": "wrong password" })).await;
    assert_eq!(wrong["accountDelete"]["userErrors"][0]["code"], "INVALID_CREDENTIALS", "{wrong}");
    assert_eq!(wrong["accountDelete"]["deleted"], false);
    let unsubscribe = MailLinks::of(&app).await.unsubscribe(&account, Subscription::Promotions);
    let verification = MailLinks::of(&app).await.newest(&account, MailRequestKind::Verification).await;
    let gone = app.query(Some(&account.token), DELETE, json!({ "password": PASSWORD })).await;
    assert_eq!(gone["accountDelete"], json!({ "deleted": true, "userErrors": [] }));

    let answer = app.answer(Some(&account.token), "{ me { id } }", json!({})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    let refresh = "mutation($token: String!) { tokenRefresh(refreshToken: $token) { userErrors { code } } }";
    let refused = app.query(None, refresh, json!({ "token": account.refresh_token })).await;
    assert_eq!(refused["tokenRefresh"]["userErrors"][0]["code"], "TOKEN_INVALID");
    assert_eq!(verify(&app, &verification).await["userErrors"][0]["code"], "TOKEN_INVALID");
    let ended = app.query(None, UNSUBSCRIBE, json!({ "token": unsubscribe })).await;
    assert_eq!(ended["unsubscribe"]["unsubscribed"], true, "who is gone is written to no more");

    let order = "query($id: ID!) { order(id: $id) { number customer { id name email role } } }";
    let kept = app.query(Some(&admin.token), order, json!({ "id": placed["order"]["id"] })).await;
    assert_eq!(kept["order"]["number"], placed["order"]["number"]);
    assert_eq!(kept["order"]["customer"]["id"], json!(account.id));
    let text = kept.to_string();
    assert!(!text.contains(&account.email) && !text.contains("Test Customer"), "{text}");
    let role = "mutation($id: ID!) { userRoleUpdate(id: $id, role: ADMIN) { userErrors { code } } }";
    let refused = app.query(Some(&admin.token), role, json!({ "id": account.id })).await;
    assert_eq!(refused["userRoleUpdate"]["userErrors"][0]["code"], "NOT_FOUND");

    let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { userErrors { code } } }";
    let input = json!({ "input": { "email": account.email, "password": PASSWORD } });
    let refused = app.query(None, sign_in, input).await;
    assert_eq!(refused["signIn"]["userErrors"][0]["code"], "INVALID_CREDENTIALS");
    let sign_up =
        "mutation($input: SignUpInput!) { signUp(input: $input) { session { user { id } } userErrors { code } } }";
    let input = json!({ "input": { "email": account.email, "name": "Another", "password": PASSWORD } });
    let anew = app.query(None, sign_up, input).await;
    assert!(anew["signUp"]["session"]["user"]["id"].is_string(), "{anew}");
    assert_ne!(anew["signUp"]["session"]["user"]["id"], json!(account.id));
}

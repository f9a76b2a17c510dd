//! Sign-up, sign-in, refresh, sign-out, roles.

use serde_json::{Value, json};
use souk::domain::users::Role;

use crate::support::client::fresh_email;
use crate::support::{PASSWORD, TestApp, eventually, spawn_app, spawn_app_with};

const REFRESH: &str = "mutation($token: String!) { tokenRefresh(refreshToken: $token) {
    session { accessToken refreshToken } userErrors { code } } }";

async fn refresh(app: &TestApp, token: &str) -> Value {
    app.query(None, REFRESH, json!({ "token": token })).await["tokenRefresh"].take()
}

async fn me(app: &TestApp, token: &str) -> Value {
    app.answer(Some(token), "{ me { email } }", json!({})).await
}

#[actix_rt::test]
async fn an_address_has_one_account_whatever_its_case() {
    let app = spawn_app().await;
    let email = fresh_email();
    let sign_up = "mutation($input: SignUpInput!) { signUp(input: $input) {
        session { user { email role emailVerified preferences { orderUpdates promotions recommendations } } }
        userErrors { code field } } }";
    let input = |email: &str| json!({ "input": { "email": email, "name": "A", "password": PASSWORD } });
    let first = app.query(None, sign_up, input(&email)).await;
    let user = &first["signUp"]["session"]["user"];
    assert_eq!((&user["role"], &user["emailVerified"]), (&json!("CUSTOMER"), &json!(false)), "{first}");
    let expected = json!({ "orderUpdates": true, "promotions": false, "recommendations": false });
    assert_eq!(user["preferences"], expected);
    let second = app.query(None, sign_up, input(&email.to_uppercase())).await;
    assert_eq!(second["signUp"]["userErrors"][0]["code"], "EMAIL_TAKEN", "{second}");
    assert!(second["signUp"]["session"].is_null());
    app.sign_in(&email.to_uppercase(), PASSWORD).await;
}

#[actix_rt::test]
async fn a_wrong_password_and_an_unknown_address_are_answered_alike() {
    let app = spawn_app().await;
    let customer = app.sign_up().await;
    let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken }
        userErrors { __typename code message field } } }";
    let attempt = async |email: &str, password: &str| {
        app.answer(None, sign_in, json!({ "input": { "email": email, "password": password } })).await
    };
    let wrong = attempt(&customer.email, "not the password").await;
    assert_eq!(wrong["data"]["signIn"]["userErrors"][0]["code"], "INVALID_CREDENTIALS", "{wrong}");
    assert_eq!(attempt("nobody@test.example", PASSWORD).await, wrong);
    assert_eq!(attempt("no address at all", PASSWORD).await, wrong);
    assert_eq!(attempt(&customer.email, &"x".repeat(5_000)).await, wrong);
}

#[actix_rt::test]
async fn a_refresh_token_is_exchanged_once_and_a_stolen_one_ends_its_session() {
    let app = spawn_app().await;
    let customer = app.sign_up().await;
    let second = refresh(&app, &customer.refresh_token).await;
    let second_token = second["session"]["refreshToken"].as_str().unwrap().to_owned();
    // Shown again at once while its successor is unused: a race, refused and nothing more.
    let race = refresh(&app, &customer.refresh_token).await;
    assert_eq!(race["userErrors"][0]["code"], "TOKEN_INVALID", "{race}");
    let third = refresh(&app, &second_token).await;
    let access = third["session"]["accessToken"].as_str().unwrap().to_owned();
    assert!(me(&app, &access).await["data"]["me"].is_object());
    // Its successor was used: somebody has a copy.
    let reuse = refresh(&app, &customer.refresh_token).await;
    assert_eq!(reuse["userErrors"][0]["code"], "TOKEN_INVALID");
    let dead = refresh(&app, third["session"]["refreshToken"].as_str().unwrap()).await;
    assert_eq!(dead["userErrors"][0]["code"], "TOKEN_INVALID", "the family is revoked");
    eventually("the access token is void", async || {
        (me(&app, &access).await["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED").then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn of_two_racing_refreshes_one_wins_and_its_line_lives() {
    let app = spawn_app().await;
    for _ in 0..20 {
        let customer = app.sign_up().await;
        let (one, other) = tokio::join!(refresh(&app, &customer.refresh_token), refresh(&app, &customer.refresh_token));
        let winners: Vec<_> = [&one, &other].into_iter().filter(|answer| answer["session"].is_object()).collect();
        assert_eq!(winners.len(), 1, "{one} {other}");
        let next = refresh(&app, winners[0]["session"]["refreshToken"].as_str().unwrap()).await;
        assert!(next["session"].is_object(), "the winner's line lives: {next}");
    }
}

#[actix_rt::test]
async fn sign_out_ends_one_session_or_all_of_them() {
    let app = spawn_app().await;
    let first = app.sign_up().await;
    let second = app.sign_in(&first.email, PASSWORD).await;
    let third = app.sign_in(&first.email, PASSWORD).await;
    let sign_out =
        "mutation($token: String!, $everywhere: Boolean) { signOut(refreshToken: $token, everywhere: $everywhere) {
        signedOut userErrors { code } } }";
    let one = json!({ "token": first.refresh_token, "everywhere": false });
    assert_eq!(app.query(Some(&first.token), sign_out, one).await["signOut"]["signedOut"], true);
    assert_eq!(me(&app, &first.token).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    assert!(me(&app, &second.token).await["data"]["me"].is_object());
    let all = json!({ "token": second.refresh_token, "everywhere": true });
    assert_eq!(app.query(Some(&second.token), sign_out, all).await["signOut"]["signedOut"], true);
    for token in [&second.token, &third.token] {
        assert_eq!(me(&app, token).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    }
    assert_eq!(refresh(&app, &third.refresh_token).await["userErrors"][0]["code"], "TOKEN_INVALID");
}

#[actix_rt::test]
async fn a_role_change_takes_effect_at_once_and_ends_the_tokens() {
    let app = spawn_app().await;
    let admin = app.account(Role::Admin).await;
    let customer = app.sign_up().await;
    let update = "mutation($id: ID!) { userRoleUpdate(id: $id, role: STAFF) { user { role } userErrors { code } } }";
    let refused = app.answer(Some(&customer.token), update, json!({ "id": customer.id })).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN");
    let updated = app.query(Some(&admin.token), update, json!({ "id": customer.id })).await;
    assert_eq!(updated["userRoleUpdate"]["user"]["role"], "STAFF", "{updated}");
    assert_eq!(me(&app, &customer.token).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    assert_eq!(refresh(&app, &customer.refresh_token).await["userErrors"][0]["code"], "TOKEN_INVALID");
    let staff = app.sign_in(&customer.email, PASSWORD).await;
    let listed = app.query(Some(&staff.token), "{ users(first: 1) { totalCount nodes { id } } }", json!({})).await;
    assert_eq!(listed["users"]["totalCount"], 2);
}

#[actix_rt::test]
async fn a_bad_token_is_refused_except_where_a_new_one_is_fetched() {
    let app = spawn_app().await;
    let customer = app.sign_up().await;
    let answer = app.answer(Some("broken"), "{ categories { name } }", json!({})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{answer}");
    let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { session { user { email } } } }";
    let input = json!({ "input": { "email": customer.email, "password": PASSWORD } });
    let signed_in = app.query(Some("broken"), sign_in, input).await;
    assert_eq!(signed_in["signIn"]["session"]["user"]["email"], json!(customer.email));
}

#[actix_rt::test]
async fn sign_ins_are_limited_per_account_with_a_retry_hint() {
    let app = spawn_app_with(|config| config.limits.sign_in_per_account_per_minute = 3).await;
    let customer = app.sign_up().await;
    let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken }
        userErrors { __typename code ... on RetryLaterError { retryAfterMs } } } }";
    let mut codes = Vec::new();
    for n in 0..5 {
        // Another spelling is the same account.
        let email = if n % 2 == 0 { customer.email.to_uppercase() } else { customer.email.clone() };
        let input = json!({ "input": { "email": email, "password": "wrong password" } });
        let answer = app.query(None, sign_in, input).await;
        let error = answer["signIn"]["userErrors"][0].clone();
        if error["code"] == "RATE_LIMITED" {
            assert_eq!(error["__typename"], "RetryLaterError");
            assert!(error["retryAfterMs"].as_i64().unwrap() > 0);
        }
        codes.push(error["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        codes,
        ["INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "INVALID_CREDENTIALS", "RATE_LIMITED", "RATE_LIMITED"]
    );
}

#[actix_rt::test]
async fn whoever_uses_up_the_attempts_of_an_account_does_not_lock_its_owner_out() {
    let app = spawn_app_with(|config| {
        config.limits.sign_in_per_account_per_minute = 3;
        config.gateway.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let from = async |address: &str, mutation: &str, input: Value| {
        let query = format!(
            "mutation {{ {mutation}(input: {input}) {{ session {{ accessToken }} userErrors {{ code }} }} }}",
            input = input.as_str().unwrap()
        );
        let request = app.http.post(app.url("/graphql")).header("x-forwarded-for", address);
        let answer: Value = request.json(&json!({ "query": query })).send().await.unwrap().json().await.unwrap();
        let payload = &answer["data"][mutation];
        match payload["session"].is_object() {
            true => "signed in".to_owned(),
            false => payload["userErrors"][0]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned(),
        }
    };
    let email = fresh_email();
    let account = json!(format!("{{ email: \"{email}\", name: \"Ada\", password: \"{PASSWORD}\" }}"));
    assert_eq!(from("2001:db8:1:1::1", "signUp", account).await, "signed in");
    let sign_in = |password: &str| json!(format!("{{ email: \"{email}\", password: \"{password}\" }}"));
    for n in 0..3 {
        assert_eq!(from(&format!("198.51.100.{n}"), "signIn", sign_in("wrong")).await, "INVALID_CREDENTIALS");
    }
    // Each attacker from an address of their own: the account is what is limited.
    assert_eq!(from("198.51.100.9", "signIn", sign_in(PASSWORD)).await, "RATE_LIMITED");
    // The owner's network, another address of it.
    assert_eq!(from("2001:db8:1:1::2", "signIn", sign_in(PASSWORD)).await, "signed in");
    assert_eq!(from("2001:db8:1:2::1", "signIn", sign_in(PASSWORD)).await, "RATE_LIMITED", "another network");
    for _ in 0..2 {
        assert_eq!(from("2001:db8:1:1::3", "signIn", sign_in("wrong")).await, "INVALID_CREDENTIALS");
    }
    assert_eq!(from("2001:db8:1:1::3", "signIn", sign_in(PASSWORD)).await, "RATE_LIMITED", "it is limited too");
}

//! Refresh tokens shown twice: a thousand thefts and a thousand races.

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::{Value, json};

use crate::support::{Account, PASSWORD, TestApp, servers, spawn_app};

const REFRESH: &str = "mutation($token: String!) { tokenRefresh(refreshToken: $token) {
    session { accessToken refreshToken } userErrors { code } } }";

/// On servers fewer: what they add is tested by one, and a thousand take minutes there.
fn times() -> usize {
    if servers::are_used() { 100 } else { 1_000 }
}

/// Families that are at work at the same time: fewer than hashes that may wait.
const AT_ONCE: usize = 16;

/// The pair of tokens, or the code of the refusal.
async fn refresh(app: &TestApp, token: &str) -> Result<(String, String), String> {
    let answer = app.query(None, REFRESH, json!({ "token": token })).await["tokenRefresh"].take();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match (text(&answer["session"]["accessToken"]), text(&answer["session"]["refreshToken"])) {
        (Some(access), Some(refresh)) => Ok((access, refresh)),
        _ => Err(text(&answer["userErrors"][0]["code"]).expect("a refusal has a code")),
    }
}

fn refused() -> Result<(String, String), String> {
    Err("TOKEN_INVALID".to_owned())
}

/// How many lines of the accounts go on: sessions that have not ended.
async fn lines(app: &TestApp, accounts: &[Account]) -> usize {
    let mut lines = 0;
    for account in accounts {
        let me = app.query(Some(&account.token), "{ me { sessions { id } } }", json!({})).await;
        lines += me["me"]["sessions"].as_array().unwrap().len();
    }
    lines
}

async fn sign_ups(app: &TestApp) -> Vec<Account> {
    iter(0..AT_ONCE).then(|_| app.sign_up()).collect().await
}

/// Runs `family` a thousand times, some at once; each begins with a sign-in of one of the accounts.
async fn a_thousand_times(app: &TestApp, accounts: &[Account], family: impl AsyncFn(Account)) {
    let (family, emails) = (&family, (0..times()).map(|n| &accounts[n % accounts.len()].email));
    let families = emails.map(|email| async move { family(app.sign_in(email, PASSWORD).await).await });
    iter(families).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[actix_rt::test]
async fn a_thousand_replays_of_tokens_whose_successor_was_used_each_end_their_family_at_once() {
    let app = spawn_app().await;
    let accounts = sign_ups(&app).await;
    a_thousand_times(&app, &accounts, async |stolen| {
        let (_, second) = refresh(&app, &stolen.refresh_token).await.unwrap();
        let (access, third) = refresh(&app, &second).await.unwrap();
        assert_eq!(refresh(&app, &stolen.refresh_token).await, refused());
        assert_eq!(refresh(&app, &third).await, refused(), "the family has ended");
        let answer = app.answer(Some(&access), "{ me { id } }", json!({})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{answer}");
    })
    .await;
    assert_eq!(lines(&app, &accounts).await, accounts.len(), "those of the sign-ups go on, and no other");
}

#[actix_rt::test]
async fn of_a_thousand_races_of_two_each_leaves_one_line() {
    let app = spawn_app().await;
    let accounts = sign_ups(&app).await;
    a_thousand_times(&app, &accounts, async |raced| {
        let (one, other) = tokio::join!(refresh(&app, &raced.refresh_token), refresh(&app, &raced.refresh_token));
        let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_eq!(lost, refused(), "two lines");
        let (access, next) = won.expect("one of two wins");
        let answer = app.answer(Some(&access), "{ me { id } }", json!({})).await;
        assert!(answer["errors"].is_null(), "{answer}");
        assert!(refresh(&app, &next).await.is_ok(), "the line lives");
    })
    .await;
    assert_eq!(lines(&app, &accounts).await, accounts.len() + times());
}

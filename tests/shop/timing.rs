//! Whether the time of an answer tells that an account exists: Welch's t over interleaved samples of both, with controls that
//! it must catch.
//!
//! Not among the everyday tests: what else runs on the machine makes it blind, and where that comes in bursts, wrong.

use std::time::Instant;

use serde_json::{Value, json};
use souk::domain::text::Email;
use souk::domain::users::PasswordHash;

use crate::support::{Account, MailLinks, TestApp, eventually, spawn_app, spawn_app_with};

const SIGN_IN: &str = "mutation($email: String!, $password: String!) {
    signIn(input: { email: $email, password: $password }) { session { accessToken } userErrors { code message field } } }";
const REQUEST: &str = "mutation($email: String!) { passwordResetRequest(email: $email) {
    accepted userErrors { code message field } } }";
const RESET: &str = "mutation($token: String!) { passwordReset(token: $token, newPassword: \"another horse battery\") {
    session { accessToken } userErrors { code message field } } }";

/// Of the shop's hashes: the least that has one below it.
const COST: u32 = 5;
/// A hash of this takes longer than the step at which refusals come.
const DEARER_COST: u32 = 11;
/// Of each side.
const SAMPLES: usize = 1_500;
/// Of what takes twice as long, or longer, few are enough.
const SAMPLES_OF_CONTROL: usize = 100;
/// Before anything counts.
const WARM_UP: usize = 100;
/// Accounts, and as many addresses that are none.
const ADDRESSES: usize = 50;
/// A t beyond this is no accident: without a difference it comes less than once in a hundred thousand runs.
const LIMIT: f64 = 4.5;
/// Of the slowest samples of both sides this share is left out: they show what else the machine did.
const LEFT_OUT: f64 = 0.1;

/// The mean and its variance.
fn mean_of(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, squares / (n - 1.0) / n)
}

/// Welch's t, of both sides without what is slower than one limit for both.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let mut all = [one, other].concat();
    all.sort_by(f64::total_cmp);
    let limit = all[((all.len() - 1) as f64 * (1.0 - LEFT_OUT)) as usize];
    let kept = |samples: &[f64]| samples.iter().copied().filter(|sample| *sample <= limit).collect::<Vec<f64>>();
    let ((mean, variance), (other_mean, other_variance)) = (mean_of(&kept(one)), mean_of(&kept(other)));
    (mean - other_mean) / (variance + other_variance).sqrt()
}

/// How both sides are asked in turn, so many times what counts. Each of the answers must be this one.
async fn t_of(app: &TestApp, what: &str, query: &str, sides: [&[Value]; 2], answer: &Value, samples: usize) -> f64 {
    let mut taken = [Vec::new(), Vec::new()];
    for n in 0..WARM_UP + samples {
        // Which comes first changes, so that neither always follows the other.
        for side in [n % 2, (n + 1) % 2] {
            let variables = sides[side][n % sides[side].len()].clone();
            let began = Instant::now();
            let answered = app.answer(None, query, variables).await;
            if n >= WARM_UP {
                taken[side].push(began.elapsed().as_secs_f64() * 1e6);
            }
            assert_eq!(answered["data"], *answer, "{what}");
        }
    }
    let t = welch(&taken[0], &taken[1]);
    let [one, other] = taken.map(|samples| mean_of(&samples).0);
    eprintln!("{what}: t {t:.2}, means {one:.0} and {other:.0} us over {samples} samples a side");
    t
}

async fn accounts(app: &TestApp) -> Vec<Account> {
    let mut accounts = Vec::new();
    for _ in 0..ADDRESSES {
        accounts.push(app.sign_up().await);
    }
    accounts
}

/// As long as those of the accounts.
fn of_nobody(accounts: &[Account]) -> Vec<String> {
    accounts.iter().map(|account| account.email.replacen("user", "none", 1)).collect()
}

fn sign_ins(emails: impl IntoIterator<Item = String>) -> Vec<Value> {
    emails.into_iter().map(|email| json!({ "email": email, "password": "a wrong password" })).collect()
}

#[actix_rt::test]
#[ignore = "needs a quiet machine; scripts/timing gives it"]
async fn a_sign_in_takes_the_same_time_whether_or_not_the_account_exists() {
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.auth.bcrypt_cost = COST;
    })
    .await;
    let accounts = accounts(&app).await;
    let known = sign_ins(accounts.iter().map(|account| account.email.clone()));
    let unknown = sign_ins(of_nobody(&accounts));
    let refused = json!({ "signIn": { "session": null, "userErrors": [{
        "code": "INVALID_CREDENTIALS", "message": "the e-mail address or the password is wrong", "field": null }] } });
    let t = t_of(&app, "sign-in, known and unknown", SIGN_IN, [&known, &unknown], &refused, SAMPLES).await;
    assert!(t.abs() < LIMIT, "t is {t}");

    // A refusal by a cheaper hash makes up for it; one by a dearer hash is told, or this test would see nothing.
    for (cost, is_told, samples) in [(COST - 1, false, SAMPLES), (DEARER_COST, true, SAMPLES_OF_CONTROL)] {
        let email = Email::parse(&accounts[0].email).unwrap();
        let (user, present) = app.stores.users.credentials(&email).await.unwrap().unwrap();
        let hash = PasswordHash(bcrypt::hash("of no password", cost).unwrap());
        assert!(app.stores.users.renew_password_hash(user.id, &present, hash).await.unwrap());
        let what = format!("sign-in, a hash of cost {cost} in a shop of cost {COST}");
        let t = t_of(&app, &what, SIGN_IN, [&known[..1], &unknown], &refused, samples).await;
        assert_eq!(t.abs() >= LIMIT, is_told, "t is {t}");
    }
}

#[actix_rt::test]
#[ignore = "needs a quiet machine; scripts/timing gives it"]
async fn asking_for_a_reset_takes_the_same_time_whether_or_not_the_account_exists() {
    let app = spawn_app().await;
    let accounts = accounts(&app).await;
    let of = |email: String| json!({ "email": email });
    let known: Vec<Value> = accounts.iter().map(|account| of(account.email.clone())).collect();
    let unknown: Vec<Value> = of_nobody(&accounts).into_iter().map(of).collect();
    let accepted = json!({ "passwordResetRequest": { "accepted": true, "userErrors": [] } });
    let t = t_of(&app, "reset request, known and unknown", REQUEST, [&known, &unknown], &accepted, SAMPLES).await;
    assert!(t.abs() < LIMIT, "t is {t}");
}

#[actix_rt::test]
#[ignore = "needs a quiet machine; scripts/timing gives it"]
async fn a_void_reset_token_takes_the_same_time_whether_or_not_it_was_ever_one() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    // Of two requests the older one's token is void.
    for _ in 0..2 {
        app.query(None, REQUEST, json!({ "email": account.email })).await;
    }
    let kind = souk::domain::mail_requests::MailRequestKind::PasswordReset;
    let tokens = eventually("both requests", async || {
        let tokens = MailLinks::of(&app).await.tokens_of(&account, kind).await;
        (tokens.len() == 2).then_some(tokens)
    })
    .await;
    let replaced = json!({ "token": tokens[1] });
    let made_up = json!({ "token": tokens[1].chars().rev().collect::<String>() });
    let refused = json!({ "passwordReset": { "session": null, "userErrors": [{
        "code": "TOKEN_INVALID", "message": "the token is not valid", "field": ["token"] }] } });
    let sides = [std::slice::from_ref(&replaced), std::slice::from_ref(&made_up)];
    let t = t_of(&app, "reset, a replaced token and a made-up one", RESET, sides, &refused, SAMPLES).await;
    assert!(t.abs() < LIMIT, "t is {t}");
}

//! Mail as it leaves the whole shop: by SMTP to a server that does what a test tells it. Lanes, outcomes, crashes.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod lanes;
mod outcomes;
mod queue;

use serde_json::json;
use souk::config::{Config, MailKind, SecretUri};

use support::sink::Sink;
use support::{Account, Client, PASSWORD};

/// Mail goes to this server; no limit but those that the test sets.
fn mails_to(config: &mut Config, uri: &str) {
    config.limits.enabled = false;
    config.mail.kind = MailKind::Smtp;
    config.mail.uri = SecretUri::new(uri);
    config.notifications.standard_per_second = 100_000;
    config.notifications.standard_per_recipient_per_day = 10_000;
}

/// Signs up under this address; the welcome mail is critical.
async fn sign_up(client: &Client, email: &str) -> Account {
    let mutation =
        "mutation($input: SignUpInput!) { signUp(input: $input) { session { accessToken } userErrors { code } } }";
    let input = json!({ "input": { "email": email, "name": "Test Customer", "password": PASSWORD } });
    let data = client.query(None, mutation, input).await;
    assert_eq!(data["signUp"]["userErrors"], json!([]));
    client.sign_in(email, PASSWORD).await
}

/// Waits until a mail to this address was taken; its place among all.
async fn place_of(sink: &Sink, email: &str) -> usize {
    let find = || sink.taken().iter().position(|taken| taken.to == email);
    support::eventually("the mail is taken", || async { find() }).await
}

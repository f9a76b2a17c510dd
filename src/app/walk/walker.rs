//! Walks a running shop over HTTP, as any client would.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Variables;
use super::checks::{Mismatch, at, fill, verify};
use super::steps::Step;

/// Longer than any step has an order wait for its verdict.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// Between two times of asking for what follows by an event.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Stumble {
    #[error("the shop did not answer: {0}")]
    NoAnswer(String),
    #[error("the answer is no JSON: HTTP {status}, {text:.200}")]
    NotJson { status: u16, text: String },
    #[error("{0}")]
    Otherwise(Mismatch),
}

pub struct Walker {
    client: reqwest::Client,
    url: String,
    variables: Variables,
}

impl Walker {
    /// `url` is the whole address of the shop's GraphQL path.
    pub fn new(url: &str, admin_email: &str, admin_password: &str) -> Result<Self, Stumble> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_DEADLINE)
            .user_agent(concat!("souk-walk/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Stumble::NoAnswer(causes(&error)))?;
        Ok(Self { client, url: url.to_owned(), variables: Self::variables(admin_email, admin_password) })
    }

    /// What a walk starts with. Names and passwords are its own, so that it can be walked again in the same shop and
    /// leaves no account behind that somebody else could sign in to.
    pub fn variables(admin_email: &str, admin_password: &str) -> Variables {
        let run = format!("{:x}", rand::random::<u64>());
        let password = format!("walk-{:032x}", rand::random::<u128>());
        [
            ("run", run.as_str()),
            ("password", &password),
            ("adminEmail", admin_email),
            ("adminPassword", admin_password),
            ("nobodyToken", "of-no-shop"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Asks what the step asks, again until its time is over when it has one, and keeps what the step saves.
    pub async fn take(&mut self, step: &Step) -> Result<(), Stumble> {
        let began = Instant::now();
        let patience = Duration::from_millis(step.within_ms.unwrap_or(0));
        let answer = loop {
            let answer = self.ask(step).await?;
            match verify(step, &answer, &self.variables) {
                Ok(()) => break answer,
                Err(mismatch) if began.elapsed() >= patience => return Err(Stumble::Otherwise(mismatch)),
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        };
        for (name, path) in &step.save {
            let came = at(&answer["data"], path);
            let Some(text) = came.as_str() else {
                let mismatch = Mismatch { expected: format!("{path} to be a text"), came: came.to_string() };
                return Err(Stumble::Otherwise(mismatch));
            };
            self.variables.insert(name.clone(), text.to_owned());
        }
        Ok(())
    }

    async fn ask(&self, step: &Step) -> Result<Value, Stumble> {
        let variables = fill(&Value::Object(step.variables.clone()), &self.variables);
        let mut request = self.client.post(&self.url).json(&json!({ "query": step.query, "variables": variables }));
        if let Some(token) = step.token_variable().and_then(|name| self.variables.get(&name)) {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| Stumble::NoAnswer(causes(&error)))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| Stumble::NoAnswer(causes(&error)))?;
        serde_json::from_str(&text).map_err(|_| Stumble::NotJson { status, text })
    }
}

/// An error with what is below it: the first alone does not say why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(": ");
        text.push_str(&error.to_string());
        below = error.source();
    }
    text
}

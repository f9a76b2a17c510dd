//! The pages behind the links of mails: `/mail/{verify|reset|unsubscribe}?token=...`.
//!
//! Opening a link does nothing, because mail scanners open every one: the page's button posts to the page's own address.
//! The token there is all the authority there is, so no cookie or sign-in can be misused, and nothing of a request is
//! put into a page. `POST /mail/unsubscribe` is at once the one click of RFC 8058: whatever body comes with it, 200 when
//! these mails have ended, now or before, and 400 for a token that is none.

use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, BytesMut};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use askama::Template;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::actors::Address;
use crate::actors::errors::DomainError;
use crate::actors::users::UserActor;
use crate::actors::users::messages::{EndSubscription, Password, ResetPassword, SignInClient, VerifyEmail};
use crate::gateway::context::answered;

/// Longer than any token of a link.
const MAX_TOKEN_BYTES: usize = 200;
/// A form with the longest password that is looked at.
const MAX_FORM_BYTES: usize = 32 * 1_024;
/// A form must arrive within this time.
const FORM_TIMEOUT: Duration = Duration::from_secs(20);

/// What the links do.
#[async_trait]
pub trait MailActions: Send + Sync {
    /// Refusal: TokenInvalid.
    async fn verify(&self, token: String) -> Result<(), DomainError>;
    /// Refusals: TokenInvalid, WeakPassword, Busy.
    async fn reset(&self, token: String, password: Password) -> Result<(), DomainError>;
    /// Refusal: TokenInvalid.
    async fn unsubscribe(&self, token: String) -> Result<(), DomainError>;
}

/// The users actor does it.
pub struct UserActorMailActions {
    pub users: Address<UserActor>,
    pub deadline: Duration,
}

#[async_trait]
impl MailActions for UserActorMailActions {
    async fn verify(&self, token: String) -> Result<(), DomainError> {
        answered(self.users.ask(VerifyEmail { token }, self.deadline).await).map(drop)
    }

    async fn reset(&self, token: String, new_password: Password) -> Result<(), DomainError> {
        let message = ResetPassword { token, new_password, signs_in: false, client: SignInClient::default() };
        answered(self.users.ask(message, self.deadline).await).map(drop)
    }

    async fn unsubscribe(&self, token: String) -> Result<(), DomainError> {
        answered(self.users.ask(EndSubscription { token }, self.deadline).await)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Verify,
    Reset,
    Unsubscribe,
}

/// What is said at each step.
struct Words {
    title: &'static str,
    before: &'static str,
    button: &'static str,
    done: &'static str,
}

impl Action {
    fn named(name: &str) -> Option<Self> {
        match name {
            "verify" => Some(Self::Verify),
            "reset" => Some(Self::Reset),
            "unsubscribe" => Some(Self::Unsubscribe),
            _ => None,
        }
    }

    fn words(self) -> Words {
        match self {
            Self::Verify => Words {
                title: "Verify your e-mail address",
                before: "Press the button to show that this address is yours.",
                button: "Verify my address",
                done: "Your address is verified. You can close this page.",
            },
            Self::Reset => Words {
                title: "Set a new password",
                before: "Choose a password of 8 to 128 characters. You will be signed out everywhere.",
                button: "Set this password",
                done: "Your new password is set. Sign in with it.",
            },
            Self::Unsubscribe => Words {
                title: "Get no more of these mails",
                before: "Press the button and we send you no more mails of this sort.",
                button: "Unsubscribe",
                done: "You get no more mails of this sort. You can close this page.",
            },
        }
    }
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{ title }}</title>
<style>{{ style|safe }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{%- if let Some(problem) = problem %}
<p role="alert">{{ problem }}</p>
{%- endif %}
{%- if let Some(text) = text %}
<p>{{ text }}</p>
{%- endif %}
{%- if let Some(button) = button %}
<form method="post">
{%- if asks_password %}
<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" required>
{%- endif %}
<button type="submit">{{ button }}</button>
</form>
{%- endif %}
</main>
</body>
</html>
"#
)]
struct Page {
    title: &'static str,
    problem: Option<String>,
    text: Option<&'static str>,
    button: Option<&'static str>,
    asks_password: bool,
    style: &'static str,
}

const STYLE: &str = "body{margin:0;padding:24px;background:#f4f1ec;color:#22201c;font:16px/1.5 sans-serif}\
    main{max-width:480px;margin:0 auto;padding:24px;background:#fff}h1{font-size:22px}\
    label,input{display:block;width:100%;box-sizing:border-box;font:inherit}input{margin:4px 0 16px;padding:8px}\
    button{padding:10px 20px;border:0;background:#22201c;color:#fff;font:inherit;cursor:pointer}\
    [role=alert]{padding:12px;border-left:4px solid #b3261e;background:#fbeceb}";

/// The page's one style and forms to this server, and nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

impl Page {
    /// The page that a link opens.
    fn asking(action: Action) -> Self {
        let words = action.words();
        Self {
            title: words.title,
            problem: None,
            text: Some(words.before),
            button: Some(words.button),
            asks_password: action == Action::Reset,
            style: STYLE,
        }
    }

    /// The form once more, with what was wrong.
    fn asking_again(action: Action, problem: impl Into<String>) -> Self {
        Self { problem: Some(problem.into()), ..Self::asking(action) }
    }

    fn done(action: Action) -> Self {
        Self { text: Some(action.words().done), button: None, asks_password: false, ..Self::asking(action) }
    }

    fn failed(action: Action, problem: impl Into<String>) -> Self {
        Self { problem: Some(problem.into()), text: None, button: None, asks_password: false, ..Self::asking(action) }
    }

    fn answer(&self, status: StatusCode) -> HttpResponse {
        let page = self.render().expect("a page of plain texts always renders");
        HttpResponse::build(status)
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY.as_str()))
            .body(page)
    }
}

const BROKEN_LINK: &str = "This link is not complete. Copy it from the mail as a whole, or ask for a new mail.";
const VOID_LINK: &str = "This link has expired or was used already. Ask for a new mail.";

#[derive(Deserialize)]
struct LinkQuery {
    token: String,
}

/// The token of the link, if it can be one.
fn token_of(request: &HttpRequest) -> Option<String> {
    let token = web::Query::<LinkQuery>::from_query(request.query_string()).ok()?.into_inner().token;
    let is_plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (is_plain && (1..=MAX_TOKEN_BYTES).contains(&token.len())).then_some(token)
}

/// Every method of `/mail/{action}`.
pub async fn mail_page(
    request: HttpRequest,
    action: web::Path<String>,
    body: web::Payload,
    actions: web::Data<dyn MailActions>,
) -> HttpResponse {
    let Some(action) = Action::named(&action) else {
        return HttpResponse::NotFound().finish();
    };
    let token = match *request.method() {
        Method::GET | Method::HEAD | Method::POST => token_of(&request),
        _ => return HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET, HEAD, POST")).finish(),
    };
    let Some(token) = token else {
        return Page::failed(action, BROKEN_LINK).answer(StatusCode::BAD_REQUEST);
    };
    if *request.method() != Method::POST {
        return Page::asking(action).answer(StatusCode::OK);
    }
    let result = match action {
        Action::Verify => actions.verify(token).await,
        Action::Unsubscribe => actions.unsubscribe(token).await,
        Action::Reset => match new_password(&request, body).await {
            Ok(password) => actions.reset(token, password).await,
            Err((status, problem)) => return Page::asking_again(action, problem).answer(status),
        },
    };
    match result {
        Ok(()) => Page::done(action).answer(StatusCode::OK),
        Err(error) => refused(action, error),
    }
}

#[derive(Deserialize)]
struct NewPasswordForm {
    password: String,
}

async fn new_password(request: &HttpRequest, mut body: web::Payload) -> Result<Password, (StatusCode, &'static str)> {
    if request.content_type() != "application/x-www-form-urlencoded" {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "Use the form of this page."));
    }
    let reading = async {
        let mut form = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_| (StatusCode::BAD_REQUEST, "The form did not arrive as a whole."))?;
            if form.len() + chunk.len() > MAX_FORM_BYTES {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "A password has at most 128 characters."));
            }
            form.extend_from_slice(&chunk);
        }
        Ok(form)
    };
    let form = timeout(FORM_TIMEOUT, reading)
        .await
        .map_err(|_| (StatusCode::REQUEST_TIMEOUT, "The form did not arrive in time."))??;
    let form = std::str::from_utf8(&form).ok().and_then(|form| web::Query::<NewPasswordForm>::from_query(form).ok());
    match form {
        Some(form) => Ok(Password(form.into_inner().password)),
        None => Err((StatusCode::BAD_REQUEST, "Enter a new password.")),
    }
}

fn refused(action: Action, error: DomainError) -> HttpResponse {
    match error {
        DomainError::TokenInvalid => Page::failed(action, VOID_LINK).answer(StatusCode::BAD_REQUEST),
        DomainError::WeakPassword(reason) => {
            Page::asking_again(action, format!("Choose another password: {reason}.")).answer(StatusCode::BAD_REQUEST)
        }
        fault => {
            if matches!(fault, DomainError::Internal(_)) {
                tracing::error!(error = %fault, "could not act on a mail's link");
            } else {
                tracing::warn!(error = %fault, "could not act on a mail's link");
            }
            let mut response = Page::asking_again(action, "This does not work just now. Try again in a moment.")
                .answer(StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_nothing_and_says_only_its_own_words() {
        for action in [Action::Verify, Action::Reset, Action::Unsubscribe] {
            let page = Page::asking(action).render().unwrap();
            assert!(page.contains("<form method=\"post\">") && page.contains(action.words().button));
            assert_eq!(page.contains("type=\"password\""), action == Action::Reset);
            for foreign in ["<script", "src=", "href=", "http", "action="] {
                assert!(!page.contains(foreign), "{action:?} {foreign}");
            }
            assert!(!Page::done(action).render().unwrap().contains("<form"));
        }
        let hostile = Page::asking_again(Action::Reset, "<script>alert(1)</script>").render().unwrap();
        assert!(!hostile.contains("<script"), "{hostile}");
    }

    #[test]
    fn the_policy_names_the_style_that_the_page_has() {
        let page = Page::done(Action::Verify).render().unwrap();
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        assert!(POLICY.contains(&STANDARD.encode(Sha256::digest(style))));
    }
}

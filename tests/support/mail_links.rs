//! The tokens of mailed links, as the worker that sends the mail gets them: derived from the shop's own secret.

use std::sync::Arc;

use souk::actors::clock;
use souk::actors::users::keys::stored_server_secret;
use souk::actors::users::mail_tokens::MailTokens;
use souk::domain::ids::UserId;
use souk::domain::mail_requests::MailRequestKind;
use souk::domain::users::Subscription;
use souk::store::users::UserStore;

use super::{Account, TestApp};

/// The shop's users store beside the shop, and what derives the tokens.
pub struct MailLinks {
    store: Arc<dyn UserStore>,
    tokens: MailTokens,
}

impl MailLinks {
    pub async fn of(app: &TestApp) -> Self {
        let store = souk::app::open_users(&app.config).await.unwrap();
        let secret = stored_server_secret(&*store, app.config.auth.key_secret.expose()).await.unwrap();
        Self { store, tokens: MailTokens::new(&secret) }
    }

    /// The tokens of an account's requests of a kind, the newest first.
    pub async fn tokens_of(&self, account: &Account, kind: MailRequestKind) -> Vec<String> {
        let requests = self.store.mail_requests(user_id(account)).await.unwrap();
        let of_kind = requests.iter().filter(|request| request.kind == kind);
        of_kind.map(|request| self.tokens.of_request(kind, request.id)).collect()
    }

    pub async fn newest(&self, account: &Account, kind: MailRequestKind) -> String {
        self.tokens_of(account, kind).await.into_iter().next().expect("the account has a request of this kind")
    }

    pub fn unsubscribe(&self, account: &Account, subscription: Subscription) -> String {
        self.tokens.unsubscribe(user_id(account), subscription, clock::now())
    }
}

pub fn user_id(account: &Account) -> UserId {
    account.id.parse().expect("an account's id is a user's")
}

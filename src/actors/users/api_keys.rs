//! API keys: made and revoked by their users, checked at their use.
//!
//! A key's token is `souk_`, the id's digits, `_`, and 32 random bytes. The id finds the key; of the token the store keeps the
//! SHA-256, and nobody else has more than that once it was shown.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::messages::{CheckApiKeys, CreateApiKey, ListApiKeys, MadeApiKey, RevokeApiKey};
use super::{SignInChange, UserActor, UserTools, token_hash};
use crate::actors::clock::now;
use crate::actors::errors::{BUSY_RETRY_MS, DomainError};
use crate::config::Secret;
use crate::domain::api_keys::{ApiKey, InvalidKey};
use crate::domain::ids::{ApiKeyId, TypedId};
use crate::domain::users::TokenHash;
use crate::store::api_keys::{ApiKeyState, InsertApiKey, NewApiKey};

/// Before every token of an API key, and of nothing else: what scans texts for secrets knows it by that.
const MARK: &str = "souk_";
/// Characters of the random part: base64 of 32 bytes.
const SECRET_LEN: usize = 43;
/// So long the uses of keys are gathered before they are written.
const USES_GATHERED: Duration = Duration::from_secs(1);

/// How a key's token begins: enough to know it by, and no secret.
pub fn prefix(id: ApiKeyId) -> String {
    format!("{MARK}{}", &id.to_string()[ApiKeyId::PREFIX.len() + 1..])
}

/// Whether a text is meant as the token of an API key.
pub fn is_api_key(token: &str) -> bool {
    token.starts_with(MARK)
}

/// Which key a token is of, if it is genuine, and its hash.
pub fn parse(token: &str) -> Option<(ApiKeyId, TokenHash)> {
    let (digits, secret) = token.strip_prefix(MARK)?.split_once('_')?;
    let id = format!("{}_{digits}", ApiKeyId::PREFIX).parse().ok()?;
    (secret.len() == SECRET_LEN).then(|| (id, token_hash(token)))
}

fn new_token(id: ApiKeyId) -> String {
    let secret: [u8; 32] = rand::random();
    format!("{}_{}", prefix(id), URL_SAFE_NO_PAD.encode(secret))
}

impl From<InvalidKey> for DomainError {
    fn from(refusal: InvalidKey) -> Self {
        let field = match &refusal {
            InvalidKey::Name(_) => "name",
            InvalidKey::NoScopes | InvalidKey::StaffScope(_) => "scopes",
            InvalidKey::Expired => "expiresAt",
            InvalidKey::TooMany => "",
        };
        Self::invalid(field, refusal)
    }
}

impl UserActor {
    /// Writes the uses of keys as they are noted, beside the questions.
    pub(super) fn record_api_key_uses(&mut self, ctx: &mut Context<Self>) {
        let tools = Arc::clone(&self.tools);
        let recorded = async move { tools.record_noted_uses().await };
        ctx.spawn(recorded.into_actor(self).map(|(), actor, ctx| actor.record_api_key_uses(ctx)));
    }
}

impl UserTools {
    /// What could not be written is not tried again: the key's next use is written a minute later.
    async fn record_noted_uses(&self) {
        self.api_key_uses.noted().await;
        tokio::time::sleep(USES_GATHERED).await;
        if let Err(error) = self.api_keys.record_api_key_uses(&self.api_key_uses.take(now())).await {
            tracing::warn!(%error, "could not record the use of api keys");
        }
    }

    async fn create_api_key(&self, message: CreateApiKey) -> Result<MadeApiKey, DomainError> {
        let CreateApiKey { user_id, session_id, name, scopes, expires_at } = message;
        let id = ApiKeyId::from_uuid(Uuid::now_v7());
        let key =
            ApiKey { id, user_id, name, scopes, created_at: now(), last_used_at: None, expires_at, revoked_at: None };
        key.check()?;
        let token = new_token(id);
        let new = NewApiKey { key: key.clone(), token: token_hash(&token), session: session_id };
        match self.api_keys.insert_api_key(new).await? {
            InsertApiKey::Inserted => Ok(MadeApiKey { key, token: Secret::new(token) }),
            InsertApiKey::Refused(refusal) => Err(refusal.into()),
            // The next attempt meets the end of the session.
            InsertApiKey::SignedOut => Err(DomainError::Busy { retry_after_ms: BUSY_RETRY_MS }),
        }
    }
}

impl Handler<CreateApiKey> for UserActor {
    type Result = ResponseFuture<Result<MadeApiKey, DomainError>>;

    fn handle(&mut self, message: CreateApiKey, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { tools.create_api_key(message).await })
    }
}

impl Handler<RevokeApiKey> for UserActor {
    type Result = ResponseFuture<Result<ApiKey, DomainError>>;

    fn handle(&mut self, RevokeApiKey { id, of }: RevokeApiKey, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let missing = DomainError::NotFound { what: "the API key", field: Vec::new() };
            let key = tools.api_keys.revoke_api_key(id, of, now()).await?.ok_or(missing)?;
            (tools.sign_in_changed)(SignInChange::ApiKey(id));
            Ok(key)
        })
    }
}

impl Handler<ListApiKeys> for UserActor {
    type Result = ResponseFuture<Result<Vec<ApiKey>, DomainError>>;

    fn handle(&mut self, ListApiKeys { user_id }: ListApiKeys, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.api_keys.api_keys(user_id).await?) })
    }
}

impl Handler<CheckApiKeys> for UserActor {
    type Result = ResponseFuture<Result<Vec<(ApiKeyId, ApiKeyState)>, DomainError>>;

    fn handle(&mut self, CheckApiKeys { ids }: CheckApiKeys, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.api_keys.api_key_states(&ids).await?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_key_and_two_are_never_alike() {
        let id = ApiKeyId::from_uuid(Uuid::now_v7());
        let (first, second) = (new_token(id), new_token(id));
        assert!(is_api_key(&first) && first.starts_with(&prefix(id)) && first != second);
        assert_eq!(parse(&first), Some((id, token_hash(&first))));
        assert_ne!(parse(&first), parse(&second));
        assert!(!prefix(id).contains(&first[prefix(id).len()..]));
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_of_no_key() {
        let token = new_token(ApiKeyId::from_uuid(Uuid::now_v7()));
        let (start, secret) = token.split_at(token.len() - SECRET_LEN);
        for broken in [
            "",
            "souk_",
            "souk__",
            start,
            &token[..token.len() - 1],
            &format!("{token}x"),
            &token.replacen("souk_", "key_", 1),
            &token.to_uppercase(),
            &format!("souk_usr_{secret}"),
            &format!("souk_{secret}"),
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}

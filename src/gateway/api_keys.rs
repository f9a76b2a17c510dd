//! API keys: made, listed and revoked by whom they stand for.

use async_graphql::{Context, Enum, Error, ID, InputObject, Object, SimpleObject};

use super::access::Denied;
use super::connections::mutation_cost;
use super::context::{Shop, Viewer, answered};
use super::errors::{Inputs, UserError, query_error, user_errors};
use super::scalars::DateTime;
use crate::actors::errors::DomainError;
use crate::actors::users::api_keys::prefix;
use crate::actors::users::messages::{CreateApiKey, ListApiKeys, MadeApiKey, RevokeApiKey};
use crate::domain::api_keys::{ApiKey as DomainKey, ApiKeyScope as DomainScope};
use crate::domain::ids::UserId;

/// What an API key may be used for. A key never does what its user may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainScope")]
pub enum ApiKeyScope {
    /// Reads the account with its notifications and recommendations; of staff everybody's.
    AccountRead,
    /// Changes name and preferences, marks notifications as read, rates recommendations; reads as ACCOUNT_READ.
    AccountWrite,
    /// Reads and follows orders; of staff everybody's.
    OrdersRead,
    /// Places and cancels orders; of staff also ships and delivers them; reads as ORDERS_READ.
    OrdersWrite,
    /// Staff only: changes products, prices and stock.
    CatalogueWrite,
    /// Staff only: launches campaigns and sees them.
    Campaigns,
    /// Staff only: dead letters and the supervision tree.
    Operations,
}

/// A key by which a machine acts for its user.
#[derive(SimpleObject)]
pub struct ApiKey {
    /// The key's id.
    id: ID,
    /// As its user calls it.
    name: String,
    /// How the key itself begins, to know it by.
    prefix: String,
    /// What it may be used for.
    scopes: Vec<ApiKeyScope>,
    /// When it was made.
    created_at: DateTime,
    /// When it was last used, to a minute or so; null when it never was.
    last_used_at: Option<DateTime>,
    /// When it serves no more; null when it serves until it is revoked.
    expires_at: Option<DateTime>,
    /// When it was revoked; null when it was not.
    revoked_at: Option<DateTime>,
}

impl From<DomainKey> for ApiKey {
    fn from(key: DomainKey) -> Self {
        Self {
            id: key.id.to_string().into(),
            prefix: prefix(key.id),
            name: key.name,
            scopes: key.scopes.iter().map(ApiKeyScope::from).collect(),
            created_at: DateTime(key.created_at),
            last_used_at: key.last_used_at.map(DateTime),
            expires_at: key.expires_at.map(DateTime),
            revoked_at: key.revoked_at.map(DateTime),
        }
    }
}

/// A new API key.
#[derive(InputObject)]
pub struct ApiKeyCreateInput {
    /// What the user calls it, 1 to 100 characters.
    name: String,
    /// What it may be used for, at least one.
    scopes: Vec<ApiKeyScope>,
    /// When it serves no more, a time to come; until it is revoked unless given.
    expires_at: Option<DateTime>,
}

/// What making an API key answers.
#[derive(SimpleObject)]
pub struct ApiKeyCreatePayload {
    /// The key; null when it was refused.
    api_key: Option<ApiKey>,
    /// The key itself, for the header `Authorization: Bearer ...`. It is shown this once and kept nowhere.
    secret: Option<String>,
    /// Why there is no key; empty when there is.
    user_errors: Vec<UserError>,
}

/// What a mutation of an API key answers.
#[derive(SimpleObject)]
pub struct ApiKeyPayload {
    /// The key after the change; null when it was refused.
    api_key: Option<ApiKey>,
    /// Why nothing was changed; empty when it was.
    user_errors: Vec<UserError>,
}

/// All keys of a user that are kept, newest first.
pub async fn of_user(ctx: &Context<'_>, user_id: UserId) -> Result<Vec<ApiKey>, Error> {
    let shop = ctx.data::<Shop>()?;
    let keys = answered(shop.users.ask(ListApiKeys { user_id }, shop.ask_deadline).await);
    Ok(keys.map_err(|error| query_error(ctx, error))?.into_iter().map(ApiKey::from).collect())
}

#[derive(Default)]
pub struct ApiKeyMutation;

#[Object]
impl ApiKeyMutation {
    /// Makes an API key for the signed-in user: by it a machine does what its scopes name, as this user. A user has at most 20
    /// in use. Resetting the password and a new role revoke them all; a changed password and signing out do not.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn api_key_create(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new key.")] input: ApiKeyCreateInput,
    ) -> Result<ApiKeyCreatePayload, Error> {
        let viewer = Viewer::of(ctx);
        let (Some(user_id), Some(session_id)) = (viewer.user_id(), viewer.session_id()) else {
            return Err(Denied::Unauthenticated.into());
        };
        let shop = ctx.data::<Shop>()?;
        let message = CreateApiKey {
            user_id,
            session_id,
            name: input.name,
            scopes: input.scopes.into_iter().map(DomainScope::from).collect(),
            expires_at: input.expires_at.map(|DateTime(at)| at),
        };
        let result = answered(shop.users.ask(message, shop.ask_deadline).await);
        Ok(match result {
            Ok(MadeApiKey { key, token }) => ApiKeyCreatePayload {
                api_key: Some(key.into()),
                secret: Some(token.expose().to_owned()),
                user_errors: Vec::new(),
            },
            Err(error) => {
                let user_errors = user_errors(ctx, Inputs::OBJECT, error)?;
                ApiKeyCreatePayload { api_key: None, secret: None, user_errors }
            }
        })
    }

    /// Revokes an API key of one's own, or as staff anybody's: it serves no more, and what is open with it is closed. Again
    /// changes nothing.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn api_key_revoke(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key's id.")] id: ID,
    ) -> Result<ApiKeyPayload, Error> {
        let viewer = Viewer::of(ctx);
        let user_id = viewer.user_id().ok_or(Denied::Unauthenticated)?;
        let shop = ctx.data::<Shop>()?;
        let result = match id.parse() {
            Ok(id) => {
                let message = RevokeApiKey { id, of: viewer.confined_to(user_id) };
                answered(shop.users.ask(message, shop.ask_deadline).await)
            }
            Err(_) => Err(DomainError::NotFound { what: "the API key", field: Vec::new() }),
        };
        Ok(match result {
            Ok(key) => ApiKeyPayload { api_key: Some(key.into()), user_errors: Vec::new() },
            Err(error) => {
                ApiKeyPayload { api_key: None, user_errors: user_errors(ctx, Inputs::PLAIN.about("id"), error)? }
            }
        })
    }
}

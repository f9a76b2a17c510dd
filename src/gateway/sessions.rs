//! Sessions: signing up, in and out, and going on with a refresh token.
//!
//! The answer shows the user whom it is about, to that user: the request itself carries no token yet, or an old one.

use std::net::IpAddr;

use async_graphql::{Context, Error, ID, InputObject, Object, SimpleObject};
use tokio::time::Instant;

use super::answer_times;
use super::connections::mutation_cost;
use super::context::{RequestInfo, Shop, Viewer, answered};
use super::errors::{Inputs, UserError, user_errors};
use super::rate_limits::{RetryAfter, SignInRefusal};
use super::scalars::DateTime;
use super::users::{PreferencesInput, User};
use crate::actors::errors::DomainError;
use crate::actors::users::messages::{IsNetworkKnown, Password, RefreshTokens, SignIn, SignOut, SignUp, SignedIn};
use crate::domain::ids::SessionId;
use crate::domain::users::Session as DomainSession;

/// A new account.
#[derive(InputObject)]
pub struct SignUpInput {
    /// A plain e-mail address of at most 254 characters, without a display name.
    email: String,
    /// The user's name, 1 to 100 characters.
    name: String,
    /// A password of 8 to 128 characters.
    #[graphql(secret)]
    password: String,
    /// What the user wants to be written to about.
    preferences: Option<PreferencesInput>,
}

/// An account and its password.
#[derive(InputObject)]
pub struct SignInInput {
    /// The address of the account; case does not count.
    email: String,
    /// The account's password.
    #[graphql(secret)]
    password: String,
}

/// A sign-in: the tokens to go on with, and whom they stand for.
#[derive(SimpleObject)]
pub struct Session {
    /// For the header `Authorization: Bearer ...`; short-lived.
    access_token: String,
    /// Exchanged once, by `tokenRefresh`, for the next pair of tokens.
    refresh_token: String,
    /// When the access token expires.
    expires_at: DateTime,
    /// The signed-in user.
    user: User,
}

impl From<SignedIn> for Session {
    fn from(signed_in: SignedIn) -> Self {
        let SignedIn { user, session_id, access_token, refresh_token, expires_at } = signed_in;
        let viewer = Viewer::SignedIn { user_id: user.id, role: user.role, session_id: Some(session_id) };
        let user = User::shown_to(user, Some(viewer));
        Self { access_token, refresh_token, expires_at: DateTime(expires_at), user }
    }
}

/// A place where a user is signed in.
#[derive(SimpleObject)]
pub struct SignedInSession {
    /// The session's id.
    id: ID,
    /// As the client named itself when it signed in.
    user_agent: Option<String>,
    /// When the user signed in.
    created_at: DateTime,
    /// When the session's tokens were last refreshed.
    last_used_at: DateTime,
    /// True for the session of this request.
    current: bool,
}

impl SignedInSession {
    /// A session as somebody sees it who is signed in themself.
    pub fn seen_from(session: DomainSession, own: Option<SessionId>) -> Self {
        Self {
            id: session.id.to_string().into(),
            current: own == Some(session.id),
            user_agent: session.user_agent,
            created_at: DateTime(session.created_at),
            last_used_at: DateTime(session.last_used_at),
        }
    }
}

/// What signing up, signing in and refreshing answer.
#[derive(SimpleObject)]
pub struct SessionPayload {
    /// The session; null when it was refused.
    session: Option<Session>,
    /// Why there is no session; empty when there is.
    user_errors: Vec<UserError>,
}

impl SessionPayload {
    pub fn answer(ctx: &Context<'_>, inputs: Inputs, result: Result<SignedIn, DomainError>) -> Result<Self, Error> {
        Ok(match result {
            Ok(signed_in) => Self { session: Some(signed_in.into()), user_errors: Vec::new() },
            Err(error) => Self { session: None, user_errors: user_errors(ctx, inputs, error)? },
        })
    }
}

impl From<RetryAfter> for SessionPayload {
    fn from(limit: RetryAfter) -> Self {
        Self { session: None, user_errors: vec![limit.into()] }
    }
}

/// What signing out answers.
#[derive(SimpleObject)]
pub struct SignOutPayload {
    /// True when the session, or all of them, ended.
    signed_out: bool,
    /// Why nothing ended; empty when it did.
    user_errors: Vec<UserError>,
}

/// When it cannot be told, it is not.
async fn is_network_known(shop: &Shop, email: &str, address: IpAddr) -> bool {
    let question = IsNetworkKnown { email: email.trim().to_owned(), address };
    answered(shop.users.ask(question, shop.ask_deadline).await).unwrap_or(false)
}

#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Makes an account for a customer and signs them in.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn sign_up(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new account.")] input: SignUpInput,
    ) -> Result<SessionPayload, Error> {
        let (shop, info) = (ctx.data::<Shop>()?, ctx.data::<RequestInfo>()?);
        if let Err(limit) = shop.rate_limits.check_sign_up(info.client_address) {
            return Ok(limit.into());
        }
        let message = SignUp {
            email: input.email,
            name: input.name,
            password: Password(input.password),
            preferences: input.preferences.unwrap_or_default().into(),
            client: info.sign_in_client(),
        };
        let result = answered(shop.users.ask(message, shop.ask_deadline).await);
        SessionPayload::answer(ctx, Inputs::OBJECT, result)
    }

    /// Signs in. The answer is the same, and takes the same time, whether the account exists or not.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and its password.")] input: SignInInput,
    ) -> Result<SessionPayload, Error> {
        let (shop, info) = (ctx.data::<Shop>()?, ctx.data::<RequestInfo>()?);
        let (limits, address, came_at) = (&shop.rate_limits, info.client_address, Instant::now());
        let admitted = match limits.check_sign_in(&input.email, address) {
            // The owner is not locked out by whoever uses the account's attempts up from elsewhere.
            Err(SignInRefusal::Account(_)) if is_network_known(shop, &input.email, address).await => {
                limits.check_known_sign_in(&input.email, address)
            }
            checked => checked.map_err(SignInRefusal::retry_after),
        };
        if let Err(limit) = admitted {
            return Ok(limit.into());
        }
        let account = input.email.clone();
        let message = SignIn { email: input.email, password: Password(input.password), client: info.sign_in_client() };
        let result = answered(shop.users.ask(message, shop.ask_deadline).await);
        match &result {
            Ok(_) => limits.note_signed_in(&account, address),
            // Two hashes that make up for a dearer one take a little more than that one.
            Err(DomainError::InvalidCredentials) => answer_times::next_step(came_at).await,
            Err(_) => limits.note_not_judged(&account, address),
        }
        SessionPayload::answer(ctx, Inputs::OBJECT, result)
    }

    /// Exchanges a refresh token for a new pair of tokens. A token that is shown again later ends its session.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn token_refresh(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The session's latest refresh token.", secret)] refresh_token: String,
    ) -> Result<SessionPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = answered(shop.users.ask(RefreshTokens { refresh_token }, shop.ask_deadline).await);
        SessionPayload::answer(ctx, REFRESH_TOKEN, result)
    }

    /// Ends the session of a refresh token, or every session of the signed-in user.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn sign_out(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A refresh token of the session.", secret)] refresh_token: String,
        #[graphql(desc = "True ends all sessions of the user.", default_with = "Some(false)")] everywhere: Option<bool>,
    ) -> Result<SignOutPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match Viewer::of(ctx).user_id() {
            Some(user_id) => {
                let message = SignOut { user_id, refresh_token, everywhere: everywhere.unwrap_or(false) };
                answered(shop.users.ask(message, shop.ask_deadline).await)
            }
            None => Err(DomainError::TokenInvalid),
        };
        Ok(match result {
            Ok(()) => SignOutPayload { signed_out: true, user_errors: Vec::new() },
            Err(error) => SignOutPayload { signed_out: false, user_errors: user_errors(ctx, REFRESH_TOKEN, error)? },
        })
    }
}

/// The argument of a session's own token.
const REFRESH_TOKEN: Inputs = Inputs::PLAIN.renaming(&[("token", "refreshToken")]);

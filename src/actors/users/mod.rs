//! The users actor: accounts, sign-in, sessions, roles, keys of machines ([`api_keys`]), and what mails are about
//! ([`passwords`], [`accounts`], [`recipients`]).
//!
//! It holds nothing but its tools: the store decides every race (a taken address, a refresh token shown twice), so a
//! restart loses nothing. Whatever ends a session or a key or raises a token epoch tells `sign_in_changed`, so that this
//! process forgets its copies at once; other processes follow within 5 s.

mod accounts;
pub mod api_key_uses;
pub mod api_keys;
mod ed25519;
pub mod hasher;
pub mod key_ring;
pub mod keys;
pub mod mail_tokens;
pub mod messages;
pub mod networks;
mod passwords;
mod recipients;
pub mod tokens;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, Supervised, WrapFuture};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::api_key_uses::ApiKeyUses;
use self::hasher::{PasswordHasher, check_new_password};
use self::keys::{FollowedKeys, KeyError};
use self::mail_tokens::MailTokens;
use self::messages::{
    ChangeRole, CheckSession, CheckSessions, CreateAccount, EditPreferences, GetUsers, IsNetworkKnown, ListUsers,
    Password, RefreshTokens, SignIn, SignInClient, SignOut, SignUp, SignedIn,
};
use self::networks::Networks;
use self::tokens::AccessTokens;
use crate::actors::ask::Address;
use crate::actors::clock::now;
use crate::actors::errors::{BUSY_RETRY_MS, DomainError};
use crate::actors::notifications::NotificationActor;
use crate::actors::orders::OrderActor;
use crate::actors::recommendations::RecommendationActor;
use crate::domain::events::event_type;
use crate::domain::ids::{ApiKeyId, MailRequestId, SessionId, TypedId, UserId};
use crate::domain::mail_requests::MailRequestKind;
use crate::domain::networks::NETWORK_KNOWN_MS;
use crate::domain::page::Page;
use crate::domain::text::{Email, MAX_NAME, check_text};
use crate::domain::time::Timestamp;
use crate::domain::users::{PasswordHash, Preferences, RefreshVerdict, Role, Session, TokenHash, User};
use crate::store::api_keys::ApiKeyStore;
use crate::store::users::{Exchanged, InsertUser, NewSession, NewUser, SessionState, UserStore};

/// What a client may call itself is kept to this many characters.
const MAX_USER_AGENT: usize = 200;

/// Expired sessions and mail requests are removed this long after a start, when its rush is over, and then this often.
const FIRST_PURGE: Duration = Duration::from_secs(60);
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);

/// What was changed about who is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInChange {
    Session(SessionId),
    ApiKey(ApiKeyId),
    /// Something that is not known one by one: a password, a role, a sign-out everywhere.
    Any,
}

/// The users actor's tools.
pub struct UserTools {
    pub store: Arc<dyn UserStore>,
    pub api_keys: Arc<dyn ApiKeyStore>,
    /// Noted by whoever checks keys.
    pub api_key_uses: ApiKeyUses,
    pub tokens: AccessTokens,
    /// `None`: the keys of the tokens are not the store's.
    pub followed_keys: Option<FollowedKeys>,
    pub mail_tokens: MailTokens,
    pub networks: Networks,
    pub hasher: PasswordHasher,
    /// How long a session lives after its last refresh.
    pub refresh_token_days: u32,
    /// Asked for an export of what they keep.
    pub orders: Address<OrderActor>,
    pub recommendations: Address<RecommendationActor>,
    pub notifications: Address<NotificationActor>,
    pub ask_deadline: Duration,
    /// Called after each change.
    pub sign_in_changed: Box<dyn Fn(SignInChange) + Send + Sync>,
}

pub struct UserActor {
    tools: Arc<UserTools>,
    /// Whether the signing keys could be read when that was last tried.
    keys_readable: bool,
}

impl UserActor {
    pub fn new(tools: Arc<UserTools>) -> Self {
        Self { tools, keys_readable: true }
    }

    /// Reads the signing keys again and again: `souk keys rotate` changes them beside the servers.
    fn follow_keys(&mut self, ctx: &mut Context<Self>) {
        let Some(followed) = self.tools.followed_keys.clone() else { return };
        let (tools, every) = (Arc::clone(&self.tools), followed.every);
        let read = async move { followed.read_into(tools.tokens.keys(), tools.store.as_ref()).await };
        let read = read.into_actor(self).map(move |read, actor, ctx| {
            actor.note_keys(read);
            ctx.run_later(every, Self::follow_keys);
        });
        ctx.spawn(read);
    }

    /// Says it once when the keys can be read no more.
    fn note_keys(&mut self, read: Result<bool, KeyError>) {
        match &read {
            Ok(true) => {
                tracing::info!(keys = self.tools.tokens.keys().public_keys(now()).len(), "signing keys changed")
            }
            Err(error) if self.keys_readable => tracing::warn!(%error, "could not read the signing keys"),
            _ => {}
        }
        self.keys_readable = read.is_ok();
    }

    /// Removes the sessions and mail requests that have expired, beside the questions.
    fn purge(&mut self, ctx: &mut Context<Self>) {
        let store = Arc::clone(&self.tools.store);
        let purge = async move {
            match store.purge_sessions(now()).await {
                Ok(0) => {}
                Ok(sessions) => tracing::info!(sessions, "removed expired sessions"),
                Err(error) => tracing::warn!(%error, "could not remove expired sessions"),
            }
            match store.purge_mail_requests(now()).await {
                Ok(0) => {}
                Ok(requests) => tracing::info!(requests, "removed expired mail requests"),
                Err(error) => tracing::warn!(%error, "could not remove expired mail requests"),
            }
        };
        ctx.spawn(purge.into_actor(self));
    }

    /// Runs a question beside the others: nothing of the actor is borrowed while it waits.
    fn beside<T, F>(&self, work: impl FnOnce(Arc<UserTools>) -> F) -> ResponseFuture<Result<T, DomainError>>
    where
        F: Future<Output = Result<T, DomainError>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.tools)))
    }
}

impl Actor for UserActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.follow_keys(ctx);
        self.record_api_key_uses(ctx);
        ctx.run_later(FIRST_PURGE, |actor, ctx| actor.purge(ctx));
        ctx.run_interval(PURGE_EVERY, |actor, ctx| actor.purge(ctx));
    }
}

impl Supervised for UserActor {}

/// A new account of any role: checks the input, hashes the password, saves it with the request to verify its address.
/// The refusals are those of [`SignUp`].
pub async fn create_account(
    store: &dyn UserStore,
    mail_tokens: &MailTokens,
    hasher: &PasswordHasher,
    account: CreateAccount,
    preferences: Preferences,
) -> Result<User, DomainError> {
    let CreateAccount { email, name, password, role } = account;
    check_text("name", &name, 1, MAX_NAME).map_err(|reason| DomainError::invalid("name", reason))?;
    check_new_password(&password)?;
    let password_hash = hasher.hash(&password).await?;
    let at = now();
    let mut user = User {
        id: UserId::from_uuid(Uuid::now_v7()),
        email,
        name,
        role,
        email_verified: false,
        preferences,
        token_epoch: 0,
        demo: false,
        created_at: at,
        updated_at: at,
        event_sequence: 0,
        erased_at: None,
    };
    let request_id = MailRequestId::from_uuid(Uuid::now_v7());
    let verification = Some(mail_tokens.request(MailRequestKind::Verification, request_id, user.id, at));
    let event = user.event_about(Some(request_id), event_type::USER_SIGNED_UP, at);
    match store.insert_user(NewUser { user: user.clone(), password_hash, verification, event }).await? {
        InsertUser::Inserted => Ok(user),
        InsertUser::EmailTaken => Err(DomainError::EmailTaken),
    }
}

fn parse_email(text: &str) -> Result<Email, DomainError> {
    Email::parse(text).map_err(|reason| DomainError::invalid("email", reason))
}

fn new_refresh_token() -> String {
    let secret: [u8; 32] = rand::random();
    format!("srt_{}", URL_SAFE_NO_PAD.encode(secret))
}

fn token_hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token.as_bytes()).into())
}

impl UserTools {
    fn session_lifetime_ms(&self) -> i64 {
        i64::from(self.refresh_token_days) * 24 * 60 * 60 * 1000
    }

    async fn create_account(&self, account: CreateAccount, preferences: Preferences) -> Result<User, DomainError> {
        create_account(self.store.as_ref(), &self.mail_tokens, &self.hasher, account, preferences).await
    }

    fn new_session(&self, user_id: UserId, client: SignInClient, refresh_token: &str, at: Timestamp) -> NewSession {
        let session = Session {
            id: SessionId::from_uuid(Uuid::now_v7()),
            user_id,
            user_agent: client.user_agent.map(|agent| agent.chars().take(MAX_USER_AGENT).collect()),
            network: client.address.map(|address| self.networks.digest(address)),
            created_at: at,
            last_used_at: at,
            expires_at: at.plus_millis(self.session_lifetime_ms()),
            revoked_at: None,
        };
        NewSession { session, token: token_hash(refresh_token) }
    }

    async fn open_session(&self, user: User, client: SignInClient) -> Result<SignedIn, DomainError> {
        let refresh_token = new_refresh_token();
        let new = self.new_session(user.id, client, &refresh_token, now());
        let session_id = new.session.id;
        // A new password or a sign-out everywhere since the password was checked counts against this sign-in too.
        if !self.store.insert_session(new, user.token_epoch).await? {
            return Err(DomainError::Busy { retry_after_ms: BUSY_RETRY_MS });
        }
        Ok(self.signed_in(user, session_id, refresh_token))
    }

    fn signed_in(&self, user: User, session_id: SessionId, refresh_token: String) -> SignedIn {
        let (access_token, expires_at) = self.tokens.sign(user.id, session_id, user.role, user.token_epoch, now());
        SignedIn { user, session_id, access_token, refresh_token, expires_at }
    }

    /// The user of an address with the hash of their password, if this is it.
    async fn verified_user(&self, email: &str, password: &Password) -> Result<(User, PasswordHash), DomainError> {
        let known = match Email::parse(email) {
            Ok(email) => self.store.credentials(&email).await?,
            Err(_) => None,
        };
        let matches = self.hasher.verify(password, known.as_ref().map(|(_, hash)| hash)).await?;
        known.filter(|_| matches).ok_or(DomainError::InvalidCredentials)
    }

    /// Hashes a verified password anew if its hash is of another cost than new ones, beside the answer to its sign-in. What
    /// fails is left to a later one.
    fn keep_hash_up_to_date(self: Arc<Self>, user_id: UserId, password: Password, present: PasswordHash) {
        if !self.hasher.is_outdated(&present) {
            return;
        }
        actix_rt::spawn(async move {
            let renewed = async {
                let hash = self.hasher.hash(&password).await?;
                Ok::<_, DomainError>(self.store.renew_password_hash(user_id, &present, hash).await?)
            };
            match renewed.await {
                Ok(_) | Err(DomainError::Busy { .. }) => {}
                Err(error) => tracing::warn!(%error, "could not hash a password anew"),
            }
        });
    }
}

impl Handler<SignUp> for UserActor {
    type Result = ResponseFuture<Result<SignedIn, DomainError>>;

    fn handle(&mut self, message: SignUp, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let SignUp { email, name, password, preferences, client } = message;
            let account = CreateAccount { email: parse_email(&email)?, name, password, role: Role::Customer };
            let preferences = Preferences::default().edited(preferences);
            let user = tools.create_account(account, preferences).await?;
            tools.open_session(user, client).await
        })
    }
}

impl Handler<CreateAccount> for UserActor {
    type Result = ResponseFuture<Result<User, DomainError>>;

    fn handle(&mut self, account: CreateAccount, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { tools.create_account(account, Preferences::default()).await })
    }
}

impl Handler<SignIn> for UserActor {
    type Result = ResponseFuture<Result<SignedIn, DomainError>>;

    fn handle(&mut self, message: SignIn, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let SignIn { email, password, client } = message;
            let (user, hash) = tools.verified_user(&email, &password).await?;
            let signed_in = tools.open_session(user, client).await?;
            tools.keep_hash_up_to_date(signed_in.user.id, password, hash);
            Ok(signed_in)
        })
    }
}

impl Handler<IsNetworkKnown> for UserActor {
    type Result = ResponseFuture<Result<bool, DomainError>>;

    fn handle(&mut self, IsNetworkKnown { email, address }: IsNetworkKnown, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let Ok(email) = Email::parse(&email) else { return Ok(false) };
            let since = now().plus_millis(-NETWORK_KNOWN_MS);
            Ok(tools.store.signed_in_from(&email, tools.networks.digest(address), since).await?)
        })
    }
}

impl Handler<RefreshTokens> for UserActor {
    type Result = ResponseFuture<Result<SignedIn, DomainError>>;

    fn handle(&mut self, RefreshTokens { refresh_token }: RefreshTokens, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let successor = new_refresh_token();
            let shown = token_hash(&refresh_token);
            let at = now();
            let expires_at = at.plus_millis(tools.session_lifetime_ms());
            match tools.store.exchange_refresh_token(shown, token_hash(&successor), at, expires_at).await? {
                Exchanged::Done { session, user } => Ok(tools.signed_in(*user, session.id, successor)),
                Exchanged::Refused(verdict) => {
                    if verdict == RefreshVerdict::Reuse {
                        tracing::warn!("a used refresh token was shown again: its session was revoked");
                        (tools.sign_in_changed)(SignInChange::Any);
                    }
                    Err(DomainError::TokenInvalid)
                }
                Exchanged::Unknown => Err(DomainError::TokenInvalid),
            }
        })
    }
}

impl Handler<SignOut> for UserActor {
    type Result = ResponseFuture<Result<(), DomainError>>;

    fn handle(&mut self, message: SignOut, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let SignOut { user_id, refresh_token, everywhere } = message;
            let at = now();
            let ended = tools.store.end_session(user_id, token_hash(&refresh_token), at).await?;
            let session = ended.ok_or(DomainError::TokenInvalid)?;
            (tools.sign_in_changed)(SignInChange::Session(session));
            if everywhere {
                tools.store.end_all_sessions(user_id, at).await?;
                (tools.sign_in_changed)(SignInChange::Any);
            }
            Ok(())
        })
    }
}

impl Handler<CheckSession> for UserActor {
    type Result = ResponseFuture<Result<Option<SessionState>, DomainError>>;

    fn handle(&mut self, CheckSession { session_id }: CheckSession, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.session_state(session_id, now()).await?) })
    }
}

impl Handler<CheckSessions> for UserActor {
    type Result = ResponseFuture<Result<Vec<(SessionId, SessionState)>, DomainError>>;

    fn handle(&mut self, CheckSessions { session_ids }: CheckSessions, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.session_states(&session_ids, now()).await?) })
    }
}

impl Handler<GetUsers> for UserActor {
    type Result = ResponseFuture<Result<Vec<User>, DomainError>>;

    fn handle(&mut self, GetUsers { ids }: GetUsers, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.users(&ids).await?) })
    }
}

impl Handler<ListUsers> for UserActor {
    type Result = ResponseFuture<Result<Page<User>, DomainError>>;

    fn handle(&mut self, ListUsers { search, page }: ListUsers, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.list_users(search.as_deref(), &page).await?) })
    }
}

fn found(user: Option<User>) -> Result<User, DomainError> {
    user.ok_or(DomainError::NotFound { what: "the user", field: vec!["id".into()] })
}

impl Handler<EditPreferences> for UserActor {
    type Result = ResponseFuture<Result<User, DomainError>>;

    fn handle(&mut self, EditPreferences { user_id, edit }: EditPreferences, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { found(tools.store.edit_preferences(user_id, edit, now()).await?) })
    }
}

impl Handler<ChangeRole> for UserActor {
    type Result = ResponseFuture<Result<User, DomainError>>;

    fn handle(&mut self, ChangeRole { user_id, role }: ChangeRole, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let user = found(tools.store.change_role(user_id, role, now()).await?)?;
            (tools.sign_in_changed)(SignInChange::Any);
            Ok(user)
        })
    }
}

//! A small schema behind the real listener, with sessions that a test can end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_graphql::{Context, ErrorExtensions, Object, Schema, Subscription};
use async_trait::async_trait;
use futures_util::stream::{self, Stream, StreamExt};
use souk::actors::clock;
use souk::actors::errors::DomainError;
use souk::actors::users::key_ring::KeyMaterial;
use souk::actors::users::messages::Password;
use souk::actors::users::tokens::AccessTokens;
use souk::domain::ids::{SessionId, TypedId, UserId};
use souk::domain::users::Role;
use souk::gateway::auth::Auth;
use souk::gateway::context::{RequestInfo, Viewer};
use souk::gateway::mail_pages::MailActions;
use souk::gateway::server::PublicServer;
use souk::gateway::service::GraphqlService;
use souk::gateway::session_check::{SessionCheck, Source};
use souk::gateway::settings::HttpSettings;
use souk::store::users::SessionState;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

/// What the schema and the sessions of one test share.
pub struct World {
    pub sessions: Mutex<HashMap<SessionId, SessionState>>,
    pub sessions_down: AtomicBool,
    pub mutations: AtomicUsize,
    /// Lets `slow` answer.
    pub go: Notify,
    /// `slow` has begun.
    pub slow_begun: Notify,
    pub events: broadcast::Sender<String>,
    pub open_streams: Arc<AtomicUsize>,
    pub tokens: AccessTokens,
    /// What the links of mails have done.
    pub mail_actions: Mutex<Vec<String>>,
    /// How the next one of them fails.
    pub mail_failure: Mutex<Option<DomainError>>,
}

/// Tokens are good that begin with `good`.
pub struct MailLinks(Arc<World>);

impl MailLinks {
    fn act(&self, what: &str, token: &str) -> Result<(), DomainError> {
        if let Some(failure) = self.0.mail_failure.lock().unwrap().take() {
            return Err(failure);
        }
        if !token.starts_with("good") {
            return Err(DomainError::TokenInvalid);
        }
        self.0.mail_actions.lock().unwrap().push(what.to_owned());
        Ok(())
    }
}

#[async_trait]
impl MailActions for MailLinks {
    async fn verify(&self, token: String) -> Result<(), DomainError> {
        self.act("verify", &token)
    }
    async fn reset(&self, token: String, password: Password) -> Result<(), DomainError> {
        self.act(&format!("reset to {}", password.0), &token)
    }
    async fn unsubscribe(&self, token: String) -> Result<(), DomainError> {
        self.act("unsubscribe", &token)
    }
}

pub struct Sessions(Arc<World>);

#[async_trait]
impl Source<SessionId, SessionState> for Sessions {
    async fn state(&self, id: SessionId) -> Result<Option<SessionState>, DomainError> {
        if self.0.sessions_down.load(Ordering::SeqCst) {
            return Err(DomainError::Timeout);
        }
        Ok(self.0.sessions.lock().unwrap().get(&id).copied())
    }

    async fn states(&self, ids: Vec<SessionId>) -> Result<Vec<(SessionId, SessionState)>, DomainError> {
        if self.0.sessions_down.load(Ordering::SeqCst) {
            return Err(DomainError::Timeout);
        }
        let sessions = self.0.sessions.lock().unwrap();
        Ok(ids.into_iter().filter_map(|id| Some((id, sessions.get(&id).copied()?))).collect())
    }
}

pub struct Query;

#[Object]
impl Query {
    async fn hello(&self, name: Option<String>) -> String {
        format!("hello {}", name.unwrap_or_else(|| "you".into()))
    }
    async fn double(&self, number: i32) -> i32 {
        number.wrapping_mul(2)
    }
    async fn who(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        Ok(match ctx.data::<Viewer>()? {
            Viewer::Anonymous => "nobody".into(),
            Viewer::SignedIn { role, .. } | Viewer::ByKey { role, .. } => role.as_str().to_owned(),
        })
    }
    async fn address(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        Ok(ctx.data::<RequestInfo>()?.client_address.to_string())
    }
    async fn fails(&self) -> Option<async_graphql::Result<String>> {
        Some(Err(async_graphql::Error::new("failed").extend_with(|_, e| e.set("code", "UNAVAILABLE"))))
    }
    async fn fails_hard(&self) -> async_graphql::Result<String> {
        Err("failed".into())
    }
    async fn slow(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        let world = ctx.data::<Arc<World>>()?;
        world.slow_begun.notify_one();
        world.go.notified().await;
        Ok("done".into())
    }
    async fn me(&self) -> Query {
        Query
    }
}

pub struct Mutation;

#[Object]
impl Mutation {
    async fn bump(&self, ctx: &Context<'_>) -> async_graphql::Result<usize> {
        Ok(ctx.data::<Arc<World>>()?.mutations.fetch_add(1, Ordering::SeqCst) + 1)
    }
    async fn sign_in(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        Ok(format!("{:?}", ctx.data::<Viewer>()?))
    }
}

struct CountedStream(Arc<AtomicUsize>);

impl CountedStream {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub struct Subscriptions;

#[Subscription]
impl Subscriptions {
    async fn count(&self, to: i32) -> impl Stream<Item = i32> {
        stream::iter(1..=to)
    }
    async fn events(&self, ctx: &Context<'_>) -> async_graphql::Result<impl Stream<Item = String> + use<>> {
        let world = ctx.data::<Arc<World>>()?;
        let guard = CountedStream::new(&world.open_streams);
        let receiver = world.events.subscribe();
        Ok(stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
            receiver.recv().await.ok().map(|event| (event, (receiver, guard)))
        }))
    }
    async fn flood(&self) -> impl Stream<Item = String> {
        stream::repeat_with(|| "x".repeat(100_000))
    }
    async fn refused(&self) -> async_graphql::Result<impl Stream<Item = i32> + use<>> {
        Err::<stream::Empty<i32>, _>(
            async_graphql::Error::new("no").extend_with(|_, e| e.set("code", "UNAUTHENTICATED")),
        )
    }
    async fn sometimes(&self) -> impl Stream<Item = async_graphql::Result<i32>> {
        stream::iter([Err("first fails".into()), Ok(2)]).chain(stream::pending())
    }
}

pub struct Server {
    pub world: Arc<World>,
    pub public: PublicServer,
    pub sessions: SessionCheck,
    pub http: reqwest::Client,
    pub registry: prometheus::Registry,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut HttpSettings)) -> Self {
        let keys = [KeyMaterial::generate()];
        let world = Arc::new(World {
            sessions: Mutex::default(),
            sessions_down: AtomicBool::new(false),
            mutations: AtomicUsize::new(0),
            go: Notify::new(),
            slow_begun: Notify::new(),
            events: broadcast::channel(100).0,
            open_streams: Arc::default(),
            tokens: AccessTokens::new(&keys, "souk", "souk-api", 900).unwrap(),
            mail_actions: Mutex::default(),
            mail_failure: Mutex::default(),
        });
        let schema = Schema::build(Query, Mutation, Subscriptions).data(Arc::clone(&world)).finish();
        let mut settings = HttpSettings { workers: 1, ..HttpSettings::default() };
        adjust(&mut settings);
        let sessions = SessionCheck::new(Sessions(Arc::clone(&world)));
        let auth = Auth::new(world.tokens.clone(), sessions.clone());
        let service = Arc::new(GraphqlService::new(schema, auth, settings));
        let registry = prometheus::Registry::new();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mail_actions = Arc::new(MailLinks(Arc::clone(&world)));
        let public = PublicServer::start(listen, service, mail_actions, &registry).unwrap();
        Self { world, public, sessions, http: reqwest::Client::new(), registry }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public.address())
    }

    pub fn set_session(&self, number: u128, state: impl FnOnce(&mut SessionState)) {
        let id = SessionId::from_uuid(Uuid::from_u128(number));
        let mut sessions = self.world.sessions.lock().unwrap();
        let entry = sessions.entry(id).or_insert(SessionState {
            user_id: UserId::from_uuid(Uuid::from_u128(1)),
            role: Role::Staff,
            ended: false,
            token_epoch: 1,
        });
        state(entry);
    }

    /// A token of session `number`, which lives.
    pub fn token(&self, number: u128) -> String {
        self.set_session(number, |_| {});
        self.token_at(number, 0)
    }

    /// The same, signed this many milliseconds from now.
    pub fn token_at(&self, number: u128, millis: i64) -> String {
        let (user, session) = (Uuid::from_u128(1), Uuid::from_u128(number));
        let now = clock::now().plus_millis(millis);
        self.world.tokens.sign(UserId::from_uuid(user), SessionId::from_uuid(session), Role::Staff, 1, now).0
    }
}

pub fn session(number: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(number))
}

/// Waits for a condition, at most 10 s.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

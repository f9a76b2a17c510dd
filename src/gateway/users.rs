//! Users: who is who, what they want to be written to about, what they may do.

use async_graphql::{Context, Enum, Error, ID, InputObject, Object, SimpleObject};

use super::access::{Guarded, Owned};
use super::api_keys::{self, ApiKey};
use super::connections::{Connection, list_cost, mutation_cost, nested_page_cost, page_cost, page_request, root_cost};
use super::context::{Shop, Viewer, answered};
use super::cursors::CursorKind;
use super::errors::{Inputs, UserError, bad_input, query_error, user_errors};
use super::notifications::{self, NotificationConnection};
use super::orders::{self, Order};
use super::rate_limits::RetryAfter;
use super::recommendations::{self, Recommendation};
use super::scalars::{Cursor, DateTime};
use super::sessions::SignedInSession;
use crate::actors::errors::DomainError;
use crate::actors::users::messages::{ChangeRole, EditPreferences, GetUsers, ListSessions, ListUsers};
use crate::domain::ids::UserId;
use crate::domain::orders::OrderFilter;
use crate::domain::text::{MAX_NAME, check_text};
use crate::domain::users::{Preferences as DomainPreferences, PreferencesEdit, Role as DomainRole, User as DomainUser};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainRole")]
pub enum Role {
    /// Buys.
    Customer,
    /// Runs the shop: sees all users and orders, changes products, ships.
    Staff,
    /// Staff who may also change roles.
    Admin,
}

/// What a user wants to be written to about. Mail about the account itself, and that an order is confirmed, always goes out.
#[derive(SimpleObject)]
pub struct Preferences {
    /// News of the user's own orders after their confirmation.
    order_updates: bool,
    /// Campaigns.
    promotions: bool,
    /// Digests of recommended products.
    recommendations: bool,
}

impl From<DomainPreferences> for Preferences {
    fn from(preferences: DomainPreferences) -> Self {
        let DomainPreferences { order_updates, promotions, recommendations } = preferences;
        Self { order_updates, promotions, recommendations }
    }
}

/// A change of preferences: what is left out stays as it is.
#[derive(InputObject, Default)]
pub struct PreferencesInput {
    /// News of the user's own orders after their confirmation; on unless changed.
    order_updates: Option<bool>,
    /// Campaigns; off unless asked for.
    promotions: Option<bool>,
    /// Digests of recommended products; off unless asked for.
    recommendations: Option<bool>,
}

impl From<PreferencesInput> for PreferencesEdit {
    fn from(input: PreferencesInput) -> Self {
        let PreferencesInput { order_updates, promotions, recommendations } = input;
        Self { order_updates, promotions, recommendations }
    }
}

/// A user with the rule that only they and staff may look.
pub type User = Guarded<UserFields>;

/// The fields of a user; see [`User`].
pub struct UserFields {
    user: DomainUser,
    shown_to: Option<Viewer>,
}

impl User {
    pub fn new(user: DomainUser) -> Self {
        Guarded(UserFields { user, shown_to: None })
    }

    /// A user as another viewer than the request's sees them: in the answer to a sign-in, themself.
    pub fn shown_to(user: DomainUser, viewer: Option<Viewer>) -> Self {
        Guarded(UserFields { user, shown_to: viewer })
    }
}

impl Owned for UserFields {
    fn owner(&self) -> Option<UserId> {
        Some(self.user.id)
    }

    fn shown_to(&self) -> Option<Viewer> {
        self.shown_to
    }
}

/// An account of the shop.
#[Object(name = "User")]
impl UserFields {
    /// The user's id.
    pub async fn id(&self) -> ID {
        self.user.id.to_string().into()
    }

    /// The address under which the user signs in and is written to.
    async fn email(&self) -> &str {
        self.user.email.as_str()
    }

    /// The user's name.
    async fn name(&self) -> &str {
        &self.user.name
    }

    /// What the user may do.
    async fn role(&self) -> Role {
        self.user.role.into()
    }

    /// True when the user has shown that the address is theirs.
    async fn email_verified(&self) -> bool {
        self.user.email_verified
    }

    /// What the user wants to be written to about.
    async fn preferences(&self) -> Preferences {
        self.user.preferences.into()
    }

    /// When the account was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.user.created_at)
    }

    /// Where this user is signed in, newest first.
    #[graphql(complexity = "root_cost(list_cost(child_complexity))")]
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<SignedInSession>, Error> {
        let shop = ctx.data::<Shop>()?;
        let own = self.shown_to.unwrap_or_else(|| Viewer::of(ctx)).session_id();
        let sessions = answered(shop.users.ask(ListSessions { user_id: self.user.id }, shop.ask_deadline).await)
            .map_err(|error| query_error(ctx, error))?;
        Ok(sessions.into_iter().map(|session| SignedInSession::seen_from(session, own)).collect())
    }

    /// The user's API keys, newest first, with some that serve no more.
    #[graphql(complexity = "root_cost(list_cost(child_complexity))")]
    async fn api_keys(&self, ctx: &Context<'_>) -> Result<Vec<ApiKey>, Error> {
        api_keys::of_user(ctx, self.user.id).await
    }

    /// The user's orders, newest first.
    #[graphql(complexity = "nested_page_cost(first, child_complexity)")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor.")] after: Option<Cursor>,
    ) -> Result<Connection<Order>, Error> {
        let kind = CursorKind::OrdersOf(self.user.id);
        let page = page_request(ctx, first, after.as_ref(), kind)?;
        let filter = OrderFilter { customer_id: Some(self.user.id), ..OrderFilter::default() };
        orders::list(ctx, filter, (page, kind), self.shown_to).await
    }

    /// What the user was told, newest first.
    #[graphql(complexity = "nested_page_cost(first, child_complexity)")]
    async fn notifications(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor.")] after: Option<Cursor>,
        #[graphql(desc = "True leaves out what was read.")] unread_only: Option<bool>,
    ) -> Result<NotificationConnection, Error> {
        let page = page_request(ctx, first, after.as_ref(), CursorKind::Notifications(self.user.id))?;
        notifications::inbox(ctx, self.user.id, unread_only.unwrap_or(false), page, self.shown_to).await
    }

    /// What the user may want next, best first: in stock, and not what they have bought, unless it is used up.
    #[graphql(complexity = "nested_page_cost(first, child_complexity)")]
    async fn recommendations(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many at most: 1 to 100, 20 unless given.")] first: Option<i32>,
    ) -> Result<Vec<Recommendation>, Error> {
        recommendations::list(ctx, self.user.id, first).await
    }
}

/// What a mutation of a user answers.
#[derive(SimpleObject)]
pub struct UserPayload {
    /// The user after the change; null when it was refused.
    user: Option<User>,
    /// Why nothing was changed; empty when it was.
    user_errors: Vec<UserError>,
}

impl UserPayload {
    pub fn answer(ctx: &Context<'_>, inputs: Inputs, result: Result<DomainUser, DomainError>) -> Result<Self, Error> {
        Self::of(ctx, inputs, result.map(User::new))
    }

    /// As [`Self::answer`], to the user whom it is about: the request itself carries no sign-in.
    pub fn answer_to_its_user(
        ctx: &Context<'_>,
        inputs: Inputs,
        result: Result<DomainUser, DomainError>,
    ) -> Result<Self, Error> {
        let shown = result.map(|user| {
            let viewer = Viewer::SignedIn { user_id: user.id, role: user.role, session_id: None };
            User::shown_to(user, Some(viewer))
        });
        Self::of(ctx, inputs, shown)
    }

    fn of(ctx: &Context<'_>, inputs: Inputs, result: Result<User, DomainError>) -> Result<Self, Error> {
        Ok(match result {
            Ok(user) => Self { user: Some(user), user_errors: Vec::new() },
            Err(error) => Self { user: None, user_errors: user_errors(ctx, inputs, error)? },
        })
    }
}

impl From<RetryAfter> for UserPayload {
    fn from(limit: RetryAfter) -> Self {
        Self { user: None, user_errors: vec![limit.into()] }
    }
}

/// The user of an id if the viewer may see them: themself, or anybody for staff.
pub async fn visible_user(ctx: &Context<'_>, id: UserId) -> Result<Option<User>, Error> {
    let viewer = Viewer::of(ctx);
    if viewer.user_id() != Some(id) && !viewer.is_staff() {
        return Ok(None);
    }
    let shop = ctx.data::<Shop>()?;
    let users = answered(shop.users.ask(GetUsers { ids: vec![id] }, shop.ask_deadline).await);
    Ok(users.map_err(|error| query_error(ctx, error))?.into_iter().next().map(User::new))
}

#[derive(Default)]
pub struct UserQuery;

#[Object]
impl UserQuery {
    /// The signed-in user; null for who is not signed in.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn me(&self, ctx: &Context<'_>) -> Result<Option<User>, Error> {
        match Viewer::of(ctx).user_id() {
            Some(id) => visible_user(ctx, id).await,
            None => Ok(None),
        }
    }

    /// A user by id; null when there is none, or when it is not you and you are not staff.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn user(&self, ctx: &Context<'_>, #[graphql(desc = "The user's id.")] id: ID) -> Result<Option<User>, Error> {
        match id.parse() {
            Ok(id) => visible_user(ctx, id).await,
            Err(_) => Ok(None),
        }
    }

    /// All users, newest first.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor.")] after: Option<Cursor>,
        #[graphql(desc = "Only users with words in name or address that begin like these.")] search: Option<String>,
    ) -> Result<Connection<User>, Error> {
        let page = page_request(ctx, first, after.as_ref(), CursorKind::Users)?;
        if let Some(search) = &search {
            check_text("search", search, 0, 3 * MAX_NAME).map_err(|refusal| bad_input("search", refusal))?;
        }
        let shop = ctx.data::<Shop>()?;
        let page = answered(shop.users.ask(ListUsers { search, page }, shop.ask_deadline).await)
            .map_err(|error| query_error(ctx, error))?;
        Ok(Connection::of(page, CursorKind::Users, User::new))
    }
}

#[derive(Default)]
pub struct UserMutation;

#[Object]
impl UserMutation {
    /// Changes what the signed-in user is written to about.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn preferences_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: PreferencesInput,
    ) -> Result<UserPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match Viewer::of(ctx).user_id() {
            Some(user_id) => {
                answered(shop.users.ask(EditPreferences { user_id, edit: input.into() }, shop.ask_deadline).await)
            }
            None => Err(DomainError::NotFound { what: "the user", field: Vec::new() }),
        };
        UserPayload::answer(ctx, Inputs::OBJECT, result)
    }

    /// Changes what a user may do, and ends the user's sessions and API keys.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn user_role_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user's id.")] id: ID,
        #[graphql(desc = "The new role.")] role: Role,
    ) -> Result<UserPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match id.parse() {
            Ok(user_id) => answered(shop.users.ask(ChangeRole { user_id, role: role.into() }, shop.ask_deadline).await),
            Err(_) => Err(DomainError::NotFound { what: "the user", field: Vec::new() }),
        };
        UserPayload::answer(ctx, Inputs::PLAIN.about("id"), result)
    }
}

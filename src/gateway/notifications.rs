//! Notifications: a user's inbox, what was read, and what arrives while somebody looks.

use async_graphql::{Context, Enum, Error, ID, Object, SimpleObject, Subscription};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::access::{Denied, Guarded, Owned};
use super::connections::{Connection, Edge, PageInfo, TEXT_COST, mutation_cost, root_cost};
use super::context::{Shop, Viewer, answered};
use super::cursors::CursorKind;
use super::errors::{Inputs, UserError, query_error, user_errors};
use super::following::{GrowingList, follow};
use super::scalars::DateTime;
use crate::actors::errors::{DomainError, path};
use crate::actors::live::LiveKey;
use crate::actors::notifications::messages::{
    GetNotifications, LatestReceived, ListInbox, MarkNotificationsRead, ReceivedAfter, WhichRead,
};
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::notifications::{
    Notification as DomainNotification, NotificationKind as DomainKind, NotificationPriority as DomainPriority,
    NotificationStatus as DomainStatus,
};
use crate::domain::page::{MAX_PAGE_SIZE, PageRequest};

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainKind")]
pub enum NotificationKind {
    /// News of an order.
    OrderUpdate,
    /// News of the account itself: its address, its password.
    Account,
    /// A campaign.
    Promotion,
    /// A digest of recommended products.
    Recommendation,
}

/// How urgent a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainPriority")]
pub enum NotificationPriority {
    /// Goes at once, ahead of the others.
    Critical,
    /// Goes within the shop's limits.
    Standard,
}

/// What became of a notification's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "DomainStatus")]
pub enum NotificationStatus {
    /// It waits to be sent, perhaps again.
    Queued,
    /// It was sent.
    Sent,
    /// It is not sent: it is not wanted, or came too late.
    Skipped,
    /// It could not be sent.
    Dead,
}

/// A notification with the rule that only its user and staff may look.
pub type Notification = Guarded<NotificationFields>;

/// The fields of a notification; see [`Notification`].
pub struct NotificationFields {
    notification: DomainNotification,
    shown_to: Option<Viewer>,
}

impl Notification {
    pub fn new(notification: DomainNotification) -> Self {
        Self::shown_to(notification, None)
    }

    /// A notification as another viewer than the request's sees it: in the answer to a sign-in, the one who signed in.
    pub fn shown_to(notification: DomainNotification, shown_to: Option<Viewer>) -> Self {
        Guarded(NotificationFields { notification, shown_to })
    }
}

impl Owned for NotificationFields {
    fn owner(&self) -> Option<UserId> {
        Some(self.notification.user_id)
    }

    fn shown_to(&self) -> Option<Viewer> {
        self.shown_to
    }
}

/// Something that a user is told, by mail and here.
#[Object(name = "Notification")]
impl NotificationFields {
    /// The notification's id.
    pub async fn id(&self) -> ID {
        self.notification.id.to_string().into()
    }

    /// What it is about.
    async fn kind(&self) -> NotificationKind {
        self.notification.kind.into()
    }

    /// How urgent its mail is.
    async fn priority(&self) -> NotificationPriority {
        self.notification.priority().into()
    }

    /// What became of its mail.
    async fn status(&self) -> NotificationStatus {
        self.notification.status.into()
    }

    /// What it says, in a line.
    async fn subject(&self) -> &str {
        &self.notification.subject
    }

    /// What it says, as plain text. Of a mail with a link only that a link was sent.
    #[graphql(complexity = "TEXT_COST")]
    async fn body(&self) -> &str {
        &self.notification.body
    }

    /// How often its mail was tried.
    async fn attempts(&self) -> i32 {
        i32::try_from(self.notification.attempts).unwrap_or(i32::MAX)
    }

    /// Why the last attempt failed, or why it was skipped.
    async fn last_error(&self) -> Option<&str> {
        self.notification.last_error.as_deref()
    }

    /// True once its user has read it.
    async fn read(&self) -> bool {
        self.notification.read
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.notification.created_at)
    }

    /// When its mail was sent.
    async fn sent_at(&self) -> Option<DateTime> {
        self.notification.sent_at.map(DateTime)
    }
}

/// A page of an inbox.
pub struct NotificationConnection {
    connection: Connection<Notification>,
    unread: u64,
}

/// A page of an inbox.
#[Object]
impl NotificationConnection {
    /// The entries of this page with their cursors.
    async fn edges(&self) -> &[Edge<Notification>] {
        self.connection.entries()
    }

    /// The entries of this page.
    async fn nodes(&self) -> Vec<&Notification> {
        self.connection.entries().iter().map(Edge::entry).collect()
    }

    /// Where this page lies in the list.
    async fn page_info(&self) -> &PageInfo {
        self.connection.place()
    }

    /// The number of entries of the whole list.
    async fn total_count(&self) -> i32 {
        self.connection.total()
    }

    /// The number of unread notifications of the whole inbox.
    async fn unread_count(&self) -> i32 {
        i32::try_from(self.unread).unwrap_or(i32::MAX)
    }
}

/// A user's inbox, newest first.
pub async fn inbox(
    ctx: &Context<'_>,
    user_id: UserId,
    unread_only: bool,
    page: PageRequest,
    shown_to: Option<Viewer>,
) -> Result<NotificationConnection, Error> {
    let shop = ctx.data::<Shop>()?;
    let listed = answered(shop.notifications.ask(ListInbox { user_id, unread_only, page }, shop.ask_deadline).await);
    let listed = listed.map_err(|error| query_error(ctx, error))?;
    Ok(NotificationConnection {
        connection: Connection::of(listed.page, CursorKind::Notifications(user_id), |entry| {
            Notification::shown_to(entry, shown_to)
        }),
        unread: listed.unread,
    })
}

/// The notification of an id if the viewer may see it: their own, or anybody's for staff.
pub async fn visible_notification(ctx: &Context<'_>, id: NotificationId) -> Result<Option<Notification>, Error> {
    let viewer = Viewer::of(ctx);
    let Some(own) = viewer.user_id() else { return Ok(None) };
    let shop = ctx.data::<Shop>()?;
    let message = GetNotifications { ids: vec![id], user_id: viewer.confined_to(own) };
    let found = answered(shop.notifications.ask(message, shop.ask_deadline).await);
    Ok(found.map_err(|error| query_error(ctx, error))?.into_iter().next().map(Notification::new))
}

/// What marking notifications as read answers.
#[derive(SimpleObject)]
pub struct NotificationsMarkReadPayload {
    /// How many were unread and are read now.
    updated_count: i32,
    /// Why none was changed; empty when it was done.
    user_errors: Vec<UserError>,
}

#[derive(Default)]
pub struct NotificationMutation;

#[Object]
impl NotificationMutation {
    /// Marks notifications of the signed-in user as read: some by their ids, or all.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn notifications_mark_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ids of the notifications, at most 100.")] ids: Option<Vec<ID>>,
        #[graphql(desc = "True for every unread notification; then without ids.", default_with = "Some(false)")]
        all: Option<bool>,
    ) -> Result<NotificationsMarkReadPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let user_id = Viewer::of(ctx).user_id().ok_or(Denied::Unauthenticated)?;
        let marked = match which_read(ids, all.unwrap_or(false)) {
            Ok(which) => {
                answered(shop.notifications.ask(MarkNotificationsRead { user_id, which }, shop.ask_deadline).await)
            }
            Err(refusal) => Err(refusal),
        };
        Ok(match marked {
            Ok(marked) => NotificationsMarkReadPayload {
                updated_count: i32::try_from(marked).unwrap_or(i32::MAX),
                user_errors: Vec::new(),
            },
            Err(error) => {
                NotificationsMarkReadPayload { updated_count: 0, user_errors: user_errors(ctx, Inputs::PLAIN, error)? }
            }
        })
    }
}

fn which_read(ids: Option<Vec<ID>>, all: bool) -> Result<WhichRead, DomainError> {
    match ids {
        None if all => Ok(WhichRead::All),
        None => Err(DomainError::invalid("ids", "give ids, or true for all")),
        Some(_) if all => Err(DomainError::invalid("ids", "give ids or true for all, not both")),
        Some(ids) if ids.len() > MAX_PAGE_SIZE as usize => {
            Err(DomainError::invalid("ids", format!("at most {MAX_PAGE_SIZE} ids at a time")))
        }
        Some(ids) => {
            // What is no id at all, a missing and a foreign one are answered alike.
            let not_found =
                |position| DomainError::NotFound { what: "a notification", field: path(&format!("ids.{position}")) };
            let parsed = ids.iter().enumerate().map(|(position, id)| id.parse().map_err(|_| not_found(position)));
            parsed.collect::<Result<_, _>>().map(WhichRead::These)
        }
    }
}

/// What a user receives.
struct Received {
    user_id: UserId,
}

#[async_trait]
impl GrowingList for Received {
    type Entry = DomainNotification;

    async fn end(&self, shop: &Shop) -> Result<String, DomainError> {
        answered(shop.notifications.ask(LatestReceived { user_id: self.user_id }, shop.ask_deadline).await)
    }

    async fn after(
        &self,
        shop: &Shop,
        cursor: String,
        limit: u32,
    ) -> Result<Vec<(String, DomainNotification)>, DomainError> {
        let message = ReceivedAfter { user_id: self.user_id, cursor, limit };
        answered(shop.notifications.ask(message, shop.ask_deadline).await)
    }
}

#[derive(Default)]
pub struct NotificationSubscription;

#[Subscription]
impl NotificationSubscription {
    /// Each notification of mine from now on, once, when it is made.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn notification_received(
        &self,
        ctx: &Context<'_>,
    ) -> Result<BoxStream<'static, Result<Notification, Error>>, Error> {
        let user_id = Viewer::of(ctx).user_id().ok_or(Denied::Unauthenticated)?;
        let received = follow(ctx, LiveKey::Inbox(user_id), Received { user_id }, None).await?;
        Ok(received.map_ok(|(_, notification)| Notification::new(notification)).boxed())
    }
}

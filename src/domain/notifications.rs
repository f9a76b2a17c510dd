//! Notifications: what a user is told, by mail and in the inbox of the shop.
//!
//! An event becomes a notification ([`intake`]); what its mail says is in its [`content`]; how a failed attempt goes on
//! and how fast standard mail may leave is decided in [`attempts`]. A notification waits as QUEUED until it is SENT, was
//! SKIPPED for a reason, or is DEAD after its attempts.

pub mod attempts;
pub mod content;
pub mod intake;

use super::dead_letters::DeadLetter;
use super::events::{NotificationChanged, PendingEvent, StoredRecord, Topic, event_type, header, source};
use super::ids::{CampaignId, NotificationId, UserId};
use super::time::Timestamp;
use super::users::Preferences;
use content::Content;

/// The group that takes what events tell, under which the dead letters of mails are kept, and which takes their replays.
pub const GROUP: &str = "notifications";

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationKind {
    OrderUpdate,
    Account,
    Promotion,
    Recommendation,
}

/// Which lane a notification waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationPriority {
    Critical,
    Standard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationStatus {
    /// Waits for its mail to be sent, at once or at its next attempt.
    Queued,
    Sent,
    /// Is not mailed; `last_error` says why.
    Skipped,
    /// Could not be mailed; a dead letter can queue it again.
    Dead,
}

impl NotificationKind {
    pub const ALL: [Self; 4] = [Self::OrderUpdate, Self::Account, Self::Promotion, Self::Recommendation];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderUpdate => "ORDER_UPDATE",
            Self::Account => "ACCOUNT",
            Self::Promotion => "PROMOTION",
            Self::Recommendation => "RECOMMENDATION",
        }
    }

    /// Somebody waits for what concerns their account or order; the rest keeps to the shop's limits.
    pub fn priority(self) -> NotificationPriority {
        match self {
            Self::OrderUpdate | Self::Account => NotificationPriority::Critical,
            Self::Promotion | Self::Recommendation => NotificationPriority::Standard,
        }
    }
}

impl NotificationPriority {
    pub const ALL: [Self; 2] = [Self::Critical, Self::Standard];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::Standard => "STANDARD",
        }
    }
}

impl NotificationStatus {
    pub const ALL: [Self; 4] = [Self::Queued, Self::Sent, Self::Skipped, Self::Dead];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Sent => "SENT",
            Self::Skipped => "SKIPPED",
            Self::Dead => "DEAD",
        }
    }

    /// `ce_type` of reaching this status.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Queued => event_type::NOTIFICATION_QUEUED,
            Self::Sent => event_type::NOTIFICATION_SENT,
            Self::Skipped => event_type::NOTIFICATION_SKIPPED,
            Self::Dead => event_type::NOTIFICATION_DEAD,
        }
    }
}

/// A notification as stored. No token is ever in it: links are made when the mail is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub id: NotificationId,
    pub user_id: UserId,
    pub kind: NotificationKind,
    pub status: NotificationStatus,
    pub subject: String,
    /// Plain text for the inbox; of a mail with a link it says only that a link was sent.
    pub body: String,
    /// What the mail is made of; `None` once the user is erased.
    pub content: Option<Content>,
    pub campaign_id: Option<CampaignId>,
    /// Every attempt at sending it, over all its rounds.
    pub attempts: u32,
    /// Attempts of this round that count against the most there may be.
    pub failures: u32,
    /// When the first attempt of this round was made.
    pub first_attempt_at: Option<Timestamp>,
    /// 0, and one more each time that its dead letter was replayed.
    pub round: u32,
    /// Why the last attempt failed, or why it was skipped.
    pub last_error: Option<String>,
    pub read: bool,
    pub created_at: Timestamp,
    pub sent_at: Option<Timestamp>,
    /// Of its last event.
    pub event_sequence: i64,
    /// The trace that its mail and its events belong to.
    pub traceparent: Option<String>,
}

/// A notification to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    pub id: NotificationId,
    pub user_id: UserId,
    pub content: Content,
    /// Names the cause: the same cause tells a user once, however often it is handled.
    pub dedupe_key: String,
    pub traceparent: Option<String>,
}

impl NewNotification {
    /// The notification as admitted: to be sent, or skipped from the start.
    pub fn admitted(self, skip: Option<SkipReason>, at: Timestamp) -> Notification {
        Notification {
            id: self.id,
            user_id: self.user_id,
            kind: self.content.kind(),
            status: if skip.is_some() { NotificationStatus::Skipped } else { NotificationStatus::Queued },
            subject: self.content.subject(),
            body: self.content.body(),
            campaign_id: self.content.campaign_id(),
            content: Some(self.content),
            attempts: 0,
            failures: 0,
            first_attempt_at: None,
            round: 0,
            last_error: skip.map(|reason| reason.as_str().to_owned()),
            read: false,
            created_at: at,
            sent_at: None,
            event_sequence: 0,
            traceparent: self.traceparent,
        }
    }
}

impl Notification {
    pub fn priority(&self) -> NotificationPriority {
        self.kind.priority()
    }

    /// The event that this notification changed; counts it.
    pub fn event(&mut self, event_type: &'static str, at: Timestamp) -> PendingEvent {
        self.event_sequence += 1;
        let mut event = PendingEvent::new(
            Topic::NotificationEvents,
            source::NOTIFICATIONS,
            event_type,
            self.id.to_string(),
            self.event_sequence,
            at,
            &self.changed(),
        );
        if let Some(traceparent) = &self.traceparent {
            event.follow(traceparent);
        }
        PendingEvent { key: self.user_id.to_string(), ..event }
    }

    /// The body of its events.
    pub fn changed(&self) -> NotificationChanged {
        NotificationChanged { notification_id: self.id, user_id: self.user_id, campaign_id: self.campaign_id }
    }

    /// The dead letter of this notification, which is DEAD now. Its record is the event that says so: a replay brings
    /// that back to the group. `position` tells notifications apart where a record names its place.
    pub fn dead_letter(&self, position: i64, at: Timestamp) -> DeadLetter {
        let headers = [
            (header::SPEC_VERSION, "1.0".to_owned()),
            (header::TYPE, event_type::NOTIFICATION_DEAD.to_owned()),
            (header::SOURCE, source::NOTIFICATIONS.to_owned()),
            (header::ID, format!("{}-{}", self.id, self.event_sequence)),
            (header::TIME, at.to_string()),
            (header::SUBJECT, self.id.to_string()),
            (header::CONTENT_TYPE, "application/json".to_owned()),
        ];
        DeadLetter {
            id: format!("{GROUP}/{}/{}", self.id, self.round),
            source: GROUP.to_owned(),
            reason: self.last_error.clone().unwrap_or_default(),
            attempts: self.attempts,
            record: StoredRecord {
                topic: Topic::NotificationEvents.name().to_owned(),
                partition: 0,
                offset: position,
                key: self.user_id.to_string(),
                headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
                body: serde_json::to_string(&self.changed())
                    .expect("event bodies are plain data: nothing in them can fail to serialise"),
            },
            round: self.round,
            failed_at: at,
            replayed_at: None,
            replayed_by: None,
            discarded_at: None,
            discarded_by: None,
        }
    }

    /// The event by which the letter of [`Self::dead_letter`] travels.
    pub fn dead_letter_event(&self, position: i64, at: Timestamp) -> PendingEvent {
        let letter = self.dead_letter(position, at);
        let (topic, id) = (Topic::DeadLetterQueue, letter.id.clone());
        PendingEvent::new(topic, source::NOTIFICATIONS, event_type::DEAD_LETTER, id, 1, at, &letter)
    }

    /// Ends it without a mail.
    pub fn skip(&mut self, reason: SkipReason) {
        self.status = NotificationStatus::Skipped;
        self.last_error = Some(reason.as_str().to_owned());
    }

    /// Queues a dead one again for the round that the replay of its letter opens. False: the replay had its effect
    /// before, or it is not dead any more.
    pub fn requeue(&mut self, round: u32) -> bool {
        if self.status != NotificationStatus::Dead || round <= self.round || self.content.is_none() {
            return false;
        }
        self.status = NotificationStatus::Queued;
        self.round = round;
        self.failures = 0;
        self.first_attempt_at = None;
        true
    }

    /// Forgets what is personal. True: it was still to be sent, which now it is not.
    pub fn erase(&mut self) -> bool {
        let was_queued = self.status == NotificationStatus::Queued;
        self.subject.clear();
        self.body.clear();
        self.content = None;
        if was_queued {
            self.skip(SkipReason::AccountDeleted);
        }
        was_queued
    }
}

/// Why a notification is not mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    Demo,
    DailyLimit,
    OrderUpdatesOff,
    PromotionsOff,
    RecommendationsOff,
    LinkExpired,
    AccountDeleted,
}

impl SkipReason {
    /// As `lastError` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::DailyLimit => "daily limit",
            Self::OrderUpdatesOff => "order updates are switched off",
            Self::PromotionsOff => "promotions are switched off",
            Self::RecommendationsOff => "recommendations are switched off",
            Self::LinkExpired => "the link expired before it could be sent",
            Self::AccountDeleted => "the account was deleted",
        }
    }
}

/// Whether a mail goes to somebody with these preferences. Account mail and the confirmation of an order always do.
pub fn objection(content: &Content, preferences: Preferences, demo: bool) -> Option<SkipReason> {
    if demo {
        return Some(SkipReason::Demo);
    }
    match content.kind() {
        NotificationKind::Account => None,
        NotificationKind::OrderUpdate if content.is_confirmation() => None,
        NotificationKind::OrderUpdate => (!preferences.order_updates).then_some(SkipReason::OrderUpdatesOff),
        NotificationKind::Promotion => (!preferences.promotions).then_some(SkipReason::PromotionsOff),
        NotificationKind::Recommendation => (!preferences.recommendations).then_some(SkipReason::RecommendationsOff),
    }
}

/// Whether one more standard mail today would be too many for its recipient.
pub fn is_over_daily_limit(sent_today: u32, limit: u32) -> bool {
    sent_today >= limit
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// When the day of `at` began, in UTC.
pub fn start_of_day(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(DAY_MS) * DAY_MS)
}

/// The limits that standard mail keeps to, over the whole shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandardLimits {
    pub per_second: u32,
    pub per_recipient_per_day: u32,
}

/// How many notifications a campaign has, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CampaignTally {
    /// Of all of them.
    pub total: u64,
    pub queued: u64,
    pub sent: u64,
    pub skipped: u64,
    pub dead: u64,
}

#[cfg(test)]
mod tests {
    use super::content::tests::{digest, order_news, promotion};
    use super::*;
    use crate::domain::events::{HEADER_REPLAY_GROUP, HEADER_ROUND};
    use crate::domain::ids::TypedId;
    use crate::domain::orders::OrderStatus;
    use uuid::Uuid;

    fn new(content: Content) -> NewNotification {
        NewNotification {
            id: NotificationId::from_uuid(Uuid::from_u128(1)),
            user_id: UserId::from_uuid(Uuid::from_u128(2)),
            content,
            dedupe_key: "cause".into(),
            traceparent: None,
        }
    }

    #[test]
    fn preferences_count_where_there_is_a_choice() {
        let none = Preferences { order_updates: false, promotions: false, recommendations: false };
        let all = Preferences { order_updates: true, promotions: true, recommendations: true };
        for (content, refusal) in [
            (Content::PasswordChanged, None),
            (Content::Order(order_news(OrderStatus::Confirmed)), None),
            (Content::Order(order_news(OrderStatus::Rejected)), Some(SkipReason::OrderUpdatesOff)),
            (Content::Order(order_news(OrderStatus::Shipped)), Some(SkipReason::OrderUpdatesOff)),
            (Content::Order(order_news(OrderStatus::Delivered)), Some(SkipReason::OrderUpdatesOff)),
            (Content::Order(order_news(OrderStatus::Cancelled)), Some(SkipReason::OrderUpdatesOff)),
            (promotion(), Some(SkipReason::PromotionsOff)),
            (digest(), Some(SkipReason::RecommendationsOff)),
        ] {
            assert_eq!(objection(&content, none, false), refusal, "{content:?}");
            assert_eq!(objection(&content, all, false), None, "{content:?}");
            assert_eq!(objection(&content, all, true), Some(SkipReason::Demo), "{content:?}");
        }
    }

    #[test]
    fn only_account_and_order_mail_is_critical() {
        let critical: Vec<_> = NotificationKind::ALL
            .into_iter()
            .filter(|kind| kind.priority() == NotificationPriority::Critical)
            .collect();
        assert_eq!(critical, [NotificationKind::OrderUpdate, NotificationKind::Account]);
    }

    #[test]
    fn a_replay_queues_a_dead_notification_once_for_each_round() {
        let mut notification = new(Content::PasswordChanged).admitted(None, Timestamp(1));
        assert!(!notification.requeue(1), "it is not dead");
        notification.status = NotificationStatus::Dead;
        notification.failures = 5;
        assert!(notification.requeue(1));
        assert_eq!((notification.status, notification.failures), (NotificationStatus::Queued, 0));
        notification.status = NotificationStatus::Dead;
        assert!(!notification.requeue(1), "the same replay again");
        assert!(notification.requeue(2));
    }

    #[test]
    fn a_letter_of_each_round_goes_back_to_the_group() {
        let mut notification = new(promotion()).admitted(None, Timestamp(1));
        notification.last_error = Some("550 no such mailbox".into());
        for round in 0..2 {
            notification.round = round;
            let letter = notification.dead_letter(7, Timestamp(9));
            assert_eq!(letter.id, format!("notifications/{}/{round}", notification.id));
            let replay = letter.replay_event(Timestamp(10)).unwrap();
            let headers =
                |name: &str| replay.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
            assert_eq!(headers(HEADER_REPLAY_GROUP), Some(GROUP));
            assert_eq!(headers(HEADER_ROUND), Some((round + 1).to_string().as_str()));
            assert_eq!((replay.topic, &*replay.event_type), (Topic::NotificationEvents, event_type::NOTIFICATION_DEAD));
            assert_eq!(serde_json::from_str::<NotificationChanged>(&replay.body).unwrap(), notification.changed());
            assert!(!letter.record.body.contains("Lamps"), "a letter carries no text of the mail");
        }
    }

    #[test]
    fn an_erased_notification_says_nothing_and_is_not_sent() {
        let mut notification = new(promotion()).admitted(None, Timestamp(1));
        assert!(notification.erase());
        assert_eq!((notification.subject.as_str(), notification.body.as_str(), &notification.content), ("", "", &None));
        assert_eq!(notification.status, NotificationStatus::Skipped);
        assert!(!notification.erase(), "once is enough");
        notification.status = NotificationStatus::Dead;
        assert!(!notification.requeue(9), "there is nothing left to send");
    }

    #[test]
    fn events_are_keyed_by_the_user_and_numbered_by_the_notification() {
        let mut notification = new(promotion()).admitted(Some(SkipReason::Demo), Timestamp(1));
        assert_eq!(notification.last_error.as_deref(), Some("demo"));
        let first = notification.event(notification.status.event_type(), Timestamp(1));
        let second = notification.event(event_type::NOTIFICATION_READ, Timestamp(2));
        assert_eq!((first.key.clone(), first.sequence), (notification.user_id.to_string(), 1));
        assert_eq!(second.id(), format!("{}-2", notification.id));
        assert!(!first.body.contains(&notification.subject), "{}", first.body);
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let at: Timestamp = "2026-11-23T16:56:48.123Z".parse().unwrap();
        assert_eq!(start_of_day(at).to_string(), "2026-11-23T00:00:00.000Z");
        assert!(is_over_daily_limit(3, 3) && !is_over_daily_limit(2, 3) && is_over_daily_limit(0, 0));
    }
}

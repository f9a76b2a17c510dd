//! What an event of another domain becomes: something to tell a user, something to remember about one, or nothing.

use super::content::{Content, OrderNews};
use super::{NewNotification, SkipReason, objection};
use crate::domain::events::{CampaignChunk, OrderChanged, RecommendationChanged, UserChanged, event_type};
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::orders::OrderStatus;
use crate::domain::time::Timestamp;
use crate::domain::users::Preferences;

/// The most products that a digest names: the best of those that are told of.
const MAX_IN_DIGEST: usize = 10;

/// What an event asks of this domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    Tell(NewNotification),
    /// The user wants this now.
    Remember {
        user_id: UserId,
        preferences: Preferences,
        demo: bool,
        /// The sequence of the event that says so.
        as_of: i64,
    },
    /// Nothing personal is kept about the user, and nothing is told any more.
    Erase {
        user_id: UserId,
    },
    /// The dead letter of a notification was replayed.
    Requeue {
        id: NotificationId,
        round: u32,
    },
}

/// The event that tells something.
#[derive(Clone, Copy)]
pub struct Cause<'a> {
    /// Of all events this one alone has it.
    pub key: &'a str,
    pub new_id: &'a dyn Fn() -> NotificationId,
    /// The trace that the event belongs to.
    pub traceparent: Option<&'a str>,
}

impl Cause<'_> {
    fn tell(&self, user_id: UserId, content: Content) -> Intake {
        // A campaign tells a user once, however many of its events name them.
        let dedupe_key = content.campaign_id().map_or_else(|| self.key.to_owned(), |campaign| campaign.to_string());
        let traceparent = self.traceparent.map(str::to_owned);
        Intake::Tell(NewNotification { id: (self.new_id)(), user_id, content, dedupe_key, traceparent })
    }
}

/// What of a user is known here, from the user's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownUser {
    pub preferences: Preferences,
    pub demo: bool,
    pub erased: bool,
    /// The sequence of the event that said so.
    pub as_of: i64,
}

impl KnownUser {
    /// Whether this counts from now on. What is delivered again, or late, does not; and an erased user stays erased.
    pub fn replaces(&self, known: Option<&Self>) -> bool {
        known.is_none_or(|known| !known.erased && self.as_of >= known.as_of)
    }
}

/// What happens to something that a user could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Saved, to be mailed.
    Queue,
    /// Saved, not to be mailed.
    Skip(SkipReason),
    /// Not even saved.
    Drop,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The newest digest of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastDigest {
    pub at: Timestamp,
    pub skipped: bool,
}

/// Decides with what is known of the user. Preferences are judged when the mail is sent, with the user's own domain, but
/// for digests: they come with every order, so those that nobody wants end here. One that was skipped holds up none
/// that is wanted since.
pub fn admit(
    content: &Content,
    known: Option<&KnownUser>,
    last_digest: Option<LastDigest>,
    digest_every_days: u32,
    at: Timestamp,
) -> Admission {
    if known.is_some_and(|user| user.erased) {
        return Admission::Drop;
    }
    let refusal = known.and_then(|user| objection(content, user.preferences, user.demo));
    if let Content::Digest { .. } = content {
        let pause_ms = i64::from(digest_every_days) * DAY_MS;
        let recent = last_digest.filter(|last| at.millis_since(last.at) < pause_ms);
        return match (recent, refusal) {
            (Some(last), _) if !last.skipped => Admission::Drop,
            (Some(_), Some(_)) => Admission::Drop,
            (_, Some(reason)) => Admission::Skip(reason),
            (_, None) => Admission::Queue,
        };
    }
    match refusal {
        Some(SkipReason::Demo) => Admission::Skip(SkipReason::Demo),
        _ => Admission::Queue,
    }
}

/// `sequence` is the event's among those of its user.
pub fn of_user_event(event: &str, sequence: i64, user: &UserChanged, cause: Cause<'_>) -> Vec<Intake> {
    let user_id = user.user_id;
    if event == event_type::USER_DELETED {
        return vec![Intake::Erase { user_id }];
    }
    let content = match (event, user.request_id) {
        (event_type::USER_SIGNED_UP, request_id) => Some(Content::Welcome { request_id }),
        (event_type::USER_VERIFICATION_REQUESTED, Some(request_id)) => Some(Content::Verification { request_id }),
        (event_type::USER_PASSWORD_RESET_REQUESTED, Some(request_id)) => Some(Content::PasswordReset { request_id }),
        (event_type::USER_PASSWORD_CHANGED, _) => Some(Content::PasswordChanged),
        _ => None,
    };
    let remember = Intake::Remember { user_id, preferences: user.preferences, demo: user.demo, as_of: sequence };
    std::iter::once(remember).chain(content.map(|content| cause.tell(user_id, content))).collect()
}

/// A placed order sends no mail of its own.
pub fn of_order_event(order: OrderChanged, cause: Cause<'_>) -> Vec<Intake> {
    if order.status == OrderStatus::Pending {
        return Vec::new();
    }
    vec![cause.tell(order.customer_id, Content::Order(OrderNews::of(order)))]
}

pub fn of_campaign_chunk(chunk: CampaignChunk, cause: Cause<'_>) -> Vec<Intake> {
    let CampaignChunk { campaign_id, subject, message, recipients, .. } = chunk;
    recipients
        .into_iter()
        .map(|recipient| {
            let (subject, message) = (subject.clone(), message.clone());
            let content = Content::Promotion { campaign_id, subject, message, products: recipient.products };
            cause.tell(recipient.user_id, content)
        })
        .collect()
}

pub fn of_recommendation(changed: RecommendationChanged, cause: Cause<'_>) -> Vec<Intake> {
    let RecommendationChanged { user_id, mut items } = changed;
    items.truncate(MAX_IN_DIGEST);
    if items.is_empty() { Vec::new() } else { vec![cause.tell(user_id, Content::Digest { items })] }
}

#[cfg(test)]
mod tests {
    use super::super::content::tests::{digest, order_changed, order_news, promotion};
    use super::*;
    use crate::domain::events::CampaignRecipient;
    use crate::domain::ids::{CampaignId, MailRequestId, TypedId};
    use crate::domain::orders::OrderStatus;
    use crate::domain::users::Role;
    use uuid::Uuid;

    fn user_id() -> UserId {
        UserId::from_uuid(Uuid::from_u128(2))
    }

    const CAUSE: Cause<'static> = Cause {
        key: "/souk/users/usr_1-1",
        new_id: &|| NotificationId::from_uuid(Uuid::from_u128(1)),
        traceparent: None,
    };

    fn told(intake: Vec<Intake>) -> Vec<Content> {
        let content = |intake| match intake {
            Intake::Tell(new) => Some(new.content),
            _ => None,
        };
        intake.into_iter().filter_map(content).collect()
    }

    #[test]
    fn each_user_event_tells_what_it_should() {
        let request_id = MailRequestId::from_uuid(Uuid::from_u128(9));
        let user = |request_id| UserChanged {
            user_id: user_id(),
            role: Role::Customer,
            preferences: Preferences::default(),
            demo: false,
            request_id,
        };
        for (event, request, expected) in [
            (event_type::USER_SIGNED_UP, Some(request_id), vec![Content::Welcome { request_id: Some(request_id) }]),
            (event_type::USER_SIGNED_UP, None, vec![Content::Welcome { request_id: None }]),
            (event_type::USER_VERIFICATION_REQUESTED, Some(request_id), vec![Content::Verification { request_id }]),
            (event_type::USER_PASSWORD_RESET_REQUESTED, Some(request_id), vec![Content::PasswordReset { request_id }]),
            (event_type::USER_PASSWORD_CHANGED, None, vec![Content::PasswordChanged]),
            (event_type::USER_UPDATED, None, vec![]),
            (event_type::USER_VERIFIED, None, vec![]),
        ] {
            let intake = of_user_event(event, 7, &user(request), CAUSE);
            let preferences = Preferences::default();
            let remember = Intake::Remember { user_id: user_id(), preferences, demo: false, as_of: 7 };
            assert_eq!(intake[0], remember, "{event}");
            assert_eq!(told(intake), expected, "{event}");
        }
        let deleted = of_user_event(event_type::USER_DELETED, 8, &user(None), CAUSE);
        assert_eq!(deleted, [Intake::Erase { user_id: user_id() }]);
    }

    #[test]
    fn a_placed_order_is_not_told_and_every_change_after_it_is() {
        assert_eq!(of_order_event(order_changed(OrderStatus::Pending), CAUSE), []);
        for status in [
            OrderStatus::Confirmed,
            OrderStatus::Rejected,
            OrderStatus::Shipped,
            OrderStatus::Delivered,
            OrderStatus::Cancelled,
        ] {
            let intake = of_order_event(order_changed(status), CAUSE);
            assert_eq!(told(intake), [Content::Order(order_news(status))]);
        }
    }

    #[test]
    fn a_chunk_tells_each_of_its_audience_and_an_empty_digest_nobody() {
        let recipient =
            |id| CampaignRecipient { user_id: UserId::from_uuid(Uuid::from_u128(id)), products: Vec::new() };
        let chunk = CampaignChunk {
            campaign_id: CampaignId::from_uuid(Uuid::from_u128(5)),
            chunk: 1,
            subject: "Lamps".into(),
            message: "Cheaper".into(),
            recipients: vec![recipient(1), recipient(2)],
        };
        let campaign = chunk.campaign_id.to_string();
        let intake = of_campaign_chunk(chunk, CAUSE);
        assert_eq!(intake.len(), 2);
        let by_campaign = |intake: &Intake| matches!(intake, Intake::Tell(new) if new.dedupe_key == campaign);
        assert!(intake.iter().all(by_campaign), "a campaign tells a user once: {intake:?}");
        assert_eq!(of_recommendation(RecommendationChanged { user_id: user_id(), items: Vec::new() }, CAUSE), []);
    }

    #[test]
    fn a_digest_names_the_best_of_what_is_recommended() {
        let Content::Digest { items } = digest() else { panic!("it is a digest") };
        let many: Vec<_> = items.iter().cycle().take(MAX_IN_DIGEST + 5).cloned().collect();
        let best = many[..MAX_IN_DIGEST].to_vec();
        let told = told(of_recommendation(RecommendationChanged { user_id: user_id(), items: many }, CAUSE));
        assert_eq!(told, [Content::Digest { items: best }]);
    }

    #[test]
    fn what_is_known_of_a_user_decides_who_is_told() {
        let on = Preferences { order_updates: true, promotions: true, recommendations: true };
        let off = Preferences { order_updates: false, promotions: false, recommendations: false };
        let user = |preferences| KnownUser { preferences, demo: false, erased: false, as_of: 1 };
        let demo = KnownUser { demo: true, ..user(on) };
        let erased = KnownUser { erased: true, ..user(on) };
        let week = 7 * DAY_MS;
        let sent = |at| Some(LastDigest { at: Timestamp(at), skipped: false });
        let skipped = |at| Some(LastDigest { at: Timestamp(at), skipped: true });
        let off_reason = Admission::Skip(SkipReason::RecommendationsOff);
        let cases = [
            (promotion(), None, None, Admission::Queue),
            (promotion(), Some(user(off)), None, Admission::Queue),
            (promotion(), Some(demo), None, Admission::Skip(SkipReason::Demo)),
            (Content::PasswordChanged, Some(demo), None, Admission::Skip(SkipReason::Demo)),
            (promotion(), Some(erased), None, Admission::Drop),
            (digest(), None, None, Admission::Queue),
            (digest(), Some(user(on)), None, Admission::Queue),
            (digest(), Some(user(off)), None, off_reason),
            (digest(), Some(user(on)), sent(1), Admission::Drop),
            (digest(), Some(user(on)), sent(0), Admission::Queue),
            (digest(), Some(user(on)), skipped(1), Admission::Queue),
            (digest(), Some(user(off)), skipped(1), Admission::Drop),
            (digest(), Some(user(off)), skipped(0), off_reason),
            (digest(), Some(demo), skipped(1), Admission::Drop),
            (promotion(), Some(user(on)), sent(1), Admission::Queue),
        ];
        for (content, known, last_digest, expected) in cases {
            let admission = admit(&content, known.as_ref(), last_digest, 7, Timestamp(week));
            assert_eq!(admission, expected, "{content:?} {known:?} {last_digest:?}");
        }
    }
}

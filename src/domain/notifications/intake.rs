//! What an event of another domain becomes: something to tell a user, something to remember about one, or nothing.

use super::content::{Content, OrderNews};
use super::{SkipReason, objection};
use crate::domain::events::{CampaignChunk, OrderChanged, RecommendationChanged, UserChanged, event_type};
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::time::Timestamp;
use crate::domain::users::Preferences;

/// What an event asks of this domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// The same cause tells the same user once.
    Tell { user_id: UserId, content: Content, cause: Cause },
    /// The user wants this now.
    Remember { user_id: UserId, preferences: Preferences, demo: bool },
    /// Nothing personal is kept about the user, and nothing is told any more.
    Erase { user_id: UserId },
    /// The dead letter of a notification was replayed.
    Requeue { id: NotificationId, round: u32 },
}

/// Why a user is told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The event at hand.
    Event,
    /// A campaign, however many of its events name the user.
    Campaign,
}

/// What of a user is known here, from the user's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownUser {
    pub preferences: Preferences,
    pub demo: bool,
    pub erased: bool,
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

pub fn of_user_event(event: &str, user: &UserChanged) -> Vec<Intake> {
    let user_id = user.user_id;
    let tell = |content| Intake::Tell { user_id, content, cause: Cause::Event };
    let mut intake = Vec::new();
    if event == event_type::USER_DELETED {
        intake.push(Intake::Erase { user_id });
        return intake;
    }
    intake.push(Intake::Remember { user_id, preferences: user.preferences, demo: user.demo });
    intake.extend(match (event, user.request_id) {
        (event_type::USER_SIGNED_UP, request_id) => Some(tell(Content::Welcome { request_id })),
        (event_type::USER_VERIFICATION_REQUESTED, Some(request_id)) => Some(tell(Content::Verification { request_id })),
        (event_type::USER_PASSWORD_RESET_REQUESTED, Some(request_id)) => {
            Some(tell(Content::PasswordReset { request_id }))
        }
        (event_type::USER_PASSWORD_CHANGED, _) => Some(tell(Content::PasswordChanged)),
        _ => None,
    });
    intake
}

/// A placed order sends no mail of its own.
pub fn of_order_event(event: &str, order: OrderChanged) -> Vec<Intake> {
    if event == event_type::ORDER_PLACED {
        return Vec::new();
    }
    let user_id = order.customer_id;
    vec![Intake::Tell { user_id, content: Content::Order(OrderNews::of(order)), cause: Cause::Event }]
}

pub fn of_campaign_chunk(chunk: CampaignChunk) -> Vec<Intake> {
    let CampaignChunk { campaign_id, subject, message, recipients, .. } = chunk;
    recipients
        .into_iter()
        .map(|recipient| Intake::Tell {
            user_id: recipient.user_id,
            content: Content::Promotion {
                campaign_id,
                subject: subject.clone(),
                message: message.clone(),
                products: recipient.products,
            },
            cause: Cause::Campaign,
        })
        .collect()
}

pub fn of_recommendation(changed: RecommendationChanged) -> Vec<Intake> {
    let RecommendationChanged { user_id, items } = changed;
    if items.is_empty() {
        return Vec::new();
    }
    vec![Intake::Tell { user_id, content: Content::Digest { items }, cause: Cause::Event }]
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

    fn told(intake: Vec<Intake>) -> Vec<Content> {
        let content = |intake| match intake {
            Intake::Tell { content, .. } => Some(content),
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
            let intake = of_user_event(event, &user(request));
            let preferences = Preferences::default();
            assert_eq!(intake[0], Intake::Remember { user_id: user_id(), preferences, demo: false }, "{event}");
            assert_eq!(told(intake), expected, "{event}");
        }
        let deleted = of_user_event(event_type::USER_DELETED, &user(None));
        assert_eq!(deleted, [Intake::Erase { user_id: user_id() }]);
    }

    #[test]
    fn a_placed_order_is_not_told_and_every_change_after_it_is() {
        assert_eq!(of_order_event(event_type::ORDER_PLACED, order_changed(OrderStatus::Pending)), []);
        for status in [
            OrderStatus::Confirmed,
            OrderStatus::Rejected,
            OrderStatus::Shipped,
            OrderStatus::Delivered,
            OrderStatus::Cancelled,
        ] {
            let intake = of_order_event(status.event_type(), order_changed(status));
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
        let intake = of_campaign_chunk(chunk);
        assert!(intake.iter().all(|intake| matches!(intake, Intake::Tell { cause: Cause::Campaign, .. })));
        assert_eq!(intake.len(), 2);
        assert_eq!(of_recommendation(RecommendationChanged { user_id: user_id(), items: Vec::new() }), []);
    }

    #[test]
    fn what_is_known_of_a_user_decides_who_is_told() {
        let on = Preferences { order_updates: true, promotions: true, recommendations: true };
        let off = Preferences { order_updates: false, promotions: false, recommendations: false };
        let user = |preferences| KnownUser { preferences, demo: false, erased: false };
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

//! Group `notifications`: what other domains tell, to the notifications actor, which decides who is told; and replays of
//! the dead letters of its own mails.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use super::envelope::{self, DecodeError};
use crate::actors::Address;
use crate::actors::notifications::NotificationActor;
use crate::actors::notifications::messages::TakeIn;
use crate::actors::products::campaigns::runner::USERS_PER_STEP;
use crate::domain::events::{
    CampaignChunk, HEADER_REPLAY_GROUP, HEADER_ROUND, NotificationChanged, OrderChanged, Topic, UserChanged, event_type,
};
use crate::domain::ids::{NotificationId, TypedId};
use crate::domain::notifications::GROUP;
use crate::domain::notifications::intake::{
    Cause, Intake, of_campaign_chunk, of_order_event, of_recommendation, of_user_event,
};
use crate::store::consumption::{Causes, Consumption};

pub struct NotificationHandler {
    notifications: Address<NotificationActor>,
    deadline: Duration,
}

impl NotificationHandler {
    pub const GROUP: &str = GROUP;
    pub const TOPICS: [Topic; 5] = [
        Topic::UserEvents,
        Topic::OrderEvents,
        Topic::PromotionalEvents,
        Topic::RecommendationEvents,
        Topic::NotificationEvents,
    ];

    pub fn new(notifications: Address<NotificationActor>, deadline: Duration) -> Self {
        Self { notifications, deadline }
    }
}

#[async_trait]
impl BatchHandler for NotificationHandler {
    fn wants(&self, event_type: &str) -> bool {
        matches!(
            event_type,
            event_type::USER_SIGNED_UP
                | event_type::USER_UPDATED
                | event_type::USER_VERIFIED
                | event_type::USER_VERIFICATION_REQUESTED
                | event_type::USER_PASSWORD_RESET_REQUESTED
                | event_type::USER_PASSWORD_CHANGED
                | event_type::USER_DELETED
                | event_type::ORDER_CONFIRMED
                | event_type::ORDER_REJECTED
                | event_type::ORDER_SHIPPED
                | event_type::ORDER_DELIVERED
                | event_type::ORDER_CANCELLED
                | event_type::CAMPAIGN_CHUNK
                | event_type::RECOMMENDATION_CHANGED
                | event_type::NOTIFICATION_DEAD
        )
    }

    fn weight(&self, event_type: &str) -> usize {
        if event_type == event_type::CAMPAIGN_CHUNK { USERS_PER_STEP as usize } else { 1 }
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        let mut intake = Vec::with_capacity(events.len());
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            match intake_of(event, &consumption.causes) {
                Ok(asked) => intake.extend(asked),
                Err(error) => failures.push(EventFailure::undecodable(position, &error)),
            }
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        // Ahead of those who read their inboxes: a flood of them must not hold up what others wait to be told.
        let taken = self.notifications.ask_critical(TakeIn { intake, consumption }, self.deadline).await;
        Ok(taken??.into())
    }
}

fn intake_of(event: &ConsumedEvent, causes: &Causes) -> Result<Vec<Intake>, DecodeError> {
    // Ids are unique within their source only.
    let key = format!("{}/{}", event.record.header(envelope::SOURCE).unwrap_or_default(), event.original_id());
    let new_id = &|| NotificationId::from_uuid(Uuid::now_v7());
    let traceparent = causes.of(event.id()).map(|cause| cause.to_string());
    let cause = Cause { key: &key, new_id, traceparent: traceparent.as_deref() };
    Ok(match event.record.topic {
        Topic::UserEvents => of_user_event(event.event_type(), event.sequence()?, &event.body::<UserChanged>()?, cause),
        Topic::OrderEvents => of_order_event(event.body::<OrderChanged>()?, cause),
        Topic::PromotionalEvents => of_campaign_chunk(event.body::<CampaignChunk>()?, cause),
        Topic::RecommendationEvents => of_recommendation(event.body()?, cause),
        Topic::NotificationEvents => requeue(event)?.into_iter().collect(),
        _ => Vec::new(),
    })
}

/// The replay of a mail's dead letter. The event by which the mail died is none.
fn requeue(event: &ConsumedEvent) -> Result<Option<Intake>, DecodeError> {
    if event.record.header(HEADER_REPLAY_GROUP).is_none() {
        return Ok(None);
    }
    let changed: NotificationChanged = event.body()?;
    let round = event.record.header(HEADER_ROUND).ok_or(DecodeError::MissingHeader(HEADER_ROUND))?;
    let round = round.parse().map_err(|_| DecodeError::BadHeader {
        header: HEADER_ROUND,
        value: round.to_owned(),
        expected: "a number",
    })?;
    Ok(Some(Intake::Requeue { id: changed.notification_id, round }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Record;
    use super::super::envelope::headers_of;
    use super::*;
    use crate::domain::events::{HEADER_ORIGIN, PendingEvent, source};
    use crate::domain::ids::UserId;
    use crate::domain::time::Timestamp;

    fn died(headers: &[(&str, &str)]) -> ConsumedEvent {
        let id = |bits| Uuid::from_u128(bits);
        let body = NotificationChanged {
            notification_id: NotificationId::from_uuid(id(1)),
            user_id: UserId::from_uuid(id(2)),
            campaign_id: None,
        };
        let (topic, kind) = (Topic::NotificationEvents, event_type::NOTIFICATION_DEAD);
        let mut event = PendingEvent::new(topic, source::NOTIFICATIONS, kind, "n".into(), 2, Timestamp(1), &body);
        event.headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let (key, headers, body) = headers_of(event);
        ConsumedEvent { record: Arc::new(Record { topic, partition: 0, offset: 0, key, headers, body }), attempt: 1 }
    }

    #[test]
    fn only_the_replay_of_a_letter_queues_a_dead_mail_again() {
        assert_eq!(intake_of(&died(&[]), &Causes::default()), Ok(Vec::new()), "the event by which it died");
        let origin = (HEADER_ORIGIN, "notification-events/0/7");
        let replay = |round| died(&[(HEADER_REPLAY_GROUP, GROUP), (HEADER_ROUND, round), origin]);
        let id = NotificationId::from_uuid(Uuid::from_u128(1));
        assert_eq!(intake_of(&replay("3"), &Causes::default()), Ok(vec![Intake::Requeue { id, round: 3 }]));
        assert!(matches!(
            intake_of(&replay("x"), &Causes::default()),
            Err(DecodeError::BadHeader { header: HEADER_ROUND, .. })
        ));
        let without = died(&[(HEADER_REPLAY_GROUP, GROUP), origin]);
        assert_eq!(intake_of(&without, &Causes::default()), Err(DecodeError::MissingHeader(HEADER_ROUND)));
    }
}

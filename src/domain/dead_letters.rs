//! Dead letters: messages that failed for good, and the event by which one goes back to the group that failed on it.

use serde::{Deserialize, Serialize};

use super::events::{
    HEADER_EVENT, HEADER_ORIGIN, HEADER_REPLAY_GROUP, HEADER_ROUND, PendingEvent, StoredRecord, Topic, event_type,
    header, source,
};
use super::time::Timestamp;

/// A message that failed for good. Also the body of the event by which it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// `group/topic/partition/offset/round`: the same failure is the same letter.
    pub id: String,
    /// The group that failed.
    pub source: String,
    pub reason: String,
    pub attempts: u32,
    pub record: StoredRecord,
    /// 0 the first time; a replay that fails again is a letter of the next round.
    pub round: u32,
    pub failed_at: Timestamp,
    #[serde(default)]
    pub replayed_at: Option<Timestamp>,
    /// The id of the user who sent it back, or what else did.
    #[serde(default)]
    pub replayed_by: Option<String>,
    #[serde(default)]
    pub discarded_at: Option<Timestamp>,
    /// The id of the user who gave it up, or what else did.
    #[serde(default)]
    pub discarded_by: Option<String>,
}

/// Body of `souk.dead-letter.kept.v1`: the letter itself is in the operations store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterKept {
    pub id: String,
    pub source: String,
}

/// Why a letter cannot go back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayable {
    #[error("its topic {0} is none of the shop's")]
    UnknownTopic(String),
    #[error("it has no header {0}: it was no event and would fail again")]
    MissingHeader(&'static str),
}

/// True of a header that says which replay an event is: a letter says that itself.
pub fn is_replay_header(name: &str) -> bool {
    [HEADER_REPLAY_GROUP, HEADER_ROUND, HEADER_ORIGIN].contains(&name)
}

impl DeadLetter {
    /// Tells that the letter is kept, so that whoever watches for new ones reads the store. The event by which the
    /// letter travels is the first of its aggregate.
    pub fn kept_event(&self, at: Timestamp) -> PendingEvent {
        let body = DeadLetterKept { id: self.id.clone(), source: self.source.clone() };
        let (topic, kind) = (Topic::DeadLetterQueue, event_type::DEAD_LETTER_KEPT);
        PendingEvent::new(topic, source::OPERATIONS, kind, self.id.clone(), 2, at, &body)
    }

    /// The event that carries the record back to the group that failed. The same letter gives the same event id.
    pub fn replay_event(&self, now: Timestamp) -> Result<PendingEvent, NotReplayable> {
        let record = &self.record;
        let topic = Topic::named(&record.topic).ok_or_else(|| NotReplayable::UnknownTopic(record.topic.clone()))?;
        let header =
            |name: &str| record.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let attribute = |name: &'static str| header(name).map(Into::into).ok_or(NotReplayable::MissingHeader(name));
        let kept = |name: &str| !header::is_attribute(name) && !is_replay_header(name) && name != HEADER_EVENT;
        let mut headers: Vec<_> = record.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
        let origin = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        headers.push((HEADER_REPLAY_GROUP.to_owned(), self.source.clone()));
        headers.push((HEADER_ROUND.to_owned(), (self.round + 1).to_string()));
        headers.push((HEADER_ORIGIN.to_owned(), origin));
        // Of a replay of a replay the first one's.
        headers.extend(header(HEADER_EVENT).or_else(|| header(header::ID)).map(|id| (HEADER_EVENT.to_owned(), id)));
        Ok(PendingEvent {
            topic,
            aggregate: format!("replay/{}", self.id),
            sequence: 1,
            key: record.key.clone(),
            event_type: attribute(header::TYPE)?,
            source: attribute(header::SOURCE)?,
            at: now,
            body: record.body.clone(),
            headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        let headers = [
            (header::ID, "ord_1-1"),
            (header::TYPE, "souk.order.placed.v1"),
            (header::SOURCE, "/souk/orders"),
            ("traceparent", "00-a"),
        ];
        DeadLetter {
            id: "inventory/order-events/3/14/0".into(),
            source: "inventory".into(),
            reason: "cannot be read".into(),
            attempts: 5,
            record: StoredRecord {
                topic: "order-events".into(),
                partition: 3,
                offset: 14,
                key: "ord_1".into(),
                headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                body: "{}".into(),
            },
            round: 0,
            failed_at: Timestamp(1),
            replayed_at: None,
            replayed_by: None,
            discarded_at: None,
            discarded_by: None,
        }
    }

    #[test]
    fn a_replay_is_addressed_to_the_group_that_failed_and_says_where_it_was_first() {
        let event = letter().replay_event(Timestamp(9)).unwrap();
        assert_eq!((event.topic, event.key.as_str(), event.body.as_str()), (Topic::OrderEvents, "ord_1", "{}"));
        assert_eq!((event.event_type.as_ref(), event.source.as_ref()), ("souk.order.placed.v1", "/souk/orders"));
        assert_eq!(event.id(), "replay/inventory/order-events/3/14/0-1");
        let header =
            |name: &str| event.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(header(HEADER_REPLAY_GROUP), Some("inventory"));
        assert_eq!(header(HEADER_ROUND), Some("1"));
        assert_eq!(header(HEADER_ORIGIN), Some("order-events/3/14"));
        assert_eq!(header("traceparent"), Some("00-a"));
        assert_eq!(header(header::TYPE), None, "the envelope is written anew");
    }

    #[test]
    fn replays_of_replays_still_tell_the_events_first_id() {
        let mut failing = letter();
        for _ in 0..3 {
            let event = failing.replay_event(Timestamp(9)).unwrap();
            let first: Vec<_> = event.headers.iter().filter(|(name, _)| name == HEADER_EVENT).collect();
            assert_eq!(first, [&(HEADER_EVENT.to_owned(), "ord_1-1".to_owned())]);
            let attributes = [(header::ID, event.id()), (header::TYPE, event.event_type.to_string())];
            failing.record.headers = event.headers;
            failing.record.headers.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
            failing.record.headers.push((header::SOURCE.to_owned(), event.source.to_string()));
        }
    }

    #[test]
    fn what_was_no_event_of_the_shop_cannot_go_back() {
        let mut foreign = letter();
        foreign.record.topic = "elsewhere".into();
        assert_eq!(foreign.replay_event(Timestamp(9)), Err(NotReplayable::UnknownTopic("elsewhere".into())));
        let mut bare = letter();
        bare.record.headers.retain(|(name, _)| name != header::TYPE);
        assert_eq!(bare.replay_event(Timestamp(9)), Err(NotReplayable::MissingHeader(header::TYPE)));
    }

    #[test]
    fn the_news_of_a_kept_letter_carries_nothing_of_it() {
        let event = letter().kept_event(Timestamp(9));
        assert_eq!(event.id(), "inventory/order-events/3/14/0-2");
        assert_eq!(event.body, r#"{"id":"inventory/order-events/3/14/0","source":"inventory"}"#);
    }
}

//! Campaigns: one message to many users, written out in chunks of the audience.
//!
//! A campaign is launched once for each key, whoever launches it: staff, a slot of a schedule, an event. What it writes
//! next is decided from where its cursor stands, so that it goes on after a crash, and of two processes that write the
//! same chunk one does.

use serde::{Deserialize, Serialize};

use super::events::{CampaignChunk, CampaignLaunched, CampaignRecipient, PendingEvent, Topic, event_type, source};
use super::ids::{CampaignId, ProductId, UserId};
use super::products::InvalidField;
use super::text::{InvalidText, MAX_KEY, MAX_NAME, MAX_TEXT, check_text};
use super::time::Timestamp;

/// The longest subject.
pub const MAX_SUBJECT: usize = 200;

/// What is said, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pitch {
    pub subject: String,
    /// Plain text.
    pub message: String,
    pub audience: Audience,
}

/// Of the users with `promotions` on, those who are written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    Everybody,
    /// Who bought something of this category.
    BuyersOf(String),
    /// Who bought anything, each with products in stock of the categories that they buy most.
    Favourites,
}

impl Audience {
    /// The category by which it is narrowed.
    pub fn category(&self) -> Option<&str> {
        match self {
            Self::BuyersOf(category) => Some(category),
            Self::Everybody | Self::Favourites => None,
        }
    }
}

impl Pitch {
    /// Refuses what could not be sent: `subject`, `message`, `category`.
    pub fn check(&self) -> Result<(), InvalidField> {
        let refuse = |field| move |InvalidText(reason)| InvalidField { field, reason };
        check_text("the subject", &self.subject, 1, MAX_SUBJECT).map_err(refuse("subject"))?;
        check_text("the message", &self.message, 1, MAX_TEXT).map_err(refuse("message"))?;
        if let Some(category) = self.audience.category() {
            check_text("the category", category, 1, MAX_NAME).map_err(refuse("category"))?;
        }
        Ok(())
    }
}

/// Why a campaign was launched: the same reason launches one campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchKey {
    /// The idempotency key that staff gave.
    Staff(String),
    /// A slot of a schedule.
    Slot { schedule: String, at: Timestamp },
    /// An event, by its id.
    Event(String),
    /// A product that was sold out came back: one campaign a day (UTC).
    Return { product: ProductId, at: Timestamp },
}

impl LaunchKey {
    /// Refuses a key that staff may not give.
    pub fn check(&self) -> Result<(), InvalidField> {
        let Self::Staff(key) = self else { return Ok(()) };
        check_text("the key", key, 1, MAX_KEY)
            .map_err(|InvalidText(reason)| InvalidField { field: "idempotencyKey", reason })
    }

    /// As it is stored: keys of different kinds never meet.
    pub fn text(&self) -> String {
        match self {
            Self::Staff(key) => format!("staff/{key}"),
            Self::Slot { schedule, at } => format!("slot/{schedule}/{at}"),
            Self::Event(id) => format!("event/{id}"),
            Self::Return { product, at } => {
                let at = at.to_string();
                format!("return/{product}/{}", at.split_once('T').map_or(at.as_str(), |(day, _)| day))
            }
        }
    }
}

/// A campaign and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    pub id: CampaignId,
    /// [`LaunchKey::text`]
    pub key: String,
    pub pitch: Pitch,
    pub launched_at: Timestamp,
    /// The last user that was looked at.
    pub cursor: Option<UserId>,
    /// Written so far.
    pub chunks: i64,
    /// Users written to so far; all of them once it is finished.
    pub audience_size: i64,
    pub finished_at: Option<Timestamp>,
}

/// The next part of the users with `promotions` on, as a campaign goes through them in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the campaign's cursor was when this part was read.
    pub from: Option<UserId>,
    /// The last user of the part; `None` when there was none left.
    pub to: Option<UserId>,
    /// Those of the part who are of the audience.
    pub recipients: Vec<CampaignRecipient>,
    /// True when nobody comes after this part.
    pub is_last: bool,
}

impl Campaign {
    /// A new campaign, with the event that tells of it.
    pub fn launch(id: CampaignId, key: &LaunchKey, pitch: Pitch, at: Timestamp) -> (Self, PendingEvent) {
        let campaign = Self {
            id,
            key: key.text(),
            pitch,
            launched_at: at,
            cursor: None,
            chunks: 0,
            audience_size: 0,
            finished_at: None,
        };
        let event = campaign.event(event_type::CAMPAIGN_LAUNCHED, 1, at, &CampaignLaunched { campaign_id: id });
        (campaign, event)
    }

    /// Moves on by a step, with the event that carries its chunk when it has one. `None`: the step was read from
    /// another place than the cursor is at now, so somebody else has written it.
    pub fn advance(&mut self, step: Step, at: Timestamp) -> Option<Option<PendingEvent>> {
        if self.finished_at.is_some() || self.cursor != step.from {
            return None;
        }
        self.cursor = step.to.or(self.cursor);
        self.finished_at = step.is_last.then_some(at);
        if step.recipients.is_empty() {
            return Some(None);
        }
        self.chunks += 1;
        self.audience_size += i64::try_from(step.recipients.len()).unwrap_or(i64::MAX);
        let chunk = CampaignChunk {
            campaign_id: self.id,
            chunk: self.chunks,
            subject: self.pitch.subject.clone(),
            message: self.pitch.message.clone(),
            recipients: step.recipients,
        };
        // The launch was the first event.
        Some(Some(self.event(event_type::CAMPAIGN_CHUNK, self.chunks + 1, at, &chunk)))
    }

    fn event(&self, event_type: &'static str, sequence: i64, at: Timestamp, body: &impl Serialize) -> PendingEvent {
        let (topic, id) = (Topic::PromotionalEvents, self.id.to_string());
        PendingEvent::new(topic, source::PRODUCTS, event_type, id, sequence, at, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        UserId::from_uuid(Uuid::from_u128(n))
    }

    fn pitch() -> Pitch {
        Pitch { subject: "Lamps".into(), message: "Half price.".into(), audience: Audience::Everybody }
    }

    fn launched() -> Campaign {
        let id = CampaignId::from_uuid(Uuid::from_u128(1));
        let (campaign, event) = Campaign::launch(id, &LaunchKey::Staff("k".into()), pitch(), Timestamp(5));
        assert_eq!((event.event_type.as_ref(), event.sequence), (event_type::CAMPAIGN_LAUNCHED, 1));
        campaign
    }

    fn step(from: Option<u128>, to: Option<u128>, recipients: &[u128], is_last: bool) -> Step {
        let recipients = recipients.iter().map(|n| CampaignRecipient { user_id: user(*n), products: Vec::new() });
        Step { from: from.map(user), to: to.map(user), recipients: recipients.collect(), is_last }
    }

    #[test]
    fn a_campaign_goes_through_its_audience_chunk_by_chunk() {
        let mut campaign = launched();
        let chunk = campaign.advance(step(None, Some(2), &[1, 2], false), Timestamp(6)).unwrap().unwrap();
        assert_eq!((chunk.key.clone(), chunk.sequence), (campaign.id.to_string(), 2));
        let body: CampaignChunk = serde_json::from_str(&chunk.body).unwrap();
        assert_eq!((body.chunk, body.recipients.len(), body.subject.as_str()), (1, 2, "Lamps"));
        assert_eq!(campaign.advance(step(Some(2), Some(4), &[], false), Timestamp(7)), Some(None), "nobody of these");
        let last = campaign.advance(step(Some(4), Some(5), &[5], true), Timestamp(8)).unwrap().unwrap();
        assert_eq!(last.sequence, 3, "without a gap");
        assert_eq!((campaign.audience_size, campaign.chunks), (3, 2));
        assert_eq!((campaign.finished_at, campaign.cursor), (Some(Timestamp(8)), Some(user(5))));
    }

    #[test]
    fn a_step_from_where_the_campaign_is_no_longer_changes_nothing() {
        let mut campaign = launched();
        campaign.advance(step(None, Some(2), &[1, 2], false), Timestamp(6)).unwrap();
        let before = campaign.clone();
        assert_eq!(campaign.advance(step(None, Some(2), &[1, 2], false), Timestamp(7)), None);
        assert_eq!(campaign.advance(step(Some(1), Some(3), &[3], false), Timestamp(7)), None);
        assert_eq!(campaign, before);
        campaign.advance(step(Some(2), None, &[], true), Timestamp(7)).unwrap();
        let finished = campaign.clone();
        assert_eq!(campaign.advance(step(Some(2), None, &[], true), Timestamp(9)), None, "it is over");
        assert_eq!(campaign, finished);
    }

    #[test]
    fn keys_of_different_kinds_never_meet() {
        let slot = LaunchKey::Slot { schedule: "weekly".into(), at: Timestamp(0) };
        let keys = [slot.text(), LaunchKey::Staff("weekly".into()).text(), LaunchKey::Event("weekly".into()).text()];
        assert_eq!(keys, ["slot/weekly/1970-01-01T00:00:00.000Z", "staff/weekly", "event/weekly"]);
    }

    #[test]
    fn a_product_comes_back_once_a_day() {
        let back = |number, at| {
            let product = ProductId::from_uuid(Uuid::from_u128(number));
            LaunchKey::Return { product, at: Timestamp(at) }.text()
        };
        const DAY: i64 = 24 * 60 * 60 * 1_000;
        assert_eq!(back(1, 0), back(1, DAY - 1));
        assert_ne!(back(1, 0), back(1, DAY));
        assert_ne!(back(1, 0), back(2, 0));
        assert!(back(1, 0).ends_with("/1970-01-01"), "{}", back(1, 0));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        let refused = |change: fn(&mut Pitch)| {
            let mut pitch = pitch();
            change(&mut pitch);
            pitch.check().map_err(|invalid| invalid.field)
        };
        assert_eq!(refused(|_| ()), Ok(()));
        assert_eq!(refused(|pitch| pitch.subject.clear()), Err("subject"));
        assert_eq!(refused(|pitch| pitch.subject = "a\r\nBcc: b@c.de".into()), Err("subject"));
        assert_eq!(refused(|pitch| pitch.subject = "s".repeat(MAX_SUBJECT + 1)), Err("subject"));
        assert_eq!(refused(|pitch| pitch.message = " ".into()), Err("message"));
        assert_eq!(refused(|pitch| pitch.message = "m".repeat(MAX_TEXT + 1)), Err("message"));
        assert_eq!(refused(|pitch| pitch.audience = Audience::BuyersOf(String::new())), Err("category"));
        assert!(LaunchKey::Staff(String::new()).check().is_err());
    }
}

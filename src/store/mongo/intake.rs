//! Takes in what events ask: what a batch needs is read in a few commands, decided in its order, and written in a few.

use std::collections::{BTreeMap, HashMap, HashSet};

use mongodb::bson::{DateTime, doc};
use serde::Deserialize;

use super::failure::Failure;
use super::notification_documents::{
    NOTIFICATIONS, NotificationDocument, Recipient, Stored, cause, find, recipients, save, save_recipients,
};
use super::transaction::Tx;
use crate::domain::events::{PendingEvent, event_type};
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::notifications::intake::{Admission, Intake, KnownUser, LastDigest, admit};
use crate::domain::notifications::{NewNotification, NotificationKind, NotificationStatus, SkipReason};
use crate::domain::time::Timestamp;
use crate::domain::users::Preferences;

pub(super) struct TakeIn {
    pub intake: Vec<Intake>,
    pub digest_every_days: u32,
    pub at: Timestamp,
}

pub(super) async fn take_in(tx: &mut Tx, input: &TakeIn) -> Result<(), Failure> {
    let mut batch = Batch::of(&input.intake);
    batch.load(tx).await?;
    for intake in &input.intake {
        batch.take_in(intake, input.digest_every_days, input.at);
    }
    batch.save(tx).await
}

/// Queues many, whatever is known of their users; how many were new.
pub(super) async fn insert(tx: &mut Tx, new: &[NewNotification], at: Timestamp) -> Result<u64, Failure> {
    let mut batch = Batch::default();
    new.iter().for_each(|new| batch.expect(new));
    batch.load(tx).await?;
    let inserted = new.iter().filter(|new| batch.tell(new, None, at)).count();
    batch.save(tx).await?;
    Ok(inserted as u64)
}

/// A notification in hand.
struct Held {
    stored: Stored,
    is_new: bool,
    is_changed: bool,
}

/// What a batch of intake reads and changes.
#[derive(Default)]
struct Batch {
    recipients: HashMap<UserId, Recipient>,
    changed_recipients: HashSet<UserId>,
    /// Those that have told somebody already.
    causes: HashSet<String>,
    digests: HashMap<UserId, LastDigest>,
    held: BTreeMap<NotificationId, Held>,
    events: Vec<PendingEvent>,
    wanted: Wanted,
}

/// What is to be read.
#[derive(Default)]
struct Wanted {
    users: HashSet<UserId>,
    causes: Vec<String>,
    digests_of: HashSet<UserId>,
    requeued: Vec<NotificationId>,
    erased: HashSet<UserId>,
}

impl Batch {
    fn of(intake: &[Intake]) -> Self {
        let mut batch = Self::default();
        for intake in intake {
            match intake {
                Intake::Tell(new) => batch.expect(new),
                Intake::Remember { user_id, .. } => drop(batch.wanted.users.insert(*user_id)),
                Intake::Erase { user_id } => {
                    batch.wanted.users.insert(*user_id);
                    batch.wanted.erased.insert(*user_id);
                }
                Intake::Requeue { id, .. } => batch.wanted.requeued.push(*id),
            }
        }
        batch
    }

    fn expect(&mut self, new: &NewNotification) {
        self.wanted.users.insert(new.user_id);
        self.wanted.causes.push(cause(new.user_id, &new.dedupe_key));
        if new.content.kind() == NotificationKind::Recommendation {
            self.wanted.digests_of.insert(new.user_id);
        }
    }

    async fn load(&mut self, tx: &mut Tx) -> Result<(), Failure> {
        let wanted = std::mem::take(&mut self.wanted);
        if !wanted.users.is_empty() {
            let users: Vec<UserId> = wanted.users.into_iter().collect();
            self.recipients = recipients(tx, &users).await?;
        }
        if !wanted.causes.is_empty() {
            self.causes = known_causes(tx, wanted.causes).await?;
        }
        if !wanted.digests_of.is_empty() {
            self.digests = last_digests(tx, wanted.digests_of).await?;
        }
        let of_ids: Vec<String> = wanted.requeued.iter().map(NotificationId::to_string).collect();
        let of_users: Vec<String> = wanted.erased.iter().map(UserId::to_string).collect();
        for (field, values) in [("_id", of_ids), ("userId", of_users)] {
            if values.is_empty() {
                continue;
            }
            for stored in find(tx, doc! { field: { "$in": values } }).await? {
                let held = Held { stored, is_new: false, is_changed: false };
                self.held.insert(held.stored.notification.id, held);
            }
        }
        Ok(())
    }

    fn take_in(&mut self, intake: &Intake, digest_every_days: u32, at: Timestamp) {
        match intake {
            Intake::Tell(new) => {
                let known = self.recipients.get(&new.user_id).and_then(|recipient| recipient.known);
                let last_digest = match new.content.kind() {
                    NotificationKind::Recommendation => self.digests.get(&new.user_id).copied(),
                    _ => None,
                };
                match admit(&new.content, known.as_ref(), last_digest, digest_every_days, at) {
                    Admission::Queue => self.tell(new, None, at),
                    Admission::Skip(reason) => self.tell(new, Some(reason), at),
                    Admission::Drop => false,
                };
            }
            Intake::Remember { user_id, preferences, demo, as_of } => {
                let user = KnownUser { preferences: *preferences, demo: *demo, erased: false, as_of: *as_of };
                self.remember(*user_id, user);
            }
            Intake::Erase { user_id } => self.erase(*user_id, at),
            Intake::Requeue { id, round } => {
                let Some(held) = self.held.get_mut(id) else { return };
                if held.stored.notification.requeue(*round) {
                    held.stored.due_at = at;
                    held.is_changed = true;
                    self.events.push(held.stored.notification.event(event_type::NOTIFICATION_QUEUED, at));
                }
            }
        }
    }

    /// False: the user was told this already.
    fn tell(&mut self, new: &NewNotification, skip: Option<SkipReason>, at: Timestamp) -> bool {
        let cause = cause(new.user_id, &new.dedupe_key);
        if !self.causes.insert(cause.clone()) {
            return false;
        }
        let recipient = self.recipients.entry(new.user_id).or_default();
        recipient.told += 1;
        self.changed_recipients.insert(new.user_id);
        let mut notification = new.clone().admitted(skip, at);
        if notification.kind == NotificationKind::Recommendation {
            self.digests.insert(new.user_id, LastDigest { at, skipped: skip.is_some() });
        }
        self.events.push(notification.event(notification.status.event_type(), at));
        let stored = Stored { notification, number: recipient.told, cause, due_at: at, lease: None };
        self.held.insert(new.id, Held { stored, is_new: true, is_changed: false });
        true
    }

    fn remember(&mut self, user: UserId, now: KnownUser) {
        let recipient = self.recipients.entry(user).or_default();
        if now.replaces(recipient.known.as_ref()) {
            recipient.known = Some(now);
            self.changed_recipients.insert(user);
        }
    }

    fn erase(&mut self, user: UserId, at: Timestamp) {
        let preferences = Preferences { order_updates: false, promotions: false, recommendations: false };
        self.remember(user, KnownUser { preferences, demo: false, erased: true, as_of: i64::MAX });
        for held in self.held.values_mut().filter(|held| held.stored.notification.user_id == user) {
            if held.stored.notification.erase() {
                self.events.push(held.stored.notification.event(event_type::NOTIFICATION_SKIPPED, at));
            }
            held.stored.lease = None;
            held.is_changed = true;
        }
    }

    /// The recipients first: a transaction that tells one of them something at the same time is met there.
    async fn save(self, tx: &mut Tx) -> Result<(), Failure> {
        let changed = self.recipients.iter().filter(|(user, _)| self.changed_recipients.contains(user));
        save_recipients(tx, changed.map(|(user, recipient)| (*user, recipient))).await?;
        let (new, known): (Vec<Held>, Vec<Held>) = self.held.into_values().partition(|held| held.is_new);
        if !new.is_empty() {
            let new: Vec<NotificationDocument> = new.into_iter().map(|held| held.stored.into()).collect();
            tx.collection(NOTIFICATIONS).insert_many(new).session(tx.session()).await?;
        }
        save(tx, known.into_iter().filter(|held| held.is_changed).map(|held| held.stored).collect()).await?;
        self.events.into_iter().for_each(|event| tx.emit(event));
        Ok(())
    }
}

async fn known_causes(tx: &mut Tx, causes: Vec<String>) -> Result<HashSet<String>, Failure> {
    #[derive(Deserialize)]
    struct Known {
        cause: String,
    }
    let notifications = tx.collection::<Known>(NOTIFICATIONS);
    let known = notifications.find(doc! { "cause": { "$in": causes } }).projection(doc! { "_id": 0, "cause": 1 });
    let known = known.session(tx.session()).await?;
    Ok(tx.collect(known).await?.into_iter().map(|known| known.cause).collect())
}

async fn last_digests(tx: &mut Tx, users: HashSet<UserId>) -> Result<HashMap<UserId, LastDigest>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Newest {
        #[serde(rename = "_id")]
        user_id: UserId,
        created_at: DateTime,
        status: String,
    }
    let users: Vec<String> = users.iter().map(UserId::to_string).collect();
    let kind = NotificationKind::Recommendation.as_str();
    let notifications = tx.collection::<Newest>(NOTIFICATIONS);
    let newest = notifications.aggregate([
        doc! { "$match": { "userId": { "$in": users }, "kind": kind } },
        doc! { "$sort": { "userId": 1, "kind": 1, "number": -1 } },
        doc! { "$group": {
            "_id": "$userId", "createdAt": { "$first": "$createdAt" }, "status": { "$first": "$status" },
        } },
    ]);
    let newest = newest.with_type::<Newest>().session(tx.session()).await?;
    let digest = |newest: Newest| {
        let skipped = newest.status == NotificationStatus::Skipped.as_str();
        (newest.user_id, LastDigest { at: Timestamp(newest.created_at.timestamp_millis()), skipped })
    };
    Ok(tx.collect(newest).await?.into_iter().map(digest).collect())
}

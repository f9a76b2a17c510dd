//! The queue of mails: claims by lease, and what became of each attempt.
//!
//! A leased mail is one that is due when its lease ends, so a claim looks at one index and what a dead process had in
//! hand comes back by itself. Every claim that takes something changes the one document of the pace in its transaction:
//! of two at once, whichever process they are of, one sees what the other took. So a mail is taken once, a recipient gets
//! one at a time, and the shop's limits hold over all processes.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::Failure;
use super::notification_documents::{NOTIFICATIONS, PACE, Stored, find, lease_text, position, save};
use super::transaction::Tx;
use super::updates::Update;
use super::values::date;
use crate::domain::events::event_type;
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::notifications::attempts::Pace;
use crate::domain::notifications::{
    NotificationPriority, NotificationStatus, SkipReason, is_over_daily_limit, start_of_day,
};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::notifications::{Claim, ClaimWanted, LaneDepth, Lease, QueueDepths, SettleAttempt, Settled};

/// Due mails of a lane that one claim looks at: bounds how long it takes.
const LOOKED_AT: i64 = 256;
/// Recipients of standard mail that are looked at beyond those wanted, for those who are over their daily limit.
const SPARE: usize = 32;
/// The one document of the pace.
const STANDARD: &str = "standard";
const QUEUED: &str = NotificationStatus::Queued.as_str();

pub(super) async fn claim(tx: &mut Tx, wanted: &ClaimWanted) -> Result<Claim, Failure> {
    let mut queue = look(tx, wanted.now).await?;
    let busy: HashSet<UserId> = queue.in_hand.iter().map(|mail| mail.user_id).collect();
    let hidden = queue.look_behind(tx, &busy, wanted.now).await?;
    let is_cut = queue.cut(&busy, wanted.standard);
    let sent = sent_today(tx, &queue.standard, wanted.now).await?;
    let [left_critical, left_standard] = hidden;
    let claim = Claim { left_critical, left_standard, ..Claim::default() };
    let mut claiming = Claiming { wanted, busy, is_cut, take: Vec::new(), skip: Vec::new(), claim };
    for later in queue.next_critical.iter().chain(&queue.next_standard) {
        claiming.again_at(Timestamp(later.due_at.timestamp_millis()));
    }
    claiming.critical(&queue.critical);
    let pace = claiming.standard(&queue.standard, &sent, Pace { paid_until_ns: queue.paid_until_ns });
    let Claiming { take, skip, mut claim, .. } = claiming;
    if take.is_empty() && skip.is_empty() {
        return Ok(claim);
    }
    save_pace(tx, pace).await?;
    hold(tx, &take, wanted).await?;
    let changed: Vec<String> = take.iter().chain(&skip).map(NotificationId::to_string).collect();
    let changed = find(tx, doc! { "_id": { "$in": changed } }).await?;
    let mut changed: HashMap<NotificationId, Stored> =
        changed.into_iter().map(|stored| (stored.notification.id, stored)).collect();
    claim.taken = take.iter().filter_map(|id| changed.remove(id)).map(|stored| stored.notification).collect();
    let mut skipped: Vec<Stored> = skip.iter().filter_map(|id| changed.remove(id)).collect();
    for stored in &mut skipped {
        stored.notification.skip(SkipReason::DailyLimit);
        stored.lease = None;
        tx.emit(stored.notification.event(event_type::NOTIFICATION_SKIPPED, wanted.now));
    }
    save(tx, skipped).await?;
    Ok(claim)
}

/// A claim that is being decided.
struct Claiming<'a> {
    wanted: &'a ClaimWanted,
    /// Who is being delivered to: nobody gets two mails at a time, so a mailbox that stalls holds up one worker.
    busy: HashSet<UserId>,
    /// More standard mail is due than was looked at.
    is_cut: bool,
    take: Vec<NotificationId>,
    /// Over the daily limit.
    skip: Vec<NotificationId>,
    claim: Claim,
}

impl Claiming<'_> {
    fn critical(&mut self, candidates: &[Candidate]) {
        for candidate in candidates {
            if self.take.len() == self.wanted.critical as usize || self.busy.contains(&candidate.user_id) {
                self.claim.left_critical = true;
            } else {
                self.take(candidate);
            }
        }
        if is_full(candidates) && self.take.len() < self.wanted.critical as usize {
            // Many mails of few recipients: those of others lie behind them.
            self.again_at(self.wanted.now);
        }
    }

    /// Returns the pace with what was taken of it.
    fn standard(&mut self, candidates: &[Candidate], sent: &HashMap<UserId, u32>, mut pace: Pace) -> Pace {
        let (wanted, limits) = (self.wanted, self.wanted.limits);
        let available = pace.available(limits.per_second, wanted.now);
        let mut taken = 0;
        for candidate in candidates {
            let sent = sent.get(&candidate.user_id).copied().unwrap_or_default();
            if self.busy.contains(&candidate.user_id) {
                self.claim.left_standard = true;
            } else if is_over_daily_limit(sent, limits.per_recipient_per_day) {
                self.skip.push(candidate.id);
                self.claim.skipped += 1;
            } else if taken == wanted.standard {
                self.claim.left_standard = true;
                break;
            } else if taken == available {
                // A part of a burst at a time: one commit for each single mail would cost more than the mail.
                let worth_while = (wanted.standard - taken).min(Pace::burst(limits.per_second) / 2).max(1);
                pace.take(taken, limits.per_second, wanted.now);
                self.again_at(pace.when(worth_while, limits.per_second));
                return pace;
            } else {
                self.take(candidate);
                taken += 1;
            }
        }
        if self.is_cut && (self.claim.skipped > 0 || taken < wanted.standard) {
            self.again_at(wanted.now);
        }
        if taken > 0 {
            pace.take(taken, limits.per_second, wanted.now);
        }
        pace
    }

    fn take(&mut self, candidate: &Candidate) {
        self.busy.insert(candidate.user_id);
        self.take.push(candidate.id);
    }

    fn again_at(&mut self, at: Timestamp) {
        self.claim.again_at = Some(self.claim.again_at.map_or(at, |known| known.min(at)));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(rename = "_id")]
    id: NotificationId,
    user_id: UserId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InHand {
    user_id: UserId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Later {
    due_at: DateTime,
}

/// What a claim decides about, each lane's mails in the order in which they became due.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    paid_until_ns: i64,
    critical: Vec<Candidate>,
    standard: Vec<Candidate>,
    in_hand: Vec<InHand>,
    /// The next of each lane that is not due yet.
    next_critical: Vec<Later>,
    next_standard: Vec<Later>,
}

fn is_full(candidates: &[Candidate]) -> bool {
    candidates.len() as i64 == LOOKED_AT
}

impl Queue {
    /// However many mails of those who are being delivered to are due, they hide nobody else's. Says of each lane whether
    /// such mails were passed over.
    async fn look_behind(&mut self, tx: &mut Tx, busy: &HashSet<UserId>, now: Timestamp) -> Result<[bool; 2], Failure> {
        let mut hidden = [false; 2];
        let lanes = NotificationPriority::ALL.into_iter().zip([&mut self.critical, &mut self.standard]);
        for ((lane, candidates), hidden) in lanes.zip(&mut hidden) {
            if is_full(candidates) && candidates.iter().all(|candidate| busy.contains(&candidate.user_id)) {
                *candidates = of_others(tx, lane, busy, now).await?;
                *hidden = true;
            }
        }
        Ok(hidden)
    }

    /// Leaves of the standard mail what is enough for a claim, so that the mails of few recipients are counted. True: some
    /// is left for another claim.
    fn cut(&mut self, busy: &HashSet<UserId>, wanted: u32) -> bool {
        let enough = wanted as usize + SPARE;
        let mut recipients = HashSet::new();
        let end = self.standard.iter().position(|mail| {
            !busy.contains(&mail.user_id) && recipients.insert(mail.user_id) && recipients.len() > enough
        });
        let is_full = is_full(&self.standard);
        self.standard.truncate(end.unwrap_or(self.standard.len()));
        is_full || end.is_some()
    }
}

/// Looks at the whole queue in one command, each part by its index. It starts from the document of the pace, which is made
/// by the first claim.
async fn look(tx: &mut Tx, now: Timestamp) -> Result<Queue, Failure> {
    let of_notifications = |name: &str, pipeline: Vec<Document>| {
        doc! { "$lookup": { "from": NOTIFICATIONS, "as": name, "pipeline": pipeline } }
    };
    let queued = |name: &str, lane: NotificationPriority, due: Document, limit: i64, field: &str| {
        let pipeline = vec![
            doc! { "$match": { "status": QUEUED, "lane": lane.as_str(), "dueAt": due } },
            doc! { "$sort": { "dueAt": 1, "_id": 1 } },
            doc! { "$limit": limit },
            doc! { "$project": { field: 1 } },
        ];
        of_notifications(name, pipeline)
    };
    let in_hand = vec![
        doc! { "$match": { "lease": { "$exists": true }, "dueAt": { "$gt": date(now) } } },
        doc! { "$project": { "_id": 0, "userId": 1 } },
    ];
    let (due, later) = (doc! { "$lte": date(now) }, doc! { "$gt": date(now) });
    let [critical, standard] = NotificationPriority::ALL;
    let pipeline = [
        doc! { "$match": { "_id": STANDARD } },
        queued("critical", critical, due.clone(), LOOKED_AT, "userId"),
        queued("standard", standard, due, LOOKED_AT, "userId"),
        of_notifications("inHand", in_hand),
        queued("nextCritical", critical, later.clone(), 1, "dueAt"),
        queued("nextStandard", standard, later, 1, "dueAt"),
    ];
    let paces = tx.collection::<Queue>(PACE);
    loop {
        let seen = paces.aggregate(pipeline.clone()).with_type::<Queue>().session(tx.session()).await?;
        if let Some(queue) = tx.collect(seen).await?.pop() {
            return Ok(queue);
        }
        save_pace(tx, Pace::default()).await?;
    }
}

async fn of_others(
    tx: &mut Tx,
    lane: NotificationPriority,
    busy: &HashSet<UserId>,
    now: Timestamp,
) -> Result<Vec<Candidate>, Failure> {
    let busy: Vec<String> = busy.iter().map(UserId::to_string).collect();
    let due = doc! {
        "status": QUEUED, "lane": lane.as_str(), "dueAt": { "$lte": date(now) }, "userId": { "$nin": busy },
    };
    let found = tx
        .collection::<Candidate>(NOTIFICATIONS)
        .find(due)
        .sort(doc! { "dueAt": 1, "_id": 1 })
        .limit(LOOKED_AT)
        .projection(doc! { "userId": 1 })
        .session(tx.session())
        .await?;
    tx.collect(found).await
}

/// How many standard mails each of these has had today.
async fn sent_today(tx: &mut Tx, candidates: &[Candidate], now: Timestamp) -> Result<HashMap<UserId, u32>, Failure> {
    #[derive(Deserialize)]
    struct Sent {
        #[serde(rename = "_id")]
        user_id: UserId,
        count: u32,
    }
    if candidates.is_empty() {
        return Ok(HashMap::new());
    }
    let users: HashSet<UserId> = candidates.iter().map(|candidate| candidate.user_id).collect();
    let users: Vec<String> = users.iter().map(UserId::to_string).collect();
    let lane = NotificationPriority::Standard.as_str();
    let notifications = tx.collection::<Sent>(NOTIFICATIONS);
    let sent = notifications.aggregate([
        doc! { "$match": {
            "userId": { "$in": users }, "lane": lane, "sentAt": { "$gte": date(start_of_day(now)) },
        } },
        doc! { "$group": { "_id": "$userId", "count": { "$sum": 1 } } },
    ]);
    let sent = sent.with_type::<Sent>().session(tx.session()).await?;
    Ok(tx.collect(sent).await?.into_iter().map(|sent| (sent.user_id, sent.count)).collect())
}

async fn hold(tx: &mut Tx, taken: &[NotificationId], wanted: &ClaimWanted) -> Result<(), Failure> {
    if taken.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = taken.iter().map(NotificationId::to_string).collect();
    let ends = date(wanted.now.plus_millis(wanted.lease_ms));
    let held = doc! { "$set": { "lease": lease_text(wanted.lease), "dueAt": ends } };
    tx.update(NOTIFICATIONS, vec![Update::all(doc! { "_id": { "$in": ids } }, held)]).await?;
    Ok(())
}

/// How far the standard mail that was taken is paid for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PaceDocument {
    paid_until_ns: i64,
}

async fn pace(tx: &mut Tx) -> Result<Pace, Failure> {
    let paces = tx.collection::<PaceDocument>(PACE);
    let known = paces.find_one(doc! { "_id": STANDARD }).session(tx.session()).await?;
    Ok(known.map_or(Pace::default(), |known| Pace { paid_until_ns: known.paid_until_ns }))
}

/// Changes the document also when the pace is as it was: that is where simultaneous claims meet.
async fn save_pace(tx: &mut Tx, pace: Pace) -> Result<(), Failure> {
    let change = doc! { "$set": { "paidUntilNs": pace.paid_until_ns }, "$inc": { "claims": 1 } };
    tx.update(PACE, vec![Update::one(doc! { "_id": STANDARD }, change).or_insert()]).await?;
    Ok(())
}

/// Ends many attempts; of two of the same mail the first counts.
pub(super) async fn settle(tx: &mut Tx, attempts: &[SettleAttempt]) -> Result<Vec<Settled>, Failure> {
    let ids: Vec<String> = attempts.iter().map(|attempt| attempt.id.to_string()).collect();
    let held = find(tx, doc! { "_id": { "$in": ids }, "status": QUEUED }).await?;
    let mut held: HashMap<NotificationId, Stored> =
        held.into_iter().map(|stored| (stored.notification.id, stored)).collect();
    let mut ended = Vec::with_capacity(attempts.len());
    let mut settled = Vec::with_capacity(attempts.len());
    let mut given_back = Vec::new();
    for attempt in attempts {
        let is_held = held.get(&attempt.id).is_some_and(|stored| stored.lease == Some(attempt.lease));
        let Some(mut stored) = is_held.then(|| held.remove(&attempt.id)).flatten() else {
            settled.push(Settled::Lost);
            continue;
        };
        let at = attempt.at;
        let again_at = stored.notification.settle(attempt.attempt.clone(), &attempt.policy, at, attempt.chance);
        let status = stored.notification.status;
        stored.due_at = again_at.unwrap_or(at);
        stored.lease = None;
        if status != NotificationStatus::Queued {
            tx.emit(stored.notification.event(status.event_type(), at));
        }
        settled.push(match status {
            NotificationStatus::Queued => Settled::Again(stored.due_at),
            NotificationStatus::Sent => Settled::Sent,
            NotificationStatus::Skipped => {
                if stored.notification.priority() == NotificationPriority::Standard {
                    given_back.push(attempt.per_second);
                }
                Settled::Skipped
            }
            NotificationStatus::Dead => {
                tx.emit(stored.notification.dead_letter_event(position(attempt.id), at));
                Settled::Dead
            }
        });
        ended.push(stored);
    }
    if !given_back.is_empty() {
        let mut pace = pace(tx).await?;
        given_back.into_iter().for_each(|per_second| pace.give_back(per_second));
        save_pace(tx, pace).await?;
    }
    save(tx, ended).await?;
    Ok(settled)
}

/// Due again as early as they first were: they keep their place before what came later.
fn freed() -> Vec<Document> {
    vec![doc! { "$set": { "dueAt": "$createdAt" } }, doc! { "$unset": "lease" }]
}

pub(super) async fn release(database: &MongoDatabase, claimed: &[(NotificationId, Lease)]) -> Result<(), StoreError> {
    if claimed.is_empty() {
        return Ok(());
    }
    let free = |(id, lease): &(NotificationId, Lease)| {
        let held = doc! { "_id": id.to_string(), "lease": lease_text(*lease), "status": QUEUED };
        Update::one(held, Bson::from(freed()))
    };
    database.update(NOTIFICATIONS, claimed.iter().map(free).collect()).await?;
    Ok(())
}

pub(super) async fn void_leases(database: &MongoDatabase, but: &[NotificationId]) -> Result<u64, StoreError> {
    let but: Vec<String> = but.iter().map(NotificationId::to_string).collect();
    let leased = doc! { "lease": { "$exists": true }, "_id": { "$nin": but } };
    let voided = database.update(NOTIFICATIONS, vec![Update::all(leased, Bson::from(freed()))]).await?;
    Ok(voided.modified)
}

pub(super) async fn depths(database: &MongoDatabase) -> Result<QueueDepths, StoreError> {
    #[derive(Deserialize)]
    struct Depth {
        #[serde(rename = "_id")]
        lane: String,
        count: i64,
        first: DateTime,
    }
    let lanes = NotificationPriority::ALL.map(NotificationPriority::as_str);
    let count = [
        doc! { "$match": { "status": QUEUED, "lane": { "$in": lanes.to_vec() } } },
        doc! { "$group": { "_id": "$lane", "count": { "$sum": 1_i64 }, "first": { "$min": "$dueAt" } } },
    ];
    let notifications = database.collection::<Depth>(NOTIFICATIONS);
    let counted = async move { Ok(notifications.aggregate(count).with_type().await?.try_collect().await?) };
    let counted: Vec<Depth> = database.read(counted).await?;
    let of = |lane: NotificationPriority| {
        let counted = counted.iter().find(|depth| depth.lane == lane.as_str());
        counted.map_or_else(LaneDepth::default, |depth| LaneDepth {
            queued: depth.count.unsigned_abs(),
            first_due: Some(Timestamp(depth.first.timestamp_millis())),
        })
    };
    Ok(QueueDepths { critical: of(NotificationPriority::Critical), standard: of(NotificationPriority::Standard) })
}

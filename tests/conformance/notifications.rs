//! The notifications store: intake, inboxes, leases, limits, outcomes.

use souk::domain::events::{RecommendedItem, Topic, event_type};
use souk::domain::ids::{CampaignId, NotificationId, UserId};
use souk::domain::notifications::attempts::{Attempt, RetryPolicy};
use souk::domain::notifications::content::Content;
use souk::domain::notifications::intake::Intake;
use souk::domain::notifications::{
    CampaignTally, NewNotification, Notification, NotificationStatus, SkipReason, StandardLimits,
};
use souk::domain::page::PageRequest;
use souk::domain::time::Timestamp;
use souk::domain::users::Preferences;
use souk::store::StoreError;
use souk::store::consumption::Consumed;
use souk::store::notifications::{
    Claim, ClaimWanted, Lease, MarkRead, Marked, NotificationStore, SettleAttempt, Settled,
};
use souk::store::operations::DeadLetter;
use uuid::Uuid;

use crate::harness::{TRACEPARENT, Under, at, id, step};

type Notifications = Under<dyn NotificationStore>;

conformance!(notifications:
    the_same_cause_tells_a_user_once,
    intake_and_offset_are_written_together_or_not_at_all,
    what_nobody_is_to_be_mailed_is_skipped_from_the_start,
    a_digest_comes_once_in_its_time_and_again_when_it_is_wanted_since,
    what_is_told_late_of_a_user_is_not_believed,
    an_erased_user_keeps_nothing_and_is_told_nothing,
    critical_mail_is_claimed_first_and_in_order,
    what_is_claimed_is_nobody_elses_until_its_lease_ends,
    a_recipient_gets_one_mail_at_a_time,
    of_simultaneous_claims_each_mail_goes_to_one,
    standard_mail_keeps_the_pace_of_the_shop,
    a_recipient_gets_so_many_standard_mails_a_day,
    what_is_given_back_is_due_at_once,
    leases_can_be_voided_but_for_what_is_in_hand,
    only_who_holds_the_lease_settles,
    a_refused_mail_comes_back_when_its_next_attempt_is_due,
    a_dead_mail_leaves_a_letter_and_its_replay_opens_the_next_round,
    an_inbox_is_newest_first_and_counts_what_is_unread,
    only_ones_own_notifications_are_marked_as_read,
    what_is_received_after_a_position_comes_in_order,
    campaigns_are_counted_by_what_became_of_their_mails,
    of_a_long_queue_a_claim_takes_what_it_wants,
    mails_of_one_recipient_hide_nobody_elses_however_many_they_are,
    a_notification_and_its_events_keep_their_trace,
);

const POLICY: RetryPolicy = RetryPolicy { max_attempts: 2, backoff_base_ms: 1_000, backoff_max_ms: 60_000 };
const LIMITS: StandardLimits = StandardLimits { per_second: 100_000, per_recipient_per_day: 1_000 };
const LEASE_MS: i64 = 90_000;
const DIGEST_DAYS: u32 = 7;
const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Noon of some day.
const NOON: i64 = 1_763_899_200_000;

fn new(user_id: UserId, content: Content) -> NewNotification {
    let id: NotificationId = id();
    NewNotification { id, user_id, content, dedupe_key: id.to_string(), traceparent: None }
}

fn account(user: UserId) -> NewNotification {
    new(user, Content::PasswordChanged)
}

fn promotion_of(campaign_id: CampaignId, user: UserId) -> NewNotification {
    let (subject, message) = ("Lamps".into(), "Cheaper".into());
    new(user, Content::Promotion { campaign_id, subject, message, products: Vec::new() })
}

fn promotion(user: UserId) -> NewNotification {
    promotion_of(id(), user)
}

fn digest(user: UserId) -> NewNotification {
    let item = RecommendedItem { product_id: id(), name: "Lamp".into(), reason: "Goes with shades".into() };
    new(user, Content::Digest { items: vec![item] })
}

fn remember_as_of(as_of: i64, user_id: UserId, recommendations: bool, demo: bool) -> Intake {
    let preferences = Preferences { recommendations, ..Preferences::default() };
    Intake::Remember { user_id, preferences, demo, as_of }
}

fn remember(user_id: UserId, recommendations: bool, demo: bool) -> Intake {
    remember_as_of(1, user_id, recommendations, demo)
}

async fn take_in(store: &Notifications, intake: Vec<Intake>, time: Timestamp) {
    let from = store.offset("notifications").await.unwrap_or(0);
    let done = store.port.take_in(intake, DIGEST_DAYS, step("notifications", from, from + 1), time).await.unwrap();
    assert_eq!(done, Consumed::Done(()));
}

async fn queue(store: &Notifications, batch: Vec<NewNotification>, time: Timestamp) -> Vec<NotificationId> {
    let ids = batch.iter().map(|new| new.id).collect();
    assert_eq!(store.port.insert_notifications(batch.clone(), time).await.unwrap(), batch.len() as u64);
    ids
}

fn wanted(critical: u32, standard: u32, now: i64) -> ClaimWanted {
    ClaimWanted { critical, standard, limits: LIMITS, lease: Lease(Uuid::now_v7()), lease_ms: LEASE_MS, now: at(now) }
}

async fn claim(store: &Notifications, critical: u32, standard: u32, now: i64) -> (Lease, Claim) {
    let wanted = wanted(critical, standard, now);
    (wanted.lease, store.port.claim(wanted).await.unwrap())
}

fn ids_of(claim: &Claim) -> Vec<NotificationId> {
    claim.taken.iter().map(|notification| notification.id).collect()
}

async fn settle(store: &Notifications, id: NotificationId, lease: Lease, attempt: Attempt, now: i64) -> Settled {
    let attempt =
        SettleAttempt { id, lease, attempt, policy: POLICY, per_second: LIMITS.per_second, at: at(now), chance: 1.0 };
    store.port.settle(attempt).await.unwrap()
}

async fn one(store: &Notifications, id: NotificationId) -> Notification {
    store.port.notifications(&[id], None).await.unwrap().pop().unwrap()
}

/// The types of the pending events of `notification-events`, in any order.
async fn event_types(store: &Notifications) -> Vec<String> {
    let pending = store.pending().await;
    let own = pending.iter().filter(|event| event.topic == Topic::NotificationEvents);
    let mut types: Vec<_> = own.map(|event| event.event_type.to_string()).collect();
    types.sort();
    types
}

async fn a_notification_and_its_events_keep_their_trace(store: Notifications) {
    let traced = NewNotification { traceparent: Some(TRACEPARENT.to_owned()), ..account(id()) };
    queue(&store, vec![traced], at(NOON)).await;
    let (lease, claimed) = claim(&store, 1, 0, NOON).await;
    assert_eq!(claimed.taken[0].traceparent.as_deref(), Some(TRACEPARENT));
    settle(&store, claimed.taken[0].id, lease, Attempt::Sent, NOON + 1).await;
    assert_eq!(one(&store, claimed.taken[0].id).await.traceparent.as_deref(), Some(TRACEPARENT));
    let pending = store.pending().await;
    assert_eq!(pending.iter().map(|event| event.traceparent()).collect::<Vec<_>>(), [Some(TRACEPARENT); 2]);
}

async fn the_same_cause_tells_a_user_once(store: Notifications) {
    let (ada, bob) = (id(), id());
    let tell = |user| Intake::Tell(NewNotification { dedupe_key: "/souk/users/1".into(), ..account(user) });
    take_in(&store, vec![tell(ada), tell(ada), tell(bob)], at(NOON)).await;
    take_in(&store, vec![tell(ada)], at(NOON + 1)).await;
    let page = PageRequest::first(9);
    for user in [ada, bob] {
        assert_eq!(store.port.inbox(user, false, &page).await.unwrap().page.total, 1);
    }
    assert_eq!(event_types(&store).await, [event_type::NOTIFICATION_QUEUED; 2]);
}

async fn intake_and_offset_are_written_together_or_not_at_all(store: Notifications) {
    let ada = id();
    let lost = store.port.take_in(vec![Intake::Tell(account(ada))], 7, step("notifications", 4, 5), at(NOON)).await;
    assert_eq!(lost.unwrap(), Consumed::Lost);
    assert_eq!(store.port.inbox(ada, false, &PageRequest::first(9)).await.unwrap().page.total, 0);
    assert_eq!(store.pending().await, []);
}

async fn what_nobody_is_to_be_mailed_is_skipped_from_the_start(store: Notifications) {
    let demo = id();
    let told = account(demo);
    let told_id = told.id;
    take_in(&store, vec![remember(demo, true, true), Intake::Tell(told)], at(NOON)).await;
    let skipped = one(&store, told_id).await;
    assert_eq!((skipped.status, skipped.last_error.as_deref()), (NotificationStatus::Skipped, Some("demo")));
    assert_eq!(event_types(&store).await, [event_type::NOTIFICATION_SKIPPED]);
    assert!(claim(&store, 9, 9, NOON + 1).await.1.taken.is_empty());
}

async fn a_digest_comes_once_in_its_time_and_again_when_it_is_wanted_since(store: Notifications) {
    let (ada, bob) = (id(), id());
    take_in(&store, vec![remember(ada, true, false), remember(bob, false, false)], at(NOON)).await;
    let total = async |user| store.port.inbox(user, false, &PageRequest::first(9)).await.unwrap().page.total;
    for n in 0..3 {
        take_in(&store, vec![Intake::Tell(digest(ada)), Intake::Tell(digest(bob))], at(NOON + n)).await;
    }
    assert_eq!((total(ada).await, total(bob).await), (1, 1));
    let page = store.port.inbox(bob, false, &PageRequest::first(9)).await.unwrap().page;
    assert_eq!(page.entries[0].1.status, NotificationStatus::Skipped);
    take_in(&store, vec![remember(bob, true, false), Intake::Tell(digest(bob))], at(NOON + 4)).await;
    assert_eq!(total(bob).await, 2, "wanted now");
    take_in(&store, vec![Intake::Tell(digest(ada))], at(NOON + WEEK_MS)).await;
    assert_eq!(total(ada).await, 2, "a week later");
}

async fn what_is_told_late_of_a_user_is_not_believed(store: Notifications) {
    let (ada, bob) = (id(), id());
    take_in(&store, vec![remember_as_of(2, ada, true, false), remember_as_of(1, ada, false, false)], at(NOON)).await;
    take_in(&store, vec![remember_as_of(2, bob, false, false)], at(NOON)).await;
    take_in(&store, vec![remember_as_of(1, bob, true, false)], at(NOON)).await;
    take_in(&store, vec![Intake::Tell(digest(ada)), Intake::Tell(digest(bob))], at(NOON)).await;
    for (user, expected) in [(ada, NotificationStatus::Queued), (bob, NotificationStatus::Skipped)] {
        let inbox = store.port.inbox(user, false, &PageRequest::first(9)).await.unwrap();
        assert_eq!(inbox.page.entries[0].1.status, expected);
    }
}

async fn an_erased_user_keeps_nothing_and_is_told_nothing(store: Notifications) {
    let (ada, bob) = (id(), id());
    let queued = queue(&store, vec![promotion(ada), account(ada), account(bob)], at(NOON)).await;
    let (lease, claimed) = claim(&store, 9, 9, NOON).await;
    assert!(claimed.taken.len() >= 2);
    take_in(&store, vec![Intake::Erase { user_id: ada }], at(NOON + 1)).await;
    for kept in store.port.export_notifications(ada).await.unwrap() {
        assert_eq!((kept.subject.as_str(), kept.body.as_str(), &kept.content), ("", "", &None));
        assert_eq!(kept.last_error.as_deref(), Some(SkipReason::AccountDeleted.as_str()));
        assert_eq!(settle(&store, kept.id, lease, Attempt::Sent, NOON + 2).await, Settled::Lost);
    }
    assert_eq!(one(&store, queued[2]).await.status, NotificationStatus::Queued);
    // What comes late, the user's own events among it.
    take_in(&store, vec![remember(ada, true, false), Intake::Tell(account(ada))], at(NOON + 3)).await;
    assert_eq!(store.port.export_notifications(ada).await.unwrap().len(), 2);
}

async fn critical_mail_is_claimed_first_and_in_order(store: Notifications) {
    let mut standard = queue(&store, vec![promotion(id()), promotion(id())], at(NOON)).await;
    let mut critical = queue(&store, vec![account(id())], at(NOON + 1)).await;
    critical.extend(queue(&store, vec![account(id())], at(NOON + 2)).await);
    let (_, claimed) = claim(&store, 1, 1, NOON + 9).await;
    assert_eq!(ids_of(&claimed), [critical.remove(0), standard.remove(0)]);
    assert!(claimed.left_critical && claimed.left_standard);
    let (_, claimed) = claim(&store, 9, 9, NOON + 9).await;
    assert_eq!(ids_of(&claimed), [critical.remove(0), standard.remove(0)]);
    assert!(!claimed.left_critical && !claimed.left_standard);
}

async fn what_is_claimed_is_nobody_elses_until_its_lease_ends(store: Notifications) {
    let queued = queue(&store, vec![account(id())], at(NOON)).await;
    let (first, claimed) = claim(&store, 9, 9, NOON).await;
    assert_eq!(ids_of(&claimed), queued);
    let (_, again) = claim(&store, 9, 9, NOON + LEASE_MS - 1).await;
    assert_eq!((ids_of(&again), again.again_at), (vec![], Some(at(NOON + LEASE_MS))));
    let (second, again) = claim(&store, 9, 9, NOON + LEASE_MS).await;
    assert_eq!(ids_of(&again), queued);
    assert_eq!(settle(&store, queued[0], first, Attempt::Sent, NOON + LEASE_MS).await, Settled::Lost);
    assert_eq!(settle(&store, queued[0], second, Attempt::Sent, NOON + LEASE_MS).await, Settled::Sent);
}

async fn a_recipient_gets_one_mail_at_a_time(store: Notifications) {
    let (ada, bob) = (id(), id());
    let queued = queue(&store, vec![account(ada), account(ada), promotion(ada), account(bob)], at(NOON)).await;
    let (lease, claimed) = claim(&store, 9, 9, NOON).await;
    assert_eq!(ids_of(&claimed), [queued[0], queued[3]]);
    assert!(claimed.left_critical && claimed.left_standard);
    assert!(claim(&store, 9, 9, NOON).await.1.taken.is_empty());
    settle(&store, queued[0], lease, Attempt::Sent, NOON).await;
    assert_eq!(ids_of(&claim(&store, 9, 9, NOON).await.1), [queued[1]]);
}

async fn of_simultaneous_claims_each_mail_goes_to_one(store: Notifications) {
    queue(&store, (0..60).map(|_| account(id())).collect(), at(NOON)).await;
    let claims: Vec<_> = (0..20)
        .map(|_| {
            let port = store.port.clone();
            tokio::spawn(async move { port.claim(wanted(5, 0, NOON)).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for claim in claims {
        taken.extend(ids_of(&claim.await.unwrap()));
    }
    let count = taken.len();
    taken.sort();
    taken.dedup();
    assert_eq!((count, taken.len()), (60, 60));
}

async fn standard_mail_keeps_the_pace_of_the_shop(store: Notifications) {
    queue(&store, (0..200).map(|_| promotion(id())).collect(), at(NOON)).await;
    let limits = StandardLimits { per_second: 16, ..LIMITS };
    let mut taken = 0;
    let mut now = NOON;
    // From whenever it may be claimed to whenever it may be claimed again, as a dispatcher does, for five seconds.
    while now < NOON + 5_000 {
        let claimed = store.port.claim(ClaimWanted { limits, ..wanted(0, 50, now) }).await.unwrap();
        taken += claimed.taken.len();
        now = claimed.again_at.unwrap().0.max(now + 1);
    }
    assert!((80..=83).contains(&taken), "{taken} in five seconds at 16 a second");
}

async fn a_recipient_gets_so_many_standard_mails_a_day(store: Notifications) {
    let ada = id();
    let queued = queue(&store, vec![promotion(ada), promotion(ada), promotion(ada), account(ada)], at(NOON)).await;
    let limits = StandardLimits { per_recipient_per_day: 2, ..LIMITS };
    let mut claims = Vec::new();
    for _ in 0..4 {
        let wanted = ClaimWanted { limits, ..wanted(0, 9, NOON) };
        let claimed = store.port.claim(wanted).await.unwrap();
        for notification in &claimed.taken {
            settle(&store, notification.id, wanted.lease, Attempt::Sent, NOON).await;
        }
        claims.push((claimed.taken.len(), claimed.skipped));
    }
    assert_eq!(claims, [(1, 0), (1, 0), (0, 1), (0, 0)]);
    assert_eq!(one(&store, queued[2]).await.last_error.as_deref(), Some("daily limit"));
    assert_eq!(one(&store, queued[3]).await.status, NotificationStatus::Queued, "critical mail is not limited");
    // Another day.
    queue(&store, vec![promotion(ada)], at(NOON)).await;
    let tomorrow = ClaimWanted { limits, ..wanted(0, 9, NOON + 12 * 60 * 60 * 1000) };
    assert_eq!(store.port.claim(tomorrow).await.unwrap().taken.len(), 1);
}

async fn what_is_given_back_is_due_at_once(store: Notifications) {
    let queued = queue(&store, vec![account(id()), account(id())], at(NOON)).await;
    let (lease, _) = claim(&store, 9, 9, NOON).await;
    store.port.release(vec![(queued[0], lease), (queued[1], Lease(Uuid::now_v7()))]).await.unwrap();
    assert_eq!(ids_of(&claim(&store, 9, 9, NOON).await.1), [queued[0]]);
    assert_eq!(one(&store, queued[0]).await.attempts, 0);
}

async fn leases_can_be_voided_but_for_what_is_in_hand(store: Notifications) {
    let queued = queue(&store, vec![account(id()), account(id())], at(NOON)).await;
    let (lease, _) = claim(&store, 9, 9, NOON).await;
    assert_eq!(store.port.void_leases(vec![queued[1]]).await.unwrap(), 1);
    assert_eq!(ids_of(&claim(&store, 9, 9, NOON).await.1), [queued[0]]);
    assert_eq!(settle(&store, queued[1], lease, Attempt::Sent, NOON).await, Settled::Sent);
    assert_eq!(settle(&store, queued[0], lease, Attempt::Sent, NOON).await, Settled::Lost);
}

async fn only_who_holds_the_lease_settles(store: Notifications) {
    let queued = queue(&store, vec![account(id())], at(NOON)).await;
    let stranger = Lease(Uuid::now_v7());
    assert_eq!(settle(&store, queued[0], stranger, Attempt::Sent, NOON).await, Settled::Lost);
    let (lease, _) = claim(&store, 9, 9, NOON).await;
    assert_eq!(settle(&store, queued[0], stranger, Attempt::Sent, NOON).await, Settled::Lost);
    assert_eq!(settle(&store, id(), lease, Attempt::Sent, NOON).await, Settled::Lost);
    assert_eq!(settle(&store, queued[0], lease, Attempt::Sent, NOON + 5).await, Settled::Sent);
    assert_eq!(settle(&store, queued[0], lease, Attempt::Sent, NOON + 6).await, Settled::Lost);
    let sent = one(&store, queued[0]).await;
    assert_eq!((sent.status, sent.attempts, sent.sent_at), (NotificationStatus::Sent, 1, Some(at(NOON + 5))));
    assert_eq!(event_types(&store).await, [event_type::NOTIFICATION_QUEUED, event_type::NOTIFICATION_SENT]);
}

async fn a_refused_mail_comes_back_when_its_next_attempt_is_due(store: Notifications) {
    let queued = queue(&store, vec![account(id())], at(NOON)).await;
    let (lease, _) = claim(&store, 9, 9, NOON).await;
    let refused = Attempt::Refused("451 later".into());
    assert_eq!(settle(&store, queued[0], lease, refused, NOON).await, Settled::Again(at(NOON + 1_000)));
    let (_, early) = claim(&store, 9, 9, NOON + 999).await;
    assert_eq!((ids_of(&early), early.again_at), (vec![], Some(at(NOON + 1_000))));
    let (_, due) = claim(&store, 9, 9, NOON + 1_000).await;
    assert_eq!(ids_of(&due), queued);
    assert_eq!((due.taken[0].attempts, due.taken[0].last_error.as_deref()), (1, Some("451 later")));
}

/// The letters that are pending.
async fn letters(store: &Notifications) -> Vec<DeadLetter> {
    let pending = store.pending().await;
    let letters = pending.iter().filter(|event| event.topic == Topic::DeadLetterQueue);
    letters.map(|event| serde_json::from_str(&event.body).unwrap()).collect()
}

async fn a_dead_mail_leaves_a_letter_and_its_replay_opens_the_next_round(store: Notifications) {
    let queued = queue(&store, vec![account(id())], at(NOON)).await;
    let dead = queued[0];
    for round in 0..2 {
        let (lease, _) = claim(&store, 9, 9, NOON).await;
        let refused = Attempt::RefusedForGood("550 no such mailbox".into());
        assert_eq!(settle(&store, dead, lease, refused, NOON).await, Settled::Dead);
        let letters = letters(&store).await;
        assert_eq!(letters.len(), round + 1);
        let letter = letters.iter().find(|letter| letter.round as usize == round).unwrap();
        assert_eq!(letter.id, format!("notifications/{dead}/{round}"));
        assert_eq!((letter.source.as_str(), letter.reason.as_str()), ("notifications", "550 no such mailbox"));
        assert!(letter.record.body.contains(&dead.to_string()));
        // Twice replayed is one effect, and an earlier round's replay none.
        let next = u32::try_from(round).unwrap() + 1;
        for round in [next, next, next - 1] {
            take_in(&store, vec![Intake::Requeue { id: dead, round }], at(NOON)).await;
        }
        assert_eq!(one(&store, dead).await.status, NotificationStatus::Queued);
    }
    let types = event_types(&store).await;
    assert_eq!(types.iter().filter(|name| *name == event_type::NOTIFICATION_QUEUED).count(), 3);
    assert_eq!(types.iter().filter(|name| *name == event_type::NOTIFICATION_DEAD).count(), 2);
    take_in(&store, vec![Intake::Requeue { id: id(), round: 1 }], at(NOON)).await;
}

async fn an_inbox_is_newest_first_and_counts_what_is_unread(store: Notifications) {
    let ada = id();
    let queued = queue(&store, (0..5).map(|_| account(ada)).collect(), at(NOON)).await;
    queue(&store, vec![account(id())], at(NOON)).await;
    let read = MarkRead::These(vec![queued[1], queued[3]]);
    assert_eq!(store.port.mark_read(ada, read, at(NOON)).await.unwrap(), Marked::Done(2));
    for (unread_only, expected) in [(false, vec![4, 3, 2, 1, 0]), (true, vec![4, 2, 0])] {
        let mut listed = Vec::new();
        let mut request = PageRequest::first(2);
        loop {
            let inbox = store.port.inbox(ada, unread_only, &request).await.unwrap();
            assert_eq!((inbox.page.total, inbox.unread), (expected.len() as u64, 3));
            listed.extend(inbox.page.entries.iter().map(|(_, entry)| entry.id));
            let Some((cursor, _)) = inbox.page.entries.last() else { break };
            request.after = Some(cursor.clone());
        }
        assert_eq!(listed, expected.iter().map(|n| queued[*n]).collect::<Vec<_>>(), "{unread_only}");
    }
    let broken = PageRequest { first: 2, after: Some("broken".into()) };
    assert!(matches!(store.port.inbox(ada, false, &broken).await, Err(StoreError::InvalidCursor)));
}

async fn only_ones_own_notifications_are_marked_as_read(store: Notifications) {
    let (ada, bob) = (id(), id());
    let queued = queue(&store, vec![account(ada), account(ada), account(bob)], at(NOON)).await;
    for foreign in [queued[2], id()] {
        let which = MarkRead::These(vec![queued[0], foreign]);
        let refused = store.port.mark_read(ada, which, at(NOON)).await.unwrap();
        assert_eq!(refused, Marked::NotFound { position: 1 });
    }
    assert!(!one(&store, queued[0]).await.read, "nothing was changed");
    let twice = MarkRead::These(vec![queued[0], queued[0]]);
    assert_eq!(store.port.mark_read(ada, twice.clone(), at(NOON)).await.unwrap(), Marked::Done(1));
    assert_eq!(store.port.mark_read(ada, twice, at(NOON)).await.unwrap(), Marked::Done(0), "it is read already");
    assert_eq!(store.port.mark_read(ada, MarkRead::Unread(9), at(NOON)).await.unwrap(), Marked::Done(1));
    assert_eq!(store.port.inbox(ada, true, &PageRequest::first(9)).await.unwrap().unread, 0);
    assert_eq!(store.port.inbox(bob, true, &PageRequest::first(9)).await.unwrap().unread, 1);
    let read = event_types(&store).await.iter().filter(|name| *name == event_type::NOTIFICATION_READ).count();
    assert_eq!(read, 2);
    // What is read while it is in hand stays in hand.
    let (lease, _) = claim(&store, 9, 9, NOON).await;
    store.port.mark_read(bob, MarkRead::Unread(9), at(NOON)).await.unwrap();
    assert_eq!(settle(&store, queued[2], lease, Attempt::Sent, NOON).await, Settled::Sent);
    assert!(one(&store, queued[2]).await.read);
}

async fn what_is_received_after_a_position_comes_in_order(store: Notifications) {
    let ada = id();
    queue(&store, vec![account(ada)], at(NOON)).await;
    let mut position = store.port.latest_received(ada).await.unwrap();
    let queued = queue(&store, vec![account(ada), account(id()), account(ada), account(ada)], at(NOON)).await;
    let mut received = Vec::new();
    loop {
        let entries = store.port.received_after(ada, &position, 2).await.unwrap();
        let Some((last, _)) = entries.last() else { break };
        position.clone_from(last);
        received.extend(entries.into_iter().map(|(_, notification)| notification.id));
    }
    assert_eq!(received, [queued[0], queued[2], queued[3]]);
}

async fn campaigns_are_counted_by_what_became_of_their_mails(store: Notifications) {
    let (lamps, shades) = (id::<CampaignId>(), id::<CampaignId>());
    let batch: Vec<_> = (0..5).map(|_| promotion_of(lamps, id())).collect();
    let queued = queue(&store, batch, at(NOON)).await;
    queue(&store, vec![promotion(id()), account(id())], at(NOON)).await;
    let (lease, _) = claim(&store, 0, 9, NOON).await;
    for (id, attempt) in queued.iter().zip([
        Attempt::Sent,
        Attempt::Sent,
        Attempt::Skipped(SkipReason::PromotionsOff),
        Attempt::RefusedForGood("550".into()),
    ]) {
        settle(&store, *id, lease, attempt, NOON).await;
    }
    let tally = CampaignTally { total: 5, queued: 1, sent: 2, skipped: 1, dead: 1 };
    let counted = store.port.campaign_tallies(&[shades, lamps]).await.unwrap();
    assert_eq!(counted, [(shades, CampaignTally::default()), (lamps, tally)]);
    let depths = store.port.queue_depths().await.unwrap();
    assert_eq!((depths.critical.queued, depths.standard.queued), (1, 2));
    // What is being delivered is not due before its lease ends.
    assert_eq!((depths.critical.first_due, depths.standard.first_due), (Some(at(NOON)), Some(at(NOON + LEASE_MS))));
}

async fn mails_of_one_recipient_hide_nobody_elses_however_many_they_are(store: Notifications) {
    let (many, other) = (id(), id());
    let hiding = queue(&store, (0..600).map(|_| account(many)).collect(), at(NOON)).await;
    let hidden = queue(&store, vec![account(other)], at(NOON)).await;
    let (lease, claimed) = claim(&store, 8, 8, NOON).await;
    assert_eq!(ids_of(&claimed), hiding[..1]);
    assert_eq!(claimed.again_at, Some(at(NOON)), "there may be more");
    let (_, claimed) = claim(&store, 8, 8, NOON).await;
    assert_eq!(ids_of(&claimed), hidden);
    assert!(claimed.left_critical && claimed.again_at != Some(at(NOON)), "the rest is of those who get one");
    settle(&store, hiding[0], lease, Attempt::Sent, NOON).await;
    assert_eq!(ids_of(&claim(&store, 8, 8, NOON).await.1), hiding[1..2]);
}

async fn of_a_long_queue_a_claim_takes_what_it_wants(store: Notifications) {
    queue(&store, (0..2_000).map(|_| promotion(id())).collect(), at(NOON)).await;
    let critical = queue(&store, vec![account(id())], at(NOON + 1)).await;
    for n in 0..20 {
        let (_, claimed) = claim(&store, 1, 8, NOON + 1).await;
        assert_eq!(ids_of(&claimed).first() == critical.first(), n == 0);
        assert_eq!(claimed.taken.len(), if n == 0 { 9 } else { 8 });
    }
}

//! Who goes first, and what one recipient or a full lane holds up.

use souk::actors::notifications::Outcome;
use souk::domain::notifications::{NotificationStatus, SkipReason, StandardLimits};
use souk::mail::FailureClass;

use crate::scene::{Answer, Setting, critical, id, reset, scene, standard};

#[actix_rt::test]
async fn critical_mail_overtakes_standard_mail_that_waits() {
    let scene = scene(Setting { workers: 2, permits: 0, ..Setting::default() });
    scene.enqueue((0..20).map(|_| standard(id())).collect()).await;
    scene.until_started(1).await;
    let critical = scene.enqueue((0..3).map(|_| critical(id())).collect()).await;
    scene.until_started(2).await;
    assert_eq!(scene.started()[1], critical[0], "the worker for critical mail was free");
    scene.let_pass(23);
    scene.until_delivered(23).await;
    let delivered = scene.delivered();
    let last = delivered.iter().rposition(|id| critical.contains(id)).unwrap();
    assert!(last <= 4, "the last critical mail was number {last}");
}

#[actix_rt::test]
async fn standard_mail_is_not_starved_by_critical_mail() {
    let scene = scene(Setting { workers: 1, burst: 2, ..Setting::default() });
    let mut batch: Vec<_> = (0..12).map(|_| critical(id())).collect();
    batch.extend((0..4).map(|_| standard(id())));
    let ids = scene.enqueue(batch).await;
    scene.until_delivered(16).await;
    let kinds: String = scene.delivered().iter().map(|id| if ids[..12].contains(id) { 'c' } else { 's' }).collect();
    assert_eq!(kinds, "ccsccsccsccscccc");
}

#[actix_rt::test]
async fn standard_mail_that_stalls_holds_up_no_critical_mail() {
    let scene = scene(Setting { workers: 2, ..Setting::default() });
    let batch: Vec<_> = (0..6).map(|_| standard(id())).collect();
    for new in &batch {
        scene.script(new.id, &[Answer::Stalls]);
    }
    scene.enqueue(batch).await;
    scene.until_started(1).await;
    let critical = scene.enqueue((0..5).map(|_| critical(id())).collect()).await;
    scene.until_delivered(5).await;
    assert_eq!(scene.delivered(), critical);
}

#[actix_rt::test]
async fn a_recipient_who_stalls_holds_up_one_worker_only() {
    let scene = scene(Setting { workers: 3, ..Setting::default() });
    let stalled = id();
    let batch: Vec<_> = (0..6).map(|_| critical(stalled)).collect();
    for new in &batch {
        scene.script(new.id, &[Answer::Stalls]);
    }
    scene.enqueue(batch).await;
    scene.until_started(1).await;
    let others = scene.enqueue((0..8).map(|_| critical(id())).collect()).await;
    scene.until_delivered(8).await;
    assert!(others.iter().all(|id| scene.delivered().contains(id)));
    assert_eq!(scene.started().len(), 9, "the stalled recipient's other mails wait");
}

#[actix_rt::test]
async fn everything_queued_is_delivered_once_however_much_it_is() {
    let scene = scene(Setting::default());
    let mut ids = scene.enqueue((0..150).map(|_| standard(id())).collect()).await;
    ids.extend(scene.enqueue((0..150).map(|_| critical(id())).collect()).await);
    scene.until_delivered(300).await;
    for id in &ids {
        assert_eq!(scene.becomes(*id, NotificationStatus::Sent).await.attempts, 1);
    }
    let mut delivered = scene.delivered();
    delivered.sort();
    delivered.dedup();
    assert_eq!(delivered.len(), 300);
    scene.assert_counted(&[(Outcome::Sent, 300)]).await;
}

#[actix_rt::test]
async fn a_backlog_is_claimed_half_a_lane_at_a_time() {
    let scene = scene(Setting { permits: 0, ..Setting::default() });
    scene.enqueue((0..640).map(|_| critical(id())).collect()).await;
    scene.until_started(4).await;
    scene.let_pass(640);
    scene.until_delivered(640).await;
    // A lane has 128 places.
    assert!(scene.claims() <= 640 / 64 + 5, "{} claims for 640 mails", scene.claims());
}

#[actix_rt::test]
async fn under_restraint_two_mails_at_a_time_are_sent_and_all_workers_go_on_when_it_ends() {
    let scene = scene(Setting { permits: 0, restraint: Some(2), ..Setting::default() });
    scene.enqueue((0..20).map(|_| critical(id())).collect()).await;
    scene.until_started(2).await;
    scene.let_pass(4);
    scene.until_delivered(4).await;
    scene.until_started(6).await;
    assert_eq!(scene.started().len(), 6, "each that was sent makes room for one");
    scene.end_restraint();
    scene.until_started(8).await;
    scene.let_pass(16);
    scene.until_delivered(20).await;
}

#[actix_rt::test]
async fn under_restraint_standard_mails_that_stall_hold_no_critical_one_up() {
    let scene = scene(Setting { permits: 0, restraint: Some(2), ..Setting::default() });
    scene.enqueue(vec![standard(id()), standard(id())]).await;
    scene.until_started(2).await;
    let urgent = scene.enqueue(vec![critical(id())]).await;
    scene.until_started(3).await;
    assert_eq!(scene.started()[2..], urgent);
    scene.let_pass(3);
    scene.until_delivered(3).await;
}

#[actix_rt::test]
async fn under_the_hardest_restraint_one_critical_mail_after_the_other_is_sent_before_standard_ones() {
    let scene = scene(Setting { permits: 0, restraint: Some(1), ..Setting::default() });
    let urgent = scene.enqueue((0..3).map(|_| critical(id())).collect()).await;
    let others = scene.enqueue(vec![standard(id())]).await;
    for sent in 1..=3 {
        scene.until_started(sent).await;
        assert_eq!(scene.started(), urgent[..sent], "one at a time");
        scene.let_pass(1);
        scene.until_delivered(sent).await;
    }
    scene.until_started(4).await;
    assert_eq!(scene.started()[3..], others);
    scene.let_pass(1);
    scene.until_delivered(4).await;
}

#[actix_rt::test]
async fn what_another_process_queues_is_delivered_too() {
    let scene = scene(Setting::default());
    let first = scene.enqueue(vec![critical(id())]).await;
    scene.becomes(first[0], NotificationStatus::Sent).await;
    let path = scene.path();
    let other = souk::store::sqlite::SqliteNotificationStore::open(&path).unwrap().0;
    let new = critical(id());
    use souk::store::notifications::NotificationStore;
    other.insert_notifications(vec![new.clone()], crate::scene::today()).await.unwrap();
    scene.becomes(new.id, NotificationStatus::Sent).await;
}

#[actix_rt::test]
async fn what_is_not_to_be_sent_is_skipped_with_its_reason() {
    let scene = scene(Setting {
        limits: StandardLimits { per_second: 10_000, per_recipient_per_day: 1 },
        ..Setting::default()
    });
    let (unwanting, unknown, void, keen) = (id(), id(), id(), id());
    scene.recipients.unwanting.lock().unwrap().insert(unwanting);
    scene.recipients.unknown.lock().unwrap().insert(unknown);
    scene.recipients.void_links.lock().unwrap().insert(void);
    let batch = vec![
        standard(unwanting),
        critical(unwanting),
        critical(unknown),
        reset(void),
        reset(keen),
        standard(keen),
        standard(keen),
    ];
    let ids = scene.enqueue(batch).await;
    for (id, reason) in ids.iter().zip([
        Some(SkipReason::PromotionsOff),
        None,
        Some(SkipReason::AccountDeleted),
        Some(SkipReason::LinkExpired),
        None,
        None,
        Some(SkipReason::DailyLimit),
    ]) {
        let status = if reason.is_some() { NotificationStatus::Skipped } else { NotificationStatus::Sent };
        let settled = scene.becomes(*id, status).await;
        assert_eq!(settled.last_error.as_deref(), reason.map(SkipReason::as_str));
    }
    scene.assert_counted(&[(Outcome::Skipped, 4), (Outcome::Sent, 3)]).await;
}

#[actix_rt::test]
async fn a_refused_mail_is_tried_again_until_it_is_taken() {
    let scene = scene(Setting::default());
    let mail = critical(id());
    scene.script(
        mail.id,
        &[
            Answer::Fails(FailureClass::Transient),
            Answer::Fails(FailureClass::NotReached),
            Answer::Fails(FailureClass::NotReached),
            Answer::Fails(FailureClass::Transient),
        ],
    );
    let ids = scene.enqueue(vec![mail]).await;
    let sent = scene.becomes(ids[0], NotificationStatus::Sent).await;
    assert_eq!((sent.attempts, sent.failures, sent.last_error), (5, 2, None));
    scene.assert_counted(&[(Outcome::Failed, 4), (Outcome::Sent, 1)]).await;
}

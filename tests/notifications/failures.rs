//! Failures: of mails, of workers, of the dispatcher, and a stop.

use souk::actors::supervisor::Fault;
use souk::domain::events::Topic;
use souk::domain::notifications::NotificationStatus;
use souk::domain::notifications::intake::Intake;
use souk::domain::time::Timestamp;
use souk::mail::FailureClass;
use souk::store::outbox::Outbox;

use crate::scene::{Answer, Setting, critical, id, scene};

#[actix_rt::test]
async fn a_mail_that_fails_for_good_is_a_dead_letter_and_its_replay_is_sent() {
    let scene = scene(Setting::default());
    let (refused, tried) = (critical(id()), critical(id()));
    scene.script(refused.id, &[Answer::Fails(FailureClass::Permanent)]);
    scene.script(tried.id, &[Answer::Fails(FailureClass::Transient); 3]);
    let ids = scene.enqueue(vec![refused, tried]).await;
    for (id, attempts) in ids.iter().zip([1, 3]) {
        assert_eq!(scene.becomes(*id, NotificationStatus::Dead).await.attempts, attempts);
    }
    let pending = scene.store.pending(Timestamp(i64::MAX), 99).await.unwrap();
    let mut letters: Vec<_> = pending
        .iter()
        .filter(|event| event.topic == Topic::DeadLetterQueue)
        .map(|event| event.aggregate.clone())
        .collect();
    letters.sort();
    let mut expected: Vec<_> = ids.iter().map(|id| format!("notifications/{id}/0")).collect();
    expected.sort();
    assert_eq!(letters, expected);

    scene.take_in(ids.iter().map(|id| Intake::Requeue { id: *id, round: 1 }).collect()).await;
    for id in &ids {
        scene.becomes(*id, NotificationStatus::Sent).await;
    }
}

#[actix_rt::test]
async fn a_worker_that_fails_comes_back_and_its_mail_is_tried_again() {
    let scene = scene(Setting { workers: 1, ..Setting::default() });
    let mail = critical(id());
    scene.script(mail.id, &[Answer::Panics]);
    let ids = scene.enqueue(vec![mail, critical(id())]).await;
    for id in &ids {
        scene.becomes(*id, NotificationStatus::Sent).await;
    }
    assert_eq!((scene.one(ids[0]).await.attempts, scene.one(ids[1]).await.attempts), (2, 1));
    assert_eq!(scene.restarts("worker-1"), 1);
}

#[actix_rt::test]
async fn a_mail_that_fails_every_worker_ends_as_a_dead_letter() {
    let scene = scene(Setting { workers: 1, ..Setting::default() });
    let mail = critical(id());
    scene.script(mail.id, &[Answer::Panics; 3]);
    let ids = scene.enqueue(vec![mail]).await;
    let dead = scene.becomes(ids[0], NotificationStatus::Dead).await;
    assert!(dead.last_error.unwrap().contains("the worker failed"));
}

#[actix_rt::test]
async fn a_dispatcher_that_comes_back_leaves_what_is_in_hand_and_goes_on_with_the_rest() {
    let scene = scene(Setting { workers: 2, permits: 0, ..Setting::default() });
    let ids = scene.enqueue((0..20).map(|_| critical(id())).collect()).await;
    scene.until_started(2).await;
    scene.inject("dispatcher", Fault::Panic);
    scene.until("the dispatcher is back", async || scene.restarts("dispatcher") == 1).await;
    scene.let_pass(1_000);
    for id in &ids {
        assert_eq!(scene.becomes(*id, NotificationStatus::Sent).await.attempts, 1);
    }
    assert_eq!(scene.delivered().len(), 20, "nothing was delivered twice");
}

#[actix_rt::test]
async fn while_the_users_domain_is_away_nothing_is_lost_or_given_up() {
    let scene = scene(Setting::default());
    *scene.recipients.away.lock().unwrap() = 6;
    let ids = scene.enqueue(vec![critical(id())]).await;
    let sent = scene.becomes(ids[0], NotificationStatus::Sent).await;
    assert_eq!((sent.attempts, sent.failures), (7, 0));
}

#[actix_rt::test]
async fn a_stop_finishes_what_is_in_hand_and_gives_the_rest_back() {
    let scene = scene(Setting { workers: 2, permits: 0, ..Setting::default() });
    scene.enqueue((0..20).map(|_| critical(id())).collect()).await;
    scene.until_started(2).await;
    scene.stop();
    scene.let_pass(1_000);
    scene.until_stopped().await;
    assert_eq!(scene.delivered().len(), 2);
    assert_eq!(scene.voided().await, 0, "nothing is held");
}

//! Critical mail does not wait for standard mail, however much of it there is and however slow its servers are.

use tokio::sync::watch;

use super::*;
use crate::support::client::fresh_email;
use crate::support::sink::{Answer, Sink, Turn};
use crate::support::{spawn_app_in, spawn_app_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn critical_mail_overtakes_thousands_of_standard_mails() {
    const QUEUED: usize = 5_000;
    let (sink, dir) = (Sink::start().await, tempfile::tempdir().unwrap());
    let readers: Vec<_> = (0..100).map(|number| (format!("reader{number}@test.example"), true)).collect();
    let readers = queue::people(dir.path(), &readers).await;
    queue::promotions(dir.path(), &readers, QUEUED).await;
    let shop = spawn_app_in(dir, |config| mails_to(config, &sink.uri())).await;

    sink.wait_for(200).await;
    for _ in 0..5 {
        let email = fresh_email();
        let already = sink.count();
        sign_up(&shop, &email).await;
        let place = place_of(&sink, &email).await;
        assert!(place >= already, "it was not there before");
        assert!(place < QUEUED * 3 / 4, "the welcome was mail {place} of {QUEUED}: it has waited for standard mail");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipients_whose_server_stalls_hold_back_no_critical_mail_of_others() {
    let stalled = watch::Sender::new(0);
    let (mut stalling, count) = (stalled.subscribe(), stalled.clone());
    let sink = Sink::scripted(move |turn| match turn {
        Turn::Recipient(to) if to.starts_with("slow") => {
            count.send_modify(|stalled| *stalled += 1);
            Answer::Stall
        }
        _ => Answer::Usual,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let slow: Vec<_> = (0..20).map(|number| (format!("slow{number}@test.example"), true)).collect();
    let slow = queue::people(dir.path(), &slow).await;
    queue::promotions(dir.path(), &slow, 20).await;
    let shop = spawn_app_in(dir, |config| mails_to(config, &sink.uri())).await;

    // All workers but the one for critical mail wait for their server.
    let others = shop.config.notifications.workers - 1;
    stalling.wait_for(|stalled| *stalled >= others).await.unwrap();
    for _ in 0..5 {
        let email = fresh_email();
        sign_up(&shop, &email).await;
        place_of(&sink, &email).await;
    }
    assert_eq!(sink.count(), 5, "nothing else was taken");
    // The shop finishes what it has in hand before it stops: the connections end here.
    drop(sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stalled_critical_mail_holds_back_no_critical_mail_of_another_recipient() {
    let sink = Sink::scripted(|turn| match turn {
        Turn::Recipient(to) if to.starts_with("slow") => Answer::Stall,
        _ => Answer::Usual,
    })
    .await;
    let shop = spawn_app_with(|config| mails_to(config, &sink.uri())).await;
    sign_up(&shop, "slow@test.example").await;
    for _ in 0..5 {
        let email = fresh_email();
        sign_up(&shop, &email).await;
        place_of(&sink, &email).await;
    }
    assert_eq!(sink.count(), 5);
    drop(sink);
}

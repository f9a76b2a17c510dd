//! The SMTP adapter against servers that are not well: what each failure counts as, and that one holds back no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use souk::config::{MailConfig, SecretUri};
use souk::mail::smtp::SmtpMailer;
use souk::mail::{DeliveryFailure, FailureClass};

use super::*;
use crate::support::sink::{Answer, Sink, Turn, refused_address};

fn mailer(uri: &str, deadline_ms: u64) -> SmtpMailer {
    let config = MailConfig { uri: SecretUri::new(uri), deadline_ms, ..MailConfig::default() };
    SmtpMailer::new(&config, sender(), false).unwrap()
}

/// Long enough that nothing on this machine comes near it.
const AMPLE_MS: u64 = 20_000;
/// For servers that never answer.
const SHORT_MS: u64 = 300;

const ADA: &str = "ada@example.com";

async fn fails(mailer: &SmtpMailer) -> DeliveryFailure {
    let failure = mailer.deliver(&mail(new_id(), ADA)).await.unwrap_err();
    assert!(!failure.reason.contains("ada") && !failure.reason.contains(TOKEN), "{}", failure.reason);
    failure
}

/// Answers so at this turn.
fn at(wanted: impl Fn(&Turn) -> bool + Send + Sync + 'static, answer: Answer) -> impl Fn(&Turn) -> Answer {
    move |turn| if wanted(turn) { answer } else { Answer::Usual }
}

#[tokio::test]
async fn each_failure_is_classed_by_the_stage_that_it_happened_at() {
    use FailureClass::{NotReached, Permanent, Transient};
    type Wanted = fn(&Turn) -> bool;
    let greeting: Wanted = |turn| *turn == Turn::Greeting;
    let hello: Wanted = |turn| *turn == Turn::Hello;
    let sender: Wanted = |turn| matches!(turn, Turn::Sender(_));
    let recipient: Wanted = |turn| matches!(turn, Turn::Recipient(_));
    let data: Wanted = |turn| matches!(turn, Turn::Data(_));
    let content: Wanted = |turn| matches!(turn, Turn::Content(_));
    for (turn, answer, class, reason) in [
        (
            greeting,
            Answer::Last("421 4.3.2 busy, ada@example.com"),
            NotReached,
            "connection: the server answered 421 4.3.2",
        ),
        (greeting, Answer::Say("554 no"), NotReached, "connection: the server answered 554"),
        (greeting, Answer::Drop, NotReached, "connection: the connection ended, or the answer was not one of SMTP"),
        (
            greeting,
            Answer::Say("Hello <ada@example.com>"),
            NotReached,
            "connection: the connection ended, or the answer was not one of SMTP",
        ),
        (hello, Answer::Say("550 who?"), NotReached, "connection: the server answered 550"),
        (sender, Answer::Say("451 later"), NotReached, "sender (MAIL): the server answered 451"),
        (sender, Answer::Say("550 5.7.1 not you"), NotReached, "sender (MAIL): the server answered 550 5.7.1"),
        (
            recipient,
            Answer::Say("451 4.7.1 <ada@example.com> greylisted"),
            Transient,
            "recipient (RCPT): the server answered 451 4.7.1",
        ),
        (
            recipient,
            Answer::Last("421 ada@example.com going down"),
            Transient,
            "recipient (RCPT): the server answered 421",
        ),
        (
            recipient,
            Answer::Say("550 5.1.1 <ada@example.com> unknown"),
            Permanent,
            "recipient (RCPT): the server answered 550 5.1.1",
        ),
        (
            recipient,
            Answer::Drop,
            Transient,
            "recipient (RCPT): the connection ended, or the answer was not one of SMTP",
        ),
        (data, Answer::Say("451 later"), Transient, "DATA: the server answered 451"),
        (data, Answer::Say("554 no"), Permanent, "DATA: the server answered 554"),
        (data, Answer::Drop, Transient, "content: "),
        (content, Answer::Say("452 4.2.2 full"), Transient, "content: the server answered 452 4.2.2"),
        (content, Answer::Say("554 5.6.0 spam"), Permanent, "content: the server answered 554 5.6.0"),
        (content, Answer::Drop, Transient, "content: the connection ended, or the answer was not one of SMTP"),
    ] {
        let sink = Sink::scripted(at(turn, answer)).await;
        let failure = fails(&mailer(&sink.uri(), AMPLE_MS)).await;
        assert_eq!(failure.class, class, "{answer:?}: {failure}");
        assert!(failure.reason.starts_with(reason), "{answer:?}: {failure}");
    }
}

#[tokio::test]
async fn a_server_that_stalls_ends_with_the_deadline() {
    for (turn, class) in [
        (Turn::Greeting, FailureClass::NotReached),
        (Turn::Sender("souk@shop.example".into()), FailureClass::NotReached),
        (Turn::Recipient(ADA.into()), FailureClass::Transient),
        (Turn::Data(ADA.into()), FailureClass::Transient),
        (Turn::Content(ADA.into()), FailureClass::Transient),
    ] {
        let own = turn.clone();
        let sink = Sink::scripted(at(move |at| *at == own, Answer::Stall)).await;
        let failure = fails(&mailer(&sink.uri(), SHORT_MS)).await;
        assert_eq!(failure.class, class, "{turn:?}: {failure}");
        assert!(failure.reason.ends_with("no answer within 300 ms"), "{failure}");
    }
}

#[tokio::test]
async fn nobody_listening_and_no_such_host_are_not_reached() {
    let refused = fails(&mailer(&format!("smtp://{}?tls=none", refused_address().await), AMPLE_MS)).await;
    assert_eq!(refused.class, FailureClass::NotReached);
    assert!(refused.reason.contains("refused"), "{refused}");
    let unknown = fails(&mailer("smtp://no-such-host.invalid?tls=none", AMPLE_MS)).await;
    assert_eq!(unknown.class, FailureClass::NotReached, "{unknown}");
}

#[tokio::test]
async fn a_server_signs_in_who_it_knows_and_refuses_others_before_any_mail() {
    let script = |turn: &Turn| match turn {
        Turn::SignIn(user, password) if (user.as_str(), password.as_str()) == ("shop", "p@ss") => Answer::Usual,
        Turn::SignIn(..) => Answer::Say("535 5.7.8 no"),
        _ => Answer::Usual,
    };
    let sink = Sink::scripted(script).await;
    let uri = |who: &str| format!("smtp://{who}@{}?tls=none", sink.address);
    mailer(&uri("shop:p%40ss"), AMPLE_MS).deliver(&mail(new_id(), ADA)).await.unwrap();
    let failure = fails(&mailer(&uri("shop:wrong"), AMPLE_MS)).await;
    assert_eq!(failure.class, FailureClass::NotReached);
    assert_eq!(failure.reason, "sign-in: the server answered 535 5.7.8");
    assert!(mailer(&uri("shop:p%40ss"), AMPLE_MS).is_there().await);
    assert!(!mailer(&uri("shop:wrong"), AMPLE_MS).is_there().await);
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn tls_that_is_asked_for_and_not_offered_sends_nothing() {
    let sink = Sink::start().await;
    let failure = fails(&mailer(&format!("smtp://{}?tls=starttls", sink.address), AMPLE_MS)).await;
    assert_eq!(failure.class, FailureClass::NotReached);
    assert_eq!(failure.reason, "TLS: the server does not offer what is asked of it");
    let implicit = fails(&mailer(&format!("smtp://{}?tls=implicit", sink.address), AMPLE_MS)).await;
    assert_eq!(implicit.class, FailureClass::NotReached, "{implicit}");
    mailer(&format!("smtp://{}", sink.address), AMPLE_MS).deliver(&mail(new_id(), ADA)).await.unwrap();
}

#[tokio::test]
async fn one_connection_serves_mail_after_mail_also_after_a_refused_recipient() {
    let refuses = |turn: &Turn| match turn {
        Turn::Recipient(to) if to.starts_with("gone") => Answer::Say("550 5.1.1 unknown"),
        _ => Answer::Usual,
    };
    let sink = Sink::scripted(refuses).await;
    let mailer = mailer(&sink.uri(), AMPLE_MS);
    for to in ["a@example.com", "gone@example.com", "b@example.com", "gone@example.com", "c@example.com"] {
        let delivered = mailer.deliver(&mail(new_id(), to)).await;
        assert_eq!(delivered.is_ok(), !to.starts_with("gone"), "{delivered:?}");
    }
    assert_eq!(sink.connections(), 1);
    let to: Vec<String> = sink.taken().into_iter().map(|taken| taken.to).collect();
    assert_eq!(to, ["a@example.com", "b@example.com", "c@example.com"]);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced_without_a_failure() {
    let sink = Sink::start().await;
    let mailer = mailer(&sink.uri(), AMPLE_MS);
    mailer.deliver(&mail(new_id(), ADA)).await.unwrap();
    sink.close_connections();
    mailer.deliver(&mail(new_id(), ADA)).await.unwrap();
    assert_eq!((sink.count(), sink.connections()), (2, 2));
}

#[tokio::test]
async fn a_server_that_takes_one_mail_a_connection_gets_a_new_one_for_each() {
    let senders = AtomicUsize::new(0);
    let script = move |turn: &Turn| match turn {
        Turn::Greeting => {
            senders.store(0, Ordering::SeqCst);
            Answer::Usual
        }
        Turn::Sender(_) if senders.fetch_add(1, Ordering::SeqCst) > 0 => Answer::Last("421 one a connection"),
        _ => Answer::Usual,
    };
    let sink = Sink::scripted(script).await;
    let mailer = mailer(&sink.uri(), AMPLE_MS);
    for _ in 0..3 {
        mailer.deliver(&mail(new_id(), ADA)).await.unwrap();
    }
    assert_eq!((sink.count(), sink.connections()), (3, 3));
}

#[tokio::test]
async fn a_recipient_that_stalls_holds_back_no_other() {
    let stalls = |turn: &Turn| match turn {
        Turn::Recipient(to) if to.starts_with("stall") => Answer::Stall,
        _ => Answer::Usual,
    };
    let sink = Sink::scripted(stalls).await;
    let mailer = Arc::new(mailer(&sink.uri(), AMPLE_MS));
    let stalled: Vec<_> = (0..3)
        .map(|at| {
            let (mailer, mail) = (Arc::clone(&mailer), mail(new_id(), &format!("stall{at}@example.com")));
            tokio::spawn(async move { mailer.deliver(&mail).await })
        })
        .collect();
    for _ in 0..10 {
        mailer.deliver(&mail(new_id(), ADA)).await.unwrap();
    }
    assert!(stalled.iter().all(|delivery| !delivery.is_finished()), "they still wait for their server");
    assert_eq!(sink.count(), 10);
    stalled.iter().for_each(tokio::task::JoinHandle::abort);
}

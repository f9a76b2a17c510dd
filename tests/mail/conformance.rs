//! What every mailer does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mail_parser::MessageParser;
use souk::config::MailConfig;
use souk::mail::directory::DirectoryMailer;
use souk::mail::smtp::SmtpMailer;

use super::*;
use crate::support::sink::Sink;

/// A mailer under test and where its mails arrive.
struct Under {
    mailer: Arc<dyn Mailer>,
    arrived: Arrived,
}

enum Arrived {
    Files(tempfile::TempDir),
    Sink(Sink),
}

impl Under {
    fn directory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mailer = Arc::new(DirectoryMailer::new(folder.path(), sender()));
        Self { mailer, arrived: Arrived::Files(folder) }
    }

    async fn smtp() -> Self {
        let sink = Sink::start().await;
        let config = MailConfig { uri: souk::config::SecretUri::new(sink.uri()), ..MailConfig::default() };
        let mailer = Arc::new(SmtpMailer::new(&config, sender(), false).unwrap());
        Self { mailer, arrived: Arrived::Sink(sink) }
    }

    /// Every mail that is there, as bytes.
    fn mails(&self) -> Vec<Vec<u8>> {
        match &self.arrived {
            Arrived::Files(folder) => {
                let files = std::fs::read_dir(folder.path().join("mail")).unwrap().map(|file| file.unwrap().path());
                let mut files: Vec<PathBuf> = files.collect();
                files.sort();
                assert!(files.iter().all(|file| file.extension().is_some_and(|own| own == "eml")), "{files:?}");
                files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
            }
            Arrived::Sink(sink) => sink.taken().into_iter().map(|taken| taken.content).collect(),
        }
    }
}

macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod directory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Under::directory()).await;
            })+
        }
        mod smtp {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Under::smtp().await).await;
            })+
        }
    };
}

conformance!(
    a_mail_arrives_as_it_was_written,
    every_attempt_has_the_same_bytes_but_for_its_boundaries,
    a_mailer_that_can_deliver_is_there,
    many_mails_at_a_time_all_arrive_once,
);

async fn a_mail_arrives_as_it_was_written(under: Under) {
    let id = new_id();
    under.mailer.deliver(&mail(id, "Ada@example.com")).await.unwrap();
    let mails = under.mails();
    let [bytes] = mails.as_slice() else { panic!("{} mails", mails.len()) };
    let mail = MessageParser::default().parse(bytes).unwrap();
    assert_eq!(mail.subject(), Some("Grüße: a new password"));
    let to = mail.to().unwrap().first().unwrap();
    assert_eq!((to.name(), to.address()), (Some("Søren, \"the\" <tester>"), Some("Ada@example.com")));
    assert_eq!(mail.header_raw("X-Souk-Notification").unwrap().trim(), id.to_string());
    assert_eq!(mail.message_id(), Some(format!("{id}@shop.example").as_str()));
    let link = format!("https://shop.example/mail/reset?token={TOKEN}");
    assert!(mail.body_text(0).unwrap().lines().any(|line| line == link));
    assert!(mail.body_html(0).unwrap().contains(&link));
}

async fn every_attempt_has_the_same_bytes_but_for_its_boundaries(under: Under) {
    let id = new_id();
    let mail = mail(id, "ada@example.com");
    under.mailer.deliver(&mail).await.unwrap();
    let first = under.mails().remove(0);
    under.mailer.deliver(&mail).await.unwrap();
    let after = under.mails();
    // A file is replaced; a server gets the mail again, and its Message-ID says that it is the same.
    let second = match &under.arrived {
        Arrived::Files(_) => {
            assert_eq!(after.len(), 1);
            &after[0]
        }
        Arrived::Sink(_) => &after[1],
    };
    assert_eq!(without_boundaries(&first), without_boundaries(second));
}

fn without_boundaries(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).unwrap();
    let (_, rest) = text.split_once("boundary=\"").unwrap();
    let (boundary, _) = rest.split_once('"').unwrap();
    text.replace(boundary, "-")
}

async fn many_mails_at_a_time_all_arrive_once(under: Under) {
    let ids: Vec<NotificationId> = (0..40).map(|_| new_id()).collect();
    let deliveries = ids.iter().enumerate().map(|(at, id)| {
        let (mailer, mail) = (Arc::clone(&under.mailer), mail(*id, &format!("user{at}@example.com")));
        tokio::spawn(async move { mailer.deliver(&mail).await })
    });
    for delivery in deliveries.collect::<Vec<_>>() {
        delivery.await.unwrap().unwrap();
    }
    let mut seen = BTreeMap::new();
    for bytes in under.mails() {
        let mail = MessageParser::default().parse(&bytes).unwrap();
        let id = mail.header_raw("X-Souk-Notification").unwrap().trim().to_owned();
        let to = mail.to().unwrap().first().unwrap().address().unwrap().to_owned();
        assert_eq!(seen.insert(id, to), None, "arrived twice");
    }
    let wanted = ids.iter().enumerate().map(|(at, id)| (id.to_string(), format!("user{at}@example.com")));
    assert_eq!(seen, wanted.collect());
}

async fn a_mailer_that_can_deliver_is_there(under: Under) {
    assert!(under.mailer.is_there().await);
    under.mailer.deliver(&mail(new_id(), "ada@example.com")).await.unwrap();
    assert!(under.mailer.is_there().await);
    assert_eq!(under.mails().len(), 1, "asking sends nothing");
}

//! kill -9 while thousands of mails leave, over one data folder. `SOUK_CRASH_KILLS` says how many kills (10),
//! `SOUK_CRASH_SEED` repeats the choices of a run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::{Connection, OpenFlags};
use souk::domain::notifications::NotificationStatus;

use super::*;
use crate::support::eventually;
use crate::support::process::ShopProcess;
use crate::support::sink::{Answer, Sink, Turn};

const QUEUED: usize = 5_000;
const WORKERS: usize = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn start(data_dir: &Path, uri: &str) -> ShopProcess {
    let (data_dir, uri) = (data_dir.to_owned(), uri.to_owned());
    let started = tokio::task::spawn_blocking(move || {
        let workers = WORKERS.to_string();
        let settings = [
            ("SOUK__MAIL__KIND", "smtp"),
            ("SOUK__MAIL__URI", uri.as_str()),
            ("SOUK__NOTIFICATIONS__WORKERS", workers.as_str()),
            ("SOUK__NOTIFICATIONS__STANDARD_PER_SECOND", "100000"),
            ("SOUK__NOTIFICATIONS__STANDARD_PER_RECIPIENT_PER_DAY", "10000"),
            ("SOUK__NOTIFICATIONS__BACKOFF_BASE_MS", "10"),
        ];
        ShopProcess::start(&data_dir, &settings)
    });
    started.await.expect("the shop starts")
}

/// How many notifications have each status.
fn statuses(data_dir: &Path) -> BTreeMap<&'static str, usize> {
    let path = data_dir.join("notifications.db");
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut query = connection.prepare("SELECT status, count(*) FROM notifications GROUP BY status").unwrap();
    let rows = query.query_map((), |row| {
        let status = NotificationStatus::ALL[row.get::<_, usize>(0)?];
        Ok((status.as_str(), row.get(1)?))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_sends_the_shop_loses_no_mail_and_repeats_few() {
    let kills = setting("SOUK_CRASH_KILLS", 10);
    let seed = setting("SOUK_CRASH_SEED", rand::random::<u32>().into());
    println!("SOUK_CRASH_KILLS={kills} SOUK_CRASH_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let sink = Sink::scripted(|turn| match turn {
        Turn::Recipient(to) if to.starts_with("gone") => Answer::Say("550 5.1.1 no such user"),
        _ => Answer::Usual,
    })
    .await;
    // Of ten people one does not want promotions, and one has an address that is no more.
    let people: Vec<_> = (0..100)
        .map(|number| match number % 10 {
            0 => (format!("unwilling{number}@test.example"), false),
            1 => (format!("gone{number}@test.example"), true),
            _ => (format!("reader{number}@test.example"), true),
        })
        .collect();
    let ids = queue::people(&data_dir, &people).await;
    let queued = queue::promotions(&data_dir, &ids, QUEUED).await;
    let to: HashMap<String, &str> = queued
        .iter()
        .enumerate()
        .map(|(number, id)| (id.to_string(), people[number % people.len()].0.as_str()))
        .collect();
    let willing = to.values().filter(|to| to.starts_with("reader")).count();

    // Each kill comes at a moment of the sending of its own.
    let mut moments: Vec<usize> = (0..kills).map(|_| draw.random_range(1..willing)).collect();
    moments.sort_unstable();
    let mut shop = start(&data_dir, &sink.uri()).await;
    for moment in moments {
        sink.wait_for(moment).await;
        shop.kill();
        shop = start(&data_dir, &sink.uri()).await;
    }
    sink.wait_for(willing).await;
    let settled = eventually("every notification is settled", || async {
        let statuses = statuses(&data_dir);
        (!statuses.contains_key("QUEUED")).then_some(statuses)
    })
    .await;

    let taken = sink.taken();
    let arrived: HashSet<&str> = taken.iter().map(|taken| taken.notification()).collect();
    let repeated = taken.len() - arrived.len();
    println!("{settled:?}, {} mails taken, {repeated} of them repeated", taken.len());
    let wanted = [("DEAD", QUEUED / 10), ("SENT", willing), ("SKIPPED", QUEUED / 10)];
    assert_eq!(settled, wanted.into());
    assert_eq!(arrived.len(), willing, "each that is SENT has arrived");
    for mail in &taken {
        assert_eq!(to[mail.notification()], mail.to, "to whom it was meant for");
    }
    let most = usize::try_from(kills).unwrap() * WORKERS;
    assert!(repeated <= most, "{repeated} mails came twice, at most {most} were in flight at {kills} crashes");
    let stopped = tokio::task::spawn_blocking(move || shop.stop()).await.unwrap();
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.stderr);
}

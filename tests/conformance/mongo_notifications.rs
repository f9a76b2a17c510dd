//! What only notifications on MongoDB promise: many processes share one queue and one shop's limits, and a page is cheap.

use std::collections::HashMap;

use mongodb::bson::{Bson, Document, doc};
use souk::domain::ids::{NotificationId, UserId};
use souk::domain::notifications::attempts::{Attempt, RetryPolicy};
use souk::domain::notifications::content::Content;
use souk::domain::notifications::{NewNotification, NotificationStatus, StandardLimits};
use souk::domain::page::PageRequest;
use souk::store::mongo::{Connections, MongoNotificationStore};
use souk::store::notifications::{Claim, ClaimWanted, Lease, NotificationStore, SettleAttempt, Settled};
use uuid::Uuid;

use crate::harness::mongo::{Databases, commands_of};
use crate::harness::{at, id};

const NOON: i64 = 1_763_899_200_000;
const LIMITS: StandardLimits = StandardLimits { per_second: 100_000, per_recipient_per_day: 1_000 };

/// Handles as two processes of a shop have them.
async fn processes(databases: &Databases) -> Vec<MongoNotificationStore> {
    let mut stores = Vec::new();
    for _ in 0..2 {
        let connections = Connections::start().unwrap();
        stores.push(MongoNotificationStore::open(&connections, &databases.settings).await.unwrap().0);
    }
    stores
}

fn new(user_id: UserId, content: Content) -> NewNotification {
    let id: NotificationId = id();
    NewNotification { id, user_id, content, dedupe_key: id.to_string(), traceparent: None }
}

fn promotion(user: UserId) -> NewNotification {
    let (subject, message) = ("Lamps".into(), "Cheaper".into());
    new(user, Content::Promotion { campaign_id: id(), subject, message, products: vec!["Brass Lamp".into()] })
}

fn wanted(critical: u32, standard: u32, limits: StandardLimits, now: i64) -> ClaimWanted {
    ClaimWanted { critical, standard, limits, lease: Lease(Uuid::now_v7()), lease_ms: 90_000, now: at(now) }
}

/// Both claim at once.
async fn both(stores: &[MongoNotificationStore], wanted: impl Fn() -> ClaimWanted) -> Vec<(Lease, Claim)> {
    let claims = stores.iter().map(|store| {
        let wanted = wanted();
        async move { (wanted.lease, store.claim(wanted).await.unwrap()) }
    });
    futures_util::future::join_all(claims).await
}

async fn send(store: &MongoNotificationStore, id: NotificationId, lease: Lease) -> Settled {
    let policy = RetryPolicy { max_attempts: 2, backoff_base_ms: 1_000, backoff_max_ms: 60_000 };
    let (attempt, at) = (Attempt::Sent, at(NOON));
    store.settle(SettleAttempt { id, lease, attempt, policy, per_second: 50, at, chance: 1.0 }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn processes_that_claim_at_once_take_every_mail_once_and_of_a_recipient_one_at_a_time() {
    let databases = Databases::new();
    let stores = processes(&databases).await;
    let users: Vec<UserId> = (0..10).map(|_| id()).collect();
    let queued = users.iter().cycle().take(40).map(|user| new(*user, Content::PasswordChanged)).collect();
    stores[0].insert_notifications(queued, at(NOON)).await.unwrap();
    let mut sent: HashMap<NotificationId, u32> = HashMap::new();
    while sent.len() < 40 {
        let claims = both(&stores, || wanted(7, 0, LIMITS, NOON)).await;
        let mut recipients: Vec<UserId> =
            claims.iter().flat_map(|(_, claim)| &claim.taken).map(|mail| mail.user_id).collect();
        let taken = recipients.len();
        recipients.sort_unstable();
        recipients.dedup();
        assert_eq!((taken, recipients.len()), (10, 10), "each recipient has one mail in hand");
        for ((lease, claim), store) in claims.iter().zip(&stores) {
            for mail in &claim.taken {
                assert_eq!(send(store, mail.id, *lease).await, Settled::Sent);
                *sent.entry(mail.id).or_default() += 1;
            }
        }
    }
    assert!(sent.values().all(|times| *times == 1));
    let left = both(&stores, || wanted(7, 7, LIMITS, NOON)).await;
    assert!(left.iter().all(|(_, claim)| claim.taken.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn the_pace_is_that_of_the_shop_however_many_processes_claim() {
    let databases = Databases::new();
    let stores = processes(&databases).await;
    stores[0].insert_notifications((0..120).map(|_| promotion(id())).collect(), at(NOON)).await.unwrap();
    let limits = StandardLimits { per_second: 16, ..LIMITS };
    let (mut taken, mut now) = (0, NOON);
    while now < NOON + 3_000 {
        for (_, claim) in both(&stores, || wanted(0, 50, limits, now)).await {
            taken += claim.taken.len();
        }
        now += 50;
    }
    assert!((47..=50).contains(&taken), "{taken} in three seconds at 16 a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn the_daily_limit_of_a_recipient_is_that_of_the_shop() {
    let databases = Databases::new();
    let stores = processes(&databases).await;
    let ada = id();
    stores[0].insert_notifications((0..8).map(|_| promotion(ada)).collect(), at(NOON)).await.unwrap();
    let limits = StandardLimits { per_recipient_per_day: 3, ..LIMITS };
    for _ in 0..8 {
        for ((lease, claim), store) in both(&stores, || wanted(0, 9, limits, NOON)).await.iter().zip(&stores) {
            for mail in &claim.taken {
                send(store, mail.id, *lease).await;
            }
        }
    }
    let kept = stores[1].export_notifications(ada).await.unwrap();
    let count = |status| kept.iter().filter(|mail| mail.status == status).count();
    assert_eq!((count(NotificationStatus::Sent), count(NotificationStatus::Skipped)), (3, 5));
}

/// The documents and the index keys that a claim makes the server look at.
async fn examined(databases: &Databases, store: &MongoNotificationStore) -> (i64, i64) {
    let claim = async {
        let claimed = store.claim(wanted(1, 8, LIMITS, NOON)).await.unwrap();
        assert_eq!(claimed.taken.len(), 8);
    };
    let commands = commands_of(databases, "notifications", claim).await;
    let sum = |field: &str| {
        let number = |value: &Bson| value.as_i64().or_else(|| value.as_i32().map(i64::from));
        commands.iter().filter_map(|command| number(command.get(field)?)).sum()
    };
    (sum("docsExamined"), sum("keysExamined"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_claim_looks_at_no_more_of_a_long_queue_than_of_a_short_one() {
    let databases = Databases::new();
    let stores = processes(&databases).await;
    let queue = async |count: usize| {
        stores[0].insert_notifications((0..count).map(|_| promotion(id())).collect(), at(NOON)).await.unwrap();
    };
    queue(1_000).await;
    // The first makes the document of the pace.
    stores[0].claim(wanted(0, 1, LIMITS, NOON)).await.unwrap();
    let (documents, keys) = examined(&databases, &stores[0]).await;
    assert!(documents > 0 && keys > 0, "the server tells what it looks at: {documents} {keys}");
    queue(5_000).await;
    let (documents_of_long, keys_of_long) = examined(&databases, &stores[0]).await;
    // What is in hand by then is looked at as well: nine mails.
    assert!(documents_of_long <= documents + 9, "{documents} documents, then {documents_of_long}");
    assert!(keys_of_long <= keys + 9, "{keys} keys, then {keys_of_long}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_person_can_read_a_notification() {
    let databases = Databases::new();
    let stores = processes(&databases).await;
    let new = promotion(id());
    stores[0].insert_notifications(vec![new.clone()], at(NOON)).await.unwrap();
    let name = format!("{}notifications", databases.settings.prefix);
    let database = databases.client().await.database(&name);
    let stored = database.collection::<Document>("notifications").find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(stored.get_str("_id").unwrap(), new.id.to_string());
    assert_eq!(stored.get_str("userId").unwrap(), new.user_id.to_string());
    for (field, text) in [("status", "QUEUED"), ("lane", "STANDARD"), ("kind", "PROMOTION"), ("subject", "Lamps")] {
        assert_eq!(stored.get_str(field).unwrap(), text, "{field}");
    }
    assert_eq!(stored.get_datetime("createdAt").unwrap().timestamp_millis(), NOON);
    let content = stored.get_document("content").unwrap();
    assert_eq!(content.get_str("about").unwrap(), "PROMOTION");
    assert_eq!(content.get_array("products").unwrap()[0].as_str(), Some("Brass Lamp"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_page_of_an_inbox_takes_two_commands_and_its_indexes() {
    let databases = Databases::new();
    let stores = processes(&databases).await;
    let ada = id();
    let others = (0..300).map(|_| promotion(id()));
    let own = (0..150).map(|_| promotion(ada));
    stores[0].insert_notifications(others.chain(own).collect(), at(NOON)).await.unwrap();
    for unread_only in [false, true] {
        let commands = commands_of(&databases, "notifications", async {
            let inbox = stores[0].inbox(ada, unread_only, &PageRequest::first(100)).await.unwrap();
            assert_eq!((inbox.page.entries.len(), inbox.page.total, inbox.unread), (100, 150, 150));
        })
        .await;
        assert!(commands.len() <= 2, "{commands:?}");
        for command in &commands {
            let examined = command.get_i32("docsExamined").unwrap();
            assert!(examined <= 150, "{examined} documents for a page of one's own");
        }
    }
}

//! What only the stores on MongoDB promise: versions, several processes, a server that goes away, readable documents, and
//! how many commands a page costs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::spec::ElementType;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession};
use souk::domain::page::PageRequest;
use souk::store::StoreError;
use souk::store::consumption::{Consumed, ConsumptionStore};
use souk::store::mongo::{Connections, MongoSettings, MongoStores, MongoUserStore, OpenError, migrate};
use souk::store::operations::{MarkerStore, OperationsStore};
use souk::store::outbox::Outbox;
use souk::store::users::{InsertUser, UserStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::mongo::{Databases, commands_of};
use crate::harness::{END, at, session_id, soon, step, user};

const PATIENCE: Duration = Duration::from_secs(20);

async fn open(databases: &Databases) -> MongoStores {
    MongoStores::open(&databases.settings, PATIENCE).await.unwrap()
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_migration_runs_once_and_tells_what_it_did() {
    let databases = Databases::new();
    for migrated in migrate(&databases.settings, PATIENCE).await.unwrap() {
        assert_eq!((migrated.from, migrated.to as usize), (0, migrated.steps.len()), "{migrated}");
        assert!(migrated.to > 0 && migrated.database.starts_with(&databases.settings.prefix), "{migrated}");
    }
    for migrated in migrate(&databases.settings, PATIENCE).await.unwrap() {
        assert_eq!((migrated.from, migrated.steps.len()), (migrated.to, 0), "{migrated}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn simultaneous_migrations_do_every_step_once() {
    let databases = Databases::new();
    let starts = (0..4).map(|_| migrate(&databases.settings, PATIENCE));
    let migrated: Vec<_> = futures_util::future::join_all(starts).await.into_iter().flat_map(Result::unwrap).collect();
    let steps: usize = migrated.iter().map(|migrated| migrated.steps.len()).sum();
    let versions: u32 = migrate(&databases.settings, PATIENCE).await.unwrap().iter().map(|migrated| migrated.to).sum();
    assert_eq!(steps as u32, versions);
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_database_of_a_newer_version_is_refused() {
    let databases = Databases::new();
    migrate(&databases.settings, PATIENCE).await.unwrap();
    let name = format!("{}users", databases.settings.prefix);
    let steps = databases.client().await.database(&name).collection::<Document>("migrations");
    steps
        .insert_one(doc! { "_id": 9_999_i64, "name": "later", "doneAt": mongodb::bson::DateTime::now() })
        .await
        .unwrap();
    let Err(OpenError::Newer { database, found: 9_999, .. }) = migrate(&databases.settings, PATIENCE).await else {
        panic!("a newer database must be refused")
    };
    assert_eq!(database, name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn two_processes_write_one_database() {
    let databases = Databases::new();
    let processes = [open(&databases).await, open(&databases).await];
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let users = processes[n % 2].users.clone();
            // Every address is claimed from both sides.
            tokio::spawn(async move { users.insert_user(user(&format!("u{}@x.example", n / 2), "U")).await.unwrap() })
        })
        .collect();
    let mut inserted = 0;
    for call in calls {
        inserted += usize::from(call.await.unwrap() == InsertUser::Inserted);
    }
    assert_eq!(inserted, 50);
    for MongoStores { users, .. } in processes {
        assert_eq!(users.list_users(None, &PageRequest::first(1)).await.unwrap().total, 50);
        assert_eq!(users.pending(END, 99).await.unwrap().len(), 50);
    }
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn closed_stores_refuse() {
    let databases = Databases::new();
    let stores = Arc::new(open(&databases).await);
    let closing = stores.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    assert!(matches!(stores.users.users(&[]).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(stores.operations.set_marker("m", "v").await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_told_without_its_password() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let uri = format!("mongodb://souk:passw0rd@{nobody}/?replicaSet=rs0");
    let settings = MongoSettings { uri, uris: BTreeMap::new(), prefix: "t_".into() };
    let began = Instant::now();
    let Err(error) = MongoUserStore::open(&Connections::start().unwrap(), &settings).await else {
        panic!("nobody listens there")
    };
    assert!(error.is_away());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let told = format!("{error} {error:?} {settings:?}");
    assert!(told.contains("t_users") && !told.contains("passw0rd"), "{told}");
}

/// Stands between a client and the server, and can be cut.
struct Proxy {
    address: SocketAddr,
    server: String,
    connections: JoinSet<()>,
}

impl Proxy {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = Self { address, server, connections: JoinSet::new() };
        proxy.serve(listener);
        proxy
    }

    fn serve(&mut self, listener: TcpListener) {
        let server = self.server.clone();
        self.connections.spawn(async move {
            let mut forwarded = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                forwarded.spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    }

    async fn cut(&mut self) {
        self.connections.shutdown().await;
    }

    async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn while_the_server_is_away_calls_are_refused_soon_and_it_is_found_again() {
    let databases = Databases::new();
    let topology = databases.client().await.database("admin").run_command(doc! { "hello": 1 }).await.unwrap();
    let mut proxy = Proxy::to(topology.get_str("primary").unwrap().to_owned()).await;
    let uri = format!("mongodb://{}/?directConnection=true", proxy.address);
    let settings = MongoSettings { uri, ..databases.settings.clone() };
    let users = MongoUserStore::open_alone(&settings, PATIENCE).await.unwrap();
    users.insert_user(user("ada@example.com", "Ada")).await.unwrap();
    users.check().await.unwrap();

    proxy.cut().await;
    let refusals = async {
        // In a transaction, outside of one, and what readiness asks.
        for name in ["bea", "dora"] {
            let refused = users.insert_user(user(&format!("{name}@example.com"), "Away")).await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        let refused = users.list_users(None, &PageRequest::first(1)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(matches!(users.check().await, Err(StoreError::Unavailable(_))));
    };
    // One search for the server takes 2 s, and the calls after it do not search again.
    tokio::time::timeout(Duration::from_secs(5), refusals).await.expect("four refusals in the time of one search");

    proxy.mend().await;
    soon("the server", async { while users.check().await.is_err() {} }).await;
    users.insert_user(user("cleo@example.com", "Cleo")).await.unwrap();
    assert_eq!(users.list_users(None, &PageRequest::first(5)).await.unwrap().total, 2);
}

/// Two documents that a process has written in a transaction when it is killed.
async fn leave_a_transaction_open(databases: &Databases) -> ClientSession {
    let mut options = ClientOptions::parse(&databases.settings.uri).await.unwrap();
    options.app_name = Some("souk".into());
    let client = Client::with_options(options).unwrap();
    let database = client.database(&format!("{}operations", databases.settings.prefix));
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for (collection, change) in [("markers", doc! { "value": "half" }), ("consumed", doc! { "nextOffset": 9_i64 })] {
        let documents = database.collection::<Document>(collection);
        let changed = documents.update_one(doc! {}, doc! { "$set": change }).session(&mut session).await.unwrap();
        assert_eq!(changed.modified_count, 1, "{collection}");
    }
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_transaction_that_a_killed_process_left_open_holds_nobody_up_for_long() {
    let databases = Databases::new();
    let operations = open(&databases).await.operations;
    operations.set_marker("m", "before").await.unwrap();
    operations.consume(step("g", 0, 1)).await.unwrap();
    let _open = leave_a_transaction_open(&databases).await;
    // Both end within the time that a call has.
    let (moved, marked) = tokio::join!(operations.consume(step("g", 1, 2)), operations.set_marker("m", "after"));
    assert_eq!(moved.unwrap(), Consumed::Done(()));
    marked.unwrap();
    assert_eq!(operations.marker("m").await.unwrap().as_deref(), Some("after"));
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn documents_can_be_read_by_a_person() {
    let databases = Databases::new();
    let stores = open(&databases).await;
    let ada = user("Ada@Example.com", "Ada King");
    stores.users.insert_user(ada.clone()).await.unwrap();
    let database = databases.client().await.database(&format!("{}users", databases.settings.prefix));
    let stored = database.collection::<Document>("users").find_one(doc! {}).await.unwrap().unwrap();
    for (field, value) in [
        ("_id", ada.user.id.to_string().as_str()),
        ("email", "Ada@Example.com"),
        ("signInKey", "ada@example.com"),
        ("name", "Ada King"),
        ("role", "CUSTOMER"),
    ] {
        assert_eq!(stored.get_str(field).unwrap(), value, "{field}");
    }
    assert_eq!(stored.get_datetime("createdAt").unwrap().timestamp_millis(), 1);
    assert!(stored.get_document("preferences").unwrap().get_bool("orderUpdates").unwrap());
    let waiting = database.collection::<Document>("pending_events").find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(waiting.get_array("ids").unwrap(), &[format!("{}-1", ada.user.id).into()]);
    let event = waiting.get_array("events").unwrap()[0].as_document().unwrap();
    assert_eq!(
        (event.get_str("aggregate").unwrap(), event.get_i64("sequence").unwrap()),
        (&*ada.user.id.to_string(), 1)
    );
    assert_eq!(event.get_str("type").unwrap(), "souk.user.signed-up.v1");
    assert_eq!(event.get_str("topic").unwrap(), "user-events");
    assert_eq!(event.get("at").unwrap().element_type(), ElementType::DateTime);
    // What is no user is refused by the server itself.
    let refused = database.collection("users").insert_one(doc! { "_id": "usr_1", "name": 7 }).await;
    assert!(refused.is_err());
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_page_costs_two_commands_whatever_its_size() {
    let databases = Databases::new();
    let stores = open(&databases).await;
    for n in 0..120 {
        stores.users.insert_user(user(&format!("u{n}@example.com"), "User")).await.unwrap();
    }
    for size in [1, 100] {
        for search in [None, Some("us exa")] {
            let page = async {
                let page = stores.users.list_users(search, &PageRequest::first(size)).await.unwrap();
                assert_eq!((page.total, page.entries.len()), (120, size as usize));
            };
            assert_eq!(commands_of(&databases, "users", page).await.len(), 2, "{size} {search:?}");
        }
    }
    let letters = async {
        stores.operations.list_dead_letters(None, true, &PageRequest::first(100)).await.unwrap();
    };
    assert_eq!(commands_of(&databases, "operations", letters).await.len(), 2);
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn the_sessions_of_many_sockets_are_judged_by_one_command() {
    let databases = Databases::new();
    let stores = open(&databases).await;
    let sessions: Vec<_> = (0..50).map(|_| session_id()).collect();
    let judged = async {
        assert!(stores.users.session_states(&sessions, at(1)).await.unwrap().is_empty());
    };
    assert_eq!(commands_of(&databases, "users", judged).await.len(), 1);
}

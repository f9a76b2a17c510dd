//! What only the embedded stores promise: files, versions, other processes, the lock.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use souk::domain::notifications::NewNotification;
use souk::domain::notifications::content::Content;
use souk::domain::notifications::intake::Intake;
use souk::domain::page::PageRequest;
use souk::domain::time::Timestamp;
use souk::store::StoreError;
use souk::store::consumption::ConsumptionStore;
use souk::store::notifications::NotificationStore;
use souk::store::outbox::Outbox;
use souk::store::sqlite::{
    DataDirLock, LockError, OpenError, SqliteOrderStore, SqliteStores, SqliteUserStore, migrate,
};
use souk::store::users::{InsertUser, UserStore};

use crate::harness::{END, id, order, soon, step, user};

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("deep/data");
    let stores = SqliteStores::open(&data_dir).unwrap();
    let new = user("ada@example.com", "Ada");
    stores.users.insert_user(new.clone()).await.unwrap();
    stores.users.consume(step("g", 0, 4)).await.unwrap();
    let (placed, event) = order(new.user.id, "k");
    use souk::store::orders::OrderStore;
    stores.orders.insert_orders(vec![(placed.clone(), event)]).await.unwrap();
    let cursor = stores.orders.latest_change(new.user.id).await.unwrap();
    stores.close();
    assert!(matches!(stores.users.users(&[]).await, Err(StoreError::Unavailable(_))), "a closed store refuses");
    assert!(matches!(stores.users.insert_user(new.clone()).await, Err(StoreError::Unavailable(_))));
    drop(stores);
    assert!(!data_dir.join("users.db-wal").exists(), "closing folds the WAL into the file");

    let stores = SqliteStores::open(&data_dir).unwrap();
    assert!(stores.migrated.iter().all(|migrated| migrated.steps.is_empty()));
    assert_eq!(stores.users.users(&[new.user.id]).await.unwrap(), std::slice::from_ref(&new.user));
    assert_eq!(stores.users.pending(END, 9).await.unwrap(), [new.event]);
    assert_eq!(stores.users.offsets("g").await.unwrap()[0].next_offset, 4);
    assert_eq!(stores.orders.orders(&[placed.id]).await.unwrap(), [placed]);
    let changes = stores.orders.changes_after(new.user.id, &cursor, 9).await.unwrap();
    assert_eq!(changes, Some(Vec::new()));
}

#[tokio::test]
async fn nothing_of_an_erased_account_is_left_in_the_files() {
    const NAME: &str = "Augusta Lovelace";
    const ADDRESS: &str = "augusta@example.com";
    let folder = tempfile::tempdir().unwrap();
    let stores = SqliteStores::open(folder.path()).unwrap();
    let augusta = user(ADDRESS, NAME);
    stores.users.insert_user(augusta.clone()).await.unwrap();
    for n in 0..200 {
        stores.users.insert_user(user(&format!("other{n}@example.com"), "Somebody Else")).await.unwrap();
    }
    let told = (0..20).map(|n| {
        let (subject, message) = ("Lamps".to_owned(), format!("{n} lamps for {NAME}"));
        let content = Content::Promotion { campaign_id: id(), subject, message, products: Vec::new() };
        let dedupe_key = n.to_string();
        NewNotification { id: id(), user_id: augusta.user.id, content, dedupe_key, traceparent: None }
    });
    stores.notifications.insert_notifications(told.collect(), Timestamp(1)).await.unwrap();
    assert!(stores.users.erase_user(augusta.user.id, &augusta.password_hash, Timestamp(2)).await.unwrap());
    let erase = vec![Intake::Erase { user_id: augusta.user.id }];
    stores.notifications.take_in(erase, 1, step("g", 0, 1), Timestamp(3)).await.unwrap();
    stores.close();
    drop(stores);
    let mut searched = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let (path, bytes) = file.map(|file| (file.path(), std::fs::read(file.path()).unwrap())).unwrap();
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(!text.contains("lovelace") && !text.contains("augusta@"), "{}", path.display());
        searched += usize::from(text.contains("somebody else"));
    }
    assert_eq!(searched, 1, "what is left can be read as it was searched for");
}

#[tokio::test]
async fn an_orders_event_of_before_orders_kept_their_own_is_published_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let (placed, event) = order(user("ada@example.com", "Ada").user.id, "k");
    drop(SqliteStores::open(folder.path()).unwrap());
    let file = rusqlite::Connection::open(folder.path().join("orders.db")).unwrap();
    file.execute(
        "INSERT INTO pending_events (aggregate, sequence, created_at, topic, event_type, source, body)
         VALUES (?1, ?2, 1, 'order-events', ?3, ?4, ?5)",
        (placed.id.to_string(), event.sequence, &event.event_type, &event.source, &event.body),
    )
    .unwrap();
    drop(file);
    let stores = SqliteStores::open(folder.path()).unwrap();
    assert_eq!(stores.orders.pending(END, 9).await.unwrap().len(), 1);
    stores.orders.clear(vec![(placed.id.to_string(), event.sequence)]).await.unwrap();
    assert_eq!(stores.orders.pending(END, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_command_brings_no_file_to_a_newer_version_beneath_a_server_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteStores::open(folder.path()).unwrap());
    let path = folder.path().join("orders.db");
    let newest: u32 = version(&path);
    let lock = DataDirLock::acquire(folder.path()).unwrap();
    assert!(SqliteOrderStore::open_beside(folder.path()).is_ok(), "a server of the same version");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    let refused = SqliteOrderStore::open_beside(folder.path()).err();
    assert!(matches!(refused, Some(OpenError::InUseByOlder { .. })), "{refused:?}");
    assert_eq!(version(&path), 1);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", newest).unwrap();
    drop(lock);
    assert!(SqliteOrderStore::open_beside(folder.path()).is_ok());
}

fn version(path: &Path) -> u32 {
    let file = rusqlite::Connection::open(path).unwrap();
    file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_data_folder_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let _lock = DataDirLock::acquire(&data_dir).unwrap();
    assert_eq!(std::fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_migration_runs_once_and_tells_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let first = migrate(folder.path()).unwrap();
    let names: Vec<_> = first.iter().map(|migrated| migrated.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["users.db", "products.db", "orders.db", "recommendations.db", "notifications.db", "operations.db"]
    );
    for migrated in &first {
        assert_eq!((migrated.from, migrated.to as usize), (0, migrated.steps.len()));
        assert!(migrated.to > 0);
    }
    for migrated in migrate(folder.path()).unwrap() {
        assert_eq!((migrated.from, migrated.steps.len()), (migrated.to, 0));
    }
}

#[test]
fn simultaneous_migrations_do_every_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let steps: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| migrate(folder.path()).unwrap())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).map(|migrated| migrated.steps.len()).sum()
    });
    let versions: u32 = migrate(folder.path()).unwrap().iter().map(|migrated| migrated.to).sum();
    assert_eq!(steps as u32, versions);
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    migrate(folder.path()).unwrap();
    let path = folder.path().join("orders.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 9_999).unwrap();
    drop(connection);
    let Err(OpenError::Newer { path: refused, found: 9_999, .. }) = migrate(folder.path()) else {
        panic!("a newer file must be refused")
    };
    assert_eq!(refused, path);
}

#[test]
fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users.db"), "not a database, but long enough to be looked at as one").unwrap();
    assert!(matches!(SqliteStores::open(folder.path()), Err(OpenError::Sqlite { .. })));
    assert!(matches!(SqliteStores::open(Path::new("/proc/nowhere")), Err(OpenError::Folder { .. })));
}

#[test]
fn a_data_folder_is_locked_once() {
    let folder = tempfile::tempdir().unwrap();
    let lock = DataDirLock::acquire(folder.path()).unwrap();
    assert!(matches!(DataDirLock::acquire(folder.path()), Err(LockError::InUse { .. })));
    drop(lock);
    DataDirLock::acquire(folder.path()).unwrap();
}

#[tokio::test]
async fn writes_of_another_process_are_noticed_and_ones_own_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let (here, _) = SqliteUserStore::open(&path).unwrap();
    let (there, _) = SqliteUserStore::open(&path).unwrap();
    let mut noticed_here = here.foreign_writes();
    let mut noticed_there = there.foreign_writes();
    here.insert_user(user("a@example.com", "A")).await.unwrap();
    soon("the other one's notice", noticed_there.changed()).await.unwrap();
    assert!(!noticed_here.has_changed().unwrap(), "its own commit is nothing foreign");
    there.insert_user(user("b@example.com", "B")).await.unwrap();
    soon("the notice", noticed_here.changed()).await.unwrap();
    assert_eq!(here.pending(END, 9).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let stores: Vec<_> = (0..2).map(|_| std::sync::Arc::new(SqliteUserStore::open(&path).unwrap().0)).collect();
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let store = stores[n % 2].clone();
            // Every address is claimed from both sides.
            tokio::spawn(async move { store.insert_user(user(&format!("u{}@x.example", n / 2), "U")).await.unwrap() })
        })
        .collect();
    let mut inserted = 0;
    for call in calls {
        inserted += usize::from(call.await.unwrap() == InsertUser::Inserted);
    }
    assert_eq!(inserted, 50);
    for store in stores {
        assert_eq!(store.list_users(None, &PageRequest::first(1)).await.unwrap().total, 50);
        assert_eq!(store.pending(END, 99).await.unwrap().len(), 50);
    }
}

//! Opens a fresh store of each adapter for a case, and makes the data that cases need.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use souk::domain::events::{PendingEvent, Topic, event_type, source};
use souk::domain::ids::{OrderId, ProductId, SessionId, TypedId, UserId};
use souk::domain::money::Money;
use souk::domain::orders::{InputDigest, NewOrder, Order, OrderLine, order_number};
use souk::domain::products::{NewProduct, Product};
use souk::domain::text::Email;
use souk::domain::time::Timestamp;
use souk::domain::users::{PasswordHash, Preferences, Role, User};
use souk::store::api_keys::ApiKeyStore;
use souk::store::consumption::{Consumption, ConsumptionStore, OffsetMove, StoredRecord};
use souk::store::outbox::Outbox;
use souk::store::users::{NewUser, UserStore};
use souk::telemetry::trace_context::TraceParent;
use uuid::Uuid;

/// A store under test: its port with what every domain's store has besides.
pub struct Under<P: ?Sized> {
    pub port: Arc<P>,
    pub outbox: Arc<dyn Outbox>,
    pub progress: Arc<dyn ConsumptionStore>,
    /// Removes the data when the case ends.
    _data: Box<dyn Any + Send>,
}

/// Users with their API keys, which are ports of one store.
pub trait Accounts: UserStore + ApiKeyStore {}
impl<S: UserStore + ApiKeyStore> Accounts for S {}

/// Names the cases of a suite and runs them over every adapter: `conformance!(orders: case, case)` opens each store by
/// the harness function `orders` of the adapter's module. Those over a real server are ignored where none is given.
macro_rules! conformance {
    ($open:ident: $($case:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::harness::sqlite::$open()).await;
                }
            )+
        }
        over_mongo!($open: $($case),+);
    };
}

/// The ports that have a MongoDB adapter.
macro_rules! over_mongo {
    (api_keys: $($case:ident),+) => { mongo_cases!(api_keys: $($case),+); };
    (campaigns: $($case:ident),+) => { mongo_cases!(campaigns: $($case),+); };
    (markers: $($case:ident),+) => { mongo_cases!(markers: $($case),+); };
    (orders: $($case:ident),+) => { mongo_cases!(orders: $($case),+); };
    (products: $($case:ident),+) => { mongo_cases!(products: $($case),+); };
    (notifications: $($case:ident),+) => { mongo_cases!(notifications: $($case),+); };
    (operations: $($case:ident),+) => { mongo_cases!(operations: $($case),+); };
    (recommendations: $($case:ident),+) => { mongo_cases!(recommendations: $($case),+); };
    (users: $($case:ident),+) => { mongo_cases!(users: $($case),+); };
    ($open:ident: $($case:ident),+) => {};
}

macro_rules! mongo_cases {
    ($open:ident: $($case:ident),+) => {
        mod mongo {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
                async fn $case() {
                    super::$case(crate::harness::mongo::$open().await).await;
                }
            )+
        }
    };
}

pub mod sqlite {
    use std::sync::Arc;

    use souk::store::campaigns::CampaignStore;
    use souk::store::notifications::NotificationStore;
    use souk::store::operations::{MarkerStore, OperationsStore};
    use souk::store::orders::OrderStore;
    use souk::store::products::ProductStore;
    use souk::store::recommendations::RecommendationStore;
    use souk::store::sqlite::{
        SqliteNotificationStore, SqliteOperationsStore, SqliteOrderStore, SqliteProductStore,
        SqliteRecommendationStore, SqliteUserStore,
    };
    use souk::store::users::UserStore;

    use super::{Accounts, Under};

    macro_rules! opens {
        ($name:ident, $port:ty, $store:ty) => {
            pub fn $name() -> Under<$port> {
                let folder = tempfile::tempdir().unwrap();
                let store = Arc::new(<$store>::open(&folder.path().join("store.db")).unwrap().0);
                Under {
                    port: store.clone(),
                    outbox: store.clone(),
                    progress: store.clone(),
                    _data: Box::new((store, folder)),
                }
            }
        };
    }
    opens!(users, dyn UserStore, SqliteUserStore);
    opens!(api_keys, dyn Accounts, SqliteUserStore);
    opens!(campaigns, dyn CampaignStore, SqliteProductStore);
    opens!(products, dyn ProductStore, SqliteProductStore);
    opens!(orders, dyn OrderStore, SqliteOrderStore);
    opens!(recommendations, dyn RecommendationStore, SqliteRecommendationStore);
    opens!(notifications, dyn NotificationStore, SqliteNotificationStore);
    opens!(markers, dyn MarkerStore, SqliteOperationsStore);
    opens!(operations, dyn OperationsStore, SqliteOperationsStore);
}

/// Stores on a real server, each in databases of its own that are dropped when the case ends, also by a panic.
pub mod mongo {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use futures_util::TryStreamExt;
    use mongodb::Client;
    use mongodb::bson::{Document, doc};
    use souk::store::campaigns::CampaignStore;
    use souk::store::mongo::{
        Connections, MongoNotificationStore, MongoOperationsStore, MongoOrderStore, MongoProductStore,
        MongoRecommendationStore, MongoSettings, MongoUserStore,
    };
    use souk::store::notifications::NotificationStore;
    use souk::store::operations::{MarkerStore, OperationsStore};
    use souk::store::orders::OrderStore;
    use souk::store::products::ProductStore;
    use souk::store::recommendations::RecommendationStore;
    use souk::store::users::UserStore;
    use uuid::Uuid;

    use super::{Accounts, Under};

    /// Databases of one case.
    pub struct Databases {
        pub settings: MongoSettings,
    }

    impl Databases {
        pub fn new() -> Self {
            let uri = std::env::var("SOUK_TEST_MONGODB_URI");
            let uri = uri.expect("SOUK_TEST_MONGODB_URI names a MongoDB replica set that tests may fill");
            let prefix = format!("t{}_", Uuid::now_v7().simple());
            Self { settings: MongoSettings { uri, uris: BTreeMap::new(), prefix } }
        }

        /// A client of the test's own.
        pub async fn client(&self) -> Client {
            Client::with_uri_str(&self.settings.uri).await.unwrap()
        }
    }

    impl Drop for Databases {
        fn drop(&mut self) {
            let MongoSettings { uri, prefix, .. } = self.settings.clone();
            // The case's own runtime may not be blocked, and is at its end.
            let dropped = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let client = Client::with_uri_str(uri).await?;
                    for name in client.list_database_names().await? {
                        if name.starts_with(&prefix) {
                            client.database(&name).drop().await?;
                        }
                    }
                    Ok::<_, mongodb::error::Error>(())
                })
            });
            let dropped = dropped.join().unwrap();
            if !std::thread::panicking() {
                dropped.unwrap();
            }
        }
    }

    /// The commands that the stores send to a database meanwhile, as the server's profiler tells them: writes one by one,
    /// and a commit not at all.
    pub async fn commands_of(databases: &Databases, domain: &str, calls: impl Future<Output = ()>) -> Vec<Document> {
        let database = databases.client().await.database(&format!("{}{domain}", databases.settings.prefix));
        database.run_command(doc! { "profile": 2 }).await.unwrap();
        calls.await;
        database.run_command(doc! { "profile": 0 }).await.unwrap();
        let profile = database.collection::<Document>("system.profile");
        let told = profile.find(doc! { "appName": "souk" }).await.unwrap().try_collect().await.unwrap();
        profile.drop().await.unwrap();
        told
    }

    macro_rules! opens {
        ($name:ident, $port:ty, $store:ty) => {
            pub async fn $name() -> Under<$port> {
                let databases = Databases::new();
                let connections = Connections::start().unwrap();
                let store = Arc::new(<$store>::open(&connections, &databases.settings).await.unwrap().0);
                Under {
                    port: store.clone(),
                    outbox: store.clone(),
                    progress: store.clone(),
                    _data: Box::new((store, databases)),
                }
            }
        };
    }
    opens!(campaigns, dyn CampaignStore, MongoProductStore);
    opens!(orders, dyn OrderStore, MongoOrderStore);
    opens!(products, dyn ProductStore, MongoProductStore);
    opens!(markers, dyn MarkerStore, MongoOperationsStore);
    opens!(notifications, dyn NotificationStore, MongoNotificationStore);
    opens!(operations, dyn OperationsStore, MongoOperationsStore);
    opens!(recommendations, dyn RecommendationStore, MongoRecommendationStore);
    opens!(users, dyn UserStore, MongoUserStore);
    opens!(api_keys, dyn Accounts, MongoUserStore);
}

/// A new id of any kind.
pub fn id<I: TypedId>() -> I {
    I::from_uuid(Uuid::now_v7())
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp(millis)
}

/// Later than everything that a case writes.
pub const END: Timestamp = Timestamp(i64::MAX);

pub fn eur(minor_units: i64) -> Money {
    Money::new(minor_units, "EUR".parse().unwrap())
}

pub fn user(email: &str, name: &str) -> NewUser {
    let mut user = User {
        id: id::<UserId>(),
        email: Email::parse(email).unwrap(),
        name: name.into(),
        role: Role::Customer,
        email_verified: false,
        preferences: Preferences::default(),
        token_epoch: 1,
        demo: false,
        created_at: at(1),
        updated_at: at(1),
        event_sequence: 0,
        erased_at: None,
    };
    let event = user.event(event_type::USER_SIGNED_UP, at(1));
    NewUser { user, password_hash: PasswordHash(format!("hash of {email}")), verification: None, event }
}

pub fn session_id() -> SessionId {
    id()
}

pub fn product(sku: &str, available: i32) -> (Product, PendingEvent) {
    named_product(sku, &format!("Product {sku}"), "Things", "", 100, available)
}

pub fn named_product(
    sku: &str,
    name: &str,
    category: &str,
    description: &str,
    price: i64,
    available: i32,
) -> (Product, PendingEvent) {
    let new = NewProduct {
        sku: sku.into(),
        name: name.into(),
        description: description.into(),
        category: category.into(),
        price: eur(price),
        available,
    };
    new.create(id::<ProductId>(), at(1)).unwrap()
}

pub fn order(customer: UserId, key: &str) -> (Order, PendingEvent) {
    order_at(customer, key, at(1))
}

pub fn order_at(customer: UserId, key: &str, at: Timestamp) -> (Order, PendingEvent) {
    let order_id = id::<OrderId>();
    let number = order_number(at, order_id.uuid().as_u128() as u64);
    numbered_order(customer, key, order_id, number, at)
}

pub fn numbered_order(
    customer: UserId,
    key: &str,
    order_id: OrderId,
    number: String,
    at: Timestamp,
) -> (Order, PendingEvent) {
    let new = NewOrder {
        id: order_id,
        number,
        customer_id: customer,
        lines: vec![OrderLine {
            product_id: id(),
            sku: "LMP-100".into(),
            name: "Brass Lamp".into(),
            category: "Lighting".into(),
            unit_price: eur(4_990),
            quantity: 2,
        }],
        currency: "EUR".parse().unwrap(),
        idempotency_key: key.into(),
        input_digest: InputDigest([7; 32]),
    };
    new.place(at).unwrap()
}

/// An event of an aggregate of its own.
pub fn event(aggregate: &str, sequence: i64, at: Timestamp) -> PendingEvent {
    PendingEvent::new(
        Topic::DeadLetterQueue,
        source::USERS,
        event_type::DEAD_LETTER,
        aggregate.into(),
        sequence,
        at,
        &"body",
    )
}

/// A span of some other process.
pub const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A step as [`step`], of an event of this key that was traced.
pub fn traced_step(group: &str, from: i64, to: i64, key: &str) -> Consumption {
    let mut step = step(group, from, to);
    step.causes.add(key, TraceParent::parse(TRACEPARENT).unwrap());
    step
}

/// A group's step from one offset to another in partition 0 of `order-events`.
pub fn step(group: &str, from: i64, to: i64) -> Consumption {
    Consumption {
        group: group.into(),
        moves: vec![OffsetMove { topic: Topic::OrderEvents, partition: 0, from, to }],
        ..Consumption::default()
    }
}

pub fn record(partition: i32, offset: i64) -> StoredRecord {
    StoredRecord {
        topic: "order-events".into(),
        partition,
        offset,
        key: format!("key {offset}"),
        headers: vec![("ce_id".into(), format!("id {offset}"))],
        body: "{\"a\":1}".into(),
    }
}

impl<P: ?Sized> Under<P> {
    /// Everything that is pending, by aggregate and sequence.
    pub async fn pending(&self) -> Vec<PendingEvent> {
        self.outbox.pending(END, u32::MAX).await.unwrap()
    }

    /// The offset of the group of [`step`].
    pub async fn offset(&self, group: &str) -> Option<i64> {
        let offsets = self.progress.offsets(group).await.unwrap();
        assert!(offsets.len() <= 1);
        offsets.first().map(|offset| offset.next_offset)
    }
}

/// Waits for what must happen soon.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

//! What only recommendations on MongoDB promise: processes that count at once, and the cost of a read.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use souk::domain::ids::{OrderId, ProductId, UserId};
use souk::domain::recommendations::{HistoryChange, Limits, PairCounts, Purchase, PurchasedLine};
use souk::store::consumption::{Consumed, Consumption};
use souk::store::mongo::{Connections, MongoRecommendationStore};
use souk::store::recommendations::RecommendationStore;

use crate::harness::mongo::{Databases, commands_of};
use crate::harness::{at, id};

const LIMITS: Limits =
    Limits { lines_per_order: 10, neighbours_per_item: 10, history_items: 20, candidates: 100, bought_again: 0 };

fn bought(products: &[ProductId]) -> HistoryChange {
    let lines = products.iter().map(|product| PurchasedLine { product_id: *product, category: "Things".into() });
    let (order_id, user_id) = (id::<OrderId>(), id::<UserId>());
    HistoryChange::Bought(Purchase { order_id, user_id, at: at(5), lines: lines.collect() })
}

async fn open(databases: &Databases) -> MongoRecommendationStore {
    MongoRecommendationStore::open(&Connections::start().unwrap(), &databases.settings).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn an_order_counts_once_however_many_processes_count_it_at_once() {
    let databases = Databases::new();
    let products: Vec<ProductId> = (0..3).map(|_| id()).collect();
    let orders: Arc<Vec<HistoryChange>> = Arc::new((0..30).map(|_| bought(&products)).collect());
    let mut calls = Vec::new();
    for _ in 0..2 {
        let store = Arc::new(open(&databases).await);
        for batch in 0..3 {
            let (store, orders) = (store.clone(), orders.clone());
            calls.push(tokio::spawn(async move {
                let batch = orders[10 * batch..10 * batch + 10].to_vec();
                store.apply(batch, LIMITS, Consumption::default()).await.unwrap()
            }));
        }
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), Consumed::Done(()));
    }
    let store = open(&databases).await;
    let reader = id();
    store.rate(reader, products[0], true, at(1)).await.unwrap();
    let evidence = store.evidence(&[reader], LIMITS).await.unwrap().remove(0);
    assert_eq!((evidence.orders, evidence.lines), (30, 90));
    assert_eq!(evidence.items[&products[0]].orders, 30);
    assert_eq!(
        evidence.neighbours[&products[0]].pairs[&products[1]],
        PairCounts { together: 30, later: 30 },
        "however often it came"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn many_orders_are_counted_while_another_process_counts_few_without_a_pause() {
    const MOST_OF_THE_FEW: i64 = 300;
    let databases = Databases::new();
    let (one, other) = (Arc::new(open(&databases).await), open(&databases).await);
    let products: Vec<ProductId> = (0..3).map(|_| id()).collect();
    let many: Vec<HistoryChange> = (0..500).map(|_| bought(&products)).collect();
    // There is a generation to count into.
    other.apply(vec![bought(&products)], LIMITS, Consumption::default()).await.unwrap();
    let many = tokio::spawn({
        let one = Arc::clone(&one);
        async move { one.apply(many, LIMITS, Consumption::default()).await.unwrap() }
    });
    let mut few = 1;
    while !many.is_finished() {
        other.apply(vec![bought(&products)], LIMITS, Consumption::default()).await.unwrap();
        few += 1;
        assert!(few <= MOST_OF_THE_FEW, "the many wait for ever");
    }
    assert_eq!(many.await.unwrap(), Consumed::Done(()));
    let reader = id();
    one.rate(reader, products[0], true, at(1)).await.unwrap();
    assert_eq!(one.evidence(&[reader], LIMITS).await.unwrap()[0].orders, 500 + few);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn the_evidence_of_fifty_users_costs_as_much_as_that_of_one() {
    let databases = Databases::new();
    let store = open(&databases).await;
    let products: Vec<ProductId> = (0..40).map(|_| id()).collect();
    let orders: Vec<HistoryChange> = (0..50).map(|n| bought(&products[n % 30..n % 30 + 5])).collect();
    let users: Vec<UserId> = orders.iter().map(HistoryChange::user_id).collect();
    store.apply(orders, LIMITS, Consumption::default()).await.unwrap();
    let commands = commands_of(&databases, "recommendations", async {
        let evidence = store.evidence(&users, LIMITS).await.unwrap();
        assert!(evidence.iter().all(|one| one.bought.len() == 5 && one.candidates.len() > 5));
    })
    .await;
    assert!(commands.len() <= 7, "{commands:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_person_can_read_what_was_bought_together() {
    let databases = Databases::new();
    let store = open(&databases).await;
    let [lamp, shade]: [ProductId; 2] = [id(), id()];
    store.apply(vec![bought(&[lamp, shade])], LIMITS, Consumption::default()).await.unwrap();
    let name = format!("{}recommendations", databases.settings.prefix);
    let items = databases.client().await.database(&name).collection::<Document>("items");
    let item = items.find_one(doc! { "_id.productId": lamp.to_string() }).await.unwrap().unwrap();
    assert_eq!((item.get_str("category").unwrap(), item.get_i64("orders").unwrap()), ("Things", 1));
    let pair = item.get_document("neighbours").unwrap().get_document(shade.to_string()).unwrap();
    assert_eq!(*pair, doc! { "together": 1_i64, "later": 1_i64 });
}

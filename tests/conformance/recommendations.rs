//! The recommendations store.

use souk::domain::events::{RecommendationChanged, RecommendedItem, event_type};
use souk::domain::ids::{OrderId, ProductId, UserId};
use souk::domain::recommendations::{Evidence, HistoryChange, ItemCounts, Limits, PairCounts, Purchase, PurchasedLine};
use souk::store::consumption::{Consumed, Consumption};
use souk::store::recommendations::{Announcement, DueUser, RebuildStep, RecommendationStore};

use crate::harness::{Under, at, id, step};

type Recommendations = Under<dyn RecommendationStore>;

conformance!(recommendations:
    an_order_counts_its_items_and_pairs,
    an_order_counts_once_and_a_cancellation_takes_it_back,
    a_cancellation_does_not_move_an_item_back_to_where_it_was,
    a_confirmation_after_its_cancellation_counts_nothing,
    a_batch_counts_in_its_order,
    counts_and_offset_are_written_together_or_not_at_all,
    a_swap_of_two_items_in_one_batch_counts_as_in_two,
    a_history_is_the_users_own_newest_order_first,
    long_histories_shorten_nobody_elses,
    lines_past_the_limit_make_no_pairs,
    an_item_forgets_its_weakest_neighbours,
    the_last_rating_counts,
    whom_something_changed_for_is_due_until_it_was_announced,
    an_announcement_is_about_the_users_last_change_or_nothing,
    what_was_announced_is_not_announced_again,
    buyers_and_favourites_are_told_by_category,
    a_deleted_user_is_forgotten_for_good_and_their_orders_go_on_counting,
    a_rebuild_replaces_what_was_counted,
    what_comes_during_a_rebuild_is_in_both_generations_once,
    a_rebuild_that_was_given_up_changes_nothing,
    abandoned_generations_go_away,
);

const LIMITS: Limits =
    Limits { lines_per_order: 10, neighbours_per_item: 10, history_items: 20, candidates: 100, bought_again: 0 };

fn bought(user: UserId, products: &[ProductId]) -> Purchase {
    let lines = products.iter().map(|product| PurchasedLine { product_id: *product, category: "Things".into() });
    Purchase { order_id: id::<OrderId>(), user_id: user, at: at(5), lines: lines.collect() }
}

async fn apply(store: &Recommendations, changes: Vec<HistoryChange>) {
    let done = store.port.apply(changes, LIMITS, Consumption::default()).await.unwrap();
    assert_eq!(done, Consumed::Done(()));
}

async fn buy(store: &Recommendations, products: &[ProductId]) -> Purchase {
    let purchase = bought(id(), products);
    apply(store, vec![HistoryChange::Bought(purchase.clone())]).await;
    purchase
}

async fn evidence(store: &Recommendations, user: UserId) -> Evidence {
    store.port.evidence(&[user], LIMITS).await.unwrap().remove(0)
}

/// What somebody who likes this product, and has bought nothing, would be recommended from.
async fn around(store: &Recommendations, product: ProductId) -> Evidence {
    let user = id();
    store.port.rate(user, product, true, at(1)).await.unwrap();
    evidence(store, user).await
}

fn counts(orders: i64, before: i64, after: i64) -> ItemCounts {
    ItemCounts { category: "Things".into(), orders, before, after }
}

fn pair(evidence: &Evidence, one: ProductId, other: ProductId) -> Option<PairCounts> {
    evidence.neighbours.get(&one)?.pairs.get(&other).copied()
}

async fn an_order_counts_its_items_and_pairs(store: Recommendations) {
    let [a, b, c] = [id(), id(), id()];
    buy(&store, &[a, b, c]).await;
    buy(&store, &[b, a]).await;
    buy(&store, &[a]).await;
    let found = around(&store, a).await;
    assert_eq!((found.orders, found.lines), (3, 6));
    assert_eq!(found.items[&a], counts(3, 1, 2));
    assert_eq!(found.items[&b], counts(2, 1, 2));
    assert_eq!(found.items[&c], counts(1, 2, 0));
    assert_eq!(pair(&found, a, b), Some(PairCounts { together: 2, later: 1 }));
    assert_eq!(pair(&found, a, c), Some(PairCounts { together: 1, later: 1 }));
    assert_eq!(pair(&around(&store, c).await, c, a), Some(PairCounts { together: 1, later: 0 }));
    let mut candidates = found.candidates.clone();
    candidates.sort_unstable();
    candidates.dedup();
    assert_eq!(candidates, [a, b, c]);
}

async fn an_order_counts_once_and_a_cancellation_takes_it_back(store: Recommendations) {
    let [a, b] = [id(), id()];
    let kept = buy(&store, &[a, b]).await;
    let before = around(&store, a).await;
    let purchase = buy(&store, &[b, a]).await;
    apply(&store, vec![HistoryChange::Bought(purchase.clone())]).await;
    assert_eq!(pair(&around(&store, a).await, a, b), Some(PairCounts { together: 2, later: 1 }));
    for _ in 0..2 {
        apply(&store, vec![HistoryChange::Cancelled(purchase.clone())]).await;
        let after = around(&store, a).await;
        assert_eq!((after.orders, after.lines, &after.items), (before.orders, before.lines, &before.items));
        assert_eq!(after.neighbours, before.neighbours);
        assert_eq!(evidence(&store, purchase.user_id).await.bought, []);
    }
    apply(&store, vec![HistoryChange::Cancelled(kept)]).await;
    let nothing = around(&store, a).await;
    assert_eq!((nothing.orders, nothing.lines, nothing.items.len(), nothing.neighbours.len()), (0, 0, 0, 0));
}

async fn a_cancellation_does_not_move_an_item_back_to_where_it_was(store: Recommendations) {
    let [a, b] = [id(), id()];
    let old = buy(&store, &[a, b]).await;
    let mut new = bought(id(), &[a]);
    new.lines[0].category = "Gifts".into();
    apply(&store, vec![HistoryChange::Bought(new)]).await;
    let cancelled = buy(&store, &[b]).await;
    apply(&store, vec![HistoryChange::Cancelled(old), HistoryChange::Cancelled(cancelled)]).await;
    let found = around(&store, a).await;
    assert_eq!(found.items[&a], ItemCounts { category: "Gifts".into(), ..counts(1, 0, 0) });
}

async fn a_confirmation_after_its_cancellation_counts_nothing(store: Recommendations) {
    let purchase = bought(id(), &[id(), id()]);
    apply(&store, vec![HistoryChange::Cancelled(purchase.clone())]).await;
    apply(&store, vec![HistoryChange::Bought(purchase.clone())]).await;
    let found = evidence(&store, purchase.user_id).await;
    assert_eq!((found.orders, found.bought.len()), (0, 0));
}

async fn a_batch_counts_in_its_order(store: Recommendations) {
    let [a, b] = [id(), id()];
    let [kept, cancelled, late] = [bought(id(), &[a, b]), bought(id(), &[a, b]), bought(id(), &[a, b])];
    apply(
        &store,
        vec![
            HistoryChange::Bought(kept.clone()),
            HistoryChange::Bought(cancelled.clone()),
            HistoryChange::Cancelled(late.clone()),
            HistoryChange::Cancelled(cancelled),
            HistoryChange::Bought(late),
            HistoryChange::Bought(kept),
        ],
    )
    .await;
    let found = around(&store, a).await;
    assert_eq!((found.orders, pair(&found, a, b)), (1, Some(PairCounts { together: 1, later: 1 })));
}

async fn counts_and_offset_are_written_together_or_not_at_all(store: Recommendations) {
    let purchase = bought(id(), &[id()]);
    let changes = vec![HistoryChange::Bought(purchase.clone())];
    let lost = store.port.apply(changes.clone(), LIMITS, step("recommendations", 4, 5)).await.unwrap();
    assert_eq!(lost, Consumed::Lost);
    assert_eq!(evidence(&store, purchase.user_id).await.orders, 0);
    assert_eq!(store.port.due_users(9).await.unwrap(), []);
    let done = store.port.apply(changes, LIMITS, step("recommendations", 0, 5)).await.unwrap();
    assert_eq!(done, Consumed::Done(()));
    assert_eq!((evidence(&store, purchase.user_id).await.orders, store.offset("recommendations").await), (1, Some(5)));
}

async fn a_swap_of_two_items_in_one_batch_counts_as_in_two(store: Recommendations) {
    let [a, b] = [id(), id()];
    let first = buy(&store, &[a, b]).await;
    apply(&store, vec![HistoryChange::Cancelled(first), HistoryChange::Bought(bought(id(), &[b, a]))]).await;
    let found = around(&store, a).await;
    assert_eq!((&found.items[&a], &found.items[&b]), (&counts(1, 1, 0), &counts(1, 0, 1)));
    assert_eq!(pair(&found, a, b), Some(PairCounts { together: 1, later: 0 }));
}

async fn a_history_is_the_users_own_newest_order_first(store: Recommendations) {
    let [a, b, c] = [id(), id(), id()];
    let [ada, eve] = [id(), id()];
    let orders = [bought(ada, &[a, b]), bought(eve, &[c]), bought(ada, &[c, a])];
    // The log keeps the order of one order's events, not that of a customer's orders.
    for purchase in orders.iter().rev() {
        apply(&store, vec![HistoryChange::Bought(purchase.clone())]).await;
    }
    let found: Vec<_> =
        evidence(&store, ada).await.bought.into_iter().map(|item| (item.product_id, item.orders_ago)).collect();
    assert_eq!(found, [(c, 0), (a, 0), (a, 1), (b, 1)]);
    let history = store.port.history(ada).await.unwrap();
    let listed: Vec<_> = history.purchases.iter().map(|one| (one.order_id, one.product_id, one.at)).collect();
    let [first, last] = [orders[0].order_id, orders[2].order_id];
    assert_eq!(listed, [(last, c, at(5)), (last, a, at(5)), (first, a, at(5)), (first, b, at(5))]);
}

async fn long_histories_shorten_nobody_elses(store: Recommendations) {
    let (light, heavy, product) = (id(), id(), id());
    buy_as(&store, light, 1, product).await;
    buy_as(&store, heavy, 450, product).await;
    let found = store.port.evidence(&[heavy, light], LIMITS).await.unwrap();
    assert_eq!(found.iter().map(|evidence| evidence.bought.len()).collect::<Vec<_>>(), [200, 1]);
}

async fn buy_as(store: &Recommendations, user: UserId, times: usize, product: ProductId) {
    apply(store, (0..times).map(|_| HistoryChange::Bought(bought(user, &[product]))).collect()).await;
}

async fn lines_past_the_limit_make_no_pairs(store: Recommendations) {
    let products: Vec<ProductId> = (0..LIMITS.lines_per_order + 2).map(|_| id()).collect();
    buy(&store, &products).await;
    let found = around(&store, products[0]).await;
    assert_eq!(found.neighbours[&products[0]].pairs.len(), LIMITS.lines_per_order - 1);
    assert_eq!(found.lines, products.len() as i64);
    assert_eq!(around(&store, products[11]).await.items[&products[11]], counts(1, 0, 0));
}

async fn an_item_forgets_its_weakest_neighbours(store: Recommendations) {
    let [popular, strong] = [id(), id()];
    for _ in 0..3 {
        buy(&store, &[popular, strong]).await;
    }
    let keep = LIMITS.neighbours_per_item;
    for number in 1..2 * keep {
        assert!(!around(&store, popular).await.neighbours[&popular].trimmed, "before neighbour {number}");
        buy(&store, &[popular, id()]).await;
    }
    let known = around(&store, popular).await.neighbours.remove(&popular).unwrap();
    assert!(known.trimmed);
    assert_eq!(known.pairs.len(), keep);
    assert_eq!(known.pairs[&strong], PairCounts { together: 3, later: 3 });
    assert_eq!(pair(&around(&store, strong).await, strong, popular), Some(PairCounts { together: 3, later: 0 }));
}

async fn the_last_rating_counts(store: Recommendations) {
    let (user, [a, b]) = (id(), [id(), id()]);
    buy(&store, &[a]).await;
    for (product, liked, when) in [(a, false, 1), (b, true, 2), (a, true, 3), (b, false, 4)] {
        store.port.rate(user, product, liked, at(when)).await.unwrap();
    }
    let found = evidence(&store, user).await;
    assert_eq!((found.liked, found.disliked), (vec![a], [b].into()));
    let ratings = store.port.history(user).await.unwrap().ratings;
    assert_eq!(ratings.iter().map(|one| (one.liked, one.at)).collect::<Vec<_>>(), [(true, at(3)), (false, at(4))]);
}

fn announcement(due: DueUser, name: &str, score: f64) -> Announcement {
    let product_id = "prd_00000000000000000000000001".parse().unwrap();
    let item = RecommendedItem { product_id, name: name.into(), reason: "Popular".into() };
    Announcement { due, items: vec![item], scores: vec![score] }
}

async fn whom_something_changed_for_is_due_until_it_was_announced(store: Recommendations) {
    let first = buy(&store, &[id()]).await.user_id;
    let second: UserId = id();
    store.port.rate(second, id(), true, at(1)).await.unwrap();
    store.port.rate(first, id(), true, at(1)).await.unwrap();
    let due = store.port.due_users(9).await.unwrap();
    assert_eq!(due, [DueUser { user_id: first, changes: 2 }, DueUser { user_id: second, changes: 1 }]);
    assert_eq!(store.port.due_users(1).await.unwrap(), due[..1]);
    store.port.announce(vec![announcement(due[0], "Lamp", 0.5)], at(7)).await.unwrap();
    assert_eq!(store.port.due_users(9).await.unwrap(), due[1..]);
    let pending = store.pending().await;
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].event_type.as_ref(), pending[0].sequence), (event_type::RECOMMENDATION_CHANGED, 1));
    assert_eq!(pending[0].key, first.to_string());
    let body: RecommendationChanged = serde_json::from_str(&pending[0].body).unwrap();
    assert_eq!((body.user_id, body.items[0].name.as_str()), (first, "Lamp"));
}

async fn an_announcement_is_about_the_users_last_change_or_nothing(store: Recommendations) {
    let user = buy(&store, &[id()]).await.user_id;
    let due = store.port.due_users(9).await.unwrap();
    store.port.rate(user, id(), true, at(1)).await.unwrap();
    store.port.announce(vec![announcement(due[0], "Lamp", 0.5)], at(7)).await.unwrap();
    assert_eq!(store.pending().await, []);
    assert_eq!(store.port.due_users(9).await.unwrap(), [DueUser { user_id: user, changes: 2 }]);
}

async fn what_was_announced_is_not_announced_again(store: Recommendations) {
    let user = buy(&store, &[id()]).await.user_id;
    for (name, score, events) in [("Lamp", 0.5, 1), ("Lamp", 0.5, 1), ("Lamp", 0.4, 2), ("Desk", 0.4, 3)] {
        store.port.rate(user, id(), true, at(1)).await.unwrap();
        let due = store.port.due_users(9).await.unwrap()[0];
        for _ in 0..2 {
            store.port.announce(vec![announcement(due, name, score)], at(7)).await.unwrap();
        }
        assert_eq!(store.pending().await.len(), events, "{name} {score}");
    }
    let sequences: Vec<_> = store.pending().await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
}

async fn buyers_and_favourites_are_told_by_category(store: Recommendations) {
    let [ada, eve, nobody] = [id(), id(), id()];
    let purchase = |user, categories: &[&str]| {
        let mut purchase = bought(user, &vec![id(); categories.len()]);
        for (line, category) in purchase.lines.iter_mut().zip(categories) {
            (line.product_id, line.category) = (id(), (*category).into());
        }
        HistoryChange::Bought(purchase)
    };
    apply(&store, vec![purchase(ada, &["Tea", "Lamps"]), purchase(ada, &["Lamps"]), purchase(eve, &["Tea"])]).await;
    let users = [nobody, eve, ada];
    assert_eq!(store.port.buyers_of("Tea", &users).await.unwrap(), [eve, ada]);
    assert_eq!(store.port.buyers_of("Lamps", &users).await.unwrap(), [ada]);
    assert_eq!(store.port.buyers_of("lamps", &users).await.unwrap(), []);
    let favourites = store.port.favourite_categories(&users, 2).await.unwrap();
    assert_eq!(favourites, [(eve, vec!["Tea".to_owned()]), (ada, vec!["Lamps".to_owned(), "Tea".to_owned()])]);
    assert_eq!(store.port.favourite_categories(&[ada], 1).await.unwrap(), [(ada, vec!["Lamps".to_owned()])]);
}

async fn a_deleted_user_is_forgotten_for_good_and_their_orders_go_on_counting(store: Recommendations) {
    let [a, b] = [id(), id()];
    let purchase = buy(&store, &[a, b]).await;
    let user = purchase.user_id;
    store.port.rate(user, a, true, at(1)).await.unwrap();
    let late = bought(user, &[a, b]);
    apply(&store, vec![HistoryChange::UserDeleted(user), HistoryChange::Bought(late)]).await;
    store.port.rate(user, a, true, at(1)).await.unwrap();
    assert_eq!(store.port.history(user).await.unwrap(), Default::default());
    assert_eq!(store.port.due_users(9).await.unwrap(), []);
    let found = evidence(&store, user).await;
    assert_eq!((found.orders, found.bought.len(), found.liked.len()), (2, 0, 0));
    // A rebuild brings nothing back either.
    let generation = store.port.begin_rebuild().await.unwrap();
    store.port.rebuild(generation, vec![purchase], LIMITS).await.unwrap();
    store.port.finish_rebuild(generation).await.unwrap();
    assert_eq!(store.port.history(user).await.unwrap(), Default::default());
    assert_eq!(evidence(&store, user).await.orders, 1);
}

async fn a_rebuild_replaces_what_was_counted(store: Recommendations) {
    let [a, b, c] = [id(), id(), id()];
    let old = buy(&store, &[a, b]).await;
    store.port.rate(old.user_id, c, false, at(1)).await.unwrap();
    let generation = store.port.begin_rebuild().await.unwrap();
    let fresh = bought(old.user_id, &[a, c]);
    for _ in 0..2 {
        let step = store.port.rebuild(generation, vec![fresh.clone()], LIMITS).await.unwrap();
        assert_eq!(step, RebuildStep::Done);
    }
    assert_eq!(pair(&evidence(&store, old.user_id).await, a, b).unwrap().together, 1, "the live one serves");
    assert_eq!(store.port.finish_rebuild(generation).await.unwrap(), RebuildStep::Done);
    let found = evidence(&store, old.user_id).await;
    assert_eq!((found.orders, pair(&found, a, b)), (1, None));
    assert_eq!(pair(&found, a, c), Some(PairCounts { together: 1, later: 1 }));
    assert!(found.disliked.contains(&c), "ratings are no part of a generation");
    assert_eq!(store.port.finish_rebuild(generation).await.unwrap(), RebuildStep::Superseded, "it is live already");
}

async fn what_comes_during_a_rebuild_is_in_both_generations_once(store: Recommendations) {
    let [a, b] = [id(), id()];
    let [early, meanwhile, cancelled] = [bought(id(), &[a, b]), bought(id(), &[a, b]), bought(id(), &[a, b])];
    apply(&store, vec![HistoryChange::Bought(early.clone()), HistoryChange::Bought(cancelled.clone())]).await;
    let generation = store.port.begin_rebuild().await.unwrap();
    store.port.rebuild(generation, vec![early], LIMITS).await.unwrap();
    // The walk has read the order, the cancellation comes first.
    apply(&store, vec![HistoryChange::Bought(meanwhile.clone()), HistoryChange::Cancelled(cancelled.clone())]).await;
    assert_eq!(around(&store, a).await.orders, 2);
    store.port.rebuild(generation, vec![meanwhile, cancelled], LIMITS).await.unwrap();
    store.port.finish_rebuild(generation).await.unwrap();
    let found = around(&store, a).await;
    assert_eq!((found.orders, pair(&found, a, b)), (2, Some(PairCounts { together: 2, later: 2 })));
}

async fn a_rebuild_that_was_given_up_changes_nothing(store: Recommendations) {
    let purchase = buy(&store, &[id()]).await;
    let given_up = store.port.begin_rebuild().await.unwrap();
    let next = store.port.begin_rebuild().await.unwrap();
    assert_ne!(given_up, next);
    let superseded = store.port.rebuild(given_up, vec![bought(id(), &[id()])], LIMITS).await.unwrap();
    assert_eq!(superseded, RebuildStep::Superseded);
    assert_eq!(store.port.finish_rebuild(given_up).await.unwrap(), RebuildStep::Superseded);
    assert_eq!(evidence(&store, purchase.user_id).await.orders, 1);
}

async fn abandoned_generations_go_away(store: Recommendations) {
    let purchase = buy(&store, &[id(), id()]).await;
    for _ in 0..2 {
        let generation = store.port.begin_rebuild().await.unwrap();
        store.port.rebuild(generation, vec![purchase.clone()], LIMITS).await.unwrap();
        store.port.finish_rebuild(generation).await.unwrap();
    }
    let mut steps = 0;
    while store.port.remove_abandoned().await.unwrap() {
        steps += 1;
        assert!(steps < 100, "it comes to an end");
    }
    assert!(steps > 0);
    let found = evidence(&store, purchase.user_id).await;
    assert_eq!((found.orders, found.bought.len()), (1, 2));
}

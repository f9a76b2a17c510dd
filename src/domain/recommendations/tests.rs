use super::*;
use crate::domain::ids::TypedId;
use uuid::Uuid;

const LIMITS: Limits =
    Limits { lines_per_order: 50, neighbours_per_item: 200, history_items: 20, candidates: 300, bought_again: 0 };

fn rules() -> Rules {
    Rules {
        score: Score::Continuation,
        min_support: 2,
        shrinkage: 30.0,
        sequence_weight: 0.9,
        newest_weight: 0.5,
        older_order_weight: 0.5,
        popularity_weight: 0.02,
        category_weight: 0.1,
        again_weight: 0.1,
        limits: LIMITS,
        consumable_categories: Vec::new(),
    }
}

fn product(number: u128) -> ProductId {
    ProductId::from_uuid(Uuid::from_u128(number))
}

fn purchase(products: &[u128]) -> Purchase {
    let category = |number: u128| if number < 100 { "Things".to_owned() } else { format!("Category {}", number / 100) };
    let lines = products.iter().map(|id| PurchasedLine { product_id: product(*id), category: category(*id) });
    Purchase {
        order_id: OrderId::from_uuid(Uuid::nil()),
        user_id: UserId::from_uuid(Uuid::nil()),
        at: Timestamp(0),
        lines: lines.collect(),
    }
}

/// The evidence of somebody with this history, newest order first, in a shop with these orders.
fn evidence(orders: &[&[u128]], history: &[&[u128]]) -> Evidence {
    let mut tallies = Tallies::default();
    orders.iter().for_each(|order| tallies.add(&purchase(order), 1, &LIMITS));
    let mut evidence = Evidence { orders: tallies.orders, lines: tallies.lines, ..Evidence::default() };
    for (id, item) in tallies.items {
        let ItemTally { orders, before, after, category } = item;
        evidence.items.insert(id, ItemCounts { category, orders, before, after });
        evidence.neighbours.insert(id, Neighbours::default());
        evidence.candidates.push(id);
    }
    for ((one, other), PairTally { together, later }) in tallies.pairs {
        evidence.neighbours.get_mut(&one).unwrap().pairs.insert(other, PairCounts { together, later });
    }
    for (orders_ago, order) in (0..).zip(history) {
        let lines = purchase(order).lines.into_iter();
        evidence.bought.extend(lines.map(|line| Bought {
            product_id: line.product_id,
            category: line.category,
            orders_ago,
        }));
    }
    evidence
}

fn ids(ranked: &[Ranked]) -> Vec<u128> {
    ranked.iter().map(|one| one.product_id.uuid().as_u128()).collect()
}

fn reason_of(ranked: &[Ranked], number: u128) -> Reason {
    ranked.iter().find(|one| one.product_id == product(number)).unwrap().reason.clone()
}

#[test]
fn an_order_is_settled_once_whatever_comes_first() {
    use OrderState::{Counted, Withdrawn};
    for (known, cancelled, expected) in [
        (None, false, Some((Counted, 1))),
        (None, true, Some((Withdrawn, 0))),
        (Some(Counted), false, None),
        (Some(Counted), true, Some((Withdrawn, -1))),
        (Some(Withdrawn), false, None),
        (Some(Withdrawn), true, None),
    ] {
        assert_eq!(settle(known, cancelled), expected, "{known:?} {cancelled}");
    }
}

#[test]
fn what_was_added_and_taken_back_leaves_nothing_to_write() {
    let mut tallies = Tallies::default();
    tallies.add(&purchase(&[1, 2, 3]), 1, &LIMITS);
    assert_eq!((tallies.lines, tallies.pairs.len()), (3, 6));
    assert!(!tallies.is_empty());
    tallies.add(&purchase(&[1, 2, 3]), -1, &LIMITS);
    assert!(tallies.is_empty());
    assert!(tallies.pairs.values().all(|pair| *pair == PairTally::default()));
}

#[test]
fn what_is_bought_together_is_recommended_with_its_reason() {
    let shop: &[&[u128]] = &[&[1, 2], &[1, 2], &[3], &[3], &[3], &[1]];
    let ranked = rank(&evidence(shop, &[&[1]]), &rules());
    assert_eq!(ids(&ranked), [2, 3]);
    assert_eq!(ranked[0].reason, Reason::BoughtTogether(vec![product(1)]));
    assert_eq!(ranked[1].reason, Reason::Category("Things".into()));
    assert!(ranked.iter().all(|one| one.score > 0.0 && one.score <= 1.0));
    // Even where everything is bought with everything.
    let ranked = rank(&evidence(&[&[1, 2], &[1, 2], &[1]], &[&[1]]), &rules());
    assert_eq!(reason_of(&ranked, 2), Reason::BoughtTogether(vec![product(1)]));
}

#[test]
fn a_pair_without_support_is_no_reason() {
    let ranked = rank(&evidence(&[&[1, 102], &[3], &[3]], &[&[1]]), &rules());
    assert_eq!(reason_of(&ranked, 102), Reason::Popular);
}

#[test]
fn what_was_bought_comes_again_only_if_it_is_used_up() {
    let shop: &[&[u128]] = &[&[101, 102], &[101, 102], &[103], &[102]];
    let bought = evidence(shop, &[&[102], &[101]]);
    assert_eq!(ids(&rank(&bought, &rules())), [103]);
    let rules = Rules { consumable_categories: vec!["Category 1".into()], ..rules() };
    let ranked = rank(&bought, &rules);
    // What is in the newest order is not wanted at once.
    let at_once = rank(&bought, &Rules { again_weight: 1.0, ..rules });
    let score = |ranked: &[Ranked], id| ranked.iter().find(|one| one.product_id == product(id)).unwrap().score;
    assert!((score(&ranked, 102) - 0.1 * score(&at_once, 102)).abs() < 1e-9);
    assert_eq!(score(&ranked, 101), score(&at_once, 101));
    assert_eq!((reason_of(&ranked, 101), reason_of(&ranked, 102)), (Reason::Again, Reason::Again));
}

#[test]
fn what_is_disliked_never_comes_and_what_is_liked_speaks_for_others() {
    let shop: &[&[u128]] = &[&[101, 202], &[101, 202], &[303], &[303], &[303]];
    let mut of_nobody = evidence(shop, &[]);
    assert_eq!(ids(&rank(&of_nobody, &rules())), [303, 101, 202], "without history: what is popular");
    assert!(rank(&of_nobody, &rules()).iter().all(|one| one.reason == Reason::Popular));
    of_nobody.liked = vec![product(101)];
    let ranked = rank(&of_nobody, &rules());
    assert_eq!(ids(&ranked)[0], 202);
    assert_eq!(ranked[0].reason, Reason::GoesWithLiked(vec![product(101)]));
    of_nobody.disliked = [product(202)].into();
    assert!(!ids(&rank(&of_nobody, &rules())).contains(&202));
}

#[test]
fn which_came_first_counts_as_much_as_the_rules_say() {
    // 2 comes after 1, 3 before it, as often and from as many baskets.
    let shop: &[&[u128]] = &[&[1, 2], &[1, 2], &[3, 1], &[3, 1], &[2, 4], &[4, 3]];
    let scores = |sequence_weight| {
        let ranked = rank(&evidence(shop, &[&[1]]), &Rules { sequence_weight, shrinkage: 1.0, ..rules() });
        let score = |number| ranked.iter().find(|one| one.product_id == product(number)).unwrap().score;
        (score(2), score(3))
    };
    let (after, before) = scores(1.0);
    assert!(after > 2.0 * before, "{after} {before}");
    let (after, before) = scores(0.0);
    assert!((after - before).abs() < 1e-9, "{after} {before}");
}

#[test]
fn a_category_that_the_user_buys_from_breaks_a_tie() {
    let shop: &[&[u128]] = &[&[101], &[102], &[202]];
    for score in Score::ALL {
        let ranked = rank(&evidence(shop, &[&[101]]), &Rules { score, ..rules() });
        assert_eq!(ids(&ranked), [102, 202], "{score:?}");
    }
}

#[test]
fn every_score_prefers_a_strong_pair_to_a_chance_one() {
    let mut orders: Vec<&[u128]> = vec![&[1, 2]; 40];
    orders.extend([&[1, 3][..]; 3]);
    orders.extend([&[3][..]; 60]);
    orders.extend([&[4][..]; 60]);
    for score in Score::ALL {
        let ranked = rank(&evidence(&orders, &[&[1]]), &Rules { score, ..rules() });
        assert_eq!(ids(&ranked)[0], 2, "{score:?}");
        assert!(ranked.iter().all(|one| one.score.is_finite()), "{score:?}");
    }
}

#[test]
fn nothing_is_made_of_nothing() {
    assert_eq!(rank(&Evidence::default(), &rules()), []);
    let mut unknown = evidence(&[], &[&[7]]);
    unknown.candidates = vec![product(8)];
    assert_eq!(rank(&unknown, &rules()), []);
}

#[test]
fn the_shortlist_holds_the_strongest_neighbours() {
    let evidence = evidence(&[&[1, 2], &[1, 2], &[1, 3], &[4, 5]], &[]);
    let near = |sources: &[u128]| -> HashMap<_, _> {
        sources.iter().map(|id| (product(*id), evidence.neighbours[&product(*id)].clone())).collect()
    };
    assert_eq!(shortlist(&near(&[1]), &evidence.items, 9), [product(2), product(3)]);
    assert_eq!(shortlist(&near(&[1, 4]), &evidence.items, 2), [product(2), product(5)]);
    assert_eq!(shortlist(&near(&[]), &evidence.items, 2), []);
}

#[test]
fn a_reason_names_what_is_known_of_its_products() {
    let both = Reason::BoughtTogether(vec![product(1), product(2)]);
    assert_eq!(both.words(&["Lamp", "Desk"]), "Often bought together with Lamp and Desk");
    assert_eq!(both.words(&["Lamp"]), "Often bought together with Lamp");
    assert_eq!(both.words(&[]), "Often bought together with what you bought");
    assert_eq!(Reason::GoesWithLiked(vec![]).words(&["Lamp"]), "Often bought together with Lamp, which you like");
    assert_eq!(Reason::Category("Tea".into()).words(&[]), "Popular in Tea, where you have shopped");
}

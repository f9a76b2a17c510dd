//! What restarts with a failed actor.

use super::*;
use crate::actors::Address;

/// `orders` with the parts a, b and c, started in the order a, b, c, orders.
fn family(strategy: Strategy) -> (SupervisionTree, [Address<Probe>; 4]) {
    let (a, b, c) = (probe("orders.a"), probe("orders.b"), probe("orders.c"));
    let parts = (a.address(), b.address(), c.address());
    let orders = probe("orders").strategy(strategy).part(a).part(b).part(c);
    let addresses = [parts.0, parts.1, parts.2, orders.address()];
    (tree_of(orders), addresses)
}

/// Restarts of a, b, c and orders after one panic of `failing`.
fn restarts_after(strategy: Strategy, failing: usize) -> [u64; 4] {
    in_virtual_time(async {
        let (tree, addresses) = family(strategy);
        for address in &addresses {
            address.ask(Count, SECOND).await.unwrap();
        }
        let _ = addresses[failing].ask(PanicNow, SECOND).await;
        tokio::time::sleep(SECOND).await;
        let mut restarts = [0; 4];
        for (count, address) in restarts.iter_mut().zip(&addresses) {
            *count = status_of(&tree, address.name()).restarts;
            let fresh = address.ask(Count, SECOND).await.unwrap() == 1;
            assert_eq!(fresh, *count == 1, "{}", address.name());
        }
        restarts
    })
}

#[test]
fn one_for_one_restarts_only_the_failed_one() {
    assert_eq!(restarts_after(Strategy::OneForOne, 1), [0, 1, 0, 0]);
}

#[test]
fn one_for_all_restarts_the_siblings_too() {
    assert_eq!(restarts_after(Strategy::OneForAll, 1), [1, 1, 1, 1]);
}

#[test]
fn rest_for_one_restarts_the_later_ones_only() {
    assert_eq!(restarts_after(Strategy::RestForOne, 1), [0, 1, 1, 1]);
}

#[test]
fn rest_for_one_leaves_the_parts_alone_when_the_head_fails() {
    assert_eq!(restarts_after(Strategy::RestForOne, 3), [0, 0, 0, 1]);
}

#[test]
fn a_failure_counts_once_in_the_window_however_many_restart() {
    in_virtual_time(async {
        let (tree, addresses) = family(Strategy::OneForAll);
        for _ in 0..10 {
            let _ = addresses[0].ask(PanicNow, 20 * SECOND).await;
            addresses[0].ask(Count, 20 * SECOND).await.unwrap();
        }
        running(&tree, "orders").await;
        assert_eq!(status_of(&tree, "orders").restarts, 10);
        assert_eq!(tree.status().state, ActorState::Running);
    });
}

#[test]
fn siblings_that_restart_leave_by_their_own_way_out() {
    in_virtual_time(async {
        let journal = Journal::default();
        let part = journaled("orders.writer", &journal);
        let spec = journaled("orders", &journal).strategy(Strategy::OneForAll).part(part);
        let (orders, tree) = (spec.address(), tree_of(spec));
        running(&tree, "orders").await;
        let _ = orders.ask(PanicNow, SECOND).await;
        eventually("restart", || status_of(&tree, "orders.writer").restarts == 1).await;
        assert!(entries(&journal).contains(&"stopped orders.writer".to_owned()));
        assert!(!entries(&journal).contains(&"stopped orders".to_owned()));
    });
}

#[test]
fn a_temporary_sibling_is_stopped_and_not_restarted() {
    in_virtual_time(async {
        let helper = probe("orders.helper").policy(RestartPolicy::Temporary);
        let spec = probe("orders").strategy(Strategy::OneForAll).part(helper);
        let (orders, tree) = (spec.address(), tree_of(spec));
        let _ = orders.ask(PanicNow, SECOND).await;
        eventually("stopped", || status_of(&tree, "orders.helper").state == ActorState::Stopped).await;
        assert_eq!(status_of(&tree, "orders.helper").restarts, 0);
    });
}

//! Subscriptions that wait for something that does not happen.

use crate::follow::subscribe;
use crate::job::{Done, Target, answer};

pub async fn hold(target: Target, sockets: usize) {
    let mut held = Vec::with_capacity(sockets);
    for number in 0..sockets {
        let token = &target.tokens[number % target.tokens.len()];
        held.push(
            subscribe(target.address, token, "subscription { orderUpdates { cursor order { id status } } }").await,
        );
    }
    answer(&Done::default());
    // Until the parent has seen enough.
    let closed = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    drop(closed.await);
    drop(held);
}

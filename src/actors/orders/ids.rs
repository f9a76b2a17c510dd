//! Ids of new orders. Those that are made at about the same time have their events in one partition.
//!
//! The key of an order's events is its id, and the partition is the key's hash. Random ids would spread the few orders of
//! one commit over as many partitions: one request to the broker for each, because librdkafka sends a partition's records
//! by themselves, and deliveries of one record to every group, which would decide each order alone. So an id is drawn
//! anew until its hash names the partition whose turn it is. Turns are short and go round, so partitions have equal
//! shares: what Kafka's own partitioner does, batch by batch, with records that have no key (KIP-794).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::events::partition_of;
use crate::domain::ids::{OrderId, TypedId};

/// How long a partition's turn lasts: about as long as a commit and its publishing.
const TURN: Duration = Duration::from_millis(25);
/// Orders after which it ends before that: as many as make a good batch.
const ORDERS_A_TURN: u32 = 128;

/// The random bits at the end of a time-ordered UUID. What is before them keeps ids of one process in their order.
const RANDOM_BITS: u32 = u32::BITS;

/// Ids that are looked at for one order: nearly always enough for so many partitions. With more of them, ids are as they come.
const TRIES: u32 = 256;
const MOST_PARTITIONS: u32 = 64;

pub struct OrderIds {
    partitions: u32,
    turn: Mutex<Turn>,
}

struct Turn {
    partition: u32,
    ends_at: Instant,
    orders: u32,
}

impl OrderIds {
    /// For a log whose topics have so many partitions. Processes begin with different ones.
    pub fn new(partitions: u32) -> Self {
        let partition = rand::random_range(0..partitions);
        Self { partitions, turn: Mutex::new(Turn { partition, ends_at: Instant::now() + TURN, orders: 0 }) }
    }

    /// A new id.
    pub fn next(&self) -> OrderId {
        self.next_at(Instant::now())
    }

    fn next_at(&self, now: Instant) -> OrderId {
        id_in(self.partition_at(now), self.partitions)
    }

    fn partition_at(&self, now: Instant) -> u32 {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= turn.ends_at || turn.orders == ORDERS_A_TURN {
            *turn = Turn { partition: (turn.partition + 1) % self.partitions, ends_at: now + TURN, orders: 0 };
        }
        turn.orders += 1;
        turn.partition
    }
}

/// The first of a row of ids, from a random one on, whose events belong to the partition.
fn id_in(partition: u32, partitions: u32) -> OrderId {
    let drawn = Uuid::now_v7().as_u128();
    let (ordered, random) = (drawn >> RANDOM_BITS << RANDOM_BITS, drawn as u32);
    let tries = if partitions <= MOST_PARTITIONS { TRIES } else { 0 };
    let ids =
        (0..tries).map(|step| OrderId::from_uuid(Uuid::from_u128(ordered | u128::from(random.wrapping_add(step)))));
    let mut ids = ids.filter(|id| partition_of(&id.to_string(), partitions) == partition);
    ids.next().unwrap_or(OrderId::from_uuid(Uuid::from_u128(drawn)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn partition(id: OrderId, partitions: u32) -> u32 {
        partition_of(&id.to_string(), partitions)
    }

    #[test]
    fn orders_of_one_turn_share_a_partition_and_turns_go_through_all() {
        for partitions in [1, 3, 8] {
            let ids = OrderIds::new(partitions);
            let mut seen = HashSet::new();
            let mut now = Instant::now();
            for _ in 0..partitions {
                now += TURN;
                let of_turn: HashSet<u32> = (0..5).map(|_| partition(ids.next_at(now), partitions)).collect();
                assert_eq!(of_turn.len(), 1, "{partitions} partitions");
                seen.extend(of_turn);
            }
            assert_eq!(seen.len(), partitions as usize);
        }
    }

    #[test]
    fn a_turn_ends_with_a_full_batch() {
        let ids = OrderIds::new(8);
        let now = Instant::now();
        let in_turn = || (0..ORDERS_A_TURN).map(|_| partition(ids.next_at(now), 8)).collect::<HashSet<_>>();
        let (first, second) = (in_turn(), in_turn());
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second);
    }

    #[test]
    fn ids_are_unique_and_grow() {
        let ids = OrderIds::new(8);
        let made: Vec<OrderId> = (0..1_000).map(|_| ids.next()).collect();
        assert!(made.is_sorted_by(|one, next| one < next));
    }
}

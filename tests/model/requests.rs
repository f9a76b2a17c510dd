//! Steps that start with people: placing, moving on and adjusting, the order writer, and the replies.

use souk::domain::ids::{OrderId, TypedId};
use souk::domain::orders::{NewOrder, Order, OrderStatus, order_number};
use souk::store::orders::{AdvanceOrder, InsertOrder};
use souk::store::products::AdjustStock;

use crate::bugs::Bug;
use crate::databases::{Database, SharedEvent};
use crate::world::{Placement, RELAY_CHANNEL, Reply, World, WriterStage};

/// What becomes of a commit whose answer never reaches the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Landed,
    Failed,
    /// It reaches the database after the writer has looked there.
    Late,
}

impl World {
    /// The order that an attempt of a client would become, or becomes after its number was taken.
    fn build_order(&mut self, intent: usize) -> Placement {
        let id = OrderId::from_uuid(self.next_id());
        // A small space, so that numbers collide.
        let number = order_number(self.now(), self.random.next() % 64);
        let wanted = &self.placements[intent];
        let new = NewOrder {
            id,
            number,
            customer_id: wanted.customer,
            lines: wanted.lines.clone(),
            currency: Self::currency(),
            idempotency_key: wanted.key.clone(),
            input_digest: wanted.digest,
        };
        let (order, event) = new.place(self.now()).expect("the model's totals are small");
        Placement { intent, order, event }
    }

    /// A client sends its request, for the first time or again.
    pub fn send_placement(&mut self, process: usize, intent: usize) {
        self.placements[intent].attempts += 1;
        if self.placements[intent].attempts > 1 {
            self.saw("a client repeated its request");
        }
        let placement = self.build_order(intent);
        let order = placement.order.id;
        self.note(|| format!("    as {order}"));
        self.processes[process].writer.queue.push_back(placement);
    }

    /// The writer drains what has queued.
    pub fn take_batch(&mut self, process: usize) {
        let writer = &mut self.processes[process].writer;
        writer.batch = writer.queue.drain(..).collect();
        writer.stage = WriterStage::Taken;
        if self.bug == Some(Bug::AcknowledgedBeforeCommit) {
            for Placement { intent, order, .. } in writer.batch.clone() {
                writer.replies.push_back(Reply::Placed { intent, order: order.id, replayed: false });
            }
        }
    }

    /// `insert_orders`, without its caller hearing of it.
    fn insert(&mut self, batch: &[Placement]) -> (Vec<InsertOrder>, Vec<SharedEvent>) {
        let mut keys: Vec<_> = batch.iter().map(|one| (one.order.customer_id, &one.order.idempotency_key)).collect();
        keys.sort();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            self.saw("one key twice in a batch");
        }
        let rows = batch.iter().map(|one| (one.order.clone(), one.event.clone())).collect();
        self.orders.insert_orders(rows, self.bug)
    }

    pub fn commit_batch(&mut self, process: usize) {
        let batch = std::mem::take(&mut self.processes[process].writer.batch);
        let (outcomes, events) = self.insert(&batch);
        self.committed(process, Database::Orders, events);
        for (placement, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                InsertOrder::Inserted => self.reply_placed(process, placement.intent, placement.order.id, false),
                InsertOrder::Replayed(known) => self.reply_known(process, placement.intent, &known),
                InsertOrder::NumberTaken => {
                    self.saw("an order number was taken");
                    let again = self.build_order(placement.intent);
                    self.processes[process].writer.queue.push_front(again);
                }
            }
        }
    }

    fn reply_placed(&mut self, process: usize, intent: usize, order: OrderId, replayed: bool) {
        if self.bug != Some(Bug::AcknowledgedBeforeCommit) {
            self.processes[process].writer.replies.push_back(Reply::Placed { intent, order, replayed });
        }
    }

    /// The key has an order: the client's own, or another one's under the same key.
    fn reply_known(&mut self, process: usize, intent: usize, known: &Order) {
        if known.input_digest == self.placements[intent].digest || self.bug == Some(Bug::KeyReuseNotNoticed) {
            self.saw("a request was answered as a replay");
            self.reply_placed(process, intent, known.id, true);
        } else {
            self.saw("a key was reused for another input");
            self.processes[process].writer.replies.push_back(Reply::KeyReused { intent });
        }
    }

    pub fn commit_batch_unheard(&mut self, process: usize, fate: Fate) {
        self.saw("a commit's outcome was unknown to the writer");
        let batch = self.processes[process].writer.batch.clone();
        self.processes[process].writer.stage = WriterStage::Unknown;
        match fate {
            Fate::Landed => drop(self.insert(&batch)),
            Fate::Failed => {}
            Fate::Late => self.late_commits.push(batch),
        }
    }

    pub fn land_late_commit(&mut self) {
        let batch = self.late_commits.remove(0);
        self.insert(&batch);
    }

    /// After an unknown outcome each order is looked up, by its id and then by its key, before anything is answered.
    pub fn look_up_batch(&mut self, process: usize) {
        for placement in std::mem::take(&mut self.processes[process].writer.batch) {
            let (intent, id) = (placement.intent, placement.order.id);
            let stored = self.orders.orders.contains_key(&id);
            if stored || self.bug == Some(Bug::UnknownOutcomeTakenForSuccess) {
                self.reply_placed(process, intent, id, false);
            } else if let Some(known) = self.orders.order_by_key(&placement.order).cloned() {
                self.reply_known(process, intent, &known);
            } else {
                self.processes[process].writer.replies.push_back(Reply::PlacementFailed { intent });
            }
        }
        self.processes[process].writer.stage = WriterStage::Taken;
    }

    /// A person moves some order on, legally or not: they may look at an old page.
    pub fn move_order(&mut self, process: usize) {
        self.moves_left -= 1;
        let ids: Vec<OrderId> = self.orders.orders.keys().copied().collect();
        let order = ids[self.random.below(ids.len())];
        let to = match (self.orders.orders[&order].status, self.random.below(10)) {
            (OrderStatus::Confirmed, 0..5) | (_, 9) => OrderStatus::Shipped,
            (OrderStatus::Shipped, 0..5) | (_, 8) => OrderStatus::Delivered,
            _ => OrderStatus::Cancelled,
        };
        self.note(|| format!("    {order} to {to:?}"));
        if self.bug == Some(Bug::OrderReadOutsideTheTransaction) {
            let mut read = self.orders.orders[&order].clone();
            if let Ok(event) = read.advance(to, None, self.now()) {
                self.processes[process].writer.stale_moves.push_back((read, event));
            }
            return;
        }
        let (outcome, event) = self.orders.advance_order(order, to, self.now(), self.bug);
        match outcome {
            AdvanceOrder::Advanced(_) => {
                self.saw(match to {
                    OrderStatus::Cancelled => "an order was cancelled",
                    OrderStatus::Shipped => "an order was shipped",
                    _ => "an order was delivered",
                });
                self.processes[process].writer.replies.push_back(Reply::Moved { order, to });
            }
            AdvanceOrder::Illegal(_) => self.saw("an illegal move was refused"),
            AdvanceOrder::NotFound => {}
        }
        self.committed(process, Database::Orders, event.into_iter().collect());
    }

    /// The second half of what `OrderReadOutsideTheTransaction` makes of a move.
    pub fn write_stale_move(&mut self, process: usize) {
        if let Some((order, event)) = self.processes[process].writer.stale_moves.pop_front() {
            let event = self.orders.overwrite(order, event);
            self.committed(process, Database::Orders, vec![event]);
        }
    }

    /// Somebody adjusts stock, for the first time or again because no answer came.
    pub fn adjust_stock(&mut self, process: usize, intent: usize) {
        self.adjustments[intent].attempts += 1;
        let adjustment = self.adjustments[intent].adjustment.clone();
        let (outcome, event) = self.products.adjust_stock(&adjustment, self.now(), self.bug);
        let refused = match outcome {
            AdjustStock::OutOfRange(_) => {
                self.saw("an adjustment below zero was refused");
                true
            }
            AdjustStock::Replayed(_) => {
                self.saw("an adjustment was repeated");
                false
            }
            _ => false,
        };
        self.processes[process].writer.replies.push_back(Reply::Adjusted { intent, refused });
        self.committed(process, Database::Products, event.into_iter().collect());
    }

    pub fn archive_product(&mut self, process: usize) {
        self.archive_left = false;
        self.saw("a product was archived");
        let ids: Vec<_> = self.products.products.keys().copied().collect();
        let id = ids[self.random.below(ids.len())];
        let event = self.products.archive(id, self.now(), self.bug);
        self.committed(process, Database::Products, vec![event]);
    }

    /// The reply reaches the client: from here on it must stay true.
    pub fn answer(&mut self, process: usize) {
        let Some(reply) = self.processes[process].writer.replies.pop_front() else { return };
        self.note(|| format!("    {reply:?}"));
        match reply {
            Reply::Placed { intent, order, replayed } => {
                self.placements[intent].answered = true;
                self.acknowledged.placed.push((intent, order, replayed));
            }
            Reply::KeyReused { intent } => {
                self.placements[intent].answered = true;
                self.acknowledged.key_reused.push(intent);
            }
            Reply::PlacementFailed { .. } => self.saw("a client was told that its order failed"),
            Reply::Moved { order, to } => self.acknowledged.moved.push((order, to)),
            Reply::Adjusted { intent, refused } => {
                self.adjustments[intent].answered = true;
                if !refused {
                    self.acknowledged.adjusted.push(intent);
                }
            }
        }
    }

    /// Hands a commit's events to the relay of its process, as the port's bounded channel does.
    pub fn committed(&mut self, process: usize, database: Database, events: Vec<SharedEvent>) {
        if events.is_empty() {
            return;
        }
        let channel = &mut self.processes[process].relays[database as usize].channel;
        if channel.len() < RELAY_CHANNEL {
            channel.push_back(events);
        } else {
            self.saw("the relay's channel was full");
        }
    }

    /// Whether a request of this intent is on its way in some process.
    pub fn placement_in_flight(&self, intent: usize) -> bool {
        self.processes.iter().any(|process| {
            let writer = &process.writer;
            writer.queue.iter().chain(&writer.batch).any(|one| one.intent == intent)
                || writer.replies.iter().any(|reply| match reply {
                    Reply::Placed { intent: of, .. }
                    | Reply::KeyReused { intent: of }
                    | Reply::PlacementFailed { intent: of } => *of == intent,
                    _ => false,
                })
        })
    }

    pub fn adjustment_in_flight(&self, intent: usize) -> bool {
        let waits = |reply: &Reply| matches!(reply, Reply::Adjusted { intent: of, .. } if *of == intent);
        self.processes.iter().any(|process| process.writer.replies.iter().any(waits))
    }
}

//! What must hold after every step, and what must hold when nothing is in flight any more.

use std::collections::{BTreeMap, BTreeSet};

use souk::domain::events::{StockChanged, event_type};
use souk::domain::ids::{OrderId, ProductId, TypedId};
use souk::domain::inventory::{Decision, merge_lines};
use souk::domain::orders::{Order, OrderStatus};

use crate::databases::{Database, EventIdentity, SharedEvent};
use crate::world::{Group, World};

/// Ends the check with a message unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

impl World {
    /// Holds after every step.
    pub fn check(&mut self) -> Result<(), String> {
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        self.check_orders()?;
        self.check_stock()?;
        self.check_acknowledged()?;
        self.check_events()
    }

    fn check_orders(&self) -> Result<(), String> {
        let mut keys = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for order in self.orders.orders.values() {
            let id = order.id;
            hold!(keys.insert((order.customer_id, &order.idempotency_key)), "{id}: its key has another order too");
            hold!(numbers.insert(&order.number), "{id}: its number has another order too");
            check_timeline(order)?;
            for entry in &order.timeline {
                let key = (id.uuid().as_u128(), i64::from(entry.sequence));
                let announced = self.announced(Database::Orders, key);
                hold!(
                    announced.is_some_and(|event| event.event_type == entry.status.event_type()),
                    "{id}: {:?} is neither pending nor published",
                    entry.status
                );
            }
            let decision = self.products.decisions.get(&id);
            match order.status {
                OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered => hold!(
                    matches!(decision, Some(Decision::Reserved { .. })),
                    "{id} is {:?} and its decision {decision:?}",
                    order.status
                ),
                OrderStatus::Rejected => hold!(
                    matches!(decision, Some(Decision::Rejected { shortages, unavailable })
                        if *shortages == order.shortages && *unavailable == order.unavailable),
                    "{id} is REJECTED and its decision {decision:?}"
                ),
                OrderStatus::Pending | OrderStatus::Cancelled => {}
            }
        }
        Ok(())
    }

    /// The event of this id, pending or published.
    fn announced(&self, database: Database, key: EventIdentity) -> Option<&SharedEvent> {
        self.pending(database).get(&key).or_else(|| self.log.published[database as usize].get(&key))
    }

    fn check_stock(&self) -> Result<(), String> {
        let mut expected: BTreeMap<ProductId, i64> =
            self.opening_stock.iter().map(|(id, pieces)| (*id, i64::from(*pieces))).collect();
        for adjustment in self.products.adjustments.values() {
            *expected.entry(adjustment.product_id).or_default() += i64::from(adjustment.delta);
        }
        for (id, decision) in &self.products.decisions {
            let order = self.orders.orders.get(id);
            hold!(order.is_some(), "a decision about {id}, which is not stored");
            let bits = id.uuid().as_u128();
            let event =
                |sequence| self.announced(Database::Products, (bits, sequence)).map(|event| event.event_type.as_ref());
            let announced = match decision {
                Decision::Reserved { lines } => {
                    for line in lines {
                        *expected.entry(line.product_id).or_default() -= i64::from(line.quantity);
                    }
                    let wanted = order.map(|order| merge_lines(&order.wanted_lines()));
                    hold!(wanted.as_ref() == Some(lines), "{id}: reserved {lines:?}, wanted {wanted:?}");
                    event(1) == Some(event_type::INVENTORY_RESERVED)
                }
                Decision::Rejected { .. } => event(1) == Some(event_type::INVENTORY_REJECTED),
                Decision::Released => {
                    hold!(
                        order.is_some_and(|order| order.status == OrderStatus::Cancelled),
                        "{id} is released and not cancelled"
                    );
                    let released = Some(event_type::INVENTORY_RELEASED);
                    event(1) == released || (event(1) == Some(event_type::INVENTORY_RESERVED) && event(2) == released)
                }
            };
            hold!(announced, "{id}: {decision:?} is neither pending nor published");
        }
        for (id, product) in &self.products.products {
            hold!(product.available >= 0, "{id}: {} pieces", product.available);
            hold!(
                expected.get(id) == Some(&i64::from(product.available)),
                "{id}: {} pieces, expected {:?} (opening + adjustments - reserved)",
                product.available,
                expected.get(id)
            );
            for sequence in 1..=product.event_sequence {
                let announced = self.announced(Database::Products, (id.uuid().as_u128(), sequence));
                hold!(announced.is_some(), "{id}: event {sequence} is neither pending nor published");
            }
        }
        Ok(())
    }

    fn check_acknowledged(&self) -> Result<(), String> {
        let mut first = BTreeSet::new();
        for (intent, id, replayed) in &self.acknowledged.placed {
            let wanted = &self.placements[*intent];
            let order = self.orders.orders.get(id);
            hold!(
                order.is_some_and(|order| order.customer_id == wanted.customer
                    && order.idempotency_key == wanted.key
                    && order.input_digest == wanted.digest),
                "{id} was acknowledged for {:?} and is {order:?}",
                wanted.key
            );
            hold!(*replayed || first.insert(*id), "{id} was new to two requests");
        }
        for intent in &self.acknowledged.key_reused {
            let wanted = &self.placements[*intent];
            let other = self.orders.orders.values().any(|order| {
                order.customer_id == wanted.customer
                    && order.idempotency_key == wanted.key
                    && order.input_digest != wanted.digest
            });
            hold!(other, "{:?} was refused as reused and is not", wanted.key);
        }
        for (id, to) in &self.acknowledged.moved {
            let moved = self
                .orders
                .orders
                .get(id)
                .is_some_and(|order| order.timeline.iter().filter(|entry| entry.status == *to).count() == 1);
            hold!(moved, "{id} was acknowledged as {to:?} and its timeline has no such entry");
        }
        for intent in &self.acknowledged.adjusted {
            let key = self.adjustments[*intent].adjustment.idempotency_key.as_ref();
            let stored = key.is_some_and(|key| self.products.adjustments.contains_key(key));
            hold!(stored, "{key:?} was acknowledged and is not stored");
        }
        Ok(())
    }

    /// Every event belongs to what is stored, and an id means one event.
    fn check_events(&mut self) -> Result<(), String> {
        for (database, event) in std::mem::take(&mut self.log.unchecked) {
            self.check_belongs(database, &event)?;
            let first = &self.log.published[database as usize][&event.identity];
            hold!(*first == event, "two events have the id {}", event.id());
        }
        for database in Database::BOTH {
            for event in self.pending(database).values() {
                self.check_belongs(database, event)?;
            }
        }
        for group in Group::BOTH {
            for place in self.places_of(group) {
                let (offset, end) = (self.stored_offset(group, place), self.log.end(place));
                hold!(offset <= end, "group {group:?} is at {offset} of {place:?}, which ends at {end}");
            }
        }
        Ok(())
    }

    fn check_belongs(&self, database: Database, event: &SharedEvent) -> Result<(), String> {
        let (bits, sequence) = event.identity;
        let uuid = uuid::Uuid::from_u128(bits);
        let belongs = match database {
            Database::Orders => self.orders.orders.get(&OrderId::from_uuid(uuid)).is_some_and(|order| {
                let entry = order.timeline.get(sequence as usize - 1);
                entry.is_some_and(|entry| entry.status.event_type() == event.event_type)
            }),
            Database::Products => {
                let product = self.products.products.get(&ProductId::from_uuid(uuid));
                product.is_some_and(|product| sequence <= product.event_sequence)
                    || self.products.decisions.contains_key(&OrderId::from_uuid(uuid))
            }
        };
        hold!(belongs, "event {} {} belongs to nothing stored", event.id(), event.event_type);
        Ok(())
    }

    /// Holds when nothing is in flight.
    pub fn check_settled(&self) -> Result<(), String> {
        for order in self.orders.orders.values() {
            let (id, status) = (order.id, order.status);
            hold!(status != OrderStatus::Pending, "{id} is still PENDING");
            let kept = matches!(status, OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered);
            let decision = self.products.decisions.get(&id);
            let reserved = matches!(decision, Some(Decision::Reserved { .. }));
            hold!(kept == reserved, "{id} ends as {status:?} with {decision:?}");
            hold!(decision.is_some(), "{id} ends as {status:?} without a decision");
        }
        for (number, intent) in self.placements.iter().enumerate() {
            hold!(intent.answered, "placement {number} was never answered");
        }
        for database in Database::BOTH {
            let left = self.pending(database).len();
            hold!(left == 0, "{left} events of {database:?} were never published");
        }
        for group in Group::BOTH {
            for place in self.places_of(group) {
                let (offset, end) = (self.stored_offset(group, place), self.log.end(place));
                hold!(offset == end, "group {group:?} ends at {offset} of {place:?}, which ends at {end}");
                let effects = self.effects.get(&(group as usize, place)).copied().unwrap_or(0);
                hold!(effects == end, "group {group:?} handled {effects} of {place:?}, which ends at {end}");
            }
        }
        self.check_stock_events()
    }

    /// Whoever follows `StockChanged` from the opening stock comes to the stored stock.
    fn check_stock_events(&self) -> Result<(), String> {
        let published = &self.log.published[Database::Products as usize];
        for (id, product) in &self.products.products {
            let mut followed = self.opening_stock[id];
            for sequence in 1..=product.event_sequence {
                let event = &published[&(id.uuid().as_u128(), sequence)];
                if event.event_type != event_type::STOCK_CHANGED {
                    continue;
                }
                let body: StockChanged = serde_json::from_str(&event.body).map_err(|error| error.to_string())?;
                hold!(body.previous == followed, "{id}: {body:?} follows {followed} pieces");
                followed = body.available;
            }
            hold!(followed == product.available, "{id}: events say {followed}, stored {}", product.available);
        }
        Ok(())
    }
}

/// From PENDING by the transition table, sequences from 1 without gaps, at most one verdict.
fn check_timeline(order: &Order) -> Result<(), String> {
    let timeline = &order.timeline;
    let legal = timeline.first().is_some_and(|entry| entry.status == OrderStatus::Pending)
        && timeline.windows(2).all(|pair| pair[0].status.successors().contains(&pair[1].status))
        && timeline.windows(2).all(|pair| pair[0].at <= pair[1].at)
        && timeline.iter().zip(1..).all(|(entry, sequence)| entry.sequence == sequence)
        && timeline.last().is_some_and(|entry| entry.status == order.status);
    let verdicts =
        timeline.iter().filter(|entry| matches!(entry.status, OrderStatus::Confirmed | OrderStatus::Rejected)).count();
    hold!(legal && verdicts <= 1, "{}: {:?} with {timeline:?}", order.id, order.status);
    Ok(())
}

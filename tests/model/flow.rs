//! Steps of the machinery behind the requests: relays that publish, consumers that turn events into effects.

use std::collections::{BTreeMap, VecDeque};

use souk::domain::events::{InventoryDecided, OrderChanged, PendingEvent, event_type};
use souk::domain::ids::OrderId;
use souk::domain::inventory::{InventoryRequest, WantedLine};
use souk::domain::orders::{OrderStatus, Verdict};
use souk::store::consumption::{Consumed, OffsetMove};

use crate::bugs::Bug;
use crate::databases::{Database, PendingEvents, Place, SharedEvent, StockRequest};
use crate::world::{Batch, BatchStage, Group, Position, World};

impl World {
    pub fn pending(&self, database: Database) -> &PendingEvents {
        match database {
            Database::Orders => &self.orders.pending,
            Database::Products => &self.products.pending,
        }
    }

    fn pending_mut(&mut self, database: Database) -> &mut PendingEvents {
        match database {
            Database::Orders => &mut self.orders.pending,
            Database::Products => &mut self.products.pending,
        }
    }

    /// The relay takes the commits that wait in its channel.
    pub fn relay_take(&mut self, process: usize, database: Database) {
        let channel = &mut self.processes[process].relays[database as usize].channel;
        let taken = channel.drain(..).flatten().collect();
        self.relay_hold(process, database, taken);
    }

    /// The relay reads some of what is pending, whoever committed it.
    pub fn relay_sweep(&mut self, process: usize, database: Database) {
        let limit = self.random.between(1, 6);
        let found = self.pending(database).values().take(limit).cloned().collect();
        self.relay_hold(process, database, found);
    }

    fn relay_hold(&mut self, process: usize, database: Database, mut events: Vec<SharedEvent>) {
        events.sort_by_key(|event| event.identity);
        let mut in_hand: BTreeMap<u128, VecDeque<SharedEvent>> = BTreeMap::new();
        for event in events {
            if self.bug == Some(Bug::RelayClearsBeforeAppend) {
                self.pending_mut(database).remove(&event.identity);
            }
            in_hand.entry(event.identity.0).or_default().push_back(event);
        }
        self.processes[process].relays[database as usize].in_hand = in_hand;
    }

    /// Appends the next event of some aggregate. When the log's answer is lost it will be appended again.
    pub fn relay_append(&mut self, process: usize, database: Database, heard: bool) {
        let relay = &mut self.processes[process].relays[database as usize];
        let aggregates: Vec<u128> = relay.in_hand.keys().copied().collect();
        let aggregate = aggregates[self.random.below(aggregates.len())];
        let Some(waiting) = relay.in_hand.get_mut(&aggregate) else { return };
        let Some(event) = waiting.front().cloned() else { return };
        if heard {
            waiting.pop_front();
            if waiting.is_empty() {
                relay.in_hand.remove(&aggregate);
            }
            relay.published.push(event.identity);
        }
        if self.log.published[database as usize].contains_key(&event.identity) {
            self.saw("an event was published twice");
        }
        self.note(|| format!("    {} {}", event.id(), event.event_type));
        self.log.append(database, event);
    }

    /// Forgets exactly what the log has taken from this relay.
    pub fn relay_clear(&mut self, process: usize, database: Database) {
        let published = std::mem::take(&mut self.processes[process].relays[database as usize].published);
        let bug = self.bug;
        let pending = self.pending_mut(database);
        match bug {
            Some(Bug::RelayClearsEverythingPending) => pending.clear(),
            Some(Bug::RelayClearsWholeAggregates) => {
                pending.retain(|(aggregate, _), _| !published.iter().any(|(done, _)| done == aggregate));
            }
            _ => pending.retain(|key, _| !published.contains(key)),
        }
    }

    /// Where a group goes on in a partition by the store of its domain.
    pub fn stored_offset(&self, group: Group, place: Place) -> i64 {
        let offsets = match group {
            Group::Inventory => &self.products.offsets,
            Group::Orders => &self.orders.offsets,
        };
        offsets.get(&place).copied().unwrap_or(0)
    }

    pub fn load_offsets(&mut self, process: usize, group: Group) {
        for partition in 0..self.log.partitions() {
            let place = (group.topic(), partition);
            let start = if self.bug == Some(Bug::StartsFromTheLogsCopy) {
                self.log.group_copies.get(&(group as usize, place)).copied().unwrap_or(0)
            } else {
                self.stored_offset(group, place)
            };
            let position = &mut self.processes[process].consumers[group as usize].positions[partition as usize];
            if *position == Position::Unloaded {
                *position = Position::At(start);
            }
        }
    }

    /// Copies the consumer's offsets to the log, for lag.
    pub fn copy_offsets(&mut self, process: usize, group: Group) {
        for (partition, position) in self.processes[process].consumers[group as usize].positions.iter().enumerate() {
            if let Position::At(offset) = position {
                let place = (group.topic(), partition as i32);
                self.log.group_copies.insert((group as usize, place), *offset);
            }
        }
    }

    /// The partitions of this consumer with records that it has not handled, with its offset in each.
    pub fn behind(&self, process: usize, group: Group) -> Vec<(Place, i64)> {
        let positions = self.processes[process].consumers[group as usize].positions.iter().enumerate();
        positions
            .filter_map(|(partition, position)| match position {
                Position::At(offset) => Some(((group.topic(), partition as i32), *offset)),
                _ => None,
            })
            .filter(|(place, offset)| *offset < self.log.end(*place))
            .collect()
    }

    /// Takes a batch from one or more partitions, whose records interleave anyhow.
    pub fn fetch(&mut self, process: usize, group: Group) {
        let mut behind = self.behind(process, group);
        while behind.len() > 1 && self.random.chance(40) {
            behind.swap_remove(self.random.below(behind.len()));
        }
        let mut moves = Vec::new();
        let mut streams: Vec<VecDeque<SharedEvent>> = Vec::new();
        for ((topic, partition), from) in behind {
            let to = (from + self.random.between(1, 5) as i64).min(self.log.end((topic, partition)));
            moves.push(OffsetMove { topic, partition, from, to });
            streams.push(self.log.read((topic, partition), from, to).iter().cloned().collect());
        }
        let mut records = Vec::new();
        while !streams.is_empty() {
            let next = self.random.below(streams.len());
            match streams[next].pop_front() {
                Some(record) => records.push(record),
                None => drop(streams.swap_remove(next)),
            }
        }
        let stale = self.bug == Some(Bug::StockReadOutsideTheTransaction);
        let stale_stock = stale.then(|| self.products.available());
        let batch = Batch { moves, records, stage: BatchStage::Fetched, stale_stock };
        self.processes[process].consumers[group as usize].in_hand = Some(batch);
    }

    /// Commits the batch in hand: effect, events and offsets together, by condition. Unheard, the consumer tries it
    /// again and finds the condition lost.
    pub fn consume(&mut self, process: usize, group: Group, heard: bool) {
        let Some(mut batch) = self.processes[process].consumers[group as usize].in_hand.take() else { return };
        let (moves, effect, next_stage): (&[OffsetMove], bool, _) = match (self.bug, batch.stage) {
            (Some(Bug::OffsetBeforeEffect), BatchStage::Fetched) => {
                (&batch.moves, false, Some(BatchStage::OffsetMoved))
            }
            (Some(Bug::OffsetAfterEffect), BatchStage::Fetched) => (&[], true, Some(BatchStage::EffectDone)),
            (_, BatchStage::Fetched) => (&batch.moves, true, None),
            (_, BatchStage::OffsetMoved) => (&[], true, None),
            (_, BatchStage::EffectDone) => (&batch.moves, false, None),
        };
        let consumed = match group {
            Group::Inventory => self.consume_order_events(&batch, moves, effect),
            Group::Orders => self.consume_inventory_events(&batch, moves, effect),
        };
        match consumed {
            Consumed::Lost => {
                self.saw("another owner had moved the offset");
                if self.bug != Some(Bug::LostConditionNotReloaded) {
                    self.set_positions(process, group, &batch, |_| Position::Unloaded);
                }
                return;
            }
            Consumed::Done(events) => {
                if effect {
                    self.count_effects(group, &batch);
                }
                if heard {
                    self.committed(process, group.database(), events);
                }
            }
        }
        if let Some(stage) = next_stage {
            batch.stage = stage;
        } else if heard {
            self.set_positions(process, group, &batch, |step| Position::At(step.to));
            return;
        } else {
            self.saw("a commit's outcome was unknown to a consumer");
        }
        self.processes[process].consumers[group as usize].in_hand = Some(batch);
    }

    /// Sets what the consumer knows of the batch's partitions, as far as it still owns them.
    fn set_positions(&mut self, process: usize, group: Group, batch: &Batch, to: impl Fn(&OffsetMove) -> Position) {
        let positions = &mut self.processes[process].consumers[group as usize].positions;
        for step in &batch.moves {
            let position = &mut positions[step.partition as usize];
            if *position != Position::NotOwned {
                *position = to(step);
            }
        }
    }

    /// Each record of a partition has its effect in a group once, in order.
    fn count_effects(&mut self, group: Group, batch: &Batch) {
        for step in &batch.moves {
            let done = self.effects.entry((group as usize, (step.topic, step.partition))).or_default();
            if *done != step.from {
                self.violation = Some(format!(
                    "group {group:?} handled {} of partition {} from {} to {} after {done}",
                    step.topic, step.partition, step.from, step.to
                ));
            }
            *done = step.to;
        }
    }

    fn consume_order_events(
        &mut self,
        batch: &Batch,
        moves: &[OffsetMove],
        effect: bool,
    ) -> Consumed<Vec<SharedEvent>> {
        let records = if effect { batch.records.as_slice() } else { &[] };
        let requests: Vec<StockRequest> = records.iter().filter_map(|record| stock_request(record)).collect();
        let mut situations = Vec::new();
        for StockRequest { request, .. } in &requests {
            let known = self.products.decisions.contains_key(&request.order_id());
            match (request, known) {
                (InventoryRequest::Placed { .. }, true) => situations.push("a decided order was placed again"),
                (InventoryRequest::Cancelled { .. }, false) => situations.push("an undecided order was cancelled"),
                _ => {}
            }
        }
        let (now, stale) = (self.now(), batch.stale_stock.as_ref());
        let consumed = self.products.decide_inventory(&requests, stale, moves, now, self.bug);
        if let Consumed::Done(events) = &consumed {
            situations.extend(events.iter().filter_map(|event| match &*event.event_type {
                event_type::INVENTORY_RESERVED => Some("stock was reserved"),
                event_type::INVENTORY_REJECTED => Some("an order was rejected"),
                event_type::INVENTORY_RELEASED if event.sequence > 1 => Some("stock was released"),
                event_type::INVENTORY_RELEASED => Some("a cancellation overtook its placement"),
                _ => None,
            }));
            situations.into_iter().for_each(|situation| self.saw(situation));
        }
        consumed
    }

    fn consume_inventory_events(
        &mut self,
        batch: &Batch,
        moves: &[OffsetMove],
        effect: bool,
    ) -> Consumed<Vec<SharedEvent>> {
        let records = if effect { batch.records.as_slice() } else { &[] };
        let verdicts: Vec<(OrderId, Verdict)> = records.iter().filter_map(|record| verdict(record)).collect();
        let cancelled = |(id, _): &(OrderId, Verdict)| {
            self.orders.orders.get(id).is_some_and(|order| order.status == OrderStatus::Cancelled)
        };
        let after_cancel = verdicts.iter().any(cancelled);
        match self.orders.apply_verdicts(&verdicts, moves, self.now(), self.bug) {
            Consumed::Lost => Consumed::Lost,
            Consumed::Done((events, dropped)) => {
                if after_cancel {
                    self.saw("a verdict came after the cancellation");
                }
                if dropped > 0 {
                    self.saw("a verdict was dropped");
                }
                Consumed::Done(events)
            }
        }
    }

    /// The log delivers some old record once more.
    pub fn redeliver(&mut self) {
        let records: Vec<&SharedEvent> = self.log.places().flat_map(|(_, records)| records).collect();
        let event = records[self.random.below(records.len())].clone();
        let from = match event.source.as_ref() {
            souk::domain::events::source::ORDERS => Database::Orders,
            _ => Database::Products,
        };
        self.saw("an old event was delivered again");
        self.note(|| format!("    {} {}", event.id(), event.event_type));
        self.log.append(from, event);
    }
}

/// What group `inventory` makes of a record of `order-events`.
fn stock_request(event: &PendingEvent) -> Option<StockRequest> {
    let cancelled = match event.event_type.as_ref() {
        event_type::ORDER_PLACED => false,
        event_type::ORDER_CANCELLED => true,
        _ => return None,
    };
    let body: OrderChanged = serde_json::from_str(&event.body).expect("an event's body can be read back");
    let wanted =
        |line: &souk::domain::orders::OrderLine| WantedLine { product_id: line.product_id, quantity: line.quantity };
    let lines: Vec<WantedLine> = body.lines.iter().map(wanted).collect();
    let order_id = body.order_id;
    let request = if cancelled {
        InventoryRequest::Cancelled { order_id }
    } else {
        InventoryRequest::Placed { order_id, lines: lines.clone() }
    };
    Some(StockRequest { request, event_lines: lines })
}

/// What group `orders` makes of a record of `inventory-events`.
fn verdict(event: &PendingEvent) -> Option<(OrderId, Verdict)> {
    if event.event_type == event_type::STOCK_CHANGED {
        return None;
    }
    let body: InventoryDecided = serde_json::from_str(&event.body).expect("an event's body can be read back");
    Some((body.order_id, Verdict::from_event(&event.event_type, body)?))
}

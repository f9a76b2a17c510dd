//! What survives a crash: the two domains' databases, each method one transaction with the contract of its port in
//! `souk::store`, and the event log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::rc::Rc;

use souk::domain::events::{PendingEvent, Topic};
use souk::domain::ids::{OrderId, ProductId, TypedId};
use souk::domain::inventory::{
    Decision, InventoryChanges, InventoryRequest, InventoryState, WantedLine, decide, merge_lines, touched,
};
use souk::domain::orders::{Order, OrderStatus, Verdict};
use souk::domain::products::{Product, ProductEdit};
use souk::domain::time::Timestamp;
use souk::store::consumption::{Consumed, OffsetMove};
use souk::store::orders::{AdvanceOrder, InsertOrder};
use souk::store::products::{AdjustStock, StockAdjustment};

use crate::bugs::Bug;

/// An event's id within one database: the aggregate's bits and the sequence.
pub type EventIdentity = (u128, i64);
/// A partition of a topic.
pub type Place = (Topic, i32);
pub type PendingEvents = BTreeMap<EventIdentity, SharedEvent>;
pub type Offsets = BTreeMap<Place, i64>;

/// Which domain's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Orders,
    Products,
}

impl Database {
    pub const BOTH: [Self; 2] = [Self::Orders, Self::Products];
}

/// An event that was committed, with its id as numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct CommittedEvent {
    pub identity: EventIdentity,
    event: PendingEvent,
}

impl Deref for CommittedEvent {
    type Target = PendingEvent;
    fn deref(&self) -> &PendingEvent {
        &self.event
    }
}

pub type SharedEvent = Rc<CommittedEvent>;

fn identity_of(event: &PendingEvent) -> EventIdentity {
    let order = event.aggregate.parse::<OrderId>().map(TypedId::uuid);
    let aggregate = order.or_else(|_| event.aggregate.parse::<ProductId>().map(TypedId::uuid));
    (aggregate.expect("the model's aggregates are orders and products").as_u128(), event.sequence)
}

/// Makes an event part of the commit that is being made.
fn save_event(pending: &mut PendingEvents, event: PendingEvent, bug: Option<Bug>) -> SharedEvent {
    let event = Rc::new(CommittedEvent { identity: identity_of(&event), event });
    if bug != Some(Bug::EventOutsideTheCommit) {
        pending.insert(event.identity, event.clone());
    }
    event
}

/// Whether every offset was the expected one; only then all of them have moved.
fn move_offsets(stored: &mut Offsets, moves: &[OffsetMove], bug: Option<Bug>) -> bool {
    let expected = |step: &OffsetMove| stored.get(&(step.topic, step.partition)).copied().unwrap_or(0) == step.from;
    if bug != Some(Bug::UnconditionalOffsetMove) && !moves.iter().all(expected) {
        return false;
    }
    for step in moves {
        stored.insert((step.topic, step.partition), step.to);
    }
    true
}

/// Database of the orders domain, with the progress of group `orders`.
#[derive(Default)]
pub struct OrdersDatabase {
    pub orders: BTreeMap<OrderId, Order>,
    pub pending: PendingEvents,
    pub offsets: Offsets,
}

impl OrdersDatabase {
    /// `OrderStore::insert_orders`, with the events that were committed.
    pub fn insert_orders(
        &mut self,
        batch: Vec<(Order, PendingEvent)>,
        bug: Option<Bug>,
    ) -> (Vec<InsertOrder>, Vec<SharedEvent>) {
        let before: BTreeSet<OrderId> = self.orders.keys().copied().collect();
        let mut committed = Vec::new();
        let mut outcomes = Vec::new();
        for (order, event) in batch {
            let same_key = self.order_by_key(&order).filter(|known| match bug {
                Some(Bug::KeyIgnored) => false,
                Some(Bug::KeyNotCheckedInsideTheBatch) => before.contains(&known.id),
                _ => true,
            });
            let number_taken = self.orders.values().any(|known| known.number == order.number || known.id == order.id);
            outcomes.push(if let Some(known) = same_key {
                InsertOrder::Replayed(Box::new(known.clone()))
            } else if number_taken {
                InsertOrder::NumberTaken
            } else {
                committed.push(save_event(&mut self.pending, event, bug));
                self.orders.insert(order.id, order);
                InsertOrder::Inserted
            });
        }
        (outcomes, committed)
    }

    /// `OrderStore::order_by_key` with this order's customer and key.
    pub fn order_by_key(&self, order: &Order) -> Option<&Order> {
        self.orders
            .values()
            .find(|known| known.customer_id == order.customer_id && known.idempotency_key == order.idempotency_key)
    }

    /// `OrderStore::advance_order` of an order of anybody.
    pub fn advance_order(
        &mut self,
        id: OrderId,
        to: OrderStatus,
        at: Timestamp,
        bug: Option<Bug>,
    ) -> (AdvanceOrder, Option<SharedEvent>) {
        let Some(order) = self.orders.get_mut(&id) else { return (AdvanceOrder::NotFound, None) };
        match order.advance(to, None, at) {
            Ok(event) => {
                let event = save_event(&mut self.pending, event, bug);
                (AdvanceOrder::Advanced(Box::new(order.clone())), Some(event))
            }
            Err(illegal) => (AdvanceOrder::Illegal(illegal), None),
        }
    }

    /// Writes an order as it was read before; only a planted bug does that.
    pub fn overwrite(&mut self, order: Order, event: PendingEvent) -> SharedEvent {
        self.orders.insert(order.id, order);
        save_event(&mut self.pending, event, None)
    }

    /// `OrderStore::apply_verdicts`: the committed events and how many verdicts came too late.
    pub fn apply_verdicts(
        &mut self,
        verdicts: &[(OrderId, Verdict)],
        moves: &[OffsetMove],
        at: Timestamp,
        bug: Option<Bug>,
    ) -> Consumed<(Vec<SharedEvent>, usize)> {
        if !move_offsets(&mut self.offsets, moves, bug) {
            return Consumed::Lost;
        }
        let mut committed = Vec::new();
        for (id, verdict) in verdicts {
            let Some(order) = self.orders.get_mut(id) else { continue };
            if bug == Some(Bug::VerdictOnCancelledOrder) && order.status == OrderStatus::Cancelled {
                order.status = OrderStatus::Pending;
            }
            if let Some(event) = order.apply_verdict(verdict, at) {
                committed.push(save_event(&mut self.pending, event, bug));
            }
        }
        let dropped = verdicts.len() - committed.len();
        Consumed::Done((committed, dropped))
    }
}

/// A fact that stock has to answer, with the lines that its event carries.
#[derive(Debug, Clone)]
pub struct StockRequest {
    pub request: InventoryRequest,
    pub event_lines: Vec<WantedLine>,
}

/// Database of the products domain, with the progress of group `inventory`.
#[derive(Default)]
pub struct ProductsDatabase {
    pub products: BTreeMap<ProductId, Product>,
    pub decisions: BTreeMap<OrderId, Decision>,
    /// By idempotency key.
    pub adjustments: BTreeMap<String, StockAdjustment>,
    pub pending: PendingEvents,
    pub offsets: Offsets,
}

impl ProductsDatabase {
    pub fn insert_product(&mut self, product: Product, event: PendingEvent) {
        save_event(&mut self.pending, event, None);
        self.products.insert(product.id, product);
    }

    /// `ProductStore::edit_product`, archiving whatever version there is.
    pub fn archive(&mut self, id: ProductId, at: Timestamp, bug: Option<Bug>) -> SharedEvent {
        let product = self.products.get_mut(&id).expect("the model archives products that exist");
        let (edited, event) = product.edited(ProductEdit { archive: true, ..ProductEdit::default() }, at);
        *product = edited;
        save_event(&mut self.pending, event, bug)
    }

    /// `ProductStore::adjust_stock`; every adjustment of the model has a key.
    pub fn adjust_stock(
        &mut self,
        adjustment: &StockAdjustment,
        at: Timestamp,
        bug: Option<Bug>,
    ) -> (AdjustStock, Option<SharedEvent>) {
        let Some(product) = self.products.get_mut(&adjustment.product_id) else {
            return (AdjustStock::NotFound, None);
        };
        let key = adjustment.idempotency_key.clone().expect("every adjustment of the model has a key");
        match self.adjustments.get(&key) {
            Some(_) if bug == Some(Bug::AdjustmentNotDeduplicated) => {}
            Some(known) if known == adjustment => return (AdjustStock::Replayed(product.clone()), None),
            Some(_) => return (AdjustStock::KeyReused, None),
            None => {}
        }
        match product.stock_adjusted(adjustment.delta, at) {
            Ok((adjusted, event)) => {
                *product = adjusted.clone();
                self.adjustments.insert(key, adjustment.clone());
                let event = event.map(|event| save_event(&mut self.pending, event, bug));
                (AdjustStock::Adjusted(adjusted), event)
            }
            Err(refused) => (AdjustStock::OutOfRange(refused), None),
        }
    }

    pub fn available(&self) -> BTreeMap<ProductId, i32> {
        self.products.iter().map(|(id, product)| (*id, product.available)).collect()
    }

    /// `ProductStore::decide_inventory`. `stale_stock` is what a planted bug read before the transaction.
    pub fn decide_inventory(
        &mut self,
        requests: &[StockRequest],
        stale_stock: Option<&BTreeMap<ProductId, i32>>,
        moves: &[OffsetMove],
        at: Timestamp,
        bug: Option<Bug>,
    ) -> Consumed<Vec<SharedEvent>> {
        if !move_offsets(&mut self.offsets, moves, bug) {
            return Consumed::Lost;
        }
        // `decide` itself deduplicates inside a batch: where that is to fail it sees one request at a time.
        let together = if bug.is_some() { 1 } else { requests.len().max(1) };
        let mut committed = Vec::new();
        for part in requests.chunks(together) {
            let mut known: Vec<InventoryRequest> = part.iter().map(|one| one.request.clone()).collect();
            let mut state = self.load(&known, stale_stock, if bug.is_some() { part } else { &[] });
            if let Some(bug) = bug {
                forget(bug, &mut known, &mut state, part);
            }
            let mut changes = decide(state.clone(), &known, at);
            if bug == Some(Bug::PartialReservation) {
                take_what_there_is(&mut changes, &state, part);
            }
            committed.extend(self.write(changes, bug));
        }
        Consumed::Done(committed)
    }

    /// What the contract of `decide` asks for: the products that the requests name or that stored reservations of
    /// the orders hold, and the orders' decisions. The products of the lines of `further` only serve planted bugs.
    fn load(
        &self,
        requests: &[InventoryRequest],
        stale_stock: Option<&BTreeMap<ProductId, i32>>,
        further: &[StockRequest],
    ) -> InventoryState {
        let (mut products, orders) = touched(requests);
        products.extend(further.iter().flat_map(|one| &one.event_lines).map(|line| line.product_id));
        let decisions: HashMap<OrderId, Decision> =
            orders.iter().filter_map(|id| Some((*id, self.decisions.get(id)?.clone()))).collect();
        for decision in decisions.values() {
            if let Decision::Reserved { lines } = decision {
                products.extend(lines.iter().map(|line| line.product_id));
            }
        }
        let stock = products.iter().filter_map(|id| {
            let mut stock = self.products.get(id)?.stock();
            if let Some(stale) = stale_stock {
                stock.available = stale[id];
            }
            Some((*id, stock))
        });
        InventoryState { stock: stock.collect(), decisions }
    }

    fn write(&mut self, changes: InventoryChanges, bug: Option<Bug>) -> Vec<SharedEvent> {
        for (id, stock) in changes.stock {
            let product = self.products.get_mut(&id).expect("only stock of products that exist changes");
            product.available = stock.available;
            product.event_sequence = stock.event_sequence;
        }
        self.decisions.extend(changes.decisions);
        changes.events.into_iter().map(|event| save_event(&mut self.pending, event, bug)).collect()
    }
}

/// Distorts what `decide` is given as the bug would; `part` is one request.
fn forget(bug: Bug, requests: &mut Vec<InventoryRequest>, state: &mut InventoryState, part: &[StockRequest]) {
    for StockRequest { request, event_lines } in part {
        let order_id = request.order_id();
        let cancelled = matches!(request, InventoryRequest::Cancelled { .. });
        let known = state.decisions.get(&order_id);
        let as_if_reserved = match (bug, known) {
            (Bug::CancelledNotDeduplicated, Some(Decision::Released)) => cancelled,
            (Bug::ReleaseWithoutStoredDecision, known) => cancelled && known != Some(&Decision::Released),
            _ => false,
        };
        if bug == Bug::PlacedNotDeduplicated && !cancelled {
            state.decisions.remove(&order_id);
        } else if bug == Bug::LatePlacementReserves && cancelled && known.is_none() {
            requests.clear();
        } else if as_if_reserved {
            state.decisions.insert(order_id, Decision::Reserved { lines: merge_lines(event_lines) });
        }
    }
}

/// Takes the lines of a rejected order that are not short all the same.
fn take_what_there_is(changes: &mut InventoryChanges, state: &InventoryState, part: &[StockRequest]) {
    if !changes.decisions.values().any(|decision| matches!(decision, Decision::Rejected { .. })) {
        return;
    }
    for line in part.iter().flat_map(|one| merge_lines(&one.event_lines)) {
        if let Some(mut stock) = state.stock.get(&line.product_id).copied()
            && !stock.archived
            && i64::from(stock.available) >= i64::from(line.quantity)
        {
            stock.available -= line.quantity as i32;
            changes.stock.insert(line.product_id, stock);
        }
    }
}

/// The event log: what is appended stays.
pub struct EventLog {
    partitions: i32,
    records: BTreeMap<Place, Vec<SharedEvent>>,
    /// Copies of the groups' offsets, for lag only.
    pub group_copies: BTreeMap<(usize, Place), i64>,
    /// By database: every event that has been published, as it was the first time.
    pub published: [HashMap<EventIdentity, SharedEvent>; 2],
    /// Appended since the invariants were last checked.
    pub unchecked: Vec<(Database, SharedEvent)>,
}

impl EventLog {
    pub fn new(partitions: i32) -> Self {
        Self {
            partitions,
            records: BTreeMap::new(),
            group_copies: BTreeMap::new(),
            published: Default::default(),
            unchecked: Vec::new(),
        }
    }

    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Appends at the end of the key's partition.
    pub fn append(&mut self, from: Database, event: SharedEvent) -> Place {
        let hash = event
            .key
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let place = (event.topic, ((hash >> 32) % self.partitions as u64) as i32);
        self.published[from as usize].entry(event.identity).or_insert_with(|| event.clone());
        self.unchecked.push((from, event.clone()));
        self.records.entry(place).or_default().push(event);
        place
    }

    /// The offset that the next record of the partition gets.
    pub fn end(&self, place: Place) -> i64 {
        self.records.get(&place).map_or(0, |records| records.len() as i64)
    }

    pub fn read(&self, place: Place, from: i64, to: i64) -> &[SharedEvent] {
        self.records.get(&place).map_or(&[], |records| &records[from as usize..to as usize])
    }

    pub fn places(&self) -> impl Iterator<Item = (&Place, &Vec<SharedEvent>)> {
        self.records.iter()
    }
}

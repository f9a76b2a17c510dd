//! The model's world: databases and log that survive everything, processes that forget when they crash, and the
//! people outside who remember what they were told.

use std::collections::{BTreeMap, VecDeque};

use souk::domain::events::{PendingEvent, Topic};
use souk::domain::ids::{OrderId, ProductId, TypedId, UserId};
use souk::domain::money::{Currency, Money};
use souk::domain::orders::{InputDigest, Order, OrderLine, OrderStatus};
use souk::domain::products::NewProduct;
use souk::domain::time::Timestamp;
use souk::store::consumption::OffsetMove;
use souk::store::products::StockAdjustment;
use uuid::Uuid;

use crate::bugs::Bug;
use crate::databases::{Database, EventLog, OrdersDatabase, Place, ProductsDatabase, SharedEvent};
use crate::random::Random;

/// A consumer group of the order flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Inventory,
    Orders,
}

impl Group {
    pub const BOTH: [Self; 2] = [Self::Inventory, Self::Orders];

    pub fn topic(self) -> Topic {
        match self {
            Self::Inventory => Topic::OrderEvents,
            Self::Orders => Topic::InventoryEvents,
        }
    }

    /// Where its offsets and effects are stored.
    pub fn database(self) -> Database {
        match self {
            Self::Inventory => Database::Products,
            Self::Orders => Database::Orders,
        }
    }
}

/// What a client is told.
#[derive(Debug, Clone)]
pub enum Reply {
    Placed { intent: usize, order: OrderId, replayed: bool },
    KeyReused { intent: usize },
    PlacementFailed { intent: usize },
    Moved { order: OrderId, to: OrderStatus },
    Adjusted { intent: usize, refused: bool },
}

/// An order that waits for its commit, with the request that it answers.
#[derive(Debug, Clone)]
pub struct Placement {
    pub intent: usize,
    pub order: Order,
    pub event: PendingEvent,
}

/// How far the order writer is with the batch in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriterStage {
    #[default]
    Taken,
    /// The commit's outcome is unknown.
    Unknown,
}

/// The order writer, and what its process still has to answer.
#[derive(Default)]
pub struct Writer {
    pub queue: VecDeque<Placement>,
    pub batch: Vec<Placement>,
    pub stage: WriterStage,
    pub replies: VecDeque<Reply>,
    /// Orders moved on in memory and not yet written: only a planted bug has any.
    pub stale_moves: VecDeque<(Order, PendingEvent)>,
}

/// Commits that wait for their relay; what does not fit is left to a sweep.
pub const RELAY_CHANNEL: usize = 3;

/// Publishes the pending events of one database.
#[derive(Default)]
pub struct Relay {
    pub channel: VecDeque<Vec<SharedEvent>>,
    /// Still to be appended, by aggregate in sequence.
    pub in_hand: BTreeMap<u128, VecDeque<SharedEvent>>,
    /// Appended and still to be cleared.
    pub published: Vec<(u128, i64)>,
}

impl Relay {
    pub fn is_idle(&self) -> bool {
        self.in_hand.is_empty() && self.published.is_empty()
    }
}

/// What a consumer knows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    NotOwned,
    /// Owned; the stored offset is not loaded yet.
    Unloaded,
    At(i64),
}

/// Which half of a commit that a planted bug tears in two is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchStage {
    Fetched,
    OffsetMoved,
    EffectDone,
}

#[derive(Debug, Clone)]
pub struct Batch {
    pub moves: Vec<OffsetMove>,
    /// In the order of each partition; partitions interleave.
    pub records: Vec<SharedEvent>,
    pub stage: BatchStage,
    /// Read when the batch was fetched; only a planted bug uses it.
    pub stale_stock: Option<BTreeMap<ProductId, i32>>,
}

pub struct Consumer {
    /// By partition.
    pub positions: Vec<Position>,
    pub in_hand: Option<Batch>,
}

/// A process: everything in it is lost when it crashes.
pub struct Process {
    pub up: bool,
    pub writer: Writer,
    /// By database.
    pub relays: [Relay; 2],
    /// By group.
    pub consumers: [Consumer; 2],
}

impl Process {
    pub fn start(partitions: i32) -> Self {
        let consumer = || Consumer { positions: vec![Position::NotOwned; partitions as usize], in_hand: None };
        Self { up: true, writer: Writer::default(), relays: Default::default(), consumers: [consumer(), consumer()] }
    }
}

/// An order that a client wants, however often it has to ask.
pub struct PlacementIntent {
    pub customer: UserId,
    pub key: String,
    pub lines: Vec<OrderLine>,
    pub digest: InputDigest,
    pub attempts: usize,
    pub answered: bool,
}

pub struct AdjustmentIntent {
    pub adjustment: StockAdjustment,
    pub attempts: usize,
    pub answered: bool,
}

/// What was acknowledged to people: it must stay true.
#[derive(Default)]
pub struct Acknowledged {
    pub placed: Vec<(usize, OrderId, bool)>,
    pub key_reused: Vec<usize>,
    pub moved: Vec<(OrderId, OrderStatus)>,
    pub adjusted: Vec<usize>,
}

/// How likely each kind of step is, drawn anew for each seed so that seeds differ in character.
pub struct Weights {
    pub client: u32,
    pub writer: u32,
    pub people: u32,
    pub relay: u32,
    pub sweep: u32,
    pub consumer: u32,
    pub rebalance: u32,
    pub unheard: u32,
    pub redeliver: u32,
    pub crash: u32,
}

impl Weights {
    fn draw(random: &mut Random) -> Self {
        let mut weight = |low: usize, high: usize| random.between(low, high) as u32;
        Self {
            client: weight(1, 20),
            writer: weight(1, 60),
            people: weight(1, 40),
            relay: weight(1, 80),
            sweep: weight(0, 10),
            consumer: weight(1, 80),
            rebalance: weight(1, 4),
            unheard: weight(0, 8),
            redeliver: weight(0, 4),
            crash: weight(0, 3),
        }
    }
}

pub struct World {
    pub bug: Option<Bug>,
    pub random: Random,
    pub weights: Weights,
    /// Counts the steps; the model's clock.
    pub clock: i64,

    pub orders: OrdersDatabase,
    pub products: ProductsDatabase,
    pub log: EventLog,
    /// Commits that are still on their way to the orders database, whatever became of who sent them.
    pub late_commits: Vec<Vec<Placement>>,

    pub processes: Vec<Process>,

    pub placements: Vec<PlacementIntent>,
    pub adjustments: Vec<AdjustmentIntent>,
    /// How often people still move an order on.
    pub moves_left: usize,
    pub archive_left: bool,
    pub acknowledged: Acknowledged,

    pub opening_stock: BTreeMap<ProductId, i32>,
    /// How far each group's effects have come, counted when they happen.
    pub effects: BTreeMap<(usize, Place), i64>,
    /// What the invariants cannot see in a state, noticed when it happened.
    pub violation: Option<String>,
    /// How often each situation that the model is there for came up.
    pub situations: BTreeMap<&'static str, u64>,
    /// The steps so far with what came of them, if somebody wants to read them.
    pub trace: Option<Vec<String>>,
    ids_given: u64,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let partitions = random.between(1, 3) as i32;
        let processes = random.between(1, 2);
        let weights = Weights::draw(&mut random);
        let mut world = Self {
            bug,
            weights,
            clock: 0,
            orders: OrdersDatabase::default(),
            products: ProductsDatabase::default(),
            log: EventLog::new(partitions),
            late_commits: Vec::new(),
            processes: (0..processes).map(|_| Process::start(partitions)).collect(),
            placements: Vec::new(),
            adjustments: Vec::new(),
            moves_left: random.between(3, 14),
            archive_left: random.chance(15),
            acknowledged: Acknowledged::default(),
            opening_stock: BTreeMap::new(),
            effects: BTreeMap::new(),
            violation: None,
            situations: BTreeMap::new(),
            trace: traced.then(Vec::new),
            ids_given: 0,
            random,
        };
        world.stock_the_shop();
        world.invent_intents();
        world
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock)
    }

    /// The next id, spread over the partitions.
    pub fn next_id(&mut self) -> Uuid {
        self.ids_given += 1;
        Uuid::from_u64_pair(self.ids_given, self.random.next())
    }

    pub fn saw(&mut self, situation: &'static str) {
        *self.situations.entry(situation).or_default() += 1;
        self.note(|| format!("    {situation}"));
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    pub fn currency() -> Currency {
        "EUR".parse().expect("EUR is a currency")
    }

    fn stock_the_shop(&mut self) {
        for number in 0..self.random.between(1, 3) {
            let new = NewProduct {
                sku: format!("SKU-{number}"),
                name: "Brass Lamp".into(),
                description: String::new(),
                category: "Lighting".into(),
                price: Money::new(100, Self::currency()),
                available: self.random.below(16) as i32,
            };
            let id = ProductId::from_uuid(self.next_id());
            let (product, event) = new.create(id, self.now()).expect("the model's products are valid");
            self.opening_stock.insert(id, product.available);
            self.products.insert_product(product, event);
        }
    }

    fn invent_intents(&mut self) {
        for number in 0..self.random.between(2, 8) {
            let mut intent = PlacementIntent {
                customer: UserId::from_uuid(self.next_id()),
                key: format!("key-{number}"),
                lines: self.invent_lines(),
                digest: InputDigest([number as u8; 32]),
                attempts: 0,
                answered: false,
            };
            if number > 0 && self.random.chance(30) {
                let other = &self.placements[number - 1];
                intent.key.clone_from(&other.key);
                // The same key of another customer is another key.
                if self.random.chance(60) {
                    intent.customer = other.customer;
                }
            }
            self.placements.push(intent);
        }
        let products: Vec<ProductId> = self.products.products.keys().copied().collect();
        for number in 0..self.random.below(5) {
            let adjustment = StockAdjustment {
                product_id: products[self.random.below(products.len())],
                delta: self.random.below(9) as i32 - 4,
                reason: String::new(),
                idempotency_key: Some(format!("adjustment-{number}")),
            };
            self.adjustments.push(AdjustmentIntent { adjustment, attempts: 0, answered: false });
        }
    }

    fn invent_lines(&mut self) -> Vec<OrderLine> {
        let products: Vec<(ProductId, String)> =
            self.products.products.values().map(|product| (product.id, product.sku.clone())).collect();
        let line = |world: &mut Self| {
            let (product_id, sku) = products[world.random.below(products.len())].clone();
            OrderLine {
                product_id,
                sku,
                name: "Brass Lamp".into(),
                category: "Lighting".into(),
                unit_price: Money::new(100, Self::currency()),
                quantity: world.random.between(1, 4) as u32,
            }
        };
        (0..self.random.between(1, 3)).map(|_| line(self)).collect()
    }
}

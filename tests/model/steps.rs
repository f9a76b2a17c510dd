//! Every step that the world can take: which are possible now, and taking one. A crash fits between any two.

use souk::domain::orders::{Order, OrderStatus};

use crate::bugs::Bug;
use crate::databases::{Database, Place};
use crate::requests::Fate;
use crate::world::{Group, Position, Process, Relay, World, Writer, WriterStage};

/// The part of a process that panics and is restarted alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Writer,
    Relay(Database),
    Consumer(Group),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    SendPlacement { process: usize, intent: usize },
    TakeBatch { process: usize },
    CommitBatch { process: usize },
    CommitBatchUnheard { process: usize, fate: Fate },
    LookUpBatch { process: usize },
    LandLateCommit,
    Answer { process: usize },
    MoveOrder { process: usize },
    WriteStaleMove { process: usize },
    AdjustStock { process: usize, intent: usize },
    ArchiveProduct { process: usize },
    RelayTake { process: usize, database: Database },
    RelaySweep { process: usize, database: Database },
    RelayAppend { process: usize, database: Database, heard: bool },
    RelayClear { process: usize, database: Database },
    Assign { process: usize, group: Group, partition: i32 },
    Revoke { process: usize, group: Group, partition: i32 },
    LoadOffsets { process: usize, group: Group },
    Fetch { process: usize, group: Group },
    Consume { process: usize, group: Group, heard: bool },
    CopyOffsets { process: usize, group: Group },
    Redeliver,
    Panic { process: usize, part: Part },
    Crash { process: usize },
    Restart { process: usize },
}

/// Whether the world is still being disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Disturbed,
    /// Nothing new, no failures: everything in flight comes to its end.
    Settling,
}

/// Requests that one intent makes while the world is disturbed, answered or not.
const ATTEMPTS: usize = 4;

impl World {
    /// The steps that are possible now, each with its weight.
    pub fn possible(&self, phase: Phase, steps: &mut Vec<(u32, Step)>) {
        steps.clear();
        let disturbed = phase == Phase::Disturbed;
        for (number, process) in self.processes.iter().enumerate() {
            if process.up {
                self.possible_requests(number, phase, steps);
                self.possible_writing(number, disturbed, steps);
                for database in Database::BOTH {
                    self.possible_relaying(number, database, disturbed, steps);
                }
                for group in Group::BOTH {
                    self.possible_consuming(number, group, disturbed, steps);
                }
                if disturbed {
                    steps.push((self.weights.crash, Step::Crash { process: number }));
                }
            } else {
                steps.push((5, Step::Restart { process: number }));
            }
        }
        if !self.late_commits.is_empty() {
            steps.push((5, Step::LandLateCommit));
        }
        if disturbed && self.log.places().next().is_some() {
            steps.push((self.weights.redeliver, Step::Redeliver));
        }
    }

    fn possible_requests(&self, process: usize, phase: Phase, steps: &mut Vec<(u32, Step)>) {
        let client = self.weights.client;
        for (intent, placement) in self.placements.iter().enumerate() {
            let possible = match phase {
                Phase::Disturbed => placement.attempts < ATTEMPTS,
                Phase::Settling => !placement.answered && !self.placement_in_flight(intent),
            };
            if possible {
                let first = placement.attempts == 0;
                steps.push((if first { client } else { client.div_ceil(4) }, Step::SendPlacement { process, intent }));
            }
        }
        for (intent, adjustment) in self.adjustments.iter().enumerate() {
            let possible = match phase {
                Phase::Disturbed => adjustment.attempts < ATTEMPTS,
                Phase::Settling => !adjustment.answered && !self.adjustment_in_flight(intent),
            };
            if possible {
                steps.push((self.weights.people.div_ceil(2), Step::AdjustStock { process, intent }));
            }
        }
        if phase == Phase::Disturbed {
            if self.moves_left > 0 && !self.orders.orders.is_empty() {
                // Moves are few: most are kept for orders that have come to a verdict.
                let goes_out = |order: &Order| matches!(order.status, OrderStatus::Confirmed | OrderStatus::Shipped);
                let ready = self.orders.orders.values().any(goes_out);
                let weight = if ready { self.weights.people } else { self.weights.people.div_ceil(8) };
                steps.push((weight, Step::MoveOrder { process }));
            }
            if self.archive_left {
                steps.push((1, Step::ArchiveProduct { process }));
            }
        }
    }

    fn possible_writing(&self, process: usize, disturbed: bool, steps: &mut Vec<(u32, Step)>) {
        let writer = &self.processes[process].writer;
        let weight = self.weights.writer;
        match (writer.batch.is_empty(), writer.stage) {
            (true, _) if writer.queue.is_empty() => {}
            (true, _) => steps.push((weight, Step::TakeBatch { process })),
            (false, WriterStage::Unknown) => steps.push((weight, Step::LookUpBatch { process })),
            (false, WriterStage::Taken) => {
                steps.push((weight, Step::CommitBatch { process }));
                if disturbed {
                    for fate in [Fate::Landed, Fate::Failed, Fate::Late] {
                        steps.push((self.weights.unheard, Step::CommitBatchUnheard { process, fate }));
                    }
                }
            }
        }
        if !writer.replies.is_empty() {
            steps.push((weight, Step::Answer { process }));
        }
        if !writer.stale_moves.is_empty() {
            steps.push((weight, Step::WriteStaleMove { process }));
        }
        let holds_something = !(writer.queue.is_empty() && writer.batch.is_empty() && writer.replies.is_empty());
        if disturbed && holds_something {
            steps.push((self.weights.crash, Step::Panic { process, part: Part::Writer }));
        }
    }

    fn possible_relaying(&self, process: usize, database: Database, disturbed: bool, steps: &mut Vec<(u32, Step)>) {
        let relay = &self.processes[process].relays[database as usize];
        let weight = self.weights.relay;
        if relay.is_idle() {
            if !relay.channel.is_empty() {
                steps.push((weight, Step::RelayTake { process, database }));
            }
            let sweeps = self.bug != Some(Bug::SweepMissing) && !self.pending(database).is_empty();
            if sweeps && (disturbed || relay.channel.is_empty()) {
                // While the world settles a sweep always comes.
                let weight = if disturbed { self.weights.sweep } else { self.weights.sweep.max(1) };
                steps.push((weight, Step::RelaySweep { process, database }));
            }
            return;
        }
        if relay.in_hand.is_empty() {
            steps.push((weight, Step::RelayClear { process, database }));
        } else {
            steps.push((weight, Step::RelayAppend { process, database, heard: true }));
            if disturbed {
                steps.push((self.weights.unheard.div_ceil(2), Step::RelayAppend { process, database, heard: false }));
            }
        }
        if disturbed {
            steps.push((self.weights.crash, Step::Panic { process, part: Part::Relay(database) }));
        }
    }

    fn possible_consuming(&self, process: usize, group: Group, disturbed: bool, steps: &mut Vec<(u32, Step)>) {
        let consumer = &self.processes[process].consumers[group as usize];
        let weight = self.weights.consumer;
        for (partition, position) in consumer.positions.iter().enumerate() {
            let elsewhere = self.processes.iter().enumerate().any(|(other, known)| {
                let owns = known.consumers[group as usize].positions[partition] != Position::NotOwned;
                other != process && known.up && owns
            });
            let partition = partition as i32;
            let (assign, revoke) =
                (Step::Assign { process, group, partition }, Step::Revoke { process, group, partition });
            match (*position == Position::NotOwned, elsewhere) {
                (true, false) => steps.push((weight, assign)),
                // For a while the partition has two owners.
                (true, true) if disturbed => steps.push((self.weights.rebalance, assign)),
                (false, true) => steps.push((self.weights.rebalance, revoke)),
                _ => {}
            }
        }
        if consumer.positions.contains(&Position::Unloaded) {
            steps.push((weight, Step::LoadOffsets { process, group }));
        }
        if consumer.in_hand.is_some() {
            steps.push((weight, Step::Consume { process, group, heard: true }));
            if disturbed {
                steps.push((self.weights.unheard, Step::Consume { process, group, heard: false }));
            }
        } else if !self.behind(process, group).is_empty() {
            steps.push((weight, Step::Fetch { process, group }));
        }
        if disturbed {
            steps.push((2, Step::CopyOffsets { process, group }));
            if consumer.in_hand.is_some() {
                steps.push((self.weights.crash, Step::Panic { process, part: Part::Consumer(group) }));
            }
        }
    }

    pub fn take(&mut self, step: Step) {
        self.clock += 1;
        self.note(|| format!("{step:?}"));
        match step {
            Step::SendPlacement { process, intent } => self.send_placement(process, intent),
            Step::TakeBatch { process } => self.take_batch(process),
            Step::CommitBatch { process } => self.commit_batch(process),
            Step::CommitBatchUnheard { process, fate } => self.commit_batch_unheard(process, fate),
            Step::LookUpBatch { process } => self.look_up_batch(process),
            Step::LandLateCommit => self.land_late_commit(),
            Step::Answer { process } => self.answer(process),
            Step::MoveOrder { process } => self.move_order(process),
            Step::WriteStaleMove { process } => self.write_stale_move(process),
            Step::AdjustStock { process, intent } => self.adjust_stock(process, intent),
            Step::ArchiveProduct { process } => self.archive_product(process),
            Step::RelayTake { process, database } => self.relay_take(process, database),
            Step::RelaySweep { process, database } => self.relay_sweep(process, database),
            Step::RelayAppend { process, database, heard } => self.relay_append(process, database, heard),
            Step::RelayClear { process, database } => self.relay_clear(process, database),
            Step::Assign { process, group, partition } => {
                self.processes[process].consumers[group as usize].positions[partition as usize] = Position::Unloaded;
            }
            Step::Revoke { process, group, partition } => {
                self.processes[process].consumers[group as usize].positions[partition as usize] = Position::NotOwned;
            }
            Step::LoadOffsets { process, group } => self.load_offsets(process, group),
            Step::Fetch { process, group } => self.fetch(process, group),
            Step::Consume { process, group, heard } => self.consume(process, group, heard),
            Step::CopyOffsets { process, group } => self.copy_offsets(process, group),
            Step::Redeliver => self.redeliver(),
            Step::Panic { process, part } => self.panic(process, part),
            Step::Crash { process } => {
                self.saw("a process crashed");
                self.processes[process] = Process::start(self.log.partitions());
                self.processes[process].up = false;
            }
            Step::Restart { process } => self.processes[process].up = true,
        }
    }

    /// A part starts anew: it keeps its partitions, and nothing that it had in its memory.
    fn panic(&mut self, process: usize, part: Part) {
        self.saw("a part of a process panicked");
        let process = &mut self.processes[process];
        match part {
            Part::Writer => process.writer = Writer::default(),
            Part::Relay(database) => process.relays[database as usize] = Relay::default(),
            Part::Consumer(group) => {
                let consumer = &mut process.consumers[group as usize];
                consumer.in_hand = None;
                for position in &mut consumer.positions {
                    if *position != Position::NotOwned {
                        *position = Position::Unloaded;
                    }
                }
            }
        }
    }

    /// The partitions that a group reads.
    pub fn places_of(&self, group: Group) -> impl Iterator<Item = Place> {
        (0..self.log.partitions()).map(move |partition| (group.topic(), partition))
    }
}

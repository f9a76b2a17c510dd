//! Who supervises whom, and what a failure leads to. Pure decisions: no tasks, no clock.

use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Backoff, IntensityWindow};
use super::settings::SupervisionSettings;
use super::spec::Strategy;

/// The supervisors of one domain; the first is the domain itself, whose parent is the root.
pub(super) struct Supervisors {
    settings: SupervisionSettings,
    nodes: Vec<Node>,
    /// Where each member is supervised, by its index.
    homes: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    node: usize,
    unit: usize,
}

struct Node {
    name: String,
    strategy: Strategy,
    parent: Option<Place>,
    /// In start order.
    units: Vec<Unit>,
    window: IntensityWindow,
}

struct Unit {
    child: Child,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy)]
enum Child {
    Member(usize),
    Node(usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Rebuild these members, in this order, after the delay.
    Restart { members: Vec<usize>, delay: Duration },
    /// The domain's own supervisor failed.
    Escalate { why: String },
}

impl Supervisors {
    pub(super) fn new(settings: SupervisionSettings) -> Self {
        Self { settings, nodes: Vec::new(), homes: Vec::new() }
    }

    /// Adds a supervisor; `below` is the one it belongs to.
    pub(super) fn add_node(&mut self, name: &str, strategy: Strategy, below: Option<usize>) -> usize {
        let added = self.nodes.len();
        let parent = below.map(|node| self.add_unit(node, Child::Node(added)));
        let name = name.to_owned();
        self.nodes.push(Node { name, strategy, parent, units: Vec::new(), window: IntensityWindow::default() });
        added
    }

    /// Adds the next member in start order; members are numbered from 0.
    pub(super) fn add_member(&mut self, node: usize) -> usize {
        let member = self.homes.len();
        let home = self.add_unit(node, Child::Member(member));
        self.homes.push(home);
        member
    }

    fn add_unit(&mut self, node: usize, child: Child) -> Place {
        let units = &mut self.nodes[node].units;
        units.push(Unit { child, backoff: Backoff::default() });
        Place { node, unit: units.len() - 1 }
    }

    /// Decides on the failure of one member. A supervisor with too many failures fails in turn, as one failure of its
    /// parent's child.
    pub(super) fn failed(&mut self, member: usize, cause: &str, now: Instant, chance: f64) -> Decision {
        let mut place = self.homes[member];
        loop {
            let node = &mut self.nodes[place.node];
            if node.window.admit(now, &self.settings) {
                let delay = node.units[place.unit].backoff.next(now, &self.settings, chance);
                return Decision::Restart { members: self.affected_by(place), delay };
            }
            let Some(parent) = node.parent else {
                let why = format!(
                    "more than {} failures of {} within {} s, the last: {cause}",
                    self.settings.intensity,
                    node.name,
                    self.settings.intensity_window.as_secs_f64(),
                );
                return Decision::Escalate { why };
            };
            self.forget_below(place.node);
            place = parent;
        }
    }

    fn affected_by(&self, place: Place) -> Vec<usize> {
        let node = &self.nodes[place.node];
        let units = match node.strategy {
            Strategy::OneForOne => &node.units[place.unit..=place.unit],
            Strategy::OneForAll => &node.units[..],
            Strategy::RestForOne => &node.units[place.unit..],
        };
        let mut members = Vec::new();
        self.collect_members(units, &mut members);
        members
    }

    fn collect_members(&self, units: &[Unit], members: &mut Vec<usize>) {
        for unit in units {
            match unit.child {
                Child::Member(member) => members.push(member),
                Child::Node(node) => self.collect_members(&self.nodes[node].units, members),
            }
        }
    }

    /// A supervisor that its parent rebuilds starts with a clean slate.
    fn forget_below(&mut self, node: usize) {
        self.nodes[node].window.forget();
        for unit in 0..self.nodes[node].units.len() {
            self.nodes[node].units[unit].backoff.forget();
            if let Child::Node(below) = self.nodes[node].units[unit].child {
                self.forget_below(below);
            }
        }
    }
}

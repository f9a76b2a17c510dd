//! A bounded queue of two lanes: critical before standard, neither starves.
//!
//! Plain data without locks, tasks or actors; whoever owns it decides how it is shared. "Full" is a value that hands
//! the item back.

use std::collections::VecDeque;

/// Which of the two lanes an item waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    Critical,
    Standard,
}

/// The bounds of a [`TwoLaneQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    pub critical: usize,
    pub standard: usize,
    /// After this many critical items in a row, one waiting standard item goes. At least 1.
    pub burst: usize,
}

/// The lane has no room; nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub struct LaneFull<T>(pub T);

#[derive(Debug)]
pub struct TwoLaneQueue<T> {
    critical: VecDeque<T>,
    standard: VecDeque<T>,
    limits: LaneLimits,
    /// Critical items taken since a standard item last went or waited not at all.
    critical_in_a_row: usize,
}

impl<T> TwoLaneQueue<T> {
    pub fn new(limits: LaneLimits) -> Self {
        Self { critical: VecDeque::new(), standard: VecDeque::new(), limits, critical_in_a_row: 0 }
    }

    /// Changes the bounds; items above a lowered bound stay.
    pub fn set_limits(&mut self, limits: LaneLimits) {
        self.limits = limits;
    }

    pub fn push(&mut self, lane: Lane, item: T) -> Result<(), LaneFull<T>> {
        let (queue, limit) = match lane {
            Lane::Critical => (&mut self.critical, self.limits.critical),
            Lane::Standard => (&mut self.standard, self.limits.standard),
        };
        if queue.len() >= limit {
            return Err(LaneFull(item));
        }
        queue.push_back(item);
        Ok(())
    }

    pub fn pop(&mut self) -> Option<T> {
        if self.standard.is_empty() {
            self.critical_in_a_row = 0;
            return self.critical.pop_front();
        }
        if self.critical.is_empty() || self.critical_in_a_row >= self.limits.burst.max(1) {
            self.critical_in_a_row = 0;
            return self.standard.pop_front();
        }
        self.critical_in_a_row += 1;
        self.critical.pop_front()
    }

    /// Takes the next item of the critical lane only, for a worker kept free for it.
    pub fn pop_critical(&mut self) -> Option<T> {
        self.critical.pop_front()
    }

    /// Empties both lanes, critical first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.critical_in_a_row = 0;
        self.critical.drain(..).chain(self.standard.drain(..))
    }

    pub fn len(&self) -> usize {
        self.critical.len() + self.standard.len()
    }

    pub fn lane_len(&self, lane: Lane) -> usize {
        match lane {
            Lane::Critical => self.critical.len(),
            Lane::Standard => self.standard.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.critical.is_empty() && self.standard.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(critical: usize, standard: usize, burst: usize) -> TwoLaneQueue<String> {
        TwoLaneQueue::new(LaneLimits { critical, standard, burst })
    }

    #[test]
    fn critical_goes_before_standard_but_a_burst_lets_one_standard_through() {
        let mut queue = queue(20, 3, 4);
        for index in 0..3 {
            queue.push(Lane::Standard, format!("s{index}")).unwrap();
        }
        for index in 0..10 {
            queue.push(Lane::Critical, format!("c{index}")).unwrap();
        }
        let taken: Vec<String> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken.join(" "), "c0 c1 c2 c3 s0 c4 c5 c6 c7 s1 c8 c9 s2");
    }

    #[test]
    fn a_full_lane_hands_the_item_back_and_leaves_the_other_lane_open() {
        let mut queue = queue(1, 1, 4);
        queue.push(Lane::Standard, "a".to_owned()).unwrap();
        assert_eq!(queue.push(Lane::Standard, "b".to_owned()), Err(LaneFull("b".to_owned())));
        queue.push(Lane::Critical, "c".to_owned()).unwrap();
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.pop().as_deref(), Some("c"));
    }

    #[test]
    fn a_burst_counts_only_while_standard_items_wait() {
        let mut queue = queue(20, 20, 2);
        for index in 0..6 {
            queue.push(Lane::Critical, format!("c{index}")).unwrap();
        }
        assert_eq!((queue.pop().unwrap() + &queue.pop().unwrap() + &queue.pop().unwrap()).as_str(), "c0c1c2");
        queue.push(Lane::Standard, "s0".to_owned()).unwrap();
        let taken: Vec<String> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken.join(" "), "c3 c4 s0 c5");
    }

    #[test]
    fn draining_empties_both_lanes_critical_first() {
        let mut queue = queue(5, 5, 2);
        queue.push(Lane::Standard, "s".to_owned()).unwrap();
        queue.push(Lane::Critical, "c".to_owned()).unwrap();
        assert_eq!(queue.drain().collect::<Vec<_>>(), ["c", "s"]);
        assert!(queue.is_empty());
    }
}

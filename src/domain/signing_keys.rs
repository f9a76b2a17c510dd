//! The terms of signing keys: when each signs, and until when what it signed is accepted.
//!
//! A new key is announced before it signs, so that every process knows it by then; the one before it is accepted until the
//! last of its tokens has expired.

use std::cmp::Reverse;

use super::time::Timestamp;

/// From when a key signs, and until when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerm {
    /// It signs from here on, until the next one does.
    pub signs_from: Timestamp,
    /// What it signed is refused from here on; `None`: no key comes after it yet.
    pub accepted_until: Option<Timestamp>,
}

impl KeyTerm {
    /// Of a key that comes after none, and none after it.
    pub const ENDLESS: Self = Self { signs_from: Timestamp(0), accepted_until: None };

    pub fn is_over(self, now: Timestamp) -> bool {
        self.accepted_until.is_some_and(|end| now >= end)
    }

    /// As it goes on once it is to end: a term is shortened and never prolonged.
    pub fn ending(self, end: Timestamp) -> Self {
        let accepted_until = Some(self.accepted_until.map_or(end, |earlier| earlier.min(end)));
        Self { accepted_until, ..self }
    }
}

/// Which of these keys signs: of those whose turn has come the latest, before the first turn the first; of equal ones the one in
/// front. `None`: there is no key.
pub fn signer(terms: &[KeyTerm], now: Timestamp) -> Option<usize> {
    let turn = |at: &usize| terms[*at].signs_from;
    let (come, waiting): (Vec<usize>, Vec<usize>) = (0..terms.len()).partition(|at| turn(at) <= now);
    let latest = come.into_iter().min_by_key(|at| Reverse(turn(at)));
    latest.or_else(|| waiting.into_iter().min_by_key(turn))
}

/// What a key does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Its turn has not come.
    Announced,
    Signs,
    /// It signs no more, and what it signed is accepted.
    Accepted,
    Over,
}

/// What each of these keys does now.
pub fn states(terms: &[KeyTerm], now: Timestamp) -> Vec<KeyState> {
    let signer = signer(terms, now);
    let state = |(at, term): (usize, &KeyTerm)| match term {
        term if term.is_over(now) => KeyState::Over,
        _ if Some(at) == signer => KeyState::Signs,
        term if term.signs_from > now => KeyState::Announced,
        _ => KeyState::Accepted,
    };
    terms.iter().enumerate().map(state).collect()
}

/// A change of the signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    pub at: Timestamp,
    /// How long the new key is known before it signs. Milliseconds.
    pub announced_ms: i64,
    /// How long the keys before it are accepted after it has begun to sign. Milliseconds.
    pub overlap_ms: i64,
}

impl Rotation {
    /// Of the new key.
    pub fn term(self) -> KeyTerm {
        KeyTerm { signs_from: self.at.plus_millis(self.announced_ms), accepted_until: None }
    }

    /// When those before it are over, at the latest.
    pub fn others_end(self) -> Timestamp {
        self.term().signs_from.plus_millis(self.overlap_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The terms after rotations at these times, oldest first.
    fn rotated(times: &[i64]) -> Vec<KeyTerm> {
        let mut terms = vec![KeyTerm::ENDLESS];
        for at in times {
            let rotation = Rotation { at: Timestamp(*at), announced_ms: 15, overlap_ms: 900 };
            for term in &mut terms {
                *term = term.ending(rotation.others_end());
            }
            terms.push(rotation.term());
        }
        terms
    }

    #[test]
    fn a_new_key_is_announced_before_it_signs_and_the_old_one_is_accepted_after_it_did() {
        use KeyState::{Accepted, Announced, Over, Signs};
        let terms = rotated(&[100]);
        for (now, expected) in [
            (100, [Signs, Announced]),
            (114, [Signs, Announced]),
            (115, [Accepted, Signs]),
            (1_014, [Accepted, Signs]),
            (1_015, [Over, Signs]),
        ] {
            assert_eq!(states(&terms, Timestamp(now)), expected, "{now}");
        }
    }

    #[test]
    fn whenever_keys_are_rotated_what_was_signed_is_accepted_for_the_overlap() {
        let terms = rotated(&[100, 105, 110, 500, 2_000]);
        for signed_at in 0..3_000 {
            let signer = signer(&terms, Timestamp(signed_at)).unwrap();
            for later in [0, 1, 450, 899] {
                assert!(!terms[signer].is_over(Timestamp(signed_at + later)), "{signed_at} {later}");
            }
        }
        assert!(terms[..5].iter().all(|term| term.is_over(Timestamp(2_915))));
    }

    #[test]
    fn a_term_is_shortened_and_never_prolonged() {
        let ending = KeyTerm::ENDLESS.ending(Timestamp(50));
        assert_eq!(ending.ending(Timestamp(90)), ending);
        assert_eq!(ending.ending(Timestamp(20)).accepted_until, Some(Timestamp(20)));
    }

    #[test]
    fn before_its_turn_a_key_signs_if_there_is_no_other() {
        let announced = KeyTerm { signs_from: Timestamp(100), accepted_until: None };
        assert_eq!(signer(&[announced], Timestamp(5)), Some(0));
        assert_eq!(signer(&[], Timestamp(5)), None);
        assert_eq!(signer(&[KeyTerm::ENDLESS, KeyTerm::ENDLESS], Timestamp(5)), Some(0));
    }
}

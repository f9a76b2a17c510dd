//! Schedules of campaigns: which slot of a cron expression is due, and when the next one comes. All times are UTC.

use chrono::{DateTime, Utc};
use croner::Cron;

use super::campaigns::{Campaign, LaunchKey, Pitch};
use super::events::PendingEvent;
use super::ids::CampaignId;
use super::time::Timestamp;

/// How late a slot may be made up, in milliseconds.
pub const MAKE_UP_MS: i64 = 60 * 60 * 1_000;

/// The text is not a cron expression, or one that never comes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no cron expression that ever comes: {reason}")]
pub struct InvalidCron {
    text: String,
    reason: String,
}

/// When a campaign is launched again and again, and what it says.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub name: String,
    cron: Cron,
    pub pitch: Pitch,
}

fn utc(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at.0)
}

impl Schedule {
    /// `cron` has five fields: minute, hour, day of the month, month, day of the week.
    pub fn new(name: String, cron: &str, pitch: Pitch) -> Result<Self, InvalidCron> {
        let refuse = |reason: String| InvalidCron { text: cron.to_owned(), reason };
        if cron.split_whitespace().count() != 5 {
            return Err(refuse("it has not five fields".to_owned()));
        }
        let parsed: Cron = cron.parse().map_err(|error: croner::errors::CronError| refuse(error.to_string()))?;
        let schedule = Self { name, cron: parsed, pitch };
        match schedule.next_after(Timestamp(0)) {
            Some(_) => Ok(schedule),
            None => Err(refuse("it names a day that no month has".to_owned())),
        }
    }

    /// The first slot after this time.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&utc(at)?, false).ok()?;
        Some(Timestamp(next.timestamp_millis()))
    }

    /// The slot that is to be fired now, when everything up to `settled` is done with: the latest that has come, if it is
    /// not later than [`MAKE_UP_MS`]. Earlier ones that were missed with it are passed over.
    pub fn due(&self, settled: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let slot = self.cron.find_previous_occurrence(&utc(now)?, true).ok()?;
        let slot = Timestamp(slot.timestamp_millis());
        (slot > settled && now.millis_since(slot) <= MAKE_UP_MS).then_some(slot)
    }

    /// The campaign of a slot.
    pub fn campaign(&self, id: CampaignId, slot: Timestamp, at: Timestamp) -> (Campaign, PendingEvent) {
        let key = LaunchKey::Slot { schedule: self.name.clone(), at: slot };
        Campaign::launch(id, &key, self.pitch.clone(), at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::campaigns::Audience;

    fn schedule(cron: &str) -> Schedule {
        let pitch = Pitch { subject: "s".into(), message: "m".into(), audience: Audience::Favourites };
        Schedule::new("test".into(), cron, pitch).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        format!("{text}Z").parse().unwrap()
    }

    #[test]
    fn slots_are_in_utc_whatever_the_season() {
        let nine = schedule("0 9 * * MON");
        for (from, next) in [
            ("2026-03-23T09:00:00", "2026-03-30T09:00:00"),
            ("2026-03-29T01:30:00", "2026-03-30T09:00:00"),
            ("2026-10-19T09:00:00.001", "2026-10-26T09:00:00"),
            ("2026-12-28T09:00:00", "2027-01-04T09:00:00"),
        ] {
            assert_eq!(nine.next_after(at(from)), Some(at(next)), "{from}");
        }
        let hourly = schedule("0 * * * *");
        let mut slot = at("2026-03-29T00:00:00");
        for _ in 0..48 {
            let next = hourly.next_after(slot).unwrap();
            assert_eq!(next.millis_since(slot), MAKE_UP_MS, "every hour once: no hour is left out or doubled");
            slot = next;
        }
    }

    #[test]
    fn a_slot_is_due_once_it_has_come_and_until_it_is_settled() {
        let daily = schedule("0 9 * * *");
        let (seen, slot) = (at("2026-03-10T08:00:00"), at("2026-03-10T09:00:00"));
        assert_eq!(daily.due(seen, at("2026-03-10T08:59:59.999")), None);
        assert_eq!(daily.due(seen, slot), Some(slot));
        assert_eq!(daily.due(slot, slot), None, "it was fired");
        assert_eq!(daily.due(slot, at("2026-03-10T09:30:00")), None);
    }

    #[test]
    fn a_missed_slot_is_made_up_for_an_hour() {
        let daily = schedule("0 9 * * *");
        let (seen, slot) = (at("2026-03-09T12:00:00"), at("2026-03-10T09:00:00"));
        assert_eq!(daily.due(seen, at("2026-03-10T10:00:00")), Some(slot));
        assert_eq!(daily.due(seen, at("2026-03-10T10:00:00.001")), None);
    }

    #[test]
    fn a_slot_from_before_the_schedule_was_first_seen_is_not_made_up() {
        let daily = schedule("0 9 * * *");
        assert_eq!(daily.due(at("2026-03-10T09:01:00"), at("2026-03-10T09:30:00")), None);
        assert_eq!(daily.due(at("2026-03-10T09:00:00"), at("2026-03-10T09:30:00")), None, "nor one of that moment");
    }

    #[test]
    fn of_several_missed_slots_the_latest_is_made_up() {
        let often = schedule("*/10 * * * *");
        let now = at("2026-03-10T09:35:00");
        assert_eq!(often.due(at("2026-03-10T08:50:00"), now), Some(at("2026-03-10T09:30:00")));
    }

    #[test]
    fn what_never_comes_is_no_schedule() {
        let pitch = schedule("* * * * *").pitch;
        for cron in ["", "now", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "@daily"] {
            assert!(Schedule::new("test".into(), cron, pitch.clone()).is_err(), "{cron}");
        }
    }
}

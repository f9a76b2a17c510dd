//! The queue of mails in the notifications file: claims by lease, and what became of each attempt.
//!
//! A leased mail is one that is due when its lease ends, so a claim looks at one index and what a dead process had in
//! hand comes back by itself.

use std::collections::HashSet;

use rusqlite::Connection;

use super::database::Write;
use super::failure::Failure;
use super::notification_rows::{by_id, by_position, save};
use crate::domain::events::event_type;
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::notifications::attempts::Pace;
use crate::domain::notifications::{
    NotificationPriority, NotificationStatus, SkipReason, is_over_daily_limit, start_of_day,
};
use crate::domain::time::Timestamp;
use crate::store::notifications::{Claim, ClaimWanted, LaneDepth, Lease, QueueDepths, SettleAttempt, Settled};

/// Due mails that one claim looks at: bounds how long it holds the writer.
const LOOKED_AT: usize = 256;

const CANDIDATES: &str = "SELECT position, user_id FROM notifications
    WHERE status = 0 AND priority = ?1 AND due_at <= ?2 ORDER BY due_at, position LIMIT ?3";
const CANDIDATES_OF_OTHERS: &str = "SELECT position, user_id FROM notifications
    WHERE status = 0 AND priority = ?1 AND due_at <= ?2
        AND user_id NOT IN (SELECT user_id FROM notifications WHERE lease IS NOT NULL AND due_at > ?2)
    ORDER BY due_at, position LIMIT ?3";
const IN_HAND: &str = "SELECT user_id FROM notifications WHERE lease IS NOT NULL AND due_at > ?1";
const NEXT_DUE: &str = "SELECT MIN(due_at) FROM notifications WHERE status = 0 AND priority = ?1 AND due_at > ?2";
const SENT_TODAY: &str = "SELECT COUNT(*) FROM notifications
    WHERE user_id = ?1 AND sent_at >= ?2 AND priority = 1 AND sent_at IS NOT NULL";

pub(super) fn claim(write: &mut Write<'_>, wanted: &ClaimWanted) -> Result<Claim, Failure> {
    let mut claim = Claim::default();
    let mut busy = recipients_in_hand(write.sql(), wanted.now)?;
    for priority in NotificationPriority::ALL {
        match priority {
            NotificationPriority::Critical => claim_critical(write, wanted, &mut busy, &mut claim)?,
            NotificationPriority::Standard => claim_standard(write, wanted, &mut busy, &mut claim)?,
        }
        if let Some(due) = next_due(write.sql(), priority, wanted.now)? {
            claim.again_at = earlier(claim.again_at, due);
        }
    }
    Ok(claim)
}

fn earlier(known: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(other, |known| known.min(other)))
}

fn claim_critical(
    write: &mut Write<'_>,
    wanted: &ClaimWanted,
    busy: &mut HashSet<UserId>,
    claim: &mut Claim,
) -> Result<(), Failure> {
    let mut taken = 0;
    let Candidates { candidates, hidden } = candidates(write.sql(), NotificationPriority::Critical, wanted.now, busy)?;
    claim.left_critical = hidden;
    let looked_at = candidates.len();
    for candidate in candidates {
        if taken == wanted.critical || busy.contains(&candidate.user_id) {
            claim.left_critical = true;
        } else {
            take(write, wanted, candidate, busy, claim)?;
            taken += 1;
        }
    }
    if looked_at == LOOKED_AT && taken < wanted.critical {
        // Many mails of few recipients: those of others lie behind them.
        claim.again_at = earlier(claim.again_at, wanted.now);
    }
    Ok(())
}

fn claim_standard(
    write: &mut Write<'_>,
    wanted: &ClaimWanted,
    busy: &mut HashSet<UserId>,
    claim: &mut Claim,
) -> Result<(), Failure> {
    let limits = wanted.limits;
    let mut pace = pace(write.sql())?;
    let available = pace.available(limits.per_second, wanted.now);
    let mut taken = 0;
    let Candidates { candidates, hidden } = candidates(write.sql(), NotificationPriority::Standard, wanted.now, busy)?;
    claim.left_standard = hidden;
    let looked_at = candidates.len();
    for candidate in candidates {
        let sent = sent_today(write.sql(), candidate.user_id, wanted.now)?;
        if busy.contains(&candidate.user_id) {
            claim.left_standard = true;
        } else if is_over_daily_limit(sent, limits.per_recipient_per_day) {
            skip_over_limit(write, candidate.position, wanted.now)?;
            claim.skipped += 1;
        } else if taken == wanted.standard {
            claim.left_standard = true;
            break;
        } else if taken == available {
            // A part of a burst at a time: one commit for each single mail would cost more than the mail.
            let worth_while = (wanted.standard - taken).min(Pace::burst(limits.per_second) / 2).max(1);
            pace.take(taken, limits.per_second, wanted.now);
            claim.again_at = earlier(claim.again_at, pace.when(worth_while, limits.per_second));
            return save_pace(write, pace);
        } else {
            take(write, wanted, candidate, busy, claim)?;
            taken += 1;
        }
    }
    if looked_at == LOOKED_AT && (claim.skipped > 0 || taken < wanted.standard) {
        claim.again_at = earlier(claim.again_at, wanted.now);
    }
    if taken > 0 {
        pace.take(taken, limits.per_second, wanted.now);
        save_pace(write, pace)?;
    }
    Ok(())
}

fn take(
    write: &mut Write<'_>,
    wanted: &ClaimWanted,
    candidate: Candidate,
    busy: &mut HashSet<UserId>,
    claim: &mut Claim,
) -> Result<(), Failure> {
    let Some(mut stored) = by_position(write.sql(), candidate.position)? else { return Ok(()) };
    stored.due_at = wanted.now.plus_millis(wanted.lease_ms);
    stored.lease = Some(wanted.lease);
    save(write, &mut stored, None, wanted.now)?;
    busy.insert(candidate.user_id);
    claim.taken.push(stored.notification);
    Ok(())
}

fn skip_over_limit(write: &mut Write<'_>, position: i64, now: Timestamp) -> Result<(), Failure> {
    let Some(mut stored) = by_position(write.sql(), position)? else { return Ok(()) };
    stored.notification.skip(SkipReason::DailyLimit);
    stored.lease = None;
    save(write, &mut stored, Some(event_type::NOTIFICATION_SKIPPED), now)
}

struct Candidate {
    position: i64,
    user_id: UserId,
}

/// What a claim decides about, in the order in which they became due.
struct Candidates {
    candidates: Vec<Candidate>,
    /// Mails of those who are being delivered to were passed over.
    hidden: bool,
}

/// However many mails of those who are being delivered to are due, they hide nobody else's.
fn candidates(
    connection: &Connection,
    priority: NotificationPriority,
    now: Timestamp,
    busy: &HashSet<UserId>,
) -> Result<Candidates, Failure> {
    let query = |statement: &str| -> Result<Vec<Candidate>, Failure> {
        let mut statement = connection.prepare_cached(statement)?;
        let mut rows = statement.query((priority as i64, now.0, LOOKED_AT as i64))?;
        let mut candidates = Vec::new();
        while let Some(row) = rows.next()? {
            candidates.push(Candidate { position: row.get(0)?, user_id: UserId::from_bytes(row.get(1)?) });
        }
        Ok(candidates)
    };
    let candidates = query(CANDIDATES)?;
    if candidates.len() < LOOKED_AT || !candidates.iter().all(|candidate| busy.contains(&candidate.user_id)) {
        return Ok(Candidates { candidates, hidden: false });
    }
    Ok(Candidates { candidates: query(CANDIDATES_OF_OTHERS)?, hidden: true })
}

/// Who is being delivered to: nobody gets two mails at a time, so a mailbox that stalls holds up one worker.
fn recipients_in_hand(connection: &Connection, now: Timestamp) -> Result<HashSet<UserId>, Failure> {
    let mut statement = connection.prepare_cached(IN_HAND)?;
    let mut rows = statement.query([now.0])?;
    let mut users = HashSet::new();
    while let Some(row) = rows.next()? {
        users.insert(UserId::from_bytes(row.get(0)?));
    }
    Ok(users)
}

fn next_due(
    connection: &Connection,
    priority: NotificationPriority,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let mut statement = connection.prepare_cached(NEXT_DUE)?;
    Ok(statement.query_row((priority as i64, now.0), |row| row.get::<_, Option<i64>>(0))?.map(Timestamp))
}

fn sent_today(connection: &Connection, user: UserId, now: Timestamp) -> Result<u32, Failure> {
    let mut statement = connection.prepare_cached(SENT_TODAY)?;
    Ok(statement.query_row((user.as_bytes(), start_of_day(now).0), |row| row.get(0))?)
}

fn pace(connection: &Connection) -> Result<Pace, Failure> {
    let mut statement = connection.prepare_cached("SELECT paid_until_ns FROM pace")?;
    Ok(Pace { paid_until_ns: statement.query_row((), |row| row.get(0))? })
}

fn save_pace(write: &Write<'_>, pace: Pace) -> Result<(), Failure> {
    write.sql().prepare_cached("UPDATE pace SET paid_until_ns = ?1")?.execute([pace.paid_until_ns])?;
    Ok(())
}

pub(super) fn settle(write: &mut Write<'_>, attempt: SettleAttempt) -> Result<Settled, Failure> {
    let SettleAttempt { id, lease, attempt, policy, per_second, at, chance } = attempt;
    let Some(mut stored) = by_id(write.sql(), id)? else { return Ok(Settled::Lost) };
    if stored.lease != Some(lease) || stored.notification.status != NotificationStatus::Queued {
        return Ok(Settled::Lost);
    }
    let again_at = stored.notification.settle(attempt, &policy, at, chance);
    let status = stored.notification.status;
    let event = (status != NotificationStatus::Queued).then(|| status.event_type());
    stored.due_at = again_at.unwrap_or(at);
    stored.lease = None;
    save(write, &mut stored, event, at)?;
    let is_standard = stored.notification.priority() == NotificationPriority::Standard;
    match status {
        NotificationStatus::Queued => Ok(Settled::Again(stored.due_at)),
        NotificationStatus::Sent => Ok(Settled::Sent),
        NotificationStatus::Skipped => {
            if is_standard {
                let mut pace = pace(write.sql())?;
                pace.give_back(per_second);
                save_pace(write, pace)?;
            }
            Ok(Settled::Skipped)
        }
        NotificationStatus::Dead => {
            write.emit(stored.notification.dead_letter_event(stored.position, at))?;
            Ok(Settled::Dead)
        }
    }
}

/// Due again as early as they first were: they keep their place before what came later.
pub(super) fn release(write: &Write<'_>, claimed: &[(NotificationId, Lease)]) -> Result<(), Failure> {
    let mut statement = write.sql().prepare_cached(
        "UPDATE notifications SET lease = NULL, due_at = created_at WHERE id = ?1 AND lease = ?2 AND status = 0",
    )?;
    for (id, lease) in claimed {
        statement.execute((id.as_bytes(), lease.0.into_bytes()))?;
    }
    Ok(())
}

pub(super) fn void_leases(write: &Write<'_>, but: &[NotificationId]) -> Result<u64, Failure> {
    let mut leased = Vec::new();
    let mut statement = write.sql().prepare_cached("SELECT position, id FROM notifications WHERE lease IS NOT NULL")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        leased.push((row.get::<_, i64>(0)?, NotificationId::from_bytes(row.get(1)?)));
    }
    let mut void =
        write.sql().prepare_cached("UPDATE notifications SET lease = NULL, due_at = created_at WHERE position = ?1")?;
    let mut voided = 0;
    for (position, _) in leased.iter().filter(|(_, id)| !but.contains(id)) {
        voided += void.execute([position])? as u64;
    }
    Ok(voided)
}

pub(super) fn depths(connection: &Connection) -> Result<QueueDepths, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT COUNT(*), MIN(due_at) FROM notifications WHERE status = 0 AND priority = ?1")?;
    let mut count = |priority: NotificationPriority| -> Result<LaneDepth, Failure> {
        Ok(statement.query_row([priority as i64], |row| {
            let (queued, first_due): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok(LaneDepth { queued: queued.unsigned_abs(), first_due: first_due.map(Timestamp) })
        })?)
    };
    Ok(QueueDepths {
        critical: count(NotificationPriority::Critical)?,
        standard: count(NotificationPriority::Standard)?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::migrations::migrate;
    use super::super::notification_rows::MIGRATIONS;
    use super::*;

    #[test]
    fn a_claim_finds_everything_by_an_index_however_long_the_queue_is() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("memory"), MIGRATIONS).unwrap();
        for (sql, index) in [
            (CANDIDATES, "notifications_due"),
            (IN_HAND, "notifications_leased"),
            (NEXT_DUE, "notifications_due"),
            (SENT_TODAY, "notifications_sent"),
        ] {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut rows = plan.raw_query();
            let mut steps = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get::<_, String>("detail").unwrap());
            }
            assert!(steps.iter().any(|step| step.contains(&format!("INDEX {index} "))), "{sql}: {steps:?}");
            assert!(
                steps.iter().all(|step| !step.contains("SCAN") && !step.contains("TEMP B-TREE")),
                "{sql}: {steps:?}"
            );
        }
    }
}

//! What a run of chaos says of itself, in Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::books::Totals;
use super::happenings::Happening;
use super::load::Answers;

pub struct Report {
    pub seed: u64,
    pub redis_away: Duration,
    pub processes: usize,
    pub customers: usize,
    pub took: Duration,
    pub answers: Answers,
    pub totals: Totals,
    pub recoveries: BTreeMap<Happening, Vec<Duration>>,
}

const HEAD: &str = "\
# Chaos

`scripts/chaos` has customers order all the time from processes of Souk on real MongoDB, Kafka and Redis, while things happen
to processes and servers: every kind once, then as the seed draws them. After each it waits until a new order is CONFIRMED and
every order that was accepted before has its verdict; that time is told below, and more than 90 s fails the run.

At the end every accepted order is stored once and decided once, no other order is stored, the stock is the opening stock minus
what the confirmed orders hold, everything is published, every order has its two events and every event its order, and there is
no dead letter. A run in which one of these does not hold fails and writes no report. This is what the last one wrote.";

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { answers, totals, recoveries, .. } = self;
        let happened: usize = recoveries.values().map(Vec::len).sum();
        let kills: usize = recoveries.iter().filter(|(kind, _)| kind.is_kill()).map(|(_, times)| times.len()).sum();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        writeln!(f, "{HEAD}\n\n| what | count |\n| --- | --- |")?;
        let redis_seconds = self.redis_away.as_secs();
        let variables =
            format!("SOUK_CHAOS_BUILD={build} SOUK_CHAOS_REDIS_SECONDS={redis_seconds} SOUK_CHAOS_SEED={}", self.seed);
        writeln!(f, "| repeated by | `{variables} scripts/chaos {happened}` |")?;
        writeln!(f, "| machine | {cores} cores for processes, servers and customers; {build} build |")?;
        writeln!(f, "| length of the run | {} s |", self.took.as_secs())?;
        writeln!(f, "| processes, customers | {}, {} |", self.processes, self.customers)?;
        writeln!(f, "| things that happened | {happened} |")?;
        writeln!(f, "| kills with SIGKILL among them | {kills} |")?;
        writeln!(f, "| orders accepted | {} |", totals.orders)?;
        writeln!(f, "| of them CONFIRMED, REJECTED | {}, {} |", totals.confirmed, totals.rejected)?;
        writeln!(f, "| requests that failed or were not answered, and were repeated | {} |", answers.refused)?;
        writeln!(f, "| answers that the order was there already | {} |", answers.replayed)?;
        writeln!(f, "| records of `order-events` | {} |", totals.events)?;
        writeln!(f, "| of them duplicates, each without effect | {} |", totals.duplicates)?;
        writeln!(f, "\n| what happened | times | taken from | recovered after: median | longest |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for (happening, times) in recoveries {
            let mut times = times.clone();
            times.sort();
            let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
            let (words, since, count) = (happening.words(), happening.since(), times.len());
            let (median, longest) = (seconds(times[count / 2]), seconds(times[count - 1]));
            writeln!(f, "| {words} | {count} | {since} | {median} | {longest} |")?;
        }
        Ok(())
    }
}

//! What happens to the processes and the servers of a shop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::fleet::{Fleet, servers_script};
use crate::support::process::ShopProcess;

/// How long a process is stopped by SIGSTOP.
const STOPPED: Duration = Duration::from_secs(5);
/// How long one process more takes part.
const VISIT: Duration = Duration::from_secs(2);

/// Longer than any run, in seconds.
const TOKENS_LAST: &str = "86400";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    KillProcess,
    StopProcess,
    ProcessLeaves,
    ProcessJoins,
    KillKafka,
    KillMongo,
    RedisAway,
}

impl Happening {
    const OF_PROCESSES: [Self; 4] = [Self::KillProcess, Self::StopProcess, Self::ProcessLeaves, Self::ProcessJoins];
    const OF_SERVERS: [Self; 3] = [Self::KillKafka, Self::KillMongo, Self::RedisAway];

    pub fn words(self) -> &'static str {
        match self {
            Self::KillProcess => "kill -9 of a process, a new one started",
            Self::StopProcess => "SIGSTOP of a process for 5 s",
            Self::ProcessLeaves => "SIGTERM of a process, a new one started",
            Self::ProcessJoins => "a process joins, one leaves 2 s later",
            Self::KillKafka => "kill -9 of Kafka, started again",
            Self::KillMongo => "kill -9 of MongoDB, started again",
            Self::RedisAway => "Redis away",
        }
    }

    /// From when on the time is taken.
    pub fn since(self) -> &'static str {
        match self {
            Self::KillProcess => "the kill",
            Self::StopProcess => "SIGCONT",
            Self::ProcessLeaves => "SIGTERM",
            Self::ProcessJoins => "the start of the new one",
            Self::KillKafka | Self::KillMongo | Self::RedisAway => "the server answers",
        }
    }

    pub fn is_kill(self) -> bool {
        matches!(self, Self::KillProcess | Self::KillKafka | Self::KillMongo | Self::RedisAway)
    }
}

/// Every kind once, then by chance.
pub fn program(count: usize, with_servers: bool, draw: &mut StdRng) -> Vec<Happening> {
    let mut kinds = Happening::OF_PROCESSES.to_vec();
    if with_servers {
        kinds.extend(Happening::OF_SERVERS);
    }
    let mut program = kinds.clone();
    program.shuffle(draw);
    program.truncate(count);
    while program.len() < count {
        program.push(kinds[draw.random_range(0..kinds.len())]);
    }
    program
}

pub struct Scene {
    pub fleet: Fleet,
    pub processes: Vec<ShopProcess>,
    /// Those of the processes that are there.
    pub gateways: watch::Sender<Vec<SocketAddr>>,
    redis_away: Duration,
}

impl Scene {
    pub fn new(processes: usize, redis_away: Duration) -> Self {
        let mut fleet = Fleet::new();
        // The customers of a long run sign in once.
        fleet.set("SOUK__AUTH__ACCESS_TOKEN_SECONDS", TOKENS_LAST);
        let processes = (0..processes).map(|_| fleet.start("all")).collect();
        let scene = Self { fleet, processes, gateways: watch::Sender::default(), redis_away };
        scene.tell();
        scene
    }

    fn tell(&self) {
        self.gateways.send_replace(self.processes.iter().map(|process| process.public).collect());
    }

    fn start_one(&mut self) {
        self.processes.push(self.fleet.start("all"));
        self.tell();
    }

    fn take(&mut self, which: usize) -> ShopProcess {
        let process = self.processes.swap_remove(which);
        self.tell();
        process
    }

    /// Lets it happen, and answers from when on the shop is to recover.
    pub async fn make(&mut self, happening: Happening, draw: &mut StdRng) -> Instant {
        let which = draw.random_range(0..self.processes.len());
        let mut since = Instant::now();
        match happening {
            Happening::KillProcess => {
                self.take(which).kill();
                self.start_one();
            }
            Happening::ProcessLeaves => {
                stop(self.take(which));
                self.start_one();
            }
            Happening::ProcessJoins => {
                self.start_one();
                tokio::time::sleep(VISIT).await;
                stop(self.take(which));
            }
            Happening::StopProcess => {
                self.processes[which].signal("STOP");
                tokio::time::sleep(STOPPED).await;
                self.processes[which].signal("CONT");
                since = Instant::now();
            }
            Happening::KillKafka => since = restart("kafka", Duration::ZERO).await,
            Happening::KillMongo => since = restart("mongo", Duration::ZERO).await,
            Happening::RedisAway => since = restart("redis", self.redis_away).await,
        }
        since
    }
}

pub fn stop(process: ShopProcess) {
    let exit = process.stop();
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
}

async fn restart(server: &'static str, away: Duration) -> Instant {
    tokio::task::spawn_blocking(move || servers_script("kill", server)).await.unwrap();
    tokio::time::sleep(away).await;
    tokio::task::spawn_blocking(move || servers_script("up", server)).await.unwrap();
    Instant::now()
}

//! What a client process is told to do, and what it answers: one JSON line each way.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::{follow, idle, load};

/// A shop to place orders in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Target {
    pub address: SocketAddr,
    /// Of customers; client `n` is customer `n`.
    pub tokens: Vec<String>,
    pub products: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub enum Job {
    /// So many clients place so many orders, each as fast as it is answered.
    Place { target: Target, clients: usize, orders: usize, lines: usize, prefix: String },
    /// Repeats one request.
    Repeat { address: SocketAddr, request: String, clients: usize, requests: usize },
    /// Orders at a fixed rate; some customers follow theirs over the subscription.
    Follow { target: Target, followers: usize, per_second: f64, seconds: f64, lines: usize, prefix: String },
    /// Opens idle subscriptions and keeps them until its stdin closes.
    Idle { target: Target, sockets: usize },
}

#[derive(Default, Serialize, Deserialize)]
pub struct Done {
    pub seconds: f64,
    pub failures: usize,
    /// What the first failure said.
    pub failure: Option<String>,
    /// Sorted, in milliseconds; of `Follow`.
    pub latencies_ms: Vec<f64>,
    /// Length of one answer; of `Repeat`.
    pub answer_bytes: usize,
    /// Of this client, in seconds.
    pub cpu: f64,
}

/// A client process at work.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Client {
    pub fn start(job: &Job) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("client")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client starts");
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(job).unwrap()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin: Some(stdin), lines }
    }

    /// Waits for the answer; an idle client goes on until it is dropped.
    pub fn answer(&mut self) -> Done {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let done: Done = serde_json::from_str(&line).expect("the client finishes");
        if let Some(failure) = &done.failure {
            eprintln!("{} failures, the first: {failure}", done.failures);
        }
        done
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

pub fn run(job: &Job) -> Done {
    Client::start(job).answer()
}

/// One thread: a client must not take the server's cores.
pub fn serve_client() {
    souk::app::raise_open_files_limit();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    let job: Job = serde_json::from_str(&line).expect("a job");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut done = match job {
            Job::Place { target, clients, orders, lines, prefix } => {
                load::place(target, clients, orders, lines, &prefix).await
            }
            Job::Repeat { address, request, clients, requests } => {
                load::repeat(address, request, clients, requests).await
            }
            Job::Follow { target, followers, per_second, seconds, lines, prefix } => {
                follow::follow(target, followers, per_second, seconds, lines, prefix).await
            }
            Job::Idle { target, sockets } => return idle::hold(target, sockets).await,
        };
        done.cpu = crate::process::own_cpu();
        answer(&done);
    });
}

pub fn answer(done: &Done) {
    println!("{}", serde_json::to_string(done).unwrap());
    std::io::stdout().flush().unwrap();
}

//! The shop as a process of its own, and what the kernel knows of its time and memory.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Variables that the shop reads.
pub type Settings = Vec<(&'static str, String)>;

/// A running server. Asked to stop when dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// From exec to the ready line.
    pub started_in: Duration,
    pub address: SocketAddr,
    /// Of the bare handler beside the shop, where there is one.
    pub bare: Option<SocketAddr>,
}

fn without_settings(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SOUK__")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The release binary, or another one to compare it with; with these settings and none of this process's own environment.
pub fn souk(data_dir: &Path, settings: &Settings) -> Command {
    let other = std::env::var("SOUK_BENCH_BINARY");
    shop(other.as_deref().unwrap_or(env!("CARGO_BIN_EXE_souk")), data_dir, settings)
}

fn shop(binary: &str, data_dir: &Path, settings: &Settings) -> Command {
    let mut command = without_settings(binary);
    command.current_dir(data_dir.parent().unwrap()).arg("--data-dir").arg(data_dir);
    command.env("SOUK__AUTH__BCRYPT_COST", "4").env("SOUK__LIMITS__ENABLED", "false");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

impl Process {
    /// The release binary, ready.
    pub fn shop(data_dir: &Path, demo: bool) -> Self {
        Self::shop_with(data_dir, &vec![("SOUK__DEMO", demo.to_string())])
    }

    /// Another binary where one is named.
    pub fn shop_of(binary: Option<&str>, data_dir: &Path) -> Self {
        let settings = vec![("SOUK__DEMO", "false".to_owned()), ("SOUK__ADMIN__LISTEN", "127.0.0.1:0".to_owned())];
        Self::ready(binary.map_or_else(|| souk(data_dir, &settings), |binary| shop(binary, data_dir, &settings)))
    }

    /// Without demo data where the settings do not say otherwise.
    pub fn shop_with(data_dir: &Path, settings: &Settings) -> Self {
        let mut all = vec![("SOUK__DEMO", "false".to_owned()), ("SOUK__ADMIN__LISTEN", "127.0.0.1:0".to_owned())];
        all.extend(settings.iter().cloned());
        Self::ready(souk(data_dir, &all))
    }

    fn ready(mut command: Command) -> Self {
        command.args(["--listen", "127.0.0.1:0"]);
        Self::start(command, |line| {
            let address = line.strip_prefix("souk ready: http://")?.strip_suffix("/graphql")?;
            Some((address.parse().ok()?, None))
        })
    }

    /// The shop and a bare handler in one process.
    pub fn with_bare_handler(data_dir: &Path) -> Self {
        let mut command = without_settings(std::env::current_exe().unwrap().to_str().unwrap());
        command.arg("bare").arg(data_dir);
        Self::start(command, |line| {
            let (shop, bare) = line.split_once(' ')?;
            Some((shop.parse().ok()?, Some(bare.parse().ok()?)))
        })
    }

    fn start(mut command: Command, parse: impl Fn(&str) -> Option<(SocketAddr, Option<SocketAddr>)>) -> Self {
        let began = Instant::now();
        let mut child = command.spawn().expect("the server starts");
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the server gets ready").unwrap();
        let started_in = began.elapsed();
        let (address, bare) = parse(&line).unwrap_or_else(|| panic!("not a ready line: {line}"));
        // The pipe must stay open and empty.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, stdin, started_in, address, bare }
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the server runs")
    }

    /// Seconds of CPU, user and system, so far.
    pub fn cpu(&self) -> f64 {
        cpu_of(&self.proc_file("stat"))
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> f64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<f64>().unwrap() * 1024.0
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        signal(self.child.id(), "TERM");
        drop(self.child.wait());
    }
}

/// A process that stands still until this is dropped.
pub struct Paused(u32);

impl Paused {
    pub fn process(id: u32) -> Self {
        signal(id, "STOP");
        Self(id)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(id: u32, name: &str) {
    drop(Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status());
}

/// Ticks of the kernel are hundredths of a second on every Linux that matters here.
fn cpu_of(stat: &str) -> f64 {
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split_whitespace().collect();
    (fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap()) / 100.0
}

pub fn own_cpu() -> f64 {
    cpu_of(&std::fs::read_to_string("/proc/self/stat").unwrap())
}

//! The real binary as a process of its own: started, watched, killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Client, DEADLINE};

/// A running `souk serve`. Killed when dropped.
pub struct ShopProcess {
    child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    stderr: Option<std::thread::JoinHandle<String>>,
}

/// How a process ended, with what it wrote to stderr.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub stderr: String,
}

/// A command of the binary with nothing of this process's own settings in its environment.
pub fn souk(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    for (name, _) in std::env::vars() {
        if name.starts_with("SOUK__") {
            command.env_remove(name);
        }
    }
    command.current_dir(data_dir.parent().unwrap_or(data_dir)).arg("--data-dir").arg(data_dir);
    command
}

impl ShopProcess {
    /// Started and ready, with these settings over those of a test.
    pub fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let (mut shop, lines) = Self::launch(data_dir, settings);
        shop.public = shop.ready_line(&lines, "souk ready: http://", "/graphql");
        shop.admin = shop.ready_line(&lines, "souk admin: http://", "");
        shop
    }

    /// As [`Self::start`], by settings that make it no gateway: it has no public address.
    pub fn start_without_gateway(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let (mut shop, lines) = Self::launch(data_dir, settings);
        shop.admin = shop.ready_line(&lines, "souk admin: http://", "");
        shop
    }

    fn launch(data_dir: &Path, settings: &[(&str, &str)]) -> (Self, mpsc::Receiver<String>) {
        let mut command = souk(data_dir);
        command
            .args(["--listen", "127.0.0.1:0"])
            .env("SOUK__ADMIN__LISTEN", "127.0.0.1:0")
            .env("SOUK__DEMO", "false")
            .env("SOUK__AUTH__BCRYPT_COST", "4")
            .env("SOUK__LIMITS__ENABLED", "false")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let kept = log_file(child.id());
        let collector = std::thread::spawn(move || collect(stderr, kept));
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let nowhere = ([0, 0, 0, 0], 0).into();
        (Self { child, public: nowhere, admin: nowhere, stderr: Some(collector) }, lines)
    }

    fn ready_line(&mut self, lines: &mpsc::Receiver<String>, before: &str, after: &str) -> SocketAddr {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                let address = line.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("not a ready line: {line}"))
            }
            Err(_) => {
                drop(self.child.kill());
                panic!("the shop did not get ready: {}", self.collect_stderr());
            }
        }
    }

    fn collect_stderr(&mut self) -> String {
        self.stderr.take().map(|thread| thread.join().unwrap_or_default()).unwrap_or_default()
    }

    pub fn client(&self) -> Client {
        Client::new(self.public)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: as a crash or a power cut ends it.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("the process ends");
    }

    /// Sends a signal by its name, such as `TERM`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for the process to end by itself.
    pub fn wait(mut self, deadline: Duration) -> Exit {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return Exit { status, stderr: self.collect_stderr() };
            }
            assert!(began.elapsed() < deadline, "the process did not end within {deadline:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and how it ended.
    pub fn stop(self) -> Exit {
        self.signal("TERM");
        self.wait(DEADLINE)
    }
}

impl Drop for ShopProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where `SOUK_TEST_LOGS` names a folder, what a process logs is in a file of it as well.
fn log_file(process: u32) -> Option<File> {
    let folder = std::env::var_os("SOUK_TEST_LOGS")?;
    Some(File::create(Path::new(&folder).join(format!("{process}.log"))).expect("the folder takes a file"))
}

fn collect(stderr: impl Read, mut kept: Option<File>) -> String {
    let mut text = String::new();
    let mut lines = BufReader::new(stderr);
    let mut from = 0;
    while lines.read_line(&mut text).is_ok_and(|read| read > 0) {
        if let Some(kept) = &mut kept {
            kept.write_all(&text.as_bytes()[from..]).expect("the log's disk has room");
        }
        from = text.len();
    }
    text
}

fn lines_of(stdout: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Runs a command to its end: exit code, stdout, stderr.
pub fn run(data_dir: &Path, arguments: &[&str], settings: &[(&str, &str)], stdin: &str) -> (i32, String, String) {
    let mut child = souk(data_dir)
        .args(arguments)
        .envs(settings.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that reads nothing may be gone already.
    drop(child.stdin.take().map(|mut pipe| pipe.write_all(stdin.as_bytes())));
    let output = child.wait_with_output().expect("the command ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

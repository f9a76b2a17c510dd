//! What the black-box tests share: a shop in this process or as the real binary, and clients that speak to it as a
//! user's would. Nothing here sleeps: what is awaited is polled with a deadline, or comes over a socket.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

pub mod client;
pub mod events;
pub mod hostile;
pub mod kafka;
pub mod mail_links;
pub mod process;
pub mod scrape;
pub mod servers;
pub mod sink;
pub mod socket;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use souk::actors::users::messages::{CreateAccount, Password};
use souk::app::{App, Ended, Stores};
use souk::config::Config;
use souk::domain::text::Email;
use souk::domain::users::Role;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub use client::{Account, Client};
pub use mail_links::MailLinks;
pub use socket::Socket;

/// How long anything may take before a test gives up on it: generous, because CI is slow and nobody waits it out.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The password of every account that the tests make.
pub const PASSWORD: &str = "correct horse battery";

/// Waits until `check` gives a value; asks again every few milliseconds, at most until the deadline.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl FnMut() -> F) -> T {
    eventually_within(DEADLINE, what, check).await
}

/// As [`eventually`], for what may take longer.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A shop in this process, on free ports and a folder of its own. Stops when dropped.
pub struct TestApp {
    client: Client,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    pub config: Config,
    /// The shop's own, for what no client can do.
    pub stores: Stores,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Ended>>,
    pub dir: TempDir,
}

/// The client of the app, so that a test says `app.query(..)`.
impl Deref for TestApp {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A shop without rate limits: a test signs up many users from one address.
pub async fn spawn_app() -> TestApp {
    spawn_app_with(|config| config.limits.enabled = false).await
}

pub async fn spawn_app_with(change: impl FnOnce(&mut Config)) -> TestApp {
    let dir = tempfile::tempdir().unwrap();
    spawn_app_in(dir, change).await
}

/// As [`spawn_app_with`], on a folder that an earlier shop has left.
pub async fn spawn_app_in(dir: TempDir, change: impl FnOnce(&mut Config)) -> TestApp {
    let mut config = Config::for_testing(dir.path());
    servers::use_for(&mut config, dir.path());
    change(&mut config);
    let (started, shop) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let own_config = config.clone();
    let thread = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let app = App::start(own_config).await.expect("the shop starts");
            let shop = (app.public_address().unwrap(), app.admin_address(), app.core().stores.clone());
            assert!(started.send(shop).is_ok(), "the test waits");
            app.run_until(async { drop(stopped.await) }).await
        })
    });
    let (public, admin, stores) = shop.await.expect("the shop starts");
    let (client, stop, thread) = (Client::new(public), Some(stop), Some(thread));
    TestApp { client, public, admin, config, stores, stop, thread, dir }
}

impl TestApp {
    /// An account of any role, made the way `souk admin create` does it, signed in.
    pub async fn account(&self, role: Role) -> Account {
        let email = client::fresh_email();
        let account = CreateAccount {
            email: Email::parse(&email).unwrap(),
            name: "Test Account".into(),
            password: Password(PASSWORD.into()),
            role,
        };
        let config = self.config.clone();
        // On a thread of its own: the command runs a runtime of its own.
        let created = std::thread::spawn(move || souk::app::create_account(&config, account)).join().unwrap();
        created.expect("the users store opens").expect("the account is new");
        self.sign_in(&email, PASSWORD).await
    }

    pub async fn staff(&self) -> Account {
        self.account(Role::Staff).await
    }

    /// Stops the shop as SIGTERM would and gives its folder back.
    pub fn stop(mut self) -> TempDir {
        let ended = self.finish();
        assert!(matches!(ended, Some(Ended::Stopped)), "the shop stopped in order: {ended:?}");
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    fn finish(&mut self) -> Option<Ended> {
        drop(self.stop.take());
        self.thread.take().map(|thread| thread.join().expect("the shop's thread does not panic"))
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's own failure is what should be read.
            drop(self.stop.take());
            if let Some(thread) = self.thread.take() {
                drop(thread.join());
            }
        } else if self.finish().is_some() {
            servers::remove(&self.config);
        }
    }
}

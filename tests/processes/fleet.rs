//! A shop of many processes under names of its own on the test's servers.

use std::process::Command;

use souk::actors::users::messages::{CreateAccount, Password};
use souk::config::Config;
use souk::domain::text::Email;
use souk::domain::users::Role;
use tempfile::TempDir;

use crate::support::process::ShopProcess;
use crate::support::{Account, Client, PASSWORD, client, servers};

pub struct Fleet {
    pub config: Config,
    settings: Vec<(&'static str, String)>,
    dir: TempDir,
}

impl Fleet {
    /// Nothing runs yet. The servers are those of the environment.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::for_testing(dir.path());
        servers::put_on(&mut config, dir.path());
        Self { settings: servers::settings_of(&config), config, dir }
    }

    /// For the processes that are started from now on.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.settings.push((name, value.to_owned()));
    }

    /// A process of these roles, ready.
    pub fn start(&self, roles: &str) -> ShopProcess {
        let mut settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        settings.push(("SOUK__ROLES", roles));
        let data = self.dir.path().join("data");
        if roles == "all" || roles.contains("gateway") {
            ShopProcess::start(&data, &settings)
        } else {
            ShopProcess::start_without_gateway(&data, &settings)
        }
    }

    /// A product with so many pieces, and so many customers.
    pub async fn furnish(&self, gateway: &Client, pieces: i32, customers: usize) -> (String, Vec<Account>) {
        let staff = self.staff(gateway).await;
        let product = gateway.create_product(&staff, pieces.into()).await;
        let mut accounts = Vec::new();
        for _ in 0..customers {
            accounts.push(gateway.sign_up().await);
        }
        (product, accounts)
    }

    /// Made as `souk admin create` does it, signed in at a gateway.
    pub async fn staff(&self, gateway: &Client) -> Account {
        let email = client::fresh_email();
        let account = CreateAccount {
            email: Email::parse(&email).unwrap(),
            name: "Staff".into(),
            password: Password(PASSWORD.into()),
            role: Role::Staff,
        };
        let config = self.config.clone();
        let created = std::thread::spawn(move || souk::app::create_account(&config, account)).join().unwrap();
        created.unwrap().unwrap();
        gateway.sign_in(&email, PASSWORD).await
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            servers::remove_names(&self.config);
        }
    }
}

/// `scripts/servers COMMAND NAME`, on the set of servers that `SOUK_SERVERS_DIR` names.
pub fn servers_script(command: &str, name: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");
    let mut run = Command::new(script);
    // What the variables name is somebody else's and left alone by the script.
    for variable in ["SOUK_TEST_MONGODB_URI", "SOUK_TEST_KAFKA_BROKERS", "SOUK_TEST_REDIS_URI"] {
        run.env_remove(variable);
    }
    let output = run.args([command, name]).output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! The real binary under real traffic, with failure switches, a mail server and a Prometheus of its own.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use souk::domain::events::{PendingEvent, Topic, event_type, source};
use souk::domain::time::Timestamp;
use souk::store::consumption::{Consumption, ConsumptionStore};
use souk::store::sqlite::SqliteOrderStore;
use tempfile::TempDir;

use crate::files::read;
use crate::prometheus::Prometheus;
use crate::support::client::unique;
use crate::support::process::{ShopProcess, run};
use crate::support::sink::{Answer, Sink, Turn};
use crate::support::{Account, Client, PASSWORD, Socket, eventually_within};

/// How long an alert may take until it fires on a busy machine: its own waiting times are seconds here.
const ALARM: Duration = Duration::from_secs(120);

/// Of an account to which no mail can be delivered.
const REFUSED: &str = "nobody-is-here";

/// A restart waits so long that what an actor leaves undone is seen.
const SLOW_RESTART: &str = "12000";

pub struct Scene {
    pub shop: ShopProcess,
    pub client: Client,
    pub prometheus: Prometheus,
    pub staff: Account,
    pub product: String,
    /// `None` once the mail server is gone.
    pub sink: Option<Sink>,
    dir: TempDir,
}

/// Divides every waiting time of the rules by 60: what Prometheus waits, what it looks back on, and the ages that
/// expressions compare with.
fn hurried(rules: &str) -> String {
    let lines = rules.lines().map(|line| {
        let text = line.trim_start();
        if text.starts_with("for: ") || text.starts_with("expr: ") {
            let line = line.replace("m]", "s]");
            let line = if text.starts_with("for: ") { line.replace('m', "s") } else { line };
            match line.rsplit_once(" > ") {
                Some((age, seconds)) if age.contains("oldest_seconds") => {
                    format!("{age} > {}", seconds.parse::<f64>().unwrap() / 60.0)
                }
                _ => line,
            }
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_hurried_copy_waits_seconds_where_the_rules_wait_minutes() {
    let rules =
        "expr: max(souk_x_oldest_seconds) > 300\n  for: 5m\nexpr: rate(a_minutes_total[10m]) > 3\nsummary: 1m > 60";
    let expected =
        "expr: max(souk_x_oldest_seconds) > 5\n  for: 5s\nexpr: rate(a_minutes_total[10s]) > 3\nsummary: 1m > 60";
    assert_eq!(hurried(rules), expected);
}

impl Scene {
    pub async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let sink = Sink::scripted(|turn| match turn {
            Turn::Recipient(address) if address.contains(REFUSED) => Answer::Say("550 no such user"),
            _ => Answer::Usual,
        })
        .await;
        let email = "staff@test.example";
        let created = ["admin", "create", "--email", email, "--name", "Staff", "--password-stdin"];
        let (code, _, stderr) = run(&data, &created, &[("SOUK__AUTH__BCRYPT_COST", "4")], PASSWORD);
        assert_eq!(code, 0, "{stderr}");
        let uri = sink.uri();
        let shop = ShopProcess::start(
            &data,
            &[
                ("SOUK__FAULTS__ENABLED", "true"),
                ("SOUK__MAIL__KIND", "smtp"),
                ("SOUK__MAIL__URI", &uri),
                ("SOUK__SUPERVISION__INTENSITY", "1000"),
                ("SOUK__SUPERVISION__BACKOFF_BASE_MS", SLOW_RESTART),
                ("SOUK__SUPERVISION__BACKOFF_MAX_MS", SLOW_RESTART),
                ("SOUK__SUPERVISION__ASK_TIMEOUT_MS", "3000"),
            ],
        );
        let client = shop.client();
        let staff = client.sign_in(email, PASSWORD).await;
        let product = client.create_product(&staff, 1_000_000).await;
        let config = dir.path().join("prometheus.yml");
        fs::write(dir.path().join("alerts.yml"), hurried(&read("deploy/prometheus/alerts.yml"))).unwrap();
        let shipped = read("deploy/prometheus/prometheus.yml");
        let own = shipped.replace("interval: 5s", "interval: 1s").replace("souk:9200", &shop.admin.to_string());
        assert_ne!(own, shipped);
        fs::write(&config, own).unwrap();
        let prometheus = Prometheus::start(&config, dir.path()).await;
        Self { shop, client, prometheus, staff, product, sink: Some(sink), dir }
    }

    /// Queues a fault.
    pub async fn fault(&self, actor: &str, fault: &str) {
        let url = format!("http://{}/faults/{actor}/{fault}", self.shop.admin);
        let answer = self.client.http.post(url).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{actor} {fault}");
    }

    /// The alert was quiet until now; after `fault` it fires.
    pub async fn fires<F: Future<Output = ()>>(&self, alert: &str, fault: impl FnOnce() -> F) {
        assert_eq!(self.prometheus.state(alert).await, "inactive", "{alert} before its fault");
        fault().await;
        eventually_within(ALARM, alert, async || (self.prometheus.state(alert).await == "firing").then_some(())).await;
    }

    /// Many orders in few requests.
    pub async fn place_orders(&self, customer: &Account, count: usize) {
        const A_REQUEST: usize = 20;
        for _ in 0..count.div_ceil(A_REQUEST) {
            let places: String = (0..A_REQUEST)
                .map(|place| {
                    let (key, product) = (unique("key"), &self.product);
                    format!(
                        "p{place}: orderPlace(input: {{ idempotencyKey: \"{key}\", waitMs: 0, \
                         lines: [{{ productId: \"{product}\", quantity: 1 }}] }}) {{ userErrors {{ code }} }} "
                    )
                })
                .collect();
            let placed = self.client.query(Some(&customer.token), &format!("mutation {{ {places} }}"), json!({})).await;
            assert_eq!(placed["p0"]["userErrors"], json!([]), "{placed}");
        }
    }

    /// An account whose mails are all refused.
    pub async fn sign_up_where_no_mail_arrives(&self) {
        let query = "mutation($input: SignUpInput!) { signUp(input: $input) { userErrors { code } } }";
        let email = format!("{REFUSED}-{}@test.example", unique("user"));
        let input = json!({ "input": { "email": email, "name": "Nobody", "password": PASSWORD } });
        let data = self.client.query(None, query, input).await;
        assert_eq!(data["signUp"]["userErrors"], json!([]));
    }

    /// An event that no group can read.
    pub async fn emit_nonsense(&self) {
        emit(&self.dir.path().join("data"), nonsense(json!({ "nonsense": 1 }))).await;
    }

    pub async fn launch_campaign(&self) {
        let query = "mutation($input: CampaignLaunchInput!) { campaignLaunch(input: $input) { userErrors { code } } }";
        let input = json!({ "idempotencyKey": unique("key"), "subject": "Lamps", "message": "Half price." });
        let data = self.client.query(Some(&self.staff.token), query, json!({ "input": input })).await;
        assert_eq!(data["campaignLaunch"]["userErrors"], json!([]));
    }
}

/// A placed order whose body is none.
pub fn nonsense(body: Value) -> PendingEvent {
    let (topic, kind) = (Topic::OrderEvents, event_type::ORDER_PLACED);
    PendingEvent::new(topic, source::ORDERS, kind, unique("nonsense"), 1, Timestamp(1), &body)
}

/// Puts an event into the orders' outbox of a shop that runs, as a process of another version might.
pub async fn emit(data: &Path, event: PendingEvent) {
    let (orders, _) = SqliteOrderStore::open_in(data).unwrap();
    let emitted = Consumption { group: "nobody".into(), dead_letters: vec![event], ..Consumption::default() };
    orders.consume(emitted).await.unwrap();
    orders.close();
}

/// What customers do all the time: some read, one buys, one watches. Ends when it is dropped.
pub struct Traffic {
    goes_on: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    pub async fn start(scene: &Scene) -> Self {
        let customer = scene.client.sign_up().await;
        let goes_on = Arc::new(AtomicBool::new(true));
        let mut tasks = Vec::new();
        let reads = [
            ("{ products(first: 5) { nodes { id name available } } categories { name } }", None),
            ("{ me { id recommendations(first: 3) { product { id } } } }", Some(customer.token.clone())),
            ("{ me { notifications(first: 3) { nodes { subject } } } }", Some(customer.token.clone())),
            (
                "mutation { signIn(input: { email: \"nobody@test.example\", password: \"wrong password\" }) {
                    userErrors { code } } }",
                None,
            ),
            ("{ nothing }", None),
        ];
        for (query, token) in reads {
            let (client, goes_on) = (scene.client.clone(), Arc::clone(&goes_on));
            tasks.push(tokio::task::spawn_local(async move {
                while goes_on.load(Ordering::SeqCst) {
                    // Whatever is answered, or not, while things fail.
                    drop(client.try_query(token.as_deref(), query, Value::Null).await);
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
            }));
        }
        let (client, product, buys) = (scene.client.clone(), scene.product.clone(), Arc::clone(&goes_on));
        let buyer = customer.clone();
        tasks.push(tokio::task::spawn_local(async move {
            while buys.load(Ordering::SeqCst) {
                let order = crate::support::client::place_variables(&unique("key"), &[(&product, 1)], 100);
                drop(client.try_query(Some(&buyer.token), crate::support::client::ORDER_PLACE, order).await);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }));
        let mut socket = Socket::connect(scene.shop.public, Some(&customer.token)).await;
        let updates = socket.subscribe("subscription { orderUpdates { cursor } }", json!({})).await;
        tasks.push(tokio::task::spawn_local(async move { while socket.next_of(&updates).await.is_some() {} }));
        Self { goes_on, tasks }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::SeqCst);
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

//! Supervision and the command line on the real binary: what fails comes back, the others do not notice, nothing that was
//! accepted is lost.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]
#![allow(clippy::print_stdout, reason = "how long things took is told with --nocapture")]

mod support;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use support::client::{Account, Client, ORDER_PLACE, place_variables, unique};
use support::process::{Exit, ShopProcess, run, souk};
use support::{DEADLINE, PASSWORD, Socket, eventually};

const FAULTS: (&str, &str) = ("SOUK__FAULTS__ENABLED", "true");
const CHEAP: (&str, &str) = ("SOUK__AUTH__BCRYPT_COST", "4");
const ANY_ADMIN_PORT: (&str, &str) = ("SOUK__ADMIN__LISTEN", "127.0.0.1:0");
const NO_DEMO: (&str, &str) = ("SOUK__DEMO", "false");

/// Lets this much time pass.
async fn pass(time: Duration) {
    drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
}

// ---- A shop under load ----

struct Scene {
    shop: Option<ShopProcess>,
    client: Client,
    staff: Account,
    customer: Account,
    product: String,
    folder: TempDir,
}

/// One actor of the tree.
#[derive(Debug)]
struct Actor {
    state: String,
    restarts: i64,
    last_panic: String,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        let (code, _, stderr) = run(&dir, &create_admin("boss@test.example"), &[CHEAP], PASSWORD);
        assert_eq!(code, 0, "{stderr}");
        let shop = ShopProcess::start(&dir, settings);
        let client = shop.client();
        let staff = client.sign_in("boss@test.example", PASSWORD).await;
        let customer = client.sign_up().await;
        let product = client.create_product(&staff, 1_000_000).await;
        Self { shop: Some(shop), client, staff, customer, product, folder }
    }

    fn shop(&self) -> &ShopProcess {
        self.shop.as_ref().unwrap()
    }

    async fn inject(&self, actor: &str, fault: &str) -> u16 {
        let url = format!("http://{}/faults/{actor}/{fault}", self.shop().admin);
        self.client.http.post(url).send().await.unwrap().status().as_u16()
    }

    /// The actors by name; `None` while the shop cannot tell.
    async fn actors(&self) -> Option<std::collections::HashMap<String, Actor>> {
        const ACTOR: &str = "name state restarts lastPanic";
        let query = format!("{{ supervision {{ children {{ {ACTOR} children {{ {ACTOR} }} }} }} }}");
        let answer = self.client.try_query(Some(&self.staff.token), &query, json!({})).await.ok()?;
        let mut found = std::collections::HashMap::new();
        let mut list = |actor: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let seen = Actor {
                state: text(&actor["state"]),
                restarts: actor["restarts"].as_i64().unwrap(),
                last_panic: text(&actor["lastPanic"]),
            };
            found.insert(text(&actor["name"]), seen);
        };
        for domain in answer["data"]["supervision"]["children"].as_array()? {
            list(domain);
            domain["children"].as_array().unwrap().iter().for_each(&mut list);
        }
        Some(found)
    }

    async fn restarts(&self, actor: &str) -> i64 {
        eventually("the tree answers", async || Some(self.actors().await?.get(actor)?.restarts)).await
    }

    /// Waits until the actor runs again after exactly this many restarts; what brought it down and how long it took.
    async fn back_after(&self, actor: &str, restarts: i64) -> (String, Duration) {
        let began = Instant::now();
        let last_panic = eventually(&format!("{actor} is back after {restarts} restarts"), async || {
            let actors = self.actors().await?;
            let now = &actors[actor];
            assert!(now.restarts <= restarts, "{actor} was restarted too often: {now:?}");
            (now.restarts == restarts && now.state == "RUNNING").then(|| now.last_panic.clone())
        })
        .await;
        (last_panic, began.elapsed())
    }

    /// What the shop is for still works, and quickly: a sign-up, a catalogue read, an order to its verdict.
    async fn works(&self) {
        let began = Instant::now();
        self.client.sign_up().await;
        self.client.available(&self.product).await;
        let placed = self.client.place(&self.customer, &unique("probe"), &[(&self.product, 1)], 20_000).await;
        assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
        assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
    }
}

fn create_admin(email: &str) -> [&str; 7] {
    ["admin", "create", "--email", email, "--name", "Boss", "--password-stdin"]
}

/// A customer who keeps ordering and repeats whatever had no answer.
struct Orders {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<(String, String)>>,
}

impl Orders {
    fn start(scene: &Scene) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, customer, product) = (scene.client.clone(), scene.customer.clone(), scene.product.clone());
        let stopping = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut placed = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                let key = unique("load");
                let variables = place_variables(&key, &[(&product, 1)], 0);
                let began = Instant::now();
                let id = loop {
                    let answer = client.try_query(Some(&customer.token), ORDER_PLACE, variables.clone()).await.unwrap();
                    if let Some(id) = answer["data"]["orderPlace"]["order"]["id"].as_str() {
                        break id.to_owned();
                    }
                    let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none");
                    let later = answer["data"]["orderPlace"]["userErrors"][0]["code"] == "BUSY";
                    assert!(later || ["UNAVAILABLE", "TIMEOUT"].contains(&code), "{answer}");
                    assert!(began.elapsed() < DEADLINE, "no answer: {answer}");
                    pass(Duration::from_millis(10)).await;
                };
                placed.push((key, id));
                pass(Duration::from_millis(4)).await;
            }
            placed
        });
        Self { stop, task }
    }

    /// Every key is one order, which was decided.
    async fn finish(self, scene: &Scene) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let placed = self.task.await.expect("the customer was served");
        let pending = "{ orders(first: 1, where: { status: [PENDING] }) { totalCount } }";
        eventually("every order is decided", async || {
            let answer = scene.client.query(Some(&scene.staff.token), pending, json!({})).await;
            (answer["orders"]["totalCount"] == 0).then_some(())
        })
        .await;
        for (key, id) in placed.iter().step_by(1 + placed.len() / 100) {
            let again = scene.client.place(&scene.customer, key, &[(&scene.product, 1)], 0).await;
            assert_eq!((&again["replayed"], &again["order"]["id"]), (&json!(true), &json!(id)), "{again}");
            assert_eq!(again["order"]["status"], "CONFIRMED", "{again}");
        }
        let mine = "query($id: ID!) { orders(first: 1, where: { customerId: $id }) { totalCount } }";
        let answer = scene.client.query(Some(&scene.staff.token), mine, json!({ "id": scene.customer.id })).await;
        let available = scene.client.available(&scene.product).await;
        assert_eq!(answer["orders"]["totalCount"].as_i64().unwrap(), 1_000_000 - available, "one piece an order");
        placed.len()
    }
}

/// Queries of the catalogue (or of accounts), one after another, while another domain is down.
async fn others_answer(scene: &Scene, frozen: &str, stop: &AtomicBool) -> (usize, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        if frozen.starts_with("products") {
            scene.client.query(Some(&scene.customer.token), "{ me { id email } }", json!({})).await;
        } else {
            scene.client.query(None, "{ products(first: 3) { nodes { id available } } }", json!({})).await;
        }
        slowest = slowest.max(began.elapsed());
        count += 1;
        pass(Duration::from_millis(20)).await;
    }
    (count, slowest)
}

/// Panic, freeze and failing start of each of these under load. Restarts of one supervisor stay within its window.
async fn survives(actors: &[&str]) {
    let scene = Scene::start(&[FAULTS]).await;
    let load = Orders::start(&scene);
    for actor in actors {
        let before = scene.restarts(actor).await;

        assert_eq!(scene.inject(actor, "panic").await, 202);
        let (why, took) = scene.back_after(actor, before + 1).await;
        assert!(why.contains("injected fault: panic") && why.contains("faults.rs:"), "{why}");
        assert!(took < Duration::from_secs(1), "{actor} was away for {took:?} after a panic");
        scene.works().await;

        assert_eq!(scene.inject(actor, "freeze").await, 202);
        let stop = AtomicBool::new(false);
        let ((why, noticed), (count, slowest)) = tokio::join!(
            async {
                let back = scene.back_after(actor, before + 2).await;
                stop.store(true, Ordering::Relaxed);
                back
            },
            others_answer(&scene, actor, &stop)
        );
        assert!(why.contains("frozen"), "{why}");
        assert!(noticed < Duration::from_secs(6), "the freeze of {actor} was noticed after {noticed:?}");
        assert!(count > 10 && slowest < Duration::from_secs(1), "{count} others during it, the slowest {slowest:?}");
        scene.works().await;

        assert_eq!(scene.inject(actor, "fail-start").await, 202);
        let (why, failing) = scene.back_after(actor, before + 6).await;
        assert!(why.contains("failed to start"), "{why}");
        assert!(failing < Duration::from_secs(5), "{actor} was away for {failing:?} after failed starts");
        scene.works().await;
        println!(
            "{actor}: back from a panic {took:?}, a freeze {noticed:?}, failed starts {failing:?}; others {count}, slowest {slowest:?}"
        );
    }
    let domains: Vec<&str> = actors.iter().map(|actor| actor.split('.').next().unwrap()).collect();
    for (name, actor) in scene.actors().await.unwrap() {
        let touched = domains.contains(&name.split('.').next().unwrap());
        assert!(touched || actor.restarts == 0, "{name} was restarted and was not concerned: {actor:?}");
        assert_eq!(actor.state, "RUNNING", "{name}");
    }
    println!("{} orders", load.finish(&scene).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_products_and_notifications_come_back_and_the_others_do_not_notice() {
    survives(&["users", "products", "notifications"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_events_recommendations_the_dispatcher_and_campaign_events_come_back_and_the_others_do_not_notice() {
    survives(&["orders", "events", "recommendations", "notifications.dispatcher", "products.campaign-events"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_the_inventory_the_tail_the_history_and_a_worker_come_back_and_the_others_do_not_notice() {
    let history = "recommendations.history";
    survives(&["orders.writer", "products.inventory", "events.tail", history, "notifications.worker-1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verdicts_the_dead_letters_and_what_users_are_told_come_back_and_the_others_do_not_notice() {
    survives(&["orders.verdicts", "events.dead-letters", "operations", "notifications.events", "products.campaigns"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_panics_in_a_row_end_the_process_with_code_1_and_a_message() {
    let mut scene = Scene::start(&[FAULTS]).await;
    for _ in 0..50 {
        assert_eq!(scene.inject("products", "panic").await, 202);
    }
    let ready = format!("http://{}/health/ready", scene.shop().admin);
    let seen_escalated = Cell::new(false);
    eventually("readiness tells of the escalation, or the process is gone", async || {
        let Ok(answer) = scene.client.http.get(&ready).send().await else { return Some(()) };
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.ok()?;
        seen_escalated.set(status == 503 && body["status"] == "escalated");
        seen_escalated.get().then_some(())
    })
    .await;
    let escalated = Instant::now();
    let exit = wait(scene.shop.take().unwrap(), Duration::from_secs(10)).await;
    println!("escalated seen: {}, ended {:?} later", seen_escalated.get(), escalated.elapsed());
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    let told = exit.stderr.lines().any(|line| line.starts_with("souk: gave up") && line.contains("products"));
    assert!(told, "{}", exit.stderr);
}

async fn wait(shop: ShopProcess, deadline: Duration) -> Exit {
    tokio::task::spawn_blocking(move || shop.wait(deadline)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_that_goes_on_is_not_frozen_and_an_idle_one_rests() {
    let scene = Scene::start(&[FAULTS]).await;
    scene.works().await;
    scene.shop().signal("STOP");
    pass(Duration::from_secs(6)).await;
    scene.shop().signal("CONT");
    scene.works().await;
    pass(Duration::from_secs(2)).await;
    // Idle from here on: no polling loop shows in the process's own clock.
    let (began, before) = (Instant::now(), cpu_ticks(scene.shop().id()));
    pass(Duration::from_secs(5)).await;
    let (idle, used) = (began.elapsed(), cpu_ticks(scene.shop().id()) - before);
    println!("{used} ticks of CPU in {idle:?} of idleness");
    assert!(used <= 5, "{used} ticks in {idle:?}");
    for (name, actor) in scene.actors().await.unwrap() {
        assert_eq!((actor.restarts, actor.state.as_str()), (0, "RUNNING"), "{name}");
    }
}

/// utime + stime, in hundredths of a second.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_answers_what_was_accepted_and_ends_with_0() {
    // Hashes that take their time: requests are in hand when the signal comes.
    let mut scene = Scene::start(&[
        ("SOUK__AUTH__BCRYPT_COST", "12"),
        // On a slow machine they take longer than anybody would wait; what is waited for here is the end.
        ("SOUK__SUPERVISION__ASK_TIMEOUT_MS", "25000"),
        ("SOUK__GATEWAY__REQUEST_TIMEOUT_MS", "28000"),
    ])
    .await;
    let mut socket = Socket::connect(scene.shop().public, Some(&scene.staff.token)).await;
    let tree = socket.subscribe("subscription { supervisionChanged { name } }", json!({})).await;
    socket.data_of(&tree).await;
    let load = Orders::start(&scene);
    let sign_ups: Vec<_> = (0..6)
        .map(|_| {
            let client = scene.client.clone();
            tokio::spawn(async move { client.sign_up().await })
        })
        .collect();
    pass(Duration::from_millis(200)).await;
    load.stop.store(true, Ordering::Relaxed);
    let placed = load.task.await.unwrap();
    let last = scene.client.place(&scene.customer, "last", &[(&scene.product, 1)], 0).await;
    scene.shop().signal("TERM");

    let ready = format!("http://{}/health/ready", scene.shop().admin);
    eventually("readiness tells that the shop drains", async || {
        let answer = scene.client.http.get(&ready).send().await.expect("the admin listener stays to the end");
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status == 503 && body["status"] == "draining").then_some(())
    })
    .await;
    for sign_up in sign_ups {
        sign_up.await.expect("an accepted request is answered");
    }
    assert_eq!(socket.close_code().await, Some(1001));
    let exit = wait(scene.shop.take().unwrap(), DEADLINE).await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);

    let shop = ShopProcess::start(&scene.folder.path().join("data"), &[]);
    let client = shop.client();
    for (key, id) in placed.iter().chain([&("last".to_owned(), last["order"]["id"].as_str().unwrap().to_owned())]) {
        let again = client.place(&scene.customer, key, &[(&scene.product, 1)], 10_000).await;
        assert_eq!((&again["order"]["id"], &again["order"]["status"]), (&json!(id), &json!("CONFIRMED")), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_that_were_given_up_do_not_hold_up_the_stop() {
    let mut scene = Scene::start(&[FAULTS]).await;
    for actor in ["events.tail", "orders.verdicts"] {
        assert_eq!(scene.inject(actor, "freeze").await, 202);
    }
    for actor in ["events.tail", "orders.verdicts"] {
        scene.back_after(actor, 1).await;
    }
    let placed = scene.client.place(&scene.customer, "last", &[(&scene.product, 1)], 0).await;
    assert_eq!(placed["order"]["status"], "PENDING", "{placed}");
    scene.shop().signal("TERM");
    // Long before they would wake.
    let exit = wait(scene.shop.take().unwrap(), Duration::from_secs(8)).await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_switches_are_there_only_where_they_are_enabled_and_never_in_production() {
    let scene = Scene::start(&[FAULTS]).await;
    assert_eq!(scene.inject("nobody", "panic").await, 404);
    assert_eq!(scene.inject("users", "explode").await, 404);
    let url = format!("http://{}/faults/users/panic", scene.shop().admin);
    assert_eq!(scene.client.http.get(url).send().await.unwrap().status().as_u16(), 405);
    assert_eq!(scene.restarts("users").await, 0);

    let without = Scene::start(&[]).await;
    assert_eq!(without.inject("users", "panic").await, 404);
    assert_eq!(without.restarts("users").await, 0);

    let production = [
        FAULTS,
        ANY_ADMIN_PORT,
        NO_DEMO,
        ("SOUK__ENVIRONMENT", "production"),
        ("SOUK__ALLOW_EMBEDDED_IN_PRODUCTION", "true"),
        ("SOUK__AUTH__KEY_SECRET", "0123456789abcdef0123456789abcdef"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&folder.path().join("data"), &["--listen", "127.0.0.1:0"], &production, "");
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("faults.enabled"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_beside_a_running_shop() {
    let scene = Scene::start(&[]).await;
    let dir = scene.folder.path().join("data");
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    for command in [serve.as_slice(), &["migrate"]] {
        let (code, stdout, stderr) = run(&dir, command, &[ANY_ADMIN_PORT, NO_DEMO], "");
        assert_eq!((code, stdout.as_str()), (2, ""), "{command:?}: {stderr}");
        assert!(stderr.contains("data"), "{command:?} says which folder: {stderr}");
    }

    for (email, password) in
        [("first@test.example", PASSWORD.to_owned()), ("second@test.example", format!("{PASSWORD}\n"))]
    {
        let (code, _, stderr) = run(&dir, &create_admin(email), &[CHEAP], &password);
        assert_eq!(code, 0, "{stderr}");
        let account = scene.client.sign_in(email, PASSWORD).await;
        let me = scene.client.query(Some(&account.token), "{ me { email role } }", json!({})).await;
        assert_eq!(me["me"], json!({ "email": email, "role": "ADMIN" }));
    }
    let (code, _, stderr) = run(&dir, &create_admin("first@test.example"), &[CHEAP], PASSWORD);
    assert_eq!(code, 2, "{stderr}");

    let (code, stdout, stderr) = run(&dir, &["dead-letters", "list"], &[], "");
    assert_eq!((code, stdout.trim()), (0, "0 dead letters"), "{stderr}");

    // The port is taken by the shop; a folder of its own does not help.
    let other = scene.folder.path().join("other");
    let taken = scene.shop().public.to_string();
    let (code, stdout, stderr) = run(&other, &["--listen", &taken], &[ANY_ADMIN_PORT, NO_DEMO], "");
    assert!(code != 0 && stdout.is_empty(), "{code}: {stderr}");
    assert!(stderr.contains(&taken), "{stderr}");
    let taken = scene.shop().admin.to_string();
    let settings = [("SOUK__ADMIN__LISTEN", taken.as_str()), NO_DEMO];
    let (code, stdout, stderr) = run(&other, &["--listen", "127.0.0.1:0"], &settings, "");
    assert!(code != 0 && stdout.is_empty(), "{code}: {stderr}");
    assert!(stderr.contains(&taken), "{stderr}");
    scene.works().await;
}

#[test]
fn what_the_configuration_cannot_be_is_named_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let file = folder.path().join("souk.toml");
    std::fs::write(&file, "[shop]\ncurrrency = 'EUR'\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], (&str, &str), &str); 6] = [
        (&["--config", file], NO_DEMO, "currrency"),
        (&["--config", "no-such.toml"], NO_DEMO, "no-such.toml"),
        (&[], ("SOUK__SHOP__CURENCY", "EUR"), "SOUK__SHOP__CURENCY"),
        (&[], ("SOUK__AUTH__BCRYPT_COST", "40"), "bcrypt_cost"),
        (&[], ("SOUK__GATEWAY__LISTEN", "here"), "SOUK__GATEWAY__LISTEN"),
        (&["--no-such-flag"], NO_DEMO, "--no-such-flag"),
    ];
    for (arguments, setting, named) in cases {
        let (code, stdout, stderr) = run(&dir, arguments, &[setting], "");
        assert_eq!((code, stdout.as_str()), (2, ""), "{named}: {stderr}");
        assert!(stderr.to_lowercase().contains(&named.to_lowercase()), "{named}: {stderr}");
    }
    assert!(!dir.exists(), "nothing was made");
}

#[test]
fn config_and_schema_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let secret = "an-open-secret-of-thirty-two-letters";
    let settings = [("SOUK__AUTH__KEY_SECRET", secret), ("SOUK__STORE__URI", "mongodb://souk:hunter2@db/souk")];
    let (code, stdout, stderr) = run(&dir, &["config", "print"], &settings, "");
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("bcrypt_cost = 12") && stdout.contains("key_secret"), "{stdout}");
    for hidden in [secret, "hunter2"] {
        assert!(!stdout.contains(hidden) && !stderr.contains(hidden), "{hidden} is shown: {stdout}");
    }
    let (code, stdout, stderr) = run(&dir, &["schema", "print"], &[], "");
    let snapshot = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap();
    assert_eq!((code, stdout.trim()), (0, snapshot.trim()), "{stderr}");
}

#[tokio::test]
async fn stdout_carries_the_two_ready_lines_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("stdout");
    let child = souk(&folder.path().join("data"))
        .args(["--listen", "127.0.0.1:0"])
        .envs([ANY_ADMIN_PORT, CHEAP])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (process, child) = (child.id(), RefCell::new(child));
    // With demo data, whose progress and banner belong to stderr.
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    eventually("both lines are there", async || (read(&out).lines().count() >= 2).then_some(())).await;
    let stopped = std::process::Command::new("kill").arg(process.to_string()).status().unwrap();
    assert!(stopped.success());
    let status = eventually("the shop stops", async || child.borrow_mut().try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    let text = read(&out);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("souk ready: http://127.0.0.1:") && lines[0].ends_with("/graphql"), "{text}");
    assert!(lines[1].starts_with("souk admin: http://127.0.0.1:"), "{text}");
}

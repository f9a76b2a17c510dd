//! `souk doctor` says what a start would stumble over, and changes nothing.

use std::path::Path;

use souk::config::Config;

use crate::support::process::{ShopProcess, run};
use crate::support::servers;

/// The settings that put a command on the shop of this configuration.
fn on_servers(config: &Config) -> Vec<(&'static str, String)> {
    vec![
        ("SOUK__STORE__KIND", "mongodb".to_owned()),
        ("SOUK__STORE__URI", config.store.uri.expose().to_owned()),
        ("SOUK__STORE__PREFIX", config.store.prefix.clone()),
        ("SOUK__EVENTS__KIND", "kafka".to_owned()),
        ("SOUK__EVENTS__BROKERS", config.events.brokers.join(",")),
        ("SOUK__EVENTS__PREFIX", config.events.prefix.clone()),
        ("SOUK__EVENTS__PARTITIONS", config.events.partitions.to_string()),
        ("SOUK__CACHE__KIND", "redis".to_owned()),
        ("SOUK__CACHE__URI", config.cache.uri.expose().to_owned()),
    ]
}

/// What it prints and its exit code, on ports that are free.
fn doctor(data: &Path, settings: &[(&str, &str)]) -> (i32, String) {
    let mut all = vec![("SOUK__GATEWAY__LISTEN", "127.0.0.1:0"), ("SOUK__ADMIN__LISTEN", "127.0.0.1:0")];
    all.extend_from_slice(settings);
    let (code, stdout, stderr) = run(data, &["doctor"], &all, "");
    (code, stdout + &stderr)
}

/// The verdict on a part, of a line such as `ok    kafka    every topic is there`.
fn verdict<'a>(said: &'a str, part: &str) -> &'a str {
    let line = said.lines().find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(&format!("{part} "))));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or_else(|| panic!("nothing about {part}: {said}"))
}

#[actix_rt::test]
async fn an_empty_folder_is_well_a_shop_of_it_too_and_what_is_broken_in_it_is_named_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (code, said) = doctor(&data, &[]);
    assert_eq!((code, verdict(&said, "data_dir"), verdict(&said, "store orders.db")), (0, "ok", "ok"), "{said}");
    assert!(!data.exists(), "looking made the data folder");

    let shop = ShopProcess::start(&data, &[]);
    let taken = shop.public.to_string();
    let (code, said) = doctor(&data, &[("SOUK__GATEWAY__LISTEN", &taken)]);
    assert_eq!(
        (code, verdict(&said, "gateway.listen"), verdict(&said, "store events.db")),
        (0, "warn", "ok"),
        "{said}"
    );
    shop.signal("TERM");
    shop.wait(std::time::Duration::from_secs(60));

    let (code, said) = doctor(&data, &[("SOUK__EVENTS__PARTITIONS", "3")]);
    assert_eq!((code, verdict(&said, "store events.db")), (1, "BAD"), "{said}");
    assert!(said.contains("-> set events.partitions to 8"), "{said}");

    assert_eq!(verdict(&said, "auth.key_secret"), "ok", "{said}");
    let secret = ("SOUK__AUTH__KEY_SECRET", "a secret of this test, long enough");
    assert!(ShopProcess::start(&data, &[secret]).stop().status.success());
    for (other, expected) in [(secret.1, "ok"), ("", "BAD"), ("another secret, long enough too", "BAD")] {
        let (_, said) = doctor(&data, &[("SOUK__AUTH__KEY_SECRET", other)]);
        assert_eq!(verdict(&said, "auth.key_secret"), expected, "{said}");
    }

    std::fs::write(data.join("users.db"), "no database ".repeat(400)).unwrap();
    let (code, said) = doctor(&data, &[]);
    assert_eq!((code, verdict(&said, "store users.db"), verdict(&said, "store orders.db")), (1, "BAD", "ok"), "{said}");
}

#[actix_rt::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn servers_are_looked_at_before_and_after_a_shop_uses_them_and_each_that_is_away_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut config = Config::default();
    servers::put_on(&mut config, dir.path());
    let settings = on_servers(&config);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let orders = format!("store {}orders", config.store.prefix);

    let (code, said) = doctor(&data, &settings);
    assert_eq!(
        (code, verdict(&said, "mongodb"), verdict(&said, "clock"), verdict(&said, "redis")),
        (0, "ok", "ok", "ok"),
        "{said}"
    );
    assert_eq!((verdict(&said, "kafka"), verdict(&said, &orders)), ("warn", "ok"), "{said}");

    let shop = ShopProcess::start(&data, &settings);
    shop.signal("TERM");
    shop.wait(std::time::Duration::from_secs(60));
    let (code, said) = doctor(&data, &settings);
    assert_eq!((code, verdict(&said, "kafka")), (0, "ok"), "{said}");
    assert!(said.contains("schema version 1"), "{said}");

    let client = mongodb::Client::with_uri_str(config.store.uri.expose()).await.unwrap();
    let database = client.database(&format!("{}orders", config.store.prefix));
    let collection = database.collection::<mongodb::bson::Document>("orders");
    let names = collection.list_index_names().await.unwrap();
    let index = names.iter().find(|name| *name != "_id_").unwrap();
    collection.drop_index(index).await.unwrap();
    let with = |name: &'static str, value: &'static str| {
        let mut changed = settings.clone();
        changed.push((name, value));
        changed
    };
    let (code, said) = doctor(&data, &with("SOUK__EVENTS__PARTITIONS", "3"));
    assert_eq!((code, verdict(&said, &orders), verdict(&said, "kafka")), (1, "BAD", "BAD"), "{said}");
    assert!(said.contains(&format!("orders.{index}")) && said.contains("-> set events.partitions to 2"), "{said}");

    // Port 1 is nobody's.
    let (code, said) = doctor(&data, &with("SOUK__STORE__URI", "mongodb://127.0.0.1:1/?replicaSet=rs0"));
    assert_eq!((code, verdict(&said, "store"), verdict(&said, "redis")), (1, "BAD", "ok"), "{said}");
    let (code, said) = doctor(&data, &with("SOUK__EVENTS__BROKERS", "127.0.0.1:1"));
    assert_eq!((code, verdict(&said, "kafka"), verdict(&said, "mongodb")), (1, "BAD", "ok"), "{said}");
    let (_, said) = doctor(&data, &with("SOUK__CACHE__URI", "redis://127.0.0.1:1/"));
    assert_eq!((verdict(&said, "redis"), verdict(&said, "mongodb")), ("warn", "ok"), "{said}");
    servers::remove_names(&config);
}

#[test]
fn the_manual_and_the_completions_name_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let commands = [
        "serve",
        "migrate",
        "doctor",
        "demo",
        "admin",
        "dead-letters",
        "orders",
        "recommendations",
        "config",
        "schema",
    ];
    let (code, page, _) = run(dir.path(), &["man"], &[], "");
    assert!(code == 0 && commands.iter().all(|name| page.contains(&name.replace('-', "\\-"))), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(dir.path(), &["completions", shell], &[], "");
        assert!(code == 0 && commands.iter().all(|name| script.contains(name)), "{shell}");
    }
    let pages = dir.path().join("man");
    let (code, _, stderr) = run(dir.path(), &["man", "--dir", pages.to_str().unwrap()], &[], "");
    assert_eq!(code, 0, "{stderr}");
    assert!(pages.join("souk.1").is_file() && pages.join("souk-dead-letters-list.1").is_file());
}

//! The real servers, where the environment says so: with `SOUK_TEST_STACK=servers` every shop of a test runs on MongoDB, Kafka and
//! Redis, under names that belong to its folder, and takes them away when it ends.

use std::path::Path;

use rdkafka::admin::{AdminClient, AdminOptions};
use souk::config::{CacheKind, Config, Domain, EventsKind, SecretUri, StoreKind};
use souk::domain::events::Topic;

/// Whether the tests run on real servers.
pub fn are_used() -> bool {
    std::env::var("SOUK_TEST_STACK").is_ok_and(|stack| stack == "servers")
}

fn address(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("a test on real servers needs {name}; scripts/test gives it"))
}

/// A shop that is started again on a folder finds what an earlier one left.
pub fn use_for(config: &mut Config, dir: &Path) {
    if are_used() {
        put_on(config, dir);
    }
}

/// Makes the servers a shop's, whatever the other tests run on.
pub fn put_on(config: &mut Config, dir: &Path) {
    let name: String = dir.file_name().unwrap().to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect();
    config.store.kind = StoreKind::Mongodb;
    config.store.uri = SecretUri::new(address("SOUK_TEST_MONGODB_URI"));
    config.store.prefix = format!("t{name}_");
    config.events.kind = EventsKind::Kafka;
    config.events.brokers = vec![address("SOUK_TEST_KAFKA_BROKERS")];
    config.events.prefix = format!("t{name}.");
    config.events.partitions = 2;
    config.cache.kind = CacheKind::Redis;
    config.cache.uri = SecretUri::new(address("SOUK_TEST_REDIS_URI"));
}

/// The variables that put a process where [`put_on`] put the configuration.
pub fn settings_of(config: &Config) -> Vec<(&'static str, String)> {
    let (store, events) = (&config.store, &config.events);
    vec![
        ("SOUK__STORE__KIND", "mongodb".to_owned()),
        ("SOUK__STORE__URI", store.uri.expose().to_owned()),
        ("SOUK__STORE__PREFIX", store.prefix.clone()),
        ("SOUK__EVENTS__KIND", "kafka".to_owned()),
        ("SOUK__EVENTS__BROKERS", events.brokers.join(",")),
        ("SOUK__EVENTS__PREFIX", events.prefix.clone()),
        ("SOUK__EVENTS__PARTITIONS", events.partitions.to_string()),
        ("SOUK__CACHE__KIND", "redis".to_owned()),
        ("SOUK__CACHE__URI", config.cache.uri.expose().to_owned()),
    ]
}

/// Takes away what a shop left on the servers. On a thread with a runtime of its own: shops end in any context.
pub fn remove(config: &Config) {
    if are_used() {
        remove_names(config);
    }
}

/// As [`remove`], of a shop that was put on the servers.
pub fn remove_names(config: &Config) {
    let config = config.clone();
    let removing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = mongodb::Client::with_uri_str(config.store.uri.expose()).await.unwrap();
            for domain in Domain::ALL {
                let name = format!("{}{}", config.store.prefix, domain.name());
                client.database(&name).drop().await.unwrap();
            }
            let mut settings = rdkafka::ClientConfig::new();
            settings.set("bootstrap.servers", config.events.brokers.join(","));
            let admin: AdminClient<_> = settings.create().unwrap();
            let topics: Vec<String> =
                Topic::ALL.iter().map(|topic| format!("{}{}", config.events.prefix, topic.name())).collect();
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            // A shop that was killed early has made none.
            admin.delete_topics(&names, &AdminOptions::new()).await.unwrap();
        });
    });
    removing.join().unwrap();
}

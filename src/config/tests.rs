use std::collections::BTreeSet;
use std::io::Write;

use super::load::{explanation, leaves, variable_of};
use super::*;

const NO_FILE: Option<&Path> = None;
const SECRET: &str = "correct horse battery staple";

fn from_env(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(NO_FILE, owned(variables), CliOverrides::default())
}

fn owned(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>().into_iter()
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::load(Some(file.path()), std::iter::empty(), CliOverrides::default())
}

/// A production configuration that nothing is wrong with, and what a case adds to it.
fn production(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut variables = vec![
        ("SOUK__ENVIRONMENT", "production"),
        ("SOUK__ALLOW_EMBEDDED_IN_PRODUCTION", "true"),
        ("SOUK__AUTH__KEY_SECRET", SECRET),
    ];
    variables.extend_from_slice(more);
    from_env(&variables)
}

fn every_setting() -> Vec<(String, toml::Value)> {
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    leaves(&defaults, "", &defaults)
}

#[test]
fn the_shipped_file_is_the_defaults_and_names_and_explains_every_setting() {
    let text = include_str!("../../config.toml");
    assert_eq!(toml::from_str::<Config>(text).unwrap(), Config::default());
    assert_eq!(from_file(text).unwrap(), Config::default());

    // What is commented out, because it depends on another setting, has its default there too.
    let uncommented = text.replace("#: ", "");
    let table: toml::Table = toml::from_str(&uncommented).unwrap();
    let named: BTreeSet<String> = leaves(&table, "", &table).into_iter().map(|(key, _)| key).collect();
    assert_eq!(toml::from_str::<Config>(&uncommented).unwrap(), Config::default());
    for (key, _) in every_setting() {
        assert!(named.contains(&key), "config.toml does not name {key}");
        assert!(explanation(&key).len() > 10, "config.toml does not explain {key}");
    }
}

#[test]
fn the_reference_is_what_the_settings_say() {
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let current = Config::reference().unwrap();
    assert!(kept == current, "docs/configuration.md is old: souk config reference > docs/configuration.md");
    for (key, _) in every_setting() {
        assert!(current.contains(&format!("| `{}` |", variable_of(&key))), "{key}");
    }
}

#[test]
fn the_defaults_and_the_test_configuration_are_valid() {
    Config::default().validate().unwrap();
    let config = Config::for_testing("somewhere");
    config.validate().unwrap();
    assert_eq!((config.gateway.listen.port(), config.admin.listen.port()), (0, 0));
    assert_eq!((config.auth.bcrypt_cost, config.demo), (4, false));
}

#[test]
fn every_setting_has_a_variable_that_is_typed_by_its_field() {
    for (key, value) in every_setting() {
        let text = match &value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        };
        let config = from_env(&[(&variable_of(&key), &text)]).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(config, Config::default(), "{key}");
    }
}

#[test]
fn variables_set_what_they_name() {
    let config = from_env(&[
        ("SOUK__DEMO", "false"),
        ("SOUK__GATEWAY__LISTEN", "0.0.0.0:0"),
        ("SOUK__GATEWAY__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,::1,::ffff:12.0.0.0/104"),
        ("SOUK__AUTH__KEY_SECRET", "1234567890"),
        ("SOUK__AUTH__BCRYPT_COST", "4"),
        ("SOUK__RECOMMENDATIONS__CONSUMABLE_CATEGORIES", "Tea, Coffee"),
        ("SOUK__STORE__URI", "mongodb://one"),
        ("SOUK__STORE__URIS__ORDERS", "mongodb://other"),
        ("PATH", "is not ours"),
    ])
    .unwrap();
    assert!(!config.demo);
    assert_eq!(config.gateway.listen.to_string(), "0.0.0.0:0");
    assert_eq!(config.auth.key_secret.expose(), "1234567890");
    assert_eq!(config.recommendations.consumable_categories, ["Tea", "Coffee"]);
    assert_eq!(config.store.uri_of(Domain::Orders).expose(), "mongodb://other");
    assert_eq!(config.store.uri_of(Domain::Users).expose(), "mongodb://one");
    for (peer, trusted) in
        [("127.0.0.1", true), ("10.200.3.4", true), ("::ffff:10.0.0.1", true), ("::1", true), ("12.3.0.1", true)]
            .into_iter()
            .chain([("11.0.0.1", false), ("127.0.0.2", false), ("::2", false)])
    {
        assert_eq!(config.gateway.trusts_proxy(peer.parse().unwrap()), trusted, "{peer}");
    }
}

#[test]
fn a_flag_is_over_a_variable_and_a_variable_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "data_dir = 'file'\nshutdown_timeout_ms = 1\nstart_timeout_ms = 1").unwrap();
    let variables = [("SOUK__DATA_DIR", "variable"), ("SOUK__SHUTDOWN_TIMEOUT_MS", "2")];
    let flags = CliOverrides { data_dir: Some("flag".into()), listen: Some("127.0.0.1:9".into()) };
    let config = Config::load(Some(file.path()), owned(&variables), flags).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("flag"));
    assert_eq!((config.shutdown_timeout_ms, config.start_timeout_ms), (2, 1));
    assert_eq!(config.gateway.listen.port(), 9);
}

#[test]
fn demo_depends_on_the_environment_until_it_is_set() {
    assert!(from_env(&[]).unwrap().demo);
    assert!(!production(&[]).unwrap().demo);
    assert!(!production(&[("SOUK__DEMO", "false")]).unwrap().demo);
    let error = production(&[("SOUK__DEMO", "true")]).unwrap_err().to_string();
    assert!(error.contains("demo (variable SOUK__DEMO): production refuses it"), "{error}");
}

/// Variable, value, and words that the message must contain.
const WRONG_VARIABLES: &[(&str, &str, &[&str])] = &[
    ("SOUK__GATEWAY__LISTN", "x", &["SOUK__GATEWAY__LISTN", "no such setting", "did you mean SOUK__GATEWAY__LISTEN?"]),
    ("SOUK__BCRYPT_COST", "12", &["did you mean SOUK__AUTH__BCRYPT_COST?"]),
    ("SOUK__GATEWAY", "x", &["no such setting"]),
    ("SOUK__gateway__listen", "127.0.0.1:1", &["did you mean SOUK__GATEWAY__LISTEN?"]),
    ("SOUK__", "x", &["no such setting"]),
    ("SOUK__STORE__URIS__ORDER", "x", &["did you mean SOUK__STORE__URIS__ORDERS?"]),
    ("SOUK__XYZZY__PLUGH", "x", &["no such setting", "souk config print"]),
    ("SOUK__GATEWAY__LISTEN", "localhost:4000", &["gateway.listen", "socket address", "127.0.0.1:4000"]),
    ("SOUK__GATEWAY__LISTEN", "4000", &["gateway.listen"]),
    ("SOUK__GATEWAY__PUBLIC_URL", "https://shop.example/", &["slash", "https://shop.example"]),
    ("SOUK__GATEWAY__PUBLIC_URL", "shop.example", &["no scheme"]),
    ("SOUK__GATEWAY__PUBLIC_URL", "ftp://shop.example", &["http://"]),
    ("SOUK__GATEWAY__PUBLIC_URL", "https://a:b@shop.example", &["credentials"]),
    ("SOUK__GATEWAY__PUBLIC_URL", "https://shop.example:99999", &["port"]),
    ("SOUK__GATEWAY__ALLOWED_ORIGINS", "https://a.example,b.example", &["`b.example`"]),
    (
        "SOUK__GATEWAY__ALLOWED_ORIGINS",
        "a.example,b.example",
        &["`a.example`", "gateway.allowed_origins (variable SOUK__GATEWAY__ALLOWED_ORIGINS): `b.example`"],
    ),
    ("SOUK__GATEWAY__TRUSTED_PROXIES", "10.0.0.0/33", &["10.0.0.0/8"]),
    ("SOUK__GATEWAY__MAX_DEPTH", "0", &["0 is not in 1 to 100"]),
    ("SOUK__GATEWAY__MAX_BODY_BYTES", "1MB", &["`1MB` is not a whole number", "in bytes"]),
    ("SOUK__DEMO", "yes", &["`yes` is neither true nor false"]),
    ("SOUK__DEMO", "", &["neither true nor false"]),
    ("SOUK__ENVIRONMENT", "staging", &["staging", "development", "production"]),
    ("SOUK__DATA_DIR", "", &["data_dir", "empty"]),
    ("SOUK__DATA_DIR", "a\u{fffd}", &["not UTF-8"]),
    ("SOUK__ROLES", "", &["without a role"]),
    ("SOUK__ROLES", "all,gateway", &["stands alone"]),
    ("SOUK__ROLES", "gatewy", &["`gatewy`", "gateway, inventory"]),
    ("SOUK__ROLES", "gateway", &["embedded adapter serves one process only", "store.kind", "events.kind"]),
    ("SOUK__SHUTDOWN_TIMEOUT_MS", "-1", &["shutdown_timeout_ms", "-1"]),
    ("SOUK__SHUTDOWN_TIMEOUT_MS", "0", &["not in 1 to 3600000"]),
    ("SOUK__SHOP__CURRENCY", "eur", &["three capital letters"]),
    ("SOUK__SHOP__CURRENCY", "EURO", &["three capital letters"]),
    ("SOUK__STORE__KIND", "mongo", &["`mongo`", "sqlite", "mongodb"]),
    ("SOUK__STORE__KIND", "mongodb", &["store.uri (default)", "it is empty"]),
    ("SOUK__STORE__PREFIX", "a/b", &["`a/b` cannot begin a name"]),
    ("SOUK__EVENTS__KIND", "kafka", &["events.brokers"]),
    ("SOUK__EVENTS__SASL", "gssapi", &["`gssapi`", "scram-sha-256"]),
    ("SOUK__EVENTS__PARTITIONS", "0", &["not in 1 to 1000"]),
    ("SOUK__EVENTS__RETRY_MAX_MS", "1", &["less than events.retry_base_ms = 100"]),
    ("SOUK__CACHE__KIND", "redis", &["cache.uri", "redis://"]),
    ("SOUK__MAIL__KIND", "smtp", &["mail.uri", "smtp://"]),
    ("SOUK__MAIL__FROM", "nobody", &["`nobody` is no mail address"]),
    ("SOUK__MAIL__FROM", "A <a@b", &["not closed"]),
    ("SOUK__AUTH__BCRYPT_COST", "3", &["auth.bcrypt_cost (variable SOUK__AUTH__BCRYPT_COST)", "3 is not in 4 to 15"]),
    ("SOUK__AUTH__BCRYPT_COST", "16", &["16 is not in 4 to 15"]),
    ("SOUK__AUTH__ACCESS_TOKEN_SECONDS", "15m", &["`15m`", "in seconds"]),
    ("SOUK__AUTH__ISSUER", "", &["auth.issuer"]),
    ("SOUK__AUTH__VERIFICATION_KEY_FILES", "a.pem", &["without auth.signing_key_file"]),
    ("SOUK__NOTIFICATIONS__WORKERS", "0", &["not in 1 to 256"]),
    ("SOUK__SUPERVISION__FREEZE_AFTER_MS", "1999", &["two heartbeats"]),
    ("SOUK__LOG__LEVEL", "loud", &["`loud` is no level"]),
    ("SOUK__LOG__FORMAT", "xml", &["auto", "json"]),
];

#[test]
fn a_wrong_variable_is_named_with_what_would_be_right() {
    for (name, value, words) in WRONG_VARIABLES {
        let error = from_env(&[(name, value)]).expect_err(name).to_string();
        for word in *words {
            assert!(error.contains(word), "{name}={value} does not say `{word}`: {error}");
        }
    }
}

#[test]
fn signing_in_to_kafka_takes_a_mechanism_a_user_and_a_password() {
    let kafka = [("SOUK__EVENTS__KIND", "kafka"), ("SOUK__EVENTS__BROKERS", "b:9092")];
    let load = |more: &[(&str, &str)]| from_env(&[&kafka, more].concat());
    let (user, password) = (("SOUK__EVENTS__USER", "souk"), ("SOUK__EVENTS__PASSWORD", "hidden"));
    load(&[]).unwrap();
    let config = load(&[("SOUK__EVENTS__SASL", "plain"), user, password]).unwrap();
    assert_eq!((config.events.sasl, config.events.password.expose()), (SaslMechanism::Plain, "hidden"));
    for (more, word) in [
        (vec![user, password], "events.sasl"),
        (vec![("SOUK__EVENTS__SASL", "plain"), user], "events.user and events.password"),
        (vec![("SOUK__EVENTS__TLS_CA_FILE", "ca.pem")], "events.tls is false"),
    ] {
        let error = load(&more).expect_err(word).to_string();
        assert!(error.contains(word) && !error.contains("hidden"), "{error}");
    }
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn a_build_without_tls_for_kafka_says_so() {
    let kafka = [("SOUK__EVENTS__KIND", "kafka"), ("SOUK__EVENTS__BROKERS", "b:9093")];
    let scram = [("SOUK__EVENTS__SASL", "scram-sha-512"), ("SOUK__EVENTS__USER", "u"), ("SOUK__EVENTS__PASSWORD", "p")];
    for more in [&[("SOUK__EVENTS__TLS", "true")][..], &scram] {
        let error = from_env(&[&kafka, more].concat()).unwrap_err().to_string();
        assert!(error.contains("--features kafka-tls"), "{error}");
    }
}

/// The text of a file, and words that the message must contain.
const WRONG_FILES: &[(&str, &[&str])] = &[
    ("demo = true\n[gateway]\nlisten = ", &[":3: this is not TOML"]),
    ("demo = true\ndemo = true", &[":2: this is not TOML", "duplicate"]),
    ("\n[gateway]\nlistn = \"x\"", &["gateway.listn (", ":3)", "no such setting", "did you mean gateway.listen?"]),
    ("[gatway]\nlisten = \"127.0.0.1:1\"", &["gatway", ":1)", "no such setting"]),
    ("bcrypt_cost = 12", &["did you mean auth.bcrypt_cost?"]),
    ("[auth]\nkey_secret = 1234567", &[":2)", "a whole number, but text in quotes is wanted"]),
    ("[auth]\nbcrypt_cost = '12'", &["text in quotes, but a whole number is wanted", "4 to 15"]),
    ("[auth]\nbcrypt_cost = 12.5", &["a number with a point"]),
    ("gateway = 1", &["gateway (", "but a section is wanted"]),
    ("roles = 'all'", &["a list in square brackets is wanted"]),
    ("roles = [1]", &["roles (", ":1)"]),
    ("[auth]\n\nbcrypt_cost = 99", &["auth.bcrypt_cost (", ":3)", "99 is not in 4 to 15"]),
    ("[auth]\naccess_token_seconds = -5\n[mail]\nkind = 'pigeon'", &[":2)", "-5", ":4)", "pigeon", "directory"]),
];

#[test]
fn a_wrong_line_is_named_with_what_would_be_right() {
    for (text, words) in WRONG_FILES {
        let error = from_file(text).expect_err(text).to_string();
        for word in *words {
            assert!(error.contains(word), "{text:?} does not say `{word}`: {error}");
        }
        assert!(!error.contains("1234567"), "a secret is quoted: {error}");
    }
    let missing = Config::load(Some(Path::new("no/such.toml")), std::iter::empty(), CliOverrides::default());
    assert!(missing.unwrap_err().to_string().contains("cannot read the configuration file no/such.toml"));
}

#[test]
fn a_wrong_flag_is_named() {
    let flags = CliOverrides { listen: Some("nowhere".into()), ..CliOverrides::default() };
    let error = Config::load(NO_FILE, std::iter::empty(), flags).unwrap_err().to_string();
    assert!(error.contains("gateway.listen (--listen)"), "{error}");
}

#[test]
fn the_example_for_production_is_valid_with_its_secrets() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.production.toml");
    let secrets = [
        ("SOUK__STORE__URI", "mongodb://souk:pass@a:27017,b:27017/?replicaSet=rs0"),
        ("SOUK__CACHE__URI", "redis://:pass@redis:6379/0"),
        ("SOUK__MAIL__URI", "smtp://souk:pass@smtp.example:587?tls=starttls"),
        ("SOUK__AUTH__KEY_SECRET", SECRET),
    ];
    let config = Config::load(Some(&example), owned(&secrets), CliOverrides::default()).unwrap();
    assert!(config.is_production() && config.roles.is_all() && !config.demo);
    for missing in 0..secrets.len() {
        let rest: Vec<_> = secrets.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, s)| *s).collect();
        assert!(Config::load(Some(&example), owned(&rest), CliOverrides::default()).is_err(), "{missing}");
    }
}

#[test]
fn production_refuses_what_is_only_good_for_development() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("SOUK__FAULTS__ENABLED", "true")],
            "faults.enabled (variable SOUK__FAULTS__ENABLED): production refuses it",
        ),
        (&[("SOUK__LIMITS__ENABLED", "false")], "limits.enabled"),
        (&[("SOUK__AUTH__BCRYPT_COST", "9")], "production refuses a cost below 10, this is 9"),
        (&[("SOUK__AUTH__KEY_SECRET", "")], "production needs it, and it is not set"),
        (&[("SOUK__AUTH__KEY_SECRET", "short")], "too short"),
        (&[("SOUK__AUTH__KEY_SECRET", "change-me-change-me")], "placeholder"),
        (&[("SOUK__AUTH__KEY_SECRET", "xxxxxxxxxxxxxxxxxxxx")], "placeholder"),
        (
            &[("SOUK__ALLOW_EMBEDDED_IN_PRODUCTION", "false")],
            "set mail.kind = \"smtp\", or allow_embedded_in_production",
        ),
        (&[("SOUK__MAIL__KIND", "smtp"), ("SOUK__MAIL__URI", "smtp://mail.example?tls=none")], "tls=none is refused"),
        (
            &[
                ("SOUK__MAIL__KIND", "smtp"),
                ("SOUK__MAIL__URI", "smtp://mail.example?tls=none"),
                ("SOUK__MAIL__TLS_CA_FILE", "authority.pem"),
            ],
            "it is set, but mail.uri says tls=none",
        ),
    ];
    for (more, words) in cases {
        let error = production(more).expect_err(words).to_string();
        assert!(error.contains(words), "{more:?} does not say `{words}`: {error}");
        assert!(!error.contains(SECRET) && !error.contains("change-me"), "a secret is quoted: {error}");
        assert!(!error.contains("(default)") || words.contains("mail.kind"), "the place is lost: {error}");
    }
    production(&[]).unwrap();
    production(&[("SOUK__AUTH__KEY_SECRET", ""), ("SOUK__AUTH__SIGNING_KEY_FILE", "key.pem")]).unwrap();
    production(&[("SOUK__AUTH__BCRYPT_COST", "10")]).unwrap();
}

#[test]
fn links_in_mails_are_a_guess_where_nobody_says_where_customers_reach_the_shop() {
    let guesses = |variables: &[(&str, &str)]| {
        let servers = [
            ("SOUK__STORE__KIND", "mongodb"),
            ("SOUK__STORE__URI", "mongodb://a"),
            ("SOUK__EVENTS__KIND", "kafka"),
            ("SOUK__EVENTS__BROKERS", "a:9092"),
            ("SOUK__CACHE__KIND", "redis"),
            ("SOUK__CACHE__URI", "redis://a"),
        ];
        from_env(&[&servers, variables].concat()).unwrap().guesses_public_url()
    };
    assert!(!guesses(&[]), "in development the address is that of the shop");
    assert!(guesses(&[("SOUK__ROLES", "notifications")]), "the gateway is elsewhere");
    assert!(!guesses(&[("SOUK__ROLES", "notifications"), ("SOUK__GATEWAY__PUBLIC_URL", "https://shop.example")]));
    assert!(!guesses(&[("SOUK__ROLES", "gateway,orders")]), "it sends no mail");
}

#[test]
fn servers_are_checked_and_those_without_an_adapter_refused_by_name() {
    let good = [
        ("SOUK__STORE__KIND", "mongodb"),
        ("SOUK__STORE__URI", "mongodb://u:p%40ss@a:27017,b/?replicaSet=rs0"),
        ("SOUK__STORE__URIS__USERS", "mongodb+srv://users.example"),
        ("SOUK__EVENTS__KIND", "kafka"),
        ("SOUK__EVENTS__BROKERS", "a:9092, [::1]:9092"),
        ("SOUK__CACHE__KIND", "redis"),
        ("SOUK__CACHE__URI", "rediss://:pass@cache/0"),
        ("SOUK__MAIL__KIND", "smtp"),
        ("SOUK__MAIL__URI", "smtp://127.0.0.1:2525?tls=none"),
        ("SOUK__ROLES", "gateway,orders"),
    ];
    let config = from_env(&good).unwrap();
    assert!(config.roles.has(Role::Orders) && !config.roles.has(Role::Inventory));

    for (name, value, words) in [
        ("SOUK__STORE__URI", "postgres://a", "store.uri"),
        ("SOUK__STORE__URI", "mongodb://", "no host"),
        ("SOUK__GATEWAY__PUBLIC_URL", "https://m\u{fc}ller.example", "xn--"),
        ("SOUK__GATEWAY__TRUSTED_PROXIES", "::ffff:10.0.0.1/95", "neither an IP address"),
        ("SOUK__STORE__URI", "mongodb://u:p%zz@a", "%40"),
        ("SOUK__STORE__URIS__USERS", "mongodb+srv://a:1", "no port"),
        ("SOUK__STORE__URIS__ORDERS", "localhost", "store.uris.orders"),
        ("SOUK__EVENTS__BROKERS", "a", "`a` has no port"),
        ("SOUK__EVENTS__BROKERS", "a:0", "1 to 65535"),
        ("SOUK__CACHE__URI", "redis://a,b", "more than one host"),
        ("SOUK__CACHE__URI", "http://a", "redis:// or rediss://"),
        ("SOUK__MAIL__URI", "smtp://a?tls=maybe", "tls=maybe"),
        ("SOUK__MAIL__URI", "smtp://a?timeout=1", "`timeout`"),
        ("SOUK__MAIL__URI", "smtp://a/path", "nothing but an option"),
        ("SOUK__MAIL__URI", "smtp://user:hunter2@ a", "white space"),
    ] {
        let variables: Vec<_> = good.iter().filter(|(own, _)| *own != name).copied().chain([(name, value)]).collect();
        let error = from_env(&variables).expect_err(value).to_string();
        assert!(error.contains(words), "{name}={value} does not say `{words}`: {error}");
        assert!(!error.contains("hunter2"), "a password is quoted: {error}");
    }
}

#[test]
fn what_is_printed_has_no_secrets_and_loads_again() {
    let config = from_env(&[
        ("SOUK__AUTH__KEY_SECRET", "hunter2 hunter2"),
        ("SOUK__STORE__URI", "mongodb://shop:hunter2@db.example:27017/?replicaSet=rs0"),
        ("SOUK__STORE__URIS__ORDERS", "mongodb://shop:hunter2/@orders.example"),
        ("SOUK__CACHE__URI", "redis://:hunter2@cache.example/0"),
        ("SOUK__MAIL__URI", "smtp://shop:hunter2@mail.example:587?tls=starttls"),
        ("SOUK__STORE__URIS__USERS", "mongodb://u.example/?tlsCertificateKeyFilePassword=hunter2&w=1"),
    ])
    .unwrap();
    let printed = config.to_toml_masked().unwrap();
    assert!(!printed.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{printed}");
    for masked in [
        "key_secret = \"***\"",
        "mongodb://shop:***@db.example:27017/?replicaSet=rs0",
        "redis://:***@cache.example/0",
        "mongodb://u.example/?tlsCertificateKeyFilePassword=***&w=1",
        "mongodb://***\"",
    ] {
        assert!(printed.contains(masked), "no `{masked}` in {printed}");
    }
    assert_eq!(from_file(&Config::default().to_toml_masked().unwrap()).unwrap(), Config::default());
}

#[test]
fn origins_and_the_public_url_compare_as_browsers_write_them() {
    let mut config = Config::default();
    config.gateway.allowed_origins = vec!["https://Shop.example:443".into(), "http://localhost:3000".into()];
    for (origin, allowed) in [
        ("https://shop.example", true),
        ("http://localhost:3000", true),
        ("http://shop.example", false),
        ("https://shop.example.evil", false),
        ("null", false),
    ] {
        assert_eq!(config.gateway.allows_origin(origin), allowed, "{origin}");
    }
    assert_eq!(config.public_url(SocketAddr::from(([0, 0, 0, 0], 81))), "http://127.0.0.1:81");
    assert_eq!(config.public_url("[::]:81".parse().unwrap()), "http://[::1]:81");
    assert!(!config.gateway.allows_origin("https://public.example"));
    config.gateway.public_url = "https://Public.example:443".into();
    assert!(config.gateway.allows_origin("https://public.example"));
    assert!(!config.gateway.allows_origin("http://public.example"));
    config.gateway.public_url = "https://shop.example".into();
    assert_eq!(config.public_url(SocketAddr::from(([0, 0, 0, 0], 81))), "https://shop.example");
    config.gateway.trusted_documents = "documents".into();
    assert!(!config.gateway.serves_graphiql() && config.gateway.answers_introspection());
    config.gateway.trusted_documents = std::path::PathBuf::new();
    config.gateway.hardened = true;
    assert!(!config.gateway.serves_graphiql() && !config.gateway.answers_introspection());
}

#[test]
fn schedules_come_as_tables_of_the_file_or_as_a_list_in_a_variable() {
    let file = "[[campaigns.schedules]]\nname = \"weekly\"\ncron = \"0 9 * * MON\"\nsubject = \"s\"\nmessage = \"m\"\n";
    let config = from_file(file).unwrap();
    assert_eq!(config.campaigns.schedules[0].name, "weekly");
    assert_eq!(from_file(&config.to_toml_masked().unwrap().replace("\"***\"", "\"\"")).unwrap(), config);
    let list = "[{name = \"weekly\", cron = \"0 9 * * MON\", subject = \"s\", message = \"m\"}]";
    assert_eq!(from_env(&[("SOUK__CAMPAIGNS__SCHEDULES", list)]).unwrap().campaigns, config.campaigns);
    for (list, why) in [
        ("weekly", "SOUK__CAMPAIGNS__SCHEDULES"),
        ("[{name", "it is no list of tables"),
        ("[{name = \"weekly\", hour = 9}]", "hour"),
        (&list.replace("MON", "MOON"), "no cron expression"),
    ] {
        let error = from_env(&[("SOUK__CAMPAIGNS__SCHEDULES", list)]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = from_file(&file.replace("0 9", "99 9")).unwrap_err().to_string();
    assert!(error.contains("no cron expression"), "{error}");
}

//! Dockerfile, docker-compose.yml and the files that they bring along, as far as that shows without a Docker engine: what they
//! name is there, and the shop takes the settings that they give it. `scripts/test` checks them against the Compose schema too.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use souk::config::{CliOverrides, Config};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// `SOUK__NAME: value` or `SOUK__NAME=value`, one a line.
fn settings(text: &str) -> Vec<(String, String)> {
    let setting = |line: &str| {
        let line = line.trim().trim_start_matches("ENV ").trim_end_matches('\\').trim_end();
        let (name, value) = line.split_once(": ").or_else(|| line.split_once('='))?;
        name.starts_with("SOUK__").then(|| (name.to_owned(), value.trim_matches('"').to_owned()))
    };
    text.lines().filter_map(setting).collect()
}

fn loaded(variables: &[(String, String)]) -> Config {
    let file: Option<&Path> = None;
    Config::load(file, variables.iter().cloned(), CliOverrides::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// What stands in a list below `section:` of the service `name` in docker-compose.yml.
fn listed(compose: &str, name: &str, section: &str) -> Vec<String> {
    let service = format!("  {name}:");
    let of_service = compose.lines().skip_while(|line| *line != service).skip(1);
    let of_service = of_service.take_while(|line| line.is_empty() || line.starts_with("   "));
    let heading = format!("    {section}:");
    let below = of_service.skip_while(|line| *line != heading).skip(1);
    let items = below.take_while(|line| line.starts_with("      - "));
    items.map(|line| line.trim_start_matches("      - ").to_owned()).collect()
}

/// Every text after `- ./` in docker-compose.yml up to the colon: a file or folder of this repository.
fn mounted(compose: &str) -> Vec<PathBuf> {
    let hosts = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next());
    hosts.map(PathBuf::from).collect()
}

#[test]
fn the_shop_takes_the_settings_of_the_compose_file_and_of_the_image() {
    let mut variables = settings(&read("Dockerfile"));
    assert!(!variables.is_empty());
    let of_image = variables.len();
    variables.extend(settings(&read("docker-compose.yml")));
    assert!(variables.len() > of_image);
    let config = loaded(&variables);
    let printed = config.to_toml_masked().unwrap();
    for kind in ["mongodb", "kafka", "redis", "smtp"] {
        assert!(printed.contains(&format!("kind = \"{kind}\"")), "{kind} is not switched on");
    }
}

#[test]
fn a_setting_that_the_shop_does_not_know_is_refused() {
    let planted = settings("      SOUK__STORE__KIND: mongodb\n      SOUK__STORE__COLOUR: blue\n");
    let refused = Config::load(None, planted.into_iter(), CliOverrides::default()).unwrap_err().to_string();
    assert!(refused.contains("SOUK__STORE__COLOUR"), "{refused}");
}

#[test]
fn the_container_stops_later_than_the_shop_gives_up_and_shows_the_ports_that_it_listens_on() {
    let (image, compose) = (read("Dockerfile"), read("docker-compose.yml"));
    let config = loaded(&settings(&image));
    let grace = compose.lines().find_map(|line| line.trim().strip_prefix("stop_grace_period: ")?.strip_suffix('s'));
    assert!(grace.unwrap().parse::<u64>().unwrap() > config.shutdown_timeout().as_secs());
    let ports: BTreeSet<String> =
        [&config.gateway.listen, &config.admin.listen].map(|address| address.port().to_string()).into();
    let exposed = image.lines().find_map(|line| line.strip_prefix("EXPOSE ")).unwrap();
    assert_eq!(exposed.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), ports);
    let published = listed(&compose, "souk", "ports");
    let inside = published.iter().map(|port| port.rsplit(':').next().unwrap().to_owned());
    assert_eq!(inside.collect::<BTreeSet<_>>(), ports);
}

#[test]
fn nothing_is_reachable_from_another_machine() {
    let compose = read("docker-compose.yml");
    for service in ["souk", "mongo", "kafka", "redis", "mailpit", "prometheus", "grafana"] {
        for port in listed(&compose, service, "ports") {
            assert!(port.starts_with("127.0.0.1:"), "{service}: {port}");
        }
    }
}

#[test]
fn every_file_that_compose_mounts_or_the_image_copies_is_there() {
    let mounted = mounted(&read("docker-compose.yml"));
    assert!(mounted.len() >= 2);
    let copied = read(".dockerignore");
    let copied: Vec<_> = copied.lines().filter_map(|line| line.strip_prefix('!')).map(PathBuf::from).collect();
    assert!(copied.contains(&PathBuf::from("src")));
    for path in mounted.iter().chain(&copied) {
        assert!(root().join(path).exists(), "{} is not there", path.display());
    }
}

/// What the build reads outside `src`: else the image's build breaks where a checkout's does not.
#[test]
fn the_image_gets_every_file_that_the_code_includes() {
    let ignore = read(".dockerignore");
    let copied: Vec<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut folders = vec![root().join("src")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for part in text.split("include_str!(\"").skip(1) {
                let name = part.split('"').next().unwrap();
                let included = path.parent().unwrap().join(name).canonicalize().unwrap();
                seen += 1;
                let inside = included.strip_prefix(root().canonicalize().unwrap()).unwrap();
                assert!(copied.iter().any(|copy| inside.starts_with(copy)), "{} is not in the image", inside.display());
            }
        }
    }
    assert!(seen > 0, "nothing that the code includes was found");
}

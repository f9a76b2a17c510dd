//! Grafana's dashboards as far as they ask Prometheus.

use std::fs;

use serde_json::Value;

use crate::files::path;

pub struct Dashboard {
    pub file: String,
    pub uid: String,
    pub panels: Vec<Panel>,
}

pub struct Panel {
    pub id: u64,
    pub title: String,
    /// As Grafana would send them, for all processes.
    pub expressions: Vec<String>,
}

pub fn dashboards() -> Vec<Dashboard> {
    let folder = fs::read_dir(path("deploy/grafana/dashboards")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| dashboard(file.file_name().unwrap().to_str().unwrap())).collect()
}

fn dashboard(file: &str) -> Dashboard {
    let text = fs::read_to_string(path("deploy/grafana/dashboards").join(file)).unwrap();
    let board: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let panels = board["panels"].as_array().unwrap().iter().map(|panel| Panel {
        id: panel["id"].as_u64().unwrap(),
        title: panel["title"].as_str().unwrap().to_owned(),
        expressions: panel["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| filled_in(target["expr"].as_str().unwrap()))
            .collect(),
    });
    Dashboard { file: file.to_owned(), uid: board["uid"].as_str().unwrap().to_owned(), panels: panels.collect() }
}

fn filled_in(expression: &str) -> String {
    let filled = expression.replace("$instance", ".*").replace("$__rate_interval", "10s");
    assert!(!filled.contains('$'), "a variable that no dashboard has: {expression}");
    filled
}

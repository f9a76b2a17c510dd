//! A real Prometheus of a test's own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::eventually;

pub struct Prometheus {
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Prometheus {
    /// Ready, on a configuration, with its data in a folder.
    pub async fn start(config: &Path, data: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(data.join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed: scripts/test sees to it");
        let prometheus = Self { child, url: format!("http://127.0.0.1:{port}"), http: reqwest::Client::new() };
        eventually("Prometheus is ready", async || {
            let answer = prometheus.http.get(format!("{}/-/ready", prometheus.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        prometheus
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.http.get(format!("{}/api/v1/{path}", self.url)).query(query).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].take()
    }

    /// What an expression gives now.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        self.get("query", &[("query", expression)]).await["result"].as_array().unwrap().clone()
    }

    /// The alerting rules as Prometheus has read them: name and expression.
    pub async fn rules(&self) -> Vec<(String, String)> {
        let groups = self.get("rules", &[("type", "alert")]).await["groups"].take();
        let rules = groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rules.map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
    }

    /// The state of an alert: firing, pending or inactive.
    pub async fn state(&self, alert: &str) -> &'static str {
        let alerts = self.get("alerts", &[]).await["alerts"].take();
        let states: Vec<&Value> = alerts
            .as_array()
            .unwrap()
            .iter()
            .filter(|found| found["labels"]["alertname"] == alert)
            .map(|found| &found["state"])
            .collect();
        if states.iter().any(|state| **state == "firing") {
            "firing"
        } else if states.is_empty() {
            "inactive"
        } else {
            "pending"
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

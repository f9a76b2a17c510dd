//! The files that operators are given fit together.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::dashboards::dashboards;

pub fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

pub fn read(of: &str) -> String {
    fs::read_to_string(path(of)).unwrap_or_else(|error| panic!("{of}: {error}"))
}

/// The names of the alerts.
pub fn alerts() -> Vec<String> {
    let rules = read("deploy/prometheus/alerts.yml");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_points_to_it() {
    let (alerts, rules, runbook) = (alerts(), read("deploy/prometheus/alerts.yml"), read("docs/runbook.md"));
    assert!(alerts.len() >= 10, "{alerts:?}");
    let sections: Vec<(&str, &str)> =
        runbook.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("a section has text")).collect();
    for alert in &alerts {
        let found: Vec<_> = sections.iter().filter(|(title, _)| title == alert).collect();
        let [(_, text)] = found[..] else { panic!("{} sections on {alert}", found.len()) };
        for part in ["**Means**", "**First look**", "**Remedy**"] {
            assert!(text.contains(part), "{alert}: no {part}");
        }
        let link = format!("runbook: docs/runbook.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} does not say {link}");
    }
    let known: HashSet<&str> = alerts.iter().map(String::as_str).collect();
    for (title, _) in sections {
        assert!(known.contains(title), "the runbook has {title}, which is no alert");
    }
}

#[test]
fn dashboards_have_names_of_their_own_and_a_panel_has_something_to_show() {
    let dashboards = dashboards();
    let names: HashSet<&str> = dashboards.iter().map(|dashboard| dashboard.uid.as_str()).collect();
    assert_eq!(names.len(), dashboards.len());
    assert!(dashboards.len() >= 5, "{names:?}");
    for dashboard in &dashboards {
        assert_eq!(dashboard.file, format!("{}.json", dashboard.uid));
        let ids: HashSet<u64> = dashboard.panels.iter().map(|panel| panel.id).collect();
        assert_eq!(ids.len(), dashboard.panels.len(), "{}: panels share an id", dashboard.uid);
        for panel in &dashboard.panels {
            assert!(!panel.expressions.is_empty(), "{}: {} shows nothing", dashboard.uid, panel.title);
        }
    }
}

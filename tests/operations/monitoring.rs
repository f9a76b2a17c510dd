//! The shipped dashboards and alerts in front of the real binary, asked by a real Prometheus.
//!
//! The faults are those that the failure switches can make. Each is injected while everything else goes on, and its alert,
//! silent until then, fires.

use std::process::Command;
use std::time::Duration;

use crate::dashboards::dashboards;
use crate::files::{alerts, path};
use crate::scene::{Scene, Traffic};
use crate::support::eventually_within;

/// The expression of an alert without the comparison that makes it one.
fn without_comparison(expression: &str) -> &str {
    let operators = [" == ", " > ", " < "];
    let cut = operators.iter().filter_map(|operator| expression.rfind(operator)).max();
    &expression[..cut.unwrap_or_else(|| panic!("no comparison: {expression}"))]
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).output().expect("promtool comes with prometheus");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs prometheus and promtool; scripts/test gives them"]
fn promtool_accepts_the_configuration_and_the_rules() {
    let config = path("deploy/prometheus/prometheus.yml");
    promtool(&["check", "config", config.to_str().unwrap()]);
    let rules = path("deploy/prometheus/alerts.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()]);
}

#[actix_rt::test]
#[ignore = "needs prometheus and promtool; scripts/test gives them"]
async fn every_expression_has_data_and_each_alert_fires_for_its_fault_and_not_before() {
    let mut scene = Scene::open().await;
    let traffic = Traffic::start(&scene).await;
    scene.launch_campaign().await;

    // Every expression is asked until it has an answer: rates need a few scrapes.
    let settled = Duration::from_secs(90);
    let rules = scene.prometheus.rules().await;
    assert_eq!(rules.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), alerts());
    for (alert, expression) in &rules {
        let asked = without_comparison(expression);
        eventually_within(settled, &format!("{alert}: {asked}"), async || {
            (!scene.prometheus.query(asked).await.is_empty()).then_some(())
        })
        .await;
    }
    for dashboard in dashboards() {
        for panel in dashboard.panels {
            for asked in panel.expressions {
                eventually_within(settled, &format!("{}, {}: {asked}", dashboard.uid, panel.title), async || {
                    (!scene.prometheus.query(&asked).await.is_empty()).then_some(())
                })
                .await;
            }
        }
    }
    for (alert, _) in &rules {
        assert_eq!(scene.prometheus.state(alert).await, "inactive", "{alert} although all is well");
    }

    scene.fires("SoukDeadLetters", || scene.emit_nonsense()).await;
    scene.fires("SoukMailsDead", || scene.sign_up_where_no_mail_arrives()).await;
    scene
        .fires("SoukActorRestarts", || async {
            for actor in ["users", "products", "orders", "recommendations", "operations"] {
                scene.fault(actor, "panic").await;
            }
        })
        .await;
    scene.fires("SoukMailsOverdue", || scene.fault("notifications.dispatcher", "fail-start")).await;
    let customer = scene.client.sign_up().await;
    scene
        .fires("SoukConsumerLag", || async {
            scene.fault("recommendations.history", "fail-start").await;
            scene.place_orders(&customer, 200).await;
        })
        .await;
    scene.fires("SoukOrdersPending", || scene.fault("products.inventory", "fail-start")).await;
    scene.fires("SoukOutboxStuck", || scene.fault("events", "fail-start")).await;
    for alert in ["SoukErrors", "SoukSlow"] {
        assert_eq!(scene.prometheus.state(alert).await, "inactive", "{alert} before its fault");
    }
    scene.fires("SoukErrors", || scene.fault("users", "fail-start")).await;
    eventually_within(Duration::from_secs(60), "SoukSlow", async || {
        (scene.prometheus.state("SoukSlow").await == "firing").then_some(())
    })
    .await;

    let sink = scene.sink.take();
    scene.fires("SoukDependencyDown", || async move { drop(sink) }).await;
    drop(traffic);
    scene.fires("SoukDown", || async { scene.shop.signal("KILL") }).await;
}

//! Alert rules and dashboard are about metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::http::Site;
use crate::web::Web;

const ALERTS: &str = include_str!("../../monitoring/alerts.yaml");
const DASHBOARD: &str = include_str!("../../monitoring/grafana.json");

/// Every name in a text that looks like a metric of ours.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = text.split(|char: char| !is_part(char));
    words.filter(|word| word.starts_with("adamant_")).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_a_daemon_tells() {
    let site = Site::new();
    // Some are told only after a swap.
    site.issue(&[]);
    let told = Web::connect(&site.http).get("/metrics", "").body;
    let told = names(&told);
    for (file, text) in [("alerts.yaml", ALERTS), ("grafana.json", DASHBOARD)] {
        let used = names(text);
        assert!(!used.is_empty());
        let unknown: Vec<_> = used.difference(&told).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    serde_json::from_str::<serde_json::Value>(DASHBOARD).unwrap();
}

#[test]
fn promtool_accepts_the_rules() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring/alerts.yaml");
    let checked = Command::new("promtool").args(["check", "rules"]).arg(rules).output();
    let Ok(checked) = checked else {
        assert!(std::env::var_os("CI").is_none(), "promtool is missing (Debian: prometheus)");
        eprintln!("not run: promtool is missing (Debian: prometheus)");
        return;
    };
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    assert!(said.contains("8 rules found"), "{said}");
}

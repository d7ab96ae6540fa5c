//! The bench runs, and checks its own answers, at the smallest sizes.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

#[test]
fn every_figure_stands_beside_a_floor_or_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_adamant-bench"))
        .args(["--quick", "--json", json.to_str().unwrap(), "all"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let ours: Vec<&Value> = figures.iter().filter(|figure| figure["beside"].is_string()).collect();
    assert!(ours.len() >= 8, "{figures:#?}");
    for figure in ours {
        assert!(figure["times"].as_f64().unwrap() > 0.0, "{figure}");
        assert!(figure["median"].as_f64().unwrap() > 0.0, "{figure}");
    }
}

//! The bench runs, and checks its own answers, at the smallest sizes.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_figure_stands_beside_a_floor_or_a_peer_and_every_goal_has_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let (json, svg) = (folder.path().join("figures.json"), folder.path().join("plot.svg"));
    let output = Command::new(env!("CARGO_BIN_EXE_adamant-bench"))
        .args(["--quick", "--json", json.to_str().unwrap(), "--svg", svg.to_str().unwrap(), "all"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let ours: Vec<&Value> = figures.iter().filter(|figure| figure["beside"].is_string()).collect();
    assert!(ours.len() >= 30, "{figures:#?}");
    for figure in ours {
        assert!(figure["times"].as_f64().unwrap() > 0.0, "{figure}");
        assert!(figure["median"].as_f64().unwrap() > 0.0, "{figure}");
    }
    assert!(fs::read_to_string(&svg).unwrap().contains("<polyline class=\"line ours\""));
    check_goals(&report);
}

/// A goal whose figure was not measured is excused by a peer that is missing, and by nothing else.
fn check_goals(report: &Value) {
    let notes = report["notes"].as_array().unwrap();
    let is_said = |note: &Value| note["note"].as_str().unwrap().contains(" is missing: ");
    let is_peer_missing = notes.iter().any(is_said);
    let goals = report["goals"].as_array().unwrap();
    for number in ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G10", "G11", "G12"] {
        let of_number: Vec<_> = goals.iter().filter(|goal| goal["goal"] == number).collect();
        assert!(!of_number.is_empty(), "{number}");
        for goal in of_number {
            let is_measured = goal["reached"].is_number();
            assert!(is_measured || is_peer_missing, "{goal}");
            assert_eq!(goal["verdict"] == "not measured", !is_measured, "{goal}");
        }
    }
}

/// It runs under valgrind, and is not part of `all`.
#[test]
fn overlays_and_a_note_cost_instructions() {
    let output = Command::new(env!("CARGO_BIN_EXE_adamant-bench"))
        .args(["--quick", "stack"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let of = |way: &str| -> f64 {
        let line = said.lines().find(|line| line.trim_start().starts_with(way)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(of("table ") < of("overlays ") && of("overlays ") < of("note "), "{said}");
}

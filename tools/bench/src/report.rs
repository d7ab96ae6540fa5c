//! Figures: the median of some rounds, with its spread, as a multiple of a floor or a peer.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// A measurement of several rounds.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    pub(crate) fn of(mut rounds: Vec<f64>) -> Figure {
        rounds.sort_by(f64::total_cmp);
        Figure {
            median: rounds[rounds.len() / 2],
            least: rounds[0],
            most: rounds[rounds.len() - 1],
        }
    }

    pub(crate) fn median(&self) -> f64 {
        self.median
    }
}

/// All figures of a run.
pub(crate) struct Report {
    machine: Value,
    figures: Vec<Value>,
}

impl Report {
    pub(crate) fn begin(machine: Value) -> Report {
        for (name, value) in machine.as_object().into_iter().flatten() {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            println!("{name:<12} {plain}");
        }
        Report { machine, figures: Vec::new() }
    }

    pub(crate) fn section(&self, title: &str) {
        println!("\n{title}");
    }

    /// A floor or a peer: what others are compared with.
    pub(crate) fn base(&mut self, name: &str, unit: &str, figure: &Figure) {
        self.add(name, unit, figure, None);
    }

    /// A figure of ours, beside what it is compared with.
    pub(crate) fn figure(
        &mut self,
        name: &str,
        unit: &str,
        figure: &Figure,
        beside: (&str, &Figure),
    ) {
        self.add(name, unit, figure, Some(beside));
    }

    fn add(&mut self, name: &str, unit: &str, figure: &Figure, beside: Option<(&str, &Figure)>) {
        let Figure { median, least, most } = *figure;
        let mut line = format!("  {name:<44} {median:>10.2} {unit:<9} ({least:.2} to {most:.2})");
        let mut value =
            json!({ "name": name, "unit": unit, "median": median, "least": least, "most": most });
        if let Some((base, against)) = beside {
            let times = median / against.median;
            line.push_str(&format!("  {times:.2} x {base}"));
            value["beside"] = base.into();
            value["times"] = times.into();
        }
        println!("{line}");
        self.figures.push(value);
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let all = json!({ "machine": self.machine, "figures": self.figures });
        fs::write(path, format!("{all:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

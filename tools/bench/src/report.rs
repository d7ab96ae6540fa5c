//! Figures: the median of some rounds, with its spread, as a multiple of a floor or a peer.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// A floor that drifts by more than this part makes figures over it worthless.
const DRIFT_MAX: f64 = 0.10;

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

    /// What was measured once.
    pub(crate) fn once(value: f64) -> Figure {
        Figure::of(vec![value])
    }

    pub(crate) fn median(&self) -> f64 {
        self.median
    }
}

/// A figure that a goal is about. Those that are ratios are ratios of medians of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fact {
    HitMiddleOverFloor,
    HitLargeOverFloor,
    HitLargeOverMiddle,
    HitLines,
    MissLines,
    BinarySearchOverOurs,
    LmdbOverOurs,
    RedbOverOurs,
    FstOverOurs,
    AloneOverPingPongOneCore,
    AloneSpinningOverPingPongTwoCores,
    CrowdOverRedis,
    CrowdOverBestPeer,
    PipelinedOverBestPeer,
    PipelinesOverBestPeer,
    BatchesACore,
    BatchesOverBestPeer,
    RawTokensACore,
    RotateFailed,
    RotateOverSteady,
    BuildRate,
    BuildOverDisk,
    BuildMemoryOverLimit,
    BuildOverLmdb,
    BuildOverSort,
    TableBytes,
    SubjectBytes,
    DaemonPrivate,
    DaemonStart,
    HeavyNeighbour,
    ConnectionsMemory,
}

/// A place of the plot: a size, and what was measured of it in the unit of its line.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) line: &'static str,
    pub(crate) records: usize,
    pub(crate) value: f64,
}

/// All figures of a run.
pub(crate) struct Report {
    machine: Value,
    section: String,
    figures: Vec<Value>,
    notes: Vec<Value>,
    goals: Vec<Value>,
    facts: HashMap<Fact, f64>,
    points: Vec<Point>,
}

impl Report {
    pub(crate) fn begin(machine: Value) -> Report {
        for (name, value) in machine.as_object().into_iter().flatten() {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            println!("{name:<12} {plain}");
        }
        Report {
            machine,
            section: String::new(),
            figures: Vec::new(),
            notes: Vec::new(),
            goals: Vec::new(),
            facts: HashMap::new(),
            points: Vec::new(),
        }
    }

    pub(crate) fn section(&mut self, title: &str) {
        println!("\n{title}");
        title.clone_into(&mut self.section);
    }

    /// What a reader must know beside the figures: how they were measured, or that they were not.
    pub(crate) fn note(&mut self, text: &str) {
        println!("  {text}");
        self.notes.push(json!({ "section": self.section, "note": text }));
    }

    /// A floor or a peer: what others are compared with.
    pub(crate) fn base(&mut self, name: &str, unit: &str, figure: &Figure) {
        self.add(name, unit, figure, None);
    }

    /// A figure of ours, beside what it is compared with. Gives their ratio.
    pub(crate) fn figure(
        &mut self,
        name: &str,
        unit: &str,
        figure: &Figure,
        beside: (&str, &Figure),
    ) -> f64 {
        self.add(name, unit, figure, Some(beside));
        figure.median / beside.1.median
    }

    fn add(&mut self, name: &str, unit: &str, figure: &Figure, beside: Option<(&str, &Figure)>) {
        let Figure { median, least, most } = *figure;
        let mut line = format!("  {name:<52} {median:>10.2} {unit:<9} ({least:.2} to {most:.2})");
        let mut value = json!({
            "section": self.section, "name": name, "unit": unit,
            "median": median, "least": least, "most": most,
        });
        if let Some((base, against)) = beside {
            let times = median / against.median;
            line.push_str(&format!("  {times:.2} x {base}"));
            value["beside"] = base.into();
            value["times"] = times.into();
        }
        println!("{line}");
        self.figures.push(value);
    }

    pub(crate) fn fact(&mut self, fact: Fact, value: f64) {
        self.facts.insert(fact, value);
    }

    pub(crate) fn fact_of(&self, fact: Fact) -> Option<f64> {
        self.facts.get(&fact).copied()
    }

    pub(crate) fn goal(&mut self, line: &str, goal: Value) {
        println!("  {line}");
        self.goals.push(goal);
    }

    pub(crate) fn point(&mut self, line: &'static str, records: usize, figure: &Figure) {
        self.points.push(Point { line, records, value: figure.median });
    }

    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    pub(crate) fn machine(&self) -> &Value {
        &self.machine
    }

    /// Measures until the floor holds still, at most `tries` times: what was measured beside a
    /// floor that moved is thrown away. The last try is kept, and said to be no good.
    pub(crate) fn steady<T>(
        &mut self,
        tries: usize,
        mut measure: impl FnMut() -> anyhow::Result<T>,
        floor: impl Fn(&T) -> &[f64],
    ) -> anyhow::Result<T> {
        let mut tried = 0;
        loop {
            let found = measure()?;
            tried += 1;
            let drift = drift(floor(&found));
            if drift <= DRIFT_MAX {
                return Ok(found);
            }
            let percent = 100.0 * drift;
            if tried >= tries {
                self.note(&format!("the floor drifted by {percent:.0} %: these figures are noise"));
                return Ok(found);
            }
            self.note(&format!("the floor drifted by {percent:.0} %: thrown away, measured anew"));
        }
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let all = json!({
            "machine": self.machine, "figures": self.figures, "notes": self.notes,
            "goals": self.goals,
        });
        fs::write(path, format!("{all:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// How far the later half of the rounds lies from the earlier one, as a part of it. One round that
/// was disturbed is no drift: the median is blind to it, and the spread shows it.
fn drift(rounds: &[f64]) -> f64 {
    let (earlier, later) = rounds.split_at(rounds.len() / 2);
    if earlier.is_empty() {
        return 0.0;
    }
    let [earlier, later] = [earlier, later].map(|half| Figure::of(half.to_vec()).median);
    (later / earlier - 1.0).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_that_moves_is_told_from_one_that_was_disturbed_once() {
        assert!(drift(&[10.0, 10.1, 9.9, 10.0, 30.0, 10.0, 10.1]) < DRIFT_MAX);
        assert!(drift(&[10.0, 10.1, 9.9, 12.0, 12.1, 12.0, 12.1]) > DRIFT_MAX);
        assert!(drift(&[10.0]) < DRIFT_MAX);
    }
}

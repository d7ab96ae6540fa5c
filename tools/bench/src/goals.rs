//! The goals, each beside what this run has reached.

use serde_json::json;

use crate::report::{Fact, Report};
use crate::settings::Settings;

/// What is asked of one figure.
struct Goal {
    number: &'static str,
    metric: &'static str,
    unit: &'static str,
    fact: Fact,
    wanted: Wanted,
    must: f64,
    aim: f64,
}

/// On which side of the limit a figure should be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    AtMost,
    AtLeast,
}

use Wanted::{AtLeast, AtMost};

const fn goal(
    number: &'static str,
    metric: &'static str,
    (fact, unit): (Fact, &'static str),
    wanted: Wanted,
    (must, aim): (f64, f64),
) -> Goal {
    Goal { number, metric, unit, fact, wanted, must, aim }
}

#[rustfmt::skip]
const GOALS: [Goal; 31] = [
    goal("G1", "batched hit over the floor, 16 M", (Fact::HitMiddleOverFloor, "x"), AtMost, (2.6, 2.1)),
    goal("G1", "batched hit over the floor, 100 M", (Fact::HitLargeOverFloor, "x"), AtMost, (2.6, 2.1)),
    goal("G2", "slice::binary_search over ours, 10 M", (Fact::BinarySearchOverOurs, "x"), AtLeast, (20.0, 40.0)),
    goal("G2", "LMDB over ours", (Fact::LmdbOverOurs, "x"), AtLeast, (10.0, 25.0)),
    goal("G2", "redb over ours", (Fact::RedbOverOurs, "x"), AtLeast, (10.0, 30.0)),
    goal("G2", "fst over ours", (Fact::FstOverOurs, "x"), AtLeast, (20.0, 50.0)),
    goal("G3", "hit at 100 M over 16 M", (Fact::HitLargeOverMiddle, "x"), AtMost, (1.8, 1.5)),
    goal("G3", "cache lines a hit", (Fact::HitLines, "lines"), AtMost, (2.1, 2.05)),
    goal("G3", "cache lines a miss", (Fact::MissLines, "lines"), AtMost, (1.05, 1.01)),
    goal("G4", "one client, p50 over ping-pong, one core", (Fact::AloneOverPingPongOneCore, "x"), AtMost, (1.25, 1.1)),
    goal("G4", "two cores, the client spins", (Fact::AloneSpinningOverPingPongTwoCores, "x"), AtMost, (0.2, 0.1)),
    goal("G5", "64 clients: processor time over Redis", (Fact::CrowdOverRedis, "x"), AtMost, (0.8, 0.5)),
    goal("G5", "64 clients: processor time over the best peer", (Fact::CrowdOverBestPeer, "x"), AtMost, (1.0, 0.7)),
    goal("G6", "64 pipelined: keys/s over best peer, one core", (Fact::PipelinedOverBestPeer, "x"), AtLeast, (4.0, 7.0)),
    goal("G6", "the same: 8 clients, on a core of their own", (Fact::PipelinesOverBestPeer, "x"), AtLeast, (4.0, 7.0)),
    goal("G7", "batches of 1,024 at 10 M, a core", (Fact::BatchesACore, "M/s"), AtLeast, (10.0, 20.0)),
    goal("G7", "batches: keys/s over the best MGET", (Fact::BatchesOverBestPeer, "x"), AtLeast, (5.0, 10.0)),
    goal("G8", "raw tokens in batches, a core", (Fact::RawTokensACore, "M/s"), AtLeast, (6.0, 14.0)),
    goal("G10", "a new base under load: failed requests", (Fact::RotateFailed, ""), AtMost, (0.0, 0.0)),
    goal("G10", "a new base under load: p99.9 over steady", (Fact::RotateOverSteady, "x"), AtMost, (3.0, 1.3)),
    goal("G11", "build from a list of 10 M, in memory", (Fact::BuildRate, "M/s"), AtLeast, (1.5, 3.0)),
    goal("G11", "100 M under 2 GiB, of what the disk allows", (Fact::BuildOverDisk, "x"), AtLeast, (0.6, 0.85)),
    goal("G11", "private memory of it, of 2 GiB", (Fact::BuildMemoryOverLimit, "x"), AtMost, (1.0, 1.0)),
    goal("G11", "over LMDB append", (Fact::BuildOverLmdb, "x"), AtLeast, (5.0, 15.0)),
    goal("G11", "over sort(1)", (Fact::BuildOverSort, "x"), AtLeast, (5.0, 15.0)),
    goal("G12", "table, bytes a token", (Fact::TableBytes, "B"), AtMost, (82.0, 80.0)),
    goal("G12", "subjects, bytes a token", (Fact::SubjectBytes, "B"), AtMost, (22.0, 20.0)),
    goal("G12", "private memory of the daemon, 10 M", (Fact::DaemonPrivate, "MiB"), AtMost, (64.0, 32.0)),
    goal("G12", "start to first answer, 10 M", (Fact::DaemonStart, "s"), AtMost, (2.0, 0.5)),
    goal("-", "p99 beside a heavy client over alone", (Fact::HeavyNeighbour, "x"), AtMost, (3.0, 3.0)),
    goal("-", "64 largest batches, of the stated memory", (Fact::ConnectionsMemory, "x"), AtMost, (1.0, 1.0)),
];

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    report.section("Goals");
    if settings.is_quick {
        report.note("sizes and rounds of --quick: the verdicts mean nothing");
    }
    for goal in &GOALS {
        let reached = report.fact_of(goal.fact);
        let verdict = reached.map_or("not measured", |reached| goal.verdict(reached));
        let shown = reached.map_or("-".to_owned(), |reached| format!("{reached:.2}"));
        let Goal { number, metric, unit, must, aim, .. } = goal;
        let sign = if goal.wanted == AtMost { "<=" } else { ">=" };
        let line = format!(
            "{number:<4} {metric:<46} must {sign} {must:<5} aim {sign} {aim:<5} {shown:>9} {unit:<6} {verdict}"
        );
        let value = json!({
            "goal": number, "metric": metric, "unit": unit, "wanted": sign, "must": must,
            "aim": aim, "reached": reached, "verdict": verdict,
        });
        report.goal(&line, value);
    }
}

impl Goal {
    fn verdict(&self, reached: f64) -> &'static str {
        // As it is shown: the header of a file is no part of a byte a token.
        let reached = (reached * 100.0).round() / 100.0;
        let keeps = |limit: f64| match self.wanted {
            AtMost => reached <= limit,
            AtLeast => reached >= limit,
        };
        match (keeps(self.aim), keeps(self.must)) {
            (true, _) => "met aim",
            (false, true) => "met must",
            (false, false) => "short",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_goal_stands_twice_and_no_aim_is_easier_than_its_must() {
        let facts: HashSet<Fact> = GOALS.iter().map(|goal| goal.fact).collect();
        assert_eq!(facts.len(), GOALS.len());
        for goal in &GOALS {
            assert_ne!(goal.verdict(goal.aim), "met must", "{}", goal.metric);
            assert_ne!(goal.verdict(goal.must), "short", "{}", goal.metric);
        }
    }
}

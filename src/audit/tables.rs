//! Whether the tables say what the events say: each is made anew from its range of the ledger, and
//! compared to the byte; where that fails, record by record, to name what differs.

use std::cmp::Ordering;

use super::{Means, Report, short};
use crate::builder::Source;
use crate::chain::chain;
use crate::ledger::{LedgerError, Openings, Tiles, commitment, read_event};
use crate::manifest::{Manifest, TableLine};
use crate::store::{Store, StoreError};
use crate::table::format::Record;
use crate::table::{Personal, Subjects, Table};
use crate::token::{Domain, TokenId};

pub(super) fn check(
    store: &Store,
    manifest: &Manifest,
    tiles: &Tiles,
    means: &Means<'_>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let scratch = tempfile::tempdir().map_err(|source| StoreError::Io {
        action: "make a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    for (number, line) in manifest.tables.iter().enumerate() {
        let name = format!("table {number} ({})", short(&line.hash));
        let layer = match store.open_to_build(line) {
            Ok(layer) => layer,
            Err(err) => {
                report.find(format!("{name}: {}", chain(&err)));
                continue;
            }
        };
        report.records += line.records;
        if line.range.1 > tiles.size() {
            report.find(format!("{name}: its range ends after the ledger"));
            continue;
        }
        let domain = means.policy.map_or_else(|| layer.table.domain(), |policy| &policy.domain);
        let domain = Domain { foreign: None, ..domain.clone() };
        let openings = means.openings.clone();
        let openings = openings.unwrap_or_else(|| Openings::at(scratch.path()));
        let part = tiles.first(line.range.1);
        let folder = scratch.path().to_owned();
        let source = Source { tiles: &part, domain, openings, folder };
        let made = match source.rebuild(line.range, &mut |_| {}) {
            Ok(made) => made,
            Err(err) => {
                report.find(format!("{name} cannot be made from the ledger: {err}"));
                continue;
            }
        };
        if made.table_written.hash != line.hash {
            let made = Table::open(made.table.file());
            let made =
                made.map_err(|source| StoreError::Table { path: scratch.path().into(), source })?;
            compare(&name, &layer.table, &made, report);
        }
        check_subjects(&name, &layer.subjects, &layer.table, &part, means, report)?;
        is_contiguous(number, manifest, line, report);
    }
    if means.openings.is_none() {
        report
            .unchecked
            .push("subjects: what opens their commitments stays with the issuer".to_owned());
    }
    Ok(())
}

fn is_contiguous(number: usize, manifest: &Manifest, line: &TableLine, report: &mut Report) {
    let begins = number.checked_sub(1).map_or(0, |below| manifest.tables[below].range.1);
    if line.range.0 != begins {
        report.find(format!(
            "table {number} begins at event {}, and what lies beneath ends at {begins}",
            line.range.0
        ));
    }
}

/// Names the records in which a table differs from what the events say.
fn compare(name: &str, found: &Table, made: &Table, report: &mut Report) {
    let before = report.count;
    let (mut a, mut b) = (found.records().iter().peekable(), made.records().iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.digest.cmp(&y.digest),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let is = (order != Ordering::Greater).then(|| a.next()).flatten();
        let should = (order != Ordering::Less).then(|| b.next()).flatten();
        match (is, should) {
            (Some(is), None) => report.find(format!("{name}: token {} is in no event", id(is))),
            (None, Some(should)) => {
                report.find(format!("{name}: token {} is missing", id(should)));
            }
            (Some(is), Some(should)) => {
                if let Some(field) = differs((found, is), (made, should)) {
                    report.find(format!("{name}: token {} has another {field}", id(is)));
                }
            }
            (None, None) => {}
        }
    }
    if report.count == before {
        report.find(format!("{name}: its records fit the events, and other bytes of it do not"));
    }
}

fn differs(is: (&Table, &Record), should: (&Table, &Record)) -> Option<&'static str> {
    let ((found, is), (made, should)) = (is, should);
    let fields = [
        (is.id == should.id, "id"),
        (
            found.grant_bytes(is.grant.get()) == made.grant_bytes(should.grant.get()),
            "kind, audience or scopes",
        ),
        (is.not_before == should.not_before, "not-before"),
        (is.expires == should.expires, "expiry"),
        (is.flags == should.flags && is.revoked_at == should.revoked_at, "revocation"),
    ];
    fields.into_iter().find(|(same, _)| !same).map(|(_, field)| field)
}

/// With openings: each subject is what the event commits to, or was erased.
fn check_subjects(
    name: &str,
    subjects: &Subjects,
    table: &Table,
    tiles: &Tiles,
    means: &Means<'_>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let Some(openings) = &means.openings else { return Ok(()) };
    let mut erased = 0_u64;
    for (rank, record) in (0..).zip(table.records()) {
        let cold = table.cold(rank).expect("one row a record");
        let index = cold.event();
        let personal = subjects.get(rank).unwrap_or(Personal::Erased);
        let Personal::Known { subject, meta } = personal else {
            erased += 1;
            continue;
        };
        if (subject, meta) == ("", "") {
            continue;
        }
        let opening = openings.get(index)?;
        let event = read_event(tiles, index)?;
        let crate::ledger::What::Issue(issued) = &event.what else { continue };
        let fits = opening.is_some_and(|opening| {
            issued.commitment == Some(commitment(&opening.salt, subject, meta))
        });
        if !fits {
            report.find(format!("{name}: token {} has another subject or meta", id(record)));
        }
    }
    if erased > 0 {
        report.unchecked.push(format!("{name}: {erased} subjects were erased"));
    }
    Ok(())
}

fn id(record: &Record) -> String {
    TokenId::from_bytes(record.id).map_or_else(|| "without an id".to_owned(), |id| id.to_string())
}

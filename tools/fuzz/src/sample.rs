//! A small generation and a small ledger, the same in each run.

use std::fs;

use adamant::claims::Grant;
use adamant::durable::NewFile;
use adamant::ledger::{Event, Issued, Origin, What};
use adamant::policy::Policy;
use adamant::table::format::{Cold, REVOKED, Reason, Record};
use adamant::table::{Entry, Personal, SubjectsWriter, TableSpec, TableWriter};
use adamant::token::{Digest, Domain, DomainKey, TokenId};
use zerocopy::FromZeros;

use crate::{ORIGIN, folder, verifier_key};

/// Tokens of the base.
pub const TOKENS: u8 = 40;
/// When all manifests are issued, and judged.
pub const NOW_UNIX_S: i64 = 1_795_582_800;
/// Entries of the ledger that the two tables are made from.
const LEDGER: [(u64, u64); 2] = [(0, 60), (60, 70)];

/// The digest of the token of that number.
pub fn digest(token: u8) -> Digest {
    *blake3::hash(&[token]).as_bytes()
}

/// The deployment's domain.
pub fn domain() -> Domain {
    let prefix = "acme".parse().expect("a prefix");
    Domain { key: DomainKey([0xD0; 32]), prefix, foreign: None }
}

/// A policy that trusts the targets' key with everything but a witness's work.
pub fn policy() -> Policy {
    let (key, domain_key) = (verifier_key(), "d0".repeat(32));
    let text = format!(
        "origin = \"{ORIGIN}\"\nprefix = \"acme\"\ndomain_key = \"{domain_key}\"\nepoch = 1\n\
         stale = \"serve-flagged\"\n\
         [[signer]]\nkey = \"{key}\"\nroles = [\"build\", \"revoke\", \"ledger\"]\n"
    );
    Policy::parse(&text).expect("a policy")
}

/// Base and its subjects, overlay and its subjects.
pub fn files() -> Vec<Vec<u8>> {
    let base: Vec<Entry<'_>> = (0..TOKENS).map(entry).collect();
    let overlay: Vec<Entry<'_>> =
        [3, 8, 21].map(entry).into_iter().map(revoked).chain([entry(TOKENS)]).collect();
    let [first, second] = [write(base, LEDGER[0]), write(overlay, LEDGER[1])];
    [first, second].into_iter().flatten().collect()
}

/// A token: some are revoked, some end by schedule, all have an expiry, every fifth has a subject.
fn entry(token: u8) -> Entry<'static> {
    let mut record = Record::new_zeroed();
    record.digest = digest(token);
    record.id[10] = token;
    record.grant.set(u32::from(token) % 4);
    record.expires.set(1000 + u32::from(token));
    let mut cold = Cold::new_zeroed();
    if token % 8 == 1 {
        record.revoked_at.set(77);
        cold.reason = Reason::Policy as u8;
    }
    let personal = match token % 5 {
        0 => Personal::Known { subject: "customer", meta: "note" },
        1 => Personal::Erased,
        _ => Personal::NOTHING,
    };
    Entry { record, cold, personal, line: 0 }
}

fn revoked(mut entry: Entry<'static>) -> Entry<'static> {
    entry.record.flags |= REVOKED;
    entry.cold.reason = Reason::Compromised as u8;
    entry
}

fn write(mut entries: Vec<Entry<'_>>, range: (u64, u64)) -> [Vec<u8>; 2] {
    let folder = folder();
    let new = || NewFile::create(folder.path()).expect("a file in a temporary folder");
    let (table, subjects) = (new(), new());
    let grants = (0..4).map(|number| {
        let mut bytes = Vec::new();
        grant(number).encode(&mut bytes);
        bytes
    });
    let spec = TableSpec { domain: domain(), grants: grants.collect(), range };
    entries.sort_by_key(|entry| entry.record.digest);
    let mut writer = TableWriter::new(&table, spec, folder.path()).expect("a table");
    let mut personal = SubjectsWriter::new(&subjects, folder.path()).expect("a subjects file");
    for entry in &entries {
        writer.push(entry).expect("a record");
        personal.push(&entry.personal).expect("a subject");
    }
    writer.finish().expect("a table");
    personal.finish().expect("a subjects file");
    [table, subjects].map(|new| fs::read(new.path()).expect("what was written"))
}

fn grant(number: u8) -> Grant {
    let kind = "live".parse().expect("a kind");
    Grant::new(kind, "api", vec![format!("scope:{number}")]).expect("claims")
}

/// Ten tokens issued, one rotated, two revoked, one erased, a generation and a signer told of.
pub fn leaves() -> Vec<Vec<u8>> {
    let key = verifier_key().to_string();
    let issues = (0..10).map(|token| What::Issue(issued(token, None)));
    let revoke = |token: u8, successor, previous| What::Revoke {
        id: id(token),
        digest: digest(token),
        at: NOW_UNIX_S,
        reason: Reason::Superseded,
        successor,
        previous,
    };
    let others = [
        What::Issue(issued(10, Some(id(2)))),
        revoke(2, Some(id(10)), 2),
        revoke(3, None, 3),
        What::Erase { id: id(3), digest: digest(3), previous: 12 },
        What::Publish { epoch: 1, generation: 1, manifest: [1; 32] },
        What::SignerAdded { key: key.clone(), roles: vec!["build".to_owned()] },
        What::SignerRetired { key, at: NOW_UNIX_S },
    ];
    issues.chain(others).map(leaf).collect()
}

fn id(token: u8) -> TokenId {
    let mut bytes = [0; 11];
    bytes[10] = token;
    TokenId::from_bytes(bytes).expect("a small number")
}

fn issued(token: u8, predecessor: Option<TokenId>) -> Issued {
    Issued {
        id: id(token),
        digest: digest(token),
        algorithm: None,
        grant: grant(token % 4),
        not_before: (token % 3 == 0).then_some(NOW_UNIX_S),
        expires: (token % 3 == 1).then_some(NOW_UNIX_S + 86_400),
        commitment: (token % 2 == 0).then_some([token; 32]),
        predecessor,
    }
}

fn leaf(what: What) -> Vec<u8> {
    let origin = Origin { actor: "uid:0".to_owned(), ..Origin::default() };
    let mut leaf = Vec::new();
    Event { time: NOW_UNIX_S, origin, what }.encode(&mut leaf);
    leaf
}

//! Micro-kernels of the verdict path, each on its own and in the cache. What they come to together,
//! and beside a floor, is for `tools/bench` to say.

use std::hint::black_box;

use adamant::claims::Requirement;
use adamant::durable::NewFile;
use adamant::table::format::{Cold, Record as TableRecord};
use adamant::table::{Entry, Personal, Table, TableSpec, TableWriter};
use adamant::time::TableTime;
use adamant::token::{Digest, Domain, DomainKey, Token, TokenId};
use adamant::verdict::Verdict;
use adamant::wire::{Record, Request, Row, VerdictsHead, cut_frame, push_verdicts, push_verify};
use criterion::{Criterion, criterion_group, criterion_main};

const RECORDS: u32 = 10_000;
const BATCH: usize = 1024;

fn domain() -> Domain {
    let prefix = "acme".parse().expect("a prefix");
    Domain { key: DomainKey([1; 32]), prefix, foreign: None }
}

fn digests() -> Vec<Digest> {
    let mut digests: Vec<Digest> =
        (0..RECORDS).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
    digests.sort_unstable();
    digests
}

fn table(digests: &[Digest]) -> Table {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let new = NewFile::create(folder.path()).expect("a new file");
    let grants = vec![b"\x04live\x00\x00\x00\x00".to_vec()];
    let spec = TableSpec { domain: domain(), grants, range: (0, 0) };
    let mut writer = TableWriter::new(&new, spec, folder.path()).expect("a writer");
    for digest in digests {
        let record = TableRecord {
            digest: *digest,
            id: [0; 11],
            flags: 0,
            reserved: 0.into(),
            grant: 0.into(),
            not_before: 0.into(),
            expires: 0.into(),
            revoked_at: 0.into(),
        };
        let cold = Cold { issued_at: 0.into(), ledger_index: [0; 7], reason: 0 };
        let entry = Entry { record, cold, personal: Personal::NOTHING, line: 0 };
        writer.push(&entry).expect("written");
    }
    writer.finish().expect("written");
    Table::open(new.file()).expect("a table")
}

fn tokens(c: &mut Criterion) {
    let domain = domain();
    let token = Token::mint(domain.prefix, "live".parse().expect("a kind")).expect("randomness");
    let text = token.expose().as_bytes();
    c.bench_function("digest of a token", |b| b.iter(|| domain.key.digest(black_box(text))));
    c.bench_function("check and digest of a token", |b| b.iter(|| domain.digest(black_box(text))));
    let (mut digests, mut malformed) = (Vec::new(), Vec::new());
    c.bench_function("check and digest of 1024 tokens", |b| {
        b.iter(|| {
            digests.clear();
            let texts = std::iter::repeat_n(black_box(text), BATCH);
            domain.digest_many(texts, &mut digests, &mut malformed);
            digests.len()
        });
    });
}

fn lookups(c: &mut Criterion) {
    let digests = digests();
    let table = table(&digests);
    let mut at = 0;
    c.bench_function("get, in the cache", |b| {
        b.iter(|| {
            at = (at + 7919) % digests.len();
            table.get(black_box(&digests[at])).map(|found| found.rank)
        });
    });
    c.bench_function("get_many of 128, in the cache", |b| {
        b.iter(|| {
            at = (at + 128) % (digests.len() - 128);
            let mut found = 0_u64;
            table.get_many(black_box(&digests[at..at + 128]), |_, record| {
                found += u64::from(record.is_some());
            });
            found
        });
    });
}

fn frames(c: &mut Criterion) {
    let digests = digests();
    let frame = |count: usize| {
        let mut out = Vec::new();
        push_verify(&mut out, false, &Requirement::any(), &digests[..count]).expect("a frame");
        out
    };
    for count in [1, BATCH] {
        let frame = frame(count);
        c.bench_function(&format!("decode VERIFY of {count}"), |b| {
            b.iter(|| {
                let (body, _) = cut_frame(black_box(&frame)).expect("whole").expect("whole");
                matches!(Request::decode(body), Ok(Request::Verify(verify)) if verify.digests.len() == count)
            });
        });
    }
    let id = TokenId::default();
    let record = Record { id, table: 0, expires: TableTime(5), grant: 1 };
    let row = Row { verdict: Verdict::Valid, record: Some(record) };
    c.bench_function("encode a row", |b| b.iter(|| black_box(&row).encode()));
    let rows = vec![row.encode(); BATCH];
    let mut out = Vec::new();
    c.bench_function("encode VERDICTS of 1024", |b| {
        b.iter(|| {
            out.clear();
            let head = VerdictsHead::default();
            push_verdicts(&mut out, &head, black_box(&rows), &[]);
            out.len()
        });
    });
}

criterion_group!(kernels, tokens, lookups, frames);
criterion_main!(kernels);

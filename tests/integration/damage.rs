//! Every bit flip and every cut of a small store is refused: by `verify-store`, and by a daemon,
//! which serves on from its last good generation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use adamant::claims::Requirement;
use adamant::policy::Policy;
use adamant::store::{Marks, Store, judge, load_policy, now_unix_s};
use adamant::verdict::Verdict;

use crate::support::{Home, Server, eventually, run};

const TOKENS: usize = 12;
/// Damages that go through the real program, and through a running daemon.
const SAMPLE: usize = 40;

/// What `verify-store --policy` does, in this process, so that tens of thousands of damages are
/// quick.
fn is_accepted(store: &Store, policy: &Policy) -> bool {
    let note = store.read_manifest().unwrap().unwrap();
    judge(&note, policy, &Marks::default(), now_unix_s())
        .is_ok_and(|judged| store.open(&judged).is_ok())
}

/// The manifest, the table and the subjects file of the current generation.
fn files(store: &Path) -> Vec<PathBuf> {
    let manifest = fs::read_to_string(store.join("manifest")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("table ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let tables = store.join("tables");
    vec![
        store.join("manifest"),
        tables.join(format!("{}.tbl", words[1])),
        tables.join(format!("{}.sub", words[7])),
    ]
}

/// Puts other bytes into the place of a file, under its name and with its mode.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("damaged");
    fs::write(&new, bytes).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o440)).unwrap();
    fs::rename(&new, path).unwrap();
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn every_bit_flip_and_every_cut_is_refused() {
    let home = Home::new();
    home.issue(TOKENS);
    home.build();
    let policy = load_policy(&home.policy()).unwrap();
    let store = Store::at(home.store());
    assert!(is_accepted(&store, &policy));
    for path in files(&home.store()) {
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            replace(&path, &flipped(&whole, bit));
            assert!(!is_accepted(&store, &policy), "{}: bit {bit}", path.display());
        }
        for len in 0..whole.len() {
            replace(&path, &whole[..len]);
            assert!(!is_accepted(&store, &policy), "{}: cut to {len}", path.display());
        }
        replace(&path, &[&whole[..], &[0]].concat());
        assert!(!is_accepted(&store, &policy), "{}: one byte more", path.display());
        replace(&path, &whole);
        assert!(is_accepted(&store, &policy));
    }
}

#[test]
fn the_program_and_the_daemon_refuse_a_damaged_generation() {
    let home = Home::new();
    let token = home.issue(TOKENS).remove(0);
    home.build();
    let server = Server::start(&home.path());
    // The next generation is made elsewhere, and arrives damaged.
    let copy = home.copy();
    fs::copy(home.list(), copy.list()).unwrap();
    copy.issue(1);
    copy.build();
    let arriving: Vec<(PathBuf, Vec<u8>)> = files(&copy.store())
        .into_iter()
        .map(|path| (path.strip_prefix(copy.store()).unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    let served = fs::read(home.store().join("manifest")).unwrap();
    let is_refused = || server.status()["refused"].is_string();
    let arrive = |damaged: usize, bytes: &[u8]| {
        // A look that has begun may still read the manifest of the round before: let it end, or
        // it finds tables that were mended since.
        replace(&home.store().join("manifest"), &served);
        eventually("what is current is what is served", || !is_refused());
        // Tables first and the manifest last, as whoever copies a store must.
        for at in [1, 2, 0] {
            let (path, whole) = &arriving[at];
            replace(&home.store().join(path), if at == damaged { bytes } else { whole });
        }
    };
    let policy = home.policy();
    let arguments = ["verify-store", home.text(), "--policy", policy.to_str().unwrap()];
    for round in 0..SAMPLE {
        let at = round % 3;
        let whole = &arriving[at].1;
        let bit = (round * 7919 + round * round * 31) % (whole.len() * 8);
        let bytes = match round % 4 {
            0 => whole[..bit / 8].to_vec(),
            _ => flipped(whole, bit),
        };
        arrive(at, &bytes);
        assert_eq!(run(&arguments, b"").code, 65, "round {round}");
        server.signal("HUP");
        eventually("the damaged generation is refused", is_refused);
        let verdict =
            server.client().verify(token.as_bytes(), &Requirement::any()).unwrap().verdict();
        assert_eq!(verdict, Verdict::Valid, "round {round}");
        assert_eq!(server.generation(), 2, "round {round}");
    }
    arrive(3, &[]);
    eventually("the whole generation is served", || server.generation() == 3);
}

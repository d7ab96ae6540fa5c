//! A store that was tampered with, by somebody without keys and by somebody with all of them. Each
//! change is found and named by `adamant audit` and by the second verifier, which is Python and
//! shares no code with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adamant::audit::{Means, audit};
use adamant::durable::NewFile;
use adamant::ledger::{Checkpoint, Tiles, check_tree};
use adamant::policy::Policy;
use adamant::store::{NewTables, Next, Part, Store};
use adamant::table::{Entry, SubjectsWriter, TableSpec, TableWriter};

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::support::{Home, Ran, run};

/// The second verifier.
pub(crate) fn second(path: &Path, options: &[&str]) -> Ran {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/verify_evidence.py");
    let output = Command::new("python3").arg(script).arg(path).args(options).output();
    let output = output.expect("python3 is not installed");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Both find it, and both say `part` of it.
#[track_caller]
fn found_by_both(home: &Home, options: &[&str], part: &str) {
    let (store, policy) = (home.store(), home.policy());
    let policy = ["--policy", policy.to_str().unwrap()];
    let first = run(&[&["audit", store.to_str().unwrap()], &policy[..], options].concat(), b"");
    let second = second(&store, &[&policy[..], options].concat());
    for (who, ran) in [("audit", first), ("verify_evidence.py", second)] {
        assert_eq!(ran.code, 65, "{who}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(part), "{who} does not say `{part}`:\n{}", ran.stdout);
    }
}

#[track_caller]
fn clean_by_both(home: &Home) {
    audit_is_clean(home);
    let policy = home.policy();
    let ran = second(&home.store(), &["--policy", policy.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

/// A hundred events and more: issues, rotations, revocations.
fn home_with_events() -> Home {
    let home = Home::new();
    on(&home, &["issue", "--kind", "live", "--count", "90", "--no-publish"]).expect_code(0);
    let (token, _) = issue(&home, &["--scope", "orders:read", "--expires", "90d"]);
    on(&home, &["build"]).expect_code(0);
    on(&home, &["rotate", id_of(&token), "--overlap", "1h"]).expect_code(0);
    on(&home, &["revoke", id_of(&token), "--reason", "compromised"]).expect_code(0);
    home
}

fn writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// Whoever may write to a store could else have its auditor read until memory ends.
#[test]
fn a_note_of_a_terabyte_is_read_no_further_than_a_note_may_be() {
    let home = home_with_events();
    let earlier = fs::read_dir(home.store().join("manifests")).unwrap().next().unwrap().unwrap();
    let name = earlier.file_name().into_string().unwrap();
    for (path, part) in [
        (format!("manifests/{name}"), "its bytes are not those that its name says"),
        ("ledger/checkpoint".to_owned(), "as short as a checkpoint is"),
    ] {
        let copy = home.copy();
        let path = copy.store().join(path);
        writable(&path);
        // Sparse: it takes no room on the disk.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let policy = copy.policy();
        let ran = run(&["audit", copy.text(), "--policy", policy.to_str().unwrap()], b"");
        assert_eq!(ran.code, 65, "{}{}", ran.stdout, ran.stderr);
        assert!((ran.stdout + &ran.stderr).contains(part), "not `{part}`");
    }
}

/// Files of the ledger that count: all but partial ones of earlier sizes.
fn ledger_files(home: &Home) -> Vec<PathBuf> {
    let ledger = home.store().join("ledger");
    let size = audit_is_clean(home)["entries"].as_u64().unwrap();
    let tiles = adamant::ledger::tiles_between(0, size);
    let files = tiles.iter().map(|tile| ledger.join(tile.path()));
    files.chain([ledger.join("checkpoint")]).collect()
}

/// Each bit of a ledger of a hundred events, one at a time.
#[test]
fn every_bit_of_a_ledger_counts() {
    let home = home_with_events();
    clean_by_both(&home);
    let policy = Policy::parse(&fs::read_to_string(home.policy()).unwrap()).unwrap();
    let store = Store::at(home.store());
    let keys: Vec<_> = policy.signers.iter().map(|signer| signer.key.clone()).collect();
    let mut flips = 0;
    for path in ledger_files(&home) {
        writable(&path);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                fs::write(&path, &changed).unwrap();
                let place = format!("bit {bit} of byte {at} of {}", path.display());
                assert!(!is_whole(&store, &keys), "{place}");
                // The whole audit, which rests on that, for some of them: it takes longer.
                if flips % 101 == 0 {
                    let means = Means { policy: Some(&policy), ..Means::default() };
                    assert!(audit(&store, &means).unwrap().count > 0, "{place}");
                }
                flips += 1;
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    println!("{flips} bits, each found");
    clean_by_both(&home);
}

/// Whether checkpoint, tiles and entries fit: what an audit looks at first.
fn is_whole(store: &Store, keys: &[adamant::signers::VerifierKey]) -> bool {
    let note = adamant::ledger::read_checkpoint(&store.ledger()).unwrap().unwrap();
    let Ok(checkpoint) = Checkpoint::open(&note, keys) else { return false };
    let tiles = Tiles::new(&store.ledger(), checkpoint.size);
    let mut found = 0;
    check_tree(&tiles, &checkpoint.root, &mut |_, _| {}, &mut |_| found += 1);
    found == 0
}

/// The second verifier takes longer, so a bit of every 400th byte.
#[test]
fn the_second_verifier_finds_flipped_bits_too() {
    let home = home_with_events();
    for path in ledger_files(&home) {
        writable(&path);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(1 + whole.len().min(12_000) / 12) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            let ran = second(&home.store(), &["--policy", home.policy().to_str().unwrap()]);
            assert_eq!(ran.code, 65, "byte {at} of {}: {}", path.display(), ran.stdout);
        }
        fs::write(&path, &whole).unwrap();
    }
    clean_by_both(&home);
}

#[test]
fn a_tail_that_was_cut_and_a_second_history_are_found_by_a_kept_checkpoint() {
    let home = home_with_events();
    let earlier = home.copy();
    issue(&home, &[]);
    let kept = home.folder().join("kept");
    fs::copy(home.store().join("ledger/checkpoint"), &kept).unwrap();
    let kept = kept.to_str().unwrap().to_owned();
    // Signed by the right signer, and shorter than what was shown before.
    found_by_both(&earlier, &["--checkpoint", &kept], "the ledger was cut");
    // As long, and longer, and something else.
    issue(&earlier, &["--subject", "somebody else"]);
    found_by_both(&earlier, &["--checkpoint", &kept], "two histories");
    issue(&earlier, &[]);
    found_by_both(&earlier, &["--checkpoint", &kept], "two histories");
    // What went on from there is the same history.
    issue(&home, &[]);
    let policy = home.policy();
    let options = ["--policy", policy.to_str().unwrap(), "--checkpoint", &kept];
    let store = home.store();
    run(&[&["audit", store.to_str().unwrap()], &options[..]].concat(), b"").expect_code(0);
    second(&store, &options).expect_code(0);
}

/// An event taken out of the files, everything behind it moved up.
#[test]
fn a_removed_event_is_found() {
    let home = home_with_events();
    let files = ledger_files(&home);
    let entries = &files[0];
    writable(entries);
    let bytes = fs::read(entries).unwrap();
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    fs::write(entries, &bytes[2 + len..]).unwrap();
    found_by_both(&home, &[], "WRONG");
}

/// What somebody with the build signer's key can put before the hosts: tables that no event made.
fn forged(
    home: &Home,
    change: impl Fn(&mut Vec<(adamant::table::format::Record, adamant::table::format::Cold)>),
) {
    let library = adamant::store::Home::open(&home.path()).unwrap();
    let previous = library.current().unwrap().unwrap();
    let generation = previous.store.open(&previous.judged).unwrap();
    let base = generation.base();
    let mut rows: Vec<_> = (0..u32::try_from(base.table.records().len()).unwrap())
        .map(|rank| {
            let entry = base.entry(rank);
            (entry.record, entry.cold)
        })
        .collect();
    change(&mut rows);
    rows.sort_by_key(|(record, _)| record.digest);
    let folder = library.store().tables();
    let (table, subjects) = (NewFile::create(&folder).unwrap(), NewFile::create(&folder).unwrap());
    let grants = (0..u32::try_from(base.table.grant_count()).unwrap())
        .map(|number| base.table.grant_bytes(number).unwrap().to_vec())
        .collect();
    let domain = library.policy().domain.clone();
    let spec = TableSpec { domain, grants, range: base.line.range };
    let mut writer = TableWriter::new(&table, spec, &folder).unwrap();
    let mut texts = SubjectsWriter::new(&subjects, &folder).unwrap();
    for (record, cold) in rows {
        // As in the true table, so that nothing but the change is to be found.
        let known = base.table.get(&record.digest).map(|found| base.personal(found.rank));
        let personal = known.unwrap_or(adamant::table::Personal::NOTHING);
        let entry = Entry { record, cold, personal, line: 0 };
        writer.push(&entry).unwrap();
        texts.push(&entry.personal).unwrap();
    }
    let (table_written, subjects_written) = (writer.finish().unwrap(), texts.finish().unwrap());
    let made =
        NewTables { table, table_written, subjects, subjects_written, range: base.line.range };
    let manifest = &previous.judged.manifest;
    let mut parts = vec![Part::New(made)];
    parts.extend(manifest.tables[1..].iter().cloned().map(Part::Kept));
    let lock = library.lock_publishing().unwrap();
    let next = Next { parts, ledger: manifest.ledger };
    library.publish(&lock, Some(&previous), next).unwrap();
}

#[test]
fn a_token_that_was_added_behind_the_ledgers_back_is_named() {
    let home = home_with_events();
    let token = adamant::token::Token::mint("acme".parse().unwrap(), "live".parse().unwrap());
    let token = token.unwrap();
    let digest = token.digest(&home.domain().key);
    forged(&home, |rows| {
        let (mut record, cold) = rows[3];
        record.digest = digest;
        record.id = token.id().bytes();
        rows.push((record, cold));
    });
    found_by_both(&home, &[], &token.id().to_string());
    let (store, policy) = (home.store(), home.policy());
    let rebuild = [
        "verify-store",
        store.to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
        "--rebuild",
    ];
    run(&rebuild, b"").expect_code(65).expect_error(&token.id().to_string());
}

#[test]
fn a_claim_that_was_changed_in_the_table_only_is_named() {
    let home = home_with_events();
    let id = std::cell::RefCell::new(String::new());
    forged(&home, |rows| {
        let (record, _) = rows.iter_mut().find(|(record, _)| record.expires.get() == 0).unwrap();
        record.expires.set(400_000_000);
        let name = adamant::token::TokenId::from_bytes(record.id).unwrap().to_string();
        id.replace(name);
    });
    found_by_both(&home, &[], &id.borrow());
}

#[test]
fn a_manifest_that_names_another_root_is_named() {
    let home = home_with_events();
    let library = adamant::store::Home::open(&home.path()).unwrap();
    let previous = library.current().unwrap().unwrap();
    let manifest = &previous.judged.manifest;
    let parts = manifest.tables.iter().cloned().map(Part::Kept).collect();
    let lock = library.lock_publishing().unwrap();
    let next = Next { parts, ledger: (manifest.ledger.0, [7; 32]) };
    library.publish(&lock, Some(&previous), next).unwrap();
    found_by_both(&home, &[], "root");
}

/// Proofs and the evidence archive, by both.
#[test]
fn proofs_and_evidence_hold_for_both_verifiers() {
    let home = home_with_events();
    let (token, _) = issue(&home, &["--subject", "witness@example.com"]);
    on(&home, &["rotate", id_of(&token), "--overlap", "1h"]).expect_code(0);
    let policy = home.policy();
    let pinned = ["--policy", policy.to_str().unwrap()];
    for about in ["issued", "revoked"] {
        let proof = home.folder().join("x.tlog-proof");
        let file = proof.to_str().unwrap();
        on(&home, &["prove", about, id_of(&token), "--out", file]).expect_code(0);
        run(&[&["verify-proof", file], &pinned[..]].concat(), b"").expect_code(0);
        let ran = second(&proof, &pinned);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(id_of(&token)), "{}", ran.stdout);
        let unpinned = second(&proof, &[]).expect_code(0);
        assert!(unpinned.stdout.contains("signers not pinned"), "{}", unpinned.stdout);
        // Another deployment's signer vouches for nothing here.
        let another = Home::new();
        let other = another.policy();
        second(&proof, &["--policy", other.to_str().unwrap()]).expect_code(65);
    }
    let archive = home.folder().join("evidence.tar");
    let file = archive.to_str().unwrap();
    on(&home, &["evidence", "--token", id_of(&token), "--out", file]).expect_code(0);
    let ran = second(&archive, &pinned);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let summary = Command::new("tar").args(["-xOf", file, "summary.txt"]).output().unwrap();
    let summary = String::from_utf8(summary.stdout).unwrap();
    assert!(summary.contains("issued by") && summary.contains(id_of(&token)), "{summary}");
    let whole = fs::read(&archive).unwrap();
    assert!(!String::from_utf8_lossy(&whole).contains(&token), "no token in the evidence");
}

/// A signer follows another: both sign during the overlap, and the ledger says so.
#[test]
fn signers_rotate_with_an_overlap() {
    let home = home_with_events();
    for role in ["build", "ledger"] {
        let said = on(&home, &["signers", "rotate", "--role", role, "--overlap", "1h"]);
        assert!(said.expect_code(0).stdout.contains("trusted until"));
    }
    issue(&home, &[]);
    let checkpoint = fs::read_to_string(home.store().join("ledger/checkpoint")).unwrap();
    assert_eq!(checkpoint.matches("acme/adamant/ledger ").count(), 2, "{checkpoint}");
    let audit = audit_is_clean(&home);
    assert_eq!(audit["events"]["signer-added"], 2);
    assert_eq!(audit["events"]["signer-retired"], 2);
    clean_by_both(&home);
}

/// A witness that the policy names cosigns the checkpoint; both verifiers count it.
#[test]
fn witnesses_are_counted_as_the_policy_asks() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use sha2::Digest as _;

    let home = home_with_events();
    let witness = adamant::signers::Signer::generate("witness.example/w").unwrap();
    let plain = witness.verifier_key().to_string();
    let public = BASE64.decode(plain.splitn(3, '+').nth(2).unwrap()).unwrap();
    let typed = [&[4], &public[1..]].concat();
    let hash = sha2::Sha256::digest([b"witness.example/w\n", &typed[..]].concat());
    let id: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("witness.example/w+{id}+{}", BASE64.encode(&typed));
    on(&home, &["signers", "add", "--role", "witness", "--key", &key]).expect_code(0);
    issue(&home, &[]);
    let policy = fs::read_to_string(home.policy()).unwrap();
    fs::write(home.policy(), policy.replacen("epoch = 1\n", "epoch = 1\nwitnesses_min = 1\n", 1))
        .unwrap();
    let (store, file) = (home.store(), home.policy());
    let audit = ["audit", store.to_str().unwrap(), "--policy", file.to_str().unwrap()];
    let lacking = run(&audit, b"").expect_code(65);
    assert!(lacking.stdout.contains("0 witnesses have cosigned"), "{}", lacking.stdout);

    let checkpoint = store.join("ledger/checkpoint");
    let note = fs::read_to_string(&checkpoint).unwrap();
    let text = &note[..=note.rfind("\n\n").unwrap()];
    let message = format!("cosignature/v1\ntime 1795582800\n{text}");
    let signature = witness.sign(message.as_bytes());
    let line = [&hash[..4], &1_795_582_800_u64.to_be_bytes(), &signature].concat();
    writable(&checkpoint);
    fs::write(&checkpoint, format!("{note}\u{2014} witness.example/w {}\n", BASE64.encode(line)))
        .unwrap();
    let counted = run(&audit, b"").expect_code(0);
    assert!(!counted.stdout.contains("no outside witness"), "{}", counted.stdout);
    let ran = second(&store, &["--policy", file.to_str().unwrap()]).expect_code(0);
    assert!(ran.stdout.contains("1 witnesses"), "{}", ran.stdout);
}

//! Files of version 1, as they were first written. They are read for ever, and the same entries
//! give the same bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use adamant::manifest::hex;
use adamant::policy::Policy;
use adamant::store::{Marks, Store, judge};
use adamant::table::Personal;
use adamant::token::Domain;
use adamant::verdict::Verdict;

use crate::support::run;

/// While the golden manifest was in force, Unix seconds.
const NOW: i64 = 1_795_600_000;
/// In no list but the golden one.
const TOKEN: &str = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A store's files must not be writable for others, whatever a checkout makes of modes.
fn checked_out(folder: &Path) -> Store {
    let status =
        std::process::Command::new("cp").arg("-r").arg(golden().join("store")).arg(folder).status();
    assert!(status.unwrap().success());
    let store = folder.join("store");
    for entry in fs::read_dir(store.join("tables")).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o440)).unwrap();
    }
    Store::at(store)
}

#[test]
fn the_store_of_version_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = checked_out(folder.path());
    let policy = Policy::parse(&fs::read_to_string(golden().join("policy.toml")).unwrap()).unwrap();
    let note = store.read_manifest().unwrap().unwrap();
    let judged = judge(&note, &policy, &Marks::default(), NOW).unwrap();
    assert_eq!((judged.manifest.generation, judged.expired), (2, false));
    let generation = store.open(&judged).unwrap();
    let table = &generation.base().table;
    assert_eq!(table.records().len(), 4);
    let domain: &Domain = table.domain();
    assert_eq!(domain.prefix.as_str(), "acme");
    let now = adamant::time::TableTime::end(NOW).unwrap();
    let found = table.get(&domain.digest(TOKEN.as_bytes()).unwrap()).unwrap();
    let verdict = |found: &adamant::table::Found<'_>| {
        adamant::verdict::judge(&found.record.standing(), now, || Ok(()))
    };
    assert_eq!(verdict(&found), Verdict::Valid);
    let known = Personal::Known { subject: "customer-42", meta: "{\"plan\":\"gold\"}" };
    assert_eq!(generation.base().subjects.get(found.rank), Some(known));
    let view = table.grant(found.record.grant.get()).unwrap();
    let scopes = [&b"orders:read"[..], b"orders:write"];
    assert_eq!(view.admits(Some(b"live"), Some(b"orders-api"), scopes.into_iter()), Ok(()));
    let foreign = table.get(&domain.digest(b"legacy-secret-1").unwrap()).unwrap();
    assert_eq!(verdict(&foreign), Verdict::Revoked);
    assert_eq!(hex(&domain.digest(b"legacy-secret-1").unwrap()), hex(&foreign.record.digest));
}

/// The golden list, built today with the golden domain key.
#[test]
fn the_same_list_gives_the_golden_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let home_text = home.to_str().unwrap();
    run(&["init", home_text, "--prefix", "acme"], b"").expect_code(0);
    let policy = fs::read_to_string(home.join("policy.toml")).unwrap();
    let golden_policy = fs::read_to_string(golden().join("policy.toml")).unwrap();
    let line = |text: &str| text.lines().find(|l| l.starts_with("domain_key")).unwrap().to_owned();
    fs::write(home.join("policy.toml"), policy.replace(&line(&policy), &line(&golden_policy)))
        .unwrap();
    for file in ["store/manifest", "state/marks"] {
        fs::remove_file(home.join(file)).unwrap();
    }
    let list = golden().join("list.ndjson");
    let arguments = ["build", "--home", home_text, "--first", "--high-entropy", "--from"];
    let arguments: Vec<&str> = arguments.into_iter().chain([list.to_str().unwrap()]).collect();
    run(&arguments, b"").expect_code(0);
    let tables = fs::read_dir(golden().join("store/tables")).unwrap();
    let mut count = 0;
    for entry in tables {
        let path = entry.unwrap().path();
        let built = home.join("store/tables").join(path.file_name().unwrap());
        assert!(fs::read(&built).unwrap() == fs::read(&path).unwrap(), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 2);
}

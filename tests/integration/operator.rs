//! An operator's mistakes. Each gets a message that says what, where and what to do, and costs
//! nothing that was served before. (A signer that is unknown, a wrong owner or mode of a file, a
//! policy that forgets: `attacks.rs`. Two daemons at one socket, a socket left behind:
//! `commands.rs`. Descriptors: `tests/hostile`.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use adamant::claims::Requirement;

use crate::support::{Home, Server, can_be_others, eventually, run};

/// A small file system of its own, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(kib: u64) -> Small {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={kib}k,mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "adamant-test"])
            .arg(folder.path())
            .status();
        assert!(mounted.unwrap().success());
        Small(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, options: &str) {
        let remounted = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.path())
            .status();
        assert!(remounted.unwrap().success());
    }

    /// Leaves no room.
    fn fill(&self) {
        let filled = fs::write(self.path().join("filler"), vec![0; 64 << 20]);
        assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A home whose folder of marks is on a file system of its own.
fn with_state_on(small: &Small) -> (Home, String) {
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let state = home.path().join("state");
    let copied = Command::new("cp").arg("-a").arg(&state).arg(small.path()).status();
    assert!(copied.unwrap().success());
    fs::remove_dir_all(&state).unwrap();
    std::os::unix::fs::symlink(small.path().join("state"), &state).unwrap();
    (home, token)
}

/// Another generation is published, from a copy of the home.
fn publish_another(home: &Home) {
    let other = home.copy();
    fs::remove_file(other.path().join("state")).unwrap();
    fs::create_dir(other.path().join("state")).unwrap();
    fs::copy(home.list(), other.list()).unwrap();
    other.issue(1);
    other.build();
    other.deliver_to(home);
}

/// A mark that cannot be stored is a generation that is not served.
#[test]
fn a_full_or_read_only_disk_for_the_marks_is_named_and_what_is_served_stays() {
    if !can_be_others() {
        return;
    }
    let small = Small::mount(64);
    let (home, token) = with_state_on(&small);
    let server = Server::start(&home.path());
    for said in ["No space left on device", "Read-only file system"] {
        let is_full = said.starts_with("No space");
        let before = server.generation();
        if is_full {
            // One more mark would fit into the block that its file has.
            fs::remove_file(small.path().join("state/marks")).unwrap();
            small.fill()
        } else {
            small.remount("ro")
        }
        publish_another(&home);
        eventually("it is refused", || server.status()["refused"].is_string());
        let status = server.status();
        let refused = status["refused"].as_str().unwrap();
        assert!(refused.contains(said) && refused.contains("/state/"), "{refused}");
        assert_eq!(status["generation"], before);
        let answer = server.client().verify(token.as_bytes(), &Requirement::any()).unwrap();
        assert!(answer.is_valid());
        if is_full {
            small.empty()
        } else {
            small.remount("rw")
        }
        server.signal("HUP");
        server.wait_for_generation(before + 1);
    }
}

/// The builder has no room: the old generation is whole, and the next build finds no rubbish.
#[test]
fn a_full_disk_for_the_store_is_named_and_nothing_is_published() {
    if !can_be_others() {
        return;
    }
    let small = Small::mount(512);
    let home = small.path().join("home");
    let text = home.to_str().unwrap();
    run(&["init", text, "--prefix", "acme"], b"").expect_code(0);
    let list = small.path().join("list");
    let issue = ["issue", "--home", text, "--kind", "live", "--count", "20", "--list"];
    run(&[&issue[..], &[list.to_str().unwrap()]].concat(), b"").expect_code(0);
    let build = ["build", "--home", text, "--from", list.to_str().unwrap()];
    run(&build, b"").expect_code(0);
    run(&[&issue[..], &[list.to_str().unwrap()]].concat(), b"").expect_code(0);
    let manifest = || fs::read(home.join("store/manifest")).unwrap();
    let before = manifest();
    small.fill();
    let failed = run(&build, b"").expect_code(74);
    failed.expect_error("No space left on device");
    failed.expect_error("cannot build in ");
    failed.expect_error("store/tables: cannot write the table");
    assert_eq!(manifest(), before);
    let policy = home.join("policy.toml");
    let verify = ["verify-store", text, "--policy", policy.to_str().unwrap()];
    run(&verify, b"").expect_code(0);
    small.empty();
    run(&build, b"").expect_code(0);
    let tables = fs::read_dir(home.join("store/tables")).unwrap();
    let rubbish = tables
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(rubbish.count(), 0);
}

fn daemon(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_adamantd")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn files_that_are_missing_or_closed_are_named() {
    let home = Home::new();
    let [store, policy, state] =
        ["store", "policy.toml", "state"].map(|name| home.path().join(name));
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let none = text(&home.folder().join("none"));
    let cases = [
        ([&text(&store), &none, &text(&state)], 66, "cannot read"),
        ([&none, &text(&policy), &text(&state)], 66, "has no manifest"),
        ([&text(&store), &text(&store), &text(&state)], 74, "cannot read"),
    ];
    for ([store, policy, state], code, said) in cases {
        let arguments = ["--store", store, "--policy", policy, "--state", state];
        let (found, error) = daemon(&arguments);
        assert!(error.contains(said), "{error}");
        assert_eq!(found, Some(code), "{error}");
        let (found, error) = daemon(&[&arguments[..], &["--check-config"]].concat());
        assert_ne!(found, Some(0), "{error}");
    }
    let (code, error) = daemon(&["--config", &none]);
    assert_eq!(code, Some(66));
    assert!(error.contains(&format!("cannot read {none}")), "{error}");
}

#[test]
fn a_configuration_is_checked_without_serving() {
    let home = Home::new();
    home.issue(1);
    home.build();
    let file = home.folder().join("adamantd.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_adamantd"))
            .args(["--check-config", "--config", file.to_str().unwrap(), "--home", home.text()])
            .output()
            .unwrap()
    };
    let good = check("connections_max = 100\n");
    let said = String::from_utf8(good.stdout).unwrap();
    assert_eq!(good.status.code(), Some(0));
    assert!(said.starts_with("connections 100 under "), "{said}");
    assert!(said.contains("MiB beside the tables\ntables 1 MiB, 2 MiB while"), "{said}");
    let bad = check("conections_max = 100\n");
    let said = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(bad.status.code(), Some(78));
    assert!(said.contains("adamantd.toml: there is no setting `conections_max`"), "{said}");
    // The example is what is compiled in.
    let example = include_str!("../../systemd/adamantd.toml");
    assert_eq!(check(example).status.code(), Some(0));
}

/// A limit that leaves no descriptor for a connection is found at the start, not at three in the
/// morning.
#[test]
fn too_few_descriptors_are_named_at_the_start() {
    let home = Home::new();
    let limited = Command::new("prlimit")
        .args(["--nofile=40:40", env!("CARGO_BIN_EXE_adamantd"), "--home", home.text()])
        .output()
        .unwrap();
    let said = String::from_utf8(limited.stderr).unwrap();
    assert_eq!(limited.status.code(), Some(78), "{said}");
    assert!(said.contains("a limit of 40 descriptors leaves none for connections"), "{said}");
}

/// A clock that is a year off, either way, with faketime(1).
#[test]
fn a_wrong_clock_is_named() {
    let home = Home::new();
    home.issue(1);
    home.build();
    let at = |offset: &str| {
        let socket = home.folder().join("socket");
        let output = Command::new("faketime")
            .args(["-f", offset, env!("CARGO_BIN_EXE_adamantd"), "--home", home.text(), "--socket"])
            .arg(socket)
            .output();
        let output = output.expect("faketime is missing: install the Debian package `faketime`");
        assert_eq!(output.status.code(), Some(65));
        String::from_utf8(output.stderr).unwrap()
    };
    let behind = at("-1y");
    assert!(
        behind.contains("s ahead of this host's clock: one of the two clocks is wrong"),
        "{behind}"
    );
    let ahead = at("+1y");
    assert!(ahead.contains("expired ") && ahead.contains("publish a new generation"), "{ahead}");
}

/// Whoever may not read the policy or write marks is told which file it is.
#[test]
fn a_user_without_rights_is_told_which() {
    if !can_be_others() {
        return;
    }
    let home = Home::new();
    home.issue(1);
    home.build();
    let folder = crate::support::public_folder();
    let daemon = crate::support::public_copy(env!("CARGO_BIN_EXE_adamantd"), folder.path());
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(home.folder(), 0o755);
    mode(&home.path(), 0o755);
    mode(&home.policy(), 0o600);
    let mut server = Server::spawn_as(&home.path(), 5002, &daemon);
    assert_eq!(server.wait(), Some(77), "{}", server.log());
    let log = server.log();
    assert!(log.contains("policy.toml") && log.contains("Permission denied"), "{log}");
}

/// The current manifest and its archived copy are one file. Copied over in place, the archived one
/// says something else than its name: the home goes on, and follows no manifest in circles.
#[test]
fn a_manifest_that_was_copied_over_in_place_hangs_nobody() {
    let home = Home::new();
    for _ in 0..2 {
        run(&["issue", "--home", home.text(), "--kind", "live"], b"").expect_code(0);
    }
    let elsewhere = home.copy();
    run(&["issue", "--home", elsewhere.text(), "--kind", "live"], b"").expect_code(0);
    elsewhere.deliver_to(&home);
    for name in ["ledger", "tables"] {
        let mut copy = std::process::Command::new("cp");
        copy.arg("-r").arg(elsewhere.store().join(name)).arg(home.store());
        assert!(copy.status().unwrap().success());
    }
    // As `cp` does for whoever may write to a read-only file: root, or its owner after chmod.
    let manifest = std::fs::read(elsewhere.store().join("manifest")).unwrap();
    let archived = std::fs::read_dir(home.store().join("manifests")).unwrap();
    for entry in archived {
        let path = entry.unwrap().path();
        let mut open = std::fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o644);
        std::fs::set_permissions(&path, open).unwrap();
        std::fs::write(&path, &manifest).unwrap();
    }
    run(&["issue", "--home", home.text(), "--kind", "live"], b"").expect_code(0);
}

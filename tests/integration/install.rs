//! docs/operations.md, "Install", word for word, into a folder; and the daemon that was installed,
//! as the user and with the one capability that the unit gives it. What needs a running systemd is
//! not run: `systemctl`.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, Server, can_be_others, eventually, public_folder};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The blocks that are marked `sh install`.
fn documented() -> String {
    let page = fs::read_to_string(project("docs/operations.md")).unwrap();
    let blocks =
        page.split("```sh install\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    blocks.collect()
}

/// A checkout in which the programs were built.
fn checkout(folder: &Path) {
    for part in ["systemd", "docs"] {
        symlink(project(part), folder.join(part)).unwrap();
    }
    fs::create_dir_all(folder.join("target/release")).unwrap();
    for program in [env!("CARGO_BIN_EXE_adamant"), env!("CARGO_BIN_EXE_adamantd")] {
        let name = Path::new(program).file_name().unwrap();
        symlink(program, folder.join("target/release").join(name)).unwrap();
    }
}

/// The number of a user in the passwd file of the installation.
fn uid_of(root: &Path, name: &str) -> u32 {
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}

#[test]
fn the_install_page_leads_to_a_daemon_that_serves() {
    if !can_be_others() {
        return;
    }
    let home = Home::new();
    home.issue(3);
    home.build();
    let (source, target) = (tempfile::tempdir().unwrap(), public_folder());
    checkout(source.path());
    let root = target.path();
    let installed = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &documented()])
        .current_dir(source.path())
        .env("DESTDIR", root)
        .env("ADAMANT_HOME", home.path())
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));

    let uid = uid_of(root, "adamant");
    let store = root.join("var/lib/adamant/store");
    let table = fs::read_dir(store.join("tables")).unwrap().next().unwrap().unwrap();
    let facts = table.metadata().unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o777), (0, 0o440), "root's, and read by its group");
    assert_ne!(facts.gid(), 0);

    let gid = facts.gid();
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={uid}"),
        &format!("--regid={gid}"),
        "--clear-groups",
        "--inh-caps=-all,+lease",
        "--ambient-caps=-all,+lease",
        "--bounding-set=-all,+lease",
        "--no-new-privs",
    ]);
    command.arg("--").arg(root.join("usr/local/bin/adamantd"));
    command.arg("--store").arg(&store);
    command.arg("--policy").arg(root.join("etc/adamant/policy.toml"));
    command.arg("--state").arg(root.join("var/lib/adamant/state"));
    let server = Server::spawn_command(command);
    eventually("it serves", || server.log().contains("listening"));
    let status = server.status();
    assert_eq!(status["generation"], 2);
    assert_eq!(status["protection"], "lease");
}

/// Each message id of the program is explained, and each that is explained is one of the program.
#[test]
fn every_message_id_is_on_the_page() {
    let is_id = |word: &&str| word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    let ids = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let mut ids: Vec<String> = words.filter(is_id).map(str::to_owned).collect();
        ids.sort();
        ids
    };
    let program = ids(&fs::read_to_string(project("src/daemon/log.rs")).unwrap());
    assert!(program.len() >= 9);
    assert_eq!(program, ids(&fs::read_to_string(project("docs/operations.md")).unwrap()));
}

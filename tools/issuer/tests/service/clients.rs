//! The clients in other languages: their own tests, with the programs of this build. They replay the
//! recorded conversations, and ask real daemons and services.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{alone, program};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether `command` succeeds; where all tests must run, it must.
fn is_there(what: &str, command: &mut Command) -> bool {
    let found = command.output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("CI").is_none(), "missing: {what}");
    if !found {
        eprintln!("not run: {what} is missing");
    }
    found
}

fn run(command: &mut Command) {
    let programs = program("adamant").parent().unwrap().to_owned();
    // Where io_uring is forbidden, the loop of uvloop would abort the process.
    let command = command.env("ADAMANT_BIN", programs).env("UV_USE_IO_URING", "0");
    let output = command.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{}", said.concat());
}

#[test]
fn the_python_client_passes_its_tests() {
    let _alone = alone();
    if is_there("python3", Command::new("python3").arg("--version")) {
        let tests = ["-m", "unittest", "discover", "-s", "clients/python/tests"];
        run(Command::new("python3").args(tests).current_dir(root()));
    }
}

#[test]
fn the_node_client_passes_its_tests() {
    let _alone = alone();
    let folder = root().join("clients/node");
    let mut installed = Command::new("npm");
    let installed = installed.args(["ls", "--silent"]).current_dir(&folder);
    if is_there("node, or `npm install` in clients/node", installed) {
        run(Command::new("npm").args(["test", "--silent"]).current_dir(&folder));
    }
}

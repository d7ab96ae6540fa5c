//! The drills of `docs/operations.md`, word for word: what each leaves behind is a home that issues
//! and hosts that serve.

use std::path::Path;
use std::process::Command;

use adamant::claims::Requirement;
use adamant::verdict::Verdict;

use crate::ledger::{id_of, issue, on};
use crate::support::{Home, Server, eventually, run};

/// The commands of a drill.
fn commands(name: &str) -> &'static str {
    let page = include_str!("../../docs/operations.md");
    let (_, rest) = page.split_once(&format!("```sh drill {name}\n")).expect("the page has it");
    rest.split_once("\n```").unwrap().0
}

/// Runs a drill, and gives what it said.
fn drill(name: &str, home: &Home, host: &Home) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_adamant")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let script = format!("set -euo pipefail\n{}", commands(name));
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("PATH", path);
    let output =
        command.env("ADAMANT_HOME", home.path()).env("HOST", host.path()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(output.status.success(), "{}", said.concat());
    said.concat()
}

/// A home with a token, and a host that has its policy and its store.
fn home_and_host() -> (Home, Home, String) {
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let host = home.copy();
    (home, host, token)
}

fn deliver_policy(home: &Home, host: &Home) {
    std::fs::copy(home.policy(), host.policy()).unwrap();
}

fn verdict(server: &Server, token: &str) -> Verdict {
    server.client().verify(token.as_bytes(), &Requirement::any()).unwrap().verdict()
}

/// A token that is issued now is served by the host, and the old one still is.
fn all_is_well(home: &Home, host: &Home, server: &Server, token: &str) {
    let (new, _) = issue(home, &[]);
    home.deliver_to(host);
    server.signal("HUP");
    eventually("the new token is served", || verdict(server, &new) == Verdict::Valid);
    assert_eq!(verdict(server, token), Verdict::Valid);
    let store = home.store();
    // Without the policy: one that trusts a signer no more does not trust what it signed before.
    run(&["audit", store.to_str().unwrap()], b"").expect_code(0);
    on(home, &["revoke", id_of(token), "--reason", "other"]).expect_code(0);
    home.deliver_to(host);
    server.signal("HUP");
    eventually("it is revoked", || verdict(server, token) == Verdict::Revoked);
}

#[test]
fn a_stolen_build_signer_is_replaced_while_hosts_serve_on() {
    let (home, host, token) = home_and_host();
    let server = Server::start(&host.path());
    drill("stolen-build-signer", &home, &host);
    home.deliver_to(&host);
    server.signal("HUP");
    eventually("the new epoch is refused", || server.status()["refused"].is_string());
    assert_eq!(verdict(&server, &token), Verdict::Valid);
    // The first build signer of the policy is the stolen one.
    let policy = std::fs::read_to_string(home.policy()).unwrap();
    let mut blocks: Vec<&str> = policy.split("[[signer]]").collect();
    let stolen = blocks.iter().position(|block| block.contains("/build+")).unwrap();
    blocks.remove(stolen);
    std::fs::write(home.policy(), blocks.join("[[signer]]")).unwrap();
    deliver_policy(&home, &host);
    server.signal("HUP");
    eventually("the new epoch is served", || server.status()["epoch"] == 2);
    all_is_well(&home, &host, &server, &token);
}

#[test]
fn a_restored_backup_appends_nothing_until_the_ledger_is_back() {
    let (home, host, token) = home_and_host();
    // What was issued after the backup reached the host.
    let backup = home.copy();
    let (later, _) = issue(&home, &[]);
    home.deliver_to(&host);
    let copied =
        Command::new("cp").arg("-r").arg(home.store().join("ledger")).arg(host.store()).status();
    assert!(copied.unwrap().success());
    // The state folder is the newer one: it was not in the backup's way.
    std::fs::copy(home.path().join("state/marks"), backup.path().join("state/marks")).unwrap();
    let said = drill("restored-backup", &backup, &host);
    assert!(said.contains("exit code 78") && said.contains("restored backup"), "{said}");
    let server = Server::start(&host.path());
    assert_eq!(verdict(&server, &later), Verdict::Valid);
    all_is_well(&backup, &host, &server, &token);
}

#[test]
fn a_lost_state_folder_is_made_anew() {
    let (home, host, token) = home_and_host();
    let server = Server::start(&host.path());
    drill("lost-state", &home, &host);
    all_is_well(&home, &host, &server, &token);
}

#[test]
fn a_lost_signer_has_a_successor() {
    let (home, host, token) = home_and_host();
    let server = Server::start(&host.path());
    let said = drill("lost-signer", &home, &host);
    assert!(said.contains("exit code 7"), "{said}");
    home.deliver_to(&host);
    deliver_policy(&home, &host);
    server.signal("HUP");
    all_is_well(&home, &host, &server, &token);
}

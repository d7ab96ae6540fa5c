//! The command line as a contract: exit codes, messages, and what never shows.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Home, Server, clean, ran, run};

#[test]
fn init_makes_a_home_once() {
    let home = Home::new();
    run(&["init", home.text(), "--prefix", "acme"], b"")
        .expect_code(78)
        .expect_error("home already");
    let other = home.folder().join("other");
    let other = other.to_str().unwrap();
    run(&["init", other, "--prefix", "A"], b"").expect_code(64).expect_error("2 to 10 characters");
    let origin = ["init", other, "--prefix", "acme", "--origin", "a b"];
    run(&origin, b"").expect_code(64).expect_error("--origin");
    assert!(!home.folder().join("other").exists());
    let key = fs::metadata(home.path().join("signers/build.key")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&key) & 0o777, 0o600);
}

#[test]
fn build_says_what_it_needs() {
    let home = Home::new();
    run(&["build", "--home", "/nowhere", "--from", "-"], b"")
        .expect_code(78)
        .expect_error("not a home");
    let missing = ["build", "--home", home.text(), "--from", "/nowhere"];
    run(&missing, b"").expect_code(66).expect_error("cannot open /nowhere");
    home.build_from(b"", &[]).expect_code(65).expect_error("the list is empty");
    home.build_from(b"\n\n", &[]).expect_code(65).expect_error("the list is empty");
    home.build_from(b"a,b\n1,2\n", &[])
        .expect_code(65)
        .expect_error("neither JSON nor a CSV header");
    home.issue(1);
    let list = fs::read(home.list()).unwrap();
    home.build_from(&list, &["--first"]).expect_code(64).expect_error("drop --first");
    fs::remove_file(home.store().join("manifest")).unwrap();
    home.build_from(&list, &[]).expect_code(66).expect_error("--previous FILE, or --first");
    // Its own mark says that there was a generation 1: another one would be refused everywhere.
    let refused = home.build_from(&list, &["--first"]).expect_code(65);
    refused.expect_error("generation 1 was accepted as manifest");
    assert!(!home.store().join("manifest").exists());
}

/// A list cut short would kill many tokens: it asks for consent.
#[test]
fn a_list_cut_short_is_refused_without_consent() {
    let home = Home::new();
    home.issue(6000);
    home.build();
    let list = fs::read_to_string(home.list()).unwrap();
    let first = |count: usize| list.lines().take(count).collect::<Vec<_>>().join("\n");
    let refused = home.build_from(first(4500).as_bytes(), &[]).expect_code(65);
    refused.expect_error("1500 of 6000 live tokens would die");
    refused.expect_error("--allow-loss 1500");
    home.build_from(first(4500).as_bytes(), &["--allow-loss", "1499"]).expect_code(65);
    // A thousand, or a fifth, is an ordinary day.
    assert_eq!(home.build_from(first(5000).as_bytes(), &[]).expect_code(0).json()["died"], 1000);
    let scheduled = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["revoked_at"] = "2040-01-01T00:00:00Z".into();
        line.to_string()
    };
    let doomed: Vec<String> = first(5000).lines().map(scheduled).collect();
    home.build_from(doomed.join("\n").as_bytes(), &[]).expect_code(65).expect_error("5000 of 5000");
    let consent = home.build_from(first(2000).as_bytes(), &["--allow-loss", "3000"]);
    assert_eq!(consent.expect_code(0).json()["died"], 3000);
}

/// Two builds on the same generation: the second has lost the race, and says so.
#[test]
fn publishing_compares_and_swaps() {
    let home = Home::new();
    home.issue(1);
    let list = fs::read(home.list()).unwrap();
    let manifest = home.store().join("manifest");
    let before = home.folder().join("before/manifest");
    fs::create_dir(home.folder().join("before")).unwrap();
    fs::copy(&manifest, &before).unwrap();
    home.build();
    // The marks would refuse it as a rollback already; a build that began earlier has no such mark.
    fs::remove_file(home.path().join("state/marks")).unwrap();
    fs::create_dir(home.folder().join("before/tables")).unwrap();
    for entry in fs::read_dir(home.store().join("tables")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, home.folder().join("before/tables").join(path.file_name().unwrap()))
            .unwrap();
    }
    let published = fs::read(&manifest).unwrap();
    let lost = home.build_from(&list, &["--previous", before.to_str().unwrap()]).expect_code(75);
    lost.expect_error("lost a race");
    assert_eq!(fs::read(&manifest).unwrap(), published);

    // Where the home's store has nothing yet, `--previous` is what is built upon.
    let fresh = home.copy();
    fs::remove_file(fresh.store().join("manifest")).unwrap();
    let previous = home.store().join("manifest");
    let built = fresh.build_from(&list, &["--previous", previous.to_str().unwrap()]);
    assert_eq!(built.expect_code(0).json()["generation"], 3);
}

#[test]
fn verify_answers_with_its_exit_code() {
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let server = Server::start(&home.path());
    let socket = server.socket().to_str().unwrap();
    let ask = |token: &str, options: &[&str]| {
        let mut arguments = vec!["verify", "-", "--json", "--socket", socket];
        arguments.extend(options);
        run(&arguments, token.as_bytes())
    };
    let valid = ask(&token, &["--scope", "orders:read", "--kind", "live"]).expect_code(0).json();
    assert_eq!(valid["verdict"], "valid");
    assert_eq!(valid["subject"], "customer-42");
    assert_eq!(valid["scopes"], json!(["orders:read"]));
    assert_eq!(valid["generation"], 2);
    let uri = format!("secret-token:{token}\n");
    ask(&uri, &[]).expect_code(0);
    for (option, value, verdict) in [
        ("--kind", "test", "wrong_kind"),
        ("--audience", "api", "wrong_audience"),
        ("--scope", "orders:write", "insufficient_scope"),
    ] {
        assert_eq!(ask(&token, &[option, value]).expect_code(1).json()["verdict"], verdict);
    }
    assert_eq!(ask(&token[1..], &[]).expect_code(1).json()["verdict"], "malformed");
    assert_eq!(ask("", &[]).expect_code(1).json()["verdict"], "malformed");
    let stranger = Home::new().issue(1).remove(0);
    assert_eq!(ask(&stranger, &[]).expect_code(1).json()["verdict"], "unknown");
    run(&["verify", "--socket", socket, &token], b"").expect_code(64).expect_error("process list");
    run(&["status", "--socket", socket], b"").expect_code(0);
    drop(server);
    let down = run(&["verify", "--socket", "/nowhere/socket"], token.as_bytes());
    down.expect_code(69).expect_error("/nowhere/socket");
    run(&["status", "--socket", "/nowhere/socket"], b"").expect_code(69);
}

/// A command whose exit code is the answer gives that answer, also to somebody who reads none of
/// the output; and it says when the output could not be written.
#[test]
fn a_closed_or_full_output_is_no_yes() {
    let home = Home::new();
    let token = home.issue(1).remove(0);
    let server = Server::start(&home.path());
    let socket = server.socket().to_str().unwrap();
    for options in [&[][..], &["--json"]] {
        let mut command = clean(env!("CARGO_BIN_EXE_adamant"));
        command.args(["verify", "--socket", socket]).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        // It is in no generation yet.
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{options:?}");
    }
    let mut command = clean("sh");
    command.args(["-c", "\"$0\" status --socket \"$1\" > /dev/full"]);
    command.arg(env!("CARGO_BIN_EXE_adamant")).arg(socket);
    let full = ran(command, b"").expect_code(74);
    full.expect_error("cannot write to standard output: No space left on device");
}

#[test]
fn a_socket_belongs_to_one_daemon() {
    let home = Home::new();
    home.issue(1);
    home.build();
    let server = Server::start(&home.path());
    let socket = server.socket().to_str().unwrap();
    let second = run(&["serve", "--home", home.text(), "--socket", socket], b"");
    assert_ne!(second.code, 0);
    second.expect_error("another process listens on it");
    assert_eq!(server.generation(), 2);

    // A file that is no socket stays.
    let file = home.folder().join("file");
    fs::write(&file, "precious").unwrap();
    let refused = run(&["serve", "--home", home.text(), "--socket", file.to_str().unwrap()], b"");
    refused.expect_error("a file that is no socket is there");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    // A socket that a killed daemon left behind is taken over.
    let stale = home.folder().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let mut child = Command::new(env!("CARGO_BIN_EXE_adamant"))
        .args(["serve", "--home", home.text(), "--socket", stale.to_str().unwrap()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::support::eventually("it listens", || {
        run(&["status", "--socket", stale.to_str().unwrap()], b"").code == 0
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_daemon_drains_and_takes_its_socket_with_it() {
    let home = Home::new();
    home.issue(1);
    home.build();
    let mut server = Server::start(&home.path());
    let _idle = server.client();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!server.socket().exists());
    assert!(server.log().contains("draining"), "{}", server.log());
}

#[test]
fn a_store_can_be_looked_at_without_a_policy() {
    let home = Home::new();
    home.issue(3);
    home.build();
    let unpinned = run(&["verify-store", home.store().to_str().unwrap()], b"").expect_code(0);
    assert!(unpinned.stdout.contains("self-consistent, signers not pinned"), "{}", unpinned.stdout);
    let manifest = home.store().join("manifest");
    let shown = run(&["inspect", "--json", manifest.to_str().unwrap()], b"").expect_code(0).json();
    assert_eq!((&shown["generation"], &shown["records"]), (&json!(2), &json!(3)));
    let table = format!("{}.tbl", shown["table"].as_str().unwrap());
    let table = home.store().join("tables").join(table);
    let shown = run(&["inspect", "--json", table.to_str().unwrap()], b"").expect_code(0).json();
    assert_eq!((&shown["records"], &shown["prefix"]), (&json!(3), &json!("acme")));
    let list = home.list();
    run(&["inspect", list.to_str().unwrap()], b"").expect_code(65).expect_error("not a table");
    run(&["inspect", "/nowhere"], b"").expect_code(66);
    let empty = home.folder().to_str().unwrap();
    run(&["verify-store", empty], b"").expect_code(66).expect_error("has no manifest");
}

/// A secret shows nowhere but on the standard output of `issue`: not in files, logs or errors.
#[test]
fn no_token_shows_where_it_should_not() {
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let server = Server::start(&home.path());
    let socket = server.socket().to_str().unwrap();
    let typo = format!("{}x", &token[..token.len() - 1]);
    let line = format!(
        "{{\"token\":\"{typo}\"}}\n{{\"{token}\":1}}\n{{\"kind\":{{\"{token}\":\"{token}\"}}}}\n{token}"
    );
    let said = [
        run(&["verify", "--socket", socket], typo.as_bytes()),
        run(&["verify", "--socket", socket, &token], b""),
        run(&["verify", "--socket", socket, "--kind", "x"], token.as_bytes()),
        home.build_from(line.as_bytes(), &[]).expect_code(65),
        home.build_from(format!("token,{token}\n").as_bytes(), &[]).expect_code(65),
        run(&["status", "--socket", socket], b""),
    ];
    let secret = &token[token.len() - 36..token.len() - 6];
    for ran in &said {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{}", ran.stderr);
    }
    assert!(!server.log().contains(secret));
    let found = Command::new("grep").args(["-rlaF", secret]).arg(home.folder()).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "", "a token is on the disk");
}

/// The whole story, as a newcomer runs it first.
#[test]
fn the_demo_holds() {
    let demo = run(&["demo", "--count", "5000"], b"").expect_code(0);
    for line in ["0 failed, 0 wrong", "All of it held", "million verdicts a second", "<- the swap"]
    {
        assert!(demo.stdout.contains(line), "no `{line}` in\n{}", demo.stdout);
    }
}

//! What systemd is told, and what it makes of the units. A systemd that runs is not needed: the
//! notify socket is one of the test's, sockets come from systemd-socket-activate(1), and the units
//! are analysed offline.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Home, PATIENCE, Server, eventually};

/// A daemon that tells a socket of ours how it is.
struct Told {
    home: Home,
    server: Server,
    socket: UnixDatagram,
}

impl Told {
    fn new(environment: &[(&str, &str)]) -> Told {
        let home = Home::new();
        home.issue(2);
        home.build();
        let path = home.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let server = Server::spawn_with(&home.path(), |command| {
            command.env("NOTIFY_SOCKET", &path).envs(environment.iter().copied());
        });
        Told { home, server, socket }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[track_caller]
    fn expect(&self, part: &str) -> String {
        let mut all = Vec::new();
        for _ in 0..20 {
            let message = self.next();
            if message.contains(part) {
                return message;
            }
            all.push(message);
        }
        panic!("no `{part}` in {all:?}");
    }
}

#[test]
fn readiness_status_reload_and_stop_are_told() {
    let told = Told::new(&[]);
    let ready = told.next();
    assert!(ready.starts_with("READY=1\nSTATUS=generation 2, 2 tokens, until 20"), "{ready}");

    told.server.signal("HUP");
    let reloading = told.expect("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    told.expect("READY=1");

    told.home.issue(1);
    told.home.build();
    told.expect("STATUS=generation 3, 3 tokens");

    fs::write(told.home.store().join("new"), "no manifest").unwrap();
    fs::rename(told.home.store().join("new"), told.home.store().join("manifest")).unwrap();
    let status = told.expect("not accepted: ");
    assert!(status.starts_with("STATUS=generation 3, 3 tokens"), "{status}");

    told.server.signal("TERM");
    told.expect("STOPPING=1");
}

/// Fed by answers, also of a daemon that can only say `unavailable`: a restart would not help it.
#[test]
fn the_watchdog_is_fed_after_the_daemon_answered_itself() {
    let watched = [("WATCHDOG_USEC", "400000")];
    let told = Told::new(&watched);
    for _ in 0..3 {
        told.expect("WATCHDOG=1");
    }
    let policy = fs::read_to_string(told.home.policy()).unwrap();
    fs::write(told.home.policy(), policy.replace("epoch = 1", "epoch = 2")).unwrap();
    told.expect("STATUS=unavailable: ");
    for _ in 0..3 {
        told.expect("WATCHDOG=1");
    }
    // The daemon's own questions are in no count.
    let status = told.server.status();
    let asked: u64 =
        status["verdicts"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((asked, status["connections"].as_u64()), (0, Some(1)));
}

#[test]
fn a_daemon_that_is_stopped_does_not_feed_the_watchdog() {
    let told = Told::new(&[("WATCHDOG_USEC", "400000")]);
    told.expect("WATCHDOG=1");
    told.server.signal("STOP");
    told.socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    while told.socket.recv(&mut buffer).is_ok() {}
    told.socket.set_nonblocking(false).unwrap();
    told.socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    assert!(told.socket.recv(&mut buffer).is_err(), "fed by nobody");
    told.server.signal("CONT");
    told.expect("WATCHDOG=1");
}

#[test]
fn a_socket_from_systemd_socket_activate_is_served() {
    let home = Home::new();
    home.issue(1);
    home.build();
    let socket = home.folder().join("socket");
    let mut activator = command("systemd-socket-activate", "systemd")
        .arg("-l")
        .arg(&socket)
        .arg(env!("CARGO_BIN_EXE_adamantd"))
        .arg("--home")
        .arg(home.path())
        .arg("--socket")
        .arg(&socket)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Nothing runs yet: the first to connect brings it to life.
    eventually("the socket is there", || socket.exists());
    let ran = crate::support::run(&["status", "--socket", socket.to_str().unwrap()], b"");
    activator.kill().unwrap();
    activator.wait().unwrap();
    assert!(ran.expect_code(0).stdout.contains("generation   2"));
    assert!(socket.exists(), "a socket that was passed is not ours to remove");
}

const UNITS: [&str; 4] =
    ["adamantd.service", "adamantd.socket", "adamantd-http.socket", "adamant-issuer.service"];

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn command(program: &str, package: &str) -> Command {
    let found = Command::new(program).arg("--version").output();
    assert!(found.is_ok(), "{program} is missing: install the Debian package `{package}`");
    Command::new(program)
}

/// The units in a folder of their own, with the program that was built in the place of the one
/// that will be installed.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = fs::read_to_string(units().join(unit)).unwrap();
        let text = text.replace("/usr/local/bin/adamant-issuer", env!("CARGO_BIN_EXE_adamantd"));
        let text = text.replace("/usr/local/bin/adamantd", env!("CARGO_BIN_EXE_adamantd"));
        fs::write(folder.path().join(unit), text).unwrap();
    }
    folder
}

fn analyse(arguments: &[&str], folder: &Path, units: &[&str]) -> Output {
    command("systemd-analyze", "systemd")
        .args(arguments)
        .args(units.iter().map(|unit| folder.join(unit)))
        .output()
        .unwrap()
}

#[test]
fn the_units_are_valid_and_hardened() {
    let folder = installed();
    let verified = analyse(&["verify"], folder.path(), &UNITS);
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("adamant"), "{said}");
    let arguments = ["security", "--offline=true", "--threshold=15"];
    let hardened =
        analyse(&arguments, folder.path(), &["adamantd.service", "adamant-issuer.service"]);
    let said = String::from_utf8_lossy(&hardened.stdout).into_owned();
    assert!(hardened.status.success(), "{said}");
    println!("{}", said.lines().last().unwrap_or_default());
}

//! Homes, daemons and services in temporary folders.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adamant::client::Client;
use serde_json::Value;

use crate::web::{Answer, Web};

/// Far longer than anything takes, even on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever runs the tests may do everything.
const RIGHTS: &str = "may = [\"issue\", \"revoke\", \"read\"]\nkinds = [\"*\"]\n\
                      audiences = [\"*\"]\nscopes = [\"*\"]\n";

/// A program of the same build.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_adamant-issuer")).with_file_name(name);
    assert!(path.is_file(), "no `{name}` beside adamant-issuer: cargo test --workspace builds it");
    path
}

pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(program("adamant"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    output
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // Polled, because what is looked for happens in another process and tells nobody.
        thread::sleep(Duration::from_millis(2));
    }
}

/// Held by a test that takes the whole machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that is killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A home, its daemon and its service.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) daemon: Option<Running>,
    pub(crate) issuer: Running,
}

impl Site {
    pub(crate) fn new() -> Site {
        let own = rustix::process::getuid().as_raw();
        Site::with_rights(&format!("[[right]]\nusers = [{own}]\n{RIGHTS}"), |_| {})
    }

    /// With those rights, and what `prepare` does to the home before anything is started.
    pub(crate) fn with_rights(rights: &str, prepare: impl FnOnce(&str)) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        run(&["init", home.to_str().unwrap(), "--prefix", "acme"], b"");
        fs::write(home.join("issuer.toml"), rights).unwrap();
        prepare(home.to_str().unwrap());
        let daemon = Some(start_daemon(folder.path()));
        let mut command = Command::new(program("adamant-issuer"));
        command.arg("--home").arg(&home).arg("--socket").arg(folder.path().join("issuer.sock"));
        command.arg("--daemon").arg(folder.path().join("adamant.sock"));
        let log = File::create(folder.path().join("issuer.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let issuer = Running(command.spawn().unwrap());
        let site = Site { folder, daemon, issuer };
        eventually("the service listens", || UnixStream::connect(site.issuer_socket()).is_ok());
        site
    }

    pub(crate) fn home(&self) -> String {
        self.folder.path().join("home").to_str().unwrap().to_owned()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("adamant.sock")
    }

    pub(crate) fn issuer_socket(&self) -> PathBuf {
        self.folder.path().join("issuer.sock")
    }

    /// What daemon and service wrote so far.
    pub(crate) fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        read("issuer.log") + &read("adamant.log")
    }

    pub(crate) fn client(&self) -> Client {
        Client::with_timeout(self.socket(), PATIENCE).unwrap()
    }

    pub(crate) fn web(&self) -> Web<UnixStream> {
        Web::connect(&self.issuer_socket())
    }

    pub(crate) fn post(&self, target: &str, body: &Value) -> Answer {
        self.web().post_as(target, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.web().get(target, "")
    }

    pub(crate) fn restart_daemon(&mut self) {
        self.daemon = Some(start_daemon(self.folder.path()));
    }

    /// Every leaf, tile, law and publish event, by the command that an auditor runs.
    pub(crate) fn audit(&self) {
        run(&["audit", &format!("{}/store", self.home()), "--policy", &self.policy()], b"");
    }

    pub(crate) fn policy(&self) -> String {
        format!("{}/policy.toml", self.home())
    }
}

fn start_daemon(folder: &Path) -> Running {
    let socket = folder.join("adamant.sock");
    let mut command = Command::new(program("adamant"));
    command.args(["serve", "--home"]).arg(folder.join("home")).arg("--socket").arg(&socket);
    let log = File::create(folder.join("adamant.log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let daemon = Running(command.spawn().unwrap());
    eventually("the daemon listens", || Client::connect(&socket).is_ok());
    daemon
}

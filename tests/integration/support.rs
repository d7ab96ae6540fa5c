//! Runs the real programs, and looks at what they say.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adamant::client::Client;
use adamant::policy::Policy;
use adamant::token::Domain;
use serde_json::Value;

/// Far longer than anything takes, even on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A program that has ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `adamant` with `input` on standard input.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Ran {
    run_with(arguments, input, &[])
}

/// As [`run`], with environment variables.
pub(crate) fn run_with(arguments: &[&str], input: &[u8], environment: &[(&str, &str)]) -> Ran {
    let mut command = clean(env!("CARGO_BIN_EXE_adamant"));
    command.args(arguments).envs(environment.iter().copied());
    ran(command, input)
}

/// Runs any program to its end.
pub(crate) fn ran(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that refuses its input may end before it has read it.
    let feeding = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("ADAMANT_HOME").env_remove("ADAMANT_SOCKET").env_remove("ADAMANT_LOG");
    command
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn expect_error(&self, part: &str) {
        assert!(self.stderr.contains(part), "no `{part}` in\n{}", self.stderr);
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Looks again until `holds` does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // Polled, because what is looked for happens in another process and tells nobody.
        thread::sleep(Duration::from_millis(2));
    }
}

/// How often a test does what it does: on every push, or with `ADAMANT_RELEASE=1` as often as before
/// a release.
pub(crate) fn scaled(every_push: u64, release: u64) -> u64 {
    if std::env::var_os("ADAMANT_RELEASE").is_some() { release } else { every_push }
}

/// Held by a test whose clients ask without pause. Two such tests at once would leave the daemon
/// and the builder of either little of a small machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary folder that every user can look into.
pub(crate) fn public_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Whether other users can be played. If not, says so; where all tests must run, it fails.
pub(crate) fn can_be_others() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    assert!(is_root || std::env::var_os("CI").is_none(), "this test needs root");
    if !is_root {
        eprintln!("not run: it takes root to take on another uid");
    }
    is_root
}

/// `program` as another user, with no capabilities: setpriv(1) of util-linux.
pub(crate) fn as_user(uid: u32, gid: u32, groups: &[u32], program: &Path) -> Command {
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    let mut command = clean("setpriv");
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
    match groups.is_empty() {
        true => command.arg("--clear-groups"),
        false => command.args(["--groups", &groups.join(",")]),
    };
    command.arg("--").arg(program);
    command
}

/// A copy of a program where every user can run it.
pub(crate) fn public_copy(program: &str, folder: &Path) -> PathBuf {
    let copy = folder.join(Path::new(program).file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

/// A home in a temporary folder.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// A new home of the prefix `acme`.
    pub(crate) fn new() -> Home {
        Home::new_in(&std::env::temp_dir())
    }

    /// As [`Home::new`], in a temporary folder there.
    pub(crate) fn new_in(folder: &Path) -> Home {
        let home = Home { folder: tempfile::tempdir_in(folder).unwrap() };
        run(&["init", home.text(), "--prefix", "acme"], b"").expect_code(0);
        home
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    pub(crate) fn policy(&self) -> PathBuf {
        self.path().join("policy.toml")
    }

    pub(crate) fn text(&self) -> &'static str {
        // Leaked on purpose: a test has a few of them, and their borrows would be everywhere.
        Box::leak(self.path().into_os_string().into_string().unwrap().into_boxed_str())
    }

    /// Issues tokens into `list.ndjson` beside the home.
    pub(crate) fn issue(&self, count: usize) -> Vec<String> {
        let list = self.list();
        let count = count.to_string();
        let issued = run(
            &[
                "issue",
                "--home",
                self.text(),
                "--kind",
                "live",
                "--subject",
                "customer-42",
                "--scope",
                "orders:read",
                "--expires",
                "90d",
                "--count",
                &count,
                "--list",
                list.to_str().unwrap(),
            ],
            b"",
        );
        issued.expect_code(0).stdout.lines().map(str::to_owned).collect()
    }

    pub(crate) fn list(&self) -> PathBuf {
        self.folder.path().join("list.ndjson")
    }

    /// Builds from `list.ndjson` and gives what `build --json` says.
    pub(crate) fn build(&self) -> Value {
        let list = fs::read(self.list()).unwrap();
        self.build_from(&list, &[]).expect_code(0).json()
    }

    pub(crate) fn build_from(&self, list: &[u8], options: &[&str]) -> Ran {
        let mut arguments = vec!["build", "--json", "--home", self.text(), "--from", "-"];
        arguments.extend(options);
        run(&arguments, list)
    }

    /// How its tokens are hashed.
    pub(crate) fn domain(&self) -> Domain {
        Policy::parse(&fs::read_to_string(self.policy()).unwrap()).unwrap().domain
    }

    /// Copies its store over that of another, the manifest last, as a delivery does.
    pub(crate) fn deliver_to(&self, other: &Home) {
        let script = "cp -an \"$1\"/tables/. \"$2\"/tables/ \
                      && cp -an \"$1\"/manifests/. \"$2\"/manifests/ \
                      && cp \"$1\"/manifest \"$2\"/new && mv \"$2\"/new \"$2\"/manifest";
        let mut copying = Command::new("sh");
        copying.args(["-c", script, "sh"]).arg(self.store()).arg(other.store());
        assert!(copying.status().unwrap().success());
    }

    /// Copies the whole home, and so makes a second publisher with the same keys.
    pub(crate) fn copy(&self) -> Home {
        let copy = Home { folder: tempfile::tempdir().unwrap() };
        let copied = Command::new("cp").arg("-a").arg(self.path()).arg(copy.path()).status();
        assert!(copied.unwrap().success());
        copy
    }
}

/// A daemon, killed when dropped.
pub(crate) struct Server {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    /// `adamant serve` on a home, listening.
    pub(crate) fn start(home: &Path) -> Server {
        let server = Server::spawn(home, &[]);
        server.wait_until_listening();
        server
    }

    /// `adamantd` on a home, perhaps still starting.
    pub(crate) fn spawn(home: &Path, options: &[&str]) -> Server {
        Server::spawn_with(home, |command| {
            command.args(options);
        })
    }

    /// As [`Server::start`], with a configuration file.
    pub(crate) fn configured(home: &Path, config: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("adamantd.toml");
        fs::write(&file, config).unwrap();
        let server = Server::spawn(home, &["--config", file.to_str().unwrap()]);
        server.wait_until_listening();
        server
    }

    /// `adamantd` on a home, with whatever `change` does to the command.
    pub(crate) fn spawn_with(home: &Path, change: impl FnOnce(&mut Command)) -> Server {
        let mut command = clean(env!("CARGO_BIN_EXE_adamantd"));
        command.arg("--home").arg(home);
        change(&mut command);
        Server::spawn_command(command)
    }

    /// A copy of `adamantd` as another user.
    pub(crate) fn spawn_as(home: &Path, uid: u32, daemon: &Path) -> Server {
        let mut command = as_user(uid, uid, &[], daemon);
        command.arg("--home").arg(home);
        Server::spawn_command(command)
    }

    /// A daemon whose socket is here, and whose log is kept.
    pub(crate) fn spawn_command(command: Command) -> Server {
        Server::spawn_with_input(command, Stdio::null())
    }

    /// As [`Server::spawn_command`], with something on standard input.
    pub(crate) fn spawn_with_input(mut command: Command, input: Stdio) -> Server {
        let folder = public_folder();
        // Whoever the daemon is, it makes its socket here.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let (socket, log) = (folder.path().join("socket"), folder.path().join("log"));
        command.arg("--socket").arg(&socket);
        command.stdin(input).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Server { child: command.spawn().unwrap(), socket, log, _folder: folder }
    }

    pub(crate) fn wait_until_listening(&self) {
        eventually("the daemon listens", || Client::connect(&self.socket).is_ok());
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote on standard error so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::with_timeout(&self.socket, PATIENCE).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.client().status().unwrap()).unwrap()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap()
    }

    pub(crate) fn wait_for_generation(&self, generation: u64) {
        let what = format!("generation {generation} is served");
        eventually(&what, || self.generation() == generation);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether it runs no more. Somebody who traces it may not have let go of it yet.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['Z', 'X']))
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the daemon ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

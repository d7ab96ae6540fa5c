//! The programs that are measured: started in folders of their own, and ended when dropped.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use adamant::client::Client;
use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::machine;
use crate::settings::text;

/// How long a program may take for what takes it a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The tool `adamant`, where cargo puts it beside this program.
pub(crate) struct Program(PathBuf);

impl Program {
    pub(crate) fn find() -> anyhow::Result<Program> {
        let own = std::env::current_exe()?;
        let folders = own.ancestors().skip(1).take(2);
        let found = folders.map(|folder| folder.join("adamant")).find(|path| path.is_file());
        let found =
            found.context("no `adamant` beside this program: cargo build --release --bins")?;
        Ok(Program(found))
    }

    /// Another program of the same build.
    pub(crate) fn beside(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.with_file_name(name);
        ensure!(path.is_file(), "no `{name}` beside this program: cargo build --release --bins");
        Ok(path)
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.0);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("cannot start {}", self.0.display()))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.0).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {said}", arguments[0]);
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn serve(&self, home: &Path, socket: &Path) -> anyhow::Result<Running> {
        Ok(Running(self.spawn(&["serve", "--home", text(home), "--socket", text(socket)])?))
    }
}

/// A program that is ended when dropped.
pub(crate) struct Running(Child);

impl Running {
    /// `None`: the program is not there.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Option<Running>> {
        match command.spawn() {
            Ok(child) => Ok(Some(Running(child))),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => {
                Err(err).with_context(|| format!("cannot start {:?}", command.get_program()))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn cpu_s(&self) -> f64 {
        machine::process_cpu_s(self.pid())
    }

    /// Private memory.
    pub(crate) fn private_bytes(&self) -> u64 {
        machine::process_bytes(self.pid(), "RssAnon:")
    }

    /// Waits until it takes connections.
    pub(crate) fn listens(&mut self, socket: &Path) -> anyhow::Result<UnixStream> {
        let began = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                return Ok(stream);
            }
            let ended = self.0.try_wait()?;
            ensure!(ended.is_none(), "ended before it listened at {}", socket.display());
            ensure!(began.elapsed() < PATIENCE, "nobody listens at {}", socket.display());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `adamantd` in a process of its own, pinned as the caller is.
pub(crate) struct Daemon {
    running: Running,
    folder: TempDir,
}

impl Daemon {
    /// Serves a home under a configuration.
    pub(crate) fn start(home: &Path, config: &str) -> anyhow::Result<Daemon> {
        let mut daemon = Daemon::spawn(&["--home".as_ref(), home.as_os_str()], config)?;
        let socket = daemon.socket();
        daemon.running.listens(&socket)?;
        Ok(daemon)
    }

    /// As [`Daemon::start`], with other arguments, and perhaps not listening yet.
    pub(crate) fn spawn(arguments: &[&std::ffi::OsStr], config: &str) -> anyhow::Result<Daemon> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("adamantd.toml");
        fs::write(&file, config)?;
        let mut command = Command::new(Program::find()?.beside("adamantd")?);
        command.args(arguments).arg("--config").arg(&file);
        command.arg("--socket").arg(folder.path().join("socket"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(folder.path().join("log"))?);
        let running = Running::start(&mut command)?.context("adamantd is not there")?;
        Ok(Daemon { running, folder })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    pub(crate) fn into_parts(self) -> (Running, TempDir) {
        (self.running, self.folder)
    }

    /// Private memory that it said it uses at most, in bytes.
    pub(crate) fn budget_bytes(&self) -> anyhow::Result<u64> {
        let log = fs::read_to_string(self.folder.path().join("log"))?;
        let said = log.split("at most ").nth(1).and_then(|rest| rest.split(' ').next());
        let mib: u64 = said.context("the daemon did not say what it may use")?.parse()?;
        Ok(mib << 20)
    }
}

pub(crate) fn connect(socket: &Path) -> anyhow::Result<Client> {
    let began = Instant::now();
    loop {
        match Client::with_timeout(socket, PATIENCE) {
            Ok(client) => return Ok(client),
            Err(err) if began.elapsed() > PATIENCE => return Err(err.into()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Whether a program runs when it is started with these arguments.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

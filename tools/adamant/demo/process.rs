//! The demo's commands, run as the programs that they are.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use adamant::client::Client;
use anyhow::{Context, bail, ensure};

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs this program with other arguments, and gives what it prints.
pub(super) fn adamant(arguments: &[&OsStr]) -> anyhow::Result<String> {
    adamant_fed(arguments, b"")
}

/// As [`adamant`], with bytes on standard input.
pub(super) fn adamant_fed(arguments: &[&OsStr], input: &[u8]) -> anyhow::Result<String> {
    let mut child = command()?
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start this program again")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_vec();
    // Beside reading: a program may print before it has read everything.
    let feeding = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    let fed = feeding.join().expect("writing does not panic");
    ensure!(output.status.success(), "`adamant {:?}` failed: {}", arguments[0], output.status);
    fed.context("a command did not read its input")?;
    Ok(String::from_utf8(output.stdout)?)
}

fn command() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // The demo is about its own folder, whatever the environment names.
    command.env_remove("ADAMANT_HOME").env_remove("ADAMANT_SOCKET");
    Ok(command)
}

/// `adamant serve`, ended when dropped.
pub(super) struct Daemon {
    child: Child,
}

impl Daemon {
    pub(super) fn start(home: &Path, socket: &Path) -> anyhow::Result<Daemon> {
        super::say("adamant serve --home HOME");
        let child = command()?
            .args(["serve".as_ref(), "--home".as_ref(), home.as_os_str()])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .stdin(Stdio::null())
            .env("ADAMANT_LOG", "warn")
            .spawn()
            .context("cannot start the daemon")?;
        let mut daemon = Daemon { child };
        let began = Instant::now();
        while Client::connect(socket).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("the daemon ended: {status}");
            }
            ensure!(began.elapsed() < START_MAX, "the daemon does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        println!("  listening after {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
        Ok(daemon)
    }

    /// Asks it to drain, and waits for its end.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < STOP_MAX {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the daemon ended with {status}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the daemon does not end")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

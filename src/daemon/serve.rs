//! A daemon as a process: the socket, the signals, the runtime. What both programs start.

use std::fs::{self, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

use super::{Config, LoadError, Loader, Trigger, run};
use crate::store::StoreError;

/// Who may connect to a socket that the daemon binds: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub socket: PathBuf,
    /// Listen even though there is nothing to serve yet, and answer `unavailable` until there is.
    pub wait: bool,
}

/// Serves in the foreground until SIGTERM or SIGINT, and then drains. SIGHUP makes it look at
/// store and policy at once. A second SIGTERM or SIGINT ends it without draining.
pub fn serve(config: Config, options: &Options) -> Result<(), ServeError> {
    abort_on_panic();
    let loader = Loader::start(config)?;
    if let Err(err) = loader.check() {
        if !options.wait {
            return Err(err.into());
        }
        tracing::warn!(error = %err, "answering `unavailable` until there is something to serve");
    }
    let stop = handle_signals(loader.trigger()).map_err(ServeError::Signals)?;
    let failed = |source| ServeError::Socket { path: options.socket.clone(), source };
    let listener = bind(&options.socket).map_err(failed)?;
    let bound = Bound(&options.socket);
    tracing::info!(socket = %options.socket.display(), "listening");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            let shutdown = async {
                let _ = stop.await;
            };
            run(listener, loader, shutdown).await
        })
    });
    drop(bound);
    served.map_err(ServeError::Run)
}

/// Log lines on standard error, in colour where that is a terminal. `ADAMANT_LOG` sets the least
/// level: error, warn, info (when it is not set), debug.
pub fn init_log() {
    let level = std::env::var("ADAMANT_LOG").ok().and_then(|level| level.parse().ok());
    let is_plain = !io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(!is_plain)
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_target(false)
        .init();
}

/// A thread that panicked has a fault of ours, and its connections hang: end, and be started anew
/// by whoever looks after the daemon.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Removes the socket's name when the daemon ends, so that clients are told so at once.
struct Bound<'a>(&'a Path);

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

fn handle_signals(trigger: Trigger) -> io::Result<oneshot::Receiver<()>> {
    let (stop, stopped) = oneshot::channel();
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let body = move || {
        let mut stop = Some(stop);
        for signal in signals.forever() {
            if signal == SIGHUP {
                trigger.pull();
                continue;
            }
            match stop.take() {
                Some(stop) => drop(stop.send(())),
                // As the shell reports a process that was ended by the signal.
                None => std::process::exit(128 + signal),
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body)?;
    Ok(stopped)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    clear_stale(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes a socket that nobody listens on, so that its name can be bound again. One that answers
/// belongs to another daemon, and what is no socket belongs to somebody else.
fn clear_stale(path: &Path) -> io::Result<()> {
    let facts = match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !facts.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    match UnixStream::connect(path) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(err) => Err(err),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon listens on it")),
    }
}

/// Why a daemon does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is nothing to serve, or it cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The socket cannot be bound.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be handled.
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
    /// The daemon ended with an error.
    #[error("cannot serve")]
    Run(#[source] io::Error),
}

impl ServeError {
    /// The exit code for it (sysexits).
    pub fn exit_code(&self) -> u8 {
        const DATA: u8 = 65;
        const NO_INPUT: u8 = 66;
        const IO: u8 = 74;
        const CONFIG: u8 = 78;
        match self {
            Self::Load(LoadError::Store(StoreError::Policy { .. })) => CONFIG,
            Self::Load(LoadError::Store(StoreError::Io { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                NO_INPUT
            }
            Self::Load(err) if err.is_bad_input() => DATA,
            _ => IO,
        }
    }
}

//! A daemon as a process: the socket, the signals, the runtime. What both programs start.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGIO, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

use super::accept::raise_descriptor_limit;
use super::{
    Budget, Config, Door, Listening, LoadError, Loader, Sandbox, Trigger, run, sandbox, systemd,
};
use crate::manifest::TableLine;
use crate::socket;
use crate::store::{Marks, Store, StoreError, judge, load_policy, now_unix_s};

/// Serves in the foreground until SIGTERM or SIGINT, and then drains. SIGHUP makes it look at
/// store and policy at once. A second SIGTERM or SIGINT ends it without draining.
///
/// With `wait` it listens even though there is nothing to serve yet, and answers `unavailable`
/// until there is.
pub fn serve(mut config: Config, wait: bool) -> Result<(), ServeError> {
    abort_on_panic();
    let budget = budget(&config)?;
    config.connections_max = budget.connections_max;
    let passed = systemd::passed_sockets().map_err(ServeError::Passed)?;
    let sandbox = give_up(&config);
    let loader = Loader::start(config.clone())?;
    loader.live().set_sandbox(sandbox);
    if let Err(err) = loader.check() {
        if !wait {
            return Err(err.into());
        }
        tracing::warn!(error = %err, "answering `unavailable` until there is something to serve");
    }
    let stop = handle_signals(loader.trigger()).map_err(ServeError::Signals)?;
    let mut sockets = Sockets::new(passed, &config)?;
    sockets.tell();
    tracing::info!("{budget}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let shutdown = async {
                let _ = stop.await;
            };
            systemd::ready(&loader.live());
            let (listening, doors) = sockets.take()?;
            run(listening, doors, loader, shutdown).await
        })
    });
    drop(sockets);
    served.map_err(ServeError::Run)
}

/// Gives up what the daemon does not need. What cannot be given up is told, and not needed to serve.
fn give_up(config: &Config) -> Sandbox {
    if let Err(err) = sandbox::forbid_dumps() {
        tracing::warn!(error = %err, "a core of this process may be dumped");
    }
    let entered = sandbox::enter(config).unwrap_or_else(|err| {
        tracing::warn!(error = %err, "Landlock cannot be used");
        Sandbox::Nothing
    });
    if entered == Sandbox::Nothing {
        tracing::info!(
            "this kernel has no Landlock: files are kept from the daemon by their modes"
        );
    }
    entered
}

/// Says what a configuration comes to on this machine, or what is wrong with it. Nothing is bound,
/// and no mark is stored.
pub fn check_config(config: &Config) -> Result<String, ServeError> {
    let budget = budget(config)?;
    let policy = load_policy(&config.policy).map_err(LoadError::from)?;
    let store = Store::at(&config.store);
    let tables = match store.read_manifest().map_err(LoadError::from)? {
        None if store.root().is_dir() => "nothing was published to the store yet".to_owned(),
        None => {
            return Err(
                LoadError::from(StoreError::NoManifest { path: config.store.clone() }).into()
            );
        }
        Some(note) => {
            let marks = Marks::load(&config.state).map_err(LoadError::from)?;
            let judged = judge(&note, &policy, &marks, now_unix_s()).map_err(LoadError::from)?;
            let bytes = |line: &TableLine| line.bytes + line.subjects_bytes;
            let mib = judged.manifest.tables.iter().map(bytes).sum::<u64>().div_ceil(1 << 20);
            let twice = 2 * mib;
            format!("tables {mib} MiB, {twice} MiB while a generation is swapped")
        }
    };
    Ok(format!("{budget}\n{tables}\n"))
}

fn budget(config: &Config) -> Result<Budget, ServeError> {
    let descriptors_max = raise_descriptor_limit().map_err(ServeError::Descriptors)?;
    Budget::of(config, descriptors_max).ok_or(ServeError::TooFewDescriptors { descriptors_max })
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

/// The sockets of a daemon, and which of their names it has to remove.
#[derive(Default)]
struct Sockets {
    listening: Vec<(PathBuf, UnixListener)>,
    http: Vec<(PathBuf, UnixListener)>,
    loopback: Vec<(SocketAddr, TcpListener)>,
    bound: Vec<PathBuf>,
}

impl Sockets {
    /// Those that were passed, if any, else those that are configured, bound here.
    fn new(passed: Vec<OwnedFd>, config: &Config) -> Result<Sockets, ServeError> {
        let mut sockets = Sockets::default();
        let are_passed = !passed.is_empty();
        for passed in passed {
            sockets.take_passed(passed, config)?;
        }
        if !are_passed {
            sockets.listening = sockets.bind_all(&config.sockets)?;
            sockets.http = sockets.bind_all(&config.http_sockets)?;
        }
        Ok(sockets)
    }

    fn take_passed(&mut self, passed: OwnedFd, config: &Config) -> Result<(), ServeError> {
        let failed = |err: io::Error| ServeError::Passed(err);
        let address = rustix::net::getsockname(&passed).map_err(|err| failed(err.into()))?;
        if let Ok(address) = SocketAddr::try_from(address) {
            let named = address.to_string();
            if !config.http_loopback.contains(&address) {
                return Err(ServeError::NotConfigured { path: named.into() });
            }
            let listener = TcpListener::from(passed);
            listener.set_nonblocking(true).map_err(failed)?;
            self.loopback.push((address, listener));
            return Ok(());
        }
        let listener = UnixListener::from(passed);
        let path = path_of(&listener).map_err(failed)?;
        let kept = match (config.sockets.contains(&path), config.http_sockets.contains(&path)) {
            (true, _) => &mut self.listening,
            (false, true) => &mut self.http,
            (false, false) => return Err(ServeError::NotConfigured { path }),
        };
        listener.set_nonblocking(true).map_err(failed)?;
        kept.push((path, listener));
        Ok(())
    }

    fn bind_all(&mut self, paths: &[PathBuf]) -> Result<Vec<(PathBuf, UnixListener)>, ServeError> {
        let mut listening = Vec::new();
        for path in paths {
            let failed = |source| ServeError::Socket { path: path.clone(), source };
            listening.push((path.clone(), socket::bind(path).map_err(failed)?));
            self.bound.push(path.clone());
        }
        Ok(listening)
    }

    fn tell(&self) {
        for (path, _) in &self.listening {
            tracing::info!(socket = %path.display(), "listening");
        }
        for (path, _) in &self.http {
            tracing::info!(socket = %path.display(), "listening for HTTP");
        }
        for (address, _) in &self.loopback {
            tracing::info!(%address, "listening for HTTP");
        }
    }

    /// Moved out, so that a drain closes them and nobody waits at a socket that is bound here.
    fn take(&mut self) -> io::Result<(Vec<Listening>, Vec<Door>)> {
        let listening = self.listening.drain(..).map(|(socket, listener)| {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            Ok(Listening { socket, listener })
        });
        let listening = listening.collect::<io::Result<_>>()?;
        let unix = self.http.drain(..).map(|(socket, listener)| Door::Unix { socket, listener });
        let loopback =
            self.loopback.drain(..).map(|(address, listener)| Door::Loopback { address, listener });
        Ok((listening, unix.chain(loopback).collect()))
    }
}

impl Drop for Sockets {
    /// So that clients are told at once that nobody listens.
    fn drop(&mut self) {
        for path in &self.bound {
            let _ = fs::remove_file(path);
        }
    }
}

fn path_of(listener: &UnixListener) -> io::Result<PathBuf> {
    let address = listener.local_addr()?;
    let path = address.as_pathname().map(Path::to_owned);
    path.ok_or_else(|| io::Error::other("it is no Unix socket with a path"))
}

fn handle_signals(trigger: Trigger) -> io::Result<oneshot::Receiver<()>> {
    let (stop, stopped) = oneshot::channel();
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGIO, SIGTERM])?;
    let body = move || {
        let mut stop = Some(stop);
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    trigger.pull_for_systemd();
                    continue;
                }
                SIGIO => {
                    trigger.pull();
                    continue;
                }
                _ => {}
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
    /// What systemd passed cannot be listened on.
    #[error("cannot take the sockets that were passed")]
    Passed(#[source] io::Error),
    /// A socket was passed of which the configuration knows nothing.
    #[error("{} was passed, and is not one of `sockets`, `http_sockets` or `http_loopback` in the configuration", path.display())]
    NotConfigured {
        /// The socket.
        path: PathBuf,
    },
    /// The limit of descriptors cannot be set.
    #[error("cannot raise the limit of descriptors")]
    Descriptors(#[source] io::Error),
    /// The limit of descriptors leaves none for a connection.
    #[error("a limit of {descriptors_max} descriptors leaves none for connections: raise it")]
    TooFewDescriptors {
        /// The limit.
        descriptors_max: u64,
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
        const NOT_PERMITTED: u8 = 77;
        const CONFIG: u8 = 78;
        match self {
            Self::Load(LoadError::Store(StoreError::Policy { .. }))
            | Self::NotConfigured { .. }
            | Self::TooFewDescriptors { .. } => CONFIG,
            Self::Load(
                LoadError::Store(StoreError::NoManifest { .. })
                | LoadError::Nothing { is_missing: true, .. },
            ) => NO_INPUT,
            Self::Load(LoadError::Store(StoreError::Io { source, .. }))
            | Self::Socket { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => NO_INPUT,
                io::ErrorKind::PermissionDenied => NOT_PERMITTED,
                _ => IO,
            },
            Self::Load(err) if err.is_bad_input() => DATA,
            _ => IO,
        }
    }
}

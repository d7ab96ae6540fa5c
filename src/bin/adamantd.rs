//! The daemon as a program: arguments in, an exit code out.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adamant::daemon::{CONFIG_BYTES_MAX, Config, ServeError, check_config, init_log, serve};
use adamant::wiping::Wiping;
use anyhow::Context;
use clap::Parser;

/// Tokens pass through the buffers of libraries.
#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// Bad arguments, as in sysexits(3).
const USAGE: u8 = 64;
/// A file that is named and cannot be read.
const NO_INPUT: u8 = 66;
/// A configuration that is wrong.
const CONFIG: u8 = 78;

/// Read when no other is named, if it is there.
const CONFIG_FILE: &str = "/etc/adamant/adamantd.toml";

/// Answers which API tokens are valid, over a Unix socket, from a signed table.
///
/// What is given here goes before what the configuration file says.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file [default: /etc/adamant/adamantd.toml, if it is there]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Say what the configuration comes to, or what is wrong with it, and end
    #[arg(long)]
    check_config: bool,
    /// A home, for store, policy and state together
    #[arg(long, env = "ADAMANT_HOME", conflicts_with_all = ["store", "policy", "state"])]
    home: Option<PathBuf>,
    /// The folder with the manifest and the tables
    #[arg(long)]
    store: Option<PathBuf>,
    /// The policy file
    #[arg(long)]
    policy: Option<PathBuf>,
    /// The folder of marks, writable
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where to listen, and nowhere else
    #[arg(long, env = "ADAMANT_SOCKET")]
    socket: Option<PathBuf>,
    /// Where to answer HTTP, and nowhere else
    #[arg(long, env = "ADAMANT_HTTP_SOCKET")]
    http_socket: Option<PathBuf>,
    /// Listen at once, and answer `unavailable` until there is something to serve
    #[arg(long)]
    wait: bool,
}

impl Arguments {
    fn config(&self) -> Result<Config, (u8, anyhow::Error)> {
        let text = match &self.config {
            Some(file) => read(file),
            None if Path::new(CONFIG_FILE).exists() => read(Path::new(CONFIG_FILE)),
            None => Ok(String::new()),
        };
        let text = text.map_err(|err| (NO_INPUT, err))?;
        let named = self.config.as_deref().unwrap_or(Path::new(CONFIG_FILE));
        let mut config = Config::parse(&text)
            .with_context(|| named.display().to_string())
            .map_err(|err| (CONFIG, err))?;
        if let Some(home) = &self.home {
            let Config { store, policy, state, .. } = Config::of_home(home);
            (config.store, config.policy, config.state) = (store, policy, state);
        }
        let places = [
            (&self.store, &mut config.store),
            (&self.policy, &mut config.policy),
            (&self.state, &mut config.state),
        ];
        for (given, place) in places {
            if let Some(given) = given {
                place.clone_from(given);
            }
        }
        if let Some(socket) = &self.socket {
            config.sockets = vec![socket.clone()];
            config.http_sockets.clear();
        }
        if let Some(socket) = &self.http_socket {
            config.http_sockets = vec![socket.clone()];
        }
        Ok(config)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(err) => {
            let _ = err.print();
            return ExitCode::from(if err.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, err)) => {
            eprintln!("adamantd: {err:#}");
            ExitCode::from(code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), (u8, anyhow::Error)> {
    let config = arguments.config()?;
    let failed = |err: ServeError| (err.exit_code(), anyhow::Error::from(err));
    if arguments.check_config {
        print!("{}", check_config(&config).map_err(failed)?);
        return Ok(());
    }
    init_log(&config);
    serve(config, arguments.wait).map_err(failed)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(cannot)?;
    opened.take(CONFIG_BYTES_MAX).read_to_string(&mut text).with_context(cannot)?;
    Ok(text)
}

//! The daemon as a program: arguments in, an exit code out.

use std::path::PathBuf;
use std::process::ExitCode;

use adamant::client::DEFAULT_SOCKET;
use adamant::daemon::{Config, Options, init_log, serve};
use clap::Parser;

/// Answers which API tokens are valid, over a Unix socket, from a signed table.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// A home, for store, policy and state together
    #[arg(long, env = "ADAMANT_HOME", conflicts_with_all = ["store", "policy", "state"])]
    home: Option<PathBuf>,
    /// The folder with the manifest and the tables
    #[arg(long, required_unless_present = "home")]
    store: Option<PathBuf>,
    /// The policy file
    #[arg(long, default_value = "/etc/adamant/policy.toml")]
    policy: PathBuf,
    /// The folder of marks, writable
    #[arg(long, default_value = "/var/lib/adamant")]
    state: PathBuf,
    /// Where to listen
    #[arg(long, env = "ADAMANT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Listen at once, and answer `unavailable` until there is something to serve
    #[arg(long)]
    wait: bool,
}

impl Arguments {
    fn config(&self) -> Config {
        match (&self.home, &self.store) {
            (Some(home), _) => {
                Config::new(home.join("store"), home.join("policy.toml"), home.join("state"))
            }
            (None, store) => {
                let store = store.clone().unwrap_or_default();
                Config::new(store, self.policy.clone(), self.state.clone())
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(err) => {
            let _ = err.print();
            return ExitCode::from(if err.use_stderr() { 64 } else { 0 });
        }
    };
    init_log();
    let options = Options { socket: arguments.socket.clone(), wait: arguments.wait };
    match serve(arguments.config(), &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let code = err.exit_code();
            eprintln!("adamantd: {:#}", anyhow::Error::from(err));
            ExitCode::from(code)
        }
    }
}

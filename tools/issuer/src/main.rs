//! `adamant-issuer`: issues, revokes and rotates tokens for local services, over HTTP and JSON on a
//! Unix socket and nowhere else. It writes to the same ledger as the command line, beside it.
//!
//! ```text
//!   server (tokio, one thread)  who is it, what may they -> route -> a wish to the scribe
//!   scribe (one thread)         all wishes that wait: one append, one generation -> answers
//!   readers (a few threads)     pages and proofs, without the ledger's lock
//! ```

/// A line of the log. Where it cannot be written, nobody can be told so, and requests are served on:
/// `eprintln!` would end the thread.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let line = format!("adamant-issuer: {}\n", format_args!($($text)*));
        let _ = std::io::stderr().write_all(line.as_bytes());
    }};
}

mod listing;
mod problem;
mod rights;
mod route;
mod scribe;
mod server;
mod tokens;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use adamant::client::DEFAULT_SOCKET;
use adamant::socket;
use adamant::store::Home;
use adamant::wiping::Wiping;
use anyhow::Context;
use clap::Parser;

use listing::Lister;
use rights::{RIGHTS_BYTES_MAX, Rights};
use route::Service;
use scribe::Desk;

/// Tokens pass through the buffers of libraries.
#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// Bad arguments, as in sysexits(3).
const USAGE: u8 = 64;
/// The operating system refused.
const IO: u8 = 74;
/// Home or rights are not as they should be.
const CONFIG: u8 = 78;

/// Where clients look for the service.
const ISSUER_SOCKET: &str = "/run/adamant-issuer/issuer.sock";
/// Name of the file of rights in a home.
const RIGHTS: &str = "issuer.toml";

/// Issues, revokes and rotates API tokens for local services.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// Where to listen
    #[arg(long, env = "ADAMANT_ISSUER_SOCKET", default_value = ISSUER_SOCKET)]
    socket: PathBuf,
    /// Who may what [default: issuer.toml in the home]
    #[arg(long)]
    rights: Option<PathBuf>,
    /// The daemon that is to serve what was issued before an answer is given
    #[arg(long, env = "ADAMANT_SOCKET", default_value = DEFAULT_SOCKET)]
    daemon: PathBuf,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(err) => {
            let _ = err.print();
            return ExitCode::from(if err.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, err)) => {
            tell!("{err:#}");
            ExitCode::from(code)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), (u8, anyhow::Error)> {
    let config = |err| (CONFIG, err);
    let home = Home::open(&arguments.home).map_err(|err| config(err.into()))?;
    let path = arguments.rights.unwrap_or_else(|| arguments.home.join(RIGHTS));
    let rights = read_rights(&path).map_err(config)?;
    serve(home, rights, &arguments.socket, arguments.daemon).map_err(|err| (IO, err))
}

fn read_rights(path: &Path) -> anyhow::Result<Rights> {
    let cannot = || format!("cannot read {}: it says who may issue and revoke", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(RIGHTS_BYTES_MAX).read_to_string(&mut text).with_context(cannot)?;
    Rights::parse(&text).with_context(|| path.display().to_string())
}

fn serve(home: Home, rights: Rights, socket: &Path, daemon: PathBuf) -> anyhow::Result<()> {
    let cannot = || format!("cannot listen on {}", socket.display());
    let listener = socket::bind(socket).with_context(cannot)?;
    let home = Arc::new(home);
    let (desk, scribe) = Desk::open(Arc::clone(&home), daemon)?;
    let service = Arc::new(Service { lister: Lister::new(Arc::clone(&home)), home, desk });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let stopped = server::stop_on_signals()?;
        tell!("listening on {}", socket.display());
        server::run(listener, rights, service, stopped).await;
        anyhow::Ok(())
    })?;
    let _ = std::fs::remove_file(socket);
    // The last desk is gone: what waits is done, and then it ends.
    drop(runtime);
    scribe.join().map_err(|_| anyhow::anyhow!("the scribe has failed"))
}

//! Figures of Adamant, each beside a floor or a peer measured in the same run.
//!
//! A figure alone says little: machines differ, and virtual ones differ from hour to hour. So the
//! floor comes first (one random cache line, one bare ping-pong over a socket), rounds of all
//! sides alternate, and what is printed is the median of the rounds with their spread.

mod clients;
mod floors;
mod gate;
mod http;
mod index;
mod life;
mod machine;
mod prefetch;
mod report;
mod socket;
mod stack;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use report::Report;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Small sizes and few rounds: shows that it runs, and no more
    #[arg(long, global = true)]
    quick: bool,
    /// Records of the tables; 1,000,000 and 10,000,000 when nothing is said
    #[arg(long, global = true)]
    records: Vec<usize>,
    /// Of `life`: tokens that are issued and revoked one by one; 200 when nothing is said
    #[arg(long, global = true)]
    lives: Option<usize>,
    /// Of `life`: seconds between two of them
    #[arg(long, global = true, default_value_t = 0)]
    pace_s: u64,
    /// Write all figures as JSON
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the machine allows: a random line, a ping-pong over a socket
    Floors,
    /// Look-ups through the library, over the floor and beside a binary search
    Index,
    /// Questions to a daemon over its socket
    Socket,
    /// From `adamant issue` to the first valid, from `adamant revoke` to the first revoked
    Life,
    /// What the clients in other languages add to a question
    Clients,
    /// `/auth` under wrk, beside a bare server and FastAPI with Redis
    Http,
    #[command(hide = true)]
    HttpBare { port: u16 },
    /// Instructions of a look-up: one table, two overlays, a revocations note (valgrind)
    Stack,
    #[command(hide = true)]
    StackOnce { way: String, lookups: usize, home: PathBuf },
    /// Instructions of the verdict path's kernels, beside those that are kept (valgrind)
    Gate,
    #[command(hide = true)]
    GateOnce { kernel: usize, times: usize },
    /// All of them
    All,
}

/// What every measurement needs to know.
struct Settings {
    records: Vec<usize>,
    rounds: usize,
    /// Look-ups of one round.
    lookups: usize,
    /// Questions of one round, one at a time.
    questions: usize,
    /// Tokens that are issued and revoked one by one.
    lives: usize,
    /// Seconds between two of them.
    pace_s: u64,
}

impl Settings {
    fn of(arguments: &Arguments) -> Settings {
        let records = match (arguments.records.is_empty(), arguments.quick) {
            (false, _) => arguments.records.clone(),
            (true, true) => vec![20_000],
            (true, false) => vec![1_000_000, 10_000_000],
        };
        let pace_s = arguments.pace_s;
        let lives = arguments.lives.unwrap_or(if arguments.quick { 3 } else { 200 });
        if arguments.quick {
            return Settings { records, rounds: 3, lookups: 20_000, questions: 300, lives, pace_s };
        }
        Settings { records, rounds: 9, lookups: 2_000_000, questions: 20_000, lives, pace_s }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings::of(&arguments);
    let mut report = Report::begin(machine::describe());
    match arguments.command {
        Command::Floors => floors::run(&settings, &mut report)?,
        Command::Index => index::run(&settings, &mut report)?,
        Command::Socket => socket::run(&settings, &mut report)?,
        Command::Stack => stack::run(&settings, &mut report)?,
        Command::StackOnce { way, lookups, home } => stack::once(&way, lookups, &home)?,
        Command::Gate => gate::run(&mut report)?,
        Command::GateOnce { kernel, times } => gate::once(kernel, times)?,
        Command::Clients => clients::run(&settings, &mut report)?,
        Command::Http => http::run(&settings, &mut report)?,
        Command::HttpBare { port } => http::serve_bare(port)?,
        Command::Life => life::run(&settings, &mut report)?,
        Command::All => {
            floors::run(&settings, &mut report)?;
            index::run(&settings, &mut report)?;
            socket::run(&settings, &mut report)?;
            life::run(&settings, &mut report)?;
            http::run(&settings, &mut report)?;
            clients::run(&settings, &mut report)?;
        }
    }
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    Ok(())
}

//! Figures of Adamant, each beside a floor or a peer measured in the same run.
//!
//! A figure alone says little: machines differ, and virtual ones differ from hour to hour. So the
//! floor comes first (one random cache line, one bare ping-pong over a socket), rounds of all
//! sides alternate, and what is printed is the median of the rounds with their spread.

mod building;
mod clients;
mod disk;
mod floors;
mod gate;
mod goals;
mod homes;
mod http;
mod index;
mod keys;
mod life;
mod lines;
mod machine;
mod peers;
mod plot;
mod prefetch;
mod programs;
mod readiness;
mod report;
mod rotate;
mod settings;
mod socket;
mod stack;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use report::Report;
use settings::Settings;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Small sizes and few rounds: shows that it runs, and no more
    #[arg(long, global = true)]
    quick: bool,
    /// Records of the tables, from small to large; those of the goals when nothing is said
    #[arg(long, global = true)]
    records: Vec<usize>,
    /// Leave the sizes of 100,000,000 out, also where there is room for them
    #[arg(long, global = true)]
    no_large: bool,
    /// Of `life`: tokens that are issued and revoked one by one; 200 when nothing is said
    #[arg(long, global = true)]
    lives: Option<usize>,
    /// Of `life`: seconds between two of them
    #[arg(long, global = true, default_value_t = 0)]
    pace_s: u64,
    /// Write all figures as JSON
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Draw the look-ups of `index`
    #[arg(long, global = true)]
    svg: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the machine allows: a random line, a ping-pong over a socket
    Floors,
    /// Look-ups through the library, over the floor and beside other indexes
    Index,
    #[command(hide = true)]
    SmallPages,
    /// Questions to a daemon over its socket, beside Redis, Valkey and memcached
    Socket,
    /// From a token list to a table, beside sort(1) and LMDB, and to the daemon's first answer
    Build,
    /// New bases under load
    Rotate,
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
    /// All of them but `stack` and `gate`, and what has been reached of the goals
    All,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings::of(&arguments);
    match &arguments.command {
        Command::HttpBare { port } => return http::serve_bare(*port),
        Command::SmallPages => return index::run_in_small_pages(&settings),
        Command::StackOnce { way, lookups, home } => return stack::once(way, *lookups, home),
        Command::GateOnce { kernel, times } => return gate::once(*kernel, *times),
        _ => (),
    }
    let mut report = Report::begin(machine::describe());
    measure(&arguments.command, &settings, &mut report)?;
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    if let Some(path) = &arguments.svg {
        plot::write(&report, path)?;
    }
    Ok(())
}

fn measure(command: &Command, settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    match command {
        Command::Floors => floors::run(settings, report),
        Command::Index => {
            index::run(settings, report)?;
            peers::run(settings, report)
        }
        Command::Socket => socket::run(settings, report),
        Command::Build => building::run(settings, report),
        Command::Rotate => rotate::run(settings, report),
        Command::Life => life::run(settings, report),
        Command::Clients => clients::run(settings, report),
        Command::Http => http::run(settings, report),
        Command::Stack => stack::run(report),
        Command::Gate => gate::run(report),
        Command::All => {
            floors::run(settings, report)?;
            measure(&Command::Index, settings, report)?;
            socket::run(settings, report)?;
            building::run(settings, report)?;
            rotate::run(settings, report)?;
            life::run(settings, report)?;
            http::run(settings, report)?;
            clients::run(settings, report)?;
            goals::run(settings, report);
            Ok(())
        }
        Command::HttpBare { .. }
        | Command::SmallPages
        | Command::StackOnce { .. }
        | Command::GateOnce { .. } => Ok(()),
    }
}

//! `adamant serve --home H`: the daemon in the foreground, for a first try.

use std::path::PathBuf;

use adamant::client::DEFAULT_SOCKET;
use adamant::daemon::{Config, init_log, serve};

use crate::exit;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// Where to listen
    #[arg(long, env = "ADAMANT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Where to answer HTTP; nowhere, if it is not said
    #[arg(long, env = "ADAMANT_HTTP_SOCKET")]
    http_socket: Option<PathBuf>,
    /// Listen at once, and answer `unavailable` until there is something to serve
    #[arg(long)]
    wait: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut config = Config::of_home(&arguments.home);
    config.sockets = vec![arguments.socket.clone()];
    config.http_sockets = arguments.http_socket.iter().cloned().collect();
    init_log(&config);
    serve(config, arguments.wait)?;
    Ok(exit::OK)
}

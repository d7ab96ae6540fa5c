//! `/auth` under wrk(1), over loopback and with connections that are kept: beside a server of the
//! same library that answers 200 to everything, and beside FastAPI that asks Redis.
//!
//! Each server has one core, wrk has the other; rounds of all three alternate.

use std::convert::Infallible;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::programs::Program;
use crate::report::{Figure, Report};
use crate::settings::Settings;

const CONNECTIONS: &str = "32";
const PATIENCE: Duration = Duration::from_secs(20);
/// The core of the server that is measured, and that of wrk and Redis.
const CORES: [&str; 2] = ["0", "1"];

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    report.section("/auth over loopback, connections kept, wrk with 32 of them on the other core");
    if missing("wrk", &["-v"]) {
        println!("  wrk is missing: not measured (Debian: wrk)");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (daemon, token) = daemon(folder.path())?;
    let bare = bare()?;
    let peer = fastapi(folder.path(), &token)?;
    let seconds = if settings.rounds > 3 { "2s" } else { "1s" };
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..settings.rounds.min(7) {
        let servers = [Some(&bare), Some(&daemon), peer.as_ref()];
        for (server, rates) in servers.into_iter().zip(&mut rates) {
            if let Some(server) = server {
                rates.push(server.rate(&token, seconds)? / 1e3);
            }
        }
    }
    let [bare, ours, peer] = rates;
    let bare = Figure::of(bare);
    report.base("floor: hyper that answers 200 to everything", "k/s", &bare);
    let ours = Figure::of(ours);
    report.figure("adamantd /auth, a valid token", "k/s", &ours, ("floor", &bare));
    if peer.is_empty() {
        println!(
            "  FastAPI asking Redis: not measured (pip install fastapi uvicorn redis; redis-server)"
        );
    } else {
        let peer = Figure::of(peer);
        report.base("FastAPI under uvicorn, asking Redis", "k/s", &peer);
        report.figure("adamantd /auth, a valid token", "k/s", &ours, ("FastAPI", &peer));
    }
    Ok(())
}

/// Programs that are ended when dropped, and the port of the first.
struct Server {
    port: u16,
    children: Vec<Child>,
}

impl Server {
    /// Answers a second, all of which must be 200.
    fn rate(&self, token: &str, seconds: &str) -> anyhow::Result<f64> {
        let url = format!("http://127.0.0.1:{}/auth?scope=orders:read", self.port);
        let header = format!("Authorization: Bearer {token}");
        let mut wrk = Command::new("taskset");
        wrk.args(["-c", CORES[1], "wrk", "-t1", "-c", CONNECTIONS, "-d", seconds]);
        let output = wrk.args(["-H", &header, &url]).output().context("cannot start taskset")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk failed: {said}");
        ensure!(!said.contains("Non-2xx"), "not all answers were 200: {said}");
        let line = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        Ok(line.context("wrk said no rate")?.trim().parse()?)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(began.elapsed() < PATIENCE, "nobody listens on port {}", self.port);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn daemon(folder: &Path) -> anyhow::Result<(Server, String)> {
    let adamant = Program::find()?;
    let (home, config) = (folder.join("home"), folder.join("adamantd.toml"));
    let home = home.to_str().context("a plain path")?;
    adamant.run(&["init", home, "--prefix", "bench"])?;
    let claims = ["--scope", "orders:read", "--audience", "api", "--subject", "customer-42"];
    let issue = ["issue", "--home", home, "--kind", "live"];
    let token = adamant.run(&[&issue[..], &claims].concat())?.trim().to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let rules = format!(
        "http_sockets = []\nhttp_loopback = [\"127.0.0.1:{port}\"]\n[[caller]]\n\
         sockets = [\"127.0.0.1:{port}\"]\noperations = [\"verify-tokens\", \"claims\"]\n"
    );
    fs::write(&config, rules)?;
    // As systemd passes a socket: descriptor 3, for this process.
    let script = "exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$@\" 3<&0 < /dev/null";
    let mut command = Command::new("taskset");
    command.args(["-c", CORES[0], "sh", "-c", script, "sh"]).arg(adamant.beside("adamantd")?);
    command.args(["--home", home, "--config"]).arg(&config);
    command.stdin(Stdio::from(OwnedFd::from(listener))).stderr(Stdio::null());
    let server = Server { port, children: vec![command.spawn()?] };
    server.wait()?;
    Ok((server, token))
}

/// This program again, as the server that answers 200.
fn bare() -> anyhow::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("taskset");
    command.args(["-c", CORES[0]]).arg(std::env::current_exe()?);
    command.args(["http-bare", &port.to_string()]).stdout(Stdio::null());
    let server = Server { port, children: vec![command.spawn()?] };
    server.wait()?;
    Ok(server)
}

/// The server that answers 200, until it is killed.
pub(crate) fn serve_bare(port: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let answer = service_fn(|_| async {
                Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
            });
            let mut server = http1::Builder::new();
            server.pipeline_flush(true);
            tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
        }
    })
}

/// `None`: something of it is missing.
fn fastapi(folder: &Path, token: &str) -> anyhow::Result<Option<Server>> {
    let has_modules = !missing("python3", &["-c", "import fastapi, uvicorn, redis"]);
    if !has_modules || missing("redis-server", &["--version"]) {
        return Ok(None);
    }
    let socket = folder.join("redis.sock");
    let mut redis = Command::new("taskset");
    redis.args(["-c", CORES[1], "redis-server", "--port", "0", "--save", "", "--unixsocket"]);
    redis.arg(&socket).current_dir(folder).stdout(Stdio::null());
    let mut children = vec![redis.spawn()?];
    let began = Instant::now();
    while !socket.exists() {
        if began.elapsed() > PATIENCE {
            bail!("redis-server does not listen");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let store = "import sys, hashlib, redis; redis.Redis(unix_socket_path=sys.argv[1])\
                 .set(hashlib.sha256(sys.argv[2].encode()).digest(), b'{}')";
    let stored = Command::new("python3").args(["-c", store]).arg(&socket).arg(token).status()?;
    ensure!(stored.success(), "the key cannot be stored in Redis");
    let port = free_port()?;
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut uvicorn = Command::new("taskset");
    uvicorn.args(["-c", CORES[0], "python3", "-m", "uvicorn", "--log-level", "warning"]);
    uvicorn.args(["--no-access-log", "--port", &port.to_string(), "--app-dir"]).arg(peers);
    uvicorn.arg("fastapi_redis:app").env("REDIS_SOCKET", &socket);
    children.insert(0, uvicorn.spawn()?);
    let server = Server { port, children };
    server.wait()?;
    Ok(Some(server))
}

fn missing(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().and_then(|mut child| child.wait()).map_or(true, |status| {
        // wrk says its version and ends with 1.
        !status.success() && program != "wrk"
    })
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

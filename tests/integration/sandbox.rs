//! What the daemon gives up: core dumps, and files that it does not need.

use std::fs;
use std::os::unix::fs::symlink;

use adamant::claims::Requirement;

use crate::http::Site;
use crate::support::{Home, Server, eventually};
use crate::web::Web;

#[test]
fn no_core_of_a_daemon_is_written() {
    let home = Home::new();
    let server = Server::start(&home.path());
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
}

/// A policy that became a link to a file elsewhere: that file is not the daemon's to read, whatever
/// its mode. The last good policy stays.
#[test]
fn a_file_outside_is_not_the_daemons_to_read() {
    let home = Home::new();
    let server = Server::start(&home.path());
    let sandbox = server.status()["sandbox"].as_str().unwrap().to_owned();
    if sandbox == "none" {
        eprintln!("not run: this kernel has no Landlock");
        return;
    }
    assert_eq!(sandbox, "landlock");
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("policy.toml");
    fs::rename(home.policy(), &moved).unwrap();
    symlink(&moved, home.policy()).unwrap();
    server.signal("HUP");
    eventually("it cannot be read", || {
        server.status()["refused"].to_string().contains("Permission denied")
    });
    assert_eq!(server.status()["state"], "ok");
    fs::remove_file(home.policy()).unwrap();
    fs::copy(&moved, home.policy()).unwrap();
    server.signal("HUP");
    eventually("it is read again", || server.status()["refused"].is_null());
}

/// Canaries asked about over both sockets, right and wrong: none is in the memory of the daemon
/// once its connections are closed. `gcore` would be the same bytes by another way.
#[test]
fn no_token_stays_in_memory() {
    let site = Site::new();
    let tokens: Vec<String> = (0..5).map(|_| site.issue(&["--scope", "orders:read"])).collect();
    {
        let mut client = site.server.client();
        let mut web = Web::connect(&site.http);
        for token in &tokens {
            let need = Requirement::any();
            let raw = client.verify_tokens_raw(&[token.as_bytes()], &need).unwrap();
            assert_eq!(raw.rows.len(), 1);
            assert_eq!(web.get_as("/auth", token).code, 200);
            web.post("/introspect", format!("token={token}").as_bytes());
        }
        // Many are hashed at once, in another place than one.
        let many: Vec<&[u8]> = tokens.iter().cycle().take(19).map(String::as_bytes).collect();
        let raw = client.verify_tokens_raw(&many, &Requirement::any()).unwrap();
        assert_eq!(raw.rows.len(), many.len());
    }
    let secrets: Vec<&[u8]> = tokens.iter().map(|token| &token.as_bytes()[25..]).collect();
    eventually("no token is left", || {
        let memory = memory_of(site.server.pid());
        assert!(memory.len() > 1 << 20, "there is memory to look at");
        let holds = |secret: &&[u8]| {
            memory.windows(secret.len()).any(|window| window[0] == secret[0] && window == *secret)
        };
        !secrets.iter().any(holds)
    });
}

/// All private memory that a process can write to.
fn memory_of(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw-p")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // A range may be gone meanwhile, or never have been touched.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            all.extend_from_slice(&bytes);
        }
    }
    all
}

//! Many at once, on a large base, with readers and the command line beside it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use serde_json::{Value, json};

use crate::support::{Site, alone, run};

const CLIENTS: usize = 8;

/// How many, and on how large a base. `ADAMANT_RELEASE=1` asks for the figures of a release.
fn size() -> (usize, &'static str) {
    if std::env::var_os("ADAMANT_RELEASE").is_some() { (10_000, "1000000") } else { (400, "20000") }
}

/// Every answer is kept, and all of them are in the ledger in the end; each token is valid when its
/// answer comes, and dead when the revocation's does.
#[test]
fn thousands_are_issued_and_revoked_and_none_is_lost() {
    let _alone = alone();
    let (count, base) = size();
    let own = rustix::process::getuid().as_raw();
    let rights = format!(
        "[[right]]\nusers = [{own}]\nmay = [\"issue\", \"revoke\", \"read\"]\nkinds = [\"*\"]\n\
         audiences = [\"*\"]\nscopes = [\"*\"]\n"
    );
    let site = Site::with_rights(&rights, |home| {
        let bulk = ["issue", "--home", home, "--kind", "live", "--no-publish", "--count", base];
        run(&bulk, b"");
        run(&["build", "--home", home], b"");
    });
    let (done, read, by_hand) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (issues, revokes) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let ids = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| read_on(&site, &done, &read));
        scope.spawn(|| issue_by_hand(&site, &done, &by_hand));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| live(&site, count / CLIENTS, &issues, &revokes, &ids)))
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    site.audit();
    let ids = ids.into_inner().unwrap();
    for id in [&ids[0], &ids[ids.len() / 2], &ids[ids.len() - 1]] {
        assert_eq!(site.get(&format!("/tokens/{id}")).json()["state"], "revoked");
    }
    let list = run(&["list", "--home", &site.home(), "--subject", "load", "--json"], b"").stdout;
    let revoked = String::from_utf8(list).unwrap().matches("\"state\":\"revoked\"").count();
    assert_eq!(revoked, ids.len());
    println!(
        "{} issues and revokes by {CLIENTS} clients on {base} tokens, {} reads and {} issues by \
         the command line beside it",
        ids.len(),
        read.load(Ordering::Relaxed),
        by_hand.load(Ordering::Relaxed)
    );
    for (name, took) in [("issue until valid", issues), ("revoke until revoked", revokes)] {
        let mut took = took.into_inner().unwrap();
        took.sort();
        println!("  {name}: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    }
}

fn live(
    site: &Site,
    count: usize,
    issues: &Mutex<Vec<Duration>>,
    revokes: &Mutex<Vec<Duration>>,
    ids: &Mutex<Vec<String>>,
) {
    let (mut web, mut client) = (site.web(), site.client());
    let mut post = |target: &str, body: &Value| {
        let answer = web.post_as(target, "application/json", body.to_string().as_bytes());
        assert!(matches!(answer.code, 200 | 201), "{answer:?}");
        answer.json()
    };
    for _ in 0..count {
        let began = Instant::now();
        let issued = post("/tokens", &json!({ "kind": "live", "subject": "load" }));
        issues.lock().unwrap().push(began.elapsed());
        assert_eq!(issued["served"], true);
        let token = issued["token"].as_str().unwrap();
        let mut is_valid =
            || client.verify(token.as_bytes(), &Requirement::any()).unwrap().is_valid();
        assert!(is_valid());
        let began = Instant::now();
        let id = issued["id"].as_str().unwrap();
        let revoked = post(&format!("/tokens/{id}/revoke"), &json!({}));
        revokes.lock().unwrap().push(began.elapsed());
        assert_eq!(revoked["served"], true);
        assert!(!is_valid());
        ids.lock().unwrap().push(id.to_owned());
    }
}

fn read_on(site: &Site, done: &AtomicBool, read: &AtomicU64) {
    let mut web = site.web();
    while !done.load(Ordering::Relaxed) {
        let page = web.get("/tokens?subject=load&limit=10", "");
        assert_eq!(page.code, 200, "{page:?}\n{}", site.logs());
        let page = page.json();
        for token in page["tokens"].as_array().unwrap() {
            let id = token["id"].as_str().unwrap();
            assert_eq!(web.get(&format!("/tokens/{id}"), "").code, 200);
            read.fetch_add(1, Ordering::Relaxed);
        }
        // A pause, because otherwise all that the machine has goes into reading.
        thread::sleep(Duration::from_millis(50));
    }
}

fn issue_by_hand(site: &Site, done: &AtomicBool, issued: &AtomicU64) {
    while !done.load(Ordering::Relaxed) {
        run(&["issue", "--home", &site.home(), "--kind", "live", "--subject", "hand"], b"");
        issued.fetch_add(1, Ordering::Relaxed);
        // A pause, because otherwise all that the machine has goes into starting commands.
        thread::sleep(Duration::from_millis(50));
    }
}

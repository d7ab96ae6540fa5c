//! How a daemon and a store are looked at: `status`, `status --openmetrics`, `diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use adamant::claims::Requirement;
use adamant::time::from_rfc3339;

use crate::support::{Home, Server, run};

/// Reads OpenMetrics as strictly as its grammar: samples belong to the family declared last, each
/// family is declared once, a counter's sample ends in `_total`, and `# EOF` is the end.
fn parse(text: &str) -> BTreeMap<String, String> {
    let mut families = BTreeSet::new();
    let mut samples = BTreeMap::new();
    let (mut family, mut sort) = (String::new(), String::new());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    assert!(text.ends_with('\n'));
    for line in &lines[..lines.len() - 1] {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} twice");
            (family, sort) = (name.to_owned(), kind.to_owned());
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(&format!("{family} ")), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let suffixes: &[&str] = match sort.as_str() {
                "counter" => &["_total"],
                "info" => &["_info"],
                "gauge" | "stateset" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("no type {other}"),
            };
            let suffix = name.strip_prefix(&family);
            assert!(suffix.is_some_and(|suffix| suffixes.contains(&suffix)), "{line}");
            assert!(samples.insert(sample.to_owned(), value.to_owned()).is_none());
        }
    }
    samples
}

#[test]
fn openmetrics_say_what_the_status_says() {
    let home = Home::new();
    let tokens = home.issue(3);
    home.build();
    let server = Server::start(&home.path());
    let mut client = server.client();
    for token in &tokens {
        assert!(client.verify(token.as_bytes(), &Requirement::any()).unwrap().is_valid());
    }
    let socket = server.socket().to_str().unwrap();
    let scraped = run(&["status", "--openmetrics", "--socket", socket], b"").expect_code(0).stdout;
    let samples = parse(&scraped);
    let of = |name: &str| samples[name].parse::<u64>().unwrap();
    assert_eq!(of("adamant_verify_requests_total{surface=\"socket\",verdict=\"valid\"}"), 3);
    assert_eq!(of("adamant_verify_requests_total{surface=\"socket\",verdict=\"unknown\"}"), 0);
    assert_eq!((of("adamant_generation"), of("adamant_epoch")), (2, 1));
    assert_eq!(of("adamant_tokens{state=\"all\"}"), 3);
    assert_eq!(of("adamant_state{adamant_state=\"ok\"}"), 1);
    assert_eq!(of("adamant_state{adamant_state=\"unavailable\"}"), 0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(of(&format!("adamant_build_info{{version=\"{version}\"}}")), 1);
    let status = server.status();
    let (issued, _) = from_rfc3339(status["issued"].as_str().unwrap()).unwrap();
    assert_eq!(of("adamant_generation_issued_timestamp_seconds"), u64::try_from(issued).unwrap());
    for token in &tokens {
        assert!(!scraped.contains(&token[12..26]), "no id is a label");
    }
}

#[test]
fn a_status_tells_a_tired_person_what_is_wrong() {
    let home = Home::new();
    home.issue(3);
    home.build();
    let server = Server::start(&home.path());
    let socket = server.socket().to_str().unwrap();
    let status = |code| run(&["status", "--socket", socket], b"").expect_code(code).stdout;
    let said = status(0);
    assert!(said.starts_with("ok: answers from a generation"), "{said}");
    assert!(said.contains("mapped, writers kept away"), "{said}");
    assert!(!said.contains("trouble"), "{said}");

    let policy = fs::read_to_string(home.policy()).unwrap();
    fs::write(home.policy(), policy.replace("epoch = 1", "epoch = 2")).unwrap();
    server.signal("HUP");
    crate::support::eventually("it is unavailable", || server.status()["state"] == "unavailable");
    let said = status(69);
    assert!(said.starts_with("unavailable: gives no verdicts"), "{said}");
    assert!(said.contains("why          epoch 1, the policy asks for epoch 2"), "{said}");
}

/// Two homes with the same keys, of which the second publishes what may not follow the first.
#[test]
fn a_diff_says_what_changed_and_whether_it_may() {
    let home = Home::new();
    let other = home.copy();
    home.issue(4);
    home.build();
    let list = fs::read_to_string(home.list()).unwrap();
    let first = home.folder().join("first");
    let copied = std::process::Command::new("cp").arg("-a").arg(home.store()).arg(&first).status();
    assert!(copied.unwrap().success());
    let lines: Vec<&str> = list.lines().collect();
    home.issue(1);
    let added = fs::read_to_string(home.list()).unwrap().lines().last().unwrap().to_owned();
    home.build_from([&lines[2..], &[added.as_str()]].concat().join("\n").as_bytes(), &[])
        .expect_code(0);

    let policy = home.policy();
    let policy = policy.to_str().unwrap();
    let (first, second) = (first.to_str().unwrap(), home.text());
    let diff = |a: &str, b: &str, more: &[&str]| {
        run(&[&["diff", a, b, "--policy", policy], more].concat(), b"")
    };
    let said = diff(first, second, &[]).expect_code(0).stdout;
    assert_eq!(said, "generation 2 -> 3\n  added    1\n  revoked  2\n  left     0\n");
    diff(first, second, &["--max-revoked", "2"]).expect_code(0);
    diff(first, second, &["--max-revoked", "1"])
        .expect_code(65)
        .expect_error("2 tokens are revoked");
    let json = diff(first, second, &["--json"]).expect_code(0).json();
    assert_eq!((json["added"].as_u64(), json["revoked"].as_u64()), (Some(1), Some(2)));
    let back = diff(second, first, &[]).expect_code(65);
    back.expect_error("the second is the older generation");
    assert!(back.stdout.contains("broken "), "{}", back.stdout);

    other.build_from(lines[0].as_bytes(), &[]).expect_code(0);
    other.build_from(lines[..2].join("\n").as_bytes(), &[]).expect_code(0);
    let broken = diff(first, other.text(), &[]).expect_code(65);
    broken.expect_error("2 tokens break a law");
    assert_eq!(broken.stdout.matches("is missing before 30 days").count(), 2);
}

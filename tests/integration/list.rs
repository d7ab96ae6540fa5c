//! Token lists at size: a million tokens through the socket, the same bytes from any order, and
//! what happens to a list with a line that is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::store::Home;
use adamant::token::{Digest, Token};
use adamant::verdict::Verdict;
use serde_json::{Value, json};

use crate::support::{Server, run, run_with};

const MILLION: usize = 1_000_000;
const BATCH: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(60);

fn init(folder: &Path) -> PathBuf {
    let home = folder.join("home");
    run(&["init", home.to_str().unwrap(), "--prefix", "acme"], b"").expect_code(0);
    home
}

fn build(home: &Path, list: &[u8], options: &[&str]) -> crate::support::Ran {
    let home = home.to_str().unwrap();
    let mut arguments = vec!["build", "--json", "--home", home, "--from", "-"];
    arguments.extend(options);
    run(&arguments, list)
}

fn mint(count: usize) -> Vec<Token> {
    let (prefix, kind) = ("acme".parse().unwrap(), "live".parse().unwrap());
    (0..count).map(|_| Token::mint(prefix, kind).unwrap()).collect()
}

fn verdicts(client: &mut Client, digests: &[Digest]) -> Vec<Verdict> {
    let need = Requirement::any();
    let batches = digests.chunks(BATCH);
    batches
        .flat_map(|batch| client.verify_digests(batch, &need).unwrap().rows)
        .map(|row| row.verdict)
        .collect()
}

/// Every one of a million tokens is valid, and every one of a million others unknown, through the
/// socket. The list stands on standard input and holds the tokens themselves.
#[test]
fn a_million_tokens_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let key = Home::open(&home).unwrap().policy().domain.key;
    let listed = mint(MILLION);
    let mut list = Vec::new();
    for token in &listed {
        let token = token.expose();
        list.extend_from_slice(format!("{{\"token\":\"{token}\",\"subject\":\"s\"}}\n").as_bytes());
    }
    let built = build(&home, &list, &[]).expect_code(0).json();
    assert_eq!(built["records"], MILLION);
    let server = Server::start(&home);
    let mut client = Client::with_timeout(server.socket(), TIMEOUT).unwrap();
    let digests = |tokens: &[Token]| -> Vec<Digest> {
        tokens.iter().map(|token| token.digest(&key)).collect()
    };
    let valid = verdicts(&mut client, &digests(&listed));
    assert_eq!(valid.len(), MILLION);
    assert!(valid.iter().all(|&verdict| verdict == Verdict::Valid));
    let unknown = verdicts(&mut client, &digests(&mint(MILLION)));
    assert_eq!(unknown.len(), MILLION);
    assert!(unknown.iter().all(|&verdict| verdict == Verdict::Unknown));
}

/// A list with a bit of everything in it, one line a token.
fn varied(count: usize) -> Vec<String> {
    let line = |at: usize| {
        let number = format!("{at:014}");
        let mut line = json!({
            "digest": blake3::hash(number.as_bytes()).to_string(),
            "id": number,
            "kind": (["live", "test"][at % 2]),
            "subject": format!("customer-{}", at % 97),
            "meta": { "b": at % 5, "a": "é" },
        });
        if at.is_multiple_of(3) {
            line["scopes"] = json!(["orders:write", "orders:read", format!("scope:{}", at % 31)]);
            line["audience"] = "orders-api".into();
        }
        if at.is_multiple_of(4) {
            line["expires"] = "2031-06-01T12:00:00.9+02:00".into();
            line["not_before"] = "2026-01-01T00:00:00.1-05:00".into();
        }
        if at.is_multiple_of(50) {
            line["revoked_at"] = "2030-01-01T00:00:00Z".into();
            line["reason"] = "unused".into();
        }
        line.to_string()
    };
    (0..count).map(line).collect()
}

fn tables_of(home: &Path) -> BTreeSet<String> {
    let manifest = fs::read_to_string(home.join("store/manifest")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("table ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let files = [format!("{}.tbl", words[1]), format!("{}.sub", words[7])];
    files.into_iter().collect()
}

/// The same list in another order, time zone, locale and number of threads, with so little memory
/// that it is spilled, and as CSV: equal tables, byte by byte.
#[test]
fn any_order_and_any_machine_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let first = init(folder.path());
    let lines = varied(200_000);
    build(&first, lines.join("\n").as_bytes(), &[]).expect_code(0);

    let mut shuffled = lines.clone();
    shuffled.sort_by_key(|line| blake3::hash(line.as_bytes()).to_string());
    for (name, lines, environment, options) in [
        (
            "reversed",
            lines.iter().rev().cloned().collect::<Vec<_>>(),
            [("TZ", "Asia/Kolkata"), ("LC_ALL", "tr_TR.UTF-8"), ("RAYON_NUM_THREADS", "1")],
            vec!["--memory", "1M"],
        ),
        (
            "shuffled",
            shuffled,
            [("TZ", "America/St_Johns"), ("LC_ALL", "C"), ("RAYON_NUM_THREADS", "7")],
            vec![],
        ),
    ] {
        let home = folder.path().join(name);
        copy_keys(&first, &home);
        let list = lines.join("\n") + "\n";
        let to = home.to_str().unwrap();
        let mut arguments = vec!["build", "--home", to, "--from", "-", "--first"];
        arguments.extend(options);
        run_with(&arguments, list.as_bytes(), &environment).expect_code(0);
        assert_eq!(tables_of(&home), tables_of(&first), "{name}");
        for file in tables_of(&first) {
            let bytes = |home: &Path| fs::read(home.join("store/tables").join(&file)).unwrap();
            assert!(bytes(&home) == bytes(&first), "{name}: {file}");
        }
    }
}

#[test]
fn csv_and_ndjson_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = init(folder.path());
    let second = folder.path().join("second");
    copy_keys(&first, &second);
    let digest = blake3::hash(b"x").to_string();
    let json = json!({
        "digest": digest, "id": "00000000000001", "kind": "live", "subject": "a \"quoted\", name",
        "scopes": ["b", "a"], "expires": "2030-01-01T00:00:00Z", "meta": "{\"a\":1}",
    });
    let csv = format!(
        "kind,digest,id,scopes,subject,expires,meta,audience\r\n\
         live,{digest},00000000000001,a b,\"a \"\"quoted\"\", name\",2030-01-01T01:00:00+01:00,\"{{\"\"a\"\":1}}\",\r\n"
    );
    build(&first, json.to_string().as_bytes(), &[]).expect_code(0);
    build(&second, csv.as_bytes(), &["--first"]).expect_code(0);
    assert_eq!(tables_of(&first), tables_of(&second));
}

/// A home of the same deployment, with nothing published.
fn copy_keys(from: &Path, to: &Path) {
    for folder in ["signers", "state", "private", "store/tables", "store/manifests"] {
        fs::create_dir_all(to.join(folder)).unwrap();
    }
    for file in ["policy.toml", "signers/build.key"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// One bad line among half a million: named with its number, and nothing is published.
#[test]
fn a_bad_line_is_named_and_nothing_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let before = fs::read(home.join("store/manifest")).unwrap();
    let mut lines = varied(500_000);
    lines[499_999] = lines[499_999].replace("\"kind\"", "\"knid\"");
    let refused = build(&home, lines.join("\n").as_bytes(), &[]).expect_code(65);
    refused.expect_error("standard input:500000: unknown field `knid`");
    refused.expect_error("1 lines refused, nothing published");
    assert_eq!(fs::read(home.join("store/manifest")).unwrap(), before);
    assert_eq!(fs::read_dir(home.join("store/tables")).unwrap().count(), 2, "nothing left behind");
}

/// Each kind of fault, with its line and its reason; and all of them at once.
#[test]
fn every_fault_of_a_line_has_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let token = mint(1).remove(0);
    let (good, text) = (varied(1).remove(0), token.expose());
    let with = |column: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&good).unwrap();
        line[column] = value;
        line.to_string()
    };
    let typo = format!("{{\"token\":\"{}x\"}}", &text[..text.len() - 1]);
    let cases = [
        ("{}".to_owned(), "none of token, digest and sha256"),
        ("not json".to_owned(), "not JSON"),
        ("{\"digest\":".to_owned(), "the line ends within the JSON"),
        (with("token", text.into()), "more than one of token, digest and sha256"),
        (typo, "token: the check does not match"),
        (format!("{{\"token\":\"{text}\",\"kind\":\"test\"}}"), "kind is not the one in the token"),
        (format!("{{\"token\":\"{text}\",\"id\":\"x\"}}"), "id is not the one in the token"),
        (with("digest", "12".into()), "digest: not 64 hex digits"),
        (with("id", Value::Null), "id is missing"),
        (with("id", "short".into()), "id: not 14 base62"),
        (with("kind", "Live".into()), "kind: a kind is 1 to 8"),
        (with("kind", Value::Null), "kind is missing"),
        (with("subject", "s".repeat(256).into()), "subject has 256 bytes"),
        (with("subject", "a\nb".into()), "subject holds a control character"),
        (with("meta", "m".repeat(1025).into()), "meta has 1025 bytes"),
        (with("meta", 5.into()), "meta: neither a text nor an object"),
        (with("audience", "a b".into()), "an audience is visible ASCII"),
        (with("scopes", "a\"b".into()), "a scope is visible ASCII"),
        (with("scopes", 7.into()), "a column of the wrong type"),
        (with("expires", "tomorrow".into()), "expires: not an RFC 3339 time"),
        (with("expires", "2027-01-31T12:00:00".into()), "expires: not an RFC 3339 time"),
        (with("expires", "2200-01-01T00:00:00Z".into()), "expires: after the year 2156"),
        (with("revoked_at", "x".into()), "revoked_at: not an RFC 3339 time"),
        (with("revoked_at", Value::Null), "reason without revoked_at"),
        (with("reason", "boredom".into()), "reason: not one of compromised"),
        (
            json!({"sha256": "00".repeat(32), "kind": "old"}).to_string(),
            "sha256 needs --high-entropy",
        ),
        ("x".repeat(70_000), "longer than 64 KiB"),
    ];
    let list: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let rejects = folder.path().join("rejects");
    let refused = build(&home, list.as_bytes(), &["--rejects", rejects.to_str().unwrap()]);
    let refused = refused.expect_code(65);
    refused.expect_error(&format!("{} lines refused", cases.len()));
    let told = fs::read_to_string(&rejects).unwrap();
    assert_eq!(told.lines().count(), cases.len());
    for ((at, (line, reason)), told) in (1..).zip(&cases).zip(told.lines()) {
        let told: Value = serde_json::from_str(told).unwrap();
        assert_eq!(told["line"], at, "{line}");
        assert!(told["reason"].as_str().unwrap().contains(reason), "{line}: {told}");
    }
    let secret = &text[30..];
    assert!(!refused.stderr.contains(secret) && !told.contains(secret));
}

#[test]
fn tokens_and_ids_stand_once() {
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let lines = varied(4);
    let same_id = lines[3].replace("00000000000003", "00000000000001");
    let list = [&lines[0], &lines[1], &lines[0], &same_id].map(String::as_str).join("\n");
    let refused = build(&home, list.as_bytes(), &[]).expect_code(65);
    refused.expect_error(":3: the same token as on line 1");
    refused.expect_error(":4: id 00000000000001 stands on line 2 too");

    // An id that an earlier generation gave to another value.
    build(&home, lines[0].as_bytes(), &[]).expect_code(0);
    let reused = lines[1].replace("00000000000001", "00000000000000");
    let refused = build(&home, reused.as_bytes(), &[]).expect_code(65);
    refused.expect_error("id 00000000000000 was issued before with another value");
}

/// Laws 1 and 3 against the generation before.
#[test]
fn a_token_never_changes_and_trust_only_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let lines = varied(3);
    build(&home, lines.join("\n").as_bytes(), &[]).expect_code(0);
    for (column, value, told) in [
        ("id", json!("10000000000000"), "id of token"),
        ("kind", json!("other"), "kind, audience or scopes of token"),
        ("scopes", json!(["more"]), "kind, audience or scopes of token"),
        ("expires", json!("2031-06-01T10:00:01Z"), "expires of token"),
        ("not_before", json!("2020-01-01T00:00:00Z"), "not_before of token"),
        ("subject", json!("somebody-else"), "subject or meta of token"),
    ] {
        let mut changed: Value = serde_json::from_str(&lines[0]).unwrap();
        changed[column] = value;
        let list = [&changed.to_string(), &lines[1], &lines[2]].map(String::as_str).join("\n");
        let refused = build(&home, list.as_bytes(), &[]).expect_code(65);
        refused.expect_error(told);
        refused.expect_error(":1: ");
    }

    // Revoked as it was, if that is asked for.
    let changed = lines[2].replace("customer-2", "customer-3");
    let list = [&lines[0], &lines[1], &changed].map(String::as_str).join("\n");
    let built = build(&home, list.as_bytes(), &["--on-change", "revoke"]).expect_code(0).json();
    assert_eq!((&built["changed"], &built["died"]), (&json!(1), &json!(1)));

    // Missing, and back again; and a schedule that may move earlier but not later.
    let built = build(&home, lines[0].as_bytes(), &[]).expect_code(0).json();
    assert_eq!(built["absent"], 1);
    let later = lines[0].replace("2030-01-01", "2030-01-02");
    let list = [&later, &lines[1], &lines[2]].map(String::as_str).join("\n");
    let built = build(&home, list.as_bytes(), &[]).expect_code(0).json();
    assert_eq!((&built["kept_revoked"], &built["records"]), (&json!(3), &json!(3)));
    let earlier = lines[0].replace("2030-01-01", "2029-01-01");
    let built = build(&home, earlier.as_bytes(), &[]).expect_code(0).json();
    assert_eq!(built["kept_revoked"], 0);
}

/// A record leaves 30 days after its expiry, and not a generation earlier.
#[test]
fn expired_tokens_leave_after_thirty_days() {
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let mut lines = varied(3);
    for (line, expires) in lines.iter_mut().zip(["2021-01-01T00:00:00Z", "2026-11-20T00:00:00Z"]) {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value["expires"] = expires.into();
        *line = value.to_string();
    }
    let recently = adamant::store::now_unix_s() - 86_400;
    lines[1] = lines[1].replace("2026-11-20T00:00:00Z", &adamant::time::to_rfc3339(recently));
    build(&home, lines.join("\n").as_bytes(), &[]).expect_code(0);
    let built = build(&home, lines[2].as_bytes(), &[]).expect_code(0).json();
    assert_eq!(
        (&built["left"], &built["records"], &built["absent"]),
        (&json!(1), &json!(2), &json!(0))
    );
}

/// The column of another system's database, as PostgreSQL writes it; the old tokens verify.
#[test]
fn foreign_tokens_verify_unchanged() {
    use sha2::Digest as _;
    let folder = tempfile::tempdir().unwrap();
    let home = init(folder.path());
    let old = ["sk_live_old-token-one", "legacy-secret-1"];
    let mut list = "sha256,kind,subject\n".to_owned();
    for (old, begins) in old.iter().zip(["\\x", ""]) {
        let hash: String = sha2::Sha256::digest(old).iter().map(|b| format!("{b:02x}")).collect();
        list.push_str(&format!("{begins}{hash},old,customer\n"));
    }
    build(&home, list.as_bytes(), &[]).expect_code(65).expect_error("--high-entropy");
    let bcrypt = "sha256,kind\n$2b$12$abcdefghijklmnopqrstuv,old\n";
    let refused = build(&home, bcrypt.as_bytes(), &["--high-entropy"]).expect_code(65);
    refused.expect_error("salted or slow hash");
    build(&home, list.as_bytes(), &["--high-entropy"]).expect_code(0);
    let server = Server::start(&home);
    let mut client = Client::with_timeout(server.socket(), TIMEOUT).unwrap();
    let mut ask =
        |token: &str| client.verify(token.as_bytes(), &Requirement::any()).unwrap().verdict();
    assert_eq!(old.map(&mut ask), [Verdict::Valid; 2]);
    assert_eq!(ask("legacy-secret-2"), Verdict::Unknown);
    let typo = mint(1)[0].expose().replace("acme_live_1", "acme_live_1x");
    assert_eq!(ask(&typo[..typo.len() - 1]), Verdict::Malformed);
}

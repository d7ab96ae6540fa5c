//! The daemon over HTTP: every answer of `docs/http.md`, in the bytes that callers send.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use adamant::daemon::Config;
use serde_json::json;

use crate::support::{Home, Server, eventually, run};
use crate::web::{Answer, Web};

/// A daemon with an HTTP socket, and a home with a ledger.
pub(crate) struct Site {
    pub(crate) home: Home,
    pub(crate) server: Server,
    pub(crate) http: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with(&[])
    }

    pub(crate) fn with(options: &[&str]) -> Site {
        let home = Home::new();
        let http = home.folder().join("http.sock");
        let options = [&["--http-socket", http.to_str().unwrap()], options].concat();
        let server = Server::spawn(&home.path(), &options);
        server.wait_until_listening();
        Site { home, server, http }
    }

    /// Issues a token, and waits until it is served.
    pub(crate) fn issue(&self, options: &[&str]) -> String {
        let arguments = ["issue", "--home", self.home.text(), "--json", "--kind", "live"];
        let issued = run(&[&arguments[..], options].concat(), b"").expect_code(0).json();
        self.server.wait_for_generation(issued["generation"].as_u64().unwrap());
        issued["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn revoke(&self, token: &str) {
        let arguments = ["revoke", "-", "--home", self.home.text(), "--reason", "other", "--json"];
        let revoked = run(&arguments, token.as_bytes()).expect_code(0).json();
        self.server.wait_for_generation(revoked["generation"].as_u64().unwrap());
    }

    fn web(&self) -> Web<std::os::unix::net::UnixStream> {
        Web::connect(&self.http)
    }
}

#[track_caller]
fn expect_auth(answer: &Answer, code: u16, challenge: Option<&str>, told: [&str; 4]) {
    assert_eq!(answer.code, code, "{answer:?}");
    assert_eq!(answer.field("www-authenticate"), challenge);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let names = ["x-token-id", "x-token-subject", "x-token-scopes", "x-token-audience"];
    // In every answer, so that a proxy overwrites whatever a client has sent.
    for (name, value) in names.into_iter().zip(told) {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
}

#[test]
fn a_proxy_is_told_yes_or_no_or_neither() {
    let site = Site::new();
    let claims = ["--scope", "orders:read", "--scope", "orders:list", "--audience", "api"];
    let subject = ["--subject", "customer-42é", "--expires", "90d"];
    let token = site.issue(&[&claims[..], &subject].concat());
    let id = &token[11..25];
    let mut web = site.web();
    let told = [id, "customer-42é", "orders:list orders:read", "api"];
    for query in ["", "?scope=orders:read", "?scope=orders:read+orders:list&audience=api&kind=live"]
    {
        expect_auth(&web.get_as(&format!("/auth{query}"), &token), 200, None, told);
    }
    let nothing = [""; 4];
    let invalid = Some(r#"Bearer error="invalid_token""#);
    let scope = Some(r#"Bearer error="insufficient_scope", scope="orders:write""#);
    expect_auth(&web.get_as("/auth?scope=orders:write", &token), 403, scope, nothing);
    expect_auth(&web.get_as("/auth?audience=other", &token), 401, invalid, nothing);
    expect_auth(&web.get_as("/auth?kind=test", &token), 401, invalid, nothing);
    expect_auth(&web.get_as("/auth", "nonsense"), 401, invalid, nothing);
    expect_auth(&web.get("/auth", ""), 401, Some("Bearer"), nothing);
    let basic = web.get("/auth", "Authorization: Basic YTpi\r\n");
    expect_auth(&basic, 401, Some("Bearer"), nothing);
    let twice = format!("Authorization: Bearer {token}\r\n").repeat(2);
    let confused = Some(r#"Bearer error="invalid_request""#);
    expect_auth(&web.get("/auth", &twice), 401, confused, nothing);
    // A token in the query is not looked at, and a misspelt requirement is none to be ignored.
    expect_auth(&web.get(&format!("/auth?token={token}"), ""), 400, None, nothing);
    expect_auth(&web.get_as("/auth?scopes=orders:write", &token), 400, None, nothing);
    let posted = web.ask(&format!(
        "POST /auth HTTP/1.1\r\nHost: x\r\nAuthorization: bearer {token}\r\n\
         Content-Length: 0\r\n\r\n"
    ));
    expect_auth(&posted, 200, None, told);
    assert_eq!(web.ask("PUT /auth HTTP/1.1\r\nHost: x\r\n\r\n").code, 405);

    site.revoke(&token);
    expect_auth(&web.get_as("/auth", &token), 401, invalid, nothing);
}

#[test]
fn introspection_answers_as_the_rfc_says() {
    let site = Site::new();
    let claims = ["--scope", "a", "--scope", "b", "--audience", "api", "--subject", "ann"];
    let token = site.issue(&[&claims[..], &["--expires", "90d"]].concat());
    let mut web = site.web();
    let form = |text: &str| format!("token={}", text.replace('+', "%2B"));
    let answer = web.post("/introspect", form(&token).as_bytes());
    assert_eq!(answer.code, 200);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let mut found = answer.json();
    let mut moment = |name: &str| found.as_object_mut().unwrap().remove(name).unwrap();
    let (issued, expires) = (moment("iat").as_i64().unwrap(), moment("exp").as_i64().unwrap());
    assert_eq!(expires - issued, 90 * 86_400);
    let expected = json!({
        "active": true, "token_type": "Bearer", "jti": &token[11..25], "scope": "a b",
        "aud": "api", "sub": "ann", "client_id": "ann", "iss": "acme/adamant",
    });
    assert_eq!(found, expected);

    let inactive = json!({ "active": false });
    let (other, none) = (site.issue(&["--not-before", "1h"]), "nonsense".to_owned());
    for text in [&other, &none, &token[..30].to_owned()] {
        assert_eq!(web.post("/introspect", form(text).as_bytes()).json(), inactive);
    }
    let hint = format!("{}&token_type_hint=access_token&more=x", form(&token));
    assert_eq!(web.post("/introspect", hint.as_bytes()).json()["active"], true);
    site.revoke(&token);
    assert_eq!(web.post("/introspect", form(&token).as_bytes()).json(), inactive);
}

/// authlib, as a client that introspects and as a resource server that judges the answer.
#[test]
fn a_stock_oauth_library_accepts_introspection() {
    let has_library = Command::new("python3").args(["-c", "import authlib, httpx"]).output();
    if !has_library.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "missing: Python packages authlib and httpx");
        eprintln!("not run: Python packages authlib and httpx are missing");
        return;
    }
    let site = Site::new();
    let token = site.issue(&["--scope", "orders:read", "--expires", "90d"]);
    let other = site.issue(&["--scope", "orders:list"]);
    let ask = |token: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/introspect.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(&site.http).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let found = ask(&token);
    assert_eq!((&found["answer"]["active"], &found["accepted"]), (&json!(true), &json!(true)));
    assert_eq!(ask(&other)["accepted"], "InsufficientScopeError");
    site.revoke(&token);
    let found = ask(&token);
    assert_eq!(found, json!({ "answer": { "active": false }, "accepted": "InvalidTokenError" }));
}

#[test]
fn bad_questions_get_the_answers_of_the_rfc() {
    let site = Site::new();
    let huge = [b"token=".as_slice(), &vec![b'a'; 100_000]].concat();
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let cases: [(&str, &[u8], u16); 7] = [
        (form, b"", 400),
        (form, b"tokens=a", 400),
        (form, b"token=", 400),
        (form, b"token=a&token=b", 400),
        (form, b"token=%ff%fe", 400),
        (json, b"{\"token\":\"a\"}", 415),
        (form, &huge, 413),
    ];
    for (content_type, body, code) in cases {
        let answer = site.web().post_as("/introspect", content_type, body);
        assert_eq!(answer.code, code, "{answer:?}");
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    for target in ["/introspect", "/introspect?token=a"] {
        let answer = site.web().get(target, "");
        assert_eq!((answer.code, answer.field("allow")), (405, Some("POST")));
    }
    assert_eq!(site.web().get("/other", "").code, 404);
    // A head of 64 KiB, and bytes that are no HTTP: an error and a close, or a close.
    let long = format!("GET /auth HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(65_536));
    for bytes in [long.as_bytes(), b"\x00\x01\x02 nonsense\r\n\r\n"] {
        let mut web = site.web();
        web.send(bytes);
        assert!(web.answer().is_none_or(|answer| answer.code == 400 || answer.code == 431));
    }
    assert_eq!(site.web().get("/health/live", "").code, 200);
}

#[test]
fn requests_that_are_pipelined_are_answered_in_their_order() {
    let site = Site::new();
    let token = site.issue(&[]);
    let mut web = site.web();
    let request = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let (yes, no) = (request("/auth"), request("/auth?scope=none"));
    web.send([&*yes, &no, &yes, &no].concat().repeat(50).as_bytes());
    for _ in 0..100 {
        assert_eq!(web.answer().unwrap().code, 200);
        assert_eq!(web.answer().unwrap().code, 403);
    }
}

/// Nothing to answer from is neither yes nor no, and looks like neither.
#[test]
fn without_a_generation_nobody_is_let_in() {
    let home = Home::new();
    let http = home.folder().join("http.sock");
    let policy = std::fs::read_to_string(home.policy()).unwrap();
    std::fs::write(home.policy(), policy.replace("epoch = 1", "epoch = 2")).unwrap();
    let options = ["--wait", "--http-socket", http.to_str().unwrap()];
    let _server = Server::spawn(&home.path(), &options);
    eventually("it listens", || std::os::unix::net::UnixStream::connect(&http).is_ok());
    let mut web = Web::connect(&http);
    let answer = web.get_as("/auth", "acme_live_1");
    expect_auth(&answer, 503, None, [""; 4]);
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(web.post("/introspect", b"token=a").code, 503);
    let ready = web.get("/health/ready", "");
    assert_eq!((ready.code, &ready.json()["state"]), (503, &json!("unavailable")));
    assert_eq!(web.get("/health/live", "").code, 200);
}

#[test]
fn what_is_told_over_http_is_what_the_socket_tells() {
    let site = Site::new();
    let token = site.issue(&[]);
    let mut web = site.web();
    web.get_as("/auth", &token);
    web.get_as("/auth", "nonsense");
    let status = web.get("/status", "").json();
    assert_eq!(status["http_verdicts"]["valid"], 1);
    assert_eq!(status["http_verdicts"]["malformed"], 1);
    assert_eq!(status["generation"], site.server.status()["generation"]);
    let metrics = web.get("/metrics", "");
    let sort = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.field("content-type"), Some(sort));
    let line = r#"adamant_verify_requests_total{surface="http",verdict="valid"} 1"#;
    assert!(metrics.body.lines().any(|found| found == line), "{}", metrics.body);
    assert!(metrics.body.ends_with("# EOF\n"));
    let ready = web.get("/health/ready", "").json();
    assert_eq!(ready["state"], "ok");
}

#[test]
fn a_caller_may_what_a_rule_says_and_a_header_field_of_its_own_is_heeded() {
    let home = Home::new();
    let http = home.folder().join("http.sock");
    let config = home.folder().join("adamantd.toml");
    std::fs::write(
        &config,
        "http_token_header = \"X-Api-Key\"\n[[caller]]\noperations = [\"verify-tokens\"]\n",
    )
    .unwrap();
    let options = ["--config", config.to_str().unwrap(), "--http-socket", http.to_str().unwrap()];
    let server = Server::spawn(&home.path(), &options);
    server.wait_until_listening();
    let issued = run(&["issue", "--home", home.text(), "--kind", "live", "--subject", "ann"], b"");
    let token = issued.expect_code(0).stdout.trim().to_owned();
    let mut web = Web::connect(&http);
    let lines = format!("X-Api-Key: {token}\r\n");
    eventually("it is served", || web.get("/auth", &lines).code == 200);
    // Not to be told claims: the id alone.
    expect_auth(&web.get("/auth", &lines), 200, None, [&token[11..25], "", "", ""]);
    assert_eq!(Web::connect(&http).post("/introspect", b"token=a").code, 403);
    assert_eq!(web.get("/status", "").code, 403);
    assert_eq!(web.get("/metrics", "").code, 403);
    assert_eq!(web.get("/health/ready", "").code, 200);
}

/// `adamantd` with a loopback socket that was passed to it, as systemd does, and those rules.
fn loopback(home: &Home, rules: &str) -> (Server, u16) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = home.folder().join("loopback.toml");
    let rules = rules.replace("PORT", &port.to_string());
    let settings = format!("http_loopback = [\"127.0.0.1:{port}\"]\nhttp_sockets = []\n{rules}");
    std::fs::write(&config, settings).unwrap();
    // Descriptor 3, for this process: sd_listen_fds(3).
    let script = "exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$@\" 3<&0 < /dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_adamantd"), "--home", home.text()]);
    command.arg("--config").arg(&config);
    let server = Server::spawn_with_input(command, std::os::fd::OwnedFd::from(listener).into());
    eventually("it answers", || server.log().contains("listening for HTTP"));
    (server, port)
}

#[test]
fn loopback_tells_nobody_more_than_it_must() {
    let home = Home::new();
    let issue = |scope: &str| {
        let arguments = ["issue", "--home", home.text(), "--kind", "live", "--scope", scope];
        run(&arguments, b"").expect_code(0).stdout.trim().to_owned()
    };
    let (token, prober) = (issue("orders:read"), issue("adamant:introspect"));
    let rule = "[[caller]]\nsockets = [\"127.0.0.1:PORT\"]\n\
                operations = [\"verify-tokens\", \"claims\", \"status\"]\n";
    let (_server, port) = loopback(&home, rule);
    let mut web = Web::connect_tcp(port);
    let mut ask = |target: &str, host: &str, token: &str| {
        let bearer = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n");
        web.ask(&format!("GET {target} HTTP/1.1\r\n{bearer}\r\n")).code
    };
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"] {
        assert_eq!(ask("/auth?scope=orders:read", &format!("{host}:{port}"), &token), 200);
    }
    let here = format!("127.0.0.1:{port}");
    assert_eq!(ask("/auth?scope=orders:read", &here, &prober), 403);
    // A page in a browser reaches loopback under any name that it likes.
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1", "localhost:1"] {
        assert_eq!(ask("/auth", host, &token), 421, "{host}");
    }
    assert_eq!(ask("/health/ready", &here, ""), 200);
    assert_eq!(ask("/metrics", &here, ""), 404);
    assert_eq!(ask("/status", &here, ""), 404);
    let introspect = |bearer: &str| {
        let form = format!("token={token}");
        let head = format!(
            "POST /introspect HTTP/1.1\r\nHost: {here}\r\n{bearer}Content-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
            form.len()
        );
        Web::connect_tcp(port).ask(&head)
    };
    assert_eq!(introspect("").code, 401);
    assert_eq!(introspect(&format!("Authorization: Bearer {token}\r\n")).code, 401);
    let told = introspect(&format!("Authorization: Bearer {prober}\r\n"));
    assert_eq!((told.code, &told.json()["active"]), (200, &json!(true)));
}

/// The rule that lets all callers in is about those whom the kernel knows.
#[test]
fn without_a_rule_that_names_it_loopback_lets_nobody_in() {
    let home = Home::new();
    let (server, port) = loopback(&home, "");
    let mut web = Web::connect_tcp(port);
    web.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(web.answer().is_none());
    drop(server);
    let wrong = Config::parse("http_loopback = [\"192.0.2.1:80\"]").unwrap_err().to_string();
    assert!(wrong.contains("no loopback address"), "{wrong}");
}

//! The asynchronous client, and the layer on top of it, against the real daemon.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use adamant::claims::Requirement;
use adamant::client::aio::Client;
use adamant::client::fake::Fake;
use adamant::client::tower::{RequireToken, Verified};
use adamant::client::{Answer, Claims, CouldNotAsk};
use adamant::verdict::Verdict;
use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::support::{Home, PATIENCE, Server};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

const TASKS: usize = 64;
const ROUNDS: usize = 200;

/// A token for each task, every other one of which is revoked.
fn half_revoked() -> (Home, Vec<String>) {
    let home = Home::new();
    let tokens = home.issue(TASKS);
    home.build();
    let list = std::fs::read_to_string(home.list()).unwrap();
    let kept: Vec<&str> = list.lines().step_by(2).collect();
    home.build_from(kept.join("\n").as_bytes(), &["--allow-loss", "1000"]).expect_code(0);
    (home, tokens)
}

fn expected(task: usize) -> Verdict {
    if task.is_multiple_of(2) { Verdict::Valid } else { Verdict::Revoked }
}

/// Answers that went to another task would be of another verdict.
#[test]
fn many_tasks_share_a_handle_and_each_gets_its_own_answers() {
    let (home, tokens) = half_revoked();
    let server = Server::start(&home.path());
    runtime().block_on(async {
        let client = Client::with_timeout(server.socket(), PATIENCE);
        let ask = |task: usize| {
            let (client, token) = (client.clone(), tokens[task].clone());
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    let asked = client.verify(token.as_bytes(), &Requirement::any()).await;
                    assert_eq!(asked.unwrap().verdict(), expected(task));
                }
            })
        };
        let tasks: Vec<_> = (0..TASKS).map(ask).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let texts: Vec<&[u8]> = tokens.iter().map(String::as_bytes).collect();
        let many: Vec<&[u8]> = texts.iter().copied().cycle().take(5000).collect();
        let answers = client.verify_many(&many, &Requirement::any()).await.unwrap();
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!(answer.verdict(), expected(at % TASKS));
        }
        let mixed = [texts[0], b"no token", texts[1]];
        let answers = client.verify_many(&mixed, &Requirement::any()).await.unwrap();
        let verdicts: Vec<Verdict> = answers.iter().map(Answer::verdict).collect();
        assert_eq!(verdicts, [Verdict::Valid, Verdict::Malformed, Verdict::Revoked]);
        let with_claims = client.verify_with_claims(texts[0], &Requirement::any()).await.unwrap();
        let Answer::Valid(access) = with_claims else { panic!("{with_claims:?}") };
        assert_eq!(access.claims.unwrap().subject, "customer-42");
        assert!(client.status().await.unwrap().contains("\"state\":\"ok\""));
    });
}

/// A call that is given up leaves its place in the order of replies.
#[test]
fn a_cancelled_call_shifts_no_answer() {
    let (home, tokens) = half_revoked();
    let server = Server::start(&home.path());
    runtime().block_on(async {
        let client = Client::with_timeout(server.socket(), PATIENCE);
        for round in 0..2000 {
            let (given_up, kept) = (round % TASKS, (round + 1) % TASKS);
            let need = Requirement::any();
            let first = client.verify(tokens[given_up].as_bytes(), &need);
            // Polled once, so that it is on its way, and then dropped.
            tokio::select! {
                biased;
                _ = first => {}
                () = std::future::ready(()) => {}
            }
            let answer = client.verify(tokens[kept].as_bytes(), &need).await.unwrap();
            assert_eq!(answer.verdict(), expected(kept), "round {round}");
        }
    });
}

#[test]
fn a_restart_costs_a_connection_and_no_call() {
    let (home, tokens) = half_revoked();
    runtime().block_on(async {
        let mut server = Server::start(&home.path());
        let client = Client::with_timeout(server.socket(), PATIENCE);
        let need = Requirement::any();
        for _ in 0..8 {
            assert!(client.verify(tokens[0].as_bytes(), &need).await.unwrap().is_valid());
        }
        let path = server.socket().to_owned();
        server.signal("TERM");
        server.wait();
        let gone = client.verify(tokens[0].as_bytes(), &need).await;
        assert!(matches!(gone, Err(CouldNotAsk::Connect(_))), "{gone:?}");
        // Another daemon at the same place.
        let mut again = std::process::Command::new(env!("CARGO_BIN_EXE_adamantd"))
            .arg("--home")
            .arg(home.path())
            .arg("--socket")
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        crate::support::eventually("it listens", || path.exists());
        for _ in 0..8 {
            assert!(client.verify(tokens[0].as_bytes(), &need).await.unwrap().is_valid());
        }
        again.kill().unwrap();
        again.wait().unwrap();
    });
}

#[test]
fn a_daemon_that_does_not_answer_costs_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    runtime().block_on(async {
        let timeout = Duration::from_millis(30);
        let client = Client::with_timeout(&socket, timeout);
        let asked = client.verify(b"acme_live_1", &Requirement::any()).await;
        assert!(matches!(asked, Err(CouldNotAsk::Timeout { after }) if after == timeout));
        let nobody = Client::new(folder.path().join("none"));
        let asked = nobody.verify(b"acme_live_1", &Requirement::any()).await;
        assert!(matches!(asked, Err(CouldNotAsk::Connect(_))), "{asked:?}");
    });
}

/// A request to a service behind the layer; gives status, challenge and body.
async fn request(address: std::net::SocketAddr, header: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response.to_ascii_lowercase())
}

#[test]
fn a_service_behind_the_layer_lets_in_whom_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let fake = Fake::listen(&socket).unwrap();
    let claims = |scope: &str| Claims {
        kind: "live".to_owned(),
        scopes: vec![scope.to_owned()],
        subject: "customer-42".to_owned(),
        ..Claims::default()
    };
    fake.trust("reader", claims("orders:read"));
    fake.trust("writer", claims("orders:write"));
    fake.trust("dead", claims("orders:read"));
    fake.revoke("dead");
    runtime().block_on(async {
        let handler = async |Verified(access): Verified| access.claims.unwrap().subject;
        let need = Requirement::any().scope("orders:read");
        let client = Client::with_timeout(&socket, PATIENCE);
        let guarded = get(handler).layer(RequireToken::new(client, need).with_claims());
        let app = Router::new().route("/orders", guarded);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, app).await });

        let challenge = "www-authenticate: bearer";
        let cases: [(&str, &str, Option<&str>); 6] = [
            ("authorization: Bearer reader\r\n", "200", None),
            ("", "401", Some("")),
            ("authorization: Basic reader\r\n", "400", Some(" error=\"invalid_request\"")),
            ("authorization: Bearer dead\r\n", "401", Some(" error=\"invalid_token\"")),
            ("authorization: Bearer nobody\r\n", "401", Some(" error=\"invalid_token\"")),
            ("authorization: Bearer writer\r\n", "403", Some(" error=\"insufficient_scope\"")),
        ];
        for (header, status, error) in cases {
            let response = request(address, header).await.unwrap();
            assert!(response.starts_with(&format!("http/1.1 {status} ")), "{response}");
            match error {
                Some(error) => assert!(response.contains(&format!("{challenge}{error}\r\n"))),
                None => assert!(response.ends_with("customer-42")),
            }
        }
        fake.set_available(false);
        let response = request(address, "authorization: Bearer reader\r\n").await.unwrap();
        assert!(response.starts_with("http/1.1 503 "), "{response}");
    });
}

/// A route that was forgotten is an error of the service, not an open door.
#[test]
fn an_extractor_without_its_layer_answers_500() {
    runtime().block_on(async {
        let app = Router::new().route("/orders", get(async |Verified(_): Verified| "open"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, app).await });
        let response = request(address, "").await.unwrap();
        assert!(response.starts_with("http/1.1 500 "), "{response}");
        assert!(response.contains("not behind the layer requiretoken"), "{response}");
    });
}

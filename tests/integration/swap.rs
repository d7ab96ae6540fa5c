//! Generations are swapped while clients of every sort ask without pause.
//!
//! The oracle: token `n` is taken off the list for generation `3 + n`. So for each answer, token
//! and generation alone say what is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use adamant::claims::Requirement;
use adamant::client::{Answer, Client, Generation};
use adamant::verdict::Verdict;

use crate::support::{Home, PATIENCE, Server, eventually};

const TOKENS: usize = 400;
const ROTATIONS: u64 = 25;
/// The generation in which all tokens are valid.
const FIRST: u64 = 2;

fn expected(token: usize, generation: u64) -> Verdict {
    if generation > FIRST + token as u64 { Verdict::Revoked } else { Verdict::Valid }
}

struct Shared {
    tokens: Vec<String>,
    stop: AtomicBool,
    answers: AtomicU64,
    latest: AtomicU64,
}

impl Shared {
    fn check(&self, token: usize, verdict: Verdict, generation: u64) {
        assert_eq!(verdict, expected(token, generation), "token {token}, generation {generation}");
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.latest.fetch_max(generation, Ordering::Relaxed);
    }

    fn check_answer(&self, token: usize, answer: &Answer) {
        let evidence = match answer {
            Answer::Valid(access) => access.evidence,
            Answer::Denied(denial) => denial.evidence.unwrap(),
        };
        let Generation { number, .. } = evidence.generation;
        self.check(token, answer.verdict(), number);
    }

    fn texts(&self) -> Vec<&[u8]> {
        self.tokens.iter().map(String::as_bytes).collect()
    }
}

fn ask_one(client: &mut Client, shared: &Shared, round: usize) {
    // The tokens that are revoked next, more often than the others.
    let token = if round.is_multiple_of(2) { round / 2 % 30 } else { round % TOKENS };
    let answer = client.verify(shared.tokens[token].as_bytes(), &Requirement::any());
    shared.check_answer(token, &answer.unwrap());
}

fn ask_pipelined(client: &mut Client, shared: &Shared, _: usize) {
    let need = Requirement::any().scope("orders:read");
    let mut pipeline = client.pipeline();
    for token in &shared.tokens[..64] {
        pipeline.push(token.as_bytes(), &need);
    }
    let answers = pipeline.run().unwrap();
    assert_eq!(answers.len(), 64);
    answers.iter().enumerate().for_each(|(token, answer)| shared.check_answer(token, answer));
}

fn ask_batch(client: &mut Client, shared: &Shared, _: usize) {
    let answers = client.verify_many(&shared.texts(), &Requirement::any()).unwrap();
    assert_eq!(answers.len(), TOKENS);
    answers.iter().enumerate().for_each(|(token, answer)| shared.check_answer(token, answer));
}

fn ask_raw(client: &mut Client, shared: &Shared, _: usize) {
    let batch = client.verify_tokens_raw(&shared.texts()[..50], &Requirement::any()).unwrap();
    let generation = batch.evidence.unwrap().generation.number;
    for (token, row) in batch.rows.iter().enumerate() {
        shared.check(token, row.verdict, generation);
    }
}

#[test]
fn no_answer_is_wrong_or_missing_while_generations_are_swapped() {
    let home = Home::new();
    let tokens = home.issue(TOKENS);
    home.build();
    let list: Vec<String> =
        std::fs::read_to_string(home.list()).unwrap().lines().map(str::to_owned).collect();
    let server = Server::start(&home.path());
    let shared = Arc::new(Shared {
        tokens,
        stop: AtomicBool::new(false),
        answers: AtomicU64::new(0),
        latest: AtomicU64::new(0),
    });
    let asks: [fn(&mut Client, &Shared, usize); 4] = [ask_one, ask_pipelined, ask_batch, ask_raw];
    let clients = asks.map(|ask| {
        let (mut client, shared) = (server.client(), Arc::clone(&shared));
        client.set_timeout(PATIENCE);
        thread::spawn(move || {
            let mut round = 0;
            while !shared.stop.load(Ordering::Relaxed) {
                ask(&mut client, &shared, round);
                round += 1;
            }
            round
        })
    });
    for rotation in 1..=ROTATIONS {
        let missing = usize::try_from(rotation).unwrap();
        home.build_from(list[missing..].join("\n").as_bytes(), &[]).expect_code(0);
        let generation = FIRST + rotation;
        eventually("the generation is answered from", || {
            shared.latest.load(Ordering::Relaxed) >= generation
                || clients.iter().any(|c| c.is_finished())
        });
    }
    shared.stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    assert!(shared.answers.load(Ordering::Relaxed) > 10_000);
    // All maps but the last are gone.
    eventually("old tables are unmapped", || mapped_tables(server.pid()) == 2);
}

/// Maps of table and subjects files in a process.
fn mapped_tables(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter(|line| line.contains("/store/tables/")).count()
}

/// Told in HELLO that there are no foreign tokens, a client must hear of it when some come.
#[test]
fn a_client_learns_of_an_import_on_the_same_handle() {
    use sha2::Digest as _;
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let server = Server::start(&home.path());
    let mut client = server.client();
    let verdict = |client: &mut Client, token: &str| {
        client.verify(token.as_bytes(), &Requirement::any()).unwrap().verdict()
    };
    assert_eq!(verdict(&mut client, "old-key-1"), Verdict::Malformed);
    let hash: String =
        sha2::Sha256::digest("old-key-1").iter().map(|b| format!("{b:02x}")).collect();
    let list = std::fs::read_to_string(home.list()).unwrap()
        + &format!("{{\"sha256\":\"{hash}\",\"kind\":\"old\"}}\n");
    home.build_from(list.as_bytes(), &["--high-entropy"]).expect_code(0);
    server.wait_for_generation(3);
    eventually("the old key is valid", || verdict(&mut client, "old-key-1") == Verdict::Valid);
    assert_eq!(verdict(&mut client, &token), Verdict::Valid);
}

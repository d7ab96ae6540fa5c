//! Generations are swapped while clients of every sort ask without pause.
//!
//! The oracle: token `n` is taken off the list for generation `3 + n`. So for each answer, token
//! and generation alone say what is right.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use adamant::claims::Requirement;
use adamant::client::{Answer, Client, Generation};
use adamant::token::Digest;
use adamant::verdict::Verdict;

use crate::support::{Home, PATIENCE, Server, alone, eventually, scaled};

/// Tokens that stay valid to the end.
const SPARED: usize = 100;
/// Tokens that a batch asks of, twice each.
const TOKENS: usize = 400;
/// Digests in a batch; those behind the tokens are of none.
const BATCH: usize = 1024;
/// From here on nothing may grow.
const SETTLED: u64 = 50;
const GROWTH_KIB_MAX: u64 = 1024;
/// Between two questions of a client that has asked enough for a while.
const BETWEEN_QUESTIONS: Duration = Duration::from_micros(200);
/// The generation in which all tokens are valid.
const FIRST: u64 = 2;

fn expected(token: usize, generation: u64) -> Verdict {
    if generation > FIRST + token as u64 { Verdict::Revoked } else { Verdict::Valid }
}

struct Shared {
    tokens: Vec<String>,
    /// Of each token.
    digests: Vec<Digest>,
    strangers: Vec<Digest>,
    stop: AtomicBool,
    answers: AtomicU64,
    /// Answers that are enough for the rotations so far.
    enough: AtomicU64,
    latest: AtomicU64,
}

impl Shared {
    fn check(&self, token: usize, verdict: Verdict, generation: u64) {
        assert_eq!(verdict, expected(token, generation), "token {token}, generation {generation}");
        self.count(1, generation);
    }

    fn count(&self, answers: usize, generation: u64) {
        self.answers.fetch_add(answers as u64, Ordering::Relaxed);
        self.latest.fetch_max(generation, Ordering::Relaxed);
    }

    fn has_enough(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > self.enough.load(Ordering::Relaxed)
    }

    /// So many tokens around the one that is taken off the list next.
    fn window(&self, tokens: usize) -> Range<usize> {
        let taken = self.latest.load(Ordering::Relaxed).saturating_sub(FIRST);
        let middle = usize::try_from(taken).unwrap();
        let from = middle.saturating_sub(tokens / 2).min(self.tokens.len() - tokens);
        from..from + tokens
    }

    fn check_answer(&self, token: usize, answer: &Answer) {
        let evidence = match answer {
            Answer::Valid(access) => access.evidence,
            Answer::Denied(denial) => denial.evidence.unwrap(),
        };
        let Generation { number, .. } = evidence.generation;
        self.check(token, answer.verdict(), number);
    }

    fn texts(&self, window: Range<usize>) -> Vec<&[u8]> {
        self.tokens[window].iter().map(String::as_bytes).collect()
    }
}

fn ask_one(client: &mut Client, shared: &Shared, round: usize) {
    // The tokens that are taken next, more often than the others.
    let token = match round.is_multiple_of(2) {
        true => shared.window(30).start + round / 2 % 30,
        false => round % shared.tokens.len(),
    };
    let answer = client.verify(shared.tokens[token].as_bytes(), &Requirement::any());
    shared.check_answer(token, &answer.unwrap());
}

fn ask_pipelined(client: &mut Client, shared: &Shared, _: usize) {
    let need = Requirement::any().scope("orders:read");
    let window = shared.window(64);
    let mut pipeline = client.pipeline();
    for token in &shared.tokens[window.clone()] {
        pipeline.push(token.as_bytes(), &need);
    }
    let answers = pipeline.run().unwrap();
    assert_eq!(answers.len(), 64);
    window.zip(&answers).for_each(|(token, answer)| shared.check_answer(token, answer));
}

/// Digests, as a service that hashes for itself: each token twice, then strangers.
fn ask_batch(client: &mut Client, shared: &Shared, round: usize) {
    let window = shared.window(TOKENS);
    let ours = &shared.digests[window.clone()];
    let digests = [ours, ours, &shared.strangers].concat();
    let batch = client.verify_digests(&digests, &Requirement::any()).unwrap();
    let generation = batch.evidence.unwrap().generation.number;
    for (at, row) in batch.rows.iter().enumerate() {
        let right = match at < 2 * TOKENS {
            true => expected(window.start + at % TOKENS, generation),
            false => Verdict::Unknown,
        };
        assert_eq!(row.verdict, right, "round {round}");
    }
    shared.count(batch.rows.len(), generation);
}

fn ask_raw(client: &mut Client, shared: &Shared, _: usize) {
    let window = shared.window(50);
    let texts = shared.texts(window.clone());
    let batch = client.verify_tokens_raw(&texts, &Requirement::any()).unwrap();
    let generation = batch.evidence.unwrap().generation.number;
    for (token, row) in window.zip(&batch.rows) {
        shared.check(token, row.verdict, generation);
    }
}

/// Promises 1 and 12.
#[test]
fn no_answer_is_wrong_or_missing_over_300_rotations_and_nothing_grows() {
    let lookups_min = scaled(30_000_000, 1_000_000_000);
    // Each revokes a token.
    let rotations = scaled(300, 10_000);
    let _alone = alone();
    let home = Home::new();
    let tokens = home.issue(usize::try_from(rotations).unwrap() + SPARED);
    home.build();
    let list: Vec<String> =
        std::fs::read_to_string(home.list()).unwrap().lines().map(str::to_owned).collect();
    let server = Server::start(&home.path());
    let domain = home.domain();
    let shared = Arc::new(Shared {
        digests: tokens.iter().map(|it| domain.digest(it.as_bytes()).unwrap()).collect(),
        strangers: (0..BATCH - 2 * TOKENS)
            .map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes())
            .collect(),
        tokens,
        stop: AtomicBool::new(false),
        answers: AtomicU64::new(0),
        enough: AtomicU64::new(0),
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
                if shared.has_enough() {
                    // Not to rest, but because the builder needs a core: it is asked on, less often.
                    thread::sleep(BETWEEN_QUESTIONS);
                }
            }
            round
        })
    });
    let watching = {
        let (shared, pid) = (Arc::clone(&shared), server.pid());
        thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                let bases = mapped_bases(pid);
                assert!(bases <= 2, "{bases} bases are mapped at once");
            }
        })
    };
    let mut settled = None;
    for rotation in 1..=rotations {
        shared.enough.store(lookups_min / rotations * rotation, Ordering::Relaxed);
        let missing = usize::try_from(rotation).unwrap();
        home.build_from(list[missing..].join("\n").as_bytes(), &[]).expect_code(0);
        let generation = FIRST + rotation;
        eventually("the generation is answered from", || {
            shared.latest.load(Ordering::Relaxed) >= generation
                || clients.iter().any(|c| c.is_finished())
        });
        if rotation == SETTLED {
            settled = Some(Usage::settled(&server));
        }
    }
    let (before, after) = (settled.unwrap(), Usage::settled(&server));
    shared.enough.store(u64::MAX, Ordering::Relaxed);
    eventually("enough was asked", || {
        shared.answers.load(Ordering::Relaxed) >= lookups_min
            || clients.iter().any(|c| c.is_finished())
    });
    shared.stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    watching.join().unwrap();
    let answers = shared.answers.load(Ordering::Relaxed);
    println!("{answers} answers over {rotations} rotations; {before:?}, then {after:?}");
    assert!(answers >= lookups_min);
    assert_eq!((before.descriptors, before.maps), (after.descriptors, after.maps));
    assert!(after.private_kib <= before.private_kib + GROWTH_KIB_MAX, "{before:?} {after:?}");
}

/// What a process holds.
#[derive(Debug)]
struct Usage {
    private_kib: u64,
    descriptors: usize,
    /// Files of tables and subjects that are mapped.
    maps: usize,
}

impl Usage {
    /// When the tables of the generation before are unmapped.
    fn settled(server: &Server) -> Usage {
        let pid = server.pid();
        eventually("old tables are unmapped", || mapped_tables(pid) == 2);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        Usage {
            private_kib: line.trim().trim_end_matches(" kB").parse().unwrap(),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            maps: mapped_tables(pid),
        }
    }
}

fn mapped_bases(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let names = maps.lines().filter_map(|line| line.split_once("/store/tables/"));
    let bases: BTreeSet<&str> =
        names.map(|(_, name)| name).filter(|n| n.contains(".tbl")).collect();
    bases.len()
}

/// Maps of table and subjects files in a process.
fn mapped_tables(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter(|line| line.contains("/store/tables/")).count()
}

/// What was served on under another policy used to be retired at once, and again when another took
/// its place: neither it nor anything that came after it was ever unmapped.
#[test]
fn a_policy_that_changes_under_a_generation_leaves_none_mapped() {
    let home = Home::new();
    home.issue(2);
    home.build();
    let server = Server::start(&home.path());
    let before = server.generation();
    let policy = std::fs::read_to_string(home.policy()).unwrap();
    let new = home.folder().join("policy.toml");
    std::fs::write(&new, policy.replace("\"refuse\"", "\"serve-flagged\"")).unwrap();
    std::fs::rename(&new, home.policy()).unwrap();
    eventually("the policy is the new one", || server.status()["stale_policy"] != "refuse");
    for generation in before + 1..=before + 2 {
        home.issue(1);
        home.build();
        server.wait_for_generation(generation);
    }
    eventually("old tables are unmapped", || mapped_tables(server.pid()) == 2);
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

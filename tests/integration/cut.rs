//! Promise 13: a file that is cut or overwritten while it is served.
//!
//! Two homes share their keys: one publishes, and its store is delivered to the other, which is
//! served and damaged.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adamant::claims::Requirement;
use adamant::client::{Answer, Client};
use adamant::verdict::Verdict;

use crate::support::{Home, PATIENCE, Server, alone, can_be_others, eventually, public_copy};

const ROUNDS: u64 = 100;
/// Enough for a few pages of records.
const TOKENS: usize = 300;

/// The table, or the subjects file, of what is current.
fn current(home: &Home, extension: &str) -> PathBuf {
    let manifest = fs::read_to_string(home.store().join("manifest")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("table ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let hash = if extension == "tbl" { words[1] } else { words[7] };
    home.store().join("tables").join(format!("{hash}.{extension}"))
}

fn cut(file: &File, round: u64) {
    file.set_len(round % 3 * 4096).unwrap();
}

fn overwrite(file: &File, round: u64) {
    let noise = blake3::hash(&round.to_le_bytes());
    let noise = noise.as_bytes().repeat(128);
    let mut at = 0;
    while at < file.metadata().unwrap().len() {
        file.write_all_at(&noise, at).unwrap();
        at += noise.len() as u64;
    }
}

/// Asks without pause, and takes nothing but the right answers.
fn ask_while(asking: &AtomicBool, mut client: Client, tokens: &[String]) -> u64 {
    let texts: Vec<&[u8]> = tokens.iter().map(String::as_bytes).collect();
    let mut asked = 0;
    while asking.load(Ordering::Relaxed) {
        let answers = client.verify_many(&texts, &Requirement::any()).unwrap();
        assert!(answers.iter().all(|answer| answer.verdict() == Verdict::Valid));
        asked += 1;
    }
    asked
}

/// Damages what is served `ROUNDS` times while a client asks.
fn damage_under(config: &str, protection: &str, protection_after: &str) {
    let _alone = alone();
    let publisher = Home::new();
    let served = publisher.copy();
    let tokens = publisher.issue(TOKENS);
    publisher.build();
    publisher.deliver_to(&served);
    let server = Server::configured(&served.path(), config);
    let asking = AtomicBool::new(true);
    thread::scope(|scope| {
        let mut client = server.client();
        client.set_timeout(PATIENCE);
        let client = scope.spawn(|| ask_while(&asking, client, &tokens));
        for round in 0..ROUNDS {
            if round > 0 {
                publisher.issue(1);
                publisher.build();
                publisher.deliver_to(&served);
                server.wait_for_generation(2 + round);
            }
            assert_eq!(server.status()["protection"], protection);
            let extension = if round % 4 < 2 { "tbl" } else { "sub" };
            let mut writing = OpenOptions::new();
            let file = writing.write(true).open(current(&served, extension)).unwrap();
            if round % 2 == 0 {
                cut(&file, round)
            } else {
                overwrite(&file, round)
            }
            drop(file);
            assert_eq!(server.status()["protection"], protection_after);
            assert_eq!(server.status()["state"], "ok");
        }
        asking.store(false, Ordering::Relaxed);
        assert!(client.join().unwrap() > ROUNDS);
    });
}

#[test]
fn a_mapped_file_that_is_cut_or_overwritten_harms_nobody() {
    damage_under("", "lease", "copy");
}

#[test]
fn a_copied_file_that_is_cut_or_overwritten_is_not_noticed() {
    damage_under("load = \"copy\"\n", "copy", "copy");
}

/// A file that somebody is writing is no file to map.
#[test]
fn a_file_that_is_open_for_writing_is_refused_until_it_is_closed() {
    let publisher = Home::new();
    let served = publisher.copy();
    publisher.issue(1);
    publisher.build();
    publisher.deliver_to(&served);
    let open = OpenOptions::new().write(true).open(current(&served, "tbl")).unwrap();
    let server = Server::start(&served.path());
    let status = server.status();
    assert_eq!(status["generation"], 1);
    let refused = status["refused"].as_str().unwrap();
    assert!(refused.contains("somebody has it open for writing"), "{refused}");
    drop(open);
    server.signal("HUP");
    server.wait_for_generation(2);
}

/// A daemon that neither owns the files of the home nor has CAP_LEASE. `folder` is for its program.
fn serve_without_lease(home: &Home, folder: &Path) -> Server {
    let daemon = public_copy(env!("CARGO_BIN_EXE_adamantd"), folder);
    let chown = Command::new("chown").args(["-R", "5001"]).arg(home.path().join("state")).status();
    assert!(chown.unwrap().success());
    let_all_read(home);
    let server = Server::spawn_as(&home.path(), 5001, &daemon);
    eventually("it serves", || server.log().contains("listening"));
    server
}

fn let_all_read(home: &Home) {
    let mut open = Command::new("chmod");
    let open = open.args(["-R", "a+rX"]).args([home.folder(), &home.path()]).status();
    assert!(open.unwrap().success());
}

/// Whoever neither owns the files nor has CAP_LEASE serves nevertheless, and says so.
#[test]
fn without_a_lease_the_status_says_so() {
    if !can_be_others() {
        return;
    }
    let home = Home::new();
    home.issue(1);
    home.build();
    let folder = crate::support::public_folder();
    let server = serve_without_lease(&home, folder.path());
    assert!(server.log().contains("only owner and mode protect the tables"), "{}", server.log());
    let status = server.status();
    assert_eq!(
        (status["protection"].as_str(), status["generation"].as_u64()),
        (Some("mode"), Some(2))
    );
}

/// A file that is cut under the map, where no lease keeps anybody away: right answers or
/// `unavailable`, the process alive, and the next generation is served.
#[test]
fn a_file_that_is_cut_without_a_lease_costs_no_wrong_answer() {
    if !can_be_others() {
        return;
    }
    let _alone = alone();
    let publisher = Home::new();
    let served = publisher.copy();
    let tokens = publisher.issue(TOKENS);
    publisher.build();
    publisher.deliver_to(&served);
    let folder = crate::support::public_folder();
    let server = serve_without_lease(&served, folder.path());
    let mut client = server.client();
    let need = Requirement::any();
    for round in 0..ROUNDS {
        if round > 0 {
            publisher.issue(1);
            publisher.build();
            publisher.deliver_to(&served);
            let_all_read(&served);
            server.signal("HUP");
            server.wait_for_generation(2 + round);
        }
        assert_eq!(server.status()["state"], "ok");
        // Where who they are for is asked for too, the file of the subjects is read.
        let extension = if round % 2 == 0 { "tbl" } else { "sub" };
        let file = OpenOptions::new().write(true).open(current(&served, extension)).unwrap();
        cut(&file, round);
        let mut lost = false;
        for token in tokens.iter().cycle().take(2 * TOKENS) {
            match client.verify_with_claims(token.as_bytes(), &need) {
                Ok(Answer::Valid(access)) => {
                    let claims = access.claims.expect("they were asked for");
                    assert_eq!(claims.subject, "customer-42", "round {round}");
                }
                Ok(Answer::Denied(denial)) => panic!("round {round}: {}", denial.verdict),
                Err(_) => lost = true,
            }
            if lost {
                break;
            }
        }
        assert!(lost, "round {round}: the file was cut, and nobody noticed");
        assert_eq!(server.status()["state"], "unavailable");
    }
}

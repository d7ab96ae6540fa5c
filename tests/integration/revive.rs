//! Law 3 against somebody who has the build signer's key: every way to bring a revoked token back to
//! a host that has seen it revoked. None may work, not even for a moment, nor after a restart.
//!
//! The thief has a copy of the home from before the revocation, and goes on from there.

use std::fs;

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::manifest::Manifest;
use adamant::note::sign;
use adamant::signers::Signer;
use adamant::verdict::Verdict;

use crate::ledger::{id_of, issue, on};
use crate::support::{Home, PATIENCE, Server, eventually};

/// A host that has seen a token revoked, and a thief's home in which it never was.
struct Setting {
    owner: Home,
    host: Home,
    thief: Home,
    server: Server,
    token: String,
}

impl Setting {
    fn new() -> Setting {
        let owner = Home::new();
        let (token, _) = issue(&owner, &[]);
        let thief = owner.copy();
        on(&owner, &["revoke", id_of(&token), "--reason", "compromised"]).expect_code(0);
        let host = owner.copy();
        let server = Server::start(&host.path());
        let setting = Setting { owner, host, thief, server, token };
        assert_eq!(setting.verdict(), Some(Verdict::Revoked));
        setting
    }

    /// `None`: unavailable.
    fn verdict(&self) -> Option<Verdict> {
        let mut client = Client::with_timeout(self.server.socket(), PATIENCE).unwrap();
        let answer = client.verify(self.token.as_bytes(), &Requirement::any());
        answer.ok().map(|answer| answer.verdict())
    }

    /// The thief publishes until its generation is above the host's.
    fn outrun(&self) {
        for _ in 0..3 {
            issue(&self.thief, &[]);
        }
        assert!(generation(&self.thief) > self.server.generation());
    }

    /// Never valid: by the daemon that saw it revoked, and by one that starts anew.
    #[track_caller]
    fn stays_dead(&mut self, reason: &str) {
        self.server.signal("HUP");
        eventually(reason, || {
            assert_ne!(self.verdict(), Some(Verdict::Valid));
            self.server.status()["refused"].to_string().contains(reason)
        });
        assert_eq!(self.verdict(), Some(Verdict::Revoked));
        self.server.signal("TERM");
        self.server.wait();
        self.server = Server::spawn(&self.host.path(), &["--wait"]);
        self.server.wait_until_listening();
        for _ in 0..3 {
            self.server.signal("HUP");
            assert_ne!(self.verdict(), Some(Verdict::Valid), "after a restart");
        }
    }
}

fn generation(home: &Home) -> u64 {
    manifest_of(home).generation
}

fn manifest_of(home: &Home) -> Manifest {
    let note = fs::read_to_string(home.store().join("manifest")).unwrap();
    let (text, _) = note.rsplit_once("\n\n").unwrap();
    Manifest::parse(&format!("{text}\n"), "acme/adamant").unwrap()
}

/// Puts a manifest into the host's store, signed with the key that was stolen.
fn place(setting: &Setting, manifest: &Manifest) {
    let key = setting.thief.path().join("signers/build.key");
    let note = sign(&manifest.to_text(), &[&Signer::load(&key).unwrap()]);
    let new = setting.host.store().join("new");
    fs::write(&new, note).unwrap();
    fs::rename(&new, setting.host.store().join("manifest")).unwrap();
}

#[test]
fn a_history_without_the_revocation_is_refused() {
    let mut setting = Setting::new();
    setting.outrun();
    setting.thief.deliver_to(&setting.host);
    setting.stays_dead("was revoked and is trusted again");
}

/// The owner's newest overlay left out: the older base alone, under a higher number.
#[test]
fn the_base_from_before_under_a_higher_number_is_refused() {
    let mut setting = Setting::new();
    let mut manifest = manifest_of(&setting.owner);
    assert!(manifest.tables.len() > 1, "the revocation is in an overlay");
    let overlay = manifest.tables.pop().unwrap();
    let base_end = overlay.range.0;
    manifest.generation += 1;
    manifest.ledger.0 = base_end;
    place(&setting, &manifest);
    // The revocation's overlay also had the token, which was too young for a base.
    setting.stays_dead("is missing before 30 days after its expiry");
}

/// An overlay above the revocation that says that the token lives.
#[test]
fn an_overlay_that_revives_what_lies_beneath_is_refused() {
    let mut setting = Setting::new();
    // The thief's overlay has the token alive; the owner's, with the revocation, goes beneath it.
    setting.outrun();
    let (owner, thief) = (manifest_of(&setting.owner), manifest_of(&setting.thief));
    let mut manifest = thief.clone();
    let mut upper = thief.tables.last().unwrap().clone();
    let beneath = owner.tables.last().unwrap().clone();
    upper.range = (beneath.range.1, thief.ledger.0.max(beneath.range.1 + 1));
    manifest.ledger.0 = upper.range.1;
    manifest.tables = [&owner.tables[..], &[upper]].concat();
    manifest.generation += 1;
    setting.thief.deliver_to(&setting.host);
    place(&setting, &manifest);
    // A table says itself which range of the ledger it is for.
    setting.stays_dead("records or range are not those");
}

/// A new epoch is the policy's to give, and a thief has no policy.
#[test]
fn a_higher_epoch_without_a_policy_is_refused() {
    let mut setting = Setting::new();
    setting.outrun();
    let policy = fs::read_to_string(setting.thief.policy()).unwrap();
    fs::write(setting.thief.policy(), policy.replace("epoch = 1", "epoch = 2")).unwrap();
    on(&setting.thief, &["publish", "--renew"]).expect_code(0);
    setting.thief.deliver_to(&setting.host);
    setting.stays_dead("epoch 2");
}

/// The manifest that was current before, again: the mark, and no comparison of tables.
#[test]
fn the_generation_from_before_the_revocation_is_refused() {
    let mut setting = Setting::new();
    setting.thief.deliver_to(&setting.host);
    setting.stays_dead("older than");
}

//! What the tests of schedules run in: a store with five generations and two notes, which is made
//! once a test, and a host that is made anew for every schedule.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use signal_hook::consts::SIGIO;

use super::super::answer::{Asker, Batch, Told};
use super::super::sync;
use super::super::{Caller, Config, Live, Loader};
use crate::builder::{self, Options};
use crate::claims::Requirement;
use crate::durable;
use crate::policy::{Policy, Role, Stale, TrustedSigner};
use crate::revocations::Revocation;
use crate::signers::Signer;
use crate::store::{Generation, Home, Layer};
use crate::table::format::Reason;
use crate::time::TableTime;
use crate::token::{Digest, Token};
use crate::verdict::Verdict;
use crate::wire::{Reply, push_verify};

/// The generations, of which the second has the base of the first. All but the last are signed by
/// the first of two signers alone, and the last by the second.
pub(super) const LAST: u64 = 5;
/// What a token is revoked by.
#[derive(Clone, Copy)]
enum By {
    Generation(u64),
    Note(u64),
    Nothing,
}
/// The tokens, each revoked by something else.
const TOKENS: [By; 6] = [
    By::Generation(3),
    By::Generation(4),
    By::Generation(LAST),
    By::Nothing,
    By::Note(1),
    By::Note(2),
];
/// The place of the token that the first note revokes, and of that which nothing does.
pub(super) const NOTED: usize = 4;
pub(super) const SOUND: usize = 3;

/// What a generation and a note say of each token.
fn expected(generation: u64, note: u64) -> Vec<Verdict> {
    let is_revoked = |by: &By| match *by {
        By::Generation(first) => generation >= first,
        By::Note(first) => note >= first,
        By::Nothing => false,
    };
    let verdict = |by: &By| if is_revoked(by) { Verdict::Revoked } else { Verdict::Valid };
    TOKENS.iter().map(verdict).collect()
}

/// All that is published in the course of time.
pub(super) struct Published {
    folder: tempfile::TempDir,
    policy: Policy,
    digests: Vec<Digest>,
    manifests: Vec<Vec<u8>>,
    notes: Vec<Vec<u8>>,
}

impl Published {
    pub(super) fn make() -> Published {
        // What every daemon does before it serves.
        signal_hook::flag::register(SIGIO, Arc::default()).unwrap();
        crate::table::guard_maps().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("home");
        let prefix = "acme".parse().unwrap();
        let home = Home::init(&root, prefix, "acme/adamant").unwrap();
        let second = Signer::generate("acme/adamant/second").unwrap();
        let mut policy = home.policy().clone();
        policy.signers.push(TrustedSigner {
            key: second.verifier_key(),
            roles: vec![Role::Build],
            valid_from: None,
            valid_until: None,
        });
        fs::write(home.policy_path(), policy.to_toml()).unwrap();
        let home = Home::open(&root).unwrap();
        let tokens: Vec<Token> =
            TOKENS.iter().map(|_| Token::mint(prefix, "live".parse().unwrap()).unwrap()).collect();
        let digests: Vec<_> = tokens.iter().map(|token| token.digest(&policy.domain.key)).collect();
        let mut manifests = Vec::new();
        for generation in 1..=LAST {
            if generation == LAST {
                fs::rename(root.join("signers/build.key"), root.join("first")).unwrap();
                let key = second.to_file();
                durable::write(&root.join("signers"), "second.key", key.as_bytes(), 0o600).unwrap();
            }
            if generation == 2 {
                builder::renew(&home).unwrap();
            } else {
                let options = Options { first: generation == 1, ..Options::default() };
                let list = list(&tokens, generation);
                builder::build(&home, &mut list.as_bytes(), &options, &mut |_| {}).unwrap();
            }
            manifests.push(home.store().read_manifest().unwrap().unwrap());
        }
        let mut notes = Vec::new();
        for digest in &digests[NOTED..] {
            let revocation =
                Revocation { digest: *digest, at: TableTime(1), reason: Reason::Other };
            home.revoke_by_note(vec![revocation]).unwrap();
            notes.push(fs::read(home.store().revocations_path()).unwrap());
        }
        Published { folder, policy, digests, manifests, notes }
    }

    fn tables(&self) -> PathBuf {
        self.folder.path().join("home/store/tables")
    }
}

/// A list as it was before a generation.
fn list(tokens: &[Token], generation: u64) -> String {
    let line = |(token, verdict): (&Token, Verdict)| {
        let revoked = match verdict {
            Verdict::Valid => "",
            _ => r#","revoked_at":"2020-06-01T00:00:00Z""#,
        };
        format!("{{\"token\":\"{}\"{revoked}}}\n", token.expose())
    };
    tokens.iter().zip(expected(generation, 0)).map(line).collect()
}

/// A host with a store of its own.
pub(super) struct World {
    folder: tempfile::TempDir,
    published: Arc<Published>,
}

impl World {
    /// A host that was delivered the first generation.
    pub(super) fn new(published: &Arc<Published>) -> World {
        let published = Arc::clone(published);
        let world = World { folder: tempfile::tempdir().unwrap(), published };
        fs::create_dir(world.at("state")).unwrap();
        fs::create_dir(world.at("store")).unwrap();
        symlink(world.published.tables(), world.at("store/tables")).unwrap();
        world.set_policy(|_| {});
        world.publish(1);
        world
    }

    /// Replaces the tables, which the worlds share, by copies that may be written to.
    pub(super) fn with_own_tables(self) -> World {
        let tables = self.at("store/tables");
        fs::remove_file(&tables).unwrap();
        fs::create_dir(&tables).unwrap();
        for entry in fs::read_dir(self.published.tables()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), tables.join(entry.file_name())).unwrap();
        }
        self
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn publish(&self, generation: u64) {
        let at = usize::try_from(generation).unwrap() - 1;
        self.replace("store/manifest", &self.published.manifests[at]);
    }

    pub(super) fn note(&self, sequence: u64) {
        let at = usize::try_from(sequence).unwrap() - 1;
        self.replace("store/revocations", &self.published.notes[at]);
    }

    fn set_policy(&self, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.published.policy.clone();
        change(&mut policy);
        self.replace("policy.toml", policy.to_toml().as_bytes());
    }

    /// Withdraws the signer of all generations but the last.
    pub(super) fn withdraw(&self) {
        self.set_policy(|policy| {
            let build = |signer: &&mut TrustedSigner| signer.roles == [Role::Build];
            policy.signers.iter_mut().find(build).unwrap().valid_until = Some(1);
        });
    }

    /// Lets what is stale be served, or not.
    pub(super) fn set_stale(&self, stale: Stale) {
        self.set_policy(|policy| policy.stale = stale);
    }

    fn replace(&self, path: &str, bytes: &[u8]) {
        let (path, new) = (self.at(path), self.at(&format!("{path}.new")));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(super) fn loader(&self) -> Loader {
        Loader::begin(Config::of_home(self.folder.path())).unwrap()
    }

    /// The table of a generation's base.
    pub(super) fn base_file(generation: &Generation) -> String {
        format!("store/tables/{}.tbl", crate::manifest::hex(&generation.base().line.hash))
    }
}

/// An answer, which was right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) generation: u64,
    pub(super) note: u64,
    pub(super) is_available: bool,
    verdicts: [Verdict; TOKENS.len()],
}

impl Answer {
    pub(super) fn of(&self, token: usize) -> Verdict {
        self.verdicts[token]
    }
}

/// Asks about all tokens, as a connection of a worker does.
pub(super) struct Reader {
    live: Arc<Live>,
    batch: Batch,
    told: Told,
    caller: Arc<Caller>,
    request: Vec<u8>,
    last: (u64, u64),
}

impl Reader {
    pub(super) fn new(world: &World, live: &Arc<Live>) -> Reader {
        let mut request = Vec::new();
        let digests = &world.published.digests;
        push_verify(&mut request, true, &Requirement::any(), digests).unwrap();
        Reader {
            live: Arc::clone(live),
            batch: Batch::default(),
            told: Some(None),
            caller: Arc::new(Caller::anybody()),
            request: request.split_off(size_of::<u32>()),
            last: (0, 0),
        }
    }

    /// One tick of a worker: takes what is served, and answers from it. The answer is what the
    /// generation and the note that it names have for each token, and nothing went back.
    pub(super) fn ask(&mut self) -> Answer {
        let serving = self.live.serving();
        let Reader { batch, told, caller, .. } = self;
        let asker = Asker { connection: 0, caller, is_own: false };
        batch.plan(&asker, told, &self.request, &serving);
        // Other connections are read meanwhile.
        sync::step();
        let mut out = Vec::new();
        batch.answer(&self.live, &serving, |_, reply| reply(&mut out));
        batch.clear();
        let read = serving.generation.as_ref().map(Arc::downgrade);
        drop(serving);
        let is_gone = read.is_some_and(|generation| generation.strong_count() == 0);
        assert!(!is_gone, "it is not for a worker to unmap what it has read");
        self.check(&out[size_of::<u32>()..])
    }

    fn check(&mut self, body: &[u8]) -> Answer {
        let Reply::Verdicts(reply) = Reply::decode(body).unwrap() else { panic!("no verdicts") };
        let verdicts: Vec<_> = reply.rows.map(|row| row.verdict).collect();
        let (generation, note) = (reply.head.generation, reply.head.revocations);
        let is_available = verdicts[SOUND] != Verdict::Unavailable;
        match is_available {
            true => assert_eq!(verdicts, expected(generation, note), "{generation} {note}"),
            false => assert_eq!(verdicts, [Verdict::Unavailable; TOKENS.len()]),
        }
        let (before, now) = (self.last, (generation, note));
        assert!(before.0 <= now.0 && before.1 <= now.1, "back from {before:?} to {now:?}");
        self.last = now;
        let verdicts = verdicts.try_into().unwrap();
        Answer { generation, note, is_available, verdicts }
    }
}

/// Everything that was seen to be served.
#[derive(Default)]
pub(super) struct Seen {
    generations: Vec<Weak<Generation>>,
    bases: Vec<Weak<Layer>>,
}

impl Seen {
    pub(super) fn from(live: &Live) -> Seen {
        let mut seen = Seen::default();
        seen.look(live);
        seen
    }

    pub(super) fn look(&mut self, live: &Live) {
        let serving = live.serving();
        let Some(generation) = &serving.generation else { return };
        let (seen, base) = (Arc::downgrade(generation), Arc::downgrade(generation.base()));
        if !self.generations.iter().any(|other| other.ptr_eq(&seen)) {
            self.generations.push(seen);
        }
        if !self.bases.iter().any(|other| other.ptr_eq(&base)) {
            self.bases.push(base);
        }
    }

    pub(super) fn bases_alive(&self) -> usize {
        self.bases.iter().filter(|base| base.strong_count() > 0).count()
    }

    /// Waits until so many are alive: where more stay, the schedule never ends, and fails.
    pub(super) fn wait_until_alive(&self, count: usize) {
        let alive = || self.generations.iter().filter(|it| it.strong_count() > 0).count();
        while alive() > count || self.bases_alive() > count {
            sync::thread::yield_now();
        }
    }
}

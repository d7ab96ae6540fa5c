//! Published means durable: every command is recorded once, and then the power is cut between any
//! two of its calls. What the disk may have then is written out as an image, many for each cut; each
//! must have what was acknowledged, verify whole, and carry on.
//!
//! The manner is that of ALICE and CrashMonkey; `storage.rs` says what a disk may lose, and
//! `recording.rs` where the calls come from.

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use adamant::audit::{Means, audit};
use adamant::builder;
use adamant::claims::Grant;
use adamant::issuing::{Registrar, Wanted};
use adamant::ledger::Origin;
use adamant::store;
use adamant::token::{Token, TokenId};

use crate::ledger::{id_of, on};
use crate::recording::{Event, Recording};
use crate::storage::{Choice, Disk, Image};
use crate::support::{Home, alone};

const CHECKPOINT: &str = "store/ledger/checkpoint";
const MANIFEST: &str = "store/manifest";

/// What whoever ran the command may rely on at a moment.
#[derive(Clone, Default)]
struct Promised {
    /// The checkpoint that programs saw when something was said last: the ledger continues it.
    checkpoint: Vec<u8>,
    /// Tokens that were shown.
    issued: Vec<TokenId>,
    /// Tokens of which it was said that they are revoked.
    revoked: Vec<TokenId>,
    /// The last generation that was named.
    generation: u64,
    /// Manifests that were current so far.
    manifests: HashSet<Vec<u8>>,
    /// How often something was said.
    times: usize,
}

/// A command, with the tokens that it revokes.
struct Command<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
    revokes: Vec<TokenId>,
}

/// Commands on one home. What one of them has left without an fsync may be lost in the next.
struct Story {
    home: Home,
    disk: Disk,
    promised: Promised,
}

impl Story {
    fn of(home: Home) -> Story {
        let disk = Disk::of(&home.path());
        let mut promised = Promised { generation: 1, ..Promised::default() };
        promised.checkpoint = fs::read(home.path().join(CHECKPOINT)).unwrap();
        promised.manifests.insert(fs::read(home.path().join(MANIFEST)).unwrap());
        Story { home, disk, promised }
    }

    /// Records a command, and gives it with what was promised before each of its events.
    fn record(&mut self, command: &Command<'_>) -> (Recording, Vec<Promised>) {
        let path = self.home.path();
        let recording = Recording::of(command.name, command.arguments, &path, &mut self.disk);
        let seen = self.disk.image(&mut Choice::Everything);
        let differences = seen.differences(&Disk::of(&path).image(&mut Choice::Everything));
        assert!(differences.is_empty(), "{}: not recorded: {differences:#?}", command.name);
        let mut disk = recording.before.clone();
        let mut promised = vec![self.promised.clone()];
        for (at, event) in &recording.events {
            match event {
                Event::Called(call) => disk.make(*at, call),
                Event::Said(text) => self.promised.hear(text, command, &disk),
            }
            let manifest = disk.image(&mut Choice::Everything).file(MANIFEST).unwrap().to_vec();
            self.promised.manifests.insert(manifest);
            promised.push(self.promised.clone());
        }
        assert!(self.promised.times > promised[0].times, "{} said nothing", command.name);
        (recording, promised)
    }
}

impl Promised {
    fn hear(&mut self, text: &str, command: &Command<'_>, disk: &Disk) {
        let seen = disk.image(&mut Choice::Everything);
        self.checkpoint = seen.file(CHECKPOINT).unwrap().to_vec();
        let tokens = text.lines().filter(|line| line.starts_with("acme_"));
        self.issued.extend(tokens.map(|token| id_of(token).parse::<TokenId>().unwrap()));
        self.revoked.extend(&command.revokes);
        let named = text.split_once("generation ").map(|(_, rest)| rest);
        let digits = named.and_then(|rest| rest.split([':', '\n']).next());
        // Where it is `in no generation yet`, none is named.
        if let Some(generation) = digits.and_then(|digits| digits.parse().ok()) {
            self.generation = generation;
        }
        self.times += 1;
    }
}

/// How thoroughly a command is looked at.
#[derive(Clone, Copy)]
struct Effort {
    /// Seeded images for each cut.
    seeds: u64,
    /// One in so many of these is audited as well.
    audited: u64,
}

/// Cuts the power at each moment of a command. Gives how many different images that made.
fn cut_everywhere(recording: &Recording, promised: &[Promised], effort: Effort) -> usize {
    let next = AtomicUsize::new(0);
    let seen: Mutex<HashSet<(u64, usize)>> = Mutex::default();
    let work = || {
        let (mut disk, mut made) = (recording.before.clone(), 0);
        let folder = scratch();
        loop {
            let cut = next.fetch_add(1, Ordering::Relaxed);
            let Some(promised) = promised.get(cut) else { return };
            for (at, event) in &recording.events[made..cut] {
                if let Event::Called(call) = event {
                    disk.make(*at, call);
                }
            }
            made = cut;
            let seeds = if disk.pending() == 0 { 0 } else { effort.seeds };
            for number in 0..seeds + 2 {
                let seed = (cut as u64) << 32 | number;
                let image = disk.image(&mut choice(number, seed));
                if !seen.lock().unwrap().insert((image.fingerprint(), promised.times)) {
                    continue;
                }
                let root = folder.path().join("home");
                fs::create_dir(&root).unwrap();
                image.write_to(&root);
                let is_audited = number < 2 || number % effort.audited == 0;
                let checked = catch_unwind(AssertUnwindSafe(|| check(&root, promised, is_audited)));
                let said = match checked {
                    Ok(Ok(())) => {
                        fs::remove_dir_all(&root).unwrap();
                        continue;
                    }
                    Ok(Err(said)) => said,
                    Err(_) => "it panicked".to_owned(),
                };
                panic!("{}", report(recording, cut, number, &disk, &image, &said));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    seen.into_inner().unwrap().len()
}

/// As many as there are cores where all tests run.
const WORKERS: usize = 2;

/// In memory where there is such a place: images are written to be read once.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let kept = tempfile::Builder::new().prefix("adamant-images-").tempdir_in(memory);
    kept.or_else(|_| tempfile::tempdir()).unwrap()
}

fn choice(number: u64, seed: u64) -> Choice {
    match number {
        0 => Choice::Nothing,
        1 => Choice::Everything,
        _ => Choice::seeded(seed),
    }
}

/// All that a reader needs to find the fault.
fn report(
    recording: &Recording,
    cut: usize,
    number: u64,
    disk: &Disk,
    image: &Image,
    said: &str,
) -> String {
    let short = |event: &(usize, Event)| {
        let text = format!("{:?}", event.1);
        text.chars().take(160).collect::<String>()
    };
    let from = cut.saturating_sub(12);
    let before: Vec<String> = recording.events[from..cut].iter().map(short).collect();
    let lost = image.differences(&disk.image(&mut Choice::Everything));
    format!(
        "{}: power cut after {cut} of {} calls, image {number}: {said}\nthe last calls: {before:#?}\n\
         on the disk, not as programs saw it: {lost:#?}",
        recording.name,
        recording.events.len()
    )
}

/// The home works on, with all that was promised.
fn check(root: &Path, promised: &Promised, is_audited: bool) -> Result<(), String> {
    fn failed<E: Error + 'static>(step: &'static str) -> impl Fn(E) -> String {
        move |err| format!("{step}: {}", chain(&err))
    }
    let home = store::Home::open(root).map_err(failed("open the home"))?;
    let current = home.current().map_err(failed("judge the manifest"))?;
    let current = current.ok_or("no manifest")?;
    let bytes = fs::read(root.join(MANIFEST)).unwrap();
    if !promised.manifests.contains(&bytes) {
        return Err("the manifest is neither an old one nor the new one".to_owned());
    }
    let found = current.judged.manifest.generation;
    if found < promised.generation {
        return Err(format!("generation {found}, and {} was named", promised.generation));
    }
    current.store.open(&current.judged).map_err(failed("open the generation"))?;

    // The next command, which repairs.
    let mut registrar = Registrar::open(&home, &mut |_| {}).map_err(failed("open the ledger"))?;
    // Of many the first and the last: all that lies between is held by the checkpoint.
    let ends = [promised.issued.first(), promised.issued.last()];
    for id in ends.into_iter().flatten() {
        let history = registrar.history(id).map_err(failed("an acknowledged token"))?;
        let opening = registrar.opening(history.first()).map_err(failed("an opening"))?;
        opening.filter(|opening| opening.subject == SUBJECT).ok_or("an opening is lost")?;
    }
    for id in &promised.revoked {
        let history = registrar.history(id).map_err(failed("a revoked token"))?;
        if !history.state().is_dead_by_event() {
            return Err(format!("{id} was revoked, and is not"));
        }
    }
    let (token, _) = registrar.issue(&wanted(), &origin()).map_err(failed("issue another"))?;
    registrar.commit().map_err(failed("commit"))?;
    drop(registrar);
    let published = builder::publish(&home, &mut |_| {}).map_err(failed("publish"))?;
    if published.manifest.generation <= found {
        return Err(format!("generation {found} again"));
    }
    is_served(&home, &token)?;
    if !is_audited {
        return Ok(());
    }
    let means =
        Means { policy: Some(home.policy()), kept: Some(&promised.checkpoint), openings: None };
    let report = audit(&home.store(), &means).map_err(failed("audit"))?;
    if report.count > 0 {
        return Err(format!("the audit found {:#?}", report.findings));
    }
    Ok(())
}

/// An error with all that lies behind it.
fn chain(error: &dyn Error) -> String {
    let behind = std::iter::successors(error.source(), |behind| (*behind).source());
    behind.fold(error.to_string(), |said, error| format!("{said}: {error}"))
}

fn is_served(home: &store::Home, token: &Token) -> Result<(), String> {
    let current = home.current().map_err(|err| chain(&err))?.ok_or("no manifest")?;
    let generation = current.store.open(&current.judged).map_err(|err| chain(&err))?;
    let digest = token.digest(&home.policy().domain.key);
    generation.get(&digest).map(drop).ok_or_else(|| "a new token is not served".to_owned())
}

const SUBJECT: &str = "ann@example.com";

fn wanted() -> Wanted {
    Wanted {
        grant: Grant::new("live".parse().unwrap(), "", Vec::new()).unwrap(),
        subject: SUBJECT.to_owned(),
        meta: String::new(),
        not_before: None,
        expires: None,
    }
}

fn origin() -> Origin {
    Origin { actor: adamant::issuing::actor(), ..Origin::default() }
}

fn is_release() -> bool {
    std::env::var_os("ADAMANT_RELEASE").is_some()
}

/// Each command of a home whose next events fill a tile, so that full files, partial ones and their
/// removal are all in the way.
#[test]
fn power_cut_at_every_call_of_each_command_loses_nothing() {
    let _alone = alone();
    let home = Home::new();
    let many = ["issue", "--kind", "live", "--subject", SUBJECT, "--count", "252"];
    let tokens = on(&home, &many).expect_code(0).stdout;
    let tokens: Vec<&str> = tokens.lines().collect();
    let (old, older) = (id_of(tokens[7]), id_of(tokens[8]));
    let id = |text: &str| vec![text.parse::<TokenId>().unwrap()];
    let one = ["issue", "--kind", "live", "--subject", SUBJECT];
    let commands: Vec<(&str, Vec<&str>, Vec<TokenId>)> = vec![
        ("issue", one.to_vec(), vec![]),
        ("issue --count", [&one[..], &["--count", "7"]].concat(), vec![]),
        ("revoke", vec!["revoke", old, "--reason", "other"], id(old)),
        ("rotate", vec!["rotate", older], id(older)),
        ("publish --renew", vec!["publish", "--renew"], vec![]),
        ("publish --renew", vec!["publish", "--renew"], vec![]),
        ("issue --no-publish", [&one[..], &["--no-publish"]].concat(), vec![]),
        ("publish", vec!["publish"], vec![]),
        ("build", vec!["build"], vec![]),
        ("issue", one.to_vec(), vec![]),
    ];
    let mut story = Story::of(home);
    let effort = match is_release() {
        true => Effort { seeds: 400, audited: 1 },
        false => Effort { seeds: 64, audited: 3 },
    };
    let mut total = 0;
    let began = Instant::now();
    for (name, arguments, revokes) in commands {
        let command = Command { name, arguments: &arguments, revokes };
        let (recording, promised) = story.record(&command);
        let made = cut_everywhere(&recording, &promised, effort);
        println!("{name}: {made} images of {} cuts", promised.len());
        total += made;
    }
    println!("{total} images in {} s", began.elapsed().as_secs());
    assert!(total > 15_000, "only {total} images");
}

/// A publish that finds too many events for an overlay, and moves records down.
#[test]
fn power_cut_at_every_call_of_a_settling_publish_loses_nothing() {
    let _alone = alone();
    let home = Home::new();
    let many = |count| on(&home, &["issue", "--kind", "live", "--no-publish", "--count", count]);
    many("300").expect_code(0);
    on(&home, &["build"]).expect_code(0);
    many("16400").expect_code(0);
    let mut story = Story::of(home);
    let command = Command { name: "settle", arguments: &["publish"], revokes: Vec::new() };
    let (recording, promised) = story.record(&command);
    let seeds = if is_release() { 200 } else { 16 };
    let made = cut_everywhere(&recording, &promised, Effort { seeds, audited: 100 });
    println!("settling publish: {made} images of {} cuts", promised.len());
}

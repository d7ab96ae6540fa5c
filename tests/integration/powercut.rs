//! Power cuts: a file system of its own, in a file, that is shut down without its journal in the
//! middle of commands, and mounted again. Nothing that was acknowledged is lost, and the next
//! command and the daemon start from what is there.
//!
//! What the test cannot cut is the medium's own cache: writes that reached the loop device stay.
//! With `ADAMANT_RELEASE` in the environment there are 2,500 cuts a file system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use adamant::claims::Requirement;
use adamant::verdict::Verdict;
use serde_json::Value;

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::strace::{calls_of, injected, words};
use crate::support::{Home, Ran, Server, alone, run};

/// Waits for a line, then shuts the file system of a folder down: `FS_IOC_SHUTDOWN`, which XFS
/// began and ext4 took over, and "do not flush the log".
const CUTTER: &str = "import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
print(flush=True)
sys.stdin.readline()
fcntl.ioctl(folder, 0x8004587d, struct.pack('I', 2))";

/// The smallest that `mkfs.xfs` makes. It takes little room.
const IMAGE_BYTES: u64 = 300 << 20;

const CUTS: u64 = 20;
const CUTS_OF_A_RELEASE: u64 = 2_500;

/// A file system in a file, unmounted when dropped.
struct Disk {
    folder: tempfile::TempDir,
    cutter: Option<Child>,
}

impl Disk {
    /// `None`, and a word why, where this machine cannot do it.
    fn make(kind: &str) -> Option<Disk> {
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let has_mkfs = Command::new(format!("mkfs.{kind}")).arg("-V").output().is_ok();
        let can = is_root && has_mkfs;
        assert!(can || std::env::var_os("CI").is_none(), "this test needs root and mkfs.{kind}");
        if !can {
            eprintln!("not run: it takes root and mkfs.{kind}");
            return None;
        }
        let disk = Disk { folder: tempfile::tempdir().unwrap(), cutter: None };
        fs::create_dir(disk.at()).unwrap();
        File::create(disk.image()).unwrap().set_len(IMAGE_BYTES).unwrap();
        let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(disk.image()).status();
        assert!(made.unwrap().success(), "mkfs.{kind}");
        match disk.mount() {
            Ok(()) => Some(disk),
            Err(why) => {
                // Also where all tests must run: it is up to the kernel.
                eprintln!("not run: this kernel mounts no {kind} from a file: {why}");
                None
            }
        }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn at(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&self) -> Result<(), String> {
        let mut mounting = Command::new("mount");
        mounting.args(["-o", "loop"]).arg(self.image()).arg(self.at());
        let output = mounting.output().map_err(|err| err.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// Makes ready to cut, so that the cut itself takes no time.
    fn arm(&mut self) {
        let mut command = Command::new("python3");
        command.args(["-c", CUTTER]).arg(self.at());
        let mut cutter = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cutter.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        self.cutter = Some(cutter);
    }

    fn cut(&mut self) {
        let mut cutter = self.cutter.take().expect("armed");
        cutter.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(cutter.wait().unwrap().success(), "the file system was not shut down");
    }

    fn restart(&self) {
        let unmounted = Command::new("umount").arg(self.at()).status();
        assert!(unmounted.unwrap().success(), "still in use");
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(cutter) = &mut self.cutter {
            let _ = cutter.kill();
            let _ = cutter.wait();
        }
        // Whatever is still in use: the name goes now, and the rest with its last user.
        let _ = Command::new("umount").arg("-l").arg(self.at()).output();
    }
}

/// What commands have acknowledged before a cut.
#[derive(Default)]
struct Acknowledged {
    tokens: Vec<String>,
    revoked: BTreeSet<String>,
    generation: u64,
}

impl Acknowledged {
    fn take(&mut self, command: &[String], ran: &Ran) {
        // A line that was not written to its end tells nobody anything.
        let whole = ran.stdout.rfind('\n').map_or("", |end| &ran.stdout[..end]);
        for line in whole.lines() {
            let said: Value = serde_json::from_str(line).unwrap();
            self.tokens.extend(said["token"].as_str().map(str::to_owned));
            self.generation = self.generation.max(said["generation"].as_u64().unwrap_or(0));
        }
        if command[0] == "revoke" && ran.code == 0 {
            self.revoked.insert(command[3].clone());
        }
    }

    fn is_there(&self, home: &Home) {
        let listed = on(home, &["list", "--json"]).expect_code(0).stdout;
        let listed: Vec<Value> = listed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let ids: BTreeSet<&str> = listed.iter().map(|line| line["id"].as_str().unwrap()).collect();
        for token in &self.tokens {
            assert!(ids.contains(id_of(token)), "{} was acknowledged and is lost", id_of(token));
        }
        let revoked = listed.iter().filter(|line| line["state"] == "revoked");
        let revoked: BTreeSet<&str> = revoked.map(|line| line["id"].as_str().unwrap()).collect();
        for id in &self.revoked {
            assert!(revoked.contains(id.as_str()), "the end of {id} was acknowledged and is lost");
        }
        let found = generation_of(home);
        assert!(found >= self.generation, "{found} after {}", self.generation);
    }
}

fn generation_of(home: &Home) -> u64 {
    let manifest = fs::read_to_string(home.store().join("manifest")).unwrap();
    let line = manifest.lines().find_map(|line| line.strip_prefix("generation "));
    line.unwrap().parse().unwrap()
}

/// What is there after a cut is whole; the next command works; a daemon starts, and knows which
/// tokens are dead.
fn is_whole(home: &Home, acknowledged: &mut Acknowledged) {
    let (store, policy) = (home.store(), home.policy());
    let whole = ["verify-store", store.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    run(&whole, b"").expect_code(0);
    audit_is_clean(home);
    acknowledged.is_there(home);
    let (token, said) = issue(home, &[]);
    acknowledged.tokens.push(token.clone());
    acknowledged.generation = said["generation"].as_u64().unwrap();
    acknowledged.is_there(home);
    audit_is_clean(home);
    let server = Server::start(&home.path());
    assert_eq!(server.generation(), acknowledged.generation);
    let verdict = |token: &str| {
        server.client().verify(token.as_bytes(), &Requirement::any()).unwrap().verdict()
    };
    assert_eq!(verdict(&token), Verdict::Valid);
    let dead = acknowledged.tokens.iter().find(|t| acknowledged.revoked.contains(id_of(t)));
    assert!(dead.is_none_or(|dead| verdict(dead) == Verdict::Revoked));
}

/// Commands one after another, from the `from`-th on, until one fails.
fn work(home: &Home, from: usize, acknowledged: &mut Acknowledged) {
    let mut turn = from;
    loop {
        // The latest; the second time in a row it was revoked before.
        let latest = id_of(acknowledged.tokens.last().unwrap()).to_owned();
        let commands = [
            &["issue", "--kind", "live", "--subject", "x"][..],
            &["issue", "--kind", "live", "--count", "150"],
            &["revoke", &latest, "--reason", "other"],
            &["publish", "--renew"],
            &["build"],
        ];
        let command = words(home, &[commands[turn % commands.len()], &["--json"]].concat());
        let ran = run(&command.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        acknowledged.take(&command, &ran);
        if ran.code != 0 {
            return;
        }
        turn += 1;
    }
}

/// That a cut loses what it should: a file that nobody has waited for.
fn loses_what_is_not_durable(disk: &mut Disk) {
    let file = disk.at().join("file");
    disk.arm();
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    disk.cut();
    disk.restart();
    assert_ne!(fs::read(&file).unwrap_or_default(), vec![7; 1 << 20], "a cut that loses nothing");
}

fn cut_at_random(kind: &str, mut seed: u64) {
    let Some(mut disk) = Disk::make(kind) else { return };
    let _alone = alone();
    loses_what_is_not_durable(&mut disk);
    let is_release = std::env::var_os("ADAMANT_RELEASE").is_some();
    let cuts = if is_release { CUTS_OF_A_RELEASE } else { CUTS };
    let mut tokens = 0;
    for _ in 0..cuts / CUTS {
        let home = Home::new_in(&disk.at());
        let mut acknowledged = Acknowledged::default();
        acknowledged.tokens.push(issue(&home, &[]).0);
        for _ in 0..CUTS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            disk.arm();
            let turn = usize::from(seed.to_le_bytes()[7]);
            thread::scope(|scope| {
                let working = scope.spawn(|| work(&home, turn, &mut acknowledged));
                // The moment of the cut is what is tested, because every one must be survived.
                thread::sleep(Duration::from_micros((seed >> 33) % 250_000));
                disk.cut();
                working.join().unwrap();
            });
            disk.restart();
            is_whole(&home, &mut acknowledged);
        }
        tokens += acknowledged.tokens.len();
    }
    println!("{kind}: {cuts} cuts, {tokens} tokens acknowledged, none lost");
}

/// A command that is killed before it has waited for the medium, and given again: what the second
/// one says of the first one's work is durable as well.
fn killed_repeated_and_cut(kind: &str) {
    let Some(mut disk) = Disk::make(kind) else { return };
    let _alone = alone();
    let home = Home::new_in(&disk.at());
    let mut acknowledged = Acknowledged::default();
    acknowledged.tokens.push(issue(&home, &[]).0);
    let tried = ["issue", "--kind", "live", "--subject", "x", "--json"];
    let waits = calls_of(&home, &words(&home, &tried), &["fsync"])["fsync"].len();
    assert!(waits > 5, "only {waits} waits");
    for when in 1..=waits {
        let request = format!("request-{when}");
        let latest = id_of(acknowledged.tokens.last().unwrap()).to_owned();
        for command in [
            &["issue", "--kind", "live", "--request-id", &request, "--json"][..],
            &["revoke", &latest, "--reason", "other", "--json"],
        ] {
            let command = words(&home, command);
            let (killed, _) = injected(&home, &command, ("fsync", when), "signal=SIGKILL");
            acknowledged.take(&command, &killed);
            disk.arm();
            let again = run(&command.iter().map(String::as_str).collect::<Vec<_>>(), b"");
            disk.cut();
            disk.restart();
            acknowledged.take(&command, &again);
            let place = format!("{} killed at fsync {when}, again: {}", command[0], again.stderr);
            assert!(matches!(again.code, 0 | 73), "exit code {} of {place}", again.code);
            let listed = on(&home, &["list", "--json"]).expect_code(0).stdout;
            let mut named = again.stderr.split_whitespace().skip_while(|word| *word != "about");
            let named = named.nth(1).map(|id| id.trim_end_matches(';'));
            assert!(named.is_none_or(|id| listed.contains(id)), "lost: {place}");
            acknowledged.is_there(&home);
        }
        is_whole(&home, &mut acknowledged);
    }
}

#[test]
fn what_a_second_command_says_of_a_killed_one_survives_a_power_cut() {
    killed_repeated_and_cut("ext4");
    killed_repeated_and_cut("xfs");
}

#[test]
fn power_cuts_on_ext4_lose_nothing_that_was_acknowledged() {
    cut_at_random("ext4", 4);
}

#[test]
fn power_cuts_on_xfs_lose_nothing_that_was_acknowledged() {
    cut_at_random("xfs", 5);
}

//! What somebody who can write to a store, but has no signer, can try; and what an operator can do
//! to the policy. Each case is judged by `verify-store` and by a running daemon, which serves on
//! from its last good generation, and by one that starts anew.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use adamant::claims::Requirement;
use adamant::client::CouldNotAsk;
use adamant::manifest::{FileHash, Manifest, hex};
use adamant::note::sign;
use adamant::signers::Signer;
use adamant::store::now_unix_s;
use adamant::verdict::Verdict;

use crate::support::{Home, Server, eventually, run};

/// A home with one token, at generation 2, and a daemon on it.
struct Setting {
    home: Home,
    server: Server,
    token: String,
    /// The manifest of generation 2.
    good: Manifest,
}

impl Setting {
    fn new() -> Setting {
        let home = Home::new();
        let token = home.issue(1).remove(0);
        home.build();
        let server = Server::start(&home.path());
        assert_eq!(server.generation(), 2);
        let good = parse(&fs::read_to_string(home.store().join("manifest")).unwrap());
        Setting { home, server, token, good }
    }

    fn manifest_path(&self) -> PathBuf {
        self.home.store().join("manifest")
    }

    fn signer(&self) -> Signer {
        Signer::load(&self.home.path().join("signers/build.key")).unwrap()
    }

    /// Puts `note` in the place of the manifest, as an attacker or a copying tool would.
    fn place(&self, note: &str) {
        let new = self.home.store().join("manifest.new");
        fs::write(&new, note).unwrap();
        fs::rename(&new, self.manifest_path()).unwrap();
    }

    /// Signs a generation 3 that differs from generation 2 in what `change` does.
    fn place_signed(&self, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.good.clone();
        manifest.generation += 1;
        change(&mut manifest);
        self.place(&sign(&manifest.to_text(), &[&self.signer()]));
    }

    fn edit_policy(&self, change: impl FnOnce(String) -> String) {
        let policy = fs::read_to_string(self.home.policy()).unwrap();
        let changed = change(policy.clone());
        assert_ne!(policy, changed);
        fs::write(self.home.policy(), changed).unwrap();
    }

    /// A daemon that starts now, on this host after a crash, serves what was accepted last and
    /// refuses the rest. (On a copy, so that the one that runs is not in its way.)
    #[track_caller]
    fn refused_anew(&self, reason: &str) {
        let copy = self.home.copy();
        let server = Server::start(&copy.path());
        assert_eq!(server.generation(), 2);
        let refused = server.status()["refused"].as_str().unwrap_or_default().to_owned();
        assert!(refused.contains(reason), "{refused}");
        let answer = server.client().verify(self.token.as_bytes(), &Requirement::any()).unwrap();
        assert_eq!(answer.verdict(), Verdict::Valid);
    }

    /// Nothing is built upon it, and nothing is written.
    #[track_caller]
    fn builder_refuses(&self, reason: &str) {
        let files = || {
            let mut files = Vec::new();
            for folder in ["store", "store/tables", "store/manifests", "state"] {
                for entry in fs::read_dir(self.home.path().join(folder)).unwrap() {
                    let path = entry.unwrap().path();
                    let bytes = path.is_file().then(|| fs::read(&path).unwrap());
                    files.push((path, bytes));
                }
            }
            files.sort();
            files
        };
        let before = files();
        let list = fs::read(self.home.list()).unwrap();
        self.home.build_from(&list, &[]).expect_code(65).expect_error(reason);
        assert!(before == files(), "the builder has refused, and has written");
    }

    /// The daemon has looked at the store, said `reason`, and answers as before.
    #[track_caller]
    fn serves_on(&self, reason: &str) {
        eventually(reason, || self.server.log().contains(reason));
        assert_eq!(self.verdict(), Ok(Verdict::Valid));
        assert_eq!(self.server.generation(), 2);
    }

    fn verdict(&self) -> Result<Verdict, String> {
        let answer = self.server.client().verify(self.token.as_bytes(), &Requirement::any());
        answer.map(|answer| answer.verdict()).map_err(|err| err.to_string())
    }

    /// Refused by `verify-store` as well, with the same reason.
    #[track_caller]
    fn store_is_refused(&self, reason: &str) {
        let policy = self.home.policy();
        let store = self.home.store();
        let arguments =
            ["verify-store", store.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
        let ran = run(&arguments, b"");
        assert_eq!(ran.code, 65, "{} {}", ran.stdout, ran.stderr);
        ran.expect_error(reason);
    }

    /// By the daemon that runs, by one that starts, and by `verify-store`.
    #[track_caller]
    fn not_served(&self, reason: &str) {
        self.serves_on(reason);
        self.store_is_refused(reason);
        self.refused_anew(reason);
    }

    /// By the builder as well.
    #[track_caller]
    fn refused_everywhere(&self, reason: &str) {
        self.not_served(reason);
        self.builder_refuses(reason);
    }
}

fn parse(note: &str) -> Manifest {
    let (text, _) = note.rsplit_once("\n\n").unwrap();
    Manifest::parse(&format!("{text}\n"), "acme/adamant").unwrap()
}

#[test]
fn a_manifest_without_a_good_signature_is_refused() {
    let setting = Setting::new();
    let good = fs::read_to_string(setting.manifest_path()).unwrap();
    let (text, signature) = good.rsplit_once("\n\n").unwrap();

    setting.place(&format!("{text}\n\n"));
    setting.refused_everywhere("no signature at its end");

    let stranger = Signer::generate("somebody/else").unwrap();
    setting.place(&sign(&format!("{text}\n"), &[&stranger]));
    setting.refused_everywhere("signed by somebody/else, of whom the policy trusts none");

    // The right name with another key has another key id: unknown as well.
    let impostor = Signer::generate("acme/adamant/build").unwrap();
    setting.place(&sign(&format!("{text}\n"), &[&impostor]));
    setting.refused_everywhere("signed by acme/adamant/build, of whom the policy trusts none");

    // A known signer's signature on another text, beside any number of good ones of strangers.
    let changed = text.replace("generation 2", "generation 3");
    let (_, theirs) = sign(&format!("{changed}\n"), &[&stranger])
        .rsplit_once("\n\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    setting.place(&format!("{changed}\n\n{theirs}{signature}"));
    setting.refused_everywhere("the signature of acme/adamant/build does not fit the text");
}

/// Also after a restart: the mark is on the disk.
#[test]
fn an_older_generation_is_refused_and_so_is_another_of_the_same_number() {
    let mut setting = Setting::new();
    let copy = setting.home.copy();
    let second = fs::read_to_string(setting.manifest_path()).unwrap();
    setting.home.issue(1);
    setting.home.build();
    setting.server.wait_for_generation(3);

    setting.place(&second);
    let reason = "generation 2 is older than generation 3";
    eventually(reason, || setting.server.log().contains(reason));
    assert_eq!(setting.server.generation(), 3);

    // A second publisher with the same keys makes another generation 3.
    copy.issue(2);
    copy.build();
    let other = copy.store();
    for entry in fs::read_dir(other.join("tables")).unwrap() {
        let path = entry.unwrap().path();
        let to = setting.home.store().join("tables").join(path.file_name().unwrap());
        let _ = fs::copy(&path, to);
    }
    setting.place(&fs::read_to_string(other.join("manifest")).unwrap());
    let reason = "generation 3 was accepted as manifest";
    eventually(reason, || setting.server.log().contains(reason));
    assert_eq!(setting.server.generation(), 3);

    // Started anew it serves what it accepted last, and goes on refusing.
    setting.server = Server::start(&setting.home.path());
    assert_eq!(setting.server.generation(), 3);
    eventually(reason, || setting.server.log().contains(reason));
    assert_eq!(setting.verdict(), Ok(Verdict::Valid));

    // A publisher whose store was restored from an older backup is told so.
    let refused = setting.home.build_from(&fs::read(setting.home.list()).unwrap(), &[]);
    refused.expect_code(65).expect_error("generation 3 was accepted as manifest");
}

/// What is served is a mark as well, for as long as the daemon runs.
#[test]
fn a_daemon_whose_marks_were_removed_does_not_go_back() {
    let setting = Setting::new();
    let second = fs::read_to_string(setting.manifest_path()).unwrap();
    setting.home.issue(1);
    setting.home.build();
    setting.server.wait_for_generation(3);
    fs::remove_file(setting.home.path().join("state/marks")).unwrap();
    setting.place(&second);
    let reason = "generation 2 is older than generation 3";
    eventually(reason, || setting.server.log().contains(reason));
    assert_eq!(setting.server.generation(), 3);
    // Nor aside: another manifest of the number that is served.
    setting.place_signed(|manifest| manifest.expires -= 1);
    let reason = "generation 3 was accepted as manifest";
    eventually(reason, || setting.server.log().contains(reason));
    assert_eq!(setting.verdict(), Ok(Verdict::Valid));
}

#[test]
fn dates_and_epochs_that_the_policy_does_not_allow_are_refused() {
    let setting = Setting::new();
    setting.place_signed(|manifest| {
        manifest.issued += 3600;
        manifest.expires += 3600;
    });
    setting.refused_everywhere("ahead of this host's clock");
    setting.place_signed(|manifest| manifest.expires += 86_400);
    setting.refused_everywhere("the policy allows 1 to 604800");
    setting.place_signed(|manifest| manifest.epoch = 2);
    setting.refused_everywhere("epoch 2, the policy asks for epoch 1");
    setting.place_signed(|manifest| manifest.origin = "acne/adamant".to_owned());
    setting.refused_everywhere("not a manifest of this deployment");
    setting.place_signed(|manifest| {
        manifest.issued -= 8 * 86_400;
        manifest.expires -= 8 * 86_400;
    });
    // Building upon it is what mends it.
    setting.not_served("expired");
}

#[test]
fn an_expired_generation_is_unavailable_or_flagged_as_the_policy_says() {
    let setting = Setting::new();
    setting.place_signed(|manifest| {
        manifest.issued = now_unix_s() - 60;
        manifest.expires = now_unix_s() + 10;
    });
    setting.server.wait_for_generation(3);
    let unavailable = |setting: &Setting| {
        let asked = setting.server.client().verify(setting.token.as_bytes(), &Requirement::any());
        matches!(asked, Err(CouldNotAsk::Unavailable))
    };
    eventually("it is unavailable once expired", || unavailable(&setting));
    assert_eq!(setting.server.status()["state"], "unavailable");
    let why = setting.server.status()["reason"].as_str().unwrap().to_owned();
    assert!(why.starts_with("expired") && why.contains("publish"), "{why}");

    setting.edit_policy(|policy| policy.replace("\"refuse\"", "\"serve-flagged\""));
    eventually("it is served, flagged", || setting.server.status()["state"] == "stale");
    let batch = setting
        .server
        .client()
        .verify_tokens_raw(&[setting.token.as_bytes()], &Requirement::any())
        .unwrap();
    assert_eq!(batch.rows[0].verdict, Verdict::Valid);
    assert!(batch.evidence.unwrap().stale);

    setting.edit_policy(|policy| policy.replace("\"serve-flagged\"", "\"refuse\""));
    eventually("it is unavailable again", || unavailable(&setting));
    // A new generation ends it.
    setting.home.build();
    setting.server.wait_for_generation(4);
    assert_eq!(setting.verdict(), Ok(Verdict::Valid));
}

/// Where the policy refuses what is stale, an old manifest does not push out what is served.
#[test]
fn a_manifest_that_comes_expired_is_served_only_where_the_policy_says_so() {
    let setting = Setting::new();
    setting.place_signed(|manifest| {
        manifest.issued = now_unix_s() - 60;
        manifest.expires = now_unix_s() - 1;
    });
    setting.serves_on("expired");
    setting.edit_policy(|policy| policy.replace("\"refuse\"", "\"serve-flagged\""));
    setting.server.wait_for_generation(3);
    assert_eq!(setting.server.status()["state"], "stale");
}

#[test]
fn tables_that_are_not_those_of_the_manifest_are_refused() {
    let setting = Setting::new();
    let absent: FileHash = [7; 32];
    setting.place_signed(|manifest| manifest.tables[0].hash = absent);
    setting.serves_on(&hex(&absent));
    setting.place_signed(|manifest| manifest.tables[0].records += 1);
    setting.refused_everywhere("records or range are not those that the manifest says");
    setting.place_signed(|manifest| manifest.tables[0].bytes += 1);
    setting.refused_everywhere("bytes, is");
    let other = Home::new();
    other.issue(1);
    other.build();
    let theirs = parse(&fs::read_to_string(other.store().join("manifest")).unwrap());
    for (file, to) in [("tbl", &theirs.tables[0].hash), ("sub", &theirs.tables[0].subjects_hash)] {
        let name = format!("{}.{file}", hex(to));
        fs::copy(
            other.store().join("tables").join(&name),
            setting.home.store().join("tables").join(&name),
        )
        .unwrap();
    }
    // Signed by our signer, but with the tables of another deployment.
    setting.place_signed(|manifest| manifest.tables = theirs.tables.clone());
    setting.serves_on("another domain key or prefix");
}

#[test]
fn files_that_others_could_change_are_not_mapped() {
    assert!(rustix::process::geteuid().is_root(), "this test changes owners, so it runs as root");
    let setting = Setting::new();
    let tables = setting.home.store().join("tables");
    let table = tables.join(format!("{}.tbl", hex(&setting.good.tables[0].hash)));
    let mode = |mode: u32| fs::set_permissions(&table, fs::Permissions::from_mode(mode)).unwrap();
    // (The daemon keeps the map that it verified; tests/integration/operator.rs starts one.)
    mode(0o460);
    setting.store_is_refused("mode 0460 lets others write it");
    mode(0o440);
    fs::hard_link(&table, tables.join("other-name")).unwrap();
    setting.store_is_refused("it has 2 names");
    fs::remove_file(tables.join("other-name")).unwrap();
    chown(&table, Some(12345), None).unwrap();
    setting.store_is_refused("owned by uid 12345");
    chown(&table, Some(0), None).unwrap();
    let moved = setting.home.folder().join("moved");
    fs::rename(&table, &moved).unwrap();
    symlink(&moved, &table).unwrap();
    let ran = run(&["verify-store", setting.home.text()], b"");
    assert_ne!(ran.code, 0);
    ran.expect_error("cannot open");
}

#[test]
fn a_signer_that_is_withdrawn_takes_its_generation_with_it() {
    let setting = Setting::new();
    let past = "roles = [\"build\"]\nvalid_until = \"2026-01-01T00:00:00Z\"";
    setting.edit_policy(|policy| policy.replace("roles = [\"build\"]", past));
    eventually("unavailable", || setting.server.status()["state"] == "unavailable");
    assert!(setting.server.log().contains("unavailable"));
    // And back, as soon as the policy says so.
    setting.edit_policy(|policy| policy.replace(past, "roles = [\"build\"]"));
    eventually("served again", || setting.verdict() == Ok(Verdict::Valid));
}

#[test]
fn a_policy_may_not_forget_a_signer_within_its_epoch() {
    let setting = Setting::new();
    let key = setting.signer().verifier_key().to_string();
    let other = Signer::generate("acme/adamant/build").unwrap().verifier_key().to_string();
    setting.edit_policy(|policy| policy.replace(&key, &other));
    eventually("said", || setting.server.log().contains("no longer names acme/adamant/build"));
    eventually("unavailable", || setting.server.status()["state"] == "unavailable");
}

#[test]
fn a_policy_that_cannot_be_read_changes_nothing() {
    let setting = Setting::new();
    let good = fs::read_to_string(setting.home.policy()).unwrap();
    fs::write(setting.home.policy(), "epoch = \"broken").unwrap();
    setting.server.signal("HUP");
    eventually("said", || setting.server.log().contains("policy not readable; the last good one"));
    assert_eq!(setting.verdict(), Ok(Verdict::Valid));
    let refused = setting.server.status()["refused"].as_str().unwrap_or_default().to_owned();
    assert!(refused.contains("policy.toml"), "{refused}");
    fs::write(setting.home.policy(), good).unwrap();
    setting.server.signal("HUP");
    eventually("it is mended", || setting.server.status()["refused"].is_null());
    setting.home.issue(1);
    setting.home.build();
    setting.server.wait_for_generation(3);
}

#[test]
fn damaged_marks_are_named_and_nothing_new_is_accepted() {
    let setting = Setting::new();
    fs::write(setting.home.path().join("state/marks"), "nonsense\n").unwrap();
    let refused = setting.home.build_from(&fs::read(setting.home.list()).unwrap(), &[]);
    refused.expect_code(78).expect_error("marks: line 1 is no mark");
    setting.place_signed(|_| {});
    setting.serves_on("marks: line 1 is no mark");
}

#[test]
fn a_daemon_with_nothing_to_serve_says_why_or_waits() {
    let home = Home::new();
    home.issue(1);
    fs::remove_file(home.store().join("manifest")).unwrap();
    fs::remove_dir_all(home.store().join("manifests")).unwrap();
    fs::create_dir(home.store().join("manifests")).unwrap();
    let mut server = Server::spawn(&home.path(), &[]);
    assert_eq!(server.wait(), Some(66));
    assert!(server.log().contains("nothing to serve"), "{}", server.log());
    assert!(!Path::new(server.socket()).exists());

    let server = Server::spawn(&home.path(), &["--wait"]);
    server.wait_until_listening();
    assert_eq!(server.status()["state"], "unavailable");
    let asked = server.client().verify_digests(&[[1; 32]], &Requirement::any());
    let unavailable = match asked {
        Err(CouldNotAsk::Unavailable) => true,
        Ok(batch) => batch.rows.iter().all(|row| row.verdict == Verdict::Unavailable),
        Err(_) => false,
    };
    assert!(unavailable);
    let list = fs::read(home.list()).unwrap();
    // The mark of generation 1 is still held, so the next is to be above it.
    fs::remove_file(home.path().join("state/marks")).unwrap();
    home.build_from(&list, &["--first"]).expect_code(0);
    eventually("it is served", || server.status()["state"] == "ok");
}

#[test]
fn a_daemon_that_may_serve_nothing_of_what_is_there_says_that_it_is_the_input() {
    let home = Home::new();
    home.issue(1);
    home.build();
    fs::remove_file(home.path().join("state/marks")).unwrap();
    let path = home.store().join("manifest");
    let forged = fs::read_to_string(&path).unwrap().replace("generation 2", "generation 3");
    fs::remove_file(&path).unwrap();
    fs::write(&path, forged).unwrap();
    let mut server = Server::spawn(&home.path(), &[]);
    assert_eq!(server.wait(), Some(65));
    assert!(server.log().contains("does not fit the text"), "{}", server.log());
}

/// docs/operations.md, "When a signer is stolen": hosts serve on until they have the new policy,
/// and then take nothing more of the stolen key.
#[test]
fn a_stolen_signer_is_replaced_without_a_gap() {
    let setting = Setting::new();
    let issuing = setting.home.copy();
    fs::copy(setting.home.list(), issuing.list()).unwrap();
    let new = Home::new();
    let signer_of = |home: &Home| {
        let policy = fs::read_to_string(home.policy()).unwrap();
        policy[policy.find("[[signer]]").unwrap()..].to_owned()
    };
    let policy = fs::read_to_string(issuing.policy()).unwrap();
    let policy = policy.replace("epoch = 1", "epoch = 2");
    fs::write(issuing.policy(), format!("{policy}\n{}", signer_of(&new))).unwrap();
    let key = "signers/build.key";
    fs::copy(new.path().join(key), issuing.path().join(key)).unwrap();
    issuing.build();
    issuing.deliver_to(&setting.home);
    setting.serves_on("of whom the policy trusts none");

    fs::write(issuing.policy(), policy.replace(&signer_of(&setting.home), &signer_of(&new)))
        .unwrap();
    fs::copy(issuing.policy(), setting.home.policy()).unwrap();
    setting.server.wait_for_generation(3);
    assert_eq!(setting.verdict(), Ok(Verdict::Valid));
    assert_eq!(setting.server.status()["epoch"], 2);

    // What the thief signs, however high.
    let mut stolen = setting.good.clone();
    (stolen.epoch, stolen.generation) = (2, 1000);
    setting.place(&sign(&stolen.to_text(), &[&setting.signer()]));
    let refused = "of whom the policy trusts none";
    eventually(refused, || {
        setting.server.status()["refused"].as_str().is_some_and(|said| said.contains(refused))
    });
    assert_eq!(setting.server.generation(), 3);
    assert_eq!(setting.verdict(), Ok(Verdict::Valid));
}

/// A key that may only revoke mints no trust.
#[test]
fn a_manifest_signed_for_another_role_is_refused() {
    let setting = Setting::new();
    let revoke = Signer::generate("acme/adamant/revoke").unwrap();
    let entry =
        format!("\n[[signer]]\nkey = \"{}\"\nroles = [\"revoke\"]\n", revoke.verifier_key());
    setting.edit_policy(|policy| policy + &entry);
    let mut manifest = setting.good.clone();
    manifest.generation += 1;
    setting.place(&sign(&manifest.to_text(), &[&revoke]));
    setting.refused_everywhere("signed by acme/adamant/revoke, of whom the policy trusts none");
}

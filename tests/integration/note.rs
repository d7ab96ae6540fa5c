//! The revocations note: it kills on its own, and can do nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use adamant::claims::Requirement;
use adamant::note::sign;
use adamant::revocations::{Revocation, Revocations, RevocationsNote};
use adamant::signers::Signer;
use adamant::table::format::Reason;
use adamant::time::TableTime;
use adamant::verdict::Verdict;

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::support::{Home, Server, eventually};

fn verdict(server: &Server, token: &str) -> Verdict {
    server.client().verify(token.as_bytes(), &Requirement::any()).unwrap().verdict()
}

/// A copy of the home that has the revoke signer's key and no other.
fn guard_of(home: &Home) -> Home {
    let guard = home.copy();
    for key in ["build.key", "ledger.key"] {
        fs::remove_file(guard.path().join("signers").join(key)).unwrap();
    }
    guard
}

/// Brings the note of one store into another, the list first.
fn bring_note(from: &Home, to: &Home) {
    let script = "cp -an \"$1\"/tables/*.rev \"$2\"/tables/ \
                  && cp \"$1\"/revocations \"$2\"/new && mv \"$2\"/new \"$2\"/revocations";
    let mut copying = Command::new("sh");
    copying.args(["-c", script, "sh"]).arg(from.store()).arg(to.store());
    assert!(copying.status().unwrap().success());
}

/// A note that was made by hand, signed by `signer`.
fn place(store: &Path, signer: &Path, sequence: u64, list: Vec<Revocation>) {
    let bytes = Revocations::of(list.clone()).to_bytes();
    let hash = *blake3::hash(&bytes).as_bytes();
    let name = format!("{}.rev", adamant::manifest::hex(&hash));
    adamant::durable::write_new(&store.join("tables"), &name, &bytes, 0o440).unwrap();
    let note = RevocationsNote {
        origin: "acme/adamant".to_owned(),
        sequence,
        hash,
        bytes: bytes.len() as u64,
        records: list.len() as u64,
    };
    let signer = Signer::load(signer).unwrap();
    let signed = sign(&note.to_text(), &[&signer]);
    adamant::durable::write(store, "revocations", signed.as_bytes(), 0o444).unwrap();
}

/// On its own, even while the manifest is refused; then the ledger absorbs it.
#[test]
fn a_note_kills_while_nothing_can_be_published() {
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let (other, _) = issue(&home, &[]);
    let server = Server::start(&home.path());
    let guard = guard_of(&home);
    // A manifest that every host refuses.
    let manifest = home.store().join("manifest");
    let good = fs::read(&manifest).unwrap();
    adamant::durable::write(&home.store(), "manifest", b"not a note\n", 0o444).unwrap();
    let said = on(&guard, &["revoke", id_of(&token), "--reason", "compromised"]).expect_code(0);
    assert!(said.stdout.contains("revocations note 1"), "{}", said.stdout);
    bring_note(&guard, &home);
    eventually("the note applies", || verdict(&server, &token) == Verdict::Revoked);
    assert_eq!(verdict(&server, &other), Verdict::Valid);
    assert_eq!(server.status()["revocations"], 1);
    adamant::durable::write(&home.store(), "manifest", &good, 0o444).unwrap();

    let said =
        on(&guard, &["revoke", id_of(&other), "--reason", "other", "--at", "2099-01-01T00:00:00Z"]);
    said.expect_code(0);
    bring_note(&guard, &home);
    eventually("the second note applies", || server.status()["revocations"] == 2);
    assert_eq!(verdict(&server, &other), Verdict::Valid);
    assert!(
        audit_is_clean(&home)["unchecked"]
            .to_string()
            .contains("2 revocations of note 2 are pending")
    );

    let published = on(&home, &["publish"]).expect_code(0);
    published.expect_error("2 revocations of note 2 absorbed");
    assert!(!audit_is_clean(&home)["unchecked"].to_string().contains("pending"));
    let manifest = fs::read_to_string(home.store().join("manifest")).unwrap();
    assert!(manifest.contains("\nrevocations 2\n"), "{manifest}");
    assert_eq!(verdict(&server, &token), Verdict::Revoked);
    // Absorbed once.
    let again = on(&home, &["publish", "--renew"]).expect_code(0);
    assert!(!again.stderr.contains("absorbed"), "{}", again.stderr);
}

#[test]
fn a_note_that_forgets_goes_back_or_is_signed_by_another_is_not_applied() {
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let (other, _) = issue(&home, &[]);
    let mut server = Server::start(&home.path());
    let guard = guard_of(&home);
    on(&guard, &["revoke", id_of(&token), "--reason", "other"]).expect_code(0);
    bring_note(&guard, &home);
    eventually("the note applies", || verdict(&server, &token) == Verdict::Revoked);
    let first = fs::read(home.store().join("revocations")).unwrap();
    let revocation = |token: &str| Revocation {
        digest: home.domain().key.digest(token.as_bytes()),
        at: TableTime(1),
        reason: Reason::Other,
    };
    let revoke_key = home.path().join("signers/revoke.key");
    let refused = |server: &Server, part: &str| {
        eventually(part, || server.status()["refused"].to_string().contains(part));
        assert_eq!(verdict(server, &token), Verdict::Revoked, "{part}");
    };
    place(&home.store(), &revoke_key, 2, vec![revocation(&other)]);
    refused(&server, "forgets a token");
    assert_eq!(verdict(&server, &other), Verdict::Valid);
    place(&home.store(), &home.path().join("signers/build.key"), 3, vec![revocation(&other)]);
    refused(&server, "whom the policy trusts none");
    on(&guard, &["revoke", id_of(&other), "--reason", "other"]).expect_code(0);
    bring_note(&guard, &home);
    eventually("the second note applies", || verdict(&server, &other) == Verdict::Revoked);
    // The older one again, to the daemon that has seen the newer, and to one that starts.
    adamant::durable::write(&home.store(), "revocations", &first, 0o444).unwrap();
    refused(&server, "older than");
    fs::remove_file(home.store().join("revocations")).unwrap();
    refused(&server, "gone from the store");
    server.signal("TERM");
    server.wait();
    adamant::durable::write(&home.store(), "revocations", &first, 0o444).unwrap();
    let restarted = Server::start(&home.path());
    eventually("the old note is refused", || {
        restarted.status()["refused"].to_string().contains("older than")
    });
    // What audit finds in a store that keeps the earlier list.
    place(&home.store(), &revoke_key, 9, vec![revocation(&other)]);
    let (store, policy) = (home.store(), home.policy());
    let arguments = ["audit", store.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let audited = crate::support::run(&arguments, b"").expect_code(65);
    assert!(audited.stdout.contains("forgets a token"), "{}", audited.stdout);
    let (code, said) = second_verifier(&store, &policy);
    assert!(code == 65 && said.contains("forgets a token"), "{code} {said}");
    // Whole again, and clean to both.
    place(&home.store(), &revoke_key, 10, vec![revocation(&token), revocation(&other)]);
    let (code, said) = second_verifier(&store, &policy);
    assert!(code == 0 && said.contains("note 10 revokes 2 tokens"), "{code} {said}");
    place(&home.store(), &home.path().join("signers/build.key"), 11, vec![revocation(&token)]);
    let (code, said) = second_verifier(&store, &policy);
    assert!(code == 65 && said.contains("trusted as revoke"), "{code} {said}");
}

/// `tools/verify_revocations.py`, which shares no code with the audit.
fn second_verifier(store: &Path, policy: &Path) -> (i32, String) {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/verify_revocations.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(tool).arg(store).arg("--policy").arg(policy);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), said + &String::from_utf8_lossy(&output.stderr))
}

/// Manifests name the least note that goes with them, so leaving it out is noticed.
#[test]
fn a_manifest_without_its_note_is_refused() {
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let elsewhere = home.copy();
    let guard = guard_of(&home);
    on(&guard, &["revoke", id_of(&token), "--reason", "other"]).expect_code(0);
    bring_note(&guard, &home);
    let server = Server::start(&elsewhere.path());
    issue(&home, &[]);
    home.deliver_to(&elsewhere);
    eventually("it is refused", || {
        server.status()["refused"].to_string().contains("asks for revocations note 1")
    });
    assert_eq!(server.generation(), 2);
    bring_note(&home, &elsewhere);
    server.wait_for_generation(3);
    assert_eq!(verdict(&server, &token), Verdict::Revoked);
}

/// Law 3's one exception: what a stolen revoke signer said, and the ledger had not absorbed, lapses
/// with it. Publishing goes on, and its successor's notes apply.
#[test]
fn a_stolen_revoke_signer_is_withdrawn_and_has_a_successor() {
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let (other, _) = issue(&home, &[]);
    let server = Server::start(&home.path());
    let thief = guard_of(&home);
    on(&thief, &["revoke", id_of(&token), "--reason", "other"]).expect_code(0);
    bring_note(&thief, &home);
    eventually("the note applies", || verdict(&server, &token) == Verdict::Revoked);

    let key = home.path().join("signers/revoke.key");
    let stolen = Signer::load(&key).unwrap().verifier_key().to_string();
    fs::remove_file(&key).unwrap();
    let policy = fs::read_to_string(home.policy()).unwrap();
    let signers: Vec<&str> = policy.split("[[signer]]").collect();
    let kept: Vec<&str> = signers.into_iter().filter(|part| !part.contains(&stolen)).collect();
    fs::write(home.policy(), kept.join("[[signer]]")).unwrap();
    on(&home, &["signers", "add", "--role", "revoke"]).expect_code(0);
    eventually("the note lapses", || verdict(&server, &token) == Verdict::Valid);

    let (_, said) = issue(&home, &[]);
    server.wait_for_generation(said["generation"].as_u64().unwrap());
    let manifest = fs::read_to_string(home.store().join("manifest")).unwrap();
    assert!(manifest.contains("\nrevocations 0\n"), "{manifest}");
    let guard = guard_of(&home);
    on(&guard, &["revoke", id_of(&other), "--reason", "other"]).expect_code(0);
    bring_note(&guard, &home);
    eventually("the successor's note applies", || verdict(&server, &other) == Verdict::Revoked);
    assert_eq!(verdict(&server, &token), Verdict::Valid);
}

//! Tokens of another system, out of a real PostgreSQL, as docs/migration.md says.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use adamant::claims::Requirement;
use adamant::client::Answer;
use adamant::verdict::Verdict;

use crate::support::{Home, PATIENCE, Server, eventually, public_folder};

const ROWS: usize = 10_000;

/// A cluster of its own, reached over a Unix socket in its folder.
struct Postgres {
    server: Child,
    folder: tempfile::TempDir,
    programs: PathBuf,
}

impl Postgres {
    fn start() -> Postgres {
        let programs = programs();
        let folder = public_folder();
        let owned = Command::new("chown").arg("postgres").arg(folder.path()).status();
        assert!(
            owned.unwrap().success(),
            "the Debian package `postgresql` makes the user postgres"
        );
        let cluster = folder.path().join("cluster");
        let made = as_postgres(&programs.join("initdb"))
            .args(["--auth=trust", "--no-sync", "--username=adamant", "--pgdata"])
            .arg(&cluster)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = as_postgres(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(folder.path())
            .arg("-D")
            .arg(&cluster)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let postgres = Postgres { server, folder, programs };
        eventually("PostgreSQL listens", || {
            postgres.psql("SELECT 1").output().unwrap().status.success()
        });
        postgres
    }

    fn psql(&self, statement: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-qAt", "-v", "ON_ERROR_STOP=1", "-U", "adamant", "-d", "postgres", "-h"]);
        command.arg(self.folder.path()).args(["-c", statement]);
        command.stderr(Stdio::piped());
        command
    }

    fn run(&self, statement: &str, input: &str) -> String {
        let mut child =
            self.psql(statement).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its signal for a fast shutdown; killed, it would leave shared memory behind.
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

/// PostgreSQL refuses to be root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.sort();
    found.pop().expect("PostgreSQL is missing: install the Debian package `postgresql`")
}

/// The statement that docs/migration.md gives.
fn documented() -> String {
    let page = include_str!("../../docs/migration.md");
    let (_, rest) = page.split_once("```sql\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn old_token(row: usize) -> String {
    format!("sk_old_{}", &blake3::hash(&row.to_le_bytes()).to_hex()[..40])
}

#[test]
fn a_column_of_sha256_from_postgresql_verifies_unchanged() {
    if !crate::support::can_be_others() {
        return;
    }
    let postgres = Postgres::start();
    postgres.run(
        "CREATE TABLE api_keys (token_sha256 bytea, customer text, scopes text[], \
         expires timestamptz); CREATE TABLE incoming (token text, customer text)",
        "",
    );
    let rows: String =
        (0..ROWS).map(|row| format!("{},customer-{row}\n", old_token(row))).collect();
    postgres.run("COPY incoming FROM STDIN WITH (FORMAT csv)", &rows);
    // Hashed by PostgreSQL, so that it is its SHA-256 and not ours that is looked up.
    postgres.run(
        "INSERT INTO api_keys SELECT sha256(convert_to(token, 'UTF8')), customer, \
         '{orders:read,orders:write}', now() + interval '1 year' FROM incoming; DROP TABLE incoming",
        "",
    );
    let list = postgres.run(&documented(), "");
    assert_eq!(list.lines().count(), ROWS + 1);

    let home = Home::new();
    home.build_from(list.as_bytes(), &[]).expect_code(65).expect_error("--high-entropy");
    home.build_from(list.as_bytes(), &["--high-entropy"]).expect_code(0);
    // Exported again, it is the same list: nothing is changed and nothing dies.
    let again = postgres.run(&documented(), "");
    let built = home.build_from(again.as_bytes(), &["--high-entropy"]).expect_code(0).json();
    assert_eq!((built["added"].as_u64(), built["died"].as_u64()), (Some(0), Some(0)), "{built}");

    let server = Server::start(&home.path());
    let mut client = server.client();
    client.set_timeout(PATIENCE);
    let tokens: Vec<String> = (0..ROWS).map(old_token).collect();
    let texts: Vec<&[u8]> = tokens.iter().map(String::as_bytes).collect();
    let need = Requirement::any().kind("old").scope("orders:read");
    let answers = client.verify_many(&texts, &need).unwrap();
    assert!(answers.iter().all(Answer::is_valid));
    let raw = client.verify_tokens_raw(&texts, &need).unwrap();
    assert!(raw.rows.iter().all(|row| row.verdict == Verdict::Valid));
    let strangers: Vec<String> = (ROWS..2 * ROWS).map(old_token).collect();
    let strangers: Vec<&[u8]> = strangers.iter().map(String::as_bytes).collect();
    let answers = client.verify_many(&strangers, &need).unwrap();
    assert!(answers.iter().all(|answer| answer.verdict() == Verdict::Unknown));
    let Answer::Valid(access) = client.verify_with_claims(texts[7], &need).unwrap() else {
        panic!("it was valid a moment ago")
    };
    assert_eq!(access.claims.unwrap().subject, "customer-7");

    // Deleted there is revoked here.
    postgres.run("DELETE FROM api_keys WHERE customer = 'customer-7'", "");
    let list = postgres.run(&documented(), "");
    home.build_from(list.as_bytes(), &["--high-entropy"]).expect_code(0);
    server.wait_for_generation(4);
    assert_eq!(client.verify(texts[7], &need).unwrap().verdict(), Verdict::Revoked);
}

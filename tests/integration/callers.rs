//! Who may ask what, with peers that really are other users.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use adamant::claims::Requirement;
use adamant::client::{Client, CouldNotAsk};
use adamant::verdict::Verdict;
use adamant::wire::ErrorCode;

use crate::support::{
    Home, PATIENCE, Server, as_user, can_be_others, eventually, public_copy, public_folder, run,
};

/// A daemon with `config`, a token it serves, and the tool where other users can run it.
struct Setting {
    _home: Home,
    server: Server,
    token: String,
    tool: PathBuf,
    folder: tempfile::TempDir,
}

impl Setting {
    fn new(config: &str) -> Setting {
        let home = Home::new();
        let token = home.issue(1).remove(0);
        home.build();
        let server = Server::configured(&home.path(), config);
        fs::set_permissions(server.socket(), Permissions::from_mode(0o666)).unwrap();
        let folder = public_folder();
        let tool = public_copy(env!("CARGO_BIN_EXE_adamant"), folder.path());
        Setting { _home: home, server, token, tool, folder }
    }

    /// `adamant verify` by another user.
    fn verify_as(&self, uid: u32, gid: u32, groups: &[u32]) -> Output {
        let token = self.folder.path().join("token");
        fs::write(&token, &self.token).unwrap();
        as_user(uid, gid, groups, &self.tool)
            .arg("verify")
            .arg("--socket")
            .arg(self.server.socket())
            .stdin(fs::File::open(token).unwrap())
            .output()
            .unwrap()
    }

    fn raw(&self) -> Client {
        self.server.client()
    }
}

#[track_caller]
fn assert_refused(output: &Output, said: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(error.contains(said), "{error}");
}

/// Of all rules the first that fits decides: by uid, by first group, by any other group.
#[test]
fn users_and_groups_are_told_apart() {
    if !can_be_others() {
        return;
    }
    let rules = r#"
        [[caller]]
        users = [0]
        operations = ["status", "verify", "claims"]
        [[caller]]
        users = [4001]
        operations = ["verify", "claims"]
        [[caller]]
        groups = [4100]
        operations = ["verify", "claims"]
    "#;
    let setting = Setting::new(rules);
    let is_valid = |output: Output| output.status.code() == Some(0);
    assert!(is_valid(setting.verify_as(4001, 4001, &[])));
    assert!(is_valid(setting.verify_as(4002, 4100, &[])));
    assert!(is_valid(setting.verify_as(4002, 4002, &[4001, 4100])));
    assert_refused(&setting.verify_as(4002, 4002, &[]), "no rule lets uid 4002 ask at");
    assert_refused(&setting.verify_as(4100, 4001, &[4001]), "not permitted");
    let status = setting.server.status();
    assert_eq!(status["callers_denied"], 2);
    assert!(setting.server.log().contains("caller refused: no rule fits uid=4002 gid=4002 pid="));
}

/// 65534 is what all users without a number look like, so it may nothing, whatever the rules say.
#[test]
fn the_overflow_user_may_nothing() {
    if !can_be_others() {
        return;
    }
    let setting = Setting::new("");
    assert_refused(&setting.verify_as(65_534, 65_534, &[]), "no rule lets uid 65534 ask at");
}

#[test]
fn what_a_rule_leaves_out_is_not_permitted() {
    let setting = Setting::new("[[caller]]\noperations = [\"verify\", \"status\"]\n");
    let token = setting.token.as_bytes();
    let any = Requirement::any();
    assert!(setting.raw().verify(token, &any).unwrap().is_valid());
    let code = |result: Result<(), CouldNotAsk>| match result {
        Err(CouldNotAsk::Refused { code, .. }) => Some(code),
        _ => None,
    };
    let mut client = setting.raw();
    let raw = client.verify_tokens_raw(&[token], &any).map(drop);
    assert_eq!(code(raw), Some(ErrorCode::NotPermitted));
    // It is the question that was refused, not the connection.
    assert!(client.verify(token, &any).unwrap().is_valid());
    assert_eq!(
        code(client.verify_with_claims(token, &any).map(drop)),
        Some(ErrorCode::NotPermitted)
    );

    let blind = Setting::new("[[caller]]\noperations = [\"verify\"]\n");
    assert_eq!(code(blind.raw().status().map(drop)), Some(ErrorCode::NotPermitted));
}

/// A caller learns of tokens that are kept from it no more than that they are: no id, no state.
#[test]
fn a_caller_asks_about_its_kinds_and_audiences_alone() {
    let home = Home::new();
    let issue = |kind: &str, audience: &str| {
        let list = home.list();
        let arguments = ["issue", "--home", home.text(), "--kind", kind, "--audience", audience];
        let arguments =
            [&arguments[..], &["--count", "1", "--list", list.to_str().unwrap()]].concat();
        run(&arguments, b"").expect_code(0).stdout.trim().to_owned()
    };
    let [mine, other_kind, other_audience] =
        [issue("live", "orders"), issue("test", "orders"), issue("live", "billing")];
    home.build();
    let rule = "[[caller]]\noperations = [\"verify\", \"verify-tokens\", \"claims\", \"status\"]\n\
                kinds = [\"live\"]\naudiences = [\"orders\"]\n";
    let server = Server::configured(&home.path(), rule);
    let mut client = server.client();
    for need in [Requirement::any(), Requirement::any().kind("live").audience("orders")] {
        assert!(client.verify(mine.as_bytes(), &need).unwrap().is_valid());
        for kept in [&other_kind, &other_audience] {
            let answer = client.verify(kept.as_bytes(), &need).unwrap();
            assert_eq!(answer.verdict(), Verdict::CallerNotAllowed);
            let denial = match answer {
                adamant::client::Answer::Denied(denial) => denial,
                adamant::client::Answer::Valid(_) => unreachable!(),
            };
            assert_eq!(denial.id, None);
        }
    }
    let tokens = [mine.as_bytes(), other_kind.as_bytes(), other_audience.as_bytes()];
    let batch = client.verify_tokens_raw(&tokens, &Requirement::any()).unwrap();
    let verdicts: Vec<Verdict> = batch.rows.iter().map(|row| row.verdict).collect();
    assert_eq!(verdicts, [Verdict::Valid, Verdict::CallerNotAllowed, Verdict::CallerNotAllowed]);
}

/// The one connection too many is told BUSY, and there is a seat again when another leaves.
#[test]
fn seats_are_limited_and_the_one_too_many_is_told() {
    let setting = Setting::new("connections_max = 4\nconnections_uid_max = 3\n");
    let mut held: Vec<Client> = (0..3).map(|_| setting.raw()).collect();
    for client in &mut held {
        assert!(client.verify(setting.token.as_bytes(), &Requirement::any()).unwrap().is_valid());
    }
    match Client::with_timeout(setting.server.socket(), PATIENCE) {
        Err(CouldNotAsk::Refused { code: ErrorCode::Busy, message }) => {
            assert!(message.contains("this user has all the connections"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    held.pop();
    eventually("there is a seat again", || {
        Client::with_timeout(setting.server.socket(), PATIENCE).is_ok()
    });
    assert!(held[0].status().unwrap().contains("\"connections_turned_away\":"));
}

#[test]
fn an_idle_connection_is_closed_and_the_client_opens_another() {
    let setting = Setting::new("idle_s = 1\n");
    let mut client = setting.raw();
    assert!(client.verify(setting.token.as_bytes(), &Requirement::any()).unwrap().is_valid());
    eventually("it is closed", || {
        setting.raw().status().unwrap().contains("\"connections_open\":1,")
    });
    assert!(client.verify(setting.token.as_bytes(), &Requirement::any()).unwrap().is_valid());
}

/// Rules are checked before anything is served.
#[test]
fn a_wrong_rule_is_named() {
    let home = Home::new();
    let check = |config: &str| {
        let folder = public_folder();
        let file = folder.path().join("adamantd.toml");
        fs::write(&file, config).unwrap();
        let mut server = Server::spawn(&home.path(), &["--config", file.to_str().unwrap()]);
        assert_eq!(server.wait(), Some(78));
        server.log()
    };
    let cases = [
        (
            "[[caller]]\nusers = [\"nobody-of-that-name\"]\noperations = []\n",
            "`nobody-of-that-name` is not in /etc/passwd",
        ),
        ("[[caller]]\nkinds = [\"LIVE\"]\noperations = []\n", "`LIVE` is no kind of token"),
        ("[[caller]]\noperations = [\"delete\"]\n", "unknown variant `delete`"),
        ("[[caller]]\nsockets = [\"/other\"]\noperations = []\n", "/other is not one of `sockets`"),
    ];
    for (config, said) in cases {
        let log = check(config);
        assert!(log.contains(said) && log.contains("adamantd.toml"), "{log}");
    }
}

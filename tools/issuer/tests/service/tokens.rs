//! What is asked of the service, and what it answers.

use std::fs;

use adamant::claims::Requirement;
use adamant::verdict::Verdict;
use serde_json::{Value, json};

use crate::support::{Site, run};

fn verdict(site: &Site, token: &str) -> Verdict {
    site.client().verify(token.as_bytes(), &Requirement::any()).unwrap().verdict()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_token_lives_and_dies_through_the_service() {
    let site = Site::new();
    let wanted = json!({
        "kind": "live", "subject": "customer-42", "audience": "api", "scopes": ["b", "a"],
        "meta": "first key", "expires": "90d", "on_behalf_of": "ann", "ticket": "OPS-1",
    });
    let answer = site.post("/tokens", &wanted);
    assert_eq!(answer.code, 201, "{answer:?}");
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let issued = answer.json();
    let (token, id) = (text(&issued["token"]), text(&issued["id"]));
    assert_eq!(answer.field("location"), Some(&*format!("/tokens/{id}")));
    // Valid before the answer came.
    assert_eq!(issued["served"], true);
    assert_eq!(verdict(&site, token), Verdict::Valid);

    let found = site.get(&format!("/tokens/{id}")).json();
    for (name, value) in [
        ("state", json!("valid")),
        ("subject", json!("customer-42")),
        ("audience", json!("api")),
        ("scopes", json!(["a", "b"])),
        ("meta", json!("first key")),
        ("revoked_at", Value::Null),
        ("expires", issued["expires"].clone()),
    ] {
        assert_eq!(found[name], value, "{name}");
    }

    let rotated = site.post(&format!("/tokens/{id}/rotate"), &json!({ "overlap": "1h" })).json();
    assert_eq!(rotated["predecessor"], *id);
    let second = text(&rotated["token"]);
    assert_eq!((verdict(&site, token), verdict(&site, second)), (Verdict::Valid, Verdict::Valid));
    assert_eq!(site.get(&format!("/tokens/{id}")).json()["successor"], rotated["id"]);

    let revoke = format!("/tokens/{id}/revoke");
    let revoked = site.post(&revoke, &json!({ "reason": "compromised" })).json();
    assert_eq!((&revoked["already"], &revoked["served"]), (&json!(false), &json!(true)));
    assert_eq!(verdict(&site, token), Verdict::Revoked);
    let again = site.web().post_as(&revoke, "text/plain", b"").json();
    assert_eq!((&again["already"], &again["event"]), (&json!(true), &revoked["event"]));
    let dead = site.post(&format!("/tokens/{id}/rotate"), &json!({}));
    assert_eq!((dead.code, &dead.json()["code"]), (409, &json!("dead")));
    assert_eq!(verdict(&site, second), Verdict::Valid);
    site.audit();
}

#[test]
fn a_history_is_proven_to_who_trusts_nobody() {
    let site = Site::new();
    let issued = site.post("/tokens", &json!({ "kind": "live", "on_behalf_of": "ann" })).json();
    let id = text(&issued["id"]);
    site.post(&format!("/tokens/{id}/revoke"), &json!({}));
    let history = site.get(&format!("/tokens/{id}/history")).json();
    let events = history["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    for (event, sort) in events.iter().zip(["issue", "revoke"]) {
        assert_eq!(event["event"]["type"], sort);
        let proof = site.folder().join("proof");
        fs::write(&proof, text(&event["proof"])).unwrap();
        let proof = proof.to_str().unwrap();
        let said = run(&["verify-proof", proof, "--policy", &site.policy(), "--json"], b"").stdout;
        let proven: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!((&proven["index"], &proven["pinned"]), (&event["index"], &json!(true)));
        assert_eq!(proven["event"]["id"], id);
    }
    let own = format!("uid:{}", rustix::process::getuid().as_raw());
    assert_eq!(events[0]["event"]["actor"], own);
    assert_eq!(events[0]["event"]["on_behalf_of"], "ann");
}

#[test]
fn a_subjects_tokens_are_listed_page_by_page() {
    let site = Site::new();
    let mut ids: Vec<String> = (0..7)
        .map(|_| site.post("/tokens", &json!({ "kind": "live", "subject": "ann" })).json())
        .map(|issued| text(&issued["id"]).to_owned())
        .collect();
    site.post("/tokens", &json!({ "kind": "live", "subject": "bob" }));
    site.post(&format!("/tokens/{}/revoke", ids[0]), &json!({}));
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = site.get(&format!("/tokens?subject=ann&limit=3{after}")).json();
        found.extend(page["tokens"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let revoked = found.iter().filter(|token| token["state"] == "revoked");
    assert_eq!(revoked.map(|token| text(&token["id"])).collect::<Vec<_>>(), [&ids[0]]);
    let mut listed: Vec<String> = found.iter().map(|it| text(&it["id"]).to_owned()).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
    for wrong in ["", "?subject=", "?subject=a&limit=0", "?subject=a&limit=1001", "?subject=a&x=1"]
    {
        assert_eq!(site.get(&format!("/tokens{wrong}")).code, 400, "{wrong}");
    }
}

#[test]
fn a_request_that_is_made_twice_is_done_once() {
    let site = Site::new();
    let wanted = json!({ "kind": "live", "request_id": "r-1" });
    let first = site.post("/tokens", &wanted).json();
    let second = site.post("/tokens", &wanted);
    assert_eq!(second.code, 409);
    let problem = second.json();
    assert_eq!(problem["code"], "repeated");
    assert_eq!((&problem["id"], &problem["event"]), (&first["id"], &first["event"]));
    assert!(!second.body.contains(text(&first["token"])), "a token is told once");
}

#[test]
fn a_token_is_revoked_by_itself_as_rfc_7009_says() {
    let site = Site::new();
    let issued = site.post("/tokens", &json!({ "kind": "live" })).json();
    let (token, id) = (text(&issued["token"]), text(&issued["id"]));
    let revoke = |token: &str| site.web().post("/revoke", format!("token={token}").as_bytes());
    // Its id alone is public, and revokes nothing: the last letters are another's.
    let other = site.post("/tokens", &json!({ "kind": "live" })).json();
    let forged = format!("{}{}", &token[..25], &text(&other["token"])[25..]);
    for unknown in ["nonsense", &forged, id] {
        assert_eq!(revoke(unknown).code, 200);
    }
    assert_eq!(verdict(&site, token), Verdict::Valid);
    assert_eq!((revoke(token).code, revoke(token).code), (200, 200));
    assert_eq!(verdict(&site, token), Verdict::Revoked);
    assert_eq!(site.get(&format!("/tokens/{id}")).json()["reason"], "owner-request");
    assert_eq!(site.web().post("/revoke", b"").code, 400);
    assert_eq!(site.web().post("/revoke", b"token=a&token=b").code, 400);
}

#[test]
fn what_cannot_be_meant_is_refused_and_leaves_no_trace() {
    let site = Site::new();
    let issued = site.post("/tokens", &json!({ "kind": "live" })).json();
    let id = text(&issued["id"]);
    let long = "x".repeat(256);
    for (target, body, code) in [
        ("/tokens", json!({}), 400),
        ("/tokens", json!({ "kind": "Live" }), 400),
        ("/tokens", json!({ "kind": "live", "scope": "a" }), 400),
        ("/tokens", json!({ "kind": "live", "scopes": ["a b"] }), 400),
        ("/tokens", json!({ "kind": "live", "subject": "a\nb" }), 400),
        ("/tokens", json!({ "kind": "live", "expires": "soon" }), 400),
        ("/tokens", json!({ "kind": "live", "expires": "9999-01-01T00:00:00Z" }), 400),
        ("/tokens", json!({ "kind": "live", "request_id": "" }), 400),
        ("/tokens", json!({ "kind": "live", "ticket": long }), 400),
        ("/tokens", json!([1]), 400),
        ("/tokens/00000000000000/revoke", json!({}), 404),
        ("/tokens/00000000000000/rotate", json!({}), 404),
        (&format!("/tokens/{id}/revoke"), json!({ "reason": "boredom" }), 400),
        (&format!("/tokens/{id}/rotate"), json!({ "overlap": "long" }), 400),
        ("/elsewhere", json!({}), 404),
    ] {
        let answer = site.post(target, &body);
        assert_eq!(answer.code, code, "{target} {body}: {answer:?}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["status"], code);
    }
    let as_text = site.web().post_as("/tokens", "text/plain", b"{\"kind\":\"live\"}");
    assert_eq!(as_text.code, 415);
    let huge = vec![b' '; 100_000];
    assert_eq!(site.web().post_as("/tokens", "application/json", &huge).code, 413);
    let put = site.web().ask("PUT /tokens HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((put.code, put.field("allow")), (405, Some("GET, POST")));
    let log = run(&["log", "--home", &site.home(), "--from", "0", "--json"], b"").stdout;
    let issues = String::from_utf8(log).unwrap().matches("\"type\":\"issue\"").count();
    assert_eq!(issues, 1);
}

/// A pasted token, a token in a body that is refused: none is repeated or written down.
#[test]
fn no_token_is_in_an_error_or_a_log() {
    let site = Site::new();
    let issued = site.post("/tokens", &json!({ "kind": "live", "subject": "ann" })).json();
    let token = text(&issued["token"]);
    let mut said = String::new();
    for target in [format!("/tokens/{token}"), format!("/{token}"), format!("/tokens?x={token}")] {
        said += &site.get(&target).body;
    }
    for body in
        [json!({ "kind": token }), json!({ token: 1 }), json!({ "kind": "live", "expires": token })]
    {
        said += &site.post("/tokens", &body).body;
    }
    said += &site.web().post("/revoke", format!("token={token}&token={token}").as_bytes()).body;
    said += &site.get(&format!("/tokens/{}", text(&issued["id"]))).body;
    said += &site.get(&format!("/tokens/{}/history", text(&issued["id"]))).body;
    assert!(!said.contains(&token[25..]), "{said}");
    assert!(!site.logs().contains(&token[25..]));
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rla", &token[25..]]).arg(site.home());
    assert_eq!(grep.output().unwrap().stdout, b"", "no file of the home has it");
}

#[test]
fn what_no_right_covers_is_refused() {
    let own = rustix::process::getuid().as_raw();
    let rights = format!(
        "[[right]]\nusers = [{own}]\nmay = [\"issue\", \"read\"]\nkinds = [\"live\"]\n\
         audiences = [\"api\"]\nscopes = [\"a\"]\n"
    );
    let mut hidden = String::new();
    let site = Site::with_rights(&rights, |home| {
        let issued =
            run(&["issue", "--home", home, "--kind", "test", "--subject", "ann", "--json"], b"");
        let issued: Value = serde_json::from_slice(&issued.stdout).unwrap();
        hidden = text(&issued["id"]).to_owned();
    });
    let wanted = |kind: &str, audience: &str, scope: &str| json!({ "kind": kind, "audience": audience, "scopes": [scope], "subject": "ann" });
    let issued = site.post("/tokens", &wanted("live", "api", "a"));
    assert_eq!(issued.code, 201);
    for refused in [wanted("test", "api", "a"), wanted("live", "", "a"), wanted("live", "api", "b")]
    {
        assert_eq!(site.post("/tokens", &refused).code, 403);
    }
    let id = text(&issued.json()["id"]).to_owned();
    assert_eq!(site.post(&format!("/tokens/{id}/revoke"), &json!({})).code, 403);
    assert_eq!(site.post(&format!("/tokens/{id}/rotate"), &json!({})).code, 403);
    // What the caller may not see is not there.
    assert_eq!(site.get(&format!("/tokens/{hidden}")).code, 404);
    assert_eq!(site.post(&format!("/tokens/{hidden}/revoke"), &json!({})).code, 404);
    let listed = site.get("/tokens?subject=ann").json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);

    let nothing = Site::with_rights("", |_| {});
    assert_eq!(nothing.post("/tokens", &wanted("live", "api", "a")).code, 403);
    assert!(nothing.logs().contains("caller refused"));
}

#[test]
fn without_a_daemon_it_is_recorded_and_said_that_nobody_serves_it() {
    let mut site = Site::new();
    site.daemon = None;
    let issued = site.post("/tokens", &json!({ "kind": "live" }));
    assert_eq!(issued.code, 201);
    let issued = issued.json();
    assert_eq!(issued["served"], false);
    assert!(issued["generation"].is_u64());
    site.restart_daemon();
    assert_eq!(verdict(&site, text(&issued["token"])), Verdict::Valid);
    let next = site.post("/tokens", &json!({ "kind": "live" })).json();
    assert_eq!(next["served"], true);
}

/// SIGTERM: what was asked is answered, and the socket is gone.
#[test]
fn a_drain_answers_what_was_asked() {
    let mut site = Site::new();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| site.post("/tokens", &json!({ "kind": "live" })).code))
            .collect();
        for asked in asking {
            assert_eq!(asked.join().unwrap(), 201);
        }
    });
    let pid = i32::try_from(site.issuer.0.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(site.issuer.0.wait().unwrap().success());
    assert!(!site.issuer_socket().exists());
}

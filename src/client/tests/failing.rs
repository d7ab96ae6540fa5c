//! What a client does when there is no answer.

use std::error::Error;
use std::sync::mpsc::channel;

use crate::wire::{push_error, push_verdicts};

use super::*;

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_broken_connection_is_opened_anew_once() {
    let serve_one = |generation| -> fake::Script {
        Box::new(move |peer: &mut Peer| {
            peer.greet(&hello_of(generation));
            peer.answer(&head_of(generation), &[valid()]);
        })
    };
    let daemon = Daemon::start(vec![serve_one(1), serve_one(2)]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    let Answer::Valid(access) = client.verify(TOKEN, &any()).unwrap() else { panic!() };
    assert_eq!(access.evidence.generation.number, 2);
    daemon.finish();
}

#[test]
fn a_second_break_in_one_call_is_an_error() {
    let hang_up = || -> fake::Script {
        Box::new(|peer: &mut Peer| {
            peer.greet(&hello_of(1));
            peer.read_frame();
        })
    };
    let daemon = Daemon::start(vec![hang_up(), hang_up()]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let error = client.verify(TOKEN, &any()).unwrap_err();
    // A third connection would have been refused, which is another error.
    assert!(matches!(error, CouldNotAsk::Io(_)), "{error:?}");
    assert!(error.source().is_some());
    daemon.finish();
}

/// The first connection's daemon says "valid" after the client has given up; the second's says
/// "unknown". The token was valid for nobody who asked in time.
#[test]
fn a_late_reply_never_answers_a_later_question() {
    let (give_up, given_up) = channel();
    let daemon = Daemon::start(vec![
        Box::new(move |peer| {
            peer.greet(&hello_of(1));
            peer.read_frame().unwrap();
            given_up.recv().unwrap();
            let mut late = Vec::new();
            push_verdicts(&mut late, &head_of(1), &[valid().encode()], &[]);
            // The client has closed, or is about to.
            let _ = std::io::Write::write(&mut peer.stream, &late);
            peer.expect_close();
        }),
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.answer(&head_of(1), &[unknown()]);
        }),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    client.set_timeout(SHORT);
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert_eq!(error.to_string(), "the daemon did not answer within 50ms");
    give_up.send(()).unwrap();
    client.set_timeout(PATIENT);
    assert_eq!(verdict_of(client.verify(TOKEN, &any())), Verdict::Unknown);
    daemon.finish();
}

/// Half a reply is as late as none.
#[test]
fn the_timeout_covers_the_whole_reply() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        peer.greet(&hello_of(1));
        peer.read_frame().unwrap();
        peer.write(&[56, 0, 0, 0, 1, 0]);
        peer.expect_close();
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    client.set_timeout(SHORT);
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Timeout { .. }), "{error:?}");
    client.set_timeout(Duration::ZERO);
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Timeout { .. }), "{error:?}");
    drop(client);
    daemon.finish();
}

/// Law 6, in each of the three numbers, on one connection.
#[test]
fn an_earlier_generation_is_refused() {
    let later = VerdictsHead { epoch: 2, generation: 5, revocations: 3, ..head_of(0) };
    for earlier in [
        VerdictsHead { epoch: 1, generation: 9, revocations: 9, ..later },
        VerdictsHead { generation: 4, revocations: 9, ..later },
        VerdictsHead { revocations: 2, ..later },
    ] {
        let daemon = Daemon::start(vec![Box::new(move |peer| {
            peer.greet(&hello_of(1));
            peer.answer(&later, &[valid()]);
            peer.answer(&later, &[valid()]);
            peer.answer(&earlier, &[valid()]);
        })]);
        let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
        assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
        assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
        let error = client.verify(TOKEN, &any()).unwrap_err();
        let CouldNotAsk::WentBack { found, seen } = error else { panic!("{error:?}") };
        assert_eq!(seen, Generation { epoch: 2, number: 5, revocations: 3 });
        assert_eq!(found, Evidence::from(&earlier).generation);
        daemon.finish();
    }
}

/// Law 6 across connections: neither a HELLO nor an answer of a daemon that was put back.
#[test]
fn an_earlier_generation_is_refused_on_a_new_connection_too() {
    let daemon = Daemon::start(vec![
        Box::new(|peer| {
            peer.greet(&hello_of(5));
            peer.answer(&VerdictsHead { revocations: 3, ..head_of(5) }, &[valid()]);
        }),
        Box::new(|peer| peer.greet(&hello_of(4))),
        Box::new(|peer| {
            peer.greet(&hello_of(5));
            peer.answer(&VerdictsHead { revocations: 2, ..head_of(5) }, &[valid()]);
        }),
        Box::new(|peer| {
            peer.greet(&hello_of(6));
            peer.answer(&head_of(6), &[valid()]);
        }),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    for _ in 0..2 {
        let error = client.verify(TOKEN, &any()).unwrap_err();
        assert!(matches!(error, CouldNotAsk::WentBack { .. }), "{error:?}");
    }
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    daemon.finish();
}

/// Law 7. A head without a generation is no evidence, whatever the rows say.
#[test]
fn no_evidence_is_never_an_answer() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        peer.greet(&hello_of(1));
        let unavailable = Row::without_record(Verdict::Unavailable);
        peer.answer(&head_of(1), &[unavailable]);
        peer.answer(&VerdictsHead::default(), &[unavailable]);
        peer.answer(&VerdictsHead::default(), &[valid()]);
        peer.answer(&head_of(1), &[valid(), unavailable]);
        peer.answer(&head_of(1), &[valid()]);
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    for _ in 0..3 {
        let error = client.verify(TOKEN, &any()).unwrap_err();
        assert!(matches!(error, CouldNotAsk::Unavailable), "{error:?}");
    }
    let error = client.verify_digests(&[[0; 32]; 2], &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Unavailable), "{error:?}");
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    daemon.finish();
}

/// A daemon that was started with `--wait` and has loaded nothing cannot say how to hash.
#[test]
fn without_a_domain_all_is_unavailable_until_a_new_hello_has_one() {
    let nothing = Hello { domain: None, epoch: 0, generation: 0, limits: Limits::OURS };
    let daemon = Daemon::start(vec![
        Box::new({
            let nothing = nothing.clone();
            move |peer| {
                peer.greet(&nothing);
                peer.expect_close();
            }
        }),
        Box::new(move |peer| {
            peer.greet(&nothing);
            peer.expect_close();
        }),
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.answer(&head_of(1), &[valid()]);
        }),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    assert_eq!(client.domain(), None);
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Unavailable), "{error:?}");
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    daemon.finish();
}

#[test]
fn a_refusal_is_told_and_only_some_end_the_connection() {
    let daemon = Daemon::start(vec![
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.read_frame().unwrap();
            peer.say(|out| push_error(out, ErrorCode::Busy, "try later"));
            peer.answer(&head_of(1), &[valid()]);
            peer.read_frame().unwrap();
            peer.say(|out| push_error(out, ErrorCode::Malformed, "what"));
            peer.expect_close();
        }),
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.answer(&head_of(1), &[valid()]);
        }),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert_eq!(error.to_string(), "the daemon does not answer this (busy): try later");
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Refused { code: ErrorCode::Malformed, .. }), "{error:?}");
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    daemon.finish();
}

#[test]
fn another_version_is_named_on_either_side() {
    let daemon = Daemon::start(vec![
        Box::new(|peer| {
            peer.read_frame().unwrap();
            peer.write(&[9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 77]);
        }),
        Box::new(|peer| {
            peer.read_frame().unwrap();
            peer.say(|out| push_error(out, ErrorCode::Version, "this daemon speaks 2"));
        }),
    ]);
    let error = Client::with_timeout(daemon.socket(), PATIENT).unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "the daemon speaks version 2 of the protocol, this client 1: upgrade the older"
    );
    let error = Client::with_timeout(daemon.socket(), PATIENT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the daemon does not answer this (version): this daemon speaks 2"
    );
    daemon.finish();
}

#[test]
fn another_count_of_rows_or_replies_is_refused_and_ends_the_connection() {
    let daemon = Daemon::start(vec![
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.answer(&head_of(1), &[valid(), valid()]);
            peer.expect_close();
        }),
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.read_frame().unwrap();
            peer.say(|out| {
                push_verdicts(out, &head_of(1), &[unknown().encode()], &[]);
                push_verdicts(out, &head_of(1), &[valid().encode()], &[]);
            });
            peer.expect_close();
        }),
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.answer(&head_of(1), &[unknown()]);
        }),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let error = client.verify(TOKEN, &any()).unwrap_err();
    let expected = FrameError::RowCount { expected: 1, found: 2 };
    assert!(matches!(error, CouldNotAsk::Protocol(found) if found == expected), "{error:?}");
    let error = client.verify(TOKEN, &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Protocol(FrameError::Unasked)), "{error:?}");
    assert_eq!(verdict_of(client.verify(TOKEN, &any())), Verdict::Unknown);
    daemon.finish();
}

#[test]
fn a_question_that_no_daemon_takes_is_not_sent() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        peer.greet(&hello_of(1));
        peer.answer(&head_of(1), &[valid()]);
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let error = client.verify(TOKEN, &any().kind("production")).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Question(FrameError::TooLong { .. })), "{error:?}");
    assert!(client.verify(TOKEN, &any()).unwrap().is_valid());
    daemon.finish();
}

#[test]
fn nobody_at_the_socket_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(folder.path().join("socket")).unwrap_err();
    assert_eq!(error.to_string(), "no daemon listens at the socket: is adamantd running");
    let denied = CouldNotAsk::Connect(std::io::ErrorKind::PermissionDenied.into());
    assert!(denied.to_string().contains("adamant-clients"));
    assert!(denied.source().is_some());
}

#[test]
fn a_client_shows_neither_digests_nor_tokens() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        peer.greet(&hello_of(1));
        peer.answer(&head_of(1), &[valid()]);
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    client.verify_tokens_raw(&[TOKEN], &any()).unwrap();
    let shown = format!("{client:?}");
    assert!(shown.starts_with("Client { socket: ") && shown.ends_with("timeout: 20s, .. }"));
    daemon.finish();
}

//! What a client asks, and what it makes of the answers.

use crate::token::ForeignAlgorithm;
use crate::wire::{EncodedRow, Request, push_hello, push_status, push_verdicts};

use super::*;

/// Both sides in literal bytes: what goes over the socket is what docs/protocol.md says.
#[test]
fn a_question_and_its_answer_are_those_bytes() {
    let digest = domain(None).digest(TOKEN).unwrap();
    let daemon = Daemon::start(vec![Box::new(move |peer| {
        peer.greet(&hello_of(42));
        let question = [
            &[79, 0, 0, 0][..],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            b"\x01\x04\0\0\0\0\0\0\0live\x00",
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a",
            b"\x01\0\0\0\0\0\0\0",
            &digest,
        ];
        peer.expect(&question.concat());
        peer.write(&[80, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        peer.write(&[1, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0]);
        peer.write(&[7, 0, 0, 0, 0, 0, 0, 0, 16, 14, 0, 0, 0, 0, 0, 0]);
        peer.write(&[1, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0]);
        peer.write(b"\x05\x25\x81\xee\x7f\xa7\xb2\xe2\x8a\x99\x93\x00\x80\0\0\0\x03\0\0\0");
        peer.write(&[0; 8]);
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let answer = client.verify(TOKEN, &any().kind("live").scope("a")).unwrap();
    let evidence = Evidence {
        generation: Generation { epoch: 1, number: 42, revocations: 7 },
        age: Duration::from_secs(3600),
        stale: true,
    };
    let expires_unix_s = Some(1_577_836_800 + 128);
    assert_eq!(answer, Answer::Valid(Access { id: id(), expires_unix_s, evidence, claims: None }));
    daemon.finish();
}

#[test]
fn claims_come_with_a_valid_token_and_must() {
    let claims = Claims { kind: "live".to_owned(), subject: "ann".to_owned(), ..Claims::default() };
    let told = claims.clone();
    let daemon = Daemon::start(vec![Box::new(move |peer| {
        peer.greet(&hello_of(1));
        let question = peer.read_frame().unwrap();
        let Ok(Request::Verify(verify)) = Request::decode(&question[4..]) else { panic!() };
        assert!(verify.claims_wanted);
        peer.say(|out| push_verdicts(out, &head_of(1), &[valid().encode()], &[Some(told)]));
        peer.answer(&head_of(1), &[valid()]);
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let Answer::Valid(access) = client.verify_with_claims(TOKEN, &any()).unwrap() else { panic!() };
    assert_eq!(access.claims, Some(claims));
    let error = client.verify_with_claims(TOKEN, &any()).unwrap_err();
    assert!(matches!(error, CouldNotAsk::Protocol(FrameError::RowCount { .. })), "{error:?}");
    daemon.finish();
}

/// The daemon would fail if it were asked: its script ends with the greeting.
#[test]
fn what_is_no_token_is_answered_without_asking() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        peer.greet(&hello_of(1));
        peer.expect_close();
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let mistyped = [&TOKEN[..TOKEN.len() - 1], b"k"].concat();
    for text in [&mistyped[..], b"", b"no token"] {
        let denial = Denial { verdict: Verdict::Malformed, id: None, evidence: None };
        assert_eq!(client.verify(text, &any()).unwrap(), Answer::Denied(denial));
    }
    assert_eq!(client.verify_many(&[b"", b"no token"], &any()).unwrap().len(), 2);
    drop(client);
    daemon.finish();
}

/// An import can make a token of what was none, but it does not mend a wrong check: the first
/// asks for a new HELLO, the second does not.
#[test]
fn an_old_hello_does_not_call_an_imported_token_malformed() {
    let daemon = Daemon::start(vec![
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            peer.expect_close();
        }),
        Box::new(|peer| {
            let domain = Some(domain(Some(ForeignAlgorithm::Sha256)));
            peer.greet(&Hello { domain, ..hello_of(2) });
            peer.answer(&head_of(2), &[valid()]);
        }),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let link = client.link.as_mut().unwrap();
    link.hello_at = link.hello_at.checked_sub(Duration::from_secs(60)).unwrap();
    let mistyped = [&TOKEN[..TOKEN.len() - 1], b"k"].concat();
    assert_eq!(verdict_of(client.verify(&mistyped, &any())), Verdict::Malformed);
    assert_eq!(verdict_of(client.verify(b"old-style-key", &any())), Verdict::Valid);
    daemon.finish();
}

/// Even digests are unknown, odd ones revoked.
fn row_of(digest: &Digest) -> Row {
    let verdict = if digest[0].is_multiple_of(2) { Verdict::Unknown } else { Verdict::Revoked };
    Row::without_record(verdict)
}

/// Reads one frame at a time, answers it in small pieces, and reads no further before the whole
/// answer is taken: what a client that writes first and reads later comes to a deadlock with.
fn answer_each_in_small_pieces(peer: &mut Peer) {
    let domain = domain(Some(ForeignAlgorithm::Sha256));
    peer.greet(&Hello { domain: Some(domain.clone()), ..hello_of(1) });
    let mut out = Vec::new();
    while let Some(question) = peer.read_frame() {
        let rows: Vec<Row> = match Request::decode(&question[4..]).unwrap() {
            Request::Verify(verify) => verify.digests.iter().map(row_of).collect(),
            Request::VerifyTokens(verify) => {
                verify.tokens.map(|token| row_of(&domain.digest(token).unwrap())).collect()
            }
            _ => panic!("neither VERIFY nor VERIFY_TOKENS"),
        };
        out.clear();
        let rows: Vec<EncodedRow> = rows.iter().map(Row::encode).collect();
        push_verdicts(&mut out, &head_of(1), &rows, &[]);
        out.chunks(500).for_each(|piece| peer.write(piece));
    }
}

/// Requests and replies of several megabytes each, far above what a socket holds.
#[test]
fn a_large_batch_comes_to_no_deadlock_and_keeps_its_order() {
    let daemon = Daemon::start(vec![Box::new(answer_each_in_small_pieces)]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let texts: Vec<String> = (0..100_000).map(|i| format!("key-{i}")).collect();
    let mut tokens: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    // Malformed ones are not sent, and must not move the others.
    for place in [0, 1, 5000, 99_999] {
        tokens[place] = b"";
    }
    let domain = client.domain().unwrap().clone();
    let expected: Vec<Verdict> = tokens
        .iter()
        .map(|token| domain.digest(token).map_or(Verdict::Malformed, |d| row_of(&d).verdict))
        .collect();

    let answers = client.verify_many(&tokens, &any()).unwrap();
    assert!(answers.iter().map(Answer::verdict).eq(expected.iter().copied()));

    let digests: Vec<Digest> =
        texts.iter().map(|text| domain.digest(text.as_bytes()).unwrap()).collect();
    let batch = client.verify_digests(&digests, &any()).unwrap();
    assert_eq!(batch.evidence.unwrap().generation.number, 1);
    assert!(batch.rows.iter().eq(&digests.iter().map(row_of).collect::<Vec<_>>()));

    let whole: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    assert_eq!(client.verify_tokens_raw(&whole, &any()).unwrap(), batch);
    drop(client);
    daemon.finish();
}

#[test]
fn a_pipeline_asks_each_question_with_its_own_need() {
    let daemon = Daemon::start(vec![
        Box::new(|peer| {
            peer.greet(&hello_of(1));
            for scope in ["a", "b"] {
                let question = peer.read_frame().unwrap();
                let Ok(Request::Verify(verify)) = Request::decode(&question[4..]) else { panic!() };
                assert_eq!(
                    verify.requirement.parts().scopes().collect::<Vec<_>>(),
                    [scope.as_bytes()]
                );
            }
            // Only now, so that both were in flight.
            for row in [valid(), unknown()] {
                peer.say(|out| push_verdicts(out, &head_of(1), &[row.encode()], &[]));
            }
            peer.expect_close();
        }),
        Box::new(answer_each_in_small_pieces),
    ]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let (a, b) = (any().scope("a"), any().scope("b"));
    let mut pipeline = client.pipeline();
    let answers = pipeline.push(TOKEN, &a).push(b"no token", &a).push(TOKEN, &b).run().unwrap();
    let verdicts: Vec<Verdict> = answers.iter().map(Answer::verdict).collect();
    assert_eq!(verdicts, [Verdict::Valid, Verdict::Malformed, Verdict::Unknown]);
    assert!(pipeline.run().unwrap().is_empty());
    drop(client);

    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    let domain = client.domain().unwrap().clone();
    let texts: Vec<String> = (0..20_000).map(|i| format!("key-{i}")).collect();
    let mut pipeline = client.pipeline();
    texts.iter().for_each(|text| {
        pipeline.push(text.as_bytes(), if text.len() % 2 == 0 { &a } else { &b });
    });
    for (text, answer) in texts.iter().zip(pipeline.run().unwrap()) {
        let digest = domain.digest(text.as_bytes()).unwrap();
        assert_eq!(answer.verdict(), row_of(&digest).verdict, "{text}");
    }
    drop(client);
    daemon.finish();
}

/// Limits below ours are kept to.
#[test]
fn frames_are_as_small_as_the_daemon_wants_them() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        let limits = Limits { digests_max: 2, tokens_max: 1, ..Limits::OURS };
        peer.greet(&Hello { limits, ..hello_of(1) });
        for rows in [2, 2, 1, 1, 1] {
            peer.answer(&head_of(1), &[unknown(), unknown()][..rows]);
        }
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    assert_eq!(client.verify_digests(&[[0; 32]; 5], &any()).unwrap().rows.len(), 5);
    assert_eq!(client.verify_tokens_raw(&[b"one", b"two"], &any()).unwrap().rows.len(), 2);
    assert_eq!(client.verify_digests(&[], &any()).unwrap().evidence, None);
    daemon.finish();
}

#[test]
fn the_longest_tokens_are_cut_into_frames_that_any_daemon_takes() {
    let longest = [b'x'; crate::token::TEXT_BYTES_MAX];
    let tokens = vec![&longest[..]; 100];
    let runs = cut_tokens(&tokens, ROWS_A_FRAME);
    assert!(runs.iter().flat_map(Clone::clone).eq(0..100));
    for run in runs {
        let mut out = Vec::new();
        push_verify_tokens(&mut out, false, &any(), &tokens[run]).unwrap();
        assert!(out.len() <= FRAME_BYTES_MIN);
    }
}

#[test]
fn the_status_is_handed_on_and_the_connection_lives() {
    let daemon = Daemon::start(vec![Box::new(|peer| {
        peer.greet(&hello_of(1));
        peer.expect(&[4, 0, 0, 0, 3, 0, 0, 0]);
        peer.say(|out| push_status(out, "{\"epoch\":1}"));
        peer.answer(&head_of(1), &[unknown()]);
        peer.read_frame().unwrap();
        peer.say(|out| push_hello(out, &hello_of(1)));
    })]);
    let mut client = Client::with_timeout(daemon.socket(), PATIENT).unwrap();
    assert_eq!(client.status().unwrap(), "{\"epoch\":1}");
    assert_eq!(verdict_of(client.verify(TOKEN, &any())), Verdict::Unknown);
    let error = client.status().unwrap_err();
    assert!(matches!(error, CouldNotAsk::Protocol(FrameError::Unasked)), "{error:?}");
    daemon.finish();
}

//! The bytes of every frame, written out by hand, and the hot frames held to bincode's.
//!
//! By hand on purpose: if both directions were wrong in the same way, a round trip would still
//! pass and every client in the field would break.

use super::*;

/// What bincode itself writes, with the configuration that the protocol is defined by.
fn bincode_frame(message: impl bincode::Encode) -> Vec<u8> {
    let config = bincode::config::standard().with_fixed_int_encoding().with_little_endian();
    let body = bincode::encode_to_vec(message, config).unwrap();
    let len = u32::try_from(body.len()).unwrap();
    [&len.to_le_bytes(), body.as_slice()].concat()
}

fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Puts a length before a body, checked against the length that the test expects.
fn framed(len: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert_eq!(body.len(), usize::from(len));
    [&[len, 0, 0, 0], body.as_slice()].concat()
}

#[test]
fn hello_and_status_requests_are_those_of_the_tables() {
    assert_eq!(frame(push_hello_request), [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(frame(push_status_request), [4, 0, 0, 0, 3, 0, 0, 0]);
}

#[test]
fn verify_is_that_of_the_table() {
    let written = frame(|out| push_verify(out, true, &need(), &[[0xAA; 32]]).unwrap());
    let expected = framed(
        101,
        &[
            &[1, 0, 0, 0, 1, 0, 0, 0],
            b"\x01\x04\0\0\0\0\0\0\0live",
            b"\x01\x03\0\0\0\0\0\0\0api",
            b"\x02\0\0\0\0\0\0\0",
            b"\x03\0\0\0\0\0\0\0a:b",
            b"\x01\0\0\0\0\0\0\0c",
            b"\x01\0\0\0\0\0\0\0",
            &[0xAA; 32],
        ],
    );
    assert_eq!(written, expected);
}

#[test]
fn verify_tokens_is_that_of_the_table() {
    let any = Requirement::any();
    let written = frame(|out| push_verify_tokens(out, false, &any, &[b"one", b""]).unwrap());
    let expected = framed(
        45,
        &[
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0],
            &[0; 8],
            &u64s(&[2]),
            &u64s(&[3]),
            b"one",
            &u64s(&[0]),
        ],
    );
    assert_eq!(written, expected);
}

#[test]
fn hello_is_that_of_the_table() {
    let key: Vec<u8> = (0..32).collect();
    let expected = framed(
        106,
        &[
            &[0, 0, 0, 0, 1, 0, 0, 0],
            &key,
            b"\x04\0\0\0\0\0\0\0acme",
            b"\x01\0\0\0\0\0\0\0",
            b"\x06\0\0\0\0\0\0\0sha256",
            &u64s(&[1, 7]),
            &[0, 0, 0x10, 0],
            &[0, 0x40, 0, 0],
            &[0, 0x10, 0, 0],
            &[64, 0, 0, 0],
        ],
    );
    assert_eq!(frame(|out| push_hello(out, &hello())), expected);
}

#[test]
fn verdicts_are_those_of_the_table() {
    let record = |verdict: u8, table: u8| {
        let id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        [&[verdict, 0, 0, 0][..], &id, &[table], &[1, 2, 3, 4], &[5, 0, 0, 0]].concat()
    };
    let unknown = [&[2, 0, 0, 0][..], &[0; 11], &[255], &[0; 8]].concat();
    let head = [&[1, 0, 0, 0, 1, 0, 0, 0][..], &u64s(&[1, 7, 2, 60])].concat();
    let rows_written = [u64s(&[3]), record(10, 1), record(6, 0), unknown].concat();

    let plain = framed(128, &[&head, &rows_written, &u64s(&[0])]);
    assert_eq!(
        frame(|out| push_verdicts(out, &super::head(), &rows().map(|row| row.encode()), &[])),
        plain
    );

    let claims_written = [
        &u64s(&[3])[..],
        b"\x01\x04\0\0\0\0\0\0\0live\x03\0\0\0\0\0\0\0api",
        b"\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0a:b\x01\0\0\0\0\0\0\0c",
        b"\x03\0\0\0\0\0\0\0ann\0\0\0\0\0\0\0\0",
        b"\x01",
        &[0; 40],
        b"\x00",
    ]
    .concat();
    let with_claims = framed(241, &[&head, &rows_written, &claims_written]);
    let written =
        frame(|out| push_verdicts(out, &super::head(), &rows().map(|row| row.encode()), &claims()));
    assert_eq!(written, with_claims);
}

#[test]
fn status_and_error_are_those_of_the_tables() {
    let status = framed(14, &[&[2, 0, 0, 0], b"\x02\0\0\0\0\0\0\0{}"]);
    assert_eq!(frame(|out| push_status(out, "{}")), status);
    let error = framed(21, &[&[3, 0, 0, 0, 6, 0, 0, 0], b"\x05\0\0\0\0\0\0\0later"]);
    assert_eq!(frame(|out| push_error(out, ErrorCode::Busy, "later")), error);
}

#[test]
fn requests_written_by_hand_are_what_bincode_writes() {
    let need = need();
    let parts = (need.kind.clone(), need.audience.clone(), need.scopes.clone());
    let digests = vec![[7_u8; 32], [8; 32]];
    let written = frame(|out| push_verify(out, true, &need, &digests).unwrap());
    assert_eq!(written, bincode_frame((1_u32, 1_u32, parts.clone(), digests)));

    let tokens: [&[u8]; 3] = [b"one", b"", b"three"];
    let owned: Vec<Vec<u8>> = tokens.iter().map(|token| token.to_vec()).collect();
    let written = frame(|out| push_verify_tokens(out, false, &need, &tokens).unwrap());
    assert_eq!(written, bincode_frame((2_u32, 0_u32, parts, owned)));

    assert_eq!(frame(push_status_request), bincode_frame((3_u32,)));
}

#[test]
fn verdicts_written_by_hand_are_what_bincode_writes() {
    let tuples: Vec<(u32, [u8; 11], u8, u32, u32)> = rows()
        .iter()
        .map(|row| match row.record {
            Some(record) => (
                row.verdict as u32,
                record.id.bytes(),
                record.table,
                record.expires.0,
                record.grant,
            ),
            None => (row.verdict as u32, [0; 11], 255, 0, 0),
        })
        .collect();
    let claims_tuples: Vec<_> = claims()
        .into_iter()
        .map(|claims| claims.map(|c| (c.kind, c.audience, c.scopes, c.subject, c.meta)))
        .collect();
    let written =
        frame(|out| push_verdicts(out, &head(), &rows().map(|row| row.encode()), &claims()));
    let head = (1_u64, 7_u64, 2_u64, 60_u64);
    assert_eq!(written, bincode_frame((1_u32, 1_u32, head, tuples, claims_tuples)));
}

#[test]
fn a_request_is_read_as_it_was_written() {
    let written = frame(|out| push_verify(out, true, &need(), &[[3; 32], [4; 32]]).unwrap());
    let Ok(Request::Verify(verify)) = Request::decode(body(&written)) else { panic!() };
    assert!(verify.claims_wanted);
    assert_eq!(verify.digests, [[3; 32], [4; 32]]);
    let requirement = verify.requirement;
    let parts = requirement.parts();
    assert_eq!(parts.kind, Some(&b"live"[..]));
    assert_eq!(parts.audience, Some(&b"api"[..]));
    assert_eq!(parts.scopes().collect::<Vec<_>>(), [&b"a:b"[..], b"c"]);
    assert!(!requirement.is_any());
    assert_eq!(requirement.bytes(), &body(&written)[8..body(&written).len() - 8 - 64]);

    let tokens: [&[u8]; 3] = [b"one", b"", b"\xFF"];
    let any = Requirement::any();
    let written = frame(|out| push_verify_tokens(out, false, &any, &tokens).unwrap());
    let Ok(Request::VerifyTokens(verify)) = Request::decode(body(&written)) else { panic!() };
    assert!(!verify.claims_wanted && verify.requirement.is_any());
    assert_eq!(verify.tokens.len(), 3);
    assert_eq!(verify.tokens.collect::<Vec<_>>(), tokens);
}

#[test]
fn a_reply_is_read_as_it_was_written() {
    let bytes = frame(|out| push_hello(out, &hello()));
    assert_eq!(Reply::decode(body(&bytes)), Ok(Reply::Hello(hello())));

    let bytes =
        frame(|out| push_verdicts(out, &head(), &rows().map(|row| row.encode()), &claims()));
    let Ok(Reply::Verdicts(verdicts)) = Reply::decode(body(&bytes)) else { panic!() };
    assert_eq!(verdicts.head, head());
    assert_eq!(verdicts.rows.collect::<Vec<_>>(), rows());
    assert_eq!(verdicts.claims, claims());

    let bytes = frame(|out| push_error(out, ErrorCode::TooMany, "no"));
    let error = Reply::Error { code: ErrorCode::TooMany, message: "no" };
    assert_eq!(Reply::decode(body(&bytes)), Ok(error));
}

/// The longest claims for as many rows as may ask for them: they fit, and are read back.
#[test]
fn the_longest_claims_fit_a_frame() {
    let longest = Claims {
        kind: "k".repeat(KIND_BYTES_MAX),
        audience: "a".repeat(AUDIENCE_BYTES_MAX),
        scopes: vec!["s".repeat(SCOPE_BYTES_MAX); SCOPES_MAX],
        subject: "u".repeat(SUBJECT_BYTES_MAX),
        meta: "m".repeat(META_BYTES_MAX),
    };
    let claims = vec![Some(longest); CLAIMS_ROWS_MAX];
    let rows = vec![rows()[0].encode(); CLAIMS_ROWS_MAX];
    let bytes = frame(|out| push_verdicts(out, &head(), &rows, &claims));
    let expected = VERDICTS_HEAD_BYTES + CLAIMS_ROWS_MAX * (ROW_BYTES + CLAIMS_BYTES_MAX) + 8;
    assert_eq!(bytes.len(), PREFIX_BYTES + expected);
    let Ok(Reply::Verdicts(verdicts)) = Reply::decode(body(&bytes)) else { panic!() };
    assert_eq!(verdicts.claims, claims);
}

#[test]
fn the_largest_batch_and_its_answer_fit_a_frame() {
    let digests = vec![[9; 32]; DIGESTS_MAX];
    let bytes = frame(|out| push_verify(out, false, &need(), &digests).unwrap());
    let Ok(Request::Verify(verify)) = Request::decode(body(&bytes)) else { panic!() };
    assert_eq!(verify.digests.len(), DIGESTS_MAX);
    let rows = vec![rows()[2].encode(); DIGESTS_MAX];
    let bytes = frame(|out| push_verdicts(out, &head(), &rows, &[]));
    let Ok(Reply::Verdicts(verdicts)) = Reply::decode(body(&bytes)) else { panic!() };
    assert_eq!(verdicts.rows.len(), DIGESTS_MAX);
}

#[test]
fn a_message_or_status_that_is_too_long_becomes_one_that_fits() {
    let bytes = frame(|out| push_error(out, ErrorCode::Internal, &"é".repeat(600)));
    let Ok(Reply::Error { message, .. }) = Reply::decode(body(&bytes)) else { panic!() };
    assert_eq!(message, "é".repeat(MESSAGE_BYTES_MAX / 2));
    let bytes = frame(|out| push_status(out, &"x".repeat(FRAME_BYTES_MAX)));
    let reply = Reply::decode(body(&bytes)).unwrap();
    assert!(matches!(reply, Reply::Error { code: ErrorCode::Internal, .. }));
}

//! What is refused: every cut, every addition, every contradiction, and any bytes at all.

use super::*;

/// Reads `body` as a request and as a reply: what is understood is written again as it stands.
fn decode_both(body: &[u8]) {
    match Request::decode(body) {
        // All of another version's HELLO but its first eight bytes is that version's business.
        Ok(Request::Hello { version }) if version != PROTOCOL_VERSION => {}
        Ok(request) => assert_eq!(&encode_request(&request)[PREFIX_BYTES..], body),
        Err(_) => {}
    }
    if let Ok(reply) = Reply::decode(body) {
        assert_eq!(&encode_reply(reply)[PREFIX_BYTES..], body);
    }
}

#[test]
fn a_frame_is_cut_when_it_is_whole() {
    let mut stream = frame(push_hello_request);
    let first = stream.len();
    stream.extend(frame(push_status_request));
    for len in 0..first {
        assert_eq!(cut_frame(&stream[..len]), Ok(None), "{len} bytes");
    }
    let (body, consumed) = cut_frame(&stream).unwrap().unwrap();
    assert_eq!((body.len(), consumed), (first - PREFIX_BYTES, first));
    assert!(cut_frame(&stream[consumed..]).unwrap().is_some());
}

#[test]
fn a_length_that_no_frame_has_is_refused_from_its_four_bytes() {
    assert_eq!(cut_frame(&[0, 0, 0, 0]), Err(FrameError::Empty));
    let largest = u32::try_from(FRAME_BYTES_MAX).unwrap();
    assert_eq!(cut_frame(&largest.to_le_bytes()), Ok(None));
    for found in [largest + 1, u32::MAX] {
        let error = cut_frame(&found.to_le_bytes()).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { found: u64::from(found) });
        assert_eq!(error.code(), ErrorCode::FrameTooLarge);
    }
}

#[test]
fn every_shorter_and_longer_body_is_refused() {
    for bytes in requests() {
        let body = body(&bytes);
        assert!(Request::decode(body).is_ok());
        for len in 0..body.len() {
            assert!(Request::decode(&body[..len]).is_err(), "{body:?} cut to {len} bytes");
        }
        assert!(Request::decode(&[body, &[0]].concat()).is_err(), "{body:?} and a byte");
    }
    for bytes in replies() {
        let body = body(&bytes);
        assert!(Reply::decode(body).is_ok());
        for len in 0..body.len() {
            assert!(Reply::decode(&body[..len]).is_err(), "{body:?} cut to {len} bytes");
        }
        assert!(Reply::decode(&[body, &[0]].concat()).is_err(), "{body:?} and a byte");
    }
}

/// One message, one encoding: whatever one wrong byte makes of a frame is refused, or is another
/// message that is written just so.
#[test]
fn every_single_byte_change_is_refused_or_is_another_message() {
    for bytes in requests().into_iter().chain(replies()) {
        let mut body = body(&bytes).to_vec();
        for at in 0..body.len() {
            for change in 1..=255 {
                body[at] ^= change;
                decode_both(&body);
                body[at] ^= change;
            }
        }
    }
}

/// Counts that lie, in every place where a count may stand: each run of eight bytes is
/// overwritten. A count that is believed before it is checked ends the test process for want of
/// memory.
#[test]
fn counts_beyond_the_frame_are_refused() {
    let hostile = [u64::MAX, u64::MAX / 32, u64::MAX / 24 + 1, 1 << 63, 1 << 59, 1 << 40, 1 << 20];
    for bytes in requests().into_iter().chain(replies()) {
        let whole = body(&bytes);
        for at in 0..whole.len().saturating_sub(7) {
            for count in hostile {
                let mut wrong = whole.to_vec();
                wrong[at..at + 8].copy_from_slice(&count.to_le_bytes());
                decode_both(&wrong);
            }
        }
    }
}

#[test]
fn unknown_flags_and_tags_are_named() {
    let verify = frame(|out| push_verify(out, false, &need(), &[]).unwrap());
    let mut wrong = body(&verify).to_vec();
    wrong[4] = 3;
    assert_eq!(Request::decode(&wrong).err(), Some(FrameError::Flags { found: 3 }));
    wrong[0] = 4;
    assert_eq!(Request::decode(&wrong).err(), Some(FrameError::Tag { found: 4 }));
    assert_eq!(Reply::decode(&wrong).err(), Some(FrameError::Tag { found: 4 }));
    let mut wrong = body(&verify).to_vec();
    wrong[8] = 2;
    assert_eq!(Request::decode(&wrong).err(), Some(FrameError::OptionTag { found: 2 }));
    wrong[8] = 1;
    wrong[17] = 0xFF;
    assert_eq!(Request::decode(&wrong).err(), Some(FrameError::NotUtf8 { field: "kind" }));
}

/// Frames that this side would not write, since it checks first: put together by bincode.
#[test]
fn more_than_the_limits_is_refused_on_both_sides() {
    let encode = |need: &Requirement, claims_wanted: bool, digests: &[[u8; 32]]| {
        let config = bincode::config::standard().with_fixed_int_encoding().with_little_endian();
        let need = (need.kind.clone(), need.audience.clone(), need.scopes.clone());
        let flags = u32::from(claims_wanted);
        bincode::encode_to_vec((1_u32, flags, need, digests.to_vec()), config).unwrap()
    };
    let any = Requirement::any();
    let long_kind = any.clone().kind("k".repeat(KIND_BYTES_MAX + 1));
    let long_audience = any.clone().audience("a".repeat(AUDIENCE_BYTES_MAX + 1));
    let long_scope = any.clone().scope("s".repeat(SCOPE_BYTES_MAX + 1));
    let many_scopes = Requirement { scopes: vec!["s".to_owned(); SCOPES_MAX + 1], ..any.clone() };
    let cases = [
        (&long_kind, false, 0, ErrorCode::Malformed),
        (&long_audience, false, 0, ErrorCode::Malformed),
        (&long_scope, false, 0, ErrorCode::Malformed),
        (&many_scopes, false, 0, ErrorCode::TooMany),
        (&any, false, DIGESTS_MAX + 1, ErrorCode::TooMany),
        (&any, true, CLAIMS_ROWS_MAX + 1, ErrorCode::TooMany),
    ];
    for (need, claims_wanted, count, code) in cases {
        let digests = vec![[0; 32]; count];
        let theirs = Request::decode(&encode(need, claims_wanted, &digests)).err().unwrap();
        assert_eq!(theirs.code(), code, "{theirs}");
        let mut out = Vec::new();
        assert_eq!(push_verify(&mut out, claims_wanted, need, &digests), Err(theirs));
        assert!(out.is_empty());
    }
}

#[test]
fn tokens_beyond_the_limits_are_not_sent() {
    let any = Requirement::any();
    let mut out = Vec::new();
    let long = vec![b'x'; TEXT_BYTES_MAX + 1];
    let error = push_verify_tokens(&mut out, false, &any, &[&long]).unwrap_err();
    assert_eq!(error.to_string(), "the token has 4097 bytes, at most 4096 are allowed");
    let heavy = vec![&long[1..]; 256];
    let error = push_verify_tokens(&mut out, false, &any, &heavy).unwrap_err();
    assert!(matches!(error, FrameError::TooLarge { .. }));
    let many = vec![&b""[..]; TOKENS_MAX + 1];
    let error = push_verify_tokens(&mut out, false, &any, &many).unwrap_err();
    assert!(matches!(error, FrameError::TooMany { .. }));
    assert!(out.is_empty());
}

/// A HELLO of a later version may be longer: both sides can still tell which version it is.
#[test]
fn a_hello_of_another_version_is_told_apart_from_garbage() {
    let request = [0, 0, 0, 0, 2, 0, 0, 0, 9, 9, 9];
    assert!(matches!(Request::decode(&request), Ok(Request::Hello { version: 2 })));
    assert_eq!(Reply::decode(&request), Err(FrameError::Version { found: 2 }));
}

#[test]
fn a_hello_without_a_usable_domain_or_limits_is_refused() {
    let bytes = frame(|out| push_hello(out, &hello()));
    let with = |at: usize, byte: u8| {
        let mut wrong = body(&bytes).to_vec();
        wrong[at] = byte;
        Reply::decode(&wrong).unwrap_err()
    };
    assert_eq!(with(48, b'A'), FrameError::Domain);
    assert_eq!(with(68, b'x'), FrameError::Domain);
    // The frame limit is the bytes 90 to 93, that of claims 102 to 105.
    assert_eq!(with(92, 0), FrameError::Limits);
    assert_eq!(with(102, 0), FrameError::Limits);
}

#[test]
fn a_row_that_contradicts_itself_is_refused() {
    let [valid, _, unknown] = rows();
    let with = |row: Row, at: usize, byte: u8| {
        let mut wrong = row.encode();
        wrong[at] = byte;
        Row::decode(&wrong)
    };
    assert_eq!(with(valid, 0, 11), Err(FrameError::Verdict { found: 11 }));
    for verdict in [0, 1, 2] {
        assert_eq!(with(valid, 0, verdict), Err(FrameError::Row), "verdict {verdict}, a record");
    }
    assert_eq!(with(unknown, 0, 10), Err(FrameError::Row), "valid without a record");
    assert_eq!(with(valid, 15, 255), Err(FrameError::Row), "no record, but an id");
    assert_eq!(with(valid, 4, 0xFF), Err(FrameError::Row), "an id above 62^14");
    for at in [4, 16, 20] {
        assert_eq!(with(unknown, at, 1), Err(FrameError::Row), "no record, but byte {at}");
    }
}

/// 200,000 bodies: half of them random after their tag, half of them frames with some bytes
/// changed, cut off or added. What decodes must encode to the same bytes.
#[test]
fn any_bytes_are_refused_or_understood_and_never_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let frames: Vec<Vec<u8>> = requests().into_iter().chain(replies()).collect();
    let mut scratch = Vec::new();
    for round in 0..200_000 {
        scratch.clear();
        if round % 2 == 0 {
            scratch.extend([random(5) as u8, 0, 0, 0, random(3) as u8, 0, 0, 0]);
            let len = random(96);
            // Mostly zeros, so that counts are often small enough to be believed.
            scratch.extend((0..len).map(|_| if random(4) == 0 { random(256) as u8 } else { 0 }));
        } else {
            scratch.extend(body(&frames[random(frames.len())]));
            for _ in 0..=random(3) {
                let at = random(scratch.len());
                scratch[at] = random(256) as u8;
            }
            match random(4) {
                0 => scratch.truncate(random(scratch.len())),
                1 => scratch.push(random(256) as u8),
                _ => {}
            }
        }
        decode_both(&scratch);
        let _ = cut_frame(&scratch);
    }
}

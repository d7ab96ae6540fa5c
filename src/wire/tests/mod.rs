//! Tests of the frames: their bytes, what is refused, and the examples of docs/protocol.md.

mod document;
mod hostile;
mod literal;

use crate::claims::Requirement;
use crate::time::TableTime;
use crate::token::{Domain, DomainKey, ForeignAlgorithm, TokenId};
use crate::verdict::Verdict;

use super::*;

/// The body of the only frame in `bytes`.
fn body(bytes: &[u8]) -> &[u8] {
    let (body, consumed) = cut_frame(bytes).unwrap().unwrap();
    assert_eq!(consumed, bytes.len());
    body
}

fn frame(push: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out);
    out
}

fn need() -> Requirement {
    Requirement::any().kind("live").audience("api").scope("a:b").scope("c")
}

fn hello() -> Hello {
    let domain = Domain {
        key: DomainKey(std::array::from_fn(|i| i as u8)),
        prefix: "acme".parse().unwrap(),
        foreign: Some(ForeignAlgorithm::Sha256),
    };
    Hello { domain: Some(domain), epoch: 1, generation: 7, limits: Limits::OURS }
}

fn head() -> VerdictsHead {
    VerdictsHead { stale: true, epoch: 1, generation: 7, revocations: 2, age_s: 60 }
}

fn rows() -> [Row; 3] {
    let id = TokenId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
    let record = Record { id, table: 1, expires: TableTime(0x0403_0201), grant: 5 };
    [
        Row { verdict: Verdict::Valid, record: Some(record) },
        Row { verdict: Verdict::Expired, record: Some(Record { table: 0, ..record }) },
        Row::without_record(Verdict::Unknown),
    ]
}

fn claims() -> [Option<Claims>; 3] {
    let some = Claims {
        kind: "live".to_owned(),
        audience: "api".to_owned(),
        scopes: vec!["a:b".to_owned(), "c".to_owned()],
        subject: "ann".to_owned(),
        meta: String::new(),
    };
    [Some(some), Some(Claims::default()), None]
}

/// Every sort of request, small.
fn requests() -> Vec<Vec<u8>> {
    vec![
        frame(push_hello_request),
        frame(push_status_request),
        frame(|out| push_verify(out, false, &Requirement::any(), &[]).unwrap()),
        frame(|out| push_verify(out, true, &need(), &[[1; 32], [2; 32]]).unwrap()),
        frame(|out| push_verify_tokens(out, false, &Requirement::any(), &[]).unwrap()),
        frame(|out| push_verify_tokens(out, true, &need(), &[b"one", b"", b"\xFF"]).unwrap()),
    ]
}

/// Every sort of reply, small.
fn replies() -> Vec<Vec<u8>> {
    let unknown = Hello { domain: None, epoch: 0, generation: 0, limits: Limits::OURS };
    vec![
        frame(|out| push_hello(out, &hello())),
        frame(|out| push_hello(out, &unknown)),
        frame(|out| push_verdicts(out, &VerdictsHead::default(), &[], &[])),
        frame(|out| push_verdicts(out, &head(), &rows().map(|row| row.encode()), &[])),
        frame(|out| push_verdicts(out, &head(), &rows().map(|row| row.encode()), &claims())),
        frame(|out| push_status(out, "{}")),
        frame(|out| push_error(out, ErrorCode::Busy, "later")),
    ]
}

/// Writes again what was read.
fn encode_request(request: &Request<'_>) -> Vec<u8> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    let owned = |requirement: &RequirementRef<'_>| {
        let RequirementParts { kind, audience, .. } = requirement.parts();
        let scopes = requirement.parts().scopes().map(text).collect();
        Requirement { kind: kind.map(text), audience: audience.map(text), scopes }
    };
    frame(|out| match request {
        Request::Hello { version } => {
            assert_eq!(*version, PROTOCOL_VERSION);
            push_hello_request(out);
        }
        Request::Status => push_status_request(out),
        Request::Verify(verify) => {
            let need = owned(&verify.requirement);
            push_verify(out, verify.claims_wanted, &need, verify.digests).unwrap();
        }
        Request::VerifyTokens(verify) => {
            let need = owned(&verify.requirement);
            let tokens: Vec<&[u8]> = verify.tokens.collect();
            push_verify_tokens(out, verify.claims_wanted, &need, &tokens).unwrap();
        }
    })
}

/// Writes again what was read.
fn encode_reply(reply: Reply<'_>) -> Vec<u8> {
    frame(|out| match reply {
        Reply::Hello(hello) => push_hello(out, &hello),
        Reply::Verdicts(verdicts) => {
            let rows: Vec<EncodedRow> = verdicts.rows.map(|row| row.encode()).collect();
            push_verdicts(out, &verdicts.head, &rows, &verdicts.claims);
        }
        Reply::Status(json) => push_status(out, json),
        Reply::Error { code, message } => push_error(out, code, message),
    })
}

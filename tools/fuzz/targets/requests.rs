//! Frames from a client: what decodes is, written again, the same bytes.

#![no_main]

use adamant::claims::Requirement;
use adamant::wire::{
    PREFIX_BYTES, PROTOCOL_VERSION, Request, RequirementParts, RequirementRef, cut_frame,
    push_hello_request, push_status_request, push_verify, push_verify_tokens,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((body, took))) = cut_frame(bytes) {
        assert!(took == PREFIX_BYTES + body.len() && took <= bytes.len() && !body.is_empty());
    }
    // The body alone as well, so that the fuzzer need not keep a length right.
    let request = match Request::decode(bytes) {
        Ok(request) => request,
        Err(err) => return assert!(!err.to_string().is_empty() && !err.code().name().is_empty()),
    };
    let mut again = Vec::new();
    match request {
        Request::Hello { version } if version == PROTOCOL_VERSION => push_hello_request(&mut again),
        // Of another version nothing more is known.
        Request::Hello { .. } => return,
        Request::Status => push_status_request(&mut again),
        Request::Verify(verify) => {
            let asked = owned(&verify.requirement);
            push_verify(&mut again, verify.claims_wanted, &asked, verify.digests)
                .expect("what was read can be asked");
        }
        Request::VerifyTokens(verify) => {
            let tokens: Vec<&[u8]> = verify.tokens.collect();
            assert_eq!(tokens.len(), verify.tokens.len());
            let asked = owned(&verify.requirement);
            push_verify_tokens(&mut again, verify.claims_wanted, &asked, &tokens)
                .expect("what was read can be asked");
        }
    }
    assert_eq!(&again[PREFIX_BYTES..], bytes, "one request, one frame");
});

fn owned(requirement: &RequirementRef<'_>) -> Requirement {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("checked when decoded");
    let mut asked = Requirement::any();
    let parts = RequirementParts::again(requirement.bytes());
    if let Some(kind) = parts.kind {
        asked = asked.kind(text(kind));
    }
    if let Some(audience) = parts.audience {
        asked = asked.audience(text(audience));
    }
    let asked = parts.scopes().fold(asked, |asked, scope| asked.scope(text(scope)));
    assert_eq!(asked.is_any(), requirement.is_any());
    asked
}

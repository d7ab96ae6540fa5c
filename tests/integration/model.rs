//! The laws against a model: any sequence of requests leaves what a map of tokens says, in the
//! ledger, in the tables, and for an auditor.

use std::collections::BTreeMap;

use adamant::audit::{Means, audit};
use adamant::builder;
use adamant::claims::Grant;
use adamant::issuing::{Registrar, Revoked, Wanted, actor};
use adamant::ledger::Origin;
use adamant::store::Home;
use adamant::table::format::Reason;
use adamant::token::{Digest, TokenId};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Request {
    Issue { expires_in: Option<i64> },
    Revoke { which: usize, after: i64 },
    Rotate { which: usize, overlap: i64 },
    Publish,
    Settle,
    Build,
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => prop::option::of(1..1_000_000_i64).prop_map(|expires_in| Request::Issue { expires_in }),
        3 => (any::<usize>(), prop_oneof![Just(0), 1..100_000_i64])
            .prop_map(|(which, after)| Request::Revoke { which, after }),
        2 => (any::<usize>(), 0..100_000_i64)
            .prop_map(|(which, overlap)| Request::Rotate { which, overlap }),
        2 => Just(Request::Publish),
        1 => Just(Request::Settle),
        1 => Just(Request::Build),
    ]
}

/// What the model knows of a token.
struct Known {
    digest: Digest,
    expires: Option<i64>,
    doom: Option<i64>,
}

fn wanted(expires: Option<i64>) -> Wanted {
    let grant = Grant::new("live".parse().unwrap(), "", vec!["a".to_owned()]).unwrap();
    Wanted { grant, subject: "s".to_owned(), meta: String::new(), not_before: None, expires }
}

fn apply(home: &Home, model: &mut BTreeMap<TokenId, Known>, request: &Request) {
    let origin = Origin { actor: actor(), ..Origin::default() };
    let key = home.policy().domain.key;
    let id = |model: &BTreeMap<TokenId, Known>, which: usize| {
        model.keys().nth(which % model.len().max(1)).copied()
    };
    let mut registrar = Registrar::open(home, &mut |_| {}).unwrap();
    let now = registrar.now();
    match request {
        Request::Issue { expires_in } => {
            let expires = expires_in.map(|after| now + after);
            let (token, _) = registrar.issue(&wanted(expires), &origin).unwrap();
            let known = Known { digest: token.digest(&key), expires, doom: None };
            model.insert(token.id(), known);
        }
        Request::Revoke { which, after } => {
            let Some(id) = id(model, *which) else { return };
            let revoked = registrar.revoke(&id, now + after, Reason::Other, &origin).unwrap();
            let known = model.get_mut(&id).unwrap();
            let is_earlier = known.doom.is_none_or(|doom| now + after < doom);
            assert_eq!(revoked == Revoked::Staged, is_earlier, "trust only shrinks");
            known.doom = Some(known.doom.map_or(now + after, |doom| doom.min(now + after)));
        }
        Request::Rotate { which, overlap } => {
            let Some(id) = id(model, *which) else { return };
            let rotated = registrar.rotate(&id, *overlap, None, &origin);
            let known = model.get_mut(&id).unwrap();
            if known.doom.is_some_and(|doom| doom <= now) {
                assert!(rotated.is_err(), "a dead token has no successor");
                return;
            }
            let (token, _) = rotated.unwrap();
            let at = now + overlap;
            known.doom = Some(known.doom.map_or(at, |doom| at.min(doom - 1).max(now)));
            let life = known.expires.map(|expires| expires - now);
            let expires = life.map(|_| registrar.history(&token.id()).unwrap());
            let expires = expires.and_then(|history| history.state().issued.expires);
            model.insert(token.id(), Known { digest: token.digest(&key), expires, doom: None });
        }
        Request::Publish | Request::Settle | Request::Build => {
            drop(registrar);
            match request {
                Request::Publish => builder::publish(home, &mut |_| {}).map(drop),
                Request::Settle => builder::settle(home, &mut |_| {}).map(drop),
                _ => builder::rebuild(home, &mut |_| {}).map(drop),
            }
            .unwrap();
            return;
        }
    }
    registrar.commit().unwrap();
}

/// Tables and history say what the model says.
fn check(home: &Home, model: &BTreeMap<TokenId, Known>) {
    builder::publish(home, &mut |_| {}).unwrap();
    let previous = home.current().unwrap().unwrap();
    let generation = previous.store.open(&previous.judged).unwrap();
    let registrar = Registrar::open(home, &mut |_| {}).unwrap();
    for (id, known) in model {
        let record = generation.get(&known.digest).expect("every token is in a table").record;
        assert_eq!(record.id, id.bytes());
        let doom = adamant::time::TableTime(record.revoked_at.get()).unix_s();
        assert_eq!(doom, known.doom, "{id}");
        let expires = adamant::time::TableTime(record.expires.get()).unix_s();
        assert_eq!(expires, known.expires, "{id}");
        assert_eq!(registrar.history(id).unwrap().state().doom, known.doom, "{id}");
    }
    drop(registrar);
    let means = Means { policy: Some(home.policy()), ..Means::default() };
    let report = audit(&home.store(), &means).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.tokens, model.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_requests_leaves_what_the_model_says(
        requests in prop::collection::vec(request(), 1..40)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("home"), "acme".parse().unwrap(), "a/b").unwrap();
        builder::publish_empty(&home).unwrap();
        let mut model = BTreeMap::new();
        for request in &requests {
            apply(&home, &mut model, request);
        }
        if home.has_ledger() {
            check(&home, &model);
        }
    }
}

//! The leaf: one event, as JSON with a fixed order of fields. `docs/ledger.md` has every field.
//!
//! ```text
//! {"schema":1,"type":"issue","time":"2026-11-25T05:00:00Z","actor":"uid:1000","id":"3vK9...",
//!  "digest":"<64 hex>","kind":"live","audience":"api","scopes":["orders:read"],
//!  "expires":"2027-02-23T05:00:00Z","commitment":"<64 hex>"}
//! ```
//!
//! One event has one text: fields that do not apply are left out, those that do stand in the order
//! of [`Leaf`], without spaces, and a text that would be written in any other way is refused. The
//! token is in none of them, and of subject and meta only a commitment, so a person can be erased
//! from a ledger that never changes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::claims::Grant;
use crate::table::format::Reason;
use crate::time::{from_rfc3339, to_rfc3339};
use crate::token::{Digest, ForeignAlgorithm, TokenId};

/// The only schema that this build writes and reads.
pub(super) const SCHEMA: u32 = 1;
/// The longest actor, on-behalf-of, request id or ticket.
pub const LABEL_BYTES_MAX: usize = 255;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, Unix seconds. Never less than that of the event before.
    pub time: i64,
    /// Who did it and why, as they said.
    pub origin: Origin,
    /// What was done.
    pub what: What,
}

/// Who did it and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The process's user, which the kernel vouches for: `uid:1000`.
    pub actor: String,
    /// For whom, asserted by the actor.
    pub on_behalf_of: Option<String>,
    /// By which a request that is made twice is known.
    pub request: Option<String>,
    /// Where the reasons stand.
    pub ticket: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A token was made, or taken over from another system.
    Issue(Issued),
    /// Trust in a token ended, or will.
    Revoke {
        /// The token.
        id: TokenId,
        /// Its digest.
        digest: Digest,
        /// When trust ends, Unix seconds. At or before the event's time: it has.
        at: i64,
        /// Why.
        reason: Reason,
        /// The token that takes its place, issued by the event before this one: a rotation.
        successor: Option<TokenId>,
        /// The event before about this token.
        previous: u64,
    },
    /// Who a token is for was forgotten.
    Erase {
        /// The token.
        id: TokenId,
        /// Its digest.
        digest: Digest,
        /// The event before about this token.
        previous: u64,
    },
    /// A generation became current.
    Publish {
        /// Its epoch.
        epoch: u64,
        /// Its number.
        generation: u64,
        /// BLAKE3 of its manifest.
        manifest: [u8; 32],
    },
    /// The policy names a signer, from now on.
    SignerAdded {
        /// Its verifier key.
        key: String,
        /// What it is trusted for.
        roles: Vec<String>,
    },
    /// A signer's trust ends.
    SignerRetired {
        /// Its verifier key.
        key: String,
        /// When, Unix seconds.
        at: i64,
    },
}

/// What is frozen when a token is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its public name.
    pub id: TokenId,
    /// What it is asked about as.
    pub digest: Digest,
    /// The other system's algorithm, if it was imported.
    pub algorithm: Option<ForeignAlgorithm>,
    /// Kind, audience and scopes.
    pub grant: Grant,
    /// Valid from, Unix seconds.
    pub not_before: Option<i64>,
    /// Dead from, Unix seconds.
    pub expires: Option<i64>,
    /// Commitment to subject and meta; none when both are empty.
    pub commitment: Option<[u8; 32]>,
    /// The token whose place it takes; the event after this one revokes it.
    pub predecessor: Option<TokenId>,
}

impl Event {
    /// The token that the event is about, if it is about one.
    pub fn token(&self) -> Option<TokenId> {
        match &self.what {
            What::Issue(issued) => Some(issued.id),
            What::Revoke { id, .. } | What::Erase { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The digest of that token.
    pub fn digest(&self) -> Option<Digest> {
        match &self.what {
            What::Issue(issued) => Some(issued.digest),
            What::Revoke { digest, .. } | What::Erase { digest, .. } => Some(*digest),
            _ => None,
        }
    }

    /// The event before about the same token.
    pub fn previous(&self) -> Option<u64> {
        match self.what {
            What::Revoke { previous, .. } | What::Erase { previous, .. } => Some(previous),
            _ => None,
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match &self.what {
            What::Issue(Issued { algorithm: None, .. }) => "issue",
            What::Issue(_) => "import",
            What::Revoke { successor: None, .. } => "revoke",
            What::Revoke { .. } => "rotate",
            What::Erase { .. } => "erase",
            What::Publish { .. } => "publish",
            What::SignerAdded { .. } => "signer-added",
            What::SignerRetired { .. } => "signer-retired",
        }
    }

    /// Appends the leaf to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, &Leaf::of(self)).expect("plain text and numbers");
    }

    /// Reads a leaf, and refuses any other text of the same event.
    pub fn parse(entry: &[u8]) -> Result<Event, EventError> {
        let leaf: Leaf<'_> = serde_json::from_slice(entry).map_err(|err| {
            // Without the text that the library's message may quote.
            EventError::Json { column: err.column() }
        })?;
        let event = leaf.into_event()?;
        let mut again = Vec::with_capacity(entry.len());
        event.encode(&mut again);
        if again == entry { Ok(event) } else { Err(EventError::NotCanonical) }
    }
}

/// The fields of a leaf, in their order.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leaf<'a> {
    schema: u32,
    #[serde(borrow, rename = "type")]
    type_name: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    actor: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    request: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    algorithm: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    audience: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    expires: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    commitment: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    predecessor: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    at: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    successor: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    ticket: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<Cow<'a, str>>>,
}

impl<'a> Leaf<'a> {
    fn of(event: &'a Event) -> Leaf<'a> {
        let text = |text: &'a str| Some(Cow::Borrowed(text));
        let Origin { actor, on_behalf_of, request, ticket } = &event.origin;
        let mut leaf = Leaf {
            schema: SCHEMA,
            type_name: event.type_name().into(),
            time: to_rfc3339(event.time).into(),
            actor: actor.into(),
            on_behalf_of: on_behalf_of.as_deref().and_then(text),
            request: request.as_deref().and_then(text),
            ticket: ticket.as_deref().and_then(text),
            id: event.token().map(|id| id.to_string().into()),
            digest: event.digest().map(|digest| hex(&digest).into()),
            previous: event.previous(),
            ..Leaf::default()
        };
        match &event.what {
            What::Issue(issued) => leaf.issue(issued),
            What::Revoke { at, reason, successor, .. } => {
                leaf.at = Some(to_rfc3339(*at).into());
                leaf.reason = text(reason.name());
                leaf.successor = successor.map(|id| id.to_string().into());
            }
            What::Erase { .. } => {}
            What::Publish { epoch, generation, manifest } => {
                leaf.epoch = Some(*epoch);
                leaf.generation = Some(*generation);
                leaf.manifest = Some(hex(manifest).into());
            }
            What::SignerAdded { key, roles } => {
                leaf.key = text(key);
                leaf.roles = Some(roles.iter().map(|role| role.as_str().into()).collect());
            }
            What::SignerRetired { key, at } => {
                leaf.key = text(key);
                leaf.at = Some(to_rfc3339(*at).into());
            }
        }
        leaf
    }

    fn issue(&mut self, issued: &'a Issued) {
        let Issued { grant, .. } = issued;
        self.algorithm = issued.algorithm.map(|algorithm| algorithm.name().into());
        self.kind = Some(grant.kind.as_str().to_owned().into());
        self.audience = (!grant.audience.is_empty()).then(|| grant.audience.as_str().into());
        let scopes = || grant.scopes.iter().map(|scope| scope.as_str().into()).collect();
        self.scopes = (!grant.scopes.is_empty()).then(scopes);
        self.not_before = issued.not_before.map(|at| to_rfc3339(at).into());
        self.expires = issued.expires.map(|at| to_rfc3339(at).into());
        self.commitment = issued.commitment.map(|hash| hex(&hash).into());
        self.predecessor = issued.predecessor.map(|id| id.to_string().into());
    }

    fn into_event(self) -> Result<Event, EventError> {
        if self.schema != SCHEMA {
            return Err(EventError::Schema { found: self.schema });
        }
        let label = |text: &Cow<'_, str>, name| {
            let fits = text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control);
            if fits { Ok(text.to_string()) } else { Err(EventError::Field { name }) }
        };
        let optional = |text: &Option<Cow<'_, str>>, name| {
            text.as_ref().map(|text| label(text, name)).transpose()
        };
        let origin = Origin {
            actor: label(&self.actor, "actor")?,
            on_behalf_of: optional(&self.on_behalf_of, "on_behalf_of")?,
            request: optional(&self.request, "request")?,
            ticket: optional(&self.ticket, "ticket")?,
        };
        let time = time(&self.time, "time")?;
        Ok(Event { time, origin, what: self.what()? })
    }

    fn what(&self) -> Result<What, EventError> {
        let missing = |name| EventError::Field { name };
        match &*self.type_name {
            "issue" | "import" => self.issued().map(What::Issue),
            "revoke" | "rotate" => {
                let reason = self.reason.as_deref().and_then(Reason::from_name);
                Ok(What::Revoke {
                    id: id(&self.id, "id")?,
                    digest: hash(&self.digest, "digest")?,
                    at: time(self.at.as_deref().unwrap_or_default(), "at")?,
                    reason: reason.ok_or(missing("reason"))?,
                    successor: optional_id(&self.successor, "successor")?,
                    previous: self.previous.ok_or(missing("previous"))?,
                })
            }
            "erase" => Ok(What::Erase {
                id: id(&self.id, "id")?,
                digest: hash(&self.digest, "digest")?,
                previous: self.previous.ok_or(missing("previous"))?,
            }),
            "publish" => Ok(What::Publish {
                epoch: self.epoch.ok_or(missing("epoch"))?,
                generation: self.generation.ok_or(missing("generation"))?,
                manifest: hash(&self.manifest, "manifest")?,
            }),
            "signer-added" => Ok(What::SignerAdded {
                key: self.key.as_deref().ok_or(missing("key"))?.to_owned(),
                roles: self.roles.iter().flatten().map(|role| role.to_string()).collect(),
            }),
            "signer-retired" => Ok(What::SignerRetired {
                key: self.key.as_deref().ok_or(missing("key"))?.to_owned(),
                at: time(self.at.as_deref().unwrap_or_default(), "at")?,
            }),
            _ => Err(missing("type")),
        }
    }

    fn issued(&self) -> Result<Issued, EventError> {
        let missing = |name| EventError::Field { name };
        let kind = self.kind.as_deref().and_then(|kind| kind.parse().ok());
        let scopes = self.scopes.iter().flatten().map(|scope| scope.to_string()).collect();
        let audience = self.audience.as_deref().unwrap_or_default();
        let grant = Grant::new(kind.ok_or(missing("kind"))?, audience, scopes);
        let algorithm = self
            .algorithm
            .as_deref()
            .map(|name| ForeignAlgorithm::from_name(name).ok_or(missing("algorithm")));
        let optional_time = |text: &Option<Cow<'_, str>>, name| {
            text.as_deref().map(|text| time(text, name)).transpose()
        };
        let commitment = self.commitment.is_some().then(|| hash(&self.commitment, "commitment"));
        Ok(Issued {
            id: id(&self.id, "id")?,
            digest: hash(&self.digest, "digest")?,
            algorithm: algorithm.transpose()?,
            grant: grant.map_err(|_| missing("scopes"))?,
            not_before: optional_time(&self.not_before, "not_before")?,
            expires: optional_time(&self.expires, "expires")?,
            commitment: commitment.transpose()?,
            predecessor: optional_id(&self.predecessor, "predecessor")?,
        })
    }
}

/// The commitment to who a token is for: SHA-256 of the salt, then the length of the subject (u16,
/// big-endian), the subject, the length of the meta text, and the meta text.
pub fn commitment(salt: &[u8; 32], subject: &str, meta: &str) -> [u8; 32] {
    let short = |text: &str| u16::try_from(text.len()).expect("both are bounded").to_be_bytes();
    let mut hash = Sha256::new();
    hash.update(salt);
    for text in [subject, meta] {
        hash.update(short(text));
        hash.update(text);
    }
    hash.finalize().into()
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

fn hash(text: &Option<Cow<'_, str>>, name: &'static str) -> Result<[u8; 32], EventError> {
    let hash = text.as_deref().and_then(|text| blake3::Hash::from_hex(text).ok());
    hash.map(|hash| *hash.as_bytes()).ok_or(EventError::Field { name })
}

fn id(text: &Option<Cow<'_, str>>, name: &'static str) -> Result<TokenId, EventError> {
    let id = text.as_deref().and_then(|text| text.parse().ok());
    id.ok_or(EventError::Field { name })
}

fn optional_id(
    text: &Option<Cow<'_, str>>,
    name: &'static str,
) -> Result<Option<TokenId>, EventError> {
    text.is_some().then(|| id(text, name)).transpose()
}

fn time(text: &str, name: &'static str) -> Result<i64, EventError> {
    from_rfc3339(text).map(|(unix_s, _)| unix_s).ok_or(EventError::Field { name })
}

/// Why an entry is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Not JSON, or a field that is unknown, doubled or of another type.
    #[error("not the JSON of an event (character {column})")]
    Json {
        /// Where.
        column: usize,
    },
    /// Written by a later version: upgrade.
    #[error("schema {found}, this build reads {SCHEMA}")]
    Schema {
        /// The schema found.
        found: u32,
    },
    /// A field is missing, or not what it should be.
    #[error("field `{name}` is missing or not what it should be")]
    Field {
        /// The field.
        name: &'static str,
    },
    /// Right, and written in another way than this build writes it.
    #[error("not written as events are: another order, spaces, or fields that do not apply")]
    NotCanonical,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    pub(crate) fn samples() -> Vec<Event> {
        let id = |text: &str| text.parse::<TokenId>().unwrap();
        let origin = Origin {
            actor: "uid:1000".to_owned(),
            on_behalf_of: Some("ann \"x\" é".to_owned()),
            request: Some("r-1".to_owned()),
            ticket: Some("OPS-7".to_owned()),
        };
        let issued = Issued {
            id: id("3vK9Qz0aTnB7xW"),
            digest: [0xAB; 32],
            algorithm: None,
            grant: Grant::new("live".parse().unwrap(), "api", vec!["b".into(), "a".into()])
                .unwrap(),
            not_before: Some(1_795_582_800),
            expires: Some(1_796_187_600),
            commitment: Some(commitment(&[9; 32], "ann", "")),
            predecessor: Some(id("00000000000001")),
        };
        let bare = Issued {
            algorithm: Some(ForeignAlgorithm::Sha256),
            grant: Grant::new("live".parse().unwrap(), "", vec![]).unwrap(),
            not_before: None,
            expires: None,
            commitment: None,
            predecessor: None,
            ..issued.clone()
        };
        let revoke = |successor| What::Revoke {
            id: id("00000000000001"),
            digest: [0xCD; 32],
            at: 1_795_582_800,
            reason: Reason::Superseded,
            successor,
            previous: 7,
        };
        let key = "a+00000000+x".to_owned();
        let whats = [
            What::Issue(issued),
            What::Issue(bare),
            revoke(None),
            revoke(Some(id("3vK9Qz0aTnB7xW"))),
            What::Erase { id: id("00000000000001"), digest: [0xCD; 32], previous: 8 },
            What::Publish { epoch: 1, generation: 2, manifest: [1; 32] },
            What::SignerAdded { key: key.clone(), roles: vec!["build".to_owned()] },
            What::SignerRetired { key, at: 1_795_582_800 },
        ];
        let plain = Origin { actor: "uid:0".to_owned(), ..Origin::default() };
        let event = |what: What| {
            let origin = if what.type_name_is_plain() { plain.clone() } else { origin.clone() };
            Event { time: 1_795_582_800, origin, what }
        };
        whats.into_iter().map(event).collect()
    }

    impl What {
        fn type_name_is_plain(&self) -> bool {
            !matches!(self, What::Issue(issued) if issued.algorithm.is_none())
        }
    }

    fn text(event: &Event) -> String {
        let mut out = Vec::new();
        event.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Written out by hand on purpose: this text is hashed, and read by other programs.
    #[test]
    fn the_text_is_that_of_the_format() {
        let expected = format!(
            "{{\"schema\":1,\"type\":\"issue\",\"time\":\"2026-11-25T05:00:00Z\",\
             \"actor\":\"uid:1000\",\"on_behalf_of\":\"ann \\\"x\\\" é\",\"request\":\"r-1\",\
             \"id\":\"3vK9Qz0aTnB7xW\",\"digest\":\"{}\",\"kind\":\"live\",\"audience\":\"api\",\
             \"scopes\":[\"a\",\"b\"],\"not_before\":\"2026-11-25T05:00:00Z\",\
             \"expires\":\"2026-12-02T05:00:00Z\",\"commitment\":\"{}\",\
             \"predecessor\":\"00000000000001\",\"ticket\":\"OPS-7\"}}",
            "ab".repeat(32),
            hex(&commitment(&[9; 32], "ann", ""))
        );
        assert_eq!(text(&samples()[0]), expected);
        let rotate = format!(
            "{{\"schema\":1,\"type\":\"rotate\",\"time\":\"2026-11-25T05:00:00Z\",\
             \"actor\":\"uid:0\",\"id\":\"00000000000001\",\"digest\":\"{}\",\
             \"at\":\"2026-11-25T05:00:00Z\",\"reason\":\"superseded\",\
             \"successor\":\"3vK9Qz0aTnB7xW\",\"previous\":7}}",
            "cd".repeat(32)
        );
        assert_eq!(text(&samples()[3]), rotate);
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        for event in samples() {
            assert_eq!(Event::parse(text(&event).as_bytes()).as_ref(), Ok(&event), "{event:?}");
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        for event in samples() {
            let text = text(&event);
            let name = event.type_name();
            for at in 0..text.len() {
                assert!(Event::parse(&text.as_bytes()[..at]).is_err(), "{name} cut to {at}");
            }
            for (from, to) in [
                (",\"time\"", ", \"time\""),
                ("{\"schema\":1", "{\"schema\":2"),
                ("\"actor\":", "\"acter\":"),
                ("05:00:00Z", "05:00:00.0Z"),
                ("05:00:00Z", "06:00:00+01:00"),
                ("}", ",\"previous\":null}"),
                ("}", ",\"epoch\":3}"),
                ("}", "} "),
                ("uid", "\\u0075id"),
            ] {
                let changed = text.replacen(from, to, 1);
                assert_ne!(changed, text);
                let is_epoch = name == "publish" && to.contains("epoch");
                assert!(Event::parse(changed.as_bytes()).is_err() || is_epoch, "{name}: {changed}");
            }
        }
    }

    /// The same bytes that `tools/verify_evidence.py` hashes.
    #[test]
    fn the_commitment_is_over_lengths_and_texts() {
        let by_hand = Sha256::new()
            .chain_update([9; 32])
            .chain_update([0, 3])
            .chain_update("ann")
            .chain_update([0, 1])
            .chain_update("m")
            .finalize();
        assert_eq!(commitment(&[9; 32], "ann", "m"), <[u8; 32]>::from(by_hand));
        assert_ne!(commitment(&[9; 32], "an", "nm"), commitment(&[9; 32], "ann", "m"));
    }
}

//! The leaf: one event, as JSON with a fixed order of fields. `docs/ledger.md` has every field.
//!
//! ```text
//! {"schema":1,"type":"issue","time":"2026-11-25T05:00:00Z","actor":"uid:1000","id":"3vK9...",
//!  "digest":"<64 hex>","kind":"live","audience":"api","scopes":["orders:read"],
//!  "expires":"2027-02-23T05:00:00Z","commitment":"<64 hex>"}
//! ```
//!
//! One event has one text: fields that do not apply are left out, those that do stand in the order
//! of `docs/ledger.md`, without spaces, and a text that would be written in any other way is refused. The
//! token is in none of them, and of subject and meta only a commitment, so a person can be erased
//! from a ledger that never changes.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::leaf::{LeafReader, LeafWriter};
use crate::claims::Grant;
use crate::table::format::Reason;
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
        let Origin { actor, on_behalf_of, request, ticket } = &self.origin;
        let mut leaf = LeafWriter::begin(out, SCHEMA);
        leaf.text("type", self.type_name());
        leaf.time("time", self.time);
        leaf.text("actor", actor);
        leaf.optional_text("on_behalf_of", on_behalf_of.as_deref());
        leaf.optional_text("request", request.as_deref());
        if let (Some(id), Some(digest)) = (self.token(), self.digest()) {
            leaf.id("id", id);
            leaf.hash("digest", &digest);
        }
        match &self.what {
            What::Issue(issued) => issued.encode(&mut leaf),
            What::Revoke { at, reason, successor, .. } => {
                leaf.time("at", *at);
                leaf.text("reason", reason.name());
                if let Some(successor) = successor {
                    leaf.id("successor", *successor);
                }
            }
            What::SignerRetired { at, .. } => leaf.time("at", *at),
            _ => {}
        }
        leaf.optional_text("ticket", ticket.as_deref());
        if let Some(previous) = self.previous() {
            leaf.number("previous", previous);
        }
        match &self.what {
            What::Publish { epoch, generation, manifest } => {
                leaf.number("epoch", *epoch);
                leaf.number("generation", *generation);
                leaf.hash("manifest", manifest);
            }
            What::SignerAdded { key, roles } => {
                leaf.text("key", key);
                leaf.texts("roles", roles.iter().map(String::as_str));
            }
            What::SignerRetired { key, .. } => leaf.text("key", key),
            _ => {}
        }
        leaf.end();
    }

    /// Reads a leaf, and refuses any other text of the same event.
    pub fn parse(entry: &[u8]) -> Result<Event, EventError> {
        let (mut leaf, schema) = LeafReader::begin(entry)?;
        if schema != u64::from(SCHEMA) {
            return Err(EventError::Schema { found: schema });
        }
        let type_name = leaf.text("type")?;
        let time = leaf.time("time")?;
        let mut origin = Origin {
            actor: label(leaf.text("actor")?, "actor")?,
            on_behalf_of: optional_label(&mut leaf, "on_behalf_of")?,
            request: optional_label(&mut leaf, "request")?,
            ticket: None,
        };
        let what = What::decode(&type_name, &mut leaf, &mut origin.ticket)?;
        leaf.end()?;
        let event = Event { time, origin, what };
        let mut again = Vec::with_capacity(entry.len());
        event.encode(&mut again);
        if again == entry { Ok(event) } else { Err(EventError::NotCanonical) }
    }
}

impl What {
    /// Reads what is left of a leaf, the ticket too, which stands in the middle of it.
    fn decode(
        type_name: &str,
        leaf: &mut LeafReader<'_>,
        ticket: &mut Option<String>,
    ) -> Result<What, EventError> {
        let mut read_ticket = |leaf: &mut LeafReader<'_>| -> Result<(), EventError> {
            *ticket = optional_label(leaf, "ticket")?;
            Ok(())
        };
        match type_name {
            "issue" | "import" => {
                let issued = Issued::decode(leaf)?;
                read_ticket(leaf)?;
                Ok(What::Issue(issued))
            }
            "revoke" | "rotate" => {
                let (id, digest) = (leaf.id("id")?, leaf.hash("digest")?);
                let at = leaf.time("at")?;
                let reason = Reason::from_name(&leaf.text("reason")?);
                let reason = reason.ok_or(EventError::Field { name: "reason" })?;
                let successor = leaf.optional_id("successor")?;
                read_ticket(leaf)?;
                let previous = leaf.number("previous")?;
                Ok(What::Revoke { id, digest, at, reason, successor, previous })
            }
            "erase" => {
                let (id, digest) = (leaf.id("id")?, leaf.hash("digest")?);
                read_ticket(leaf)?;
                Ok(What::Erase { id, digest, previous: leaf.number("previous")? })
            }
            "publish" => {
                read_ticket(leaf)?;
                let (epoch, generation) = (leaf.number("epoch")?, leaf.number("generation")?);
                Ok(What::Publish { epoch, generation, manifest: leaf.hash("manifest")? })
            }
            "signer-added" => {
                read_ticket(leaf)?;
                let key = leaf.text("key")?.into_owned();
                let roles = leaf.optional_texts("roles")?;
                let roles = roles.ok_or(EventError::Field { name: "roles" })?;
                Ok(What::SignerAdded { key, roles })
            }
            "signer-retired" => {
                let at = leaf.time("at")?;
                read_ticket(leaf)?;
                Ok(What::SignerRetired { key: leaf.text("key")?.into_owned(), at })
            }
            _ => Err(EventError::Field { name: "type" }),
        }
    }
}

impl Issued {
    fn encode(&self, leaf: &mut LeafWriter<'_>) {
        let Issued { grant, .. } = self;
        leaf.optional_text("algorithm", self.algorithm.map(ForeignAlgorithm::name));
        leaf.text("kind", grant.kind.as_str());
        leaf.optional_text("audience", Some(&*grant.audience).filter(|text| !text.is_empty()));
        if !grant.scopes.is_empty() {
            leaf.texts("scopes", grant.scopes.iter().map(String::as_str));
        }
        for (name, at) in [("not_before", self.not_before), ("expires", self.expires)] {
            if let Some(at) = at {
                leaf.time(name, at);
            }
        }
        if let Some(commitment) = &self.commitment {
            leaf.hash("commitment", commitment);
        }
        if let Some(predecessor) = self.predecessor {
            leaf.id("predecessor", predecessor);
        }
    }

    fn decode(leaf: &mut LeafReader<'_>) -> Result<Issued, EventError> {
        let field = |name| EventError::Field { name };
        let (id, digest) = (leaf.id("id")?, leaf.hash("digest")?);
        let algorithm = leaf.optional_text("algorithm")?;
        let algorithm = algorithm
            .map(|name| ForeignAlgorithm::from_name(&name).ok_or(field("algorithm")))
            .transpose()?;
        let kind = leaf.text("kind")?.parse().map_err(|_| field("kind"))?;
        let audience = leaf.optional_text("audience")?.unwrap_or_default();
        let scopes = leaf.optional_texts("scopes")?.unwrap_or_default();
        Ok(Issued {
            id,
            digest,
            algorithm,
            grant: Grant::new(kind, &audience, scopes).map_err(|_| field("scopes"))?,
            not_before: leaf.optional_time("not_before")?,
            expires: leaf.optional_time("expires")?,
            commitment: leaf.optional_hash("commitment")?,
            predecessor: leaf.optional_id("predecessor")?,
        })
    }
}

fn label(text: Cow<'_, str>, name: &'static str) -> Result<String, EventError> {
    let fits = text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control);
    if fits { Ok(text.into_owned()) } else { Err(EventError::Field { name }) }
}

fn optional_label(
    leaf: &mut LeafReader<'_>,
    name: &'static str,
) -> Result<Option<String>, EventError> {
    leaf.optional_text(name)?.map(|text| label(text, name)).transpose()
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
        found: u64,
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

    fn hex(hash: &[u8; 32]) -> String {
        blake3::Hash::from_bytes(*hash).to_hex().to_string()
    }

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

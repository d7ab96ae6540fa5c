//! The token list: NDJSON, or CSV with a header line. One token a line.
//!
//! | column | value |
//! |---|---|
//! | `token`, `digest` or `sha256` | just one of them: a token of this deployment; its digest in hex; the SHA-256 of a foreign token in hex (with or without `\x` before it, as PostgreSQL writes it) |
//! | `id` | 14 base62 characters; asked for beside `digest`, otherwise derived |
//! | `kind` | asked for beside `digest` and `sha256`; a token bears its own |
//! | `subject`, `meta` | who the token is for, and a note; meta may be a JSON object |
//! | `audience` | who may accept it |
//! | `scopes` | separated by spaces; in NDJSON also an array |
//! | `not_before`, `expires`, `revoked_at` | RFC 3339 with offset |
//! | `reason` | why it is revoked; goes with `revoked_at` |
//!
//! An empty CSV field and a missing or null JSON one are the same. A line that does not fit is
//! refused with its reason, and the reason never holds any of the line: there may be a token in it.

use std::borrow::Cow;

use serde::Deserialize;
use zerocopy::little_endian::U32;
use zeroize::Zeroize;

use super::grants::Grants;
use crate::claims;
use crate::table::format::{Cold, FOREIGN, Reason, Record};
use crate::time::{TableTime, from_rfc3339};
use crate::token::{
    Digest, DomainKey, ForeignAlgorithm, Kind, Parts, Prefix, TokenId, strip_scheme,
};

/// The longest line. A row of the longest fields has under 16 KiB.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// The columns, in the order of a CSV file that this crate writes.
pub const COLUMNS: [&str; 13] = [
    "token",
    "digest",
    "sha256",
    "id",
    "kind",
    "subject",
    "audience",
    "scopes",
    "meta",
    "not_before",
    "expires",
    "revoked_at",
    "reason",
];

/// A line as it stands, cut into columns.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields<'a> {
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sha256: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    audience: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scopes: Option<Scopes<'a>>,
    #[serde(default)]
    meta: Option<serde_json::Value>,
    #[serde(borrow, default)]
    not_before: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    expires: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    revoked_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

/// Scopes, in one of two ways.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Scopes<'a> {
    /// One text, separated by spaces.
    Separated(#[serde(borrow)] Cow<'a, str>),
    /// One text each.
    Array(Vec<String>),
}

impl Scopes<'_> {
    pub(super) fn into_list(self) -> Vec<String> {
        match self {
            Scopes::Array(scopes) => scopes,
            Scopes::Separated(text) => {
                text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
            }
        }
    }
}

/// A line that was understood. Its grant is a number of its block.
pub(super) struct Row<'a> {
    pub(super) record: Record,
    pub(super) cold: Cold,
    pub(super) subject: Cow<'a, str>,
    pub(super) meta: Cow<'a, str>,
}

/// What a line is read against.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) key: DomainKey,
    pub(super) prefix: Prefix,
    /// The operator said that foreign tokens have 128 random bits or more.
    pub(super) high_entropy: bool,
}

impl<'a> Fields<'a> {
    /// Reads a line of NDJSON.
    pub(super) fn from_json(line: &'a [u8]) -> Result<Fields<'a>, String> {
        serde_json::from_slice(line).map_err(|err| json_fault(&err))
    }

    /// Takes one CSV field. `column` is one of [`COLUMNS`].
    pub(super) fn set(&mut self, column: usize, value: Cow<'a, str>) {
        if value.is_empty() {
            return;
        }
        let value = Some(value);
        match COLUMNS[column] {
            "token" => self.token = value,
            "digest" => self.digest = value,
            "sha256" => self.sha256 = value,
            "id" => self.id = value,
            "kind" => self.kind = value,
            "subject" => self.subject = value,
            "audience" => self.audience = value,
            "scopes" => self.scopes = value.map(Scopes::Separated),
            "meta" => self.meta = value.map(|text| serde_json::Value::String(text.into_owned())),
            "not_before" => self.not_before = value,
            "expires" => self.expires = value,
            "revoked_at" => self.revoked_at = value,
            _ => self.reason = value,
        }
    }

    /// Understands the line, one of the block of `grants`, and takes it out of its columns.
    pub(super) fn take_row(
        &mut self,
        rules: &Rules,
        grants: &mut Grants,
    ) -> Result<Row<'a>, String> {
        let named = self.identify(rules);
        if let Some(Cow::Owned(mut token)) = self.token.take() {
            token.zeroize();
        }
        let Named { digest, id, flags, kind } = named?;
        let audience = self.audience.as_deref().unwrap_or_default();
        let grant = grants.number(kind, audience, self.scopes.take())?;
        let (revoked_at, reason) = self.revocation()?;
        let subject = self.subject.take().unwrap_or_default();
        let meta = meta_text(self.meta.take())?;
        claims::check_subject(&subject).map_err(|err| err.to_string())?;
        claims::check_meta(&meta).map_err(|err| err.to_string())?;
        let not_before = start("not_before", self.not_before.as_deref())?;
        let expires = end("expires", self.expires.as_deref())?;
        let number = |time: TableTime| U32::new(time.0);
        let record = Record {
            digest,
            id: id.bytes(),
            flags,
            reserved: 0.into(),
            grant: grant.into(),
            not_before: number(not_before),
            expires: number(expires),
            revoked_at: number(revoked_at),
        };
        let cold = Cold { issued_at: 0.into(), ledger_index: [0; 7], reason };
        Ok(Row { record, cold, subject, meta })
    }

    /// Digest, id and kind, from whichever of the three columns there is.
    fn identify(&self, rules: &Rules) -> Result<Named, String> {
        match (self.token.as_deref(), self.digest.as_deref(), self.sha256.as_deref()) {
            (Some(token), None, None) => self.of_token(token, rules),
            (None, Some(digest), None) => self.of_digest(digest),
            (None, None, Some(hash)) => self.of_sha256(hash, rules),
            (None, None, None) => Err("none of token, digest and sha256 is there".to_owned()),
            _ => Err("more than one of token, digest and sha256 is there".to_owned()),
        }
    }

    fn of_token(&self, token: &str, rules: &Rules) -> Result<Named, String> {
        let text = strip_scheme(token.as_bytes());
        let parts = Parts::parse(text).map_err(|err| format!("token: {err}"))?;
        if parts.prefix() != rules.prefix {
            let (found, ours) = (parts.prefix(), rules.prefix);
            return Err(format!("token: its prefix is {found}, this deployment's is {ours}"));
        }
        let id = parts.id();
        if self.id.as_deref().is_some_and(|found| found != id.to_string()) {
            return Err("id is not the one in the token".to_owned());
        }
        if self.kind.as_deref().is_some_and(|found| found != parts.kind().as_str()) {
            return Err("kind is not the one in the token".to_owned());
        }
        Ok(Named { digest: rules.key.digest(text), id, flags: 0, kind: parts.kind() })
    }

    fn of_digest(&self, digest: &str) -> Result<Named, String> {
        let digest = hex32(digest).ok_or("digest: not 64 hex digits")?;
        let id = self.id.as_deref().ok_or("id is missing; it goes with digest")?;
        let id = id.parse().map_err(|_| "id: not 14 base62 characters")?;
        Ok(Named { digest, id, flags: 0, kind: self.kind()? })
    }

    fn of_sha256(&self, hash: &str, rules: &Rules) -> Result<Named, String> {
        if !rules.high_entropy {
            return Err("sha256 needs --high-entropy, a statement that the tokens behind the \
                        hashes have 128 random bits or more: whoever reads a table can try guesses"
                .to_owned());
        }
        if hash.starts_with('$') {
            return Err("sha256: this is a salted or slow hash (bcrypt, argon2, ...), which \
                        cannot be imported: its token cannot be found again from its hash"
                .to_owned());
        }
        let stored = hex32(hash.strip_prefix("\\x").unwrap_or(hash));
        let stored = stored.ok_or("sha256: not 64 hex digits")?;
        let digest = rules.key.foreign_digest(ForeignAlgorithm::Sha256, &stored);
        let id = TokenId::of_foreign(&digest);
        if self.id.as_deref().is_some_and(|found| found != format!("foreign:{id}")) {
            return Err("id: a foreign token's is derived; leave it out".to_owned());
        }
        Ok(Named { digest, id, flags: FOREIGN, kind: self.kind()? })
    }

    fn kind(&self) -> Result<Kind, String> {
        let kind = self.kind.as_deref().ok_or("kind is missing")?;
        kind.parse().map_err(|err| format!("kind: {err}"))
    }

    fn revocation(&self) -> Result<(TableTime, u8), String> {
        let revoked_at = end("revoked_at", self.revoked_at.as_deref())?;
        let reason = match self.reason.as_deref() {
            None => Reason::Other,
            Some(name) => Reason::from_name(name).ok_or_else(|| {
                let known = Reason::ALL.map(Reason::name).join(", ");
                format!("reason: not one of {known}")
            })?,
        };
        match (revoked_at.is_some(), self.reason.is_some()) {
            (true, _) => Ok((revoked_at, reason as u8)),
            (false, false) => Ok((TableTime::NONE, 0)),
            (false, true) => Err("reason without revoked_at".to_owned()),
        }
    }
}

struct Named {
    digest: Digest,
    id: TokenId,
    flags: u8,
    kind: Kind,
}

fn meta_text<'a>(meta: Option<serde_json::Value>) -> Result<Cow<'a, str>, String> {
    match meta {
        None | Some(serde_json::Value::Null) => Ok(Cow::Borrowed("")),
        Some(serde_json::Value::String(text)) => Ok(Cow::Owned(text)),
        // Keys in order and without spaces: one object, one text.
        Some(object @ serde_json::Value::Object(_)) => Ok(Cow::Owned(object.to_string())),
        Some(_) => Err("meta: neither a text nor an object".to_owned()),
    }
}

fn start(column: &'static str, text: Option<&str>) -> Result<TableTime, String> {
    let Some(text) = text else { return Ok(TableTime::NONE) };
    let (unix_s, nanoseconds) = time(column, text)?;
    TableTime::start(unix_s, nanoseconds).ok_or_else(|| out_of_range(column))
}

fn end(column: &'static str, text: Option<&str>) -> Result<TableTime, String> {
    let Some(text) = text else { return Ok(TableTime::NONE) };
    let (unix_s, _) = time(column, text)?;
    TableTime::end(unix_s).ok_or_else(|| out_of_range(column))
}

fn time(column: &'static str, text: &str) -> Result<(i64, u32), String> {
    from_rfc3339(text).ok_or_else(|| {
        format!("{column}: not an RFC 3339 time with its offset, such as 2027-01-31T12:00:00Z")
    })
}

fn out_of_range(column: &'static str) -> String {
    format!("{column}: after the year 2156, which the format cannot say")
}

/// The value of each hex digit.
const HEX_VALUES: [u8; 256] = {
    let mut values = [NO_HEX_DIGIT; 256];
    let mut value = 0_u8;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};
const NO_HEX_DIGIT: u8 = 0xF0;

/// 32 bytes in hex. Without a branch a digit, of which half would be foretold wrongly: 20 ns, where
/// [`blake3::Hash::from_hex`] takes 330.
fn hex32(text: &str) -> Option<[u8; 32]> {
    let (digits, []) = <&[u8; 64]>::try_from(text.as_bytes()).ok()?.as_chunks::<2>() else {
        return None;
    };
    let mut seen = 0;
    let bytes = std::array::from_fn(|at| {
        let [high, low] = digits[at].map(|digit| HEX_VALUES[usize::from(digit)]);
        seen |= high | low;
        high << 4 | low
    });
    (seen & NO_HEX_DIGIT == 0).then_some(bytes)
}

/// What is wrong with a line of JSON, without the line: the library's messages may quote it.
fn json_fault(err: &serde_json::Error) -> String {
    let said = err.to_string();
    let field = ["unknown field `", "duplicate field `"].iter().find_map(|begins| {
        let name = said.strip_prefix(begins)?.split('`').next()?;
        // A name that cannot be a token.
        let is_plain =
            name.len() <= 24 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_plain.then(|| format!("{}{name}`", begins))
    });
    let what = field.unwrap_or_else(|| {
        match err.classify() {
            serde_json::error::Category::Data => "a column of the wrong type, or an unknown one",
            serde_json::error::Category::Eof => "the line ends within the JSON",
            _ => "not JSON",
        }
        .to_owned()
    });
    format!("{what} (character {})", err.column())
}

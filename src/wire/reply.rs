//! What the daemon answers. The rows of VERDICTS are read and written here, byte by byte, since
//! they are the verdict path; the rest goes through `control.rs`.

use crate::time::TableTime;
use crate::token::{ID_BYTES, TokenId};
use crate::verdict::Verdict;

use super::bytes::{Reader, push_frame};
use super::{
    Claims, DIGESTS_MAX, ErrorCode, FrameError, Hello, ROW_BYTES, VERDICTS_HEAD_BYTES, control,
};

/// Numbers of the replies.
pub(super) const HELLO: u32 = 0;
const VERDICTS: u32 = 1;
pub(super) const STATUS: u32 = 2;
pub(super) const ERROR: u32 = 3;

/// The answer comes from a generation whose manifest has expired, which the policy allows.
const STALE: u32 = 1;
/// Stands where a row names its table, when no table knows the token.
const NO_RECORD: u8 = 255;

const ID_AT: usize = 4;
const TABLE_AT: usize = ID_AT + ID_BYTES;
const EXPIRES_AT: usize = TABLE_AT + 1;
const GRANT_AT: usize = EXPIRES_AT + 4;
const _: () = assert!(GRANT_AT + 4 == ROW_BYTES);

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// Who the daemon is and what it takes.
    Hello(Hello),
    /// One row for each digest or token, in order.
    Verdicts(Verdicts<'a>),
    /// How the daemon is, as JSON.
    Status(&'a str),
    /// The request was not answered.
    Error {
        /// Why.
        code: ErrorCode,
        /// Why, for a person.
        message: &'a str,
    },
}

impl<'a> Reply<'a> {
    /// Reads a body, all of it.
    pub fn decode(body: &'a [u8]) -> Result<Reply<'a>, FrameError> {
        let mut reader = Reader::new(body);
        match reader.u32()? {
            HELLO => control::decode_hello(body).map(Reply::Hello),
            VERDICTS => Verdicts::decode(reader).map(Reply::Verdicts),
            STATUS => control::decode_status(body).map(Reply::Status),
            ERROR => {
                let (code, message) = control::decode_error(body)?;
                Ok(Reply::Error { code, message })
            }
            found => Err(FrameError::Tag { found }),
        }
    }
}

/// What the rows of a reply come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictsHead {
    /// The manifest has expired, and the policy says to serve it nevertheless.
    pub stale: bool,
    /// The epoch of the generation.
    pub epoch: u64,
    /// Its number. With epoch 0 and generation 0 there is none, and all rows are unavailable.
    pub generation: u64,
    /// The sequence of the revocations note; 0 = none.
    pub revocations: u64,
    /// Seconds since the manifest was issued.
    pub age_s: u64,
}

impl VerdictsHead {
    /// What stands before the rows, the number of the reply and their count too.
    fn encode(&self, rows: usize) -> [u8; VERDICTS_HEAD_BYTES] {
        let flags = if self.stale { STALE } else { 0 };
        let words = [
            u64::from(VERDICTS) | u64::from(flags) << 32,
            self.epoch,
            self.generation,
            self.revocations,
            self.age_s,
            rows as u64,
        ];
        let mut out = [0; VERDICTS_HEAD_BYTES];
        for (bytes, word) in out.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        out
    }
}

/// The answers to one VERIFY or VERIFY_TOKENS.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts<'a> {
    /// What they come from.
    pub head: VerdictsHead,
    /// One for each digest or token that was asked about, in order.
    pub rows: Rows<'a>,
    /// Empty unless asked for; else one for each row, and `Some` only for a token that is known.
    pub claims: Vec<Option<Claims>>,
}

impl<'a> Verdicts<'a> {
    fn decode(mut reader: Reader<'a>) -> Result<Verdicts<'a>, FrameError> {
        let stale = match reader.u32()? {
            0 => false,
            STALE => true,
            found => return Err(FrameError::Flags { found }),
        };
        let head = VerdictsHead {
            stale,
            epoch: reader.u64()?,
            generation: reader.u64()?,
            revocations: reader.u64()?,
            age_s: reader.u64()?,
        };
        let rows = reader.items()?;
        if rows.len() > DIGESTS_MAX {
            let found = rows.len() as u64;
            return Err(FrameError::TooMany { field: "rows", found, count_max: DIGESTS_MAX });
        }
        for row in rows {
            Row::decode(row)?;
        }
        let rows = Rows(rows.iter());
        let claims = control::decode_claims(reader.left())?;
        check_claims(&rows, &claims)?;
        Ok(Verdicts { head, rows, claims })
    }
}

fn check_claims(rows: &Rows<'_>, claims: &[Option<Claims>]) -> Result<(), FrameError> {
    if claims.is_empty() {
        return Ok(());
    }
    if claims.len() != rows.len() {
        return Err(FrameError::RowCount { expected: rows.len(), found: claims.len() });
    }
    let mut both = rows.clone().zip(claims);
    if both.any(|(row, claims)| row.record.is_none() && claims.is_some()) {
        return Err(FrameError::Row);
    }
    Ok(())
}

/// The rows of a reply, in order. All were checked when it was decoded.
#[derive(Clone, Debug)]
pub struct Rows<'a>(std::slice::Iter<'a, EncodedRow>);

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.0.next()?;
        Some(Row::decode(row).expect("checked when it was decoded"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Rows<'_> {}

impl PartialEq for Rows<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

/// The answer about one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The verdict.
    pub verdict: Verdict,
    /// What the table says of the token, if a table knows it and the caller may ask about it.
    pub record: Option<Record>,
}

/// A row as it stands in a reply.
pub type EncodedRow = [u8; ROW_BYTES];

/// The number of the verdict in a row that [`Row::encode`] has written.
pub fn verdict_number(row: &EncodedRow) -> usize {
    const _: () = assert!(Verdict::ALL.len() <= u8::MAX as usize);
    usize::from(row[0])
}

/// What a table says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The public name of the token.
    pub id: TokenId,
    /// The table that knows it: 0 = base, then the overlays upwards.
    pub table: u8,
    /// When it expires.
    pub expires: TableTime,
    /// Its grant's number in that table. Two tokens of one reply with the same table and grant
    /// may do the same.
    pub grant: u32,
}

impl Row {
    /// A row about a token of which nothing is known, or may be said.
    pub const fn without_record(verdict: Verdict) -> Row {
        Row { verdict, record: None }
    }

    /// The row as it stands in the reply.
    #[inline]
    pub fn encode(&self) -> EncodedRow {
        assert!(self.is_consistent(), "a verdict is given from the record that its row shows");
        let mut out = [0; ROW_BYTES];
        out[..ID_AT].copy_from_slice(&(self.verdict as u32).to_le_bytes());
        out[TABLE_AT] = NO_RECORD;
        if let Some(record) = &self.record {
            out[ID_AT..TABLE_AT].copy_from_slice(&record.id.bytes());
            out[TABLE_AT] = record.table;
            out[EXPIRES_AT..GRANT_AT].copy_from_slice(&record.expires.0.to_le_bytes());
            out[GRANT_AT..].copy_from_slice(&record.grant.to_le_bytes());
        }
        out
    }

    /// Reads a row, and refuses one that contradicts itself.
    pub fn decode(row: &EncodedRow) -> Result<Row, FrameError> {
        let mut reader = Reader::new(row);
        let found = reader.u32()?;
        let verdict = Verdict::from_number(found).ok_or(FrameError::Verdict { found })?;
        let (id, [table]) = (reader.array()?, reader.array()?);
        let (expires, grant) = (TableTime(reader.u32()?), reader.u32()?);
        let record = if table == NO_RECORD {
            if id != [0; ID_BYTES] || expires.is_some() || grant != 0 {
                return Err(FrameError::Row);
            }
            None
        } else {
            let id = TokenId::from_bytes(id).ok_or(FrameError::Row)?;
            Some(Record { id, table, expires, grant })
        };
        let row = Row { verdict, record };
        if row.is_consistent() { Ok(row) } else { Err(FrameError::Row) }
    }

    /// No token is valid without a record, and a token that is not known, or was not looked for,
    /// has none.
    fn is_consistent(&self) -> bool {
        match (self.verdict, &self.record) {
            (_, Some(record)) if record.table == NO_RECORD => false,
            (Verdict::Valid, None) => false,
            (Verdict::Unavailable | Verdict::Malformed | Verdict::Unknown, Some(_)) => false,
            _ => true,
        }
    }
}

/// Appends a VERDICTS reply to `out`. `claims` is empty unless they were asked for; else it has
/// one entry for each row.
pub fn push_verdicts(
    out: &mut Vec<u8>,
    head: &VerdictsHead,
    rows: &[EncodedRow],
    claims: &[Option<Claims>],
) {
    assert!(claims.is_empty() || claims.len() == rows.len(), "claims come for all rows or none");
    push_frame(out, |out| {
        out.extend_from_slice(&head.encode(rows.len()));
        out.extend_from_slice(rows.as_flattened());
        control::push_claims(out, claims);
    });
}

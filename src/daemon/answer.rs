//! From frames to replies, without any I/O: the verdict path.
//!
//! A tick of a worker is one [`Batch`]. First every complete frame of every connection is
//! *planned*: decoded where it stands, its digests laid beside those of all others. Then all
//! digests are looked up as one prefetched batch, and the replies are written in the order of the
//! frames. So a hundred pipelined single questions cost what one question of a hundred does.
//!
//! The buffers are kept from tick to tick; nothing is allocated for a token.

use std::ops::Range;

use super::live::Serving;
use super::status;
use super::{Live, live};
use crate::claims::{Grant, Mismatch};
use crate::store::Generation;
use crate::table::{Found, Personal};
use crate::time::TableTime;
use crate::token::{Digest, TokenId};
use crate::verdict::{Verdict, judge};
use crate::wire::{
    CLAIMS_BYTES_MAX, Claims, DIGESTS_MAX, ErrorCode, FrameError, Hello, Limits, PROTOCOL_VERSION,
    ROW_BYTES, Record, Request, RequirementRef, Row, push_error, push_hello, push_status,
    push_verdicts,
};

/// The table that the base is, in rows.
const BASE: u8 = 0;
/// Digests after which a tick takes no more frames: at some 20 ns each, a millisecond.
const DIGESTS_A_TICK: usize = 3 * DIGESTS_MAX;

/// The frames of one tick.
#[derive(Default)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    digests: Vec<Digest>,
    /// Digests in the batch that stand for a text that is no token; ascending.
    malformed: Vec<usize>,
    /// Requirements, as they stood in their frames.
    requirements: Vec<u8>,
    rows: Vec<Row>,
    /// Rank of each row's record.
    ranks: Vec<Option<u32>>,
}

struct Frame {
    connection: usize,
    asks: Asks,
}

enum Asks {
    Verdicts { digests: Range<usize>, requirement: Range<usize>, claims_wanted: bool },
    Hello,
    Status,
    Nothing { code: ErrorCode, message: String },
}

/// What came of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) flow: Flow,
    /// Bytes that its reply may have.
    pub(super) reply_bytes: usize,
}

/// Whether a connection goes on after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Close,
}

impl Batch {
    /// Whether what is left had better wait for the next tick.
    pub(super) fn is_full(&self) -> bool {
        self.digests.len() >= DIGESTS_A_TICK
    }

    /// Empties the batch for the next tick.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.digests.clear();
        self.malformed.clear();
        self.requirements.clear();
        self.rows.clear();
        self.ranks.clear();
    }

    /// Decodes one frame and adds what it asks to the batch.
    pub(super) fn plan(
        &mut self,
        connection: usize,
        greeted: &mut bool,
        body: &[u8],
        serving: &Serving,
    ) -> Planned {
        let asks = match Request::decode(body) {
            Err(err) => refusal(&err),
            Ok(Request::Hello { version }) if version == PROTOCOL_VERSION => {
                *greeted = true;
                Asks::Hello
            }
            Ok(Request::Hello { version }) => nothing(
                ErrorCode::Version,
                format!("this daemon speaks version {PROTOCOL_VERSION}, not {version}"),
            ),
            Ok(_) if !*greeted => {
                nothing(ErrorCode::HelloFirst, "the first frame must be HELLO".to_owned())
            }
            Ok(Request::Status) => Asks::Status,
            Ok(Request::Verify(verify)) => {
                let digests = self.plan_digests(verify.digests);
                self.plan_verdicts(digests, &verify.requirement, verify.claims_wanted)
            }
            Ok(Request::VerifyTokens(verify)) => {
                let digests = self.plan_tokens(verify.tokens, serving);
                self.plan_verdicts(digests, &verify.requirement, verify.claims_wanted)
            }
        };
        let closes = matches!(&asks, Asks::Nothing { code, .. } if code.closes());
        let flow = if closes { Flow::Close } else { Flow::Continue };
        let planned = Planned { flow, reply_bytes: asks.reply_bytes_max() };
        self.frames.push(Frame { connection, asks });
        planned
    }

    /// Adds an error for bytes that are no frame.
    pub(super) fn refuse(&mut self, connection: usize, code: ErrorCode, message: &str) {
        self.frames.push(Frame { connection, asks: nothing(code, message.to_owned()) });
    }

    fn plan_digests(&mut self, digests: &[Digest]) -> Range<usize> {
        let from = self.digests.len();
        self.digests.extend_from_slice(digests);
        from..self.digests.len()
    }

    fn plan_tokens<'a>(
        &mut self,
        tokens: impl Iterator<Item = &'a [u8]>,
        serving: &Serving,
    ) -> Range<usize> {
        let from = self.digests.len();
        for token in tokens {
            let digest = serving.domain.digest(token).unwrap_or_else(|_| {
                self.malformed.push(self.digests.len());
                Digest::default()
            });
            self.digests.push(digest);
        }
        from..self.digests.len()
    }

    fn plan_verdicts(
        &mut self,
        digests: Range<usize>,
        requirement: &RequirementRef<'_>,
        claims_wanted: bool,
    ) -> Asks {
        let from = self.requirements.len();
        self.requirements.extend_from_slice(requirement.bytes());
        Asks::Verdicts { digests, requirement: from..self.requirements.len(), claims_wanted }
    }

    /// Answers all frames. `output` is handed a connection and what appends its reply.
    pub(super) fn answer(
        &mut self,
        live: &Live,
        serving: &Serving,
        mut output: impl FnMut(usize, &mut dyn FnMut(&mut Vec<u8>)),
    ) {
        if self.frames.is_empty() {
            return;
        }
        let now = live.now(serving);
        let head = serving.head(now);
        self.judge_all(serving, now);
        for frame in &self.frames {
            output(frame.connection, &mut |out| match &frame.asks {
                Asks::Verdicts { digests, claims_wanted, .. } => {
                    let claims = match serving.usable(now).filter(|_| *claims_wanted) {
                        Some(generation) => self.claims(generation, digests.clone()),
                        None if *claims_wanted => vec![None; digests.len()],
                        None => Vec::new(),
                    };
                    push_verdicts(out, &head, self.rows[digests.clone()].iter().copied(), &claims);
                }
                Asks::Hello => push_hello(out, &hello(serving)),
                Asks::Status => push_status(out, &status::to_json(live, serving)),
                Asks::Nothing { code, message } => {
                    live.counters.frame_refused();
                    push_error(out, *code, message);
                }
            });
        }
        self.count(&live.counters);
    }

    fn claims(&self, generation: &Generation, rows: Range<usize>) -> Vec<Option<Claims>> {
        rows.map(|index| claims_of(generation, self.rows[index].record?, self.ranks[index]?))
            .collect()
    }

    /// Looks all digests up and gives each its row.
    fn judge_all(&mut self, serving: &Serving, now: TableTime) {
        let Batch { frames, digests, malformed, requirements, rows, ranks } = self;
        let Some(generation) = serving.usable(now) else {
            rows.resize(digests.len(), Row::without_record(Verdict::Unavailable));
            ranks.resize(digests.len(), None);
            return;
        };
        let mut malformed = malformed.iter().copied().peekable();
        let mut asking = frames.iter().filter_map(|frame| match &frame.asks {
            Asks::Verdicts { digests, requirement, .. } => Some((digests.end, requirement)),
            _ => None,
        });
        let mut question = Question::default();
        generation.base.get_many(digests, |index, found| {
            while index >= question.end {
                let (end, requirement) = asking.next().expect("every digest is of a frame");
                question = Question::new(end, &requirements[requirement.clone()]);
            }
            let row = if malformed.next_if_eq(&index).is_some() {
                Row::without_record(Verdict::Malformed)
            } else {
                question.row(generation, found, now)
            };
            ranks.push(row.record.and(found).map(|found| found.rank));
            rows.push(row);
        });
    }

    fn count(&self, counters: &live::Counters) {
        let mut counts = [0; Verdict::ALL.len()];
        for row in &self.rows {
            counts[row.verdict as usize] += 1;
        }
        counters.verdicts(&counts);
    }
}

impl Asks {
    fn reply_bytes_max(&self) -> usize {
        match self {
            Self::Verdicts { digests, claims_wanted, .. } => {
                let claims = if *claims_wanted { CLAIMS_BYTES_MAX } else { 0 };
                digests.len() * (ROW_BYTES + claims)
            }
            // A status is under 4 KiB; the others are smaller.
            _ => 4096,
        }
    }
}

fn nothing(code: ErrorCode, message: String) -> Asks {
    Asks::Nothing { code, message }
}

fn refusal(err: &FrameError) -> Asks {
    nothing(err.code(), err.to_string())
}

/// The requirement of one frame, with what it came to for the grants that were seen last.
#[derive(Default)]
struct Question<'a> {
    /// First digest that is not of this frame.
    end: usize,
    requirement: Option<RequirementRef<'a>>,
    memo: [Option<(u32, Result<(), Mismatch>)>; MEMO],
}

/// Most tokens of a frame share a few grants.
const MEMO: usize = 8;

impl<'a> Question<'a> {
    fn new(end: usize, requirement: &'a [u8]) -> Question<'a> {
        let requirement = RequirementRef::again(requirement);
        let asks = !requirement.is_any();
        Question { end, requirement: asks.then_some(requirement), memo: [None; MEMO] }
    }

    fn row(&mut self, generation: &Generation, found: Option<Found<'_>>, now: TableTime) -> Row {
        let Some(Found { record, .. }) = found else {
            return Row::without_record(Verdict::Unknown);
        };
        let grant = record.grant.get();
        let verdict = judge(&record.standing(), now, || self.admits(generation, grant));
        let Some(id) = TokenId::from_bytes(record.id) else {
            // Verified tables have no such record; without an id there is nothing to vouch for.
            return Row::without_record(Verdict::Unknown);
        };
        let expires = TableTime(record.expires.get());
        Row { verdict, record: Some(Record { id, table: BASE, expires, grant }) }
    }

    fn admits(&mut self, generation: &Generation, grant: u32) -> Result<(), Mismatch> {
        let Some(requirement) = &self.requirement else { return Ok(()) };
        let slot = &mut self.memo[grant as usize % MEMO];
        if let Some((seen, admits)) = slot
            && *seen == grant
        {
            return *admits;
        }
        // A grant that is not there admits nothing.
        let view = generation.base.grant(grant).ok_or(Mismatch::Kind);
        let admits = view.and_then(|view| {
            view.admits(requirement.kind, requirement.audience, requirement.scopes())
        });
        *slot = Some((grant, admits));
        admits
    }
}

fn claims_of(generation: &Generation, record: Record, rank: u32) -> Option<Claims> {
    let grant = Grant::decode(generation.base.grant_bytes(record.grant)?).ok()?;
    let (subject, meta) = match generation.subjects.get(rank)? {
        Personal::Known { subject, meta } => (subject, meta),
        Personal::Erased => ("", ""),
    };
    Some(Claims {
        kind: grant.kind.to_string(),
        audience: grant.audience,
        scopes: grant.scopes,
        subject: subject.to_owned(),
        meta: meta.to_owned(),
    })
}

fn hello(serving: &Serving) -> Hello {
    let manifest = serving.judged.as_ref().map(|judged| &judged.manifest);
    Hello {
        domain: Some(serving.domain.clone()),
        epoch: manifest.map_or(0, |manifest| manifest.epoch),
        generation: manifest.map_or(0, |manifest| manifest.generation),
        limits: Limits::OURS,
    }
}

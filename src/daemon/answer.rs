//! From frames to replies, without any I/O: the verdict path.
//!
//! A tick of a worker is one [`Batch`]. First every complete frame of every connection is
//! *planned*: decoded where it stands, its digests laid beside those of all others. Then all
//! digests are looked up as one prefetched batch, and the replies are written in the order of the
//! frames. So a hundred pipelined single questions cost what one question of a hundred does.
//!
//! The buffers are kept from tick to tick; nothing is allocated for a token.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::callers::{Caller, Operation};
use super::live::Serving;
use super::question::{Question, claims_of, row_of};
use super::status;
use super::{Live, live};
use crate::store::Generation;
use crate::time::TableTime;
use crate::token::{Digest, ForeignAlgorithm};
use crate::verdict::Verdict;
use crate::wire::{
    CLAIMS_BYTES_MAX, Claims, DIGESTS_MAX, EncodedRow, ErrorCode, FrameError, Hello, Limits,
    PROTOCOL_VERSION, ROW_BYTES, Request, Row, push_error, push_hello, push_status, push_verdicts,
    verdict_number,
};

/// Digests after which a tick takes no more frames: at some 20 ns each, a millisecond.
const DIGESTS_A_TICK: usize = 3 * DIGESTS_MAX;
/// Digests after which a tick takes only light frames, so that single questions do not wait until
/// every batch that came before them is answered.
const DIGESTS_BUSY: usize = 4096;
/// The longest body of a light frame: a hundred digests, or a few dozen single questions.
pub(super) const LIGHT_BYTES: usize = 4096;
/// Bytes of a batch at most, with what growing buffers leave unused: digests, rows and ranks.
pub(super) const BATCH_BYTES_MAX: usize = 2
    * (DIGESTS_A_TICK + DIGESTS_MAX)
    * (size_of::<Digest>() + ROW_BYTES + size_of::<Option<u32>>());

const UNAVAILABLE: Row = Row::without_record(Verdict::Unavailable);

/// The frames of one tick.
#[derive(Default)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    digests: Vec<Digest>,
    /// Digests in the batch that stand for a text that is no token; ascending.
    malformed: Vec<usize>,
    /// Requirements, as they stood in their frames; nothing of one that asks for nothing.
    requirements: Vec<u8>,
    /// As they stand in the replies.
    rows: Vec<EncodedRow>,
    /// Rank of each row's record.
    ranks: Vec<Option<u32>>,
}

struct Frame {
    connection: usize,
    is_own: bool,
    asks: Asks,
}

/// The foreign algorithm, or none, that a connection was told in its last HELLO. `None`: there was
/// no HELLO yet.
pub(super) type Told = Option<Option<ForeignAlgorithm>>;

/// Whose frame it is.
pub(super) struct Asker<'a> {
    pub(super) connection: usize,
    pub(super) caller: &'a Arc<Caller>,
    /// The daemon itself, whose questions are not counted.
    pub(super) is_own: bool,
}

enum Asks {
    Verdicts {
        digests: Range<usize>,
        requirement: Range<usize>,
        claims_wanted: bool,
        /// Set for a caller from whom some tokens are kept.
        limited: Option<Arc<Caller>>,
    },
    Hello,
    Status,
    Nothing {
        code: ErrorCode,
        message: String,
    },
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

    /// Whether a heavy frame had better wait for the next tick.
    pub(super) fn is_busy(&self) -> bool {
        self.digests.len() >= DIGESTS_BUSY
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
        asker: &Asker<'_>,
        told: &mut Told,
        body: &[u8],
        serving: &Serving,
    ) -> Planned {
        let asks = match Request::decode(body) {
            Err(err) => refusal(&err),
            Ok(Request::Hello { version }) if version == PROTOCOL_VERSION => {
                *told = Some(serving.domain.foreign);
                Asks::Hello
            }
            Ok(Request::Hello { version }) => nothing(
                ErrorCode::Version,
                format!("this daemon speaks version {PROTOCOL_VERSION}, not {version}"),
            ),
            Ok(_) if told.is_none() => {
                nothing(ErrorCode::HelloFirst, "the first frame must be HELLO".to_owned())
            }
            Ok(request) => match forbidden(asker.caller, &request) {
                Some(what) => nothing(
                    ErrorCode::NotPermitted,
                    format!("this caller may not {what}: the daemon's `caller` rules say so"),
                ),
                None => self.plan_permitted(asker.caller, request, serving),
            },
        };
        let closes = matches!(&asks, Asks::Nothing { code, .. } if code.closes());
        let flow = if closes { Flow::Close } else { Flow::Continue };
        let planned = Planned { flow, reply_bytes: asks.reply_bytes_max() };
        self.frames.push(Frame { connection: asker.connection, is_own: asker.is_own, asks });
        planned
    }

    fn plan_permitted(
        &mut self,
        caller: &Arc<Caller>,
        request: Request<'_>,
        serving: &Serving,
    ) -> Asks {
        let (digests, requirement, claims_wanted) = match request {
            Request::Hello { .. } => return Asks::Hello,
            Request::Status => return Asks::Status,
            Request::Verify(verify) => {
                (self.plan_digests(verify.digests), verify.requirement, verify.claims_wanted)
            }
            Request::VerifyTokens(verify) => {
                (self.plan_tokens(verify.tokens, serving), verify.requirement, verify.claims_wanted)
            }
        };
        let from = self.requirements.len();
        if !requirement.is_any() {
            self.requirements.extend_from_slice(requirement.bytes());
        }
        let limited = caller.is_limited().then(|| Arc::clone(caller));
        Asks::Verdicts {
            digests,
            requirement: from..self.requirements.len(),
            claims_wanted,
            limited,
        }
    }

    /// Adds an error for bytes that are no frame.
    pub(super) fn refuse(&mut self, connection: usize, code: ErrorCode, message: &str) {
        let asks = nothing(code, message.to_owned());
        self.frames.push(Frame { connection, is_own: false, asks });
    }

    fn plan_digests(&mut self, digests: &[Digest]) -> Range<usize> {
        let from = self.digests.len();
        self.digests.extend_from_slice(digests);
        from..self.digests.len()
    }

    fn plan_tokens<'a>(
        &mut self,
        tokens: impl ExactSizeIterator<Item = &'a [u8]>,
        serving: &Serving,
    ) -> Range<usize> {
        let from = self.digests.len();
        serving.domain.digest_many(tokens, &mut self.digests, &mut self.malformed);
        from..self.digests.len()
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
        let began = Instant::now();
        let now = live.now(serving);
        let head = serving.head(now);
        self.judge_all(serving, now);
        self.unless_poisoned(serving);
        for frame in &self.frames {
            output(frame.connection, &mut |out| match &frame.asks {
                Asks::Verdicts { digests, claims_wanted, .. } => {
                    let claims = match claims_wanted.then(|| serving.usable(now)) {
                        Some(Some(generation)) => self.claims(generation, digests.clone()),
                        Some(None) => vec![None; digests.len()],
                        None => Vec::new(),
                    };
                    if *claims_wanted && serving.is_poisoned() {
                        let rows = vec![UNAVAILABLE.encode(); digests.len()];
                        return push_verdicts(out, &head, &rows, &vec![None; digests.len()]);
                    }
                    push_verdicts(out, &head, &self.rows[digests.clone()], &claims);
                }
                Asks::Hello => push_hello(out, &hello(serving)),
                Asks::Status => push_status(out, &status::to_json(live, serving)),
                Asks::Nothing { code, message } => {
                    live.counters.frame_refused();
                    push_error(out, *code, message);
                }
            });
        }
        self.count(&live.counters, began.elapsed());
    }

    fn claims(&self, generation: &Generation, rows: Range<usize>) -> Vec<Option<Claims>> {
        let claims = |index: usize| {
            let rank = self.ranks[index]?;
            let row = Row::decode(&self.rows[index]).expect("this batch has written it");
            claims_of(generation, row.record?, rank)
        };
        rows.map(claims).collect()
    }

    /// Looks all digests up and gives each its row.
    fn judge_all(&mut self, serving: &Serving, now: TableTime) {
        let Batch { frames, digests, malformed, requirements, rows, ranks } = self;
        let Some(generation) = serving.usable(now) else {
            rows.resize(digests.len(), UNAVAILABLE.encode());
            ranks.resize(digests.len(), None);
            return;
        };
        let mut malformed = malformed.iter().copied().peekable();
        let mut asking = frames.iter().filter_map(|frame| match &frame.asks {
            Asks::Verdicts { digests, requirement, limited, .. } => {
                Some((digests.end, requirement, limited))
            }
            _ => None,
        });
        let mut question = Question::default();
        let revoked = serving.revoking.as_ref().map(|revoking| &revoking.list);
        generation.get_many(digests, |index, found| {
            while index >= question.end {
                let (end, requirement, limited) =
                    asking.next().expect("every digest is of a frame");
                let requirement = &requirements[requirement.clone()];
                question.turn_to(end, requirement, limited.as_deref());
            }
            let (verdict, found) = if malformed.next_if_eq(&index).is_some() {
                (Verdict::Malformed, None)
            } else {
                question.judge(generation, revoked, found, now)
            };
            ranks.push(found.map(|found| found.rank));
            rows.push(row_of(verdict, found).encode());
        });
    }

    /// What was read from a map whose file was cut meanwhile is no answer.
    fn unless_poisoned(&mut self, serving: &Serving) {
        if serving.is_poisoned() {
            self.rows.fill(UNAVAILABLE.encode());
            self.ranks.fill(None);
        }
    }

    fn count(&self, counters: &live::Counters, took: Duration) {
        let (mut counts, mut frames) = ([0; Verdict::ALL.len()], 0);
        for frame in self.frames.iter().filter(|frame| !frame.is_own) {
            if let Asks::Verdicts { digests, .. } = &frame.asks {
                frames += 1;
                for row in &self.rows[digests.clone()] {
                    counts[verdict_number(row)] += 1;
                }
            }
        }
        counters.verdicts(&counts, frames, took);
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

/// What of a request the caller may not do, if so.
fn forbidden(caller: &Caller, request: &Request<'_>) -> Option<&'static str> {
    let (operation, what, claims_wanted) = match request {
        Request::Hello { .. } => return None,
        Request::Status => (Operation::Status, "see the status", false),
        Request::Verify(verify) => (Operation::Verify, "verify", verify.claims_wanted),
        Request::VerifyTokens(verify) => {
            (Operation::VerifyTokens, "hand tokens to the daemon", verify.claims_wanted)
        }
    };
    if !caller.may(operation) {
        return Some(what);
    }
    (claims_wanted && !caller.may(Operation::Claims)).then_some("be told claims")
}

fn refusal(err: &FrameError) -> Asks {
    nothing(err.code(), err.to_string())
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

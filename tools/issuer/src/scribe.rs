//! The one thread that writes: whatever waits becomes one append, one signature and one
//! generation, however many asked.
//!
//! ```text
//!   wishes --(bounded queue)--> stage each -> commit -> publish -> wait for the daemon -> answers
//! ```
//!
//! What a reader can rely on: an answer is given when its event is durable, and not before. A wish
//! that is refused leaves no trace and hinders none of the others. The ledger's lock is held for one
//! append, so the command line works beside the service. A full queue is answered `busy`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adamant::builder;
use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::issuing::{History, IssuingError, Registrar, Revoked, Wanted};
use adamant::ledger::{Opening, Origin};
use adamant::manifest::Manifest;
use adamant::store::{Home, Published};
use adamant::table::format::Reason;
use adamant::token::{Digest, Token, TokenId};
use tokio::sync::{mpsc, oneshot};

use crate::problem::Problem;
use crate::rights::{CallerRights, Right};

/// Wishes that become one append: enough that the fsyncs cost little beside them, and few enough to
/// be staged within some ten milliseconds.
const TOGETHER_MAX: usize = 1024;
/// Wishes that wait. More are answered `busy`.
const QUEUE: usize = 4096;
/// How long an answer waits for the daemon to serve what was published. It takes milliseconds.
const SERVED_WITHIN: Duration = Duration::from_secs(1);
/// How often the daemon is asked meanwhile.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// What somebody wants of the ledger.
pub(crate) enum Wish {
    Issue(Wanted),
    Rotate {
        id: TokenId,
        overlap_s: i64,
        expires: Option<i64>,
    },
    Revoke {
        id: TokenId,
        at: Option<i64>,
        reason: Reason,
    },
    /// By the token itself: it is revoked only if that is its digest.
    RevokePresented {
        id: TokenId,
        digest: Digest,
    },
    Look {
        id: TokenId,
    },
}

/// What came of it.
pub(crate) enum Done {
    Issued { token: Token, event: u64, expires: Option<i64>, predecessor: Option<TokenId> },
    Revoked { id: TokenId, event: u64, already: bool },
    Found { history: Box<History>, opening: Option<Opening> },
}

/// How far that got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    /// The generation that has it.
    pub(crate) generation: Option<u64>,
    /// Whether the local daemon answers from it.
    pub(crate) served: bool,
}

type Outcome = Result<(Done, Reach), Problem>;

struct Job {
    wish: Wish,
    origin: Origin,
    rights: Arc<CallerRights>,
    answer: oneshot::Sender<Outcome>,
}

/// The way to the scribe.
#[derive(Clone)]
pub(crate) struct Desk(mpsc::Sender<Job>);

impl Desk {
    /// Starts the thread. It ends when the last desk is gone and all that waited is done.
    pub(crate) fn open(
        home: Arc<Home>,
        daemon: PathBuf,
    ) -> std::io::Result<(Desk, thread::JoinHandle<()>)> {
        let (send, waiting) = mpsc::channel(QUEUE);
        let scribe = Scribe {
            home,
            daemon: Daemon { socket: daemon, client: None },
            is_settling: Arc::default(),
        };
        let thread =
            thread::Builder::new().name("scribe".to_owned()).spawn(move || scribe.run(waiting))?;
        Ok((Desk(send), thread))
    }

    /// Has it done, and waits for what comes of it.
    pub(crate) async fn ask(
        &self,
        wish: Wish,
        origin: Origin,
        rights: &Arc<CallerRights>,
    ) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let job = Job { wish, origin, rights: Arc::clone(rights), answer };
        if self.0.try_send(job).is_err() {
            return Err(Problem::busy(
                "too many requests wait for the ledger: nothing was recorded",
            ));
        }
        let ended = |_| Problem::busy("the service is being stopped");
        answered.await.map_err(ended).flatten()
    }
}

struct Scribe {
    home: Arc<Home>,
    daemon: Daemon,
    is_settling: Arc<AtomicBool>,
}

impl Scribe {
    fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < TOGETHER_MAX
                && let Ok(job) = waiting.try_recv()
            {
                jobs.push(job);
            }
            self.do_all(jobs);
        }
    }

    fn do_all(&mut self, jobs: Vec<Job>) {
        let home = Arc::clone(&self.home);
        let mut registrar = match Registrar::open(&home, &mut |_| {}) {
            Ok(registrar) => registrar,
            Err(err) => return refuse_all(jobs, &err),
        };
        let staged: Vec<Result<Done, Problem>> =
            jobs.iter().map(|job| stage(&mut registrar, job)).collect();
        // Also what was revoked before, which may be neither durable nor published.
        let is_change = |done: &Result<Done, Problem>| {
            matches!(done, Ok(Done::Issued { .. } | Done::Revoked { .. }))
        };
        let is_changed = staged.iter().any(is_change);
        if (is_changed || registrar.staged() > 0)
            && let Err(err) = registrar.commit()
        {
            return refuse_all(jobs, &err);
        }
        drop(registrar);
        let published = if is_changed { self.publish() } else { None };
        let reach = published.as_ref().map_or(Reach::default(), |published| Reach {
            generation: Some(published.manifest.generation),
            served: self.daemon.serves(published),
        });
        for (job, done) in jobs.into_iter().zip(staged) {
            // Who asked may have gone: what was done is done, and stands in the ledger.
            let _ = job.answer.send(done.map(|done| (done, reach)));
        }
        if let Some(published) = published {
            self.settle(published.manifest);
        }
    }

    fn publish(&self) -> Option<Published> {
        match builder::publish(&self.home, &mut |_| {}) {
            Ok(published) => Some(published),
            Err(err) => {
                tell!("recorded, and not published: {:#}", anyhow::Error::new(err));
                None
            }
        }
    }

    /// Moves records down, and collects, when that is due, on a thread of its own, so that no
    /// request waits for it.
    fn settle(&self, manifest: Manifest) {
        adamant::ledger::remove_partials(&self.home.store().ledger(), manifest.ledger.0);
        if self.is_settling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (home, is_settling) = (Arc::clone(&self.home), Arc::clone(&self.is_settling));
        let settle = move || {
            let settled = match builder::is_settling_due(&manifest) {
                true => builder::settle(&home, &mut |_| {}).map(|published| published.manifest),
                false => Ok(manifest),
            };
            let done = settled
                .map_err(anyhow::Error::new)
                .and_then(|manifest| home.collect(&manifest).map_err(anyhow::Error::new));
            if let Err(err) = done {
                tell!("cannot move records down: {err:#}");
            }
            is_settling.store(false, Ordering::Release);
        };
        if thread::Builder::new().name("settle".to_owned()).spawn(settle).is_err() {
            self.is_settling.store(false, Ordering::Release);
        }
    }
}

fn refuse_all(jobs: Vec<Job>, err: &IssuingError) {
    tell!("nothing recorded: {err}");
    for job in jobs {
        let _ = job.answer.send(Err(Problem::of(err)));
    }
}

fn stage(registrar: &mut Registrar<'_>, job: &Job) -> Result<Done, Problem> {
    let problem = |err: IssuingError| Problem::of(&err);
    if let Some(request) = &job.origin.request
        && let Some(event) = registrar.request(request).map_err(problem)?
    {
        let id = registrar.event(event).map_err(problem)?.token();
        return Err(Problem::repeated(event, id));
    }
    match &job.wish {
        Wish::Issue(wanted) => {
            if !job.rights.allow(Right::Issue, &wanted.grant) {
                return Err(Problem::forbidden("no right of this caller's covers such a token"));
            }
            let (token, event) = registrar.issue(wanted, &job.origin).map_err(problem)?;
            Ok(Done::Issued { token, event, expires: wanted.expires, predecessor: None })
        }
        Wish::Rotate { id, overlap_s, expires } => {
            visible(registrar, job, id, &[Right::Revoke, Right::Issue])?;
            let (token, event) =
                registrar.rotate(id, *overlap_s, *expires, &job.origin).map_err(problem)?;
            let new = registrar.history(&token.id()).map_err(problem)?;
            let expires = new.state().issued.expires;
            Ok(Done::Issued { token, event, expires, predecessor: Some(*id) })
        }
        Wish::Revoke { id, at, reason } => {
            visible(registrar, job, id, &[Right::Revoke])?;
            revoke(registrar, job, id, *at, *reason)
        }
        Wish::RevokePresented { id, digest } => {
            let history = visible(registrar, job, id, &[Right::Revoke])?;
            if history.state().issued.digest != *digest {
                return Err(Problem::not_found(id));
            }
            revoke(registrar, job, id, None, Reason::OwnerRequest)
        }
        Wish::Look { id } => {
            let history = visible(registrar, job, id, &[Right::Read])?;
            let opening = registrar.opening(history.first()).map_err(problem)?;
            Ok(Done::Found { history: Box::new(history), opening })
        }
    }
}

/// A token's history, if the caller may do all that with it. Otherwise it is as if there were no
/// such token.
fn visible(
    registrar: &Registrar<'_>,
    job: &Job,
    id: &TokenId,
    rights: &[Right],
) -> Result<History, Problem> {
    let history = registrar.history(id).map_err(|err| Problem::of(&err))?;
    let grant = &history.state().issued.grant;
    let may = |right: &Right| job.rights.allow(*right, grant);
    if rights.iter().all(may) {
        Ok(history)
    } else if may(&Right::Read) || rights.iter().any(may) {
        Err(Problem::forbidden("no right of this caller's covers that"))
    } else {
        Err(Problem::not_found(id))
    }
}

fn revoke(
    registrar: &mut Registrar<'_>,
    job: &Job,
    id: &TokenId,
    at: Option<i64>,
    reason: Reason,
) -> Result<Done, Problem> {
    let at = at.unwrap_or(registrar.now());
    let revoked = registrar.revoke(id, at, reason, &job.origin);
    Ok(match revoked.map_err(|err| Problem::of(&err))? {
        Revoked::Already { event } => Done::Revoked { id: *id, event, already: true },
        Revoked::Staged => {
            let event = registrar.history(id).map_err(|err| Problem::of(&err))?.last();
            Done::Revoked { id: *id, event, already: false }
        }
    })
}

/// The daemon on this host.
struct Daemon {
    socket: PathBuf,
    client: Option<Client>,
}

impl Daemon {
    /// Waits until it answers from that generation or a later one. Without a daemon it does not
    /// wait: nobody serves it then.
    fn serves(&mut self, published: &Published) -> bool {
        let manifest = &published.manifest;
        let wanted = (manifest.epoch, manifest.generation);
        let began = Instant::now();
        while began.elapsed() < SERVED_WITHIN {
            match self.generation() {
                Some(served) if served >= wanted => return true,
                Some(_) => thread::sleep(LOOK_AGAIN),
                None => return false,
            }
        }
        false
    }

    /// What it answers from, by the answer about a digest that no token has.
    fn generation(&mut self) -> Option<(u64, u64)> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(&self.socket).ok()?),
        };
        let answers = client.verify_digests(&[Digest::default()], &Requirement::any());
        let generation = answers.ok()?.evidence?.generation;
        Some((generation.epoch, generation.number))
    }
}

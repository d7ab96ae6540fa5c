//! How a generation comes to be served, and ceases to be.
//!
//! One thread, one *reconsider* cell that any number of hints fill. Each time:
//!
//! 1. read the policy (an unreadable one keeps the last good one);
//! 2. read the revocations note, and apply it on its own;
//! 3. read the manifest and judge it: signatures, epoch, order against the marks, dates;
//! 4. open the tables it names, and verify every byte through the map that will be served; those
//!    that are served already stay;
//! 5. compare them with what is served: whatever the signature says, trust may only shrink;
//! 6. store the mark, durably;
//! 7. swap one pointer; the old maps go to the retiring thread.
//!
//! A failure at any step keeps what is served. Then what is served is judged anew, under the
//! policy as it is now: a signer that was withdrawn takes its generation with it at once.

use std::fs;
use std::sync::Arc;

use signal_hook::consts::SIGIO;

use super::live::{Live, Serving};
use super::retire::Retiring;
use super::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use super::sync::thread;
use super::watch::{Trigger, Watch};
use super::{Config, SharedLive, log, systemd};
use crate::chain::chain;
use crate::manifest::hex;
use crate::policy::{Policy, Role, Stale};
use crate::signers::VerifierKey;
use crate::store::{
    Generation, Judged, Marks, Protection, Refusal, Store, StoreError, Succession, judge,
    judge_again, load_policy, now_unix_s,
};
use crate::table;
use crate::token::Domain;

/// How much the reading of a new base beside a served one gives way to others, as in nice(2).
const GENTLE_NICE: i32 = 10;

/// Loads generations.
pub struct Loader {
    config: Config,
    store: Store,
    policy: Policy,
    live: SharedLive,
    /// The bytes of the manifest that is served, to judge them again.
    note: Vec<u8>,
    retiring: Retiring,
    hints: Receiver<()>,
    trigger: Trigger,
}

impl Loader {
    /// Reads the policy and loads what may be served: first what was accepted last, then what is
    /// current. With nothing to serve there is still a loader, and [`Loader::check`] says why.
    pub fn start(config: Config) -> Result<Loader, LoadError> {
        // A writer to a leased file makes the kernel send it, and unhandled it ends the process.
        // Who handles it as well may pull the trigger; else the poll finds the writer.
        signal_hook::flag::register(SIGIO, Arc::default()).map_err(LoadError::Signal)?;
        table::guard_maps().map_err(LoadError::Signal)?;
        Loader::begin(config)
    }

    /// As [`Loader::start`], in a process that handles the signals already.
    pub(super) fn begin(config: Config) -> Result<Loader, LoadError> {
        let policy = load_policy(&config.policy)?;
        let (trigger, hints) = Trigger::new();
        let live = Arc::new(Live::new(Serving {
            domain: policy.domain.clone(),
            judged: None,
            generation: None,
            revoking: None,
            sequence: 0,
            stale: policy.stale,
            unavailable: Some("nothing was loaded yet".to_owned()),
        }));
        let mut loader = Loader {
            store: Store::at(&config.store),
            policy,
            live,
            note: Vec::new(),
            retiring: Retiring::start().map_err(LoadError::Thread)?,
            hints,
            trigger,
            config,
        };
        let _ = loader.load_revocations();
        loader.restore();
        loader.reconsider();
        Ok(loader)
    }

    /// What is served, shared.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// What to fill the reconsider cell with, for signal handlers and others.
    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }

    /// Why nothing can be served, if so.
    pub fn check(&self) -> Result<(), LoadError> {
        let serving = self.live.serving();
        if serving.usable(self.live.now(&serving)).is_some() {
            return Ok(());
        }
        let expired = serving.judged.as_ref().map(|judged| judged.manifest.expires);
        let reason = match (self.live.refused.load_full(), expired) {
            (Some(refused), _) => refused.to_string(),
            (None, Some(at)) => Refusal::Expired { at }.to_string(),
            (None, None) => "nothing was loaded".to_owned(),
        };
        let is_missing = matches!(self.store.read_manifest(), Ok(None));
        Err(LoadError::Nothing { reason, is_missing })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Goes on loading on a thread of its own until the keeper is dropped.
    pub(super) fn keep(mut self) -> std::io::Result<Keeper> {
        let trigger = self.trigger();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let policy = self.config.policy.clone();
            let _watch = Watch::start(self.store.root(), &policy, &self.trigger);
            while let Ok(()) | Err(RecvTimeoutError::Timeout) =
                self.hints.recv_timeout(self.config.poll)
            {
                if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                    break;
                }
                // Taken before the look: a wish that comes during it is for the next.
                let is_awaited = self.trigger.take_awaited();
                self.reconsider();
                if is_awaited {
                    systemd::ready(&self.live);
                }
            }
        })?;
        Ok(Keeper { trigger, stop: Some(stop), thread: Some(thread) })
    }

    /// Loads the manifest that was accepted last, if it is still there and acceptable. What has
    /// become current since then may be refused, and then there is something to serve.
    fn restore(&mut self) {
        let Ok(marks) = Marks::load(&self.config.state) else { return };
        let now = now_unix_s();
        let trusted: Vec<_> = self.policy.trusted(Role::Build, now).collect();
        let Some(mark) = marks.highest(trusted.into_iter()) else { return };
        let Ok(Some(note)) = self.store.read_manifest_of(&mark.hash) else { return };
        if let Err(err) = self.load(note, &marks) {
            tracing::info!(error = %chain(&err), "what was accepted last cannot be served any more");
        }
    }

    pub(super) fn reconsider(&mut self) {
        self.drop_poisoned();
        self.yield_to_writer();
        let policy = self.reread_policy();
        // First, and on its own: a revocation waits for no manifest.
        let revoked = self.load_revocations();
        let loaded = self.load_current();
        let report = |said: String, tell: fn(&str)| {
            // Once, however often it is met.
            if self.live.refused.load().as_deref() != Some(&said) {
                self.live.counters.load(false);
                tell(&said);
                self.live.refused.store(Some(Arc::new(said)));
            }
        };
        match (loaded, revoked, policy) {
            (Err(err), _, _) => report(chain(&err), |error| {
                let message_id = log::NOT_ACCEPTED;
                tracing::error!(message_id, error, "manifest not accepted; what is served stays");
            }),
            (Ok(()), Err(err), _) => report(chain(&err), |error| {
                let message_id = log::REVOCATIONS_NOT_APPLIED;
                tracing::error!(
                    message_id,
                    error,
                    "revocations note not applied; what it said before stays"
                );
            }),
            (Ok(()), Ok(()), Err(err)) => report(chain(&err), |error| {
                let message_id = log::POLICY_UNREADABLE;
                tracing::error!(message_id, error, "policy not readable; the last good one stays");
            }),
            (Ok(()), Ok(()), Ok(())) => self.live.refused.store(None),
        }
        self.judge_served();
    }

    fn load_current(&mut self) -> Result<(), LoadError> {
        // Before the manifest: a publisher that shares this folder of marks stores its own after
        // it, and what was current when it was read must not look like a step back.
        let marks = Marks::load(&self.config.state)?;
        match self.store.read_manifest()? {
            Some(note) => self.load(note, &marks),
            None => Err(StoreError::NoManifest { path: self.store.root().to_owned() }.into()),
        }
    }

    /// Lets go of a generation of which a file was cut, or cannot be read any more, and takes what
    /// is current for new: if it is whole again, or another, it is served.
    fn drop_poisoned(&mut self) {
        let serving = Arc::clone(&self.live.serving());
        let Some(judged) = serving.judged.clone().filter(|_| serving.is_poisoned()) else { return };
        let reason = "a file that is served was cut, or cannot be read any more".to_owned();
        tracing::error!(
            message_id = log::UNAVAILABLE,
            reason,
            "what was served may not be served any more: unavailable"
        );
        self.note.clear();
        self.swap(serving.domain.clone(), judged, None, Some(reason));
    }

    /// Lets a writer have its way with the file of a table that is served, and serves on from
    /// private memory.
    fn yield_to_writer(&mut self) {
        let serving = Arc::clone(&self.live.serving());
        let (Some(judged), Some(generation)) = (&serving.judged, &serving.generation) else {
            return;
        };
        if !generation.is_contested() {
            return;
        }
        // The copy is a base as well.
        self.retiring.wait();
        match generation.to_private() {
            Ok(copy) => {
                tracing::error!(
                    message_id = log::WRITTEN_TO,
                    "somebody writes to the file of a table that is served: serving on from a \
                     private copy; what becomes of the file will not be accepted"
                );
                self.swap(serving.domain.clone(), judged.clone(), Some(Arc::new(copy)), None);
            }
            Err(err) => {
                let reason =
                    format!("the file of a table is written to, and it cannot be copied: {err}");
                tracing::error!(
                    message_id = log::UNAVAILABLE,
                    reason,
                    "what was served may not be served any more: unavailable"
                );
                // Whatever becomes of the file is judged anew.
                self.note.clear();
                self.swap(serving.domain.clone(), judged.clone(), None, Some(reason));
            }
        }
    }

    /// Applies the revocations note, if it is another one and may be applied.
    fn load_revocations(&mut self) -> Result<(), LoadError> {
        let serving = Arc::clone(&self.live.serving());
        let mut served = serving.revoking.as_ref();
        let trusted = |key: &VerifierKey| {
            self.policy.trusted(Role::Revoke, now_unix_s()).any(|trusted| trusted == key)
        };
        // Withdrawing a stolen signer lets lapse what the ledger has not absorbed.
        if served.is_some_and(|served| !served.signers.iter().any(trusted)) {
            tracing::warn!("the signer of the revocations note is not trusted any more: it lapses");
            self.swap_with(|serving| serving.revoking = None);
            served = None;
        }
        let marks = Marks::load(&self.config.state)?;
        let Some(revoking) = self.store.read_revocations(&self.policy, &marks)? else {
            return match served {
                Some(served) => Err(LoadError::RevocationsGone { sequence: served.note.sequence }),
                None => Ok(()),
            };
        };
        if let Some(served) = served {
            if served.hash == revoking.hash {
                return Ok(());
            }
            let (found, mark) = (revoking.note.sequence, served.note.sequence);
            if found <= mark {
                return Err(Refusal::Rollback { found, mark }.into());
            }
            if revoking.list.forgets(&served.list).is_some() {
                return Err(LoadError::RevocationsForget { sequence: found });
            }
        }
        Marks::record(&self.config.state, &revoking.marks())?;
        let (sequence, records) = (revoking.note.sequence, revoking.list.len());
        tracing::info!(sequence, records, "revocations note applied");
        self.swap_with(|serving| {
            serving.sequence = serving.sequence.max(sequence);
            serving.revoking = Some(Arc::new(revoking));
        });
        Ok(())
    }

    /// Serves the same with a change that no table is concerned by.
    fn swap_with(&self, change: impl FnOnce(&mut Serving)) {
        let mut serving = Serving::clone(&self.live.serving());
        change(&mut serving);
        self.live.swap(serving);
    }

    fn reread_policy(&mut self) -> Result<(), LoadError> {
        let policy = load_policy(&self.config.policy)?;
        if policy != self.policy {
            tracing::info!(epoch = policy.epoch, "the policy has changed");
            self.policy = policy;
        }
        Ok(())
    }

    /// Makes `note` what is served, if it is not already and may be.
    fn load(&mut self, note: Vec<u8>, marks: &Marks) -> Result<(), LoadError> {
        if note == self.note {
            return Ok(());
        }
        let judged = self.judge(&note, marks)?;
        if judged.expired && self.policy.stale == Stale::Refuse {
            return Err(Refusal::Expired { at: judged.manifest.expires }.into());
        }
        let serving = Arc::clone(&self.live.serving());
        let served = serving.generation.as_ref().map_or(&[][..], |served| served.layers());
        let is_new_base = served.first().is_none_or(|base| base.line != judged.manifest.tables[0]);
        if is_new_base {
            self.retiring.wait();
        }
        let open = || self.store.open_to_serve(&judged, self.config.load, served);
        let is_asked = serving.generation.is_some();
        let generation = if is_new_base && is_asked { gently(open)?? } else { open()? };
        if let Protection::Mode { reason } = generation.protection() {
            tracing::warn!(
                reason,
                "only owner and mode protect the tables: own them, or have CAP_LEASE"
            );
        }
        let domain = self.check_domain(&generation)?;
        self.check_succession(&generation)?;
        // Last, after every check: a mark of what cannot be served would lock the repair out.
        let mark = judged.mark();
        let accepted: Vec<_> = judged.signers.iter().map(|key| (key.clone(), mark)).collect();
        Marks::record(&self.config.state, &accepted)?;
        tracing::info!(
            message_id = log::SERVING,
            epoch = judged.manifest.epoch,
            generation = judged.manifest.generation,
            records = judged.manifest.records(),
            manifest = %hex(&judged.hash),
            "serving"
        );
        self.note = note;
        let was_serving = serving.generation.is_some();
        self.live.counters.load(true);
        self.swap(domain, judged, Some(Arc::new(generation)), None);
        if was_serving {
            self.time_propagation();
        }
        Ok(())
    }

    /// How long ago the manifest that is served now was put into the store.
    fn time_propagation(&self) {
        let put = fs::metadata(self.store.manifest_path()).and_then(|facts| facts.modified());
        if let Some(took) = put.ok().and_then(|put| put.elapsed().ok()) {
            self.live.counters.propagated(took);
        }
    }

    fn judge(&self, note: &[u8], marks: &Marks) -> Result<Judged, Refusal> {
        let judged = judge(note, &self.policy, marks, now_unix_s())?;
        let (least, found) = (judged.manifest.revocations, self.live.serving().sequence);
        if found < least {
            return Err(Refusal::WithoutRevocations { least, found });
        }
        // The marks may have been removed while we run; what is served is a mark as well.
        if let Some(served) = &self.live.serving().judged {
            let (was, is) = (&served.manifest, &judged.manifest);
            if (is.epoch, is.generation) < (was.epoch, was.generation) {
                let (found, mark) = (is.generation, was.generation);
                return Err(Refusal::Rollback { found, mark });
            }
            if (is.epoch, is.generation) == (was.epoch, was.generation)
                && judged.hash != served.hash
            {
                let accepted = hex(&served.hash);
                return Err(Refusal::Replaced { generation: is.generation, accepted });
            }
        }
        Ok(judged)
    }

    fn check_domain(&self, generation: &Generation) -> Result<Domain, LoadError> {
        let ours = &self.policy.domain;
        let is_ours = |found: &Domain| found.key == ours.key && found.prefix == ours.prefix;
        if !generation.layers().iter().all(|layer| is_ours(layer.table.domain())) {
            return Err(LoadError::OtherDomain);
        }
        Ok(Domain { foreign: generation.foreign(), ..ours.clone() })
    }

    /// Compares a generation with the one that is served, if that one is still trusted. (If it is
    /// not, its signer may have been stolen, and the repair must not be held to what a thief said.)
    fn check_succession(&self, after: &Generation) -> Result<(), LoadError> {
        let serving = Arc::clone(&self.live.serving());
        let Some(before) = &serving.generation else { return Ok(()) };
        let marks = Marks::load(&self.config.state)?;
        if judge_again(&self.note, &self.policy, &marks, now_unix_s()).is_err() {
            return Ok(());
        }
        let found = if before.shares_base_with(after) {
            // Overlays alone: a revocation must not wait for a share of a busy machine.
            Succession::between(before, after)
        } else {
            gently(|| Succession::between(before, after))?
        };
        if found.violations == 0 { Ok(()) } else { Err(LoadError::Succession(found)) }
    }

    /// Judges what is served under the policy as it is now.
    fn judge_served(&mut self) {
        let serving = Arc::clone(&self.live.serving());
        let Some(judged) = serving.judged.clone() else { return };
        let marks = Marks::load(&self.config.state).unwrap_or_default();
        let verdict = judge_again(&self.note, &self.policy, &marks, now_unix_s());
        let stale_changed = serving.stale != self.policy.stale;
        match (verdict, &serving.generation) {
            (Err(refusal), Some(_)) => {
                let reason = refusal.to_string();
                tracing::error!(
                    message_id = log::UNAVAILABLE,
                    reason,
                    "what was served may not be served any more: unavailable"
                );
                self.note.clear();
                self.swap(serving.domain.clone(), judged, None, Some(reason));
            }
            (Ok(_), Some(generation)) if stale_changed => {
                self.swap(serving.domain.clone(), judged, Some(Arc::clone(generation)), None);
            }
            _ => {}
        }
    }

    fn swap(
        &mut self,
        domain: Domain,
        judged: Judged,
        generation: Option<Arc<Generation>>,
        unavailable: Option<String>,
    ) {
        let judged = Some(judged);
        let stale = self.policy.stale;
        let served = generation.clone();
        let serving = Arc::clone(&self.live.serving());
        let (revoking, sequence) = (serving.revoking.clone(), serving.sequence);
        let old = self.live.swap(Serving {
            domain,
            judged,
            generation,
            revoking,
            sequence,
            stale,
            unavailable,
        });
        if let Some(old) = &old.generation {
            self.retiring.retire(old, served.as_ref());
        }
    }
}

/// Reading gigabytes may take its time; those who wait for answers come first.
fn gently<T: Send>(read: impl FnOnce() -> T + Send) -> Result<T, LoadError> {
    let read = || {
        let _ = rustix::process::nice(GENTLE_NICE);
        read()
    };
    // A thread of the kernel's in every build: it shares nothing that changes.
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().name("read".to_owned());
        let reading = reading.spawn_scoped(scope, read).map_err(LoadError::Thread)?;
        Ok(reading.join().expect("a panic ends the process"))
    })
}

/// Keeps the loader's thread; dropped, it ends it.
pub(super) struct Keeper {
    trigger: Trigger,
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        self.trigger.pull();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The tokens that break a law, as far as they were kept.
fn named(found: &Succession) -> String {
    let mut said = String::new();
    for (at, violation) in found.first.iter().enumerate() {
        said.push_str(if at == 0 { ": " } else { "; " });
        said.push_str(&violation.to_string());
    }
    said
}

/// Why nothing new is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store, the policy or the marks cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is refused.
    #[error("manifest refused")]
    Refused(#[from] Refusal),
    /// The tables are of another deployment than the policy.
    #[error("the tables have another domain key or prefix than the policy")]
    OtherDomain,
    /// The generation breaks a law against the one that is served.
    #[error("generation refused: {} {} a law against what is served{}",
        .0.violations, if .0.violations == 1 { "token breaks" } else { "tokens break" }, named(.0))]
    Succession(Succession),
    /// The note that is served is not in the store any more.
    #[error("revocations note {sequence} is served, and gone from the store: put it back")]
    RevocationsGone {
        /// Its sequence.
        sequence: u64,
    },
    /// A note holds less than the one that is served.
    #[error(
        "revocations note {sequence} forgets a token that the one before it revokes: it is not applied"
    )]
    RevocationsForget {
        /// Its sequence.
        sequence: u64,
    },
    /// SIGIO cannot be handled.
    #[error("cannot handle SIGIO")]
    Signal(#[source] std::io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// There is nothing to serve.
    #[error("nothing to serve: {reason}")]
    Nothing {
        /// Why.
        reason: String,
        /// Nothing was published, or not here.
        is_missing: bool,
    },
}

impl LoadError {
    /// Whether the manifest or a table is at fault, and not this host.
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::OtherDomain | Self::Succession(_) | Self::Nothing { .. }
        )
    }
}

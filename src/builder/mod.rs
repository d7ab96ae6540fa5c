//! From a token list to a published generation.
//!
//! ```text
//! list --read--> entries --sort--> by digest --merge--> table + subjects --publish--> store
//!                                  with the generation before
//! ```
//!
//! Memory is bounded by [`Options::memory_bytes`], whatever the length of the list. Nothing is
//! published unless every line was understood, no id or digest stands twice, nothing frozen
//! changed, and not too many tokens die at once. The table depends on the lines, not on their
//! order, the time zone, or the number of threads.
//!
//! Read `list.rs` for the columns, `read.rs` for the streams, `merge.rs` for the laws.

mod compose;
mod grants;
mod ids;
mod ledger;
mod list;
mod merge;
mod read;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::claims::Grant;
use crate::durable::{DurableError, NewFile};
use crate::ledger::LedgerError;
use crate::store::{Generation, Home, NewTables, Next, Previous, Published, StoreError};
use crate::table::format::{GRANTS_MAX, Record};
use crate::table::{
    Entry, Sorter, SubjectsWriter, Table, TableError, TableSpec, TableWriter, Written,
};
use crate::time::TableTime;
use crate::token::{Domain, ForeignAlgorithm};

use ids::Ids;
use list::Rules;
use merge::Merge;

pub use ledger::{
    Source, check_ledger_built, each_event, forget, is_settling_due, publish, rebuild, renew,
    settle,
};
pub use list::COLUMNS;
pub use merge::Changes;
pub use read::{ReadError, Reject};

/// Memory that a build may take, when nothing is said.
pub const MEMORY_BYTES_DEFAULT: usize = 2 << 30;
/// Refused lines after which a build stops reading.
pub const REJECTS_MAX: usize = 1000;
/// More than this many tokens dying at once, and more than a fifth of the live ones, asks for
/// consent: it is what a list cut in half looks like.
pub const LOSS_MAX: u64 = 1000;

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// The manifest to build upon, where it is not the home's own.
    pub previous: Option<PathBuf>,
    /// There is no generation before.
    pub first: bool,
    /// What to do about a token of which something frozen changed.
    pub on_change: OnChange,
    /// Consent to this many tokens dying at once.
    pub allow_loss: Option<u64>,
    /// The operator says that foreign tokens have 128 random bits or more.
    pub high_entropy: bool,
    /// Memory to keep to, about.
    pub memory_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            previous: None,
            first: false,
            on_change: OnChange::Fail,
            allow_loss: None,
            high_entropy: false,
            memory_bytes: MEMORY_BYTES_DEFAULT,
        }
    }
}

/// What to do about a token of which something frozen changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// Refuse the list.
    Fail,
    /// Revoke the token as it was.
    Revoke,
}

/// What a build did.
#[derive(Clone, Debug)]
pub struct Built {
    /// The generation.
    pub published: Published,
    /// Lines of the list.
    pub rows: u64,
    /// What became of the generation before.
    pub changes: Changes,
}

/// How far a build is: rows read, or records written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many rows were read.
    Read(u64),
    /// So many records were written.
    Written(u64),
}

/// Builds a generation from `list` and publishes it.
pub fn build(
    home: &Home,
    list: &mut dyn Read,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, BuildError> {
    let previous = choose_previous(home, options)?;
    if home.has_ledger() {
        return Err(BuildError::LedgerBuilt);
    }
    let generation = previous.as_ref().map(|previous| open(home, previous)).transpose()?;
    let memory = options.memory_bytes / 2;
    let folder = home.store().tables();
    let mut input = Input::new(Sorter::new(size_of::<[u8; 32]>(), memory, &folder));
    let located = |err: BuildError| err.located(&folder);
    input.read(home, list, options, progress).map_err(located)?;
    let rows = input.rows;
    if rows == 0 {
        return Err(BuildError::Empty);
    }
    let written = write(home, input, generation.as_ref(), options, progress);
    let (tables, changes) = written.map_err(located)?;
    check_loss(&changes, options)?;
    let lock = home.lock_publishing()?;
    let published = home.publish(&lock, previous.as_ref(), Next::of_list(tables))?;
    drop(lock);
    home.collect(&published.manifest)?;
    Ok(Built { published, rows, changes })
}

/// Publishes a generation without tokens, so that a new home has something to serve.
pub fn publish_empty(home: &Home) -> Result<Published, BuildError> {
    let options = Options::default();
    let folder = home.store().tables();
    let input = Input::new(Sorter::new(size_of::<[u8; 32]>(), 0, &folder));
    let written = write(home, input, None, &options, &mut |_| {});
    let (tables, _) = written.map_err(|err| err.located(&folder))?;
    let lock = home.lock_publishing()?;
    Ok(home.publish(&lock, None, Next::of_list(tables))?)
}

/// One line of a list, understood.
pub struct Listed<'a> {
    /// All but the grant's number, which says nothing here.
    pub entry: Entry<'a>,
    /// The grant.
    pub grant: Grant,
}

/// Reads a list and gives each line to `each`, in order. No line is given if one is refused in the
/// same megabyte; those before may have been.
pub fn read_lines(
    list: &mut dyn Read,
    domain: &Domain,
    high_entropy: bool,
    each: &mut dyn FnMut(&Listed<'_>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let rules = Rules { key: domain.key, prefix: domain.prefix, high_entropy };
    let mut failed = None;
    let mut rejects = Rejects::default();
    read::read_list(list, &rules, &mut |mut block| {
        block.rejects.drain(..).for_each(|reject| rejects.push(reject));
        if rejects.count > 0 {
            return Ok(!rejects.is_full());
        }
        let grants: Result<Vec<Grant>, _> =
            block.grants.iter().map(|bytes| Grant::decode(bytes)).collect();
        let grants = grants.expect("encoded by the reader");
        for item in block.items() {
            let entry = Entry::decode(item);
            let grant = grants[entry.record.grant.get() as usize].clone();
            if let Err(err) = each(&Listed { entry, grant }) {
                failed = Some(err);
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    rejects.check()?;
    failed.map_or(Ok(()), Err)
}

fn choose_previous(home: &Home, options: &Options) -> Result<Option<Previous>, BuildError> {
    let current = match &options.previous {
        Some(file) => Some(home.previous_in(file)?),
        None => home.current()?,
    };
    match (current, options.first) {
        (Some(current), true) => {
            Err(BuildError::NotFirst { generation: current.judged.manifest.generation })
        }
        (None, false) => Err(BuildError::NoPrevious { store: home.store().root().to_owned() }),
        (current, _) => Ok(current),
    }
}

fn open(home: &Home, previous: &Previous) -> Result<Generation, BuildError> {
    let generation = previous.store.open(&previous.judged)?;
    let (found, ours) = (generation.base().table.domain(), &home.policy().domain);
    if found.key != ours.key || found.prefix != ours.prefix {
        return Err(BuildError::OtherDomain);
    }
    Ok(generation)
}

/// The list, on its way into the sorter.
struct Input {
    sorter: Sorter,
    /// Canonical bytes of each grant, by the number that sorted items bear.
    grants: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
    foreign: bool,
    rows: u64,
}

/// Where the grant stands in an item, which begins with its record.
const GRANT_AT: usize = std::mem::offset_of!(Record, grant);

impl Input {
    fn new(sorter: Sorter) -> Input {
        Input { sorter, grants: Vec::new(), numbers: HashMap::new(), foreign: false, rows: 0 }
    }

    fn read(
        &mut self,
        home: &Home,
        list: &mut dyn Read,
        options: &Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), BuildError> {
        let domain = &home.policy().domain;
        let rules =
            Rules { key: domain.key, prefix: domain.prefix, high_entropy: options.high_entropy };
        let mut rejects = Rejects::default();
        read::read_list(list, &rules, &mut |mut block| {
            block.rejects.drain(..).for_each(|reject| rejects.push(reject));
            self.foreign |= block.foreign;
            self.rows += block.len() as u64;
            let numbers: Vec<u32> =
                std::mem::take(&mut block.grants).into_iter().map(|g| self.number(g)).collect();
            for item in block.items() {
                renumber(item, &numbers);
                self.sorter.push(item)?;
            }
            progress(Progress::Read(self.rows));
            Ok(!rejects.is_full() && self.grants.len() <= GRANTS_MAX)
        })?;
        rejects.check()?;
        if self.grants.len() > GRANTS_MAX { Err(TableError::TooManyGrants.into()) } else { Ok(()) }
    }

    fn number(&mut self, grant: Vec<u8>) -> u32 {
        if let Some(&number) = self.numbers.get(&grant) {
            return number;
        }
        let number = u32::try_from(self.grants.len()).expect("checked against GRANTS_MAX");
        self.grants.push(grant.clone());
        self.numbers.insert(grant, number);
        number
    }
}

fn renumber(item: &mut [u8], numbers: &[u32]) {
    let field = item[GRANT_AT..].first_chunk_mut().expect("an item begins with a record");
    *field = numbers[u32::from_le_bytes(*field) as usize].to_le_bytes();
}

/// Writes table and subjects of the list over the generation before.
fn write(
    home: &Home,
    input: Input,
    before: Option<&Generation>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<(NewTables, Changes), BuildError> {
    let folder = home.store().tables();
    let old_grants = before.map_or(Vec::new(), grants_of);
    let (grants, listed_numbers, old_numbers) = number_grants(&input.grants, &old_grants);
    let foreign = input.foreign.then_some(ForeignAlgorithm::Sha256);
    let foreign = foreign.or_else(|| before.and_then(|before| before.foreign()));
    let domain = Domain { foreign, ..home.policy().domain.clone() };
    let reference = before.and_then(|before| TableTime::end(before.manifest.issued));
    let tables = before.map(|before| (&before.base().table, &before.base().subjects));
    let mut merge =
        Merge::new(tables, old_numbers, reference.unwrap_or_default(), options.on_change);

    let (table, subjects) = (NewFile::create(&folder)?, NewFile::create(&folder)?);
    let spec = TableSpec { domain, grants, range: (0, 0) };
    let mut output = Output {
        table: TableWriter::new(&table, spec, &folder)?,
        subjects: SubjectsWriter::new(&subjects, &folder)?,
        ids: Ids::new(options.memory_bytes / 4, &folder)?,
        rejects: Rejects::default(),
        records: 0,
        progress,
    };
    let mut last: Option<(crate::token::Digest, u64)> = None;
    input.sorter.drain::<BuildError>(&mut |item| {
        let mut entry = Entry::decode(item);
        let grant = entry.record.grant.get() as usize;
        entry.record.grant.set(listed_numbers[grant]);
        let digest = entry.record.digest;
        if let Some((_, line)) = last.filter(|(last, _)| *last == digest) {
            let reason = format!("the same token as on line {line}");
            output.rejects.push(Reject { line: entry.line, reason });
            return Ok(());
        }
        last = Some((digest, entry.line));
        while let Some(absent) = merge.absent_before(Some(&digest)) {
            output.push(&absent)?;
        }
        match merge.listed(entry) {
            Ok(entry) => output.push(&entry),
            Err(reject) => {
                output.rejects.push(reject);
                Ok(())
            }
        }
    })?;
    while let Some(absent) = merge.absent_before(None) {
        output.push(&absent)?;
    }
    let (table_written, subjects_written) = output.finish()?;
    let tables = NewTables { table, table_written, subjects, subjects_written, range: (0, 0) };
    Ok((tables, merge.changes))
}

/// What a build writes.
struct Output<'a> {
    table: TableWriter<'a>,
    subjects: SubjectsWriter<'a>,
    ids: Ids,
    rejects: Rejects,
    records: u64,
    progress: &'a mut dyn FnMut(Progress),
}

const PROGRESS_STEP: u64 = 1 << 16;

impl Output<'_> {
    fn push(&mut self, entry: &Entry<'_>) -> Result<(), BuildError> {
        self.table.push(entry)?;
        self.subjects.push(&entry.personal)?;
        self.ids.push(entry.record.id, entry.line);
        self.records += 1;
        if self.records.is_multiple_of(PROGRESS_STEP) {
            (self.progress)(Progress::Written(self.records));
        }
        Ok(())
    }

    fn finish(self) -> Result<(Written, Written), BuildError> {
        let Output { table, subjects, ids, mut rejects, .. } = self;
        let (checked, (table, subjects)) = rayon::join(
            || ids.check(&mut rejects),
            || rayon::join(|| table.finish(), || subjects.finish()),
        );
        checked?;
        rejects.check()?;
        Ok((table?, subjects?))
    }
}

fn grants_of(generation: &Generation) -> Vec<Vec<u8>> {
    grants_in(&generation.base().table)
}

/// Canonical bytes of all grants of a table.
fn grants_in(table: &Table) -> Vec<Vec<u8>> {
    let numbers = 0..u32::try_from(table.grant_count()).expect("at most 2^20");
    numbers.filter_map(|number| table.grant_bytes(number).map(<[u8]>::to_vec)).collect()
}

/// All grants in canonical order, and the number in it of each listed and of each old one.
fn number_grants(listed: &[Vec<u8>], old: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<u32>, Vec<u32>) {
    let mut all: Vec<Vec<u8>> = listed.iter().chain(old).cloned().collect();
    all.sort_unstable();
    all.dedup();
    let number = |grant: &Vec<u8>| {
        let at = all.binary_search(grant).expect("all grants are in it");
        u32::try_from(at).expect("at most 2^21")
    };
    let listed = listed.iter().map(number).collect();
    let old = old.iter().map(number).collect();
    (all, listed, old)
}

fn check_loss(changes: &Changes, options: &Options) -> Result<(), BuildError> {
    let Changes { died, live_before, absent, .. } = *changes;
    let is_much = died > LOSS_MAX && died * 5 > live_before;
    if is_much && options.allow_loss.is_none_or(|allowed| allowed < died) {
        return Err(BuildError::Loss { died, live_before, absent });
    }
    Ok(())
}

/// Refused lines, the first of them by number.
#[derive(Default)]
struct Rejects {
    first: Vec<Reject>,
    count: u64,
}

impl Rejects {
    fn push(&mut self, reject: Reject) {
        self.count += 1;
        if self.first.len() < REJECTS_MAX {
            self.first.push(reject);
        }
    }

    fn is_full(&self) -> bool {
        self.first.len() == REJECTS_MAX
    }

    fn check(&mut self) -> Result<(), BuildError> {
        if self.count == 0 {
            return Ok(());
        }
        let mut rejects = std::mem::take(&mut self.first);
        rejects.sort_by_key(|reject| reject.line);
        Err(BuildError::Rejected { rejects, count: self.count })
    }
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A time in the ledger that no table can say.
    #[error("event {index} of the ledger has a time after the year 2156")]
    Time {
        /// The event.
        index: u64,
    },
    /// The home is built from lists.
    #[error(
        "this home is built from token lists (`adamant build --from`); it has no ledger, and gets none: make another home"
    )]
    ListBuilt,
    /// The home is built from its ledger.
    #[error(
        "this home is built from its ledger; a token list would go around it: use `adamant issue`, `import` and `revoke`, or make another home"
    )]
    LedgerBuilt,
    /// The list could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Lines were refused.
    #[error("{count} lines refused, nothing published")]
    Rejected {
        /// The first of them, by line.
        rejects: Vec<Reject>,
        /// How many there were before reading stopped.
        count: u64,
    },
    /// The list has no rows: it would revoke everything.
    #[error("the list is empty, and an empty list would revoke every token; nothing published")]
    Empty,
    /// Too many tokens would die.
    #[error(
        "{died} of {live_before} live tokens would die ({absent} are missing from the list); nothing published. If that is meant, say --allow-loss {died}"
    )]
    Loss {
        /// Live before, and then revoked or scheduled to be.
        died: u64,
        /// Live before.
        live_before: u64,
        /// Of the died, those missing from the list.
        absent: u64,
    },
    /// `--first`, and there is a generation.
    #[error("generation {generation} is there already, so this is not the first: drop --first")]
    NotFirst {
        /// The generation.
        generation: u64,
    },
    /// No generation, and no `--first`.
    #[error(
        "{} has no manifest to compare with: say --previous FILE, or --first if no token was ever issued", store.display()
    )]
    NoPrevious {
        /// The store.
        store: PathBuf,
    },
    /// The tables are of another deployment than the policy.
    #[error("the generation before has another domain key or prefix than the policy")]
    OtherDomain,
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table could not be written.
    #[error("cannot write the table")]
    Table(#[from] TableError),
    /// A scratch file could not be written or read.
    #[error("cannot write or read a scratch file")]
    Scratch(#[from] io::Error),
    /// One of these two, and where.
    #[error("cannot build in {}", folder.display())]
    Located {
        /// The store's folder of tables.
        folder: PathBuf,
        /// What failed there.
        source: Box<BuildError>,
    },
    /// A file could not be written durably.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

impl BuildError {
    /// Says where, if that is not said yet: what writes a table has its file and not its name.
    fn located(self, folder: &Path) -> BuildError {
        match self {
            Self::Table(_) | Self::Scratch(_) => {
                Self::Located { folder: folder.to_owned(), source: Box::new(self) }
            }
            other => other,
        }
    }
}

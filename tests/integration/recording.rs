//! Runs the real `adamant` under strace(1), and gives the calls that change a home or make it
//! durable, with the moments at which something was said to whoever ran it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::storage::{Call, Disk};

/// All calls that change files or make them durable; and what is needed to follow those.
const TRACED: &str = "openat,lseek,write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,\
    copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,\
    unlinkat,rmdir,mkdir,mkdirat,chmod,fchmod,fchmodat,fsync,fdatasync,sync,syncfs,\
    sync_file_range,mmap,creat,open,mknod,mknodat";

/// What a command did, in its order.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Called(Call),
    /// It has written these lines on standard output or standard error.
    Said(String),
}

/// What a command did, on a disk that was in some state before.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) before: Disk,
    pub(crate) events: Vec<(usize, Event)>,
}

impl Recording {
    /// Runs `adamant` on a home, whose state `disk` becomes what the command leaves.
    pub(crate) fn of(name: &str, arguments: &[&str], home: &Path, disk: &mut Disk) -> Recording {
        let trace = home.with_extension("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-xx", "-s", "1000000000", "-e", &format!("trace={TRACED}")]);
        command.arg("-o").arg(&trace).arg(env!("CARGO_BIN_EXE_adamant"));
        command.args(arguments).arg("--home").arg(home);
        command.stdin(Stdio::null()).env_remove("ADAMANT_HOME");
        let output = command.output().expect("strace is not installed");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = fs::read_to_string(&trace).unwrap();
        let before = disk.clone();
        let mut reader = Reader { home: home.to_str().unwrap().to_owned(), ..Reader::default() };
        let mut events = Vec::new();
        for done in calls(&lines, disk.now()) {
            for event in reader.read(&done, disk) {
                let at = done.ended;
                if let Event::Called(call) = &event {
                    disk.make(at, call);
                }
                events.push((at, event));
            }
        }
        Recording { name: name.to_owned(), before, events }
    }
}

/// One call that has returned, with the lines of the trace at which it began and ended.
struct Done {
    begun: usize,
    ended: usize,
    name: String,
    arguments: Vec<String>,
    result: i64,
}

/// All calls after the moment `before`, in the order in which they returned; one in which a thread waited stands on two lines.
fn calls(lines: &str, before: usize) -> Vec<Done> {
    let mut waiting: HashMap<&str, (usize, String)> = HashMap::new();
    let mut done = Vec::new();
    for (number, line) in (before + 1..).zip(lines.lines()) {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            waiting.insert(thread, (number, first.to_owned()));
            continue;
        }
        let (begun, whole) = match rest.strip_prefix("<... ") {
            Some(second) => {
                let (begun, first) = waiting.remove(thread).expect("it has begun");
                (begun, first + second.split_once(" resumed>").unwrap().1)
            }
            None => (number, rest.to_owned()),
        };
        done.extend(parse(begun, number, &whole));
    }
    done
}

/// `name(arguments) = result`; of anything else nothing.
fn parse(begun: usize, ended: usize, text: &str) -> Option<Done> {
    let (call, result) = text.rsplit_once(" = ")?;
    let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let digits = result.split(['<', ' ']).next()?;
    let arguments = arguments.split(", ").map(str::to_owned).collect();
    Some(Done { begun, ended, name: name.to_owned(), arguments, result: number(digits)? })
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
        None => text.parse().ok(),
    }
}

/// The bytes behind `\x61\x62`.
fn unescape(text: &str) -> Vec<u8> {
    let hex = text.trim_matches('"').split("\\x").skip(1);
    hex.map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}

/// Makes calls on files of the home out of what strace has written.
#[derive(Default)]
struct Reader {
    home: String,
    /// Where each descriptor stands in its file, for those that write one piece after another.
    positions: BTreeMap<i64, usize>,
    /// What was begun on standard output and standard error.
    lines: BTreeMap<i64, String>,
}

impl Reader {
    fn read(&mut self, done: &Done, disk: &Disk) -> Vec<Event> {
        if done.result < 0 {
            return Vec::new();
        }
        let argument = |at: usize| done.arguments[at].as_str();
        let len = || usize::try_from(done.result).expect("not negative");
        let call = match done.name.as_str() {
            "openat" => return self.open(done, disk),
            "lseek" => {
                self.positions.insert(descriptor(argument(0)), len());
                return Vec::new();
            }
            "write" => match descriptor(argument(0)) {
                stream @ (1 | 2) => return self.say(stream, &unescape(argument(1))[..len()]),
                file => {
                    let position = self.positions.entry(file).or_default();
                    let at = *position;
                    *position += len();
                    self.write(done, at, len())
                }
            },
            "pwrite64" => self.write(done, argument(3).parse().unwrap(), len()),
            "ftruncate" => self.file(argument(0)).map(|path| {
                let len = argument(1).parse().unwrap();
                Call::Cut { path, len }
            }),
            "fchmod" => {
                self.file(argument(0)).map(|path| Call::Mode { path, mode: mode(argument(1)) })
            }
            "chmod" => {
                self.path(argument(0)).map(|path| Call::Mode { path, mode: mode(argument(1)) })
            }
            "fsync" => self.file(argument(0)).map(|path| Call::Sync { path, begun: done.begun }),
            "mkdir" => self.path(argument(0)).map(|path| Call::MakeFolder { path }),
            "rename" => self.rename(argument(0), argument(1)),
            "renameat2" => self.rename(argument(1), argument(3)),
            "linkat" => self.path(argument(1)).map(|from| {
                let to = self.path(argument(3)).expect("in the home as well");
                Call::Link { from, to }
            }),
            "unlink" | "rmdir" => self.path(argument(0)).map(|path| Call::Remove { path }),
            "unlinkat" => self.below(argument(0), argument(1)).map(|path| Call::Remove { path }),
            "mmap" => {
                let is_written =
                    argument(2).contains("PROT_WRITE") && argument(3).contains("MAP_SHARED");
                assert!(!is_written || self.file(argument(4)).is_none(), "written by a map");
                None
            }
            other => panic!("the model does not know {other}: {:?}", done.arguments),
        };
        // A file that was removed, and is still open.
        let is_there = |call: &Call| match call {
            Call::Write { path, .. } | Call::Cut { path, .. } | Call::Mode { path, .. } => {
                disk.has(path)
            }
            _ => true,
        };
        call.into_iter().filter(is_there).map(Event::Called).collect()
    }

    /// Whole lines are said: standard error is written in pieces.
    fn say(&mut self, stream: i64, bytes: &[u8]) -> Vec<Event> {
        let line = self.lines.entry(stream).or_default();
        line.push_str(str::from_utf8(bytes).unwrap());
        let end = line.rfind('\n').map_or(0, |at| at + 1);
        let said: String = line.drain(..end).collect();
        if said.is_empty() { Vec::new() } else { vec![Event::Said(said)] }
    }

    fn open(&mut self, done: &Done, disk: &Disk) -> Vec<Event> {
        let flags = done.arguments[2].as_str();
        assert!(!flags.contains("O_APPEND") || self.file_at(done).is_none(), "a file to append to");
        self.positions.insert(done.result, 0);
        let mut events = Vec::new();
        let Some(path) = self.file_at(done) else { return events };
        if flags.contains("O_CREAT") && !disk.has(&path) {
            let mode = mode(&done.arguments[3]);
            events.push(Event::Called(Call::Create { path, mode }));
        } else if flags.contains("O_TRUNC") {
            events.push(Event::Called(Call::Cut { path, len: 0 }));
        }
        events
    }

    fn file_at(&self, done: &Done) -> Option<String> {
        self.below(&done.arguments[0], &done.arguments[1])
    }

    fn write(&self, done: &Done, at: usize, len: usize) -> Option<Call> {
        let path = self.file(&done.arguments[0])?;
        let mut bytes = unescape(&done.arguments[1]);
        bytes.truncate(len);
        Some(Call::Write { path, at, bytes: Arc::new(bytes) })
    }

    fn rename(&self, from: &str, to: &str) -> Option<Call> {
        let (from, to) = (self.path(from)?, self.path(to).expect("in the home as well"));
        Some(Call::Rename { from, to })
    }

    /// The path of a descriptor, `3<\x2f...>`, if it is in the home.
    fn file(&self, descriptor: &str) -> Option<String> {
        let (_, path) = descriptor.split_once('<')?;
        self.path(path.split('>').next()?)
    }

    /// A path that may stand below an open folder.
    fn below(&self, folder: &str, path: &str) -> Option<String> {
        if path.starts_with("\"\\x2f") {
            return self.path(path);
        }
        let name = String::from_utf8(unescape(path)).unwrap();
        self.file(folder).map(|folder| format!("{folder}/{name}"))
    }

    /// The path below the home, if it is there; all paths are whole, since the home's is.
    fn path(&self, escaped: &str) -> Option<String> {
        let path = String::from_utf8(unescape(escaped)).unwrap();
        let inside = path.strip_prefix(&self.home)?;
        inside.strip_prefix('/').or(inside.is_empty().then_some("")).map(str::to_owned)
    }
}

fn descriptor(text: &str) -> i64 {
    text.split('<').next().unwrap().parse().unwrap()
}

fn mode(octal: &str) -> u32 {
    u32::from_str_radix(octal.trim_start_matches('0'), 8).unwrap_or(0)
}

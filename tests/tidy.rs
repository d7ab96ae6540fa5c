//! Rules about the code itself that neither rustc nor clippy can check.
//!
//! They run with `cargo test`, so that there is no second list of checks to remember. A rule that
//! fails says in which file and line, and what to do. Rules about Rust look at code without its
//! comments and strings ([`split`]), so a link in a comment may point upward where a use may not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The modules of the library, lowest first, and what each may use. A row names only rows above
/// it, so there is no cycle to look for.
const LAYERS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("token", &[]),
    ("claims", &["token"]),
    ("durable", &[]),
    ("signers", &["durable"]),
    ("note", &["signers"]),
    ("verdict", &["time", "claims"]),
    ("policy", &["time", "token", "signers", "note"]),
    ("table", &["time", "token", "claims", "durable", "verdict"]),
    ("wire", &["time", "token", "claims", "verdict"]),
    ("manifest", &["time", "token", "durable", "signers", "note", "policy", "table"]),
    (
        "store",
        &[
            "time", "token", "claims", "durable", "signers", "note", "verdict", "policy", "table",
            "manifest",
        ],
    ),
    (
        "builder",
        &[
            "time", "token", "claims", "durable", "signers", "note", "verdict", "policy", "table",
            "manifest", "store",
        ],
    ),
    ("client", &["time", "token", "claims", "verdict", "wire"]),
    (
        "daemon",
        &[
            "time", "token", "claims", "durable", "signers", "note", "verdict", "policy", "table",
            "wire", "manifest", "store", "builder", "client",
        ],
    ),
];

/// Where tokio may be named. Everything else is blocking, so it works without a runtime.
const ASYNC_PLACES: &[&str] = &["src/daemon/", "src/client/aio"];

/// The only files with `unsafe` in them, and none of them is here without need.
const UNSAFE_FILES: &[&str] = &["src/table/lookup.rs", "src/table/map.rs"];

/// A file that grows past this is due to be split. Raise it for nobody.
const LINES_MAX: usize = 600;

/// Crates of the feature `client` alone, with `adamant` itself: that many are too many.
const CLIENT_CRATES_TOO_MANY: usize = 25;

/// Least versions, and below which version to stay. The first with a repair that we need, or the
/// last that works; docs/protocol.md has the story of bincode.
const VERSIONS: &[(&str, [u64; 3], [u64; 3])] = &[
    ("anyhow", [1, 0, 103], [2, 0, 0]),
    ("bincode", [2, 0, 1], [2, 0, 2]),
    ("blake3", [1, 8, 7], [2, 0, 0]),
    ("ed25519-dalek", [3, 0, 0], [4, 0, 0]),
    ("memmap2", [0, 9, 11], [1, 0, 0]),
    ("notify", [8, 2, 0], [9, 0, 0]),
];

#[test]
fn layers_have_no_cycle_and_are_the_modules_of_the_library() {
    for (row, (module, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            assert!(
                LAYERS[..row].iter().any(|(above, _)| above == used),
                "tests/tidy.rs: LAYERS lets {module} use {used}, which is in no row above it"
            );
        }
    }
    let library = rust_files().into_iter().find(|file| file.path == "src/lib.rs");
    let library = library.expect("src/lib.rs is the root of the library");
    let declared: BTreeSet<&str> = library
        .code
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';')?.split("mod ").nth(1))
        .collect();
    let listed: BTreeSet<&str> = LAYERS.iter().map(|(module, _)| *module).collect();
    assert_eq!(declared, listed, "the modules of src/lib.rs, and LAYERS in tests/tidy.rs");
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let Some((module, allowed)) = layer_of(&file.path) else {
            continue;
        };
        for (at, name) in names_from_root(&file.code, depth_of(&file.path)) {
            if name != module && !allowed.contains(&name) {
                wrong.push(format!("{}: {module} uses {name}", place(&file.path, &file.code, at)));
            }
        }
    }
    none("move the code to a higher layer, or what it needs to a lower one", &wrong);
}

#[test]
fn only_the_daemon_and_the_asynchronous_client_know_tokio() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let held = file.path.starts_with("src/") || file.path.starts_with("tools/adamant/");
        if !held || ASYNC_PLACES.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for at in words(&file.code, "tokio") {
            wrong.push(place(&file.path, &file.code, at));
        }
    }
    none("offer a blocking function in src/daemon/ and call that", &wrong);
}

#[test]
fn unsafe_stays_in_the_listed_files() {
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for file in rust_files() {
        let listed = UNSAFE_FILES.contains(&file.path.as_str());
        for at in words(&file.code, "unsafe") {
            found.insert(file.path.clone());
            if !listed {
                wrong.push(format!("{}: unsafe code", place(&file.path, &file.code, at)));
            }
        }
        for at in words(&file.code, "unsafe_code") {
            if !listed {
                wrong.push(format!("{}: the lint is off", place(&file.path, &file.code, at)));
            }
        }
    }
    for path in UNSAFE_FILES {
        if !found.contains(*path) {
            wrong.push(format!("{path}: nothing unsafe in it, strike it from the list"));
        }
    }
    none("do without, or review UNSAFE_FILES in tests/tidy.rs", &wrong);
}

/// clippy has a rule like it, which an `allow` switches off. This one has no switch.
#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        for at in words(&file.code, "unsafe") {
            let opens = file.code[at + "unsafe".len()..].trim_start();
            let needs_reason = opens.starts_with('{') || opens.starts_with("impl");
            if needs_reason && !comment_at(&file, line_of(&file.code, at)).contains("SAFETY:") {
                wrong.push(place(&file.path, &file.code, at));
            }
        }
    }
    none("put a `// SAFETY:` comment with the inequality right above the line", &wrong);
}

#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    for file in files() {
        let held =
            ["src/", "tools/", "tests/", "benches/"].iter().any(|at| file.path.starts_with(at))
                && ["rs", "sh", "py"].contains(&extension(&file.path));
        let count = file.text.lines().count();
        if held && count > LINES_MAX {
            wrong.push(format!("{}:{LINES_MAX}: {count} lines", file.path));
        }
    }
    none("split the file", &wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for file in files() {
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
            for at in words(&file.text, mark) {
                wrong.push(format!("{}: {mark}", place(&file.path, &file.text, at)));
            }
        }
    }
    for file in rust_files() {
        for macro_call in [concat!("to", "do!"), concat!("unimplemented", "!"), "#[ignore"] {
            for (at, _) in file.code.match_indices(macro_call) {
                wrong.push(format!("{}: {macro_call}", place(&file.path, &file.code, at)));
            }
        }
    }
    none("do it now, or leave it out", &wrong);
}

#[test]
fn tests_sleep_only_for_a_stated_reason() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let tests_from = if is_test_file(&file.path) {
            0
        } else {
            file.code.find("#[cfg(test)]").unwrap_or(file.code.len())
        };
        for (at, _) in file.code.match_indices("thread::sleep") {
            if at >= tests_from && !comment_at(&file, line_of(&file.code, at)).contains("because") {
                wrong.push(place(&file.path, &file.code, at));
            }
        }
    }
    none("wait for the event itself; or say in a comment, with the word `because`", &wrong);
}

#[test]
fn locked_dependencies_have_the_versions_that_we_need() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, name, version) in locked_packages() {
        let Some((name, least, below)) = VERSIONS.iter().find(|row| row.0 == name) else {
            continue;
        };
        seen.insert(*name);
        let wanted = format!("at least {}, below {}", dotted(least), dotted(below));
        // A pre-release does not parse, and is not wanted either.
        if !version_parts(&version).is_some_and(|parts| *least <= parts && parts < *below) {
            wrong.push(format!("Cargo.lock:{number}: {name} {version}, wanted {wanted}"));
        }
    }
    for (name, ..) in VERSIONS {
        if !seen.contains(name) {
            wrong.push(format!("Cargo.lock: no {name}, strike it from VERSIONS"));
        }
    }
    none("cargo update -p NAME --precise VERSION; the reasons stand at VERSIONS", &wrong);
}

#[test]
fn every_dependency_comes_from_the_one_registry() {
    let lock = read("Cargo.lock");
    let mut wrong = Vec::new();
    let mut first = None;
    for (index, line) in lock.lines().enumerate() {
        let Some(source) = line.strip_prefix("source = ") else {
            continue;
        };
        if !source.starts_with("\"registry+") || *first.get_or_insert(source) != source {
            wrong.push(format!("Cargo.lock:{}: {source}", index + 1));
        }
    }
    none("take a released version, from the registry that the others come from", &wrong);
}

#[test]
fn the_client_alone_has_few_crates() {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--package", "adamant", "--no-default-features", "--features", "client"])
        .args(["-e", "normal,build", "--prefix", "none", "--offline", "--locked"])
        .output()
        .expect("the cargo that built this test still runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed:\n{errors}");
    let tree = String::from_utf8_lossy(&output.stdout);
    let crates: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains("adamant"), "cargo tree printed something else:\n{tree}");
    assert!(
        crates.len() < CLIENT_CRATES_TOO_MANY,
        "Cargo.toml: the feature client has {} crates, {CLIENT_CRATES_TOO_MANY} are too many: do \
         without one, or move it to the feature store\n{crates:?}",
        crates.len()
    );
}

#[test]
fn links_in_the_documents_lead_to_files() {
    let mut wrong = Vec::new();
    let mut readme_found = false;
    for file in files() {
        readme_found |= file.path == "README.md";
        if extension(&file.path) != "md" {
            continue;
        }
        let folder = root().join(&file.path).parent().expect("a file is in a folder").to_owned();
        for (number, target) in links(&file.text) {
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            let path = target.split('#').next().unwrap_or_default();
            if !elsewhere && !path.is_empty() && !folder.join(path).exists() {
                wrong.push(format!("{}:{number}: {target}", file.path));
            }
        }
    }
    if !readme_found {
        wrong.push("README.md: there is none".to_owned());
    }
    none("write the file, or correct the link (relative to the document)", &wrong);
}

/// Things that get into a commit unseen: paths of one machine, halves of a merge.
#[test]
fn no_file_holds_what_belongs_to_one_machine() {
    let unwanted = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("C:", "\\"),
        concat!("<<<<", "<<< "),
        concat!(">>>>", ">>> "),
    ];
    let mut wrong = Vec::new();
    for file in files() {
        for text in unwanted {
            for (at, _) in file.text.match_indices(text) {
                wrong.push(format!("{}: {text}", place(&file.path, &file.text, at)));
            }
        }
    }
    none("use a relative path or a temporary folder; finish the merge", &wrong);
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let source = r##"a /* b /* c */ d */ 'e' "f\"" r#"g""# h<'i> b'\'' // j"##;
    let (code, comments) = split(source);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "h<'i>", "b"]);
    assert_eq!(comments.split_whitespace().collect::<String>(), "/*b/*c*/d*///j");
    assert_eq!((code.len(), comments.len()), (source.len(), source.len()));
}

#[test]
fn uses_are_found_in_every_form() {
    let names = |code, depth| -> Vec<&str> {
        names_from_root(code, depth).into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(names("use crate::time::TableTime; adamant::token", 1), ["time", "token"]);
    assert_eq!(names("use crate::{claims::{a, b}, self, wire as w}", 1), ["claims", "wire"]);
    assert_eq!(names("super::time super::helper othercrate::time", 1), ["time"]);
    assert_eq!(names("super::map::Map super::super::store::Store", 2), ["store"]);
}

#[test]
fn links_are_found_outside_code() {
    let page = "[a](b.md#c) `[d](e)` [`f`](g.md \"h\")\n```\n[i](j)\n```\n[k]: l.md\n";
    let found: Vec<(usize, &str)> = vec![(1, "b.md#c"), (1, "g.md"), (5, "l.md")];
    assert_eq!(links(page), found);
}

/// Fails with one line a place.
#[track_caller]
fn none(advice: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{advice}\n  {}", wrong.join("\n  "));
}

/// A text file of the project.
struct TextFile {
    /// From the root of the project.
    path: String,
    text: String,
}

/// A Rust file, in two texts of the same shape as the file.
struct RustFile {
    path: String,
    code: String,
    comments: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("cannot read {path}: {err}"))
}

fn rust_files() -> Vec<RustFile> {
    let rust = files().into_iter().filter(|file| extension(&file.path) == "rs");
    rust.map(|file| {
        let (code, comments) = split(&file.text);
        RustFile { path: file.path, code, comments }
    })
    .collect()
}

/// Every text file of the project, by path. Without git: the rules hold in an archive as well.
fn files() -> Vec<TextFile> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("folders of the project can be read");
        for entry in entries {
            let entry = entry.expect("folders of the project can be read");
            let kind = entry.file_type().expect("entries of the project have a type");
            if kind.is_dir() {
                // What git keeps and what cargo builds are not the project's.
                if entry.file_name() != ".git" && entry.file_name() != "target" {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).expect("files of the project can be read");
                let path = entry.path();
                let path = path.strip_prefix(root()).expect("the walk began at the root");
                let path = path.to_str().expect("names of the project are UTF-8").to_owned();
                if let Ok(text) = String::from_utf8(bytes) {
                    files.push(TextFile { path, text });
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

/// The row of LAYERS for a file of the library; nothing for its root, and for programs.
fn layer_of(path: &str) -> Option<(&'static str, &'static [&'static str])> {
    let name = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    if name == "lib" || name == "bin" {
        return None;
    }
    let row = LAYERS.iter().find(|(module, _)| *module == name);
    Some(*row.unwrap_or_else(|| panic!("{path}: give the module a row in LAYERS, tests/tidy.rs")))
}

/// How many `super` lead from a file of the library to its root.
fn depth_of(path: &str) -> usize {
    path.matches('/').count() - usize::from(path.ends_with("/mod.rs"))
}

/// Names that code takes from the root of the crate, and where. Through `super` only those of
/// modules count: in a module within the file, `super` is the file.
fn names_from_root(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let to_root = "super::".repeat(depth);
    for (path, is_exact) in [("crate::", true), ("adamant::", true), (to_root.as_str(), false)] {
        for (at, _) in code.match_indices(path) {
            if code[..at].ends_with(is_word) {
                continue;
            }
            let after = at + path.len();
            for name in first_names(&code[after..]) {
                if is_exact || LAYERS.iter().any(|(module, _)| *module == name) {
                    found.push((at, name));
                }
            }
        }
    }
    found
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c}`.
fn first_names(path: &str) -> Vec<&str> {
    let mut starts = Vec::new();
    if path.starts_with('{') {
        let mut depth = 0;
        for (at, byte) in path.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && (byte == b'{' || byte == b',') {
                starts.push(at + 1);
            }
            if depth == 0 {
                break;
            }
        }
    } else {
        starts.push(0);
    }
    let names = starts.into_iter().map(|start| {
        let rest = path[start..].trim_start();
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    });
    names.filter(|name| !name.is_empty() && *name != "self").collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands as a whole word.
fn words(text: &str, word: &str) -> Vec<usize> {
    let places = text.match_indices(word).map(|(at, _)| at);
    places
        .filter(|at| {
            !text[..*at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
        })
        .collect()
}

/// The line of a byte, from 0.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

fn place(path: &str, text: &str, at: usize) -> String {
    format!("{path}:{}", line_of(text, at) + 1)
}

/// The comment on a line and in the lines right above it.
fn comment_at(file: &RustFile, line: usize) -> String {
    let code: Vec<&str> = file.code.lines().collect();
    let comments: Vec<&str> = file.comments.lines().collect();
    let mut first = line;
    while first > 0 && code[first - 1].trim().is_empty() && !comments[first - 1].trim().is_empty() {
        first -= 1;
    }
    comments[first..=line].join("\n")
}

/// Rust source as code without comments and strings, and as comments alone. What is left out
/// becomes blanks, so a byte stands in the same place in all three.
fn split(source: &str) -> (String, String) {
    let blank = |piece: &str| -> String {
        piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
    };
    let (mut code, mut comments) = (String::new(), String::new());
    let mut rest = source;
    while !rest.is_empty() {
        let (kind, bytes) = first_piece(rest);
        let (piece, after) = rest.split_at(bytes);
        code += &if kind == Piece::Code { piece.to_owned() } else { blank(piece) };
        comments += &if kind == Piece::Comment { piece.to_owned() } else { blank(piece) };
        rest = after;
    }
    (code, comments)
}

#[derive(PartialEq, Eq)]
enum Piece {
    Code,
    Comment,
    Quoted,
}

/// What `rest`, which is not empty, begins with, and how many bytes of it.
fn first_piece(rest: &str) -> (Piece, usize) {
    let first = rest.chars().next().expect("the caller stops at the end");
    if rest.starts_with("//") {
        return (Piece::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Piece::Comment, block_comment_bytes(rest));
    }
    if first == '"' {
        return (Piece::Quoted, string_bytes(rest));
    }
    if first == '\'' {
        // `'a'` and `'\n'` are characters; `'a` is a lifetime.
        let escaped = rest[1..].starts_with('\\');
        let inner = rest[1 + usize::from(escaped)..].chars().next().map_or(0, char::len_utf8);
        let from = 1 + usize::from(escaped) + inner;
        return match rest[from..].find('\'') {
            Some(more) if escaped || more == 0 => (Piece::Quoted, from + more + 1),
            _ => (Piece::Code, 1),
        };
    }
    if is_word(first) {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let hashes = rest[word..].len() - rest[word..].trim_start_matches('#').len();
        let opens = rest[word + hashes..].starts_with('"');
        if opens && ["r", "br", "cr"].contains(&&rest[..word]) {
            let inside = word + hashes + 1;
            let closing = format!("\"{}", "#".repeat(hashes));
            let end = rest[inside..].find(&closing);
            return (Piece::Quoted, end.map_or(rest.len(), |end| inside + end + closing.len()));
        }
        return (Piece::Code, word);
    }
    (Piece::Code, first.len_utf8())
}

/// Bytes of the comment that `rest` begins with; block comments nest.
fn block_comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let bytes = &rest.as_bytes()[at..];
        if bytes.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes of the string that `rest` begins with, with both its quotes.
fn string_bytes(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Line, name and version of every package in Cargo.lock.
fn locked_packages() -> Vec<(usize, String, String)> {
    let lock = read("Cargo.lock");
    let mut packages = Vec::new();
    let mut name = "";
    for (index, line) in lock.lines().enumerate() {
        if let Some(quoted) = line.strip_prefix("name = ") {
            name = quoted.trim_matches('"');
        } else if let Some(quoted) = line.strip_prefix("version = ")
            && !name.is_empty()
        {
            packages.push((index + 1, name.to_owned(), quoted.trim_matches('"').to_owned()));
            name = "";
        }
    }
    packages
}

fn version_parts(version: &str) -> Option<[u64; 3]> {
    let version = version.split('+').next()?;
    let parts: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    parts.ok()?.try_into().ok()
}

fn dotted([major, minor, patch]: &[u64; 3]) -> String {
    format!("{major}.{minor}.{patch}")
}

/// Line number and target of each link in a Markdown text, outside code.
fn links(markdown: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if in_block {
            continue;
        }
        if let Some((_, target)) = line.split_once("]: ")
            && line.starts_with('[')
        {
            found.push((index + 1, target.trim()));
        }
        // Between backticks is every second piece.
        for piece in line.split('`').step_by(2) {
            for (at, opens) in piece.match_indices("](") {
                let target = &piece[at + opens.len()..];
                let target = target.split([')', ' ']).next().unwrap_or_default();
                found.push((index + 1, target));
            }
        }
    }
    found
}

//! Reads the project's files: code apart from comments and strings, names, links, versions.

use std::fs;
use std::path::Path;

use super::LAYERS;

/// A text file of the project.
pub(super) struct TextFile {
    /// From the root of the project.
    pub(super) path: String,
    pub(super) text: String,
}

/// A Rust file, in two texts of the same shape as the file.
pub(super) struct RustFile {
    pub(super) path: String,
    pub(super) code: String,
    pub(super) comments: String,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("cannot read {path}: {err}"))
}

pub(super) fn rust_files() -> Vec<RustFile> {
    let rust = files().into_iter().filter(|file| extension(&file.path) == "rs");
    rust.map(|file| {
        let (code, comments) = split(&file.text);
        RustFile { path: file.path, code, comments }
    })
    .collect()
}

/// Every text file of the project, by path. Without git: the rules hold in an archive as well.
pub(super) fn files() -> Vec<TextFile> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("folders of the project can be read");
        for entry in entries {
            let entry = entry.expect("folders of the project can be read");
            let kind = entry.file_type().expect("entries of the project have a type");
            if kind.is_dir() {
                // What git keeps, cargo builds and npm installs is not the project's.
                let name = entry.file_name();
                if ![".git", "target", "node_modules"].iter().any(|other| name == *other) {
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

pub(super) fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

pub(super) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

/// The row of LAYERS for a file of the library; nothing for its root, and for programs.
pub(super) fn layer_of(path: &str) -> Option<(&'static str, &'static [&'static str])> {
    let name = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    if name == "lib" || name == "bin" {
        return None;
    }
    let row = LAYERS.iter().find(|(module, _)| *module == name);
    Some(*row.unwrap_or_else(|| panic!("{path}: give the module a row in LAYERS, tests/tidy.rs")))
}

/// How many `super` lead from a file of the library to its root.
pub(super) fn depth_of(path: &str) -> usize {
    path.matches('/').count() - usize::from(path.ends_with("/mod.rs"))
}

/// Names that code takes from the root of the crate, and where. Through `super` only those of
/// modules count: in a module within the file, `super` is the file.
pub(super) fn names_from_root(code: &str, depth: usize) -> Vec<(usize, &str)> {
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
pub(super) fn first_names(path: &str) -> Vec<&str> {
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

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands as a whole word.
pub(super) fn words(text: &str, word: &str) -> Vec<usize> {
    let places = text.match_indices(word).map(|(at, _)| at);
    places
        .filter(|at| {
            !text[..*at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
        })
        .collect()
}

/// The line of a byte, from 0.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

pub(super) fn place(path: &str, text: &str, at: usize) -> String {
    format!("{path}:{}", line_of(text, at) + 1)
}

/// The comment on a line and in the lines right above it.
pub(super) fn comment_at(file: &RustFile, line: usize) -> String {
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
pub(super) fn split(source: &str) -> (String, String) {
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
pub(super) enum Piece {
    Code,
    Comment,
    Quoted,
}

/// What `rest`, which is not empty, begins with, and how many bytes of it.
pub(super) fn first_piece(rest: &str) -> (Piece, usize) {
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
pub(super) fn block_comment_bytes(rest: &str) -> usize {
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
pub(super) fn string_bytes(rest: &str) -> usize {
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
pub(super) fn locked_packages() -> Vec<(usize, String, String)> {
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

pub(super) fn version_parts(version: &str) -> Option<[u64; 3]> {
    let version = version.split('+').next()?;
    let parts: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    parts.ok()?.try_into().ok()
}

pub(super) fn dotted([major, minor, patch]: &[u64; 3]) -> String {
    format!("{major}.{minor}.{patch}")
}

/// Line number and target of each link in a Markdown text, outside code.
pub(super) fn links(markdown: &str) -> Vec<(usize, &str)> {
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

//! Rules about the code itself that neither rustc nor clippy can check.
//!
//! They run with `cargo test`, so that there is no second list of checks to remember. A rule that
//! fails says in which file and line, and what to do. Rules about Rust look at code without its
//! comments and strings ([`split`]), so a link in a comment may point upward where a use may not.

use std::collections::BTreeSet;
use std::process::Command;

mod reading;

use reading::*;

/// The modules of the library, lowest first, and what each may use. A row names only rows above
/// it, so there is no cycle to look for.
const LAYERS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("token", &[]),
    ("claims", &["token"]),
    ("chain", &[]),
    ("peer", &[]),
    ("wiping", &[]),
    ("socket", &[]),
    ("durable", &[]),
    ("signers", &["durable"]),
    ("note", &["signers"]),
    ("verdict", &["time", "claims"]),
    ("policy", &["time", "token", "signers", "note"]),
    ("table", &["time", "token", "claims", "durable", "verdict"]),
    ("ledger", &["chain", "time", "token", "claims", "durable", "signers", "note", "table"]),
    ("wire", &["time", "token", "claims", "verdict"]),
    ("manifest", &["time", "token", "durable", "signers", "note", "policy", "table", "ledger"]),
    ("revocations", &["time", "token", "table", "manifest"]),
    (
        "store",
        &[
            "time",
            "token",
            "claims",
            "durable",
            "signers",
            "note",
            "verdict",
            "policy",
            "table",
            "ledger",
            "manifest",
            "revocations",
        ],
    ),
    (
        "builder",
        &[
            "time",
            "token",
            "claims",
            "durable",
            "signers",
            "note",
            "verdict",
            "policy",
            "table",
            "ledger",
            "manifest",
            "revocations",
            "store",
        ],
    ),
    (
        "issuing",
        &[
            "time",
            "token",
            "claims",
            "durable",
            "signers",
            "note",
            "verdict",
            "policy",
            "table",
            "ledger",
            "manifest",
            "revocations",
            "store",
            "builder",
        ],
    ),
    (
        "audit",
        &[
            "chain",
            "time",
            "token",
            "claims",
            "durable",
            "signers",
            "note",
            "verdict",
            "policy",
            "table",
            "ledger",
            "manifest",
            "revocations",
            "store",
            "builder",
        ],
    ),
    ("client", &["time", "token", "claims", "verdict", "wire"]),
    (
        "daemon",
        &[
            "chain",
            "peer",
            "socket",
            "time",
            "token",
            "claims",
            "durable",
            "signers",
            "note",
            "verdict",
            "policy",
            "table",
            "ledger",
            "wire",
            "manifest",
            "revocations",
            "store",
            "builder",
            "client",
        ],
    ),
];

/// Where tokio may be named. Everything else is blocking, so it works without a runtime.
const ASYNC_PLACES: &[&str] = &["src/daemon/", "src/client/aio"];

/// The only files with `unsafe` in them, and none of them is here without need.
const UNSAFE_FILES: &[&str] = &[
    "src/daemon/systemd.rs",
    "src/peer.rs",
    "src/store/lease.rs",
    "src/table/guard.rs",
    "src/table/lookup.rs",
    "src/table/map.rs",
    "src/token/lanes.rs",
    "src/wiping.rs",
    "tools/bench/src/peers/lmdb.rs",
    "tools/bench/src/prefetch.rs",
];

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

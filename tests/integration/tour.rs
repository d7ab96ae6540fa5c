//! The README's tour, word for word.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Between the outputs of two blocks. No command of the tour prints it.
const BLOCK_END: &str = "== end of block ==";

#[test]
fn the_tour_runs_word_for_word() {
    run_word_for_word("sh tour", 8);
}

/// FastAPI and nginx for real.
#[test]
fn an_api_gets_its_keys_word_for_word() {
    let needed = "curl --version && nginx -v && uvicorn --version && python3 -c 'import fastapi'";
    let found = Command::new("bash").args(["-c", needed]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "missing: curl, nginx, or FastAPI with uvicorn");
        eprintln!("not run: curl, nginx, or FastAPI with uvicorn is missing");
        return;
    }
    let issuer = Path::new(env!("CARGO_BIN_EXE_adamant")).with_file_name("adamant-issuer");
    assert!(issuer.is_file(), "no adamant-issuer: cargo test --workspace builds it");
    run_word_for_word("sh keys", 3);
}

/// Runs every block of that language in one shell, and compares what it prints with the `text`
/// block after it, in which `...` stands for anything on that line.
fn run_word_for_word(language: &str, least: usize) {
    let blocks = blocks(language);
    assert!(blocks.len() >= least, "the README has such blocks");
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_adamant")).parent().unwrap();
    fs::create_dir(folder.path().join("target")).unwrap();
    symlink(programs, folder.path().join("target/release")).unwrap();
    for name in ["tools", "clients", "examples"] {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        symlink(target, folder.path().join(name)).unwrap();
    }
    // Whatever a failure leaves running would hold our pipe open.
    let mut script =
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned();
    for (commands, _) in &blocks {
        script.push_str(&format!("{commands}\necho '{BLOCK_END}'\n"));
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env_remove("ADAMANT_HOME")
        .env_remove("ADAMANT_SOCKET")
        // Where io_uring is forbidden, the loop of uvloop would abort the process.
        .env("UV_USE_IO_URING", "0")
        .output()
        .unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    let outputs: Vec<&str> = said.split(&format!("{BLOCK_END}\n")).collect();
    for ((commands, expected), found) in blocks.iter().zip(&outputs) {
        assert_lines_match(expected, found, commands);
    }
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(outputs.len(), blocks.len() + 1, "{errors}");
}

/// Commands and the output that is expected of them.
fn blocks(wanted: &str) -> Vec<(String, String)> {
    let readme = include_str!("../../README.md");
    let mut blocks: Vec<(String, String)> = Vec::new();
    for fence in readme.split("\n```").collect::<Vec<_>>().chunks(2) {
        let [_, block] = fence else { continue };
        let (language, body) = block.split_once('\n').unwrap();
        if language == wanted {
            blocks.push((body.to_owned(), String::new()));
            continue;
        }
        let Some((_, expected)) = blocks.last_mut() else { continue };
        if language != "text" {
            // Past them.
            break;
        }
        assert!(expected.is_empty(), "two outputs after one block: {body}");
        *expected = body.to_owned();
    }
    blocks
}

fn assert_lines_match(expected: &str, found: &str, commands: &str) {
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.trim_end().lines().collect(), found.trim_end().lines().collect());
    assert_eq!(
        expected.len(),
        found.len(),
        "after\n{commands}\nexpected {expected:#?}\nfound {found:#?}"
    );
    for (expected, found) in expected.iter().zip(&found) {
        assert!(
            matches(expected, found),
            "after\n{commands}\nexpected {expected}\nfound    {found}"
        );
    }
}

fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("...");
    let first = parts.next().unwrap();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

//! `openapi.json` and the service say the same.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::support::Site;

const DOCUMENT: &str = include_str!("../../openapi.json");

/// Every path and method of the document is there, and no other method.
#[test]
fn every_operation_of_the_document_is_served_and_no_other() {
    let site = Site::new();
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let issued = site.post("/tokens", &json!({ "kind": "live" })).json();
    let id = issued["id"].as_str().unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch"] {
            let target = path.replace("{id}", id);
            let request = format!(
                "{} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                method.to_uppercase()
            );
            let code = site.web().ask(&request).code;
            let is_documented = item.get(method).is_some();
            assert_eq!(code != 405, is_documented, "{method} {path}: {code}");
        }
    }
}

/// A bridge from a port to a Unix socket, for programs that know no Unix sockets.
fn bridge(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(unix) = UnixStream::connect(&socket) else { return };
            let (tcp, other) = (stream.try_clone().unwrap(), unix.try_clone().unwrap());
            thread::spawn(move || pump(tcp, other));
            thread::spawn(move || {
                let (mut from, mut to) = (unix, stream);
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

fn pump(mut from: TcpStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// schemathesis(1) makes up requests from the document, right ones and wrong ones, and compares
/// each answer with what the document says of it.
#[test]
fn schemathesis_finds_no_answer_that_the_document_does_not_have() {
    let found = Command::new("schemathesis").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "schemathesis is missing (Python package)");
        eprintln!("not run: schemathesis is missing (Python package)");
        return;
    }
    let site = Site::new();
    let url = format!("http://127.0.0.1:{}", bridge(site.issuer_socket()));
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let output = Command::new("schemathesis")
        .args(["run", "--url", &url, "--max-examples", "30", "--seed", "1"])
        // Lengths are bytes here and characters there, so they agree in ASCII alone.
        .args(["--phases", "examples,coverage,fuzzing", "--generation-codec", "ascii"])
        .arg(document)
        .current_dir(site.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    site.audit();
}

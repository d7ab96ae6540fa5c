//! Writes what is well-formed into the corpus folders under the folder that is named, for a fuzzer
//! to begin with: `seeds FOLDER`. Needed when a format or a target has changed.

use std::path::PathBuf;
use std::{env, fs};

use adamant::claims::{Grant, Requirement};
use adamant::daemon::DEFAULTS;
use adamant::ledger::{Opening, Openings, Proof, Tiles};
use adamant::revocations::{Revocation, Revocations, RevocationsNote};
use adamant::table::format::Reason;
use adamant::time::TableTime;
use adamant::token::Token;
use adamant::verdict::Verdict;
use adamant::wire;
use adamant_fuzz::sample::{NOW_UNIX_S, digest, domain, files, leaves, policy};
use adamant_fuzz::shop::Shop;
use adamant_fuzz::{ORIGIN, folder, signer, verifier_key};

struct Seeds(PathBuf);

fn main() {
    let root = env::args_os().nth(1).expect("usage: seeds FOLDER");
    let seeds = Seeds(root.into());
    seeds.tokens();
    seeds.tables();
    seeds.notes();
    seeds.ledger();
    seeds.frames();
    seeds.texts();
}

impl Seeds {
    fn add(&self, target: &str, name: &str, bytes: &[u8]) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).expect("a folder that can be made");
        fs::write(folder.join(name), bytes).expect("a file that can be written");
    }

    fn tokens(&self) {
        let kind = "live".parse().expect("a kind");
        let token = Token::mint(domain().prefix, kind).expect("the system has randomness");
        self.add("token", "token", token.expose().as_bytes());
        self.add("token", "scheme", format!("secret-token:{}", token.expose()).as_bytes());
        let scopes = vec!["orders:read".to_owned(), "orders:write".to_owned()];
        let mut grant = Vec::new();
        Grant::new(kind, "api", scopes).expect("claims").encode(&mut grant);
        self.add("grant", "grant", &grant);
    }

    fn tables(&self) {
        for (name, file) in ["base", "base", "overlay", "overlay"].into_iter().zip(files()) {
            let target = if file.starts_with(b"ADMT") { "table" } else { "subjects" };
            self.add(target, name, &file);
        }
        for target in ["directory", "generation", "audit"] {
            self.add(target, "two", &[0, 2, 3, 0, 1, 0, 1, 2, 99, 0, 7, 0]);
        }
        let at = |number: u8| Revocation {
            digest: digest(number),
            at: TableTime(1 + u32::from(number)),
            reason: Reason::Other,
        };
        self.add("revocations", "list", &Revocations::of((0..3).map(at).collect()).to_bytes());
    }

    fn notes(&self) {
        let mut shop = Shop::open();
        let note = shop.sign(files(), 1, NOW_UNIX_S, None);
        let (text, _) = note.split_once("\n\n").expect("a note");
        self.add("manifest", "manifest", format!("{text}\n").as_bytes());
        self.add("note", "manifest", note.as_bytes());
        let revocations = RevocationsNote {
            origin: ORIGIN.to_owned(),
            sequence: 7,
            hash: [1; 32],
            bytes: 32 + 40,
            records: 1,
        };
        self.add("revocations", "note", revocations.to_text().as_bytes());
        let key = verifier_key();
        self.add("signers", "public", key.to_string().as_bytes());
        self.add("signers", "private", signer().to_file().as_bytes());
        let mark = format!("{key} 1 7 {}\n", "ab".repeat(32));
        self.add("marks", "mark", format!("{mark}{mark}").as_bytes());
        self.add("policy", "policy", policy().to_toml().as_bytes());
    }

    fn ledger(&self) {
        let shop = Shop::open();
        let leaves = leaves();
        let (size, _) = shop.write_ledger(&leaves);
        let ledger = shop.store().ledger();
        let checkpoint = fs::read(ledger.join("checkpoint")).expect("it was written");
        self.add("checkpoint", "note", &checkpoint);
        let end = checkpoint.windows(2).position(|two| two == b"\n\n").expect("a note");
        self.add("checkpoint", "text", &checkpoint[..=end]);
        let mut tiles = Tiles::new(&ledger, size);
        let proof = Proof::of(3, &mut tiles, checkpoint).expect("a good ledger");
        self.add("proof", "proof", &proof.to_bytes());
        for (number, leaf) in leaves.iter().enumerate() {
            self.add("event", &format!("leaf-{number}"), leaf);
        }
        let read = |path: &str| fs::read(ledger.join(path)).expect("it was written");
        let (entries, hashes) =
            (read(&format!("tile/entries/000.p/{size}")), read(&format!("tile/0/000.p/{size}")));
        let parts = [part(&entries), part(&hashes)].concat();
        self.add("tiles", "ledger", &[&size.to_le_bytes()[..], &parts].concat());
        let sorted = [&[9][..], &[0x55; 24], &[0xAA; 48]].concat();
        self.add("index", "rows", &[part(&sorted), part(&sorted), part(&[0; 48])].concat());
        let folder = folder();
        let opening =
            |index| Opening { index, salt: [1; 32], subject: "s".into(), meta: "m".into() };
        let openings = Openings::at(folder.path());
        let appended = openings.append(0, &[opening(0), opening(3)]).expect("a temporary folder");
        appended.iter().for_each(|appended| appended.wait().expect("a temporary folder"));
        self.add("openings", "rows", &fs::read(folder.path().join("0")).expect("it was written"));
    }

    fn frames(&self) {
        let asked = Requirement::any().kind("live").audience("api").scope("a").scope("b");
        let mut frame = Vec::new();
        let mut add = |target: &str, name: &str, write: &dyn Fn(&mut Vec<u8>)| {
            frame.clear();
            write(&mut frame);
            self.add(target, name, &frame[wire::PREFIX_BYTES..]);
            if target == "requests" {
                self.add("daemon", name, &[&[1], &frame[..]].concat());
            }
        };
        add("requests", "hello", &wire::push_hello_request);
        add("requests", "status", &wire::push_status_request);
        let digests = [digest(1), digest(200)];
        add("requests", "verify", &|out| {
            wire::push_verify(out, true, &asked, &digests).expect("short")
        });
        let tokens: [&[u8]; 2] = [b"acme_live_1x", b"y"];
        add("requests", "tokens", &|out| {
            wire::push_verify_tokens(out, false, &asked, &tokens).expect("short");
        });
        let (domain, limits) = (Some(domain()), wire::Limits::OURS);
        let hello = wire::Hello { domain, epoch: 1, generation: 7, limits };
        add("replies", "hello", &|out| wire::push_hello(out, &hello));
        add("replies", "status", &|out| wire::push_status(out, "{}"));
        add("replies", "error", &|out| wire::push_error(out, wire::ErrorCode::Busy, "later"));
        let unknown = wire::Row::without_record(Verdict::Unknown);
        let rows = [unknown.encode(); 2];
        let head = wire::VerdictsHead { epoch: 1, generation: 7, ..Default::default() };
        add("replies", "verdicts", &|out| wire::push_verdicts(out, &head, &rows, &[]));
        add("replies", "claims", &|out| {
            wire::push_verdicts(out, &head, &rows, &[None, None]);
        });
    }

    fn texts(&self) {
        self.add("config", "defaults", DEFAULTS.as_bytes());
        let hash = "ab".repeat(32);
        let json = format!(
            "{{\"digest\":\"{hash}\",\"id\":\"00000000000001\",\"kind\":\"live\",\"scopes\":[\"a\"],\
             \"meta\":{{\"a\":1}},\"expires\":\"2027-01-31T12:00:00Z\"}}\n{{\"sha256\":\"{hash}\",\
             \"kind\":\"live\",\"revoked_at\":\"2026-01-31T12:00:00+01:00\",\"reason\":\"unused\"}}\n"
        );
        self.add("list", "json", json.as_bytes());
        let csv = format!(
            "digest,id,kind,subject,scopes,meta\n{hash},00000000000001,live,\"a, \"\"b\"\"\",a b,\r\n"
        );
        self.add("list", "csv", csv.as_bytes());
        for (name, request) in [
            (
                "auth",
                "GET /auth?scope=a&kind=live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme_live_1x\r\n\r\n",
            ),
            (
                "introspect",
                "POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\ntoken=a",
            ),
            ("metrics", "GET /metrics HTTP/1.0\r\n\r\n"),
            ("status", "GET /status HTTP/1.0\r\n\r\n"),
        ] {
            self.add("daemon", &format!("http-{name}"), &[&[0], request.as_bytes()].concat());
        }
    }
}

/// A part, as `adamant_fuzz::parts` cuts it off.
fn part(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a short part");
    [&len.to_le_bytes(), bytes].concat()
}

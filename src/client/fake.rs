//! A daemon for the tests of a service: real frames at a real socket, and tokens that the test
//! makes up. It needs no table, no keys and no second process.
//!
//! ```
//! use adamant::claims::Requirement;
//! use adamant::client::{Claims, Client, fake::Fake};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let socket = folder.path().join("socket");
//! let fake = Fake::listen(&socket).unwrap();
//! let scopes = vec!["orders:read".to_owned()];
//! fake.trust("any text will do", Claims { kind: "live".to_owned(), scopes, ..Claims::default() });
//!
//! let mut client = Client::connect(&socket).unwrap();
//! let need = Requirement::any().scope("orders:read");
//! assert!(client.verify(b"any text will do", &need).unwrap().is_valid());
//! fake.revoke("any text will do");
//! assert!(!client.verify(b"any text will do", &need).unwrap().is_valid());
//! ```

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::claims::{Grant, GrantView, Mismatch};
use crate::time::TableTime;
use crate::token::{Digest, Domain, DomainKey, ForeignAlgorithm, TokenId};
use crate::verdict::Verdict;
use crate::wire::{
    Claims, EncodedRow, ErrorCode, Hello, Limits, Record, Request, RequirementRef, Row,
    VerdictsHead, cut_frame, push_error, push_hello, push_status, push_verdicts,
};

/// A fake daemon, which ends when it is dropped.
#[derive(Debug)]
pub struct Fake {
    shared: Arc<Shared>,
    socket: PathBuf,
}

#[derive(Debug)]
struct Shared {
    domain: Domain,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tokens: HashMap<Digest, Known>,
    /// Each change is another generation, as with the real one.
    generation: u64,
    is_unavailable: bool,
}

#[derive(Debug)]
struct Known {
    id: TokenId,
    claims: Claims,
    /// The grant of the claims, in canonical bytes.
    grant: Vec<u8>,
    is_revoked: bool,
}

impl Fake {
    /// Listens at `socket`, where nothing may be yet.
    pub fn listen(socket: impl AsRef<Path>) -> io::Result<Fake> {
        let socket = socket.as_ref().to_owned();
        let listener = UnixListener::bind(&socket)?;
        let prefix = "fake".parse().expect("a prefix");
        // With a foreign algorithm every text is a token.
        let foreign = Some(ForeignAlgorithm::Sha256);
        let shared = Arc::new(Shared {
            domain: Domain { key: DomainKey([0xFA; 32]), prefix, foreign },
            state: Mutex::new(State { generation: 1, ..State::default() }),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream));
            }
        });
        Ok(Fake { shared, socket })
    }

    /// From now on `token`, any text, is valid and has these claims.
    ///
    /// # Panics
    ///
    /// When no token can have such claims, or be this text.
    pub fn trust(&self, token: &str, claims: Claims) {
        let kind = claims.kind.parse().expect("a kind: 1 to 8 lower-case letters and digits");
        let grant = Grant::new(kind, &claims.audience, claims.scopes.clone()).expect("claims");
        let mut bytes = Vec::new();
        grant.encode(&mut bytes);
        let mut state = self.change();
        let id = format!("{:014}", state.tokens.len()).parse().expect("fourteen digits are an id");
        let known = Known { id, claims, grant: bytes, is_revoked: false };
        state.tokens.insert(self.digest(token), known);
    }

    /// From now on `token` is revoked.
    ///
    /// # Panics
    ///
    /// When it was never trusted.
    pub fn revoke(&self, token: &str) {
        let digest = self.digest(token);
        self.change().tokens.get_mut(&digest).expect("it was trusted before").is_revoked = true;
    }

    /// Whether there is a generation to answer from.
    pub fn set_available(&self, is_available: bool) {
        self.change().is_unavailable = !is_available;
    }

    fn digest(&self, token: &str) -> Digest {
        self.shared.domain.digest(token.as_bytes()).expect("a text that can be a token")
    }

    fn change(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        state.generation += 1;
        state
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.set_available(false);
        let _ = fs::remove_file(&self.socket);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one connection until it ends.
    fn serve(&self, mut stream: UnixStream) {
        let (mut received, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            received.extend_from_slice(&chunk[..read]);
            let mut replies = Vec::new();
            let mut start = 0;
            while let Ok(Some((body, len))) = cut_frame(&received[start..]) {
                self.answer(body, &mut replies);
                start += len;
            }
            received.drain(..start);
            if stream.write_all(&replies).is_err() {
                return;
            }
        }
    }

    fn answer(&self, body: &[u8], out: &mut Vec<u8>) {
        let state = self.state();
        match Request::decode(body) {
            Ok(Request::Hello { .. }) => {
                let domain = (!state.is_unavailable).then(|| self.domain.clone());
                let generation = state.generation;
                push_hello(out, &Hello { domain, epoch: 1, generation, limits: Limits::OURS });
            }
            Ok(Request::Status) => push_status(out, "{\"state\":\"ok\",\"fake\":true}"),
            Ok(Request::Verify(verify)) => {
                state.push(out, verify.digests, &verify.requirement, verify.claims_wanted);
            }
            Ok(Request::VerifyTokens(verify)) => {
                let digests =
                    verify.tokens.map(|token| self.domain.digest(token).unwrap_or_default());
                let digests: Vec<Digest> = digests.collect();
                state.push(out, &digests, &verify.requirement, verify.claims_wanted);
            }
            Err(err) => push_error(out, ErrorCode::Malformed, &err.to_string()),
        }
    }
}

impl State {
    fn push(
        &self,
        out: &mut Vec<u8>,
        digests: &[Digest],
        requirement: &RequirementRef<'_>,
        claims_wanted: bool,
    ) {
        let head = VerdictsHead { epoch: 1, generation: self.generation, ..Default::default() };
        let rows: Vec<Row> = digests.iter().map(|digest| self.row(digest, requirement)).collect();
        let claims_of = |(digest, row): (&Digest, &Row)| {
            row.record.and(self.tokens.get(digest)).map(|known| known.claims.clone())
        };
        let wanted = digests.iter().zip(&rows).filter(|_| claims_wanted);
        let claims: Vec<Option<Claims>> = wanted.map(claims_of).collect();
        let rows: Vec<EncodedRow> = rows.iter().map(Row::encode).collect();
        push_verdicts(out, &head, &rows, &claims);
    }

    fn row(&self, digest: &Digest, requirement: &RequirementRef<'_>) -> Row {
        if self.is_unavailable {
            return Row::without_record(Verdict::Unavailable);
        }
        let Some(known) = self.tokens.get(digest) else {
            return Row::without_record(Verdict::Unknown);
        };
        let asked = requirement.parts();
        let view = GrantView::new(&known.grant).expect("encoded by trust");
        let verdict = match view.admits(asked.kind, asked.audience, asked.scopes()) {
            _ if known.is_revoked => Verdict::Revoked,
            Ok(()) => Verdict::Valid,
            Err(Mismatch::Kind) => Verdict::WrongKind,
            Err(Mismatch::Audience) => Verdict::WrongAudience,
            Err(Mismatch::Scope) => Verdict::InsufficientScope,
        };
        let expires = TableTime::default();
        Row { verdict, record: Some(Record { id: known.id, table: 0, expires, grant: 0 }) }
    }
}

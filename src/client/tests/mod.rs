//! The client against daemons that do as a script says, one script a connection.

mod asking;
mod failing;
mod fake;

use crate::time::TableTime;
use crate::token::{DomainKey, ForeignAlgorithm, TokenId};
use crate::verdict::Verdict;
use crate::wire::{Hello, Limits, VerdictsHead};

use super::*;
use fake::{Daemon, Peer};

const TOKEN: &[u8] = b"acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";

/// Long enough for a loaded machine, in tests where nothing should time out.
const PATIENT: Duration = Duration::from_secs(20);

fn any() -> Requirement {
    Requirement::any()
}

fn key() -> DomainKey {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/token.json")).unwrap();
    let hex = vectors["hash_key_hex"].as_str().unwrap();
    DomainKey(std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()))
}

fn domain(foreign: Option<ForeignAlgorithm>) -> Domain {
    Domain { key: key(), prefix: "acme".parse().unwrap(), foreign }
}

fn hello_of(generation: u64) -> Hello {
    Hello { domain: Some(domain(None)), epoch: 1, generation, limits: Limits::OURS }
}

fn head_of(generation: u64) -> VerdictsHead {
    VerdictsHead { epoch: 1, generation, age_s: 60, ..VerdictsHead::default() }
}

fn id() -> TokenId {
    "V6T2UmxQamt62t".parse().unwrap()
}

fn valid() -> Row {
    let record = Record { id: id(), table: 0, expires: TableTime(1), grant: 0 };
    Row { verdict: Verdict::Valid, record: Some(record) }
}

fn unknown() -> Row {
    Row::without_record(Verdict::Unknown)
}

fn verdict_of(answer: Result<Answer, CouldNotAsk>) -> Verdict {
    answer.unwrap().verdict()
}

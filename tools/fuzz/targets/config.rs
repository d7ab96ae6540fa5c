//! `adamantd.toml`: understood, or refused with what is wrong.

#![no_main]

use adamant::daemon::{Budget, Config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text) {
        Ok(config) => {
            assert!(!config.sockets.is_empty() && config.workers > 0);
            assert!(config.http_loopback.iter().all(|address| address.ip().is_loopback()));
            let _ = Budget::of(&config, 1024);
        }
        Err(err) => assert!(!err.to_string().is_empty()),
    }
});

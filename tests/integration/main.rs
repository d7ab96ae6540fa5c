//! The real programs, over real sockets, in temporary folders.

#![allow(clippy::unwrap_used)]

mod aio;
mod attacks;
mod callers;
mod commands;
mod crash;
mod cut;
mod damage;
mod drills;
mod faults;
mod faults_daemon;
mod foreign;
mod frames;
mod golden;
mod http;
mod images;
mod install;
mod laws;
mod ledger;
mod list;
mod model;
mod monitoring;
mod nginx;
mod note;
mod operator;
mod powercut;
mod proofs;
mod recording;
mod restart;
mod revive;
mod sandbox;
mod status;
mod storage;
mod strace;
mod support;
mod swap;
mod systemd;
mod tamper;
mod tour;
mod web;

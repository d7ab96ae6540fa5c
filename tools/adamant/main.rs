//! The command-line tool: a table of commands, one file each.

// First, for its macros.
#[macro_use]
mod output;

mod audit;
mod build;
mod demo;
mod diff;
mod erase;
mod evidence;
mod exit;
mod generation;
mod import;
mod init;
mod inspect;
mod issue;
mod ledger;
mod prove;
mod publish;
mod revoke;
mod rotate;
mod serve;
mod show;
mod signers;
mod status;
mod verify;
mod verify_store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Issues, builds, serves and checks API tokens.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Print JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole story in a minute, in a temporary folder
    Demo(demo::Arguments),
    /// Make a home: domain key, signer, policy, and a first, empty generation
    Init(init::Arguments),
    /// Issue tokens, and publish them; or with --list, write a token list for a pipeline
    Issue(issue::Arguments),
    /// End trust in tokens, now or at a time
    Revoke(revoke::Arguments),
    /// Issue a new token in the place of another, which ends after an overlap
    Rotate(rotate::Arguments),
    /// Take over tokens that another system made
    Import(import::Arguments),
    /// Forget who a token is for
    Erase(erase::Arguments),
    /// Publish what is recorded, or sign the current generation anew
    Publish(publish::Arguments),
    /// Build a generation from the ledger, or from a token list, and publish it
    Build(build::Arguments),
    /// Show all events about a token
    Show(show::ShowArguments),
    /// Show the latest events of the ledger
    Log(show::LogArguments),
    /// List tokens by subject, kind, scope or state, now or at an earlier time
    List(show::ListArguments),
    /// Prove that a token was issued, or revoked, in a file that stands alone
    Prove(prove::Arguments),
    /// Check such a file
    VerifyProof(prove::VerifyArguments),
    /// Write all proofs about a token, with a verifier, into one file
    Evidence(evidence::Arguments),
    /// Show, add or rotate signers
    Signers(signers::Arguments),
    /// Check every leaf, tile, law and table of a store
    Audit(audit::Arguments),
    /// Run the daemon in the foreground
    Serve(serve::Arguments),
    /// Ask the daemon about a token, which is read from standard input
    Verify(verify::Arguments),
    /// Ask the daemon how it is
    Status(status::Arguments),
    /// Show what is in a table, a subjects file or a manifest
    Inspect(inspect::Arguments),
    /// Check every byte of a store, and who signed it
    VerifyStore(verify_store::Arguments),
    /// Show what lies between two generations, and whether the second may follow the first
    Diff(diff::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(err) => {
            let _ = err.print();
            return ExitCode::from(if err.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let json = arguments.json;
    let outcome = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Init(arguments) => init::run(&arguments, json),
        Command::Issue(arguments) => issue::run(&arguments, json),
        Command::Revoke(arguments) => revoke::run(&arguments, json),
        Command::Rotate(arguments) => rotate::run(&arguments, json),
        Command::Import(arguments) => import::run(&arguments, json),
        Command::Erase(arguments) => erase::run(&arguments, json),
        Command::Publish(arguments) => publish::run(&arguments, json),
        Command::Build(arguments) => build::run(&arguments, json),
        Command::Show(arguments) => show::show(&arguments, json),
        Command::Log(arguments) => show::log(&arguments, json),
        Command::List(arguments) => show::list(&arguments, json),
        Command::Prove(arguments) => prove::run(&arguments),
        Command::VerifyProof(arguments) => prove::verify(&arguments, json),
        Command::Evidence(arguments) => evidence::run(&arguments),
        Command::Signers(arguments) => signers::run(&arguments, json),
        Command::Audit(arguments) => audit::run(&arguments, json),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments, json),
        Command::Status(arguments) => status::run(&arguments, json),
        Command::Inspect(arguments) => inspect::run(&arguments, json),
        Command::VerifyStore(arguments) => verify_store::run(&arguments, json),
        Command::Diff(arguments) => diff::run(&arguments, json),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has seen enough of it.
        Err(err) if exit::is_broken_pipe(&err) => ExitCode::from(exit::OK),
        Err(err) => {
            tell!("adamant: {err:#}");
            ExitCode::from(exit::code_of(&err))
        }
    }
}

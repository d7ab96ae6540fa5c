#!/usr/bin/env bash
# All checks, or those that are named: fmt clippy tests schedules benches doc instructions
set -euo pipefail
cd "$(dirname "$0")/.."

fmt() {
    cargo fmt --all --check
    # Detached from the workspace, and formatted like it.
    cargo fmt --manifest-path tools/fuzz/Cargo.toml --check
}

clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
    # The features that users take alone.
    local features
    for features in client store tokio fake tower axum; do
        cargo clippy -p adamant --lib --no-default-features --features "$features" --locked -- -D warnings
    done
}

tests() { cargo test --workspace --locked; }

# What is served changes under readers, in thousands of schedules: src/daemon/tests.
schedules() {
    # No power is cut here, so no disk need be waited for.
    if [ -w /dev/shm ]; then local -x TMPDIR=/dev/shm; fi
    # In a folder of its own, since other flags build all anew; without what only a debugger reads.
    RUSTFLAGS="${RUSTFLAGS-} --cfg shuttle" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo test --locked -p adamant --lib --target-dir target/shuttle schedules
}

benches() { cargo test --workspace --benches --locked; }

# Those of the verdict path's kernels, beside the kept ones (valgrind).
instructions() { cargo run --release --locked -p adamant-bench -- gate; }

doc() { RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace --locked; }

stages=("$@")
[ $# -gt 0 ] || stages=(fmt clippy tests schedules benches doc instructions)
for stage in "${stages[@]}"; do
    case $stage in
        fmt | clippy | tests | schedules | benches | doc | instructions) ;;
        *) echo "check.sh: no stage '$stage' (fmt clippy tests schedules benches doc instructions)" >&2; exit 64 ;;
    esac
done
for stage in "${stages[@]}"; do
    began=$SECONDS
    printf '== %s\n' "$stage"
    "$stage"
    printf '== %s: %d s\n' "$stage" $((SECONDS - began))
done

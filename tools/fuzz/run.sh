#!/usr/bin/env bash
# Builds and runs the fuzz targets on their kept corpus: run.sh SECONDS [TARGET...]
#
# A line a target; exit code 0 if nothing was found, 1 if something was, 64 for a wrong command, 69
# without a nightly compiler. What made a target fail is left in target/fuzz/found, and what is
# new to the corpus in target/fuzz/corpus (README.md says how either becomes a part of the project).
set -euo pipefail
cd "$(dirname "$0")"

# One input: its memory and its time.
rss_limit_mb=256
timeout_s=10

usage() {
    echo 'usage: run.sh SECONDS [TARGET...]' >&2
    exit 64
}

[[ ${1-} =~ ^[0-9]+$ ]] || usage
seconds=$1
shift
mapfile -t all < <(cd targets && ls | sed -n 's/\.rs$//p')
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
    [ -f "targets/$target.rs" ] || { echo "run.sh: no target '$target': ${all[*]}" >&2; exit 64; }
done
if ! host=$(rustc +nightly -vV 2> /dev/null | sed -n 's/^host: //p') || [ -z "$host" ]; then
    echo 'run.sh: no nightly compiler: rustup toolchain install nightly --profile minimal' >&2
    exit 69
fi

# Coverage for libFuzzer and memory errors as findings. `--cfg fuzzing` and the rest are what
# cargo-fuzz gives.
flags='--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares'
work=$(cd ../.. && pwd)/target/fuzz
built=$work/$host/release
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
RUSTFLAGS=$flags CARGO_TARGET_DIR=$work \
    cargo +nightly build --quiet --locked --release --target "$host" "${bins[@]}"

# Freed memory is kept for a while, to find its use; not so long that it counts as a leak. One
# thread for what would take all cores.
export ASAN_OPTIONS=quarantine_size_mb=16:detect_odr_violation=0 RAYON_NUM_THREADS=1
failed=0
for target in "${targets[@]}"; do
    began=$SECONDS
    found=$work/found/$target log=$work/$target.log
    rm -rf "$found"
    mkdir -p "$found" "$work/corpus/$target" "corpus/$target"
    status=0
    "$built/$target" -max_total_time="$seconds" -rss_limit_mb=$rss_limit_mb -timeout=$timeout_s \
        -print_final_stats=1 -artifact_prefix="$found/" -close_fd_mask=1 \
        "$work/corpus/$target" "corpus/$target" > "$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    findings=$(find "$found" -type f | wc -l)
    # A target that could not even start has found nothing, and has not run either.
    [ "$status" = 0 ] || [ "$findings" -gt 0 ] || findings=1
    printf '%-12s %10s executions  %d findings  %d s\n' \
        "$target" "${runs:-0}" "$findings" $((SECONDS - began))
    if [ "$findings" -gt 0 ]; then
        failed=1
        awk '!/^(#|INFO|stat::)/ && NF && said++ < 8' "$log" >&2
        find "$found" -type f >&2
    fi
done
exit $failed

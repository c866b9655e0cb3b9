#!/bin/sh
# Builds every target with plain stable cargo, coverage included, and runs each for a few seconds on its corpus and on what it
# makes of it. Fails if one finds something; the input is then in artifacts/. Time for each: FUZZ_SECONDS (7);
# FUZZ_SEED (1) changes what is tried.
# Arguments are names of targets; none means all.
set -eu
cd "$(dirname "$0")"

# What cargo-fuzz passes, less the sanitizer. An explicit target keeps it from build scripts and procedural macros.
coverage="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="${RUSTFLAGS:-} $coverage" cargo build --release --target "$host"
bin="${CARGO_TARGET_DIR:-target}/$host/release"

[ $# -gt 0 ] || set -- $(ls fuzz_targets | sed 's/\.rs$//')
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
mkdir -p artifacts
failed=""
for target; do
    mkdir -p "$new/$target" "corpus/$target"
    echo "== $target"
    if ! "$bin/$target" -seed="${FUZZ_SEED:-1}" -max_total_time="${FUZZ_SECONDS:-7}" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$target-" "$new/$target" "corpus/$target" >"$new/$target.log" 2>&1; then
        tail -n 60 "$new/$target.log"
        failed="$failed $target"
    fi
    grep -E '^Done|INITED' "$new/$target.log" || true
done
[ -z "$failed" ] || { echo "found something:$failed"; exit 1; }

#!/bin/sh
# Fuzzes every target for HELIOGRAPH_FUZZ_SECONDS (60), after the fuzzer has found the bug that is
# planted for it. What is found interesting stays in target/fuzz/TARGET; what breaks a rule is written
# there as broken-*, and ends the run. `run.sh --keep` puts the inputs that together reach everything
# into tests/fuzz/corpus.
set -eu

here=$(dirname "$0")
target=${CARGO_TARGET_DIR:-target}
seconds=${HELIOGRAPH_FUZZ_SECONDS:-60}
cargo=${CARGO:-cargo}

RUSTC_WORKSPACE_WRAPPER=$(realpath "$here/rustc.sh") \
    $cargo build --package heliograph-tests --bin fuzz --features coverage
fuzz=$target/debug/fuzz

if [ "${1:-}" = --keep ]; then
    for folder in "$here"/corpus/*/; do
        name=$(basename "$folder")
        least=$target/fuzz/$name.least
        rm -rf "$least"
        mkdir -p "$least"
        "$fuzz" "$name" --least "$least" "$folder" "$target/fuzz/$name"
        # At most 150, the smallest first: a corpus is for reading too.
        rm -f "$folder"/*
        ls -Sr "$least" | head -n 150 | while read -r input; do
            cp "$least/$input" "$folder$input"
        done
    done
    exit
fi

# A fuzzer that finds nothing proves nothing.
planted=$target/fuzz/planted
rm -rf "$planted"
mkdir -p "$planted"
if "$fuzz" planted 60 "$planted" "$here/corpus/pdu" >"$planted.log" 2>&1; then
    echo "fuzz: the planted bug was not found in 60 s: the fuzzer is blind" >&2
    exit 1
fi
if ! ls "$planted"/broken-* >/dev/null 2>&1; then
    tail -n 20 "$planted.log" >&2
    exit 1
fi
echo "fuzz: the planted bug was found"

for folder in "$here"/corpus/*/; do
    name=$(basename "$folder")
    mkdir -p "$target/fuzz/$name"
    if ! "$fuzz" "$name" "$seconds" "$target/fuzz/$name" "$folder" >"$target/fuzz/$name.log" 2>&1; then
        tail -n 40 "$target/fuzz/$name.log" >&2
        echo "fuzz: $name broke its rule" >&2
        exit 1
    fi
    echo "fuzz: $name held: $(tail -n 1 "$target/fuzz/$name.log")"
done

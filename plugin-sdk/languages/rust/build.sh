#!/bin/sh
# Run by ../build.sh.
set -eu
"$HELIOGRAPH" plugin build "$(dirname "$0")" --out "$OUT"
mv "$OUT/prefix-router.wasm" "$OUT/rust.wasm"

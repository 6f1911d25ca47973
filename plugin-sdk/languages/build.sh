#!/bin/sh
# Builds the prefix router in every language, or in those named: target/languages/NAME.wasm.
# A language whose files have not changed is not built again. What a toolchain needs is installed into
# target/toolchains; only a C compiler comes from the system, and is installed there where this is root on Debian.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
cd "$root"
TARGET=${CARGO_TARGET_DIR:-$root/target}
OUT=$TARGET/languages
TOOLCHAINS=$TARGET/toolchains
HELIOGRAPH=${HELIOGRAPH:-$TARGET/debug/heliograph}
# The contract that the four target. It is served for ever, so this line need not change.
CONTRACT=$root/wit/v0.1/sms.wit
WIT=$OUT/wit
export TARGET OUT TOOLCHAINS HELIOGRAPH WIT

mkdir -p "$WIT/deps/heliograph-sms" "$TOOLCHAINS"
cp "$here/router.wit" "$WIT/"
cp "$CONTRACT" "$WIT/deps/heliograph-sms/sms.wit"

# What a component is made of, in one line.
sources() {
    find "$here/$1" "$here/router.wit" "$CONTRACT" "$here/build.sh" -type f \
        ! -path '*/target/*' ! -path '*/node_modules/*' ! -name README.md | sort | xargs cat | sha256sum
    [ "$1" = rust ] && find "$root/plugin-sdk/src" -type f | sort | xargs cat | sha256sum || :
}

for language in ${*:-rust javascript python c}; do
    stamp=$(sources "$language")
    if [ -f "$OUT/$language.wasm" ] && [ "$(cat "$OUT/$language.stamp" 2>/dev/null)" = "$stamp" ]; then
        continue
    fi
    echo "building the prefix router in $language" >&2
    rm -f "$OUT/$language.stamp"
    sh "$here/$language/build.sh"
    printf '%s\n' "$stamp" > "$OUT/$language.stamp"
done

#!/bin/sh
# Run by ../build.sh. REGENERATE=1 makes prefix_router.c and prefix_router.h anew, with wit-bindgen on PATH.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
packages="clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32"

find_clang() {
    clang=$(command -v clang-19 || command -v clang) || return 1
    # One that can do all of it, libc included.
    echo 'void *f(unsigned long n); void *f(unsigned long n) { extern void *malloc(unsigned long); return malloc(n); }' |
        "$clang" --target=wasm32-wasi -mexec-model=reactor -nostartfiles -Wl,--no-entry \
            -x c - -o /dev/null 2>/dev/null
}

if ! find_clang; then
    if [ -x /usr/bin/apt-get ] && [ "$(id -u)" = 0 ]; then
        echo "installing $packages with apt-get" >&2
        { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $packages; } >/dev/null 2>&1 || :
    fi
    find_clang || {
        echo "The C example needs a clang for wasm32-wasi with wasm-ld, its runtime library and wasi-libc." >&2
        echo "Run one of these, then try again:" >&2
        echo "  apt-get update && apt-get install -y $packages" >&2
        echo "  # or put the clang of a wasi-sdk first on PATH" >&2
        exit 1
    }
fi

if [ -n "${REGENERATE:-}" ]; then
    # cargo install wit-bindgen-cli --version 0.63.0 --no-default-features --features c
    wit-bindgen c "$WIT" --world prefix-router --no-object-file --out-dir "$here"
fi

mkdir -p "$OUT/c"
"$clang" --target=wasm32-wasi -O2 -Wall -Wextra -Wno-unused-parameter -mexec-model=reactor -nostartfiles \
    -Wl,--no-entry,--strip-all,-z,stack-size=65536 \
    "$here/router.c" "$here/prefix_router.c" "$here/world.c" -o "$OUT/c/core.wasm"
"$HELIOGRAPH" plugin componentize "$OUT/c/core.wasm" --wit "$WIT" --world prefix-router --out "$OUT/c.wasm"

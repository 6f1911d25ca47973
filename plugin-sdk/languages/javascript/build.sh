#!/bin/sh
# Run by ../build.sh. Makes two components of one source, on two engines; see README.md.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
tools=$TOOLCHAINS/javascript

help() {
    echo "The JavaScript example needs Node.js 20 or newer and npm: $1" >&2
    echo "Run one of these, then try again:" >&2
    echo "  apt-get update && apt-get install -y nodejs npm" >&2
    echo "  npm ci --prefix $tools    # with package.json and package-lock.json of $here in it" >&2
    exit 1
}

command -v node >/dev/null && command -v npm >/dev/null || help "they are not on PATH"
if ! cmp -s "$here/package-lock.json" "$tools/installed"; then
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$tools/"
    (cd "$tools" && npm ci --no-audit --no-fund --loglevel=error >&2) || help "npm ci failed"
    cp "$here/package-lock.json" "$tools/installed"
fi

cd "$here"
# Plugins have no wasi:http. What is printed becomes a log, so stdio stays.
node "$tools/node_modules/@bytecodealliance/componentize-js/src/cli.js" router.js \
    --wit "$WIT" --world-name prefix-router --disable http --disable fetch-event \
    --out "$OUT/javascript.wasm" >&2
# The same source on another engine.
node "$tools/node_modules/componentize-qjs/bin/componentize-qjs" --js router.js \
    --wit "$WIT" --world prefix-router --sync --output "$OUT/javascript-quickjs.wasm" >&2

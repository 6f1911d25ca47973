#!/bin/sh
# Licences, bans, sources and advisories of all dependencies: `make audit`. Fails on findings alone. What
# cannot be run here (a tool that cannot be installed, an advisory database that cannot be reached) is
# said. HELIOGRAPH_ADVISORY_DB names a clone of https://github.com/rustsec/advisory-db to use instead.
set -u
cd "$(dirname "$0")/.." || exit 1
CARGO="${CARGO:-cargo}"
TOOLS="${1:-target}/tools"
findings=0

# The path of a tool: installed, or built once into $TOOLS.
tool() {
    if command -v "$1" 2>/dev/null; then return; fi
    if [ ! -x "$TOOLS/bin/$1" ]; then
        echo "installing $1 into $TOOLS" >&2
        $CARGO install --locked --debug "$1" --root "$TOOLS" --target-dir "$TOOLS/build" >&2 || return 1
    fi
    echo "$TOOLS/bin/$1"
}

not_run() { echo "$1: not run: $2"; }

check() {
    name="$1"
    shift
    if "$@"; then echo "$name: clean"; else
        echo "$name: FINDINGS"
        findings=1
    fi
}

if deny=$(tool cargo-deny); then
    check "licences, bans, sources" "$deny" --offline check --hide-inclusion-graph licenses bans sources
    if [ -n "${HELIOGRAPH_ADVISORY_DB:-}" ]; then
        not_run "advisories (cargo-deny)" "cargo-audit reads $HELIOGRAPH_ADVISORY_DB"
    elif "$deny" fetch db >/dev/null 2>&1; then
        check "advisories (cargo-deny)" "$deny" --offline check advisories
    else
        not_run "advisories (cargo-deny)" "the advisory database cannot be reached"
    fi
else
    not_run "cargo-deny" "it cannot be installed"
fi

# The reasons stand in deny.toml.
ignored=$(sed -n 's/.*id = "\(RUSTSEC-[0-9-]*\)".*/--ignore \1/p' deny.toml)
if audit=$(tool cargo-audit); then
    if [ -n "${HELIOGRAPH_ADVISORY_DB:-}" ]; then
        # shellcheck disable=SC2086
        check "advisories (cargo-audit)" "$audit" audit --deny warnings --no-fetch --db "$HELIOGRAPH_ADVISORY_DB" $ignored
    elif git ls-remote --quiet https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        check "advisories (cargo-audit)" "$audit" audit --deny warnings $ignored
    else
        not_run "advisories (cargo-audit)" "the advisory database cannot be reached"
    fi
else
    not_run "cargo-audit" "it cannot be installed"
fi
exit $findings

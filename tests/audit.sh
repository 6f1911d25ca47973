#!/bin/sh
# Licences, bans, sources and advisories of all dependencies: `make audit`, and statement 13 of `make prove`.
# Fails on findings alone. What cannot be run here (a tool that cannot be installed, an advisory database that
# cannot be reached) is said. Lines of the checks are `NAME: clean`, `NAME: FINDINGS` or `NAME: not run: WHY`.
#
#   HELIOGRAPH_ADVISORY_DB    a clone of https://github.com/RustSec/advisory-db to use instead, its folder
#   HELIOGRAPH_AUDIT_INSTALL  no: only with tools that are there
set -u
cd "$(dirname "$0")/.." || exit 1
CARGO="${CARGO:-cargo}"
TOOLS="${1:-target}/tools"
DATABASE=https://github.com/RustSec/advisory-db
local="${HELIOGRAPH_ADVISORY_DB:-}"
findings=0

# The path of a tool: installed, or built once into $TOOLS.
tool() {
    if command -v "$1" 2>/dev/null; then return; fi
    if [ ! -x "$TOOLS/bin/$1" ]; then
        [ "${HELIOGRAPH_AUDIT_INSTALL:-yes}" = no ] && return 1
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

if [ -n "$local" ]; then
    local=$(cd "$local" 2>/dev/null && pwd) || {
        echo "HELIOGRAPH_ADVISORY_DB: $HELIOGRAPH_ADVISORY_DB is no folder" >&2
        exit 2
    }
    echo "the advisory database is of $(git -C "$local" log -1 --format=%cs 2>/dev/null || echo 'an unknown day')"
    # cargo-deny clones its database with git, which takes the local one for it.
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$local.insteadOf" GIT_CONFIG_VALUE_0="$DATABASE"
fi

if deny=$(tool cargo-deny); then
    # It looks at those of all systems, of which a build fetched this one's alone.
    if $CARGO fetch --locked --quiet >&2; then
        check "licences, bans, sources" "$deny" --offline check --hide-inclusion-graph licenses bans sources
    else
        not_run "licences, bans, sources" "the dependencies cannot be fetched"
    fi
    if "$deny" fetch db >/dev/null 2>&1; then
        check "advisories (cargo-deny)" "$deny" --offline check --hide-inclusion-graph advisories
    else
        not_run "advisories (cargo-deny)" "the advisory database cannot be reached"
    fi
else
    not_run "cargo-deny" "it is not installed"
fi

# The reasons stand in deny.toml.
ignored=$(sed -n 's/.*id = "\(RUSTSEC-[0-9-]*\)".*/--ignore \1/p' deny.toml)
if audit=$(tool cargo-audit); then
    if [ -n "$local" ]; then
        # shellcheck disable=SC2086
        check "advisories (cargo-audit)" "$audit" audit --deny warnings --no-fetch --stale --db "$local" $ignored
    elif git ls-remote --quiet "$DATABASE" HEAD >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        check "advisories (cargo-audit)" "$audit" audit --deny warnings $ignored
    else
        not_run "advisories (cargo-audit)" "the advisory database cannot be reached"
    fi
else
    not_run "cargo-audit" "it is not installed"
fi
exit $findings

#!/bin/sh
# Installs the peers that tests/peers talks to, from package registries alone: smpplib (PyPI), smpp
# (npm), Kannel and tshark (Debian). What is there already is left as it is. Ends with a list of what
# is missing, and fails where something is, unless HELIOGRAPH_WITHOUT_PEERS names it:
#
#   HELIOGRAPH_WITHOUT_PEERS=kannel,tshark make test
set -u

SMPPLIB=2.2.4
NODE_SMPP=0.5.1

target=${1:-target}/peers
mkdir -p "$target"
missing=

# say NAME HOW: remembers that a peer could not be had.
lacks() {
    case ",${HELIOGRAPH_WITHOUT_PEERS:-}," in
    *",$1,"*) echo "peers: going without $1, as HELIOGRAPH_WITHOUT_PEERS says" ;;
    *) missing="$missing
  $1: $2" ;;
    esac
}

updated=
# debian PACKAGE...: installs Debian packages, where this is a Debian and we may.
debian() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || return 1
    if [ -z "$updated" ]; then
        apt-get -qq update >"$target/apt.log" 2>&1
        updated=yes
    fi
    # No service may start on its own: the tests run what they need.
    policy=/usr/sbin/policy-rc.d
    ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && ours=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" >>"$target/apt.log" 2>&1
    done=$?
    [ -z "$ours" ] || rm -f "$policy"
    [ "$done" = 0 ] || tail -n 5 "$target/apt.log" >&2
    return "$done"
}

# have COMMAND PACKAGE...: the command is there, or its packages could be installed.
have() {
    command -v "$1" >/dev/null 2>&1 && return 0
    command=$1
    shift
    debian "$@" && command -v "$command" >/dev/null 2>&1
}

have tshark tshark || lacks tshark "apt-get install tshark"
PATH=$PATH:/usr/sbin
have bearerbox kannel || lacks kannel "apt-get install kannel"

python=$target/python/bin/python
if ! "$python" -c "import smpplib" >/dev/null 2>&1; then
    have python3 python3 python3-venv
    python3 -m venv "$target/python" >"$target/pip.log" 2>&1 ||
        { debian python3-venv && python3 -m venv "$target/python" >>"$target/pip.log" 2>&1; }
    "$python" -m pip install -q --disable-pip-version-check "smpplib==$SMPPLIB" >>"$target/pip.log" 2>&1 ||
        lacks smpplib "python3 -m venv $target/python && $python -m pip install smpplib==$SMPPLIB"
fi

if [ ! -d "$target/node_modules/smpp" ]; then
    have node nodejs
    have npm npm
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$target" "smpp@$NODE_SMPP" >"$target/npm.log" 2>&1 ||
        lacks node-smpp "npm install --prefix $target smpp@$NODE_SMPP"
fi

if [ -n "$missing" ]; then
    echo "peers: these could not be installed, and the tests that talk to them would fail:$missing" >&2
    echo "peers: to go without them: HELIOGRAPH_WITHOUT_PEERS=NAME,NAME make test" >&2
    exit 1
fi
echo "peers: all there, in $target"

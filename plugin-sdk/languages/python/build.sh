#!/bin/sh
# Run by ../build.sh.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
tools=$TOOLCHAINS/python

help() {
    echo "The Python example needs Python 3.10 or newer with pip: $1" >&2
    echo "Run one of these, then try again:" >&2
    echo "  apt-get update && apt-get install -y python3 python3-pip" >&2
    echo "  python3 -m pip install --target $tools -r $here/requirements.txt" >&2
    exit 1
}

command -v python3 >/dev/null || help "python3 is not on PATH"
python3 -m pip --version >/dev/null 2>&1 || help "it has no pip"
if ! cmp -s "$here/requirements.txt" "$tools/installed"; then
    rm -rf "$tools"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --target "$tools" -r "$here/requirements.txt" >&2 || help "pip install failed"
    cp "$here/requirements.txt" "$tools/installed"
fi

# A folder of its own for the sources: all that lies in it goes into the component.
mkdir -p "$OUT/python"
cp "$here/router.py" "$OUT/python/"
cd "$OUT/python"
PYTHONPATH=$tools "$tools/bin/componentize-py" --wit-path "$WIT" --world prefix-router \
    componentize --python-path . router --output "$OUT/python.wasm" >&2

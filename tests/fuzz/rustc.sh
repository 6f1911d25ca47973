#!/bin/sh
# The compiler of the workspace's own crates in a fuzzing build: edges are counted and comparisons
# traced (SanitizerCoverage), by options that a stable compiler has. What we stand on is not looked at,
# and neither is the fuzzer itself.
rustc=$1
shift
case " $* " in
*" --crate-name heliograph "* | *" --crate-name heliograph_tests "*)
    exec "$rustc" "$@" \
        -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=3 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*" --crate-name fuzz "*)
    exec "$rustc" "$@" -Copt-level=3
    ;;
esac
exec "$rustc" "$@"

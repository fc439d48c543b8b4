# What the scripts beside this file share; read by them with `source`.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
data=${XDG_DATA_HOME:-$HOME/.local/share}/wasteland
dolt_needed=1.82.4
go_needed=1.25.6
[[ ${WL_DOLT:-/} == /* ]] || export WL_DOLT=$PWD/$WL_DOLT  # the scripts change folders

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Is the dotted version $1 at least $2?
at_least() {
    local -a have want
    local i a b
    IFS=. read -r -a have <<<"$1"
    IFS=. read -r -a want <<<"$2"
    for i in 0 1 2; do
        a=${have[i]:-0} b=${want[i]:-0}
        a=${a%%[!0-9]*} b=${b%%[!0-9]*}
        ((10#${a:-0} == 10#${b:-0})) || { ((10#${a:-0} > 10#${b:-0})); return; }
    done
}

sha256() {
    if has sha256sum; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

# The program that makes .venv what it should be; then its programs come first.
ready() {
    "$root/scripts/setup"
    PATH=$root/.venv/bin:$PATH
    export PATH
    cd "$root" || exit
}

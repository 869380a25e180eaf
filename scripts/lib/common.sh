# Shared by the scripts of this folder; sourced, never run.
# shellcheck shell=bash

# dockerd and iptables live in the sbin folders, which not every login shell searches.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

# fail WHAT WAY_OUT: every error says what is wrong and how to go on.
fail() {
    printf '%s: error: %s\n  way out: %s\n' "${0##*/}" "$1" "$2" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Two runs that start at the same moment do their set-up one after the other. The lock goes when the
# script ends; whatever a script leaves running must close descriptor 9 (`9>&-`).
one_at_a_time() {
    exec 9>"${TMPDIR:-/tmp}/echo-core-$(id -u)-$1.lock"
    flock 9
}

# Package lists go stale, and a stale list answers with a 404: called when something is missing.
apt_refresh() {
    have apt-get || fail "$1 is missing and this is no Debian or Ubuntu" \
        "install $1 with this system's package manager and run the script again"
    # Without root the lists stay as they are.
    [[ $EUID -ne 0 ]] || apt-get -qq update ||
        fail "apt-get update failed" "check the network and /etc/apt/sources.list, then run the script again"
}

# apt_install PACKAGE...: the packages are known to be missing.
apt_install() {
    [[ $EUID -eq 0 ]] || fail "$* must be installed, and this user may not" \
        "run 'sudo apt-get install $*', or run this script as root"
    apt_refresh "$*"
    say "installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*" "run 'apt-get install $*' and follow what it says"
}

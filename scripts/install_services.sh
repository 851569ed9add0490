#!/bin/sh
# The programs beside Python that `make test-services` needs: what is absent is installed from Debian's packages, as root.
# Says what could not be had, and fails.
set -eu

list_missing() { # packages of which a program is absent
    command -v munged >/dev/null || echo munge
    for program in slurmctld slurmd sbatch; do command -v $program >/dev/null || echo slurm-wlm; done | uniq
    [ -x /usr/bin/chromium ] || echo chromium
}

missing=$(list_missing | xargs)
[ -n "$missing" ] || exit 0
fail() { echo "make test-services needs the Debian packages $missing: $1" >&2; exit 1; }

command -v apt-get >/dev/null || fail "there is no apt-get here to install them"
[ "$(id -u)" = 0 ] || fail "become root, or install them yourself"
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update -q || fail "apt-get update failed"
# shellcheck disable=SC2086 # a word for each package
apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $missing || fail "apt-get could not install them"
missing=$(list_missing | xargs)
[ -z "$missing" ] || fail "their programs are absent after they were installed"

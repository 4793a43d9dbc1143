#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Install what is missing to build and try Ebb on Debian 12.
#
#     tools/setup.sh build|check
#
# build: what ./demo needs. check: what ./check needs besides. Packages that are there are left as
# they are, and when none is missing nothing is run with other rights and no network is needed.
# apt's own words go to a log that is shown only when apt fails.
set -eu

build='gcc libc6-dev binutils meson ninja-build pkg-config libuv1-dev libjansson-dev libnuma-dev
	libncurses-dev libzstd-dev libseccomp-dev acpica-tools python3 util-linux'
check='clang libclang-rt-14-dev libcmocka-dev python3-pytest g++ make libelf1 mandoc groff-base
	qemu-system-x86 socat curl tmux gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-riscv64-linux-gnu
	libc6-dev-riscv64-cross gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user-static libvirt-daemon
	libvirt-daemon-driver-qemu libvirt-clients python3-libvirt'

fail() {
	printf 'setup: %s\n' "$1" >&2
	exit 1
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

case ${1-} in
build) wanted=$build ;;
check) wanted="$build $check" ;;
*) fail "'${1-}': say what to set up, build or check" ;;
esac

command -v dpkg-query >/dev/null || fail "this machine has no dpkg: Debian 12 (or newer) is needed"
[ "$(dpkg --print-architecture)" = amd64 ] ||
	fail "this machine's architecture is $(dpkg --print-architecture): amd64 is needed"

missing=
for package in $wanted; do
	installed "$package" || missing="$missing $package"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
	as_root=sudo
else
	fail "as root, install these packages first: apt-get install $missing"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

apt() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" \
		>"$log" 2>&1 </dev/null || {
		cat "$log" >&2
		fail "apt-get $1 failed (its words are above); the packages wanted are: $missing"
	}
}

printf 'setup: reading the package lists\n'
apt update
printf 'setup: installing %s\n' "$missing"
# shellcheck disable=SC2086 # a list of words
apt install -y --no-install-recommends $missing

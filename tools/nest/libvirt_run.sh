#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Start a fetched libvirt's programs with their own libraries, from wherever this folder is,
# whatever libvirt is installed beside it:
#
#	run libvirtd|virtlogd|virsh ARG...	that program
#	run --mounts COMMAND ARG...		any other one, with the mounts below
#
# libvirt finds its data and its helpers by fixed paths, so a daemon is given a mount namespace of
# its own: /usr/share/libvirt is share/ there, /usr/lib/libvirt this folder, /usr/sbin/virtlogd,
# where there is one, this script. Both folders must be there; nothing in them changes for anybody else. Without
# the right to mount, it gets a user namespace too, in which it is the user that it was.
# --mounts lets a caller make the mounts while it has the right to, and drop it then: where they are
# there already, none are made.
#
# By the name of a helper, or of virtlogd, this starts that.
set -eu
self=$(readlink -f "$0")
here=${self%/*}
[ -d "$here/drivers" ] || here=/usr/lib/libvirt

run_program() {
	program=$1
	shift
	exec "$here/lib/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$here/lib" \
		"$here/bin/$program" "$@"
}

case ${0##*/} in
run) ;;
*) run_program "${0##*/}" "$@" ;;
esac

if [ "${1-}" = --mount-here ]; then
	shift
	mount --bind "$here/share" /usr/share/libvirt
	mount --bind "$here" /usr/lib/libvirt
	[ ! -e /usr/sbin/virtlogd ] || mount --bind "$self" /usr/sbin/virtlogd
	# Whoever is not the superuser loses by this what it could do in its namespace.
	[ "$(id -u)" = 0 ] || exec setpriv --inh-caps=-all --ambient-caps=-all "$self" "$@"
	exec "$self" "$@"
fi

case ${1-} in
virsh)
	shift
	run_program virsh "$@"
	;;
--mounts | libvirtd | virtlogd) ;;
*)
	echo "usage: $0 libvirtd|virtlogd|virsh ARG..., or --mounts COMMAND ARG..." >&2
	exit 1
	;;
esac

if [ ! "$here" -ef /usr/lib/libvirt ]; then
	for folder in /usr/share/libvirt /usr/lib/libvirt; do
		if [ ! -d $folder ]; then
			echo "$0: $folder is not there: make it, or install libvirt-daemon" >&2
			exit 1
		fi
	done
	if unshare -m true 2>/dev/null; then
		exec unshare -m "$self" --mount-here "$@"
	fi
	exec unshare --user --map-current-user --keep-caps -m "$self" --mount-here "$@"
fi

LIBVIRT_DRIVER_DIR=$here/drivers
export LIBVIRT_DRIVER_DIR
if [ "$1" = --mounts ]; then
	shift
	exec "$@"
fi
program=$1
shift
run_program "$program" "$@"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Join archives into one whose only global symbols are those that are not hidden.
#
#     localize.sh OUTPUT FOLDER COMPILER... -- ARCHIVE...
set -eu

output=$1 folder=$2
shift 2
compiler=
while [ "$1" != -- ]; do
	compiler="$compiler $1"
	shift
done
shift

mkdir -p "$folder"
# shellcheck disable=SC2086 # the compiler and its first words
$compiler -r -nostdlib -o "$folder/vmem.o" -Wl,--whole-archive "$@" -Wl,--no-whole-archive
objcopy --localize-hidden "$folder/vmem.o"
rm -f "$output"
ar rcsD "$output" "$folder/vmem.o"

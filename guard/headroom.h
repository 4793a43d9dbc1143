/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of headroom.c, for its tests; everybody else has headroom_check() of pages.h. */
#ifndef GUARD_HEADROOM_H
#define GUARD_HEADROOM_H

#include <stdint.h>

/* headroom_bytes() of a host whose /proc, and what is mounted according to it, are below @root. */
uint64_t headroom_bytes_below(const char *root);
/*
 * The same, but the result may be anything from @enough up when it is at least that: what costs more
 * to find out is left alone then.
 */
uint64_t headroom_bytes_until(const char *root, uint64_t enough);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a monitor listens: a Unix socket by its path, or HOST:PORT ([::1]:4444 for IPv6).
 *
 * I1  Errors name the place and say what is there instead of a listener.
 * I2  Names are looked up once, when the address is made.
 *
 * Ownership: the caller's. Threads: one.
 */
#ifndef EBBCTL_ADDRESS_H
#define EBBCTL_ADDRESS_H

#include <stdbool.h>

struct address;
struct err;

int address_new(const char *where, struct address **ret_address, struct err **err);
/* NULL is allowed. */
void address_free(struct address *address);

/* As it was given. */
const char *address_name(const struct address *address);

/* How many there are behind the name: as many attempts try all. */
unsigned int address_nr(const struct address *address);

/*
 * A connected, non-blocking socket, or -errno with *err. @timeout_ms 0 does not wait: the
 * connection may still be on its way, and reading tells when it failed. A name with several
 * addresses: all are tried in turn, without waiting only the @attempt-th.
 */
int address_connect(const struct address *address, int timeout_ms, unsigned int attempt,
		    struct err **err);
/* The sentence for a connection that failed with @code; returns -code. */
int address_refused(const struct address *address, int code, struct err **err);

#endif

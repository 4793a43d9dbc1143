/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Channels whose bytes are in memory, instead of those of vmm/migration/channel.h: a listener that
 * accepts up to FAKE_CHANNELS clients, each of which sends what it was given and ends; or the one
 * client is a file.
 *
 * What is written to a channel is counted and dropped.
 */
#ifndef TESTS_FUZZ_FAKE_CHANNEL_H
#define TESTS_FUZZ_FAKE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_CHANNELS 2

struct fake_client {
	const uint8_t *bytes;
	size_t size;
	int end; /* what reading ends with: -ENODATA or -ECONNRESET */
};

/* What the next channel_listen() listens for. */
struct fake_world {
	struct fake_client clients[FAKE_CHANNELS];
	size_t nr_clients;
	bool one_each;   /* each listener has one client, else the first has all */
	size_t nr_taken; /* clients that listeners have so far */
	bool duplex;
	int fd;            /* the one client is this file; -1: none is */
	unsigned int open; /* channels that were made and not closed */
};

extern struct fake_world fake_world;

#endif

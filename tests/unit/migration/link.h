/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two machines and channels between them: a sender on the caller's thread, a receiver with its own.
 * What cannot fail here fails the test.
 */
#ifndef TESTS_MIGRATION_LINK_H
#define TESTS_MIGRATION_LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "channels.h"
#include "machine.h"
#include "vmm/migration/ram_receive.h"
#include "vmm/migration/ram_send.h"
#include "vmm/migration/record.h"

struct pages_sink;

#define LINK_FURTHER_MAX 4u

struct link_config {
	size_t nr_further;
	bool zstd;
	uint64_t downtime_limit_ms;
	bool auto_converge;
	/* where pages go after RECORD_POSTCOPY_RUN; NULL: there is none */
	const struct pages_sink *later;
	void *later_opaque;
};

struct link {
	struct rig *rig;
	struct link_config config;
	struct machine *source, *target;
	size_t nr_further;
	struct channel *ends[LINK_FURTHER_MAX + 1][2];
	struct record_writer *writers[LINK_FURTHER_MAX + 1];
	struct record_reader *readers[LINK_FURTHER_MAX + 1];
	struct ram_send *send;
	struct ram_receive *receive;
	pthread_t thread;
	bool joined;
	int ret; /* the receiver's, after link_join() */
	struct err *err;
};

/* Has the dirty log on, the sender started, and the receiver reading. */
void link_open(struct link *l, struct rig *rig, struct machine *source, struct machine *target,
	       const struct link_config *config);
/* Ends the main channel; the receiver came to its end, with l->ret and l->err. */
void link_end(struct link *l);
/* Wait for a receiver that comes to its end by itself. */
void link_join(struct link *l);
/* Raises the rig's cancel if anybody may be waiting still. */
void link_close(struct link *l);

/* Both ends of nr channels, headers exchanged. */
void link_channels(struct link *l, size_t nr_further);

#endif

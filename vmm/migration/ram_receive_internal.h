/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of ram_receive.h share: a channel's own, and what channels have in common. */
#ifndef VMM_MIGRATION_RAM_RECEIVE_INTERNAL_H
#define VMM_MIGRATION_RAM_RECEIVE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/pages.h"
#include "vmm/migration/ram_receive.h"

struct inflater;

/* What one channel's thread works with. */
struct receive_lane {
	struct ram_receive *receive;
	size_t index;              /* 0: the main channel */
	uint64_t round;            /* the last barrier it came to */
	struct inflater *inflater; /* made when it is first needed */
	struct pages_run runs[PAGES_ZERO_RUNS];
	/* ram_receive_hand_over(); NULL: into memory */
	const struct pages_sink *sink;
	void *sink_opaque;
	/* further channels */
	struct record_reader *reader;
	pthread_t thread;
};

struct ram_receive {
	struct ram_receive_config config;
	struct pages_map *written;
	struct receive_lane *lanes; /* nr_further + 1 */
	pthread_mutex_t lock;
	/* guarded by lock, as are all below: one of them changed */
	pthread_cond_t moved;
	size_t nr_ended;   /* of all channels */
	size_t nr_waiting; /* at the barrier */
	uint64_t passed;   /* the last barrier that all came to */
	bool leave;
	int failed; /* of a further channel, -errno */
	struct err *err;
};

/* ram_receive_apply.c: PAGES, ZEROS, NOTES; the sentence of -EINVAL says what is wrong in it. */
int receive_apply(struct receive_lane *lane, const struct record *record, struct err **err);
void receive_lane_done(struct receive_lane *lane);

#endif

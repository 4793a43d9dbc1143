/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metrics in the text format that Prometheus and its kind read (exposition format, version 0.0.4).
 *
 * I1  All samples of a metric stand together below its HELP and TYPE, each with another set of
 *     labels.
 * I2  Label values are escaped: no name of a device or a guest breaks a line.
 *
 * Threads: none.
 */
#ifndef VMM_CONTROL_METRICS_TEXT_H
#define VMM_CONTROL_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "vmm/control/stats.h"
#include "vmm/migration/migration.h"
#include "vmm/virtio/balloon.h"
#include "vmm/vm/vm.h"

struct metrics_device {
	const char *name; /* unlike any other device's */
	unsigned int node;
	bool driven;
	enum virtio_mem_progress progress;
	struct mem_sample sample;
	bool held_known;
	uint64_t held_bytes, held_age_ms;
};

struct metrics_balloon {
	struct balloon_info info;
	struct balloon_stats stats;
};

struct metrics_world {
	const char *version;
	const char *guest_name; /* NULL: none */
	enum vm_state state;
	unsigned int nr_cpus, nr_nodes;
	uint64_t node_boot_bytes[VM_NUMA_NODES_MAX];
	uint64_t resident_bytes; /* of this process */
	const struct migration_info *migration;
	const struct metrics_device *devices;
	size_t nr_devices;
	const struct metrics_balloon *balloon; /* NULL: none */
};

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* *ret_text is the caller's, to be freed; its size is without the zero at its end. 0 or -ENOMEM. */
int metrics_text(const struct metrics_world *world, char **ret_text, size_t *ret_size);

/* ---- for its parts ---- */

/* The lines above a metric's samples. */
void metrics_text_head(FILE *f, const char *name, const char *type, const char *help);
/* metrics_text_balloon.c */
void metrics_text_balloon(FILE *f, const struct metrics_balloon *balloon);

#endif

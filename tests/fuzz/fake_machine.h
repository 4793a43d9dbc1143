/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine for loading: a block of boot memory and two memory devices of a few pages, no other
 * device. Its parts take any state. It stands in for vmm/vm, vmm/virtio, and vmm/migration/later.h
 * and lazy.h, and checks what is asked of these.
 */
#ifndef TESTS_FUZZ_FAKE_MACHINE_H
#define TESTS_FUZZ_FAKE_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/layout.h"
#include "vmm/migration/blocks.h"
#include "vmm/vm/vm_internal.h"

#define MACHINE_BLOCKS 3
#define PAGES          32u /* of each block */
#define UNIT_PAGES     4u

struct virtio_mem {
	struct gm_region *region;
	uint8_t *host;
	bool plugged[PAGES / UNIT_PAGES];
};

struct machine {
	uint8_t memory[MACHINE_BLOCKS][PAGES * PAGE_BYTES] __attribute__((aligned(4096)));
	struct vm_ram_block blocks[MACHINE_BLOCKS];
	struct virtio_mem mems[MACHINE_BLOCKS - 1];
	struct vm_config config;
	struct machine_layout layout;
	struct vm vm;
	unsigned int sections;
	bool ended, runs;
	uint8_t sum;          /* of pages that came later */
	pthread_mutex_t lock; /* onmain_call() */
	bool closed;
};

extern struct machine machine;

void machine_init(struct machine *m);
void machine_done(struct machine *m);
/* As onmain_close(). */
void machine_close(struct machine *m);
/* Memory holds nothing but what was put where there is some. */
void machine_check(const struct machine *m);

/* A broken promise must stop the fuzzer in every build, so this is no assert(). */
void check(bool ok, const char *what);

#endif

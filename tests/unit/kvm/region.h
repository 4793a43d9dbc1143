/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A memory device's region in the small virtual machine: one memory slot, or one for each page that
 * is open, laid anew by the test, by the vCPUs in their exits, and when closed memory was touched.
 */
#ifndef TESTS_UNIT_KVM_REGION_H
#define TESTS_UNIT_KVM_REGION_H

#include <pthread.h>

#include "tests/unit/kvm/fixture.h"

#define PAGE         4096
#define REGION_PAGES 16
#define REGION_SIZE  (REGION_PAGES * PAGE)
#define REGION_RUNS  (REGION_PAGES / 2)

/* Even pages are open, odd ones closed. */
struct region {
	struct machine m;
	struct bus_region bus;
	struct recorder seen; /* what left the guest */
	pthread_mutex_t lock; /* as a device's; guards what follows */
	char *memory;
	uint32_t slots[REGION_RUNS];
	size_t nr_slots;
	unsigned int replaced;
	uint64_t fault_gpa;     /* of the last fault */
	bool relay_in_handlers; /* set while nothing runs */
	atomic_uint open_exits; /* accesses to open pages that left the guest: none */
	atomic_uint handler_replaced, failed, faults;
};

void region_init(struct region *r, unsigned int nr_vcpus);
void region_done(struct region *r);

/* Lay the region anew, as a whole or in runs. The lock is held. */
int region_lay(struct region *r, bool whole);
bool region_is_whole(const struct region *r);

/* Nothing that is open left the guest, nobody failed. The vCPUs are paused. */
void region_check(struct region *r);

#endif

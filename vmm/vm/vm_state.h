/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a machine is beside its memory, as sections that another process loads: "machine" first, then
 * one for each part.
 *
 * I1  A section has a name, the id of the part that it belongs to ("" where there is one only), and
 *     a version. Those of a machine are told by vm_save_sections() always in the same order; they are
 *     loaded in that order.
 * I2  "machine" is what both sides must agree on: kind of machine, CPUs, NUMA nodes, boot memory,
 *     devices with their places, memory devices with their addresses and sizes. It loads nothing: it
 *     compares, and the first difference is a sentence that gives both sides' values. Everything
 *     else is refused before it was there.
 * I3  Each section that the machine has comes exactly once: vm_load_end() says what is missing.
 * I4  After a failed load the machine must not run: it is thrown away.
 *
 * Order: memory devices must have been told what is plugged, and guest memory must be reachable,
 * before the section of the first device comes (the "machine" section may come earlier); its content
 * may come later.
 * Threads: the main one. Saving: vCPUs are parked and queues are paused. Loading: VM_INMIGRATE.
 * Every byte that is loaded is the other side's.
 */
#ifndef VMM_VM_VM_STATE_H
#define VMM_VM_VM_STATE_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct vm;

#define VM_SECTION_NAME_MAX 31u
#define VM_SECTION_ID_MAX   127u

struct vm_section {
	const char *name, *id;
	uint32_t version;
	const void *data;
	size_t size;
};

/* The section "machine" alone, as for vm_save_sections(); the machine may run. */
int vm_save_machine(struct vm *vm, int (*fn)(void *opaque, const struct vm_section *section),
		    void *opaque, struct err **err);
/*
 * All sections but "machine". Ends with the first result of @fn that is not 0, and returns that (no
 * sentence then).
 */
int vm_save_sections(struct vm *vm, int (*fn)(void *opaque, const struct vm_section *section),
		     void *opaque, struct err **err);

/* -EINVAL for content that cannot be, a part that is not there, a version that is not known. */
int vm_load_section(struct vm *vm, const struct vm_section *section, struct err **err);
/* All is loaded: each section came (I3). */
int vm_load_end(struct vm *vm, struct err **err);

#endif

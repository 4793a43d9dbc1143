/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a machine is beside its memory: what it consists of, which both sides of a migration must agree
 * on, and the state of its parts as sections that another process loads.
 *
 * I1  The description (vm_state_describe()) is everything that the other machine must have the same: kind
 *     of machine, CPUs, NUMA nodes, boot memory, the places of devices, memory devices with their
 *     addresses and sizes. It loads nothing: vm_state_compare() compares, and the first difference is a
 *     sentence that gives both sides' values. It comes before everything else.
 * I2  A section has a name, the id of the part that it belongs to ("" where there is one only), and a
 *     version. Two machines of one description have the same sections in the same order; they are
 *     loaded in this order, each exactly once: another one, one too few or too many is refused.
 * I3  After a failed load the machine must not run: it is thrown away.
 *
 * Order of parts: run state; vCPUs; devices; the interrupt controllers, since devices drive their
 * inputs while they are loaded; the clock. Memory devices must have been told what is plugged before
 * the first section comes. Content of memory may come before or afterwards.
 *
 * Threads: the main one. Saving: vm_migration_halt() came before. Loading: VM_INMIGRATE.
 * Every byte that is loaded is the other side's.
 */
#ifndef VMM_VM_VM_STATE_H
#define VMM_VM_VM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct pack;
struct vm;

/* Bytes of a description at most. */
#define VM_STATE_DESCRIPTION_MAX (UINT32_C(1) << 20)

/* The machine may run. @uuid: the machines' UUIDs must agree as well. -ENOMEM. */
int vm_state_describe(const struct vm *vm, bool uuid, struct pack *out, struct err **err);
/* Is it this machine's? -EINVAL with a sentence. */
int vm_state_compare(const struct vm *vm, const void *description, size_t size, struct err **err);

struct vm_section {
	const char *name, *id;
	uint32_t version;
	const void *data;
	size_t size;
};

/* Ends with the first result of @fn that is not 0, and returns that. */
int vm_save_sections(struct vm *vm,
		     int (*fn)(void *opaque, const struct vm_section *section, struct err **err),
		     void *opaque, struct err **err);

/* -EINVAL for content that cannot be, a section that does not belong here, an unknown version. */
int vm_load_section(struct vm *vm, const struct vm_section *section, struct err **err);
/* Was the last one the last? */
int vm_load_end(struct vm *vm, struct err **err);

#endif

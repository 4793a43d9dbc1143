/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One virtual machine: all the parts put together, its run state, and what a monitor may ask of it.
 *
 * I1  vm_new() either builds the whole machine, paused at its first instruction, or nothing.
 * I2  What the guest asks for (reset, power-off, a panic report) is noted by the vCPU that asked and
 *     carried out on the main thread with all vCPUs out of the guest. However often it asks, one
 *     note of each kind is kept: no queue grows.
 * I3  A reset leaves the machine as vm_new() built it, but for guest RAM that the boot files do not
 *     cover, the clock's settings and the requested sizes of memory devices.
 * I4  The main loop is stopped exactly when the machine has come to its end; vm_exit_status() then
 *     says how.
 *
 * I5  A guest that uses memory that is not plugged wakes the main thread once a second at most,
 *     whatever its vCPUs do (violations.h).
 *
 * Threads: everything on the main thread, the one that runs the main loop.
 */
#ifndef VMM_VM_VM_H
#define VMM_VM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/cmdline/config.h"

struct chardev;
struct err;
struct loop;
struct virtio_mem;
struct vm;

/* QMP's RunState, as far as it can occur. */
enum vm_state {
	VM_PRELAUNCH, /* -S, not started yet */
	VM_RUNNING,
	VM_PAUSED,
	VM_SHUTDOWN,       /* the guest is off, the process stays (-no-shutdown) */
	VM_GUEST_PANICKED, /* -action panic=pause */
	VM_INTERNAL_ERROR, /* KVM could not go on */
};

/* @config and @main outlive it. Errors are for the person who wrote the command line. */
struct vm *vm_new(const struct vm_config *config, struct loop *main, struct err **err);
void vm_free(struct vm *vm);

/* Bring the machine to its first instruction and, without -S, let it run. */
int vm_start(struct vm *vm, struct err **err);

enum vm_state vm_state(const struct vm *vm);
/* QMP's spelling: "running", "paused", "prelaunch", "internal-error", ... */
const char *vm_state_name(enum vm_state state);

/* No-op when it is already so. */
void vm_stop(struct vm *vm);
/* -EINVAL when the guest is off and needs a reset first. */
int vm_cont(struct vm *vm, struct err **err);
/* A failed reset (a boot file that vanished) leaves the machine stopped, with *err. */
int vm_reset(struct vm *vm, struct err **err);
/* Press the power button; what comes of it is the guest's. */
void vm_powerdown(struct vm *vm);
/* End the machine now; the main loop stops. */
void vm_quit(struct vm *vm, int status);
/* 0, or 1 after -action panic=exit-failure. */
int vm_exit_status(const struct vm *vm);

/* ---- for monitors ---- */

const struct vm_config *vm_config(const struct vm *vm);

/* A memory device of the running machine. */
struct vm_memory_device {
	const char *id; /* NULL for one without */
	const char *memdev_id;
	unsigned int node;
	bool guard; /* unplugged blocks are closed one by one */
	struct virtio_mem *mem;
};

size_t vm_nr_memory_devices(const struct vm *vm);
const struct vm_memory_device *vm_memory_device(const struct vm *vm, size_t index);
/* NULL when there is none of this id. */
const struct vm_memory_device *vm_memory_device_by_id(const struct vm *vm, const char *id);

/* The guest used memory of a device that is not plugged; struct virtio_mem_violation tells when. */
struct vm_violation {
	const struct vm_memory_device *device;
	const char *name; /* of the device, also where it has no id */
	/* the last access */
	uint64_t gpa;
	unsigned int size; /* bytes */
	bool write;
	int vcpu; /* -1 unknown */
	/* how many there were since the device's violation before this one, this access included */
	uint64_t writes, reads;
	enum vm_violation_action action;
};

/*
 * Have @fn called, on the main thread, beside the line on standard error: for the first violation of
 * a device at once, then at most once a second, and once more when the machine ends. NULL ends it.
 */
void vm_set_violation_hook(struct vm *vm,
			   void (*fn)(void *opaque, const struct vm_violation *violation),
			   void *opaque);

/* Boot memory and plugged device memory of a NUMA node, in bytes. */
uint64_t vm_node_bytes(const struct vm *vm, unsigned int node);

struct chardev *vm_chardev(const struct vm *vm, const struct vm_chardev_config *config);
/* The host's thread id of a vCPU. */
pid_t vm_vcpu_thread_id(const struct vm *vm, unsigned int index);

#endif

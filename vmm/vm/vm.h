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

#include <jansson.h>

#include "vmm/cmdline/config.h"

struct balloon;
struct chardev;
struct cpu_features;
struct err;
struct loop;
struct pci_device;
struct pci_host;
struct kvm_cpuid_entry2;
struct kvm_stat;
struct virtio_mem;
struct virtio_mem_size_stats;
struct vm;

/* QMP's RunState, as far as it can occur. */
enum vm_state {
	VM_PRELAUNCH, /* -S, not started yet */
	VM_RUNNING,
	VM_PAUSED,
	VM_SHUTDOWN,       /* the guest is off, the process stays (-no-shutdown) */
	VM_GUEST_PANICKED, /* -action panic=pause */
	VM_INTERNAL_ERROR, /* KVM could not go on */
	VM_INMIGRATE,      /* waits for its state to be loaded (vm_migrate.h) */
	VM_FINISH_MIGRATE, /* stopped for the last part of a migration */
	VM_SAVE_VM,        /* stopped while its memory is written to a dump (vm_dump.h) */
	VM_POSTMIGRATE,    /* its state is somewhere else */
};

/*
 * @config and @main outlive it; from now on @config changes as the machine does, and only by calls of
 * the machine. Errors are for the person who wrote the command line.
 *
 * Of VM_MACHINE_NONE nothing is built but character devices. It is VM_PRELAUNCH until vm_quit(); what
 * may be called is what looks at state, configuration and character devices, and vm_stop().
 */
struct vm *vm_new(struct vm_config *config, struct loop *main, struct err **err);
void vm_free(struct vm *vm);

/*
 * Bring the machine to its first instruction and, without -S, let it run. With -incoming its parts are
 * as at power-on, nothing is loaded into memory, and it is VM_INMIGRATE.
 */
int vm_start(struct vm *vm, struct err **err);

enum vm_state vm_state(const struct vm *vm);
/* QMP's spelling: "running", "paused", "prelaunch", "internal-error", ... */
const char *vm_state_name(enum vm_state state);

/* What a machine came to be reset or ended by: QMP's ShutdownCause, as far as it can occur. */
enum vm_cause {
	VM_CAUSE_HOST_ERROR,
	VM_CAUSE_HOST_QMP_QUIT,
	VM_CAUSE_HOST_QMP_SYSTEM_RESET,
	VM_CAUSE_HOST_SIGNAL,
	VM_CAUSE_HOST_UI,
	VM_CAUSE_GUEST_SHUTDOWN,
	VM_CAUSE_GUEST_RESET,
	VM_CAUSE_GUEST_PANIC,
};

/* QMP's spelling: "guest-reset"; static. */
const char *vm_cause_name(enum vm_cause cause);
/* Was it the guest? */
bool vm_cause_is_guest(enum vm_cause cause);

/*
 * No-ops when it is already so. Of a machine that waits for its state they say what it is to do when it
 * has it.
 *
 * vm_cont(): -EINVAL when the guest is off and needs a reset first; -ESHUTDOWN after vm_quit(), as
 * vm_reset(); -EBUSY or -EPERM while a migration ends, and after one that handed the guest over.
 */
void vm_stop(struct vm *vm);
int vm_cont(struct vm *vm, struct err **err);
/* A failed reset (a boot file that vanished) leaves the machine stopped, with *err. */
int vm_reset(struct vm *vm, enum vm_cause cause, struct err **err);
/* Press the power button; what comes of it is the guest's. */
int vm_powerdown(struct vm *vm, struct err **err);
/*
 * Each vCPU gets a non-maskable interrupt, at once or when the machine goes on. What comes of it is the
 * guest's: most write down where each vCPU stood. -EBUSY while it waits for memory.
 */
int vm_inject_nmi(struct vm *vm, struct err **err);
/* May memory devices be given another size? Not while their state is on its way, as vm_reset(). */
int vm_check_resize(const struct vm *vm, struct err **err);
/* End the machine now; the main loop stops. One that did not run stays in its state until then. */
void vm_quit(struct vm *vm, int status, enum vm_cause cause);
/* 0, or 1 after -action panic=exit-failure. */
int vm_exit_status(const struct vm *vm);

/* ---- devices that come and go (vm_hotplug.c) ---- */

/* How long a guest may think before it can be asked once more: its user may call it off so long. */
#define VM_UNPLUG_WAIT_MS 5000

/*
 * Plug a device, in whatever state the machine is: the keys of -device ("driver", "id", "bus" ...).
 * It goes behind a root port with hot-plug, without "bus" the first that is free. On failure the
 * machine is as it was. The vCPUs stand still for the moment that it takes.
 */
int vm_device_add(struct vm *vm, const json_t *values, struct err **err);
/*
 * Ask the guest to give a device up. VM_EVENT_DEVICE_DELETED tells when it has: at once where the
 * slot has no power, at a reset at the latest; VM_EVENT_DEVICE_UNPLUG_GUEST_ERROR that it keeps it.
 * -ENODEV: there is no such device. A memory device that has memory, or is to have some, is refused;
 * so is asking again within VM_UNPLUG_WAIT_MS.
 */
int vm_device_del(struct vm *vm, const char *id, struct err **err);

/* What follows when the guest reboots, powers off, panics: the configuration's until it is set. */
const struct vm_action_config *vm_action(const struct vm *vm);
void vm_set_action(struct vm *vm, const struct vm_action_config *action);

/* ---- for monitors ---- */

const struct vm_config *vm_config(const struct vm *vm);

/* A memory device of the running machine. */
struct vm_memory_device {
	const char *id; /* NULL for one without */
	const char *memdev_id;
	unsigned int node;
	bool guard;             /* unplugged blocks are closed one by one */
	uint64_t memslot_bytes; /* as given or chosen */
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

/* What a machine tells of itself, as QMP's events of these names. */
enum vm_event_type {
	VM_EVENT_STOP,
	VM_EVENT_RESUME,
	VM_EVENT_RESET,    /* cause */
	VM_EVENT_SHUTDOWN, /* cause; the machine stays with -no-shutdown */
	VM_EVENT_POWERDOWN,
	/* These two, while the guest goes on: once a second at most. */
	VM_EVENT_GUEST_PANICKED, /* panic */
	VM_EVENT_GUEST_CRASHLOADED,
	VM_EVENT_DEVICE_DELETED,            /* id, path */
	VM_EVENT_DEVICE_UNPLUG_GUEST_ERROR, /* id, path: the guest keeps the device */
	/*
	 * The guest used memory that it does not have: the first one of a device at once, then at
	 * most once a second, and once more when the machine ends.
	 */
	VM_EVENT_VIOLATION,
	/*
	 * Something about a memory device is not as it was: plugged size, requests answered, its
	 * driver. Not one for each change: there is one after the last.
	 */
	VM_EVENT_MEMORY_DEVICE,
	/* The balloon is not as large as was told last. Not one for each change, as before. */
	VM_EVENT_BALLOON, /* actual_bytes */
};

struct vm_event {
	enum vm_event_type type;
	enum vm_cause cause;
	enum vm_panic_action panic; /* what follows */
	const char *id;             /* may be NULL */
	const char *path;           /* in the object tree */
	const struct vm_violation *violation;
	const struct vm_memory_device *memory_device;
	/* VM_EVENT_MEMORY_DEVICE: its plugged size now, and whether it is another than was told last */
	uint64_t plugged_bytes;
	bool resized;
	bool arrived; /* the first time that it is what its owner asked for last */
	uint64_t actual_bytes; /* VM_EVENT_BALLOON: boot memory that is not in the balloon */
	/* and the last of the guest's own requests for another size; NULL: none came since */
	const struct virtio_mem_size_stats *size_requests;
};

/*
 * Have @fn called on the main thread at every event, from where it happens: it must not change the
 * machine. One at a time; NULL ends it.
 */
void vm_set_event_hook(struct vm *vm, void (*fn)(void *opaque, const struct vm_event *event),
		       void *opaque);

/* The machine's balloon (balloon.h); NULL when there is none. Until devices come or go. */
struct balloon *vm_balloon(const struct vm *vm);

/* Boot memory and plugged device memory of a NUMA node, in bytes. */
uint64_t vm_node_bytes(const struct vm *vm, unsigned int node);

/* Can guests run here? Without a machine (VM_MACHINE_NONE) /dev/kvm is looked at, else it is known. */
bool vm_has_kvm(const struct vm *vm);
struct chardev *vm_chardev(const struct vm *vm, const struct vm_chardev_config *config);
/*
 * What KVM counts, of a vCPU or (@index -1) of the machine; each is called as kvm_stats_read() says.
 * 0, or -errno: -ENOTSUP where the kernel does not tell. Waits for nobody.
 */
int vm_kvm_stats(const struct vm *vm, int index,
		 void (*fn)(void *opaque, const struct kvm_stat *stat), void *opaque);
/* The host's thread id of a vCPU. */
pid_t vm_vcpu_thread_id(const struct vm *vm, unsigned int index);
/* The host's thread id of the thread of all virtqueues but those of memory devices. */
pid_t vm_io_thread_id(const struct vm *vm);
/* The host's CPU, as far as KVM shows it to guests. */
struct vm_host_cpu {
	char vendor[13];
	unsigned int family, model, stepping;
};
/*
 * Its features by name, each once, with @migratable but for those that a migration would lose. 0, or
 * -errno and *err where KVM cannot be asked.
 */
int vm_host_cpu(const struct vm *vm, bool migratable,
		void (*fn)(void *opaque, const char *feature, bool on), void *opaque,
		struct vm_host_cpu *ret_cpu, struct err **err);
/*
 * What each of cpu_models has that the host does not: @ret_missing has room for all. 0, or -errno
 * and *err where KVM cannot be asked.
 */
int vm_cpu_models_missing(const struct vm *vm, struct cpu_features *ret_missing, struct err **err);
/* The same of the machine's own CPUs and what was asked for them. */
void vm_cpu_missing(const struct vm *vm, struct cpu_features *ret_missing);
/* What a vCPU is told of itself; until one that came from elsewhere says otherwise. */
const struct kvm_cpuid_entry2 *vm_vcpu_cpuid(const struct vm *vm, unsigned int index,
					     size_t *ret_nr);
struct pci_host *vm_pci_host(const struct vm *vm);
/* The function that a device of the configuration is; NULL for one that is on no PCI bus. */
struct pci_device *vm_pci_device(const struct vm *vm, const struct vm_device_config *config);

#endif

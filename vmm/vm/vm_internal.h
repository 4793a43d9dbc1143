/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of vmm/vm/ share; nobody else includes this. */
#ifndef VMM_VM_VM_INTERNAL_H
#define VMM_VM_VM_INTERNAL_H

#include <stdatomic.h>

#include <linux/kvm.h>

#include "vmm/isa/isa.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/acpi.h"
#include "vmm/machine/boot.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/smbios.h"
#include "vmm/vm/memdev.h"
#include "vmm/vm/violations.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_ram.h"

struct balloon;
struct bus;
struct fds;
struct gm;
struct hv;
struct kvm_vm;
struct loop_watch;
struct machine_layout;
struct pack;
struct pci_host;
struct pci_port;
struct piix3_bridge;
struct piix3_uhci;
struct power;
struct pvpanic;
struct rng;
struct rtc;
struct serial;
struct unpack;
struct virtio_device;
struct virtio_pci;

/* What is behind a memory device, and what its guest does with memory that it does not have. */
struct vm_mem {
	struct vm *vm;
	const struct vm_memory_device *device;
	const char *name; /* for messages */
	const struct memdev *memdev;
	enum vm_violation_action action;
	struct violations violations;
	_Atomic bool changed; /* VM_EVENT_MEMORY_DEVICE is due */
	/* what the last one said; the main thread's */
	uint64_t told_bytes;    /* plugged */
	uint64_t told_requests; /* size requests of the guest, till then */
	uint64_t arrived_asks;  /* sizes that its owner had asked for when one had last arrived */
};

/* A vCPU's last memory fault for which no slot was laid anew; the vCPU's own. */
struct vm_fault {
	bool any;
	uint64_t changes; /* the sum of virtio_mem_refine()'s, then */
};

struct vm_chardev {
	const struct vm_chardev_config *config;
	struct chardev *chr;
};

/* A device of -device, as it was built; what it is decides which pointers are set. */
struct vm_device {
	const struct vm_device_config *config;
	struct vm_memory_device memory; /* of mem */
	uint64_t memslot_bytes;         /* of mem; chosen before it is built, as is the next */
	uint32_t nr_guards;             /* of mem: its part of the host's mappings, 1 in so many */
	struct virtio_device *virtio;   /* of mem, rng or balloon */
	struct virtio_pci *transport;
	struct virtio_mem *mem;
	struct vm_mem *guest; /* of mem */
	bool halted;          /* by vm_can_halt(), while the machine still runs */
	struct loop *loop;    /* of mem: long plugs and unplugs hold up no other device */
	struct rng *rng;
	struct balloon *balloon;
	_Atomic bool balloon_changed; /* VM_EVENT_BALLOON is due */
	uint64_t balloon_told_bytes;  /* by the last one; the main thread's */
	struct serial *serial;
	struct pvpanic *pvpanic;
	struct pci_port *port;
	struct piix3_uhci *uhci;
	struct vm *vm;             /* of port and balloon */
	_Atomic bool ejected;      /* of port: the guest gave up what is behind it */
	_Atomic bool kept;         /* of port: it looked, and did not */
	struct vm_ram_block block; /* of mem */
	bool unplug_requested;     /* the guest was asked to give it up */
	uint64_t unplug_asked_ms;  /* when, by the monotonic clock */
};

/* What the guest or KVM asked for, as bits of vm.requests (vm.h, I2). */
enum {
	VM_REQUEST_RESET = 1 << 0,
	VM_REQUEST_SHUTDOWN = 1 << 1,
	VM_REQUEST_PANICKED = 1 << 2,
	VM_REQUEST_CRASH_LOADED = 1 << 3,
	VM_REQUEST_FAILED = 1 << 4,
	VM_REQUEST_TRIPLE_FAULT = 1 << 5, /* comes with VM_REQUEST_RESET */
	VM_REQUEST_VIOLATION = 1 << 6,    /* struct vm_mem tells of which device */
	VM_REQUEST_VIOLATION_PAUSE = 1 << 7,
	VM_REQUEST_VIOLATION_SHUTDOWN = 1 << 8,
	VM_REQUEST_SCATTERED = 1 << 9, /* there are not memory slots enough; with failure[] */
	VM_REQUEST_MEMORY = 1 << 10,   /* struct vm_mem tells of which device */
	VM_REQUEST_EJECTED = 1 << 11,  /* struct vm_device tells from which port; or vm.slots_* */
	VM_REQUEST_BALLOON = 1 << 12,  /* struct vm_device tells that it changed */
};

#define VM_RAM_NAME_MAX 32

/* Requests that are told, or have happened already: a stopped machine does not hold them back. */
enum {
	VM_REQUESTS_TOLD =
		VM_REQUEST_VIOLATION | VM_REQUEST_MEMORY | VM_REQUEST_EJECTED | VM_REQUEST_BALLOON
};

/*
 * Lists of parts (base/ptrs.h): a part keeps its address for life. They belong to the main thread;
 * vm.devices is also walked by vCPUs (vm_vcpu_memory_fault()), with no lock. So it changes only while
 * no vCPU is in the guest or in a handler: before the first vm_run(), while the machine is stopped, or
 * between vm_hold() and vm_release(). The thread mem/ID of a memory device knows that device only, and
 * ends before it.
 */
struct vm {
	struct vm_config *config;
	struct loop *main;
	struct loop *io; /* the thread of all virtqueues but those of memory devices */

	struct kvm_vm *kvm;
	struct hv *hv; /* of kvm */
	struct kvm_cpuid2 *cpuid;
	struct bus *mmio, *pio;
	struct gm *gm;
	struct machine_layout *layout;
	struct memdev **memdevs;
	size_t nr_memdevs;
	struct memdev plain_ram;         /* boot memory without a backend */
	struct vm_ram_block *ram_blocks; /* a block for each of layout->ram */
	char (*ram_names)[VM_RAM_NAME_MAX];
	struct vcpus *vcpus;
	struct pci_host *pci;
	struct piix3_bridge *piix3;     /* NULL: none */
	_Atomic uint32_t slots_ejected; /* of the root bus: the guest gave up what is in them */
	_Atomic uint32_t slots_kept;    /* it was asked to, and did not */
	struct rtc *rtc;
	struct power *power;
	struct fds *fds;
	struct vm_chardev **chardevs;
	size_t nr_chardevs;
	struct vm_device **devices; /* in the order in which they came */
	size_t nr_devices;
	struct vm_device **memory_devices; /* those among them; in the order of layout->devices */
	size_t nr_memory_devices;
	int violation_timer; /* timerfd */
	struct loop_watch *violation_watch;
	void (*event_hook)(void *opaque, const struct vm_event *event);
	void *event_opaque;
	struct vm_fault faults[VM_CPUS_MAX];
	struct acpi_image acpi;
	struct smbios_image smbios;
	int kernel_fd, initrd_fd;

	struct vm_action_config action;
	enum vm_state state;
	/* Of VM_FINISH_MIGRATE, VM_POSTMIGRATE and VM_SAVE_VM: what it was before. */
	enum vm_state state_before;
	bool migrating;   /* its state is being taken, or given: devices stay as they are */
	bool handed_over; /* another process has the guest */
	bool dumping;     /* devices stay as they are for a dump (vm_dump.h) */
	bool dump_halted; /* and the guest as it stands */
	bool run_loaded;  /* of VM_INMIGRATE: run when it is loaded, if it ran at the source */
	size_t nr_loaded; /* sections, of vm_state.c */
	_Atomic bool memory_arrives;
	bool memory_stalled;
	_Atomic bool memory_failed; /* vm_memory_fails() */
	void (*memory_release)(void *opaque);
	void *memory_opaque;
	int halt_timer; /* to ask once more; -1: none */
	struct loop_watch *halt_watch;
	bool halt_asked;  /* VM_RUNNING, and vCPUs and devices park: vm_can_halt() */
	bool stop_waits;  /* for memory that some of them still wait for */
	bool reset_waits; /* for memory that arrives; with these: */
	bool reset_runs;  /* it goes on afterwards */
	enum vm_cause reset_cause;
	bool ended;
	int exit_status;

	int request_fd;
	struct loop_watch *request_watch;
	_Atomic unsigned int requests;
	_Atomic bool failure_noted; /* failure[] belongs to the vCPU that set it, then to main */
	char failure[256];
	/* when a panic, a crash kernel, a triple fault was told last; the main thread's */
	uint64_t panic_told_ms, crash_told_ms, fault_told_ms;
};

/* From any thread; never waits. */
void vm_request(struct vm *vm, unsigned int bits);
extern const struct vcpu_ops vm_vcpu_ops;
extern const struct isa_ops vm_isa_ops;

/* vm_events.c */
void vm_emit(struct vm *vm, const struct vm_event *event);
void vm_emit_plain(struct vm *vm, enum vm_event_type type);
void vm_emit_cause(struct vm *vm, enum vm_event_type type, enum vm_cause cause);
/* For virtio_mem_config; @opaque is a struct vm_mem. From any thread, never waits. */
void vm_mem_changed(void *opaque, struct virtio_mem *mem);
/* Tell of the memory devices that changed. */
void vm_tell_changes(struct vm *vm);
/* For balloon_config; @opaque is the struct vm_device. From any thread, never waits. */
void vm_balloon_changed(void *opaque, struct balloon *balloon);
/* Tell of the balloon, if it changed. */
void vm_tell_balloon(struct vm *vm);

/* vm_violations.c */
int vm_build_violations(struct vm *vm, struct err **err);
void vm_free_violations(struct vm *vm);
/* For virtio_mem_config; @opaque is a struct vm_mem. On vCPUs' threads. */
void vm_mem_violation(void *opaque, struct virtio_mem *mem);
/* For struct vcpu_ops. */
bool vm_vcpu_memory_fault(void *opaque, unsigned int index, uint64_t gpa, uint64_t size, char *why,
			  size_t why_size);
/* Tell of what is due. @all: of everything, since nothing comes after it. */
void vm_tell_violations(struct vm *vm, bool all);

/* vm_memory.c; NULL when there is none */
struct memdev *vm_memdev(const struct vm *vm, const struct vm_memdev_config *config);
/* Map one more backend. */
int vm_memdev_map(struct vm *vm, const struct vm_memdev_config *config, struct err **err);
/* Nothing uses it any more. */
void vm_memdev_unmap(struct vm *vm, const struct vm_memdev_config *config);

/* vm_chardevs.c: the same for a character device. */
int vm_chardev_open(struct vm *vm, const struct vm_chardev_config *config, struct err **err);
void vm_chardev_close(struct vm *vm, const struct vm_chardev_config *config);
/*
 * vm_devices.c: a new device in vm.devices, without parts yet; NULL when memory is out. vCPUs are held (vm_hold()) or
 * never ran. vm_device_free() ends its parts as well.
 */
struct vm_device *vm_device_new(struct vm *vm, const struct vm_device_config *config);
void vm_device_free(struct vm *vm, struct vm_device *device);
/*
 * Make its parts. A memory device has its place already, which is the last of layout->devices that no
 * memory device has, and its memslot_bytes. What was made before a failure is vm_device_free()'s.
 */
int vm_device_build(struct vm *vm, struct vm_device *device, struct err **err);
/* NULL when there is none. */
struct vm_device *vm_device_of(const struct vm *vm, const struct vm_device_config *config);

/* vm_boot.c: ACPI tables for the machine as it is now; those before stay where that fails. */
int vm_build_acpi(struct vm *vm, struct err **err);
int vm_build_smbios(struct vm *vm, struct err **err);

/* vm.c: stop everything that the guest can see move, and be in @state. Whether it moved before. */
bool vm_halt(struct vm *vm, enum vm_state state);
/* The reverse, from any state but VM_RUNNING. */
void vm_run(struct vm *vm);

/* vm_migrate.c */
/* Is the guest this process's, and can it be told something? -EBUSY, -EPERM. */
int vm_check_here(const struct vm *vm, struct err **err);
/*
 * It was just halted, and may have stopped for a reason of its own that nobody has looked at yet: the
 * state that it is in then. VM_RUNNING: there was none.
 */
enum vm_state vm_take_stops(struct vm *vm);
/* May devices come and go now? @what starts the sentence. */
int vm_check_settled(const struct vm *vm, const char *what, struct err **err);
/* The section "run-state": what it was doing, what it asked for, which devices are about to go. */
#define VM_RUN_STATE_VERSION 1u
struct vm_part;
int vm_save_run_state(struct vm *vm, const struct vm_part *part, struct pack *out,
		      struct err **err);
int vm_load_run_state(struct vm *vm, const struct vm_part *part, uint32_t version,
		      struct unpack *in, struct err **err);
/* A stop or cont of a machine that is in the middle of a migration. */
void vm_migrate_choose(struct vm *vm, bool run);
/* The machine ends: nobody waits for memory any more. */
void vm_memory_release(struct vm *vm);
/* A reset before all memory is there; false when it is, and it can be done now. */
bool vm_reset_later(struct vm *vm, enum vm_cause cause);
/*
 * vm_halt() and vm_hold() will not wait for long. False: somebody waits for memory that is on its way;
 * they park when they have it, and what waits in requests, stop_waits, reset_waits is tried again.
 */
bool vm_can_halt(struct vm *vm);
/* What vm_can_halt() was asked for is done, or nobody's wish any more: a guest that runs goes on. */
void vm_forget_halt(struct vm *vm);
/* It ends, in a halt or, with @resume, in none. */
void vm_end_halt(struct vm *vm, bool resume);
int vm_build_waiting(struct vm *vm, struct err **err);

/* vm_devices.c: its id, or "type:N", for messages and sections. Returns @buf. */
#define VM_DEVICE_NAME_MAX 160
const char *vm_device_name(const struct vm *vm, const struct vm_device *device,
			   char buf[VM_DEVICE_NAME_MAX]);

/* vm_hotplug.c */
/* For pci_host_config; @opaque is the struct vm. */
void vm_slots_notify(void *opaque);
void vm_slots_ejected(void *opaque, uint32_t slots);
void vm_slots_kept(void *opaque, uint32_t slots);
/* For pci_port_config; @opaque is a port's struct vm_device. */
void vm_port_ejected(void *opaque);
void vm_port_kept(void *opaque);
/* Remove what the guest gave up, and tell of what it was asked for and keeps. */
void vm_remove_ejected(struct vm *vm);
/* A reset ends all waiting for the guest: remove what it was asked for as well. vCPUs are paused. */
void vm_remove_requested(struct vm *vm);
/* Each memory device's part of the host's mappings, with a part for those that may come. */
void vm_choose_guards(struct vm *vm);

/*
 * vm.c: keep all vCPUs of a machine that runs out of the guest and out of handlers, for a moment; devices
 * go on. No-ops while it does not run.
 */
void vm_hold(struct vm *vm);
void vm_release(struct vm *vm);

/* The steps of vm_new(), in order; each leaves what it made for vm_free(). */
int vm_build_memory(struct vm *vm, struct err **err);
int vm_build_chardevs(struct vm *vm, struct err **err);
int vm_build_platform(struct vm *vm, struct err **err);
int vm_build_devices(struct vm *vm, struct err **err);
int vm_build_cpus(struct vm *vm, struct err **err);
struct cpuid_topology vm_cpu_topology(const struct vm *vm);
/* How wide the guest's physical addresses are. */
unsigned int vm_cpu_phys_bits(const struct vm *vm);
int vm_build_boot(struct vm *vm, struct err **err);
/* The reverse; all accept what was never built. */
void vm_free_devices(struct vm *vm);
void vm_free_chardevs(struct vm *vm);
void vm_free_memory(struct vm *vm);

/* Reset state for all devices, vCPUs as at power-on. vCPUs are paused. */
int vm_reset_parts(struct vm *vm, struct err **err);
/* Reset state for all devices, boot files into memory, vCPUs at their start. vCPUs are paused. */
int vm_reset_machine(struct vm *vm, struct err **err);

#endif

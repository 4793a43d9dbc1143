/* SPDX-License-Identifier: BSD-3-Clause */
/* One virtual machine: its life from building to end. See vm.h for the contract. */
#include "vmm/vm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/bus.h"
#include "vmm/core/loop.h"
#include "vmm/isa/power.h"
#include "vmm/isa/pvpanic.h"
#include "vmm/isa/serial.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/kvm_stats.h"
#include "vmm/machine/platform.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm_internal.h"

/* ---- requests from vCPUs ---- */

void vm_request(struct vm *vm, unsigned int bits)
{
	uint64_t one = 1;
	ssize_t n;

	atomic_fetch_or(&vm->requests, bits);
	/* Refused only when the counter is full, and then the main thread is awake anyway. */
	n = write(vm->request_fd, &one, sizeof(one));
	(void)n;
}

static void vm_vcpu_shutdown(void *opaque, unsigned int index)
{
	(void)index;
	vm_request(opaque, VM_REQUEST_TRIPLE_FAULT | VM_REQUEST_RESET);
}

static void vm_vcpu_failed(void *opaque, unsigned int index, const char *why)
{
	struct vm *vm = opaque;

	/* The first report is kept; the others say the same of other vCPUs. */
	if (!atomic_exchange(&vm->failure_noted, true)) {
		snprintf(vm->failure, sizeof(vm->failure), "vCPU %u: %s", index, why);
		vm_request(vm, VM_REQUEST_FAILED);
	}
}

const struct vcpu_ops vm_vcpu_ops = {
	.shutdown = vm_vcpu_shutdown,
	.failed = vm_vcpu_failed,
	.memory_fault = vm_vcpu_memory_fault,
};

static void vm_isa_reset(void *opaque, enum isa_reset_cause cause)
{
	(void)cause;
	vm_request(opaque, VM_REQUEST_RESET);
}

static void vm_isa_shutdown(void *opaque)
{
	vm_request(opaque, VM_REQUEST_SHUTDOWN);
}

static void vm_isa_panicked(void *opaque, uint8_t bits)
{
	vm_request(opaque, (bits & PVPANIC_PANICKED ? VM_REQUEST_PANICKED : 0) |
				   (bits & PVPANIC_CRASH_LOADED ? VM_REQUEST_CRASH_LOADED : 0));
}

const struct isa_ops vm_isa_ops = {
	.request_reset = vm_isa_reset,
	.request_shutdown = vm_isa_shutdown,
	.guest_panicked = vm_isa_panicked,
};

/* ---- run state ---- */

const char *vm_state_name(enum vm_state state)
{
	switch (state) {
	case VM_PRELAUNCH:
		return "prelaunch";
	case VM_RUNNING:
		return "running";
	case VM_PAUSED:
		return "paused";
	case VM_SHUTDOWN:
		return "shutdown";
	case VM_GUEST_PANICKED:
		return "guest-panicked";
	case VM_INMIGRATE:
		return "inmigrate";
	case VM_FINISH_MIGRATE:
		return "finish-migrate";
	case VM_SAVE_VM:
		return "save-vm";
	case VM_POSTMIGRATE:
		return "postmigrate";
	case VM_INTERNAL_ERROR:
		break;
	}
	return "internal-error";
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

static void vm_each_virtio(struct vm *vm, void (*fn)(struct virtio_device *vdev))
{
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->virtio)
			fn(vm->devices[i]->virtio);
}

static void vm_each_serial(struct vm *vm, void (*fn)(struct serial *serial))
{
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->serial)
			fn(vm->devices[i]->serial);
}

static void vm_each_mem(struct vm *vm, void (*fn)(struct virtio_mem *mem))
{
	for (size_t i = 0; i < vm->nr_memory_devices; i++)
		fn(vm->memory_devices[i]->mem);
}

bool vm_halt(struct vm *vm, enum vm_state state)
{
	bool running = vm->state == VM_RUNNING;

	if (running) {
		/* First: a vCPU may wait for a device that plugs. */
		vm_each_mem(vm, virtio_mem_stop);
		vcpus_pause(vm->vcpus);
		vm_each_virtio(vm, virtio_pause);
		vm_each_serial(vm, serial_pause);
		kvm_vm_clock_stop(vm->kvm);
		vm_end_halt(vm, false);
	}
	vm->state = state;
	return running;
}

/* The same for what is told as a stop. */
static void vm_halt_told(struct vm *vm, enum vm_state state)
{
	if (vm_halt(vm, state))
		vm_emit_plain(vm, VM_EVENT_STOP);
}

void vm_run(struct vm *vm)
{
	if (vm->state == VM_RUNNING)
		return;
	vm->failure_noted = false;
	vm->state = VM_RUNNING;
	kvm_vm_clock_start(vm->kvm);
	vm_each_mem(vm, virtio_mem_cont);
	vm_each_virtio(vm, virtio_resume);
	vm_each_serial(vm, serial_resume);
	vcpus_resume(vm->vcpus);
	if (vm->requests)
		vm_request(vm, 0);
}

void vm_hold(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return;
	/* First: a vCPU may wait for a device that plugs. */
	vm_each_mem(vm, virtio_mem_stop);
	vcpus_pause(vm->vcpus);
}

void vm_release(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return;
	vm_each_mem(vm, virtio_mem_cont);
	vm_end_halt(vm, true);
	vcpus_resume(vm->vcpus);
}

void vm_stop(struct vm *vm)
{
	vm->stop_waits = !vm_can_halt(vm);
	if (vm->stop_waits)
		return;
	if (vm->state == VM_RUNNING)
		vm_halt_told(vm, VM_PAUSED);
	else
		vm_migrate_choose(vm, false);
}

/* What was asked for in one go with the end, or between it and the end of the loop. */
static int vm_check_not_ended(const struct vm *vm, struct err **err)
{
	return vm->ended ? err_set(err, ESHUTDOWN, "the machine has ended") : 0;
}

int vm_cont(struct vm *vm, struct err **err)
{
	int ret = vm_check_not_ended(vm, err);

	if (ret)
		return ret;
	vm->stop_waits = false;
	if (vm->state == VM_INMIGRATE || vm->reset_waits) {
		vm_migrate_choose(vm, true);
		return 0;
	}
	ret = vm_check_here(vm, err);
	if (ret)
		return ret;
	if (vm->state == VM_SHUTDOWN || vm->state == VM_GUEST_PANICKED)
		return err_set(err, EINVAL, "Resetting the Virtual Machine is required");
	vm_forget_halt(vm);
	if (vm->state == VM_RUNNING)
		return 0;
	vm_run(vm);
	vm_emit_plain(vm, VM_EVENT_RESUME);
	return 0;
}

void vm_quit(struct vm *vm, int status, enum vm_cause cause)
{
	if (vm->ended)
		return;
	vm_memory_release(vm);
	vm->ended = true;
	vm->exit_status = status;
	/* A guest that never came, or went on elsewhere, is not one that was shut down here. */
	if (vm->state == VM_RUNNING)
		vm_halt(vm, VM_SHUTDOWN);
	vm_tell_violations(vm, true);
	vm_emit_cause(vm, VM_EVENT_SHUTDOWN, cause);
	loop_stop(vm->main);
}

int vm_exit_status(const struct vm *vm)
{
	return vm->exit_status;
}

const struct vm_action_config *vm_action(const struct vm *vm)
{
	return &vm->action;
}

void vm_set_action(struct vm *vm, const struct vm_action_config *action)
{
	vm->action = *action;
}

int vm_reset(struct vm *vm, enum vm_cause cause, struct err **err)
{
	/* A machine that runs goes on; one that had ended (-no-shutdown) waits for cont. */
	bool running = vm->state == VM_RUNNING;
	enum vm_state rest = vm->state == VM_PRELAUNCH ? VM_PRELAUNCH : VM_PAUSED;
	int ret = vm_check_not_ended(vm, err);

	if (!ret)
		ret = vm_check_here(vm, err);
	if (ret)
		return ret;
	if (vm_reset_later(vm, cause))
		return 0;
	vm_halt(vm, rest);
	/* What was done to memory is told, though whoever did it is gone. */
	atomic_fetch_and(&vm->requests, VM_REQUESTS_TOLD);
	vm_remove_requested(vm);
	ret = vm_reset_machine(vm, err);
	if (!ret)
		vm_emit_cause(vm, VM_EVENT_RESET, cause);
	if (!ret && running)
		vm_run(vm);
	if (ret)
		vm->state = VM_INTERNAL_ERROR;
	if (ret && running)
		vm_emit_plain(vm, VM_EVENT_STOP);
	return ret;
}

int vm_powerdown(struct vm *vm, struct err **err)
{
	int ret = vm_check_here(vm, err);

	if (ret)
		return ret;
	power_notify(vm->power, PLATFORM_GED_EVENT_POWER_BUTTON);
	vm_emit_plain(vm, VM_EVENT_POWERDOWN);
	return 0;
}

/* ---- carrying out what was asked for ---- */

/* What a guest can say over and over, and nothing else comes of, is told so often at most. */
#define VM_TELL_MS 1000

static bool vm_may_tell(uint64_t *told_ms)
{
	uint64_t now_ms = uv_hrtime() / 1000000;

	if (*told_ms && now_ms - *told_ms < VM_TELL_MS)
		return false;
	*told_ms = now_ms;
	return true;
}

static void vm_on_shutdown(struct vm *vm, enum vm_cause cause)
{
	if (vm->action.shutdown != VM_SHUTDOWN_PAUSE) {
		vm_quit(vm, 0, cause);
		return;
	}
	vm_emit_cause(vm, VM_EVENT_SHUTDOWN, cause);
	vm_halt_told(vm, VM_SHUTDOWN);
}

static void vm_on_reset(struct vm *vm)
{
	struct err *err = NULL;

	if (vm->action.reboot == VM_REBOOT_SHUTDOWN) {
		vm_on_shutdown(vm, VM_CAUSE_GUEST_RESET);
	} else if (vm_reset(vm, VM_CAUSE_GUEST_RESET, &err)) {
		report_guest(vm->config, "the guest cannot be reset: %s", err_message(err));
		err_free(err);
	}
}

static void vm_on_panic(struct vm *vm)
{
	enum vm_panic_action action = vm->action.panic;

	if (action == VM_PANIC_NONE && !vm_may_tell(&vm->panic_told_ms))
		return;
	report_guest(vm->config, "the guest panicked");
	if (action == VM_PANIC_SHUTDOWN && vm->action.shutdown == VM_SHUTDOWN_PAUSE)
		action = VM_PANIC_PAUSE;
	vm_emit(vm, &(struct vm_event){.type = VM_EVENT_GUEST_PANICKED, .panic = action});
	switch (action) {
	case VM_PANIC_SHUTDOWN:
		vm_quit(vm, 0, VM_CAUSE_GUEST_PANIC);
		break;
	case VM_PANIC_EXIT_FAILURE:
		vm_quit(vm, EXIT_FAILURE, VM_CAUSE_GUEST_PANIC);
		break;
	case VM_PANIC_PAUSE:
		vm_halt_told(vm, VM_GUEST_PANICKED);
		break;
	case VM_PANIC_NONE:
		break;
	}
}

static void vm_on_crash_loaded(struct vm *vm)
{
	if (!vm_may_tell(&vm->crash_told_ms))
		return;
	report_guest(vm->config, "the guest crashed and goes on in its crash kernel");
	vm_emit_plain(vm, VM_EVENT_GUEST_CRASHLOADED);
}

/* What stops the machine, worst first. */
static void vm_on_stops(struct vm *vm, unsigned int requests)
{
	if (requests & VM_REQUEST_FAILED) {
		vm_halt_told(vm, VM_INTERNAL_ERROR);
		report_guest(vm->config, "the guest was stopped: %s", vm->failure);
	}
	if (requests & VM_REQUEST_SCATTERED) {
		vm_halt_told(vm, VM_PAUSED);
		report_guest(vm->config, "the guest was paused: %s", vm->failure);
	}
	if (requests & VM_REQUEST_VIOLATION_SHUTDOWN && vm->state == VM_RUNNING)
		vm_on_shutdown(vm, VM_CAUSE_HOST_ERROR);
	if (requests & VM_REQUEST_VIOLATION_PAUSE)
		vm_stop(vm);
}

static void vm_on_requests(void *opaque)
{
	struct vm *vm = opaque;
	unsigned int requests, told;

	/* With memory that does not come nothing can be waited for: it is looked at when it does. */
	if (vm->ended || vm->memory_stalled)
		return;
	told = atomic_fetch_and(&vm->requests, ~(unsigned int)VM_REQUESTS_TOLD);
	if (told & VM_REQUEST_VIOLATION)
		vm_tell_violations(vm, false);
	if (told & VM_REQUEST_MEMORY)
		vm_tell_changes(vm);
	if (told & VM_REQUEST_BALLOON)
		vm_tell_balloon(vm);
	if (told & VM_REQUEST_EJECTED)
		vm_remove_ejected(vm);
	/* What a guest asked for just before it was stopped waits until it runs again; a pause is
	 * there already. */
	if (vm->state != VM_RUNNING) {
		atomic_fetch_and(&vm->requests, ~(unsigned int)VM_REQUEST_VIOLATION_PAUSE);
		return;
	}
	if (vm->requests & ~(unsigned int)VM_REQUESTS_TOLD && !vm_can_halt(vm))
		return;
	/* what is only told and was noted meanwhile has its own turn, which this must not take */
	requests = atomic_fetch_and(&vm->requests, VM_REQUESTS_TOLD);
	vm_on_stops(vm, requests);
	if (requests & VM_REQUEST_CRASH_LOADED)
		vm_on_crash_loaded(vm);
	if (requests & VM_REQUEST_TRIPLE_FAULT && vm_may_tell(&vm->fault_told_ms))
		report_guest(vm->config,
			     "the guest shut its CPU down (triple fault): that is a reset");
	if (requests & VM_REQUEST_PANICKED)
		vm_on_panic(vm);
	if (requests & VM_REQUEST_SHUTDOWN && vm->state == VM_RUNNING)
		vm_on_shutdown(vm, VM_CAUSE_GUEST_SHUTDOWN);
	if (requests & VM_REQUEST_RESET && vm->state == VM_RUNNING)
		vm_on_reset(vm);
	vm_forget_halt(vm);
}

/* ---- building ---- */

static int vm_build_core(struct vm *vm, struct err **err)
{
	vm->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->request_fd < 0)
		return err_set(err, errno, "cannot create an event descriptor: %s",
			       strerror(errno));
	vm->request_watch = loop_watch_new(vm->main, vm->request_fd, vm_on_requests, vm, err);
	if (!vm->request_watch)
		return -EIO;
	vm->io = loop_new_thread("io", err);
	if (!vm->io || vm_build_waiting(vm, err) || vm_build_violations(vm, err))
		return -EIO;
	vm->mmio = bus_new();
	vm->pio = bus_new();
	if (!vm->mmio || !vm->pio)
		return err_set(err, ENOMEM, "out of memory");
	vm->kvm = kvm_vm_new(err);
	if (!vm->kvm)
		return -EIO;
	if (vm->config->machine.dirty_ring_entries &&
	    kvm_dirty_ring_enable(vm->kvm, vm->config->machine.dirty_ring_entries, err))
		return -EIO;
	kvm_dirty_prepare(vm->kvm);
	vm->hv = kvm_vm_hv(vm->kvm);
	vm->cpuid = kvm_supported_cpuid(vm->kvm, err);
	return vm->cpuid ? 0 : -EIO;
}

static int vm_build(struct vm *vm, struct err **err)
{
	int (*const steps[])(struct vm * vm, struct err * *err) = {
		vm_build_core,     vm_build_memory, vm_build_boot,    vm_build_chardevs,
		vm_build_platform, vm_build_cpus,   vm_build_devices, vm_build_acpi,
		vm_build_smbios,
	};
	int ret = 0;

	if (vm->config->machine.type == VM_MACHINE_NONE)
		return vm_build_chardevs(vm, err);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && !ret; i++)
		ret = steps[i](vm, err);
	return ret;
}

struct vm *vm_new(struct vm_config *config, struct loop *main, struct err **err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	vm->config = config;
	vm->action = config->action;
	vm->main = main;
	vm->state = config->incoming ? VM_INMIGRATE : VM_PRELAUNCH;
	vm->state_before = VM_PRELAUNCH;
	vm->run_loaded = !config->start_paused;
	vm->request_fd = vm->halt_timer = vm->violation_timer = vm->kernel_fd = vm->initrd_fd = -1;
	if (vm_build(vm, err)) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

/* Closing -1 is harmless. */
void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vcpus_free(vm->vcpus);
	loop_watch_free(vm->request_watch);
	loop_watch_free(vm->halt_watch);
	vm_free_violations(vm);
	vm_free_devices(vm);
	loop_free(vm->io);
	kvm_vm_free(vm->kvm);
	free(vm->cpuid);
	vm_free_memory(vm);
	acpi_image_done(&vm->acpi);
	smbios_image_done(&vm->smbios);
	bus_free(vm->mmio);
	bus_free(vm->pio);
	close(vm->kernel_fd);
	close(vm->initrd_fd);
	close(vm->request_fd);
	close(vm->halt_timer);
	free(vm);
}

int vm_start(struct vm *vm, struct err **err)
{
	int ret;

	if (vm->config->machine.type == VM_MACHINE_NONE)
		return 0;
	if (vm->state == VM_INMIGRATE)
		return vm_reset_parts(vm, err);
	ret = vm_reset_machine(vm, err);
	if (!ret && !vm->config->start_paused)
		vm_run(vm);
	return ret;
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return vm->config;
}

pid_t vm_io_thread_id(const struct vm *vm)
{
	return loop_thread_id(vm->io);
}

bool vm_has_kvm(const struct vm *vm)
{
	return vm->kvm || kvm_host_is_usable();
}

struct pci_host *vm_pci_host(const struct vm *vm)
{
	return vm->pci;
}

int vm_kvm_stats(const struct vm *vm, int index,
		 void (*fn)(void *opaque, const struct kvm_stat *stat), void *opaque)
{
	int fd, ret;

	if (index >= 0) {
		fd = vcpus_stats_fd(vm->vcpus, (unsigned int)index);
		return fd < 0 ? -ENOTSUP : kvm_stats_read(fd, fn, opaque);
	}
	fd = kvm_stats_open(kvm_vm_fd(vm->kvm));
	if (fd < 0)
		return -ENOTSUP;
	ret = kvm_stats_read(fd, fn, opaque);
	close(fd);
	return ret;
}

pid_t vm_vcpu_thread_id(const struct vm *vm, unsigned int index)
{
	return vcpus_thread_id(vm->vcpus, index);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's run state around a migration: see vm_migrate.h for the contract. */
#include "vmm/vm/vm_migrate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/cmdline/live.h"
#include "vmm/core/gm.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm_internal.h"
#include "vmm/vm/vm_ram.h"

/* How long the main thread waits for a guest that waits for memory, and then does something else. */
#define VM_HALT_MS       20
#define VM_HALT_AGAIN_MS 20

/* Whatever a dump does. */
static int vm_check_arrived(const struct vm *vm, struct err **err)
{
	if (vm->handed_over)
		return err_set(err, EPERM,
			       "the guest was handed over to another process, and goes on there");
	if (vm->state == VM_INMIGRATE)
		return err_set(err, EBUSY, "the machine waits for its state (-incoming)");
	if (vm->memory_failed)
		return err_set(err, EIO,
			       "the machine cannot go on: a part of its memory did not come");
	if (vm->state == VM_FINISH_MIGRATE)
		return err_set(err, EBUSY,
			       "the machine's state is being taken by a migration; wait until that "
			       "is over, or cancel it");
	return 0;
}

int vm_check_here(const struct vm *vm, struct err **err)
{
	if (vm->dump_halted)
		return err_set(err, EBUSY,
			       "the machine's memory is being written to a dump; wait until that "
			       "is over, or cancel it");
	return vm_check_arrived(vm, err);
}

/* Of a machine that stands still, the guest hears of the size when it goes on. */
int vm_check_resize(const struct vm *vm, struct err **err)
{
	return vm_check_arrived(vm, err);
}

int vm_check_settled(const struct vm *vm, const char *what, struct err **err)
{
	int ret = vm_check_here(vm, err);

	if (!ret && (vm->migrating || vm->memory_stalled))
		ret = err_set(err, EBUSY,
			      "a migration is under way; devices come and go when it is over");
	if (!ret && vm->dumping)
		ret = err_set(err, EBUSY,
			      "a dump of memory is under way; devices come and go when it is over");
	if (ret)
		err_prefix(err, "%s", what);
	return ret;
}

void vm_migrate_choose(struct vm *vm, bool run)
{
	if (vm->reset_waits)
		vm->reset_runs = run;
	if (vm->state == VM_INMIGRATE)
		vm->run_loaded = run;
	/* Somebody stopped it meanwhile, though that could not be seen. */
	if ((vm->state == VM_FINISH_MIGRATE || vm->state == VM_SAVE_VM) && !run &&
	    vm->state_before == VM_RUNNING)
		vm->state_before = VM_PAUSED;
}

int vm_migration_begin(struct vm *vm, struct err **err)
{
	int ret = vm->ended ? err_set(err, ESHUTDOWN, "the machine has ended") : 0;

	if (!ret)
		ret = vm_check_here(vm, err);
	if (!ret && vm->dumping)
		ret = err_set(err, EBUSY,
			      "a dump of the machine's memory is under way; it can be migrated "
			      "when that is over");
	if (ret)
		return ret;
	vm->migrating = true;
	return 0;
}

enum vm_state vm_take_stops(struct vm *vm)
{
	const unsigned int stops =
		VM_REQUEST_FAILED | VM_REQUEST_SCATTERED | VM_REQUEST_VIOLATION_PAUSE;
	unsigned int requests = atomic_fetch_and(&vm->requests, ~stops);

	if (requests & (VM_REQUEST_FAILED | VM_REQUEST_SCATTERED))
		report_guest(vm->config, "the guest was stopped: %s", vm->failure);
	if (requests & VM_REQUEST_FAILED)
		return VM_INTERNAL_ERROR;
	return requests & stops ? VM_PAUSED : VM_RUNNING;
}

void vm_migration_halt(struct vm *vm)
{
	enum vm_state state = vm->state;

	if (state == VM_FINISH_MIGRATE || vm->ended)
		return;
	/* What was saved once before is saved as it was then. */
	if (state != VM_POSTMIGRATE)
		vm->state_before = state;
	if (!vm_halt(vm, VM_FINISH_MIGRATE))
		return;
	vm->state_before = vm_take_stops(vm);
	vm_tell_violations(vm, true);
	vm_emit_plain(vm, VM_EVENT_STOP);
}

/* It goes on as it was found. */
static void vm_migration_undo(struct vm *vm)
{
	if (vm->state != VM_FINISH_MIGRATE)
		return;
	if (vm->state_before == VM_RUNNING) {
		vm_run(vm);
		vm_emit_plain(vm, VM_EVENT_RESUME);
	} else {
		vm->state = vm->state_before;
	}
}

void vm_migration_end(struct vm *vm, enum vm_migration_outcome outcome)
{
	vm->migrating = false;
	/* After vm_quit() there is nothing that could go on. */
	if (vm->ended)
		return;
	switch (outcome) {
	case VM_MIGRATION_UNDONE:
		vm_migration_undo(vm);
		break;
	case VM_MIGRATION_SAVED:
		vm->state = VM_POSTMIGRATE;
		break;
	case VM_MIGRATION_HANDED_OVER:
		vm->state = VM_POSTMIGRATE;
		vm->handed_over = true;
		return;
	case VM_MIGRATION_UNKNOWN:
		vm->state = VM_PAUSED;
		break;
	}
	/* What waited. */
	vm_request(vm, VM_REQUEST_EJECTED);
}

void vm_incoming_end(struct vm *vm)
{
	if (vm->ended)
		return;
	vm_request(vm, VM_REQUEST_EJECTED);
	if (vm->state_before != VM_RUNNING) {
		vm->state = vm->state_before;
	} else if (!vm->run_loaded) {
		vm->state = VM_PAUSED;
	} else {
		vm_run(vm);
		vm_emit_plain(vm, VM_EVENT_RESUME);
	}
	/* the guest need not wait for it */
	vm_lock_loaded(vm);
}

bool vm_incoming_is_held(const struct vm *vm)
{
	return !vm->run_loaded;
}

/* ---- memory that arrives while the guest runs ---- */

void vm_memory_arrives(struct vm *vm, void (*release)(void *opaque), void *opaque)
{
	/* What a balloon would give back now would come back with the rest. */
	gm_discard_hold(vm->gm);
	vm->memory_arrives = true;
	vm->memory_release = release;
	vm->memory_opaque = opaque;
}

bool vm_memory_is_arriving(const struct vm *vm)
{
	return vm->memory_arrives;
}

void vm_memory_release(struct vm *vm)
{
	if (vm->memory_arrives) {
		vcpus_stop(vm->vcpus);
		vm->memory_release(vm->memory_opaque);
	}
	vm->memory_arrives = vm->memory_stalled = false;
}

void vm_memory_fails(struct vm *vm)
{
	vm->memory_failed = true;
	vcpus_stop(vm->vcpus);
	if (!atomic_exchange(&vm->failure_noted, true)) {
		snprintf(vm->failure, sizeof(vm->failure), "a part of its memory did not come");
		vm_request(vm, VM_REQUEST_FAILED);
	}
}

/* What vm_halt() waits for, without waiting for long. */
static bool vm_try_halt(struct vm *vm)
{
	bool done;

	vm->halt_asked = true;
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->mem)
			virtio_mem_stop(vm->devices[i]->mem);
	done = vcpus_pause_within(vm->vcpus, VM_HALT_MS);
	for (size_t i = 0; i < vm->nr_devices && done; i++) {
		struct vm_device *d = vm->devices[i];

		if (d->virtio && !d->halted)
			done = d->halted = virtio_try_pause(d->virtio);
	}
	return done;
}

void vm_end_halt(struct vm *vm, bool resume)
{
	vm->halt_asked = false;
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *d = vm->devices[i];

		/* The others may be waiting for memory, with a lock that this would wait for. */
		if (resume && d->halted)
			virtio_resume(d->virtio);
		d->halted = false;
	}
}

bool vm_can_halt(struct vm *vm)
{
	const struct itimerspec soon = {.it_value = {.tv_nsec = VM_HALT_AGAIN_MS * 1000000}};

	if (vm->state != VM_RUNNING || !vm->memory_arrives)
		return true;
	if (!vm->memory_stalled && vm_try_halt(vm))
		return true;
	/* Cannot fail with these arguments. */
	timerfd_settime(vm->halt_timer, 0, &soon, NULL);
	return false;
}

void vm_forget_halt(struct vm *vm)
{
	if (vm->halt_asked && !vm->stop_waits && !vm->reset_waits)
		vm_release(vm);
}

static void vm_go_on_waiting(struct vm *vm)
{
	if (vm->memory_stalled || vm->ended)
		return;
	if (vm->reset_waits && vm_can_halt(vm))
		vm_halt(vm, VM_PAUSED);
	else if (vm->stop_waits)
		vm_stop(vm);
	/* What else waited. */
	vm_request(vm, VM_REQUEST_EJECTED);
}

static void vm_on_halt_timer(void *opaque)
{
	vm_go_on_waiting(opaque);
}

int vm_build_waiting(struct vm *vm, struct err **err)
{
	vm->halt_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (vm->halt_timer < 0)
		return err_set(err, errno, "cannot create a timer: %s", strerror(errno));
	vm->halt_watch = loop_watch_new(vm->main, vm->halt_timer, vm_on_halt_timer, vm, err);
	return vm->halt_watch ? 0 : -EIO;
}

void vm_memory_stalls(struct vm *vm, bool stalled)
{
	vm->memory_stalled = stalled;
	vm_go_on_waiting(vm);
}

bool vm_reset_later(struct vm *vm, enum vm_cause cause)
{
	if (!vm->memory_arrives)
		return false;
	if (!vm->reset_waits) {
		vm->reset_waits = true;
		vm->reset_cause = cause;
		vm->reset_runs = vm->state == VM_RUNNING;
		if (vm_can_halt(vm))
			vm_halt(vm, VM_PAUSED);
	}
	return true;
}

void vm_memory_arrived(struct vm *vm)
{
	struct err *err = NULL;

	if (vm->memory_arrives)
		gm_discard_release(vm->gm);
	vm->memory_arrives = false;
	vm_lock_loaded(vm);
	vm_memory_stalls(vm, false);
	if (!vm->reset_waits || vm->ended)
		return;
	vm->reset_waits = false;
	if (vm_reset(vm, vm->reset_cause, &err)) {
		report_guest(vm->config, "the guest cannot be reset: %s", err_message(err));
		err_free(err);
	} else if (vm->reset_runs) {
		vm_run(vm);
	}
}

/* ---- the section ---- */

/* States that a machine can be found in; others are only on the way from one to another. */
static const enum vm_state vm_saved_states[] = {
	VM_PRELAUNCH, VM_RUNNING, VM_PAUSED, VM_SHUTDOWN, VM_GUEST_PANICKED, VM_INTERNAL_ERROR,
};

/* What is saved of vm.requests: these bits of the section, whatever the others are. */
static const struct {
	uint32_t saved;
	unsigned int request;
} vm_saved_requests[] = {
	{1 << 0, VM_REQUEST_RESET},        {1 << 1, VM_REQUEST_SHUTDOWN},
	{1 << 2, VM_REQUEST_PANICKED},     {1 << 3, VM_REQUEST_CRASH_LOADED},
	{1 << 4, VM_REQUEST_TRIPLE_FAULT}, {1 << 5, VM_REQUEST_VIOLATION_SHUTDOWN},
};
#define VM_SAVED_REQUESTS_MAX 0x3fu

int vm_save_run_state(struct vm *vm, const struct vm_part *part, struct pack *out, struct err **err)
{
	char name[VM_DEVICE_NAME_MAX];
	uint32_t requests = 0, nr = 0;

	(void)part;
	(void)err;
	for (size_t i = 0; i < ARRAY_SIZE(vm_saved_requests); i++)
		if (vm->requests & vm_saved_requests[i].request)
			requests |= vm_saved_requests[i].saved;
	pack_text(out, vm_state_name(vm->state_before));
	pack_u32(out, requests);
	for (size_t i = 0; i < vm->nr_devices; i++)
		nr += vm->devices[i]->unplug_requested;
	pack_u32(out, nr);
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->unplug_requested)
			pack_text(out, vm_device_name(vm, vm->devices[i], name));
	return 0;
}

static int vm_load_state_name(struct vm *vm, struct unpack *in, struct err **err)
{
	char name[32];

	unpack_text(in, name, sizeof(name));
	for (size_t i = 0; i < ARRAY_SIZE(vm_saved_states); i++) {
		if (strcmp(name, vm_state_name(vm_saved_states[i])))
			continue;
		vm->state_before = vm_saved_states[i];
		return 0;
	}
	return err_set(err, EINVAL, "there is no such state of a machine");
}

/* A device that the guest was asked for, and did not give up yet. */
static int vm_load_unplug(struct vm *vm, struct unpack *in, struct err **err)
{
	char name[VM_DEVICE_NAME_MAX], buf[VM_DEVICE_NAME_MAX];

	unpack_text(in, name, sizeof(name));
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *d = vm->devices[i];

		if (strcmp(name, vm_device_name(vm, d, buf)))
			continue;
		if (!d->transport || !cmdline_device_has_hotplug(vm->config, d->config))
			break;
		d->unplug_requested = true;
		return 0;
	}
	return err_set(err, EINVAL, "there is no such device that could go");
}

int vm_load_run_state(struct vm *vm, const struct vm_part *part, uint32_t version,
		      struct unpack *in, struct err **err)
{
	int ret = vm_load_state_name(vm, in, err);
	uint32_t requests, nr;

	(void)part;
	(void)version;
	requests = unpack_u32_max(in, VM_SAVED_REQUESTS_MAX);
	nr = unpack_u32_max(in, (uint32_t)vm->nr_devices);
	for (uint32_t i = 0; i < nr && !ret; i++)
		ret = vm_load_unplug(vm, in, err);
	for (size_t i = 0; i < ARRAY_SIZE(vm_saved_requests); i++)
		if (requests & vm_saved_requests[i].saved)
			atomic_fetch_or(&vm->requests, vm_saved_requests[i].request);
	return ret;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's run state around a migration: see vm_migrate.h for the contract. */
#include "vmm/vm/vm_migrate.h"

#include <errno.h>

#include "base/err.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm_internal.h"

int vm_check_here(const struct vm *vm, struct err **err)
{
	if (vm->handed_over)
		return err_set(err, EPERM,
			       "the guest was handed over to another process, and goes on there");
	if (vm->state == VM_INMIGRATE)
		return err_set(err, EBUSY, "the machine waits for its state (-incoming)");
	if (vm->state == VM_FINISH_MIGRATE)
		return err_set(err, EBUSY,
			       "the machine's state is being taken by a migration; wait until that "
			       "is over, or cancel it");
	return 0;
}

int vm_check_resize(const struct vm *vm, struct err **err)
{
	return vm_check_here(vm, err);
}

int vm_check_settled(const struct vm *vm, const char *what, struct err **err)
{
	int ret = vm_check_here(vm, err);

	if (!ret && vm->migrating)
		ret = err_set(err, EBUSY,
			      "a migration is under way; devices come and go when it is over");
	if (ret)
		err_prefix(err, "%s", what);
	return ret;
}

void vm_migrate_choose(struct vm *vm, bool run)
{
	if (vm->state == VM_INMIGRATE)
		vm->run_loaded = run;
	/* Somebody stopped it meanwhile, though that could not be seen. */
	if (vm->state == VM_FINISH_MIGRATE && !run && vm->state_before == VM_RUNNING)
		vm->state_before = VM_PAUSED;
}

int vm_migration_begin(struct vm *vm, struct err **err)
{
	int ret = vm->ended ? err_set(err, ESHUTDOWN, "the machine has ended") : 0;

	if (!ret)
		ret = vm_check_here(vm, err);
	if (ret)
		return ret;
	vm->migrating = true;
	return 0;
}

/* The guest may have stopped for a reason of its own that nobody has looked at yet: that state. */
static enum vm_state vm_take_stops(struct vm *vm)
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
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that uses memory which is not plugged: what becomes of its vCPU, and what is told.
 *
 * An access that leaves the guest is answered by the device, which then calls vm_mem_violation(). An
 * access to a closed block of a slot that is there cannot leave the guest: KVM fails, and
 * vm_vcpu_memory_fault() has the slots laid anew, so that the access, done again, leaves the guest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/hv.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm_internal.h"

/* ---- on vCPUs' threads ---- */

void vm_mem_violation(void *opaque, struct virtio_mem *mem)
{
	struct vm_mem *m = opaque;
	struct vm *vm = m->vm;
	bool wake = violations_note(&m->violations);

	(void)mem;
	switch (m->action) {
	case VM_VIOLATION_DENY:
		if (wake)
			vm_request(vm, VM_REQUEST_VIOLATION);
		break;
	case VM_VIOLATION_PAUSE:
		vm->hv->ops->vcpu_hold(vm->hv);
		vm_request(vm, VM_REQUEST_VIOLATION | VM_REQUEST_VIOLATION_PAUSE);
		break;
	case VM_VIOLATION_SHUTDOWN:
		vm->hv->ops->vcpu_hold(vm->hv);
		vm_request(vm, VM_REQUEST_VIOLATION | VM_REQUEST_VIOLATION_SHUTDOWN);
		break;
	}
}

/* There are no more memory slots to keep the guest from what it does not have: it has to stop. */
static void vm_scattered(struct vm *vm, unsigned int index, const struct vm_mem *m)
{
	struct vmem_guard_info info;

	vm->hv->ops->vcpu_hold(vm->hv);
	if (atomic_exchange(&vm->failure_noted, true))
		return;
	virtio_mem_guard_info(m->device->mem, &info);
	snprintf(vm->failure, sizeof(vm->failure),
		 "memory device '%s': vCPU %u touched memory that is not plugged, and what is "
		 "plugged is too scattered to be memory slots of their own (%" PRIu32
		 " are in use); a larger block-size or a smaller memslot-size helps",
		 m->name, index, info.memslots);
	vm_request(vm, VM_REQUEST_SCATTERED);
}

/* The host has no memory for an open block, or for boot memory. */
static void vm_explain_fault(uint64_t gpa, char *why, size_t why_size)
{
	char where[48] = "";

	if (gpa != UINT64_MAX)
		snprintf(where, sizeof(where), " behind guest address 0x%" PRIx64, gpa);
	snprintf(
		why, why_size,
		"the host cannot give the memory%s that the guest is entitled to; its pool of huge "
		"pages may be empty, the memory's file too short or full, or a limit reached",
		where);
}

/*
 * When no slot had to be laid anew, either a block was plugged since the vCPU failed, and the
 * instruction works now, or the fault is none of ours. The former goes with a change of blocks: of
 * two faults between which nothing changed the second is of the latter kind.
 */
bool vm_vcpu_memory_fault(void *opaque, unsigned int index, uint64_t gpa, uint64_t size, char *why,
			  size_t why_size)
{
	struct vm *vm = opaque;
	struct vm_fault *fault = &vm->faults[index], before = *fault;
	const struct vm_mem *failed = NULL;
	int laid_anew = 0, error = 0;

	*fault = (struct vm_fault){.any = true};
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *d = vm->devices[i];
		uint64_t changes;
		int ret;

		if (!d->mem)
			continue;
		ret = virtio_mem_refine(d->mem, gpa, size, &changes);
		fault->changes += changes;
		if (ret >= 0) {
			laid_anew += ret;
		} else {
			error = ret;
			failed = d->guest;
		}
	}
	if (laid_anew) {
		fault->any = false;
		return true;
	}
	if (error == -ENOSPC) {
		vm_scattered(vm, index, failed);
		return true;
	}
	if (error) {
		snprintf(why, why_size, "memory device '%s': its memory slots %s: %s", failed->name,
			 error == -ENOTRECOVERABLE ? "are lost" : "cannot be laid anew",
			 strerror(-error));
		return false;
	}
	if (!before.any || before.changes != fault->changes)
		return true;
	vm_explain_fault(gpa, why, why_size);
	return false;
}

/* ---- on the main thread ---- */

static void vm_report_violation(const struct vm *vm, const struct vm_violation *v)
{
	static const char *const outcomes[] = {
		[VM_VIOLATION_DENY] = "",
		[VM_VIOLATION_PAUSE] = ": the machine is paused (on-violation=pause)",
		[VM_VIOLATION_SHUTDOWN] = ": the machine is shut down (on-violation=shutdown)",
	};
	uint64_t more = v->writes + v->reads - 1;
	char who[32] = "", count[64] = "", details[112] = "";

	if (v->vcpu >= 0)
		snprintf(who, sizeof(who), "vCPU %d", v->vcpu);
	if (more)
		snprintf(count, sizeof(count), "%s%" PRIu64 " more since the last such line",
			 *who ? "; " : "", more);
	if (*who || *count)
		snprintf(details, sizeof(details), " (%s%s)", who, count);
	report_guest(vm->config,
		     "memory device '%s': the guest %s %u byte%s at 0x%" PRIx64
		     ", which is not plugged%s%s",
		     v->name, v->write ? "wrote" : "read", v->size, v->size == 1 ? "" : "s", v->gpa,
		     details, outcomes[v->action]);
}

static void vm_tell_violation(struct vm *vm, struct vm_mem *m, uint64_t now_ms)
{
	struct virtio_mem_violations counts;
	struct vm_violation v = {.device = m->device, .name = m->name, .action = m->action};

	violations_begin(&m->violations);
	virtio_mem_violations(m->device->mem, &counts);
	if (!violations_end(&m->violations, now_ms, counts.writes, counts.reads, &v.writes,
			    &v.reads))
		return;
	v.gpa = counts.last.gpa;
	v.size = counts.last.size;
	v.write = counts.last.write;
	v.vcpu = counts.last.vcpu;
	vm_report_violation(vm, &v);
	vm_emit(vm, &(struct vm_event){.type = VM_EVENT_VIOLATION,
				       .id = m->device->id,
				       .violation = &v,
				       .memory_device = m->device});
}

/* Look again in @ms; never: UINT64_MAX. */
static void vm_violation_timer_set(struct vm *vm, uint64_t ms)
{
	struct itimerspec when = {.it_value = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000}};

	if (ms != UINT64_MAX)
		timerfd_settime(vm->violation_timer, 0, &when, NULL);
}

void vm_tell_violations(struct vm *vm, bool all)
{
	uint64_t wait_ms = UINT64_MAX, now_ms;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_mem *m = vm->devices[i]->guest;
		uint64_t ms = m ? violations_wait_ms(&m->violations, now_ms) : UINT64_MAX;

		if (ms == UINT64_MAX)
			continue;
		/* A machine that stops for it says so at once: the guest does no more meanwhile. */
		if (!ms || all || m->action != VM_VIOLATION_DENY)
			vm_tell_violation(vm, m, now_ms);
		else
			wait_ms = num_min(wait_ms, ms);
	}
	vm_violation_timer_set(vm, wait_ms);
}

static void vm_violation_timer_fired(void *opaque)
{
	vm_tell_violations(opaque, false);
}

int vm_build_violations(struct vm *vm, struct err **err)
{
	vm->violation_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (vm->violation_timer < 0)
		return err_set(err, errno, "cannot create a timer: %s", strerror(errno));
	vm->violation_watch =
		loop_watch_new(vm->main, vm->violation_timer, vm_violation_timer_fired, vm, err);
	return vm->violation_watch ? 0 : -EIO;
}

/* Closing -1 is harmless. */
void vm_free_violations(struct vm *vm)
{
	loop_watch_free(vm->violation_watch);
	close(vm->violation_timer);
}

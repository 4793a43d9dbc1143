/* SPDX-License-Identifier: BSD-3-Clause */
/* What a machine tells of itself: see vm.h, enum vm_event_type. */
#include "base/num.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/vm_internal.h"

const char *vm_cause_name(enum vm_cause cause)
{
	static const char *const names[] = {
		[VM_CAUSE_HOST_ERROR] = "host-error",
		[VM_CAUSE_HOST_QMP_QUIT] = "host-qmp-quit",
		[VM_CAUSE_HOST_QMP_SYSTEM_RESET] = "host-qmp-system-reset",
		[VM_CAUSE_HOST_SIGNAL] = "host-signal",
		[VM_CAUSE_HOST_UI] = "host-ui",
		[VM_CAUSE_GUEST_SHUTDOWN] = "guest-shutdown",
		[VM_CAUSE_GUEST_RESET] = "guest-reset",
		[VM_CAUSE_GUEST_PANIC] = "guest-panic",
	};

	return names[cause];
}

bool vm_cause_is_guest(enum vm_cause cause)
{
	return cause >= VM_CAUSE_GUEST_SHUTDOWN;
}

void vm_set_event_hook(struct vm *vm, void (*fn)(void *opaque, const struct vm_event *event),
		       void *opaque)
{
	vm->event_hook = fn;
	vm->event_opaque = opaque;
}

void vm_emit(struct vm *vm, const struct vm_event *event)
{
	if (vm->event_hook)
		vm->event_hook(vm->event_opaque, event);
}

void vm_emit_plain(struct vm *vm, enum vm_event_type type)
{
	vm_emit(vm, &(struct vm_event){.type = type});
}

void vm_emit_cause(struct vm *vm, enum vm_event_type type, enum vm_cause cause)
{
	vm_emit(vm, &(struct vm_event){.type = type, .cause = cause});
}

void vm_mem_changed(void *opaque, struct virtio_mem *mem)
{
	struct vm_mem *m = opaque;

	(void)mem;
	/* However often it changes before the main thread looks, it is woken once. */
	if (!atomic_exchange(&m->changed, true))
		vm_request(m->vm, VM_REQUEST_MEMORY);
}

static void vm_tell_change(struct vm *vm, struct vm_mem *m)
{
	struct vm_event event = {
		.type = VM_EVENT_MEMORY_DEVICE,
		.id = m->device->id,
		.memory_device = m->device,
	};
	/* Before what it asked for, so that a size is not taken for a later one's arrival. */
	uint64_t asks = virtio_mem_asks(m->device->mem);
	struct virtio_mem_size_stats size;
	struct vmem_device_info info;

	virtio_mem_size_stats(m->device->mem, &size);
	if (size.total != m->told_requests)
		event.size_requests = &size;
	m->told_requests = size.total;
	virtio_mem_info(m->device->mem, &info);
	event.plugged_bytes = info.plugged_size;
	event.resized = info.plugged_size != m->told_bytes;
	m->told_bytes = info.plugged_size;
	event.arrived = asks != m->arrived_asks && info.plugged_size == info.requested_size;
	if (event.arrived)
		m->arrived_asks = asks;
	vm_emit(vm, &event);
}

void vm_tell_changes(struct vm *vm)
{
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_mem *m = vm->devices[i]->guest;

		if (m && atomic_exchange(&m->changed, false))
			vm_tell_change(vm, m);
	}
}

void vm_balloon_changed(void *opaque, struct balloon *balloon)
{
	struct vm_device *d = opaque;

	(void)balloon;
	if (!atomic_exchange(&d->balloon_changed, true))
		vm_request(d->vm, VM_REQUEST_BALLOON);
}

void vm_tell_balloon(struct vm *vm)
{
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *d = vm->devices[i];
		struct balloon_info info;

		if (!d->balloon || !atomic_exchange(&d->balloon_changed, false))
			continue;
		balloon_info(d->balloon, &info);
		if (info.actual_bytes == d->balloon_told_bytes)
			continue;
		d->balloon_told_bytes = info.actual_bytes;
		vm_emit(vm, &(struct vm_event){.type = VM_EVENT_BALLOON,
					       .id = d->config->id,
					       .actual_bytes = info.actual_bytes});
	}
}

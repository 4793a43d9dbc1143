/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a machine makes of violations and memory faults, on memory devices and a hypervisor that do as
 * the test says: who is held, what is asked of the main thread, what is told, which faults end a
 * vCPU.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cmocka.h>
#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/hv.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm_internal.h"

struct virtio_mem {
	int refined; /* what the next virtio_mem_refine() says */
	uint64_t changes;
	uint64_t gpa, size; /* what it was asked */
	struct virtio_mem_violations violations;
	uint32_t memslots;
};

struct world {
	struct vm vm;
	struct vm_config config;
	struct vm_device devices[3], *device_list[3];
	struct vm_mem guests[2];
	struct virtio_mem mems[2];
	struct hv hv;
	unsigned int holds, requests; /* calls of vm_request() */
	unsigned int bits;            /* of them */
	unsigned int lines, events;
	char line[512];
	struct vm_violation event;
};

static struct world *world;

/* ---- what the code under test calls ---- */

int virtio_mem_refine(struct virtio_mem *mem, uint64_t gpa, uint64_t size, uint64_t *ret_changes)
{
	mem->gpa = gpa;
	mem->size = size;
	*ret_changes = mem->changes;
	return mem->refined;
}

void virtio_mem_violations(const struct virtio_mem *mem, struct virtio_mem_violations *ret)
{
	*ret = mem->violations;
}

void virtio_mem_guard_info(const struct virtio_mem *mem, struct vmem_guard_info *ret_info)
{
	*ret_info = (struct vmem_guard_info){.mechanism = "test", .memslots = mem->memslots};
}

void virtio_mem_size_stats(struct virtio_mem *mem, struct virtio_mem_size_stats *ret)
{
	(void)mem;
	*ret = (struct virtio_mem_size_stats){.on = false};
}

uint64_t virtio_mem_asks(const struct virtio_mem *mem)
{
	(void)mem;
	return 0;
}

void virtio_mem_info(const struct virtio_mem *mem, struct vmem_device_info *ret_info)
{
	(void)mem;
	*ret_info = (struct vmem_device_info){.plugged_size = 0};
}

/* There is none here. */
void balloon_info(const struct balloon *balloon, struct balloon_info *ret_info)
{
	(void)balloon;
	*ret_info = (struct balloon_info){.actual_bytes = 0};
}

void vm_request(struct vm *vm, unsigned int bits)
{
	assert_ptr_equal(vm, &world->vm);
	world->requests++;
	world->bits |= bits;
}

bool report_guest(const struct vm_config *config, const char *fmt, ...)
{
	va_list ap;

	assert_ptr_equal(config, &world->config);
	va_start(ap, fmt);
	vsnprintf(world->line, sizeof(world->line), fmt, ap);
	va_end(ap);
	world->lines++;
	return true;
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, void (*fn)(void *opaque), void *opaque,
				  struct err **err)
{
	(void)loop;
	(void)fd;
	(void)fn;
	(void)err;
	return opaque;
}

void loop_watch_free(struct loop_watch *watch)
{
	(void)watch;
}

static void hold(struct hv *hv)
{
	assert_ptr_equal(hv, &world->hv);
	world->holds++;
}

static const struct hv_ops hv_ops = {.vcpu_hold = hold};

static void hooked(void *opaque, const struct vm_event *event)
{
	assert_ptr_equal(opaque, &world->events);
	assert_int_equal(event->type, VM_EVENT_VIOLATION);
	assert_ptr_equal(event->memory_device, event->violation->device);
	world->event = *event->violation;
	world->events++;
}

/* ---- life ---- */

/* Two memory devices, with one of another kind between them. */
static int setup(void **state)
{
	static struct world w;

	w = (struct world){.hv.ops = &hv_ops};
	world = &w;
	w.vm.config = &w.config;
	w.vm.hv = &w.hv;
	w.vm.devices = w.device_list;
	w.vm.nr_devices = 3;
	for (unsigned int i = 0; i < 3; i++)
		w.device_list[i] = &w.devices[i];
	for (unsigned int i = 0; i < 2; i++) {
		w.devices[2 * i].memory.mem = w.devices[2 * i].mem = &w.mems[i];
		w.devices[2 * i].guest = &w.guests[i];
		w.guests[i] = (struct vm_mem){
			.vm = &w.vm,
			.device = &w.devices[2 * i].memory,
			.name = i ? "reg1" : "reg0",
		};
	}
	*state = &w;
	return vm_build_violations(&w.vm, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;

	vm_free_violations(&w->vm);
	return 0;
}

static bool fault(struct world *w, unsigned int vcpu, uint64_t gpa, char why[256])
{
	*why = '\0';
	return vm_vcpu_memory_fault(&w->vm, vcpu, gpa, 8, why, 256);
}

/* ---- memory faults ---- */

static void test_slots_laid_anew(void **state)
{
	struct world *w = *state;
	char why[256];

	w->mems[1].refined = 1;
	for (unsigned int i = 0; i < 100; i++)
		assert_true(fault(w, 0, 0x140000000, why));
	/* All are asked, for just that. */
	assert_int_equal(w->mems[0].gpa, 0x140000000);
	assert_int_equal(w->mems[0].size, 8);
	assert_int_equal(w->mems[1].gpa, 0x140000000);
	/* What one cannot do matters only when no other did something. */
	w->mems[0].refined = -EIO;
	assert_true(fault(w, 0, UINT64_MAX, why));
	assert_int_equal(w->holds + w->requests, 0);
}

/* Something was plugged or unplugged between two faults: each may be a race. */
static void test_races_are_tried_again(void **state)
{
	struct world *w = *state;
	char why[256];

	for (unsigned int i = 0; i < 1000; i++) {
		w->mems[i % 2].changes++;
		assert_true(fault(w, 0, UINT64_MAX, why));
	}
	/* Each vCPU counts for itself. */
	assert_true(fault(w, 1, UINT64_MAX, why));
	assert_true(fault(w, 63, UINT64_MAX, why));
	/* One that another vCPU's fault got done. */
	w->mems[0].refined = 1;
	assert_true(fault(w, 1, UINT64_MAX, why));
	w->mems[0].refined = 0;
	assert_true(fault(w, 1, UINT64_MAX, why));
	assert_false(fault(w, 1, UINT64_MAX, why));
}

static void test_host_without_memory(void **state)
{
	struct world *w = *state;
	char why[256];

	w->mems[0].changes = 7;
	assert_true(fault(w, 2, UINT64_MAX, why));
	assert_false(fault(w, 2, UINT64_MAX, why));
	assert_string_equal(why,
			    "the host cannot give the memory that the guest is entitled to; its "
			    "pool of huge pages may be empty, the memory's file too short or full, "
			    "or a limit reached");
	/* As long as nothing changes. */
	assert_false(fault(w, 2, 0x12345000, why));
	assert_non_null(strstr(why, "the memory behind guest address 0x12345000 that the guest"));
	w->mems[1].changes++;
	assert_true(fault(w, 2, UINT64_MAX, why));
	assert_false(fault(w, 2, UINT64_MAX, why));
	/* Without any memory device. */
	w->vm.nr_devices = 0;
	assert_true(fault(w, 5, UINT64_MAX, why));
	assert_false(fault(w, 5, UINT64_MAX, why));
	assert_int_equal(w->holds + w->requests, 0);
}

static void test_slots_cannot_be_laid(void **state)
{
	struct world *w = *state;
	char why[256];

	w->mems[1].refined = -ENOMEM;
	assert_false(fault(w, 0, UINT64_MAX, why));
	assert_string_equal(why, "memory device 'reg1': its memory slots cannot be laid anew: "
				 "Cannot allocate memory");
	w->mems[1].refined = -ENOTRECOVERABLE;
	assert_false(fault(w, 0, UINT64_MAX, why));
	assert_non_null(strstr(why, "memory device 'reg1': its memory slots are lost: "));
	assert_int_equal(w->holds + w->requests, 0);
}

/* Too many pieces: that is the guest's doing, and it waits for somebody to look. */
static void test_scattered(void **state)
{
	struct world *w = *state;
	char why[256];

	w->mems[0].refined = -ENOSPC;
	w->mems[0].memslots = 77;
	assert_true(fault(w, 3, UINT64_MAX, why));
	assert_int_equal(w->holds, 1);
	assert_int_equal(w->bits, VM_REQUEST_SCATTERED);
	assert_non_null(strstr(w->vm.failure, "memory device 'reg0': vCPU 3 touched memory"));
	assert_non_null(strstr(w->vm.failure, "(77 are in use)"));
	assert_null(strchr(w->vm.failure, '\n'));
	assert_true(strlen(w->vm.failure) < sizeof(w->vm.failure) - 1);
	/* Others that come meanwhile wait as well; the main thread reads the text. */
	assert_true(fault(w, 1, UINT64_MAX, why));
	assert_int_equal(w->holds, 2);
	assert_int_equal(w->requests, 1);
	assert_non_null(strstr(w->vm.failure, "vCPU 3"));
}

/* ---- violations ---- */

static void test_deny(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < 100; i++)
		vm_mem_violation(&w->guests[0], &w->mems[0]);
	assert_int_equal(w->requests, 1);
	assert_int_equal(w->bits, VM_REQUEST_VIOLATION);
	vm_mem_violation(&w->guests[1], &w->mems[1]);
	assert_int_equal(w->requests, 2);
	assert_int_equal(w->holds, 0);
}

static void test_stops(void **state)
{
	struct world *w = *state;

	w->guests[0].action = VM_VIOLATION_PAUSE;
	vm_mem_violation(&w->guests[0], &w->mems[0]);
	assert_int_equal(w->holds, 1);
	assert_int_equal(w->bits, VM_REQUEST_VIOLATION | VM_REQUEST_VIOLATION_PAUSE);
	/* Each time: the main thread may be about to let the machine go on. */
	vm_mem_violation(&w->guests[0], &w->mems[0]);
	assert_int_equal(w->holds, 2);
	assert_int_equal(w->requests, 2);
	w->bits = 0;
	w->guests[1].action = VM_VIOLATION_SHUTDOWN;
	vm_mem_violation(&w->guests[1], &w->mems[1]);
	assert_int_equal(w->holds, 3);
	assert_int_equal(w->bits, VM_REQUEST_VIOLATION | VM_REQUEST_VIOLATION_SHUTDOWN);
}

static void violate(struct world *w, unsigned int i, bool write, int vcpu)
{
	struct virtio_mem_violations *v = &w->mems[i].violations;

	v->last = (struct virtio_mem_violation){0x140200000 + i, write ? 8 : 1, write, vcpu};
	if (write)
		v->writes++;
	else
		v->reads++;
	vm_mem_violation(&w->guests[i], &w->mems[i]);
}

static bool timer_is_set(const struct world *w)
{
	struct itimerspec when;

	assert_int_equal(timerfd_gettime(w->vm.violation_timer, &when), 0);
	return when.it_value.tv_sec || when.it_value.tv_nsec;
}

static void test_told(void **state)
{
	struct world *w = *state;

	vm_set_event_hook(&w->vm, hooked, &w->events);
	vm_tell_violations(&w->vm, true);
	assert_int_equal(w->lines + w->events, 0);
	violate(w, 0, true, 1);
	vm_tell_violations(&w->vm, false);
	assert_string_equal(w->line, "memory device 'reg0': the guest wrote 8 bytes at "
				     "0x140200000, which is not plugged (vCPU 1)");
	assert_int_equal(w->events, 1);
	assert_ptr_equal(w->event.device, &w->devices[0].memory);
	assert_string_equal(w->event.name, "reg0");
	assert_int_equal(w->event.gpa, 0x140200000);
	assert_int_equal(w->event.size, 8);
	assert_true(w->event.write);
	assert_int_equal(w->event.vcpu, 1);
	assert_int_equal(w->event.writes, 1);
	assert_int_equal(w->event.reads, 0);
	assert_int_equal(w->event.action, VM_VIOLATION_DENY);
	assert_false(timer_is_set(w));
	/* Another device has a second of its own. */
	violate(w, 1, false, -1);
	vm_tell_violations(&w->vm, false);
	assert_string_equal(w->line, "memory device 'reg1': the guest read 1 byte at "
				     "0x140200001, which is not plugged");
	/* More of the first: later, in one line. */
	violate(w, 0, true, 1);
	violate(w, 0, true, 2);
	violate(w, 0, false, 0);
	vm_tell_violations(&w->vm, false);
	assert_int_equal(w->lines, 2);
	assert_true(timer_is_set(w));
	vm_tell_violations(&w->vm, true);
	assert_string_equal(w->line, "memory device 'reg0': the guest read 1 byte at "
				     "0x140200000, which is not plugged (vCPU 0; 2 more since the "
				     "last such line)");
	assert_int_equal(w->event.writes, 2);
	assert_int_equal(w->event.reads, 1);
	assert_int_equal(w->lines, 3);
	vm_tell_violations(&w->vm, true);
	assert_int_equal(w->lines, 3);
	vm_set_event_hook(&w->vm, NULL, NULL);
	violate(w, 0, true, -1);
	violate(w, 0, true, -1);
	vm_tell_violations(&w->vm, true);
	assert_string_equal(w->line, "memory device 'reg0': the guest wrote 8 bytes at "
				     "0x140200000, which is not plugged (1 more since the last "
				     "such line)");
	assert_int_equal(w->events, 3);
}

/* A stop is told when it takes place, however short the time since the last one. */
static void test_stops_are_told_at_once(void **state)
{
	struct world *w = *state;

	w->guests[0].action = VM_VIOLATION_PAUSE;
	w->guests[1].action = VM_VIOLATION_SHUTDOWN;
	for (unsigned int i = 1; i <= 3; i++) {
		violate(w, 0, true, 0);
		vm_tell_violations(&w->vm, false);
		assert_int_equal(w->lines, i);
		assert_non_null(strstr(w->line, "(vCPU 0): the machine is paused "
						"(on-violation=pause)"));
	}
	violate(w, 1, true, 0);
	vm_tell_violations(&w->vm, false);
	assert_non_null(strstr(w->line, ": the machine is shut down (on-violation=shutdown)"));
	assert_false(timer_is_set(w));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_laid_anew),
		TEST(test_races_are_tried_again),
		TEST(test_host_without_memory),
		TEST(test_slots_cannot_be_laid),
		TEST(test_scattered),
		TEST(test_deny),
		TEST(test_stops),
		TEST(test_told),
		TEST(test_stops_are_told_at_once),
	};

	return cmocka_run_group_tests_name("vm violations", tests, NULL, NULL);
}

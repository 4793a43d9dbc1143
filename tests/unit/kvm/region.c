/* SPDX-License-Identifier: BSD-3-Clause */
/* A memory device's region in the small virtual machine: see region.h. */
#include "tests/unit/kvm/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

bool region_is_whole(const struct region *r)
{
	return r->nr_slots == 1;
}

int region_lay(struct region *r, bool whole)
{
	struct hv_slot fresh[REGION_RUNS];
	size_t nr_fresh = whole ? 1 : REGION_RUNS;
	int ret;

	for (size_t i = 0; i < nr_fresh; i++)
		fresh[i] = (struct hv_slot){
			.gpa = {GUEST_REMOTE + 2 * i * PAGE, whole ? REGION_SIZE : PAGE},
			.host = r->memory + 2 * i * PAGE,
		};
	ret = r->m.hv->ops->slots_replace(r->m.hv, r->slots, r->nr_slots, fresh, nr_fresh);
	if (ret)
		return ret;
	for (size_t i = 0; i < nr_fresh; i++)
		r->slots[i] = fresh[i].slot;
	r->nr_slots = nr_fresh;
	r->replaced++;
	return 0;
}

/* On a vCPU's thread. */
static void region_touched(struct region *r, uint64_t offset)
{
	if (offset / PAGE % 2 == 0)
		atomic_fetch_add(&r->open_exits, 1);
	if (!r->relay_in_handlers)
		return;
	if (r->m.hv->ops->vcpu_current(r->m.hv) != (int)(offset / (4 * PAGE)))
		atomic_fetch_add(&r->failed, 1);
	pthread_mutex_lock(&r->lock);
	if (region_lay(r, !region_is_whole(r)))
		atomic_fetch_add(&r->failed, 1);
	atomic_fetch_add(&r->handler_replaced, 1);
	pthread_mutex_unlock(&r->lock);
}

static void region_note(struct region *r, const struct access *a)
{
	unsigned int n = atomic_fetch_add(&r->seen.n, 1);

	if (n < ACCESSES_MAX)
		r->seen.access[n] = *a;
	region_touched(r, a->offset);
}

static uint64_t region_read(void *opaque, uint64_t offset, unsigned int size)
{
	region_note(opaque, &(struct access){.offset = offset, .size = size});
	return 0;
}

static void region_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	region_note(opaque, &(struct access){true, offset, value, size});
}

static const struct bus_ops region_ops = {.read = region_read, .write = region_write};

/* As a monitor does: what is closed shall leave the guest. */
static bool region_fault(struct machine *m, unsigned int index, uint64_t gpa, uint64_t size,
			 char *why, size_t why_size)
{
	struct region *r = m->fault_opaque;
	bool again;

	(void)index;
	(void)size;
	atomic_fetch_add(&r->faults, 1);
	pthread_mutex_lock(&r->lock);
	r->fault_gpa = gpa;
	again = !region_is_whole(r) || !region_lay(r, false);
	pthread_mutex_unlock(&r->lock);
	snprintf(why, why_size, "the region cannot be laid anew");
	return again;
}

void region_init(struct region *r, unsigned int nr_vcpus)
{
	const struct range gpa = {GUEST_REMOTE, REGION_SIZE};

	memset(r, 0, sizeof(*r));
	machine_init_faults(&r->m, nr_vcpus, region_fault, r);
	pthread_mutex_init(&r->lock, NULL);
	r->memory =
		mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(r->memory != MAP_FAILED);
	r->bus = (struct bus_region){
		.name = "region", .range = gpa, .ops = &region_ops, .opaque = r};
	bus_add(r->m.mmio, &r->bus);
	assert_int_equal(r->m.hv->ops->slot_add(r->m.hv, gpa, r->memory, false, &r->slots[0]), 0);
	r->nr_slots = 1;
}

void region_done(struct region *r)
{
	vcpus_free(r->m.vcpus);
	r->m.vcpus = NULL;
	bus_remove(r->m.mmio, &r->bus);
	machine_done(&r->m);
	munmap(r->memory, REGION_SIZE);
	pthread_mutex_destroy(&r->lock);
}

void region_check(struct region *r)
{
	assert_int_equal(atomic_load(&r->open_exits), 0);
	assert_int_equal(atomic_load(&r->failed), 0);
	if (atomic_load(&r->m.failures))
		fail_msg("vCPU %u: %s", r->m.failed_vcpu, r->m.why);
}

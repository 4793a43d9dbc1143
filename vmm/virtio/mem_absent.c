/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that is not in the guest: see mem_absent.h for the contract. */
#include "vmm/virtio/mem_absent.h"

#include <assert.h>

#include "vmm/core/hv.h"

/* A violation in a word: the offset, log2 of the size, write, and the vCPU's index plus 1. */
#define LAST_SIZE_SHIFT  52
#define LAST_WRITE_SHIFT 54
#define LAST_VCPU_SHIFT  55
#define LAST_VCPU_MAX    511

static uint64_t mem_absent_pack(uint64_t offset, unsigned int size, bool write, int vcpu)
{
	uint64_t index = vcpu >= 0 && vcpu < LAST_VCPU_MAX ? (uint64_t)vcpu + 1 : 0;

	return offset | (uint64_t)__builtin_ctz(size) << LAST_SIZE_SHIFT |
	       (uint64_t)write << LAST_WRITE_SHIFT | index << LAST_VCPU_SHIFT;
}

static struct virtio_mem_violation mem_absent_unpack(const struct mem_absent *a, uint64_t last)
{
	return (struct virtio_mem_violation){
		.gpa = a->region.range.start + (last & (MEM_ABSENT_BYTES_MAX - 1)),
		.size = 1u << (last >> LAST_SIZE_SHIFT & 3),
		.write = last >> LAST_WRITE_SHIFT & 1,
		.vcpu = (int)(last >> LAST_VCPU_SHIFT) - 1,
	};
}

/* The last one first: whoever sees a count above 0 sees a violation. */
static void mem_absent_note(struct mem_absent *a, uint64_t offset, unsigned int size, bool write)
{
	a->last = mem_absent_pack(offset, size, write, a->hv->ops->vcpu_current(a->hv));
	if (write)
		a->writes++;
	else
		a->reads++;
	a->seen(a->opaque);
}

static uint64_t mem_absent_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct mem_absent *a = opaque;

	if (a->count_reads)
		mem_absent_note(a, offset, size, false);
	return 0;
}

static void mem_absent_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)value;
	mem_absent_note(opaque, offset, size, true);
}

static const struct bus_ops mem_absent_ops = {
	.read = mem_absent_read,
	.write = mem_absent_write,
};

void mem_absent_init(struct mem_absent *absent, struct range gpa, struct hv *hv,
		     void (*seen)(void *opaque), void *opaque)
{
	assert(gpa.size <= MEM_ABSENT_BYTES_MAX);
	absent->region = (struct bus_region){
		.name = "virtio-mem",
		.range = gpa,
		.ops = &mem_absent_ops,
		.opaque = absent,
	};
	absent->hv = hv;
	absent->seen = seen;
	absent->opaque = opaque;
}

void mem_absent_count_reads(struct mem_absent *absent, bool on)
{
	absent->count_reads = on;
}

void mem_absent_get(const struct mem_absent *absent, struct virtio_mem_violations *ret)
{
	ret->writes = absent->writes;
	ret->reads = absent->reads;
	ret->last = mem_absent_unpack(absent, absent->last);
}

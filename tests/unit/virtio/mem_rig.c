/* SPDX-License-Identifier: BSD-3-Clause */
/* The virtio-mem device of the tests: see mem_rig.h. */
#include "tests/unit/virtio/mem_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "tests/unit/virtio/start.h"
#include "vmm/core/bus.h"
#include "vmm/core/loop.h"

#define PAGE 4096

_Thread_local int rig_vcpu = -1;

/* ---- the hypervisor ---- */

static int rig_slot_add(struct hv *hv, struct range gpa, void *host, bool readonly,
			uint32_t *ret_slot)
{
	struct rig *r = container_of(hv, struct rig, hv);
	struct range region = {RIG_ADDR, r->config.device.region_size};

	if (r->on_add)
		r->on_add(r);
	if (r->add_error)
		return r->add_error;
	assert_false(readonly);
	assert_true(range_contains(region, gpa));
	assert_ptr_equal(host, r->memory + (gpa.start - RIG_ADDR));
	for (uint32_t i = 0; i < RIG_BLOCKS; i++)
		assert_false(range_overlaps(r->slots[i], gpa));
	/* mem.h, I1: not yet within reach of emulated devices. */
	for (uint64_t at = gpa.start; at < range_end(gpa); at += RIG_BLOCK)
		r->order_broken |= gm_valid(r->g.gm, at, 1);
	for (uint32_t i = 0; i < RIG_BLOCKS; i++) {
		if (r->slots[i].size)
			continue;
		r->slots[i] = gpa;
		r->adds++;
		*ret_slot = i;
		return 0;
	}
	fail();
	return -ENOSPC;
}

static int rig_slot_remove(struct hv *hv, uint32_t slot)
{
	struct rig *r = container_of(hv, struct rig, hv);

	if (r->remove_error)
		return r->remove_error;
	assert_true(slot < RIG_BLOCKS && r->slots[slot].size);
	/* mem.h, I1: out of reach of emulated devices already. */
	for (uint64_t at = 0; at < r->slots[slot].size; at += RIG_BLOCK)
		r->order_broken |= gm_valid(r->g.gm, r->slots[slot].start + at, 1);
	r->slots[slot].size = 0;
	r->removes++;
	return 0;
}

static int rig_slots_replace(struct hv *hv, const uint32_t *old, size_t nr_old,
			     struct hv_slot *fresh, size_t nr_fresh)
{
	struct rig *r = container_of(hv, struct rig, hv);

	r->replaces++;
	if (r->replace_error)
		return r->replace_error;
	for (size_t i = 0; i < nr_old; i++) {
		assert_true(old[i] < RIG_BLOCKS && r->slots[old[i]].size);
		r->slots[old[i]].size = 0;
	}
	for (size_t i = 0; i < nr_fresh; i++) {
		uint32_t slot = 0;

		assert_ptr_equal(fresh[i].host, r->memory + (fresh[i].gpa.start - RIG_ADDR));
		while (slot < RIG_BLOCKS && r->slots[slot].size)
			assert_false(range_overlaps(r->slots[slot++], fresh[i].gpa));
		assert_true(slot < RIG_BLOCKS);
		r->slots[slot] = fresh[i].gpa;
		fresh[i].slot = slot;
	}
	return 0;
}

static int rig_vcpu_current(struct hv *hv)
{
	(void)hv;
	return rig_vcpu;
}

static const struct hv_ops rig_hv_ops = {
	.slot_add = rig_slot_add,
	.slot_remove = rig_slot_remove,
	.slots_replace = rig_slots_replace,
	.vcpu_current = rig_vcpu_current,
};

/* ---- the transport ---- */

static void rig_queue_interrupt(void *opaque, unsigned int index)
{
	struct rig *r = opaque;

	assert_true(index < VMEM_QUEUE_COUNT);
	sem_post(&r->answered);
}

static void rig_config_interrupt(void *opaque)
{
	atomic_fetch_add(&((struct rig *)opaque)->config_irqs, 1);
}

static bool rig_dma_allowed(void *opaque)
{
	(void)opaque;
	return true;
}

static void rig_transport_reset(void *opaque)
{
	(void)opaque;
}

static const struct virtio_transport_ops rig_transport_ops = {
	.queue_interrupt = rig_queue_interrupt,
	.config_interrupt = rig_config_interrupt,
	.dma_allowed = rig_dma_allowed,
	.reset = rig_transport_reset,
};

/* ---- life ---- */

static void rig_violation(void *opaque, struct virtio_mem *mem)
{
	struct rig *r = opaque;

	assert_true(!r->mem || mem == r->mem);
	atomic_fetch_add(&r->violations, 1);
}

static void rig_changed(void *opaque, struct virtio_mem *mem)
{
	struct rig *r = opaque;

	assert_true(!r->mem || mem == r->mem);
	atomic_fetch_add(&r->changes, 1);
}

static void rig_make(struct rig *r, struct loop *loop,
		     void (*tweak)(struct virtio_mem_config *config))
{
	memset(r, 0, sizeof(*r));
	assert_non_null(loop);
	r->loop = loop;
	guest_init(&r->g);
	sem_init(&r->answered, 0, 0);
	r->hv.ops = &rig_hv_ops;
	r->mmio = bus_new();
	assert_non_null(r->mmio);
	r->memory = mmap(NULL, RIG_MEMORY, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(r->memory != MAP_FAILED);
	madvise(r->memory, RIG_MEMORY, MADV_NOHUGEPAGE);
	r->config = (struct virtio_mem_config){
		.id = "vmem0",
		.gm = r->g.gm,
		.hv = &r->hv,
		.loop = loop,
		.mmio = r->mmio,
		.memory = r->memory,
		.fd = -1,
		.guard = true,
		.memslot_size = RIG_SLOT,
		.violation = rig_violation,
		.changed = rig_changed,
		.opaque = r,
		.device =
			{
				.addr = RIG_ADDR,
				.region_size = RIG_SIZE,
				.block_size = RIG_BLOCK,
				.requested_size = RIG_SIZE,
				.usable_extra_bytes = RIG_EXTRA,
				.unplugged_inaccessible = true,
			},
		.event_idx = true,
		.indirect_desc = true,
	};
	if (tweak)
		tweak(&r->config);
	r->mem = virtio_mem_new(&r->config, NULL);
	assert_non_null(r->mem);
	r->vdev = virtio_mem_device(r->mem);
	virtio_attach(r->vdev, &rig_transport_ops, r);
}

void rig_init(struct rig *r, void (*tweak)(struct virtio_mem_config *config))
{
	rig_make(r, loop_new_main(NULL), tweak);
}

void rig_init_thread(struct rig *r, void (*tweak)(struct virtio_mem_config *config))
{
	rig_make(r, loop_new_thread("rig", NULL), tweak);
}

void rig_done(struct rig *r)
{
	r->remove_error = 0;
	virtio_attach(r->vdev, NULL, NULL);
	virtio_mem_free(r->mem);
	assert_false(r->order_broken);
	/* Nothing of the device is left in the hypervisor. */
	for (unsigned int i = 0; i < RIG_BLOCKS; i++)
		assert_int_equal(r->slots[i].size, 0);
	loop_free(r->loop);
	bus_free(r->mmio);
	guest_done(&r->g);
	munmap(r->memory, RIG_MEMORY);
	sem_destroy(&r->answered);
}

void rig_turn(struct rig *r)
{
	for (unsigned int i = 0; i < 4; i++)
		uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
}

void rig_status(struct rig *r, uint8_t value)
{
	virtio_lock(r->vdev);
	virtio_set_status(r->vdev, value);
	virtio_unlock(r->vdev);
}

uint8_t rig_get_status(struct rig *r)
{
	uint8_t status;

	virtio_lock(r->vdev);
	status = virtio_status(r->vdev);
	virtio_unlock(r->vdev);
	return status;
}

void rig_negotiate(struct rig *r, uint64_t features)
{
	rig_status(r, 0);
	rig_status(r, VIRTIO_STATUS_ACKNOWLEDGE);
	rig_status(r, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	virtio_lock(r->vdev);
	virtio_set_driver_features(r->vdev, 0, (uint32_t)features);
	virtio_set_driver_features(r->vdev, 1, (uint32_t)(features >> 32));
	virtio_unlock(r->vdev);
	rig_status(r, 11);
}

void rig_start(struct rig *r)
{
	const struct vq_layout layout = {.size = 16};

	rig_negotiate(r, RIG_FEATURES);
	assert_int_equal(rig_get_status(r), 11);
	r->g.used = 0;
	driver_init(&r->d, &r->g, &layout);
	r->request_gpa = guest_alloc(&r->g, sizeof(struct vmem_req), 8);
	r->answer_gpa = guest_alloc(&r->g, sizeof(struct vmem_resp), 8);
	virtio_lock(r->vdev);
	start_queue(r->vdev, 0, &r->d.layout);
	virtio_unlock(r->vdev);
	rig_status(r, 15);
	assert_int_equal(rig_get_status(r), 15);
}

/* ---- requests ---- */

void rig_put_request(struct rig *r, uint64_t gpa, uint16_t type, uint64_t first, uint16_t count)
{
	const struct vmem_req req = {
		.type = htole16(type),
		.addr = htole64(RIG_ADDR + first * RIG_BLOCK),
		.nb_blocks = htole16(count),
	};

	assert_int_equal(gm_write(r->g.gm, gpa, &req, sizeof(req)), 0);
}

bool rig_offer(struct rig *r, const struct driver_buffer *buffers, unsigned int n,
	       uint32_t *ret_len)
{
	uint16_t id;
	int added = driver_add(&r->d, buffers, n, false);

	assert_true(added >= 0);
	virtio_queue_kick(r->vdev, 0);
	if (loop_on_thread(r->loop))
		rig_turn(r);
	else
		sem_wait(&r->answered);
	if (!driver_get_used(&r->d, &id, ret_len))
		return false;
	assert_int_equal(id, added);
	return true;
}

uint16_t rig_request(struct rig *r, uint16_t type, uint64_t first, uint16_t count)
{
	const struct driver_buffer buffers[] = {
		{r->request_gpa, sizeof(struct vmem_req), false},
		{r->answer_gpa, sizeof(struct vmem_resp), true},
	};
	struct vmem_resp *resp = guest_ptr(&r->g, r->answer_gpa);
	uint32_t len = 0;

	rig_put_request(r, r->request_gpa, type, first, count);
	memset(resp, 0xff, sizeof(*resp));
	assert_true(rig_offer(r, buffers, 2, &len));
	assert_int_equal(len, sizeof(*resp));
	assert_false(r->order_broken);
	return le16toh(resp->type);
}

uint16_t rig_state_type(struct rig *r)
{
	return le16toh(((struct vmem_resp *)guest_ptr(&r->g, r->answer_gpa))->state_type);
}

uint8_t rig_config(struct rig *r, struct vmem_config *ret_config)
{
	uint8_t generation;

	virtio_lock(r->vdev);
	virtio_config_read(r->vdev, 0, ret_config, sizeof(*ret_config));
	generation = virtio_config_generation(r->vdev);
	virtio_unlock(r->vdev);
	return generation;
}

/* ---- what the host and emulated devices have ---- */

uint32_t rig_reachable(struct rig *r)
{
	uint32_t map = 0;

	for (unsigned int b = 0; b < RIG_BLOCKS; b++) {
		uint64_t gpa = RIG_ADDR + b * RIG_BLOCK;
		bool whole = gm_valid(r->g.gm, gpa, RIG_BLOCK);

		/* All of a block or nothing. */
		assert_int_equal(gm_valid(r->g.gm, gpa, 1), whole);
		assert_int_equal(gm_valid(r->g.gm, gpa + RIG_BLOCK - 1, 1), whole);
		map |= (uint32_t)whole << b;
	}
	return map;
}

uint32_t rig_mapped(const struct rig *r)
{
	uint32_t map = 0;

	for (unsigned int i = 0; i < RIG_BLOCKS; i++)
		for (uint64_t at = 0; at < r->slots[i].size; at += RIG_BLOCK)
			map |= 1u << (r->slots[i].start + at - RIG_ADDR) / RIG_BLOCK;
	return map;
}

uint64_t rig_pages(const struct rig *r, uint64_t first, uint64_t count)
{
	uint64_t page = ((uintptr_t)r->memory + first * RIG_BLOCK) / PAGE;
	uint64_t entry, pages = 0;
	FILE *f = fopen("/proc/self/pagemap", "rb");

	assert_non_null(f);
	assert_int_equal(fseek(f, (long)(page * sizeof(entry)), SEEK_SET), 0);
	for (uint64_t i = 0; i < count * RIG_BLOCK / PAGE; i++) {
		assert_int_equal(fread(&entry, sizeof(entry), 1, f), 1);
		pages += (entry >> 62) != 0;
	}
	fclose(f);
	return pages;
}

uint32_t rig_writable(const struct rig *r)
{
	uint32_t map = 0;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	for (unsigned int b = 0; b < RIG_BLOCKS; b++) {
		unsigned int open = 0;

		/* The first and the last byte: a block is open whole or not at all. */
		for (unsigned int i = 0; i < 2; i++) {
			uint8_t *at = r->memory + b * RIG_BLOCK + i * (RIG_BLOCK - 1);
			uint8_t byte = *at;

			assert_int_equal(write(fds[1], &byte, 1), 1);
			if (read(fds[0], at, 1) == 1) {
				open++;
				continue;
			}
			assert_int_equal(errno, EFAULT);
			assert_int_equal(read(fds[0], &byte, 1), 1);
		}
		assert_true(open != 1);
		map |= (uint32_t) !!open << b;
	}
	close(fds[0]);
	close(fds[1]);
	return map;
}

/* Not by the library's functions: sanitizers turn these into nothing. */
void rig_lock_block(struct rig *r, uint64_t block)
{
	void *at = r->memory + block * RIG_BLOCK;

	assert_int_equal(syscall(SYS_mlock2, at, RIG_BLOCK, MLOCK_ONFAULT), 0);
}

void rig_unlock_block(struct rig *r, uint64_t block)
{
	assert_int_equal(syscall(SYS_munlock, r->memory + block * RIG_BLOCK, RIG_BLOCK), 0);
}

void rig_break_block(struct rig *r, uint64_t block)
{
	assert_int_equal(munmap(r->memory + block * RIG_BLOCK, RIG_BLOCK), 0);
}

void rig_mend_block(struct rig *r, uint64_t block)
{
	void *at = r->memory + block * RIG_BLOCK;

	assert_ptr_equal(
		mmap(at, RIG_BLOCK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
	madvise(at, RIG_BLOCK, MADV_NOHUGEPAGE);
}

uint64_t rig_plugged_bytes(struct rig *r)
{
	struct vmem_device_info info;

	virtio_mem_info(r->mem, &info);
	return info.plugged_size;
}

_Thread_local uint64_t rig_now_ms;

uint64_t rig_clock_ms(void)
{
	return rig_now_ms;
}

int rig_setup(void **state, void (*tweak)(struct virtio_mem_config *config))
{
	struct rig *r = malloc(sizeof(*r));

	assert_non_null(r);
	rig_now_ms = 1000000;
	rig_init(r, tweak);
	*state = r;
	return 0;
}

int rig_teardown(void **state)
{
	rig_done(*state);
	free(*state);
	return 0;
}

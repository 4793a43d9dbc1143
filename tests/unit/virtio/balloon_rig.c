/* SPDX-License-Identifier: BSD-3-Clause */
/* A balloon for tests: see balloon_rig.h. */
#include "tests/unit/virtio/balloon_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <sys/mman.h>

#include "base/num.h"
#include "tests/unit/virtio/start.h"
#include "vmm/virtio/virtio.h"

#define RIG_QUEUE_SIZE 16

/* ---- memory ---- */

static int rig_discard(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes)
{
	struct rig_memory *m = opaque;
	struct rig *r = m->rig;

	if (r->busy) {
		r->busy--;
		return -EAGAIN;
	}
	if (r->calls < RIG_CALLS)
		r->call[r->calls] = (struct range){m->gpa + offset, size};
	r->calls++;
	if (r->ret)
		return r->ret;
	assert_int_equal(madvise(m->host + offset, size, MADV_DONTNEED), 0);
	*ret_bytes = size;
	r->bytes += size;
	return 0;
}

static void rig_map(struct rig *r, struct rig_memory *m, uint64_t gpa, uint64_t size)
{
	uint64_t total = size + RIG_LARGE;
	uint8_t *host = mmap(NULL, total, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(host != MAP_FAILED);
	host += -(uintptr_t)host & (RIG_LARGE - 1);
	*m = (struct rig_memory){r, gpa, size, host};
}

static void rig_unmap(struct rig_memory *m)
{
	munmap(m->host, m->size);
}

static void rig_add_memory(struct rig *r)
{
	const struct gm_discard ram = {RIG_PAGE, rig_discard, &r->ram};
	const struct gm_discard huge = {RIG_LARGE, rig_discard, &r->huge};
	const struct gm_discard device = {RIG_PAGE, rig_discard, &r->device};
	struct gm *gm = r->g.gm;

	rig_map(r, &r->ram, RIG_RAM, RIG_RAM_SIZE);
	rig_map(r, &r->huge, RIG_HUGE, RIG_HUGE_SIZE);
	rig_map(r, &r->device, RIG_DEVICE, RIG_DEVICE_SIZE);
	rig_map(r, &r->fixed, RIG_FIXED, RIG_FIXED_SIZE);
	assert_int_equal(gm_add_ram(gm, (struct range){RIG_RAM, RIG_RAM_SIZE}, r->ram.host), 0);
	assert_int_equal(gm_add_ram(gm, (struct range){RIG_HUGE, RIG_HUGE_SIZE}, r->huge.host), 0);
	assert_int_equal(gm_add_ram(gm, (struct range){RIG_FIXED, RIG_FIXED_SIZE}, r->fixed.host),
			 0);
	assert_int_equal(gm_add_device_memory(gm, (struct range){RIG_DEVICE, RIG_DEVICE_SIZE},
					      r->device.host, RIG_BLOCK, &r->region),
			 0);
	assert_int_equal(gm_set_discard(gm, RIG_RAM, &ram), 0);
	assert_int_equal(gm_set_discard(gm, RIG_HUGE, &huge), 0);
	assert_int_equal(gm_set_discard(gm, RIG_DEVICE, &device), 0);
}

bool rig_holds(struct rig *r, uint64_t gpa, uint64_t size, uint8_t value)
{
	uint8_t byte;

	for (uint64_t at = 0; at < size; at += 64) {
		assert_int_equal(gm_read(r->g.gm, gpa + at, &byte, 1), 0);
		if (byte != value)
			return false;
	}
	return true;
}

void rig_fill(struct rig *r, uint8_t value)
{
	memset(r->ram.host, value, 2 * MIB);
	memset(r->huge.host, value, RIG_HUGE_SIZE);
	memset(r->device.host, value, RIG_DEVICE_SIZE);
	memset(r->fixed.host, value, RIG_FIXED_SIZE);
	r->calls = 0;
	r->bytes = 0;
}

/* ---- the transport ---- */

static void rig_queue_interrupt(void *opaque, unsigned int index)
{
	((struct rig *)opaque)->irqs[index]++;
}

static void rig_config_interrupt(void *opaque)
{
	((struct rig *)opaque)->config_irqs++;
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

static const struct virtio_transport_ops rig_transport = {
	.queue_interrupt = rig_queue_interrupt,
	.config_interrupt = rig_config_interrupt,
	.dma_allowed = rig_dma_allowed,
	.reset = rig_transport_reset,
};

static void rig_changed(void *opaque, struct balloon *balloon)
{
	(void)balloon;
	((struct rig *)opaque)->changes++;
}

/* ---- life ---- */

void rig_init(struct rig *r, void (*tweak)(struct balloon_config *config))
{
	memset(r, 0, sizeof(*r));
	guest_init(&r->g);
	rig_add_memory(r);
	r->loop = loop_new_main(NULL);
	r->config = (struct balloon_config){
		.id = "balloon0",
		.ram_bytes = RIG_BOOT,
		.deflate_on_oom = true,
		.free_page_hint = true,
		.page_poison = true,
		.free_page_reporting = true,
		.packed = true,
		VIRTIO_RING_DEFAULTS,
		.gm = r->g.gm,
		.loop = r->loop,
		.changed = rig_changed,
		.opaque = r,
	};
	if (tweak)
		tweak(&r->config);
	r->balloon = balloon_new(&r->config, NULL);
	assert_non_null(r->balloon);
	r->vdev = balloon_device(r->balloon);
	virtio_attach(r->vdev, &rig_transport, r);
}

void rig_done(struct rig *r)
{
	virtio_attach(r->vdev, NULL, NULL);
	balloon_free(r->balloon);
	loop_free(r->loop);
	guest_done(&r->g);
	rig_unmap(&r->ram);
	rig_unmap(&r->huge);
	rig_unmap(&r->device);
	rig_unmap(&r->fixed);
}

static int rig_setup_with(void **state, bool packed)
{
	struct rig *r = malloc(sizeof(*r));

	assert_non_null(r);
	rig_init(r, NULL);
	r->packed = packed;
	rig_start(r, RIG_ALL);
	*state = r;
	return 0;
}

int rig_setup(void **state)
{
	return rig_setup_with(state, false);
}

int rig_setup_packed(void **state)
{
	return rig_setup_with(state, true);
}

int rig_teardown(void **state)
{
	rig_done(*state);
	free(*state);
	return 0;
}

/* ---- the driver ---- */

static void rig_start_queue(struct rig *r, unsigned int i, uint64_t features)
{
	struct vq_layout layout = {
		.size = RIG_QUEUE_SIZE,
		.packed = features & VIRTIO_FEATURE(VIRTIO_F_RING_PACKED),
	};

	driver_init(&r->d[i], &r->g, &layout);
	start_queue(r->vdev, i, &r->d[i].layout);
}

void rig_start(struct rig *r, uint64_t features)
{
	features |= VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	if (r->packed)
		features |= VIRTIO_FEATURE(VIRTIO_F_RING_PACKED);
	virtio_lock(r->vdev);
	virtio_set_status(r->vdev, 0);
	start_features(r->vdev, features);
	assert_int_equal(virtio_status(r->vdev), START_AGREED);
	r->g.used = 0;
	for (unsigned int i = 0; i < virtio_nr_queues(r->vdev); i++)
		if (virtio_queue_size(r->vdev, i))
			rig_start_queue(r, i, features);
	virtio_set_status(r->vdev, START_DONE);
	virtio_unlock(r->vdev);
}

void rig_reset(struct rig *r)
{
	virtio_lock(r->vdev);
	virtio_set_status(r->vdev, 0);
	virtio_unlock(r->vdev);
}

void rig_turn(struct rig *r)
{
	for (int i = 0; i < 4; i++)
		uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
}

void rig_add(struct rig *r, unsigned int queue, const struct driver_buffer *buffers, unsigned int n)
{
	assert_true(driver_add(&r->d[queue], buffers, n, false) >= 0);
	virtio_queue_kick(r->vdev, queue);
}

unsigned int rig_used(struct rig *r, unsigned int queue)
{
	unsigned int nr = 0;
	uint32_t len;
	uint16_t id;

	while (driver_get_used(&r->d[queue], &id, &len))
		nr++;
	return nr;
}

uint32_t rig_wait(struct rig *r, unsigned int queue)
{
	uint32_t len;
	uint16_t id;

	while (!driver_get_used(&r->d[queue], &id, &len)) {
		assert_false(rig_broken(r));
		uv_run(loop_uv(r->loop), UV_RUN_ONCE);
	}
	return len;
}

uint64_t rig_put(struct rig *r, const uint32_t *pages, unsigned int nr)
{
	uint64_t gpa = guest_alloc(&r->g, nr * sizeof(*pages), 4);
	uint32_t *to = guest_ptr(&r->g, gpa);

	for (unsigned int i = 0; i < nr; i++)
		to[i] = htole32(pages[i]);
	return gpa;
}

void rig_pages(struct rig *r, unsigned int queue, const uint32_t *pages, unsigned int nr)
{
	uint64_t before = r->g.used;
	struct driver_buffer b = {rig_put(r, pages, nr), (uint32_t)(nr * sizeof(*pages)), false};

	rig_add(r, queue, &b, 1);
	assert_int_equal(rig_wait(r, queue), 0);
	r->g.used = before;
}

void rig_range(struct rig *r, unsigned int queue, uint64_t gpa, uint64_t size)
{
	unsigned int nr = (unsigned int)(size / RIG_PAGE);
	uint32_t *pages = calloc(nr, sizeof(*pages));

	assert_non_null(pages);
	for (unsigned int i = 0; i < nr; i++)
		pages[i] = (uint32_t)(gpa / RIG_PAGE) + i;
	rig_pages(r, queue, pages, nr);
	free(pages);
}

void rig_report(struct rig *r, uint64_t gpa, uint32_t size)
{
	struct driver_buffer b = {gpa, size, true};

	rig_add(r, REPORTS, &b, 1);
	assert_int_equal(rig_wait(r, REPORTS), 0);
}

struct rig_layout rig_config(struct rig *r)
{
	struct rig_layout layout;

	virtio_lock(r->vdev);
	virtio_config_read(r->vdev, 0, &layout, sizeof(layout));
	virtio_unlock(r->vdev);
	return (struct rig_layout){
		le32toh(layout.num_pages),
		le32toh(layout.actual),
		le32toh(layout.free_page_hint_cmd_id),
		le32toh(layout.poison_val),
	};
}

void rig_set_config(struct rig *r, uint32_t offset, uint32_t value)
{
	value = htole32(value);
	virtio_lock(r->vdev);
	virtio_config_write(r->vdev, offset, &value, sizeof(value));
	virtio_unlock(r->vdev);
}

struct balloon_info rig_info(struct rig *r)
{
	struct balloon_info info;

	balloon_info(r->balloon, &info);
	return info;
}

bool rig_broken(struct rig *r)
{
	return virtio_status(r->vdev) & VIRTIO_STATUS_NEEDS_RESET;
}

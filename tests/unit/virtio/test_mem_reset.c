/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A reset of the machine at any time: while a request is under way, while a size was asked for and
 * is not looked at yet, while vCPUs meet blocks that are not there. All blocks are the host's again,
 * and the size that was asked for stays.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <vmem/guard.h>

#include "base/bytes.h"
#include "tests/unit/virtio/mem_rig.h"
#include "vmm/core/bus.h"

static int setup(void **state)
{
	int ret = rig_setup(state, NULL);

	rig_start(*state);
	return ret;
}

static struct vmem_config config_of(struct rig *r)
{
	struct vmem_config config;

	rig_config(r, &config);
	return config;
}

/* As at power-on, but for the size that is asked for. */
static void check_empty(struct rig *r, uint64_t requested_blocks)
{
	struct vmem_config config = config_of(r);
	struct vmem_guard_info guard;
	uint64_t cells[RIG_BLOCKS], size;

	assert_int_equal(rig_get_status(r), 0);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
	assert_int_equal(rig_reachable(r) | rig_mapped(r), 0);
	virtio_mem_guard_info(r->mem, &guard);
	assert_int_equal(guard.slots_present | guard.memslots, 0);
	virtio_mem_cells(r->mem, cells, RIG_BLOCKS, &size);
	for (unsigned int i = 0; i < RIG_BLOCKS; i++)
		assert_int_equal(cells[i], 0);
	assert_int_equal(config.plugged_size, 0);
	assert_int_equal(le64toh(config.requested_size), requested_blocks * RIG_BLOCK);
	assert_int_equal(
		le64toh(config.usable_region_size),
		requested_blocks ? num_min(requested_blocks * RIG_BLOCK + RIG_EXTRA, RIG_SIZE) : 0);
}

/* ---- sizes ---- */

static void test_the_usable_region_shrinks(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, RIG_BLOCKS), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_resize(r->mem, 3 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	assert_int_equal(le64toh(config_of(r).usable_region_size), RIG_SIZE);
	virtio_system_reset(r->vdev);
	check_empty(r, 3);
	assert_int_equal(virtio_mem_resize(r->mem, 0, NULL), 0);
	rig_turn(r);
	assert_int_equal(le64toh(config_of(r).usable_region_size), 5 * RIG_BLOCK);
	virtio_system_reset(r->vdev);
	check_empty(r, 0);
}

/* A size that the device's thread comes to afterwards. */
static void test_a_size_on_its_way(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 7), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_resize(r->mem, 5 * RIG_BLOCK, NULL), 0);
	virtio_system_reset(r->vdev);
	rig_turn(r);
	assert_int_equal(le64toh(config_of(r).requested_size), 5 * RIG_BLOCK);
	assert_true(virtio_mem_resized(r->mem));
	virtio_system_reset(r->vdev);
	check_empty(r, 5);
}

/* "No more than is" was asked for when something was: not nothing, which the reset leaves. */
static void test_to_stay_where_it_is(void **state)
{
	struct vmem_device_info info;
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 7), VMEM_RESP_ACK);
	virtio_mem_resize_here(r->mem);
	virtio_system_reset(r->vdev);
	virtio_mem_info(r->mem, &info);
	assert_int_equal(info.requested_size, 7 * RIG_BLOCK);
	check_empty(r, 7);
	rig_turn(r);
	check_empty(r, 7);
	assert_true(virtio_mem_resized(r->mem));
}

/* ---- slots that were laid anew ---- */

static void test_slots_that_were_laid_anew(void **state)
{
	uint64_t changes, later;
	struct rig *r = *state;

	for (uint64_t block = 0; block < RIG_BLOCKS; block += 2)
		assert_int_equal(rig_request(r, VMEM_REQ_PLUG, block, 1), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &changes), 4);
	assert_int_equal(rig_mapped(r), 0x5555);
	virtio_system_reset(r->vdev);
	check_empty(r, RIG_BLOCKS);
	/* Whoever met a closed block before has to look again. */
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &later), 0);
	assert_true(later != changes);
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_mapped(r), 0xf);
}

/* ---- a request that is under way ---- */

struct under_way {
	struct rig *r;
	sem_t inside, leave;
	atomic_bool reset;
};

/* There is one at a time, and a hypervisor's call has no opaque of ours. */
static struct under_way *under_way;

static void stay_inside(struct rig *r)
{
	r->on_add = NULL;
	sem_post(&under_way->inside);
	sem_wait(&under_way->leave);
}

static void *reset_run(void *opaque)
{
	struct under_way *u = opaque;

	virtio_system_reset(u->r->vdev);
	atomic_store(&u->reset, true);
	return NULL;
}

/* The driver's next request, which nobody waits for. */
static void offer(struct rig *r, uint16_t type, uint64_t first, uint16_t count)
{
	const struct driver_buffer buffers[] = {
		{r->request_gpa, sizeof(struct vmem_req), false},
		{r->answer_gpa, sizeof(struct vmem_resp), true},
	};

	rig_put_request(r, r->request_gpa, type, first, count);
	assert_true(driver_add(&r->d, buffers, 2, false) >= 0);
	virtio_queue_kick(r->vdev, 0);
}

/* It comes to its end, and what it did is undone with all the rest. */
static void test_a_request_that_is_under_way(void **state)
{
	struct rig *r = malloc(sizeof(*r));
	struct under_way u = {.r = r};
	pthread_t reset;

	(void)state;
	assert_non_null(r);
	under_way = &u;
	sem_init(&u.inside, 0, 0);
	sem_init(&u.leave, 0, 0);
	rig_init_thread(r, NULL);
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	r->on_add = stay_inside;
	offer(r, VMEM_REQ_PLUG, 4, 9);
	sem_wait(&u.inside);
	assert_int_equal(pthread_create(&reset, NULL, reset_run, &u), 0);
	for (unsigned int i = 0; i < 1000; i++)
		sched_yield();
	assert_false(atomic_load(&u.reset));
	sem_post(&u.leave);
	pthread_join(reset, NULL);
	check_empty(r, RIG_BLOCKS);
	rig_start(r);
	/* The answer to the first one may have come; it is none to this driver. */
	while (sem_trywait(&r->answered) == 0)
		continue;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 16), VMEM_RESP_ACK);
	rig_done(r);
	free(r);
	sem_destroy(&u.inside);
	sem_destroy(&u.leave);
}

/* ---- everything at once ---- */

struct storm {
	struct rig *r;
	atomic_bool end;
	unsigned int times;
};

/* A vCPU that is not parked: it meets closed and absent blocks all the time. */
static void *vcpu_run(void *opaque)
{
	struct storm *s = opaque;
	uint64_t changes, value;

	for (; !atomic_load(&s->end); s->times++) {
		assert_true(virtio_mem_refine(s->r->mem, UINT64_MAX, 0, &changes) >= 0);
		bus_write(s->r->mmio, RIG_ADDR + s->times % RIG_SIZE / 8 * 8, 8, 1);
		bus_read(s->r->mmio, RIG_ADDR, 8, &value);
	}
	return NULL;
}

static void *resizes_run(void *opaque)
{
	struct storm *s = opaque;

	for (; !atomic_load(&s->end); s->times++) {
		if (s->times % 5 == 4)
			virtio_mem_resize_here(s->r->mem);
		else
			assert_int_equal(virtio_mem_resize(s->r->mem,
							   (1 + s->times % RIG_BLOCKS) * RIG_BLOCK,
							   NULL),
					 0);
		sched_yield();
	}
	return NULL;
}

static void test_resets_among_all_else(void **state)
{
	struct rig *r = malloc(sizeof(*r));
	struct storm vcpu = {.r = r}, resizes = {.r = r};
	pthread_t threads[2];

	(void)state;
	assert_non_null(r);
	rig_init_thread(r, NULL);
	assert_int_equal(pthread_create(&threads[0], NULL, vcpu_run, &vcpu), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, resizes_run, &resizes), 0);
	for (unsigned int i = 0; i < 200; i++) {
		rig_start(r);
		while (sem_trywait(&r->answered) == 0)
			continue;
		for (unsigned int k = 0; k < 4; k++)
			rig_request(r, VMEM_REQ_PLUG, (i + 3 * k) % RIG_BLOCKS, 2);
		offer(r, i % 2 ? VMEM_REQ_PLUG : VMEM_REQ_UNPLUG_ALL, 0, 1);
		virtio_system_reset(r->vdev);
		assert_int_equal(rig_plugged_bytes(r), 0);
		assert_int_equal(rig_reachable(r), 0);
	}
	atomic_store(&vcpu.end, true);
	atomic_store(&resizes.end, true);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_true(vcpu.times && resizes.times);
	assert_int_equal(virtio_mem_resize(r->mem, 4 * RIG_BLOCK, NULL), 0);
	while (!virtio_mem_resized(r->mem))
		sched_yield();
	virtio_system_reset(r->vdev);
	check_empty(r, 4);
	rig_done(r);
	free(r);
}

#define RIG(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG(test_the_usable_region_shrinks),
		RIG(test_a_size_on_its_way),
		RIG(test_to_stay_where_it_is),
		RIG(test_slots_that_were_laid_anew),
		cmocka_unit_test(test_a_request_that_is_under_way),
		cmocka_unit_test(test_resets_among_all_else),
	};

	return cmocka_run_group_tests_name("virtio-mem: resets", tests, NULL, NULL);
}

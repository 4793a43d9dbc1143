/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device against a guest that uses memory it does not have: what is counted and told,
 * what the guest can reach after each way of losing blocks, and slots laid anew. mem.h, I2.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <vmem/guard.h>

#include "base/bytes.h"
#include "base/err.h"
#include "tests/unit/virtio/mem_rig.h"
#include "vmm/core/bus.h"

static int setup(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	assert_non_null(r);
	rig_vcpu = -1;
	rig_init(r, NULL);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_done(*state);
	free(*state);
	return 0;
}

static struct vmem_guard_info guard_of(struct rig *r)
{
	struct vmem_guard_info info;

	virtio_mem_guard_info(r->mem, &info);
	return info;
}

static void check_counts(struct rig *r, uint64_t writes, uint64_t reads)
{
	struct virtio_mem_violations v;

	virtio_mem_violations(r->mem, &v);
	assert_int_equal(v.writes, writes);
	assert_int_equal(v.reads, reads);
	/* Each is told once. */
	assert_int_equal(atomic_load(&r->violations), writes + reads);
}

static void touch(struct rig *r, uint64_t offset, unsigned int size, bool write)
{
	uint64_t value = 42;

	if (write) {
		assert_true(bus_write(r->mmio, RIG_ADDR + offset, size, UINT64_MAX));
		return;
	}
	assert_true(bus_read(r->mmio, RIG_ADDR + offset, size, &value));
	assert_int_equal(value, 0);
}

/* ---- what counts ---- */

static void test_last_violation(void **state)
{
	struct rig *r = *state;
	const struct {
		uint64_t offset;
		unsigned int size;
		int vcpu;
	} rows[] = {
		{0, 1, -1},
		{0, 8, 0},
		{RIG_SIZE - 8, 8, 63},
		{RIG_SIZE - 1, 1, 1},
		{RIG_BLOCK - 2, 2, 7},
		{4, 4, 5},
	};
	struct virtio_mem_violations v;

	rig_start(r);
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		unsigned int k = i / 2;
		bool write = i & 1;

		rig_vcpu = rows[k].vcpu;
		touch(r, rows[k].offset, rows[k].size, write);
		check_counts(r, (i + 1) / 2, i / 2 + 1);
		virtio_mem_violations(r->mem, &v);
		assert_int_equal(v.last.gpa, RIG_ADDR + rows[k].offset);
		assert_int_equal(v.last.size, rows[k].size);
		assert_int_equal(v.last.write, write);
		assert_int_equal(v.last.vcpu, rows[k].vcpu);
	}
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
}

/* A driver that did not promise to leave unplugged memory alone may read it. */
static void test_reads_count_by_promise(void **state)
{
	struct rig *r = *state;

	touch(r, 0, 8, false);
	check_counts(r, 0, 0);
	touch(r, 0, 8, true);
	check_counts(r, 1, 0);
	rig_negotiate(r, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	touch(r, 0, 8, false);
	check_counts(r, 1, 0);
	rig_negotiate(r, RIG_FEATURES);
	touch(r, 0, 8, false);
	check_counts(r, 1, 1);
	/* The promise ends with the driver. */
	rig_status(r, 0);
	touch(r, 0, 8, false);
	touch(r, 0, 8, true);
	check_counts(r, 2, 1);
	rig_negotiate(r, RIG_FEATURES);
	virtio_system_reset(r->vdev);
	touch(r, 0, 8, false);
	check_counts(r, 2, 1);
}

static void with_required_promise(struct virtio_mem_config *config)
{
	config->require_inaccessible = true;
}

static void test_refused_driver_promised_nothing(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, with_required_promise);
	rig_negotiate(&r, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	assert_int_equal(rig_get_status(&r), 3);
	touch(&r, 0, 8, false);
	check_counts(&r, 0, 0);
	rig_done(&r);
}

static void without_listener(struct virtio_mem_config *config)
{
	config->violation = NULL;
}

static void test_nobody_listens(void **state)
{
	struct virtio_mem_violations v;
	struct rig r;

	(void)state;
	rig_init(&r, without_listener);
	touch(&r, 0, 8, true);
	virtio_mem_violations(r.mem, &v);
	assert_int_equal(v.writes, 1);
	rig_done(&r);
}

/* Neither a vCPU that comes here, nor a monitor, waits for the device's lock. */
static void test_without_the_lock(void **state)
{
	struct rig *r = *state;
	enum virtio_mem_progress progress;
	struct vmem_guard_info guard;
	struct vmem_device_info info;
	int ret;

	rig_start(r);
	virtio_lock(r->vdev);
	touch(r, 0, 8, true);
	touch(r, 0, 8, false);
	check_counts(r, 1, 1);
	guard = guard_of(r);
	virtio_mem_info(r->mem, &info);
	ret = virtio_mem_resize(r->mem, 0, NULL);
	progress = virtio_mem_progress(r->mem);
	virtio_unlock(r->vdev);
	assert_string_not_equal(guard.mechanism, "none");
	assert_int_equal(ret, 0);
	assert_int_equal(progress, VIRTIO_MEM_DONE);
}

/* ---- many vCPUs ---- */

#define STORM_VCPUS  3
#define STORM_ROUNDS 20000

struct storm {
	struct rig *r;
	int vcpu;
	pthread_t thread;
};

/* Of vCPU n: 1 << n bytes in block n, a write if n is odd. */
static void *storm_run(void *arg)
{
	struct storm *s = arg;

	rig_vcpu = s->vcpu;
	for (unsigned int i = 0; i < STORM_ROUNDS; i++)
		touch(s->r, (uint64_t)s->vcpu * RIG_BLOCK, 1u << s->vcpu, s->vcpu & 1);
	return NULL;
}

static void check_last_of_storm(const struct virtio_mem_violations *v)
{
	int vcpu = v->last.vcpu;

	if (!v->writes && !v->reads)
		return;
	assert_true(vcpu >= 0 && vcpu < STORM_VCPUS);
	assert_int_equal(v->last.gpa, RIG_ADDR + (uint64_t)vcpu * RIG_BLOCK);
	assert_int_equal(v->last.size, 1u << vcpu);
	assert_int_equal(v->last.write, vcpu & 1);
}

/* Requests are served and monitors answered meanwhile; none is lost, none torn. */
static void test_storm(void **state)
{
	struct storm storm[STORM_VCPUS];
	struct virtio_mem_violations v;
	struct rig r;

	(void)state;
	rig_init_thread(&r, NULL);
	rig_start(&r);
	for (int i = 0; i < STORM_VCPUS; i++) {
		storm[i] = (struct storm){.r = &r, .vcpu = i};
		assert_int_equal(pthread_create(&storm[i].thread, NULL, storm_run, &storm[i]), 0);
	}
	for (unsigned int i = 0; i < 200; i++) {
		assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
		virtio_mem_violations(r.mem, &v);
		check_last_of_storm(&v);
		assert_int_equal(rig_request(&r, VMEM_REQ_UNPLUG, 0, 2), VMEM_RESP_ACK);
	}
	for (int i = 0; i < STORM_VCPUS; i++)
		pthread_join(storm[i].thread, NULL);
	check_counts(&r, STORM_ROUNDS, 2 * STORM_ROUNDS);
	virtio_mem_violations(r.mem, &v);
	check_last_of_storm(&v);
	assert_int_equal(rig_pages(&r, 0, RIG_BLOCKS), 0);
	rig_done(&r);
}

/* ---- which blocks are open ---- */

static void check_open(struct rig *r, uint32_t blocks)
{
	assert_int_equal(rig_reachable(r), blocks);
	assert_int_equal(rig_writable(r), blocks);
	assert_int_equal(rig_plugged_bytes(r), (uint64_t)__builtin_popcount(blocks) * RIG_BLOCK);
}

/* By every way in which a guest loses blocks, the same is closed for all. */
static void test_closed_again(void **state)
{
	struct rig *r = *state;

	check_open(r, 0);
	rig_start(r);
	check_open(r, 0);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 6), VMEM_RESP_ACK);
	check_open(r, 0x7e);
	memset(r->memory + RIG_BLOCK, 0x5a, 6 * RIG_BLOCK);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 2, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_pages(r, 2, 2), 0);
	check_open(r, 0x72);
	/* A driver that goes, and one that comes, change nothing. */
	rig_status(r, 0);
	check_open(r, 0x72);
	rig_start(r);
	check_open(r, 0x72);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
	check_open(r, 0);

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 4), VMEM_RESP_ACK);
	memset(r->memory + 3 * RIG_BLOCK, 0x5a, 4 * RIG_BLOCK);
	virtio_system_reset(r->vdev);
	assert_int_equal(rig_pages(r, 3, 4), 0);
	check_open(r, 0);
	assert_int_equal(rig_mapped(r), 0);
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 1), VMEM_RESP_ACK);
	check_open(r, 1u << 3);
	assert_int_equal(r->memory[3 * RIG_BLOCK], 0);
}

/* A plug that the host cannot finish leaves nothing open. */
static void test_failed_plug_is_closed(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	r->add_error = -ENOSPC;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 4), VMEM_RESP_NACK);
	check_open(r, 1);
	r->add_error = 0;
	/* Blocks that an unplug could not take stay open as they were. */
	r->remove_error = -EIO;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 1), VMEM_RESP_BUSY);
	check_open(r, 1);
	r->remove_error = 0;
}

static void without_guard(struct virtio_mem_config *config)
{
	config->guard = false;
}

static void test_guard_off(void **state)
{
	uint64_t changes;
	struct rig r;

	(void)state;
	rig_init(&r, without_guard);
	rig_start(&r);
	assert_string_equal(guard_of(&r).mechanism, "none");
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(&r), 1u << 1);
	assert_int_equal(rig_writable(&r), 0xffff);
	assert_int_equal(virtio_mem_refine(r.mem, UINT64_MAX, 0, &changes), 0);
	assert_int_equal(rig_mapped(&r), 0xf);
	/* Absent slots are watched all the same. */
	touch(&r, 8 * RIG_BLOCK, 8, true);
	check_counts(&r, 1, 0);
	rig_done(&r);
}

/* ---- slots laid anew ---- */

static void test_refine(void **state)
{
	struct rig *r = *state;
	uint64_t first, second;

	rig_start(r);
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &first), 0);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 5, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_mapped(r), 0xff);
	/* Only the slot in question, where the address is known. */
	assert_int_equal(virtio_mem_refine(r->mem, RIG_ADDR + RIG_BLOCK, 8, &first), 1);
	assert_int_equal(rig_mapped(r), 0xfd);
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &second), 1);
	assert_int_not_equal(first, second);
	assert_int_equal(rig_mapped(r), 0x2d);
	assert_int_equal(guard_of(r).refinements, 2);
	assert_int_equal(guard_of(r).memslots, 3);
	assert_int_equal(r->replaces, 2);
	/* Nothing is left to be done. */
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &first), 0);
	assert_int_equal(first, second);
	/* The content is untouched, and so is what devices reach. */
	check_open(r, 0x2d);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_mapped(r), 0x2f);
	check_open(r, 0x2f);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(rig_mapped(r), 0);
}

/* A machine that is about to stop lays nothing anew, and takes nothing for settled. */
static void test_refine_waits_for_cont(void **state)
{
	struct rig *r = *state;
	uint64_t first, second;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	virtio_mem_stop(r->mem);
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &first), 0);
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &second), 0);
	assert_true(first != second);
	assert_int_equal(guard_of(r).refinements, 0);
	virtio_mem_cont(r->mem);
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &first), 1);
	assert_int_equal(guard_of(r).refinements, 1);
}

/* Addresses are a hypervisor's; those beside the region concern others. */
static void test_refine_bounds(void **state)
{
	struct rig *r = *state;
	const struct {
		uint64_t gpa, size;
		int slots;
	} rows[] = {
		{RIG_ADDR - 8, 8, 0},
		{0, 4096, 0},
		{RIG_ADDR + RIG_SIZE, 8, 0},
		{UINT64_MAX - 1, 8, 0},
		{RIG_ADDR - 4096, UINT64_MAX, 2},
		{RIG_ADDR - 4, 8, 1},
		{RIG_ADDR + RIG_SIZE - 1, 1, 1},
		{RIG_ADDR + RIG_SIZE - 1, 4096, 1},
		{RIG_ADDR + RIG_SLOT - 1, 1, 1},
		{RIG_ADDR + RIG_SLOT, 1, 0},
	};

	rig_start(r);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t changes;

		/* One block in each of the first and the last slot. */
		assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
		assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 14, 1), VMEM_RESP_ACK);
		assert_int_equal(virtio_mem_refine(r->mem, rows[i].gpa, rows[i].size, &changes),
				 rows[i].slots);
		assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	}
}

static void test_refine_fails(void **state)
{
	const int errors[] = {-ENOSPC, -EIO, -ENOMEM};
	struct rig *r = *state;
	uint64_t changes;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		r->replace_error = errors[i];
		assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &changes), errors[i]);
		assert_int_equal(rig_mapped(r), 0xf);
		check_open(r, 1u << 1);
	}
	r->replace_error = 0;
	assert_int_equal(virtio_mem_refine(r->mem, UINT64_MAX, 0, &changes), 1);
	assert_int_equal(rig_mapped(r), 1u << 1);
}

/* The number is the same again only when no block was opened or closed in between. */
static void test_changes(void **state)
{
	struct rig *r = *state;
	uint64_t before, now;

	rig_start(r);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &before), 0);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 1), VMEM_RESP_ERROR);
	touch(r, 0, 8, true);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &now), 0);
	assert_int_equal(now, before);

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &now), 0);
	assert_true(now > before);
	before = now;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &now), 0);
	assert_true(now > before);
	before = now;
	/* Tried and undone is a change too. */
	r->add_error = -ENOMEM;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_NACK);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &now), 0);
	assert_true(now > before);
	r->add_error = 0;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &before), 0);
	virtio_system_reset(r->vdev);
	assert_int_equal(virtio_mem_refine(r->mem, 0, 8, &now), 0);
	assert_true(now > before);
}

static void test_too_large(void **state)
{
	struct rig *r = *state;
	struct virtio_mem_config config = r->config;
	struct err *err = NULL;

	config.device.block_size = config.memslot_size = GIB;
	config.device.addr = 0;
	config.device.requested_size = 0;
	config.device.region_size = (UINT64_C(1) << 52) + GIB;
	assert_null(virtio_mem_new(&config, &err));
	assert_non_null(strstr(err_message(err), "more than a guest can address"));
	err_free(err);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_last_violation),
		TEST(test_reads_count_by_promise),
		cmocka_unit_test(test_refused_driver_promised_nothing),
		cmocka_unit_test(test_nobody_listens),
		TEST(test_without_the_lock),
		cmocka_unit_test(test_storm),
		TEST(test_closed_again),
		TEST(test_failed_plug_is_closed),
		cmocka_unit_test(test_guard_off),
		TEST(test_refine),
		TEST(test_refine_waits_for_cont),
		TEST(test_refine_bounds),
		TEST(test_refine_fails),
		TEST(test_changes),
		TEST(test_too_large),
	};

	return cmocka_run_group_tests_name("virtio-mem guard", tests, NULL, NULL);
}

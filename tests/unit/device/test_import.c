/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that takes over another one's state: vmem_device_import_plug() and those that follow it
 * in <vmem/device.h>. The reference model checks each step; here is what the steps come to.
 */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

#define BS (2 * MIB)

static const struct vmem_device_config config_128 = {
	.addr = 4 * GIB,
	.region_size = 128 * BS,
	.block_size = BS,
	.requested_size = 32 * BS,
	.usable_extra_bytes = 16 * BS,
	.size_requests = true,
};

static void must(const struct model *m, bool ok)
{
	if (!ok)
		fail_msg("%s", m->error);
}

static void plug(struct model *m, uint64_t first, uint64_t count, int want)
{
	int rc;

	must(m, model_import_plug(m, first * BS, count * BS, &rc));
	assert_int_equal(rc, want);
}

static void unplug(struct model *m, uint64_t first, uint64_t count, int want)
{
	int rc;

	must(m, model_import_unplug(m, first * BS, count * BS, &rc));
	assert_int_equal(rc, want);
}

static uint16_t request(struct model *m, uint16_t type, uint64_t first, uint16_t count)
{
	uint16_t answer;

	must(m, model_do(m, type, first, count, &answer));
	return answer;
}

static struct vmem_device_info info_of(const struct model *m)
{
	struct vmem_device_info info;

	vmem_device_info(m->dev, &info);
	return info;
}

static int setup(void **state)
{
	struct model *m = malloc(sizeof(*m));

	assert_non_null(m);
	must(m, model_init(m, &config_128));
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	model_done(*state);
	free(*state);
	return 0;
}

/* What the other device had may lie anywhere, and be more than this one was to ask for. */
static void test_blocks_beyond_what_was_asked_for(void **state)
{
	struct model *m = *state;

	assert_int_equal(info_of(m).usable_region_size, 48 * BS);
	plug(m, 100, 28, 0);
	assert_int_equal(info_of(m).usable_region_size, 128 * BS);
	plug(m, 0, 40, 0);
	assert_int_equal(info_of(m).plugged_size, 68 * BS);
	assert_int_equal(info_of(m).requested_size, 32 * BS);
	/* A guest that goes on with it gives back, and gets no more. */
	assert_int_equal(request(m, VMEM_REQ_PLUG, 50, 1), VMEM_RESP_NACK);
	assert_int_equal(request(m, VMEM_REQ_UNPLUG, 100, 28), VMEM_RESP_ACK);
	assert_int_equal(request(m, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(info_of(m).usable_region_size, 48 * BS);
}

static void test_runs_that_cannot_be(void **state)
{
	struct model *m = *state;
	int rc;

	plug(m, 0, 0, -EINVAL);
	plug(m, 128, 1, -ERANGE);
	plug(m, 127, 2, -ERANGE);
	plug(m, 0, 129, -ERANGE);
	unplug(m, 5, 0, -EINVAL);
	unplug(m, 0, 129, -ERANGE);
	must(m, model_import_plug(m, BS / 2, BS, &rc));
	assert_int_equal(rc, -EINVAL);
	must(m, model_import_plug(m, BS, BS + 4096, &rc));
	assert_int_equal(rc, -EINVAL);
	/* A sum that wraps around. */
	must(m, model_import_plug(m, 0 - BS, 2 * BS, &rc));
	assert_int_equal(rc, -ERANGE);
	must(m, model_import_unplug(m, 0 - BS, 2 * BS, &rc));
	assert_int_equal(rc, -ERANGE);
	plug(m, 10, 10, 0);
	plug(m, 19, 2, -EEXIST);
	plug(m, 9, 2, -EEXIST);
	plug(m, 12, 3, -EEXIST);
	assert_int_equal(info_of(m).plugged_size, 10 * BS);
}

/* What changed at the other device since: in any order, over blocks in any state. */
static void test_unplug_takes_what_is_there(void **state)
{
	struct model *m = *state;

	unplug(m, 0, 128, 0);
	assert_int_equal(m->calls, 0);
	plug(m, 2, 3, 0);
	plug(m, 10, 1, 0);
	plug(m, 126, 2, 0);
	unplug(m, 4, 123, 0);
	assert_int_equal(m->calls, 2);
	assert_int_equal(info_of(m).plugged_size, 3 * BS);
	assert_true(vmem_device_plugged(m->dev, 4 * GIB + 127 * BS, BS));
	/* Plugged again it reads as zeros: the model checks. */
	model_guest_write(m, 127, 77);
	unplug(m, 127, 1, 0);
	plug(m, 127, 1, 0);
}

static void test_sizes(void **state)
{
	struct model *m = *state;

	must(m, model_import_sizes(m, 64 * BS, 64 * BS, 64 * BS));
	must(m, model_import_sizes(m, 0, 0, 128 * BS));
	must(m, model_import_sizes(m, 0, 0, 0));
	plug(m, 7, 1, 0);
	/* The model knows what they give. */
	must(m, model_import_sizes(m, 8 * BS, 8 * BS, 7 * BS));
	must(m, model_import_sizes(m, 0, 0, 7 * BS));
	must(m, model_import_sizes(m, 0, 0, 129 * BS));
	must(m, model_import_sizes(m, BS + 1, BS + 1, 8 * BS));
	must(m, model_import_sizes(m, BS, BS, 8 * BS + 1));
	assert_int_equal(info_of(m).usable_region_size, 8 * BS);
	/* What was granted is between what the owner said and what the driver was told. */
	must(m, model_import_sizes(m, 6 * BS, 5 * BS, 8 * BS));
	must(m, model_import_sizes(m, BS + 1, 5 * BS, 8 * BS));
	must(m, model_import_sizes(m, 2 * BS, 5 * BS, 8 * BS));
	assert_int_equal(info_of(m).owner_size, 2 * BS);
	assert_int_equal(info_of(m).requested_size, 5 * BS);
	assert_int_equal(info_of(m).usable_region_size, 8 * BS);
	assert_int_equal(info_of(m).plugged_size, BS);
}

/* A device that gave less slack: whoever asks again, for the same size even, has all of it. */
static void test_slack_comes_with_the_next_resize(void **state)
{
	struct model *m = *state;

	must(m, model_import_sizes(m, 40 * BS, 40 * BS, 40 * BS));
	assert_int_equal(request(m, VMEM_REQ_PLUG, 41, 1), VMEM_RESP_ERROR);
	must(m, model_resize(m, 40 * BS));
	assert_int_equal(info_of(m).usable_region_size, 56 * BS);
	assert_int_equal(request(m, VMEM_REQ_PLUG, 41, 1), VMEM_RESP_ACK);
	must(m, model_resize(m, 40 * BS));
}

/* A host that fails leaves the device as it was, and able to try again. */
static void test_failures(void **state)
{
	struct model *m = *state;

	plug(m, 0, 4, 0);
	m->fail_errno = ENOMEM;
	m->partial = MODEL_HALF;
	m->fail_calls = 1;
	plug(m, 100, 10, -ENOMEM);
	assert_int_equal(info_of(m).host_failures, 1);
	assert_int_equal(info_of(m).usable_region_size, 48 * BS);
	plug(m, 100, 10, 0);
	m->fail_errno = EIO;
	m->fail_calls = 2;
	unplug(m, 0, 128, -EIO);
	assert_int_equal(info_of(m).plugged_size, 14 * BS);
	assert_int_equal(info_of(m).faulted_size, 0);
	/* Undoing fails as well: of the two runs the first. */
	m->fail_calls = 1 | 2;
	unplug(m, 0, 128, -EIO);
	assert_int_equal(info_of(m).faulted_size, 4 * BS);
	unplug(m, 0, 128, 0);
	assert_int_equal(info_of(m).faulted_size, 0);
	/* A stray keeps the next run out until it is taken back. */
	m->fail_calls = 1 | 2;
	plug(m, 60, 2, -EIO);
	assert_int_equal(info_of(m).stray_size, 2 * BS);
	m->fail_calls = 1;
	plug(m, 62, 1, -EBUSY);
	plug(m, 60, 3, 0);
	assert_int_equal(info_of(m).stray_size, 0);
}

static int collect(void *opaque, uint64_t offset, uint64_t size)
{
	bool *map = opaque;

	memset(map + offset / BS, true, size / BS);
	return 0;
}

/* Bring @to into the state of @from, in runs of any length and in any order. */
static void copy(struct model *to, const struct model *from, uint64_t *random)
{
	struct vmem_device_info info = info_of(from);
	uint64_t left = info.plugged_size / BS;
	bool map[MODEL_BLOCKS_MAX] = {false};

	vmem_device_for_each_plugged(from->dev, collect, map);
	vmem_device_for_each_faulted(from->dev, collect, map);
	while (left) {
		uint64_t first = model_random(random) % from->nblocks, count = 0;
		uint64_t max = model_random(random) % 9 + 1;

		while (first + count < from->nblocks && map[first + count] && count < max)
			map[first + count++] = false;
		if (count)
			plug(to, first, count, 0);
		left -= count;
	}
	must(to,
	     model_import_sizes(to, info.owner_size, info.requested_size, info.usable_region_size));
}

static void check_same(const struct model *a, const struct model *b)
{
	struct vmem_config config[2];

	vmem_device_config_read(a->dev, &config[0]);
	vmem_device_config_read(b->dev, &config[1]);
	assert_memory_equal(&config[0], &config[1], sizeof(config[0]));
	assert_memory_equal(a->plugged, b->plugged, sizeof(a->plugged));
}

static void random_life(struct model *m, uint64_t *random)
{
	for (unsigned int i = 0; i < 200; i++) {
		uint16_t type = (uint16_t)(model_random(random) % 3), answer;
		uint64_t first = model_random(random) % m->nblocks;
		uint16_t count = (uint16_t)(model_random(random) % 8 + 1);

		if (type == VMEM_REQ_UNPLUG_ALL && i % 16)
			type = VMEM_REQ_PLUG;
		if (model_random(random) % 4 == 0) {
			m->fail_calls = model_random(random);
			m->fail_errno = EIO;
		}
		if (i % 20 == 0) {
			must(m, model_resize(m, first * BS));
		} else if (i % 20 == 10) {
			struct vmem_size_req req = model_size_req(first * BS, 0);
			struct vmem_size_resp resp;

			must(m, model_size_request(m, &req, i * 100, &resp));
		}
		must(m, model_do(m, type, first, count, &answer));
	}
}

/* Whatever the other device's life was, this one goes on as that one would. */
static void test_any_state_is_taken_over(void **state)
{
	struct vmem_device_config config = config_128;
	struct model *from = malloc(sizeof(*from)), *to = malloc(sizeof(*to));
	uint64_t random = 1, faulted = 0;

	(void)state;
	assert_non_null(from);
	assert_non_null(to);
	for (unsigned int round = 0; round < 300; round++) {
		must(from, model_init(from, &config_128));
		random_life(from, &random);
		config.prealloc = round % 2;
		config.usable_extra_bytes = model_random(&random) % 40 * BS;
		config.requested_size = model_random(&random) % 129 * BS;
		must(to, model_init(to, &config));
		copy(to, from, &random);
		check_same(from, to);
		faulted += info_of(from).faulted_size;
		assert_int_equal(info_of(to).faulted_size, 0);
		/* The reference model checks that it does. */
		random_life(to, &random);
		model_done(from);
		model_done(to);
	}
	assert_true(faulted > 0);
	free(from);
	free(to);
}

#define DEVICE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		DEVICE(test_blocks_beyond_what_was_asked_for),  DEVICE(test_runs_that_cannot_be),
		DEVICE(test_unplug_takes_what_is_there),        DEVICE(test_sizes),
		DEVICE(test_slack_comes_with_the_next_resize),  DEVICE(test_failures),
		cmocka_unit_test(test_any_state_is_taken_over),
	};

	return cmocka_run_group_tests_name("device: import", tests, NULL, NULL);
}

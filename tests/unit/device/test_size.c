/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Size requests: what docs/virtio-mem.md says of them, sentence by sentence. The reference model checks
 * each step; here is what the steps come to.
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

#define BS     (2 * MIB)
#define BLOCKS 128

static const struct vmem_device_config size_config = {
	.addr = 4 * GIB,
	.region_size = BLOCKS * BS,
	.block_size = BS,
	.requested_size = 16 * BS,
	.usable_extra_bytes = 8 * BS,
	.size_requests = true,
	.request_limit = 64 * BS,
};

struct rig {
	struct model m;
	uint64_t now_ms;
	struct vmem_size_resp resp; /* the last one, in the host's byte order */
};

static void must(const struct rig *r, bool ok)
{
	if (!ok)
		fail_msg("%s", r->m.error);
}

static struct rig *rig_new(const struct vmem_device_config *config)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->now_ms = 5000;
	must(r, model_init(&r->m, config));
	return r;
}

static int setup(void **state)
{
	*state = rig_new(&size_config);
	return 0;
}

static void rig_free(struct rig *r)
{
	model_done(&r->m);
	free(r);
}

static int teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* Two seconds after the last one: no pace is felt. Sizes in blocks. */
static void ask(struct rig *r, uint64_t size, uint64_t min_size, uint16_t type, uint16_t cause,
		uint64_t requested)
{
	struct vmem_size_req req = model_size_req(size * BS, min_size * BS);
	struct vmem_size_resp resp;

	r->now_ms += 2000;
	must(r, model_size_request(&r->m, &req, r->now_ms, &resp));
	r->resp.retry_ms = le32toh(resp.retry_ms);
	assert_int_equal(le16toh(resp.type), type);
	assert_int_equal(le16toh(resp.cause), cause);
	assert_int_equal(le64toh(resp.size), requested * BS);
}

static struct vmem_device_info info_of(const struct rig *r)
{
	struct vmem_device_info info;

	vmem_device_info(r->m.dev, &info);
	return info;
}

/* ---- what is offered ---- */

static void test_off(void **state)
{
	struct vmem_device_config config = size_config;
	struct rig *r;

	(void)state;
	config.size_requests = false;
	config.request_limit = 0;
	r = rig_new(&config);
	assert_false(vmem_device_features(r->m.dev) >> VMEM_F_SIZE_REQUEST & 1);
	ask(r, 32, 0, VMEM_SIZE_RESP_ERROR, VMEM_SIZE_CAUSE_NONE, 16);
	must(r, model_set_policy(&r->m, 32 * BS, 0));
	assert_int_equal(info_of(r).request_limit, 0);
	rig_free(r);
}

static void test_config(void **state)
{
	struct vmem_device_config config = size_config;
	struct model *m = malloc(sizeof(*m));
	struct rig *r = *state;

	assert_non_null(m);
	assert_true(vmem_device_features(r->m.dev) >> VMEM_F_SIZE_REQUEST & 1);
	assert_int_equal(info_of(r).request_limit, 64 * BS);
	config.request_limit = BS + 1;
	assert_false(model_init(m, &config));
	config.request_limit = (BLOCKS + 1) * BS;
	assert_false(model_init(m, &config));
	config.request_limit = 0;
	config.request_rate = 1;
	config.size_requests = false;
	assert_false(model_init(m, &config));
	config.size_requests = true;
	assert_true(model_init(m, &config));
	model_done(m);
	free(m);
}

/* ---- limit and floor ---- */

static void test_limit_and_floor(void **state)
{
	struct rig *r = *state;

	ask(r, 16, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 16);
	ask(r, 40, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 40);
	assert_int_equal(info_of(r).usable_region_size, 48 * BS);
	ask(r, 80, 65, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_LIMIT, 40);
	ask(r, 80, 64, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_LIMIT, 64);
	ask(r, 80, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_LIMIT, 64);
	ask(r, 17, 17, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 17);
	ask(r, 3, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_FLOOR, 16);
	ask(r, 0, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_FLOOR, 16);
	assert_int_equal(info_of(r).owner_size, 16 * BS);
}

static void test_limit_below_what_there_is(void **state)
{
	struct rig *r = *state;

	ask(r, 40, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 40);
	must(r, model_set_policy(&r->m, 8 * BS, 0));
	ask(r, 41, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_LIMIT, 40);
	ask(r, 39, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 39);
	must(r, model_set_policy(&r->m, 0, 0));
	ask(r, 40, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_LIMIT, 39);
	/* Wrong ones change nothing. */
	must(r, model_set_policy(&r->m, BS + 1, 0));
	must(r, model_set_policy(&r->m, (BLOCKS + 1) * BS, 0));
	assert_int_equal(info_of(r).request_limit, 0);
}

static void test_owner(void **state)
{
	struct rig *r = *state;
	int rc;

	ask(r, 40, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 40);
	must(r, model_resize(&r->m, 20 * BS));
	assert_int_equal(info_of(r).requested_size, 20 * BS);
	ask(r, 18, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_FLOOR, 20);
	ask(r, 40, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 40);
	/* What the owner asks for is what the guest has: then it is the owner's. */
	must(r, model_resize(&r->m, 40 * BS));
	ask(r, 20, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_FLOOR, 40);
	ask(r, 50, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 50);
	must(r, model_reset(&r->m, &rc));
	assert_int_equal(info_of(r).requested_size, 40 * BS);
	/* Beyond the limit the owner may go, and the guest no further. */
	must(r, model_resize(&r->m, 100 * BS));
	ask(r, 101, 0, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_LIMIT, 100);
}

/* ---- rate ---- */

static void test_rate(void **state)
{
	struct rig *r = *state;

	must(r, model_set_policy(&r->m, 64 * BS, 4 * BS));
	ask(r, 40, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_RATE, 20);
	assert_int_equal(r->resp.retry_ms, 1000);
	/* However long it waited, no more than a second's is there at once. */
	r->now_ms += 100000;
	ask(r, 40, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_RATE, 24);
	ask(r, 40, 29, VMEM_SIZE_RESP_REFUSED, VMEM_SIZE_CAUSE_RATE, 24);
	ask(r, 26, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 26);
	/* 250 ms for a block. */
	r->now_ms -= 2000;
	ask(r, 40, 29, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_RATE, 26);
	assert_int_equal(r->resp.retry_ms, 250);
	r->now_ms -= 1751;
	ask(r, 40, 29, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_RATE, 26);
	assert_int_equal(r->resp.retry_ms, 1);
	r->now_ms -= 1999;
	ask(r, 40, 29, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_RATE, 29);
	/* Offers are taken at once, and give nothing back. */
	r->now_ms -= 2000;
	ask(r, 16, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 16);
	r->now_ms -= 2000;
	ask(r, 17, 0, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_RATE, 16);
	/* The limit is told of once the rate is not in the way. */
	must(r, model_set_policy(&r->m, 18 * BS, 4 * BS));
	ask(r, 40, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_LIMIT, 18);
}

/* Slower than a block a second: a block now and then. */
static void test_slow_rate(void **state)
{
	struct rig *r = *state;

	must(r, model_set_policy(&r->m, 64 * BS, BS / 10));
	ask(r, 40, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_RATE, 17);
	assert_int_equal(r->resp.retry_ms, 10001); /* a part of a byte counts as one */
	ask(r, 40, 0, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_RATE, 17);
	assert_int_equal(r->resp.retry_ms, 8001);
	r->now_ms += 6001;
	ask(r, 40, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_RATE, 18);
}

static void test_too_often(void **state)
{
	struct vmem_size_req req = model_size_req(20 * BS, 0);
	struct rig *r = *state;
	unsigned int later = 0;

	for (unsigned int i = 0; i < 40; i++) {
		struct vmem_size_resp resp;

		must(r, model_size_request(&r->m, &req, r->now_ms + i * 25, &resp));
		if (le16toh(resp.type) != VMEM_SIZE_RESP_LATER)
			continue;
		later++;
		assert_int_equal(le16toh(resp.cause), VMEM_SIZE_CAUSE_RATE);
		assert_int_equal(le32toh(resp.retry_ms), 1000 - i * 25);
	}
	assert_int_equal(later, 30);
	assert_int_equal(info_of(r).size_answers[VMEM_SIZE_RESP_GRANTED], 10);
	assert_int_equal(info_of(r).size_answers[VMEM_SIZE_RESP_LATER], 30);
}

/* ---- the host ---- */

static void test_host(void **state)
{
	struct rig *r = *state;

	r->m.size.has_spare = true;
	r->m.size.spare = 20 * BS + 5;
	ask(r, 40, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_HOST, 20);
	ask(r, 40, 0, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_HOST, 20);
	assert_int_equal(r->resp.retry_ms, 1000);
	r->m.size.spare = 0;
	ask(r, 40, 0, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_HOST, 20);
	/* It is asked for what policy would grant, never for offers. */
	r->m.size.spare = 100 * BS;
	ask(r, 100, 0, VMEM_SIZE_RESP_PARTLY, VMEM_SIZE_CAUSE_LIMIT, 64);
	assert_int_equal(r->m.size.want.size, 64 * BS);
	ask(r, 16, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 16);
	/* A refusal of the host takes nothing from the rate. */
	must(r, model_set_policy(&r->m, 64 * BS, 4 * BS));
	r->m.size.spare = 0;
	ask(r, 20, 0, VMEM_SIZE_RESP_LATER, VMEM_SIZE_CAUSE_HOST, 16);
	r->m.size.has_spare = false;
	r->now_ms -= 2000;
	ask(r, 20, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 20);
}

/* ---- requests that make no sense ---- */

static void test_nonsense(void **state)
{
	static const struct vmem_size_req wrong[] = {
		{.type = 1, .size = BS},
		{.type = UINT16_MAX, .size = BS},
		{.urgency = VMEM_SIZE_URGENCIES, .size = BS},
		{.urgency = UINT16_MAX, .size = BS},
		{.reason = VMEM_SIZE_REASONS, .size = BS},
		{.size = 20 * BS + 1},
		{.size = (BLOCKS + 1) * BS},
		{.size = UINT64_MAX - BS + 1},
		{.size = 20 * BS, .min_size = 20 * BS + 1},
		{.size = 20 * BS, .min_size = UINT64_MAX},
	};
	struct rig *r = *state;
	struct vmem_size_resp resp;

	for (unsigned int i = 0; i < 3 * ARRAY_SIZE(wrong); i++) {
		const struct vmem_size_req *w = &wrong[i % ARRAY_SIZE(wrong)];
		struct vmem_size_req req = {
			.type = htole16(w->type),
			.urgency = htole16(w->urgency),
			.reason = htole16(w->reason),
			.size = htole64(w->size),
			.min_size = htole64(w->min_size),
		};

		must(r, model_size_request(&r->m, &req, r->now_ms, &resp));
		assert_int_equal(le16toh(resp.type), VMEM_SIZE_RESP_ERROR);
		assert_int_equal(le64toh(resp.size), 16 * BS);
	}
	/* They were no requests: ten that are have their place in this second. */
	r->now_ms -= 2000;
	ask(r, 20, 0, VMEM_SIZE_RESP_GRANTED, VMEM_SIZE_CAUSE_NONE, 20);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),
		T(test_config),
		T(test_limit_and_floor),
		T(test_owner),
		T(test_rate),
		T(test_limit_below_what_there_is),
		T(test_slow_rate),
		T(test_too_often),
		T(test_host),
		T(test_nonsense),
	};

	return cmocka_run_group_tests_name("device: size requests", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine against the reference model, driven by random requests, size requests, resizes, resets and imports over
 * random geometries: with a host that never fails, and with one whose calls fail now and then.
 *
 * EBB_TEST_SEED repeats a run (a failure prints its seed); EBB_TEST_STEPS changes its length.
 */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>
#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

#define STEPS_DEFAULT      1500000
#define STEPS_PER_GEOMETRY 20000

struct run {
	uint64_t seed, random, step, now_ms;
	struct model m;
};

static uint64_t number_from_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t below(struct run *r, uint64_t n)
{
	return n ? model_random(&r->random) % n : 0;
}

static void must(struct run *r, bool ok)
{
	if (!ok)
		fail_msg("EBB_TEST_SEED=%#llx, step %llu: %s", (unsigned long long)r->seed,
			 (unsigned long long)r->step, r->m.error);
}

static struct vmem_device_config random_config(struct run *r)
{
	static const uint64_t counts[] = {0, 1, 2, 63, 64, 65, 128, 150, MODEL_BLOCKS_MAX};
	static const uint64_t sizes[] = {4 * KIB, 2 * MIB, GIB, TIB};
	uint64_t bs = sizes[below(r, ARRAY_SIZE(sizes))];
	uint64_t blocks = counts[below(r, ARRAY_SIZE(counts))];
	struct vmem_device_config c = {.block_size = bs, .region_size = blocks * bs};
	const uint64_t addrs[] = {0, bs, num_align_down(UINT64_C(0x140000000), bs),
				  /* the last block that an address range can have stays free */
				  (UINT64_MAX - bs + 1) - c.region_size};
	const uint64_t extras[] = {0, 1, bs / 2, 3 * bs, UINT64_MAX};

	c.addr = addrs[below(r, ARRAY_SIZE(addrs))];
	c.usable_extra_bytes = extras[below(r, ARRAY_SIZE(extras))];
	c.requested_size = below(r, blocks + 1) * bs;
	c.has_node = below(r, 2);
	c.node_id = (uint16_t)below(r, 4);
	c.prealloc = below(r, 2);
	c.size_requests = below(r, 4);
	if (c.size_requests && below(r, 2))
		c.request_limit = below(r, blocks + 1) * bs;
	if (c.size_requests && below(r, 2))
		c.request_rate = below(r, 20) * bs / 2;
	return c;
}

static void random_request(struct run *r)
{
	struct model *m = &r->m;
	uint64_t bs = m->config.block_size, first = below(r, m->nblocks + 2);
	uint64_t addr = m->config.addr + first * bs;
	uint16_t nb = (uint16_t)below(r, below(r, 8) ? 9 : m->nblocks + 2);
	uint16_t type = (uint16_t)below(r, 64), answer;
	struct vmem_req req;

	/* Mostly PLUG, UNPLUG and STATE; UNPLUG_ALL and unknown types now and then. */
	if (type > 4)
		type = (uint16_t[]){VMEM_REQ_PLUG, VMEM_REQ_UNPLUG, VMEM_REQ_STATE}[type % 3];
	switch (below(r, 64)) {
	case 0:
		addr = model_random(&r->random);
		break;
	case 1:
		addr += below(r, bs);
		break;
	case 2:
		addr = m->config.addr - (1 + below(r, 3)) * bs;
		break;
	case 3:
		nb = (uint16_t)model_random(&r->random);
		break;
	default:
		break;
	}
	req = model_req(type, addr, nb);
	must(r, model_request(m, &req, &answer));
}

/* A run of blocks, mostly; and sizes, now and then such as another device could have. */
static void random_import(struct run *r)
{
	struct model *m = &r->m;
	uint64_t bs = m->config.block_size, offset = below(r, m->nblocks + 1) * bs;
	uint64_t size = below(r, below(r, 4) ? 9 : m->nblocks + 2) * bs, requested;
	int rc;

	if (!below(r, 32))
		offset = model_random(&r->random);
	if (!below(r, 32))
		size += below(r, bs);
	switch (below(r, 4)) {
	case 0:
		must(r, model_import_unplug(m, offset, size, &rc));
		break;
	case 1:
		requested = below(r, m->nblocks + 1) * bs + !below(r, 16);
		must(r, model_import_sizes(m, below(r, 4) ? requested : below(r, m->nblocks) * bs,
					   requested, offset));
		break;
	default:
		must(r, model_import_plug(m, offset, size, &rc));
		break;
	}
}

/* A number that is mostly of blocks, sometimes any. */
static uint64_t random_size(struct run *r)
{
	uint64_t size = below(r, r->m.nblocks + 2) * r->m.config.block_size;

	return below(r, 32) ? size : model_random(&r->random) >> below(r, 64);
}

static void random_size_request(struct run *r)
{
	struct model *m = &r->m;
	struct vmem_size_req req = model_size_req(random_size(r), 0);
	struct vmem_size_resp resp;

	if (!below(r, 4))
		req.min_size = htole64(below(r, le64toh(req.size) + 2));
	req.urgency = htole16((uint16_t)below(r, below(r, 8) ? VMEM_SIZE_URGENCIES : 9));
	req.reason = htole16((uint16_t)below(r, below(r, 8) ? VMEM_SIZE_REASONS : 9));
	if (!below(r, 32))
		req.type = htole16((uint16_t)model_random(&r->random));
	m->size.has_spare = !below(r, 4);
	m->size.spare = random_size(r);
	/* Time goes back now and then, and far ahead. */
	r->now_ms += below(r, 4) ? below(r, 300) : below(r, 3000);
	if (!below(r, 128))
		r->now_ms = below(r, 16) ? r->now_ms - below(r, r->now_ms + 1)
					 : model_random(&r->random);
	must(r, model_size_request(m, &req, r->now_ms, &resp));
}

static void random_policy(struct run *r)
{
	uint64_t bs = r->m.config.block_size;
	const uint64_t rates[] = {0, 1, bs / 3, bs, 5 * bs + 1, 40 * bs, UINT64_MAX};

	must(r, model_set_policy(&r->m, random_size(r), rates[below(r, ARRAY_SIZE(rates))]));
}

static void random_step(struct run *r)
{
	struct model *m = &r->m;
	uint64_t what = below(r, 256);
	int rc;

	if (what == 0)
		must(r, model_reset(m, &rc));
	else if (what == 1)
		must(r, model_resize(m, model_random(&r->random)));
	else if (what < 8)
		random_import(r);
	else if (what < 10)
		random_policy(r);
	else if (what < 50)
		random_size_request(r);
	else if (what < 60)
		must(r, model_resize(m, below(r, m->nblocks + 2) * m->config.block_size));
	else
		random_request(r);
	model_guest_write(m, below(r, m->nblocks), (uint32_t)model_random(&r->random));
}

/* Arm failures for the next step: none mostly, then each of its first calls with one chance in 2.
 */
static void random_failures(struct run *r)
{
	static const int errnos[] = {ENOMEM, ENOSPC, EDQUOT, EIO, EBUSY, EFAULT};

	if (below(r, 8))
		return;
	r->m.fail_calls = model_random(&r->random);
	r->m.fail_errno = errnos[below(r, ARRAY_SIZE(errnos))];
	r->m.partial = (enum model_partial)below(r, MODEL_PARTIALS);
}

static void random_run(bool failures)
{
	uint64_t steps = number_from_env("EBB_TEST_STEPS", STEPS_DEFAULT);
	struct run *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	assert_int_equal(getrandom(&r->seed, sizeof(r->seed), 0), sizeof(r->seed));
	r->seed = number_from_env("EBB_TEST_SEED", r->seed);
	r->random = r->seed;
	for (r->step = 0; r->step < steps; r->step++) {
		if (r->step % STEPS_PER_GEOMETRY == 0) {
			struct vmem_device_config config = random_config(r);

			model_done(&r->m);
			must(r, model_init(&r->m, &config));
		}
		if (failures)
			random_failures(r);
		random_step(r);
	}
	model_done(&r->m);
	free(r);
}

static void random_without_failures(void **state)
{
	(void)state;
	random_run(false);
}

static void random_with_failures(void **state)
{
	(void)state;
	random_run(true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_without_failures),
		cmocka_unit_test(random_with_failures),
	};

	return cmocka_run_group_tests_name("device: reference model", tests, NULL, NULL);
}

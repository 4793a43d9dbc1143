/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmem_device_info() on other threads while requests, resizes and resets go on: each field is whole
 * and within its bounds. The thread sanitizer finds what the values do not show.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

#define BS      (2 * MIB)
#define BLOCKS  128
#define STEPS   100000
#define READERS 2

struct reader {
	pthread_t thread;
	const struct vmem_device *dev;
	atomic_bool *stop;
	uint64_t snapshots, bad;
};

static bool info_sane(const struct vmem_device_info *info, uint64_t *last_answers)
{
	const uint64_t sizes[] = {info->plugged_size,   info->usable_region_size,
				  info->requested_size, info->faulted_size,
				  info->stray_size,     info->owner_size,
				  info->request_limit};
	uint64_t answers = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		if (sizes[i] % BS || sizes[i] > BLOCKS * BS)
			return false;
	for (unsigned int t = 0; t < VMEM_REQ_TYPES; t++)
		for (unsigned int a = 0; a < VMEM_RESP_TYPES; a++)
			answers += info->answers[t][a];
	if (answers < *last_answers)
		return false;
	*last_answers = answers;
	return info->block_size == BS && info->region_size == BLOCKS * BS && info->addr == BS;
}

static void *read_info(void *opaque)
{
	struct reader *r = opaque;
	uint64_t last_answers = 0;

	/* At least one snapshot, however short the run of the writer. */
	do {
		struct vmem_device_info info;

		vmem_device_info(r->dev, &info);
		r->bad += !info_sane(&info, &last_answers);
		r->snapshots++;
	} while (!atomic_load(r->stop));
	return NULL;
}

static bool write_step(struct model *m, uint64_t *random)
{
	uint64_t first = model_random(random) % BLOCKS;
	uint16_t count = (uint16_t)(1 + model_random(random) % 8), answer;
	struct vmem_size_req req = model_size_req(first * BS, 0);
	struct vmem_size_resp resp;
	int rc;

	m->fail_errno = ENOMEM;
	m->fail_calls = model_random(random) % 8 ? 0 : model_random(random);
	switch (model_random(random) % 64) {
	case 0:
		return model_reset(m, &rc);
	case 1:
		return model_do(m, VMEM_REQ_UNPLUG_ALL, 0, 0, &answer);
	case 2:
	case 3:
		return model_resize(m, first * BS);
	case 4:
	case 5:
		return model_size_request(m, &req, *random >> 40, &resp);
	case 6:
		return model_set_policy(m, first * BS, first % 4 * BS);
	default:
		return model_do(m, first & 1 ? VMEM_REQ_PLUG : VMEM_REQ_UNPLUG, first, count,
				&answer);
	}
}

static void info_is_read_while_requests_run(void **state)
{
	const struct vmem_device_config config = {
		.addr = BS,
		.region_size = BLOCKS * BS,
		.block_size = BS,
		.requested_size = BLOCKS * BS,
		.usable_extra_bytes = 16 * BS,
		.prealloc = true,
		.size_requests = true,
	};
	struct reader readers[READERS];
	atomic_bool stop = false;
	uint64_t random = 1;
	struct model m;
	bool ok;

	(void)state;
	memset(readers, 0, sizeof(readers));
	ok = model_init(&m, &config);
	if (!ok)
		fail_msg("%s", m.error);
	for (unsigned int i = 0; i < READERS; i++) {
		readers[i].dev = m.dev;
		readers[i].stop = &stop;
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_info, &readers[i]),
				 0);
	}
	for (unsigned int step = 0; ok && step < STEPS; step++)
		ok = write_step(&m, &random);
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < READERS; i++)
		pthread_join(readers[i].thread, NULL);
	if (!ok)
		fail_msg("%s", m.error);
	for (unsigned int i = 0; i < READERS; i++) {
		assert_true(readers[i].snapshots > 0);
		assert_int_equal(readers[i].bad, 0);
	}
	model_done(&m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(info_is_read_while_requests_run),
	};

	return cmocka_run_group_tests_name("device: threads", tests, NULL, NULL);
}

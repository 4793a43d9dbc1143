/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine at the ends of its numbers: addresses near 2^64, 65535 blocks at once, blocks from 4
 * KiB to 1 TiB, regions of 16 TiB; and what vmem_device_new() refuses.
 */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

/* A host that works, and remembers the last run of each call. */
struct host {
	uint64_t offset[4], size[4];
	unsigned int calls[4];
};

enum { GRANT, POPULATE, REVOKE, DISCARD };

static int host_note(void *opaque, int call, uint64_t offset, uint64_t size)
{
	struct host *h = opaque;

	h->offset[call] = offset;
	h->size[call] = size;
	h->calls[call]++;
	return 0;
}

static int host_grant(void *h, uint64_t offset, uint64_t size)
{
	return host_note(h, GRANT, offset, size);
}

static int host_populate(void *h, uint64_t offset, uint64_t size)
{
	return host_note(h, POPULATE, offset, size);
}

static int host_revoke(void *h, uint64_t offset, uint64_t size)
{
	return host_note(h, REVOKE, offset, size);
}

static int host_discard(void *h, uint64_t offset, uint64_t size)
{
	return host_note(h, DISCARD, offset, size);
}

static void host_config_changed(void *h)
{
	(void)h;
}

/* No plugged_changed: it may be missing. */
static const struct vmem_host_ops ops = {
	.grant = host_grant,
	.populate = host_populate,
	.revoke = host_revoke,
	.discard = host_discard,
	.config_changed = host_config_changed,
};

static struct vmem_device *device(struct host *h, uint64_t addr, uint64_t region_size,
				  uint64_t block_size)
{
	const struct vmem_device_config config = {
		.addr = addr,
		.region_size = region_size,
		.block_size = block_size,
		.requested_size = region_size,
	};
	struct vmem_device *dev = NULL;

	memset(h, 0, sizeof(*h));
	assert_int_equal(vmem_device_new(&config, &ops, h, &dev), 0);
	return dev;
}

static uint16_t ask(struct vmem_device *dev, uint16_t type, uint64_t addr, uint16_t nb_blocks)
{
	struct vmem_req req = model_req(type, addr, nb_blocks);
	struct vmem_resp resp;

	return vmem_device_request(dev, &req, &resp);
}

static uint64_t plugged_size(const struct vmem_device *dev)
{
	struct vmem_device_info info;

	vmem_device_info(dev, &info);
	return info.plugged_size;
}

static void addresses_near_the_end_do_not_wrap(void **state)
{
	const uint64_t bs = 2 * MIB, addr = -(8 * bs);
	struct host h;
	struct vmem_device *dev = device(&h, addr, 7 * bs, bs);

	(void)state;
	for (uint16_t type = VMEM_REQ_PLUG; type <= VMEM_REQ_STATE; type++) {
		if (type == VMEM_REQ_UNPLUG_ALL)
			continue;
		assert_int_equal(ask(dev, type, addr, 8), VMEM_RESP_ERROR);
		assert_int_equal(ask(dev, type, addr + bs, 65535), VMEM_RESP_ERROR);
		assert_int_equal(ask(dev, type, -bs, 1), VMEM_RESP_ERROR);
		assert_int_equal(ask(dev, type, -bs, 2), VMEM_RESP_ERROR);
		assert_int_equal(ask(dev, type, UINT64_MAX, 1), VMEM_RESP_ERROR);
		assert_int_equal(ask(dev, type, 0, 1), VMEM_RESP_ERROR);
	}
	assert_int_equal(h.calls[GRANT], 0);
	assert_int_equal(ask(dev, VMEM_REQ_PLUG, addr, 7), VMEM_RESP_ACK);
	assert_true(vmem_device_plugged(dev, addr, 7 * bs));
	assert_false(vmem_device_plugged(dev, addr, 7 * bs + 1));
	assert_false(vmem_device_plugged(dev, addr, UINT64_MAX));
	assert_false(vmem_device_plugged(dev, addr + bs, -bs));
	assert_false(vmem_device_plugged(dev, addr - 1, 2));
	assert_false(vmem_device_plugged(dev, addr, 0));
	assert_true(vmem_device_plugged(dev, addr + 7 * bs - 1, 1));
	vmem_device_free(dev);
}

/* The longest request, with each block size from 4 KiB to 1 GiB. */
static void longest_request_works(void **state)
{
	(void)state;
	for (uint64_t bs = 4 * KIB; bs <= GIB; bs *= 2) {
		struct host h;
		struct vmem_device *dev = device(&h, TIB, 65540 * bs, bs);

		assert_int_equal(ask(dev, VMEM_REQ_PLUG, TIB + 5 * bs, 65535), VMEM_RESP_ACK);
		assert_int_equal(h.offset[GRANT], 5 * bs);
		assert_int_equal(h.size[GRANT], 65535 * bs);
		assert_int_equal(h.calls[POPULATE], 0);
		assert_int_equal(plugged_size(dev), 65535 * bs);
		assert_int_equal(ask(dev, VMEM_REQ_PLUG, TIB + 6 * bs, 65535), VMEM_RESP_ERROR);
		assert_int_equal(ask(dev, VMEM_REQ_UNPLUG, TIB + 5 * bs, 65535), VMEM_RESP_ACK);
		assert_int_equal(h.offset[DISCARD], 5 * bs);
		assert_int_equal(h.size[DISCARD], 65535 * bs);
		assert_int_equal(plugged_size(dev), 0);
		vmem_device_free(dev);
	}
}

/* 16 TiB in 4 KiB blocks, the ends plugged: an UNPLUG ALL is still two calls. */
static void largest_region_works(void **state)
{
	const uint64_t size = 16 * TIB, bs = 4 * KIB, addr = 4 * GIB;
	struct host h;
	struct vmem_device *dev = device(&h, addr, size, bs);

	(void)state;
	assert_int_equal(ask(dev, VMEM_REQ_PLUG, addr, 1), VMEM_RESP_ACK);
	assert_int_equal(ask(dev, VMEM_REQ_PLUG, addr + size - bs, 1), VMEM_RESP_ACK);
	assert_int_equal(h.offset[GRANT], size - bs);
	assert_int_equal(ask(dev, VMEM_REQ_PLUG, addr + size, 1), VMEM_RESP_ERROR);
	assert_int_equal(plugged_size(dev), 2 * bs);
	assert_int_equal(ask(dev, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(h.calls[REVOKE], 1);
	assert_int_equal(h.calls[DISCARD], 1);
	assert_int_equal(h.size[DISCARD], size);
	assert_int_equal(plugged_size(dev), 0);
	vmem_device_free(dev);
}

/* Slack and requested_size that overflow together give the whole region. */
static void slack_does_not_overflow(void **state)
{
	const struct vmem_device_config config = {
		.region_size = 8 * TIB,
		.block_size = TIB,
		.usable_extra_bytes = UINT64_MAX - TIB,
	};
	struct vmem_device_info info;
	struct vmem_device *dev;
	struct host h;

	(void)state;
	assert_int_equal(vmem_device_new(&config, &ops, &h, &dev), 0);
	vmem_device_info(dev, &info);
	assert_int_equal(info.usable_region_size, 0);
	assert_int_equal(vmem_device_resize(dev, 2 * TIB), 0);
	vmem_device_info(dev, &info);
	assert_int_equal(info.usable_region_size, 8 * TIB);
	vmem_device_free(dev);
}

static void resize_refuses_and_changes_nothing(void **state)
{
	struct host h;
	struct vmem_device *dev = device(&h, 0, 8 * MIB, 2 * MIB);
	struct vmem_device_info before, after;

	(void)state;
	vmem_device_info(dev, &before);
	assert_int_equal(vmem_device_resize(dev, 10 * MIB), -ERANGE);
	assert_int_equal(vmem_device_resize(dev, -(2 * MIB)), -ERANGE);
	assert_int_equal(vmem_device_resize(dev, MIB), -EINVAL);
	assert_int_equal(vmem_device_resize(dev, UINT64_MAX), -EINVAL);
	vmem_device_info(dev, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	vmem_device_free(dev);
}

static int refuse(const struct vmem_device_config *config, const struct vmem_host_ops *with)
{
	struct vmem_device *untouched = (struct vmem_device *)&refuse, *dev = untouched;
	struct host h;
	int rc = vmem_device_new(config, with, &h, &dev);

	if (rc)
		assert_ptr_equal(dev, untouched);
	else
		vmem_device_free(dev);
	return rc;
}

static void new_refuses_wrong_configurations(void **state)
{
	static const struct vmem_device_config good = {
		.addr = 4 * GIB,
		.region_size = GIB,
		.block_size = 2 * MIB,
		.requested_size = GIB,
	};
	struct vmem_device_config bad[10];
	unsigned int n = 0;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[n++].block_size = 0;
	bad[n++].block_size = 2048;
	bad[n++].block_size = 3 * MIB;
	bad[n++].block_size = UINT64_MAX;
	bad[n++].addr = 4 * GIB + MIB;
	bad[n++].region_size = GIB + MIB;
	bad[n++].requested_size = GIB - MIB;
	bad[n++].requested_size = GIB + 2 * MIB;
	bad[n++].addr = -GIB;       /* ends at 2^64 */
	bad[n++].addr = -(2 * MIB); /* ends beyond */
	assert_int_equal(n, ARRAY_SIZE(bad));
	assert_int_equal(refuse(&good, &ops), 0);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(refuse(&bad[i], &ops), -EINVAL);
}

static void new_refuses_missing_ops(void **state)
{
	struct vmem_device_config config = {.region_size = GIB, .block_size = 2 * MIB};
	struct vmem_host_ops partly[5];

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(partly); i++)
		partly[i] = ops;
	partly[0].grant = NULL;
	partly[1].revoke = NULL;
	partly[2].discard = NULL;
	partly[3].config_changed = NULL;
	partly[4].populate = NULL;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(refuse(&config, &partly[i]), -EINVAL);
	assert_int_equal(refuse(&config, &partly[4]), 0);
	config.prealloc = true;
	assert_int_equal(refuse(&config, &partly[4]), -EINVAL);
}

static int stop_at_second(void *opaque, uint64_t offset, uint64_t size)
{
	unsigned int *calls = opaque;

	assert_int_equal(size, 2 * MIB);
	assert_int_equal(offset, *calls * 4 * MIB);
	return ++*calls == 2 ? 42 : 0;
}

static void for_each_stops_when_told(void **state)
{
	struct host h;
	struct vmem_device *dev = device(&h, 0, 16 * MIB, 2 * MIB);
	unsigned int calls = 0;

	(void)state;
	for (uint64_t addr = 0; addr < 16 * MIB; addr += 4 * MIB)
		assert_int_equal(ask(dev, VMEM_REQ_PLUG, addr, 1), VMEM_RESP_ACK);
	assert_int_equal(vmem_device_for_each_plugged(dev, stop_at_second, &calls), 42);
	assert_int_equal(calls, 2);
	vmem_device_free(dev);
}

static void free_accepts_null(void **state)
{
	(void)state;
	vmem_device_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_near_the_end_do_not_wrap),
		cmocka_unit_test(longest_request_works),
		cmocka_unit_test(largest_region_works),
		cmocka_unit_test(slack_does_not_overflow),
		cmocka_unit_test(resize_refuses_and_changes_nothing),
		cmocka_unit_test(new_refuses_wrong_configurations),
		cmocka_unit_test(new_refuses_missing_ops),
		cmocka_unit_test(for_each_stops_when_told),
		cmocka_unit_test(free_accepts_null),
	};

	return cmocka_run_group_tests_name("device: limits", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer entry for the virtio-mem engine. The input chooses a geometry and then a series of steps:
 * whole requests of 24 arbitrary bytes, short ones that mostly hit the region, size requests and their
 * bounds, resizes, resets, imports and guest stores, each with its own failures of the host. The reference model of the unit tests judges
 * every step; what it finds wrong aborts.
 */
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next @size bytes; zeros when the input is at its end. */
static void input_bytes(struct input *in, void *out, size_t size)
{
	size_t n = num_min(size, in->left);

	memset(out, 0, size);
	memcpy(out, in->data, n);
	in->data += n;
	in->left -= n;
}

static uint8_t input_u8(struct input *in)
{
	uint8_t v;

	input_bytes(in, &v, sizeof(v));
	return v;
}

static uint64_t input_u64(struct input *in)
{
	uint64_t v;

	input_bytes(in, &v, sizeof(v));
	return le64toh(v);
}

static void must(const struct model *m, bool ok)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz_device: %s\n", m->error);
	abort();
}

static struct vmem_device_config fuzz_config(struct input *in)
{
	uint8_t shape = input_u8(in);
	uint64_t bs = UINT64_C(4096) << shape % 24;
	uint64_t blocks = input_u8(in);
	struct vmem_device_config c = {
		.block_size = bs,
		.region_size = blocks * bs,
		.requested_size = input_u8(in) % (blocks + 1) * bs,
		.usable_extra_bytes = input_u64(in),
		.prealloc = shape & 0x80,
		.has_node = shape & 0x40,
		.node_id = shape,
	};
	uint64_t addr_max = UINT64_MAX - bs + 1 - c.region_size;

	if (shape & 0x20) {
		c.size_requests = true;
		c.request_limit = input_u8(in) % (blocks + 1) * bs;
		c.request_rate = input_u64(in);
	}
	c.addr = num_align_down(num_min(input_u64(in), addr_max), bs);
	return c;
}

static void fuzz_failures(struct input *in, struct model *m)
{
	static const int errnos[] = {ENOMEM, ENOSPC, EDQUOT, EIO, EBUSY, EFAULT, EAGAIN, EPERM};
	uint8_t how = input_u8(in);

	m->fail_calls = input_u8(in);
	m->fail_errno = errnos[how % ARRAY_SIZE(errnos)];
	m->partial = (enum model_partial)(how / ARRAY_SIZE(errnos) % MODEL_PARTIALS);
}

static void fuzz_import(struct input *in, struct model *m)
{
	uint8_t how = input_u8(in);
	uint64_t unit = how & 0x80 ? 1 : m->config.block_size;
	uint64_t a = (how & 0x40 ? input_u64(in) : input_u8(in)) * unit;
	uint64_t b = (how & 0x20 ? input_u64(in) : input_u8(in)) * unit;
	int rc;

	switch (how % 4) {
	case 0:
		must(m, model_import_sizes(m, how & 8 ? a : a / 2, a, b));
		break;
	case 1:
		must(m, model_import_unplug(m, a, b, &rc));
		break;
	default:
		must(m, model_import_plug(m, a, b, &rc));
		break;
	}
}

/* Any bytes, or sizes that mostly make sense; any time. */
static void fuzz_size(struct input *in, struct model *m)
{
	uint8_t how = input_u8(in);
	uint64_t bs = m->config.block_size;
	struct vmem_size_req req;
	struct vmem_size_resp resp;

	m->size.has_spare = how & 0x80;
	m->size.spare = how & 0x80 ? input_u8(in) * bs + how : 0;
	switch (how % 4) {
	case 0:
		input_bytes(in, &req, sizeof(req));
		break;
	case 1:
		must(m, model_set_policy(m, input_u8(in) * bs + (how & 4), input_u64(in)));
		return;
	default:
		req = model_size_req(input_u8(in) * bs, input_u8(in) * bs);
		break;
	}
	must(m, model_size_request(m, &req, how & 8 ? input_u64(in) : input_u8(in) * 100, &resp));
}

static void fuzz_step(struct input *in, struct model *m)
{
	uint8_t op = input_u8(in);
	struct vmem_req req;
	uint16_t answer;
	uint64_t first;
	int rc;

	if (op & 0x80)
		fuzz_failures(in, m);
	switch (op & 7) {
	case 0:
		input_bytes(in, &req, sizeof(req));
		must(m, model_request(m, &req, &answer));
		break;
	case 1:
		must(m, model_resize(m, input_u64(in)));
		break;
	case 2:
		must(m, model_resize(m, input_u8(in) * m->config.block_size));
		break;
	case 3:
		must(m, model_reset(m, &rc));
		break;
	case 5:
		fuzz_import(in, m);
		break;
	case 4:
		first = input_u8(in);
		model_guest_write(m, first, (uint32_t)input_u64(in));
		break;
	case 6:
		fuzz_size(in, m);
		break;
	default:
		first = input_u8(in);
		must(m, model_do(m, op >> 3 & 3, first, input_u8(in), &answer));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct vmem_device_config config = fuzz_config(&in);
	struct model m;

	must(&m, model_init(&m, &config));
	while (in.left)
		fuzz_step(&in, &m);
	model_done(&m);
	return 0;
}

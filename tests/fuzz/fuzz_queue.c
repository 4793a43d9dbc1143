/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target for virtqueues: a guest that writes what it likes into its rings between the
 * device's steps. It checks what queue.h promises of every chain (I2, I3), and leaves memory errors
 * and endless loops to the sanitizers and the fuzzer.
 *
 * Input: 8 bytes of layout, then operations of one byte each, followed by their operands.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "tests/fuzz/input.h"
#include "vmm/core/gm.h"
#include "vmm/virtio/queue.h"

#define MEMORY         16384
#define BASE           UINT64_C(0x10000)
#define IN_FLIGHT      4
#define QUEUE_SIZE_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken promise must stop the fuzzer in every build, so this is no assert(). */
static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void check_chain(const struct vq *vq, const struct vq_chain *chain)
{
	unsigned int nr = chain->nr_readable + chain->nr_writable;
	uint64_t bytes[2] = {0, 0};

	check(nr <= vq_size(vq), "at most queue-size segments");
	for (unsigned int i = 0; i < nr; i++) {
		check(chain->segments[i].len > 0, "no empty segment");
		bytes[i >= chain->nr_readable] += chain->segments[i].len;
	}
	check(bytes[0] == chain->readable_bytes, "readable_bytes");
	check(bytes[1] == chain->writable_bytes, "writable_bytes");
	check(bytes[0] + bytes[1] <= UINT64_C(1) << 32, "at most 2^32 bytes");
}

/* Write operand bytes anywhere into guest memory. */
static void poke(struct input *in, uint8_t *memory)
{
	size_t at = take(in, 2) % MEMORY;
	size_t n = (size_t)num_min(take(in, 1) % 33, num_min(MEMORY - at, in->left));

	memcpy(memory + at, in->data, n);
	in->data += n;
	in->left -= n;
}

static void copy(struct vq *vq, const struct vq_chain *chain, struct input *in)
{
	uint64_t offset = take(in, 2);
	size_t size = take(in, 1);
	uint8_t buf[256];

	if (!vq_chain_read(vq, chain, offset, buf, size))
		check(offset + size <= chain->readable_bytes, "reads inside the chain");
	memset(buf, 0xc3, sizeof(buf));
	if (!vq_chain_write(vq, chain, offset, buf, size))
		check(offset + size <= chain->writable_bytes, "writes inside the chain");
}

static void run(struct vq *vq, struct vq_chain **chains, struct input *in, uint8_t *memory,
		const struct vq_layout *layout)
{
	bool out[IN_FLIGHT] = {false};
	int bad = 0;

	while (in->left) {
		uint8_t op = (uint8_t)take(in, 1);
		unsigned int i = op >> 4 & (IN_FLIGHT - 1);
		int ret = 0;

		switch (op & 7) {
		case 0:
		case 1:
			if (out[i])
				break;
			ret = vq_pop(vq, chains[i]);
			out[i] = ret == 1;
			check_chain(vq, chains[i]);
			break;
		case 2:
			if (!out[i])
				break;
			ret = vq_push(vq, chains[i],
				      (uint32_t)num_min(chains[i]->writable_bytes, op));
			out[i] = false;
			break;
		case 3:
			ret = op & 8 ? vq_kick_disable(vq) : vq_kick_enable(vq);
			break;
		case 4:
			ret = vq_notify_needed(vq);
			break;
		case 5:
			if (out[i])
				copy(vq, chains[i], in);
			break;
		case 6:
			if (op != 0xf6)
				break;
			vq_stop(vq);
			memset(out, 0, sizeof(out));
			check(vq_pop(vq, chains[0]) == 0, "a stopped queue is empty");
			bad = 0;
			if (vq_start(vq, layout))
				return;
			break;
		default:
			poke(in, memory);
			break;
		}
		if ((op & 7) <= 4 && bad && ret)
			check(ret == bad, "a bad ring stays bad");
		if (ret < 0)
			bad = ret;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t memory[MEMORY] __attribute__((aligned(4096)));
	struct input in = {data, size};
	struct vq_chain *chains[IN_FLIGHT];
	struct gm *gm = gm_new();
	struct vq *vq = vq_new(gm, QUEUE_SIZE_MAX);
	uint8_t flags = (uint8_t)take(&in, 1);
	struct vq_layout layout = {
		.packed = flags & 1,
		.event_idx = flags & 2,
		.indirect_desc = flags & 4,
		.size = flags & 8 ? (uint16_t)take(&in, 1) : (uint16_t)(1u << (flags >> 4 & 7)),
	};

	memset(memory, 0, sizeof(memory));
	check(gm_add_ram(gm, (struct range){BASE, MEMORY}, memory) == 0, "memory");
	layout.desc_gpa = BASE + take(&in, 2) % (MEMORY + 64);
	layout.driver_gpa = BASE + take(&in, 2) % (MEMORY + 64);
	layout.device_gpa = BASE + take(&in, 2) % (MEMORY + 64);
	if (flags & 0x80) {
		/* a layout that certainly works */
		layout.desc_gpa = BASE;
		layout.driver_gpa = BASE + 1024;
		layout.device_gpa = BASE + 2048;
	}
	for (unsigned int i = 0; i < IN_FLIGHT; i++)
		chains[i] = vq_chain_new(vq);
	if (vq_start(vq, &layout) == 0)
		run(vq, chains, &in, memory, &layout);
	for (unsigned int i = 0; i < IN_FLIGHT; i++)
		vq_chain_free(chains[i]);
	vq_free(vq);
	gm_free(gm);
	return 0;
}

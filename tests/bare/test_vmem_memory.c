/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmem-memory: plugged memory is memory. vmem-dma: devices reach plugged memory, and only that.
 * vmem-storm: requests as fast as they go.
 *
 *	devices=N	how many there must be
 *	read_unplugged=1
 *			also read unplugged memory, as a driver may that was not told to keep away
 *	rounds=N	storm: how often round; 0 goes on until a byte comes in at the console
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/vmem.h"
#include "tests.h"

#define BLOCKS      64u /* of each device that are looked at */
#define STORM_BATCH 48u

static struct vmem devices[VMEM_MAX];

struct storm_slot {
	struct vmem_req req;
	struct vmem_resp resp;
	uint8_t pad[30];
};

static unsigned int memory_open_devices(void)
{
	unsigned int n = vmem_open_all(devices, VMEM_MAX);

	check_equal(n, arg_number("devices", 1), "vmem-devices");
	for (unsigned int i = 0; i < n; i++)
		check_equal(vmem_unplug_all(&devices[i]), VMEM_RESP_ACK, "vmem-clean");
	return n;
}

static uint64_t memory_blocks(const struct vmem *v)
{
	uint64_t blocks = vmem_requested(v) / v->block_size;

	return blocks < BLOCKS ? blocks : BLOCKS;
}

static uint64_t memory_pattern(uint64_t gpa)
{
	return gpa * 0x9e3779b97f4a7c15ull + 1;
}

/* Runs over 8 bytes at the start, the middle and the end of each block. Returns mismatches. */
static unsigned int memory_walk(const struct vmem *v, uint64_t blocks, bool write, bool zero)
{
	unsigned int wrong = 0;

	for (uint64_t i = 0; i < blocks; i++) {
		const uint64_t offsets[] = {0, v->block_size / 2, v->block_size - 8};

		for (unsigned int j = 0; j < 3; j++) {
			uint64_t gpa = v->addr + i * v->block_size + offsets[j];

			if (write)
				cpu_store64(gpa, memory_pattern(gpa));
			else
				wrong += cpu_load64(gpa) != (zero ? 0 : memory_pattern(gpa));
		}
	}
	return wrong;
}

static void memory_check_device(struct vmem *v)
{
	uint64_t blocks = memory_blocks(v), size = blocks * v->block_size;
	uint64_t edge = v->addr + v->block_size - 4;

	mem_map(v->addr, size);
	check_equal(vmem_plug_bytes(v, 0, size), VMEM_RESP_ACK, "memory-plug");
	check_equal(memory_walk(v, blocks, false, true), 0, "memory-zero-at-first");
	memory_walk(v, blocks, true, false);
	check_equal(memory_walk(v, blocks, false, false), 0, "memory-holds");
	if (blocks > 1) {
		cpu_store64(edge, 0x1122334455667788ull);
		check_equal(cpu_load64(edge), 0x1122334455667788ull, "memory-across-blocks");
		check_equal(cpu_load64(edge + 4) & 0xffffffff, 0x11223344, "memory-across-second");
	}
	/* unplugging every second block leaves the others as they are */
	memory_walk(v, blocks, true, false);
	for (uint64_t i = 0; i < blocks; i += 2)
		if (vmem_unplug(v, v->addr + i * v->block_size, 1) != VMEM_RESP_ACK)
			check(false, "memory-unplug-even", "block %lu", i);
	for (uint64_t i = 1; i < blocks; i += 2) {
		uint64_t gpa = v->addr + i * v->block_size;

		if (cpu_load64(gpa) != memory_pattern(gpa))
			check(false, "memory-odd-stay", "block %lu", i);
	}
	if (arg_number("read_unplugged", 0) != 0)
		check_equal(cpu_load64(v->addr), 0, "memory-unplugged-zero");
	for (uint64_t i = 0; i < blocks; i += 2) {
		uint64_t gpa = v->addr + i * v->block_size;

		if (vmem_plug(v, gpa, 1) != VMEM_RESP_ACK || cpu_load64(gpa) != 0 ||
		    cpu_load64(gpa + v->block_size - 8) != 0)
			check(false, "memory-zero-again", "block %lu at 0x%lx", i, gpa);
	}
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "memory-unplug-all");
	check_equal(vmem_plug_bytes(v, 0, size), VMEM_RESP_ACK, "memory-replug");
	check_equal(memory_walk(v, blocks, false, true), 0, "memory-zero-after-all");
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "memory-end");
}

void test_vmem_memory(void)
{
	unsigned int n = memory_open_devices();

	for (unsigned int i = 0; i < n; i++)
		memory_check_device(&devices[i]);
}

/* Reads from the entropy device to @gpa. */
static bool dma_read(struct virtio *rng, uint64_t gpa, uint32_t size, uint32_t *ret_len)
{
	const struct vring_segment segment = {gpa, size, true};

	return virtio_do(rng, &segment, 1, ret_len);
}

static bool dma_is_zero(uint64_t gpa, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += 8)
		if (cpu_load64(gpa + i) != 0)
			return false;
	return true;
}

/* A buffer that touches an unplugged block must stop the device, and only until its reset. */
static void dma_check_refused(struct virtio *rng, uint64_t gpa, const char *name)
{
	const struct vring_segment segment = {gpa, 64, true};
	uint32_t len;

	vring_add(&rng->queue, &segment, 1);
	virtio_notify(rng);
	check(virtio_wait_status(rng, VIRTIO_NEEDS_RESET), name, "status 0x%x, used %u",
	      virtio_status(rng), vring_has_used(&rng->queue));
	check(virtio_start(rng, 0) && dma_read(rng, (uint64_t)mem_pages(1), 64, &len), name,
	      "no answer after the reset");
}

void test_vmem_dma(void)
{
	static struct virtio rng;
	unsigned int n = memory_open_devices();
	struct vmem *v = &devices[0];
	uint64_t bs = v->block_size, second = v->addr + bs;
	uint32_t len = 0;

	if (n == 0 || !check(virtio_open(&rng, VIRTIO_ID_ENTROPY, 0) && virtio_start(&rng, 0),
			     "dma-rng", "no virtio-rng device"))
		return;
	mem_map(v->addr, 4 * bs);
	check_equal(vmem_plug(v, v->addr, 2), VMEM_RESP_ACK, "dma-plug");
	check(dma_read(&rng, v->addr, 64, &len) && len > 0 && !dma_is_zero(v->addr, 64),
	      "dma-plugged", "%u bytes", len);
	check(dma_read(&rng, second - 32, 64, &len) && len == 64 && !dma_is_zero(second - 32, 32) &&
		      !dma_is_zero(second, 32),
	      "dma-across-blocks", "%u bytes", len);
	check_equal(vmem_unplug(v, second, 1), VMEM_RESP_ACK, "dma-unplug");
	dma_check_refused(&rng, second, "dma-unplugged");
	dma_check_refused(&rng, second - 32, "dma-half-unplugged");
	dma_check_refused(&rng, v->addr + v->region_size - 32, "dma-over-the-end");
	check_equal(vmem_plug(v, second, 1), VMEM_RESP_ACK, "dma-replug");
	check(dma_is_zero(second, 64), "dma-replug-zero", "something was written meanwhile");
	check(dma_read(&rng, second, 64, &len) && len > 0, "dma-replugged", "%u bytes", len);
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "dma-unplug-all");
}

static void storm_fill(const struct vmem *v, struct storm_slot *slots)
{
	for (unsigned int i = 0; i < STORM_BATCH; i++) {
		static const uint16_t types[] = {VMEM_REQ_PLUG, VMEM_REQ_STATE, VMEM_REQ_UNPLUG};

		slots[i].req = (struct vmem_req){.type = types[i % 3],
						 .addr = v->addr + i / 3 % 8 * v->block_size,
						 .nb_blocks = 1};
		memset(&slots[i].resp, 0xff, sizeof(slots[i].resp));
	}
}

/*
 * One batch, with as much of it in the ring at once as fits. The device answers in order, so every
 * request is right: 0 refused.
 */
static unsigned int storm_round(struct vmem *v, struct storm_slot *slots)
{
	unsigned int added = 0, wrong = 0;
	uint32_t len;

	storm_fill(v, slots);
	for (unsigned int done = 0; done < STORM_BATCH; done++) {
		while (added < STORM_BATCH) {
			const struct vring_segment segments[] = {
				{(uint64_t)&slots[added].req, sizeof(slots[added].req), false},
				{(uint64_t)&slots[added].resp, sizeof(slots[added].resp), true},
			};

			if (!vring_add(&v->virtio.queue, segments, 2))
				break;
			added++;
			if (vring_kick_needed(&v->virtio.queue))
				virtio_notify(&v->virtio);
		}
		if (!virtio_wait(&v->virtio, &len))
			return STORM_BATCH;
	}
	for (unsigned int i = 0; i < STORM_BATCH; i++)
		wrong += slots[i].resp.type != VMEM_RESP_ACK ||
			 (i % 3 == 1 && slots[i].resp.state_type != VMEM_STATE_PLUGGED);
	return wrong;
}

void test_vmem_storm(void)
{
	unsigned int n = memory_open_devices();
	uint64_t rounds = arg_number("rounds", 20), wrong = 0;
	struct storm_slot *slots = mem_pages(STORM_BATCH * sizeof(*slots) / MEM_PAGE_BYTES + 1);

	console_printf("storm: begins\n");
	for (uint64_t r = 0; (rounds == 0 ? console_read() < 0 : r < rounds) && wrong == 0; r++)
		for (unsigned int i = 0; i < n; i++)
			wrong += storm_round(&devices[i], slots);
	check_equal(wrong, 0, "storm-answers");
	for (unsigned int i = 0; i < n; i++)
		check_equal(vmem_plugged(&devices[i]), 0, "storm-plugged");
}

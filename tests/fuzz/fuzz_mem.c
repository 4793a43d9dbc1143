/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target for the state of a memory device that comes from another machine: what is plugged,
 * run by run (virtio_mem_load_plug()), and then the device's own part; and for the second queue of one
 * that takes size requests. The engine, the guard and guest memory are the real ones.
 *
 * Input: a byte that chooses how, the number of runs and the runs in four bytes each; for a device that
 * takes size requests a number of bytes, and these, to change a ring with a request in it; then either the
 * part itself, or changes (place, value) to the one that a device in the same state saves. Without a
 * change it must load, and save to the same bytes again. Whatever is loaded, refused or asked for, the
 * device holds together, and can be reset and taken down.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "tests/fuzz/input.h"
#include "tests/unit/virtio/start.h"
#include "vmm/core/bus.h"
#include "vmm/core/gm.h"
#include "vmm/core/hv.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_transport.h"

#define RAM          UINT64_C(0x1000) /* of the guest: the ring, then buffers */
#define RAM_SIZE     UINT64_C(0x1000)
#define RING_DESC    16 /* in it: behind the available ring */
#define RING_REQUEST 64
#define ADDR         UINT64_C(0x140000000)
#define BLOCK        UINT64_C(4096)
#define BLOCKS       1100 /* three chunks of a map, the last one in part */
#define SIZE         (BLOCKS * BLOCK)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A machine with one memory device. */
struct world {
	struct hv hv;
	struct gm *gm;
	struct bus *mmio;
	struct loop *loop;
	void *memory;
	uint8_t *ram;
	struct virtio_mem *mem;
	uint32_t slots;
	uint64_t told; /* bytes */
};

/* A broken promise must stop the fuzzer in every build, so this is no assert(). */
static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

/* ---- the hypervisor ---- */

static int world_slot_add(struct hv *hv, struct range gpa, void *host, bool readonly,
			  uint32_t *ret_slot)
{
	struct world *w = container_of(hv, struct world, hv);
	struct range region = {ADDR, SIZE};

	check(range_contains(region, gpa) && !readonly, "a slot of the device");
	check(host == (char *)w->memory + (gpa.start - ADDR), "its memory");
	*ret_slot = w->slots++;
	return 0;
}

static int world_slot_remove(struct hv *hv, uint32_t slot)
{
	(void)hv;
	(void)slot;
	return 0;
}

static const struct hv_ops world_hv_ops = {
	.slot_add = world_slot_add,
	.slot_remove = world_slot_remove,
};

/* ---- the transport ---- */

static void world_interrupt(void *opaque, unsigned int index)
{
	(void)opaque;
	(void)index;
}

static void world_config_interrupt(void *opaque)
{
	(void)opaque;
}

static bool world_dma_allowed(void *opaque)
{
	(void)opaque;
	return true;
}

static const struct virtio_transport_ops world_transport_ops = {
	.queue_interrupt = world_interrupt,
	.config_interrupt = world_config_interrupt,
	.dma_allowed = world_dma_allowed,
	.reset = world_config_interrupt,
};

/* ---- a machine ---- */

static void world_init(struct world *w, uint8_t how)
{
	struct virtio_mem_config config = {
		.id = "mem0",
		.fd = -1,
		.guard = !(how & 2),
		.memslot_size = how & 4 ? 64 * BLOCK : BLOCK,
		.nr_guards = 2,
		.device =
			{
				.addr = ADDR,
				.region_size = SIZE,
				.block_size = BLOCK,
				.requested_size = how & 8 ? SIZE : 0,
				.usable_extra_bytes = how & 16 ? 64 * BLOCK : 0,
				.unplugged_inaccessible = true,
				.has_node = true,
				.node_id = 1,
				.size_requests = how & 32,
			},
		.request_limit = how & 64 ? SIZE / 2 / BLOCK * BLOCK : SIZE,
		.request_rate = how & 128 ? 64 * BLOCK : 0,
	};

	*w = (struct world){.hv.ops = &world_hv_ops};
	w->gm = gm_new();
	w->mmio = bus_new();
	w->loop = loop_new_main(NULL);
	w->memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	w->ram = aligned_alloc(RAM_SIZE, RAM_SIZE);
	check(w->gm && w->mmio && w->loop && w->ram && w->memory != MAP_FAILED, "memory");
	memset(w->ram, 0, RAM_SIZE);
	check(gm_add_ram(w->gm, (struct range){RAM, RAM_SIZE}, w->ram) == 0, "RAM");
	config.gm = w->gm;
	config.mmio = w->mmio;
	config.loop = w->loop;
	config.hv = &w->hv;
	config.memory = w->memory;
	w->mem = virtio_mem_new(&config, NULL);
	check(w->mem, "a device");
	virtio_attach(w->mem->vdev, &world_transport_ops, w);
}

static void world_done(struct world *w)
{
	virtio_attach(w->mem->vdev, NULL, NULL);
	virtio_mem_free(w->mem);
	loop_free(w->loop);
	bus_free(w->mmio);
	gm_free(w->gm);
	munmap(w->memory, SIZE);
	free(w->ram);
}

static void tell_plugged(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
			 bool plugged)
{
	struct world *w = opaque;

	(void)mem;
	check(plugged && size &&
		      range_contains((struct range){0, SIZE}, (struct range){offset, size}),
	      "a run that is plugged");
	check(gm_valid(w->gm, ADDR + offset, size), "one that can be reached");
	w->told += size;
}

/* What is plugged is what can be reached, and the sizes are in order. */
static void world_check(struct world *w)
{
	struct vmem_device_info info;
	uint64_t reachable = 0;

	w->told = 0;
	virtio_mem_track(w->mem, tell_plugged, w);
	virtio_mem_track(w->mem, NULL, NULL);
	vmem_device_info(w->mem->engine, &info);
	for (uint64_t block = 0; block < BLOCKS; block++)
		reachable += gm_valid(w->gm, ADDR + block * BLOCK, BLOCK);
	check(info.plugged_size == w->told && w->told == reachable * BLOCK, "plugged_size");
	check(info.owner_size <= info.requested_size &&
		      info.requested_size <= info.usable_region_size &&
		      info.usable_region_size <= SIZE,
	      "the order of sizes");
	check(!info.faulted_size && !info.stray_size, "a host that does not fail");
}

/* ---- what is told ---- */

/* A run mostly; one in some is nonsense. */
static void load_run(struct world *a, struct world *b, uint32_t what)
{
	uint64_t offset = (what & 0x7ff) * BLOCK, size = (what >> 11 & 0x3ff) * BLOCK;
	bool plugged = what >> 21 & 3;
	struct err *err = NULL;
	int ret;

	if (what >> 28 == 15)
		offset = offset << 40 | 1;
	if (what >> 28 == 14)
		size = 0 - size;
	ret = virtio_mem_load_plug(a->mem, offset, size, plugged, &err);
	check(!ret == !err, "a sentence for a failure");
	err_free(err);
	check(ret == virtio_mem_load_plug(b->mem, offset, size, plugged, NULL), "the same result");
}

/* ---- the device's part ---- */

static struct pack world_save(struct world *w)
{
	struct pack out = {.failed = false};

	virtio_lock(w->mem->vdev);
	virtio_mem_save(w->mem, &out);
	virtio_unlock(w->mem->vdev);
	check(!pack_failed(&out), "memory for a state");
	return out;
}

static int world_load(struct world *w, const uint8_t *bytes, size_t size)
{
	struct unpack in = unpack_begin(bytes, size);
	struct err *err = NULL;
	int ret;

	virtio_lock(w->mem->vdev);
	ret = virtio_mem_load(
		w->mem, w->mem->size.on ? VIRTIO_MEM_STATE_VERSION_SIZE : VIRTIO_MEM_STATE_VERSION,
		&in, &err);
	virtio_unlock(w->mem->vdev);
	check(!ret == !err, "a sentence for a failure");
	check(ret || unpack_ended(&in), "all of the state is looked at");
	err_free(err);
	return ret;
}

/* Change what @a saves, and load it. */
static void load_changed(struct world *a, struct world *b, struct input *in)
{
	struct pack state = world_save(a), again;
	bool changed = false;
	int ret;

	while (in->left) {
		uint64_t at = take(in, 2) % state.size;
		uint8_t change = (uint8_t)take(in, 1);

		state.bytes[at] ^= change;
		changed |= change;
	}
	ret = world_load(b, state.bytes, state.size);
	check(!ret || changed, "what was saved loads");
	again = world_save(b);
	check(changed || (again.size == state.size &&
			  memcmp(again.bytes, state.bytes, state.size) == 0),
	      "what was loaded saves to the same");
	pack_done(&again);
	pack_done(&state);
}

/* ---- size requests ---- */

/* Lay out one request, for all of the region. */
static void put_request(uint8_t *ram)
{
	bytes_put_le(ram + 2, 2, 1); /* the available ring's index */
	bytes_put_le(ram + RING_DESC, 8, RAM + RING_REQUEST);
	bytes_put_le(ram + RING_DESC + 8, 4, sizeof(struct vmem_size_req));
	bytes_put_le(ram + RING_DESC + 12, 4, 1 | 1 << 16); /* NEXT: 1 */
	bytes_put_le(ram + RING_DESC + 16, 8, RAM + RING_REQUEST + 32);
	bytes_put_le(ram + RING_DESC + 24, 4, sizeof(struct vmem_size_resp));
	bytes_put_le(ram + RING_DESC + 28, 2, 2); /* WRITE */
	bytes_put_le(ram + RING_REQUEST + offsetof(struct vmem_size_req, size), 8, SIZE);
}

/*
 * A driver whose second queue lies in RAM, changed as the input has it; then a reset of the device.
 */
static void ask_sizes(struct world *w, struct input *in)
{
	struct virtio_device *vdev = w->mem->vdev;
	uint64_t features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
			    VIRTIO_FEATURE(VMEM_F_UNPLUGGED_INACCESSIBLE) |
			    VIRTIO_FEATURE(VMEM_F_SIZE_REQUEST);
	const struct vq_layout layout = {.size = 2,
					 .desc_gpa = RAM + RING_DESC,
					 .driver_gpa = RAM,
					 .device_gpa = RAM + RAM_SIZE / 2};
	uint8_t bytes = (uint8_t)take(in, 1);

	put_request(w->ram);
	for (unsigned int i = 0; i < bytes; i++)
		w->ram[i] ^= (uint8_t)take(in, 1);
	virtio_lock(vdev);
	start_features(vdev, features);
	start_queue(vdev, VMEM_QUEUE_SIZE, &layout);
	virtio_set_status(vdev, START_DONE);
	virtio_unlock(vdev);
	for (unsigned int i = 0; i < 4; i++)
		uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
	world_check(w);
	virtio_lock(vdev);
	virtio_set_status(vdev, 0);
	virtio_unlock(vdev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t how = (uint8_t)take(&in, 1), runs = (uint8_t)take(&in, 1) % 16;
	struct world a, b;

	world_init(&a, how & (8 | 32 | 64 | 128));
	world_init(&b, how);
	while (runs--)
		load_run(&a, &b, (uint32_t)take(&in, 4));
	world_check(&b);
	if (how & 32)
		ask_sizes(&a, &in);
	if (how & 1)
		world_load(&b, in.data, in.left);
	else
		load_changed(&a, &b, &in);
	world_check(&b);
	virtio_system_reset(b.mem->vdev);
	world_check(&b);
	check(!b.told, "nothing is plugged after a reset");
	world_done(&a);
	world_done(&b);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target for the balloon: every queue and every byte of the rings, the configuration
 * space, features, resets, and monitors that want something meanwhile; then a state that is loaded,
 * changed or not. Guest memory is real: of small pages, of large ones, and with blocks that come
 * and go.
 *
 * Input: a byte for the features, a number of steps and the steps (enum step, then what each
 * takes); the rest changes (place, value) what the device saves, before another one loads it.
 * Unchanged it must load, and save to the same bytes. The owners of the memory check what they are
 * asked to give back, and blocks that are not granted keep their content.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "tests/fuzz/input.h"
#include "tests/unit/virtio/start.h"
#include "vmm/core/gm.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/balloon_state.h"
#include "vmm/virtio/virtio_transport.h"

#define PAGE       UINT64_C(4096)
#define RINGS      UINT64_C(0x10000) /* memory for rings and buffers, of which nothing is given back */
#define SMALL      UINT64_C(0x20000)
#define LARGE      UINT64_C(0x42000) /* at no multiple of its pages */
#define DEVICE     UINT64_C(0x80000)
#define SIZE       UINT64_C(0x10000) /* of each */
#define LARGE_PAGE (4 * PAGE)
#define BLOCK      (4 * PAGE)
#define BOOT       (UINT64_C(1) << 30)

#define RING_SIZE  8
#define RING_BYTES UINT64_C(0x400) /* a queue: descriptors, available, used */
#define RING_AVAIL UINT64_C(0x80)
#define RING_USED  UINT64_C(0x100)
#define BUFFERS    (BALLOON_QUEUES * RING_BYTES)
#define CONTENT    0x5a

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
	STEP_OFFER,  /* queue, descriptors: address, length, flags */
	STEP_POKE,   /* place, value: in the rings and buffers */
	STEP_TURN,   /* how often */
	STEP_CONFIG, /* field, value */
	STEP_TARGET, /* pages */
	STEP_HINTS,  /* start, stop, done */
	STEP_GRANT,  /* block, or revoke */
	STEP_RESET,  /* of the device, or a queue, or the machine */
	STEP_HOLD,   /* or release */
	STEP_PAUSE,  /* or resume */
	STEP_BUSY,   /* how often */
	STEPS,
};

struct memory {
	struct world *w;
	uint64_t gpa, page;
	uint8_t *host;
};

struct world {
	struct gm *gm;
	struct loop *loop;
	struct memory rings, small, large, device;
	struct gm_region *region;
	struct balloon *b;
	bool granted[SIZE / BLOCK];
	bool held, paused;
	unsigned int busy;
	uint16_t avail[BALLOON_QUEUES];
	uint64_t freed;
};

/* A broken promise must stop the fuzzer in every build, so this is no assert(). */
static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

/* ---- memory ---- */

static int world_discard(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes)
{
	struct memory *m = opaque;
	struct world *w = m->w;

	check(size && offset < SIZE && size <= SIZE - offset && !(offset % m->page) &&
		      !(size % m->page),
	      "whole pages of the region");
	check(!w->held, "nothing while discards are held");
	if (w->busy) {
		w->busy--;
		return -EAGAIN;
	}
	for (uint64_t at = offset; at < offset + size; at += m->page) {
		if (m == &w->device && !w->granted[at / BLOCK])
			continue;
		memset(m->host + at, 0, m->page);
		*ret_bytes += m->page;
	}
	w->freed += *ret_bytes;
	return 0;
}

static void world_memory(struct world *w, struct memory *m, uint64_t gpa, uint64_t page)
{
	const struct gm_discard discard = {page, world_discard, m};
	struct range range = {gpa, SIZE};

	*m = (struct memory){w, gpa, page, aligned_alloc(LARGE_PAGE, SIZE)};
	check(m->host, "memory");
	memset(m->host, m == &w->rings ? 0 : CONTENT, SIZE);
	if (m == &w->device)
		check(!gm_add_device_memory(w->gm, range, m->host, BLOCK, &w->region), "blocks");
	else
		check(!gm_add_ram(w->gm, range, m->host), "RAM");
	if (m != &w->rings)
		check(!gm_set_discard(w->gm, gpa, &discard), "a way");
}

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

static void world_init(struct world *w)
{
	struct balloon_config config = {
		.id = "balloon0",
		.ram_bytes = BOOT,
		.deflate_on_oom = true,
		.free_page_hint = true,
		.page_poison = true,
		.free_page_reporting = true,
		.packed = true,
		VIRTIO_RING_DEFAULTS,
	};

	*w = (struct world){.held = false};
	w->gm = gm_new();
	w->loop = loop_new_main(NULL);
	check(w->gm && w->loop, "memory");
	world_memory(w, &w->rings, RINGS, PAGE);
	world_memory(w, &w->small, SMALL, PAGE);
	world_memory(w, &w->large, LARGE, LARGE_PAGE);
	world_memory(w, &w->device, DEVICE, PAGE);
	config.gm = w->gm;
	config.loop = w->loop;
	w->b = balloon_new(&config, NULL);
	check(w->b, "a device");
	virtio_attach(w->b->vdev, &world_transport_ops, w);
}

static void world_done(struct world *w)
{
	virtio_attach(w->b->vdev, NULL, NULL);
	balloon_free(w->b);
	loop_free(w->loop);
	gm_free(w->gm);
	free(w->rings.host);
	free(w->small.host);
	free(w->large.host);
	free(w->device.host);
}

static void world_turn(struct world *w, unsigned int times)
{
	while (times--)
		uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
}

/* Blocks that nobody could reach are as they were; what is counted is what was freed. */
static void world_check(struct world *w)
{
	struct balloon_info info;

	for (uint64_t at = 0; at < SIZE; at++)
		check(w->granted[at / BLOCK] || w->device.host[at] == CONTENT,
		      "a block that is not granted keeps its content");
	balloon_info(w->b, &info);
	check(info.discarded_bytes <= w->freed, "what was freed");
	check(info.actual_bytes <= BOOT && info.target_bytes <= BOOT, "sizes of boot memory");
}

static void start_driver(struct world *w, uint8_t features)
{
	struct virtio_device *vdev = w->b->vdev;

	memset(w->rings.host, 0, BUFFERS);
	memset(w->avail, 0, sizeof(w->avail));
	virtio_lock(vdev);
	virtio_set_status(vdev, 0);
	start_features(vdev, (features & 63) | VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				     (features & 128 ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0));
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		uint64_t ring = RINGS + i * RING_BYTES;
		const struct vq_layout layout = {.size = RING_SIZE,
						 .desc_gpa = ring,
						 .driver_gpa = ring + RING_AVAIL,
						 .device_gpa = ring + RING_USED};

		start_queue(vdev, i, &layout);
	}
	virtio_set_status(vdev, START_DONE);
	virtio_unlock(vdev);
}

/* ---- steps ---- */

/* Somewhere in one of the memories mostly. */
static uint64_t take_gpa(struct input *in)
{
	static const uint64_t bases[] = {RINGS + BUFFERS, SMALL, LARGE, DEVICE};
	uint8_t what = (uint8_t)take(in, 1);

	if (what & 128)
		return take(in, 8);
	return bases[what & 3] + (what >> 2 & 31) * 2048 + (what & 64 ? 4 : 0);
}

static void step_offer(struct world *w, struct input *in)
{
	uint8_t what = (uint8_t)take(in, 1);
	unsigned int queue = what % BALLOON_QUEUES, nr = 1 + (what >> 4) % 3;
	uint8_t *ring = w->rings.host + queue * RING_BYTES;
	uint16_t at = w->avail[queue] * 3 % RING_SIZE;

	bytes_put_le(ring + RING_AVAIL + 4 + w->avail[queue] % RING_SIZE * 2, 2, at);
	for (unsigned int i = 0; i < nr; i++) {
		uint8_t *desc = ring + (at + i) % RING_SIZE * 16;
		uint8_t flags = (uint8_t)take(in, 1) & 6;

		bytes_put_le(desc, 8, take_gpa(in));
		bytes_put_le(desc + 8, 4, take(in, 2) << (flags & 2 ? 4 : 0));
		bytes_put_le(desc + 12, 2, (flags & 6) | (i + 1 < nr));
		bytes_put_le(desc + 14, 2, (at + i + 1) % RING_SIZE);
	}
	w->avail[queue]++;
	bytes_put_le(ring + RING_AVAIL + 2, 2, w->avail[queue]);
	virtio_queue_kick(w->b->vdev, queue);
}

static void hint(void *opaque, uint64_t gpa, uint64_t size)
{
	struct world *w = opaque;

	check(size && !(gpa % PAGE) && !(size % PAGE), "whole pages");
	check(gm_valid(w->gm, gpa, size), "that can be reached");
}

static void step_hints(struct world *w, uint8_t what)
{
	if (what % 3 == 0)
		balloon_hint_start(w->b, hint, w);
	else if (what % 3 == 1)
		balloon_hint_stop(w->b);
	else
		balloon_hint_done(w->b);
}

/* A block that is given is empty; one that is taken has its content again, which then must stay. */
static void step_grant(struct world *w, uint8_t what)
{
	unsigned int block = what % (SIZE / BLOCK);
	bool grant = what & 128;

	if (!grant)
		gm_revoke(w->region, block * BLOCK, BLOCK);
	memset(w->device.host + block * BLOCK, grant ? 0 : CONTENT, BLOCK);
	w->granted[block] = grant;
	if (grant)
		gm_grant(w->region, block * BLOCK, BLOCK);
}

static void step_reset(struct world *w, uint8_t what)
{
	if (what & 1)
		start_driver(w, what);
	else if (what & 2)
		virtio_system_reset(w->b->vdev);
	else {
		virtio_lock(w->b->vdev);
		virtio_queue_reset(w->b->vdev, (what >> 2) % BALLOON_QUEUES);
		virtio_unlock(w->b->vdev);
	}
}

static void step_config(struct world *w, struct input *in)
{
	uint8_t where = (uint8_t)take(in, 1);
	uint32_t size = 1u << (where >> 4) % 3, offset = where % 16 & ~(size - 1);
	uint32_t value = (uint32_t)take(in, 4);
	struct balloon_stats stats;

	virtio_lock(w->b->vdev);
	virtio_config_write(w->b->vdev, offset, &value, size);
	virtio_config_read(w->b->vdev, offset, &value, size);
	virtio_unlock(w->b->vdev);
	balloon_stats(w->b, &stats);
}

static void step_hold(struct world *w)
{
	if (w->held)
		gm_discard_release(w->gm);
	else
		gm_discard_hold(w->gm);
	w->held = !w->held;
}

static void step_pause(struct world *w)
{
	if (w->paused)
		virtio_resume(w->b->vdev);
	else
		virtio_pause(w->b->vdev);
	w->paused = !w->paused;
}

static void world_step(struct world *w, struct input *in)
{
	switch ((enum step)(take(in, 1) % STEPS)) {
	case STEP_OFFER:
		step_offer(w, in);
		break;
	case STEP_POKE:
		w->rings.host[take(in, 2) % SIZE] ^= (uint8_t)take(in, 1);
		break;
	case STEP_TURN:
		world_turn(w, 1 + (unsigned int)take(in, 1) % 8);
		break;
	case STEP_CONFIG:
		step_config(w, in);
		break;
	case STEP_TARGET:
		balloon_set_target(w->b, take(in, 4) * PAGE);
		balloon_set_stats_interval(w->b, (uint32_t)take(in, 1));
		break;
	case STEP_HINTS:
		step_hints(w, (uint8_t)take(in, 1));
		break;
	case STEP_GRANT:
		step_grant(w, (uint8_t)take(in, 1));
		break;
	case STEP_RESET:
		step_reset(w, (uint8_t)take(in, 1));
		break;
	case STEP_HOLD:
		step_hold(w);
		break;
	case STEP_PAUSE:
		step_pause(w);
		break;
	case STEP_BUSY:
		w->busy = (unsigned int)take(in, 1);
		break;
	case STEPS:
		break;
	}
}

/* ---- the state ---- */

static void world_save(struct world *w, struct pack *out)
{
	virtio_lock(w->b->vdev);
	balloon_save(w->b, out);
	virtio_unlock(w->b->vdev);
	check(!pack_failed(out), "memory for a state");
}

static void move(struct world *from, struct input *in)
{
	struct pack state = {.failed = false}, again = {.failed = false};
	struct err *err = NULL;
	bool changed = false;
	struct unpack bytes;
	struct world to;
	int ret;

	world_init(&to);
	world_save(from, &state);
	while (in->left) {
		uint64_t at = take(in, 1) % state.size;
		uint8_t change = (uint8_t)take(in, 1);

		state.bytes[at] ^= change;
		changed |= change;
	}
	bytes = unpack_begin(state.bytes, state.size);
	virtio_lock(to.b->vdev);
	ret = balloon_load(to.b, BALLOON_STATE_VERSION, &bytes, &err);
	virtio_unlock(to.b->vdev);
	check(!ret == !err, "a sentence for a failure");
	check(!ret || changed, "what was saved loads");
	check(ret || unpack_ended(&bytes), "all of the state is looked at");
	world_save(&to, &again);
	check(changed ||
		      (again.size == state.size && !memcmp(again.bytes, state.bytes, state.size)),
	      "what was loaded saves to the same");
	err_free(err);
	pack_done(&again);
	pack_done(&state);
	start_driver(&to, 255);
	world_turn(&to, 2);
	world_check(&to);
	world_done(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t features = (uint8_t)take(&in, 1), steps = (uint8_t)take(&in, 1);
	struct world w;

	world_init(&w);
	start_driver(&w, features & 127);
	while (steps-- && in.left)
		world_step(&w, &in);
	world_turn(&w, 4);
	world_check(&w);
	move(&w, &in);
	virtio_system_reset(w.b->vdev);
	check(!w.b->actual, "a reset empties it");
	world_done(&w);
	return 0;
}

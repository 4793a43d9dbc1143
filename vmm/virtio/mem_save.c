/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The saved state of a virtio-mem device: what its driver has read (address, sizes, node, features),
 * the sizes that change, which blocks are plugged, and the size that a monitor asked for last. What
 * the host has for the blocks is the target's own: slots, guard, backend and its pages.
 *
 * Blocks are told twice: run by run ahead of their content (virtio_mem_load_plug()), and as a map here.
 * The second is there to be compared: a target that runs has not missed any. Faulted blocks
 * (<vmem/device.h>, I5) come here alone, and hold zeros on the target.
 *
 * A map is cut into chunks of MAP_CHUNK_BLOCKS blocks, so that it takes few bytes where blocks lie
 * together, and a bit for each block at most.
 *
 * A device that takes size requests tells what its owner asks for as well, which differs from what the
 * driver was told by what that was granted (version 2). Its bounds are the target's own: what was
 * granted stays, whatever they are.
 *
 * Requests are answered within one hold of the device lock, so there is nothing half done to be
 * saved. Statistics, and how long the guest did nothing, begin anew.
 *
 * Threads: everything here runs with the device lock held, but virtio_mem_load_plug(), which takes
 * it.
 * The other side controls every byte that is loaded.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio.h"

#define MAP_CHUNK_BLOCKS 512u
#define MAP_CHUNK_BYTES  (MAP_CHUNK_BLOCKS / 8)

/* What some chunks in a row hold. */
enum map_kind {
	MAP_NONE,
	MAP_ALL,
	MAP_MIXED, /* the bits follow */
	MAP_KINDS,
};

/* ---- maps ---- */

struct maps {
	unsigned int block_shift;
	struct bitmap *plugged; /* with those that are faulted */
	struct bitmap *faulted;
};

static void maps_done(struct maps *maps)
{
	bitmap_free(maps->plugged);
	bitmap_free(maps->faulted);
}

/* Empty. 0 or -ENOMEM; maps_done() in both cases. */
static int maps_init(struct maps *maps, const struct virtio_mem *mem)
{
	const struct vmem_device_config *c = &mem->config.device;

	maps->block_shift = (unsigned int)__builtin_ctzll(c->block_size);
	maps->plugged = bitmap_new(c->region_size >> maps->block_shift);
	maps->faulted = bitmap_new(c->region_size >> maps->block_shift);
	return maps->plugged && maps->faulted ? 0 : -ENOMEM;
}

static int maps_add_plugged(void *opaque, uint64_t offset, uint64_t size)
{
	struct maps *maps = opaque;

	bitmap_set(maps->plugged, offset >> maps->block_shift, size >> maps->block_shift);
	return 0;
}

static int maps_add_faulted(void *opaque, uint64_t offset, uint64_t size)
{
	struct maps *maps = opaque;

	bitmap_set(maps->faulted, offset >> maps->block_shift, size >> maps->block_shift);
	return maps_add_plugged(opaque, offset, size);
}

static uint64_t map_chunks(const struct bitmap *map)
{
	return (bitmap_size(map) + MAP_CHUNK_BLOCKS - 1) / MAP_CHUNK_BLOCKS;
}

/* The blocks of a chunk; the last one may have fewer. */
static struct range map_chunk(const struct bitmap *map, uint64_t chunk)
{
	uint64_t first = chunk * MAP_CHUNK_BLOCKS;

	return (struct range){first, num_min(MAP_CHUNK_BLOCKS, bitmap_size(map) - first)};
}

static enum map_kind map_kind(const struct bitmap *map, uint64_t chunk)
{
	struct range blocks = map_chunk(map, chunk);

	if (bitmap_all_clear(map, blocks.start, blocks.size))
		return MAP_NONE;
	return bitmap_all_set(map, blocks.start, blocks.size) ? MAP_ALL : MAP_MIXED;
}

static void map_save_bits(const struct bitmap *map, uint64_t chunk, struct pack *out)
{
	struct range blocks = map_chunk(map, chunk);
	uint8_t bits[MAP_CHUNK_BYTES] = {0};

	for (uint64_t i = 0; i < blocks.size; i++)
		if (bitmap_test(map, blocks.start + i))
			bits[i / 8] |= (uint8_t)(1u << i % 8);
	pack_bytes(out, bits, sizeof(bits));
}

static void map_save(const struct bitmap *map, struct pack *out)
{
	uint64_t end = map_chunks(map), next;

	/* No region is so large (MEM_ABSENT_BYTES_MAX), nor a block so small. */
	assert(end <= UINT32_MAX);
	for (uint64_t chunk = 0; chunk < end; chunk = next) {
		enum map_kind kind = map_kind(map, chunk);

		for (next = chunk + 1; next < end && map_kind(map, next) == kind;)
			next++;
		pack_u8(out, (uint8_t)kind);
		pack_u32(out, (uint32_t)(next - chunk));
		for (uint64_t i = chunk; i < next && kind == MAP_MIXED; i++)
			map_save_bits(map, i, out);
	}
}

static void map_load_bits(struct bitmap *map, uint64_t chunk, struct unpack *in)
{
	struct range blocks = map_chunk(map, chunk);
	const uint8_t *bits = unpack_raw(in, MAP_CHUNK_BYTES);

	for (uint64_t i = 0; i < MAP_CHUNK_BLOCKS && bits; i++) {
		if (!(bits[i / 8] >> i % 8 & 1))
			continue;
		if (i < blocks.size)
			bitmap_set(map, blocks.start + i, 1);
		else
			unpack_fail(in);
	}
}

static void map_load(struct bitmap *map, struct unpack *in)
{
	uint64_t end = map_chunks(map), chunk = 0;

	while (chunk < end && !unpack_failed(in)) {
		enum map_kind kind = (enum map_kind)unpack_u8_max(in, MAP_KINDS - 1);
		uint32_t count = unpack_u32_max(in, (uint32_t)(end - chunk));
		uint64_t next = chunk + count;

		if (!count)
			unpack_fail(in);
		else if (kind == MAP_ALL)
			bitmap_set(map, chunk * MAP_CHUNK_BLOCKS,
				   num_min(next * MAP_CHUNK_BLOCKS, bitmap_size(map)) -
					   chunk * MAP_CHUNK_BLOCKS);
		for (; chunk < next && kind == MAP_MIXED && !unpack_failed(in); chunk++)
			map_load_bits(map, chunk, in);
		chunk = next;
	}
}

/* ---- save ---- */

void virtio_mem_save(void *opaque, struct pack *out)
{
	struct virtio_mem *mem = opaque;
	const struct vmem_device_config *c = &mem->config.device;
	struct vmem_device_info info;
	struct maps maps;

	virtio_mem_info(mem, &info); /* the size that was asked for */
	pack_u64(out, c->addr);
	pack_u64(out, c->region_size);
	pack_u64(out, c->block_size);
	pack_bool(out, c->has_node);
	pack_u16(out, c->node_id);
	pack_bool(out, c->unplugged_inaccessible);
	pack_bool(out, mem->config.require_inaccessible);
	pack_u64(out, info.requested_size);
	vmem_device_info(mem->engine, &info); /* the size that the driver was told */
	pack_u64(out, info.requested_size);
	pack_u64(out, info.usable_region_size);
	if (mem->size.on) {
		pack_u64(out, info.owner_size);
		pack_bool(out, !virtio_mem_resized(mem));
	}
	if (maps_init(&maps, mem) == 0) {
		vmem_device_for_each_plugged(mem->engine, maps_add_plugged, &maps);
		vmem_device_for_each_faulted(mem->engine, maps_add_faulted, &maps);
		map_save(maps.plugged, out);
		map_save(maps.faulted, out);
	} else {
		out->failed = true;
	}
	maps_done(&maps);
}

/* ---- load ---- */

static int load_cut(struct err **err)
{
	return err_set(err, EINVAL, "its state is cut short or holds values that cannot be");
}

/* What a driver read once and relies on, and a person gave on the command line. */
static int load_number(struct unpack *in, const char *name, uint64_t here, struct err **err)
{
	uint64_t there = unpack_u64(in);

	if (unpack_failed(in))
		return load_cut(err);
	if (there != here)
		return err_set(err, EINVAL,
			       "its %s is %" PRIu64 " at the source, and %" PRIu64 " here", name,
			       there, here);
	return 0;
}

static int load_addr(struct unpack *in, uint64_t here, struct err **err)
{
	uint64_t there = unpack_u64(in);

	if (unpack_failed(in))
		return load_cut(err);
	if (there != here)
		return err_set(err, EINVAL,
			       "its memaddr is %#" PRIx64 " at the source, and %#" PRIx64 " here",
			       there, here);
	return 0;
}

static int load_node(struct unpack *in, const struct vmem_device_config *c, struct err **err)
{
	bool has_node = unpack_bool(in);
	uint16_t node = unpack_u16(in);

	if (unpack_failed(in))
		return load_cut(err);
	if (has_node != c->has_node)
		return err_set(err, EINVAL, "it has %s node at the source, and %s here",
			       has_node ? "a" : "no", has_node ? "none" : "one");
	if (node != c->node_id)
		return err_set(err, EINVAL, "its node is %u at the source, and %u here", node,
			       c->node_id);
	return 0;
}

/* The spelling of the command line. */
static const char *load_inaccessible_name(bool offered, bool required)
{
	return !offered ? "off" : required ? "on" : "auto";
}

static int load_inaccessible(struct unpack *in, const struct virtio_mem_config *c, struct err **err)
{
	bool offered = unpack_bool(in), required = unpack_bool(in);

	if (unpack_failed(in))
		return load_cut(err);
	if (offered != c->device.unplugged_inaccessible || required != c->require_inaccessible)
		return err_set(err, EINVAL,
			       "its unplugged-inaccessible is %s at the source, and %s here",
			       load_inaccessible_name(offered, required),
			       load_inaccessible_name(c->device.unplugged_inaccessible,
						      c->require_inaccessible));
	return 0;
}

static int load_agreed(const struct virtio_mem *mem, struct unpack *in, struct err **err)
{
	const struct vmem_device_config *c = &mem->config.device;
	int ret = load_addr(in, c->addr, err);

	if (!ret)
		ret = load_number(in, "size", c->region_size, err);
	if (!ret)
		ret = load_number(in, "block-size", c->block_size, err);
	if (!ret)
		ret = load_node(in, c, err);
	return ret ? ret : load_inaccessible(in, &mem->config, err);
}

/* A run that is plugged here: it has to be in the map. */
static int load_check_run(void *opaque, uint64_t offset, uint64_t size)
{
	struct maps *maps = opaque;
	uint64_t first = offset >> maps->block_shift, count = size >> maps->block_shift;

	return bitmap_all_set(maps->plugged, first, count) &&
			       bitmap_all_clear(maps->faulted, first, count)
		       ? 0
		       : -EINVAL;
}

/* What was plugged by virtio_mem_load_plug() is what the map has but for faulted blocks. */
static int load_check_maps(struct virtio_mem *mem, struct maps *maps, struct err **err)
{
	uint64_t blocks = bitmap_size(maps->plugged), pos = 0, stop;
	struct vmem_device_info info;
	uint64_t there = bitmap_count(maps->plugged, 0, blocks);

	for (; (pos = bitmap_next_set(maps->faulted, pos, blocks)) < blocks; pos = stop) {
		stop = bitmap_next_clear(maps->faulted, pos, blocks);
		if (!bitmap_all_set(maps->plugged, pos, stop - pos))
			return load_cut(err);
		there -= stop - pos;
	}
	vmem_device_info(mem->engine, &info);
	if (info.plugged_size >> maps->block_shift != there ||
	    vmem_device_for_each_plugged(mem->engine, load_check_run, maps))
		return err_set(
			err, EINVAL,
			"its state has other blocks plugged than were told before it: %" PRIu64
			" bytes, and %" PRIu64 " bytes were",
			there << maps->block_shift, info.plugged_size);
	return 0;
}

static int load_faulted(struct virtio_mem *mem, const struct maps *maps, struct err **err)
{
	uint64_t blocks = bitmap_size(maps->faulted), pos = 0, stop;

	for (; (pos = bitmap_next_set(maps->faulted, pos, blocks)) < blocks; pos = stop) {
		int ret;

		stop = bitmap_next_clear(maps->faulted, pos, blocks);
		ret = vmem_device_import_plug(mem->engine, pos << maps->block_shift,
					      (stop - pos) << maps->block_shift);
		if (ret)
			return err_set(err, -ret, "its memory cannot be plugged: %s",
				       strerror(-ret));
	}
	return 0;
}

static int load_maps(struct virtio_mem *mem, struct unpack *in, struct err **err)
{
	struct maps maps;
	int ret = maps_init(&maps, mem);

	if (ret) {
		err_set(err, -ret, "out of memory");
		goto done;
	}
	map_load(maps.plugged, in);
	map_load(maps.faulted, in);
	ret = unpack_ended(in) ? load_check_maps(mem, &maps, err) : load_cut(err);
	if (!ret)
		ret = load_faulted(mem, &maps, err);
done:
	maps_done(&maps);
	return ret;
}

/* The sizes that change. */
struct load_sizes {
	uint64_t wanted; /* what the owner asked for last, or what the driver was told */
	uint64_t requested, usable, owner;
	bool pending; /* the source's thread had not come to what is wanted */
};

static void load_sizes(const struct virtio_mem *mem, uint32_t version, struct unpack *in,
		       struct load_sizes *ret)
{
	uint64_t region_size = mem->config.device.region_size;

	ret->wanted = unpack_u64_max(in, region_size);
	ret->requested = unpack_u64_max(in, region_size);
	ret->usable = unpack_u64_max(in, region_size);
	ret->owner = ret->requested;
	ret->pending = ret->wanted != ret->requested;
	if (version < VIRTIO_MEM_STATE_VERSION_SIZE)
		return;
	ret->owner = unpack_u64_max(in, region_size);
	ret->pending = unpack_bool(in);
}

static int load_set_sizes(struct virtio_mem *mem, const struct load_sizes *sizes, struct err **err)
{
	if (!num_is_aligned(sizes->wanted, mem->config.device.block_size) ||
	    (!sizes->pending && sizes->wanted != sizes->requested) ||
	    vmem_device_import_sizes(mem->engine, sizes->owner, sizes->requested, sizes->usable))
		return load_cut(err);
	/* What the source's thread had not come to is handed over when the machine goes on. */
	mem->wanted = sizes->pending ? sizes->wanted : VIRTIO_MEM_NOTHING;
	return 0;
}

int virtio_mem_load(void *opaque, uint32_t version, struct unpack *in, struct err **err)
{
	struct virtio_mem *mem = opaque;
	struct vmem_device_info info;
	struct load_sizes sizes;
	int ret = load_agreed(mem, in, err);

	if (ret)
		return ret;
	load_sizes(mem, version, in, &sizes);
	ret = load_maps(mem, in, err);
	if (!ret)
		ret = load_set_sizes(mem, &sizes, err);
	if (ret)
		return ret;
	vmem_device_info(mem->engine, &info);
	mem_cells_rebuild(&mem->cells, mem->engine);
	mem_pace_clear(&mem->pace);
	mem_progress_reset(&mem->progress);
	mem_progress_moved(&mem->progress);
	mem_stats_resized(&mem->stats, mem_progress_now_ms(&mem->progress), info.plugged_size);
	virtio_mem_changed(mem);
	return 0;
}

/* ---- blocks ahead of their content ---- */

/* Could the run be one of this device? */
static int load_run_check(const struct vmem_device_config *c, uint64_t offset, uint64_t size,
			  struct err **err)
{
	if (!size || !num_is_aligned(offset | size, c->block_size))
		return err_set(err, EINVAL,
			       "%" PRIu64 " bytes at %" PRIu64
			       " of its memory are not a run of blocks of %" PRIu64 " bytes",
			       size, offset, c->block_size);
	if (!range_contains((struct range){0, c->region_size}, (struct range){offset, size}))
		return err_set(err, EINVAL,
			       "%" PRIu64 " bytes at %" PRIu64 " are beyond its size, %" PRIu64
			       " bytes",
			       size, offset, c->region_size);
	return 0;
}

static int load_run_failed(uint64_t offset, uint64_t size, bool plugged, int ret, struct err **err)
{
	if (ret == -EEXIST)
		return err_set(err, EINVAL,
			       "some of the %" PRIu64 " bytes at %" PRIu64
			       " of its memory are plugged already",
			       size, offset);
	return err_set(err, -ret, "%" PRIu64 " bytes at %" PRIu64 " of its memory cannot be %s: %s",
		       size, offset, plugged ? "plugged" : "unplugged", strerror(-ret));
}

/* Bring the map for people up to date with what was plugged or unplugged of a run. */
static void load_run_cells(struct virtio_mem *mem, uint64_t offset, uint64_t size, uint64_t before,
			   uint64_t after)
{
	if (after == before + size)
		mem_cells_add(&mem->cells, offset, size);
	else if (after + size == before)
		mem_cells_sub(&mem->cells, offset, size);
	else if (after != before)
		mem_cells_rebuild(&mem->cells, mem->engine);
}

int virtio_mem_load_plug(struct virtio_mem *mem, uint64_t offset, uint64_t size, bool plugged,
			 struct err **err)
{
	struct vmem_device_info before, after;
	int ret = load_run_check(&mem->config.device, offset, size, err);

	if (ret)
		return ret;
	virtio_lock(mem->vdev);
	vmem_device_info(mem->engine, &before);
	ret = plugged ? vmem_device_import_plug(mem->engine, offset, size)
		      : vmem_device_import_unplug(mem->engine, offset, size);
	vmem_device_info(mem->engine, &after);
	load_run_cells(mem, offset, size, before.plugged_size, after.plugged_size);
	if (!ret)
		virtio_mem_changed(mem);
	virtio_unlock(mem->vdev);
	return ret ? load_run_failed(offset, size, plugged, ret, err) : 0;
}

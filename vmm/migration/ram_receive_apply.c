/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a record of memory does to a machine: checked first, then done (ram_receive.h, I1 to I3).
 *
 * Sentences of -EINVAL say what is wrong with the record: whoever has the channel puts its name in
 * front and the record's behind.
 */
#include "vmm/migration/ram_receive_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/migration/record.h"
#include "vmm/virtio/mem.h"

struct inflater {
	ZSTD_DCtx *zstd;
	uint8_t bytes[PAGES_BATCH * PAGE_BYTES];
};

static struct inflater *inflater_new(void)
{
	struct inflater *f = malloc(sizeof(*f));

	if (!f)
		return NULL;
	f->zstd = ZSTD_createDCtx();
	if (f->zstd)
		return f;
	free(f);
	return NULL;
}

void receive_lane_done(struct receive_lane *lane)
{
	if (!lane->inflater)
		return;
	ZSTD_freeDCtx(lane->inflater->zstd);
	free(lane->inflater);
	lane->inflater = NULL;
}

static uint64_t receive_gpa(const struct ram_receive *r, size_t block, uint64_t page)
{
	return r->config.blocks[block].ram.gpa.start + page * PAGE_BYTES;
}

/* Is there memory for all of the runs? (I2) */
static int receive_check_runs(const struct ram_receive *r, size_t block,
			      const struct pages_run *runs, size_t nr, struct err **err)
{
	for (size_t i = 0; i < nr; i++)
		if (!gm_valid(r->config.gm, receive_gpa(r, block, runs[i].first),
			      (uint64_t)runs[i].count * PAGE_BYTES))
			return err_set(err, EINVAL,
				       "pages 0x%llx to 0x%llx of '%s' are not all plugged",
				       (unsigned long long)runs[i].first,
				       (unsigned long long)runs[i].first + runs[i].count - 1,
				       r->config.blocks[block].ram.name);
	return 0;
}

static int receive_no_memory(const struct ram_receive *r, size_t block, uint64_t page,
			     struct err **err)
{
	return err_set(err, ENOMEM, "the host does not provide the memory of '%s' at page 0x%llx",
		       r->config.blocks[block].ram.name, (unsigned long long)page);
}

/* ---- pages ---- */

/* The bytes of @nr_pages pages, as they are or out of the frame. */
static int receive_inflate(struct receive_lane *lane, const uint8_t *bytes, size_t size,
			   uint64_t nr_pages, uint32_t flags, const uint8_t **ret_bytes,
			   struct err **err)
{
	size_t whole = (size_t)nr_pages * PAGE_BYTES, got;

	if (flags & ~PAGES_ZSTD)
		return err_set(err, EINVAL, "flags 0x%x are not known", flags);
	if (!(flags & PAGES_ZSTD)) {
		*ret_bytes = bytes;
		return size == whole ? 0
				     : err_set(err, EINVAL, "%zu bytes are not %llu pages", size,
					       (unsigned long long)nr_pages);
	}
	if (!lane->inflater)
		lane->inflater = inflater_new();
	if (!lane->inflater)
		return err_set(err, ENOMEM, "out of memory");
	*ret_bytes = lane->inflater->bytes;
	got = ZSTD_decompressDCtx(lane->inflater->zstd, lane->inflater->bytes, whole, bytes, size);
	if (ZSTD_isError(got) || got != whole)
		return err_set(err, EINVAL, "compressed bytes do not make %llu pages",
			       (unsigned long long)nr_pages);
	return 0;
}

static int receive_pages(struct receive_lane *lane, const struct record *record, struct err **err)
{
	struct ram_receive *r = lane->receive;
	struct range rest;
	const uint8_t *bytes = NULL;
	uint64_t nr_pages;
	size_t block, nr;
	int ret;

	ret = pages_unpack_runs(r->config.blocks, r->config.nr_blocks, record->bytes, record->size,
				PAGES_BATCH, PAGES_BATCH, &block, lane->runs, &nr, &nr_pages, &rest,
				err);
	if (!ret && !lane->sink)
		ret = receive_check_runs(r, block, lane->runs, nr, err);
	if (!ret)
		ret = receive_inflate(lane, record->bytes + rest.start, (size_t)rest.size, nr_pages,
				      record->flags, &bytes, err);
	if (ret)
		return ret;
	if (lane->sink)
		return lane->sink->pages(lane->sink_opaque, block, lane->runs, nr, bytes,
					 (size_t)nr_pages, err);
	for (size_t i = 0; i < nr; i++) {
		const struct pages_run *run = &lane->runs[i];
		size_t size = (size_t)run->count * PAGE_BYTES;

		pages_map_set(r->written, block, run->first, run->count);
		if (gm_write(r->config.gm, receive_gpa(r, block, run->first), bytes, size))
			return receive_no_memory(r, block, run->first, err);
		bytes += size;
	}
	return 0;
}

/* ---- zeros ---- */

static int receive_zero_run(struct ram_receive *r, size_t block, uint64_t page, uint64_t end,
			    struct err **err)
{
	while (page < end) {
		uint64_t count = pages_map_same(r->written, block, page, end);

		if (pages_map_test(r->written, block, page)) {
			if (gm_fill(r->config.gm, receive_gpa(r, block, page), 0,
				    (size_t)count * PAGE_BYTES))
				return receive_no_memory(r, block, page, err);
			pages_map_clear(r->written, block, page, count);
		}
		page += count;
	}
	return 0;
}

static int receive_zeros(struct receive_lane *lane, const struct record *record, struct err **err)
{
	struct ram_receive *r = lane->receive;
	struct range rest;
	uint64_t nr_pages;
	size_t block, nr;
	int ret;

	if (record->flags)
		return err_set(err, EINVAL, "flags 0x%x are not known", record->flags);
	ret = pages_unpack_runs(r->config.blocks, r->config.nr_blocks, record->bytes, record->size,
				PAGES_ZERO_RUNS, 0, &block, lane->runs, &nr, &nr_pages, &rest, err);
	if (!ret && rest.size)
		ret = err_set(err, EINVAL, "%llu bytes are too many",
			      (unsigned long long)rest.size);
	if (!ret && lane->sink)
		return lane->sink->zeros(lane->sink_opaque, block, lane->runs, nr, err);
	if (!ret)
		ret = receive_check_runs(r, block, lane->runs, nr, err);
	for (size_t i = 0; i < nr && !ret; i++)
		ret = receive_zero_run(r, block, lane->runs[i].first,
				       lane->runs[i].first + lane->runs[i].count, err);
	return ret;
}

/* ---- notes ---- */

struct receive_note {
	uint64_t block, plugged;
	struct range run;
};

static struct receive_note receive_note_get(const uint8_t *bytes, size_t i)
{
	const uint8_t *at = bytes + 4 + i * PAGES_NOTE_BYTES;

	return (struct receive_note){
		.block = bytes_get_le(at, 4),
		.plugged = bytes_get_le(at + 4, 4),
		.run = {bytes_get_le(at + 8, 8), bytes_get_le(at + 16, 8)},
	};
}

static int receive_note_check(const struct ram_receive *r, size_t i,
			      const struct receive_note *note, struct err **err)
{
	const struct block *b;

	if (note->block >= r->config.nr_blocks || note->plugged > 1)
		return err_set(err, EINVAL, "note %zu is about no block of memory", i);
	b = &r->config.blocks[note->block];
	if (!b->unit_bytes)
		return err_set(err, EINVAL, "note %zu is about boot memory", i);
	if (!num_is_aligned(note->run.start | note->run.size, b->unit_bytes) ||
	    !range_contains((struct range){0, b->ram.gpa.size}, note->run))
		return err_set(err, EINVAL,
			       "note %zu (0x%llx bytes from 0x%llx on) is not of whole device "
			       "blocks of '%s'",
			       i, (unsigned long long)note->run.size,
			       (unsigned long long)note->run.start, b->ram.name);
	return 0;
}

static int receive_note_apply(struct ram_receive *r, const struct receive_note *note,
			      struct err **err)
{
	const struct block *b = &r->config.blocks[note->block];
	size_t block = (size_t)note->block;
	int ret;

	if (r->config.plug)
		ret = r->config.plug(r->config.opaque, block, note->run.start, note->run.size,
				     note->plugged, err);
	else
		ret = virtio_mem_load_plug(b->ram.mem, note->run.start, note->run.size,
					   note->plugged, err);
	if (ret) {
		err_prefix(err, "memory device '%s'", b->ram.name);
		return ret;
	}
	if (!note->plugged)
		pages_map_clear(r->written, block, note->run.start / PAGE_BYTES,
				note->run.size / PAGE_BYTES);
	return 0;
}

static int receive_notes(struct receive_lane *lane, const struct record *record, struct err **err)
{
	struct ram_receive *r = lane->receive;
	uint64_t nr = record->size < 4 ? 0 : bytes_get_le(record->bytes, 4);
	int ret = 0;

	if (record->flags)
		return err_set(err, EINVAL, "flags 0x%x are not known", record->flags);
	if (!nr || nr > PAGES_NOTES || record->size != 4 + nr * PAGES_NOTE_BYTES)
		return err_set(err, EINVAL, "%zu bytes are not %llu notes", record->size,
			       (unsigned long long)nr);
	for (size_t i = 0; i < nr && !ret; i++) {
		struct receive_note note = receive_note_get(record->bytes, i);

		ret = receive_note_check(r, i, &note, err);
	}
	for (size_t i = 0; i < nr && !ret; i++) {
		struct receive_note note = receive_note_get(record->bytes, i);

		ret = receive_note_apply(r, &note, err);
	}
	return ret;
}

int receive_apply(struct receive_lane *lane, const struct record *record, struct err **err)
{
	switch (record->type) {
	case RECORD_PAGES:
		return receive_pages(lane, record, err);
	case RECORD_ZEROS:
		return receive_zeros(lane, record, err);
	default:
		return receive_notes(lane, record, err);
	}
}

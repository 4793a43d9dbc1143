/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration into a file in which pages have places (image.h): what is sent goes there. */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/notes.h"
#include "vmm/migration/outgoing_internal.h"
#include "vmm/migration/pace.h"
#include "vmm/migration/pages.h"
#include "vmm/migration/ram_send.h"

int outgoing_image_begin(struct outgoing *o, struct err **err)
{
	uint64_t *bytes = calloc(o->nr_blocks + 1, sizeof(*bytes));
	struct image_writer *image = NULL;
	int ret;

	if (!bytes)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < o->nr_blocks; i++)
		bytes[i] = o->blocks[i].ram.gpa.size;
	ret = image_writer_new(channel_fd(o->channel), channel_base(o->channel),
			       channel_name(o->channel), o->header.session, bytes, o->nr_blocks,
			       &image, err);
	free(bytes);
	pthread_mutex_lock(&o->lock);
	o->image = image;
	pthread_mutex_unlock(&o->lock);
	return ret;
}

static int outgoing_image_pages(void *opaque, size_t block, const struct pages_run *runs,
				size_t nr_runs, const void *bytes, size_t nr_pages,
				struct err **err)
{
	struct outgoing *o = opaque;
	const char *at = bytes;
	int ret = pace_take(o->pace, nr_pages * (uint64_t)PAGE_BYTES, o->cancel, NULL);

	for (size_t i = 0; i < nr_runs && !ret; i++) {
		ret = image_write_pages(o->image, block, runs[i].first, runs[i].count, at, err);
		at += (size_t)runs[i].count * PAGE_BYTES;
	}
	return ret;
}

static int outgoing_image_zeros(void *opaque, size_t block, const struct pages_run *runs,
				size_t nr_runs, struct err **err)
{
	struct outgoing *o = opaque;

	(void)err;
	for (size_t i = 0; i < nr_runs; i++)
		image_write_zeros(o->image, block, runs[i].first, runs[i].count);
	return 0;
}

/* What is plugged is written down at the end; only what a block had before is to be forgotten. */
static int outgoing_image_note(void *opaque, size_t block, struct range run, bool plugged,
			       struct err **err)
{
	struct outgoing *o = opaque;

	(void)err;
	if (!plugged)
		image_write_zeros(o->image, block, run.start / PAGE_BYTES, run.size / PAGE_BYTES);
	return 0;
}

static const struct pages_sink outgoing_image_batches = {
	.pages = outgoing_image_pages,
	.zeros = outgoing_image_zeros,
};

const struct ram_send_sink outgoing_image_sink = {
	.pages = &outgoing_image_batches,
	.note = outgoing_image_note,
};

/* One record's worth of notes, as pages.h lays them out. */
struct outgoing_notes {
	uint32_t nr;
	uint8_t bytes[4 + PAGES_NOTES * PAGES_NOTE_BYTES];
};

static int outgoing_notes_flush(struct outgoing *o, struct outgoing_notes *notes, struct err **err)
{
	int ret;

	if (!notes->nr)
		return 0;
	bytes_put_le(notes->bytes, 4, notes->nr);
	ret = outgoing_record(o, RECORD_NOTES, 0, notes->bytes, 4 + notes->nr * PAGES_NOTE_BYTES,
			      err);
	notes->nr = 0;
	return ret;
}

static int outgoing_notes_add(struct outgoing *o, struct outgoing_notes *notes, size_t block,
			      struct range pages, struct err **err)
{
	uint8_t *at = notes->bytes + 4 + notes->nr * PAGES_NOTE_BYTES;

	bytes_put_le(at, 4, (uint32_t)block);
	bytes_put_le(at + 4, 4, 1);
	bytes_put_le(at + 8, 8, pages.start * PAGE_BYTES);
	bytes_put_le(at + 16, 8, pages.size * PAGE_BYTES);
	notes->nr++;
	return notes->nr == PAGES_NOTES ? outgoing_notes_flush(o, notes, err) : 0;
}

int outgoing_image_notes(struct outgoing *o, struct err **err)
{
	struct outgoing_notes *notes = calloc(1, sizeof(*notes));
	struct range run;
	int ret = 0;

	if (!notes)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < o->nr_blocks; i++) {
		if (!o->blocks[i].ram.mem)
			continue;
		for (uint64_t page = 0;
		     !ret && notes_told_run(ram_send_notes(o->send), i, page, &run);
		     page = range_end(run))
			ret = outgoing_notes_add(o, notes, i, run, err);
	}
	if (!ret)
		ret = outgoing_notes_flush(o, notes, err);
	free(notes);
	return ret;
}

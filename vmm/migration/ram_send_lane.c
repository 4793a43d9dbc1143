/* SPDX-License-Identifier: BSD-3-Clause */
/* One channel's way out for memory: see ram_send_lane.h. */
#include "vmm/migration/ram_send_lane.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/pace.h"
#include "vmm/migration/record.h"

#define LANE_RECORD_BYTES 20u                /* around each payload */
#define LANE_PIECE_WORDS  (PAGES_BATCH / 64) /* of a job, between two looks at who has no time */

struct lane {
	struct lane_config config;
	struct pages_reader *reader;
	ZSTD_CCtx *zstd;
	void *packed; /* PAGES_BATCH pages, compressed */
	uint8_t runs[PAGES_HEAD_BYTES + PAGES_ZERO_RUNS * PAGES_RUN_BYTES];
	_Atomic uint64_t bytes;
};

static int lane_write(struct lane *lane, uint32_t type, uint32_t flags, const struct iovec *parts,
		      size_t nr, struct err **err)
{
	uint64_t bytes = LANE_RECORD_BYTES;
	int ret = 0;

	for (size_t i = 0; i < nr; i++)
		bytes += parts[i].iov_len;
	if (lane->config.pace)
		ret = pace_take(lane->config.pace, bytes, lane->config.cancel, NULL);
	if (!ret)
		ret = record_write(lane->config.writer, type, flags, parts, nr, err);
	if (!ret)
		atomic_fetch_add(&lane->bytes, bytes);
	return ret;
}

static int lane_pages(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		      const void *bytes, size_t nr_pages, struct err **err)
{
	struct lane *lane = opaque;
	struct iovec parts[2] = {{lane->runs, 0}, {(void *)bytes, nr_pages * PAGE_BYTES}};
	uint32_t flags = 0;

	parts[0].iov_len = pages_pack_runs(lane->runs, block, runs, nr_runs);
	if (lane->zstd) {
		/* What does not become smaller does not fit, and stays as it is. */
		size_t size = ZSTD_compress2(lane->zstd, lane->packed, parts[1].iov_len - 1, bytes,
					     parts[1].iov_len);

		if (!ZSTD_isError(size)) {
			parts[1] = (struct iovec){lane->packed, size};
			flags = PAGES_ZSTD;
		}
	}
	return lane_write(lane, RECORD_PAGES, flags, parts, 2, err);
}

static int lane_zeros(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		      struct err **err)
{
	struct lane *lane = opaque;
	struct iovec part = {lane->runs, pages_pack_runs(lane->runs, block, runs, nr_runs)};

	return lane_write(lane, RECORD_ZEROS, 0, &part, 1, err);
}

static const struct pages_sink lane_sink = {.pages = lane_pages, .zeros = lane_zeros};

struct lane *lane_new(const struct lane_config *config, struct err **err)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	struct pages_reader_config reader = config->reader;

	if (!lane)
		goto no_memory;
	lane->config = *config;
	if (config->writer) {
		reader.sink = &lane_sink;
		reader.opaque = lane;
	}
	if (config->writer && config->zstd) {
		lane->zstd = ZSTD_createCCtx();
		lane->packed = malloc(PAGES_BATCH * PAGE_BYTES);
		if (!lane->zstd || !lane->packed)
			goto no_memory;
		ZSTD_CCtx_setParameter(lane->zstd, ZSTD_c_compressionLevel, config->zstd_level);
	}
	lane->reader = pages_reader_new(&reader, err);
	if (!lane->reader) {
		lane_free(lane);
		return NULL;
	}
	return lane;
no_memory:
	lane_free(lane);
	err_set(err, ENOMEM, "out of memory");
	return NULL;
}

void lane_free(struct lane *lane)
{
	if (!lane)
		return;
	pages_reader_free(lane->reader);
	ZSTD_freeCCtx(lane->zstd);
	free(lane->packed);
	free(lane);
}

void lane_tell_zeros(struct lane *lane, bool tell)
{
	pages_reader_tell_zeros(lane->reader, tell);
}

void lane_set_writer(struct lane *lane, struct record_writer *writer)
{
	pages_reader_drop(lane->reader);
	lane->config.writer = writer;
}

/* The job from word @at on is somebody else's, later. */
static void lane_give_back(const struct lane *lane, const struct lane_job *job, size_t at)
{
	const struct block *block = &lane->config.reader.blocks[job->block];

	gm_dirty_merge(lane->config.reader.gm,
		       block->ram.gpa.start + (job->first + at * 64) * PAGE_BYTES, &job->words[at],
		       job->nr_words - at);
}

int lane_send(struct lane *lane, const struct lane_job *job, struct err **err)
{
	int ret = 0;

	for (size_t at = 0; at < job->nr_words && !ret; at += LANE_PIECE_WORDS) {
		/* There may be nothing to write for long. */
		if (cancel_raised(lane->config.cancel))
			return -ECANCELED;
		if (job->interrupted && atomic_load(job->interrupted)) {
			lane_give_back(lane, job, at);
			return 0;
		}
		ret = pages_reader_read(
			lane->reader, job->block, job->first + at * 64, &job->words[at],
			num_min(job->nr_words - at, LANE_PIECE_WORDS), job->fresh, err);
	}
	return ret;
}

int lane_flush(struct lane *lane, struct err **err)
{
	return pages_reader_flush(lane->reader, err);
}

int lane_record(struct lane *lane, uint32_t type, const void *bytes, size_t size, struct err **err)
{
	struct iovec part = {(void *)bytes, size};
	int ret = lane_flush(lane, err);

	return ret ? ret : lane_write(lane, type, 0, &part, size ? 1 : 0, err);
}

int lane_round(struct lane *lane, uint64_t number, struct err **err)
{
	uint8_t bytes[8];

	bytes_put_le(bytes, 8, number);
	return lane_record(lane, RECORD_ROUND, bytes, sizeof(bytes), err);
}

uint64_t lane_bytes(const struct lane *lane)
{
	return atomic_load(&lane->bytes);
}

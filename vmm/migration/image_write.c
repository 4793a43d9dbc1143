/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing an image: see image.h for the contract, image_layout.h for the layout. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/crc32c.h"
#include "vmm/migration/image_layout.h"

#define WRITE_BUFFER (1 * MIB) /* of the index, gathered before it is written */
#define WORD_BITS    64u

struct chunk {
	uint64_t place;
	_Atomic uint64_t present[IMAGE_CHUNK_PAGES / WORD_BITS];
	uint32_t crc[IMAGE_CHUNK_PAGES];
};

struct image_block {
	uint64_t bytes, nr_chunks;
	struct chunk *_Atomic *chunks; /* NULL: not in the file; made with the lock held */
};

struct image_text {
	uint32_t type, flags, size;
	uint8_t bytes[];
};

struct image_writer {
	int fd;
	uint64_t base, session;
	char *name;
	size_t nr_blocks;
	struct image_block *blocks;
	pthread_mutex_t lock;
	uint64_t nr_places; /* guarded by lock */
	struct image_text **records;
	size_t nr_records;
	_Atomic uint64_t written;
	_Atomic int failed; /* I4: the first error, positive */
};

/* ---- failures ---- */

/* Keep the first failure, and tell it. */
static int image_failed(struct image_writer *w, int code, struct err **err)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&w->failed, &none, code))
		return err_set(err, code, "%s cannot be written: %s", w->name, strerror(code));
	return err_set(err, none, "%s cannot be written: %s", w->name, strerror(none));
}

static int image_check(struct image_writer *w, struct err **err)
{
	return w->failed ? image_failed(w, w->failed, err) : 0;
}

/*
 * pwrite(2) of all of it; 0 or -errno. A file that may not be as large (RLIMIT_FSIZE) is -EFBIG, the
 * signal that comes with it is taken back.
 */
static int image_pwrite(struct image_writer *w, const void *bytes, size_t size, uint64_t position)
{
	sigset_t xfsz, before, pending;
	size_t done = 0;
	int ret = 0;

	sigemptyset(&xfsz);
	sigaddset(&xfsz, SIGXFSZ);
	sigemptyset(&pending);
	pthread_sigmask(SIG_BLOCK, &xfsz, &before);
	if (sigismember(&before, SIGXFSZ))
		sigpending(&pending);
	while (!ret && done < size) {
		ssize_t some = pwrite(w->fd, (const char *)bytes + done, size - done,
				      (off_t)(w->base + position + done));

		if (some > 0)
			done += (size_t)some;
		else if (some == 0 || errno != EINTR)
			ret = some == 0 ? -ENOSPC : -errno;
	}
	if (ret == -EFBIG && !sigismember(&pending, SIGXFSZ))
		sigtimedwait(&xfsz, NULL, &(struct timespec){0, 0});
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->written += done;
	return ret;
}

static int image_sync(const struct image_writer *w)
{
	/* A descriptor that has nothing to be synced is none that can be written anywhere. */
	return fsync(w->fd) < 0 ? -errno : 0;
}

/* ---- life ---- */

/* What was there is no image any more. */
static int image_invalidate(struct image_writer *w)
{
	const uint8_t none[IMAGE_PAGE_BYTES] = {0};
	int ret = image_pwrite(w, none, sizeof(none), 0);

	return ret ? ret : image_sync(w);
}

static int image_writer_init(struct image_writer *w, const char *name, const uint64_t *block_bytes,
			     size_t nr_blocks)
{
	w->name = strdup(name);
	w->blocks = calloc(nr_blocks + 1, sizeof(*w->blocks));
	if (!w->name || !w->blocks)
		return -ENOMEM;
	for (; w->nr_blocks < nr_blocks; w->nr_blocks++) {
		struct image_block *b = &w->blocks[w->nr_blocks];

		b->bytes = block_bytes[w->nr_blocks];
		b->nr_chunks = image_chunks(b->bytes);
		b->chunks = calloc(b->nr_chunks + 1, sizeof(*b->chunks));
		if (!b->chunks)
			return -ENOMEM;
	}
	return 0;
}

int image_writer_new(int fd, uint64_t base, const char *name, uint64_t session,
		     const uint64_t *block_bytes, size_t nr_blocks,
		     struct image_writer **ret_writer, struct err **err)
{
	struct image_writer *w;
	int ret;

	assert(nr_blocks <= IMAGE_BLOCKS_MAX);
	if (!num_is_aligned(base, IMAGE_PAGE_BYTES))
		return err_set(err, EINVAL,
			       "%s: a saved machine begins at a multiple of %u bytes, and %llu is "
			       "none",
			       name, IMAGE_PAGE_BYTES, (unsigned long long)base);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, ENOMEM, "out of memory");
	w->fd = fd;
	w->base = base;
	w->session = session;
	pthread_mutex_init(&w->lock, NULL);
	ret = image_writer_init(w, name, block_bytes, nr_blocks);
	if (ret)
		err_set(err, ENOMEM, "out of memory");
	if (!ret) {
		ret = image_invalidate(w);
		if (ret)
			image_failed(w, -ret, err);
	}
	if (ret) {
		image_writer_free(w);
		return ret;
	}
	*ret_writer = w;
	return 0;
}

void image_writer_free(struct image_writer *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->nr_blocks; i++) {
		for (uint64_t k = 0; k < w->blocks[i].nr_chunks; k++)
			free(w->blocks[i].chunks[k]);
		free(w->blocks[i].chunks);
	}
	for (size_t i = 0; i < w->nr_records; i++)
		free(w->records[i]);
	free(w->records);
	free(w->blocks);
	free(w->name);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

uint64_t image_writer_bytes(const struct image_writer *w)
{
	return w->written;
}

/* ---- pages ---- */

/* The chunk, with a place in the file; NULL when memory is out. */
static struct chunk *image_chunk(struct image_writer *w, struct image_block *b, uint64_t index)
{
	struct chunk *chunk = b->chunks[index];

	if (chunk)
		return chunk;
	pthread_mutex_lock(&w->lock);
	chunk = b->chunks[index];
	if (!chunk) {
		chunk = calloc(1, sizeof(*chunk));
		if (chunk) {
			chunk->place = w->nr_places++;
			b->chunks[index] = chunk;
		}
	}
	pthread_mutex_unlock(&w->lock);
	return chunk;
}

/* Whether pages [first, first + nr) of the chunk have content. */
static void chunk_set(struct chunk *chunk, uint64_t first, uint64_t nr, bool present)
{
	for (uint64_t i = first; i < first + nr; i++) {
		uint64_t bit = UINT64_C(1) << i % WORD_BITS;

		if (present)
			atomic_fetch_or(&chunk->present[i / WORD_BITS], bit);
		else
			atomic_fetch_and(&chunk->present[i / WORD_BITS], ~bit);
	}
}

int image_write_pages(struct image_writer *w, size_t block, uint64_t page, uint64_t nr,
		      const void *bytes, struct err **err)
{
	struct image_block *b = &w->blocks[block];
	const char *at = bytes;
	int ret = image_check(w, err);

	assert(page + nr <= b->bytes / IMAGE_PAGE_BYTES);
	while (!ret && nr) {
		uint64_t first = page % IMAGE_CHUNK_PAGES;
		uint64_t some = num_min(nr, IMAGE_CHUNK_PAGES - first);
		struct chunk *chunk = image_chunk(w, b, page / IMAGE_CHUNK_PAGES);

		if (!chunk)
			return image_failed(w, ENOMEM, err);
		ret = image_pwrite(w, at, some * IMAGE_PAGE_BYTES,
				   image_place_position(chunk->place) + first * IMAGE_PAGE_BYTES);
		if (ret)
			return image_failed(w, -ret, err);
		for (uint64_t i = 0; i < some; i++)
			chunk->crc[first + i] =
				crc32c(0, at + i * IMAGE_PAGE_BYTES, IMAGE_PAGE_BYTES);
		chunk_set(chunk, first, some, true);
		at += some * IMAGE_PAGE_BYTES;
		page += some;
		nr -= some;
	}
	return ret;
}

void image_write_zeros(struct image_writer *w, size_t block, uint64_t page, uint64_t nr)
{
	struct image_block *b = &w->blocks[block];

	assert(page + nr <= b->bytes / IMAGE_PAGE_BYTES);
	while (nr) {
		uint64_t first = page % IMAGE_CHUNK_PAGES;
		uint64_t some = num_min(nr, IMAGE_CHUNK_PAGES - first);
		struct chunk *chunk = b->chunks[page / IMAGE_CHUNK_PAGES];

		if (chunk)
			chunk_set(chunk, first, some, false);
		page += some;
		nr -= some;
	}
}

int image_write_record(struct image_writer *w, enum record_type type, uint32_t flags,
		       const void *bytes, size_t size, struct err **err)
{
	struct image_text *record, **records;
	int ret = image_check(w, err);

	assert(size <= RECORD_SECTION_MAX);
	if (ret)
		return ret;
	record = malloc(sizeof(*record) + size);
	records = realloc(w->records, (w->nr_records + 1) * sizeof(*records));
	if (records)
		w->records = records;
	if (!record || !records) {
		free(record);
		return image_failed(w, ENOMEM, err);
	}
	record->type = type;
	record->flags = flags;
	record->size = (uint32_t)size;
	if (size)
		memcpy(record->bytes, bytes, size);
	w->records[w->nr_records++] = record;
	return 0;
}

/* ---- the index ---- */

struct index_stream {
	struct image_writer *w;
	uint8_t *buffer;
	size_t used;
	uint64_t start, size; /* position, and bytes so far */
	uint32_t crc;
	int error;
};

static void index_flush(struct index_stream *s)
{
	if (!s->error)
		s->error = image_pwrite(s->w, s->buffer, s->used, s->start + s->size);
	s->crc = crc32c(s->crc, s->buffer, s->used);
	s->size += s->used;
	s->used = 0;
}

static void index_put(struct index_stream *s, const void *bytes, size_t size)
{
	for (size_t done = 0, some; done < size; done += some) {
		if (s->used == WRITE_BUFFER)
			index_flush(s);
		some = num_min(size - done, WRITE_BUFFER - s->used);
		memcpy(s->buffer + s->used, (const uint8_t *)bytes + done, some);
		s->used += some;
	}
}

static void index_put_number(struct index_stream *s, unsigned int size, uint64_t value)
{
	uint8_t bytes[8];

	bytes_put_le(bytes, size, value);
	index_put(s, bytes, size);
}

/* The next chunk from @k on in which there is a page with content. */
static uint64_t image_next_chunk(const struct image_block *b, uint64_t k)
{
	for (; k < b->nr_chunks; k++) {
		const struct chunk *chunk = b->chunks[k];

		for (unsigned int i = 0; chunk && i < ARRAY_SIZE(chunk->present); i++)
			if (chunk->present[i])
				return k;
	}
	return k;
}

static void index_put_chunk(struct index_stream *s, uint64_t k, const struct chunk *chunk)
{
	index_put_number(s, 8, k);
	index_put_number(s, 8, chunk->place);
	for (unsigned int i = 0; i < ARRAY_SIZE(chunk->present); i++)
		index_put_number(s, 8, chunk->present[i]);
	for (unsigned int i = 0; i < IMAGE_CHUNK_PAGES; i++)
		if (chunk->present[i / WORD_BITS] >> i % WORD_BITS & 1)
			index_put_number(s, 4, chunk->crc[i]);
}

static void index_put_all(struct index_stream *s)
{
	const struct image_writer *w = s->w;

	index_put_number(s, 4, w->nr_blocks);
	for (size_t i = 0; i < w->nr_blocks; i++) {
		const struct image_block *b = &w->blocks[i];
		uint64_t nr = 0;

		for (uint64_t k = 0; (k = image_next_chunk(b, k)) < b->nr_chunks; k++)
			nr++;
		index_put_number(s, 8, b->bytes);
		index_put_number(s, 8, nr);
		for (uint64_t k = 0; (k = image_next_chunk(b, k)) < b->nr_chunks; k++)
			index_put_chunk(s, k, b->chunks[k]);
	}
	index_put_number(s, 4, w->nr_records);
	for (size_t i = 0; i < w->nr_records; i++) {
		const struct image_text *record = w->records[i];

		index_put_number(s, 4, record->type);
		index_put_number(s, 4, record->flags);
		index_put_number(s, 4, record->size);
		index_put(s, record->bytes, record->size);
	}
	index_flush(s);
}

/* ---- the end ---- */

static void image_encode_head(const struct image_writer *w, const struct index_stream *s,
			      uint8_t head[IMAGE_HEAD_BYTES])
{
	const struct record_header header = {.flags = RECORD_FLAG_IMAGE, .session = w->session};
	uint8_t *extra = head + RECORD_HEADER_BYTES;
	uint32_t crc;

	record_header_encode(&header, head);
	crc = (uint32_t)bytes_get_le(extra - 4, 4);
	bytes_put_le(extra, 8, s->start);
	bytes_put_le(extra + 8, 8, s->size);
	bytes_put_le(extra + 16, 4, s->crc);
	bytes_put_le(extra + 20, 4, crc32c(crc, extra, 20));
}

/* A larger file that was there before: what is behind the image is not kept. */
static int image_cut(const struct image_writer *w, uint64_t end)
{
	struct stat st;

	if (fstat(w->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size <= w->base + end)
		return 0;
	return ftruncate(w->fd, (off_t)(w->base + end)) < 0 ? -errno : 0;
}

int image_writer_finish(struct image_writer *w, struct err **err)
{
	struct index_stream s = {.w = w, .start = image_place_position(w->nr_places)};
	uint8_t head[IMAGE_HEAD_BYTES];
	int ret = image_check(w, err);

	if (ret)
		return ret;
	s.buffer = malloc(WRITE_BUFFER);
	if (!s.buffer)
		return image_failed(w, ENOMEM, err);
	index_put_all(&s);
	free(s.buffer);
	ret = s.error;
	if (!ret)
		ret = image_cut(w, s.start + s.size);
	if (!ret)
		ret = image_sync(w);
	if (!ret) {
		image_encode_head(w, &s, head);
		ret = image_pwrite(w, head, sizeof(head), 0);
	}
	if (!ret)
		ret = image_sync(w);
	return ret ? image_failed(w, -ret, err) : 0;
}

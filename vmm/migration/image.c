/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading an image: see image.h for the contract, image_layout.h for the layout. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/migration/crc32c.h"
#include "vmm/migration/image_layout.h"

/* All that an index may have beside what belongs to pages. */
#define IMAGE_RECORDS_BYTES (256 * MIB)

/* A chunk that is in the file: where, and what the index says of its pages. */
struct chunk {
	uint64_t index, place;
	const uint8_t *present, *crcs; /* in the index */
};

struct image_block {
	uint64_t bytes;
	struct chunk *chunks; /* ascending by index */
	uint64_t nr_chunks;
};

struct image {
	int fd;
	char *name;
	uint64_t base, session;
	uint8_t *index;
	size_t index_size;
	uint64_t nr_places;
	struct image_block *blocks;
	size_t nr_blocks;
	struct record *records;
	size_t nr_records;
	uint64_t nr_pages;
};

/* ---- reading the file ---- */

/* 0, -errno with a sentence; the file ending too early is one. */
static int image_pread(const struct image *image, void *buf, size_t size, uint64_t position,
		       struct err **err)
{
	for (size_t done = 0; done < size;) {
		ssize_t some = pread(image->fd, (char *)buf + done, size - done,
				     (off_t)(image->base + position + done));

		if (some < 0 && errno == EINTR)
			continue;
		if (some < 0) {
			int code = errno;

			return err_set(err, code, "%s cannot be read: %s", image->name,
				       strerror(code));
		}
		if (some == 0)
			return err_set(err, EINVAL, "%s was cut off while it was read",
				       image->name);
		done += (size_t)some;
	}
	return 0;
}

static int image_damaged(const struct image *image, const char *what, struct err **err)
{
	return err_set(err, EINVAL, "%s is damaged: %s", image->name, what);
}

/* ---- opening ---- */

struct image_head {
	uint64_t start, size;
	uint32_t crc;
};

/* Bytes from the image's start to the end of the file. */
static int image_file_bytes(const struct image *image, uint64_t *ret_bytes, struct err **err)
{
	off_t end = lseek(image->fd, 0, SEEK_END);

	if (end < 0) {
		int code = errno;

		return err_set(err, code, "%s cannot be read: %s", image->name, strerror(code));
	}
	*ret_bytes = (uint64_t)end > image->base ? (uint64_t)end - image->base : 0;
	return 0;
}

static int image_read_head(struct image *image, struct image_head *ret_head, struct err **err)
{
	static const uint8_t none[IMAGE_HEAD_BYTES];
	uint8_t head[IMAGE_HEAD_BYTES], *extra = head + RECORD_HEADER_BYTES;
	struct record_header header;
	uint64_t bytes = 0, end;
	int ret = image_file_bytes(image, &bytes, err);

	if (!ret && bytes < sizeof(head))
		return err_set(err, EINVAL, "%s is too short to be a saved machine", image->name);
	if (!ret)
		ret = image_pread(image, head, sizeof(head), 0, err);
	if (!ret && !memcmp(head, none, sizeof(head)))
		return err_set(err, EINVAL,
			       "%s is no saved machine: its saving did not come to its end",
			       image->name);
	if (!ret)
		ret = record_header_decode(head, RECORD_HEADER_BYTES, image->name, &header, err);
	if (ret)
		return ret;
	if (!(header.flags & RECORD_FLAG_IMAGE) || header.nr_channels || header.channel)
		return err_set(err, EINVAL, "%s is not a machine saved to a file", image->name);
	if (bytes_get_le(extra + 20, 4) != crc32c((uint32_t)bytes_get_le(extra - 4, 4), extra, 20))
		return image_damaged(image, "its header's checksum is wrong", err);
	image->session = header.session;
	ret_head->start = bytes_get_le(extra, 8);
	ret_head->size = bytes_get_le(extra + 8, 8);
	ret_head->crc = (uint32_t)bytes_get_le(extra + 16, 4);
	if (!num_add(ret_head->start, ret_head->size, &end) ||
	    ret_head->start < IMAGE_CHUNK_BYTES ||
	    !num_is_aligned(ret_head->start, IMAGE_CHUNK_BYTES) ||
	    /* a chunk has at most so much in the index */
	    ret_head->size > IMAGE_RECORDS_BYTES + ret_head->start / 256)
		return image_damaged(image, "its header is wrong", err);
	if (end > bytes)
		return err_set(err, EINVAL, "%s was cut off: it has %llu bytes of %llu",
			       image->name, (unsigned long long)bytes, (unsigned long long)end);
	image->nr_places = ret_head->start / IMAGE_CHUNK_BYTES - 1;
	return 0;
}

static int image_read_index(struct image *image, const struct image_head *head, struct err **err)
{
	int ret;

	image->index = malloc(head->size + 1);
	if (!image->index)
		return err_set(err, ENOMEM, "out of memory for the index of %s", image->name);
	image->index_size = head->size;
	ret = image_pread(image, image->index, head->size, head->start, err);
	if (!ret && crc32c(0, image->index, head->size) != head->crc)
		ret = image_damaged(image, "its index has a wrong checksum", err);
	return ret;
}

static bool chunk_has(const struct chunk *chunk, uint64_t page)
{
	return chunk->present[page / 8] >> page % 8 & 1;
}

static uint64_t chunk_count(const struct chunk *chunk, uint64_t first, uint64_t end)
{
	uint64_t count = 0;

	for (; first < end; first++)
		count += chunk_has(chunk, first);
	return count;
}

/* One chunk of the index; false when it cannot be. */
static bool image_parse_chunk(struct image *image, struct image_block *b, struct unpack *in,
			      struct bitmap *places)
{
	struct chunk *chunk = &b->chunks[b->nr_chunks];
	uint64_t pages, nr;

	chunk->index = unpack_u64(in);
	chunk->place = unpack_u64(in);
	chunk->present = unpack_raw(in, IMAGE_PRESENT_BYTES);
	if (unpack_failed(in) || chunk->index >= image_chunks(b->bytes) ||
	    chunk->place >= image->nr_places || bitmap_test(places, chunk->place) ||
	    (b->nr_chunks && chunk->index <= chunk[-1].index))
		return false;
	bitmap_set(places, chunk->place, 1);
	pages = num_min(IMAGE_CHUNK_PAGES,
			b->bytes / IMAGE_PAGE_BYTES - chunk->index * IMAGE_CHUNK_PAGES);
	nr = chunk_count(chunk, 0, IMAGE_CHUNK_PAGES);
	if (!nr || chunk_count(chunk, 0, pages) != nr)
		return false;
	chunk->crcs = unpack_raw(in, nr * 4);
	image->nr_pages += nr;
	b->nr_chunks++;
	return !unpack_failed(in);
}

/* 0, -ENOMEM, or -EINVAL for what cannot be. */
static int image_parse_block(struct image *image, struct unpack *in, struct bitmap *places)
{
	struct image_block *b = &image->blocks[image->nr_blocks++];
	uint64_t nr;

	b->bytes = unpack_u64(in);
	nr = unpack_u64_max(in, image->nr_places);
	if (unpack_failed(in) || !num_is_aligned(b->bytes, IMAGE_PAGE_BYTES) ||
	    nr > in->left / IMAGE_CHUNK_HEAD)
		return -EINVAL;
	b->chunks = calloc(nr + 1, sizeof(*b->chunks));
	if (!b->chunks)
		return -ENOMEM;
	while (nr--)
		if (!image_parse_chunk(image, b, in, places))
			return -EINVAL;
	return 0;
}

static int image_parse_records(struct image *image, struct unpack *in)
{
	uint32_t nr = unpack_u32(in);

	if (unpack_failed(in) || nr > in->left / IMAGE_RECORD_HEAD)
		return -EINVAL;
	image->records = calloc((size_t)nr + 1, sizeof(*image->records));
	if (!image->records)
		return -ENOMEM;
	for (; image->nr_records < nr; image->nr_records++) {
		struct record *r = &image->records[image->nr_records];

		r->type = unpack_u32(in);
		r->flags = unpack_u32(in);
		r->size = unpack_u32_max(in, RECORD_SECTION_MAX);
		r->number = image->nr_records;
		r->bytes = unpack_raw(in, r->size);
		if (unpack_failed(in))
			return -EINVAL;
	}
	return unpack_ended(in) ? 0 : -EINVAL;
}

static int image_parse(struct image *image, struct err **err)
{
	struct unpack in = unpack_begin(image->index, image->index_size);
	struct bitmap *places = bitmap_new(image->nr_places);
	uint32_t nr = unpack_u32_max(&in, IMAGE_BLOCKS_MAX);
	int ret = 0;

	image->blocks = calloc((size_t)nr + 1, sizeof(*image->blocks));
	if (!image->blocks || !places)
		ret = -ENOMEM;
	while (!ret && image->nr_blocks < nr)
		ret = image_parse_block(image, &in, places);
	if (!ret)
		ret = image_parse_records(image, &in);
	bitmap_free(places);
	if (ret == -ENOMEM)
		return err_set(err, ENOMEM, "out of memory for the index of %s", image->name);
	return ret ? image_damaged(image, "its index cannot be", err) : 0;
}

int image_open(int fd, uint64_t base, const char *name, struct image **ret_image, struct err **err)
{
	struct image *image = calloc(1, sizeof(*image));
	struct image_head head = {0};
	int ret;

	if (!image)
		return err_set(err, ENOMEM, "out of memory");
	image->fd = fd;
	image->base = base;
	image->name = strdup(name);
	ret = image->name ? image_read_head(image, &head, err)
			  : err_set(err, ENOMEM, "out of memory");
	if (!ret)
		ret = image_read_index(image, &head, err);
	if (!ret)
		ret = image_parse(image, err);
	if (ret) {
		image_close(image);
		return ret;
	}
	*ret_image = image;
	return 0;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->nr_blocks; i++)
		free(image->blocks[i].chunks);
	free(image->blocks);
	free(image->records);
	free(image->index);
	free(image->name);
	free(image);
}

/* ---- what is in it ---- */

uint64_t image_session(const struct image *image)
{
	return image->session;
}

size_t image_nr_blocks(const struct image *image)
{
	return image->nr_blocks;
}

uint64_t image_block_bytes(const struct image *image, size_t block)
{
	return image->blocks[block].bytes;
}

size_t image_nr_records(const struct image *image)
{
	return image->nr_records;
}

void image_record(const struct image *image, size_t index, struct record *ret_record)
{
	*ret_record = image->records[index];
}

uint64_t image_bytes(const struct image *image)
{
	return image->nr_pages * IMAGE_PAGE_BYTES;
}

/* The first chunk whose index is @index or more; behind the last one when there is none. */
static const struct chunk *image_find(const struct image_block *b, uint64_t index)
{
	uint64_t low = 0, high = b->nr_chunks;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (b->chunks[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return &b->chunks[low];
}

uint64_t image_next(const struct image *image, size_t block, uint64_t page, uint64_t end,
		    uint64_t *ret_nr)
{
	const struct image_block *b = &image->blocks[block];
	const struct chunk *chunk = image_find(b, page / IMAGE_CHUNK_PAGES);
	const struct chunk *last = b->chunks + b->nr_chunks;
	uint64_t nr = 0;

	*ret_nr = 0;
	for (; chunk < last; chunk++) {
		uint64_t first = chunk->index * IMAGE_CHUNK_PAGES;

		if (first >= end || (nr && page + nr != first))
			break;
		for (uint64_t at = num_max(first, page + nr);
		     at < num_min(end, first + IMAGE_CHUNK_PAGES); at++) {
			if (chunk_has(chunk, at - first)) {
				if (!nr++)
					page = at;
			} else if (nr) {
				*ret_nr = nr;
				return page;
			}
		}
	}
	*ret_nr = nr;
	return nr ? page : end;
}

/* ---- pages ---- */

/* A run of pages of one chunk that all have content. */
static int image_read_run(struct image *image, size_t block, const struct chunk *chunk,
			  uint64_t first, uint64_t nr, uint8_t *buf, struct err **err)
{
	const uint8_t *crcs = chunk->crcs + 4 * chunk_count(chunk, 0, first);
	int ret = image_pread(image, buf, nr * IMAGE_PAGE_BYTES,
			      image_place_position(chunk->place) + first * IMAGE_PAGE_BYTES, err);

	for (uint64_t i = 0; !ret && i < nr; i++)
		if (crc32c(0, buf + i * IMAGE_PAGE_BYTES, IMAGE_PAGE_BYTES) !=
		    bytes_get_le(crcs + 4 * i, 4))
			ret = err_set(
				err, EINVAL,
				"%s is damaged: page %llu of memory block %zu has a wrong checksum",
				image->name,
				(unsigned long long)(chunk->index * IMAGE_CHUNK_PAGES + first + i),
				block);
	return ret;
}

int image_read(struct image *image, size_t block, uint64_t page, uint64_t nr, void *buf,
	       struct err **err)
{
	uint8_t *to = buf;
	int ret = 0;

	assert(page + nr <= image->blocks[block].bytes / IMAGE_PAGE_BYTES);
	while (!ret && nr) {
		uint64_t run, next = image_next(image, block, page, page + nr, &run);
		const struct chunk *chunk;

		memset(to, 0, (next - page) * IMAGE_PAGE_BYTES);
		to += (next - page) * IMAGE_PAGE_BYTES;
		nr -= next - page;
		page = next;
		if (!nr)
			break;
		run = num_min(run, IMAGE_CHUNK_PAGES - page % IMAGE_CHUNK_PAGES);
		chunk = image_find(&image->blocks[block], page / IMAGE_CHUNK_PAGES);
		ret = image_read_run(image, block, chunk, page % IMAGE_CHUNK_PAGES, run, to, err);
		to += run * IMAGE_PAGE_BYTES;
		page += run;
		nr -= run;
	}
	return ret;
}

void image_read_ahead(struct image *image)
{
	posix_fadvise(image->fd, (off_t)image->base, (off_t)image_place_position(image->nr_places),
		      POSIX_FADV_SEQUENTIAL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine in a file whose pages have places: an image, which can be written in any order, and from
 * which a guest can run before it is read. docs/migration.md tells the layout.
 *
 *	header	the header of records (record.h) with RECORD_FLAG_IMAGE, then where the index is: made
 *		valid last
 *	chunks	IMAGE_CHUNK_BYTES each, a multiple of that from the start: pages of one chunk of a
 *		block. A chunk is in the file from the first of its pages that was written; pages that are
 *		zeros have no content
 *	index	for each chunk of a block that is in the file its number there, which pages it has,
 *		and their checksums; then records: everything but pages
 *
 * I1  A file is an image from the moment on when all of it is on the disk, and not before; an image
 *     that was there before is none from the first byte on.
 * I2  A page that is written again replaces itself. Memory that is zeros or not there costs nothing.
 * I3  A reader believes nothing of an index whose checksum is wrong, and gives out no page whose own is.
 *     What an index says is checked against the file and itself before anything is used.
 * I4  The first failure is kept: everything fails with it from then on, and no image comes of it.
 *
 * Ownership: the descriptor is the caller's. Threads: image_write_pages(), image_write_zeros() from any,
 * but no page by two at once; the rest of a writer by one thread, with no other call under way. A reader
 * from any thread at any time.
 * The file's content is hostile; it may be changed or cut while it is read, which is an error, and no
 * more.
 */
#ifndef VMM_MIGRATION_IMAGE_H
#define VMM_MIGRATION_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/record.h"

struct err;
struct image;
struct image_writer;

#define IMAGE_PAGE_BYTES  4096u
#define IMAGE_CHUNK_BYTES (UINT32_C(2) << 20)
#define IMAGE_BLOCKS_MAX  4096u

/* ---- writing ---- */

/*
 * In @fd from @base on (a multiple of IMAGE_PAGE_BYTES, else -EINVAL); what was there is no image
 * any more. @name is the subject of sentences. @block_bytes: sizes of blocks, multiples of a page; the
 * array is copied. @session as in record.h.
 */
int image_writer_new(int fd, uint64_t base, const char *name, uint64_t session,
		     const uint64_t *block_bytes, size_t nr_blocks,
		     struct image_writer **ret_writer, struct err **err);
/* An image that was not finished is none. NULL is allowed. */
void image_writer_free(struct image_writer *w);

/* Pages [page, page + nr) of the block, inside it. */
int image_write_pages(struct image_writer *w, size_t block, uint64_t page, uint64_t nr,
		      const void *bytes, struct err **err);
/* They are zeros now, or not there any more. */
void image_write_zeros(struct image_writer *w, size_t block, uint64_t page, uint64_t nr);
/* As record_write_bytes(): the records of a stream but PAGES, ZEROS, ROUND; kept in order. */
int image_write_record(struct image_writer *w, enum record_type type, uint32_t flags,
		       const void *bytes, size_t size, struct err **err);
/* Write the index and have all of it on the disk: it is an image when this returns 0. */
int image_writer_finish(struct image_writer *w, struct err **err);
/* Bytes written so far; any thread. */
uint64_t image_writer_bytes(const struct image_writer *w);

/* ---- reading ---- */

/* One sentence for whatever is not a whole image. @base as above. */
int image_open(int fd, uint64_t base, const char *name, struct image **ret_image, struct err **err);
void image_close(struct image *image);

uint64_t image_session(const struct image *image);
size_t image_nr_blocks(const struct image *image);
uint64_t image_block_bytes(const struct image *image, size_t block);
size_t image_nr_records(const struct image *image);
/* number is the index; bytes as long as the image is open. */
void image_record(const struct image *image, size_t index, struct record *ret_record);

/* The first page in [page, end) that is not zeros, or @end; *ret_nr: how many follow each other. */
uint64_t image_next(const struct image *image, size_t block, uint64_t page, uint64_t end,
		    uint64_t *ret_nr);
/* Bytes of pages that are not zeros. */
uint64_t image_bytes(const struct image *image);
/*
 * Pages [page, page + nr) of the block, inside it, zeros where it has none; verified. After a failure
 * @buf is not to be used.
 */
int image_read(struct image *image, size_t block, uint64_t page, uint64_t nr, void *buf,
	       struct err **err);
/* The file's pages are going to be read in order, from the first. Advice only. */
void image_read_ahead(struct image *image);

#endif

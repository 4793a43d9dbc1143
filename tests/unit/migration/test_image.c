/* SPDX-License-Identifier: BSD-3-Clause */
/* Images (vmm/migration/image.h): round trips, cut and changed files, file systems that are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/crc32c.h"
#include "vmm/migration/image.h"

#define PAGE    IMAGE_PAGE_BYTES
#define BLOCKS  3
#define SESSION 0x1234567890abcdef
#define HEAD    60 /* bytes of the header */
#define NAME    "file:/srv/vm"

static const uint64_t block_bytes[BLOCKS] = {5 * MIB + PAGE, 2 * MIB, TIB};

/* A memory that is written, and what should come of it. */
struct world {
	int fd;
	uint64_t base;
	unsigned int seed;
	struct image_writer *writer;
	struct image *image;
	char *mirror; /* of the first PAGES of each block */
};

#define PAGES 1281u /* block 0 as a whole */

static char *mirror(const struct world *w, size_t block, uint64_t page)
{
	return w->mirror + (block * PAGES + page) * PAGE;
}

static uint64_t mirrored(size_t block)
{
	return num_min(PAGES, block_bytes[block] / PAGE);
}

static void world_start(struct world *w, uint64_t base)
{
	*w = (struct world){.base = base, .seed = 7};
	w->fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(w->fd >= 0);
	w->mirror = calloc(BLOCKS * PAGES, PAGE);
	assert_non_null(w->mirror);
	assert_int_equal(
		image_writer_new(w->fd, base, NAME, SESSION, block_bytes, BLOCKS, &w->writer, NULL),
		0);
}

static void world_end(struct world *w)
{
	image_writer_free(w->writer);
	image_close(w->image);
	free(w->mirror);
	close(w->fd);
}

static void world_write(struct world *w, size_t block, uint64_t page, uint64_t nr)
{
	char *at = mirror(w, block, page);

	for (uint64_t i = 0; i < nr * PAGE; i += 8)
		bytes_put_le(at + i, 4, (uint64_t)rand_r(&w->seed) | 1);
	assert_int_equal(image_write_pages(w->writer, block, page, nr, at, NULL), 0);
}

static void world_clear(struct world *w, size_t block, uint64_t page, uint64_t nr)
{
	memset(mirror(w, block, page), 0, nr * PAGE);
	image_write_zeros(w->writer, block, page, nr);
}

/* Pages in any order, some several times, some zeros again; and records. */
static void world_write_all(struct world *w)
{
	for (unsigned int i = 0; i < 200; i++) {
		size_t block = (size_t)rand_r(&w->seed) % BLOCKS;
		uint64_t page = (uint64_t)rand_r(&w->seed) % mirrored(block);
		uint64_t nr = 1 + (uint64_t)rand_r(&w->seed) % 20;

		nr = num_min(nr, mirrored(block) - page);
		if (i % 5 == 4)
			world_clear(w, block, page, nr);
		else
			world_write(w, block, page, nr);
	}
	world_write(w, 0, PAGES - 1, 1);
	assert_int_equal(image_write_record(w->writer, RECORD_MACHINE, 0, "same", 4, NULL), 0);
	assert_int_equal(image_write_record(w->writer, RECORD_END, 5, NULL, 0, NULL), 0);
}

static void world_finish(struct world *w)
{
	assert_int_equal(image_writer_finish(w->writer, NULL), 0);
	image_writer_free(w->writer);
	w->writer = NULL;
}

static int world_open(struct world *w)
{
	struct err *err = NULL;
	int ret = image_open(w->fd, w->base, NAME, &w->image, &err);

	if (ret) {
		w->image = NULL;
		/* A sentence about this file. */
		assert_memory_equal(err_message(err), NAME, strlen(NAME));
	}
	err_free(err);
	return ret;
}

static bool is_zero(const char *page)
{
	static const char zeros[PAGE];

	return !memcmp(page, zeros, PAGE);
}

static void world_check(struct world *w)
{
	char *buf = malloc(100 * PAGE);

	assert_int_equal(image_session(w->image), SESSION);
	assert_int_equal(image_nr_blocks(w->image), BLOCKS);
	for (size_t b = 0; b < BLOCKS; b++) {
		uint64_t next, nr, page = 0, end = mirrored(b);

		assert_int_equal(image_block_bytes(w->image, b), block_bytes[b]);
		/* Which pages have content. */
		while ((next = image_next(w->image, b, page, end, &nr)) < end) {
			for (; page < next; page++)
				assert_true(is_zero(mirror(w, b, page)));
			for (; page < next + nr; page++)
				assert_false(is_zero(mirror(w, b, page)));
		}
		for (; page < end; page++)
			assert_true(is_zero(mirror(w, b, page)));
		/* What it is. */
		for (page = 0; page < end; page += nr) {
			nr = num_min(1 + (uint64_t)rand_r(&w->seed) % 100, end - page);
			memset(buf, 1, 100 * PAGE);
			assert_int_equal(image_read(w->image, b, page, nr, buf, NULL), 0);
			assert_memory_equal(buf, mirror(w, b, page), nr * PAGE);
		}
	}
	free(buf);
}

static void check_round_trip(uint64_t base)
{
	struct record record;
	struct world w;
	struct stat st;
	char before[64];

	world_start(&w, base);
	if (base)
		assert_int_equal(pwrite(w.fd, "theirs", 6, 0), 6);
	world_write_all(&w);
	assert_true(image_writer_bytes(w.writer) > MIB);
	world_finish(&w);
	assert_int_equal(fstat(w.fd, &st), 0);
	/* What is zeros or never was takes nothing. */
	assert_true((uint64_t)st.st_size < base + 17 * MIB);
	assert_int_equal(world_open(&w), 0);
	world_check(&w);
	assert_int_equal(image_nr_records(w.image), 2);
	image_record(w.image, 0, &record);
	assert_int_equal(record.type, RECORD_MACHINE);
	assert_int_equal(record.size, 4);
	assert_memory_equal(record.bytes, "same", 4);
	image_record(w.image, 1, &record);
	assert_int_equal(record.type, RECORD_END);
	assert_int_equal(record.flags, 5);
	assert_int_equal(record.size, 0);
	assert_int_equal(record.number, 1);
	if (base) {
		assert_int_equal(pread(w.fd, before, 6, 0), 6);
		assert_memory_equal(before, "theirs", 6);
	}
	world_end(&w);
}

static void test_round_trip(void **state)
{
	(void)state;
	check_round_trip(0);
	check_round_trip(3 * PAGE);
}

static void test_empty(void **state)
{
	struct world w;

	(void)state;
	world_start(&w, 0);
	world_write(&w, 1, 7, 1);
	world_clear(&w, 1, 0, 512);
	world_finish(&w);
	assert_int_equal(world_open(&w), 0);
	world_check(&w);
	assert_int_equal(image_bytes(w.image), 0);
	assert_int_equal(image_nr_records(w.image), 0);
	world_end(&w);
}

static void test_bad_base(void **state)
{
	struct image_writer *writer;
	struct err *err = NULL;

	(void)state;
	assert_int_equal(
		image_writer_new(-1, 100, NAME, SESSION, block_bytes, BLOCKS, &writer, &err),
		-EINVAL);
	assert_non_null(strstr(err_message(err), "100 is none"));
	err_free(err);
}

/* ---- files that are no images ---- */

static void test_cut(void **state)
{
	struct world w;
	struct stat st;

	(void)state;
	world_start(&w, 0);
	world_write_all(&w);
	world_finish(&w);
	assert_int_equal(fstat(w.fd, &st), 0);
	for (off_t size = st.st_size - 1; size > 0; size -= 1 + size / 40) {
		assert_int_equal(ftruncate(w.fd, size), 0);
		assert_int_equal(world_open(&w), -EINVAL);
	}
	for (off_t size = HEAD; size >= 0; size--) {
		assert_int_equal(ftruncate(w.fd, size), 0);
		assert_int_equal(world_open(&w), -EINVAL);
	}
	world_end(&w);
}

static void test_cut_while_read(void **state)
{
	char buf[PAGE];
	struct world w;
	struct err *err = NULL;

	(void)state;
	world_start(&w, 0);
	world_write(&w, 0, 600, 1);
	world_finish(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(ftruncate(w.fd, 2 * MIB + 5), 0);
	assert_int_equal(image_read(w.image, 0, 600, 1, buf, &err), -EINVAL);
	assert_non_null(strstr(err_message(err), "cut off"));
	err_free(err);
	assert_int_equal(image_read(w.image, 0, 0, 1, buf, NULL), 0);
	world_end(&w);
}

static void test_unfinished(void **state)
{
	struct image_writer *again;
	struct err *err = NULL;
	struct world w;

	(void)state;
	world_start(&w, 0);
	world_write_all(&w);
	assert_int_equal(image_open(w.fd, 0, NAME, &w.image, &err), -EINVAL);
	assert_non_null(strstr(err_message(err), "did not come to its end"));
	err_free(err);
	world_finish(&w);
	assert_int_equal(world_open(&w), 0);
	image_close(w.image);
	/* Another one in the same place. */
	assert_int_equal(
		image_writer_new(w.fd, 0, NAME, SESSION, block_bytes, BLOCKS, &again, NULL), 0);
	assert_int_equal(world_open(&w), -EINVAL);
	assert_int_equal(image_writer_finish(again, NULL), 0);
	image_writer_free(again);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(image_bytes(w.image), 0);
	world_end(&w);
}

static void flip(const struct world *w, uint64_t position, uint8_t bits)
{
	uint8_t byte;

	assert_int_equal(pread(w->fd, &byte, 1, (off_t)position), 1);
	byte ^= bits;
	assert_int_equal(pwrite(w->fd, &byte, 1, (off_t)position), 1);
}

static uint64_t number_at(const struct world *w, uint64_t position, unsigned int size)
{
	uint8_t bytes[8];

	assert_int_equal(pread(w->fd, bytes, size, (off_t)position), size);
	return bytes_get_le(bytes, size);
}

static void put_number(const struct world *w, uint64_t position, unsigned int size, uint64_t value)
{
	uint8_t bytes[8];

	bytes_put_le(bytes, size, value);
	assert_int_equal(pwrite(w->fd, bytes, size, (off_t)position), size);
}

static void test_changed(void **state)
{
	struct world w;
	uint64_t start, size;
	char buf[PAGE];

	(void)state;
	world_start(&w, 0);
	world_write_all(&w);
	world_finish(&w);
	start = number_at(&w, 36, 8);
	size = number_at(&w, 44, 8);
	for (uint64_t at = 0; at < HEAD; at++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			flip(&w, at, (uint8_t)(1 << bit));
			assert_int_equal(world_open(&w), -EINVAL);
			flip(&w, at, (uint8_t)(1 << bit));
		}
	for (uint64_t at = start; at < start + size; at += 1 + (uint64_t)rand_r(&w.seed) % 97) {
		flip(&w, at, 0x10);
		assert_int_equal(world_open(&w), -EINVAL);
		flip(&w, at, 0x10);
	}
	/* A page: that one is not given out, all others are. */
	assert_int_equal(world_open(&w), 0);
	for (uint64_t at = 2 * MIB; at < start; at += PAGE)
		flip(&w, at + at / PAGE % PAGE, 1);
	for (size_t b = 0; b < BLOCKS; b++)
		for (uint64_t page = 0; page < mirrored(b); page++) {
			int ret = image_read(w.image, b, page, 1, buf, NULL);

			assert_int_equal(ret, is_zero(mirror(&w, b, page)) ? 0 : -EINVAL);
		}
	world_end(&w);
}

/* ---- an index that cannot be, whose checksums are right ---- */

static void reseal(const struct world *w)
{
	uint64_t start = number_at(w, 36, 8), size = number_at(w, 44, 8);
	uint8_t *index = malloc(size), head[HEAD];

	assert_int_equal(pread(w->fd, index, size, (off_t)start), size);
	put_number(w, 52, 4, crc32c(0, index, size));
	free(index);
	assert_int_equal(pread(w->fd, head, HEAD, 0), HEAD);
	put_number(w, 56, 4, crc32c((uint32_t)bytes_get_le(head + 32, 4), head + 36, 20));
}

/* @value at @at of the index is refused. */
static void check_refused(struct world *w, uint64_t at, unsigned int size, uint64_t value)
{
	uint64_t position = number_at(w, 36, 8) + at, before = number_at(w, position, size);

	put_number(w, position, size, value);
	reseal(w);
	assert_int_equal(world_open(w), -EINVAL);
	put_number(w, position, size, before);
	reseal(w);
	assert_int_equal(world_open(w), 0);
	image_close(w->image);
	w->image = NULL;
}

static void test_hostile_index(void **state)
{
	/* blocks; bytes, chunks; chunk: which, place, pages, a crc */
	enum { NR = 0, BYTES = 4, CHUNKS = 12, WHICH = 20, PLACE = 28, HAS = 36, SECOND = 104 };
	struct world w;
	uint64_t size;

	(void)state;
	world_start(&w, 0);
	world_write(&w, 0, 3, 1);
	world_write(&w, 0, 1280, 1);
	assert_int_equal(image_write_record(w.writer, RECORD_MACHINE, 0, "same", 4, NULL), 0);
	world_finish(&w);
	size = number_at(&w, 44, 8);
	check_refused(&w, NR, 4, 4);
	check_refused(&w, NR, 4, IMAGE_BLOCKS_MAX + 1);
	check_refused(&w, NR, 4, UINT32_MAX);
	check_refused(&w, BYTES, 8, block_bytes[0] + 1);
	check_refused(&w, BYTES, 8, block_bytes[0] - PAGE); /* page 1280 is in none */
	check_refused(&w, BYTES, 8, 0);
	check_refused(&w, CHUNKS, 8, 1);
	check_refused(&w, CHUNKS, 8, 3);
	check_refused(&w, CHUNKS, 8, UINT64_MAX);
	check_refused(&w, WHICH, 8, 2); /* as the next */
	check_refused(&w, WHICH, 8, 3);
	check_refused(&w, WHICH, 8, UINT64_MAX);
	check_refused(&w, PLACE, 8, 1); /* as the next */
	check_refused(&w, PLACE, 8, 2);
	check_refused(&w, PLACE, 8, UINT64_MAX);
	check_refused(&w, HAS, 8, 0);
	check_refused(&w, HAS, 8, UINT64_MAX);
	check_refused(&w, SECOND + 16, 8, 3); /* of which the second is beyond the block */
	check_refused(&w, size - 20, 4, 2);
	check_refused(&w, size - 20, 4, 0);
	check_refused(&w, size - 20, 4, UINT32_MAX);
	check_refused(&w, size - 8, 4, 3);
	check_refused(&w, size - 8, 4, 5);
	check_refused(&w, size - 8, 4, UINT32_MAX);
	world_end(&w);
}

/* Whatever it says: an error, or something that can be read without harm. */
static void test_random_index(void **state)
{
	char *buf = malloc(64 * PAGE);
	uint64_t start, size;
	struct world w;

	(void)state;
	world_start(&w, 0);
	world_write_all(&w);
	world_finish(&w);
	start = number_at(&w, 36, 8);
	size = number_at(&w, 44, 8);
	for (unsigned int round = 0; round < 2000; round++) {
		uint64_t at = start + (uint64_t)rand_r(&w.seed) % size, nr;

		if (round % 4 == 0)
			at = start + (uint64_t)rand_r(&w.seed) % 200 % size;
		flip(&w, at, (uint8_t)(1 << round % 8));
		reseal(&w);
		if (!world_open(&w)) {
			for (size_t b = 0; b < image_nr_blocks(w.image); b++) {
				uint64_t end = image_block_bytes(w.image, b) / PAGE;
				uint64_t page = image_next(w.image, b, 0, end, &nr);

				if (page < end)
					(void)image_read(w.image, b, page, num_min(nr, 64), buf,
							 NULL);
			}
			image_close(w.image);
			w.image = NULL;
		}
		if (round % 3)
			flip(&w, at, (uint8_t)(1 << round % 8));
	}
	free(buf);
	world_end(&w);
}

/* ---- where there is no room ---- */

/* Everything fails from the first failure on, with @text, and there is no image. */
static void check_full(int fd, const char *text)
{
	struct image_writer *writer;
	struct image *image;
	struct err *err = NULL;
	char *pages = malloc(2 * MIB);
	uint64_t page = 0;

	memset(pages, 7, 2 * MIB);
	assert_int_equal(image_writer_new(fd, 0, NAME, SESSION, block_bytes, BLOCKS, &writer, NULL),
			 0);
	while (!image_write_pages(writer, 2, page, 512, pages, &err))
		page += 512;
	assert_in_range(page, 512, 16 * 512);
	assert_non_null(strstr(err_message(err), text));
	err_free(err);
	err = NULL;
	assert_true(image_write_record(writer, RECORD_END, 0, NULL, 0, &err) < 0);
	assert_non_null(strstr(err_message(err), text));
	err_free(err);
	err = NULL;
	assert_true(image_writer_finish(writer, &err) < 0);
	assert_non_null(strstr(err_message(err), text));
	err_free(err);
	image_writer_free(writer);
	assert_int_equal(image_open(fd, 0, NAME, &image, NULL), -EINVAL);
	free(pages);
}

static void test_no_space(void **state)
{
	char folder[] = "/tmp/image-XXXXXX", path[64];
	int fd;

	(void)state;
	assert_non_null(mkdtemp(folder));
	if (mount("none", folder, "tmpfs", 0, "size=8m")) {
		rmdir(folder);
		skip();
	}
	snprintf(path, sizeof(path), "%s/vm", folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	check_full(fd, strerror(ENOSPC));
	close(fd);
	assert_int_equal(umount2(folder, MNT_DETACH), 0);
	rmdir(folder);
}

/* As large as this process may make a file; it is not killed for trying. */
static void test_file_limit(void **state)
{
	struct rlimit before, limit;
	char path[] = "/tmp/image-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 8 * MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	check_full(fd, strerror(EFBIG));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	close(fd);
}

/* A descriptor that cannot be written to. */
static void test_read_only(void **state)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct image_writer *writer;
	struct err *err = NULL;

	(void)state;
	assert_int_equal(image_writer_new(fd, 0, NAME, SESSION, block_bytes, BLOCKS, &writer, &err),
			 -EBADF);
	assert_memory_equal(err_message(err), NAME, strlen(NAME));
	err_free(err);
	close(fd);
}

/* ---- several threads ---- */

#define THREADS 4

struct share {
	struct world *w;
	pthread_t thread;
	unsigned int number;
};

static void *write_share(void *opaque)
{
	struct share *share = opaque;
	unsigned int seed = share->number;

	/* Every fourth run of 8 pages is this one's. */
	for (unsigned int i = 0; i < 400; i++) {
		uint64_t run = (uint64_t)rand_r(&seed) % (PAGES / 8 / THREADS);
		uint64_t page = (run * THREADS + share->number) * 8;
		char *at = mirror(share->w, 0, page);

		memset(at, (int)(rand_r(&seed) % 255 + 1), 8 * PAGE);
		if (image_write_pages(share->w->writer, 0, page, 8, at, NULL))
			abort();
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct share shares[THREADS];
	struct world w;

	(void)state;
	world_start(&w, 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		shares[i] = (struct share){.w = &w, .number = i};
		pthread_create(&shares[i].thread, NULL, write_share, &shares[i]);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(shares[i].thread, NULL);
	world_finish(&w);
	assert_int_equal(world_open(&w), 0);
	world_check(&w);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_empty),
		cmocka_unit_test(test_bad_base),       cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cut_while_read), cmocka_unit_test(test_unfinished),
		cmocka_unit_test(test_changed),        cmocka_unit_test(test_hostile_index),
		cmocka_unit_test(test_random_index),   cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_file_limit),     cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading what KVM counts, from files that say what a kernel could say, and what none should. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/kvm.h>

#include "vmm/kvm/kvm_stats.h"

#define NAME_SIZE 48
#define NR        3

/* As the kernel's, whose name has no size. */
struct desc {
	uint32_t flags;
	int16_t exponent;
	uint16_t size;
	uint32_t offset;
	uint32_t bucket_size;
	char name[NAME_SIZE];
};

_Static_assert(offsetof(struct desc, name) == sizeof(struct kvm_stats_desc), "as the kernel's");

/* What lies in the file. */
struct image {
	struct kvm_stats_header header;
	char id[NAME_SIZE];
	struct desc descs[NR];
	uint64_t values[6];
};

static struct image image_new(void)
{
	return (struct image){
		.header =
			{
				.name_size = NAME_SIZE,
				.num_desc = NR,
				.id_offset = offsetof(struct image, id),
				.desc_offset = offsetof(struct image, descs),
				.data_offset = offsetof(struct image, values),
			},
		.descs =
			{
				{KVM_STATS_TYPE_PEAK, 0, 1, 8, 0, "second"},
				{KVM_STATS_TYPE_LOG_HIST, -9, 4, 16, 0, "histogram"},
				{KVM_STATS_TYPE_LINEAR_HIST, 0, 1, 0, 5, "first"},
			},
		.values = {10, 11, 12, 13, 14, 15},
	};
}

struct seen {
	unsigned int count;
	uint64_t sum;
};

static void note(void *opaque, const struct kvm_stat *stat)
{
	struct seen *seen = opaque;

	seen->count++;
	/* Every byte is looked at. */
	assert_true(strlen(stat->name) < 4096);
	for (size_t i = 0; i < stat->nr; i++)
		seen->sum += stat->values[i];
}

static int read_image(const struct image *image, size_t size, struct seen *seen)
{
	int fd = memfd_create("stats", MFD_CLOEXEC), ret;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, image, size), size);
	*seen = (struct seen){.count = 0};
	ret = kvm_stats_read(fd, note, seen);
	close(fd);
	return ret;
}

static void check_first(void *opaque, const struct kvm_stat *stat)
{
	unsigned int *at = opaque;

	switch ((*at)++) {
	case 0:
		assert_string_equal(stat->name, "second");
		assert_int_equal(stat->flags & KVM_STATS_TYPE_MASK, KVM_STATS_TYPE_PEAK);
		assert_int_equal(stat->nr, 1);
		assert_int_equal(stat->values[0], 11);
		break;
	case 1:
		assert_string_equal(stat->name, "histogram");
		assert_int_equal(stat->exponent, -9);
		assert_int_equal(stat->nr, 4);
		assert_int_equal(stat->values[3], 15);
		break;
	default:
		assert_string_equal(stat->name, "first");
		assert_int_equal(stat->bucket_size, 5);
		assert_int_equal(stat->values[0], 10);
	}
}

static void test_values(void **state)
{
	struct image image = image_new();
	int fd = memfd_create("stats", MFD_CLOEXEC);
	unsigned int at = 0;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, &image, sizeof(image)), sizeof(image));
	assert_int_equal(kvm_stats_read(fd, check_first, &at), 0);
	assert_int_equal(at, NR);
	close(fd);
	assert_int_equal(kvm_stats_read(fd, check_first, &at), -EBADF);
}

static void check_bad(const struct image *image)
{
	struct seen seen;

	assert_int_equal(read_image(image, sizeof(*image), &seen), -EPROTO);
	assert_int_equal(seen.count, 0);
}

static void test_nonsense(void **state)
{
	struct image image = image_new();
	struct seen seen;

	(void)state;
	for (size_t size = 0; size < sizeof(image); size += 8)
		assert_int_equal(read_image(&image, size, &seen), -EPROTO);
	image.header.name_size = 0;
	check_bad(&image);
	image.header.name_size = UINT32_MAX;
	check_bad(&image);
	image = image_new();
	image.header.num_desc = UINT32_MAX;
	check_bad(&image);
	image = image_new();
	image.header.desc_offset = UINT32_MAX;
	check_bad(&image);
	image = image_new();
	memset(image.descs[2].name, 'x', NAME_SIZE);
	check_bad(&image);
	image = image_new();
	image.descs[1].size = 0;
	check_bad(&image);
	image.descs[1].size = UINT16_MAX;
	check_bad(&image);
	image.descs[1].size = 5;
	check_bad(&image);
	image = image_new();
	image.descs[0].offset = 4;
	check_bad(&image);
	image.descs[0].offset = UINT32_MAX - 7;
	check_bad(&image);
	/* Nothing is something. */
	image = image_new();
	image.header.num_desc = 0;
	assert_int_equal(read_image(&image, sizeof(image), &seen), 0);
	assert_int_equal(seen.count, 0);
}

/* Whatever it says: all figures or none, and nothing outside of what was read. */
static void test_random(void **state)
{
	unsigned int seed = 3, good = 0, bad = 0;

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		struct image image = image_new();
		struct seen seen;
		int ret;

		for (int n = rand_r(&seed) % 3; n >= 0; n--)
			((uint8_t *)&image)[(size_t)rand_r(&seed) % sizeof(image)] =
				(uint8_t)rand_r(&seed);
		ret = read_image(&image, sizeof(image), &seen);
		assert_true(ret == 0 || ret == -EPROTO);
		assert_int_equal(seen.count, ret ? 0 : image.header.num_desc);
		good += !ret;
		bad += !!ret;
	}
	assert_true(good > 1000 && bad > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("kvm stats", tests, NULL, NULL);
}

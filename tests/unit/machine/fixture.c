/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine without a VM: see fixture.h. */
#include "tests/unit/machine/fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

static void *fixture_map(struct gm *gm, struct range gpa)
{
	void *host;

	if (!gpa.size)
		return NULL;
	host = mmap(NULL, (size_t)gpa.size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(host, MAP_FAILED);
	assert_int_equal(gm_add_ram(gm, gpa, host), 0);
	return host;
}

struct fixture *fixture_new_layout(struct machine_layout *layout)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fixture->layout = layout;
	fixture->gm = gm_new();
	assert_non_null(fixture->gm);
	fixture->low = fixture_map(fixture->gm, layout->low_ram);
	fixture->high = fixture_map(fixture->gm, layout->high_ram);
	return fixture;
}

struct fixture *fixture_new(uint64_t ram_bytes)
{
	const struct layout_config config = {
		.ram_bytes = ram_bytes,
		.maxmem_bytes = ram_bytes,
		.phys_bits = 40,
		.nr_nodes = 1,
		.node_bytes = &ram_bytes,
	};
	struct machine_layout *layout = NULL;

	assert_int_equal(layout_new(&config, &layout, NULL), 0);
	return fixture_new_layout(layout);
}

void fixture_free(struct fixture *fixture)
{
	gm_free(fixture->gm);
	munmap(fixture->low, (size_t)fixture->layout->low_ram.size);
	if (fixture->high)
		munmap(fixture->high, (size_t)fixture->layout->high_ram.size);
	layout_free(fixture->layout);
	free(fixture);
}

uint64_t fixture_read(const struct fixture *fixture, uint64_t gpa, unsigned int size)
{
	uint8_t bytes[8] = {0};

	assert_int_equal(gm_read(fixture->gm, gpa, bytes, size), 0);
	return bytes_get_le(bytes, size);
}

int file_new(const void *bytes, size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	return fd;
}

void assert_refused(int ret, int code, struct err *err, const char *part, const char *other_part)
{
	assert_int_equal(ret, -code);
	assert_non_null(err);
	assert_int_equal(err_code(err), code);
	if (!strstr(err_message(err), part) || !strstr(err_message(err), other_part))
		fail_msg("'%s' and '%s' should be in: %s", part, other_part, err_message(err));
	err_free(err);
}

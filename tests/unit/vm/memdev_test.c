/* SPDX-License-Identifier: BSD-3-Clause */
/* See memdev_test.h. */
#include "tests/unit/vm/memdev_test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

struct vm_memdev_config config_of(enum vm_memdev_type type, enum vm_memdev_user user)
{
	return (struct vm_memdev_config){
		.type = type,
		.id = (char *)"m0",
		.size_bytes = SIZE,
		.page_bytes = 4 * KIB,
		.reserve = true,
		.share = type == VM_MEMDEV_MEMFD,
		.prealloc_threads = 1,
		.seal = type == VM_MEMDEV_MEMFD,
		.user = user,
	};
}

struct vm_memdev_config file_of(const char *path, enum vm_memdev_user user)
{
	struct vm_memdev_config config = config_of(VM_MEMDEV_FILE, user);

	config.mem_path = (char *)path;
	return config;
}

void map(struct memdev *m, const struct vm_memdev_config *config)
{
	struct err *err = NULL;

	if (memdev_map(m, config->id, config->size_bytes, config, true, true, &err) < 0)
		fail_msg("%s", err_message(err));
	assert_non_null(m->memory);
	assert_int_equal(m->size, config->size_bytes);
	assert_int_equal(m->page_bytes, config->page_bytes);
}

void check_refused(const struct vm_memdev_config *config, int code, const char *words)
{
	struct err *err = NULL;
	struct memdev m;

	assert_int_equal(memdev_map(&m, config->id, 0, config, true, true, &err), -code);
	if (!strstr(err_message(err), words))
		fail_msg("%s\ninstead of\n%s", err_message(err), words);
	assert_null(m.memory);
	assert_int_equal(m.fd, -1);
	err_free(err);
}

bool is_there(const char *path)
{
	return !access(path, F_OK);
}

int folder_setup(void **state)
{
	char *folder = strdup("/tmp/ebb-memdev-XXXXXX");

	if (!folder || !mkdtemp(folder) || chdir(folder) < 0)
		return -1;
	*state = folder;
	return 0;
}

int folder_teardown(void **state)
{
	if (chdir("/") < 0 || rmdir(*state) < 0)
		return -1;
	free(*state);
	return 0;
}

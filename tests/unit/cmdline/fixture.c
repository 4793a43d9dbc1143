/* SPDX-License-Identifier: BSD-3-Clause */
/* See fixture.h. */
#include "tests/unit/cmdline/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 128

static void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	close(fd);
}

int fixture_setup(void **state)
{
	char dir[] = "/tmp/ebb-cmdline-XXXXXX";

	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	touch("K");
	touch("I");
	*state = strdup(dir);
	return *state ? 0 : -1;
}

int fixture_teardown(void **state)
{
	unlink("K");
	unlink("I");
	if (chdir("/") < 0 || rmdir(*state) < 0)
		return -1;
	free(*state);
	return 0;
}

int fixture_parse(const char *line, struct vm_config **ret_config, struct err **err)
{
	char *argv[WORDS_MAX] = {"ebb"};
	char *text = strdup(line);
	char *rest = text, *word;
	int argc = 1, ret;

	assert_non_null(text);
	while ((word = strsep(&rest, " "))) {
		assert_true(argc < WORDS_MAX);
		argv[argc++] = strcmp(word, "''") ? word : "";
	}
	ret = cmdline_parse(argc, argv, ret_config, err);
	free(text);
	return ret;
}

struct vm_config *fixture_config(const char *line)
{
	struct vm_config *config = NULL;
	struct err *err = NULL;

	if (fixture_parse(line, &config, &err) < 0)
		fail_msg("%s: %s", line, err_message(err));
	return config;
}

void fixture_check_errors(const struct error_row *rows, size_t count)
{
	struct vm_config *config = NULL;
	struct err *err;
	char line[4096];
	int ret;

	for (size_t i = 0; i < count; i++) {
		err = NULL;
		snprintf(line, sizeof(line), "-kernel K -nodefaults %s", rows[i].line);
		ret = fixture_parse(line, &config, &err);
		if (ret >= 0)
			fail_msg("%s: was accepted", line);
		assert_null(config);
		if (strcmp(err_message(err), rows[i].sentence))
			fail_msg("%s:\n%s\ninstead of\n%s", line, err_message(err),
				 rows[i].sentence);
		if (err_code(err) != rows[i].code)
			fail_msg("%s: %s: code %d instead of %d", line, err_message(err),
				 err_code(err), rows[i].code);
		err_free(err);
	}
}

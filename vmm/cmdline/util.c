/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the command line share. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ptrs.h"
#include "qmp/opts.h"

int cmdline_oom(struct err **err)
{
	return err_set(err, ENOMEM, "out of memory");
}

void *cmdline_array_add(void *array, size_t *nr, size_t size)
{
	void **base = array;
	char *grown = reallocarray(*base, *nr + 1, size);

	if (!grown)
		return NULL;
	*base = grown;
	grown += *nr * size;
	memset(grown, 0, size);
	(*nr)++;
	return grown;
}

void *cmdline_part_add(void *parts, size_t *nr, size_t size)
{
	void *part = calloc(1, size);

	if (!part || !ptrs_add(parts, nr, part))
		return part;
	free(part);
	return NULL;
}

int cmdline_set_string(char **text, const char *value, struct err **err)
{
	char *copy = strdup(value);

	if (!copy)
		return cmdline_oom(err);
	free(*text);
	*text = copy;
	return 0;
}

int cmdline_apply(const struct props *table, const char *option, const char *arg,
		  const char *implied_key, void *target, struct err **err)
{
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, implied_key, 0, &values, err);
	if (ret < 0)
		return ret;
	ret = props_apply(table, option, values, target, err);
	json_decref(values);
	return ret;
}

const char *cmdline_what(char buf[CMDLINE_WHAT_MAX], const char *option, const char *type,
			 const char *id)
{
	if (id)
		snprintf(buf, CMDLINE_WHAT_MAX, "%s %s,id=%s", option, type, id);
	else
		snprintf(buf, CMDLINE_WHAT_MAX, "%s %s", option, type);
	return buf;
}

int cmdline_check_id(const char *what, const char *id, struct err **err)
{
	if (!id || strcmp(id, "type"))
		return 0;
	return err_set(err, EINVAL,
		       "%s: id=type is not possible: it is a property of every object; allowed: "
		       "any other",
		       what);
}

int cmdline_check_file(const char *what, const char *path, struct err **err)
{
	struct stat st;

	if (stat(path, &st) < 0 || access(path, R_OK) < 0) {
		int code = errno;

		return err_set(err, code, "%s: cannot read '%s': %s", what, path, strerror(code));
	}
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "%s: '%s' is a directory; allowed: a file", what, path);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much memory the host can give: see pages.h.
 *
 * The limits are those of the memory control groups, from the process's own up to the one that is
 * mounted, and the host's available memory and free swap. A group's file cache that is not in
 * active use counts as free; swap does not help a group that has a limit, for how much of it the
 * group may have is not known.
 *
 *     /proc/self/cgroup       "5:memory:/path" (v1), else "0::/path" (v2)
 *     /proc/self/mountinfo    where that hierarchy is mounted, and which part of it
 *     memory.limit_in_bytes, memory.usage_in_bytes, memory.stat   (v1)
 *     memory.max, memory.current, memory.stat                     (v2; none at the root)
 *     /proc/meminfo
 *
 * I1  Nothing is kept between calls: a process may be moved, and limits change.
 * I2  What cannot be read or understood limits nothing. Texts are bounded, and numbers saturate.
 *
 * Cost: some 20 us in a group two levels deep; memory.stat, which is dear on large hosts, is read
 * only where the rest does not suffice.
 */
#include "guard/headroom.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/pages.h"

#define HEADROOM_DEPTH 64   /* groups above each other that are looked at */
#define HEADROOM_LINE  8192 /* bytes of a line of a table; a longer one is cut */

/* Which hierarchy counts memory, and where in it this process is. */
struct headroom_group {
	bool v1;
	char path[PATH_MAX];
};

/* Lines of a file, read in pieces so that a long table need not be read to its end. */
struct headroom_lines {
	int fd;
	size_t start, end; /* of what was read and not handed out */
	char text[HEADROOM_LINE + 1];
};

/* Names of the files of one version. */
struct headroom_names {
	const char *limit, *usage, *cache;
};

static const struct headroom_names headroom_v1 = {
	"memory.limit_in_bytes",
	"memory.usage_in_bytes",
	"total_inactive_file ",
};

static const struct headroom_names headroom_v2 = {
	"memory.max",
	"memory.current",
	"inactive_file ",
};

/* Open @root/@path/@name. The lines must be closed where this returns true. */
static bool headroom_open(struct headroom_lines *lines, const char *root, const char *path,
			  const char *name)
{
	char full[2 * PATH_MAX];
	int length = snprintf(full, sizeof(full), "%s%s%s", root, path, name);

	if (length < 0 || (size_t)length >= sizeof(full))
		return false;
	lines->fd = open(full, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	lines->start = 0;
	lines->end = 0;
	return lines->fd >= 0;
}

/* The next line without its end, valid until the next call; NULL at the end of the file. */
static char *headroom_next(struct headroom_lines *lines)
{
	for (;;) {
		char *line = lines->text + lines->start;
		char *newline = memchr(line, '\n', lines->end - lines->start);
		ssize_t got;

		if (newline || (!lines->start && lines->end == HEADROOM_LINE)) {
			size_t length = newline ? (size_t)(newline - line) : HEADROOM_LINE;

			line[length] = '\0';
			lines->start = num_min(lines->start + length + 1, lines->end);
			return line;
		}
		memmove(lines->text, line, lines->end - lines->start);
		lines->end -= lines->start;
		lines->start = 0;
		do
			got = read(lines->fd, lines->text + lines->end, HEADROOM_LINE - lines->end);
		while (got < 0 && errno == EINTR);
		if (got > 0) {
			lines->end += (size_t)got;
			continue;
		}
		if (!lines->end)
			return NULL;
		lines->text[lines->end] = '\0';
		lines->start = lines->end;
		return lines->text;
	}
}

static void headroom_close(struct headroom_lines *lines)
{
	close(lines->fd);
}

/* A decimal number at the start of the text, times @unit, saturated; false when there is none. */
static bool headroom_number(const char *text, uint64_t unit, uint64_t *ret_number)
{
	unsigned long long number;

	while (*text == ' ' || *text == '\t')
		text++;
	if (*text < '0' || *text > '9')
		return false;
	number = strtoull(text, NULL, 10); /* ULLONG_MAX when it is larger */
	if (!num_mul(number, unit, ret_number))
		*ret_number = UINT64_MAX;
	return true;
}

/* ---- the host ---- */

static uint64_t headroom_host(const char *root)
{
	struct headroom_lines lines;
	uint64_t available = 0, swap = 0, sum;
	bool known = false;
	char *line;

	if (!headroom_open(&lines, root, "/proc/meminfo", ""))
		return UINT64_MAX;
	while ((line = headroom_next(&lines))) {
		if (strncmp(line, "MemAvailable:", 13) == 0)
			known = headroom_number(line + 13, KIB, &available);
		if (strncmp(line, "SwapFree:", 9) == 0) {
			headroom_number(line + 9, KIB, &swap);
			break;
		}
	}
	headroom_close(&lines);
	return known && num_add(available, swap, &sum) ? sum : UINT64_MAX;
}

/* ---- which group, and where ---- */

/* Is @word one of the words of @list, which @separator divides? */
static bool headroom_listed(const char *list, const char *word, char separator)
{
	size_t length = strlen(word);

	while (list) {
		if (strncmp(list, word, length) == 0 &&
		    (list[length] == '\0' || list[length] == separator))
			return true;
		list = strchr(list, separator);
		list = list ? list + 1 : NULL;
	}
	return false;
}

/* False when the process is in no group that counts memory. */
static bool headroom_find_group(const char *root, struct headroom_group *ret_group)
{
	struct headroom_lines lines;
	bool found = false;
	char *line;

	if (!headroom_open(&lines, root, "/proc/self/cgroup", ""))
		return false;
	while ((line = headroom_next(&lines))) {
		/* hierarchy:controllers:path */
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		bool v1, v2;

		if (!path)
			continue;
		*path++ = '\0';
		v1 = headroom_listed(controllers + 1, "memory", ',');
		v2 = strncmp(line, "0:", 2) == 0 && controllers[1] == '\0';
		if ((!v1 && !v2) || *path != '/' || strlen(path) >= sizeof(ret_group->path))
			continue;
		ret_group->v1 = v1;
		strcpy(ret_group->path, path);
		found = true;
		if (v1)
			break;
	}
	headroom_close(&lines);
	return found;
}

/* Undo the escapes of mountinfo (\040 for a space), in place. */
static void headroom_unescape(char *text)
{
	char *to = text;

	while (*text) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
		    text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
				       (text[3] - '0'));
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

/*
 * Take a line of mountinfo apart, in place:
 *
 *     36 35 98:0 /root /mount-point options [optional fields] - type source super-options
 *
 * False when it is not a mount of the hierarchy.
 */
static bool headroom_mount(char *line, bool v1, char **ret_root, char **ret_point)
{
	char *field[5], *rest = line, *type, *options;

	for (unsigned int i = 0; i < ARRAY_SIZE(field); i++) {
		field[i] = strsep(&rest, " ");
		if (!rest)
			return false;
	}
	type = strstr(rest, " - ");
	if (!type)
		return false;
	type += 3;
	options = strrchr(type, ' ');
	if (!options)
		return false;
	if (v1 ? strncmp(type, "cgroup ", 7) != 0 || !headroom_listed(options + 1, "memory", ',')
	       : strncmp(type, "cgroup2 ", 8) != 0)
		return false;
	headroom_unescape(field[3]);
	headroom_unescape(field[4]);
	*ret_root = field[3];
	*ret_point = field[4];
	return true;
}

/*
 * The part of @path below @root; NULL when it is not below it, or leads out of it: the group of a
 * process as seen from another namespace begins with "/..".
 */
static const char *headroom_below(const char *path, const char *root)
{
	size_t length = strlen(root);

	while (length && root[length - 1] == '/')
		length--;
	if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length] != '\0') ||
	    headroom_listed(path, "..", '/'))
		return NULL;
	path += length;
	return strcmp(path, "/") == 0 ? "" : path;
}

/*
 * The folder of the process's own group, and how much of it is the mount point. The root of the
 * mount stands for a group that cannot be seen from here. False without a mount.
 */
static bool headroom_find_folder(const char *root, const struct headroom_group *group,
				 char *ret_folder, size_t size, size_t *ret_point)
{
	struct headroom_lines lines;
	bool found = false, exact = false;
	char *line, *mount_root, *point;

	if (!headroom_open(&lines, root, "/proc/self/mountinfo", ""))
		return false;
	while (!exact && (line = headroom_next(&lines))) {
		const char *below;
		int length;

		if (!headroom_mount(line, group->v1, &mount_root, &point))
			continue;
		below = headroom_below(group->path, mount_root);
		if (found && !below)
			continue;
		length = snprintf(ret_folder, size, "%s%s%s", root, point, below ? below : "");
		if (length < 0 || (size_t)length >= size)
			continue;
		*ret_point = strlen(root) + strlen(point);
		found = true;
		exact = below != NULL;
	}
	headroom_close(&lines);
	if (found && access(ret_folder, F_OK) < 0)
		ret_folder[*ret_point] = '\0';
	return found;
}

/* ---- what the groups leave ---- */

/* The number in a file of one, false also when it is "max". */
static bool headroom_read(const char *folder, const char *name, uint64_t *ret_number)
{
	struct headroom_lines lines;
	bool known;
	char *line;

	if (!headroom_open(&lines, folder, "/", name))
		return false;
	line = headroom_next(&lines);
	known = line && headroom_number(line, 1, ret_number);
	headroom_close(&lines);
	return known;
}

/* The file cache of a group that is given back first. */
static uint64_t headroom_cache(const char *folder, const struct headroom_names *names)
{
	struct headroom_lines lines;
	uint64_t bytes = 0;
	char *line;

	if (!headroom_open(&lines, folder, "/memory.stat", ""))
		return 0;
	while ((line = headroom_next(&lines))) {
		if (strncmp(line, names->cache, strlen(names->cache)) == 0) {
			headroom_number(line + strlen(names->cache), 1, &bytes);
			break;
		}
	}
	headroom_close(&lines);
	return bytes;
}

/* What one group leaves. */
static uint64_t headroom_group_bytes(const char *folder, const struct headroom_names *names,
				     uint64_t enough)
{
	uint64_t limit, usage, left;

	/* v1 says "no limit" with the largest number of bytes that are whole pages. */
	if (!headroom_read(folder, names->limit, &limit) || limit >= INT64_MAX - UINT16_MAX ||
	    !headroom_read(folder, names->usage, &usage))
		return UINT64_MAX;
	left = limit > usage ? limit - usage : 0;
	if (left >= enough)
		return left;
	usage -= num_min(usage, headroom_cache(folder, names));
	return limit > usage ? limit - usage : 0;
}

static uint64_t headroom_groups(const char *root, uint64_t enough)
{
	const struct headroom_names *names;
	struct headroom_group group;
	char folder[3 * PATH_MAX];
	uint64_t least = UINT64_MAX;
	size_t point;

	if (!headroom_find_group(root, &group) ||
	    !headroom_find_folder(root, &group, folder, sizeof(folder), &point))
		return UINT64_MAX;
	names = group.v1 ? &headroom_v1 : &headroom_v2;
	for (unsigned int i = 0; i < HEADROOM_DEPTH; i++) {
		char *slash;

		least = num_min(least, headroom_group_bytes(folder, names, enough));
		slash = strrchr(folder + point, '/');
		if (!slash)
			break;
		*slash = '\0';
	}
	return least;
}

uint64_t headroom_bytes_until(const char *root, uint64_t enough)
{
	return num_min(headroom_host(root), headroom_groups(root, enough));
}

uint64_t headroom_bytes_below(const char *root)
{
	return headroom_bytes_until(root, UINT64_MAX);
}

uint64_t headroom_bytes(void)
{
	return headroom_bytes_below("");
}

int headroom_check(uint64_t size)
{
	/* 8 bytes of page table for a page of 4096. */
	uint64_t need;

	if (!num_add(size, size / 512, &need))
		return -ENOMEM;
	return headroom_bytes_until("", need) < need ? -ENOMEM : 0;
}

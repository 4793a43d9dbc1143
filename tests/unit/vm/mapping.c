/* SPDX-License-Identifier: BSD-3-Clause */
/* See mapping.h. */
#include "tests/unit/vm/mapping.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KIB UINT64_C(1024)

static void read_field(const char *line, struct mapping *m)
{
	uint64_t kib;

	if (sscanf(line, "KernelPageSize: %" SCNu64 " kB", &kib) == 1)
		m->page_bytes = kib * KIB;
	/* Huge pages of pools are counted apart from the others. */
	if (sscanf(line, "Rss: %" SCNu64 " kB", &kib) == 1 ||
	    sscanf(line, "Shared_Hugetlb: %" SCNu64 " kB", &kib) == 1 ||
	    sscanf(line, "Private_Hugetlb: %" SCNu64 " kB", &kib) == 1)
		m->resident_bytes += kib * KIB;
	if (!strncmp(line, "VmFlags:", 8))
		snprintf(m->flags, sizeof(m->flags), "%.*s ", (int)strcspn(line + 8, "\n"),
			 line + 8);
}

bool mapping_find(const void *address, struct mapping *ret_mapping)
{
	uint64_t wanted = (uintptr_t)address;
	FILE *in = fopen("/proc/self/smaps", "re");
	bool inside = false, found = false;
	char line[512];

	while (in && fgets(line, sizeof(line), in)) {
		struct mapping m = {0};

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %255[^\n]", &m.start,
			   &m.end, m.perms, m.name) >= 3) {
			if (inside)
				break;
			inside = wanted >= m.start && wanted < m.end;
			if (inside)
				*ret_mapping = m;
			found |= inside;
		} else if (inside) {
			read_field(line, ret_mapping);
		}
	}
	if (in)
		fclose(in);
	return found;
}

bool mapping_has_flag(const void *address, const char *flag)
{
	struct mapping m;
	char text[16];

	snprintf(text, sizeof(text), " %s ", flag);
	return mapping_find(address, &m) && strstr(m.flags, text);
}

void mapping_policy(const void *address, char *buf, uint64_t size)
{
	FILE *in = fopen("/proc/self/numa_maps", "re");
	char line[512], policy[128];
	uint64_t start;

	snprintf(buf, size, "no such mapping");
	while (in && fgets(line, sizeof(line), in)) {
		if (sscanf(line, "%" SCNx64 " %127s", &start, policy) == 2 &&
		    start == (uintptr_t)address)
			snprintf(buf, size, "%s", policy);
	}
	if (in)
		fclose(in);
}

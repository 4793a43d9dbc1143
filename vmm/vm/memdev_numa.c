/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory on nodes of the host. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include <linux/magic.h>
#include <numa.h>
#include <numaif.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/size.h"
#include "vmm/vm/memdev_internal.h"

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY 5 /* Linux 5.15 */
#endif

#define NODE_WORDS (VM_HOST_NODES_MAX / 64)

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "mbind() takes an array of these");

static bool node_in(const uint64_t nodes[NODE_WORDS], unsigned int node)
{
	return nodes[node / 64] >> (node % 64) & 1;
}

const char *memdev_nodes_text(const uint64_t nodes[NODE_WORDS], char buf[MEMDEV_NODES_TEXT_MAX])
{
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned int first = 0, last; first < VM_HOST_NODES_MAX; first = last + 1) {
		last = first;
		if (!node_in(nodes, first))
			continue;
		while (last + 1 < VM_HOST_NODES_MAX && node_in(nodes, last + 1))
			last++;
		len += (size_t)snprintf(buf + len, MEMDEV_NODES_TEXT_MAX - len, "%s%u",
					len ? "," : "", first);
		if (last > first)
			len += (size_t)snprintf(buf + len, MEMDEV_NODES_TEXT_MAX - len, "-%u",
						last);
	}
	return buf;
}

/* Nodes that this process may take memory from. */
static void nodes_of_host(uint64_t ret_nodes[NODE_WORDS])
{
	memset(ret_nodes, 0, NODE_WORDS * sizeof(*ret_nodes));
	for (unsigned int node = 0; node < VM_HOST_NODES_MAX; node++) {
		if (numa_bitmask_isbitset(numa_all_nodes_ptr, node))
			ret_nodes[node / 64] |= UINT64_C(1) << (node % 64);
	}
}

/* The page cache of a disk's file is nobody's: its pages lie where the first reader runs. */
int memdev_nodes_check_file(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX];
	struct statfs fs;

	if (m->config->policy == VM_POLICY_DEFAULT || m->config->type != VM_MEMDEV_FILE)
		return 0;
	if (fstatfs(m->fd, &fs) < 0)
		return err_set(err, errno, "%s: the file cannot be looked at: %s",
			       memdev_what(m, what), strerror(errno));
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC)
		return 0;
	return err_set(err, ENOTSUP,
		       "%s: policy=%s is not possible for a file on a disk; allowed: mem-path= on "
		       "tmpfs or hugetlbfs, policy=default",
		       memdev_what(m, what), vm_mem_policy_name(m->config->policy));
}

int memdev_nodes_check(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX], text[MEMDEV_NODES_TEXT_MAX];
	const struct vm_memdev_config *c = m->config;
	uint64_t there[NODE_WORDS];

	if (c->policy == VM_POLICY_DEFAULT)
		return 0;
	if (numa_available() < 0)
		return err_set(err, ENOTSUP,
			       "%s: policy=%s is not possible: the host's kernel has no NUMA "
			       "policies",
			       memdev_what(m, what), vm_mem_policy_name(c->policy));
	nodes_of_host(there);
	for (unsigned int node = 0; node < VM_HOST_NODES_MAX; node++) {
		if (node_in(c->host_nodes, node) && !node_in(there, node))
			return err_set(err, ENOENT,
				       "%s: host-nodes=%u: the host has no memory on such a node; "
				       "allowed: %s",
				       memdev_what(m, what), node, memdev_nodes_text(there, text));
	}
	return 0;
}

static int nodes_bind(void *memory, uint64_t size, int mode, const uint64_t nodes[NODE_WORDS])
{
	unsigned long mask[NODE_WORDS];

	memcpy(mask, nodes, sizeof(mask));
	/* The kernel counts one bit less than it is told. */
	return mbind(memory, size, mode, mask, VM_HOST_NODES_MAX + 1, 0) < 0 ? -errno : 0;
}

int memdev_nodes_apply(const struct memdev *m, void *memory, uint64_t size)
{
	const struct vm_memdev_config *c = m->config;
	int ret;

	if (!c || c->policy == VM_POLICY_DEFAULT)
		return 0;
	if (c->policy == VM_POLICY_BIND)
		return nodes_bind(memory, size, MPOL_BIND, c->host_nodes);
	if (c->policy == VM_POLICY_INTERLEAVE)
		return nodes_bind(memory, size, MPOL_INTERLEAVE, c->host_nodes);
	/* Older kernels prefer one node: the first. */
	ret = nodes_bind(memory, size, MPOL_PREFERRED_MANY, c->host_nodes);
	return ret == -EINVAL ? nodes_bind(memory, size, MPOL_PREFERRED, c->host_nodes) : ret;
}

/* What a node could give without anyone being killed: free, and files that can be read again. */
static uint64_t node_room_bytes(unsigned int node)
{
	uint64_t free_kib = 0, active_kib = 0, inactive_kib = 0;
	char path[64], line[160];
	FILE *in;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/meminfo", node);
	in = fopen(path, "re");
	if (!in)
		return 0;
	while (fgets(line, sizeof(line), in)) {
		sscanf(line, "Node %*u MemFree: %" SCNu64, &free_kib);
		sscanf(line, "Node %*u Active(file): %" SCNu64, &active_kib);
		sscanf(line, "Node %*u Inactive(file): %" SCNu64, &inactive_kib);
	}
	fclose(in);
	return (free_kib + active_kib + inactive_kib) * KIB;
}

int memdev_nodes_check_room(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX], text[MEMDEV_NODES_TEXT_MAX], room_text[SIZE_TEXT_MAX];
	uint64_t room = 0;

	for (unsigned int node = 0; node < VM_HOST_NODES_MAX; node++) {
		if (node_in(m->config->host_nodes, node))
			room += node_room_bytes(node);
	}
	if (room >= m->size)
		return 0;
	return err_set(
		err, ENOMEM,
		"%s: the host cannot preallocate its %" PRIu64 " bytes: host-nodes=%s have %s left",
		memdev_what(m, what), m->size, memdev_nodes_text(m->config->host_nodes, text),
		size_format(num_align_down(room, MIB), room_text));
}

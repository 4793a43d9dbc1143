/* SPDX-License-Identifier: BSD-3-Clause */
/* -numa: what was said of nodes; numa_finish.c completes and checks it. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "qmp/size.h"

#define NODE_MAX (VM_NUMA_NODES_MAX - 1)
#define CPU_MAX  (VM_CPUS_MAX - 1)

/* -numa node */
struct numa_node {
	uint16_t nodeid;
	bool has_nodeid;
	uint16_t *cpus;
	size_t nr_cpus;
	uint64_t mem_bytes;
	bool has_mem;
	char *memdev;
};

#define FIELD(field) PROP_FIELD(struct numa_node, field)

static const struct prop node_list[] = {
	{.name = "nodeid",
	 .type = PROP_UINT,
	 FIELD(nodeid),
	 PROP_GIVEN(struct numa_node, has_nodeid),
	 .max = NODE_MAX,
	 .help = "number of the node; the next one if left out"},
	{.name = "cpus",
	 .type = PROP_UINT16_LIST,
	 FIELD(cpus),
	 PROP_SECOND(struct numa_node, nr_cpus),
	 .max = CPU_MAX,
	 .help = "CPU or range of CPUs, repeated as needed"},
	{.name = "mem",
	 .type = PROP_SIZE,
	 FIELD(mem_bytes),
	 PROP_GIVEN(struct numa_node, has_mem),
	 .align = CMDLINE_PAGE_BYTES,
	 .unit = MIB,
	 .help = "boot memory; MiB without a unit"},
	{.name = "memdev", .type = PROP_ID, FIELD(memdev), .help = "object of its boot memory"},
};

#undef FIELD
static const struct props node_props = {NULL, node_list, ARRAY_SIZE(node_list)};

struct numa_dist {
	uint16_t src, dst;
	uint8_t val;
};

#define FIELD(field) PROP_FIELD(struct numa_dist, field)

static const struct prop dist_list[] = {
	{.name = "src",
	 .type = PROP_UINT,
	 .flags = PROP_REQUIRED,
	 FIELD(src),
	 .max = NODE_MAX,
	 .help = "from this node"},
	{.name = "dst",
	 .type = PROP_UINT,
	 .flags = PROP_REQUIRED,
	 FIELD(dst),
	 .max = NODE_MAX,
	 .help = "to this node"},
	{.name = "val",
	 .type = PROP_UINT,
	 .flags = PROP_REQUIRED,
	 FIELD(val),
	 .min = 10,
	 .help = "distance; 10 is local, 255 unreachable"},
};

#undef FIELD
static const struct props dist_props = {NULL, dist_list, ARRAY_SIZE(dist_list)};

#define FIELD(field) PROP_FIELD(struct cmdline_numa_cpu, field)
#define LEVEL(key, field, text)                                                                \
	{                                                                                      \
		.name = key, .type = PROP_UINT, FIELD(field),                                  \
		PROP_GIVEN(struct cmdline_numa_cpu, has_##field), .max = CPU_MAX, .help = text \
	}

static const struct prop cpu_list[] = {
	{.name = "node-id",
	 .type = PROP_UINT,
	 .flags = PROP_REQUIRED,
	 FIELD(node),
	 .max = NODE_MAX,
	 .help = "the node"},
	LEVEL("socket-id", socket, "CPUs of this socket"),
	LEVEL("die-id", die, "and this die"),
	LEVEL("core-id", core, "and this core"),
	LEVEL("thread-id", thread, "and this thread"),
};

#undef FIELD
static const struct props cpu_props = {NULL, cpu_list, ARRAY_SIZE(cpu_list)};

/* The lowest number that no node has, or VM_NUMA_NODES_MAX. */
static unsigned int numa_free_id(const struct cmdline *cl)
{
	unsigned int id = 0;

	while (id < VM_NUMA_NODES_MAX && (cl->numa.nodes & (UINT64_C(1) << id)))
		id++;
	return id;
}

/* Take @raw into the configuration; its strings are moved out. */
static int numa_node_add(struct cmdline *cl, struct numa_node *raw, struct err **err)
{
	unsigned int id = raw->has_nodeid ? raw->nodeid : numa_free_id(cl);
	struct vm_numa_config *numa = &cl->config->numa;
	struct vm_numa_node_config *node;

	if (id >= VM_NUMA_NODES_MAX)
		return err_set(err, ERANGE, "-numa node: too many nodes; allowed: %u",
			       VM_NUMA_NODES_MAX);
	if (cl->numa.nodes & (UINT64_C(1) << id))
		return err_set(err, EEXIST, "-numa node: nodeid=%u is given twice", id);
	if (raw->has_mem && raw->memdev)
		return err_set(err, EINVAL,
			       "-numa node,nodeid=%u: mem= and memdev= exclude each other", id);
	node = &numa->nodes[id];
	for (size_t i = 0; i < raw->nr_cpus; i++) {
		node->cpus |= UINT64_C(1) << raw->cpus[i];
		cl->numa.cpus_given = true;
	}
	node->mem_bytes = raw->mem_bytes;
	node->memdev_id = raw->memdev;
	raw->memdev = NULL;
	if (raw->has_mem)
		cl->numa.with_mem |= UINT64_C(1) << id;
	cl->numa.nodes |= UINT64_C(1) << id;
	numa->given = true;
	return 0;
}

static int numa_node(struct cmdline *cl, const json_t *values, struct err **err)
{
	struct numa_node raw = {0};
	int ret;

	ret = props_apply(&node_props, "-numa node", values, &raw, err);
	if (!ret)
		ret = numa_node_add(cl, &raw, err);
	props_done(&node_props, &raw);
	return ret;
}

static int numa_dist(struct cmdline *cl, const json_t *values, struct err **err)
{
	struct numa_dist raw = {0};
	int ret;

	ret = props_apply(&dist_props, "-numa dist", values, &raw, err);
	if (ret < 0)
		return ret;
	if (raw.src == raw.dst && raw.val != 10)
		return err_set(err, EINVAL,
			       "-numa dist: val=%u from node %u to itself; allowed: 10", raw.val,
			       raw.src);
	cl->config->numa.dist[raw.src][raw.dst] = raw.val;
	cl->config->numa.dist_given = true;
	return 0;
}

static int numa_cpu(struct cmdline *cl, const json_t *values, struct err **err)
{
	struct cmdline_numa_cpu raw = {0};
	struct cmdline_numa_cpu *cpu;
	int ret;

	ret = props_apply(&cpu_props, "-numa cpu", values, &raw, err);
	if (ret < 0)
		return ret;
	cpu = cmdline_array_add(&cl->numa.cpus, &cl->numa.nr_cpus, sizeof(*cpu));
	if (!cpu)
		return cmdline_oom(err);
	*cpu = raw;
	cl->numa.cpus_given = true;
	return 0;
}

int cmdline_numa(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	json_t *values;
	const char *type;
	int ret;

	ret = opts_parse(option, arg, "type", 0, &values, err);
	if (ret < 0)
		return ret;
	type = opts_string(values, "type");
	type = type ? type : "";
	if (!strcmp(type, "node")) {
		json_object_del(values, "type");
		ret = numa_node(cl, values, err);
	} else if (!strcmp(type, "dist")) {
		json_object_del(values, "type");
		ret = numa_dist(cl, values, err);
	} else if (!strcmp(type, "cpu")) {
		json_object_del(values, "type");
		ret = numa_cpu(cl, values, err);
	} else {
		ret = err_set(err, EINVAL, "-numa: type=%s is unknown; allowed: node, dist, cpu",
			      type);
	}
	json_decref(values);
	return ret;
}

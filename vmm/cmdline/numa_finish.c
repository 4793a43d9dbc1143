/* SPDX-License-Identifier: BSD-3-Clause */
/* NUMA nodes: completing and checking what -numa said. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "qmp/size.h"
#include "vmm/cmdline/memdev.h"

#define DIST_LOCAL  10
#define DIST_REMOTE 20
/* Memory that is split over nodes without being told how is cut at multiples of this. */
#define SPLIT_BYTES (8 * MIB)

static uint64_t cpu_bit(unsigned int cpu)
{
	return UINT64_C(1) << cpu;
}

static int numa_check_nodes(struct cmdline *cl, struct err **err)
{
	struct vm_numa_config *numa = &cl->config->numa;
	unsigned int id = 0;

	while (id < VM_NUMA_NODES_MAX && (cl->numa.nodes & cpu_bit(id)))
		id++;
	numa->nr_nodes = id;
	if (!numa->given) {
		numa->nr_nodes = 1;
		if (numa->dist_given || cl->numa.cpus_given)
			return err_set(err, EINVAL, "-numa: dist and cpu need -numa node");
		return 0;
	}
	if (id < VM_NUMA_NODES_MAX && cl->numa.nodes >> id)
		return err_set(err, EINVAL,
			       "-numa node: node %u is missing; nodes are numbered from 0 without "
			       "holes",
			       id);
	return 0;
}

/* The index of a CPU says where it sits: threads count fastest, sockets slowest. */
static struct cmdline_numa_cpu cpu_place(const struct vm_smp_config *smp, unsigned int cpu)
{
	struct cmdline_numa_cpu place = {0};

	place.thread = cpu % smp->threads;
	cpu /= smp->threads;
	place.core = cpu % smp->cores;
	cpu /= smp->cores;
	place.die = cpu % smp->dies;
	place.socket = cpu / smp->dies;
	return place;
}

static bool cpu_matches(const struct cmdline_numa_cpu *want, const struct cmdline_numa_cpu *place)
{
	return (!want->has_socket || want->socket == place->socket) &&
	       (!want->has_die || want->die == place->die) &&
	       (!want->has_core || want->core == place->core) &&
	       (!want->has_thread || want->thread == place->thread);
}

/* Apply -numa cpu. */
static int numa_place_cpus(struct cmdline *cl, struct err **err)
{
	struct vm_numa_config *numa = &cl->config->numa;
	const struct vm_smp_config *smp = &cl->config->smp;

	for (size_t i = 0; i < cl->numa.nr_cpus; i++) {
		const struct cmdline_numa_cpu *want = &cl->numa.cpus[i];
		bool found = false;

		if (want->node >= numa->nr_nodes)
			return err_set(err, EINVAL,
				       "-numa cpu: there is no node %u; allowed: below %u",
				       want->node, numa->nr_nodes);
		for (unsigned int cpu = 0; cpu < smp->max_cpus; cpu++) {
			struct cmdline_numa_cpu place = cpu_place(smp, cpu);

			if (!cpu_matches(want, &place))
				continue;
			numa->nodes[want->node].cpus |= cpu_bit(cpu);
			found = true;
		}
		if (!found)
			return err_set(err, EINVAL,
				       "-numa cpu,node-id=%u: no CPU has these ids; -smp made %u "
				       "sockets of %u dies, %u cores, %u threads",
				       want->node, smp->sockets, smp->dies, smp->cores,
				       smp->threads);
	}
	return 0;
}

/* Each CPU below max_cpus in exactly one node, and no others. */
static int numa_check_cpus(const struct cmdline *cl, struct err **err)
{
	const struct vm_numa_config *numa = &cl->config->numa;
	unsigned int max_cpus = cl->config->smp.max_cpus;
	uint64_t all = max_cpus == 64 ? UINT64_MAX : cpu_bit(max_cpus) - 1;
	uint64_t seen = 0, bits;

	for (unsigned int n = 0; n < numa->nr_nodes; n++) {
		bits = numa->nodes[n].cpus & ~all;
		if (bits)
			return err_set(
				err, EINVAL,
				"-numa node,nodeid=%u: there is no CPU %d; allowed: below %u", n,
				__builtin_ctzll(bits), max_cpus);
		bits = numa->nodes[n].cpus & seen;
		if (bits)
			return err_set(err, EINVAL,
				       "-numa node,nodeid=%u: CPU %d is in another node already", n,
				       __builtin_ctzll(bits));
		seen |= numa->nodes[n].cpus;
	}
	if (seen != all)
		return err_set(err, EINVAL,
			       "-numa: CPU %d is in no node; either no CPU is given a node or each "
			       "of the %u is",
			       __builtin_ctzll(all & ~seen), max_cpus);
	return 0;
}

static int numa_finish_cpus(struct cmdline *cl, struct err **err)
{
	struct vm_numa_config *numa = &cl->config->numa;
	const struct vm_smp_config *smp = &cl->config->smp;
	int ret;

	if (!cl->numa.cpus_given) { /* sockets in turn */
		for (unsigned int cpu = 0; cpu < smp->max_cpus; cpu++) {
			unsigned int node = cpu_place(smp, cpu).socket % numa->nr_nodes;

			numa->nodes[node].cpus |= cpu_bit(cpu);
		}
		return 0;
	}
	ret = numa_place_cpus(cl, err);
	return ret < 0 ? ret : numa_check_cpus(cl, err);
}

/* An even split, all but the last node rounded down. */
static void numa_split_memory(struct cmdline *cl)
{
	struct vm_numa_config *numa = &cl->config->numa;
	uint64_t ram = cl->config->memory.ram_bytes;
	uint64_t each = ram / numa->nr_nodes / SPLIT_BYTES * SPLIT_BYTES;

	for (unsigned int n = 0; n + 1 < numa->nr_nodes; n++)
		numa->nodes[n].mem_bytes = each;
	numa->nodes[numa->nr_nodes - 1].mem_bytes = ram - each * (numa->nr_nodes - 1);
}

static int numa_use_memdevs(struct cmdline *cl, struct err **err)
{
	struct vm_numa_config *numa = &cl->config->numa;
	char what[CMDLINE_WHAT_MAX];
	int ret;

	for (unsigned int n = 0; n < numa->nr_nodes; n++) {
		struct vm_numa_node_config *node = &numa->nodes[n];

		if (!node->memdev_id)
			continue;
		snprintf(what, sizeof(what), "-numa node,nodeid=%u", n);
		ret = memdev_use_boot(cl->config, what, node->memdev_id, &node->memdev, err);
		if (ret < 0)
			return ret;
		node->mem_bytes = node->memdev->size_bytes;
	}
	return 0;
}

static int numa_check_memory(const struct cmdline *cl, struct err **err)
{
	const struct vm_numa_config *numa = &cl->config->numa;
	uint64_t ram = cl->config->memory.ram_bytes, sum = 0;
	char sum_text[SIZE_TEXT_MAX], ram_text[SIZE_TEXT_MAX];

	for (unsigned int n = 0; n < numa->nr_nodes; n++) {
		if (!num_add(sum, numa->nodes[n].mem_bytes, &sum))
			sum = UINT64_MAX;
		if (sum == UINT64_MAX)
			break;
	}
	if (sum != ram)
		return err_set(err, EINVAL,
			       "-numa node: the nodes have %s of boot memory together, but -m says "
			       "%s",
			       size_format(sum, sum_text), size_format(ram, ram_text));
	return 0;
}

static int numa_finish_memory(struct cmdline *cl, struct err **err)
{
	struct vm_numa_config *numa = &cl->config->numa;
	struct vm_config *config = cl->config;
	unsigned int nr_memdevs = 0;
	int ret;

	for (unsigned int n = 0; n < numa->nr_nodes; n++)
		nr_memdevs += numa->nodes[n].memdev_id != NULL;
	if (nr_memdevs && (cl->numa.with_mem || nr_memdevs != numa->nr_nodes))
		return err_set(err, EINVAL,
			       "-numa node: memdev= has to be given for each node or for none");
	if (config->machine.memory_backend) {
		if (nr_memdevs)
			return err_set(err, EINVAL,
				       "-numa node: memdev= and -machine memory-backend= exclude "
				       "each other");
		ret = memdev_use_boot(config, "-machine memory-backend",
				      config->machine.memory_backend, &config->memory.backend, err);
		if (ret < 0)
			return ret;
		if (config->memory.backend->size_bytes != config->memory.ram_bytes)
			return err_set(err, EINVAL,
				       "-machine memory-backend: the size of object %s is not the "
				       "boot memory of -m",
				       config->machine.memory_backend);
	}
	if (!nr_memdevs && !cl->numa.with_mem) {
		numa_split_memory(cl);
		return 0;
	}
	ret = numa_use_memdevs(cl, err);
	return ret < 0 ? ret : numa_check_memory(cl, err);
}

/* A distance given one way only holds both ways; if some differ by way, all have to be given. */
static int numa_finish_dist(struct cmdline *cl, struct err **err)
{
	struct vm_numa_config *numa = &cl->config->numa;
	unsigned int nr = numa->nr_nodes;
	bool asymmetric = false;

	for (unsigned int a = 0; a < VM_NUMA_NODES_MAX; a++) {
		for (unsigned int b = 0; b < VM_NUMA_NODES_MAX; b++) {
			if (numa->dist[a][b] && (a >= nr || b >= nr))
				return err_set(err, EINVAL,
					       "-numa dist: there is no node %u; allowed: below %u",
					       a >= nr ? a : b, nr);
			asymmetric |= numa->dist[a][b] && numa->dist[b][a] &&
				      numa->dist[a][b] != numa->dist[b][a];
		}
	}
	for (unsigned int a = 0; a < nr; a++) {
		for (unsigned int b = 0; b < nr; b++) {
			uint8_t *dist = &numa->dist[a][b];

			if (*dist)
				continue;
			if (a == b)
				*dist = DIST_LOCAL;
			else if (!numa->dist_given)
				*dist = DIST_REMOTE;
			else if (!asymmetric)
				*dist = numa->dist[b][a];
			if (!*dist)
				return err_set(err, EINVAL,
					       "-numa dist: the distance from node %u to node %u "
					       "is missing",
					       a, b);
		}
	}
	return 0;
}

int cmdline_numa_finish(struct cmdline *cl, struct err **err)
{
	int ret;

	ret = numa_check_nodes(cl, err);
	if (!ret)
		ret = numa_finish_cpus(cl, err);
	if (!ret)
		ret = numa_finish_memory(cl, err);
	if (!ret)
		ret = numa_finish_dist(cl, err);
	return ret;
}

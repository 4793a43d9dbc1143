/* SPDX-License-Identifier: BSD-3-Clause */
/* -smp: how many CPUs, and how they are arranged. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>

#include "base/num.h"

#define FIELD(field) PROP_FIELD(struct vm_smp_config, field)
#define COUNT(key, field, text)                                                             \
	{                                                                                   \
		.name = key, .type = PROP_UINT, FIELD(field), .min = 1, .max = VM_CPUS_MAX, \
		.help = text                                                                \
	}
#define ONE(key)                                                                          \
	{                                                                                 \
		.name = key, .type = PROP_UINT, .flags = PROP_SILENT, .min = 1, .max = 1, \
		.help = "only 1"                                                          \
	}

static const struct prop smp_list[] = {
	COUNT("cpus", cpus, "CPUs at the start"),
	COUNT("maxcpus", max_cpus, "CPUs that the topology has room for"),
	COUNT("sockets", sockets, "sockets"),
	COUNT("dies", dies, "dies per socket"),
	COUNT("cores", cores, "cores per die"),
	COUNT("threads", threads, "threads per core"),
	ONE("clusters"),
	ONE("modules"),
	ONE("books"),
	ONE("drawers"),
};

const struct props cmdline_smp_props = {NULL, smp_list, ARRAY_SIZE(smp_list)};

int cmdline_smp(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_smp_props, option, arg, "cpus", &cl->config->smp, err);
}

static unsigned int one_if_zero(unsigned int n)
{
	return n ? n : 1;
}

/*
 * Fill in the counts that were not given (0). With a number of CPUs, what is missing is computed:
 * the cores first, else the sockets, the threads last; else everything missing is 1.
 */
static void smp_complete(struct vm_smp_config *smp)
{
	unsigned int total = smp->max_cpus ? smp->max_cpus : smp->cpus;

	smp->dies = one_if_zero(smp->dies);
	if (total) {
		if (!smp->cores) {
			smp->sockets = one_if_zero(smp->sockets);
			smp->threads = one_if_zero(smp->threads);
			smp->cores = total / (smp->sockets * smp->dies * smp->threads);
		} else if (!smp->sockets) {
			smp->threads = one_if_zero(smp->threads);
			smp->sockets = total / (smp->dies * smp->cores * smp->threads);
		} else if (!smp->threads) {
			smp->threads = total / (smp->sockets * smp->dies * smp->cores);
		}
	}
	smp->sockets = one_if_zero(smp->sockets);
	smp->cores = one_if_zero(smp->cores);
	smp->threads = one_if_zero(smp->threads);
	/* Each factor is at most VM_CPUS_MAX: no overflow. */
	if (!smp->max_cpus)
		smp->max_cpus = smp->cpus ? smp->cpus
					  : smp->sockets * smp->dies * smp->cores * smp->threads;
	if (!smp->cpus)
		smp->cpus = smp->max_cpus;
}

int cmdline_smp_finish(struct cmdline *cl, struct err **err)
{
	struct vm_smp_config *smp = &cl->config->smp;

	smp_complete(smp);
	if (smp->sockets * smp->dies * smp->cores * smp->threads != smp->max_cpus)
		return err_set(err, EINVAL,
			       "-smp: sockets (%u) * dies (%u) * cores (%u) * threads (%u) is not "
			       "maxcpus (%u)",
			       smp->sockets, smp->dies, smp->cores, smp->threads, smp->max_cpus);
	if (smp->cpus > smp->max_cpus)
		return err_set(err, EINVAL, "-smp: cpus=%u exceeds maxcpus=%u", smp->cpus,
			       smp->max_cpus);
	if (smp->max_cpus > VM_CPUS_MAX)
		return err_set(err, ERANGE, "-smp: %u CPUs are too many; allowed: 1 to %u",
			       smp->max_cpus, VM_CPUS_MAX);
	return 0;
}

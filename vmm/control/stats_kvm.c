/* SPDX-License-Identifier: BSD-3-Clause */
/* What KVM counts, in the words of query-stats: see figures.h for the contract. */
#include <string.h>

#include <linux/kvm.h>

#include "base/num.h"
#include "vmm/control/figures.h"
#include "vmm/kvm/kvm_stats.h"
#include "vmm/vm/vm.h"

/* By the numbers of KVM_STATS_TYPE_... and KVM_STATS_UNIT_... */
static const char *const stats_types[] = {"cumulative", "instant", "peak", "linear-histogram",
					  "log2-histogram"};
static const char *const stats_units[] = {NULL, "bytes", "seconds", "cycles", "boolean"};

static void control_kvm_figure(void *opaque, const struct kvm_stat *stat)
{
	const struct figure_visit *visit = opaque;
	uint32_t type = (stat->flags & KVM_STATS_TYPE_MASK) >> KVM_STATS_TYPE_SHIFT;
	uint32_t unit = (stat->flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT;
	uint32_t base = stat->flags & KVM_STATS_BASE_MASK;
	struct figure figure = {
		.name = stat->name,
		.base = base == KVM_STATS_BASE_POW2 ? 2 : 10,
		.exponent = stat->exponent,
		.values = stat->values,
		.nr = stat->nr,
	};

	/* What a later kernel counts in a way that there is no word for yet. */
	if (type >= ARRAY_SIZE(stats_types) || unit >= ARRAY_SIZE(stats_units) ||
	    base > KVM_STATS_BASE_MAX)
		return;
	figure.type = stats_types[type];
	figure.unit = stats_units[unit];
	figure.is_list = strstr(figure.type, "histogram");
	if (!strcmp(figure.type, "linear-histogram"))
		figure.bucket_size = stat->bucket_size;
	visit->fn(visit->opaque, &figure);
}

void control_kvm_figures(const struct vm *vm, int index, const struct figure_visit *visit)
{
	struct figure_visit copy = *visit;

	/* What the kernel cannot tell is not there. */
	(void)vm_kvm_stats(vm, index, control_kvm_figure, &copy);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One figure that query-stats tells, whoever counts it: memory devices (stats.c), KVM
 * (stats_kvm.c).
 *
 * Threads: the main loop's only. Nothing here waits.
 */
#ifndef VMM_CONTROL_FIGURES_H
#define VMM_CONTROL_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vm;

/* As QMP's StatsSchemaValue, with its values. */
struct figure {
	const char *name, *type;
	const char *unit;   /* NULL: none */
	int base, exponent; /* the base does not count where the exponent is 0 */
	uint32_t bucket_size;
	const uint64_t *values;
	size_t nr;
	bool is_list; /* else it is one value */
};

struct figure_visit {
	void (*fn)(void *opaque, const struct figure *figure);
	void *opaque;
};

/* What KVM counts of a vCPU, or (@index -1) of the machine; nothing where it does not. */
void control_kvm_figures(const struct vm *vm, int index, const struct figure_visit *visit);

#endif

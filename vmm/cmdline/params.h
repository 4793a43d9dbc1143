/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What options take, for programs that ask before they write a command line, and the property
 * tables of what options describe.
 *
 * I1  All of it is constant.
 */
#ifndef VMM_CMDLINE_PARAMS_H
#define VMM_CMDLINE_PARAMS_H

#include "qmp/props.h"
#include "vmm/cmdline/config.h"

#define CMDLINE_PARAMS_TABLES_MAX 3

struct cmdline_params {
	const char *option; /* QEMU's name of the group: "smp-opts"; NULL ends the table */
	/* Up to the first NULL; what two have in common is in their bases. */
	const struct props *tables[CMDLINE_PARAMS_TABLES_MAX + 1];
};

/* By name. An option whose keys depend on what is made (-object, -device) has no tables. */
extern const struct cmdline_params cmdline_params[];

/* Of -machine, over a struct of the command line's own; of -cpu, over struct vm_cpu_config. */
extern const struct props cmdline_machine_props, cmdline_cpu_props;

/* Of parts of a PC that are not here, as -global sets them; over a struct of its own. */
extern const struct props cmdline_ich9_props, cmdline_piix4_props;

/*
 * The versions that machines' names end in, and whether a name without one stands for it, which
 * never changes. They are QEMU's: programs store names with a version and give them for ever. All
 * versions of a machine are one and the same.
 */
#define CMDLINE_MACHINE_VERSIONS(X)                                                           \
	X("10.1", false), X("10.0", false), X("9.2", false), X("9.1", false), X("9.0", true), \
		X("8.2", false), X("8.1", false), X("8.0", false), X("7.2", false),           \
		X("7.1", false), X("7.0", false), X("6.2", false), X("6.1", false),           \
		X("6.0", false), X("5.2", false), X("5.1", false), X("5.0", false),           \
		X("4.2", false), X("4.1", false), X("4.0", false), X("3.1", false)

/* Names of CPU models: first those that are the host, then those of cpu_models.h; ends with NULL. */
extern const char *const cmdline_cpu_models[];

struct cmdline_machine_type {
	const char *name;  /* with a version, where it has one; NULL ends the table */
	const char *alias; /* NULL: none */
	enum vm_machine_type type;
	const char *root_bus; /* NULL: none */
	bool is_default;
};

/* One of each name. */
extern const struct cmdline_machine_type cmdline_machine_types[];

#endif

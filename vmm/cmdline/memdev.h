/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory backends among the objects: their property tables and the rules that tables cannot state.
 *
 * I1  What can be told from the object alone is checked when it is read, its page size is known
 *     then (which asks the host's file systems, but changes nothing there). What depends on who
 *     uses the memory is checked when it is taken: memdev_use_boot(). What the host has of pages
 *     and nodes is checked when the memory is mapped.
 */
#ifndef VMM_CMDLINE_MEMDEV_H
#define VMM_CMDLINE_MEMDEV_H

#include "qmp/props.h"
#include "vmm/cmdline/config.h"

struct cmdline;
struct err;

/* A backend while it is read: what its properties say in another form than the configuration. */
struct memdev_options {
	struct vm_memdev_config config; /* its id stays NULL */
	uint16_t *host_nodes;
	size_t nr_host_nodes;
	uint64_t hugetlb_bytes;
	bool has_hugetlb_bytes;
};

/* Over struct object_config. */
extern const struct props memdev_ram_props, memdev_memfd_props, memdev_file_props;

/* Check and complete @options after the table was applied; @what starts sentences. */
int memdev_complete(const char *what, enum vm_memdev_type type, struct memdev_options *options,
		    struct err **err);
/* Free what it holds, but not the configuration's id. */
void memdev_options_done(struct memdev_options *options);

/* What it leaves to -machine and -mem-prealloc. */
void memdev_use_defaults(const struct vm_config *config, struct vm_memdev_config *memdev);
/* NULL when there is none of that id. */
struct vm_memdev_config *memdev_find(const struct vm_config *config, const char *id);
/* Look up @id as the boot memory that @what names, and mark it as used. */
int memdev_use_boot(struct vm_config *config, const char *what, const char *id,
		    const struct vm_memdev_config **ret_memdev, struct err **err);

/*
 * Defaults of all backends; with -mem-path and -mem-prealloc, boot memory that has no backend gets
 * one. After -machine and -smp were completed, before -numa is.
 */
int memdevs_finish(struct cmdline *cl, struct err **err);

#endif

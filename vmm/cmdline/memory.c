/* SPDX-License-Identifier: BSD-3-Clause */
/* -m: boot memory, and how much there may ever be. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>

#include "base/num.h"
#include "qmp/size.h"

#define RAM_DEFAULT_BYTES (128 * MIB)
#define RAM_MIN_BYTES     (2 * MIB)
/* 52 bits is the most that x86-64 has. */
#define ADDRESSES_BYTES (UINT64_C(1) << 52)

#define FIELD(field) PROP_FIELD(struct vm_memory_config, field)

static const struct prop memory_list[] = {
	{.name = "size",
	 .type = PROP_SIZE,
	 FIELD(ram_bytes),
	 .min = RAM_MIN_BYTES,
	 .max = ADDRESSES_BYTES,
	 .align = CMDLINE_PAGE_BYTES,
	 .unit = MIB,
	 .help = "boot memory; MiB without a unit"},
	{.name = "slots",
	 .type = PROP_UINT,
	 FIELD(slots),
	 .max = 256,
	 .help = "accepted; memory devices need no slots"},
	{.name = "maxmem",
	 .type = PROP_SIZE,
	 FIELD(max_bytes),
	 .min = RAM_MIN_BYTES,
	 .max = ADDRESSES_BYTES,
	 .align = CMDLINE_PAGE_BYTES,
	 .help = "boot memory and memory devices together; bytes without a unit"},
};

const struct props cmdline_memory_props = {NULL, memory_list, ARRAY_SIZE(memory_list)};

int cmdline_memory(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_memory_props, option, arg, "size", &cl->config->memory, err);
}

int cmdline_mem_path(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	if (!*arg)
		return err_set(err, EINVAL, "%s: the name of the file or folder is empty", option);
	return cmdline_set_string(&cl->mem_path, arg, err);
}

int cmdline_mem_prealloc(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->config->memory.prealloc = true;
	return 0;
}

int cmdline_memory_finish(struct cmdline *cl, struct err **err)
{
	struct vm_memory_config *memory = &cl->config->memory;
	char ram[SIZE_TEXT_MAX], max[SIZE_TEXT_MAX];

	/* what is locked is there */
	memory->prealloc |= cl->config->mem_lock;
	if (!memory->ram_bytes)
		memory->ram_bytes = RAM_DEFAULT_BYTES;
	if (!memory->max_bytes && memory->slots)
		return err_set(err, EINVAL, "-m: slots= needs maxmem= next to it");
	if (!memory->max_bytes)
		memory->max_bytes = memory->ram_bytes;
	if (memory->max_bytes < memory->ram_bytes)
		return err_set(err, EINVAL, "-m: maxmem (%s) is less than the boot memory (%s)",
			       size_format(memory->max_bytes, max),
			       size_format(memory->ram_bytes, ram));
	return 0;
}

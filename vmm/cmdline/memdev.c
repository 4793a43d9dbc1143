/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory backends: properties and their rules. See memdev.h for the contract. */
#include "vmm/cmdline/memdev.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include "base/num.h"
#include "qmp/size.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/object.h"

#define THREADS_MAX 1024
/* Boot memory that -mem-path or -mem-prealloc makes. */
#define BOOT_ID "pc.ram"

#define FIELD(field) PROP_FIELD(struct object_config, memdev.field)
#define GIVEN(field) PROP_GIVEN(struct object_config, memdev.field)

/* In the order of enum vm_mem_policy. */
static const char *const policies[] = {"default", "preferred", "bind", "interleave", NULL};

const char *vm_mem_policy_name(enum vm_mem_policy policy)
{
	return policies[policy];
}

static const struct prop memdev_list[] = {
	{.name = "size",
	 .type = PROP_SIZE,
	 .flags = PROP_REQUIRED,
	 FIELD(config.size_bytes),
	 .align = CMDLINE_PAGE_BYTES,
	 .help = "of the memory; next to max-size, what the device requests at first"},
	{.name = "max-size",
	 .type = PROP_SIZE,
	 FIELD(config.requested_size_bytes),
	 GIVEN(config.has_requested_size),
	 .min = CMDLINE_PAGE_BYTES,
	 .align = CMDLINE_PAGE_BYTES,
	 .help = "of the memory, for a memory device that starts with size"},
	{.name = "prealloc",
	 .type = PROP_BOOL,
	 FIELD(config.prealloc),
	 GIVEN(config.has_prealloc),
	 .defval = "off",
	 .help = "allocate all of it at the start; of a memory device, as it is plugged"},
	{.name = "prealloc-threads",
	 .type = PROP_UINT,
	 FIELD(config.prealloc_threads),
	 GIVEN(config.has_prealloc_threads),
	 .min = 1,
	 .max = THREADS_MAX,
	 .defval = "1",
	 .help = "threads that allocate"},
	{.name = "prealloc-context",
	 .type = PROP_ID,
	 .flags = PROP_SILENT,
	 .refused = "*",
	 .why = "there are no thread contexts in this version",
	 .help = "thread context of the threads that allocate"},
	{.name = "merge",
	 .type = PROP_BOOL,
	 FIELD(config.merge),
	 GIVEN(config.has_merge),
	 .help = "the host may merge equal pages; as -machine mem-merge if left out"},
	{.name = "dump",
	 .type = PROP_BOOL,
	 FIELD(config.dump),
	 GIVEN(config.has_dump),
	 .help = "part of core dumps; as -machine dump-guest-core if left out"},
	{.name = "reserve",
	 .type = PROP_BOOL,
	 FIELD(config.reserve),
	 .defval = "on",
	 .help = "set memory aside at the start where the host accounts for it"},
	{.name = "host-nodes",
	 .type = PROP_UINT16_LIST,
	 FIELD(host_nodes),
	 PROP_SECOND(struct object_config, memdev.nr_host_nodes),
	 .max = VM_HOST_NODES_MAX - 1,
	 .help = "nodes of the host, for policy"},
	{.name = "policy",
	 .type = PROP_ENUM,
	 FIELD(config.policy),
	 .names = policies,
	 .defval = "default",
	 .help = "how memory is taken from host-nodes"},
	{.name = "x-use-canonical-path-for-ramblock-id",
	 .type = PROP_BOOL,
	 .flags = PROP_SILENT,
	 .help = "accepted; a name within migration streams"},
};
static const struct props memdev_props = {&object_common_props, memdev_list,
					  ARRAY_SIZE(memdev_list)};

#define SHARE(value, text)                                                                \
	{                                                                                 \
		.name = "share", .type = PROP_BOOL, FIELD(config.share), .defval = value, \
		.help = text                                                              \
	}

static const struct prop ram_list[] = {
	SHARE("off", "a file without a name instead of private memory"),
};
const struct props memdev_ram_props = {&memdev_props, ram_list, ARRAY_SIZE(ram_list)};

static const struct prop memfd_list[] = {
	SHARE("on", "other processes that are given the file see the memory"),
	{.name = "hugetlb",
	 .type = PROP_BOOL,
	 FIELD(config.hugetlb),
	 .defval = "off",
	 .help = "huge pages of the host's pools"},
	{.name = "hugetlbsize",
	 .type = PROP_SIZE,
	 .flags = PROP_POW2,
	 FIELD(hugetlb_bytes),
	 GIVEN(has_hugetlb_bytes),
	 .min = 2 * CMDLINE_PAGE_BYTES,
	 .help = "their size; the host's default if left out"},
	{.name = "seal",
	 .type = PROP_BOOL,
	 FIELD(config.seal),
	 .defval = "on",
	 .help = "the size of the file cannot change"},
};
const struct props memdev_memfd_props = {&memdev_props, memfd_list, ARRAY_SIZE(memfd_list)};

static const struct prop file_list[] = {
	{.name = "mem-path",
	 .type = PROP_STRING,
	 .flags = PROP_REQUIRED,
	 FIELD(config.mem_path),
	 .help = "a file, or a folder for one without a name"},
	SHARE("off", "what the guest writes is in the file"),
	{.name = "offset",
	 .type = PROP_SIZE,
	 FIELD(config.offset_bytes),
	 .max = INT64_MAX,
	 .align = CMDLINE_PAGE_BYTES,
	 .defval = "0",
	 .help = "where in the file the memory starts"},
	{.name = "align",
	 .type = PROP_SIZE,
	 FIELD(config.align_bytes),
	 .max = TIB,
	 .defval = "0",
	 .help = "of the memory in ebb's own addresses, a power of two"},
	{.name = "discard-data",
	 .type = PROP_BOOL,
	 FIELD(config.discard_data),
	 .defval = "off",
	 .help = "the file's content is dropped at the end"},
	{.name = "pmem",
	 .type = PROP_BOOL,
	 .flags = PROP_SILENT,
	 .refused = "on",
	 .why = "there are no NVDIMMs, nothing would tell when to write through",
	 .help = "persistent memory"},
	{.name = "readonly",
	 .type = PROP_BOOL,
	 .flags = PROP_SILENT,
	 .refused = "on",
	 .why = "a guest writes to its memory; share=off leaves the file as it is",
	 .help = "open the file for reading only"},
	{.name = "rom",
	 .type = PROP_ON_OFF_AUTO,
	 .flags = PROP_SILENT,
	 .refused = "on",
	 .why = "a guest writes to its memory",
	 .help = "memory that the guest cannot write to"},
};
const struct props memdev_file_props = {&memdev_props, file_list, ARRAY_SIZE(file_list)};

/* ---- one object ---- */

static int memdev_complete_size(const char *what, struct vm_memdev_config *memdev, struct err **err)
{
	uint64_t max_size = memdev->requested_size_bytes;
	char size_text[SIZE_TEXT_MAX], max_text[SIZE_TEXT_MAX];

	if (!memdev->has_requested_size) {
		memdev->requested_size_bytes = 0;
		if (!memdev->size_bytes)
			return err_set(err, EINVAL, "%s: size=0 is too small; allowed: at least %s",
				       what, size_format(CMDLINE_PAGE_BYTES, size_text));
		return 0;
	}
	if (memdev->size_bytes > max_size)
		return err_set(err, EINVAL, "%s: size (%s) exceeds max-size (%s)", what,
			       size_format(memdev->size_bytes, size_text),
			       size_format(max_size, max_text));
	memdev->requested_size_bytes = memdev->size_bytes;
	memdev->size_bytes = max_size;
	return 0;
}

static int memdev_complete_nodes(const char *what, struct memdev_options *options, struct err **err)
{
	struct vm_memdev_config *memdev = &options->config;

	for (size_t i = 0; i < options->nr_host_nodes; i++)
		memdev->host_nodes[options->host_nodes[i] / 64] |= UINT64_C(1)
								   << (options->host_nodes[i] % 64);
	memdev->has_host_nodes = options->nr_host_nodes > 0;
	if (memdev->has_host_nodes && memdev->policy == VM_POLICY_DEFAULT)
		return err_set(err, EINVAL,
			       "%s: host-nodes= needs a policy= next to it; allowed: preferred, "
			       "bind, interleave",
			       what);
	if (!memdev->has_host_nodes && memdev->policy != VM_POLICY_DEFAULT)
		return err_set(err, EINVAL, "%s: policy=%s needs host-nodes= next to it", what,
			       vm_mem_policy_name(memdev->policy));
	return 0;
}

/* The huge page size that the host uses where none is named; 0 when it has none. */
static uint64_t host_hugetlb_bytes(void)
{
	FILE *in = fopen("/proc/meminfo", "re");
	uint64_t kib = 0;
	char line[128];

	if (!in)
		return 0;
	while (!kib && fgets(line, sizeof(line), in))
		sscanf(line, "Hugepagesize: %" SCNu64 " kB", &kib);
	fclose(in);
	return kib * KIB;
}

static int memdev_complete_memfd(const char *what, struct memdev_options *options, struct err **err)
{
	struct vm_memdev_config *memdev = &options->config;

	if (!memdev->hugetlb && options->has_hugetlb_bytes)
		return err_set(err, EINVAL, "%s: hugetlbsize= needs hugetlb=on next to it", what);
	if (!memdev->hugetlb)
		return 0;
	memdev->page_bytes =
		options->has_hugetlb_bytes ? options->hugetlb_bytes : host_hugetlb_bytes();
	if (!memdev->page_bytes)
		return err_set(err, ENOTSUP,
			       "%s: hugetlb=on is not possible: the host's kernel has no pools of "
			       "huge pages",
			       what);
	return 0;
}

/* What file system @path is on, or will be on. */
static int path_statfs(const char *path, struct statfs *ret_fs)
{
	char *copy;
	int ret;

	if (!statfs(path, ret_fs))
		return 0;
	if (errno != ENOENT)
		return -errno;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	ret = statfs(dirname(copy), ret_fs) < 0 ? -errno : 0;
	free(copy);
	return ret;
}

static int memdev_complete_file(const char *what, struct vm_memdev_config *memdev, struct err **err)
{
	struct statfs fs;
	struct stat st;
	uint64_t end;
	int ret;

	ret = path_statfs(memdev->mem_path, &fs);
	if (ret < 0)
		return err_set(err, -ret, "%s: mem-path=%s cannot be used: %s", what,
			       memdev->mem_path, strerror(-ret));
	if (fs.f_type == HUGETLBFS_MAGIC) {
		memdev->hugetlb = true;
		memdev->page_bytes = (uint64_t)fs.f_bsize;
	}
	if (memdev->offset_bytes && !stat(memdev->mem_path, &st) && S_ISDIR(st.st_mode))
		return err_set(err, EINVAL,
			       "%s: offset= needs a file in mem-path=; %s is a folder, for a file "
			       "without a name",
			       what, memdev->mem_path);
	if (!num_add(memdev->offset_bytes, memdev->size_bytes, &end) || end > INT64_MAX)
		return err_set(err, ERANGE, "%s: offset and size together are too large", what);
	return 0;
}

static int memdev_check_pages(const char *what, const struct vm_memdev_config *memdev,
			      struct err **err)
{
	char value[SIZE_TEXT_MAX], page[SIZE_TEXT_MAX];

	size_format(memdev->page_bytes, page);
	if (memdev->size_bytes % memdev->page_bytes)
		return err_set(err, EINVAL, "%s: the size (%s) is not a multiple of its pages (%s)",
			       what, size_format(memdev->size_bytes, value), page);
	if (memdev->offset_bytes % memdev->page_bytes)
		return err_set(err, EINVAL,
			       "%s: offset (%s) is not a multiple of the file's pages (%s)", what,
			       size_format(memdev->offset_bytes, value), page);
	if (memdev->align_bytes &&
	    (!num_is_pow2(memdev->align_bytes) || memdev->align_bytes < memdev->page_bytes))
		return err_set(err, EINVAL,
			       "%s: align (%s) is not possible; allowed: powers of two from %s on",
			       what, size_format(memdev->align_bytes, value), page);
	return 0;
}

int memdev_complete(const char *what, enum vm_memdev_type type, struct memdev_options *options,
		    struct err **err)
{
	struct vm_memdev_config *memdev = &options->config;
	int ret;

	memdev->type = type;
	memdev->page_bytes = CMDLINE_PAGE_BYTES;
	if (memdev->prealloc && !memdev->reserve)
		return err_set(err, EINVAL, "%s: prealloc=on and reserve=off exclude each other",
			       what);
	ret = memdev_complete_size(what, memdev, err);
	if (!ret)
		ret = memdev_complete_nodes(what, options, err);
	if (!ret && type == VM_MEMDEV_MEMFD)
		ret = memdev_complete_memfd(what, options, err);
	if (!ret && type == VM_MEMDEV_FILE)
		ret = memdev_complete_file(what, memdev, err);
	return ret < 0 ? ret : memdev_check_pages(what, memdev, err);
}

void memdev_options_done(struct memdev_options *options)
{
	free(options->config.mem_path);
	options->config.mem_path = NULL;
	free(options->host_nodes);
	options->host_nodes = NULL;
}

/* ---- among the others ---- */

struct vm_memdev_config *memdev_find(const struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_memdevs; i++) {
		if (!strcmp(config->memdevs[i]->id, id))
			return config->memdevs[i];
	}
	return NULL;
}

/*
 * Boot memory is handed to the guest as a whole: a huge page that is missing later would end the
 * guest in the middle of an instruction, so none may be missing.
 */
static int memdev_check_boot_hugetlb(const char *what, const struct vm_memdev_config *memdev,
				     struct err **err)
{
	if (!memdev->reserve)
		return err_set(err, EINVAL,
			       "%s: object %s has reserve=off, and so huge pages that may be "
			       "missing when the guest needs them; for boot memory, allowed: "
			       "reserve=on",
			       what, memdev->id);
	if (memdev->policy == VM_POLICY_BIND && !memdev->prealloc)
		return err_set(err, EINVAL,
			       "%s: object %s has huge pages and policy=bind, which can be set "
			       "aside only by allocating them; for boot memory, prealloc=on is "
			       "needed",
			       what, memdev->id);
	return 0;
}

int memdev_use_boot(struct vm_config *config, const char *what, const char *id,
		    const struct vm_memdev_config **ret_memdev, struct err **err)
{
	struct vm_memdev_config *memdev = memdev_find(config, id);
	int ret;

	if (!memdev)
		return err_set(err, ENOENT,
			       "%s: there is no object %s; allowed: the id of an -object "
			       "memory-backend-ram, -memfd or -file",
			       what, id);
	if (memdev->user != VM_MEMDEV_UNUSED)
		return err_set(err, EBUSY, "%s: object %s is in use already", what, id);
	if (memdev->has_requested_size)
		return err_set(err, EINVAL,
			       "%s: object %s has a max-size, which is for memory devices only",
			       what, id);
	ret = memdev->hugetlb ? memdev_check_boot_hugetlb(what, memdev, err) : 0;
	if (ret < 0)
		return ret;
	memdev->user = VM_MEMDEV_BOOT;
	*ret_memdev = memdev;
	return 0;
}

static int memdev_add_boot(struct cmdline *cl, struct err **err)
{
	struct vm_config *config = cl->config;
	struct memdev_options options = {
		.config =
			{
				.size_bytes = config->memory.ram_bytes,
				.reserve = true,
				.prealloc_threads = 1,
				.mem_path = cl->mem_path,
			},
	};
	struct vm_memdev_config *memdev;
	int ret;

	if (cmdline_object_exists(config, BOOT_ID))
		return err_set(err, EEXIST,
			       "-object: id=" BOOT_ID " is the boot memory's; allowed with "
			       "-mem-path and -mem-prealloc: any other");
	ret = memdev_complete(cl->mem_path ? "-mem-path" : "-m",
			      cl->mem_path ? VM_MEMDEV_FILE : VM_MEMDEV_RAM, &options, err);
	if (ret < 0)
		return ret;
	memdev = cmdline_part_add(&config->memdevs, &config->nr_memdevs, sizeof(*memdev));
	if (!memdev)
		return cmdline_oom(err);
	*memdev = options.config;
	cl->mem_path = NULL; /* the configuration's now */
	ret = cmdline_set_string(&memdev->id, BOOT_ID, err);
	return ret < 0 ? ret : cmdline_set_string(&config->machine.memory_backend, BOOT_ID, err);
}

void memdev_use_defaults(const struct vm_config *config, struct vm_memdev_config *memdev)
{
	if (!memdev->has_merge)
		memdev->merge = config->machine.mem_merge;
	if (!memdev->has_dump)
		memdev->dump = config->machine.dump_guest_core;
	if (!config->memory.prealloc)
		return;
	if (!memdev->has_prealloc && memdev->reserve)
		memdev->prealloc = true;
	if (!memdev->has_prealloc_threads)
		memdev->prealloc_threads = config->smp.cpus;
}

int memdevs_finish(struct cmdline *cl, struct err **err)
{
	struct vm_config *config = cl->config;
	bool has_backend = config->machine.memory_backend != NULL;
	int ret = 0;

	for (unsigned int n = 0; n < VM_NUMA_NODES_MAX; n++)
		has_backend |= config->numa.nodes[n].memdev_id != NULL;
	if (cl->mem_path && has_backend)
		return err_set(err, EINVAL,
			       "-mem-path: boot memory comes from an -object already; allowed: one "
			       "of the two");
	if (!has_backend && (cl->mem_path || config->memory.prealloc))
		ret = memdev_add_boot(cl, err);
	for (size_t i = 0; i < config->nr_memdevs && !ret; i++)
		memdev_use_defaults(config, config->memdevs[i]);
	return ret;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that comes after its machine: see later.h for the contract. */
#include "vmm/migration/later.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/loop.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/onmain.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_migrate.h"

struct later {
	struct later_config config;
	struct lazy *lazy;
	int done_fd;
	struct loop_watch *watch;
	bool done;
};

/* ---- hooks of the lazy memory: on its threads ---- */

static void later_done(void *opaque)
{
	struct later *later = opaque;
	uint64_t one = 1;
	/* It is the only one there ever is. */
	ssize_t n = write(later->done_fd, &one, sizeof(one));

	(void)n;
}

static void later_failed(void *opaque, const char *sentence)
{
	const struct later *later = opaque;

	vm_memory_fails(later->config.vm);
	report(vm_config(later->config.vm), "memory of the guest does not come: %s", sentence);
}

/* ---- on the main thread ---- */

static void later_on_done(void *opaque)
{
	struct later *later = opaque;

	later->done = true;
	vm_memory_arrived(later->config.vm);
	later->config.ended(later->config.opaque);
}

static void later_release(void *opaque)
{
	struct later *later = opaque;

	lazy_abort(later->lazy);
}

static void later_tell(void *opaque)
{
	struct later *later = opaque;

	vm_memory_arrives(later->config.vm, later_release, later);
}

struct later *later_new(const struct later_config *config, struct err **err)
{
	struct later *later = calloc(1, sizeof(*later));

	if (!later) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	later->config = *config;
	later->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (later->done_fd < 0)
		err_set(err, errno, "cannot create an event descriptor: %s", strerror(errno));
	else
		later->watch =
			loop_watch_new(config->main, later->done_fd, later_on_done, later, err);
	if (!later->watch) {
		later_free(later);
		return NULL;
	}
	return later;
}

void later_free(struct later *later)
{
	if (!later)
		return;
	if (later->lazy && !later->done)
		lazy_abort(later->lazy);
	lazy_free(later->lazy);
	loop_watch_free(later->watch);
	/* Closing -1 is harmless. */
	close(later->done_fd);
	free(later);
}

/* ---- what is expected ---- */

/* Plugged runs of a device. */
struct later_runs {
	struct range *list;
	size_t nr, room;
	bool failed;
};

static void later_add_run(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
			  bool plugged)
{
	struct later_runs *runs = opaque;

	(void)mem;
	if (!plugged)
		return;
	if (runs->nr == runs->room) {
		size_t room = runs->room ? runs->room * 2 : 64;
		struct range *list = reallocarray(runs->list, room, sizeof(*list));

		runs->failed = runs->failed || !list;
		if (!list)
			return;
		runs->list = list;
		runs->room = room;
	}
	runs->list[runs->nr++] = (struct range){offset, size};
}

static int later_expect_device(struct later *later, size_t index, struct virtio_mem *mem,
			       struct err **err)
{
	struct later_runs runs = {0};
	int ret = 0;

	/* Nothing changes any more until the guest runs. */
	virtio_mem_track(mem, later_add_run, &runs);
	virtio_mem_track(mem, NULL, NULL);
	if (runs.failed)
		ret = err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < runs.nr && !ret; i++)
		ret = lazy_expect(later->lazy, index, runs.list[i].start, runs.list[i].size, err);
	free(runs.list);
	return ret;
}

static struct lazy_block later_block(const struct block *block)
{
	const struct vm_ram_block *ram = &block->ram;

	return (struct lazy_block){
		.memory = ram->host,
		.size = ram->gpa.size,
		.page_bytes = ram->page_bytes,
		.fd = ram->fd,
		.fd_offset = ram->fd_offset,
		.guard = ram->mem ? virtio_mem_guard(ram->mem) : NULL,
		.unit_bytes = ram->mem ? block->unit_bytes : ram->page_bytes,
		.populate = ram->prealloc,
	};
}

int later_expect(struct later *later, const struct block *blocks, size_t nr_blocks,
		 const struct lazy_source *source, struct err **err)
{
	const struct lazy_hooks hooks = {
		.done = later_done,
		.failed = later_failed,
		.opaque = later,
	};
	struct lazy_block *list = calloc(nr_blocks + 1, sizeof(*list));
	int ret;

	if (!list)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < nr_blocks; i++)
		list[i] = later_block(&blocks[i]);
	ret = lazy_new(list, nr_blocks, source, &hooks, &later->lazy, err);
	free(list);
	if (!ret)
		ret = onmain_call(later->config.onmain, later_tell, later);
	for (size_t i = 0; i < nr_blocks && !ret; i++) {
		const struct vm_ram_block *ram = &blocks[i].ram;

		ret = ram->mem ? later_expect_device(later, i, ram->mem, err)
			       : lazy_expect(later->lazy, i, 0, ram->gpa.size, err);
	}
	return ret;
}

int later_start(struct later *later, struct cancel *cancel, struct err **err)
{
	return lazy_start(later->lazy, cancel, err);
}

struct lazy *later_lazy(struct later *later)
{
	return later->lazy;
}

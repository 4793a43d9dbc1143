/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host below the engine, and migrations: see model.h (I3).
 *
 * The host is an array of blocks that the guest may reach or not, and the content of their pages. A call
 * that fails has done a part of its work.
 */
#include "tests/model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 64

static uint64_t pages_per_block(const struct dev *dev)
{
	return dev->device_config.block_size / dev->w->page_bytes;
}

/* How much of @size a call does, and what it returns. */
static int host_outcome(struct host *host, const char *call, uint64_t offset, uint64_t *size,
			unsigned int permille)
{
	static const int errors[] = {-ENOMEM, -ENOSPC, -EIO, -EBUSY};
	struct world *w = host->dev->w;
	uint64_t bs = host->dev->device_config.block_size;
	int rc = 0;

	if (!w->calm && chance(w, permille)) {
		rc = errors[below(w, 4)];
		*size = below(w, *size / bs + 1) * bs;
	}
	if (rc)
		model_trace(w, "    host %u: %s %#llx fails, %#llx done", host->dev->index, call,
			    (unsigned long long)offset, (unsigned long long)*size);
	return rc;
}

static int host_grant(void *opaque, uint64_t offset, uint64_t size)
{
	struct host *host = opaque;
	struct dev *dev = host->dev;
	int rc = host_outcome(host, "grant", offset, &size, dev->w->rates.host);
	uint64_t bs = dev->device_config.block_size;

	for (uint64_t block = offset / bs; block < (offset + size) / bs; block++)
		host->granted[block] = true;
	return rc;
}

static int host_populate(void *opaque, uint64_t offset, uint64_t size)
{
	struct host *host = opaque;

	return host_outcome(host, "populate", offset, &size, host->dev->w->rates.host);
}

static int host_revoke(void *opaque, uint64_t offset, uint64_t size)
{
	struct host *host = opaque;
	struct dev *dev = host->dev;
	int rc = host_outcome(host, "revoke", offset, &size, dev->w->rates.undo);
	uint64_t bs = dev->device_config.block_size;

	for (uint64_t block = offset / bs; block < (offset + size) / bs; block++)
		host->granted[block] = false;
	return rc;
}

static int host_discard(void *opaque, uint64_t offset, uint64_t size)
{
	struct host *host = opaque;
	struct dev *dev = host->dev;
	int rc = host_outcome(host, "discard", offset, &size, dev->w->rates.undo);
	uint64_t bs = dev->device_config.block_size;

	for (uint64_t block = offset / bs; block < (offset + size) / bs; block++)
		must(dev->w, !host->granted[block],
		     "the engine discards block %llu, which the guest can reach",
		     (unsigned long long)block);
	memset(&host->content[offset / dev->w->page_bytes], 0,
	       size / dev->w->page_bytes * sizeof(host->content[0]));
	return rc;
}

static void host_config_changed(void *opaque)
{
	struct host *host = opaque;

	host->dev->interrupt = true;
	if (host->dev->w->calm || chance(host->dev->w, 500))
		dev_deliver_interrupt(host->dev);
}

static const struct vmem_host_ops host_ops = {
	.grant = host_grant,
	.populate = host_populate,
	.revoke = host_revoke,
	.discard = host_discard,
	.config_changed = host_config_changed,
};

static struct host *host_new(struct dev *dev)
{
	struct host *host = model_alloc(dev->w, 1, sizeof(*host));

	host->dev = dev;
	host->granted = model_alloc(dev->w, dev->nr_blocks, sizeof(host->granted[0]));
	host->content = model_alloc(dev->w, dev->nr_blocks * pages_per_block(dev),
				    sizeof(host->content[0]));
	return host;
}

static void host_free(struct host *host)
{
	if (!host)
		return;
	free(host->granted);
	free(host->content);
	free(host);
}

void host_begin(struct dev *dev, uint64_t requested_size)
{
	struct vmem_device_config config = dev->device_config;

	config.requested_size = requested_size;
	dev->host = host_new(dev);
	must(dev->w, vmem_device_new(&config, &host_ops, dev->host, &dev->engine) == 0,
	     "the engine does not take its configuration");
	host_learn(dev);
}

void host_end(struct dev *dev)
{
	vmem_device_free(dev->engine);
	host_free(dev->host);
	dev->engine = NULL;
	dev->host = NULL;
}

static int mark_plugged(void *opaque, uint64_t offset, uint64_t size)
{
	struct dev *dev = opaque;

	memset(dev->truth + offset / dev->device_config.block_size, 1,
	       size / dev->device_config.block_size);
	return 0;
}

static int mark_faulted(void *opaque, uint64_t offset, uint64_t size)
{
	struct dev *dev = opaque;

	memset(dev->truth + offset / dev->device_config.block_size, 2,
	       size / dev->device_config.block_size);
	return 0;
}

void host_learn(struct dev *dev)
{
	if (dev->w->with & WITH_LIAR)
		return;
	memset(dev->truth, 0, dev->nr_blocks);
	vmem_device_for_each_plugged(dev->engine, mark_plugged, dev);
	vmem_device_for_each_faulted(dev->engine, mark_faulted, dev);
}

uint64_t host_plugged_size(const struct dev *dev)
{
	struct vmem_device_info info;

	vmem_device_info(dev->engine, &info);
	return info.plugged_size;
}

void host_resize(struct dev *dev, uint64_t size)
{
	struct world *w = dev->w;

	model_trace(w, "host %u: resize to %#llx", dev->index, (unsigned long long)size);
	must(w, vmem_device_resize(dev->engine, size) == 0, "the engine refuses a size");
	host_learn(dev);
}

uint64_t *host_content(struct dev *dev, uint64_t page, bool *ret_lost)
{
	uint64_t block = page / pages_per_block(dev);

	*ret_lost = false;
	if (dev->w->with & WITH_LIAR)
		return &dev->host->content[page];
	must(dev->w, dev->truth[block], "page %llu of device %u is used and unplugged",
	     (unsigned long long)page, dev->index);
	*ret_lost = dev->truth[block] == 2;
	must(dev->w, *ret_lost || dev->host->granted[block],
	     "page %llu of device %u is plugged and out of reach", (unsigned long long)page,
	     dev->index);
	return &dev->host->content[page];
}

struct runs {
	uint64_t offset[RUNS_MAX], size[RUNS_MAX];
	unsigned int count;
};

static int note_run(void *opaque, uint64_t offset, uint64_t size)
{
	struct runs *runs = opaque;

	if (runs->count == RUNS_MAX)
		return -E2BIG;
	runs->offset[runs->count] = offset;
	runs->size[runs->count++] = size;
	return 0;
}

/* Give the engine of @dev, which is new, the blocks of another; 0 or what failed. */
static int import_runs(struct dev *dev, const struct runs *runs)
{
	struct world *w = dev->w;
	uint64_t bs = dev->device_config.block_size;

	for (unsigned int i = 0; i < runs->count; i++) {
		/* Any order will do: from a random one on, in two pieces. */
		unsigned int at = (i + (unsigned int)(w->seed % runs->count)) % runs->count;
		uint64_t cut = below(w, runs->size[at] / bs + 1) * bs;
		int rc = 0;

		if (cut)
			rc = vmem_device_import_plug(dev->engine, runs->offset[at], cut);
		if (!rc && cut && chance(w, 100)) {
			rc = vmem_device_import_unplug(dev->engine, runs->offset[at], cut);
			if (!rc)
				rc = vmem_device_import_plug(dev->engine, runs->offset[at], cut);
		}
		if (!rc && runs->size[at] > cut)
			rc = vmem_device_import_plug(dev->engine, runs->offset[at] + cut,
						     runs->size[at] - cut);
		if (rc)
			return rc;
	}
	return 0;
}

/* Bring what the guest wrote: of the blocks that it could reach. Those that were faulted have any content. */
static void import_content(struct dev *dev, const struct host *from)
{
	uint64_t ppb = pages_per_block(dev);

	for (uint64_t block = 0; block < dev->nr_blocks; block++)
		if (from->granted[block] && dev->truth[block] == 1)
			memcpy(&dev->host->content[block * ppb], &from->content[block * ppb],
			       ppb * sizeof(from->content[0]));
}

bool host_migrate(struct dev *dev)
{
	struct world *w = dev->w;
	struct vmem_device *old = dev->engine;
	struct host *from = dev->host;
	struct vmem_device_info info;
	struct runs runs = {.count = 0};
	int rc;

	if (vmem_device_for_each_plugged(old, note_run, &runs) ||
	    vmem_device_for_each_faulted(old, note_run, &runs))
		return false;
	vmem_device_info(old, &info);
	dev->device_config.usable_extra_bytes = below(w, 5) * dev->device_config.block_size;
	host_begin(dev, 0);
	rc = import_runs(dev, &runs);
	if (!rc)
		rc = vmem_device_import_sizes(dev->engine, info.owner_size, info.requested_size,
					      info.usable_region_size);
	model_trace(w, "host %u: migration, %u runs: %d", dev->index, runs.count, rc);
	if (rc) {
		must(w, w->rates.host || w->rates.undo, "a migration failed: %d", rc);
		host_end(dev);
		dev->engine = old;
		dev->host = from;
		host_learn(dev);
		return false;
	}
	host_learn(dev);
	must(w, host_plugged_size(dev) == info.plugged_size, "a migration lost blocks");
	import_content(dev, from);
	vmem_device_free(old);
	host_free(from);
	return true;
}

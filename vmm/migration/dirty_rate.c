/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How fast a guest writes to its memory: see dirty_rate.h for the contract.
 *
 * Samples are stratified: each block of memory is cut into parts of the same size, and a page of each
 * part is chosen at random, so they ascend, none comes twice, and no part is left out.
 *
 * The measurement's end is told on the main thread, as the thread's last act: whoever finds that none is
 * under way can join it without waiting.
 */
#include "vmm/migration/dirty_rate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/crc32c.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/pages.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_migrate.h"
#include "vmm/vm/vm_ram.h"

/* Of a block, however small it is; and of all together, however large they are. */
#define DIRTY_RATE_BLOCK_MIN 64u
#define DIRTY_RATE_ALL_MAX   (UINT64_C(1) << 20)

struct dirty_rate_sample {
	uint64_t page;
	uint32_t crc;
};

/* The samples of one block. */
struct dirty_rate_part {
	struct dirty_rate_sample *samples;
	size_t nr;
};

struct dirty_rate {
	struct vm *vm;
	struct onmain *onmain;
	struct dirty_rate_info info;
	bool logging; /* vm_dirty_start() is this one's */
	bool joined;  /* there is no thread */
	pthread_t thread;
	/* Of one measurement; the thread's while there is one. */
	struct cancel *cancel;
	struct block *blocks; /* descriptors in it are copies: devices may go meanwhile */
	size_t nr_blocks;
	struct dirty_rate_part *parts; /* nr_blocks; NULL by the log */
	int pagemap_fd;
	uint64_t result_bytes;
	bool measured;
	pthread_mutex_t syncing; /* held while the log is looked at, and to end it meanwhile */
};

/* ---- samples ---- */

static uint64_t dirty_rate_wanted(const struct block *block, uint64_t per_gib)
{
	uint64_t wanted = block->nr_pages / (GIB / PAGE_BYTES) * per_gib +
			  block->nr_pages % (GIB / PAGE_BYTES) * per_gib / (GIB / PAGE_BYTES);

	return num_min(num_max(wanted, DIRTY_RATE_BLOCK_MIN), block->nr_pages);
}

static uint64_t dirty_rate_density(const struct dirty_rate *d)
{
	uint64_t per_gib = d->info.sample_pages, all;

	do {
		all = 0;
		for (size_t i = 0; i < d->nr_blocks; i++)
			all += dirty_rate_wanted(&d->blocks[i], per_gib);
	} while (all > DIRTY_RATE_ALL_MAX && (per_gib /= 2));
	return per_gib;
}

/* xorshift64: which page of a part is no secret. */
static uint64_t dirty_rate_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int dirty_rate_choose(struct dirty_rate *d, struct err **err)
{
	uint64_t per_gib = dirty_rate_density(d), state = 0;

	/* Too early after the host's start there is none, and then any number will do. */
	if (getrandom(&state, sizeof(state), GRND_NONBLOCK) != sizeof(state) || !state)
		state = (uint64_t)cancel_now_ms() | 1;
	d->parts = calloc(d->nr_blocks + 1, sizeof(*d->parts));
	if (!d->parts)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < d->nr_blocks; i++) {
		struct dirty_rate_part *part = &d->parts[i];
		uint64_t wanted = dirty_rate_wanted(&d->blocks[i], per_gib), page = 0;

		part->samples = calloc(wanted + 1, sizeof(*part->samples));
		if (!part->samples)
			return err_set(err, ENOMEM, "out of memory");
		part->nr = wanted;
		for (uint64_t k = 0; k < wanted; k++) {
			uint64_t left = d->blocks[i].nr_pages - page, pages = left / (wanted - k);

			part->samples[k].page = page + dirty_rate_random(&state) % pages;
			page += pages;
		}
	}
	return 0;
}

/* What cannot be read is not plugged; what the host never provided is zeros (pages.h, I2). */
static uint32_t dirty_rate_crc(const struct dirty_rate *d, const struct block *block, uint64_t page)
{
	uint8_t bytes[PAGE_BYTES];
	uint64_t there = 1;

	pages_host_skip(block, page, 1, &there, d->pagemap_fd);
	if (!there ||
	    gm_read(vm_gm(d->vm), block->ram.gpa.start + page * PAGE_BYTES, bytes, sizeof(bytes)))
		memset(bytes, 0, sizeof(bytes));
	return crc32c(0, bytes, sizeof(bytes));
}

/* Note what samples are now; *ret_bytes is what those stand for that were something else. */
static int dirty_rate_look(struct dirty_rate *d, uint64_t *ret_bytes)
{
	*ret_bytes = 0;
	for (size_t i = 0; i < d->nr_blocks; i++) {
		const struct block *block = &d->blocks[i];
		struct dirty_rate_part *part = &d->parts[i];
		uint64_t changed = 0;

		for (size_t k = 0; k < part->nr; k++) {
			uint32_t crc;

			if (cancel_raised(d->cancel))
				return -ECANCELED;
			crc = dirty_rate_crc(d, block, part->samples[k].page);
			changed += crc != part->samples[k].crc;
			part->samples[k].crc = crc;
		}
		if (part->nr)
			*ret_bytes += (uint64_t)((double)block->ram.gpa.size * (double)changed /
						 (double)part->nr);
	}
	return 0;
}

/* ---- the thread ---- */

static int dirty_rate_wait(struct dirty_rate *d)
{
	int ret = cancel_poll(d->cancel, -1, 0, cancel_deadline((int)d->info.calc_time_s * 1000));

	return ret == -ETIMEDOUT ? 0 : ret;
}

/* Nobody stops the log meanwhile. */
static int dirty_rate_sync(struct dirty_rate *d)
{
	int ret = -ECANCELED;

	pthread_mutex_lock(&d->syncing);
	if (!cancel_raised(d->cancel))
		ret = vm_dirty_sync(d->vm);
	pthread_mutex_unlock(&d->syncing);
	return ret;
}

static int dirty_rate_logged(struct dirty_rate *d, uint64_t *ret_bytes)
{
	uint64_t pages = 0;
	int ret = dirty_rate_wait(d);

	if (!ret)
		ret = dirty_rate_sync(d);
	for (size_t i = 0; !ret && i < d->nr_blocks; i++)
		pages += gm_dirty_count(vm_gm(d->vm), d->blocks[i].ram.gpa.start,
					d->blocks[i].ram.gpa.size);
	*ret_bytes = pages * PAGE_BYTES;
	return ret;
}

static int dirty_rate_sampled(struct dirty_rate *d, uint64_t *ret_bytes)
{
	int ret = dirty_rate_look(d, ret_bytes);

	if (!ret)
		ret = dirty_rate_wait(d);
	return ret ? ret : dirty_rate_look(d, ret_bytes);
}

static void dirty_rate_end(void *opaque)
{
	struct dirty_rate *d = opaque;

	if (d->logging)
		vm_dirty_stop(d->vm);
	d->logging = false;
	/* Whoever cancelled it last has changed what it counted. */
	if (d->measured && !cancel_raised(d->cancel)) {
		d->info.status = DIRTY_RATE_MEASURED;
		d->info.rate_bytes = d->result_bytes;
	} else {
		d->info.status = DIRTY_RATE_UNSTARTED;
	}
}

static void *dirty_rate_main(void *opaque)
{
	struct dirty_rate *d = opaque;
	int64_t begun_ms = cancel_now_ms();
	uint64_t bytes;
	int ret = d->parts ? dirty_rate_sampled(d, &bytes) : dirty_rate_logged(d, &bytes);

	d->measured = !ret;
	if (!ret)
		d->result_bytes =
			(uint64_t)((double)bytes * 1000 /
				   (double)num_max((uint64_t)(cancel_now_ms() - begun_ms), 1));
	onmain_call(d->onmain, dirty_rate_end, d);
	return NULL;
}

/* ---- from the main thread ---- */

/* What is one measurement's. */
static void dirty_rate_clear(struct dirty_rate *d)
{
	if (!d->joined)
		pthread_join(d->thread, NULL);
	d->joined = true;
	for (size_t i = 0; i < d->nr_blocks; i++) {
		if (d->blocks[i].ram.fd >= 0)
			close(d->blocks[i].ram.fd);
		if (d->parts)
			free(d->parts[i].samples);
	}
	if (d->pagemap_fd >= 0)
		close(d->pagemap_fd);
	free(d->parts);
	free(d->blocks);
	cancel_free(d->cancel);
	d->parts = NULL;
	d->blocks = NULL;
	d->cancel = NULL;
	d->nr_blocks = 0;
	d->pagemap_fd = -1;
	d->measured = false;
}

struct dirty_rate *dirty_rate_new(struct vm *vm, struct onmain *onmain, struct err **err)
{
	struct dirty_rate *d = calloc(1, sizeof(*d));

	if (!d) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	d->vm = vm;
	d->onmain = onmain;
	d->joined = true;
	d->pagemap_fd = -1;
	pthread_mutex_init(&d->syncing, NULL);
	return d;
}

void dirty_rate_free(struct dirty_rate *d)
{
	if (!d)
		return;
	if (d->cancel)
		cancel_raise(d->cancel);
	dirty_rate_clear(d);
	if (d->logging)
		vm_dirty_stop(d->vm);
	pthread_mutex_destroy(&d->syncing);
	free(d);
}

static int dirty_rate_check(const struct dirty_rate *d, int64_t calc_time_s, int64_t sample_pages,
			    struct err **err)
{
	if (calc_time_s < DIRTY_RATE_CALC_TIME_MIN_S || calc_time_s > DIRTY_RATE_CALC_TIME_MAX_S)
		return err_set(err, EINVAL,
			       "Parameter 'calc-time' expects a value between %d and %d, in "
			       "seconds",
			       DIRTY_RATE_CALC_TIME_MIN_S, DIRTY_RATE_CALC_TIME_MAX_S);
	if (sample_pages < DIRTY_RATE_SAMPLE_PAGES_MIN ||
	    sample_pages > DIRTY_RATE_SAMPLE_PAGES_MAX)
		return err_set(err, EINVAL,
			       "Parameter 'sample-pages' expects a value between %d and %d",
			       DIRTY_RATE_SAMPLE_PAGES_MIN, DIRTY_RATE_SAMPLE_PAGES_MAX);
	if (d->info.status == DIRTY_RATE_MEASURING)
		return err_set(err, EBUSY, "a measurement of written memory is under way already");
	if (vm_state(d->vm) == VM_INMIGRATE || vm_memory_is_arriving(d->vm))
		return err_set(err, EBUSY,
			       "the guest's memory is still on its way; what is written can be "
			       "measured when it is there");
	return 0;
}

static int dirty_rate_prepare(struct dirty_rate *d, enum dirty_rate_mode mode, struct err **err)
{
	d->cancel = cancel_new(err);
	d->blocks = d->cancel ? blocks_of_vm(d->vm, &d->nr_blocks, err) : NULL;
	if (!d->blocks)
		return -ENOMEM;
	/* One that cannot be had is done without: its pages are read, wherever they are. */
	for (size_t i = 0; i < d->nr_blocks; i++)
		if (d->blocks[i].ram.fd >= 0)
			d->blocks[i].ram.fd = fcntl(d->blocks[i].ram.fd, F_DUPFD_CLOEXEC, 0);
	if (mode == DIRTY_RATE_DIRTY_BITMAP) {
		int ret = vm_dirty_start(d->vm, err);

		d->logging = !ret;
		return ret;
	}
	d->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return dirty_rate_choose(d, err);
}

int dirty_rate_start(struct dirty_rate *d, enum dirty_rate_mode mode, int64_t calc_time_s,
		     int64_t sample_pages, struct err **err)
{
	int ret = dirty_rate_check(d, calc_time_s, sample_pages, err);

	if (ret)
		return ret;
	dirty_rate_clear(d);
	d->info = (struct dirty_rate_info){
		.status = DIRTY_RATE_MEASURING,
		.mode = mode,
		.start_time_s = cancel_now_ms() / 1000,
		.calc_time_s = calc_time_s,
		.sample_pages = mode == DIRTY_RATE_PAGE_SAMPLING ? (uint64_t)sample_pages : 0,
	};
	ret = dirty_rate_prepare(d, mode, err);
	if (!ret) {
		ret = pthread_create(&d->thread, NULL, dirty_rate_main, d);
		if (ret)
			ret = err_set(err, ret, "cannot start a thread: %s", strerror(ret));
	}
	if (ret) {
		if (d->logging)
			vm_dirty_stop(d->vm);
		d->logging = false;
		dirty_rate_clear(d);
		d->info.status = DIRTY_RATE_UNSTARTED;
		return ret;
	}
	d->joined = false;
	pthread_setname_np(d->thread, "dirty-rate");
	return 0;
}

void dirty_rate_give_way(struct dirty_rate *d)
{
	if (!d->logging)
		return;
	cancel_raise(d->cancel);
	/* One look at the log at most, which waits for nobody. */
	pthread_mutex_lock(&d->syncing);
	vm_dirty_stop(d->vm);
	pthread_mutex_unlock(&d->syncing);
	d->logging = false;
}

void dirty_rate_info(const struct dirty_rate *d, struct dirty_rate_info *ret_info)
{
	*ret_info = d->info;
}

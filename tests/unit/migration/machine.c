/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine that is nothing but memory: see machine.h. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "vmm/migration/notes.h"
#include "vmm/migration/ram_send.h"

static const char *const machine_names[MACHINE_BLOCKS_MAX] = {"ram.0", "ram.1", "mem0", "mem1"};

static void machine_init_block(struct machine *m, size_t i, const struct machine_config *config,
			       uint64_t gpa)
{
	bool device = i >= MACHINE_BOOT_BLOCKS;
	uint64_t bytes = device ? config->device_bytes : config->boot_bytes;
	struct block *b = &m->blocks[i];
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	b->ram.name = machine_names[i];
	b->ram.gpa = (struct range){gpa, bytes};
	b->ram.page_bytes = PAGE_BYTES;
	b->ram.fd = -1;
	if (config->shared) {
		b->ram.fd = memfd_create(b->ram.name, MFD_CLOEXEC);
		b->ram.fd_offset = 3 * PAGE_BYTES;
		assert_int_equal(ftruncate(b->ram.fd, (off_t)(b->ram.fd_offset + bytes)), 0);
		flags = MAP_SHARED;
	}
	b->ram.host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, b->ram.fd,
			   (off_t)b->ram.fd_offset);
	assert_ptr_not_equal(b->ram.host, MAP_FAILED);
	/* Pages one by one, so that it can be told which ones there are. */
	madvise(b->ram.host, bytes, MADV_NOHUGEPAGE);
	b->nr_pages = bytes / PAGE_BYTES;
	m->log[i] = calloc(b->nr_pages / 64 + 1, 8);
	assert_non_null(m->log[i]);
	if (!device) {
		assert_int_equal(gm_add_ram(m->gm, b->ram.gpa, b->ram.host), 0);
		return;
	}
	b->unit_bytes = config->unit_bytes;
	m->plugged[i] = calloc(bytes / config->unit_bytes, sizeof(bool));
	assert_non_null(m->plugged[i]);
	assert_int_equal(
		gm_add_device_memory(m->gm, b->ram.gpa, b->ram.host, b->unit_bytes, &m->regions[i]),
		0);
}

void machine_init(struct machine *m, const struct machine_config *config)
{
	pthread_rwlockattr_t attr;
	uint64_t gpa = 0;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->device, NULL);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&m->gate, &attr);
	pthread_rwlockattr_destroy(&attr);
	m->gm = gm_new();
	assert_non_null(m->gm);
	m->nr_blocks = MACHINE_BOOT_BLOCKS + config->nr_devices;
	for (size_t i = 0; i < m->nr_blocks; i++) {
		/* The two boot blocks lie one behind the other, the rest apart. */
		if (i == MACHINE_BOOT_BLOCKS)
			gpa = 4 * GIB;
		machine_init_block(m, i, config, gpa);
		gpa = range_end(m->blocks[i].ram.gpa);
		if (i >= MACHINE_BOOT_BLOCKS)
			gpa += GIB;
	}
}

void machine_done(struct machine *m)
{
	gm_free(m->gm);
	for (size_t i = 0; i < m->nr_blocks; i++) {
		munmap(m->blocks[i].ram.host, m->blocks[i].ram.gpa.size);
		if (m->blocks[i].ram.fd >= 0)
			close(m->blocks[i].ram.fd);
		free(m->log[i]);
		free(m->plugged[i]);
	}
	pthread_mutex_destroy(&m->device);
	pthread_rwlock_destroy(&m->gate);
}

/* ---- what happens to it ---- */

static void machine_note(struct machine *m, size_t block, uint64_t unit, bool plugged)
{
	uint64_t bytes = m->blocks[block].unit_bytes;

	if (m->notes)
		notes_changed(m->notes, block, unit * bytes, bytes, plugged);
}

static void machine_reach(struct machine *m, size_t block, uint64_t unit, bool plugged)
{
	uint64_t bytes = m->blocks[block].unit_bytes;

	if (!plugged)
		gm_revoke(m->regions[block], unit * bytes, bytes);
	pthread_rwlock_wrlock(&m->gate);
	m->plugged[block][unit] = plugged;
	pthread_rwlock_unlock(&m->gate);
	if (plugged)
		gm_grant(m->regions[block], unit * bytes, bytes);
}

static void machine_discard(struct machine *m, size_t block, uint64_t unit)
{
	const struct block *b = &m->blocks[block];
	uint64_t offset = unit * b->unit_bytes;

	if (b->ram.fd >= 0)
		assert_int_equal(fallocate(b->ram.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)(b->ram.fd_offset + offset),
					   (off_t)b->unit_bytes),
				 0);
	else
		assert_int_equal(
			madvise((char *)b->ram.host + offset, b->unit_bytes, MADV_DONTNEED), 0);
}

void machine_plug(struct machine *m, size_t block, uint64_t unit)
{
	pthread_mutex_lock(&m->device);
	if (!m->plugged[block][unit]) {
		machine_note(m, block, unit, true);
		machine_reach(m, block, unit, true);
	}
	pthread_mutex_unlock(&m->device);
}

void machine_unplug(struct machine *m, size_t block, uint64_t unit)
{
	pthread_mutex_lock(&m->device);
	if (m->plugged[block][unit]) {
		machine_reach(m, block, unit, false);
		machine_note(m, block, unit, false);
		machine_discard(m, block, unit);
	}
	pthread_mutex_unlock(&m->device);
}

void machine_unplug_fails(struct machine *m, size_t block, uint64_t unit)
{
	uint64_t bytes = m->blocks[block].unit_bytes;

	pthread_mutex_lock(&m->device);
	if (m->plugged[block][unit]) {
		machine_reach(m, block, unit, false);
		machine_note(m, block, unit, false);
		machine_note(m, block, unit, true);
		machine_reach(m, block, unit, true);
		gm_dirty_mark(m->gm, m->blocks[block].ram.gpa.start + unit * bytes, bytes);
	}
	pthread_mutex_unlock(&m->device);
}

void machine_track(struct machine *m, struct notes *notes)
{
	pthread_mutex_lock(&m->device);
	m->notes = notes;
	for (size_t i = MACHINE_BOOT_BLOCKS; i < m->nr_blocks && notes; i++)
		for (uint64_t u = 0; u < m->blocks[i].ram.gpa.size / m->blocks[i].unit_bytes; u++)
			if (m->plugged[i][u])
				machine_note(m, i, u, true);
	pthread_mutex_unlock(&m->device);
}

/* The gate is held for reading. */
static bool machine_is_there(const struct machine *m, size_t block, uint64_t offset)
{
	return block < MACHINE_BOOT_BLOCKS ||
	       m->plugged[block][offset / m->blocks[block].unit_bytes];
}

bool machine_store(struct machine *m, size_t block, uint64_t offset, uint64_t value)
{
	bool there;

	pthread_rwlock_rdlock(&m->gate);
	there = machine_is_there(m, block, offset);
	if (there) {
		uint64_t page = offset / PAGE_BYTES;

		m->log[block][page / 64] |= UINT64_C(1) << page % 64;
		__atomic_store_n((uint64_t *)((char *)m->blocks[block].ram.host + offset), value,
				 __ATOMIC_RELAXED);
	}
	pthread_rwlock_unlock(&m->gate);
	return there;
}

void machine_fill(struct machine *m, size_t block, uint64_t pages)
{
	uint64_t *words = m->blocks[block].ram.host, x = 88172645463325252u;

	pthread_rwlock_wrlock(&m->gate);
	for (uint64_t page = 0; page < pages; page++)
		m->log[block][page / 64] |= UINT64_C(1) << page % 64;
	for (uint64_t i = 0; i < pages * PAGE_BYTES / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__atomic_store_n(&words[i], x, __ATOMIC_RELAXED);
	}
	pthread_rwlock_unlock(&m->gate);
}

bool machine_clear_page(struct machine *m, size_t block, uint64_t page)
{
	for (uint64_t at = 0; at < PAGE_BYTES; at += 8)
		if (!machine_store(m, block, page * PAGE_BYTES + at, 0))
			return false;
	return true;
}

/* ---- hooks ---- */

int machine_sync(void *opaque)
{
	struct machine *m = opaque;

	atomic_fetch_add(&m->syncs, 1);
	pthread_rwlock_wrlock(&m->gate);
	for (size_t i = 0; i < m->nr_blocks; i++)
		for (uint64_t w = 0; w < (m->blocks[i].nr_pages + 63) / 64; w++) {
			uint64_t word = atomic_exchange(&m->log[i][w], 0);

			if (word)
				gm_dirty_merge(m->gm,
					       m->blocks[i].ram.gpa.start + w * 64 * PAGE_BYTES,
					       &word, 1);
		}
	pthread_rwlock_unlock(&m->gate);
	return 0;
}

void machine_throttle(void *opaque, unsigned int percent)
{
	struct machine *m = opaque;

	atomic_store(&m->throttle, percent);
}

void machine_pass(void *opaque, uint64_t number)
{
	struct machine *m = opaque;

	atomic_store(&m->passes, (unsigned int)number);
	if (m->interrupt)
		ram_send_interrupt(m->interrupt);
}

int machine_load_plug(void *opaque, size_t block, uint64_t offset, uint64_t size, bool plugged,
		      struct err **err)
{
	struct machine *m = opaque;
	uint64_t unit = m->blocks[block].unit_bytes;

	for (uint64_t u = offset / unit; u < (offset + size) / unit; u++) {
		if (plugged && m->plugged[block][u])
			return err_set(err, EINVAL, "block %llu is plugged already",
				       (unsigned long long)u);
		if (plugged)
			machine_plug(m, block, u);
		else
			machine_unplug(m, block, u);
	}
	return 0;
}

/* ---- what it came to ---- */

/* The kernel's view; what no process has mapped is told by the file. */
static bool machine_page_held(const struct machine *m, size_t block, uint64_t page, int pagemap)
{
	const struct vm_ram_block *ram = &m->blocks[block].ram;
	uint64_t entry = 0;

	if (ram->fd >= 0) {
		off_t at = (off_t)(ram->fd_offset + page * PAGE_BYTES);

		return lseek(ram->fd, at, SEEK_DATA) == at;
	}
	assert_int_equal(
		pread(pagemap, &entry, 8, (off_t)(((uintptr_t)ram->host / PAGE_BYTES + page) * 8)),
		8);
	return entry >> 62;
}

uint64_t machine_held_pages(const struct machine *m, size_t block)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t pages = 0;

	assert_true(pagemap >= 0);
	for (uint64_t p = 0; p < m->blocks[block].nr_pages; p++)
		pages += machine_page_held(m, block, p, pagemap);
	close(pagemap);
	return pages;
}

void machine_check_same(const struct machine *a, const struct machine *b)
{
	for (size_t i = 0; i < a->nr_blocks; i++) {
		const struct block *block = &a->blocks[i];
		uint64_t step = block->unit_bytes ? block->unit_bytes : PAGE_BYTES;

		for (uint64_t at = 0; at < block->ram.gpa.size; at += step) {
			bool there = machine_is_there(a, i, at);

			if (there != machine_is_there(b, i, at))
				fail_msg("unit at 0x%llx of %s is plugged on one side only",
					 (unsigned long long)at, block->ram.name);
			if (!there)
				continue;
			for (uint64_t p = at; p < at + step; p += PAGE_BYTES)
				if (memcmp((char *)block->ram.host + p,
					   (char *)b->blocks[i].ram.host + p, PAGE_BYTES))
					fail_msg("page 0x%llx of %s differs",
						 (unsigned long long)p / PAGE_BYTES,
						 block->ram.name);
		}
	}
}

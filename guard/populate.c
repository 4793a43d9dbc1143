/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faulting memory in ahead of its use: see pages.h.
 *
 * A run is cut into equal shares, one a thread; a share into pieces, so that what the host and the
 * control groups have left is looked at again and again while the memory fills up; a piece into steps,
 * one call of the kernel each. During a step nobody in this process can change a mapping, which
 * malloc() does for anybody: where the host has to look for memory that is seconds for a piece.
 *
 * I1  Before a piece is faulted in there was memory for the pieces of all threads, or for all that
 *     is missing of the run when that is less.
 * I2  Shares, pieces and steps begin and end on multiples of POPULATE_ALIGN of the address: no huge
 *     page is made in two parts.
 * I3  When one thread fails the others stop after the step they are at.
 *
 * Threads: those started here are joined before the call returns, and take no signals: handlers run
 * in the threads that the program knows of.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/num.h"
#include "guard/pages.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define POPULATE_ALIGN (2 * MIB)
#define POPULATE_PIECE (256 * MIB) /* of all threads together */
#define POPULATE_STEP  (8 * MIB)
#define POPULATE_AGAIN 1000 /* times that the kernel may ask for patience */
/* Page tables: 8 bytes for a page of 4096, and the levels above those. */
#define POPULATE_TABLES(size) ((size) / 512 + (size) / (512 * 512))

struct populate {
	uint64_t piece;        /* bytes of one thread's piece */
	unsigned int nr_parts; /* threads, the caller's own among them */
	bool there;            /* the memory is there already, only the mapping is missing */
	bool one_round;        /* no thread has a second piece: looking once, at first, is enough */
	_Atomic uint64_t missing;
	_Atomic int error; /* of the first that failed */
};

struct populate_part {
	struct populate *all;
	char *memory;
	uint64_t size;
	pthread_t thread;
};

bool pages_populate_supported(void)
{
	/* An empty range asks whether the advice is known. */
	return madvise(NULL, 0, MADV_POPULATE_WRITE) == 0;
}

static int populate_step(char *memory, uint64_t size)
{
	unsigned int again = 0;

	while (madvise(memory, size, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR || (errno == EAGAIN && again++ < POPULATE_AGAIN))
			continue;
		/* A touch would be a SIGBUS: there is no page to be had, of huge pages above all. */
		if (errno == EFAULT || errno == EHWPOISON || errno == EAGAIN)
			return -ENOMEM;
		return -errno;
	}
	return 0;
}

static int populate_piece(const struct populate *all, char *memory, uint64_t size)
{
	char *end = memory + size;
	int ret = 0;

	while (!ret && memory < end && !all->error) {
		uint64_t next = num_align_down((uintptr_t)memory + POPULATE_STEP, POPULATE_ALIGN);
		uint64_t step = num_min(next - (uintptr_t)memory, (uint64_t)(end - memory));

		ret = populate_step(memory, step);
		memory += step;
	}
	return ret;
}

/* Is there memory for the next piece of everybody? */
static int populate_check(struct populate *all)
{
	uint64_t size = num_min(all->missing, all->piece * all->nr_parts);

	if (all->one_round)
		return 0;
	return headroom_check(all->there ? POPULATE_TABLES(size) : size);
}

static void *populate_part_run(void *opaque)
{
	struct populate_part *part = opaque;
	struct populate *all = part->all;
	char *at = part->memory, *end = at + part->size;

	while (at < end && !all->error) {
		uint64_t next = num_align_down((uintptr_t)at + all->piece, POPULATE_ALIGN);
		uint64_t size = num_min(next - (uintptr_t)at, (uint64_t)(end - at));
		int ret = populate_check(all), none = 0;

		if (!ret)
			ret = populate_piece(all, at, size);
		if (ret)
			atomic_compare_exchange_strong(&all->error, &none, ret);
		all->missing -= size;
		at += size;
	}
	return NULL;
}

/* Cut the run into parts; returns how many. */
static unsigned int populate_cut(struct populate *all, struct populate_part *parts, char *memory,
				 uint64_t size, unsigned int threads)
{
	/* From the multiple before the run, so that no more than @threads shares come of it. */
	uint64_t whole = size + ((uintptr_t)memory & (POPULATE_ALIGN - 1));
	uint64_t share = num_align_down((whole - 1) / threads + POPULATE_ALIGN, POPULATE_ALIGN);
	char *end = memory + size;
	unsigned int n = 0;

	while (memory < end) {
		uint64_t next = num_align_down((uintptr_t)memory + share, POPULATE_ALIGN);

		parts[n].all = all;
		parts[n].memory = memory;
		parts[n].size = num_min(next - (uintptr_t)memory, (uint64_t)(end - memory));
		memory += parts[n++].size;
	}
	return n;
}

/* The first part is done by the caller, and so are parts for which there is no thread. */
static void populate_run_parts(struct populate_part *parts, unsigned int nr)
{
	unsigned int started = 1;
	sigset_t all, before;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* a filter of system calls ends the process */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (started < nr && pthread_create(&parts[started].thread, NULL, populate_part_run,
					      &parts[started]) == 0)
		started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	populate_part_run(&parts[0]);
	for (unsigned int i = started; i < nr; i++)
		populate_part_run(&parts[i]);
	for (unsigned int i = 1; i < started; i++)
		pthread_join(parts[i].thread, NULL);
}

static int populate(char *memory, uint64_t size, unsigned int threads, bool there)
{
	struct populate all = {.there = there, .missing = size};
	struct populate_part *parts, single;
	uint64_t most = size / POPULATE_ALIGN;

	if (!size)
		return 0;
	threads = (unsigned int)num_max(1, num_min(threads, most));
	parts = threads > 1 ? calloc(threads, sizeof(*parts)) : &single;
	if (!parts)
		return -ENOMEM;
	all.piece =
		num_align_down(num_max(POPULATE_PIECE / threads, POPULATE_ALIGN), POPULATE_ALIGN);
	all.one_round = size <= all.piece;
	/* All of it at first: then mostly nothing is begun that cannot be ended. */
	all.error = headroom_check(there ? POPULATE_TABLES(size) : size);
	if (!all.error) {
		all.nr_parts = populate_cut(&all, parts, memory, size, threads);
		populate_run_parts(parts, all.nr_parts);
	}
	if (parts != &single)
		free(parts);
	return all.error;
}

int pages_populate_run(char *memory, uint64_t size, unsigned int threads)
{
	return populate(memory, size, threads, false);
}

int pages_populate(struct pages *pages, uint64_t offset, uint64_t size)
{
	const struct pages_config *c = &pages->config;

	return pages_populate_run(c->memory + offset, size, c->populate_threads);
}

int pages_map_run(char *memory, uint64_t size, unsigned int threads)
{
	return populate(memory, size, threads, true);
}

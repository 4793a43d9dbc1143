/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writers that never stop, through every door there is, while the blocks of a file are taken back
 * round by round: afterwards the file holds nothing each time, and what is open is not disturbed.
 */
#include "tests/unit/guard/file_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/num.h"

#define STEP 4096 /* between the places that are written */

/* A writer: all of its places again and again, until it is told to stop. */
struct writer {
	const struct rig *rig;
	bool (*write)(char *at, int pipe_in);
	pthread_t thread;
	int pipe[2];
	_Atomic bool stop;
	_Atomic uint64_t written, refused;
};

/* Where a store of this thread goes on when it was refused. */
static _Thread_local sigjmp_buf store_refused;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(store_refused, 1);
}

static bool write_store(char *at, int pipe_in)
{
	(void)pipe_in;
	if (sigsetjmp(store_refused, 1))
		return false;
	*(volatile char *)at = 1;
	return true;
}

/* As a device with a file behind it: read(2) into guest memory. */
static bool write_read(char *at, int pipe_in)
{
	ssize_t got;

	do
		got = read(pipe_in, at, 1);
	while (got < 0 && errno == EINTR);
	return got == 1;
}

static bool write_remote(char *at, int pipe_in)
{
	char value = 1;
	struct iovec from = {&value, 1}, to = {at, 1};

	(void)pipe_in;
	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 1;
}

static void *writer_run(void *opaque)
{
	struct writer *w = opaque;
	uint64_t at = 0;

	while (!w->stop) {
		/* A refused read() takes no byte out of the pipe. */
		if (w->write == write_read && w->written % 1024 == 0) {
			char full[1024] = {0};

			if (write(w->pipe[1], full, sizeof(full)) < 0 && errno != EAGAIN)
				abort();
		}
		if (w->write(w->rig->memory + at, w->pipe[0]))
			w->written++;
		else
			w->refused++;
		at = (at + STEP) % w->rig->size;
	}
	return NULL;
}

static void writer_start(struct writer *w, const struct rig *rig,
			 bool (*write)(char *at, int pipe_in))
{
	w->rig = rig;
	w->write = write;
	assert_int_equal(pipe2(w->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, writer_run, w), 0);
}

static void writer_end(struct writer *w)
{
	w->stop = true;
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	close(w->pipe[0]);
	close(w->pipe[1]);
	/* It was there all the time, and was stopped. */
	assert_true(w->refused > 0);
}

static void race(const struct rig_kind *kind, bool (*write)(char *at, int pipe_in),
		 unsigned int rounds)
{
	struct sigaction fault = {.sa_handler = on_fault}, bus, segv;
	struct writer w = {.written = 0};
	struct rig rig;
	uint64_t n = 4, beside, held, most = 0;

	if (!rig_start(&rig, kind, n, 0)) {
		print_message("no %s here\n", kind->name);
		return;
	}
	sigaction(SIGBUS, &fault, &bus);
	sigaction(SIGSEGV, &fault, &segv);
	/* The last block stays open: its content is nobody's business but the writers'. */
	assert_int_equal(rig_open(&rig, n - 1, 1), 0);
	assert_true(rig_poke(&rig, n - 1, 7, 77));
	writer_start(&w, &rig, write);
	for (unsigned int i = 0; i < rounds; i++) {
		beside = w.written;
		assert_int_equal(rig_open(&rig, 0, n - 1), 0);
		/* Let it write now and then, if it has the time. */
		for (unsigned int k = 0; k < 1000 && i % 8 == 0 && w.written < beside + 3; k++)
			sched_yield();
		assert_int_equal(rig_close(&rig, 0, n - 1), 0);
		assert_int_equal(rig_discard(&rig, 0, n - 1), 0);
		held = rig_held(&rig);
		if (held > most)
			most = held;
	}
	if (most > rig.block + 4096)
		print_error("%s\n", kind->name);
	assert_in_range(most, rig.block, rig.block + 4096);
	rig_check_held(&rig, 1);
	/* Closed blocks are all that it has left but one. */
	beside = w.refused;
	while (w.refused < beside + 1000)
		sched_yield();
	rig_check_held(&rig, 1);
	/* It gets to the open one as well, however late it came to run. */
	while (!w.written)
		sched_yield();
	writer_end(&w);
	assert_int_equal(rig_peek(&rig, n - 1, 7), 77);
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	rig_end(&rig);
}

/* Rounds that take about as long with each size of block. */
static unsigned int rounds_of(const struct rig_kind *kind)
{
	if (kind->page == GIB)
		return 0;
	return kind->block_size >= MIB ? 100 : 1500;
}

static void race_all(bool (*write)(char *at, int pipe_in))
{
	for (unsigned int i = 0; i < RIG_KINDS; i++)
		if (rounds_of(&rig_kinds[i]))
			race(&rig_kinds[i], write, rounds_of(&rig_kinds[i]));
}

static void test_stores(void **state)
{
	(void)state;
	race_all(write_store);
}

static void test_read_into(void **state)
{
	(void)state;
	race_all(write_read);
}

static void test_remote_writes(void **state)
{
	(void)state;
	race_all(write_remote);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stores),
		cmocka_unit_test(test_read_into),
		cmocka_unit_test(test_remote_writes),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	rig_pool_restore();
	return failed;
}

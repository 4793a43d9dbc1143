/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Postcopy's pieces (vmm/migration/postcopy.h): what is sent and in which order, hostile payloads, and
 * a small machine that runs on while its memory comes over a connection that breaks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "guard/missing.h"
#include "tests/unit/guard/guard_rig.h"
#include "vmm/core/fault.h"
#include "vmm/migration/lazy.h"
#include "vmm/migration/postcopy_set.h"

/* ---- a sender alone ---- */

static const uint64_t small[3] = {100, 0, 1000};

static struct postcopy_send *sender(void)
{
	struct postcopy_send *s;

	assert_int_equal(postcopy_send_new(small, 3, &s, NULL), 0);
	return s;
}

static void add(struct postcopy_send *s, size_t block, uint64_t page, uint64_t nr)
{
	for (; nr; page++, nr--) {
		uint64_t word = UINT64_C(1) << page % 64;

		postcopy_send_add(s, block, page - page % 64, &word, 1);
	}
}

static int want(struct postcopy_send *s, size_t block, uint64_t page, uint64_t nr)
{
	uint8_t bytes[POSTCOPY_WANT_BYTES];

	postcopy_want_encode(block, page, nr, bytes);
	return postcopy_send_want(s, bytes, sizeof(bytes), NULL);
}

static void check_next(struct postcopy_send *s, size_t block, uint64_t page, uint64_t nr,
		       bool wanted)
{
	uint64_t got_page, got_nr;
	size_t got_block;
	bool got_wanted;

	assert_true(postcopy_send_next(s, 8, &got_block, &got_page, &got_nr, &got_wanted));
	assert_int_equal(got_block, block);
	assert_int_equal(got_page, page);
	assert_int_equal(got_nr, nr);
	assert_int_equal(got_wanted, wanted);
}

static void check_nothing(struct postcopy_send *s)
{
	uint64_t page, nr;
	size_t block;
	bool wanted;

	assert_false(postcopy_send_next(s, 8, &block, &page, &nr, &wanted));
}

static void test_order(void **state)
{
	struct postcopy_send *s = sender();

	(void)state;
	check_nothing(s);
	add(s, 0, 3, 2);
	add(s, 0, 90, 10);
	add(s, 2, 500, 30);
	add(s, 2, 500, 30);
	assert_int_equal(postcopy_send_left(s), 42);
	check_next(s, 0, 3, 2, false);
	/* Wanted first, in order; then what follows; what is sent, or was none, is not sent again. */
	assert_int_equal(want(s, 2, 510, 1), 0);
	assert_int_equal(want(s, 0, 98, 2), 0);
	assert_int_equal(want(s, 2, 510, 1), 0);
	assert_int_equal(want(s, 0, 3, 1), 0);
	assert_int_equal(want(s, 0, 50, 1), 0);
	assert_true(postcopy_send_is_wanted(s));
	check_next(s, 2, 510, 1, true);
	check_next(s, 0, 98, 2, true);
	assert_false(postcopy_send_is_wanted(s));
	check_next(s, 2, 500, 8, false);
	assert_int_equal(want(s, 2, 512, 18), 0);
	assert_int_equal(want(s, 0, 90, 1), 0);
	check_next(s, 2, 512, 8, true);
	check_next(s, 2, 520, 8, true);
	check_next(s, 2, 528, 2, true);
	check_next(s, 0, 90, 1, true);
	check_next(s, 0, 91, 7, false);
	check_next(s, 2, 508, 2, false);
	check_next(s, 2, 511, 1, false);
	check_nothing(s);
	assert_int_equal(postcopy_send_left(s), 0);
	postcopy_send_free(s);
}

/* More is wanted than is kept in order: all of it is sent first, and once. */
static void test_many_wanted(void **state)
{
	static const uint64_t pages[1] = {100000};
	struct postcopy_send *s;
	uint64_t page, nr;
	size_t block;
	bool wanted;

	(void)state;
	assert_int_equal(postcopy_send_new(pages, 1, &s, NULL), 0);
	add(s, 0, 0, 100000);
	for (page = 0; page < 100000; page += 10)
		assert_int_equal(want(s, 0, 99990 - page, 2), 0);
	for (unsigned int i = 0; i < 10000; i++) {
		assert_true(postcopy_send_next(s, 100, &block, &page, &nr, &wanted));
		assert_true(wanted);
		assert_int_equal(nr, 2);
		assert_int_equal(page % 10, 0);
		if (i < 1000)
			assert_int_equal(page, 99990 - 10 * i);
	}
	assert_int_equal(postcopy_send_left(s), 80000);
	assert_true(postcopy_send_next(s, 100, &block, &page, &nr, &wanted));
	assert_false(wanted);
	assert_int_equal(nr, 8);
	postcopy_send_free(s);
}

static void test_hostile_wants(void **state)
{
	struct postcopy_send *s = sender();
	uint8_t bytes[POSTCOPY_WANT_BYTES + 1];

	(void)state;
	add(s, 2, 0, 1000);
	assert_int_equal(want(s, 3, 0, 1), -EINVAL);
	assert_int_equal(want(s, UINT32_MAX, 0, 1), -EINVAL);
	assert_int_equal(want(s, 1, 0, 1), -EINVAL);
	assert_int_equal(want(s, 2, 1000, 1), -EINVAL);
	assert_int_equal(want(s, 2, 999, 2), -EINVAL);
	assert_int_equal(want(s, 2, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(want(s, 2, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(want(s, 2, 5, 0), -EINVAL);
	postcopy_want_encode(2, 0, 1, bytes);
	assert_int_equal(postcopy_send_want(s, bytes, sizeof(bytes), NULL), -EINVAL);
	assert_int_equal(postcopy_send_want(s, bytes, sizeof(bytes) - 2, NULL), -EINVAL);
	assert_int_equal(postcopy_send_want(s, bytes, 0, NULL), -EINVAL);
	assert_false(postcopy_send_is_wanted(s));
	postcopy_send_free(s);
}

/* ---- sets ---- */

#define SETS 8

struct sets {
	uint8_t bytes[SETS][POSTCOPY_SET_HEAD + 256];
	size_t size[SETS], nr;
};

static int keep_set(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct sets *sets = opaque;

	(void)err;
	assert_true(sets->nr < SETS && size <= sizeof(sets->bytes[0]));
	memcpy(sets->bytes[sets->nr], bytes, size);
	sets->size[sets->nr++] = size;
	return 0;
}

static int fail_to_send(void *opaque, const void *bytes, size_t size, struct err **err)
{
	(void)opaque;
	(void)bytes;
	(void)size;
	return err_set(err, EPIPE, "gone");
}

static int decode(const void *bytes, size_t size, struct postcopy_set *set)
{
	struct err *err = NULL;
	int ret = postcopy_set_decode(bytes, size, small, 3, "it", set, &err);

	if (ret)
		assert_string_equal(err_message(err), "it names pages that cannot be");
	err_free(err);
	return ret;
}

static void test_sets(void **state)
{
	struct postcopy_send *s = sender();
	struct sets sets = {.nr = 0};
	struct postcopy_set set;
	struct err *err = NULL;
	uint64_t nr;

	(void)state;
	/* There is one at least. */
	assert_int_equal(postcopy_send_list(s, keep_set, &sets, NULL), 0);
	assert_int_equal(sets.nr, 1);
	assert_int_equal(decode(sets.bytes[0], sets.size[0], &set), 0);
	assert_int_equal(postcopy_set_next(&set, 0, &nr), 100);
	assert_int_equal(nr, 0);
	sets.nr = 0;
	add(s, 0, 0, 100);
	add(s, 2, 7, 1);
	add(s, 2, 64, 130);
	add(s, 2, 999, 1);
	assert_int_equal(postcopy_send_list(s, keep_set, &sets, NULL), 0);
	assert_int_equal(sets.nr, 2);
	assert_int_equal(decode(sets.bytes[0], sets.size[0], &set), 0);
	assert_int_equal(sets.size[0], POSTCOPY_SET_HEAD);
	assert_int_equal(postcopy_set_next(&set, 30, &nr), 30);
	assert_int_equal(nr, 70);
	assert_int_equal(decode(sets.bytes[1], sets.size[1], &set), 0);
	assert_int_equal(set.block, 2);
	assert_int_equal(postcopy_set_next(&set, 0, &nr), 7);
	assert_int_equal(nr, 1);
	assert_int_equal(postcopy_set_next(&set, 8, &nr), 64);
	assert_int_equal(nr, 130);
	assert_int_equal(postcopy_set_next(&set, 194, &nr), 999);
	assert_int_equal(nr, 1);
	assert_int_equal(postcopy_set_next(&set, 1000, &nr), 1000);
	assert_int_equal(nr, 0);
	assert_int_equal(postcopy_send_list(s, fail_to_send, NULL, &err), -EPIPE);
	assert_string_equal(err_message(err), "gone");
	err_free(err);
	postcopy_send_free(s);
}

static void check_bad_set(const struct sets *good, unsigned int at, unsigned int size,
			  uint64_t value)
{
	struct sets bad = *good;
	struct postcopy_set set;

	bytes_put_le(bad.bytes[0] + at, size, value);
	assert_int_equal(decode(bad.bytes[0], bad.size[0], &set), -EINVAL);
}

static void test_hostile_sets(void **state)
{
	struct postcopy_send *s = sender();
	struct sets sets = {.nr = 0};
	struct postcopy_set set;

	(void)state;
	add(s, 0, 5, 2);
	assert_int_equal(postcopy_send_list(s, keep_set, &sets, NULL), 0);
	assert_int_equal(decode(sets.bytes[0], sets.size[0], &set), 0);
	check_bad_set(&sets, 0, 4, 1);
	check_bad_set(&sets, 0, 4, 2);
	check_bad_set(&sets, 0, 4, 3);
	check_bad_set(&sets, 0, 4, UINT32_MAX);
	check_bad_set(&sets, 4, 4, 0);
	check_bad_set(&sets, 4, 4, 3);
	check_bad_set(&sets, 8, 8, 1);
	check_bad_set(&sets, 8, 8, POSTCOPY_SET_PAGES);
	check_bad_set(&sets, 16, 8, 99);
	check_bad_set(&sets, 16, 8, 101);
	check_bad_set(&sets, 16, 8, 0);
	check_bad_set(&sets, 16, 8, UINT64_MAX);
	check_bad_set(&sets, POSTCOPY_SET_HEAD + 12, 1, 0x10);
	for (size_t size = 0; size < sets.size[0]; size++)
		assert_int_equal(decode(sets.bytes[0], size, &set), -EINVAL);
	assert_int_equal(decode(sets.bytes[0], sets.size[0] + 1, &set), -EINVAL);
	postcopy_send_free(s);
}

/* ---- recovery of a sender alone ---- */

/* A HAVE payload of a block of @small: it lacks one page, or none (@page UINT64_MAX). */
static uint64_t lack_next(void *opaque, size_t block, uint64_t page, uint64_t end, uint64_t *ret_nr)
{
	uint64_t lacks = *(const uint64_t *)opaque;

	(void)block;
	*ret_nr = page <= lacks && lacks < end;
	return *ret_nr ? lacks : end;
}

struct telling {
	struct postcopy_send *s;
	int ret;
};

static int tell(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct telling *telling = opaque;

	(void)err;
	telling->ret = postcopy_send_have(telling->s, bytes, size, NULL);
	return 0;
}

static int have(struct postcopy_send *s, size_t block, uint64_t lacks)
{
	struct telling telling = {s, 0};

	assert_int_equal(postcopy_set_emit(block, small[block], true, lack_next, &lacks, tell,
					   &telling, NULL),
			 0);
	return telling.ret;
}

static void test_have(void **state)
{
	struct postcopy_send *s = sender();

	(void)state;
	add(s, 0, 5, 2);
	add(s, 2, 40, 3);
	assert_int_equal(have(s, 0, 5), -EINVAL); /* nobody asked */
	check_next(s, 0, 5, 2, false);
	check_next(s, 2, 40, 3, false);
	assert_int_equal(want(s, 2, 40, 1), 0);
	postcopy_send_recover(s);
	check_nothing(s);
	assert_int_equal(postcopy_send_recovered(s, NULL), -EINVAL);
	assert_int_equal(have(s, 2, 40), -EINVAL); /* out of turn */
	assert_int_equal(have(s, 0, 7), -EINVAL);  /* it had that before */
	assert_int_equal(have(s, 0, 6), 0);
	assert_int_equal(postcopy_send_recovered(s, NULL), -EINVAL);
	assert_int_equal(have(s, 2, 41), 0);
	assert_int_equal(have(s, 2, 41), -EINVAL);
	assert_int_equal(postcopy_send_recovered(s, NULL), 0);
	assert_int_equal(postcopy_send_left(s), 2);
	assert_int_equal(want(s, 2, 41, 1), 0);
	check_next(s, 2, 41, 1, true);
	check_next(s, 0, 6, 1, false);
	check_nothing(s);
	/* Again, and everything came. */
	postcopy_send_recover(s);
	assert_int_equal(have(s, 0, UINT64_MAX), 0);
	assert_int_equal(have(s, 2, UINT64_MAX), 0);
	assert_int_equal(postcopy_send_recovered(s, NULL), 0);
	check_nothing(s);
	postcopy_send_free(s);
}

/* ---- a machine that moves ---- */

#define BLOCK   (2 * MIB) /* of the device */
#define BOOT    (8 * MIB)
#define DEVICE  (8 * MIB) /* block 3 is not plugged */
#define GUESTS  3
#define MESSAGE 5 /* le32 size, type */

enum message { PAGES, WANT, HAVE, RECOVERED };

/*
 * Both sides over a socket, each with a thread that reads. The source's memory is @from; what is
 * dirty there is 9 on the target until it comes.
 */
struct move {
	char *from[2];
	struct host host;
	char *boot;
	struct lazy *lazy;
	struct postcopy_send *send;
	_Atomic int target, source;  /* ends of the connection */
	pthread_mutex_t target_lock; /* of writing */
	pthread_t sending, replies, receiving;
	uint64_t break_after; /* pages; the source cuts the connection then */
	_Atomic uint64_t sent;
	sem_t done;
	_Atomic bool over;
};

static const uint64_t move_pages[2] = {BOOT / PAGE, DEVICE / PAGE};

static char *target_at(const struct move *m, size_t block, uint64_t page)
{
	return (block ? m->host.memory : m->boot) + page * PAGE;
}

static bool all(int fd, void *buf, size_t size, bool out)
{
	for (size_t done = 0; done < size;) {
		ssize_t some = out ? send(fd, (char *)buf + done, size - done, MSG_NOSIGNAL)
				   : recv(fd, (char *)buf + done, size - done, 0);

		if (some <= 0)
			return false;
		done += (size_t)some;
	}
	return true;
}

static bool message_send(int fd, enum message type, const void *bytes, size_t size)
{
	uint8_t *buf = malloc(MESSAGE + size);
	bool sent;

	bytes_put_le(buf, 4, size);
	buf[4] = (uint8_t)type;
	memcpy(buf + MESSAGE, bytes, size);
	sent = all(fd, buf, MESSAGE + size, true);
	free(buf);
	return sent;
}

/* The payload, malloced; NULL when the connection is at its end. */
static uint8_t *message_receive(int fd, enum message *ret_type, size_t *ret_size)
{
	uint8_t head[MESSAGE], *bytes;

	if (!all(fd, head, MESSAGE, false))
		return NULL;
	*ret_size = bytes_get_le(head, 4);
	*ret_type = head[4];
	bytes = malloc(*ret_size + 1);
	if (!all(fd, bytes, *ret_size, false)) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

/* Source: send what is left until the connection breaks, or there is nothing. */
static void *move_send(void *opaque)
{
	struct move *m = opaque;
	static const uint64_t max = 16;
	uint8_t *buf = malloc(12 + max * PAGE);
	uint64_t page, nr;
	size_t block;
	bool wanted;

	while (postcopy_send_next(m->send, max, &block, &page, &nr, &wanted)) {
		bytes_put_le(buf, 4, block);
		bytes_put_le(buf + 4, 8, page);
		memcpy(buf + 12, m->from[block] + page * PAGE, nr * PAGE);
		if (!message_send(m->source, PAGES, buf, 12 + nr * PAGE))
			break;
		m->sent += nr;
		if (m->break_after && m->sent > m->break_after) {
			shutdown(m->source, SHUT_RDWR);
			break;
		}
	}
	free(buf);
	return NULL;
}

/* Source: what the target tells; ends with the connection, or with a recovery. */
static void *move_replies(void *opaque)
{
	struct move *m = opaque;
	enum message type;
	uint8_t *bytes;
	size_t size;

	while ((bytes = message_receive(m->source, &type, &size))) {
		int ret = 0;

		if (type == WANT)
			ret = postcopy_send_want(m->send, bytes, size, NULL);
		else if (type == HAVE)
			ret = postcopy_send_have(m->send, bytes, size, NULL);
		free(bytes);
		if (ret)
			abort();
		if (type == RECOVERED)
			break;
	}
	return NULL;
}

static void *move_receive(void *opaque)
{
	struct move *m = opaque;
	enum message type;
	uint8_t *bytes;
	size_t size;

	while ((bytes = message_receive(m->target, &type, &size))) {
		if (lazy_put(m->lazy, bytes_get_le(bytes, 4), bytes_get_le(bytes + 4, 8),
			     (size - 12) / PAGE, bytes + 12, NULL))
			abort();
		free(bytes);
	}
	return NULL;
}

static void move_want(void *opaque, size_t block, uint64_t page, uint64_t nr)
{
	uint8_t bytes[POSTCOPY_WANT_BYTES];
	struct move *m = opaque;

	postcopy_want_encode(block, page, nr, bytes);
	pthread_mutex_lock(&m->target_lock);
	(void)message_send(m->target, WANT, bytes, sizeof(bytes));
	pthread_mutex_unlock(&m->target_lock);
}

static void move_done(void *opaque)
{
	sem_post(&((struct move *)opaque)->done);
}

static void move_connect(struct move *m)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	m->source = fds[0];
	m->target = fds[1];
}

static void move_go(struct move *m)
{
	pthread_create(&m->receiving, NULL, move_receive, m);
	pthread_create(&m->replies, NULL, move_replies, m);
	pthread_create(&m->sending, NULL, move_send, m);
}

/* The threads are over, and the connection. */
static void move_join(struct move *m)
{
	pthread_join(m->sending, NULL);
	shutdown(m->source, SHUT_WR);
	pthread_join(m->receiving, NULL);
	shutdown(m->target, SHUT_RDWR);
	pthread_join(m->replies, NULL);
	pthread_mutex_lock(&m->target_lock);
	close(m->target);
	close(m->source);
	pthread_mutex_unlock(&m->target_lock);
}

static int list_to_lazy(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct move *m = opaque;

	return postcopy_receive_list(m->lazy, move_pages, 2, bytes, size, err);
}

/* Pages that are dirty: three of four of boot memory, one of three of the device. */
static bool is_left(size_t block, uint64_t page)
{
	if (block)
		return page < 3 * BLOCK / PAGE && page % 3 == 1;
	return page % 4;
}

static void move_start(struct move *m)
{
	const struct lazy_source source = {.want = move_want, .opaque = m};
	const struct lazy_hooks hooks = {.done = move_done, .opaque = m};
	struct lazy_block blocks[2] = {
		{.size = BOOT, .page_bytes = PAGE, .unit_bytes = PAGE, .fd = -1},
		{.size = DEVICE, .page_bytes = PAGE, .unit_bytes = BLOCK, .fd = -1},
	};

	memset(m, 0, sizeof(*m));
	sem_init(&m->done, 0, 0);
	pthread_mutex_init(&m->target_lock, NULL);
	host_start(&m->host, DEVICE, BLOCK, 2 * BLOCK);
	assert_int_equal(vmem_guard_grant(m->host.guard, 0, 3 * BLOCK), 0);
	blocks[0].memory = m->boot = host_map(BOOT, -1, 0);
	blocks[1].memory = m->host.memory;
	blocks[1].guard = m->host.guard;
	assert_int_equal(postcopy_send_new(move_pages, 2, &m->send, NULL), 0);
	for (size_t b = 0; b < 2; b++) {
		m->from[b] = malloc(move_pages[b] * PAGE);
		for (uint64_t page = 0; page < move_pages[b]; page++) {
			memset(m->from[b] + page * PAGE, (int)(page * 7 + b) & 0xff, PAGE);
			if (b == 0 || page < 3 * BLOCK / PAGE)
				memset(target_at(m, b, page),
				       is_left(b, page) ? 9 : m->from[b][page * PAGE], PAGE);
			if (is_left(b, page))
				add(m->send, b, page, 1);
		}
	}
	assert_int_equal(lazy_new(blocks, 2, &source, &hooks, &m->lazy, NULL), 0);
	assert_int_equal(lazy_expect(m->lazy, 0, 0, BOOT, NULL), 0);
	assert_int_equal(lazy_expect(m->lazy, 1, 0, 3 * BLOCK, NULL), 0);
	assert_int_equal(postcopy_send_list(m->send, list_to_lazy, m, NULL), 0);
	move_connect(m);
	assert_int_equal(lazy_start(m->lazy, NULL, NULL), 0);
}

static void move_end(struct move *m)
{
	for (size_t b = 0; b < 2; b++)
		for (uint64_t page = 0; page < (b ? 3 * BLOCK : BOOT) / PAGE; page++)
			assert_memory_equal(target_at(m, b, page), m->from[b] + page * PAGE, PAGE);
	lazy_free(m->lazy);
	postcopy_send_free(m->send);
	host_end(&m->host);
	munmap(m->boot, BOOT);
	free(m->from[0]);
	free(m->from[1]);
	sem_destroy(&m->done);
	pthread_mutex_destroy(&m->target_lock);
}

struct guest {
	struct move *m;
	pthread_t thread;
	unsigned int seed, wrong;
};

static void *guest_run(void *opaque)
{
	struct guest *guest = opaque;
	struct move *m = guest->m;

	for (unsigned int i = 0; i < 1000; i++) {
		size_t block = (size_t)rand_r(&guest->seed) % 2;
		uint64_t page = (uint64_t)rand_r(&guest->seed) % (3 * BLOCK / PAGE);
		uint64_t byte = page * PAGE + (uint64_t)rand_r(&guest->seed) % PAGE;
		volatile char *at = target_at(m, block, 0) + byte;

		guest->wrong += *at != m->from[block][byte];
		*at = m->from[block][byte];
	}
	return NULL;
}

static void guests_start(struct guest *guests, struct move *m)
{
	for (unsigned int i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){.m = m, .seed = i};
		pthread_create(&guests[i].thread, NULL, guest_run, &guests[i]);
	}
}

static void guests_end(struct guest *guests)
{
	for (unsigned int i = 0; i < GUESTS; i++) {
		pthread_join(guests[i].thread, NULL);
		assert_int_equal(guests[i].wrong, 0);
	}
}

static uint64_t nr_left(void)
{
	uint64_t nr = 0;

	for (size_t b = 0; b < 2; b++)
		for (uint64_t page = 0; page < move_pages[b]; page++)
			nr += is_left(b, page);
	return nr;
}

static void test_move(void **state)
{
	struct guest guests[GUESTS];
	struct move m;

	(void)state;
	move_start(&m);
	guests_start(guests, &m);
	move_go(&m);
	guests_end(guests);
	sem_wait(&m.done);
	move_join(&m);
	/* Each page once. */
	assert_int_equal(m.sent, nr_left());
	move_end(&m);
}

static int have_to_source(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct move *m = opaque;

	(void)err;
	return message_send(m->target, HAVE, bytes, size) ? 0 : -EPIPE;
}

static void test_broken(void **state)
{
	struct guest guests[GUESTS];
	struct lazy_stats stats;
	unsigned int breaks = 0;
	struct move m;

	(void)state;
	move_start(&m);
	m.break_after = 200;
	guests_start(guests, &m);
	move_go(&m);
	for (;;) {
		pthread_join(m.sending, NULL);
		lazy_set_stalled(m.lazy, true);
		shutdown(m.source, SHUT_RDWR);
		pthread_join(m.receiving, NULL);
		pthread_join(m.replies, NULL);
		if (!postcopy_send_left(m.send) && !lazy_is_active(m.lazy))
			break;
		lazy_stats(m.lazy, &stats);
		if (!stats.missing_bytes)
			break;
		breaks++;
		/* A new connection: the target tells what it has, the source goes on from there. */
		pthread_mutex_lock(&m.target_lock);
		close(m.target);
		close(m.source);
		move_connect(&m);
		pthread_create(&m.replies, NULL, move_replies, &m);
		postcopy_send_recover(m.send);
		assert_int_equal(
			postcopy_receive_have(m.lazy, move_pages, 2, have_to_source, &m, NULL), 0);
		assert_true(message_send(m.target, RECOVERED, "", 0));
		pthread_mutex_unlock(&m.target_lock);
		pthread_join(m.replies, NULL);
		assert_int_equal(postcopy_send_recovered(m.send, NULL), 0);
		assert_int_equal(postcopy_send_left(m.send), stats.missing_bytes / PAGE);
		lazy_set_stalled(m.lazy, false);
		m.break_after = m.sent + 400;
		move_go(&m);
		lazy_want_again(m.lazy);
	}
	assert_true(breaks > 2);
	guests_end(guests);
	sem_wait(&m.done);
	close(m.target);
	close(m.source);
	move_end(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),         cmocka_unit_test(test_many_wanted),
		cmocka_unit_test(test_hostile_wants), cmocka_unit_test(test_sets),
		cmocka_unit_test(test_hostile_sets),  cmocka_unit_test(test_have),
		cmocka_unit_test(test_move),          cmocka_unit_test(test_broken),
	};
	struct missing *missing;
	struct vmem_error error;

	if (missing_new(&missing, &error)) {
		print_message("%s\n", error.text);
		return 77;
	}
	missing_free(missing);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

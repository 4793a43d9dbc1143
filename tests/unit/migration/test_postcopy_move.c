/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small machine that runs on while its memory comes over a connection, which breaks
 * (vmm/migration/postcopy.h, lazy.h).
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
#include "base/num.h"
#include "guard/missing.h"
#include "tests/unit/guard/guard_rig.h"
#include "vmm/migration/lazy.h"
#include "vmm/migration/postcopy.h"

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

static void move_leave(struct move *m, size_t block, uint64_t page)
{
	uint64_t word = UINT64_C(1) << page % 64;

	postcopy_send_add(m->send, block, page - page % 64, &word, 1);
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
				move_leave(m, b, page);
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
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_broken),
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

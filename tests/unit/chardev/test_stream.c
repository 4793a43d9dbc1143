/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection whose guest always has more to say, and whose other end takes it all. */
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/chardev/chardev_test.h"
#include "vmm/chardev/stream.h"

/* More pieces than any stream may write before others have their turn. */
#define PIECES_TOO_MANY 1000
#define OTHER_TURNS     5

struct flood {
	int peer;
	unsigned int pieces; /* since the loop's other work had its turn */
	unsigned int turns;  /* that it had */
	unsigned int rounds; /* turns in which there were pieces */
	bool starved;
};

static size_t flood_room(void *opaque)
{
	(void)opaque;
	return 0;
}

/* The other end has read everything whenever the next piece is asked for. */
static size_t flood_output(void *opaque, uint8_t *buf, size_t size)
{
	struct flood *f = opaque;
	char taken[4096];

	while (recv(f->peer, taken, sizeof(taken), MSG_DONTWAIT) > 0)
		;
	f->starved |= f->pieces == PIECES_TOO_MANY;
	if (f->starved || f->turns == OTHER_TURNS)
		return 0;
	f->pieces++;
	memset(buf, 'x', size);
	return 1;
}

static void flood_closed(void *opaque)
{
	(void)opaque;
}

static const struct chr_stream_ops flood_ops = {
	.room = flood_room,
	.output = flood_output,
	.closed = flood_closed,
};

static void flood_other(uv_idle_t *idle)
{
	struct flood *f = idle->data;

	f->rounds += f->pieces > 0;
	f->pieces = 0;
	f->turns += f->turns < OTHER_TURNS;
}

static void output_without_end_leaves_others_their_turn(void **state)
{
	struct flood f = {0};
	struct chr_stream_config config = {.ops = &flood_ops, .opaque = &f};
	struct loop *loop = loop_new_main(NULL);
	struct chr_stream *stream;
	uv_idle_t other = {.data = &f};
	int fds[2];

	(void)state;
	assert_non_null(loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	config.in_fd = config.out_fd = fds[0];
	f.peer = fds[1];
	stream = chr_stream_new(loop, &config, NULL);
	assert_non_null(stream);
	uv_idle_init(loop_uv(loop), &other);
	uv_idle_start(&other, flood_other);
	chr_stream_kick(stream);
	assert_in_range(f.pieces, 1, PIECES_TOO_MANY - 1);
	/* It goes on by itself, beside the other. */
	PUMP(loop, f.turns == OTHER_TURNS);
	assert_false(f.starved);
	assert_true(f.rounds > 1);
	PUMP(loop, chr_stream_idle(stream));
	uv_close((uv_handle_t *)&other, NULL);
	chr_stream_free(stream);
	close(f.peer);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_without_end_leaves_others_their_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

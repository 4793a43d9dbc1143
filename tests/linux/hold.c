/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hold memory that a kernel cannot move: pipes that nobody reads.
 *
 *     hold MIB
 *
 * Says "held MIB" when all of it is there, and keeps it until it is killed. The memory is that of
 * the node whose processor this runs on, as long as the node has some for the kernel's own use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)

static int fail(const char *what)
{
	fprintf(stderr, "hold: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	static char content[PIPE_BYTES];
	int mib = argc == 2 ? atoi(argv[1]) : 0;

	if (mib <= 0) {
		fprintf(stderr, "usage: hold MIB\n");
		return 2;
	}
	memset(content, 0x55, sizeof(content));
	for (int i = 0; i < mib; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
			return fail("pipe");
		if (fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
			return fail("F_SETPIPE_SZ");
		if (write(ends[1], content, sizeof(content)) != (ssize_t)sizeof(content))
			return fail("a pipe does not take its size");
	}
	printf("held %d\n", mib);
	fflush(stdout);
	for (;;)
		pause();
}

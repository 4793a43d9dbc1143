/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses as people write them, their descriptors, and what is told of sockets. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "channels.h"
#include "vmm/vm/fds.h"

struct good {
	const char *uri;
	enum address_type type;
	const char *host, *port, *what;
	uint64_t offset;
	bool ipv4, ipv6;
};

static void test_good(void **state)
{
	static const struct good good[] = {
		{"tcp:127.0.0.1:4444", ADDRESS_TCP, "127.0.0.1", "4444"},
		{"tcp::4444", ADDRESS_TCP, "", "4444"},
		{"tcp::0", ADDRESS_TCP, "", "0"},
		{"tcp:[::]:4444", ADDRESS_TCP, "::", "4444"},
		{"tcp:[fe80::1%eth0]:1", ADDRESS_TCP, "fe80::1%eth0", "1"},
		{"tcp:host.example:http", ADDRESS_TCP, "host.example", "http"},
		{"tcp:h:1,ipv4", ADDRESS_TCP, "h", "1", .ipv4 = true},
		{"tcp:h:1,ipv6=on,ipv4=off", ADDRESS_TCP, "h", "1", .ipv6 = true},
		{"tcp:[::1]:1,ipv6,ipv4", ADDRESS_TCP, "::1", "1", .ipv4 = true, .ipv6 = true},
		{"unix:/run/x,y:z", ADDRESS_UNIX, .what = "/run/x,y:z"},
		{"fd:7", ADDRESS_FD, .what = "7"},
		{"fd:name", ADDRESS_FD, .what = "name"},
		{"exec:cat > x", ADDRESS_EXEC, .what = "cat > x"},
		{"exec: cat x", ADDRESS_EXEC, .what = "cat x"},
		{"file:/srv/vm,img", ADDRESS_FILE, .what = "/srv/vm,img"},
		{"file:x,offset=4096", ADDRESS_FILE, .what = "x", .offset = 4096},
		{"file:x,offset=1,offset=2", ADDRESS_FILE, .what = "x,offset=1", .offset = 2},
		{"defer", ADDRESS_DEFER},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		const struct good *g = &good[i];
		struct address *a = rig_address("%s", g->uri);

		assert_string_equal(a->text, g->uri);
		assert_int_equal(a->type, g->type);
		assert_int_equal(!a->host, !g->host);
		assert_int_equal(!a->port, !g->port);
		assert_int_equal(!a->what, !g->what);
		if (g->host)
			assert_string_equal(a->host, g->host);
		if (g->port)
			assert_string_equal(a->port, g->port);
		if (g->what)
			assert_string_equal(a->what, g->what);
		assert_int_equal(a->offset, g->offset);
		assert_int_equal(a->ipv4, g->ipv4);
		assert_int_equal(a->ipv6, g->ipv6);
		assert_int_equal(a->fd, -1);
		assert_int_equal(address_takes_many(a),
				 g->type == ADDRESS_TCP || g->type == ADDRESS_UNIX);
		assert_int_equal(address_is_socket(a), address_takes_many(a));
		address_free(a);
	}
	address_free(NULL);
}

static void test_bad(void **state)
{
	static const char *const bad[][2] = {
		{"", "'' is no place to migrate to or from; allowed: tcp:HOST:PORT, unix:PATH, "
		     "fd:NAME, exec:COMMAND, file:PATH[,offset=BYTES]"},
		{"rdma:x:1",
		 "'rdma:x:1' is no place to migrate to or from; allowed: tcp:HOST:PORT, unix:PATH, "
		 "fd:NAME, exec:COMMAND, file:PATH[,offset=BYTES]"},
		{"tcp:", "tcp:: there is no port in it; allowed: tcp:HOST:PORT, where a HOST with "
			 "colons stands in brackets"},
		{"tcp:host",
		 "tcp:host: there is no port in it; allowed: tcp:HOST:PORT, where a HOST "
		 "with colons stands in brackets"},
		{"tcp:::1:4444", "tcp:::1:4444: there is no port in it; allowed: tcp:HOST:PORT, "
				 "where a HOST with colons stands in brackets"},
		{"tcp:[::1",
		 "tcp:[::1: there is no port in it; allowed: tcp:HOST:PORT, where a HOST "
		 "with colons stands in brackets"},
		{"tcp:[",
		 "tcp:[: there is no port in it; allowed: tcp:HOST:PORT, where a HOST with "
		 "colons stands in brackets"},
		{"tcp:h:", "tcp:h:: port '' is not possible; allowed: 0 to 65535, or the name of a "
			   "service"},
		{"tcp:h:65536",
		 "tcp:h:65536: port '65536' is not possible; allowed: 0 to 65535, or "
		 "the name of a service"},
		{"tcp:h:1,to=9", "tcp:h:1,to=9: 'to=9' is no option of it; allowed: ipv4, ipv6"},
		{"tcp:h:1,", "tcp:h:1,: '' is no option of it; allowed: ipv4, ipv6"},
		{"tcp:h:1,ipv4=off", "tcp:h:1,ipv4=off: ipv4=off and ipv6=off leave nothing; "
				     "allowed: ipv4 and ipv6, to have only these"},
		{"unix:", "unix:: a socket's path cannot be empty; allowed: 1 to 107 bytes"},
		{"fd:", "fd:: there is no descriptor in it; allowed: fd:NAME, fd:NUMBER"},
		{"exec:", "exec:: there is no command in it; allowed: exec:COMMAND"},
		{"exec:  ", "exec:  : there is no command in it; allowed: exec:COMMAND"},
		{"file:", "file:: there is no path in it; allowed: file:PATH[,offset=BYTES]"},
		{"file:,offset=1",
		 "file:,offset=1: there is no path in it; allowed: file:PATH[,offset=BYTES]"},
		{"file:x,offset=", "file:x,offset=: offset= is not possible; allowed: a number of "
				   "bytes, 0 to 9223372036854775807"},
		{"file:x,offset=-1",
		 "file:x,offset=-1: offset=-1 is not possible; allowed: a number "
		 "of bytes, 0 to 9223372036854775807"},
		{"file:x,offset=9223372036854775808",
		 "file:x,offset=9223372036854775808: offset=9223372036854775808 is not possible; "
		 "allowed: a number of bytes, 0 to 9223372036854775807"},
	};
	char longest[120] = "unix:";
	struct err *err = NULL;
	struct address *a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(address_parse(bad[i][0], &a, &err), -EINVAL);
		rig_check_err(&err, EINVAL, bad[i][1]);
	}
	memset(longest + 5, 'x', 108);
	assert_int_equal(address_parse(longest, &a, &err), -EINVAL);
	rig_check_err_around(&err, EINVAL, "unix:xxx",
			     "cannot be that long; allowed: 1 to 107 bytes");
	longest[112] = 0;
	assert_int_equal(address_parse(longest, &a, &err), 0);
	address_free(a);
}

/* A name's descriptor is taken out of the names; a number is one that would survive an exec. */
static void test_claim(void **state)
{
	struct fds *fds = fds_new();
	struct address *a = rig_address("fd:name");
	struct err *err = NULL;
	char text[16];
	int ends[2];

	(void)state;
	assert_int_equal(address_claim(a, NULL, &err), -ENOENT);
	rig_check_err(&err, ENOENT, "fd:name: there is no descriptor of that name");
	assert_int_equal(address_claim(a, fds, &err), -ENOENT);
	rig_check_err(&err, ENOENT, "fd:name: there is no descriptor of the name name");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(fds_name(fds, "getfd", "name", ends[0], &err), 0);
	assert_int_equal(address_claim(a, fds, &err), 0);
	assert_int_equal(a->fd, ends[0]);
	assert_true(address_is_socket(a));
	address_free(a);
	/* both were closed */
	assert_int_equal(read(ends[1], text, 1), 0);

	a = rig_address("fd:%d", ends[1]);
	fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	assert_int_equal(address_claim(a, fds, &err), -EBADF);
	rig_check_err_around(&err, EBADF,
			     "fd:", ": no descriptor of this number was handed over at the start");
	fcntl(ends[1], F_SETFD, 0);
	assert_int_equal(address_claim(a, fds, &err), 0);
	assert_int_equal(a->fd, ends[1]);
	assert_int_equal(fcntl(ends[1], F_GETFD), FD_CLOEXEC);
	address_free(a);
	a = rig_address("fd:4294967296");
	assert_int_equal(address_claim(a, fds, &err), -EBADF);
	rig_check_err_around(&err, EBADF, "fd:4294967296: no descriptor", "at the start");
	address_free(a);
	fds_free(fds);
}

static void test_claim_standard(void **state)
{
	struct address *a = rig_address("fd:0");
	int ends[2], kept = fcntl(0, F_DUPFD_CLOEXEC, 3);
	struct err *err = NULL;
	char byte = 'x';

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(dup2(ends[0], 0), 0);
	close(ends[0]);
	assert_int_equal(address_claim(a, NULL, &err), 0);
	assert_true(a->fd > 2);
	assert_int_equal(write(ends[1], &byte, 1), 1);
	/* 0 is somebody's still, but no longer the pipe */
	assert_int_equal(read(0, &byte, 1), 0);
	assert_int_equal(read(a->fd, &byte, 1), 1);
	address_free(a);
	close(ends[1]);
	assert_int_equal(dup2(kept, 0), 0);
	close(kept);
}

static void test_claim_set(void **state)
{
	struct fds *fds = fds_new();
	struct address *a = rig_address("file:/dev/fdset/3,offset=5");
	struct err *err = NULL;
	int64_t set = 3;

	(void)state;
	assert_int_equal(address_claim(a, NULL, &err), -ENOENT);
	rig_check_err(&err, ENOENT, "file:/dev/fdset/3,offset=5: there are no sets of descriptors");
	assert_int_equal(address_claim(a, fds, &err), -ENOENT);
	err_free(err);
	err = NULL;
	assert_int_equal(
		fds_set_add(fds, "add-fd", &set, open("/dev/null", O_RDWR), NULL, &set, &err), 0);
	assert_int_equal(address_claim(a, fds, &err), 0);
	assert_true(a->fd >= 0);
	address_free(a);
	a = rig_address("file:/dev/fdset/x");
	assert_int_equal(address_claim(a, fds, &err), -EINVAL);
	rig_check_err(&err, EINVAL, "file:/dev/fdset/x: allowed: file:/dev/fdset/NUMBER");
	address_free(a);
	fds_free(fds);
	/* others have none */
	a = rig_address("tcp:h:1");
	assert_int_equal(address_claim(a, NULL, &err), 0);
	assert_int_equal(a->fd, -1);
	address_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test_setup_teardown(test_claim, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_claim_standard, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_claim_set, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

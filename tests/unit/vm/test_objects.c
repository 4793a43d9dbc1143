/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects and character devices that come and go, on a machine that is no more than its configuration
 * and a loop: what is made is there, what fails leaves nothing behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/chardev/chardev.h"
#include "vmm/cmdline/cmdline.h"
#include "vmm/core/loop.h"
#include "vmm/vm/fds.h"
#include "vmm/vm/vm_internal.h"
#include "vmm/vm/vm_objects.h"

#define FDS_TRIED 1024

struct world {
	struct vm vm;
	struct loop *loop;
	char dir[32];
	unsigned int open_fds;
};

static unsigned int open_count(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < FDS_TRIED; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static int setup(void **state)
{
	char *argv[] = {"ebb",      "-kernel",
			"K",        "-nodefaults",
			"-m",       "1G,maxmem=4G",
			"-object",  "memory-backend-ram,id=m0,size=1G",
			"-device",  "virtio-mem-pci,id=v0,memdev=m0",
			"-chardev", "null,id=n",
			"-serial",  "chardev:n"};
	struct world *w = calloc(1, sizeof(*w));
	struct err *err = NULL;

	assert_non_null(w);
	*state = w;
	w->open_fds = open_count();
	strcpy(w->dir, "/tmp/ebb-objects-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(chdir(w->dir), 0);
	close(open("K", O_CREAT | O_WRONLY, 0600));
	if (cmdline_parse(ARRAY_SIZE(argv), argv, &w->vm.config, &err))
		fail_msg("%s", err_message(err));
	w->vm.main = w->loop = loop_new_main(NULL);
	assert_non_null(w->loop);
	return vm_build_chardevs(&w->vm, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;
	char command[64];
	bool closed;

	vm_free_chardevs(&w->vm);
	vm_free_memory(&w->vm);
	vm_config_free(w->vm.config);
	loop_free(w->loop);
	closed = open_count() == w->open_fds;
	snprintf(command, sizeof(command), "rm -r %s", w->dir);
	if (chdir("/") || system(command))
		closed = false;
	free(w);
	return closed ? 0 : -1;
}

static void check_error(int ret, struct err **err, int code, const char *sentence)
{
	assert_string_equal(err_message(*err), sentence);
	assert_int_equal(err_code(*err), code);
	assert_int_equal(ret, -code);
	err_free(*err);
	*err = NULL;
}

/* ---- objects ---- */

static int object_add(struct world *w, const char *text, struct err **err)
{
	json_t *values = json_loads(text, 0, NULL);
	int ret;

	assert_non_null(values);
	ret = vm_object_add(&w->vm, values, err);
	json_decref(values);
	return ret;
}

static size_t resident_pages(const struct memdev *m)
{
	static unsigned char pages[4096];
	size_t count = 0;

	assert_int_equal(m->size / 4096, sizeof(pages));
	assert_int_equal(mincore(m->memory, m->size, pages), 0);
	for (size_t i = 0; i < sizeof(pages); i++)
		count += pages[i] & 1;
	return count;
}

static void test_memory(void **state)
{
	struct world *w = *state;
	struct memdev *m;

	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(object_add(w,
					    "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"m1\","
					    "\"size\":16777216,\"prealloc\":true}",
					    NULL),
				 0);
		assert_int_equal(w->vm.config->nr_memdevs, 2);
		m = vm_memdev(&w->vm, w->vm.config->memdevs[1]);
		assert_non_null(m);
		assert_int_equal(m->size, 16 * MIB);
		assert_true(m->fd >= 0);
		/* It is for a device, which will take page by page. */
		assert_int_equal(resident_pages(m), 0);
		*(char *)m->memory = 1;
		assert_int_equal(vm_object_del(&w->vm, "m1", NULL), 0);
		assert_int_equal(w->vm.config->nr_memdevs, 1);
		assert_int_equal(w->vm.nr_memdevs, 0);
	}
}

static void test_other_objects(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	int ret;

	assert_int_equal(object_add(w, "{\"qom-type\":\"iothread\",\"id\":\"io\"}", NULL), 0);
	assert_int_equal(object_add(w, "{\"qom-type\":\"rng-builtin\",\"id\":\"rng\"}", NULL), 0);
	ret = object_add(w, "{\"qom-type\":\"secret\",\"id\":\"io\",\"data\":\"x\"}", &err);
	check_error(ret, &err, EEXIST, "object-add: id=io is in use already");
	assert_int_equal(vm_object_del(&w->vm, "io", NULL), 0);
	ret = vm_object_del(&w->vm, "io", &err);
	check_error(ret, &err, ENOENT, "object-del: there is no object io");
	ret = vm_object_del(&w->vm, "m0", &err);
	check_error(ret, &err, EBUSY, "object-del: object m0 is in use by device v0");
	assert_int_equal(vm_object_del(&w->vm, "rng", NULL), 0);
}

/* The tables find nothing wrong, the host does: the configuration is as before. */
static void test_memory_fails(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	int ret, fd = open("used", O_CREAT | O_WRONLY, 0600);

	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	ret = object_add(w,
			 "{\"qom-type\":\"memory-backend-file\",\"id\":\"m1\",\"size\":2097152,"
			 "\"mem-path\":\"used\"}",
			 &err);
	check_error(ret, &err, EEXIST,
		    "object-add memory-backend-file,id=m1: mem-path=used has content, which a "
		    "memory device cannot start with; allowed: share=on, which drops it, or a file "
		    "without");
	ret = object_add(w,
			 "{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\","
			 "\"size\":9223372036854771712}",
			 &err);
	check_error(ret, &err, ENOMEM,
		    "object-add memory-backend-ram,id=m1: the host cannot map its "
		    "9223372036854771712 bytes: Cannot allocate memory");
	assert_int_equal(w->vm.config->nr_memdevs, 1);
	assert_int_equal(w->vm.nr_memdevs, 0);
}

/* ---- character devices ---- */

static int chardev_add(struct world *w, const char *text, const char **ret_pty, struct err **err)
{
	json_t *backend = json_loads(text, 0, NULL);
	const char *pty = NULL;
	int ret;

	assert_non_null(backend);
	ret = vm_chardev_add(&w->vm, "c", backend, ret_pty ? ret_pty : &pty, err);
	json_decref(backend);
	if (!ret && !ret_pty)
		assert_null(pty);
	return ret;
}

static void check_filename(struct world *w, const char *expected)
{
	const struct vm_config *c = w->vm.config;
	char *name = chardev_filename(vm_chardev(&w->vm, c->chardevs[c->nr_chardevs - 1]));

	assert_string_equal(name, expected);
	free(name);
}

static void test_chardevs(void **state)
{
	struct world *w = *state;
	struct stat st;
	const char *pty = NULL;

	assert_int_equal(chardev_add(w, "{\"type\":\"null\",\"data\":{}}", NULL, NULL), 0);
	check_filename(w, "null");
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
	assert_int_equal(chardev_add(w, "{\"type\":\"file\",\"data\":{\"out\":\"f\"}}", NULL, NULL),
			 0);
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
	assert_int_equal(chardev_add(w, "{\"type\":\"pty\",\"data\":{}}", &pty, NULL), 0);
	assert_int_equal(strncmp(pty, "/dev/pts/", 9), 0);
	assert_int_equal(stat(pty, &st), 0);
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
	assert_int_equal(chardev_add(w,
				     "{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"unix\","
				     "\"data\":{\"path\":\"s\"}}}}",
				     NULL, NULL),
			 0);
	check_filename(w, "disconnected:unix:s,server=on");
	assert_int_equal(stat("s", &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(w->vm.config->nr_chardevs, 2);
	assert_int_equal(w->vm.nr_chardevs, 2);
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
	assert_int_equal(stat("s", &st), -1);
	assert_int_equal(w->vm.config->nr_chardevs, 1);
	assert_int_equal(w->vm.nr_chardevs, 1);
}

static void test_chardev_errors(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	int ret;

	/* What a system call says is no class of its own to a monitor. */
	assert_int_equal(mkfifo("fifo", 0600), 0);
	ret = chardev_add(w, "{\"type\":\"file\",\"data\":{\"out\":\"fifo\"}}", NULL, &err);
	check_error(ret, &err, EIO,
		    "chardev 'c': cannot open 'fifo' for writing: No such device or address");
	ret = chardev_add(w,
			  "{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"unix\",\"data\":{"
			  "\"path\":\"nobody\"}},\"server\":false}}",
			  NULL, &err);
	check_error(ret, &err, ENOENT,
		    "chardev 'c': cannot connect to 'nobody': No such file or directory");
	ret = chardev_add(w,
			  "{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"inet\",\"data\":{"
			  "\"host\":\"example.org\",\"port\":\"1\"}}}}",
			  NULL, &err);
	check_error(ret, &err, EINVAL,
		    "chardev 'c': host 'example.org' port '1': names are not looked up while the "
		    "machine runs; allowed: numbers, and localhost");
	ret = vm_chardev_remove(&w->vm, "c", &err);
	check_error(ret, &err, ENOENT, "chardev-remove: there is no character device c");
	ret = vm_chardev_remove(&w->vm, "n", &err);
	check_error(ret, &err, EBUSY, "chardev-remove: character device n is in use");
	assert_int_equal(w->vm.config->nr_chardevs, 1);
	assert_int_equal(w->vm.nr_chardevs, 1);
}

/* Listening on a free port, and a connection there from another. */
static void test_inet(void **state)
{
	struct world *w = *state;
	char text[256], *name, *port;

	assert_int_equal(chardev_add(w,
				     "{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"inet\","
				     "\"data\":{\"host\":\"localhost\",\"port\":\"0\","
				     "\"ipv4\":true}}}}",
				     NULL, NULL),
			 0);
	name = chardev_filename(vm_chardev(&w->vm, w->vm.config->chardevs[1]));
	assert_int_equal(strncmp(name, "disconnected:tcp:127.0.0.1:", 27), 0);
	port = strtok(name + 27, ",");
	snprintf(text, sizeof(text),
		 "{\"backend\":\"socket\",\"id\":\"d\",\"host\":\"127.0.0.1\",\"port\":\"%s\"}",
		 port);
	free(name);
	{
		json_t *keys = json_loads(text, 0, NULL);
		const char *pty = NULL;

		assert_int_equal(vm_chardev_add_keys(&w->vm, keys, &pty, NULL), 0);
		assert_null(pty);
		json_decref(keys);
	}
	assert_int_equal(vm_chardev_remove(&w->vm, "d", NULL), 0);
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
}

/* ---- descriptors ---- */

static void test_fdset(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	int pipes[2], ret;
	int64_t set = 5;

	assert_int_equal(pipe(pipes), 0);
	ret = chardev_add(w, "{\"type\":\"file\",\"data\":{\"out\":\"/dev/fdset/5\"}}", NULL, &err);
	check_error(ret, &err, ENOENT,
		    "chardev 'c': there is no descriptor that can be written to in set 5");
	assert_int_equal(fds_set_add(vm_fds(&w->vm), "add-fd", &set, pipes[1], NULL, &set, NULL),
			 0);
	assert_int_equal(chardev_add(w, "{\"type\":\"file\",\"data\":{\"out\":\"/dev/fdset/5\"}}",
				     NULL, NULL),
			 0);
	assert_int_equal(fds_set_remove(vm_fds(&w->vm), "remove-fd", 5, NULL, NULL), 0);
	/* The character device has its own: the pipe has a writer until it goes. */
	assert_int_equal(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(pipes[0], &set, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
	uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
	assert_int_equal(read(pipes[0], &set, 1), 0);
	close(pipes[0]);
}

#define FD_BACKEND(more)                                                                       \
	"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"name\"}" \
	"}" more "}}"

static void test_named(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	int pair[2], ret, fd;

	ret = chardev_add(w, FD_BACKEND(""), NULL, &err);
	check_error(ret, &err, ENOENT, "chardev 'c': there is no descriptor of the name name");
	/* What cannot be used is kept under its name. */
	assert_int_equal(fds_name(vm_fds(&w->vm), "getfd", "name", open("/dev/null", O_RDWR), NULL),
			 0);
	ret = chardev_add(w, FD_BACKEND(""), NULL, &err);
	assert_int_equal(ret, -EINVAL);
	assert_non_null(strstr(err_message(err), "is not a stream socket"));
	err_free(err);
	err = NULL;
	assert_int_equal(fds_take(vm_fds(&w->vm), "closefd", "name", &fd, NULL), 0);
	close(fd);
	/* What is used is not. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(fds_name(vm_fds(&w->vm), "getfd", "name", pair[0], NULL), 0);
	assert_int_equal(chardev_add(w, FD_BACKEND(",\"server\":false"), NULL, NULL), 0);
	ret = fds_take(vm_fds(&w->vm), "closefd", "name", &fd, &err);
	check_error(ret, &err, ENOENT, "closefd: there is no descriptor of the name name");
	close(pair[1]);
	assert_int_equal(vm_chardev_remove(&w->vm, "c", NULL), 0);
}

/* The first loop of a process leaves descriptors behind that the next ones share. */
static int setup_group(void **state)
{
	(void)state;
	loop_free(loop_new_main(NULL));
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_memory),   TEST(test_other_objects),  TEST(test_memory_fails),
		TEST(test_chardevs), TEST(test_chardev_errors), TEST(test_inet),
		TEST(test_fdset),    TEST(test_named),
	};

	return cmocka_run_group_tests_name("objects", tests, setup_group, NULL);
}

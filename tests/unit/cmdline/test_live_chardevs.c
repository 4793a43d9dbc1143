/* SPDX-License-Identifier: BSD-3-Clause */
/* Character devices that come and go: right ones, wrong ones word for word, and what is left. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"
#include "vmm/cmdline/live.h"

#define LINE "-kernel K -nodefaults -chardev null,id=n -chardev null,id=used -serial chardev:used"

static int add(struct vm_config *config, const char *text, struct vm_chardev_config **ret_chardev,
	       struct err **err)
{
	json_t *backend = json_loads(text, 0, NULL);
	json_t *before = json_deep_copy(backend);
	int ret;

	assert_non_null(backend);
	ret = cmdline_chardev_add(config, "c", backend, ret_chardev, err);
	assert_true(json_equal(backend, before));
	json_decref(backend);
	json_decref(before);
	return ret;
}

static int add_keys(struct vm_config *config, const char *text,
		    struct vm_chardev_config **ret_chardev, struct err **err)
{
	json_t *keys = json_loads(text, 0, NULL);
	json_t *before = json_deep_copy(keys);
	int ret;

	assert_non_null(keys);
	ret = cmdline_chardev_add_keys(config, keys, ret_chardev, err);
	assert_true(json_equal(keys, before));
	json_decref(keys);
	json_decref(before);
	return ret;
}

static const char *shown(const char *text)
{
	return text ? text : "-";
}

/* "type path host port fd_name set flags" */
static const char *describe(const struct vm_chardev_config *c, char *buf, size_t size)
{
	static const char *const types[] = {"null", "stdio", "socket", "file", "pty"};

	snprintf(buf, size, "%s %s %s %s %s %d%s%s%s%s%s%s%s reconnect=%u", types[c->type],
		 shown(c->path), shown(c->host), shown(c->port), shown(c->fd_name),
		 c->has_fdset ? (int)c->fdset : -1, c->server ? " server" : "",
		 c->wait ? " wait" : "", c->nodelay ? " nodelay" : "", c->append ? " append" : "",
		 c->signal ? " signal" : "", c->ipv4 ? " ipv4" : "", c->ipv6 ? " ipv6" : "",
		 c->reconnect_s);
	return buf;
}

#define UNIX(more)                                                                             \
	"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"p\"}" \
	"}" more "}}"
#define INET(addr, more)                                                                         \
	"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"inet\",\"data\":{\"host\":\"::1\"," \
	"\"port\":\"1\"" addr "}}" more "}}"

static void test_backends(void **state)
{
	static const struct {
		const char *backend, *text;
	} rows[] = {
		{"{\"type\":\"null\",\"data\":{}}", "null - - - - -1 reconnect=0"},
		{"{\"type\":\"pty\",\"data\":{\"logappend\":false}}", "pty - - - - -1 reconnect=0"},
		{"{\"type\":\"stdio\",\"data\":{}}", "stdio - - - - -1 signal reconnect=0"},
		{"{\"type\":\"stdio\",\"data\":{\"signal\":false}}",
		 "stdio - - - - -1 reconnect=0"},
		{"{\"type\":\"file\",\"data\":{\"out\":\"f\"}}", "file f - - - -1 reconnect=0"},
		{"{\"type\":\"file\",\"data\":{\"out\":\"/dev/fdset/9\",\"append\":true}}",
		 "file /dev/fdset/9 - - - 9 append reconnect=0"},
		{UNIX(""), "socket p - - - -1 server reconnect=0"},
		{UNIX(",\"server\":false,\"reconnect\":5"), "socket p - - - -1 reconnect=5"},
		/* wait is nothing to a client */
		{UNIX(",\"server\":false,\"wait\":true"), "socket p - - - -1 reconnect=0"},
		{UNIX(",\"wait\":false,\"telnet\":false,\"tn3270\":false,\"websocket\":false"),
		 "socket p - - - -1 server reconnect=0"},
		{INET("", ""), "socket - ::1 1 - -1 server reconnect=0"},
		{INET(",\"ipv4\":true,\"numeric\":false,\"keep-alive\":false",
		      ",\"nodelay\":true,\"server\":false"),
		 "socket - ::1 1 - -1 nodelay ipv4 reconnect=0"},
		{"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"fd\",\"data\":{\"str\":"
		 "\"name\"}}}}",
		 "socket - - - name -1 server reconnect=0"},
	};
	struct vm_config *config = fixture_config(LINE);
	size_t before = config->nr_chardevs;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_chardev_config *chardev = NULL;
		struct err *err = NULL;
		char text[256];

		if (add(config, rows[i].backend, &chardev, &err))
			fail_msg("%s: %s", rows[i].backend, err_message(err));
		assert_string_equal(describe(chardev, text, sizeof(text)), rows[i].text);
		assert_true(chardev->live);
		assert_string_equal(chardev->id, "c");
		assert_int_equal(chardev->fd, -1);
		assert_int_equal(config->nr_chardevs, before + 1);
		assert_int_equal(cmdline_chardev_check_remove(config, "c", &chardev, NULL), 0);
		cmdline_chardev_remove(config, chardev);
		assert_int_equal(config->nr_chardevs, before);
	}
	vm_config_free(config);
}

/* As a person writes it. */
static void test_keys(void **state)
{
	struct vm_config *config = fixture_config(LINE);
	struct vm_chardev_config *chardev;
	char text[256];

	(void)state;
	assert_int_equal(add_keys(config,
				  "{\"backend\":\"socket\",\"id\":\"a\",\"path\":\"p\","
				  "\"server\":\"on\"}",
				  &chardev, NULL),
			 0);
	assert_string_equal(describe(chardev, text, sizeof(text)),
			    "socket p - - - -1 server reconnect=0");
	assert_int_equal(add_keys(config,
				  "{\"backend\":\"socket\",\"id\":\"b\",\"host\":\"::1\","
				  "\"port\":\"1\"}",
				  &chardev, NULL),
			 0);
	assert_string_equal(describe(chardev, text, sizeof(text)),
			    "socket - ::1 1 - -1 reconnect=0");
	vm_config_free(config);
}

static const struct error_row refusals[] = {
	{"{}", EINVAL, "chardev-add: needs a backend with its type and data"},
	{"{\"type\":\"null\"}", EINVAL, "chardev-add: needs a backend with its type and data"},
	{"{\"type\":\"null\",\"data\":[]}", EINVAL,
	 "chardev-add: needs a backend with its type and data"},
	{"{\"type\":\"udp\",\"data\":{}}", EINVAL,
	 "chardev-add: backend=udp is unknown; allowed: stdio, socket, file, pty, null"},
	{"{\"type\":\"null\",\"data\":{\"x\":1}}", ENOTSUP,
	 "chardev-add null,id=c: x is not possible here"},
	{"{\"type\":\"null\",\"data\":{\"logfile\":\"/dev/fdset/x\"}}", EINVAL,
	 "chardev-add null,id=c: logfile=/dev/fdset/x is no descriptor set; allowed: "
	 "/dev/fdset/NUMBER"},
	{"{\"type\":\"file\",\"data\":{}}", EINVAL,
	 "chardev-add file,id=c: needs path= (file to write to)"},
	{"{\"type\":\"file\",\"data\":{\"out\":\"a\",\"in\":\"b\"}}", ENOTSUP,
	 "chardev-add file,id=c: in is not possible here"},
	{"{\"type\":\"file\",\"data\":{\"out\":\"/dev/fdset/x\"}}", EINVAL,
	 "chardev-add file,id=c: path=/dev/fdset/x is no descriptor set; allowed: "
	 "/dev/fdset/NUMBER"},
	{"{\"type\":\"socket\",\"data\":{}}", EINVAL,
	 "chardev-add socket,id=c: needs addr with its type and data"},
	{"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"vsock\",\"data\":{}}}}", EINVAL,
	 "chardev-add socket,id=c: addr's type=vsock is unknown; allowed: unix, inet, fd"},
	{"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"unix\",\"data\":{}}}}", EINVAL,
	 "chardev-add socket,id=c: needs one of path= (Unix), port= (TCP) and fd= (inherited)"},
	{"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"7\"}}}}",
	 EINVAL,
	 "chardev-add socket,id=c: an address of type fd needs str, the name of a descriptor that "
	 "getfd got"},
	{"{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"n\"}},"
	 "\"telnet\":true}}",
	 ENOTSUP, "chardev-add socket,id=c: telnet is not possible here"},
	{UNIX(",\"wait\":true"), ENOTSUP,
	 "chardev-add socket,id=c: wait=on is not possible: the machine runs, and would stand "
	 "still "
	 "meanwhile"},
	{UNIX(",\"tls-creds\":\"x\""), ENOTSUP,
	 "chardev-add socket,id=c: tls-creds is not possible here"},
	{UNIX(",\"reconnect\":1"), EINVAL,
	 "chardev-add socket,id=c: reconnect= and server=on exclude each other"},
	{INET(",\"to\":7", ""), ENOTSUP, "chardev-add socket,id=c: to is not possible here"},
	{INET(",\"numeric\":true", ""), ENOTSUP,
	 "chardev-add socket,id=c: numeric is not possible here"},
};

static void test_refusals(void **state)
{
	struct vm_config *config = fixture_config(LINE);
	size_t before = config->nr_chardevs;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct vm_chardev_config *chardev = NULL;
		struct err *err = NULL;
		int ret = add(config, refusals[i].line, &chardev, &err);

		assert_string_equal(err_message(err), refusals[i].sentence);
		assert_int_equal(err_code(err), refusals[i].code);
		assert_int_equal(ret, -refusals[i].code);
		assert_null(chardev);
		assert_int_equal(config->nr_chardevs, before);
		err_free(err);
	}
	vm_config_free(config);
}

static void check_error(int ret, struct err **err, int code, const char *sentence)
{
	assert_string_equal(err_message(*err), sentence);
	assert_int_equal(ret, -code);
	err_free(*err);
	*err = NULL;
}

static void test_among_others(void **state)
{
	struct vm_config *config = fixture_config(LINE " -chardev stdio,id=tty");
	struct vm_chardev_config *chardev = NULL;
	struct err *err = NULL;
	int ret;

	(void)state;
	ret = add_keys(config, "{\"backend\":\"null\",\"id\":\"n\"}", &chardev, &err);
	check_error(ret, &err, EEXIST, "chardev-add: id=n is in use already");
	ret = add_keys(config, "{\"id\":\"m\"}", &chardev, &err);
	check_error(ret, &err, EINVAL,
		    "chardev-add: backend= is unknown; allowed: stdio, socket, file, pty, null");
	ret = add_keys(config, "{\"backend\":\"null\"}", &chardev, &err);
	check_error(ret, &err, EINVAL,
		    "chardev-add null: needs id= (the name that others refer to)");
	ret = add_keys(config, "{\"backend\":\"stdio\",\"id\":\"m\"}", &chardev, &err);
	check_error(ret, &err, EBUSY,
		    "chardev-add stdio: tty and m cannot both have standard input and output");
	ret = add_keys(config,
		       "{\"backend\":\"socket\",\"id\":\"m\",\"path\":\"p\",\"server\":\"on\","
		       "\"wait\":\"on\"}",
		       &chardev, &err);
	check_error(ret, &err, ENOTSUP,
		    "chardev-add socket,id=m: wait=on is not possible: the machine runs, and would "
		    "stand still meanwhile");
	ret = cmdline_chardev_check_remove(config, "m", &chardev, &err);
	check_error(ret, &err, ENOENT, "chardev-remove: there is no character device m");
	ret = cmdline_chardev_check_remove(config, "used", &chardev, &err);
	check_error(ret, &err, EBUSY, "chardev-remove: character device used is in use");
	assert_null(chardev);
	vm_config_free(config);
	config = fixture_config(LINE " -daemonize");
	ret = add_keys(config, "{\"backend\":\"stdio\",\"id\":\"m\"}", &chardev, &err);
	check_error(ret, &err, EINVAL,
		    "-daemonize: m has standard input and output, which a daemon has not");
	assert_null(chardev);
	vm_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backends),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_among_others),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

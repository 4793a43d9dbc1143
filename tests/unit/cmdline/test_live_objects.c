/* SPDX-License-Identifier: BSD-3-Clause */
/* Objects that come and go: right ones, wrong ones word for word, and what is left of each. */
#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"
#include "vmm/cmdline/live.h"

static int add(struct vm_config *config, const char *text, struct vm_memdev_config **ret_memdev,
	       struct err **err)
{
	json_t *values = json_loads(text, 0, NULL);
	json_t *before = json_deep_copy(values);
	int ret;

	assert_non_null(values);
	ret = cmdline_object_add(config, values, ret_memdev, err);
	assert_true(json_equal(values, before));
	json_decref(values);
	json_decref(before);
	return ret;
}

static size_t count(const struct vm_config *config)
{
	return config->nr_memdevs + config->nr_rngs + config->nr_iothreads + config->nr_secrets;
}

static void test_memory(void **state)
{
	struct vm_config *config = fixture_config(
		"-kernel K -nodefaults -m 1G -smp 3 -mem-prealloc -machine mem-merge=off,"
		"dump-guest-core=off -object memory-backend-ram,id=m0,size=1G");
	const struct vm_memdev_config *m0 = config->memdevs[0];
	struct vm_memdev_config *m1;

	(void)state;
	/* Its defaults are those of the command line. */
	assert_int_equal(add(config,
			     "{\"qom-type\":\"memory-backend-ram\",\"id\":\"m1\","
			     "\"size\":4294967296,\"host-nodes\":[0],\"policy\":\"bind\"}",
			     &m1, NULL),
			 0);
	assert_ptr_equal(config->memdevs[0], m0);
	assert_int_equal(m1->size_bytes, 4 * GIB);
	assert_int_equal(m1->user, VM_MEMDEV_UNUSED);
	assert_int_equal(m1->policy, VM_POLICY_BIND);
	assert_int_equal(m1->host_nodes[0], 1);
	assert_false(m1->merge);
	assert_false(m1->dump);
	assert_true(m1->prealloc);
	assert_int_equal(m1->prealloc_threads, 3);
	/* Strings, as from a person's line; what it says itself goes first. */
	assert_int_equal(add(config,
			     "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"m2\","
			     "\"size\":\"2M\",\"prealloc\":\"off\",\"merge\":\"on\"}",
			     &m1, NULL),
			 0);
	assert_int_equal(m1->type, VM_MEMDEV_MEMFD);
	assert_true(m1->share);
	assert_true(m1->merge);
	assert_false(m1->prealloc);
	assert_int_equal(cmdline_object_check_remove(config, "m1", &m1, NULL), 0);
	assert_string_equal(m1->id, "m1");
	cmdline_object_remove(config, "m1");
	assert_int_equal(cmdline_object_check_remove(config, "m1", &m1, NULL), -ENOENT);
	vm_config_free(config);
}

#define FILE_PATH "\"mem-path\":\".\""

static void test_all_types_come_and_go(void **state)
{
	static const char *const objects[] = {
		"{\"qom-type\":\"memory-backend-ram\",\"id\":\"x\",\"size\":4096}",
		"{\"qom-type\":\"memory-backend-memfd\",\"id\":\"x\",\"size\":4096}",
		"{\"qom-type\":\"memory-backend-file\",\"id\":\"x\",\"size\":4096," FILE_PATH "}",
		"{\"qom-type\":\"rng-random\",\"id\":\"x\"}",
		"{\"qom-type\":\"rng-builtin\",\"id\":\"x\"}",
		"{\"qom-type\":\"secret\",\"id\":\"x\",\"data\":\"abc\"}",
		"{\"qom-type\":\"iothread\",\"id\":\"x\"}",
	};
	struct vm_config *config = fixture_config(
		"-kernel K -nodefaults -object rng-builtin,id=a -object secret,id=b,data=x "
		"-object iothread,id=c -object memory-backend-ram,id=d,size=4K");
	size_t before = count(config);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		struct vm_memdev_config *memdev;
		struct err *err = NULL;

		assert_int_equal(add(config, objects[i], &memdev, NULL), 0);
		assert_int_equal(memdev != NULL, i < 3);
		assert_int_equal(count(config), before + 1);
		/* The id is taken for objects of all types. */
		for (size_t j = 0; j < ARRAY_SIZE(objects); j++) {
			assert_int_equal(add(config, objects[j], &memdev, &err), -EEXIST);
			assert_string_equal(err_message(err), "object-add: id=x is in use already");
			err_free(err);
			err = NULL;
		}
		assert_int_equal(count(config), before + 1);
		assert_int_equal(cmdline_object_check_remove(config, "x", &memdev, NULL), 0);
		assert_int_equal(memdev != NULL, i < 3);
		cmdline_object_remove(config, "x");
		assert_int_equal(count(config), before);
		assert_int_equal(cmdline_object_check_remove(config, "x", &memdev, &err), -ENOENT);
		assert_string_equal(err_message(err), "object-del: there is no object x");
		err_free(err);
	}
	for (const char *id = "abcd"; *id; id++)
		cmdline_object_remove(config, (char[]){*id, '\0'});
	assert_int_equal(count(config), 0);
	vm_config_free(config);
}

static void test_in_use(void **state)
{
	static const struct error_row rows[] = {
		{"boot", EBUSY, "object-del: object boot is in use as boot memory"},
		{"m0", EBUSY, "object-del: object m0 is in use by device v0"},
		{"m1", EBUSY, "object-del: object m1 is in use by a virtio-mem-pci"},
		{"r", EBUSY, "object-del: object r is in use by a virtio-rng-pci"},
		{"", ENOENT, "object-del: there is no object "},
	};
	struct vm_config *config = fixture_config(
		"-kernel K -nodefaults -m 1G,maxmem=4G -object memory-backend-ram,id=boot,size=1G "
		"-machine memory-backend=boot -object memory-backend-ram,id=m0,size=1G -object "
		"memory-backend-ram,id=m1,size=1G -object rng-builtin,id=r -device "
		"virtio-mem-pci,id=v0,memdev=m0 -device virtio-mem-pci,memdev=m1 -device "
		"virtio-rng-pci,rng=r -device virtio-rng-pci");
	struct vm_memdev_config *memdev = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err *err = NULL;

		assert_int_equal(cmdline_object_check_remove(config, rows[i].line, &memdev, &err),
				 -rows[i].code);
		assert_string_equal(err_message(err), rows[i].sentence);
		assert_null(memdev);
		err_free(err);
	}
	cmdline_device_remove(config, cmdline_device_find(config, "v0"));
	assert_int_equal(cmdline_object_check_remove(config, "m0", &memdev, NULL), 0);
	assert_ptr_equal(memdev, config->memdevs[1]);
	vm_config_free(config);
}

static const struct error_row refusals[] = {
	{"{}", EINVAL, "object-add: needs qom-type=, the type of the object"},
	{"{\"qom-type\":\"foo\",\"id\":\"x\"}", EINVAL,
	 "object-add: qom-type=foo is unknown; allowed: memory-backend-ram, memory-backend-memfd, "
	 "memory-backend-file, rng-random, rng-builtin, secret, iothread"},
	{"{\"qom-type\":\"iothread\"}", EINVAL,
	 "object-add iothread: needs id= (the name that others refer to)"},
	{"{\"qom-type\":\"memory-backend-ram\",\"id\":\"x\"}", EINVAL,
	 "object-add memory-backend-ram,id=x: needs size= (of the memory; next to max-size, what "
	 "the device requests at first)"},
	{"{\"qom-type\":\"memory-backend-ram\",\"id\":\"x\",\"size\":4097}", EINVAL,
	 "object-add memory-backend-ram,id=x: size=4097 is not a multiple of 4 KiB"},
	{"{\"qom-type\":\"memory-backend-ram\",\"id\":\"x\",\"size\":4096,\"prealloc\":true,"
	 "\"reserve\":false}",
	 EINVAL,
	 "object-add memory-backend-ram,id=x: prealloc=on and reserve=off exclude each other"},
	{"{\"qom-type\":\"memory-backend-file\",\"id\":\"x\",\"size\":4096,"
	 "\"mem-path\":\"/nowhere/f\"}",
	 ENOENT,
	 "object-add memory-backend-file,id=x: mem-path=/nowhere/f cannot be used: No such file or "
	 "directory"},
	{"{\"qom-type\":\"rng-random\",\"id\":\"x\",\"filename\":\"/nowhere\"}", ENOENT,
	 "object-add rng-random,id=x: cannot read '/nowhere': No such file or directory"},
};

static void test_refusals(void **state)
{
	struct vm_config *config = fixture_config("-kernel K -nodefaults");
	struct vm_memdev_config *memdev = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct err *err = NULL;
		int ret = add(config, refusals[i].line, &memdev, &err);

		assert_int_equal(ret, -refusals[i].code);
		assert_string_equal(err_message(err), refusals[i].sentence);
		assert_null(memdev);
		assert_int_equal(count(config), 0);
		err_free(err);
	}
	vm_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_all_types_come_and_go),
		cmocka_unit_test(test_in_use),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

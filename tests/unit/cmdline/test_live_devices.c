/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices that come and go: right ones, wrong ones word for word, and what is left of each. */
#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"
#include "vmm/cmdline/live.h"

#define LINE                                                                                 \
	"-machine q35 -kernel K -nodefaults -m 1G,maxmem=4G -object "                        \
	"memory-backend-ram,id=m0,size=1G "                                                  \
	"-object memory-backend-ram,id=m1,size=1G -object memory-backend-ram,id=m2,size=2G " \
	"-object memory-backend-ram,id=m3,size=4G -device virtio-rng-pci,id=early "          \
	"-device pcie-root-port,id=p1,hotplug=off -device pcie-root-port,id=p2 "             \
	"-device pcie-root-port,id=p3 -device virtio-mem-pci,id=v0,memdev=m0,bus=p3 "        \
	"-device pcie-root-port,id=p4 -device pcie-root-port,id=p5"

static int add(struct vm_config *config, const char *text, struct vm_device_config **ret_device,
	       struct err **err)
{
	json_t *values = json_loads(text, 0, NULL);
	json_t *before = json_deep_copy(values);
	int ret;

	assert_non_null(values);
	ret = cmdline_device_add(config, values, ret_device, err);
	assert_true(json_equal(values, before));
	json_decref(values);
	json_decref(before);
	return ret;
}

static void test_come_and_go(void **state)
{
	struct vm_config *config = fixture_config(LINE);
	size_t before = config->nr_devices;
	struct vm_device_config *v1, *v2, *rng;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(
			add(config,
			    "{\"driver\":\"virtio-mem-pci\",\"id\":\"v1\",\"memdev\":\"m1\","
			    "\"bus\":\"p4\",\"addr\":\"0x0\",\"requested-size\":2097152}",
			    &v1, NULL),
			0);
		assert_int_equal(config->nr_devices, before + 1);
		assert_ptr_equal(config->devices[before], v1);
		assert_ptr_equal(cmdline_device_find(config, "v1"), v1);
		assert_ptr_equal(v1->pci.port, cmdline_device_find(config, "p4"));
		assert_int_equal(v1->virtio_mem.region_size_bytes, GIB);
		assert_int_equal(v1->virtio_mem.block_size_bytes, 2 * MIB);
		assert_int_equal(v1->virtio_mem.requested_size_bytes, 2 * MIB);
		assert_int_equal(v1->virtio_mem.memdev->user, VM_MEMDEV_DEVICE);
		/* The first that is free, and hot-pluggable; strings as from a person's line. */
		assert_int_equal(add(config,
				     "{\"driver\":\"virtio-rng-pci\",\"max-bytes\":\"1024\"}", &rng,
				     NULL),
				 0);
		assert_string_equal(rng->pci.bus, "p2");
		assert_int_equal(rng->virtio_rng.max_bytes, 1024);
		cmdline_device_remove(config, v1);
		assert_int_equal(config->memdevs[1]->user, VM_MEMDEV_UNUSED);
		assert_null(cmdline_device_find(config, "v1"));
		/* Its memory counts no longer: 2 GiB fit beside v0's 1 GiB. */
		assert_int_equal(
			add(config,
			    "{\"driver\":\"virtio-mem-pci\",\"id\":\"v2\",\"memdev\":\"m2\"}", &v2,
			    NULL),
			0);
		assert_string_equal(v2->pci.bus, "p4");
		cmdline_device_remove(config, rng);
		cmdline_device_remove(config, v2);
		assert_int_equal(config->nr_devices, before);
	}
	vm_config_free(config);
}

/* One from the start goes as well. */
static void test_go(void **state)
{
	struct vm_config *config = fixture_config(LINE);
	struct vm_device_config *device;

	(void)state;
	cmdline_device_remove(config, cmdline_device_find(config, "v0"));
	assert_int_equal(config->memdevs[0]->user, VM_MEMDEV_UNUSED);
	assert_int_equal(add(config,
			     "{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m0\",\"bus\":\"p3\"}",
			     &device, NULL),
			 0);
	vm_config_free(config);
}

static const struct error_row refusals[] = {
	{"{}", EINVAL, "device_add: needs driver=, the name of the device"},
	{"{\"driver\":\"foo\"}", ENOENT,
	 "device_add: there is no device foo; allowed: virtio-balloon-pci, virtio-mem-pci, "
	 "virtio-rng-pci"},
	{"{\"driver\":\"pvpanic\",\"id\":\"x\"}", ENOTSUP,
	 "device_add pvpanic,id=x: this device cannot come while the machine runs; allowed: "
	 "virtio-balloon-pci, virtio-mem-pci, virtio-rng-pci"},
	{"{\"driver\":\"piix3-usb-uhci\",\"id\":\"usb\"}", ENOTSUP,
	 "device_add piix3-usb-uhci,id=usb: this device cannot come while the machine runs; "
	 "allowed: virtio-balloon-pci, virtio-mem-pci, virtio-rng-pci"},
	{"{\"driver\":\"pcie-root-port\"}", ENOTSUP,
	 "device_add pcie-root-port: this device cannot come while the machine runs; allowed: "
	 "virtio-balloon-pci, virtio-mem-pci, virtio-rng-pci"},
	{"{\"driver\":\"virtio-mem-pci\",\"id\":\"x\"}", EINVAL,
	 "device_add virtio-mem-pci,id=x: needs memdev= (the id of its memory, a memory backend)"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m9\"}", ENOENT,
	 "device_add virtio-mem-pci: there is no object m9; memdev= takes the id of a memory "
	 "backend (-object)"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m0\"}", EBUSY,
	 "device_add virtio-mem-pci: memdev=m0 is in use already"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"id\":\"v0\"}", EEXIST,
	 "device_add: id=v0 is in use already"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"id\":7}", EINVAL,
	 "device_add virtio-mem-pci: id takes a string"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"node\":3}", EINVAL,
	 "device_add virtio-mem-pci: there is no node 3; allowed: below 1"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m3\"}", ENOSPC,
	 "device_add virtio-mem-pci: 4 GiB do not fit: of what -m maxmem= exceeds the boot memory "
	 "by, 2 GiB are left"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"pcie.0\"}", ENOTSUP,
	 "device_add virtio-mem-pci: Bus 'pcie.0' does not support hotplugging; allowed: the ids "
	 "of pcie-root-port devices"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"p2\",\"addr\":\"0.1\"}",
	 ENOTSUP,
	 "device_add virtio-mem-pci: addr=0.1: while the machine runs a device is function 0 of a "
	 "slot of its own"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"p9\"}", ENOENT,
	 "device_add virtio-mem-pci: there is no bus p9; allowed: pcie.0, and the ids of "
	 "pcie-root-port devices in front of it"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"v0\"}", ENOENT,
	 "device_add virtio-mem-pci: there is no bus v0; allowed: pcie.0, and the ids of "
	 "pcie-root-port devices in front of it"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"p1\"}", ENOTSUP,
	 "device_add virtio-mem-pci: bus=p1 has hotplug=off"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"p3\"}", EBUSY,
	 "device_add virtio-mem-pci: bus=p3 is in use already: behind a root port is room for one "
	 "device, or for the functions of one"},
	{"{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\",\"bus\":\"p2\",\"addr\":\"1\"}", EINVAL,
	 "device_add virtio-mem-pci: addr=1 is not possible behind a root port; allowed: 0 to "
	 "0.7"},
};

/* After each the configuration is as before: the last device that is right still fits. */
static void test_refusals(void **state)
{
	struct vm_config *config = fixture_config(LINE);
	struct vm_device_config *device = NULL;
	size_t before = config->nr_devices;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct err *err = NULL;
		int ret = add(config, refusals[i].line, &device, &err);

		assert_string_equal(err_message(err), refusals[i].sentence);
		assert_int_equal(err_code(err), refusals[i].code);
		assert_int_equal(ret, -refusals[i].code);
		assert_null(device);
		assert_int_equal(config->nr_devices, before);
		assert_int_equal(config->memdevs[1]->user, VM_MEMDEV_UNUSED);
		err_free(err);
	}
	assert_int_equal(
		add(config, "{\"driver\":\"virtio-mem-pci\",\"memdev\":\"m1\"}", &device, NULL), 0);
	vm_config_free(config);
}

static void test_no_port_is_free(void **state)
{
	struct vm_config *config = fixture_config(LINE);
	struct vm_device_config *device;
	struct err *err = NULL;

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(add(config, "{\"driver\":\"virtio-rng-pci\"}", &device, NULL), 0);
	assert_int_equal(add(config, "{\"driver\":\"virtio-rng-pci\"}", &device, &err), -ENOSPC);
	assert_string_equal(err_message(err),
			    "device_add virtio-rng-pci: no root port is free; while the machine "
			    "runs a device needs one of its own (-device pcie-root-port,id=ID)");
	err_free(err);
	vm_config_free(config);
}

/* On a flat bus the first free slot is as good as a port, and not looked for here. */
static void test_flat_bus(void **state)
{
	struct vm_config *config = fixture_config(
		"-machine pc -kernel K -nodefaults -device virtio-rng-pci,addr=3,multifunction=on "
		"-device virtio-rng-pci,addr=3.2 -device pcie-root-port,id=p1,addr=4 "
		"-device virtio-rng-pci,bus=p1,multifunction=on -device "
		"virtio-rng-pci,bus=p1,addr=0.7");
	struct vm_device_config *device;
	struct err *err = NULL;

	(void)state;
	assert_true(cmdline_root_has_hotplug(config));
	assert_true(cmdline_device_has_hotplug(config, config->devices[1]));
	assert_ptr_equal(config->devices[4]->pci.port, config->devices[2]);
	assert_int_equal(config->devices[4]->pci.function, 7);
	assert_int_equal(add(config, "{\"driver\":\"virtio-rng-pci\"}", &device, NULL), 0);
	assert_null(device->pci.port);
	assert_false(device->pci.has_addr);
	assert_int_equal(add(config,
			     "{\"driver\":\"virtio-rng-pci\",\"bus\":\"pci.0\",\"addr\":\"0x1f\"}",
			     &device, NULL),
			 0);
	assert_int_equal(device->pci.slot, 31);
	assert_int_equal(
		add(config, "{\"driver\":\"virtio-rng-pci\",\"addr\":\"3\"}", &device, &err),
		-EBUSY);
	assert_string_equal(err_message(err),
			    "device_add virtio-rng-pci: addr=3 is in use already");
	err_free(err);
	vm_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_come_and_go), cmocka_unit_test(test_go),
		cmocka_unit_test(test_refusals),    cmocka_unit_test(test_no_port_is_free),
		cmocka_unit_test(test_flat_bus),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

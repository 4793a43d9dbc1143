/* SPDX-License-Identifier: BSD-3-Clause */
/* The USB controller of the machine pc: who asks for it how, and what comes with it. */
#include <stdio.h>

#include "tests/unit/cmdline/fixture.h"
#include "vmm/cmdline/live.h"

static struct vm_config *usb_config(const char *before, const char *args)
{
	char line[256];

	snprintf(line, sizeof(line), "-kernel K -nodefaults %s%s", before, args);
	return fixture_config(line);
}

static void check_controller(const struct vm_device_config *device, unsigned int slot,
			     unsigned int function)
{
	assert_int_equal(device->type, VM_DEVICE_PIIX3_UHCI);
	assert_null(device->pci.port);
	assert_true(device->pci.has_addr);
	assert_int_equal(device->pci.slot, slot);
	assert_int_equal(device->pci.function, function);
	assert_false(cmdline_device_can_come(device));
}

/* As the first device, so that no other is put into its slot. */
static void test_of_the_machine(void **state)
{
	static const char *const args[] = {"-usb", "-machine usb=on", "-machine usb=off -usb"};
	struct vm_config *config;

	(void)state;
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		config = usb_config("-device virtio-rng-pci,id=r ", args[i]);
		assert_true(config->machine.usb);
		assert_int_equal(config->nr_devices, 2);
		check_controller(config->devices[0], 1, 2);
		assert_null(config->devices[0]->id);
		assert_string_equal(config->devices[1]->id, "r");
		assert_true(cmdline_root_has_piix3(config));
		vm_config_free(config);
	}
}

static void test_as_a_device(void **state)
{
	struct vm_config *config;

	(void)state;
	config = usb_config("", "-device piix3-usb-uhci,id=usb,bus=pci.0,addr=0x1.0x2 -device "
				"virtio-rng-pci,addr=1.5");
	assert_false(config->machine.usb);
	assert_int_equal(config->nr_devices, 2);
	check_controller(config->devices[0], 1, 2);
	assert_string_equal(config->devices[0]->id, "usb");
	assert_true(cmdline_root_has_piix3(config));
	vm_config_free(config);
}

/* The bridge is there for the controller, where nothing else is in its place. */
static void test_without_bridge(void **state)
{
	static const char *const args[] = {
		"-device virtio-rng-pci",
		"-device piix3-usb-uhci",
		"-device piix3-usb-uhci,addr=1",
		"-device piix3-usb-uhci,addr=4,multifunction=on -device piix3-usb-uhci,addr=4.2",
		"-device virtio-rng-pci,addr=1,multifunction=on -device piix3-usb-uhci,addr=1.2",
		"-machine q35 -device piix3-usb-uhci,addr=1",
	};
	struct vm_config *config;

	(void)state;
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		config = usb_config("", args[i]);
		assert_false(cmdline_root_has_piix3(config));
		vm_config_free(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_the_machine),
		cmocka_unit_test(test_as_a_device),
		cmocka_unit_test(test_without_bridge),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Command lines of any bytes, and then what monitors' clients ask of the configuration that came of
 * it.
 *
 * The input is lines. Those before the first empty one are the words of a command line that starts
 * with a kernel. Of the others the first letter says what is done with the rest: d, o, k and c add a
 * device, an object, a character device by its keys and by its backend, as JSON; D, O and C remove
 * what has that id.
 *
 * I1  Whatever comes, a configuration or one sentence comes of it, and the rules of config.h hold:
 *     ids are unique, what a part refers to is in the configuration and marked as used, memory
 *     devices fit.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "vmm/cmdline/cmdline.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/live.h"

#define WORDS_MAX  64
#define STEPS_MAX  64
#define KERNEL     "/dev/null"
#define CHECK(yes) ((yes) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_sentence(int ret, struct err *err)
{
	CHECK(ret < 0 && err);
	CHECK(err_code(err) == -ret);
	CHECK(strlen(err_message(err)) > 10);
	err_free(err);
}

static bool has_device(const struct vm_config *config, const struct vm_device_config *device)
{
	bool found = false;

	for (size_t i = 0; i < config->nr_devices; i++)
		found |= config->devices[i] == device;
	return found;
}

static unsigned int count_users(const struct vm_config *config, const void *part)
{
	unsigned int users = config->memory.backend == part;

	for (unsigned int i = 0; i < config->numa.nr_nodes; i++)
		users += config->numa.nodes[i].memdev == part;
	for (size_t i = 0; i < config->nr_monitors; i++)
		users += config->monitors[i]->chardev == part;
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];

		users += device->type == VM_DEVICE_VIRTIO_MEM && device->virtio_mem.memdev == part;
		users += device->type == VM_DEVICE_ISA_SERIAL && device->isa_serial.chardev == part;
	}
	return users;
}

static void check_devices(const struct vm_config *config)
{
	uint64_t left = config->memory.max_bytes - config->memory.ram_bytes;

	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];

		for (size_t j = 0; j < i; j++)
			CHECK(!device->id || !config->devices[j]->id ||
			      strcmp(device->id, config->devices[j]->id));
		CHECK(!device->pci.port || has_device(config, device->pci.port));
		if (device->type != VM_DEVICE_VIRTIO_MEM)
			continue;
		CHECK(device->virtio_mem.region_size_bytes <= left);
		left -= device->virtio_mem.region_size_bytes;
		CHECK(device->virtio_mem.requested_size_bytes <=
		      device->virtio_mem.region_size_bytes);
	}
}

static void check_config(const struct vm_config *config)
{
	for (size_t i = 0; i < config->nr_memdevs; i++) {
		for (size_t j = 0; j < i; j++)
			CHECK(strcmp(config->memdevs[i]->id, config->memdevs[j]->id));
		CHECK(count_users(config, config->memdevs[i]) ==
		      (config->memdevs[i]->user != VM_MEMDEV_UNUSED));
	}
	for (size_t i = 0; i < config->nr_chardevs; i++) {
		for (size_t j = 0; j < i; j++)
			CHECK(strcmp(config->chardevs[i]->id, config->chardevs[j]->id));
		CHECK(count_users(config, config->chardevs[i]) == config->chardevs[i]->nr_users);
	}
	check_devices(config);
}

static int step_add(struct vm_config *config, char what, const char *text, struct err **err)
{
	json_t *values = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	struct vm_chardev_config *chardev;
	struct vm_device_config *device;
	struct vm_memdev_config *memdev;
	int ret = 0;

	if (!values)
		return 0;
	if (what == 'd')
		ret = cmdline_device_add(config, values, &device, err);
	else if (what == 'o')
		ret = cmdline_object_add(config, values, &memdev, err);
	else if (what == 'k')
		ret = cmdline_chardev_add_keys(config, values, &chardev, err);
	else if (what == 'c')
		ret = cmdline_chardev_add(config, "new", values, &chardev, err);
	json_decref(values);
	return ret;
}

/* Only what can come goes; the machine has looked before. */
static void remove_device(struct vm_config *config, const char *id)
{
	struct vm_device_config *device = cmdline_device_find(config, id);

	if (device && cmdline_device_can_come(device))
		cmdline_device_remove(config, device);
}

static int step_remove(struct vm_config *config, char what, const char *id, struct err **err)
{
	struct vm_chardev_config *chardev;
	struct vm_memdev_config *memdev;
	int ret = 0;

	if (what == 'D') {
		remove_device(config, id);
	} else if (what == 'O') {
		ret = cmdline_object_check_remove(config, id, &memdev, err);
		if (!ret)
			cmdline_object_remove(config, id);
	} else if (what == 'C') {
		ret = cmdline_chardev_check_remove(config, id, &chardev, err);
		if (!ret)
			cmdline_chardev_remove(config, chardev);
	}
	return ret;
}

static void run_steps(struct vm_config *config, char *rest)
{
	char *line;

	for (unsigned int i = 0; i < STEPS_MAX && (line = strsep(&rest, "\n")); i++) {
		struct err *err = NULL;
		int ret;

		if (!*line)
			continue;
		ret = *line >= 'a' ? step_add(config, *line, line + 1, &err)
				   : step_remove(config, *line, line + 1, &err);
		if (ret)
			check_sentence(ret, err);
		check_config(config);
	}
}

/* A text of these bytes up to a NUL; not strndup(), of which a sanitizer wants a NUL at their end. */
static char *text_of(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = text_of(data, size), *rest = text, *word;
	char *argv[WORDS_MAX + 3] = {"ebb", "-kernel", KERNEL};
	struct vm_config *config = NULL;
	struct err *err = NULL;
	int argc = 3, ret;

	while (argc < WORDS_MAX + 3 && (word = strsep(&rest, "\n")) && *word)
		argv[argc++] = word;
	ret = cmdline_parse(argc, argv, &config, &err);
	if (ret) {
		check_sentence(ret, err);
	} else if (!config->output) {
		check_config(config);
		run_steps(config, rest);
	}
	vm_config_free(config);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Parts that come and go: see live.h for the contract. */
#include "vmm/cmdline/live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ptrs.h"
#include "vmm/cmdline/device.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/memdev.h"

/* ---- devices ---- */

#define DEVICE_ADD "device_add"

struct vm_device_config *cmdline_device_find(const struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_devices; i++)
		if (config->devices[i]->id && !strcmp(config->devices[i]->id, id))
			return config->devices[i];
	return NULL;
}

static bool port_is_free(const struct vm_config *config, const struct vm_device_config *port)
{
	for (size_t i = 0; i < config->nr_devices; i++)
		if (config->devices[i]->pci.port == port)
			return false;
	return true;
}

/* The bus of a device that names none. */
static int device_choose_bus(const struct vm_config *config, const char *what,
			     struct vm_device_config *device, struct err **err)
{
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *port = config->devices[i];

		if (port->type == VM_DEVICE_ROOT_PORT && port->id && port->root_port.hotplug &&
		    port_is_free(config, port))
			return cmdline_set_string(&device->pci.bus, port->id, err);
	}
	return err_set(err, ENOSPC,
		       "%s: no root port is free; while the machine runs a device needs one of its "
		       "own (-device pcie-root-port,id=ID)",
		       what);
}

/* What is different from a device that is there from the start. */
static int device_check_hotplug(const struct vm_config *config, const char *what,
				struct vm_device_config *device, struct err **err)
{
	const struct vm_device_config *port;

	if (device->type != VM_DEVICE_VIRTIO_MEM && device->type != VM_DEVICE_VIRTIO_RNG)
		return err_set(err, ENOTSUP,
			       "%s: this device cannot come while the machine runs; allowed: "
			       "virtio-mem-pci, virtio-rng-pci",
			       what);
	if (!device->pci.bus)
		return device_choose_bus(config, what, device, err);
	if (!strcmp(device->pci.bus, config->machine.root_bus))
		return err_set(err, ENOTSUP,
			       "%s: bus=%s takes no devices while the machine runs; allowed: the "
			       "ids of pcie-root-port devices",
			       what, device->pci.bus);
	port = cmdline_device_find(config, device->pci.bus);
	if (port && port->type == VM_DEVICE_ROOT_PORT && !port->root_port.hotplug)
		return err_set(err, ENOTSUP, "%s: bus=%s has hotplug=off", what, device->pci.bus);
	return 0;
}

static int device_add(struct vm_config *config, struct vm_device_config *device, struct err **err)
{
	char what[CMDLINE_WHAT_MAX];
	int ret;

	cmdline_what(what, DEVICE_ADD, vm_device_type_name(device->type), device->id);
	ret = device_check_hotplug(config, what, device, err);
	if (ret < 0)
		return ret;
	if (ptrs_add(&config->devices, &config->nr_devices, device))
		return cmdline_oom(err);
	ret = cmdline_device_finish(config, config->nr_devices - 1, DEVICE_ADD, err);
	if (ret < 0)
		ptrs_remove(&config->devices, &config->nr_devices, device);
	return ret;
}

int cmdline_device_add(struct vm_config *config, const json_t *values,
		       struct vm_device_config **ret_device, struct err **err)
{
	struct vm_device_config *device = calloc(1, sizeof(*device));
	json_t *copy = json_copy((json_t *)values); /* only reads it */
	int ret;

	if (!device || !copy) {
		free(device);
		json_decref(copy);
		return cmdline_oom(err);
	}
	ret = device_config_parse(DEVICE_ADD, copy, device, err);
	json_decref(copy);
	if (ret < 0) {
		free(device);
		return ret;
	}
	ret = device_add(config, device, err);
	if (ret < 0)
		vm_device_config_free(device);
	else
		*ret_device = device;
	return ret;
}

void cmdline_device_remove(struct vm_config *config, struct vm_device_config *device)
{
	ptrs_remove(&config->devices, &config->nr_devices, device);
	if (device->type == VM_DEVICE_VIRTIO_MEM)
		memdev_find(config, device->virtio_mem.memdev_id)->user = VM_MEMDEV_UNUSED;
	vm_device_config_free(device);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Parts that come and go: see live.h for the contract. */
#include "vmm/cmdline/live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/ptrs.h"
#include "qmp/opts.h"
#include "vmm/cmdline/device.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/memdev.h"
#include "vmm/cmdline/object.h"

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
	if (cmdline_root_has_hotplug(config))
		return 0;
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

/* The devices that may come while the machine runs. */
#define DEVICES_LIVE "virtio-balloon-pci, virtio-mem-pci, virtio-rng-pci"

static int device_check_driver(const json_t *values, struct err **err)
{
	const char *driver = opts_string(values, "driver");

	if (!driver || device_class_find(driver))
		return 0;
	return device_unknown(DEVICE_ADD, driver, DEVICES_LIVE, err);
}

bool cmdline_device_can_come(const struct vm_device_config *device)
{
	return cmdline_device_is_pci(device) && device->type != VM_DEVICE_ROOT_PORT &&
	       device->type != VM_DEVICE_PIIX3_UHCI;
}

/* What is different from a device that is there from the start. */
static int device_check_hotplug(const struct vm_config *config, const char *what,
				struct vm_device_config *device, struct err **err)
{
	const struct vm_device_config *port;

	if (!cmdline_device_can_come(device))
		return err_set(err, ENOTSUP,
			       "%s: this device cannot come while the machine runs; "
			       "allowed: " DEVICES_LIVE,
			       what);
	if (device->pci.function)
		return err_set(err, ENOTSUP,
			       "%s: addr=%x.%x: while the machine runs a device is function 0 of a "
			       "slot of its own",
			       what, device->pci.slot, device->pci.function);
	if (!device->pci.bus)
		return device_choose_bus(config, what, device, err);
	if (!strcmp(device->pci.bus, config->machine.root_bus))
		return cmdline_root_has_hotplug(config)
			       ? 0
			       : err_set(err, ENOTSUP,
					 "%s: Bus '%s' does not support hotplugging; allowed: the "
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
	int ret = device_check_driver(values, err);
	struct vm_device_config *device;
	json_t *copy;

	if (ret < 0)
		return ret;
	device = calloc(1, sizeof(*device));
	copy = json_copy((json_t *)values); /* only reads it */
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
	device->live = true;
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

/* ---- objects ---- */

#define OBJECT_ADD "object-add"
#define OBJECT_DEL "object-del"

/* What is different from an object that is there from the start: nothing looks at it later. */
static int object_check(const struct object_config *object, struct err **err)
{
	char what[CMDLINE_WHAT_MAX];

	if (object->type != OBJECT_RNG_RANDOM)
		return 0;
	cmdline_what(what, OBJECT_ADD, "rng-random", object->id);
	return cmdline_check_file(what, object->rng.filename, err);
}

int cmdline_object_add(struct vm_config *config, const json_t *values,
		       struct vm_memdev_config **ret_memdev, struct err **err)
{
	json_t *copy = json_copy((json_t *)values); /* only reads it */
	size_t nr_memdevs = config->nr_memdevs;
	struct object_config object;
	int ret;

	if (!copy)
		return cmdline_oom(err);
	ret = object_config_parse(OBJECT_ADD, copy, &object, err);
	json_decref(copy);
	if (ret < 0)
		return ret;
	ret = object_check(&object, err);
	if (!ret)
		ret = object_config_add(OBJECT_ADD, &object, config, err);
	object_config_done(&object);
	if (ret < 0)
		return ret;
	*ret_memdev = NULL;
	if (config->nr_memdevs > nr_memdevs) {
		*ret_memdev = config->memdevs[nr_memdevs];
		(*ret_memdev)->live = true;
		memdev_use_defaults(config, *ret_memdev);
	}
	return 0;
}

/* The first device that uses an object: its memory, its source of random bytes, its thread. */
static const struct vm_device_config *object_user(const struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];

		if (device->type == VM_DEVICE_VIRTIO_MEM &&
		    !strcmp(device->virtio_mem.memdev->id, id))
			return device;
		if (device->type == VM_DEVICE_VIRTIO_RNG && device->virtio_rng.rng &&
		    !strcmp(device->virtio_rng.rng->id, id))
			return device;
		if (device->type == VM_DEVICE_VIRTIO_BALLOON &&
		    device->virtio_balloon.iothread_id &&
		    !strcmp(device->virtio_balloon.iothread_id, id))
			return device;
	}
	return NULL;
}

int cmdline_object_check_remove(const struct vm_config *config, const char *id,
				struct vm_memdev_config **ret_memdev, struct err **err)
{
	const struct vm_device_config *user = object_user(config, id);
	struct vm_memdev_config *memdev = memdev_find(config, id);

	if (!cmdline_object_exists(config, id))
		return err_set(err, ENOENT, OBJECT_DEL ": there is no object %s", id);
	if (user)
		return err_set(err, EBUSY, OBJECT_DEL ": object %s is in use by %s%s", id,
			       user->id ? "device " : "a ",
			       user->id ? user->id : vm_device_type_name(user->type));
	if (memdev && memdev->user != VM_MEMDEV_UNUSED)
		return err_set(err, EBUSY, OBJECT_DEL ": object %s is in use as boot memory", id);
	*ret_memdev = memdev;
	return 0;
}

static bool memdev_remove(struct vm_config *config, const char *id)
{
	struct vm_memdev_config *memdev = memdev_find(config, id);

	if (!memdev)
		return false;
	ptrs_remove(&config->memdevs, &config->nr_memdevs, memdev);
	vm_memdev_config_free(memdev);
	return true;
}

static bool rng_remove(struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_rngs; i++) {
		struct vm_rng_backend_config *rng = config->rngs[i];

		if (strcmp(rng->id, id))
			continue;
		ptrs_remove(&config->rngs, &config->nr_rngs, rng);
		vm_rng_backend_config_free(rng);
		return true;
	}
	return false;
}

static bool iothread_remove(struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_iothreads; i++) {
		struct vm_iothread_config *iothread = config->iothreads[i];

		if (strcmp(iothread->id, id))
			continue;
		ptrs_remove(&config->iothreads, &config->nr_iothreads, iothread);
		vm_iothread_config_free(iothread);
		return true;
	}
	return false;
}

static bool secret_remove(struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_secrets; i++) {
		struct vm_secret_config *secret = config->secrets[i];

		if (strcmp(secret->id, id))
			continue;
		ptrs_remove(&config->secrets, &config->nr_secrets, secret);
		vm_secret_config_free(secret);
		return true;
	}
	return false;
}

void cmdline_object_remove(struct vm_config *config, const char *id)
{
	static bool (*const removes[])(struct vm_config *, const char *) = {
		memdev_remove, rng_remove, iothread_remove, secret_remove};

	for (size_t i = 0; i < ARRAY_SIZE(removes); i++)
		if (removes[i](config, id))
			return;
}

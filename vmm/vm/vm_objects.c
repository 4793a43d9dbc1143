/* SPDX-License-Identifier: BSD-3-Clause */
/* Objects and character devices that come and go: see vm_objects.h for the contract. */
#include "vmm/vm/vm_objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/chardev/chardev.h"
#include "vmm/cmdline/live.h"
#include "vmm/vm/fds.h"
#include "vmm/vm/vm_internal.h"

/* What the host said of a file or a socket is not what monitors mean by these numbers (I1). */
static int vm_general_error(struct err **err)
{
	int code = err && *err ? err_code(*err) : EIO;
	char *message;

	if (!err || !*err || (code != ENODEV && code != ENXIO && code != ENOSYS))
		return -code;
	message = strdup(err_message(*err));
	err_free(*err);
	*err = NULL;
	err_set(err, message ? EIO : ENOMEM, "%s", message ? message : "out of memory");
	free(message);
	return -err_code(*err);
}

/* ---- objects ---- */

int vm_object_add(struct vm *vm, const json_t *values, struct err **err)
{
	struct vm_memdev_config *memdev;
	int ret = cmdline_object_add(vm->config, values, &memdev, err);

	if (!ret && memdev) {
		ret = vm_memdev_map(vm, memdev, err);
		if (ret)
			cmdline_object_remove(vm->config, memdev->id);
	}
	return ret ? vm_general_error(err) : 0;
}

int vm_object_del(struct vm *vm, const char *id, struct err **err)
{
	struct vm_memdev_config *memdev;
	int ret = cmdline_object_check_remove(vm->config, id, &memdev, err);

	if (ret)
		return vm_general_error(err);
	if (memdev)
		vm_memdev_unmap(vm, memdev);
	cmdline_object_remove(vm->config, id);
	return 0;
}

/* ---- character devices ---- */

static int vm_chardev_make(struct vm *vm, struct vm_chardev_config *config, const char **ret_pty,
			   struct err **err)
{
	int ret = vm_chardev_open(vm, config, err), fd;

	if (ret) {
		cmdline_chardev_remove(vm->config, config);
		return ret;
	}
	/* The name's descriptor was duplicated, so that a failure left it where it was. */
	if (config->fd_name && !fds_take(vm->fds, "chardev-add", config->fd_name, &fd, NULL))
		close(fd);
	*ret_pty = chardev_pty_path(vm_chardev(vm, config));
	return 0;
}

int vm_chardev_add(struct vm *vm, const char *id, const json_t *backend, const char **ret_pty,
		   struct err **err)
{
	struct vm_chardev_config *config;
	int ret = cmdline_chardev_add(vm->config, id, backend, &config, err);

	if (!ret)
		ret = vm_chardev_make(vm, config, ret_pty, err);
	return ret ? vm_general_error(err) : 0;
}

int vm_chardev_add_keys(struct vm *vm, const json_t *keys, const char **ret_pty, struct err **err)
{
	struct vm_chardev_config *config;
	int ret = cmdline_chardev_add_keys(vm->config, keys, &config, err);

	if (!ret)
		ret = vm_chardev_make(vm, config, ret_pty, err);
	return ret ? vm_general_error(err) : 0;
}

int vm_chardev_remove(struct vm *vm, const char *id, struct err **err)
{
	struct vm_chardev_config *config;
	int ret = cmdline_chardev_check_remove(vm->config, id, &config, err);

	if (ret)
		return vm_general_error(err);
	vm_chardev_close(vm, config);
	cmdline_chardev_remove(vm->config, config);
	return 0;
}

/* ---- descriptors ---- */

struct fds *vm_fds(const struct vm *vm)
{
	return vm->fds;
}

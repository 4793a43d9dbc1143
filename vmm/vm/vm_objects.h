/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects, character devices and descriptors that come and go while a machine runs.
 *
 * I1  A call that fails leaves the machine and its configuration as they were, and says why. The
 *     error is a general one: never ENODEV, ENXIO or ENOSYS, which monitors tell apart.
 * I2  Nothing waits: no client is waited for, no name looked up, no memory allocated beforehand.
 *     Memory that comes is a memory device's, and is allocated as that is plugged.
 *
 * Threads: the main one. A monitor's client controls all arguments.
 */
#ifndef VMM_VM_VM_OBJECTS_H
#define VMM_VM_VM_OBJECTS_H

#include <jansson.h>
#include <stdint.h>

struct err;
struct fds;
struct vm;

/* @values: "qom-type", "id" and the object's properties, as JSON or as strings. */
int vm_object_add(struct vm *vm, const json_t *values, struct err **err);
int vm_object_del(struct vm *vm, const char *id, struct err **err);

/*
 * @backend is QMP's ChardevBackend. *ret_pty is the path of a pseudo-terminal, valid as long as the
 * character device is, or NULL.
 */
int vm_chardev_add(struct vm *vm, const char *id, const json_t *backend, const char **ret_pty,
		   struct err **err);
/* The same from keys of -chardev: "backend", "id" ... */
int vm_chardev_add_keys(struct vm *vm, const json_t *keys, const char **ret_pty, struct err **err);
int vm_chardev_remove(struct vm *vm, const char *id, struct err **err);

/* Descriptors that were handed over (fds.h). */
struct fds *vm_fds(const struct vm *vm);

#endif

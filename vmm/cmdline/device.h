/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices: their names and property tables, for -device and for commands that plug devices, or read
 * and write their properties.
 *
 * I1  Every device is in one constant table; a parsed device has a type of it and values that are
 *     right as far as the device alone can tell. References (memdev, chardev, rng) are still only
 *     names.
 */
#ifndef VMM_CMDLINE_DEVICE_H
#define VMM_CMDLINE_DEVICE_H

#include <jansson.h>

#include "qmp/props.h"
#include "vmm/cmdline/config.h"

struct err;

struct device_class {
	const char *name;
	enum vm_device_type type;
	const char *bus;           /* "PCI", "ISA" */
	const char *help;          /* NULL: another name of the row before, not listed */
	const struct props *props; /* over struct vm_device_config */
};

/* Ends with a row without name. */
extern const struct device_class device_classes[];

/* NULL when there is none. */
const struct device_class *device_class_find(const char *name);

/* Why a device that QEMU has is not there, to stand behind "NAME: "; NULL for any other. */
const char *device_missing_reason(const char *name);
/* The sentence for one that is not in the table; @allowed names some that are. */
int device_unknown(const char *option, const char *name, const char *allowed, struct err **err);

/*
 * Read a device from its keys ("driver", "id", ...). @option starts sentences: "-device". On
 * success *ret_device is to be ended with device_config_done(); on failure it is untouched.
 */
int device_config_parse(const char *option, json_t *values, struct vm_device_config *ret_device,
			struct err **err);
void device_config_done(struct vm_device_config *device);

#endif

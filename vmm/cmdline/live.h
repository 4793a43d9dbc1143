/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parts that come and go while the machine runs: checked by the tables and rules of the command line,
 * refused in the same sentences, against the configuration as it is now.
 *
 * I1  A call that fails leaves the configuration as it was. One that succeeds changes nothing but
 *     the configuration: it is the caller who makes what the part stands for, and who removes the
 *     part again where that fails.
 * I2  A part is removed only while nothing uses it.
 *
 * Threads: the one that the configuration belongs to.
 */
#ifndef VMM_CMDLINE_LIVE_H
#define VMM_CMDLINE_LIVE_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"
#include "vmm/cmdline/config.h"

/*
 * May devices come to the root bus? To a flat one, unless that was forbidden; on other machines they
 * go behind root ports.
 */
bool cmdline_root_has_hotplug(const struct vm_config *config);
/* And to where this one is, a device of PCI? */
bool cmdline_device_has_hotplug(const struct vm_config *config,
				const struct vm_device_config *device);

/*
 * Has the machine "pc" the function 0 of its chipset, the bridge to ISA? It has where another function
 * of that slot is the USB controller, and no device was put at function 0.
 */
bool cmdline_root_has_piix3(const struct vm_config *config);
/* May a device of its kind come and go while the machine runs, where the place allows it? */
bool cmdline_device_can_come(const struct vm_device_config *device);

/*
 * A device from its keys: "driver", "id", "bus" ... Only devices that guests can find later are
 * allowed, and only as the one function of a slot with hot-plug: of a flat root bus, or of a root
 * port, where without "bus" the first that is free is taken. The device is the last of
 * config->devices.
 */
int cmdline_device_add(struct vm_config *config, const json_t *values,
		       struct vm_device_config **ret_device, struct err **err);
/*
 * It is gone from the machine. Frees it, and lets go of what it used. Only for what cmdline_device_add()
 * adds, also if it was there from the start.
 */
void cmdline_device_remove(struct vm_config *config, struct vm_device_config *device);
/* NULL when there is none of that id. */
struct vm_device_config *cmdline_device_find(const struct vm_config *config, const char *id);

/*
 * An object from its keys: "qom-type", "id" ... *ret_memdev is the memory to map, NULL for objects of
 * other kinds.
 */
int cmdline_object_add(struct vm_config *config, const json_t *values,
		       struct vm_memdev_config **ret_memdev, struct err **err);
/*
 * Is it there, and used by nothing? *ret_memdev as above. Then it may be removed, with memory that is no
 * longer mapped.
 */
int cmdline_object_check_remove(const struct vm_config *config, const char *id,
				struct vm_memdev_config **ret_memdev, struct err **err);
void cmdline_object_remove(struct vm_config *config, const char *id);

/*
 * A character device from its id and what QMP's ChardevBackend says: "type", "data". A socket's server is
 * on and its wait off unless it says otherwise.
 */
int cmdline_chardev_add(struct vm_config *config, const char *id, const json_t *backend,
			struct vm_chardev_config **ret_chardev, struct err **err);
/* The same from the keys of -chardev: "backend", "id" ... */
int cmdline_chardev_add_keys(struct vm_config *config, const json_t *keys,
			     struct vm_chardev_config **ret_chardev, struct err **err);
/* Is it there, and used by nothing? */
int cmdline_chardev_check_remove(const struct vm_config *config, const char *id,
				 struct vm_chardev_config **ret_chardev, struct err **err);
void cmdline_chardev_remove(struct vm_config *config, struct vm_chardev_config *chardev);

#endif

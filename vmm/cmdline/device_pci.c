/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices on PCI buses: which bus, slot and function one may have beside the others. Slots that are
 * left to the builder of the machine are no concern here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/live.h"
#include "vmm/piix3/piix3.h"

bool cmdline_device_is_pci(const struct vm_device_config *device)
{
	return device->type != VM_DEVICE_ISA_SERIAL && device->type != VM_DEVICE_PVPANIC;
}

/* "2", or "2.1": as addr= takes it. */
#define ADDR_TEXT_MAX 8
static const char *addr_text(const struct vm_pci_config *pci, char buf[ADDR_TEXT_MAX])
{
	if (pci->function)
		snprintf(buf, ADDR_TEXT_MAX, "%x.%x", pci->slot, pci->function);
	else
		snprintf(buf, ADDR_TEXT_MAX, "%x", pci->slot);
	return buf;
}

/* Resolve bus=, among the devices before @index. */
static int pci_find_bus(const struct vm_config *config, size_t index, const char *what,
			struct err **err)
{
	struct vm_device_config *device = config->devices[index];
	struct vm_pci_config *pci = &device->pci;

	if (!pci->bus || !strcmp(pci->bus, config->machine.root_bus))
		return 0;
	for (size_t i = 0; i < index; i++) {
		const struct vm_device_config *port = config->devices[i];

		if (port->type != VM_DEVICE_ROOT_PORT || !port->id || strcmp(port->id, pci->bus))
			continue;
		if (device->type == VM_DEVICE_ROOT_PORT)
			return err_set(err, EINVAL,
				       "%s: bus=%s is not possible: a root port is on the root bus",
				       what, pci->bus);
		pci->port = port;
		return 0;
	}
	return err_set(err, ENOENT,
		       "%s: there is no bus %s; allowed: %s, and the ids of pcie-root-port devices "
		       "in front of it",
		       what, pci->bus, config->machine.root_bus);
}

/* Functions that share a slot. */
static int pci_check_slot(const char *what, const struct vm_pci_config *pci,
			  const struct vm_pci_config *other, struct err **err)
{
	const struct vm_pci_config *first = pci->function ? other : pci;
	char addr[ADDR_TEXT_MAX];

	if (pci->function == other->function)
		return err_set(err, EBUSY, "%s: addr=%s is in use already", what,
			       addr_text(pci, addr));
	if (first->function || first->multifunction)
		return 0;
	return err_set(err, EBUSY,
		       "%s: addr=%s is in a slot with other functions: function 0 of it needs "
		       "multifunction=on",
		       what, addr_text(pci, addr));
}

/* Behind a root port there is one slot, 0; who names none gets its function 0. */
static int pci_check_port(const struct vm_config *config, size_t index, const char *what,
			  struct err **err)
{
	const struct vm_pci_config *pci = &config->devices[index]->pci;
	char addr[ADDR_TEXT_MAX];
	int ret = 0;

	if (pci->has_addr && pci->slot)
		return err_set(err, EINVAL,
			       "%s: addr=%s is not possible behind a root port; allowed: 0 to 0.7",
			       what, addr_text(pci, addr));
	for (size_t i = 0; i < index && !ret; i++) {
		const struct vm_device_config *other = config->devices[i];

		if (!cmdline_device_is_pci(other) || other->pci.port != pci->port)
			continue;
		if (!pci->function && !other->pci.function)
			return err_set(err, EBUSY,
				       "%s: bus=%s is in use already: behind a root port is room "
				       "for one device, or for the functions of one",
				       what, pci->bus);
		ret = pci_check_slot(what, pci, &other->pci, err);
	}
	return ret;
}

int cmdline_device_find_place(const struct vm_config *config, size_t index, const char *what,
			      struct err **err)
{
	struct vm_pci_config *pci = &config->devices[index]->pci;
	int ret;

	ret = pci_find_bus(config, index, what, err);
	if (ret < 0)
		return ret;
	if (pci->port && config->devices[index]->type == VM_DEVICE_PIIX3_UHCI)
		return err_set(err, EINVAL,
			       "%s: bus=%s is not possible: the controller is on the root bus",
			       what, pci->bus);
	if (pci->port)
		return pci_check_port(config, index, what, err);
	if (pci->has_addr && !pci->slot)
		return err_set(err, EBUSY, "%s: addr=0 is the host bridge's; allowed: 1 to 1f",
			       what);
	for (size_t i = 0; i < index && !ret; i++) {
		const struct vm_device_config *other = config->devices[i];

		if (pci->has_addr && cmdline_device_is_pci(other) && !other->pci.port &&
		    other->pci.has_addr && other->pci.slot == pci->slot)
			ret = pci_check_slot(what, pci, &other->pci, err);
	}
	return ret;
}

static bool pci_has_function_0(const struct vm_config *config, const struct vm_pci_config *pci)
{
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];

		if (cmdline_device_is_pci(device) && device->pci.port == pci->port &&
		    (device->pci.has_addr || pci->port) && device->pci.slot == pci->slot &&
		    !device->pci.function)
			return true;
	}
	return false;
}

/* Is it one of the other functions of the root bus's slot @slot? */
static bool pci_is_in_slot(const struct vm_device_config *device, unsigned int slot)
{
	return cmdline_device_is_pci(device) && !device->pci.port && device->pci.has_addr &&
	       device->pci.slot == slot && device->pci.function;
}

bool cmdline_root_has_piix3(const struct vm_config *config)
{
	static const struct vm_pci_config first = {.has_addr = true, .slot = PIIX3_SLOT};

	if (config->machine.type != VM_MACHINE_PC || pci_has_function_0(config, &first))
		return false;
	for (size_t i = 0; i < config->nr_devices; i++)
		if (config->devices[i]->type == VM_DEVICE_PIIX3_UHCI &&
		    pci_is_in_slot(config->devices[i], PIIX3_SLOT))
			return true;
	return false;
}

int cmdline_usb_finish(struct cmdline *cl, struct err **err)
{
	struct vm_config *config = cl->config;
	struct vm_device_config *device;

	if (!config->machine.usb)
		return 0;
	device = cmdline_part_add(&config->devices, &config->nr_devices, sizeof(*device));
	if (!device)
		return cmdline_oom(err);
	*device = (struct vm_device_config){
		.type = VM_DEVICE_PIIX3_UHCI,
		.pci = {.has_addr = true, .slot = PIIX3_SLOT, .function = PIIX3_UHCI_FUNCTION},
	};
	/* Its slot is taken before those that are chosen. */
	memmove(config->devices + 1, config->devices,
		(config->nr_devices - 1) * sizeof(*config->devices));
	config->devices[0] = device;
	return 0;
}

int cmdline_devices_check_functions(const struct vm_config *config, struct err **err)
{
	char what[CMDLINE_WHAT_MAX], addr[ADDR_TEXT_MAX];

	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];

		if (!cmdline_device_is_pci(device) || !device->pci.function ||
		    pci_has_function_0(config, &device->pci))
			continue;
		if (cmdline_root_has_piix3(config) && pci_is_in_slot(device, PIIX3_SLOT))
			continue;
		cmdline_what(what, "-device", vm_device_type_name(device->type), device->id);
		return err_set(err, EINVAL,
			       "%s: addr=%s is in a slot without function 0, which nobody would "
			       "find",
			       what, addr_text(&device->pci, addr));
	}
	return 0;
}

bool cmdline_root_has_hotplug(const struct vm_config *config)
{
	return config->machine.type == VM_MACHINE_PC && !config->machine.root_fixed;
}

bool cmdline_device_has_hotplug(const struct vm_config *config,
				const struct vm_device_config *device)
{
	if (device->pci.port)
		return device->pci.port->root_port.hotplug;
	return cmdline_root_has_hotplug(config);
}

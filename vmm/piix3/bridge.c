/* SPDX-License-Identifier: BSD-3-Clause */
/* The PIIX3's function 0, the bridge to ISA: see piix3.h. */
#include "vmm/piix3/piix3.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"

#define BRIDGE_VENDOR 0x8086
#define BRIDGE_DEVICE 0x7000
#define BRIDGE_CLASS  0x060100

/* I/O, memory and bus mastering are always on; special cycles may be switched on. */
#define BRIDGE_COMMAND       0x0007
#define BRIDGE_COMMAND_WRITE 0x0008

/* Routes of the four PCI lines: bit 7 off, else bits 3:0 an input of the 8259 pair. */
#define BRIDGE_PIRQ       0x60
#define BRIDGE_PIRQ_OFF   0x80808080
#define BRIDGE_PIRQ_WRITE 0x8f8f8f8f

struct piix3_bridge {
	struct pci_device *dev;
};

static const struct pci_device_ops bridge_ops;

struct piix3_bridge *piix3_bridge_new(struct pci_host *host, struct err **err)
{
	static const struct pci_identity identity = {
		.vendor_id = BRIDGE_VENDOR,
		.device_id = BRIDGE_DEVICE,
		.class_code = BRIDGE_CLASS,
		.fixed = true,
	};
	const struct pci_place place = {pci_host_root(host), PIIX3_SLOT, 0, true};
	struct piix3_bridge *bridge = calloc(1, sizeof(*bridge));

	if (!bridge) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	bridge->dev = pci_device_new(&place, "PIIX3", &identity, &bridge_ops, bridge, err);
	if (!bridge->dev) {
		free(bridge);
		return NULL;
	}
	pci_add_register(bridge->dev, PCI_COMMAND, 2, BRIDGE_COMMAND, BRIDGE_COMMAND_WRITE, 0);
	pci_add_register(bridge->dev, BRIDGE_PIRQ, 4, BRIDGE_PIRQ_OFF, BRIDGE_PIRQ_WRITE, 0);
	return bridge;
}

void piix3_bridge_free(struct piix3_bridge *bridge)
{
	if (!bridge)
		return;
	pci_device_free(bridge->dev);
	free(bridge);
}

void piix3_bridge_save(struct piix3_bridge *bridge, struct pack *out)
{
	pci_device_save(bridge->dev, out);
}

int piix3_bridge_load(struct piix3_bridge *bridge, uint32_t version, struct unpack *in,
		      struct err **err)
{
	if (version != PIIX3_BRIDGE_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, PIIX3_BRIDGE_STATE_VERSION);
	return pci_device_load(bridge->dev, in, err);
}

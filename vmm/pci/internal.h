/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of this folder share: the structures behind pci.h.
 *
 *	host.c		the host bridge, devices and their places, reset
 *	assign.c	addresses at power-on: BARs, the windows of ports
 *	access.c	ECAM and ports 0xCF8/0xCFC, down to (bus, device, function, register)
 *	config.c	one function's configuration space: header, masks, capabilities
 *	bar.c		BARs: their place on the MMIO bus, dispatch of accesses to them
 *	msix.c		MSI-X
 *	intx.c		wired interrupts
 *	port.c		root ports: what passes them, and the link behind them
 *	slot.c		the slot of a root port: plug, unplug, events
 *	root.c		slots of the root bus: plug, unplug by ACPI
 *	list.c		what there is, for monitors
 *	save.c		saved state of a function, of a port, of the host
 *
 * Lock order: host->lock, then msix->lock, then host->intx_lock. Nothing that can block on another
 * thread is called with the last two held.
 */
#ifndef VMM_PCI_INTERNAL_H
#define VMM_PCI_INTERNAL_H

#include <pthread.h>

#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"

#define PCI_SLOTS       32
#define PCI_FUNCTIONS   8
#define PCI_CONFIG_SIZE 256 /* stored; what follows in extended space reads as 0 */
#define PCI_CAPS_MAX    48  /* (256 - 64) / 4: more do not fit */
#define PCI_INTX_LINES  4

/* Port 0xCF8. */
#define PCI_ADDRESS_ENABLE 0x80000000u
#define PCI_ADDRESS_MASK   0x80fffffcu /* the rest is reserved and reads as 0 */

struct pci_bar {
	struct pci_device *dev;
	uint64_t size; /* 0: not implemented */
	bool is_64bit;
	bool is_io;                /* of ports */
	const struct bus_ops *ops; /* the device's own; may be NULL */
	void *opaque;
	bool assigned; /* power_on_gpa counts; guarded by host->lock */
	uint64_t power_on_gpa;
	bool mapped; /* guarded by host->lock */
	struct bus_region region;
};

struct pci_cap {
	uint8_t offset;
	uint8_t size;
	bool handled;
};

struct pci_msix; /* msix.c */

struct pci_device {
	struct pci_host *host;
	struct pci_bus *bus;
	unsigned int devfn; /* slot << 3 | function */
	char *id;
	const struct pci_device_ops *ops;
	void *opaque;
	bool has_intx;
	uint8_t intx_pin; /* 0: INTA */
	bool fixed;       /* or a port: its slot of the root bus has no hot-plug */

	/* Guarded by host->lock: the registers, what they are after reset, what a guest may write.
	 */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t power_on[PCI_CONFIG_SIZE];
	uint8_t write_mask[PCI_CONFIG_SIZE];
	uint8_t clear_mask[PCI_CONFIG_SIZE]; /* a 1 written makes it 0 (RW1C) */

	/* Immutable once the vCPUs run. */
	struct pci_cap caps[PCI_CAPS_MAX];
	unsigned int cap_count;
	unsigned int caps_end; /* first free byte */
	struct pci_bar bars[PCI_BARS];
	struct pci_msix *msix;
	struct pci_port *port; /* it is this root port; else NULL */

	bool bus_master; /* atomic: COMMAND.Bus Master, here and in the port above */

	/* Guarded by host->intx_lock; intx_level is also read atomically without. */
	bool intx_level;    /* what the device asks for */
	bool intx_blocked;  /* COMMAND.INTx Disable, or MSI-X enabled */
	bool intx_asserted; /* counted in host->intx_count */
};

/* One bus of the hierarchy: the root bus, or the link behind a root port, which has slot 0 only. */
struct pci_bus {
	struct pci_host *host;
	struct pci_port *port; /* NULL: the root bus */
	const char *id;
	struct pci_device *functions[PCI_SLOTS * PCI_FUNCTIONS]; /* by devfn; changes under lock */
};

struct pci_port {
	struct pci_port_config config; /* its id is dev's, its place void */
	struct pci_device *dev;
	struct pci_bus bus;
	unsigned int express; /* offset of the capability */
	unsigned int number;  /* of the bus at power-on; set by reset */

	/* Guarded by host->lock. */
	bool assigned;                 /* the windows count; either may be empty */
	struct range memory, prefetch; /* at power-on */
	bool plugged;                  /* what is on the bus is in the slot */
	bool link;                     /* and can be reached: powered, and the link is up */
	bool went_down;                /* and those behind it were not told yet */
	bool interrupting;             /* an enabled event is noted in Slot Status */
	uint16_t control;              /* Slot Control, as it was last acted upon */
};

struct pci_host {
	struct pci_host_config config;
	pthread_mutex_t lock;
	struct pci_bus root;
	struct pci_device *bridge; /* function 00:00.0 */
	struct bus_region ecam_region, address_region, data_region;
	struct bus_region slots_region;
	/* Guarded by lock. */
	uint32_t address; /* port 0xCF8 */
	/* Slots of the root bus, a bit each: what the guest is to be told; what it ejected. */
	uint32_t came, asked, gone;

	pthread_mutex_t intx_lock;
	unsigned int intx_count[PCI_INTX_LINES]; /* functions that assert; guarded by intx_lock */
};

/* access.c */
void pci_access_init(struct pci_host *host);
void pci_access_done(struct pci_host *host);

/* root.c: host->lock held in all but the first two. */
void pci_root_init(struct pci_host *host);
void pci_root_done(struct pci_host *host);
/* @dev left the root bus. */
void pci_root_freed(struct pci_device *dev);
void pci_root_reset(struct pci_host *host);
void pci_root_save(const struct pci_host *host, struct pack *out);
/* What is on the bus is there. */
int pci_root_load(struct pci_host *host, struct unpack *in, struct err **err);

/* The part of an access that a capability's handler sees. */
struct pci_cap_access {
	unsigned int cap;    /* its number */
	unsigned int offset; /* from the capability's start */
	unsigned int size;
	unsigned int shift; /* of these bytes in the access's value, in bits */
};

/*
 * config.c: host->lock held in all but the next three. @reg below 4096; the access lies in one
 * aligned doubleword.
 */
/* True when the access reaches a handled capability beyond its header, and inside its size. */
bool pci_config_handled(const struct pci_device *dev, unsigned int reg, unsigned int size,
			struct pci_cap_access *ret_access);
/* The device's own handlers, without the lock. @value: of the whole access, as stored. */
uint32_t pci_cap_read(struct pci_device *dev, const struct pci_cap_access *access, uint32_t value);
void pci_cap_write(struct pci_device *dev, const struct pci_cap_access *access, uint32_t value);
void pci_config_init(struct pci_device *dev, const struct pci_identity *identity);
uint32_t pci_config_read(struct pci_device *dev, unsigned int reg, unsigned int size);
void pci_config_write(struct pci_device *dev, unsigned int reg, unsigned int size, uint32_t value);
/*
 * Registers to power-on values, BARs to their assigned addresses or, without @addresses, to 0, and
 * what follows from that.
 */
void pci_config_reset(struct pci_device *dev, bool addresses);
/* What depends on registers, here or in the port above: BARs, bus mastering, MSI-X, INTx. */
void pci_config_follow(struct pci_device *dev);
/* The device and the link registers of a PCI Express capability under construction. */
void pci_express_device(uint8_t *bytes, uint8_t *mask);
void pci_express_link(uint8_t *bytes, uint8_t *mask);
/* Of an endpoint: integrated on the root bus, else behind a link. */
int pci_add_express(struct pci_device *dev, struct err **err);
uint16_t pci_config_command(const struct pci_device *dev);

/* assign.c: host->lock held. See pci_host_assign(). */
int pci_assign_all(struct pci_host *host, struct err **err);

/* host.c: the device without capabilities, on its bus. */
struct pci_device *pci_function_new(const struct pci_place *place, const char *id,
				    const struct pci_identity *identity, struct pci_port *port,
				    const struct pci_device_ops *ops, void *opaque,
				    struct err **err);
/* Every function of the bus. */
#define PCI_FOR_EACH(bus, devfn, dev)                               \
	for (devfn = 0; devfn < PCI_SLOTS * PCI_FUNCTIONS; devfn++) \
		if (((dev) = (bus)->functions[devfn]))

/*
 * port.c: without host->lock, on the thread of the vCPU whose access took the link down: link_down()
 * of all that is behind it.
 */
void pci_port_tell_down(struct pci_port *port);
/* port.c: host->lock held in all others. The bus may be the root bus, from which everything passes. */
/* Do functions of @bus answer? */
bool pci_bus_is_up(const struct pci_bus *bus);
/* Do accesses to @r reach @bus? */
bool pci_bus_forwards(const struct pci_bus *bus, struct range r);
/* Do functions of @bus reach memory and interrupt controllers? */
bool pci_bus_may_master(const struct pci_bus *bus);
/* The guest wrote to @size bytes of the port's registers at @reg; they are stored. */
void pci_port_written(struct pci_port *port, unsigned int reg, unsigned int size);
/* Power-on state, behind it as well. @number is that of its bus; 0: there is none left. */
void pci_port_reset(struct pci_port *port, unsigned int number);
/* Whether the link is up, from registers and slot, and all that follows; then the interrupt. */
void pci_port_update(struct pci_port *port);
uint16_t pci_port_get(const struct pci_port *port, unsigned int express_reg);
void pci_port_set(struct pci_port *port, unsigned int express_reg, uint16_t value);
/* The link as slot and registers would have it, and its status. */
bool pci_port_link_wanted(const struct pci_port *port);
uint16_t pci_port_link_status(bool link);

/* slot.c: host->lock held. */
/* Its registers in a PCI Express capability under construction. */
void pci_slot_init(const struct pci_port_config *config, uint8_t *bytes, uint8_t *mask,
		   uint8_t *clear);
/* Events, bits of Slot Status, happened. The interrupt follows with pci_slot_interrupt(). */
void pci_slot_note(struct pci_port *port, uint16_t events);
void pci_slot_interrupt(struct pci_port *port);
/* Is there an event that asks for the interrupt (I2 of slot.c)? */
bool pci_slot_wants_interrupt(const struct pci_port *port);
/* Slot Control was written. */
void pci_slot_command(struct pci_port *port);
/* The last function left the bus. */
void pci_slot_emptied(struct pci_port *port);
void pci_slot_reset(struct pci_port *port);

/* bar.c: host->lock held. */
uint64_t pci_bar_address(const struct pci_device *dev, unsigned int bar);
/* Put each BAR on its bus or take it off, as COMMAND and its address say. */
void pci_bars_update(struct pci_device *dev);
void pci_bars_unmap(struct pci_device *dev);

/* msix.c. The control register changed, or COMMAND.Bus Master did. */
void pci_msix_update(struct pci_device *dev);
/* Power-on state: nothing routed, all masked, nothing pending. Configuration space is the caller's.
 */
void pci_msix_reset(struct pci_device *dev);
void pci_msix_free(struct pci_device *dev);
/* How many there are; 0: no MSI-X. */
unsigned int pci_msix_vectors(const struct pci_device *dev);
/* Number, then entry and pending bit of each. Loading is without the number, and fails @in. */
void pci_msix_save(struct pci_device *dev, struct pack *out);
void pci_msix_load(struct pci_device *dev, struct unpack *in);
/* Is the access to the MSI-X structures in BAR @bar? Then do it. */
bool pci_msix_bar_read(struct pci_device *dev, unsigned int bar, uint64_t offset, unsigned int size,
		       uint64_t *ret_value);
bool pci_msix_bar_write(struct pci_device *dev, unsigned int bar, uint64_t offset,
			unsigned int size, uint64_t value);

/* intx.c */
uint32_t pci_intx_gsi(const struct pci_device *dev);
/* COMMAND.INTx Disable or MSI-X Enable changed. host->lock held. */
void pci_intx_update(struct pci_device *dev);
/* Drop the level, as at power-on. */
void pci_intx_reset(struct pci_device *dev);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hotplug: a driver of PCI Express root ports with slots (PCI Express 5.0, 6.7), of slots of the root
 * bus (vmm/pci/root.c, as ACPI's methods would), and of the memory devices that come and go there.
 * Woken by the ports' interrupts and by the generic event device; place P is the Pth port there is,
 * "s5" slot 5 of the root bus.
 *
 *	port-irq=intx	the ports use their pins, not messages (the devices: irq=, lib/virtio.h)
 *	slots=on	the root bus has slots for devices that come and go
 *	answer=HOW	to the attention button, or to an eject request: off (default) gives the
 *			device up, ignore nothing, keep says no (the power indicator blinks for a
 *			moment), blink lets it blink and no more
 *	follow=0	plug nothing, whatever is asked for
 *
 * It prints:
 *	hotplug: ready ports=N
 *	hotplug P came addr=GPA size=BYTES node=N
 *	hotplug P asked, hotplug P blinks, hotplug P off, hotplug P gone
 *	hotplug P plugged=BYTES		after a change of the device's requested size
 *	hotplug: slots		before the first: slots of the root bus are looked after
 * Orders, one a line: "off P" gives a device up that nobody asked for; "quit" ends the test.
 */
#include <stddef.h>

#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/mem.h"
#include "lib/pci.h"
#include "lib/text.h"
#include "lib/trap.h"
#include "lib/vmem.h"
#include "tests.h"
#include "vmm/machine/platform.h"

#define PORTS_MAX    32u
#define SLOTS        32u
#define LINES_VECTOR 0x28u
#define GED_VECTOR   0x29u
#define PORT_VECTOR  0xb0u /* and those behind it; of inputs that pins share where pins are used */
#define PIN_GSI      16u
#define PORT_ID      0x000cu
#define PORT_VENDOR  0x1b36u
#define VMEM_PCI_ID  ((VIRTIO_DEVICE_0 + VMEM_DEVICE_ID) << 16 | VIRTIO_VENDOR)
#define VIRTIO_BAR   4u /* with its registers */

/* In the Express capability. */
#define LINK_STATUS  0x12u
#define SLOT_CAPS    0x14u
#define SLOT_CONTROL 0x18u
#define SLOT_STATUS  0x1au

#define LINK_ACTIVE     0x2000u
#define SLOT_HOTPLUG    0x0040u
#define CONTROL_EVENTS  0x1039u /* button, presence, command, link; interrupt */
#define CONTROL_ON      0x0100u /* power indicator */
#define CONTROL_BLINK   0x0200u
#define CONTROL_OFF     0x0300u
#define CONTROL_POWER   0x0400u /* off */
#define STATUS_BUTTON   0x0001u
#define STATUS_PRESENCE 0x0008u
#define STATUS_COMMAND  0x0010u
#define STATUS_PRESENT  0x0040u
#define STATUS_EVENTS   0x0119u

/* Registers of the root bus's slots. */
#define SLOTS_CAME   (PLATFORM_PCI_SLOTS_PORT + 0x0)
#define SLOTS_ASKED  (PLATFORM_PCI_SLOTS_PORT + 0x4)
#define SLOTS_EJECT  (PLATFORM_PCI_SLOTS_PORT + 0x8)
#define SLOTS_ANSWER (PLATFORM_PCI_SLOTS_PORT + 0xc)
/* Addresses for what comes to one: a piece each, behind what was assigned at power-on. */
#define SLOT_GPA   (PLATFORM_WINDOW32_BASE + 0x10000000u)
#define SLOT_BYTES 0x100000u

struct port {
	char name[4];
	bool is_slot;       /* of the root bus; then pci is what is in it */
	struct pci_dev pci; /* else it is the port */
	unsigned int cap;
	bool up;                  /* the device has a driver */
	volatile uint32_t events; /* changed by the interrupt handler of a pin */
	struct vmem vmem;
	uint64_t plugged;
};

static struct port ports[PORTS_MAX + SLOTS]; /* the ports, then the slots by their number */
static unsigned int nr_ports;
static bool has_slots;
static volatile uint64_t port_interrupts;

static void port_on_interrupt(void *arg)
{
	(void)arg;
	port_interrupts++;
}

static uint32_t port_read(const struct port *p, unsigned int reg)
{
	return pci_read(p->pci, p->cap + reg, 2);
}

static void port_clear(const struct port *p, uint32_t events)
{
	pci_write(p->pci, p->cap + SLOT_STATUS, 2, events);
}

/* A pin stays up until what it tells of is taken; ports of one slot share one. */
static void port_on_pin(void *arg)
{
	unsigned int gsi = *(const unsigned int *)arg;

	port_interrupts++;
	for (unsigned int i = 0; i < nr_ports; i++) {
		struct port *p = &ports[i];
		uint32_t events;

		if (pci_intx_gsi(p->pci) != gsi)
			continue;
		events = port_read(p, SLOT_STATUS) & STATUS_EVENTS;
		p->events |= events;
		port_clear(p, events);
	}
}

/* Each write is a command, and completes. */
static void port_command(const struct port *p, uint32_t control)
{
	pci_write(p->pci, p->cap + SLOT_CONTROL, 2, control | CONTROL_EVENTS);
	check((port_read(p, SLOT_STATUS) & STATUS_COMMAND) != 0, "hotplug-command",
	      "0x%x is not completed", control);
	port_clear(p, STATUS_COMMAND);
}

static struct pci_dev port_device(const struct port *p)
{
	if (p->is_slot)
		return p->pci;
	return (struct pci_dev){(uint8_t)pci_read(p->pci, PCI_SECONDARY_BUS, 1), 0, 0};
}

static bool port_answers(const struct port *p)
{
	return pci_read(port_device(p), PCI_VENDOR_ID, 4) != 0xffffffffu;
}

/* The driver for a device that has addresses. */
static void port_open(struct port *p)
{
	p->up = vmem_open_at(&p->vmem, port_device(p));
	if (!check(p->up, "hotplug-driver", "the device does not start"))
		return;
	p->plugged = vmem_plugged(&p->vmem);
	console_printf("hotplug %s came addr=0x%lx size=%lu node=%u\n", p->name, p->vmem.addr,
		       p->vmem.region_size, p->vmem.node_id);
}

/* A device is in the slot: power, addresses, driver. */
static void port_up(struct port *p)
{
	port_command(p, CONTROL_ON);
	/* While there was no power the host could take it back; the slot is ready for the next. */
	if ((port_read(p, SLOT_STATUS) & STATUS_PRESENT) == 0)
		return;
	check((port_read(p, LINK_STATUS) & LINK_ACTIVE) != 0, "hotplug-link", "it is down");
	if (!check(port_answers(p), "hotplug-answers", "nothing is there"))
		return;
	/* Another kind of device has power, and no driver. */
	if (pci_read(port_device(p), PCI_VENDOR_ID, 4) != VMEM_PCI_ID)
		return;
	pci_assign(port_device(p));
	port_open(p);
}

/*
 * Without power, or ejected: the device is silent at once, its registers too. In a slot of the
 * root bus the next one may be there already, without addresses.
 */
static void port_check_silent(const struct port *p, uint64_t registers)
{
	check(!port_answers(p) || (p->is_slot && pci_bar(p->pci, VIRTIO_BAR).gpa == 0),
	      "hotplug-silent", "the device answers without power");
	check_equal(mmio_read32(registers), 0xffffffffu, "hotplug-registers");
}

static void port_down(struct port *p)
{
	uint64_t registers = p->vmem.virtio.common;

	p->up = false;
	if (p->is_slot) {
		cpu_outl(SLOTS_EJECT, 1u << p->pci.slot);
		port_check_silent(p, registers);
		console_printf("hotplug %s off\n", p->name);
		return;
	}
	port_command(p, CONTROL_BLINK | CONTROL_POWER);
	port_check_silent(p, registers);
	check((port_read(p, LINK_STATUS) & LINK_ACTIVE) == 0, "hotplug-link-down", "it is up");
	port_command(p, CONTROL_OFF | CONTROL_POWER);
	/* The next device may be there already; that this one left is noted. */
	check((port_read(p, SLOT_STATUS) & STATUS_PRESENCE) != 0, "hotplug-left",
	      "presence did not change");
	console_printf("hotplug %s off\n", p->name);
}

static void port_asked(struct port *p)
{
	console_printf("hotplug %s asked\n", p->name);
	if (arg_is("answer", "ignore"))
		return;
	if (arg_is("answer", "keep") && p->is_slot) {
		cpu_outl(SLOTS_ANSWER, p->pci.slot | PLATFORM_PCI_SLOT_KEPT);
		return;
	}
	if (!p->is_slot)
		port_command(p, CONTROL_BLINK);
	if (arg_is("answer", "blink"))
		console_printf("hotplug %s blinks\n", p->name);
	else if (arg_is("answer", "keep"))
		port_command(p, CONTROL_ON);
	else
		port_down(p);
}

/* A memory device is in a slot of the root bus. */
static void slot_up(struct port *p)
{
	if (p->up || pci_read(p->pci, PCI_VENDOR_ID, 4) != VMEM_PCI_ID)
		return;
	if (pci_bar(p->pci, VIRTIO_BAR).gpa == 0)
		pci_assign_from(p->pci, SLOT_GPA + p->pci.slot * SLOT_BYTES);
	port_open(p);
}

/* What the event device says of the slots. False: nothing. */
static bool slots_turn(void)
{
	uint32_t came, asked;

	if (!has_slots || (cpu_inb(PLATFORM_GED_PORT) & PLATFORM_GED_EVENT_PCI_SLOTS) == 0)
		return false;
	came = cpu_inl(SLOTS_CAME);
	asked = cpu_inl(SLOTS_ASKED);
	for (unsigned int i = 0; i < SLOTS; i++) {
		struct port *p = &ports[PORTS_MAX + i];

		if ((came >> i & 1) != 0)
			slot_up(p);
		if ((asked >> i & 1) != 0 && p->up)
			port_asked(p);
	}
	return true;
}

/* False: there was nothing to do. */
static bool port_turn(struct port *p)
{
	uint32_t status = port_read(p, SLOT_STATUS) | p->events;
	bool present = (status & STATUS_PRESENT) != 0;

	if ((status & STATUS_EVENTS) == 0)
		return false;
	p->events = 0;
	port_clear(p, status & STATUS_EVENTS);
	if (present && !p->up)
		port_up(p);
	else if (present && (status & STATUS_BUTTON) != 0)
		port_asked(p);
	else if (!present && (status & STATUS_PRESENCE) != 0)
		console_printf("hotplug %s gone\n", p->name);
	return true;
}

/* Follow the requested size, in blocks from the region's start on. */
static bool port_follow(struct port *p)
{
	uint64_t wanted = p->up ? vmem_requested(&p->vmem) : 0;
	uint16_t type;

	if (!p->up || wanted == p->plugged || arg_number("follow", 1) == 0)
		return false;
	if (wanted > p->plugged)
		type = vmem_plug_bytes(&p->vmem, p->plugged, wanted - p->plugged);
	else
		type = vmem_unplug_bytes(&p->vmem, wanted, p->plugged - wanted);
	/* Overtaken by another size, or by a stop: again. */
	if (type == VMEM_RESP_NACK || type == VMEM_RESP_BUSY)
		return true;
	check_equal(type, VMEM_RESP_ACK, "hotplug-request");
	p->plugged = vmem_plugged(&p->vmem);
	console_printf("hotplug %s plugged=%lu\n", p->name, p->plugged);
	return true;
}

static bool hotplug_turn(void)
{
	bool any = slots_turn();

	for (unsigned int i = 0; i < nr_ports; i++)
		any = port_turn(&ports[i]) || any;
	for (unsigned int i = 0; i < PORTS_MAX + SLOTS; i++)
		any = port_follow(&ports[i]) || any;
	return any;
}

static bool port_set_interrupt(struct port *p)
{
	static unsigned int pins[4];
	unsigned int vector = PORT_VECTOR + (unsigned int)(p - ports), gsi;
	struct pci_msix msix;

	if (arg_is("port-irq", "intx")) {
		gsi = pci_intx_gsi(p->pci);
		pins[gsi - PIN_GSI] = gsi;
		vector = PORT_VECTOR + gsi - PIN_GSI;
		trap_set_handler(vector, port_on_pin, &pins[gsi - PIN_GSI]);
		apic_route_gsi(acpi_ioapic_gpa(), gsi, vector, true);
		return true;
	}
	msix = pci_msix_find(p->pci);
	trap_set_handler(vector, port_on_interrupt, p);
	pci_msix_route(&msix, 0, vector);
	pci_msix_enable(p->pci, &msix, true);
	return check_equal(msix.vectors, 1, "hotplug-msix");
}

static void port_init(struct port *p)
{
	pci_enable(p->pci);
	if (!port_set_interrupt(p))
		return;
	port_clear(p, STATUS_EVENTS);
	if ((port_read(p, SLOT_STATUS) & STATUS_PRESENT) != 0)
		port_up(p);
	else
		port_command(p, CONTROL_OFF | CONTROL_POWER);
}

static void port_set_name(struct port *p, const char *prefix, unsigned int number)
{
	char *at = p->name;

	while (*prefix != 0)
		*at++ = *prefix++;
	if (number >= 10)
		*at++ = (char)('0' + number / 10);
	*at++ = (char)('0' + number % 10);
	*at = 0;
}

static void ged_on_interrupt(void *arg)
{
	(void)arg;
	port_interrupts++;
}

/* Also for what is in the slots already. */
static void slots_init(void)
{
	has_slots = arg_is("slots", "on");
	if (!has_slots)
		return;
	trap_set_handler(GED_VECTOR, ged_on_interrupt, NULL);
	apic_route_gsi(acpi_ioapic_gpa(), PLATFORM_GED_GSI, GED_VECTOR, false);
	console_printf("hotplug: slots\n");
	for (unsigned int i = 0; i < SLOTS; i++) {
		struct port *p = &ports[PORTS_MAX + i];

		port_set_name(p, "s", i);
		p->is_slot = true;
		p->pci.slot = (uint8_t)i;
		slot_up(p);
	}
}

static void hotplug_init(void)
{
	struct pci_dev dev;

	for (unsigned int n = 0; nr_ports < PORTS_MAX && pci_find(PORT_VENDOR, PORT_ID, n, &dev);
	     n++) {
		struct port *p = &ports[nr_ports];

		port_set_name(p, "", nr_ports);
		p->pci = dev;
		p->cap = pci_capability(dev, PCI_CAP_EXPRESS, 0);
		if (p->cap == 0 || (port_read(p, SLOT_CAPS) & SLOT_HOTPLUG) == 0)
			continue;
		nr_ports++;
		port_init(p);
	}
}

/* False when the test is to end. */
static bool hotplug_order(const char *line)
{
	if (strcmp(line, "quit") == 0)
		return false;
	for (struct port *p = ports; p < ports + PORTS_MAX + SLOTS; p++) {
		if (!p->up || !text_has_prefix(line, "off ") || strcmp(line + 4, p->name) != 0)
			continue;
		port_down(p);
		return true;
	}
	console_printf("order not understood: %s\n", line);
	return true;
}

static uint64_t hotplug_events(void)
{
	uint64_t events = port_interrupts;

	for (unsigned int i = 0; i < PORTS_MAX + SLOTS; i++)
		events += ports[i].vmem.virtio.config_interrupts;
	return events;
}

void test_hotplug(void)
{
	char line[LINES_MAX];
	uint64_t seen;

	lines_init(LINES_VECTOR);
	slots_init();
	hotplug_init();
	check(nr_ports > 0 || has_slots, "hotplug-ports", "there is none");
	seen = hotplug_events();
	while (hotplug_turn())
		continue;
	console_printf("hotplug: ready ports=%u\n", nr_ports);
	for (;;) {
		cpu_interrupts_off();
		if (lines_get(line)) {
			if (!hotplug_order(line))
				return;
		} else if (seen == hotplug_events()) {
			cpu_sleep();
			continue;
		}
		seen = hotplug_events();
		while (hotplug_turn())
			continue;
	}
}

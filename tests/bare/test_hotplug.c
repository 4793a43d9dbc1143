/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hotplug: a driver of PCI Express root ports with slots (PCI Express 5.0, 6.7) and of the memory
 * devices that come and go behind them. Woken by the ports' interrupts; port P is the Pth there is.
 *
 *	port-irq=intx	the ports use their pins, not messages (the devices: irq=, lib/virtio.h)
 *	answer=HOW	to the attention button: off (default) gives the device up, ignore nothing,
 *			blink lets the power indicator blink and no more, keep for a moment only
 *	follow=0	plug nothing, whatever is asked for
 *
 * It prints:
 *	hotplug: ready ports=N
 *	hotplug P came addr=GPA size=BYTES node=N
 *	hotplug P asked, hotplug P blinks, hotplug P off, hotplug P gone
 *	hotplug P plugged=BYTES		after a change of the device's requested size
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

#define PORTS_MAX    4u
#define LINES_VECTOR 0x28u
#define PORT_VECTOR  0x2au /* and those behind it */
#define PORT_ID      0x000cu
#define PORT_VENDOR  0x1b36u

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

struct port {
	struct pci_dev pci;
	unsigned int cap;
	bool up;                  /* the device has a driver */
	volatile uint32_t events; /* changed by the interrupt handler of a pin */
	struct vmem vmem;
	uint64_t plugged;
};

static struct port ports[PORTS_MAX];
static unsigned int nr_ports;
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

/* A pin stays up until what it tells of is taken. */
static void port_on_pin(void *arg)
{
	struct port *p = arg;
	uint32_t events = port_read(p, SLOT_STATUS) & STATUS_EVENTS;

	port_interrupts++;
	p->events |= events;
	port_clear(p, events);
}

/* Each write is a command, and completes. */
static void port_command(const struct port *p, uint32_t control)
{
	pci_write(p->pci, p->cap + SLOT_CONTROL, 2, control | CONTROL_EVENTS);
	check((port_read(p, SLOT_STATUS) & STATUS_COMMAND) != 0, "hotplug-command",
	      "0x%x is not completed", control);
	port_clear(p, STATUS_COMMAND);
}

static unsigned int port_number(const struct port *p)
{
	return (unsigned int)(p - ports);
}

static struct pci_dev port_device(const struct port *p)
{
	return (struct pci_dev){(uint8_t)pci_read(p->pci, PCI_SECONDARY_BUS, 1), 0, 0};
}

static bool port_answers(const struct port *p)
{
	return pci_read(port_device(p), PCI_VENDOR_ID, 4) != 0xffffffffu;
}

/* A device is in the slot: power, addresses, driver. */
static void port_up(struct port *p)
{
	unsigned int nth = 0;

	port_command(p, CONTROL_ON);
	/* While there was no power the host could take it back; the slot is ready for the next. */
	if ((port_read(p, SLOT_STATUS) & STATUS_PRESENT) == 0)
		return;
	check((port_read(p, LINK_STATUS) & LINK_ACTIVE) != 0, "hotplug-link", "it is down");
	if (!check(port_answers(p), "hotplug-answers", "nothing is there"))
		return;
	pci_assign(port_device(p));
	/* The driver's library counts devices over all buses. */
	for (unsigned int i = 0; i < port_number(p); i++)
		nth += ports[i].up;
	p->up = vmem_open(&p->vmem, nth);
	if (!check(p->up, "hotplug-driver", "the device does not start"))
		return;
	p->plugged = vmem_plugged(&p->vmem);
	console_printf("hotplug %u came addr=0x%lx size=%lu node=%u\n", port_number(p),
		       p->vmem.addr, p->vmem.region_size, p->vmem.node_id);
}

/* Power off: the device is silent at once, its registers too. */
static void port_down(struct port *p)
{
	uint64_t registers = p->vmem.virtio.common;

	port_command(p, CONTROL_BLINK | CONTROL_POWER);
	check(!port_answers(p), "hotplug-silent", "the device answers without power");
	check_equal(mmio_read32(registers), 0xffffffffu, "hotplug-registers");
	check((port_read(p, LINK_STATUS) & LINK_ACTIVE) == 0, "hotplug-link-down", "it is up");
	port_command(p, CONTROL_OFF | CONTROL_POWER);
	/* The next device may be there already; that this one left is noted. */
	check((port_read(p, SLOT_STATUS) & STATUS_PRESENCE) != 0, "hotplug-left",
	      "presence did not change");
	p->up = false;
	console_printf("hotplug %u off\n", port_number(p));
}

static void port_asked(struct port *p)
{
	console_printf("hotplug %u asked\n", port_number(p));
	if (arg_is("answer", "ignore"))
		return;
	if (arg_is("answer", "blink")) {
		port_command(p, CONTROL_BLINK);
		console_printf("hotplug %u blinks\n", port_number(p));
		return;
	}
	if (arg_is("answer", "keep")) {
		port_command(p, CONTROL_BLINK);
		port_command(p, CONTROL_ON);
		return;
	}
	port_command(p, CONTROL_BLINK);
	port_down(p);
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
		console_printf("hotplug %u gone\n", port_number(p));
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
	console_printf("hotplug %u plugged=%lu\n", port_number(p), p->plugged);
	return true;
}

static bool hotplug_turn(void)
{
	bool any = false;

	for (unsigned int i = 0; i < nr_ports; i++) {
		any = port_turn(&ports[i]) || any;
		any = port_follow(&ports[i]) || any;
	}
	return any;
}

static bool port_set_interrupt(struct port *p)
{
	unsigned int vector = PORT_VECTOR + port_number(p);
	struct pci_msix msix;

	if (arg_is("port-irq", "intx")) {
		trap_set_handler(vector, port_on_pin, p);
		apic_route_gsi(acpi_ioapic_gpa(), pci_intx_gsi(p->pci), vector, true);
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

static void hotplug_init(void)
{
	struct pci_dev dev;

	for (unsigned int n = 0; nr_ports < PORTS_MAX && pci_find(PORT_VENDOR, PORT_ID, n, &dev);
	     n++) {
		struct port *p = &ports[nr_ports];

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
	unsigned int index = (unsigned int)(line[4] - '0');

	if (strcmp(line, "quit") == 0)
		return false;
	if (text_has_prefix(line, "off ") && index < nr_ports && ports[index].up)
		port_down(&ports[index]);
	else
		console_printf("order not understood: %s\n", line);
	return true;
}

static uint64_t hotplug_events(void)
{
	uint64_t events = port_interrupts;

	for (unsigned int i = 0; i < nr_ports; i++)
		events += ports[i].vmem.virtio.config_interrupts;
	return events;
}

void test_hotplug(void)
{
	char line[LINES_MAX];
	uint64_t seen;

	lines_init(LINES_VECTOR);
	hotplug_init();
	check(nr_ports > 0, "hotplug-ports", "there is none");
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

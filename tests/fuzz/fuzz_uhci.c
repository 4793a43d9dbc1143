/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer entry for the PIIX3: what a guest can do to the USB controller and the bridge beside it, by
 * ports and by configuration space, while time goes on, the machine is reset, or moves. The input is a
 * series of steps of eight bytes; one of them has a damaged state loaded. After each
 * step the rules of vmm/piix3/piix3.h hold: no interrupt, no device, halted or running.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"
#include "vmm/piix3/piix3.h"

#define ECAM      UINT64_C(0xb0000000)
#define WINDOW32  UINT64_C(0xc0000000)
#define IO_BASE   0xd00u
#define IO_SIZE   0xf300u
#define STEP      8
#define STEP_LOAD 0xff

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct hv hv;
	struct bus *mmio, *pio;
	struct pci_host *host;
	struct piix3_bridge *bridge;
	struct piix3_uhci *uhci;
	uint64_t now_ns;
	unsigned int lines; /* inputs that are high */
};

static void check(bool rule)
{
	if (!rule)
		abort();
}

static void world_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	struct world *w = container_of(hv, struct world, hv);

	(void)gsi;
	w->lines += level ? 1u : UINT32_MAX;
}

static const struct hv_ops world_ops = {.line_set = world_line_set};

static uint64_t world_now(void *opaque)
{
	return ((const struct world *)opaque)->now_ns;
}

static void world_open(struct world *w)
{
	struct pci_place place = {.slot = PIIX3_SLOT, .function = PIIX3_UHCI_FUNCTION};
	struct pci_host_config config = {
		.id = "pci.0",
		.hv = &w->hv,
		.ecam = {ECAM, MIB},
		.window32 = {WINDOW32, MIB},
		.window_io = {IO_BASE, IO_SIZE},
		.intx_gsi = 16,
	};

	w->hv.ops = &world_ops;
	config.mmio = w->mmio = bus_new();
	config.pio = w->pio = bus_new();
	w->host = pci_host_new(&config, NULL);
	check(w->host);
	place.bus = pci_host_root(w->host);
	w->bridge = piix3_bridge_new(w->host, NULL);
	w->uhci = piix3_uhci_new(&place, "usb", world_now, w, NULL);
	check(w->bridge && w->uhci && !pci_host_assign(w->host, NULL));
	pci_host_reset(w->host);
}

static void world_close(struct world *w)
{
	piix3_uhci_free(w->uhci);
	piix3_bridge_free(w->bridge);
	pci_host_free(w->host);
	bus_free(w->mmio);
	bus_free(w->pio);
	check(!w->lines);
}

static void world_check(struct world *w)
{
	struct pci_bar_info bar;
	uint64_t low, frame, ports, more;

	check(!w->lines && pci_device_bar(piix3_uhci_device(w->uhci), 4, &bar));
	check(bar.is_io && (!bar.mapped ||
			    (bar.gpa.start >= IO_BASE && range_end(bar.gpa) <= IO_BASE + IO_SIZE)));
	if (!bar.mapped)
		return;
	bus_read(w->pio, bar.gpa.start, 4, &low);
	bus_read(w->pio, bar.gpa.start + 6, 2, &frame);
	bus_read(w->pio, bar.gpa.start + 0x10, 4, &ports);
	bus_read(w->pio, bar.gpa.start + 0x14, 4, &more);
	check((low >> 16 == 0x20) == !(low & 1) && !(low & 0xff02) && !(low >> 16 & ~0x20u));
	check(frame < 2048 && (ports & ~UINT64_C(0x12401240)) == 0x00800080 && !more);
}

/* To another machine, which tells the same of itself. */
static void world_move(struct world *w)
{
	struct pack first = {0}, second = {0};
	struct unpack in;

	piix3_bridge_save(w->bridge, &first);
	piix3_uhci_save(w->uhci, &first);
	check(!pack_failed(&first));
	pci_host_reset(w->host);
	w->now_ns += 1000;
	in = unpack_begin(first.bytes, first.size);
	check(!piix3_bridge_load(w->bridge, PIIX3_BRIDGE_STATE_VERSION, &in, NULL) &&
	      !piix3_uhci_load(w->uhci, PIIX3_UHCI_STATE_VERSION, &in, NULL) && unpack_ended(&in));
	piix3_bridge_save(w->bridge, &second);
	piix3_uhci_save(w->uhci, &second);
	check(first.size == second.size);
	for (size_t i = 0; i < first.size; i++)
		check(first.bytes[i] == second.bytes[i]);
	pack_done(&first);
	pack_done(&second);
}

/* byte 0: what; 1: size and function; 2-3: place; 4-7: value. */
static void world_step(struct world *w, const uint8_t step[STEP])
{
	unsigned int bytes = 1u << (step[1] & 3);
	uint64_t function = step[1] & 4 ? PIIX3_UHCI_FUNCTION : 0;
	uint64_t at = bytes_get_le(step + 2, 2), value = bytes_get_le(step + 4, 4), result;
	struct pci_bar_info bar;

	pci_device_bar(piix3_uhci_device(w->uhci), 4, &bar);
	switch (step[0] % 8) {
	case 0:
	case 1:
		bus_write(w->pio, bar.gpa.start + at % 40, bytes, value);
		break;
	case 2:
		bus_read(w->pio, bar.gpa.start + at % 40, bytes, &result);
		break;
	case 3:
		bus_write(w->mmio, ECAM + (PIIX3_SLOT * 8 + function) * 4096 + at % 256, bytes,
			  value);
		break;
	case 4:
		w->now_ns += value << (step[1] >> 4);
		break;
	case 5:
		/* Where drivers begin. */
		bus_write(w->mmio, ECAM + (PIIX3_SLOT * 8 + PIIX3_UHCI_FUNCTION) * 4096 + 4, 2,
			  PCI_COMMAND_IO | PCI_COMMAND_BUS_MASTER);
		break;
	case 6:
		world_move(w);
		break;
	default:
		if (value % 4 == 0)
			pci_host_reset(w->host);
	}
}

/* A stranger's state, of which a damaged one leaves what a guest could have made. */
static void world_load(struct world *w, const uint8_t *data, size_t size)
{
	struct pack own = {0};
	struct err *err = NULL;
	struct unpack in;
	int ret;

	/* Its own with some bytes changed gets further than any other. */
	piix3_uhci_save(w->uhci, &own);
	check(!pack_failed(&own));
	for (size_t i = 0; i + 2 <= size && i < 8; i += 2)
		own.bytes[own.size - 1 - data[i] % own.size] = data[i + 1];
	in = unpack_begin(own.bytes, own.size);
	ret = piix3_uhci_load(w->uhci, PIIX3_UHCI_STATE_VERSION, &in, &err);
	check(!ret == !err);
	err_free(err);
	pack_done(&own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.now_ns = 1};

	world_open(&w);
	for (; size >= STEP; data += STEP, size -= STEP) {
		if (data[0] == STEP_LOAD)
			world_load(&w, data + STEP, size - STEP);
		else
			world_step(&w, data);
		world_check(&w);
	}
	world_close(&w);
	return 0;
}

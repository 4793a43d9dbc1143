/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PIIX3's function 2, a UHCI host controller: see piix3.h. Names of registers are those of the
 * design guide, sections 2.1 (ports) and 5.2 (legacy support).
 *
 * What the guide leaves open: registers of 16 bits are for accesses of 16 bits, or of 32 to two of
 * them; a write of one byte changes SOFMOD and FRBASEADD, and no other. Reading works at any size.
 */
#include "vmm/piix3/piix3.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/pack.h"
#include "vmm/pci/pci.h"

#define UHCI_VENDOR   0x8086
#define UHCI_DEVICE   0x7020
#define UHCI_REVISION 0x01
#define UHCI_CLASS    0x0c0300
#define UHCI_PIN_D    3

#define UHCI_BAR   4
#define UHCI_PORTS 32 /* of the BAR: ten registers, the rest reads as 0 */

/* Configuration space. */
#define UHCI_SBRN         0x60 /* release of the USB specification: 1.0 */
#define UHCI_SBRN_1_0     0x10
#define UHCI_LEGSUP       0xc0
#define UHCI_LEGSUP_START 0x2000 /* USB interrupts are passed on */
#define UHCI_LEGSUP_WRITE 0x20bf
#define UHCI_LEGSUP_CLEAR 0x8f00

#define UHCI_USBCMD    0x00
#define UHCI_USBSTS    0x02
#define UHCI_USBINTR   0x04
#define UHCI_FRNUM     0x06
#define UHCI_FRBASEADD 0x08
#define UHCI_SOFMOD    0x0c
#define UHCI_PORTSC1   0x10
#define UHCI_PORTSC2   0x12
#define UHCI_ROOT      2 /* ports for devices */

#define UHCI_CMD_RUN     0x0001
#define UHCI_CMD_HCRESET 0x0002
#define UHCI_CMD_GRESET  0x0004
/* Besides: global suspend, force resume, debug, configured, packet size. */
#define UHCI_CMD_WRITE   0x00ff
#define UHCI_STS_HALTED  0x0020
#define UHCI_INTR_WRITE  0x000f
#define UHCI_FRNUM_WRITE 0x07ff
#define UHCI_BASE_WRITE  0xfffff000u
#define UHCI_SOF_WRITE   0x7f
#define UHCI_SOF_START   0x40
/*
 * Resume, reset and suspend. Nothing is connected, so the other bits, enable among them, stay 0, but
 * for one that is always 1.
 */
#define UHCI_PORT_WRITE  0x1240
#define UHCI_PORT_ALWAYS 0x0080

/* Bit times in a frame without SOFMOD, and in a second. */
#define UHCI_FRAME_BITS UINT64_C(11936)
#define UHCI_BITS_MHZ   12u

struct piix3_uhci {
	struct pci_device *dev;
	uint64_t (*now_ns)(void *opaque);
	void *opaque;

	pthread_mutex_t lock; /* guards what follows */
	uint16_t cmd, intr;
	uint32_t base;
	uint8_t sof;
	uint16_t port[UHCI_ROOT];
	/* FRNUM was frame_start at start_ns; while halted it still is. */
	uint16_t frame_start;
	uint64_t start_ns;
};

static uint64_t uhci_host_ns(void *opaque)
{
	struct timespec now;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* All of these: lock held. */

static bool uhci_runs(const struct piix3_uhci *u)
{
	return u->cmd & UHCI_CMD_RUN;
}

static uint16_t uhci_frame(const struct piix3_uhci *u)
{
	uint64_t us, frames = 0;

	if (uhci_runs(u)) {
		us = (u->now_ns(u->opaque) - u->start_ns) / 1000;
		/* In microseconds there is room for centuries of bit times. */
		frames = us * UHCI_BITS_MHZ / (UHCI_FRAME_BITS + u->sof);
	}
	return (uint16_t)((u->frame_start + frames) & UHCI_FRNUM_WRITE);
}

/* FRNUM is @frame from now on. */
static void uhci_set_frame(struct piix3_uhci *u, uint16_t frame)
{
	u->frame_start = frame & UHCI_FRNUM_WRITE;
	u->start_ns = u->now_ns(u->opaque);
}

/* Host Controller Reset (2.1.1): of the ports it drops what a device would have caused. */
static void uhci_reset_controller(struct piix3_uhci *u)
{
	u->cmd = 0;
	u->intr = 0;
	u->base = 0;
	u->sof = UHCI_SOF_START;
	uhci_set_frame(u, 0);
}

/* Global Reset, and power-on. */
static void uhci_reset_all(struct piix3_uhci *u)
{
	uhci_reset_controller(u);
	u->port[0] = u->port[1] = 0;
}

/* Ten registers as bytes. */
static void uhci_image(const struct piix3_uhci *u, uint8_t image[UHCI_PORTS])
{
	uint8_t *const end = image + UHCI_PORTS;

	for (uint8_t *byte = image; byte < end; byte++)
		*byte = 0;
	bytes_put_le(image + UHCI_USBCMD, 2, u->cmd);
	bytes_put_le(image + UHCI_USBSTS, 2, uhci_runs(u) ? 0 : UHCI_STS_HALTED);
	bytes_put_le(image + UHCI_USBINTR, 2, u->intr);
	bytes_put_le(image + UHCI_FRNUM, 2, uhci_frame(u));
	bytes_put_le(image + UHCI_FRBASEADD, 4, u->base);
	image[UHCI_SOFMOD] = u->sof;
	bytes_put_le(image + UHCI_PORTSC1, 2, u->port[0] | UHCI_PORT_ALWAYS);
	bytes_put_le(image + UHCI_PORTSC2, 2, u->port[1] | UHCI_PORT_ALWAYS);
}

static uint64_t uhci_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct piix3_uhci *u = opaque;
	uint8_t image[UHCI_PORTS];

	pthread_mutex_lock(&u->lock);
	uhci_image(u, image);
	pthread_mutex_unlock(&u->lock);
	return bytes_get_le(image + offset, size);
}

static void uhci_command(struct piix3_uhci *u, uint16_t value)
{
	bool starts_or_stops = (value ^ u->cmd) & UHCI_CMD_RUN;
	uint16_t frame = uhci_frame(u);

	/* The first lasts as long as the guest has it so, the second is over at once. */
	if (value & UHCI_CMD_GRESET) {
		uhci_reset_all(u);
		u->cmd = UHCI_CMD_GRESET;
	} else if (value & UHCI_CMD_HCRESET) {
		uhci_reset_controller(u);
	} else {
		u->cmd = value & UHCI_CMD_WRITE;
		if (starts_or_stops)
			uhci_set_frame(u, frame);
	}
}

/* The register of 16 bits at @offset. Status has nothing that could be cleared (I1 of piix3.h). */
static void uhci_write_word(struct piix3_uhci *u, unsigned int offset, uint16_t value)
{
	switch (offset) {
	case UHCI_USBCMD:
		uhci_command(u, value);
		break;
	case UHCI_USBINTR:
		u->intr = value & UHCI_INTR_WRITE;
		break;
	case UHCI_FRNUM:
		if (!uhci_runs(u))
			uhci_set_frame(u, value);
		break;
	case UHCI_PORTSC1:
	case UHCI_PORTSC2:
		u->port[(offset - UHCI_PORTSC1) / 2] = value & UHCI_PORT_WRITE;
		break;
	default:
		break;
	}
}

/* FRBASEADD and SOFMOD, of which each byte may be written. */
static void uhci_write_byte(struct piix3_uhci *u, unsigned int offset, uint8_t value)
{
	unsigned int shift;

	if (offset == UHCI_SOFMOD) {
		/* The frames till now had the old length. */
		uhci_set_frame(u, uhci_frame(u));
		u->sof = value & UHCI_SOF_WRITE;
	} else if (offset >= UHCI_FRBASEADD && offset < UHCI_FRBASEADD + 4) {
		shift = 8 * (offset - UHCI_FRBASEADD);
		u->base = ((u->base & ~(0xffu << shift)) | (uint32_t)value << shift) &
			  UHCI_BASE_WRITE;
	}
}

static void uhci_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct piix3_uhci *u = opaque;

	pthread_mutex_lock(&u->lock);
	for (unsigned int i = 0; i < size; i++) {
		unsigned int at = (unsigned int)offset + i;

		uhci_write_byte(u, at, (uint8_t)(value >> (8 * i)));
		if (at % 2 == 0 && i + 2 <= size)
			uhci_write_word(u, at, (uint16_t)(value >> (8 * i)));
	}
	pthread_mutex_unlock(&u->lock);
}

static const struct bus_ops uhci_bus_ops = {.read = uhci_read, .write = uhci_write};

static void uhci_reset(void *opaque)
{
	struct piix3_uhci *u = opaque;

	pthread_mutex_lock(&u->lock);
	uhci_reset_all(u);
	pthread_mutex_unlock(&u->lock);
}

static const struct pci_device_ops uhci_pci_ops = {.reset = uhci_reset};

static int uhci_add_to_bus(struct piix3_uhci *u, const struct pci_place *place, const char *id,
			   struct err **err)
{
	static const struct pci_identity identity = {
		.vendor_id = UHCI_VENDOR,
		.device_id = UHCI_DEVICE,
		.revision_id = UHCI_REVISION,
		.class_code = UHCI_CLASS,
		.intx = true,
		.intx_pin = UHCI_PIN_D,
		.fixed = true,
	};

	u->dev = pci_device_new(place, id, &identity, &uhci_pci_ops, u, err);
	if (!u->dev)
		return -EINVAL;
	if (pci_add_io_bar(u->dev, UHCI_BAR, UHCI_PORTS, "uhci", &uhci_bus_ops, u, err)) {
		pci_device_free(u->dev);
		return -EINVAL;
	}
	pci_add_register(u->dev, UHCI_SBRN, 1, UHCI_SBRN_1_0, 0, 0);
	pci_add_register(u->dev, UHCI_LEGSUP, 2, UHCI_LEGSUP_START, UHCI_LEGSUP_WRITE,
			 UHCI_LEGSUP_CLEAR);
	return 0;
}

struct piix3_uhci *piix3_uhci_new(const struct pci_place *place, const char *id,
				  uint64_t (*now_ns)(void *opaque), void *opaque, struct err **err)
{
	struct piix3_uhci *u = calloc(1, sizeof(*u));

	if (!u || pthread_mutex_init(&u->lock, NULL)) {
		free(u);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	u->now_ns = now_ns ? now_ns : uhci_host_ns;
	u->opaque = opaque;
	uhci_reset_all(u);
	if (uhci_add_to_bus(u, place, id, err)) {
		pthread_mutex_destroy(&u->lock);
		free(u);
		return NULL;
	}
	return u;
}

void piix3_uhci_free(struct piix3_uhci *u)
{
	if (!u)
		return;
	pci_device_free(u->dev);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

struct pci_device *piix3_uhci_device(struct piix3_uhci *u)
{
	return u->dev;
}

/* ---- saved state ---- */

void piix3_uhci_save(struct piix3_uhci *u, struct pack *out)
{
	pci_device_save(u->dev, out);
	pthread_mutex_lock(&u->lock);
	pack_u16(out, u->cmd);
	pack_u16(out, u->intr);
	pack_u16(out, uhci_frame(u));
	pack_u32(out, u->base);
	pack_u8(out, u->sof);
	for (unsigned int i = 0; i < UHCI_ROOT; i++)
		pack_u16(out, u->port[i]);
	pthread_mutex_unlock(&u->lock);
}

/* A register whose bits are all of @mask; anything else fails @in. */
static uint32_t uhci_masked(struct unpack *in, uint32_t value, uint32_t mask)
{
	if (value & ~mask)
		unpack_fail(in);
	return value & mask;
}

int piix3_uhci_load(struct piix3_uhci *u, uint32_t version, struct unpack *in, struct err **err)
{
	struct piix3_uhci loaded = {.dev = NULL};
	uint16_t frame;
	int ret;

	if (version != PIIX3_UHCI_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, PIIX3_UHCI_STATE_VERSION);
	ret = pci_device_load(u->dev, in, err);
	if (ret)
		return ret;
	pci_intx_set(u->dev, false); /* whatever is said there (I1 of piix3.h) */
	loaded.cmd = (uint16_t)uhci_masked(in, unpack_u16(in), UHCI_CMD_WRITE & ~UHCI_CMD_HCRESET);
	loaded.intr = (uint16_t)uhci_masked(in, unpack_u16(in), UHCI_INTR_WRITE);
	frame = unpack_u16_max(in, UHCI_FRNUM_WRITE);
	loaded.base = uhci_masked(in, unpack_u32(in), UHCI_BASE_WRITE);
	loaded.sof = (uint8_t)uhci_masked(in, unpack_u8(in), UHCI_SOF_WRITE);
	for (unsigned int i = 0; i < UHCI_ROOT; i++)
		loaded.port[i] = (uint16_t)uhci_masked(in, unpack_u16(in), UHCI_PORT_WRITE);
	if (unpack_failed(in))
		return err_set(err, EINVAL,
			       "its USB registers are cut short, or hold values that cannot be");
	pthread_mutex_lock(&u->lock);
	u->cmd = loaded.cmd;
	u->intr = loaded.intr;
	u->base = loaded.base;
	u->sof = loaded.sof;
	u->port[0] = loaded.port[0];
	u->port[1] = loaded.port[1];
	uhci_set_frame(u, frame);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

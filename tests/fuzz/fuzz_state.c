/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target for the saved state of devices: functions on PCI, root ports, the host bridge,
 * a virtio device with its queue, clock, serial port, power registers. Whatever is loaded, or
 * refused with a sentence, the machine can then be used by a guest, reset, and taken down.
 *
 * Input: which part, and how. Either the rest is the state; or a guest first does what the rest
 * says, in steps of four bytes, the state is saved, and the changes that follow are made to it
 * (place, value). Without a change it must load, and save to the same bytes again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "tests/fuzz/input.h"
#include "vmm/core/bus.h"
#include "vmm/core/gm.h"
#include "vmm/core/hv.h"
#include "vmm/core/loop.h"
#include "vmm/isa/power.h"
#include "vmm/isa/rtc.h"
#include "vmm/isa/serial.h"
#include "vmm/machine/platform.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_pci.h"

#define MEMORY    32768
#define BASE      UINT64_C(0x10000)
#define ECAM      UINT64_C(0xb0000000)
#define WINDOW32  UINT64_C(0xc0000000)
#define WINDOW64  UINT64_C(0x8000000000)
#define COM       0x3F8
#define PLAIN     1 /* slots on the root bus */
#define PORT      2
#define STEP      4 /* bytes */
#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum part {
	PART_HOST,
	PART_PORT,
	PART_PLAIN,
	PART_BEHIND,
	PART_RTC,
	PART_SERIAL,
	PART_POWER,
	PARTS
};

/* A device and its transport. */
struct function {
	struct rng *rng;
	struct virtio_pci *pci;
};

struct world {
	struct hv hv;
	uint8_t *memory;
	struct gm *gm;
	struct bus *mmio, *pio;
	struct loop *loop;
	struct pci_host *host;
	struct pci_port *port;
	struct function plain, behind; /* the second one is in the port's slot */
	struct rtc *rtc;
	struct serial *serial;
	struct power *power;
	unsigned int sources, doorbells, ejected;
	uint64_t bar4; /* of the plain one, when last looked for */
};

/* A broken promise must stop the fuzzer in every build, so this is no assert(). */
static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

/* ---- the hypervisor ---- */

static struct world *world_of(struct hv *hv)
{
	return container_of(hv, struct world, hv);
}

static void world_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	(void)hv;
	(void)level;
	check(gsi < 24, "an input that there is");
}

static int world_msi_new(struct hv *hv, struct hv_msi *ret_msi)
{
	ret_msi->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ret_msi->gsi = 0;
	world_of(hv)->sources++;
	return ret_msi->fd < 0 ? -EMFILE : 0;
}

static int world_msi_route(struct hv *hv, struct hv_msi *msi, bool enable, uint64_t address,
			   uint32_t data)
{
	(void)hv;
	(void)data;
	check(msi->fd >= 0 && enable && !(address & 3), "a message as a table may hold it");
	return address >> 20 == 0xfee ? 0 : -EINVAL;
}

static void world_msi_free(struct hv *hv, struct hv_msi *msi)
{
	close(msi->fd);
	msi->fd = -1;
	world_of(hv)->sources--;
}

static int world_doorbell_add(struct hv *hv, uint64_t gpa, unsigned int size, int fd)
{
	(void)size;
	(void)fd;
	check((gpa >= WINDOW64 && gpa < WINDOW64 + GIB) ||
		      (gpa >= WINDOW32 && gpa < WINDOW32 + 64 * MIB),
	      "a doorbell inside of a window");
	world_of(hv)->doorbells++;
	return 0;
}

static int world_doorbell_remove(struct hv *hv, uint64_t gpa, unsigned int size, int fd)
{
	(void)gpa;
	(void)size;
	(void)fd;
	check(world_of(hv)->doorbells-- > 0, "doorbells that are there are removed");
	return 0;
}

static const struct hv_ops world_hv_ops = {
	.line_set = world_line_set,
	.msi_new = world_msi_new,
	.msi_route = world_msi_route,
	.msi_free = world_msi_free,
	.doorbell_add = world_doorbell_add,
	.doorbell_remove = world_doorbell_remove,
};

/* ---- the machine ---- */

static void world_request_reset(void *opaque, enum isa_reset_cause cause)
{
	(void)opaque;
	(void)cause;
}

static void world_request_shutdown(void *opaque)
{
	(void)opaque;
}

static const struct isa_ops world_isa_ops = {.request_reset = world_request_reset,
					     .request_shutdown = world_request_shutdown};

static void world_ejected(void *opaque)
{
	((struct world *)opaque)->ejected++;
}

static void function_add(struct world *w, struct function *f, struct pci_bus *bus, int slot,
			 uint64_t max_bytes)
{
	const struct rng_config config = {
		.id = "rng",
		.max_bytes = max_bytes,
		.period_ms = 3600 * 1000,
		.packed = true,
		VIRTIO_RING_DEFAULTS,
		.gm = w->gm,
		.loop = w->loop,
	};
	const struct virtio_pci_config pci = {
		.place = {.bus = bus, .slot = slot},
		.hv = &w->hv,
		.class_code = VIRTIO_PCI_CLASS_OTHER,
		.vectors = VIRTIO_PCI_VECTORS_AUTO,
	};

	f->rng = rng_new(&config, NULL);
	check(f->rng, "a device is made");
	f->pci = virtio_pci_new(&pci, rng_device(f->rng), NULL);
	check(f->pci, "a transport is made");
}

static void world_add_pci(struct world *w)
{
	const struct pci_host_config host = {
		.id = "pcie.0",
		.mmio = w->mmio,
		.pio = w->pio,
		.hv = &w->hv,
		.ecam = {ECAM, 4 * MIB},
		.window32 = {WINDOW32, 64 * MIB},
		.window64 = {WINDOW64, GIB},
		.intx_gsi = 16,
	};
	struct pci_port_config port = {
		.id = "rp",
		.hotplug = true,
		.memory_reserve = UINT64_MAX,
		.prefetch_reserve = UINT64_MAX,
		.ejected = world_ejected,
		.opaque = w,
	};

	w->host = pci_host_new(&host, NULL);
	check(w->host, "a host is made");
	port.place = (struct pci_place){.bus = pci_host_root(w->host), .slot = PORT};
	w->port = pci_port_new(&port, NULL);
	check(w->port, "a port is made");
	function_add(w, &w->plain, pci_host_root(w->host), PLAIN, RNG_MAX_BYTES_DEFAULT);
	function_add(w, &w->behind, pci_port_bus(w->port), -1, 100);
	pci_host_reset(w->host);
}

static void world_open(struct world *w)
{
	const struct rtc_config rtc = {.ram_below_4g = MEMORY, .gsi = PLATFORM_RTC_GSI};

	memset(w, 0, sizeof(*w));
	w->hv.ops = &world_hv_ops;
	w->memory = aligned_alloc(4096, MEMORY);
	w->gm = gm_new();
	w->mmio = bus_new();
	w->pio = bus_new();
	w->loop = loop_new_main(NULL);
	check(w->memory && w->gm && w->mmio && w->pio && w->loop, "a machine is made");
	memset(w->memory, 0, MEMORY);
	check(!gm_add_ram(w->gm, (struct range){BASE, MEMORY}, w->memory), "memory is added");
	world_add_pci(w);
	w->rtc = rtc_new(&w->hv, w->pio, w->loop, &rtc, NULL);
	w->serial = serial_new(&w->hv, w->pio, COM, 4, NULL, NULL);
	w->power = power_new(&w->hv, w->pio, &world_isa_ops, w, NULL);
	check(w->rtc && w->serial && w->power, "a platform is made");
}

static void world_close(struct world *w)
{
	virtio_pci_free(w->plain.pci);
	virtio_pci_free(w->behind.pci);
	check(!w->sources && !w->doorbells, "sources and doorbells end");
	rng_free(w->plain.rng);
	rng_free(w->behind.rng);
	pci_port_free(w->port);
	pci_host_free(w->host);
	power_free(w->power);
	serial_free(w->serial);
	rtc_free(w->rtc);
	loop_free(w->loop);
	bus_free(w->mmio);
	bus_free(w->pio);
	gm_free(w->gm);
	free(w->memory);
}

/* ---- what a guest does ---- */

static uint64_t ecam(unsigned int which)
{
	static const uint64_t at[] = {0, PLAIN << 15, PORT << 15, MIB};

	return ECAM + at[which % ARRAY_SIZE(at)];
}

static void find_bar(struct world *w, unsigned int which)
{
	uint64_t low = 0, high = 0;

	bus_read(w->mmio, ecam(which) + PCI_BAR0 + 16, 4, &low);
	bus_read(w->mmio, ecam(which) + PCI_BAR0 + 20, 4, &high);
	w->bar4 = (low & ~UINT64_C(15)) | high << 32;
}

static void common_write(struct world *w, unsigned int offset, unsigned int size, uint64_t value)
{
	bus_write(w->mmio, w->bar4 + offset, size, value);
}

/* What a driver does, with a ring at the start of memory. */
static void driver_start(struct world *w, unsigned int flags)
{
	unsigned int which = flags & 1 ? 3 : 1;

	bus_write(w->mmio, ecam(which) + PCI_COMMAND, 2, flags & 2 ? 6 : 0x406);
	find_bar(w, which);
	common_write(w, 20, 1, 0);
	common_write(w, 20, 1, 3);
	common_write(w, 8, 4, 0);
	common_write(w, 12, 4, flags & 4 ? 1u << VIRTIO_F_EVENT_IDX : 0);
	common_write(w, 8, 4, 1);
	common_write(w, 12, 4, flags & 8 ? 5 : 1);
	common_write(w, 20, 1, 11);
	common_write(w, 16, 2, 0);
	common_write(w, 22, 2, 0);
	common_write(w, 26, 2, 1);
	common_write(w, 32, 8, BASE);
	common_write(w, 40, 8, BASE + 4096);
	common_write(w, 48, 8, BASE + 8192);
	common_write(w, 28, 2, 1);
	common_write(w, 20, 1, 15);
}

/* Both formats: a buffer in each descriptor, and indices or flags that make some available. */
static void ring_fill(struct world *w, unsigned int a, unsigned int b)
{
	for (unsigned int i = 0; i < 8; i++) {
		bytes_put_le(w->memory + 16 * i, 8, BASE + 16384);
		bytes_put_le(w->memory + 16 * i + 8, 4, a);
		bytes_put_le(w->memory + 16 * i + 12, 2, b & 1 ? i : 2);
		bytes_put_le(w->memory + 16 * i + 14, 2, b & 1 ? 0x82 : 0);
		bytes_put_le(w->memory + 4100 + 2 * i, 2, i);
	}
	bytes_put_le(w->memory + 4096, 4, (uint64_t)(b >> 1) << 16);
}

static void msix_write(struct world *w, unsigned int a, unsigned int b)
{
	uint64_t bar1 = 0;

	bus_read(w->mmio, ecam(1) + PCI_BAR0 + 4, 4, &bar1);
	bus_write(w->mmio, bar1 + 16 * (a & 1), 8, 0xfee00000 | (uint64_t)b << 12);
	bus_write(w->mmio, bar1 + 16 * (a & 1) + 12, 4, a >> 1 & 1);
}

static void slot_step(struct world *w, unsigned int a, unsigned int b)
{
	static const uint16_t controls[] = {0x01c0, 0x02c0, 0x07c0, 0x06c0};
	struct err *err = NULL;

	if (a & 1)
		bus_write(w->mmio, ecam(2) + 0x58, 2, controls[a >> 1 & 3] | (b & 1 ? 0x1029 : 0));
	else if (pci_port_request_unplug(w->port, &err))
		err_free(err);
}

static void guest_step(struct world *w, const uint8_t step[STEP])
{
	unsigned int a = step[1], b = step[2], c = step[3];
	uint64_t value;

	switch (step[0] % 13) {
	case 0:
		driver_start(w, a);
		break;
	case 1:
		ring_fill(w, a, b);
		break;
	case 2:
		common_write(w, 0x3000, 2, 0);
		break;
	case 3:
		uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
		break;
	case 4:
		common_write(w, a & 63, 1u << (b & 3), c);
		break;
	case 5:
		bus_read(w->mmio, w->bar4 + (uint64_t)(a << 6), 1u << (b & 3), &value);
		break;
	case 6:
		bus_write(w->mmio, ecam(a) + (b & 0xfc), 4, c * UINT64_C(0x01010101));
		break;
	case 7:
		msix_write(w, a, b);
		break;
	case 8:
		/* Message Control of the plain function: behind the header. */
		bus_write(w->mmio, ecam(1) + PCI_HEADER_SIZE + PCI_MSIX_CONTROL, 2, (a & 3) << 14);
		break;
	case 9:
		slot_step(w, a, b);
		break;
	case 10:
		bus_write(w->pio, COM + (a & 7), 1, b);
		break;
	case 11:
		bus_write(w->pio, PLATFORM_RTC_PORT, 2, a | b << 8);
		break;
	default:
		if (a & 1)
			power_notify(w->power, PLATFORM_GED_EVENT_POWER_BUTTON);
		else
			virtio_config_changed(rng_device(w->plain.rng));
	}
}

static void guest_run(struct world *w, struct input *in)
{
	size_t steps = take(in, 1) % STEPS_MAX;
	uint8_t step[STEP];

	while (steps-- && in->left) {
		bytes_put_le(step, STEP, take(in, STEP));
		guest_step(w, step);
	}
}

/* The same of everything, after a load. */
static void guest_touch(struct world *w)
{
	uint64_t value;

	virtio_resume(rng_device(w->plain.rng));
	virtio_resume(rng_device(w->behind.rng));
	serial_resume(w->serial);
	for (unsigned int which = 0; which < 4; which++)
		for (unsigned int reg = 0; reg < 256; reg += 4)
			bus_read(w->mmio, ecam(which) + reg, 4, &value);
	for (unsigned int which = 1; which < 4; which += 2) {
		find_bar(w, which);
		common_write(w, 0x3000, 2, 0);
		uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
		for (unsigned int at = 0; at < 64; at += 4)
			bus_read(w->mmio, w->bar4 + at, 4, &value);
	}
	for (unsigned int port = COM; port < COM + 8; port++)
		bus_read(w->pio, port, 1, &value);
	for (unsigned int i = 0; i < 0x33; i++) {
		bus_write(w->pio, PLATFORM_RTC_PORT, 1, i);
		bus_read(w->pio, PLATFORM_RTC_PORT + 1, 1, &value);
	}
	bus_read(w->pio, PLATFORM_GED_PORT, 1, &value);
	slot_step(w, 1, 1);
	slot_step(w, 5, 1);
	uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
}

/* ---- saved state ---- */

static void part_save(struct world *w, enum part part, struct pack *out)
{
	switch (part) {
	case PART_HOST:
		pci_host_save(w->host, out);
		break;
	case PART_PORT:
		pci_port_save(w->port, out);
		break;
	case PART_PLAIN:
		virtio_pci_save(w->plain.pci, out);
		break;
	case PART_BEHIND:
		virtio_pci_save(w->behind.pci, out);
		break;
	case PART_RTC:
		rtc_save(w->rtc, out);
		break;
	case PART_SERIAL:
		serial_save(w->serial, out);
		break;
	default:
		power_save(w->power, out);
	}
	check(!pack_failed(out), "state is saved");
}

static int part_load(struct world *w, enum part part, struct unpack *in, struct err **err)
{
	switch (part) {
	case PART_HOST:
		return pci_host_load(w->host, PCI_HOST_STATE_VERSION, in, err);
	case PART_PORT:
		return pci_port_load(w->port, PCI_PORT_STATE_VERSION, in, err);
	case PART_PLAIN:
		return virtio_pci_load(w->plain.pci, VIRTIO_PCI_STATE_VERSION, in, err);
	case PART_BEHIND:
		return virtio_pci_load(w->behind.pci, VIRTIO_PCI_STATE_VERSION, in, err);
	case PART_RTC:
		return rtc_load(w->rtc, RTC_STATE_VERSION, in, err);
	case PART_SERIAL:
		return serial_load(w->serial, SERIAL_STATE_VERSION, in, err);
	default:
		return power_load(w->power, POWER_STATE_VERSION, in, err);
	}
}

/* Into a machine that never ran, where it must not matter what comes of it. */
static bool load(struct world *w, enum part part, const void *bytes, size_t size)
{
	struct unpack in = unpack_begin(bytes, size);
	struct err *err = NULL;
	int ret = part_load(w, part, &in, &err);

	check(!ret == !err, "a failure has a sentence");
	err_free(err);
	return !ret;
}

/* Time goes on in these. */
static bool part_is_timed(enum part part)
{
	return part == PART_RTC || part == PART_BEHIND;
}

static void after_load(struct world *w, struct input *in)
{
	guest_touch(w);
	guest_run(w, in);
	pci_host_reset(w->host);
}

static void one_raw(struct input *in, enum part part)
{
	struct input none = {.left = 0};
	struct world w;

	world_open(&w);
	load(&w, part, in->data, in->left);
	after_load(&w, &none);
	world_close(&w);
}

static void one_changed(struct input *in, enum part part)
{
	struct pack state = {.failed = false}, again = {.failed = false};
	unsigned int changes = take(in, 1) % 8;
	struct world from, to;
	bool loaded;

	world_open(&from);
	world_open(&to);
	guest_run(&from, in);
	virtio_pause(rng_device(from.plain.rng));
	virtio_pause(rng_device(from.behind.rng));
	serial_pause(from.serial);
	part_save(&from, part, &state);
	memcpy(to.memory, from.memory, MEMORY);
	for (unsigned int i = 0; i < changes; i++) {
		size_t at = take(in, 2) % state.size;

		state.bytes[at] = (uint8_t)take(in, 1);
	}
	loaded = load(&to, part, state.bytes, state.size);
	if (!changes) {
		check(loaded, "what was saved is loaded");
		part_save(&to, part, &again);
		check(part_is_timed(part) || (again.size == state.size &&
					      !memcmp(again.bytes, state.bytes, state.size)),
		      "it is saved to the same bytes");
	}
	after_load(&to, in);
	pack_done(&state);
	pack_done(&again);
	world_close(&from);
	world_close(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	enum part part = (enum part)(take(&in, 1) % PARTS);

	if (take(&in, 1) & 1)
		one_changed(&in, part);
	else
		one_raw(&in, part);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices and KVM itself as a guest's hands: they are told to work in closed blocks.
 *
 *	dma BLOCK OFFSET SIZE	let the entropy device write there: "dma RESULT"
 *	dma-flight BLOCK	BLOCK is open: let the entropy device fill more buffers in it than it
 *				may at once, and unplug it meanwhile: "dma-flight RESULT"
 *	ring PART BLOCK		its virtqueue's PART (desc, avail, used, indirect) in BLOCK: "ring RESULT"
 *	ring-flight PART BLOCK	the same while BLOCK is open and used, then unplugged
 *	own PART BLOCK		the memory device's own (also: request, response): "own RESULT"
 *	own-flight PART BLOCK	BLOCK is open, and unplugged by a request that is itself in it
 *	msix BLOCK		an interrupt message addressed to BLOCK: "msix RESULT"
 *	msr BLOCK		where KVM keeps its clock, stolen time and the like for the guest:
 *				"msr taken=MASK refused=MASK"
 *	msr-off			the end of that: "msr-off"
 *	pause			take timer interrupts for a while, so that KVM writes: "pause"
 *
 * RESULT is "used" (the device answered), "needs-reset" (it asked for one), "nothing", or
 * "no-device". Afterwards the device is started again and must work: else a failed test.
 */
#include <stddef.h>

#include "attack.h"
#include "lib/apic.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/trap.h"

#define RING_SIZE    8u
#define PLACE_OFFSET 4096u /* in blocks of more than a page */
#define FLIGHT_COUNT 6u
#define FLIGHT_BYTES 512u
#define PAUSE_TICKS  20u

#define MSR_WALL_CLOCK  0x4b564d00u
#define MSR_SYSTEM_TIME 0x4b564d01u
#define MSR_ASYNC_PF    0x4b564d02u
#define MSR_STEAL_TIME  0x4b564d03u
#define MSR_PV_EOI      0x4b564d04u
#define MSR_ENABLE      1ull

enum part {
	PART_NONE,
	PART_DESC,
	PART_AVAIL,
	PART_USED,
	PART_INDIRECT,
	PART_REQUEST,
	PART_RESPONSE
};

static const char *const part_names[] = {"none",     "desc",    "avail",   "used",
					 "indirect", "request", "response"};

static enum part part_find(const char *name)
{
	for (unsigned int i = 1; name != NULL && i < sizeof(part_names) / sizeof(part_names[0]);
	     i++)
		if (strcmp(part_names[i], name) == 0)
			return (enum part)i;
	return PART_NONE;
}

static uint64_t place_in(const struct attack *a, unsigned int block)
{
	return attack_gpa(a, block) + (a->vmem->block_size > PLACE_OFFSET ? PLACE_OFFSET : 0);
}

/*
 * Wait for an answer, or for the device to give up. Where a used ring in a closed block went back
 * to zeros there is none to look for: @has_ring is false.
 */
static const char *device_result(struct virtio *v, bool has_ring)
{
	uint64_t start = cpu_ticks();

	while (cpu_ticks() - start < CPU_PATIENCE / 4) {
		uint32_t len;

		if ((virtio_status(v) & VIRTIO_NEEDS_RESET) != 0)
			return "needs-reset";
		if (has_ring && vring_get(&v->queue, &len))
			return "used";
		cpu_relax();
	}
	return "nothing";
}

static void register64(const struct virtio *v, unsigned int offset, uint64_t value)
{
	mmio_write32(v->common + offset, (uint32_t)value);
	mmio_write32(v->common + offset + 4, (uint32_t)(value >> 32));
}

/*
 * Start @v with one part of its queue at @gpa; the others are where they always are. The queue
 * remembers its own place, @ret_home, for the next start.
 */
static bool ring_start(struct virtio *v, uint64_t features, enum part part, uint64_t gpa,
		       struct vring *ret_home)
{
	features |= VIRTIO_F_VERSION_1 | (part == PART_INDIRECT ? VIRTIO_F_INDIRECT : 0);
	if (!virtio_negotiate(v, features))
		return false;
	mmio_write16(v->common + VIRTIO_C_QUEUE_SELECT, 0);
	mmio_write16(v->common + VIRTIO_C_QUEUE_SIZE, RING_SIZE);
	vring_init(&v->queue, RING_SIZE, false, false, part == PART_INDIRECT, false);
	*ret_home = v->queue;
	if (part == PART_DESC)
		v->queue.desc = (struct vring_desc *)gpa;
	else if (part == PART_AVAIL)
		v->queue.driver = (uint16_t *)gpa;
	else if (part == PART_USED)
		v->queue.device = (uint16_t *)gpa;
	else if (part == PART_INDIRECT)
		v->queue.tables = (struct vring_desc *)gpa;
	register64(v, VIRTIO_C_QUEUE_DESC, (uint64_t)v->queue.desc);
	register64(v, VIRTIO_C_QUEUE_DRIVER, (uint64_t)v->queue.driver);
	register64(v, VIRTIO_C_QUEUE_DEVICE, (uint64_t)v->queue.device);
	v->notify_gpa = v->notify + (uint64_t)v->notify_multiplier *
					    mmio_read16(v->common + VIRTIO_C_QUEUE_NOTIFY);
	mmio_write16(v->common + VIRTIO_C_QUEUE_ENABLE, 1);
	virtio_driver_ok(v);
	return true;
}

static void ring_go_home(struct virtio *v, const struct vring *home)
{
	virtio_reset(v);
	v->queue.desc = home->desc;
	v->queue.tables = home->tables;
}

static void rng_post(struct virtio *rng, uint64_t gpa, uint32_t size)
{
	const struct vring_segment segment = {gpa, size, true};

	vring_add(&rng->queue, &segment, 1);
	virtio_notify(rng);
}

/* It works, as always, after what was done to it. */
static void rng_check(struct virtio *rng, const char *name)
{
	const struct vring_segment segment = {(uint64_t)mem_pages(1), 16, true};
	uint32_t len = 0;

	check(virtio_start(rng, 0) && virtio_do(rng, &segment, 1, &len) && len > 0, name,
	      "the entropy device does not work afterwards");
}

static const char *attack_dma(struct attack *a, uint64_t gpa, uint32_t size)
{
	const char *result;

	if (!virtio_start(a->rng, 0))
		return "no-device";
	rng_post(a->rng, gpa, size);
	result = device_result(a->rng, true);
	rng_check(a->rng, "dma");
	return result;
}

static const char *attack_dma_flight(struct attack *a, unsigned int block)
{
	uint64_t gpa = place_in(a, block);
	const char *result = "used";

	if (!virtio_start(a->rng, 0))
		return "no-device";
	for (unsigned int i = 0; i < FLIGHT_COUNT; i++)
		rng_post(a->rng, gpa + i * FLIGHT_BYTES, FLIGHT_BYTES);
	check_equal(attack_unplug(a, block, 1), VMEM_RESP_ACK, "dma-flight-unplug");
	for (unsigned int i = 0; i < FLIGHT_COUNT && strcmp(result, "used") == 0; i++)
		result = device_result(a->rng, true);
	rng_check(a->rng, "dma-flight");
	return result;
}

static const char *attack_ring(struct attack *a, enum part part, unsigned int block, bool flight)
{
	uint64_t buffer = (uint64_t)mem_pages(1);
	const char *result;
	struct vring home;

	if (flight) /* a device may look at its ring before the first notification */
		memset((void *)place_in(a, block), 0, PLACE_OFFSET);
	if (!ring_start(a->rng, 0, part, place_in(a, block), &home))
		return "no-device";
	if (flight) {
		rng_post(a->rng, buffer, 16);
		check(strcmp(device_result(a->rng, true), "used") == 0, "ring-flight",
		      "the device does not use %s in an open block", part_names[part]);
		check_equal(attack_unplug(a, block, 1), VMEM_RESP_ACK, "ring-flight-unplug");
	}
	rng_post(a->rng, buffer, 16);
	result = device_result(a->rng, !flight || part != PART_USED);
	ring_go_home(a->rng, &home);
	rng_check(a->rng, "ring");
	return result;
}

/* A request of the memory device, with one part in @block: unplug of it, or else a question. */
static const char *attack_own(struct attack *a, enum part part, unsigned int block, bool flight)
{
	struct vmem *v = a->vmem;
	uint64_t gpa = place_in(a, block);
	struct vmem_req *req = part == PART_REQUEST ? (struct vmem_req *)gpa : v->req;
	struct vmem_resp *resp = part == PART_RESPONSE ? (struct vmem_resp *)gpa : v->resp;
	const struct vring_segment segments[] = {{(uint64_t)req, sizeof(*req), false},
						 {(uint64_t)resp, sizeof(*resp), true}};
	uint64_t features = virtio_offered(&v->virtio) & (VMEM_PXM | VMEM_GUARDED);
	const char *result;
	struct vring home;

	if (flight)
		memset((void *)gpa, 0, PLACE_OFFSET);
	if (!ring_start(&v->virtio, features, part, gpa, &home))
		return "no-device";
	*req = (struct vmem_req){.type = flight ? VMEM_REQ_UNPLUG : VMEM_REQ_STATE,
				 .addr = attack_gpa(a, block),
				 .nb_blocks = 1};
	vring_add(&v->virtio.queue, segments, 2);
	virtio_notify(&v->virtio);
	result = device_result(&v->virtio, true);
	ring_go_home(&v->virtio, &home);
	check(vmem_start(v), "own", "the memory device does not start afterwards");
	if (flight)
		a->open[block] =
			vmem_state(v, attack_gpa(a, block), 1) == 0x10 + VMEM_STATE_PLUGGED;
	return result;
}

/* Polled, because the interrupt does not come. */
static const char *attack_msix(struct attack *a, unsigned int block)
{
	struct virtio *v = a->rng;
	uint64_t gpa = place_in(a, block), entry = v->msix.table_gpa + 16;
	const char *result;

	if (v->irq != VIRTIO_MSIX || !virtio_start(v, 0))
		return "no-device";
	pci_msix_mask(&v->msix, 1, true);
	mmio_write32(entry, (uint32_t)gpa);
	mmio_write32(entry + 4, (uint32_t)(gpa >> 32));
	mmio_write32(entry + 8, (uint32_t)ATTACK_SECRET);
	pci_msix_mask(&v->msix, 1, false);
	rng_post(v, (uint64_t)mem_pages(1), 16);
	result = device_result(v, true);
	pci_msix_mask(&v->msix, 1, true);
	pci_msix_route(&v->msix, 1, v->vector + 1);
	rng_check(v, "msix");
	return result;
}

static const struct {
	uint32_t index;
	uint32_t offset; /* of its area in the page */
	uint64_t flags;
} msrs[] = {
	{MSR_WALL_CLOCK, 0, 0},
	{MSR_SYSTEM_TIME, 64, MSR_ENABLE},
	{MSR_STEAL_TIME, 128, MSR_ENABLE},
	{MSR_PV_EOI, 256, MSR_ENABLE},
	{MSR_ASYNC_PF, 320, MSR_ENABLE},
};

#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

struct msr_write {
	uint32_t index;
	uint64_t value;
};

static void msr_write(void *arg)
{
	const struct msr_write *write = arg;

	cpu_wrmsr(write->index, write->value);
}

static void attack_msr(struct attack *a, unsigned int block)
{
	uint64_t gpa = attack_gpa(a, block);
	unsigned int taken = 0, refused = 0;

	for (unsigned int i = 0; i < MSRS; i++) {
		struct msr_write write = {msrs[i].index, (gpa + msrs[i].offset) | msrs[i].flags};
		struct trap_fault fault;

		if (trap_try(msr_write, &write, &fault))
			taken |= 1u << i;
		else
			refused |= 1u << i;
	}
	console_printf("msr taken=%u refused=%u\n", taken, refused);
}

static void attack_msr_off(void)
{
	for (unsigned int i = 0; i < MSRS; i++) {
		struct msr_write write = {msrs[i].index, 0};
		struct trap_fault fault;

		trap_try(msr_write, &write, &fault);
	}
	console_printf("msr-off\n");
}

static void attack_pause(void)
{
	uint64_t before = trap_count(APIC_TICK_VECTOR), start = cpu_ticks();

	cpu_interrupts_off();
	while (trap_count(APIC_TICK_VECTOR) - before < PAUSE_TICKS &&
	       cpu_ticks() - start < CPU_PATIENCE)
		cpu_sleep();
	console_printf("pause\n");
}

static bool attack_rng_order(struct attack *a, const struct attack_order *o, unsigned int block)
{
	enum part part = part_find(o->name);

	if (a->rng == NULL)
		return false;
	if (strcmp(o->verb, "dma") == 0)
		console_printf("dma %s\n", attack_dma(a, attack_gpa(a, block) + o->value[1],
						      (uint32_t)o->value[2]));
	else if (strcmp(o->verb, "dma-flight") == 0)
		console_printf("dma-flight %s\n", attack_dma_flight(a, block));
	else if (strcmp(o->verb, "ring") == 0 && part != PART_NONE)
		console_printf("ring %s\n", attack_ring(a, part, block, false));
	else if (strcmp(o->verb, "ring-flight") == 0 && part != PART_NONE)
		console_printf("ring-flight %s\n", attack_ring(a, part, block, true));
	else if (strcmp(o->verb, "msix") == 0)
		console_printf("msix %s\n", attack_msix(a, block));
	else
		return false;
	return true;
}

bool attack_device_order(struct attack *a, const struct attack_order *o)
{
	unsigned int block = (unsigned int)o->value[0];
	enum part part = part_find(o->name);

	if (o->value[0] >= a->blocks)
		return false;
	if (strcmp(o->verb, "own") == 0 && part != PART_NONE)
		console_printf("own %s\n", attack_own(a, part, block, false));
	else if (strcmp(o->verb, "own-flight") == 0 && part != PART_NONE)
		console_printf("own-flight %s\n", attack_own(a, part, block, true));
	else if (strcmp(o->verb, "msr") == 0)
		attack_msr(a, block);
	else if (strcmp(o->verb, "msr-off") == 0)
		attack_msr_off();
	else if (strcmp(o->verb, "pause") == 0)
		attack_pause();
	else
		return attack_rng_order(a, o, block);
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rings: registers and virtqueues as no driver uses them. After each malformed ring the device must
 * ask for a reset (DEVICE_NEEDS_RESET, VIRTIO 1.3, 2.1.1), and must work again after it. The first
 * memory device is the victim; ring= and indirect= choose the cases.
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/vmem.h"
#include "tests.h"

#define HOLE_GPA 0x7ff000000000ull /* in no RAM and no device, also with few address bits */
#define SMALL    8u                /* ring size of most cases */

static struct vmem devices[VMEM_MAX];

static void ring_desc(struct vmem *v, unsigned int i, uint64_t addr, uint32_t len, uint16_t flags,
		      uint16_t next)
{
	struct vring_desc *desc = &v->virtio.queue.desc[i];

	desc->addr = addr;
	desc->len = len;
	if (v->virtio.queue.packed) {
		desc->packed.id = next;
		__atomic_store_n(&desc->packed.flags, (uint16_t)(flags | VRING_AVAIL),
				 __ATOMIC_RELEASE);
	} else {
		desc->split.flags = flags;
		desc->split.next = next;
	}
}

/* Split rings: make head @head available @count times and notify. */
static void ring_publish(struct vmem *v, uint16_t head, uint16_t count)
{
	struct vring *q = &v->virtio.queue;

	if (!q->packed) {
		for (unsigned int i = 0; i < q->size; i++)
			q->driver[2 + i] = head;
		__atomic_store_n(&q->driver[1], count, __ATOMIC_RELEASE);
	}
	cpu_fence();
	virtio_notify(&v->virtio);
}

static bool ring_restart(struct vmem *v)
{
	uint64_t features = virtio_offered(&v->virtio) & (VMEM_PXM | VMEM_GUARDED);

	features |= VIRTIO_F_VERSION_1;
	if (arg_is("ring", "packed"))
		features |= VIRTIO_F_PACKED;
	if (arg_number("indirect", 0) != 0)
		features |= VIRTIO_F_INDIRECT;
	if (!virtio_negotiate(&v->virtio, features))
		return false;
	virtio_queue_setup(&v->virtio, SMALL);
	virtio_driver_ok(&v->virtio);
	return true;
}

/* The device must have stopped, said so, and work again after a reset. */
static void ring_expect_broken(struct vmem *v, const char *name)
{
	uint64_t start = cpu_ticks();

	check(virtio_wait_status(&v->virtio, VIRTIO_NEEDS_RESET), name, "status 0x%x, used %u",
	      virtio_status(&v->virtio), vring_has_used(&v->virtio.queue));
	if (v->virtio.irq != VIRTIO_POLL) {
		cpu_interrupts_off();
		while (v->virtio.config_interrupts == 0 && cpu_ticks() - start < CPU_PATIENCE)
			virtio_idle(&v->virtio);
		check(v->virtio.config_interrupts != 0, name, "no configuration interrupt");
	}
	/* and it stays still until then */
	virtio_notify(&v->virtio);
	check(vmem_start(v), name, "no start after a reset");
	check_equal(vmem_state(v, v->addr, 1), 0x10 + VMEM_STATE_UNPLUGGED, name);
	check(ring_restart(v), name, "no second start");
	v->virtio.config_interrupts = 0;
}

static void rings_check_addresses(struct vmem *v)
{
	static const char name[] = "rings-address";
	const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{HOLE_GPA, 24},
		{UINT64_MAX - 7, 24},
		{UINT64_MAX & ~0xfffull, 0x2000},
		{v->virtio.common, 24},
		{v->addr, 24},
		{v->addr + v->region_size - 8, 24},
		{(uint64_t)v->req, 0xffffffffu},
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ring_desc(v, 1, (uint64_t)v->resp, sizeof(*v->resp), VRING_WRITE, 0);
		ring_desc(v, 0, bad[i].addr, bad[i].len, VRING_NEXT, 1);
		ring_publish(v, 0, 1);
		ring_expect_broken(v, name);
		/* the same for what the device writes */
		ring_desc(v, 1, bad[i].addr, bad[i].len, VRING_WRITE, 0);
		ring_desc(v, 0, (uint64_t)v->req, sizeof(*v->req), VRING_NEXT, 1);
		ring_publish(v, 0, 1);
		ring_expect_broken(v, name);
	}
}

static void rings_check_order(struct vmem *v)
{
	ring_desc(v, 1, (uint64_t)v->req, sizeof(*v->req), 0, 0);
	ring_desc(v, 0, (uint64_t)v->resp, sizeof(*v->resp), VRING_WRITE | VRING_NEXT, 1);
	ring_publish(v, 0, 1);
	ring_expect_broken(v, "rings-read-after-write");
}

static void rings_check_split(struct vmem *v)
{
	uint16_t size = v->virtio.queue.size;

	ring_publish(v, size, 1);
	ring_expect_broken(v, "rings-head-out");
	ring_publish(v, 0xffff, 1);
	ring_expect_broken(v, "rings-head-far-out");
	ring_publish(v, 0, (uint16_t)(size + 1));
	ring_expect_broken(v, "rings-too-many-available");
	ring_publish(v, 0, 0xffff);
	ring_expect_broken(v, "rings-index-backwards");
	ring_desc(v, 0, (uint64_t)v->req, 1, VRING_NEXT, 0);
	ring_publish(v, 0, 1);
	ring_expect_broken(v, "rings-loop-of-one");
	ring_desc(v, 0, (uint64_t)v->req, 1, VRING_NEXT, 1);
	ring_desc(v, 1, (uint64_t)v->req, 1, VRING_NEXT, 0);
	ring_publish(v, 0, 1);
	ring_expect_broken(v, "rings-loop-of-two");
	ring_desc(v, 0, (uint64_t)v->req, 1, VRING_NEXT, size);
	ring_publish(v, 0, 1);
	ring_expect_broken(v, "rings-next-out");
}

static void rings_check_packed(struct vmem *v)
{
	uint16_t size = v->virtio.queue.size;

	for (unsigned int i = size; i > 0; i--)
		ring_desc(v, i - 1, (uint64_t)v->req, 1, VRING_NEXT, 0);
	ring_publish(v, 0, 0);
	ring_expect_broken(v, "rings-endless");
}

static void ring_table(struct vmem *v, struct vring_desc *table, unsigned int i, uint64_t addr,
		       uint32_t len, uint16_t flags, uint16_t next)
{
	table[i].addr = addr;
	table[i].len = len;
	if (v->virtio.queue.packed) {
		table[i].packed.id = next;
		table[i].packed.flags = flags;
	} else {
		table[i].split.flags = flags;
		table[i].split.next = next;
	}
}

static void rings_try_table(struct vmem *v, const struct vring_desc *table, uint32_t len,
			    uint16_t extra, const char *name)
{
	ring_desc(v, 1, (uint64_t)v->resp, sizeof(*v->resp), VRING_WRITE, 0);
	ring_desc(v, 0, (uint64_t)table, len, VRING_INDIRECT | extra, 1);
	ring_publish(v, 0, 1);
	ring_expect_broken(v, name);
}

static void rings_check_indirect(struct vmem *v)
{
	struct vring_desc *table = mem_pages(1);
	bool negotiated = arg_number("indirect", 0) != 0;

	ring_table(v, table, 0, (uint64_t)v->req, sizeof(*v->req), VRING_NEXT, 1);
	ring_table(v, table, 1, (uint64_t)v->resp, sizeof(*v->resp), VRING_WRITE, 0);
	if (!negotiated) {
		rings_try_table(v, table, 32, 0, "rings-indirect-not-negotiated");
		return;
	}
	rings_try_table(v, table, 24, 0, "rings-indirect-odd-length");
	rings_try_table(v, table, 0, 0, "rings-indirect-empty");
	rings_try_table(v, table, 32, VRING_NEXT, "rings-indirect-and-next");
	rings_try_table(v, (void *)HOLE_GPA, 32, 0, "rings-indirect-hole");
	ring_table(v, table, 1, (uint64_t)table, 32, VRING_INDIRECT, 0);
	rings_try_table(v, table, 32, 0, "rings-indirect-nested");
	if (v->virtio.queue.packed) {
		/* every entry of a packed table belongs to the chain; of a split one, those linked */
		rings_try_table(v, table, 0xfffffff0u, 0, "rings-indirect-huge");
		return;
	}
	ring_table(v, table, 1, (uint64_t)v->req, 1, VRING_NEXT, 0);
	rings_try_table(v, table, 32, 0, "rings-indirect-loop");
	ring_table(v, table, 1, (uint64_t)v->req, 1, VRING_NEXT, 2);
	rings_try_table(v, table, 32, 0, "rings-indirect-next-out");
}

/* Where the ring itself is, is the driver's to say as well. */
static void rings_check_ring_places(struct vmem *v)
{
	static const uint32_t regs[] = {VIRTIO_C_QUEUE_DESC, VIRTIO_C_QUEUE_DRIVER,
					VIRTIO_C_QUEUE_DEVICE};
	uint64_t common = v->virtio.common;

	for (unsigned int i = 0; i < 3; i++) {
		virtio_negotiate(&v->virtio, v->virtio.features);
		virtio_queue_setup(&v->virtio, SMALL);
		mmio_write16(common + VIRTIO_C_QUEUE_ENABLE, 0);
		virtio_negotiate(&v->virtio, v->virtio.features);
		mmio_write16(common + VIRTIO_C_QUEUE_SELECT, 0);
		mmio_write16(common + VIRTIO_C_QUEUE_SIZE, SMALL);
		vring_init(&v->virtio.queue, SMALL, v->virtio.queue.packed, false, false, true);
		for (unsigned int j = 0; j < 3; j++) {
			uint64_t gpa = j == 0   ? (uint64_t)v->virtio.queue.desc
				       : j == 1 ? (uint64_t)v->virtio.queue.driver
						: (uint64_t)v->virtio.queue.device;

			if (i == j)
				gpa = HOLE_GPA;
			mmio_write32(common + regs[j], (uint32_t)gpa);
			mmio_write32(common + regs[j] + 4, (uint32_t)(gpa >> 32));
		}
		mmio_write16(common + VIRTIO_C_CONFIG_VECTOR, 0);
		mmio_write16(common + VIRTIO_C_QUEUE_VECTOR, 1);
		mmio_write16(common + VIRTIO_C_QUEUE_ENABLE, 1);
		virtio_driver_ok(&v->virtio);
		ring_desc(v, 1, (uint64_t)v->resp, sizeof(*v->resp), VRING_WRITE, 0);
		ring_desc(v, 0, (uint64_t)v->req, sizeof(*v->req), VRING_NEXT, 1);
		ring_publish(v, 0, 1);
		ring_expect_broken(v, "rings-place");
	}
}

/*
 * Well-formed chains that are no requests. The standard does not say what becomes of them; the
 * device must use them or ask for a reset, and stay usable.
 */
static void rings_check_lengths(struct vmem *v)
{
	static const uint32_t lengths[][2] = {{8, 10}, {23, 10}, {24, 9},
					      {24, 2}, {0, 10},  {24, 0}};

	for (unsigned int i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint64_t start = cpu_ticks();
		bool answered = false;

		*v->req =
			(struct vmem_req){.type = VMEM_REQ_STATE, .addr = v->addr, .nb_blocks = 1};
		ring_desc(v, 1, (uint64_t)v->resp, lengths[i][1], VRING_WRITE, 0);
		ring_desc(v, 0, (uint64_t)v->req, lengths[i][0], VRING_NEXT, 1);
		ring_publish(v, 0, 1);
		while (!answered && cpu_ticks() - start < CPU_PATIENCE / 4)
			answered = vring_has_used(&v->virtio.queue) ||
				   (virtio_status(&v->virtio) & VIRTIO_NEEDS_RESET) != 0;
		check(answered, "rings-length", "%u bytes in, %u out: neither used nor refused",
		      lengths[i][0], lengths[i][1]);
		check(ring_restart(v), "rings-length", "no start after a reset");
	}
}

static void rings_check_registers(struct vmem *v)
{
	uint64_t common = v->virtio.common, offered;

	check_equal(mmio_read16(common + VIRTIO_C_NUM_QUEUES), 1, "rings-queues");
	mmio_write16(common + VIRTIO_C_QUEUE_SELECT, 1);
	check_equal(mmio_read16(common + VIRTIO_C_QUEUE_SIZE), 0, "rings-no-second-queue");
	mmio_write16(common + VIRTIO_C_QUEUE_SELECT, 0);
	if (v->virtio.irq == VIRTIO_MSIX) {
		mmio_write16(common + VIRTIO_C_QUEUE_VECTOR, 0x7ff);
		check_equal(mmio_read16(common + VIRTIO_C_QUEUE_VECTOR), VIRTIO_NO_VECTOR,
			    "rings-vector-out");
		mmio_write16(common + VIRTIO_C_CONFIG_VECTOR, 0x7ff);
		check_equal(mmio_read16(common + VIRTIO_C_CONFIG_VECTOR), VIRTIO_NO_VECTOR,
			    "rings-config-vector-out");
	}
	virtio_reset(&v->virtio);
	check_equal(mmio_read16(common + VIRTIO_C_QUEUE_ENABLE), 0, "rings-reset-disables");
	offered = virtio_offered(&v->virtio);
	check((offered & VIRTIO_F_VERSION_1) != 0, "rings-version-1", "offers 0x%lx", offered);
	mmio_write8(common + VIRTIO_C_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	mmio_write32(common + VIRTIO_C_DRIVER_FEATURE_SELECT, 1);
	mmio_write32(common + VIRTIO_C_DRIVER_FEATURE, 0xffffffffu);
	mmio_write8(common + VIRTIO_C_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	check((virtio_status(&v->virtio) & VIRTIO_FEATURES_OK) == 0, "rings-features-refused",
	      "accepts features that it did not offer");
	check(ring_restart(v), "rings-restart", "no start");
}

void test_rings(void)
{
	struct vmem *v = &devices[0];

	if (!check(vmem_open_all(devices, 1) == 1, "rings-device", "no memory device"))
		return;
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "rings-clean");
	rings_check_registers(v);
	v->virtio.config_interrupts = 0;
	rings_check_lengths(v);
	v->virtio.config_interrupts = 0;
	rings_check_addresses(v);
	rings_check_order(v);
	if (v->virtio.queue.packed)
		rings_check_packed(v);
	else
		rings_check_split(v);
	rings_check_indirect(v);
	rings_check_ring_places(v);
}

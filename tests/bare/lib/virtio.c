/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio over PCI.
 */
#include <stddef.h>

#include "acpi.h"
#include "apic.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "mem.h"
#include "text.h"
#include "trap.h"
#include "virtio.h"

#define CAP_COMMON 1u
#define CAP_NOTIFY 2u
#define CAP_ISR    3u
#define CAP_DEVICE 4u

#define CAP_TYPE       3u
#define CAP_BAR        4u
#define CAP_OFFSET     8u
#define CAP_LENGTH     12u
#define CAP_MULTIPLIER 16u

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

#define VECTOR_FIRST 0x30u
#define QUEUE_SIZE   256u
#define TICK_COUNT   1000000u /* bus ticks a millisecond, on a 1 GHz bus */

static void virtio_on_config(void *arg)
{
	struct virtio *v = arg;

	v->config_interrupts++;
}

static void virtio_on_queue(void *arg)
{
	struct virtio *v = arg;

	v->queue_interrupts++;
}

static void virtio_on_intx(void *arg)
{
	struct virtio *v = arg;
	uint8_t isr = mmio_read8(v->isr);

	if ((isr & ISR_QUEUE) != 0)
		v->queue_interrupts++;
	if ((isr & ISR_CONFIG) != 0)
		v->config_interrupts++;
}

static void virtio_find_registers(struct virtio *v)
{
	unsigned int cap = 0;

	while ((cap = pci_capability(v->pci, PCI_CAP_VENDOR, cap)) != 0) {
		unsigned int type = pci_read(v->pci, cap + CAP_TYPE, 1);
		unsigned int bar = pci_read(v->pci, cap + CAP_BAR, 1);
		uint64_t gpa;

		if (type < CAP_COMMON || type > CAP_DEVICE || bar >= PCI_BARS)
			continue;
		gpa = pci_bar(v->pci, bar).gpa + pci_read(v->pci, cap + CAP_OFFSET, 4);
		mem_map(gpa, pci_read(v->pci, cap + CAP_LENGTH, 4));
		if (type == CAP_COMMON) {
			v->common = gpa;
		} else if (type == CAP_NOTIFY) {
			v->notify = gpa;
			v->notify_multiplier = pci_read(v->pci, cap + CAP_MULTIPLIER, 4);
		} else if (type == CAP_ISR) {
			v->isr = gpa;
		} else {
			v->config = gpa;
		}
	}
}

static uint64_t virtio_tick_ms(void)
{
	static uint64_t ms;

	if (ms == 0)
		ms = arg_number("tick", VIRTIO_TICK_MS);
	return ms;
}

static void virtio_set_interrupts(struct virtio *v)
{
	if (v->irq == VIRTIO_MSIX) {
		trap_set_handler(v->vector, virtio_on_config, v);
		trap_set_handler(v->vector + 1, virtio_on_queue, v);
		pci_msix_route(&v->msix, 0, v->vector);
		pci_msix_route(&v->msix, 1, v->vector + 1);
		pci_msix_enable(v->pci, &v->msix, true);
	} else if (v->irq == VIRTIO_INTX) {
		trap_set_handler(v->vector, virtio_on_intx, v);
		apic_route_gsi(acpi_ioapic_gpa(), pci_intx_gsi(v->pci), v->vector, true);
	}
	if (v->irq != VIRTIO_POLL)
		apic_timer((uint32_t)virtio_tick_ms() * TICK_COUNT, true, APIC_TICK_VECTOR);
}

bool virtio_open(struct virtio *v, unsigned int type, unsigned int nth)
{
	struct pci_dev dev;

	return pci_find(VIRTIO_VENDOR, (uint16_t)(VIRTIO_DEVICE_0 + type), nth, &dev) &&
	       virtio_open_at(v, dev);
}

bool virtio_open_at(struct virtio *v, struct pci_dev dev)
{
	static unsigned int vectors;

	v->pci = dev;
	v->msix = pci_msix_find(v->pci);
	virtio_find_registers(v);
	if (v->common == 0 || v->notify == 0 || v->isr == 0)
		return false;
	v->irq = arg_is("irq", "poll")   ? VIRTIO_POLL
		 : arg_is("irq", "intx") ? VIRTIO_INTX
					 : VIRTIO_MSIX;
	if (v->irq == VIRTIO_MSIX && v->msix.vectors < 2)
		return false;
	/* One that is opened again keeps what it has. */
	if (v->vector == 0)
		v->vector = VECTOR_FIRST + 2 * vectors++;
	pci_enable(v->pci);
	virtio_set_interrupts(v);
	return true;
}

uint64_t virtio_offered(struct virtio *v)
{
	uint64_t features;

	mmio_write32(v->common + VIRTIO_C_DEVICE_FEATURE_SELECT, 1);
	features = (uint64_t)mmio_read32(v->common + VIRTIO_C_DEVICE_FEATURE) << 32;
	mmio_write32(v->common + VIRTIO_C_DEVICE_FEATURE_SELECT, 0);
	return features | mmio_read32(v->common + VIRTIO_C_DEVICE_FEATURE);
}

uint8_t virtio_status(const struct virtio *v)
{
	return mmio_read8(v->common + VIRTIO_C_STATUS);
}

void virtio_reset(struct virtio *v)
{
	uint64_t start = cpu_ticks();

	mmio_write8(v->common + VIRTIO_C_STATUS, 0);
	while (virtio_status(v) != 0 && cpu_ticks() - start < CPU_PATIENCE)
		cpu_relax();
}

bool virtio_negotiate(struct virtio *v, uint64_t features)
{
	virtio_reset(v);
	mmio_write8(v->common + VIRTIO_C_STATUS, VIRTIO_ACKNOWLEDGE);
	mmio_write8(v->common + VIRTIO_C_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	if ((virtio_offered(v) & features) != features)
		return false;
	mmio_write32(v->common + VIRTIO_C_DRIVER_FEATURE_SELECT, 0);
	mmio_write32(v->common + VIRTIO_C_DRIVER_FEATURE, (uint32_t)features);
	mmio_write32(v->common + VIRTIO_C_DRIVER_FEATURE_SELECT, 1);
	mmio_write32(v->common + VIRTIO_C_DRIVER_FEATURE, (uint32_t)(features >> 32));
	mmio_write8(v->common + VIRTIO_C_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	v->features = features;
	return (virtio_status(v) & VIRTIO_FEATURES_OK) != 0;
}

static void virtio_write64(const struct virtio *v, unsigned int offset, uint64_t value)
{
	mmio_write32(v->common + offset, (uint32_t)value);
	mmio_write32(v->common + offset + 4, (uint32_t)(value >> 32));
}

uint64_t virtio_queue_enable(struct virtio *v, struct vring *queue, uint16_t index, uint16_t size)
{
	uint16_t most;
	uint64_t notify_gpa;

	mmio_write16(v->common + VIRTIO_C_QUEUE_SELECT, index);
	most = mmio_read16(v->common + VIRTIO_C_QUEUE_SIZE);
	if (size > most)
		size = most;
	mmio_write16(v->common + VIRTIO_C_QUEUE_SIZE, size);
	vring_init(queue, size, (v->features & VIRTIO_F_PACKED) != 0,
		   (v->features & VIRTIO_F_EVENT_IDX) != 0, (v->features & VIRTIO_F_INDIRECT) != 0,
		   v->irq != VIRTIO_POLL);
	if (v->irq == VIRTIO_MSIX) {
		mmio_write16(v->common + VIRTIO_C_CONFIG_VECTOR, 0);
		mmio_write16(v->common + VIRTIO_C_QUEUE_VECTOR, 1);
	}
	virtio_write64(v, VIRTIO_C_QUEUE_DESC, (uint64_t)queue->desc);
	virtio_write64(v, VIRTIO_C_QUEUE_DRIVER, (uint64_t)queue->driver);
	virtio_write64(v, VIRTIO_C_QUEUE_DEVICE, (uint64_t)queue->device);
	notify_gpa = v->notify + (uint64_t)v->notify_multiplier *
					 mmio_read16(v->common + VIRTIO_C_QUEUE_NOTIFY);
	mmio_write16(v->common + VIRTIO_C_QUEUE_ENABLE, 1);
	return notify_gpa;
}

void virtio_queue_setup(struct virtio *v, uint16_t size)
{
	v->notify_gpa = virtio_queue_enable(v, &v->queue, 0, size);
	if (v->second)
		v->notify1_gpa = virtio_queue_enable(v, &v->queue1, 1, size);
	v->queue_seen = v->queue_interrupts;
}

void virtio_driver_ok(struct virtio *v)
{
	mmio_write8(v->common + VIRTIO_C_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

bool virtio_start(struct virtio *v, uint64_t features)
{
	features |= VIRTIO_F_VERSION_1;
	if (arg_is("ring", "packed"))
		features |= VIRTIO_F_PACKED;
	if (arg_number("event_idx", 0) != 0)
		features |= VIRTIO_F_EVENT_IDX;
	if (arg_number("indirect", 0) != 0)
		features |= VIRTIO_F_INDIRECT;
	if (!virtio_negotiate(v, features))
		return false;
	virtio_queue_setup(v, (uint16_t)arg_number("queue_size", QUEUE_SIZE));
	virtio_driver_ok(v);
	return true;
}

uint64_t virtio_config64(const struct virtio *v, unsigned int offset)
{
	uint8_t before, after;
	uint64_t value;

	do {
		before = mmio_read8(v->common + VIRTIO_C_GENERATION);
		value = mmio_read32(v->config + offset);
		value |= (uint64_t)mmio_read32(v->config + offset + 4) << 32;
		after = mmio_read8(v->common + VIRTIO_C_GENERATION);
	} while (before != after);
	return value;
}

void virtio_config_copy(const struct virtio *v, void *to, unsigned int size)
{
	uint8_t before, after;

	do {
		before = mmio_read8(v->common + VIRTIO_C_GENERATION);
		for (unsigned int offset = 0; offset < size; offset += 4) {
			uint32_t value = mmio_read32(v->config + offset);

			memcpy((char *)to + offset, &value, sizeof(value));
		}
		after = mmio_read8(v->common + VIRTIO_C_GENERATION);
	} while (before != after);
}

uint64_t virtio_now_ms(void)
{
	return trap_count(APIC_TICK_VECTOR) * virtio_tick_ms();
}

void virtio_notify(struct virtio *v)
{
	mmio_write16(v->notify_gpa, 0);
}

void virtio_notify1(struct virtio *v)
{
	mmio_write16(v->notify1_gpa, 1);
}

void virtio_idle(const struct virtio *v)
{
	if (v->irq == VIRTIO_POLL)
		cpu_relax();
	else
		cpu_sleep();
}

bool virtio_wait(struct virtio *v, uint32_t *ret_len)
{
	uint64_t start = cpu_ticks();
	bool interrupts = v->irq != VIRTIO_POLL;

	cpu_interrupts_off();
	while (!vring_has_used(&v->queue) || (interrupts && v->queue_interrupts == v->queue_seen)) {
		if (cpu_ticks() - start > CPU_PATIENCE) {
			console_printf("virtio: no %s from slot %u, status 0x%x\n",
				       vring_has_used(&v->queue) ? "interrupt" : "answer",
				       v->pci.slot, virtio_status(v));
			return false;
		}
		virtio_idle(v);
	}
	if (vring_get(&v->queue, ret_len) && !vring_has_used(&v->queue))
		v->queue_seen = v->queue_interrupts;
	return true;
}

bool virtio_do(struct virtio *v, const struct vring_segment *segments, unsigned int count,
	       uint32_t *ret_len)
{
	if (!vring_add(&v->queue, segments, count))
		return false;
	if (vring_kick_needed(&v->queue))
		virtio_notify(v);
	return virtio_wait(v, ret_len);
}

bool virtio_wait_status(const struct virtio *v, uint8_t mask)
{
	uint64_t start = cpu_ticks();

	while ((virtio_status(v) & mask) == 0) {
		if (cpu_ticks() - start > CPU_PATIENCE / 4)
			return false;
		cpu_relax();
	}
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small virtio-mem driver (VIRTIO 1.3, 5.15): raw requests of any content, for tests of the
 * device.
 */
#ifndef BARE_VMEM_H
#define BARE_VMEM_H

#include <stdbool.h>
#include <stdint.h>

#include <vmem/proto.h>

#include "virtio.h"

#define VMEM_MAX     16u
#define VMEM_NO_RESP 0xffffu /* no answer came: never a value of the standard */
#define VMEM_PXM     (1ull << VMEM_F_ACPI_PXM)
#define VMEM_GUARDED (1ull << VMEM_F_UNPLUGGED_INACCESSIBLE)
#define VMEM_SIZES   (1ull << VMEM_F_SIZE_REQUEST)

struct vmem {
	struct virtio virtio;
	struct vmem_req *req;
	struct vmem_resp *resp;
	/* never change */
	uint64_t block_size, addr, region_size;
	uint16_t node_id;
	uint32_t resp_len; /* of the last answer, as the ring says */
};

/*
 * Open and start the @nth device with what it offers of VMEM_PXM and VMEM_GUARDED, and VMEM_SIZES if
 * virtio.second was set; afterwards that says whether it was offered.
 */
bool vmem_open(struct vmem *v, unsigned int nth);
/* The same for the one that @dev is. */
bool vmem_open_at(struct vmem *v, struct pci_dev dev);
/* The same for all devices; how many. */
unsigned int vmem_open_all(struct vmem *all, unsigned int max);
/* Start again after a reset. */
bool vmem_start(struct vmem *v);

/* Each is as the device says now. */
uint64_t vmem_usable(const struct vmem *v);
uint64_t vmem_plugged(const struct vmem *v);
uint64_t vmem_requested(const struct vmem *v);

/* The answer's type, VMEM_NO_RESP without one. vmem_state() gives 0x10 + state_type on ACK. */
uint16_t vmem_request(struct vmem *v, const struct vmem_req *req);
uint16_t vmem_plug(struct vmem *v, uint64_t addr, uint64_t blocks);
uint16_t vmem_unplug(struct vmem *v, uint64_t addr, uint64_t blocks);
uint16_t vmem_unplug_all(struct vmem *v);
uint16_t vmem_state(struct vmem *v, uint64_t addr, uint64_t blocks);

/* Any number of blocks from the region's start on, in as few requests as it takes. */
uint16_t vmem_plug_bytes(struct vmem *v, uint64_t offset, uint64_t size);
uint16_t vmem_unplug_bytes(struct vmem *v, uint64_t offset, uint64_t size);

#endif

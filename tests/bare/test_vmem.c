/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmem-config, vmem-requests: the memory device's configuration and its answers (VIRTIO 1.3, 5.15),
 * on every device there is.
 *
 *	devices=N	how many there must be
 *
 * vmem-requests wants a requested size of 8 blocks or more. NACK beyond the requested size can be
 * asked for only where the usable region is larger than that.
 */
#include "lib/acpi.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/vmem.h"
#include "tests.h"

static struct vmem devices[VMEM_MAX];

static bool vmem_in_srat(const struct vmem *v)
{
	const struct acpi_srat *srat = acpi_find("SRAT", 0);
	const struct acpi_entry *e = NULL;

	while (srat != NULL && (e = acpi_next(&srat->header, srat->entries, e)) != NULL) {
		const struct acpi_srat_memory *m = (const struct acpi_srat_memory *)e;

		if (e->type == ACPI_SRAT_MEMORY && m->base <= v->addr &&
		    v->addr + v->region_size <= m->base + m->size)
			return m->proximity == v->node_id &&
			       m->flags == (ACPI_SRAT_ENABLED | ACPI_SRAT_HOTPLUG);
	}
	return false;
}

static void vmem_check_config(struct vmem *v, unsigned int index)
{
	uint64_t mask = v->block_size - 1, usable = vmem_usable(v), requested = vmem_requested(v);
	uint64_t offered = virtio_offered(&v->virtio);

	console_printf("vmem %u addr 0x%lx size 0x%lx block 0x%lx node %u requested 0x%lx usable "
		       "0x%lx plugged 0x%lx features 0x%lx\n",
		       index, v->addr, v->region_size, v->block_size, v->node_id, requested, usable,
		       vmem_plugged(v), offered);
	check(v->block_size >= 4096 && (v->block_size & mask) == 0, "vmem-block-size", "0x%lx",
	      v->block_size);
	check(((v->addr | v->region_size | usable | requested | vmem_plugged(v)) & mask) == 0,
	      "vmem-multiples", "a size or the address is not a multiple of the block size");
	check(requested <= usable && usable <= v->region_size, "vmem-order",
	      "requested, usable and region size out of order");
	check_equal(vmem_plugged(v), 0, "vmem-starts-unplugged");
	check((offered & VMEM_PXM) == 0 || vmem_in_srat(v), "vmem-srat",
	      "no hot-pluggable range of node %u covers the region", v->node_id);
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t gpa = i == 0 ? v->addr : v->addr + v->region_size - 8;

		check(!boot_is_ram(gpa, 8), "vmem-not-ram", "0x%lx is in the RAM map", gpa);
	}
}

static unsigned int vmem_open_devices(void)
{
	unsigned int n = vmem_open_all(devices, VMEM_MAX);

	check_equal(n, arg_number("devices", 1), "vmem-devices");
	return n;
}

void test_vmem_config(void)
{
	unsigned int n = vmem_open_devices();
	bool apart = true;

	for (unsigned int i = 0; i < n; i++) {
		vmem_check_config(&devices[i], i);
		for (unsigned int j = 0; j < i; j++)
			apart = apart &&
				(devices[i].addr >= devices[j].addr + devices[j].region_size ||
				 devices[j].addr >= devices[i].addr + devices[i].region_size);
	}
	check(apart, "vmem-apart", "regions overlap");
}

/* What is wrong with a range is wrong for each request that has one. */
static void vmem_check_bad_ranges(struct vmem *v)
{
	static uint16_t (*const fns[])(struct vmem * v, uint64_t addr,
				       uint64_t blocks) = {vmem_plug, vmem_unplug, vmem_state};
	static const char *const names[] = {"vmem-bad-plug", "vmem-bad-unplug", "vmem-bad-state"};
	uint64_t usable = vmem_usable(v), end = v->addr + usable, bs = v->block_size;
	const struct {
		uint64_t addr, blocks;
	} bad[] = {
		{v->addr + 1, 1},
		{v->addr + bs / 2, 1},
		{v->addr, 0},
		{v->addr - bs, 1},
		{v->addr - bs, 2},
		{end, 1},
		{end - bs, 2},
		{v->addr + v->region_size, 1},
		{0, 1},
		{0 - bs, 1},
		{0 - bs, 2},
		{v->addr + (1ull << 63), 1},
		{end - bs + 1, 1},
	};

	for (unsigned int f = 0; f < 3; f++) {
		for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			uint16_t type = fns[f](v, bad[i].addr, bad[i].blocks);

			check(type == VMEM_RESP_ERROR, names[f], "addr 0x%lx blocks %lu: answer %u",
			      bad[i].addr, bad[i].blocks, type);
		}
	}
	/* as many blocks as the field holds, if the region is smaller than that */
	if (0xffff * bs > usable)
		check_equal(vmem_state(v, v->addr, 0xffff), VMEM_RESP_ERROR,
			    "vmem-bad-most-blocks");
	check_equal(vmem_plugged(v), 0, "vmem-bad-changes-nothing");
}

static void vmem_check_unknown(struct vmem *v)
{
	static const uint16_t types[] = {4, 5, 0x100, 0x8000, 0xffff};
	struct vmem_req req = {.addr = v->addr, .nb_blocks = 1};

	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		req.type = types[i];
		check_equal(vmem_request(v, &req), VMEM_RESP_ERROR, "vmem-unknown-type");
	}
}

static void vmem_check_padding(struct vmem *v)
{
	struct vmem_req req = {.type = VMEM_REQ_PLUG,
			       .padding = {0xffff, 0xffff, 0xffff},
			       .addr = v->addr,
			       .nb_blocks = 1,
			       .data_padding = {0xffff, 0xffff, 0xffff}};

	check_equal(vmem_request(v, &req), VMEM_RESP_ACK, "vmem-padding-plug");
	check_equal(v->resp_len, sizeof(struct vmem_resp), "vmem-response-length");
	req.type = VMEM_REQ_STATE;
	check_equal(vmem_request(v, &req), VMEM_RESP_ACK, "vmem-padding-state");
	req.type = VMEM_REQ_UNPLUG;
	check_equal(vmem_request(v, &req), VMEM_RESP_ACK, "vmem-padding-unplug");
	req = (struct vmem_req){.type = VMEM_REQ_UNPLUG_ALL, .addr = 1, .nb_blocks = 0xffff};
	check_equal(vmem_request(v, &req), VMEM_RESP_ACK, "vmem-unplug-all-ignores-rest");
}

/* Blocks 2 and 3 of the region plugged, their neighbours not. */
static void vmem_check_states(struct vmem *v)
{
	uint64_t bs = v->block_size, a = v->addr;

	check_equal(vmem_state(v, a, 6), 0x10 + VMEM_STATE_UNPLUGGED, "vmem-state-unplugged");
	check_equal(vmem_plug(v, a + 2 * bs, 2), VMEM_RESP_ACK, "vmem-plug");
	check_equal(vmem_plugged(v), 2 * bs, "vmem-plugged-size");
	check_equal(vmem_state(v, a + 2 * bs, 2), 0x10 + VMEM_STATE_PLUGGED, "vmem-state-plugged");
	check_equal(vmem_state(v, a, 6), 0x10 + VMEM_STATE_MIXED, "vmem-state-mixed");
	check_equal(vmem_state(v, a + bs, 2), 0x10 + VMEM_STATE_MIXED, "vmem-state-mixed-start");
	check_equal(vmem_state(v, a + 3 * bs, 2), 0x10 + VMEM_STATE_MIXED, "vmem-state-mixed-end");
	check_equal(vmem_state(v, a, 2), 0x10 + VMEM_STATE_UNPLUGGED, "vmem-state-before");

	check_equal(vmem_plug(v, a + 2 * bs, 1), VMEM_RESP_ERROR, "vmem-double-plug");
	check_equal(vmem_plug(v, a + bs, 2), VMEM_RESP_ERROR, "vmem-plug-overlap-end");
	check_equal(vmem_plug(v, a + 3 * bs, 2), VMEM_RESP_ERROR, "vmem-plug-overlap-start");
	check_equal(vmem_unplug(v, a, 1), VMEM_RESP_ERROR, "vmem-unplug-unplugged");
	check_equal(vmem_unplug(v, a + bs, 2), VMEM_RESP_ERROR, "vmem-unplug-overlap-end");
	check_equal(vmem_unplug(v, a + 3 * bs, 2), VMEM_RESP_ERROR, "vmem-unplug-overlap-start");
	check_equal(vmem_plugged(v), 2 * bs, "vmem-refused-changes-nothing");

	check_equal(vmem_unplug(v, a + 2 * bs, 1), VMEM_RESP_ACK, "vmem-unplug");
	check_equal(vmem_unplug(v, a + 2 * bs, 1), VMEM_RESP_ERROR, "vmem-double-unplug");
	check_equal(vmem_state(v, a + 2 * bs, 2), 0x10 + VMEM_STATE_MIXED, "vmem-state-half");
	check_equal(vmem_plugged(v), bs, "vmem-plugged-size-half");
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "vmem-unplug-all");
	check_equal(vmem_plugged(v), 0, "vmem-plugged-size-none");
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "vmem-unplug-all-again");
	check_equal(vmem_state(v, a, 6), 0x10 + VMEM_STATE_UNPLUGGED, "vmem-state-after-all");
}

static void vmem_check_limit(struct vmem *v)
{
	uint64_t bs = v->block_size, requested = vmem_requested(v);

	if (requested + bs <= vmem_usable(v)) {
		/* one request for more than is wanted takes nothing */
		if (requested / bs + 1 <= 0xffff) {
			check_equal(vmem_plug(v, v->addr, requested / bs + 1), VMEM_RESP_NACK,
				    "vmem-nack-whole");
			check_equal(vmem_plugged(v), 0, "vmem-nack-takes-nothing");
		}
		check_equal(vmem_plug_bytes(v, 0, requested), VMEM_RESP_ACK, "vmem-plug-requested");
		check_equal(vmem_plug(v, v->addr + requested, 1), VMEM_RESP_NACK, "vmem-nack");
		check_equal(vmem_plugged(v), requested, "vmem-nack-changes-nothing");
		/* another place will do as well */
		check_equal(vmem_unplug(v, v->addr, 1), VMEM_RESP_ACK, "vmem-make-room");
		check_equal(vmem_plug(v, v->addr + requested, 1), VMEM_RESP_ACK, "vmem-beyond");
		check_equal(vmem_plug(v, v->addr, 1), VMEM_RESP_NACK, "vmem-nack-below");
	} else {
		check_equal(vmem_plug_bytes(v, 0, requested), VMEM_RESP_ACK, "vmem-plug-requested");
	}
	check_equal(vmem_plugged(v), requested, "vmem-full");
	/* a device reset changes no block */
	check(vmem_start(v), "vmem-restart", "no start after a device reset");
	check_equal(vmem_plugged(v), requested, "vmem-reset-keeps-blocks");
	check_equal(vmem_unplug_all(v), VMEM_RESP_ACK, "vmem-unplug-all-full");
	check(vmem_usable(v) >= requested, "vmem-usable-after-all", "0x%lx", vmem_usable(v));
}

void test_vmem_requests(void)
{
	unsigned int n = vmem_open_devices();

	for (unsigned int i = 0; i < n; i++) {
		struct vmem *v = &devices[i];

		console_printf("vmem %u\n", i);
		check(vmem_requested(v) >= 8 * v->block_size, "vmem-room",
		      "the test wants 8 blocks or more");
		vmem_check_bad_ranges(v);
		vmem_check_unknown(v);
		vmem_check_padding(v);
		vmem_check_states(v);
		vmem_check_limit(v);
	}
}

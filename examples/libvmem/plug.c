/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A monitor with one memory device, as small as it can be: a KVM virtual machine to which libvmem
 * gives up to 64 MiB in blocks of 2 MiB, starting at guest address 1 GiB.
 *
 * The guest stores a number in block 0 and in block 1, reads both back and says what it read; block
 * 1 is never plugged. This program stands in for the guest's driver as well: it makes the requests
 * that a monitor would take from the device's virtqueue.
 *
 *     cc -o plug plug.c vm.c $(pkg-config --cflags --libs libvmem) && ./plug
 *
 * Exit status: 0; 1 when something failed; 77 when there is no KVM.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vmem/device.h>
#include <vmem/guard.h>

#include "vm.h"

#define BLOCK_SIZE   UINT64_C(0x200000)
#define REGION_ADDR  UINT64_C(0x40000000)
#define REGION_SIZE  (NR_BLOCKS * BLOCK_SIZE)
#define NR_BLOCKS    32
#define MEMSLOT_SIZE (8 * BLOCK_SIZE)

static const unsigned char guest_code[] = {
	0xb8, 0x78, 0x56, 0x34, 0x12, /* mov $0x12345678, %eax */
	0xa3, 0x00, 0x00, 0x00, 0x40, /* mov %eax, 0x40000000: block 0 */
	0xa3, 0x00, 0x00, 0x20, 0x40, /* mov %eax, 0x40200000: block 1 */
	0xa1, 0x00, 0x00, 0x00, 0x40, /* mov 0x40000000, %eax */
	0xe7, 0x00,                   /* out %eax, $0 */
	0xa1, 0x00, 0x00, 0x20, 0x40, /* mov 0x40200000, %eax */
	0xe7, 0x01,                   /* out %eax, $1 */
	0xf4,                         /* hlt */
};

struct monitor {
	struct vm vm;
	char *memory;
	struct vmem_guard *guard;
	struct vmem_device *device;
};

static void check(int ret, const char *what)
{
	if (!ret)
		return;
	fprintf(stderr, "plug: %s: %s\n", what, strerror(-ret));
	exit(1);
}

/* ---- struct vmem_guard_ops: slot n starts with block n - 1, and no two numbers are the same ---- */

static int slot_add(void *opaque, uint64_t offset, uint64_t size, uint32_t *ret_slot)
{
	struct monitor *m = opaque;

	*ret_slot = (uint32_t)(offset / BLOCK_SIZE) + 1;
	return vm_slot_set(&m->vm, *ret_slot, REGION_ADDR + offset, size, m->memory + offset);
}

static int slot_remove(void *opaque, uint32_t slot)
{
	return vm_slot_set(&((struct monitor *)opaque)->vm, slot, 0, 0, NULL);
}

/* The only vCPU is outside: its thread is here. A monitor with more stops them around this. */
static int slots_replace(void *opaque, const uint32_t *old, size_t nr_old,
			 struct vmem_guard_slot *fresh, size_t nr_fresh)
{
	struct monitor *m = opaque;
	struct vm_slots was = m->vm.slots;
	int ret = 0;

	for (size_t i = 0; i < nr_old && !ret; i++)
		ret = slot_remove(m, old[i]);
	for (size_t i = 0; i < nr_fresh && !ret; i++)
		ret = slot_add(m, fresh[i].offset, fresh[i].size, &fresh[i].slot);
	return ret && vm_slots_restore(&m->vm, &was) ? -ENOTRECOVERABLE : ret;
}

static const struct vmem_guard_ops guard_ops = {
	.slot_add = slot_add,
	.slot_remove = slot_remove,
	.slots_replace = slots_replace,
};

/* ---- struct vmem_host_ops: the guard, and a way to tell the guest ---- */

static int grant(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_grant(((struct monitor *)host)->guard, offset, size);
}

static int revoke(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_revoke(((struct monitor *)host)->guard, offset, size);
}

static int discard(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_discard(((struct monitor *)host)->guard, offset, size);
}

static void config_changed(void *host)
{
	struct vmem_config config;

	/* Here a monitor sends the configuration change interrupt; the driver then reads this. */
	vmem_device_config_read(((struct monitor *)host)->device, &config);
	printf("the guest is asked to use %" PRIu64 " KiB\n", le64toh(config.requested_size) >> 10);
}

static const struct vmem_host_ops host_ops = {
	.grant = grant,
	.revoke = revoke,
	.discard = discard,
	.config_changed = config_changed,
};

/* ---- the guest ---- */

static void request_block0(struct monitor *m, uint16_t type, const char *what)
{
	static const char *const answers[VMEM_RESP_TYPES] = {"ACK", "NACK", "BUSY", "ERROR"};
	struct vmem_req req = {
		.type = htole16(type),
		.addr = htole64(REGION_ADDR),
		.nb_blocks = htole16(1),
	};
	struct vmem_resp resp;

	printf("%s block 0: %s\n", what, answers[vmem_device_request(m->device, &req, &resp)]);
}

/* An access to unplugged memory left the guest: a read gives zeros, a write goes nowhere. */
static void unplugged_access(struct kvm_run *run)
{
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0, sizeof(run->mmio.data));
	printf("  a %s of 0x%llx was stopped\n", run->mmio.is_write ? "write" : "read",
	       run->mmio.phys_addr);
}

static void run_guest(struct monitor *m)
{
	struct kvm_run *run = m->vm.run;
	int ret;

	check(vm_restart(&m->vm), "starting the guest");
	do {
		ret = vm_run(&m->vm);
		/* A write to a closed block of a slot that is present: KVM does not say where. */
		if (ret == -EFAULT) {
			ret = vmem_guard_refine(m->guard, 0, REGION_SIZE);
			check(ret > 0 ? 0 : ret ? ret : -EFAULT, "refining");
			continue;
		}
		check(ret, "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_MMIO)
			unplugged_access(run);
		else if (run->exit_reason == KVM_EXIT_IO)
			printf("  the guest read 0x%x from block %u\n",
			       *(uint32_t *)((char *)run + run->io.data_offset), run->io.port);
		else if (run->exit_reason != KVM_EXIT_HLT)
			check(-EPROTO, "an exit that nobody expects");
	} while (ret || run->exit_reason != KVM_EXIT_HLT);
	printf("held for the device: %" PRId64 " KiB\n", vm_held_kib(m->memory, REGION_SIZE));
}

/* What an emulated device does before it touches guest memory. */
static void peek_block0(const struct monitor *m)
{
	if (vmem_device_plugged(m->device, REGION_ADDR, sizeof(uint32_t)))
		printf("block 0 holds 0x%x\n", *(const uint32_t *)m->memory);
	else
		printf("block 0 is out of reach\n");
}

static void make_device(struct monitor *m)
{
	const struct vmem_guard_config guard_config = {
		.memory = m->memory,
		.size = REGION_SIZE,
		.block_size = BLOCK_SIZE,
		.memslot_size = MEMSLOT_SIZE,
		.fd = -1,
		.ops = &guard_ops,
		.opaque = m,
	};
	const struct vmem_device_config device_config = {
		.addr = REGION_ADDR,
		.region_size = REGION_SIZE,
		.block_size = BLOCK_SIZE,
	};
	struct vmem_error error = {""};
	int ret = vmem_guard_new(&guard_config, &m->guard, &error);

	check(ret, error.text);
	check(vmem_device_new(&device_config, &host_ops, m, &m->device), "vmem_device_new");
}

int main(void)
{
	struct monitor m = {0};
	int ret = vm_init(&m.vm, guest_code, sizeof(guest_code));

	if (ret == -ENODEV) {
		printf("plug: skipped: /dev/kvm cannot be opened\n");
		return 77;
	}
	check(ret, "making a virtual machine");
	m.memory = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(m.memory == MAP_FAILED ? -errno : 0, "mapping the device's memory");
	make_device(&m);
	run_guest(&m);
	check(vmem_device_resize(m.device, BLOCK_SIZE), "resizing");
	request_block0(&m, VMEM_REQ_PLUG, "plug");
	run_guest(&m);
	peek_block0(&m);
	request_block0(&m, VMEM_REQ_UNPLUG, "unplug");
	run_guest(&m);
	peek_block0(&m);
	vmem_device_free(m.device);
	vmem_guard_free(m.guard);
	munmap(m.memory, REGION_SIZE);
	vm_done(&m.vm);
	return 0;
}

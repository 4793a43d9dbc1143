/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a request costs: vmem_device_request() with the guard behind it and real KVM memory slots, in
 * one process, without a guest.
 *
 *     vmem-bench --backend anon|memfd|hugetlb|file [--path FILE] [--run BLOCKS] [--stride BLOCKS]
 *                [--requests N] [--rounds N] [--memslot MIB] [--touch] [--prealloc]
 *                [--mergeable] [--unprotected] [--no-slots]
 *
 * A round makes N plug requests of a run of blocks each, --stride blocks apart, touches every page of
 * them if asked, makes the N unplug requests, and N state requests, whose time is what a request
 * costs without any work. Printed is a line for each round: plug, unplug and state, nanoseconds for
 * all N; and before the first one, lines "# KEY VALUE" that say how it was measured.
 *
 * Exit status: 0; 1 when something failed; 77 when this host has not what the backend needs.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>

#include <vmem/device.h>
#include <vmem/guard.h>

#include "base/num.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#ifndef KVM_CAP_DISABLE_QUIRKS2
#define KVM_CAP_DISABLE_QUIRKS2 213
#endif
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1u << 7) /* Linux 6.12 */
#endif

#define BLOCK_SIZE   (2 * MIB)
#define REGION_ADDR  (4 * GIB)
#define EXIT_SKIPPED 77

struct options {
	const char *backend, *path;
	uint64_t run, stride, requests, rounds, memslot_size;
	bool touch, prealloc, mergeable, unprotected, no_slots;
};

struct bench {
	struct options o;
	int kvm, vm; /* -1: without memory slots */
	uint64_t region_size;
	char *memory;
	int fd;
	bool *slot_used;
	uint32_t nr_slots;
	struct vmem_guard *guard;
	struct vmem_device *device;
};

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int status, const char *format,
								 ...)
{
	va_list ap;

	fputs("vmem-bench: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

/* ---- memory slots ---- */

static void kvm_open(struct bench *b)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DISABLE_QUIRKS2,
		.args = {KVM_X86_QUIRK_SLOT_ZAP_ALL},
	};

	b->vm = b->kvm = -1;
	if (b->o.no_slots) {
		printf("# memslots none\n");
		return;
	}
	b->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (b->kvm >= 0)
		b->vm = ioctl(b->kvm, KVM_CREATE_VM, 0);
	if (b->vm >= 0 && (ioctl(b->vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2) &
			   KVM_X86_QUIRK_SLOT_ZAP_ALL))
		ioctl(b->vm, KVM_ENABLE_CAP, &cap);
	printf("# memslots %s\n", b->vm >= 0 ? "kvm" : "none: no KVM");
}

static int slot_set(struct bench *b, uint32_t slot, uint64_t offset, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = REGION_ADDR + offset,
		.memory_size = size,
		.userspace_addr = (uintptr_t)b->memory + offset,
	};

	if (b->vm >= 0 && ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	b->slot_used[slot] = size != 0;
	return 0;
}

static int slot_add(void *opaque, uint64_t offset, uint64_t size, uint32_t *ret_slot)
{
	struct bench *b = opaque;

	/* One number for each place, as no two slots of a guard overlap. */
	*ret_slot = (uint32_t)(offset / b->o.memslot_size);
	if (*ret_slot >= b->nr_slots || b->slot_used[*ret_slot])
		return -ENOSPC;
	return slot_set(b, *ret_slot, offset, size);
}

static int slot_remove(void *opaque, uint32_t slot)
{
	return slot_set(opaque, slot, 0, 0);
}

static const struct vmem_guard_ops guard_ops = {
	.slot_add = slot_add,
	.slot_remove = slot_remove,
};

/* ---- the device's host ---- */

static int host_grant(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_grant(((struct bench *)host)->guard, offset, size);
}

static int host_populate(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_populate(((struct bench *)host)->guard, offset, size);
}

static int host_revoke(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_revoke(((struct bench *)host)->guard, offset, size);
}

static int host_discard(void *host, uint64_t offset, uint64_t size)
{
	return vmem_guard_discard(((struct bench *)host)->guard, offset, size);
}

static void host_config_changed(void *host)
{
	(void)host;
}

static const struct vmem_host_ops host_ops = {
	.grant = host_grant,
	.populate = host_populate,
	.revoke = host_revoke,
	.discard = host_discard,
	.config_changed = host_config_changed,
};

/* ---- making it ---- */

/* The file behind the memory; -1 for private anonymous memory. */
static int backend_open(const struct bench *b)
{
	const char *name = b->o.backend;
	int fd;

	if (!strcmp(name, "anon"))
		return -1;
	if (!strcmp(name, "memfd"))
		fd = memfd_create("vmem-bench", MFD_CLOEXEC);
	else if (!strcmp(name, "hugetlb"))
		fd = memfd_create("vmem-bench", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	else if (!strcmp(name, "file") && b->o.path)
		fd = open(b->o.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	else
		fail(1, "--backend %s: must be anon, memfd, hugetlb or file (with --path)", name);
	if (fd < 0 || ftruncate(fd, (off_t)b->region_size) < 0)
		fail(EXIT_SKIPPED, "--backend %s: %s", name, strerror(errno));
	return fd;
}

static void memory_map(struct bench *b)
{
	int flags = b->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	char *space = mmap(NULL, b->region_size + GIB, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (space == MAP_FAILED)
		fail(1, "addresses for the region: %s", strerror(errno));
	space += -(uintptr_t)space & (GIB - 1);
	b->memory = mmap(space, b->region_size, PROT_READ | PROT_WRITE,
			 flags | MAP_NORESERVE | MAP_FIXED, b->fd, 0);
	if (b->memory == MAP_FAILED)
		fail(EXIT_SKIPPED, "--backend %s: %s", b->o.backend, strerror(errno));
	if (strcmp(b->o.backend, "hugetlb") != 0)
		madvise(b->memory, b->region_size, MADV_HUGEPAGE);
	if (b->o.mergeable && madvise(b->memory, b->region_size, MADV_MERGEABLE) < 0)
		fail(EXIT_SKIPPED, "--mergeable: this kernel does not merge pages");
}

static void device_make(struct bench *b)
{
	const struct vmem_guard_config guard = {
		.memory = b->memory,
		.size = b->region_size,
		.block_size = BLOCK_SIZE,
		.memslot_size = b->o.memslot_size,
		.fd = b->fd,
		.unprotected = b->o.unprotected,
		.mergeable = b->o.mergeable,
		.ops = &guard_ops,
		.opaque = b,
	};
	const struct vmem_device_config device = {
		.addr = REGION_ADDR,
		.region_size = b->region_size,
		.block_size = BLOCK_SIZE,
		.requested_size = b->region_size,
		.prealloc = b->o.prealloc,
	};
	struct vmem_guard_info info;
	struct vmem_error error;
	int ret = vmem_guard_new(&guard, &b->guard, &error);

	if (ret)
		fail(ret == -EOPNOTSUPP ? EXIT_SKIPPED : 1, "%s", error.text);
	ret = vmem_device_new(&device, &host_ops, b, &b->device);
	if (ret)
		fail(1, "vmem_device_new: %s", strerror(-ret));
	vmem_guard_info(b->guard, &info);
	printf("# mechanism %s\n", info.mechanism);
}

static void bench_init(struct bench *b)
{
	b->region_size = (b->o.requests * b->o.stride + b->o.run) * BLOCK_SIZE;
	b->nr_slots = (uint32_t)(b->region_size / b->o.memslot_size) + 1;
	b->slot_used = calloc(b->nr_slots, sizeof(*b->slot_used));
	if (!b->slot_used)
		fail(1, "out of memory");
	kvm_open(b);
	b->fd = backend_open(b);
	memory_map(b);
	device_make(b);
}

static void bench_done(struct bench *b)
{
	vmem_device_free(b->device);
	vmem_guard_free(b->guard);
	munmap(b->memory, b->region_size);
	if (b->fd >= 0)
		close(b->fd);
	if (b->vm >= 0)
		close(b->vm);
	if (b->kvm >= 0)
		close(b->kvm);
	free(b->slot_used);
}

/* ---- measuring ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Nanoseconds for a round's requests of one type. */
static uint64_t requests_ns(struct bench *b, uint16_t type)
{
	uint64_t begin = now_ns();

	for (uint64_t i = 0; i < b->o.requests; i++) {
		const struct vmem_req req = {
			.type = htole16(type),
			.addr = htole64(REGION_ADDR + i * b->o.stride * BLOCK_SIZE),
			.nb_blocks = htole16((uint16_t)b->o.run),
		};
		struct vmem_resp resp;
		uint16_t answer = vmem_device_request(b->device, &req, &resp);

		if (answer != VMEM_RESP_ACK)
			fail(answer == VMEM_RESP_NACK ? EXIT_SKIPPED : 1,
			     "request %" PRIu64 " of type %u: answer %u", i, type, answer);
	}
	return now_ns() - begin;
}

static void touch(struct bench *b)
{
	for (uint64_t i = 0; i < b->o.requests; i++)
		memset(b->memory + i * b->o.stride * BLOCK_SIZE, 1, b->o.run * BLOCK_SIZE);
}

static void measure(struct bench *b)
{
	/* The first round is not printed: it makes what later ones find. */
	for (uint64_t i = 0; i <= b->o.rounds; i++) {
		uint64_t state, plug, unplug;

		state = requests_ns(b, VMEM_REQ_STATE);
		plug = requests_ns(b, VMEM_REQ_PLUG);
		if (b->o.touch)
			touch(b);
		unplug = requests_ns(b, VMEM_REQ_UNPLUG);
		if (i)
			printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", plug, unplug, state);
	}
}

static uint64_t number(const char *name, const char *text, uint64_t max)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !value || value > max)
		fail(1, "--%s %s: must be a number from 1 to %" PRIu64, name, text, max);
	return value;
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{"backend", required_argument, NULL, 'b'},
		{"path", required_argument, NULL, 'p'},
		{"run", required_argument, NULL, 'r'},
		{"stride", required_argument, NULL, 's'},
		{"requests", required_argument, NULL, 'n'},
		{"rounds", required_argument, NULL, 'm'},
		{"memslot", required_argument, NULL, 'l'},
		{"touch", no_argument, NULL, 't'},
		{"prealloc", no_argument, NULL, 'a'},
		{"mergeable", no_argument, NULL, 'g'},
		{"unprotected", no_argument, NULL, 'u'},
		{"no-slots", no_argument, NULL, 'k'},
		{NULL, 0, NULL, 0},
	};
	int c;

	*o = (struct options){
		.backend = "anon", .run = 1, .requests = 64, .rounds = 9, .memslot_size = GIB};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'b')
			o->backend = optarg;
		else if (c == 'p')
			o->path = optarg;
		else if (c == 'r')
			o->run = number("run", optarg, UINT16_MAX);
		else if (c == 's')
			o->stride = number("stride", optarg, UINT16_MAX);
		else if (c == 'n')
			o->requests = number("requests", optarg, UINT16_MAX);
		else if (c == 'm')
			o->rounds = number("rounds", optarg, UINT32_MAX);
		else if (c == 'l')
			o->memslot_size = number("memslot", optarg, UINT16_MAX) * MIB;
		else if (c == 't')
			o->touch = true;
		else if (c == 'a')
			o->prealloc = true;
		else if (c == 'g')
			o->mergeable = true;
		else if (c == 'u')
			o->unprotected = true;
		else if (c == 'k')
			o->no_slots = true;
		else
			exit(1);
	}
	if (optind != argc)
		fail(1, "%s: unknown argument", argv[optind]);
	if (!o->stride)
		o->stride = o->run;
	if (!num_is_pow2(o->memslot_size) || o->memslot_size < BLOCK_SIZE)
		fail(1, "--memslot: must be a power of two, at least 2");
	if (o->stride < o->run)
		fail(1, "--stride: must be at least --run");
}

int main(int argc, char **argv)
{
	struct bench b = {.vm = -1};

	parse(&b.o, argc, argv);
	bench_init(&b);
	measure(&b);
	bench_done(&b);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine over the guard over real memory: random requests, resizes and system resets, by turns
 * with a hypervisor that is able and one that fails, for memory and protection of every kind.
 *
 * After each step all blocks are looked at. One that is unplugged holds no page, and no system call
 * writes into it; one that is plugged is in a memory slot and has the content that was written, or
 * zeros when it was plugged just now. Those that the engine says are kept out of use, because a
 * failure could not be undone, are looked at when they are unplugged or usable again. device.h, I2
 * and I5; guard.h, I1 to I6.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <vmem/device.h>

#include "guard/pages.h"
#include "tests/unit/guard/guard_rig.h"

#define BLOCKS_MAX 61
#define PER_SLOT   4
#define FD_OFFSET  (2 * MIB)

/* ---- kinds of memory ---- */

static bool no_userfaultfd;

long __real_syscall(long number, long a, long b, long c, long d);
long __wrap_syscall(long number, long a, long b, long c, long d);
long __wrap_syscall(long number, long a, long b, long c, long d)
{
	if (number == SYS_userfaultfd && no_userfaultfd) {
		errno = EPERM;
		return -1;
	}
	return __real_syscall(number, a, b, c, d);
}

static int make_memfd(void)
{
	return memfd_create("engine", MFD_CLOEXEC);
}

static int make_tmpfs(void)
{
	char path[] = "/dev/shm/guard-engine-XXXXXX";
	struct statfs fs;
	int fd;

	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return -1;
	fd = mkstemp(path);
	if (fd >= 0)
		unlink(path);
	return fd;
}

struct kind {
	int (*make)(void); /* a descriptor, or -1 where the machine has none; NULL: anonymous */
	bool no_userfaultfd;
	bool failing;        /* calls into the hypervisor fail now and then */
	uint32_t max_fences; /* few: segments are armed, or requests refused */
};

/* One device. */
struct run {
	const struct kind *kind;
	struct host host;
	struct vmem_device *dev;
	struct vmem_device_config config;
	uint64_t seed, blocks;

	/* what each block is to be */
	bool plugged[BLOCKS_MAX], faulted[BLOCKS_MAX];
	uint32_t stamp[BLOCKS_MAX]; /* of plugged blocks; 0: never written */
	uint64_t stray_first, stray_count;
	/* after which there were such blocks, or armed segments */
	unsigned int faulted_steps, stray_steps, armed_steps;
};

static uint64_t below(struct run *r, uint64_t n)
{
	r->seed = r->seed * 6364136223846793005 + 1442695040888963407;
	return (r->seed >> 33) % n;
}

/* ---- the engine's host ---- */

static int engine_grant(void *guard, uint64_t offset, uint64_t size)
{
	return vmem_guard_grant(guard, offset, size);
}

static int engine_populate(void *guard, uint64_t offset, uint64_t size)
{
	return vmem_guard_populate(guard, offset, size);
}

static int engine_revoke(void *guard, uint64_t offset, uint64_t size)
{
	return vmem_guard_revoke(guard, offset, size);
}

static int engine_discard(void *guard, uint64_t offset, uint64_t size)
{
	return vmem_guard_discard(guard, offset, size);
}

static void engine_config_changed(void *guard)
{
	(void)guard;
}

static const struct vmem_host_ops engine_ops = {
	.grant = engine_grant,
	.populate = engine_populate,
	.revoke = engine_revoke,
	.discard = engine_discard,
	.config_changed = engine_config_changed,
};

/* ---- life ---- */

/* False when the machine has no such memory. */
static bool run_start(struct run *r, const struct kind *kind, uint64_t block, uint64_t blocks,
		      bool prealloc)
{
	const uint64_t size = blocks * block;
	struct vmem_guard_config config = {
		.size = size,
		.block_size = block,
		.memslot_size = PER_SLOT * block,
		.fd = kind->make ? kind->make() : -1,
		.fd_offset = FD_OFFSET,
		.populate_threads = prealloc,
		.max_fences = kind->max_fences,
	};
	struct vmem_guard_info info;

	if (kind->make && config.fd < 0)
		return false;
	if (config.fd >= 0)
		assert_int_equal(ftruncate(config.fd, (off_t)(FD_OFFSET + size)), 0);
	config.memory = host_map(size, config.fd, FD_OFFSET);
	memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->blocks = blocks;
	r->seed = block + prealloc;
	r->config = (struct vmem_device_config){
		.addr = 4 * GIB,
		.region_size = size,
		.block_size = block,
		.requested_size = num_align_down(size * 3 / 4, block),
		.usable_extra_bytes = 3 * block,
		.unplugged_inaccessible = true,
		.prealloc = prealloc,
	};
	no_userfaultfd = kind->no_userfaultfd;
	assert_int_equal(host_start_on(&r->host, &config), 0);
	no_userfaultfd = false;
	vmem_guard_info(r->host.guard, &info);
	if (kind->no_userfaultfd)
		assert_string_equal(info.mechanism, "mprotect");
	assert_int_equal(vmem_device_new(&r->config, &engine_ops, r->host.guard, &r->dev), 0);
	return true;
}

static void run_end(struct run *r)
{
	vmem_device_free(r->dev);
	host_end(&r->host);
	if (r->host.config.fd >= 0)
		close(r->host.config.fd);
}

/* ---- looking at memory ---- */

static char *memory_at(const struct run *r, uint64_t block, uint64_t offset)
{
	return r->host.memory + block * r->config.block_size + offset;
}

/* Where a page of a block has its word, and what that is. */
static void *word_at(const struct run *r, uint64_t block, uint64_t page)
{
	return memory_at(r, block, page * PAGE + page * 64 % PAGE);
}

static uint64_t word_of(const struct run *r, uint64_t block, uint64_t page)
{
	return r->stamp[block] ? (uint64_t)r->stamp[block] << 32 | page : 0;
}

/* Write all pages of a block. */
static void write_block(struct run *r, uint64_t block)
{
	const uint64_t size = r->config.block_size;

	assert_int_equal(host_poke(&r->host, block * size + below(r, size)), 0);
	r->stamp[block] = (uint32_t)(1 + below(r, UINT32_MAX));
	for (uint64_t page = 0; page < size / PAGE; page++) {
		uint64_t word = word_of(r, block, page);

		memcpy(word_at(r, block, page), &word, sizeof(word));
	}
}

static void check_content(const struct run *r, uint64_t block)
{
	for (uint64_t page = 0; page < r->config.block_size / PAGE; page++) {
		uint64_t word;

		memcpy(&word, word_at(r, block, page), sizeof(word));
		assert_int_equal(word, word_of(r, block, page));
	}
}

/*
 * The host's memory is there. A file's is in the file: the kernel may take a page from the mapping
 * at any time, and put it back when it is touched.
 */
static void check_there(const struct run *r, uint64_t block)
{
	const uint64_t size = r->config.block_size, start = FD_OFFSET + block * size;

	if (r->host.config.fd < 0)
		assert_int_equal(host_pages(&r->host, block * size, size), size / PAGE);
	else
		assert_true(lseek(r->host.config.fd, (off_t)start, SEEK_HOLE) >=
			    (off_t)(start + size));
}

/* Just plugged: every byte is zero. */
static void check_fresh(const struct run *r, uint64_t block)
{
	static const char zeros[PAGE];
	const uint64_t size = r->config.block_size;

	if (r->config.prealloc)
		check_there(r, block);
	for (uint64_t page = 0; page < size / PAGE; page++)
		assert_memory_equal(memory_at(r, block, page * PAGE), zeros, PAGE);
}

static void check_closed(struct run *r, uint64_t block)
{
	const uint64_t size = r->config.block_size, offset = block * size;
	const int fd = r->host.config.fd;

	assert_int_equal(host_poke(&r->host, offset + below(r, size)), -EFAULT);
	assert_int_equal(host_peek(&r->host, offset + below(r, size)), fd < 0 ? 0 : -EFAULT);
	assert_int_equal(host_pages(&r->host, offset, size), 0);
	if (fd >= 0) {
		off_t data = lseek(fd, (off_t)(FD_OFFSET + offset), SEEK_DATA);

		assert_true(data < 0 ? errno == ENXIO : data >= (off_t)(FD_OFFSET + offset + size));
	}
}

static bool is_stray(const struct run *r, uint64_t block)
{
	return block >= r->stray_first && block < r->stray_first + r->stray_count;
}

/* Plugged blocks are in the guest; slots without any are not. */
static void check_slots(const struct run *r)
{
	const uint64_t size = r->config.block_size;

	check_memslots(&r->host);
	for (uint64_t first = 0; first < r->blocks; first += PER_SLOT) {
		uint64_t end = num_min(first + PER_SLOT, r->blocks);
		bool absent = true;

		for (uint64_t b = first; b < end; b++) {
			absent &= !r->plugged[b] && !is_stray(r, b);
			if (r->plugged[b] && !r->faulted[b])
				assert_int_equal(host_covered(&r->host, b * size, size), size);
		}
		if (absent)
			assert_int_equal(host_covered(&r->host, first * size, (end - first) * size),
					 0);
	}
}

static uint16_t request(struct run *r, uint16_t type, uint64_t first, uint64_t count,
			uint16_t *ret_state)
{
	const struct vmem_req req = {
		.type = htole16(type),
		.addr = htole64(r->config.addr + first * r->config.block_size),
		.nb_blocks = htole16((uint16_t)count),
	};
	struct vmem_resp resp;
	uint16_t answer = vmem_device_request(r->dev, &req, &resp);

	if (ret_state)
		*ret_state = le16toh(resp.state_type);
	return answer;
}

static uint64_t usable_blocks(const struct run *r)
{
	struct vmem_device_info info;

	vmem_device_info(r->dev, &info);
	return info.usable_region_size / r->config.block_size;
}

/* Is the block plugged, as the guest is told? */
static bool asked_plugged(struct run *r, uint64_t block)
{
	uint16_t state;

	if (block >= usable_blocks(r))
		return false;
	assert_int_equal(request(r, VMEM_REQ_STATE, block, 1, &state), VMEM_RESP_ACK);
	return state == VMEM_STATE_PLUGGED;
}

/* All of the above, for all blocks. */
static void check(struct run *r)
{
	const uint64_t size = r->config.block_size;
	uint64_t plugged = 0, faulted = 0;
	struct vmem_guard_info guard;
	struct vmem_device_info info;

	for (uint64_t b = 0; b < r->blocks; b++) {
		assert_int_equal(asked_plugged(r, b), r->plugged[b]);
		r->faulted[b] = r->plugged[b] &&
				!vmem_device_plugged(r->dev, r->config.addr + b * size, size);
		plugged += r->plugged[b];
		faulted += r->faulted[b];
	}
	vmem_device_info(r->dev, &info);
	assert_int_equal(info.plugged_size, plugged * size);
	assert_int_equal(info.faulted_size, faulted * size);
	assert_int_equal(info.stray_size, r->stray_count * size);
	assert_true(r->kind->failing || !info.host_faults);
	r->faulted_steps += faulted != 0;
	r->stray_steps += r->stray_count != 0;
	vmem_guard_info(r->host.guard, &guard);
	r->armed_steps += guard.armed_segments != 0;
	for (uint64_t b = 0; b < r->blocks; b++) {
		if (r->plugged[b] && !r->faulted[b])
			check_content(r, b);
		else if (is_stray(r, b))
			(void)host_poke(&r->host, b * size); /* a guest may, and has to lose it */
		else if (!r->plugged[b])
			check_closed(r, b);
	}
	check_slots(r);
}

/* ---- steps ---- */

static bool all_are(const struct run *r, uint64_t first, uint64_t count, bool plugged)
{
	for (uint64_t b = first; b < first + count; b++)
		if (r->plugged[b] != plugged)
			return false;
	return true;
}

/* What the standard says of a request, when the host is able. */
static uint16_t due_answer(const struct run *r, uint16_t type, uint64_t first, uint64_t count)
{
	struct vmem_device_info info;

	if (type == VMEM_REQ_UNPLUG_ALL)
		return VMEM_RESP_ACK;
	if (first + count > usable_blocks(r))
		return VMEM_RESP_ERROR;
	if (type != VMEM_REQ_STATE && !all_are(r, first, count, type == VMEM_REQ_UNPLUG))
		return VMEM_RESP_ERROR;
	vmem_device_info(r->dev, &info);
	if (type == VMEM_REQ_PLUG &&
	    info.plugged_size + count * info.block_size > info.requested_size)
		return VMEM_RESP_NACK;
	return VMEM_RESP_ACK;
}

/* What is plugged or unplugged now. */
static void commit(struct run *r, uint64_t first, uint64_t count, bool plugged)
{
	for (uint64_t b = first; b < first + count; b++) {
		r->plugged[b] = plugged;
		r->stamp[b] = 0;
		if (!plugged)
			continue;
		check_fresh(r, b);
		if (below(r, 2))
			write_block(r, b);
	}
}

/* After the call that a step makes: nothing fails any more, and strays may be gone. */
static void step_called(struct run *r)
{
	struct vmem_device_info info;

	r->host.fail_at = 0;
	vmem_device_info(r->dev, &info);
	if (!info.stray_size)
		r->stray_count = 0;
}

static void step_request(struct run *r)
{
	uint64_t first = below(r, r->blocks), most = r->blocks - first, faults;
	uint64_t count = 1 + below(r, below(r, 2) ? num_min(most, 6) : most);
	uint16_t type = (uint16_t)below(r, VMEM_REQ_TYPES), due, answer;
	struct vmem_device_info info;

	/* Mostly what can be done. */
	if (below(r, 8)) {
		type = r->plugged[first] ? VMEM_REQ_UNPLUG : VMEM_REQ_PLUG;
		while (!all_are(r, first, count, r->plugged[first]))
			count--;
	}
	vmem_device_info(r->dev, &info);
	faults = info.host_faults;
	due = due_answer(r, type, first, count);
	answer = request(r, type, first, count, NULL);
	if (!r->kind->failing || due != VMEM_RESP_ACK || type == VMEM_REQ_STATE)
		assert_int_equal(answer, due);
	step_called(r);
	vmem_device_info(r->dev, &info);
	assert_true(answer != VMEM_RESP_NACK || type == VMEM_REQ_PLUG);
	if (type == VMEM_REQ_PLUG && info.host_faults != faults) {
		assert_int_not_equal(answer, VMEM_RESP_ACK);
		r->stray_first = first;
		r->stray_count = count;
	}
	if (answer != VMEM_RESP_ACK)
		return;
	if (type == VMEM_REQ_UNPLUG_ALL)
		commit(r, 0, r->blocks, false);
	else if (type != VMEM_REQ_STATE)
		commit(r, first, count, type == VMEM_REQ_PLUG);
}

/* Blocks that the host cannot take back stay plugged. */
static void step_reset(struct run *r)
{
	int ret = vmem_device_system_reset(r->dev);

	assert_true(r->kind->failing || ret == 0);
	step_called(r);
	for (uint64_t b = 0; b < r->blocks; b++) {
		bool plugged = asked_plugged(r, b);

		assert_true(r->plugged[b] || !plugged);
		assert_true(ret || !plugged);
		if (!plugged)
			commit(r, b, 1, false);
	}
}

static void step_resize(struct run *r)
{
	uint64_t size = below(r, r->blocks + 1) * r->config.block_size;

	assert_int_equal(vmem_device_resize(r->dev, size), 0);
	step_called(r);
}

/* A vCPU met a closed block: the slots around are laid anew. */
static void step_refine(struct run *r)
{
	uint64_t first = below(r, r->blocks), size = r->config.block_size;
	int ret = vmem_guard_refine(r->host.guard, first * size, (r->blocks - first) * size);

	r->host.fail_at = 0;
	assert_true(r->kind->failing || ret >= 0);
}

static void step(struct run *r)
{
	static const int errors[] = {-ENOSPC, -ENOMEM, -EIO, -EINTR};
	uint64_t what = below(r, 32), block = below(r, r->blocks);

	if (r->kind->failing && below(r, 2)) {
		r->host.fail_at = r->host.calls + 1 + (unsigned int)below(r, 4);
		r->host.fail_more = below(r, 4) ? (unsigned int)below(r, 8) : 0;
		r->host.error = errors[below(r, ARRAY_SIZE(errors))];
	}
	if (what == 0)
		step_reset(r);
	else if (what < 3)
		step_resize(r);
	else if (what < 6)
		step_refine(r);
	else
		step_request(r);
	check(r);
	if (r->plugged[block] && !r->faulted[block])
		write_block(r, block);
}

/* The hypervisor is able again: all can be taken back, and plugged anew. */
static void recover(struct run *r)
{
	assert_int_equal(vmem_device_resize(r->dev, r->config.region_size), 0);
	assert_int_equal(vmem_device_system_reset(r->dev), 0);
	r->stray_count = 0;
	commit(r, 0, r->blocks, false);
	check(r);
	assert_int_equal(host_slots(&r->host), 0);
	assert_int_equal(request(r, VMEM_REQ_PLUG, 0, r->blocks, NULL), VMEM_RESP_ACK);
	commit(r, 0, r->blocks, true);
	check(r);
	assert_int_equal(request(r, VMEM_REQ_UNPLUG_ALL, 0, 0, NULL), VMEM_RESP_ACK);
	commit(r, 0, r->blocks, false);
	check(r);
	assert_int_equal(host_slots(&r->host), 0);
}

static void test_random(void **state)
{
	static const struct {
		uint64_t block, blocks;
		unsigned int steps;
	} geometries[] = {{4 * KIB, BLOCKS_MAX, 300}, {64 * KIB, 45, 150}, {2 * MIB, 11, 40}};
	const struct kind *kind = *state;
	unsigned int faulted = 0, strays = 0, armed = 0;
	struct vmem_guard_info info;
	struct run r;

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(geometries); i++) {
		const uint64_t block = geometries[i / 2].block;
		bool prealloc = i % 2;

		/* The kernel must know how to populate private memory. */
		prealloc &= kind->make || pages_populate_supported();
		if (!run_start(&r, kind, block, geometries[i / 2].blocks, prealloc)) {
			print_message("this machine has no such memory\n");
			skip();
		}
		check(&r);
		for (unsigned int n = 0; n < geometries[i / 2].steps; n++)
			step(&r);
		recover(&r);
		faulted += r.faulted_steps;
		strays += r.stray_steps;
		armed += r.armed_steps;
		vmem_guard_info(r.host.guard, &info);
		run_end(&r);
	}
	assert_int_equal(faulted != 0, kind->failing);
	assert_int_equal(strays != 0, kind->failing);
	assert_int_equal(armed != 0, !strcmp(info.mechanism, "mprotect+userfaultfd"));
}

int main(void)
{
	struct kind kinds[] = {
		{.max_fences = 4},
		{.max_fences = 4, .failing = true},
		{.no_userfaultfd = true},
		{.no_userfaultfd = true, .max_fences = 6, .failing = true},
		{.make = make_memfd},
		{.make = make_memfd, .failing = true},
		{.make = make_memfd, .no_userfaultfd = true},
		{.make = make_tmpfs, .no_userfaultfd = true},
		{.make = make_tmpfs, .no_userfaultfd = true, .max_fences = 6, .failing = true},
	};
	const struct CMUnitTest tests[] = {
		{"anon", test_random, NULL, NULL, &kinds[0]},
		{"anon_failing", test_random, NULL, NULL, &kinds[1]},
		{"anon_fences", test_random, NULL, NULL, &kinds[2]},
		{"anon_fences_failing", test_random, NULL, NULL, &kinds[3]},
		{"memfd", test_random, NULL, NULL, &kinds[4]},
		{"memfd_failing", test_random, NULL, NULL, &kinds[5]},
		{"memfd_fences", test_random, NULL, NULL, &kinds[6]},
		{"tmpfs_fences", test_random, NULL, NULL, &kinds[7]},
		{"tmpfs_fences_failing", test_random, NULL, NULL, &kinds[8]},
	};

	return cmocka_run_group_tests_name("engine over guard", tests, NULL, NULL);
}

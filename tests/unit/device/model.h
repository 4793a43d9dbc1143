/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A host and a reference device to hold the engine against.
 *
 * The host is an array of blocks with what the guest may reach and what memory they hold; its calls
 * fail as told, having done nothing, half or all of their work. The reference is the naive reading
 * of VIRTIO 1.3, 5.15, and of the size-request extension: it looks at one block after the other and
 * computes in 128 bits. Each step (request, size request, resize, reset, import) goes to the engine and to the reference, and then the invariants of
 * <vmem/device.h> are checked through the public interface.
 *
 * A step returns false when something is wrong, with a sentence in model.error; callers decide how
 * to fail (cmocka or abort()).
 */
#ifndef TESTS_DEVICE_MODEL_H
#define TESTS_DEVICE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include <vmem/device.h>

#define MODEL_BLOCKS_MAX 256

/* What a failing host call did before it failed. */
enum model_partial { MODEL_NOTHING, MODEL_HALF, MODEL_ALL, MODEL_PARTIALS };

/* Content of a block: none in the host, memory that reads as zeros, or what a guest wrote. */
#define MODEL_NONE  0
#define MODEL_ZEROS 1
#define MODEL_DATA  2 /* and above */

struct model_block {
	bool granted;
	uint32_t content;
};

struct model_run {
	uint64_t first, count;
};

__extension__ typedef unsigned __int128 model_wide;

/* The reference's side of size requests. */
struct model_size {
	uint64_t limit_blocks, rate; /* as vmem_device_set_request_policy() takes them */
	bool begun;                  /* the credit is known */
	model_wide credit;           /* thousandths of a byte */
	uint64_t credit_ms;          /* when it was that */
	uint64_t second_ms;
	unsigned int nr; /* requests since then that made sense */
	uint64_t answers[VMEM_SIZE_RESP_TYPES];
	/* the host */
	bool has_spare;
	uint64_t spare;     /* its answer, then */
	unsigned int calls; /* in this step */
	struct vmem_size_want want;
};

/* What the reference says of a size request. */
struct model_size_answer {
	uint16_t type, cause;
	uint64_t retry_ms, blocks;
	bool asks_host;
};

struct model {
	struct vmem_device_config config;
	struct vmem_device *dev;
	uint64_t nblocks;
	char error[256]; /* the first thing found wrong; "" */

	/* the host */
	struct model_block host[MODEL_BLOCKS_MAX];
	bool discarded[MODEL_BLOCKS_MAX]; /* discard was tried in this step */
	unsigned int calls;               /* grant, populate, revoke, discard in this step */
	unsigned int failed;              /* those that failed */
	uint64_t fail_calls;              /* bit k: call k (from 0) of the next step fails */
	int fail_errno;
	const int *fail_errnos; /* NULL, or in place of it one for each failure of the step */
	enum model_partial partial;
	struct model_run allowed[2]; /* host calls of this step lie in one of these */

	/* the reference */
	bool plugged[MODEL_BLOCKS_MAX];
	uint32_t content[MODEL_BLOCKS_MAX]; /* of plugged blocks */
	uint64_t usable_blocks, requested_blocks, owner_blocks;
	struct model_size size;
	struct model_run stray;
	uint64_t answers[VMEM_REQ_TYPES][VMEM_RESP_TYPES];
	uint64_t unknown;
	unsigned int config_changes, plugged_changes; /* in this step */
};

/* False (with an error) when the engine refuses the configuration. At most MODEL_BLOCKS_MAX blocks.
 */
bool model_init(struct model *m, const struct vmem_device_config *config);
void model_done(struct model *m);

/* Steps; each consumes fail_calls. */
bool model_request(struct model *m, const struct vmem_req *req, uint16_t *ret_answer);
bool model_resize(struct model *m, uint64_t requested_size);
bool model_size_request(struct model *m, const struct vmem_size_req *req, uint64_t now_ms,
			struct vmem_size_resp *ret_resp);
bool model_set_policy(struct model *m, uint64_t request_limit, uint64_t request_rate);
bool model_reset(struct model *m, int *ret_rc);
/* In bytes, any numbers. */
bool model_import_plug(struct model *m, uint64_t offset, uint64_t size, int *ret_rc);
bool model_import_unplug(struct model *m, uint64_t offset, uint64_t size, int *ret_rc);
bool model_import_sizes(struct model *m, uint64_t owner_size, uint64_t requested_size,
			uint64_t usable_region_size);

/* A guest's store; it reaches whatever block the host grants. @value is made MODEL_DATA or above.
 */
void model_guest_write(struct model *m, uint64_t block, uint32_t value);

/* Requests in host byte order, with junk in every padding. */
struct vmem_req model_req(uint16_t type, uint64_t addr, uint16_t nb_blocks);
/* The same for blocks counted from the start of the region; step and answer in one. */
bool model_do(struct model *m, uint16_t type, uint64_t first, uint16_t count, uint16_t *ret_answer);

/* The same, with junk in the padding: a wish for @size. */
struct vmem_size_req model_size_req(uint64_t size, uint64_t min_size);

/* model_size.c: the reference's answer; what it takes from the bounds is taken then. */
struct model_size_answer model_size_expect(struct model *m, const struct vmem_size_req *req,
					   uint64_t now_ms);

/* splitmix64: one number a call, any seed will do. */
static inline uint64_t model_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Size requests: the driver asks for another requested_size, or offers memory back. The extension
 * VMEM_F_SIZE_REQUEST (docs/virtio-mem.md); the contract is include/vmem/device.h.
 *
 * I1  A request is checked whole before anything else: what is wrong with it is ERROR, and takes
 *     nothing from what others may have.
 * I2  Each bound is applied to what the one before it left: limit, rate, host. What is left after one
 *     of them is either of use to the driver, or the answer names that bound and nothing changes.
 * I3  The bounds may lie below requested_size (an owner lowered the limit, or another device had a
 *     higher one): then nothing is granted, and nothing is taken either.
 * I4  Time that goes back counts as no time, so a wrong clock can only refuse more.
 *
 * The guest controls: every byte of struct vmem_size_req. The padding is ignored.
 */
#include "device/blocks.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/num.h"

#define SIZE_REQUESTS_A_SECOND 10
#define SIZE_HOST_RETRY_MS     1000

/* A request in the host's byte order, and the answer as far as it is found. */
struct size_ask {
	uint64_t size, min_size;
	uint16_t urgency, reason;
	uint64_t now_ms;
	uint64_t requested; /* as it is */
	uint64_t grant;     /* what it is to be */
	uint16_t cause;     /* of less than what is wanted */
	uint64_t retry_ms;
};

/* ---- pace ---- */

/* The most that a moment may grant: what a second brings, at least a block. */
static uint64_t size_credit_max(const struct vmem_device *dev)
{
	return num_max(vmem_shared_get(&dev->request_rate), dev->config.block_size);
}

static void size_credit_fill(struct vmem_device *dev)
{
	dev->size_pace.credit = size_credit_max(dev);
	dev->size_pace.credit_rest = 0;
}

/* Bring the credit up to date. */
static void size_credit_update(struct vmem_device *dev, uint64_t now_ms)
{
	struct vmem_size_pace *pace = &dev->size_pace;
	uint64_t max = size_credit_max(dev), ms, fresh;

	now_ms = num_max(now_ms, 1);
	if (pace->credit_ms && now_ms <= pace->credit_ms)
		return;
	ms = now_ms - pace->credit_ms;
	if (!pace->credit_ms || !num_mul(ms, vmem_shared_get(&dev->request_rate), &fresh) ||
	    !num_add(fresh, pace->credit_rest, &fresh) || fresh / 1000 >= max - pace->credit) {
		size_credit_fill(dev);
	} else {
		pace->credit += fresh / 1000;
		pace->credit_rest = (uint16_t)(fresh % 1000);
	}
	pace->credit_ms = now_ms;
}

/* In how many milliseconds there will be that much credit, as things are; not 0. */
static uint64_t size_credit_wait_ms(const struct vmem_device *dev, uint64_t bytes)
{
	const struct vmem_size_pace *pace = &dev->size_pace;
	uint64_t rate = vmem_shared_get(&dev->request_rate), thousandths;

	if (bytes <= pace->credit)
		return 1;
	if (!num_mul(bytes - pace->credit, 1000, &thousandths))
		return UINT32_MAX;
	/* All of them are there only after the last millisecond is over. */
	thousandths -= pace->credit_rest;
	return num_min(thousandths / rate + (thousandths % rate != 0), UINT32_MAX);
}

/* Is this one request too many? Then *ret_retry_ms is when the next second begins. */
static bool size_too_often(struct vmem_device *dev, uint64_t now_ms, uint64_t *ret_retry_ms)
{
	struct vmem_size_pace *pace = &dev->size_pace;

	uint64_t ms = now_ms > pace->second_ms ? now_ms - pace->second_ms : 0;

	if (!pace->nr || ms >= 1000) {
		pace->second_ms = now_ms;
		pace->nr = 0;
	}
	if (pace->nr == SIZE_REQUESTS_A_SECOND) {
		*ret_retry_ms = 1000 - ms;
		return true;
	}
	pace->nr++;
	return false;
}

/* ---- decisions ---- */

/* Is the grant of use: more than there is, and no less than what the driver needs? */
static bool size_of_use(const struct size_ask *ask)
{
	return ask->grant > ask->requested && ask->grant >= ask->min_size;
}

/* Memory is offered: down to what the owner wants the guest to have. */
static uint16_t size_shrink(const struct vmem_device *dev, struct size_ask *ask)
{
	uint64_t floor = vmem_shared_get(&dev->owner_size);

	ask->grant = num_max(ask->size, floor);
	if (ask->grant == ask->size)
		return VMEM_SIZE_RESP_GRANTED;
	ask->cause = VMEM_SIZE_CAUSE_FLOOR;
	return ask->grant < ask->requested ? VMEM_SIZE_RESP_PARTLY : VMEM_SIZE_RESP_REFUSED;
}

/* True when something of use is left; else *ret_answer. */
static bool size_bound_rate(struct vmem_device *dev, struct size_ask *ask, uint16_t *ret_answer)
{
	uint64_t block_size = dev->config.block_size, spare, least;

	if (!vmem_shared_get(&dev->request_rate))
		return true;
	size_credit_update(dev, ask->now_ms);
	spare = num_align_down(dev->size_pace.credit, block_size);
	if (ask->grant - ask->requested <= spare)
		return true;
	ask->grant = ask->requested + spare;
	ask->cause = VMEM_SIZE_CAUSE_RATE;
	if (size_of_use(ask))
		return true;
	least = ask->min_size > ask->requested ? ask->min_size - ask->requested : 1;
	*ret_answer = VMEM_SIZE_RESP_REFUSED;
	/* A grant is of whole blocks. */
	if (num_align_up(least, block_size, &least) && least <= size_credit_max(dev)) {
		*ret_answer = VMEM_SIZE_RESP_LATER;
		ask->retry_ms = size_credit_wait_ms(dev, least);
	}
	return false;
}

/* The same for what the host can spare. */
static bool size_bound_host(struct vmem_device *dev, struct size_ask *ask, uint16_t *ret_answer)
{
	const struct vmem_size_want want = {
		.size = ask->grant,
		.min_size = ask->min_size,
		.requested_size = ask->requested,
		.owner_size = vmem_shared_get(&dev->owner_size),
		.urgency = ask->urgency,
		.reason = ask->reason,
	};
	uint64_t spare;

	if (!dev->ops->size_wanted)
		return true;
	spare = num_align_down(dev->ops->size_wanted(dev->host, &want), dev->config.block_size);
	if (spare >= ask->grant)
		return true;
	ask->grant = spare;
	ask->cause = VMEM_SIZE_CAUSE_HOST;
	if (size_of_use(ask))
		return true;
	*ret_answer = VMEM_SIZE_RESP_LATER;
	ask->retry_ms = SIZE_HOST_RETRY_MS;
	return false;
}

/* More is wanted. Takes from the credit what is granted. */
static uint16_t size_grow(struct vmem_device *dev, struct size_ask *ask)
{
	uint64_t limit = vmem_shared_get(&dev->request_limit);
	uint16_t answer = VMEM_SIZE_RESP_REFUSED;

	ask->grant = num_min(ask->size, limit);
	if (ask->grant < ask->size)
		ask->cause = VMEM_SIZE_CAUSE_LIMIT;
	if (!size_of_use(ask) || !size_bound_rate(dev, ask, &answer) ||
	    !size_bound_host(dev, ask, &answer)) {
		ask->grant = ask->requested;
		return answer;
	}
	if (vmem_shared_get(&dev->request_rate))
		dev->size_pace.credit -= ask->grant - ask->requested;
	if (ask->grant == ask->size)
		return VMEM_SIZE_RESP_GRANTED;
	if (ask->cause == VMEM_SIZE_CAUSE_RATE) {
		uint64_t rest = num_min(ask->size, limit) - ask->grant;
		uint64_t max = num_align_down(size_credit_max(dev), dev->config.block_size);

		ask->retry_ms = size_credit_wait_ms(dev, num_min(rest, max));
	}
	return VMEM_SIZE_RESP_PARTLY;
}

static bool size_valid(const struct vmem_device *dev, const struct vmem_size_req *req,
		       const struct size_ask *ask)
{
	return dev->config.size_requests && le16toh(req->type) == VMEM_SIZE_REQ_WANT &&
	       ask->urgency < VMEM_SIZE_URGENCIES && ask->reason < VMEM_SIZE_REASONS &&
	       num_is_aligned(ask->size, dev->config.block_size) &&
	       ask->size <= dev->config.region_size && ask->min_size <= ask->size;
}

static uint16_t size_decide(struct vmem_device *dev, const struct vmem_size_req *req,
			    struct size_ask *ask)
{
	if (!size_valid(dev, req, ask))
		return VMEM_SIZE_RESP_ERROR;
	if (size_too_often(dev, ask->now_ms, &ask->retry_ms)) {
		ask->cause = VMEM_SIZE_CAUSE_RATE;
		return VMEM_SIZE_RESP_LATER;
	}
	if (ask->size > ask->requested)
		return size_grow(dev, ask);
	return ask->size < ask->requested ? size_shrink(dev, ask) : VMEM_SIZE_RESP_GRANTED;
}

uint16_t vmem_device_size_request(struct vmem_device *dev, const struct vmem_size_req *req,
				  uint64_t now_ms, struct vmem_size_resp *ret_resp)
{
	struct size_ask ask = {
		.size = le64toh(req->size),
		.min_size = le64toh(req->min_size),
		.urgency = le16toh(req->urgency),
		.reason = le16toh(req->reason),
		.now_ms = now_ms,
		.requested = vmem_shared_get(&dev->requested_size),
		.cause = VMEM_SIZE_CAUSE_NONE,
	};
	uint16_t answer;

	ask.grant = ask.requested;
	answer = size_decide(dev, req, &ask);
	vmem_shared_add(&dev->size_answers[answer], 1);
	memset(ret_resp, 0, sizeof(*ret_resp));
	ret_resp->type = htole16(answer);
	ret_resp->cause = htole16(ask.cause);
	ret_resp->retry_ms = htole32((uint32_t)ask.retry_ms);
	ret_resp->size = htole64(ask.grant);
	if (ask.grant != ask.requested && vmem_device_request_size(dev, ask.grant))
		dev->ops->config_changed(dev->host);
	return answer;
}

int vmem_device_set_request_policy(struct vmem_device *dev, uint64_t request_limit,
				   uint64_t request_rate)
{
	if (!dev->config.size_requests || !num_is_aligned(request_limit, dev->config.block_size))
		return -EINVAL;
	if (request_limit > dev->config.region_size)
		return -ERANGE;
	vmem_shared_set(&dev->request_limit, request_limit);
	if (request_rate == vmem_shared_get(&dev->request_rate))
		return 0;
	vmem_shared_set(&dev->request_rate, request_rate);
	dev->size_pace.credit_ms = 0;
	return 0;
}

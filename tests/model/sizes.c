/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The size-request extension between core and engine: requests, answers that wait, and what the
 * operating system says of its memory. docs/virtio-mem.md has the rules that are checked here.
 */
#include "tests/model/model.h"

#include <endian.h>
#include <string.h>

/* A request obeys the rules for drivers. */
static void check_size_request(struct dev *dev, const struct vmem_size_req *req)
{
	struct world *w = dev->w;
	uint64_t size = le64toh(req->size), bs = dev->device_config.block_size;
	uint16_t urgency = le16toh(req->urgency);
	const struct vmem_driver_size_policy *policy = &dev->config.size_policy;
	uint32_t interval = policy->interval_ms ? policy->interval_ms : 1000;

	must(w, policy->on, "a size request of a policy that is off");
	must(w,
	     le16toh(req->type) == VMEM_SIZE_REQ_WANT && urgency < VMEM_SIZE_URGENCIES &&
		     le16toh(req->reason) < VMEM_SIZE_REASONS && !req->padding,
	     "a size request of unknown words");
	must(w,
	     !(size & (bs - 1)) && size <= dev->device_config.region_size &&
		     le64toh(req->min_size) <= size,
	     "a size request for %#llx", (unsigned long long)size);
	must(w, !policy->max_bytes || size <= policy->max_bytes || size < dev->seen.requested_size,
	     "a size request for %#llx: beyond its maximum", (unsigned long long)size);
	must(w, !dev->leaving, "a size request while leaving");
	must(w,
	     (le16toh(req->reason) == VMEM_SIZE_REASON_IDLE) == (size < dev->seen.requested_size) &&
		     size != dev->seen.requested_size,
	     "a size request for %#llx, reason %u, when %#llx is requested",
	     (unsigned long long)size, le16toh(req->reason),
	     (unsigned long long)dev->seen.requested_size);
	must(w, dev->size_link.state == LINK_IDLE, "a size request while another one is under way");
	must(w,
	     !dev->size_link.asked || dev->run_ms - dev->size_link.last_ms >= interval ||
		     urgency > dev->size_link.last_urgency,
	     "a size request %llu ms after the last",
	     (unsigned long long)(dev->run_ms - dev->size_link.last_ms));
	dev->size_link.asked = true;
	dev->size_link.last_ms = dev->run_ms;
	dev->size_link.last_urgency = urgency;
}

static void sizes_answer(struct dev *dev, const struct vmem_size_req *req,
			 struct vmem_size_resp *ret_resp)
{
	struct world *w = dev->w;
	uint16_t type;

	if (w->with & WITH_LIAR) {
		uint64_t words[2] = {model_random(&w->random), model_random(&w->random)};

		memcpy(ret_resp, words, sizeof(*ret_resp));
		if (chance(w, 700))
			ret_resp->type = htole16((uint16_t)below(w, VMEM_SIZE_RESP_TYPES));
		return;
	}
	type = vmem_device_size_request(dev->engine, req, w->now_ms, ret_resp);
	model_trace(w, "  %u: size request %#llx, urgency %u: answer %u, %#llx", dev->index,
		    (unsigned long long)le64toh(req->size), le16toh(req->urgency), type,
		    (unsigned long long)le64toh(ret_resp->size));
	must(w, type != VMEM_SIZE_RESP_ERROR, "a size request was wrong");
}

int sizes_submit(void *os, const struct vmem_size_req *req, struct vmem_size_resp *ret_resp)
{
	struct dev *dev = os;
	struct world *w = dev->w;
	int rc = VMEM_DRIVER_OK;

	check_size_request(dev, req);
	op_begin(dev, "submit_size", false);
	if (!dev->gone && chance(w, w->rates.pending)) {
		dev->size_link.state = LINK_SENT;
		dev->size_link.req = req;
		dev->size_link.copy = *req;
		rc = VMEM_DRIVER_PENDING;
	} else if (!dev->gone) {
		sizes_answer(dev, req, ret_resp);
	}
	op_end(dev);
	return dev->gone && !rc ? VMEM_DRIVER_GONE : rc;
}

void sizes_random_policy(struct world *w, const struct dev *dev,
			 struct vmem_driver_size_policy *ret_policy)
{
	uint64_t page = w->page_bytes;

	*ret_policy = (struct vmem_driver_size_policy){.on = chance(w, 900)};
	ret_policy->low_bytes = below(w, 40) * page;
	ret_policy->target_bytes = ret_policy->low_bytes + below(w, 80) * page;
	ret_policy->high_bytes = ret_policy->target_bytes + below(w, 80) * page;
	ret_policy->idle_ms = (uint32_t)below(w, 5000);
	ret_policy->interval_ms = (uint32_t)below(w, 2) * (uint32_t)below(w, 3000);
	if (chance(w, 300))
		ret_policy->max_bytes = below(w, dev->nr_blocks) * dev->device_config.block_size;
}

bool sizes_process(struct dev *dev)
{
	struct size_link *link = &dev->size_link;

	if (link->state != LINK_SENT || dev->gone)
		return false;
	must(dev->w, memcmp(link->req, &link->copy, sizeof(link->copy)) == 0,
	     "a size request changed while it was under way");
	sizes_answer(dev, link->req, &link->resp);
	link->state = LINK_PROCESSED;
	return true;
}

bool sizes_deliver(struct dev *dev)
{
	bool gone = dev->gone && dev->size_link.state != LINK_IDLE;

	if (!dev->drv || dev->call || (dev->size_link.state != LINK_PROCESSED && !gone))
		return false;
	dev->size_link.state = LINK_IDLE;
	dev->call = CALL_ANSWERED;
	vmem_driver_size_answered(dev->drv, gone ? NULL : &dev->size_link.resp);
	dev->call = CALL_NONE;
	dev->next_run_ms = dev->w->now_ms;
	return true;
}

void sizes_tell(struct dev *dev)
{
	struct world *w = dev->w;
	uint64_t available = pages_free(w) * w->page_bytes;
	uint16_t urgency = (uint16_t)below(w, VMEM_SIZE_URGENCIES);
	uint16_t reason = (uint16_t)below(w, VMEM_SIZE_REASON_IDLE);

	if (chance(w, 100)) {
		struct vmem_driver_size_policy policy;

		sizes_random_policy(w, dev, &policy);
		if (vmem_driver_set_size_policy(dev->drv, &policy) != VMEM_DRIVER_OK)
			model_fail(w, "a policy in order is refused");
		dev->config.size_policy = policy;
		model_trace(w, "device %u: low %#llx, target %#llx, high %#llx, interval %u",
			    dev->index, (unsigned long long)policy.low_bytes,
			    (unsigned long long)policy.target_bytes,
			    (unsigned long long)policy.high_bytes, policy.interval_ms);
		policy.low_bytes = policy.target_bytes + 1;
		if (policy.on)
			must(w,
			     vmem_driver_set_size_policy(dev->drv, &policy) == VMEM_DRIVER_INVALID,
			     "watermarks out of order are taken");
	}
	model_trace(w, "device %u: %#llx is available, urgency %u", dev->index,
		    (unsigned long long)available, urgency);
	if (vmem_driver_available(dev->drv, w->now_ms, available, urgency, reason))
		dev->next_run_ms = w->now_ms;
}

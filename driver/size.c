/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The size policy: when to ask the device for memory, and when to offer it back (docs/virtio-mem.md,
 * VMEM_F_SIZE_REQUEST). What comes of it arrives as another requested_size, like any other.
 *
 * What is on its way already counts: nothing is asked for that requested_size promises, and nothing is
 * offered that it does not ask for any more. An answer is not trusted: its size is only a reason to read
 * the configuration, and no answer silences the core for longer than retry_max_ms.
 */
#include "driver/internal.h"

static uint64_t size_round_up(const struct vmem_driver *drv, uint64_t size)
{
	uint64_t odd = size & (drv->block_size - 1);

	return odd ? size - odd + drv->block_size : size;
}

/* For as much as makes target_bytes available; requested_size if that is not more. */
static uint64_t size_to_ask(const struct vmem_driver *drv, uint64_t available)
{
	const struct vmem_driver_size_policy *policy = &drv->size.policy;
	uint64_t max = drv->region_size;
	uint64_t plugged = vd_chunks_bytes(drv, drv->nr_plugged) + drv->foreign_size;
	uint64_t missing = policy->target_bytes - available;

	if (policy->max_bytes && policy->max_bytes < max)
		max = policy->max_bytes & ~(drv->block_size - 1);
	if (plugged >= max || missing > max - plugged)
		return max > drv->requested_size ? max : drv->requested_size;
	plugged = size_round_up(drv, plugged + missing);
	return plugged > drv->requested_size ? plugged : drv->requested_size;
}

/* As little as leaves target_bytes available; requested_size if that is not less. */
static uint64_t size_to_offer(const struct vmem_driver *drv, uint64_t available)
{
	uint64_t surplus = available - drv->size.policy.target_bytes;
	uint64_t plugged = vd_chunks_bytes(drv, drv->nr_plugged) + drv->foreign_size;
	uint64_t rest = plugged > surplus ? size_round_up(drv, plugged - surplus) : 0;

	return rest < drv->requested_size ? rest : drv->requested_size;
}

/* May the device be asked for, or offered, @size now? */
static bool size_may_ask(const struct vmem_driver *drv, uint64_t now_ms, uint64_t size, bool more,
			 uint16_t urgency)
{
	const struct size_ask *ask = &drv->size;
	uint32_t interval = ask->policy.interval_ms ? ask->policy.interval_ms : DRIVER_INTERVAL_MS;

	if (size == drv->requested_size || now_ms < ask->later_until_ms)
		return false;
	if (ask->asked && now_ms - ask->last_ms < interval && urgency <= ask->last_urgency)
		return false;
	if (now_ms >= ask->refused_until_ms[more])
		return true;
	return more ? size < ask->refused_size[1] : size > ask->refused_size[0];
}

bool vmem_driver_available(struct vmem_driver *drv, uint64_t now_ms, uint64_t available_bytes,
			   uint16_t urgency, uint16_t reason)
{
	struct size_ask *ask = &drv->size;
	bool more = available_bytes < ask->policy.low_bytes;
	uint64_t size = drv->requested_size;

	if (!ask->policy.on || !drv->ops->submit_size || drv->config.query_only || !drv->started ||
	    drv->leaving || drv->gone || drv->broken || ask->pending)
		return false;
	if (available_bytes <= ask->policy.high_bytes) {
		ask->idling = false;
	} else if (!ask->idling) {
		ask->idling = true;
		ask->idle_since_ms = now_ms;
	}
	if (more)
		size = size_to_ask(drv, available_bytes);
	else if (ask->idling && now_ms - ask->idle_since_ms >= ask->policy.idle_ms)
		size = size_to_offer(drv, available_bytes);
	if (!more) {
		urgency = VMEM_SIZE_URGENCY_LOW;
		reason = VMEM_SIZE_REASON_IDLE;
	}
	if (!size_may_ask(drv, now_ms, size, more, urgency))
		return ask->wanted;
	ask->wire = (struct vmem_size_req){.min_size = 0};
	vd_le16_put(&ask->wire.type, VMEM_SIZE_REQ_WANT);
	vd_le16_put(&ask->wire.urgency, urgency);
	vd_le16_put(&ask->wire.reason, reason);
	vd_le64_put(&ask->wire.size, size);
	ask->wanted = true;
	ask->more = more;
	ask->idling = false;
	return true;
}

static void size_answer(struct vmem_driver *drv, const struct vmem_size_resp *resp)
{
	struct size_ask *ask = &drv->size;
	uint16_t type = vd_le16_get(&resp->type);
	uint64_t later_ms = vd_le32_get(&resp->retry_ms);
	uint64_t size = vd_le64_get(&ask->wire.size);

	ask->pending = false;
	if (type >= VMEM_SIZE_RESP_TYPES)
		type = VMEM_SIZE_RESP_ERROR;
	drv->stats.size_answers[type]++;
	if (later_ms > drv->config.retry_max_ms)
		later_ms = drv->config.retry_max_ms;
	if (type == VMEM_SIZE_RESP_LATER || type == VMEM_SIZE_RESP_PARTLY)
		ask->later_until_ms = ask->last_ms + later_ms;
	if (type == VMEM_SIZE_RESP_REFUSED || type == VMEM_SIZE_RESP_ERROR) {
		ask->refused_until_ms[ask->more] = ask->last_ms + drv->config.retry_max_ms;
		ask->refused_size[ask->more] = size;
	}
	vd_driver_note(drv, VMEM_DRIVER_NOTE_SIZE_ASKED, drv->addr, size, type);
	vd_driver_config_stale(drv);
}

bool vd_size_step(struct vmem_driver *drv, uint64_t now_ms)
{
	struct vmem_size_resp resp = {.type = UINT16_MAX};
	struct size_ask *ask = &drv->size;
	uint64_t size = vd_le64_get(&ask->wire.size);
	int r;

	if (!ask->wanted || ask->pending)
		return false;
	ask->wanted = false;
	/* With another requested_size by now, what was to ask would offer, or the other way round. */
	if (drv->leaving || size == drv->requested_size ||
	    (size > drv->requested_size) != ask->more)
		return false;
	ask->pending = true;
	ask->asked = true;
	ask->last_urgency = vd_le16_get(&ask->wire.urgency);
	ask->last_ms = now_ms;
	r = drv->ops->submit_size(drv->os, &ask->wire, &resp);
	if (r == VMEM_DRIVER_OK) {
		size_answer(drv, &resp);
	} else if (r != VMEM_DRIVER_PENDING) {
		ask->pending = false;
		vd_driver_gone(drv);
	}
	return true;
}

void vmem_driver_size_answered(struct vmem_driver *drv, const struct vmem_size_resp *resp)
{
	if (!drv->size.pending)
		return;
	if (resp) {
		size_answer(drv, resp);
		return;
	}
	drv->size.pending = false;
	vd_driver_gone(drv);
}

void vd_size_reset(struct vmem_driver *drv)
{
	drv->size.pending = false;
	drv->size.wanted = false;
}

int vmem_driver_set_size_policy(struct vmem_driver *drv,
				const struct vmem_driver_size_policy *policy)
{
	if (policy->on &&
	    (policy->low_bytes > policy->target_bytes || policy->target_bytes > policy->high_bytes))
		return VMEM_DRIVER_INVALID;
	drv->size.policy = *policy;
	drv->size.idling = false;
	drv->size.wanted = false;
	return VMEM_DRIVER_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A host and a reference device: see model.h. */
#include "tests/unit/device/model.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef model_wide wide;

/* Records the first thing wrong. Always false, so that checks may return it. */
__attribute__((format(printf, 2, 3))) static bool wrong(struct model *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!m->error[0])
		vsnprintf(m->error, sizeof(m->error), fmt, ap);
	va_end(ap);
	return false;
}

/* ---- the host ---- */

static bool run_inside(struct model_run inner, struct model_run outer)
{
	return inner.first >= outer.first && inner.first + inner.count <= outer.first + outer.count;
}

/* Checks a call's arguments and decides its fate: how many blocks it handles, and its result. */
static struct model_run host_call(struct model *m, const char *name, uint64_t offset, uint64_t size,
				  int *ret_rc)
{
	uint64_t bs = m->config.block_size;
	struct model_run run = {offset / bs, size / bs};

	*ret_rc = 0;
	if (offset % bs || !size || size % bs || run.first >= m->nblocks ||
	    run.count > m->nblocks - run.first) {
		wrong(m, "%s(%#llx, %#llx) is not a run of blocks of the region", name,
		      (unsigned long long)offset, (unsigned long long)size);
		return (struct model_run){0, 0};
	}
	if (!run_inside(run, m->allowed[0]) && !run_inside(run, m->allowed[1]))
		wrong(m, "%s of blocks %llu+%llu, which the step is not about", name,
		      (unsigned long long)run.first, (unsigned long long)run.count);
	if (m->calls < 64 && m->fail_calls >> m->calls & 1) {
		*ret_rc = -(m->fail_errnos ? m->fail_errnos[m->failed] : m->fail_errno);
		m->failed++;
		if (m->partial == MODEL_NOTHING)
			run.count = 0;
		else if (m->partial == MODEL_HALF)
			run.count /= 2;
	}
	m->calls++;
	return run;
}

static int host_grant(void *host, uint64_t offset, uint64_t size)
{
	struct model *m = host;
	int rc;
	struct model_run run = host_call(m, "grant", offset, size, &rc);

	for (uint64_t b = run.first; b < run.first + run.count; b++)
		m->host[b].granted = true;
	return rc;
}

static int host_populate(void *host, uint64_t offset, uint64_t size)
{
	struct model *m = host;
	int rc;
	struct model_run run = host_call(m, "populate", offset, size, &rc);

	for (uint64_t b = run.first; b < run.first + run.count; b++) {
		if (!m->host[b].granted)
			wrong(m, "populate of block %llu, which is not granted",
			      (unsigned long long)b);
		if (m->host[b].content == MODEL_NONE)
			m->host[b].content = MODEL_ZEROS;
	}
	return rc;
}

static int host_revoke(void *host, uint64_t offset, uint64_t size)
{
	struct model *m = host;
	int rc;
	struct model_run run = host_call(m, "revoke", offset, size, &rc);

	for (uint64_t b = run.first; b < run.first + run.count; b++)
		m->host[b].granted = false;
	return rc;
}

static int host_discard(void *host, uint64_t offset, uint64_t size)
{
	struct model *m = host;
	int rc;
	struct model_run run = host_call(m, "discard", offset, size, &rc);

	for (uint64_t b = run.first; b < run.first + run.count; b++) {
		if (m->host[b].granted)
			wrong(m, "discard of block %llu, which the guest may still use",
			      (unsigned long long)b);
		m->host[b].content = MODEL_NONE;
		m->discarded[b] = true;
	}
	return rc;
}

static void host_config_changed(void *host)
{
	((struct model *)host)->config_changes++;
}

static void host_plugged_changed(void *host)
{
	((struct model *)host)->plugged_changes++;
}

static uint64_t host_size_wanted(void *host, const struct vmem_size_want *want)
{
	struct model *m = host;

	m->size.calls++;
	m->size.want = *want;
	return m->size.has_spare ? m->size.spare : UINT64_MAX;
}

static const struct vmem_host_ops host_ops = {
	.grant = host_grant,
	.populate = host_populate,
	.revoke = host_revoke,
	.discard = host_discard,
	.config_changed = host_config_changed,
	.plugged_changed = host_plugged_changed,
	.size_wanted = host_size_wanted,
};

void model_guest_write(struct model *m, uint64_t block, uint32_t value)
{
	if (block >= m->nblocks || !m->host[block].granted)
		return;
	m->host[block].content = value < MODEL_DATA ? MODEL_DATA : value;
	m->content[block] = m->host[block].content;
}

/* ---- the reference ---- */

static uint64_t ref_plugged_blocks(const struct model *m)
{
	uint64_t n = 0;

	for (uint64_t b = 0; b < m->nblocks; b++)
		n += m->plugged[b];
	return n;
}

static uint64_t ref_usable_needed(const struct model *m, uint64_t requested_blocks)
{
	wide bytes = (wide)requested_blocks * m->config.block_size;
	wide blocks;

	if (!requested_blocks)
		return 0;
	bytes += m->config.usable_extra_bytes;
	blocks = (bytes + m->config.block_size - 1) / m->config.block_size;
	return blocks > m->nblocks ? m->nblocks : (uint64_t)blocks;
}

/* What the standard wants for @req, block by block, if the host does not fail. */
static uint16_t ref_answer(const struct model *m, const struct vmem_req *req, uint16_t *ret_state)
{
	uint16_t type = le16toh(req->type), nb = le16toh(req->nb_blocks);
	uint64_t addr = le64toh(req->addr), in_run = 0;

	*ret_state = 0;
	if (type > VMEM_REQ_STATE)
		return VMEM_RESP_ERROR;
	if (type == VMEM_REQ_UNPLUG_ALL)
		return VMEM_RESP_ACK;
	if (addr % m->config.block_size || !nb)
		return VMEM_RESP_ERROR;
	for (unsigned int i = 0; i < nb; i++) {
		wide at = (wide)addr + (wide)i * m->config.block_size;
		wide start = m->config.addr;

		if (at < start || at >= start + (wide)m->usable_blocks * m->config.block_size)
			return VMEM_RESP_ERROR;
		in_run += m->plugged[(uint64_t)((at - start) / m->config.block_size)];
	}
	if (type == VMEM_REQ_STATE) {
		*ret_state = in_run == nb ? VMEM_STATE_PLUGGED
			     : in_run     ? VMEM_STATE_MIXED
					  : VMEM_STATE_UNPLUGGED;
		return VMEM_RESP_ACK;
	}
	if (type == VMEM_REQ_UNPLUG)
		return in_run == nb ? VMEM_RESP_ACK : VMEM_RESP_ERROR;
	if (in_run)
		return VMEM_RESP_ERROR;
	return ref_plugged_blocks(m) + nb > m->requested_blocks ? VMEM_RESP_NACK : VMEM_RESP_ACK;
}

/* ---- checks after a step ---- */

struct block_map {
	bool block[MODEL_BLOCKS_MAX];
	uint64_t end;
	const struct model *m;
	bool bad;
};

static int map_collect(void *opaque, uint64_t offset, uint64_t size)
{
	struct block_map *u = opaque;
	uint64_t bs = u->m->config.block_size, first = offset / bs, count = size / bs;

	/* Ascending, maximal, whole blocks. */
	if (offset % bs || size % bs || !size || first + count > u->m->nblocks ||
	    (u->end && first <= u->end))
		u->bad = true;
	else
		memset(u->block + first, true, count);
	u->end = first + count;
	return 0;
}

/* One block as the STATE request sees it; beyond the usable region nothing is plugged. */
static bool state_plugged(struct model *m, uint64_t block)
{
	struct vmem_req req =
		model_req(VMEM_REQ_STATE, m->config.addr + block * m->config.block_size, 1);
	struct vmem_resp resp;
	uint16_t answer;

	answer = vmem_device_request(m->dev, &req, &resp);
	m->answers[VMEM_REQ_STATE][answer]++;
	return answer == VMEM_RESP_ACK && le16toh(resp.state_type) == VMEM_STATE_PLUGGED;
}

static bool check_block(struct model *m, const struct vmem_device_info *info, uint64_t b,
			bool usable, uint64_t *faulted)
{
	const struct model_block *host = &m->host[b];
	bool in_stray = b >= m->stray.first && b - m->stray.first < m->stray.count;
	unsigned long long n = b;

	if (usable && (!m->plugged[b] || !host->granted))
		return wrong(m, "block %llu is said usable, but plugged %d, granted %d", n,
			     m->plugged[b], host->granted);
	if (!m->plugged[b]) {
		if (!in_stray && (host->granted || host->content != MODEL_NONE))
			return wrong(m, "block %llu is unplugged, but granted %d, content %u", n,
				     host->granted, host->content);
		return true;
	}
	if (b >= m->usable_blocks)
		return wrong(m, "block %llu is plugged outside the usable region", n);
	if (m->discarded[b])
		m->content[b] = host->content;
	if (host->content != m->content[b])
		return wrong(m, "block %llu holds %u instead of %u", n, host->content,
			     m->content[b]);
	if (usable)
		return true;
	++*faulted;
	if (!info->host_faults)
		return wrong(m, "block %llu is faulted, but no fault was counted", n);
	return state_plugged(m, b) || wrong(m, "STATE does not say that block %llu is plugged", n);
}

static bool check_config(struct model *m, const struct vmem_device_info *info)
{
	uint64_t bs = m->config.block_size;
	struct vmem_config c;

	vmem_device_config_read(m->dev, &c);
	if (le64toh(c.block_size) != bs || le64toh(c.addr) != m->config.addr ||
	    le64toh(c.region_size) != m->config.region_size ||
	    le16toh(c.node_id) != (m->config.has_node ? m->config.node_id : 0))
		return wrong(m, "a constant of the configuration changed");
	if (info->block_size != bs || info->addr != m->config.addr ||
	    info->region_size != m->config.region_size || info->node_id != m->config.node_id)
		return wrong(m, "a constant of the info changed");
	if (le64toh(c.usable_region_size) != info->usable_region_size ||
	    le64toh(c.plugged_size) != info->plugged_size ||
	    le64toh(c.requested_size) != info->requested_size)
		return wrong(m, "configuration and info differ");
	if (info->usable_region_size != m->usable_blocks * bs)
		return wrong(m, "usable_region_size is %llu blocks instead of %llu",
			     (unsigned long long)(info->usable_region_size / bs),
			     (unsigned long long)m->usable_blocks);
	if (info->requested_size != m->requested_blocks * bs)
		return wrong(m, "requested_size is %llu blocks instead of %llu",
			     (unsigned long long)(info->requested_size / bs),
			     (unsigned long long)m->requested_blocks);
	if (info->owner_size != m->owner_blocks * bs || info->owner_size > info->requested_size)
		return wrong(m, "owner_size is not what its owner said");
	if (info->request_limit != m->size.limit_blocks * bs || info->request_rate != m->size.rate)
		return wrong(m, "the bounds of size requests are not what was said");
	if (info->plugged_size != ref_plugged_blocks(m) * bs)
		return wrong(m, "plugged_size is %llu blocks instead of %llu",
			     (unsigned long long)(info->plugged_size / bs),
			     (unsigned long long)ref_plugged_blocks(m));
	if (info->requested_size > info->usable_region_size ||
	    info->usable_region_size > info->region_size)
		return wrong(m, "requested <= usable <= region does not hold");
	return true;
}

static bool check_all(struct model *m)
{
	struct block_map usable = {.m = m}, faults = {.m = m};
	struct vmem_device_info info;
	uint64_t faulted = 0;

	if (m->error[0])
		return false;
	vmem_device_info(m->dev, &info);
	if (!check_config(m, &info))
		return false;
	if (memcmp(info.answers, m->answers, sizeof(info.answers)) ||
	    info.unknown_requests != m->unknown ||
	    memcmp(info.size_answers, m->size.answers, sizeof(info.size_answers)))
		return wrong(m, "the answers are not counted right");
	vmem_device_for_each_plugged(m->dev, map_collect, &usable);
	vmem_device_for_each_faulted(m->dev, map_collect, &faults);
	if (usable.bad || faults.bad)
		return wrong(m, "runs are not maximal, ascending and inside the region");
	if (info.stray_size != m->stray.count * m->config.block_size)
		return wrong(m, "stray_size is %llu instead of %llu blocks",
			     (unsigned long long)(info.stray_size / m->config.block_size),
			     (unsigned long long)m->stray.count);
	for (uint64_t b = 0; b < m->nblocks; b++) {
		if (!check_block(m, &info, b, usable.block[b], &faulted))
			return false;
		if (faults.block[b] != (m->plugged[b] && !usable.block[b]))
			return wrong(m, "block %llu: plugged %d, usable %d, faulted %d",
				     (unsigned long long)b, m->plugged[b], usable.block[b],
				     faults.block[b]);
	}
	if (info.faulted_size != faulted * m->config.block_size)
		return wrong(m, "faulted_size is %llu instead of %llu blocks",
			     (unsigned long long)(info.faulted_size / m->config.block_size),
			     (unsigned long long)faulted);
	return true;
}

/* ---- steps ---- */

struct step {
	struct vmem_device_info before;
	uint64_t plugged_blocks, usable_blocks;
};

static struct step step_begin(struct model *m)
{
	struct step s = {.plugged_blocks = ref_plugged_blocks(m),
			 .usable_blocks = m->usable_blocks};

	vmem_device_info(m->dev, &s.before);
	m->calls = 0;
	m->failed = 0;
	m->config_changes = 0;
	m->plugged_changes = 0;
	m->size.calls = 0;
	memset(m->discarded, 0, sizeof(m->discarded));
	m->allowed[0] = (struct model_run){0, 0};
	m->allowed[1] = m->stray;
	return s;
}

/* The stray after the step: the engine tells its size, only a faulted plug's @run can become it. */
static void step_stray(struct model *m, const struct step *s, struct model_run run)
{
	struct vmem_device_info info;

	vmem_device_info(m->dev, &info);
	if (!info.stray_size)
		m->stray = (struct model_run){0, 0};
	else if (info.host_faults != s->before.host_faults && run.count)
		m->stray = run;
}

static bool step_end(struct model *m, const struct step *s, bool notify_config)
{
	struct vmem_device_info info;
	uint64_t undoings;

	m->fail_calls = 0;
	m->fail_errnos = NULL;
	vmem_device_info(m->dev, &info);
	undoings = info.host_failures + info.host_faults - s->before.host_failures -
		   s->before.host_faults;
	if (undoings > (m->failed ? 1 : 0))
		wrong(m, "%llu failures counted in one step", (unsigned long long)undoings);
	if (m->config_changes != (notify_config ? 1 : 0))
		wrong(m, "%u configuration notifications instead of %d", m->config_changes,
		      notify_config);
	if (m->plugged_changes != (ref_plugged_blocks(m) != s->plugged_blocks ? 1 : 0))
		wrong(m, "%u plugged_size notifications, %llu blocks before, %llu after",
		      m->plugged_changes, (unsigned long long)s->plugged_blocks,
		      (unsigned long long)ref_plugged_blocks(m));
	return check_all(m);
}

static void apply(struct model *m, uint16_t type, struct model_run run)
{
	for (uint64_t b = run.first; b < run.first + run.count; b++) {
		m->plugged[b] = type == VMEM_REQ_PLUG;
		if (!m->plugged[b])
			continue;
		m->content[b] = m->host[b].content;
		if (m->content[b] != (m->config.prealloc ? MODEL_ZEROS : MODEL_NONE))
			wrong(m, "block %llu is new, but holds %u", (unsigned long long)b,
			      m->content[b]);
	}
	if (type == VMEM_REQ_UNPLUG_ALL)
		m->usable_blocks = ref_usable_needed(m, m->requested_blocks);
}

static bool answer_allowed(const struct model *m, uint16_t type, uint16_t expected, uint16_t answer)
{
	bool no_memory =
		m->fail_errno == ENOMEM || m->fail_errno == ENOSPC || m->fail_errno == EDQUOT;

	if (!m->failed || expected != VMEM_RESP_ACK)
		return answer == expected;
	if (answer == VMEM_RESP_NACK)
		return type == VMEM_REQ_PLUG && no_memory;
	return answer == VMEM_RESP_ACK || answer == VMEM_RESP_BUSY;
}

bool model_request(struct model *m, const struct vmem_req *req, uint16_t *ret_answer)
{
	uint16_t type = le16toh(req->type), state, expected = ref_answer(m, req, &state), answer;
	struct step s = step_begin(m);
	struct model_run run = {0, 0};
	struct vmem_resp resp;

	if (expected == VMEM_RESP_ACK && (type == VMEM_REQ_PLUG || type == VMEM_REQ_UNPLUG)) {
		run.first = (le64toh(req->addr) - m->config.addr) / m->config.block_size;
		run.count = le16toh(req->nb_blocks);
	} else if (type == VMEM_REQ_UNPLUG_ALL) {
		run.count = m->usable_blocks;
	}
	m->allowed[0] = run;
	memset(&resp, 0xa5, sizeof(resp));
	answer = vmem_device_request(m->dev, req, &resp);
	*ret_answer = answer;
	if (type < VMEM_REQ_TYPES && answer < VMEM_RESP_TYPES)
		m->answers[type][answer]++;
	else
		m->unknown++;

	if (le16toh(resp.type) != answer || resp.padding[0] || resp.padding[1] || resp.padding[2])
		return wrong(m, "the response is not filled in right");
	if (!answer_allowed(m, type, expected, answer))
		return wrong(m, "type %u addr %#llx nb_blocks %u: answer %u instead of %u", type,
			     (unsigned long long)le64toh(req->addr), le16toh(req->nb_blocks),
			     answer, expected);
	if (le16toh(resp.state_type) != state)
		return wrong(m, "state %u instead of %u", le16toh(resp.state_type), state);
	if (m->calls && (expected != VMEM_RESP_ACK || type == VMEM_REQ_STATE))
		return wrong(m, "the host was called for a request that changes nothing");
	if (answer == VMEM_RESP_ACK && type != VMEM_REQ_STATE)
		apply(m, type, run);
	step_stray(m, &s, type == VMEM_REQ_PLUG ? run : (struct model_run){0, 0});
	return step_end(m, &s, false);
}

bool model_resize(struct model *m, uint64_t requested_size)
{
	struct step s = step_begin(m);
	int rc = vmem_device_resize(m->dev, requested_size), expected = 0;
	bool changed = false;

	if (requested_size % m->config.block_size)
		expected = -EINVAL;
	else if (requested_size > m->config.region_size)
		expected = -ERANGE;
	if (rc != expected)
		return wrong(m, "resize to %#llx gives %d instead of %d",
			     (unsigned long long)requested_size, rc, expected);
	if (!rc) {
		uint64_t blocks = requested_size / m->config.block_size;
		uint64_t needed = ref_usable_needed(m, blocks);

		changed = blocks != m->requested_blocks || needed > m->usable_blocks;
		m->requested_blocks = m->owner_blocks = blocks;
		if (needed > m->usable_blocks)
			m->usable_blocks = needed;
	}
	step_stray(m, &s, (struct model_run){0, 0});
	return step_end(m, &s, changed);
}

/* The host is asked for what policy would grant, and only then. */
static bool check_want(struct model *m, const struct vmem_size_req *req, bool asked,
		       uint64_t requested)
{
	const struct vmem_size_want *w = &m->size.want;
	uint64_t bs = m->config.block_size;

	if (m->size.calls != asked)
		return wrong(m, "the host was asked %u times instead of %d", m->size.calls, asked);
	if (!asked)
		return true;
	if (w->size % bs || w->size <= w->requested_size || w->size > le64toh(req->size) ||
	    w->size < w->min_size || w->min_size != le64toh(req->min_size) ||
	    w->requested_size != requested * bs || w->owner_size != m->owner_blocks * bs ||
	    w->urgency != le16toh(req->urgency) || w->reason != le16toh(req->reason))
		return wrong(m, "the host was asked for something else");
	return true;
}

bool model_size_request(struct model *m, const struct vmem_size_req *req, uint64_t now_ms,
			struct vmem_size_resp *ret_resp)
{
	uint64_t before = m->requested_blocks, needed, usable = m->usable_blocks;
	struct step s = step_begin(m);
	struct model_size_answer want = model_size_expect(m, req, now_ms);
	uint16_t answer;

	memset(ret_resp, 0xa5, sizeof(*ret_resp));
	answer = vmem_device_size_request(m->dev, req, now_ms, ret_resp);
	m->size.answers[want.type]++;
	if (answer != le16toh(ret_resp->type))
		return wrong(m, "the size response is not filled in right");
	if (answer != want.type || le16toh(ret_resp->cause) != want.cause ||
	    le32toh(ret_resp->retry_ms) != want.retry_ms ||
	    le64toh(ret_resp->size) != want.blocks * m->config.block_size)
		return wrong(m,
			     "size request: answer %u, cause %u, retry %u, %#llx bytes instead of "
			     "%u, %u, %llu, %#llx",
			     answer, le16toh(ret_resp->cause), le32toh(ret_resp->retry_ms),
			     (unsigned long long)le64toh(ret_resp->size), want.type, want.cause,
			     (unsigned long long)want.retry_ms,
			     (unsigned long long)(want.blocks * m->config.block_size));
	if (!check_want(m, req, want.asks_host, before))
		return false;
	m->requested_blocks = want.blocks;
	needed = ref_usable_needed(m, want.blocks);
	if (want.blocks != before && needed > usable)
		m->usable_blocks = needed;
	if (m->calls)
		return wrong(m, "a size request touched blocks in the host");
	return step_end(m, &s, want.blocks != before);
}

bool model_set_policy(struct model *m, uint64_t request_limit, uint64_t request_rate)
{
	uint64_t bs = m->config.block_size;
	struct step s = step_begin(m);
	int rc = vmem_device_set_request_policy(m->dev, request_limit, request_rate), expected = 0;

	if (!m->config.size_requests || request_limit % bs)
		expected = -EINVAL;
	else if (request_limit > m->config.region_size)
		expected = -ERANGE;
	if (rc != expected)
		return wrong(m, "set_request_policy gives %d instead of %d", rc, expected);
	if (!rc) {
		m->size.limit_blocks = request_limit / bs;
		m->size.begun = m->size.begun && request_rate == m->size.rate;
		m->size.rate = request_rate;
	}
	return step_end(m, &s, false);
}

bool model_reset(struct model *m, int *ret_rc)
{
	struct step s = step_begin(m);
	uint64_t left = 0, needed;
	bool dropped = m->requested_blocks != m->owner_blocks;

	m->requested_blocks = m->owner_blocks;
	m->allowed[0].count = m->usable_blocks;
	*ret_rc = vmem_device_system_reset(m->dev);
	for (uint64_t b = 0; b < m->nblocks; b++) {
		m->plugged[b] = m->failed && m->plugged[b] && state_plugged(m, b);
		if (m->plugged[b])
			left = b + 1;
	}
	needed = ref_usable_needed(m, m->requested_blocks);
	m->usable_blocks = left > needed ? left : needed;
	step_stray(m, &s, (struct model_run){0, 0});
	if ((*ret_rc == 0) != (!left && !m->stray.count))
		return wrong(m, "reset gives %d with %llu blocks left", *ret_rc,
			     (unsigned long long)ref_plugged_blocks(m));
	return step_end(m, &s, m->usable_blocks != s.usable_blocks || dropped);
}

/* What an import says of its run, if the host does not fail; the run when it returns 0. */
static int ref_import_run(const struct model *m, uint64_t offset, uint64_t size,
			  struct model_run *ret_run)
{
	if (!size || offset % m->config.block_size || size % m->config.block_size)
		return -EINVAL;
	if ((wide)offset + size > m->config.region_size)
		return -ERANGE;
	ret_run->first = offset / m->config.block_size;
	ret_run->count = size / m->config.block_size;
	return 0;
}

/* A failure is the host's, and one that was armed; -EBUSY speaks of a stray. */
static bool import_failure_allowed(struct model *m, const char *name, int rc, bool had_stray)
{
	if (m->failed && (rc == -m->fail_errno || m->fail_errnos || (had_stray && rc == -EBUSY)))
		return true;
	return wrong(m, "%s gives %d with %u failures of the host", name, rc, m->failed);
}

bool model_import_plug(struct model *m, uint64_t offset, uint64_t size, int *ret_rc)
{
	struct step s = step_begin(m);
	struct model_run run = {0, 0};
	bool had_stray = m->stray.count;
	int expected = ref_import_run(m, offset, size, &run);

	for (uint64_t b = run.first; b < run.first + run.count && !expected; b++)
		if (m->plugged[b])
			expected = -EEXIST;
	if (expected)
		run.count = 0;
	m->allowed[0] = run;
	*ret_rc = vmem_device_import_plug(m->dev, offset, size);
	if (expected ? *ret_rc != expected || m->calls
		     : *ret_rc && !import_failure_allowed(m, "import_plug", *ret_rc, had_stray))
		return wrong(m, "import_plug gives %d instead of %d, after %u calls of the host",
			     *ret_rc, expected, m->calls);
	if (!*ret_rc) {
		apply(m, VMEM_REQ_PLUG, run);
		if (run.first + run.count > m->usable_blocks)
			m->usable_blocks = run.first + run.count;
	}
	step_stray(m, &s, run);
	return step_end(m, &s, false);
}

bool model_import_unplug(struct model *m, uint64_t offset, uint64_t size, int *ret_rc)
{
	struct step s = step_begin(m);
	struct model_run run = {0, 0};
	int expected = ref_import_run(m, offset, size, &run);
	uint64_t plugged = 0;

	for (uint64_t b = run.first; b < run.first + run.count; b++)
		plugged += m->plugged[b];
	if (plugged)
		m->allowed[0] = run;
	*ret_rc = vmem_device_import_unplug(m->dev, offset, size);
	if (expected ? *ret_rc != expected || m->calls
		     : *ret_rc && !import_failure_allowed(m, "import_unplug", *ret_rc, false))
		return wrong(m, "import_unplug gives %d instead of %d, after %u calls of the host",
			     *ret_rc, expected, m->calls);
	if (!*ret_rc)
		apply(m, VMEM_REQ_UNPLUG, run);
	step_stray(m, &s, (struct model_run){0, 0});
	return step_end(m, &s, false);
}

bool model_import_sizes(struct model *m, uint64_t owner_size, uint64_t requested_size,
			uint64_t usable_region_size)
{
	uint64_t bs = m->config.block_size;
	struct step s = step_begin(m);
	int expected = 0, rc;

	if (owner_size % bs || requested_size % bs || usable_region_size % bs)
		expected = -EINVAL;
	else if (owner_size > requested_size || requested_size > usable_region_size ||
		 usable_region_size > m->config.region_size)
		expected = -ERANGE;
	else
		for (uint64_t b = usable_region_size / bs; b < m->nblocks; b++)
			if (m->plugged[b])
				expected = -EEXIST;
	rc = vmem_device_import_sizes(m->dev, owner_size, requested_size, usable_region_size);
	if (rc != expected || m->calls)
		return wrong(m, "import_sizes gives %d instead of %d, after %u calls of the host",
			     rc, expected, m->calls);
	if (!rc) {
		m->owner_blocks = owner_size / bs;
		m->requested_blocks = requested_size / bs;
		m->usable_blocks = usable_region_size / bs;
	}
	return step_end(m, &s, false);
}

bool model_init(struct model *m, const struct vmem_device_config *config)
{
	int rc;

	memset(m, 0, sizeof(*m));
	m->config = *config;
	m->nblocks = config->region_size / config->block_size;
	if (m->nblocks > MODEL_BLOCKS_MAX)
		return wrong(m, "the model is too small");
	rc = vmem_device_new(config, &host_ops, m, &m->dev);
	if (rc)
		return wrong(m, "vmem_device_new() gives %d", rc);
	m->requested_blocks = m->owner_blocks = config->requested_size / config->block_size;
	if (config->size_requests)
		m->size.limit_blocks =
			(config->request_limit ? config->request_limit : config->region_size) /
			config->block_size;
	m->size.rate = config->request_rate;
	m->usable_blocks = ref_usable_needed(m, m->requested_blocks);
	return check_all(m);
}

void model_done(struct model *m)
{
	vmem_device_free(m->dev);
	m->dev = NULL;
}

struct vmem_req model_req(uint16_t type, uint64_t addr, uint16_t nb_blocks)
{
	return (struct vmem_req){
		.type = htole16(type),
		.padding = {0xdead, 0xbeef, 0xffff},
		.addr = htole64(addr),
		.nb_blocks = htole16(nb_blocks),
		.data_padding = {0x1111, 0xffff, 0x8000},
	};
}

bool model_do(struct model *m, uint16_t type, uint64_t first, uint16_t count, uint16_t *ret_answer)
{
	struct vmem_req req = model_req(type, m->config.addr + first * m->config.block_size, count);

	return model_request(m, &req, ret_answer);
}

struct vmem_size_req model_size_req(uint64_t size, uint64_t min_size)
{
	return (struct vmem_size_req){
		.type = htole16(VMEM_SIZE_REQ_WANT),
		.urgency = htole16(VMEM_SIZE_URGENCY_NORMAL),
		.reason = htole16(VMEM_SIZE_REASON_PRESSURE),
		.padding = 0xdead,
		.size = htole64(size),
		.min_size = htole64(min_size),
	};
}

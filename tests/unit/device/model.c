/* SPDX-License-Identifier: BSD-3-Clause */
/* The reference device, and the steps that compare the engine with it: see model.h. */
#include "tests/unit/device/model_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef model_wide wide;

bool model_wrong(struct model *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!m->error[0])
		vsnprintf(m->error, sizeof(m->error), fmt, ap);
	va_end(ap);
	return false;
}

/* ---- the reference ---- */

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
	return model_plugged_blocks(m) + nb > m->requested_blocks ? VMEM_RESP_NACK : VMEM_RESP_ACK;
}

/* ---- steps ---- */

struct step {
	struct vmem_device_info before;
	uint64_t plugged_blocks, usable_blocks;
};

static struct step step_begin(struct model *m)
{
	struct step s = {.plugged_blocks = model_plugged_blocks(m),
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
		model_wrong(m, "%llu failures counted in one step", (unsigned long long)undoings);
	if (m->config_changes != (notify_config ? 1 : 0))
		model_wrong(m, "%u configuration notifications instead of %d", m->config_changes,
			    notify_config);
	if (m->plugged_changes != (model_plugged_blocks(m) != s->plugged_blocks ? 1 : 0))
		model_wrong(m, "%u plugged_size notifications, %llu blocks before, %llu after",
			    m->plugged_changes, (unsigned long long)s->plugged_blocks,
			    (unsigned long long)model_plugged_blocks(m));
	return model_check_all(m);
}

static void apply(struct model *m, uint16_t type, struct model_run run)
{
	for (uint64_t b = run.first; b < run.first + run.count; b++) {
		m->plugged[b] = type == VMEM_REQ_PLUG;
		if (!m->plugged[b])
			continue;
		m->content[b] = m->host[b].content;
		if (m->content[b] != (m->config.prealloc ? MODEL_ZEROS : MODEL_NONE))
			model_wrong(m, "block %llu is new, but holds %u", (unsigned long long)b,
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
		return model_wrong(m, "the response is not filled in right");
	if (!answer_allowed(m, type, expected, answer))
		return model_wrong(m, "type %u addr %#llx nb_blocks %u: answer %u instead of %u",
				   type, (unsigned long long)le64toh(req->addr),
				   le16toh(req->nb_blocks), answer, expected);
	if (le16toh(resp.state_type) != state)
		return model_wrong(m, "state %u instead of %u", le16toh(resp.state_type), state);
	if (m->calls && (expected != VMEM_RESP_ACK || type == VMEM_REQ_STATE))
		return model_wrong(m, "the host was called for a request that changes nothing");
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
		return model_wrong(m, "resize to %#llx gives %d instead of %d",
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
		return model_wrong(m, "the host was asked %u times instead of %d", m->size.calls,
				   asked);
	if (!asked)
		return true;
	if (w->size % bs || w->size <= w->requested_size || w->size > le64toh(req->size) ||
	    w->size < w->min_size || w->min_size != le64toh(req->min_size) ||
	    w->requested_size != requested * bs || w->owner_size != m->owner_blocks * bs ||
	    w->urgency != le16toh(req->urgency) || w->reason != le16toh(req->reason))
		return model_wrong(m, "the host was asked for something else");
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
		return model_wrong(m, "the size response is not filled in right");
	if (answer != want.type || le16toh(ret_resp->cause) != want.cause ||
	    le32toh(ret_resp->retry_ms) != want.retry_ms ||
	    le64toh(ret_resp->size) != want.blocks * m->config.block_size)
		return model_wrong(
			m,
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
		return model_wrong(m, "a size request touched blocks in the host");
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
		return model_wrong(m, "set_request_policy gives %d instead of %d", rc, expected);
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
		m->plugged[b] = m->failed && m->plugged[b] && model_state_plugged(m, b);
		if (m->plugged[b])
			left = b + 1;
	}
	needed = ref_usable_needed(m, m->requested_blocks);
	m->usable_blocks = left > needed ? left : needed;
	step_stray(m, &s, (struct model_run){0, 0});
	if ((*ret_rc == 0) != (!left && !m->stray.count))
		return model_wrong(m, "reset gives %d with %llu blocks left", *ret_rc,
				   (unsigned long long)model_plugged_blocks(m));
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
	return model_wrong(m, "%s gives %d with %u failures of the host", name, rc, m->failed);
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
		return model_wrong(m,
				   "import_plug gives %d instead of %d, after %u calls of the host",
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
		return model_wrong(
			m, "import_unplug gives %d instead of %d, after %u calls of the host",
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
		return model_wrong(
			m, "import_sizes gives %d instead of %d, after %u calls of the host", rc,
			expected, m->calls);
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
		return model_wrong(m, "the model is too small");
	rc = vmem_device_new(config, &model_host_ops, m, &m->dev);
	if (rc)
		return model_wrong(m, "vmem_device_new() gives %d", rc);
	m->requested_blocks = m->owner_blocks = config->requested_size / config->block_size;
	if (config->size_requests)
		m->size.limit_blocks =
			(config->request_limit ? config->request_limit : config->region_size) /
			config->block_size;
	m->size.rate = config->request_rate;
	m->usable_blocks = ref_usable_needed(m, m->requested_blocks);
	return model_check_all(m);
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

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host of the model: it checks what it is called for, fails where that was ordered, and keeps what
 * the guest wrote.
 */
#include "tests/unit/device/model_internal.h"

#include <errno.h>

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
		model_wrong(m, "%s(%#llx, %#llx) is not a run of blocks of the region", name,
			    (unsigned long long)offset, (unsigned long long)size);
		return (struct model_run){0, 0};
	}
	if (!run_inside(run, m->allowed[0]) && !run_inside(run, m->allowed[1]))
		model_wrong(m, "%s of blocks %llu+%llu, which the step is not about", name,
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
			model_wrong(m, "populate of block %llu, which is not granted",
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
			model_wrong(m, "discard of block %llu, which the guest may still use",
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

const struct vmem_host_ops model_host_ops = {
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

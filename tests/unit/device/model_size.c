/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reference's answer to size requests: docs/virtio-mem.md read as it stands, in 128 bits and with
 * thousandths of a byte, so that nothing is rounded but what the answer rounds.
 */
#include <endian.h>

#include "tests/unit/device/model.h"

#define A_SECOND     1000
#define REQUESTS_MAX 10 /* of a second */

static model_wide wide_min(model_wide a, model_wide b)
{
	return a < b ? a : b;
}

static model_wide credit_max(const struct model *m)
{
	uint64_t bs = m->config.block_size;

	return (model_wide)(m->size.rate > bs ? m->size.rate : bs) * 1000;
}

static void credit_update(struct model *m, uint64_t now_ms)
{
	struct model_size *s = &m->size;

	/* The engine's clock begins at 1. */
	if (!now_ms)
		now_ms = 1;
	if (s->begun && now_ms <= s->credit_ms)
		return;
	if (s->begun)
		s->credit = wide_min(credit_max(m),
				     s->credit + (model_wide)(now_ms - s->credit_ms) * s->rate);
	else
		s->credit = credit_max(m);
	s->begun = true;
	s->credit_ms = now_ms;
}

static uint64_t credit_wait_ms(const struct model *m, uint64_t blocks)
{
	model_wide need = (model_wide)blocks * m->config.block_size * 1000, ms;

	if (need <= m->size.credit)
		return 1;
	ms = (need - m->size.credit + m->size.rate - 1) / m->size.rate;
	return (uint64_t)wide_min(ms, UINT32_MAX);
}

static bool makes_sense(const struct model *m, const struct vmem_size_req *req)
{
	uint64_t size = le64toh(req->size);

	return m->config.size_requests && le16toh(req->type) == 0 && le16toh(req->urgency) <= 3 &&
	       le16toh(req->reason) <= 4 && size % m->config.block_size == 0 &&
	       size <= m->config.region_size && le64toh(req->min_size) <= size;
}

/* More is wanted: the bounds one after the other. */
static void expect_grow(struct model *m, uint64_t size, uint64_t min_size, uint64_t now_ms,
			struct model_size_answer *a)
{
	uint64_t bs = m->config.block_size, want = size / bs, now = m->requested_blocks;
	uint64_t least = (uint64_t)(((model_wide)min_size + bs - 1) / bs), most, got;

	if (least <= now)
		least = now + 1;
	most = want < m->size.limit_blocks ? want : m->size.limit_blocks;
	a->cause = most < want ? VMEM_SIZE_CAUSE_LIMIT : VMEM_SIZE_CAUSE_NONE;
	a->type = VMEM_SIZE_RESP_REFUSED;
	if (most < least)
		return;
	got = most;
	if (m->size.rate) {
		model_wide blocks;

		credit_update(m, now_ms);
		blocks = m->size.credit / 1000 / bs;
		if (blocks < most - now) {
			got = now + (uint64_t)blocks;
			a->cause = VMEM_SIZE_CAUSE_RATE;
		}
		if (got < least) {
			if ((model_wide)(least - now) * bs * 1000 > credit_max(m))
				return;
			a->type = VMEM_SIZE_RESP_LATER;
			a->retry_ms = credit_wait_ms(m, least - now);
			return;
		}
	}
	a->asks_host = true;
	if (m->size.has_spare && m->size.spare / bs < got) {
		got = m->size.spare / bs;
		a->cause = VMEM_SIZE_CAUSE_HOST;
		if (got < least) {
			a->type = VMEM_SIZE_RESP_LATER;
			a->retry_ms = A_SECOND;
			return;
		}
	}
	if (m->size.rate)
		m->size.credit -= (model_wide)(got - now) * bs * 1000;
	a->type = got == want ? VMEM_SIZE_RESP_GRANTED : VMEM_SIZE_RESP_PARTLY;
	if (a->cause == VMEM_SIZE_CAUSE_RATE) {
		model_wide blocks = credit_max(m) / 1000 / bs;

		a->retry_ms = credit_wait_ms(m, (uint64_t)wide_min(most - got, blocks));
	}
	a->blocks = got;
}

struct model_size_answer model_size_expect(struct model *m, const struct vmem_size_req *req,
					   uint64_t now_ms)
{
	struct model_size *s = &m->size;
	struct model_size_answer a = {.type = VMEM_SIZE_RESP_ERROR, .blocks = m->requested_blocks};
	uint64_t size = le64toh(req->size), bs = m->config.block_size, ms;

	if (!makes_sense(m, req))
		return a;
	ms = now_ms > s->second_ms ? now_ms - s->second_ms : 0;
	if (!s->nr || ms >= A_SECOND) {
		s->second_ms = now_ms;
		s->nr = 0;
	}
	if (s->nr == REQUESTS_MAX) {
		a.type = VMEM_SIZE_RESP_LATER;
		a.cause = VMEM_SIZE_CAUSE_RATE;
		a.retry_ms = A_SECOND - ms;
		return a;
	}
	s->nr++;
	a.type = VMEM_SIZE_RESP_GRANTED;
	if (size / bs > m->requested_blocks) {
		expect_grow(m, size, le64toh(req->min_size), now_ms, &a);
	} else if (size / bs < m->owner_blocks) {
		a.type = m->owner_blocks < m->requested_blocks ? VMEM_SIZE_RESP_PARTLY
							       : VMEM_SIZE_RESP_REFUSED;
		a.cause = VMEM_SIZE_CAUSE_FLOOR;
		a.blocks = m->owner_blocks;
	} else {
		a.blocks = size / bs;
	}
	return a;
}

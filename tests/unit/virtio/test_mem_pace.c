/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-mem: drivers that ask again and again for what the host has not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/virtio/mem_rig.h"
#include "vmm/core/loop.h"

/* Offer PLUG of a block; true when it was answered before anything else happened. */
static bool offer_plug(struct rig *r, uint64_t block)
{
	const struct driver_buffer buffers[] = {
		{r->request_gpa, sizeof(struct vmem_req), false},
		{r->answer_gpa, sizeof(struct vmem_resp), true},
	};
	uint32_t len;

	rig_put_request(r, r->request_gpa, VMEM_REQ_PLUG, block, 1);
	return rig_offer(r, buffers, 2, &len);
}

static uint16_t last_answer(struct rig *r)
{
	return le16toh(((struct vmem_resp *)guest_ptr(&r->g, r->answer_gpa))->type);
}

/* Ask until a request has to wait; returns how many were refused at once. */
static unsigned int ask_until_it_waits(struct rig *r)
{
	unsigned int refused = 0;

	while (offer_plug(r, 0)) {
		assert_int_equal(last_answer(r), VMEM_RESP_NACK);
		assert_true(++refused < 100);
	}
	return refused;
}

/* Stock Linux asks again at once when it was refused: that is slowed down, and nothing else. */
static void test_pace(void **state)
{
	uint32_t len;
	uint16_t id;
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	rig_start(&r);
	r.add_error = -ENOMEM;
	assert_true(ask_until_it_waits(&r) >= 4);
	/* A new size is a reason to ask, and to be answered. */
	assert_int_equal(virtio_mem_resize(r.mem, 2 * RIG_BLOCK, NULL), 0);
	rig_turn(&r);
	assert_true(driver_get_used(&r.d, &id, &len));
	assert_int_equal(last_answer(&r), VMEM_RESP_NACK);
	/* And so is time; the memory that is there by then is given. */
	assert_true(ask_until_it_waits(&r) >= 3);
	r.add_error = 0;
	while (!driver_get_used(&r.d, &id, &len))
		uv_run(loop_uv(r.loop), UV_RUN_ONCE);
	assert_int_equal(last_answer(&r), VMEM_RESP_ACK);
	/* Refusals that are over do not count. */
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_request(&r, VMEM_REQ_UNPLUG, 0, 2), VMEM_RESP_ACK);
	r.add_error = -ENOMEM;
	assert_true(ask_until_it_waits(&r) >= 4);
	/* A driver that begins anew does not wait for what another did. */
	rig_status(&r, 0);
	rig_start(&r);
	r.add_error = 0;
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_pace)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-mem: size requests on the second queue (mem_size.h). What is granted is the engine's, and tested
 * there; here is what is around it: the queue, its pace, the owner, what is told, and what is saved.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "tests/unit/virtio/mem_rig.h"
#include "tests/unit/virtio/start.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio_transport.h"

#define FEATURES (RIG_FEATURES | VIRTIO_FEATURE(VMEM_F_SIZE_REQUEST))

/* The rig, and the driver of its second queue. */
struct sizes {
	struct rig r;
	struct driver d;
	uint64_t request_gpa, answer_gpa;
};

static void takes_requests(struct virtio_mem_config *config)
{
	config->device.requested_size = 4 * RIG_BLOCK;
	config->device.size_requests = true;
	config->request_limit = 12 * RIG_BLOCK;
	config->now_ms = rig_clock_ms;
}

static void takes_none(struct virtio_mem_config *config)
{
	takes_requests(config);
	config->device.size_requests = false;
	config->request_limit = 0;
}

/* FEATURES_OK to DRIVER_OK, with queue 1 alone. */
static void start(struct sizes *s)
{
	const struct vq_layout layout = {.size = 16};

	rig_negotiate(&s->r, FEATURES);
	assert_int_equal(rig_get_status(&s->r), 11);
	s->r.g.used = 0;
	driver_init(&s->d, &s->r.g, &layout);
	s->request_gpa = guest_alloc(&s->r.g, sizeof(struct vmem_size_req), 8);
	s->answer_gpa = guest_alloc(&s->r.g, sizeof(struct vmem_size_resp), 8);
	virtio_lock(s->r.vdev);
	start_queue(s->r.vdev, VMEM_QUEUE_SIZE, &s->d.layout);
	virtio_unlock(s->r.vdev);
	rig_status(&s->r, 15);
	assert_int_equal(rig_get_status(&s->r), 15);
}

static int setup(void **state)
{
	struct sizes *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	rig_now_ms = 1000000;
	rig_init(&s->r, takes_requests);
	start(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct sizes *s = *state;

	rig_done(&s->r);
	free(s);
	return 0;
}

/* True when they came back. */
static bool offer(struct sizes *s, const struct driver_buffer *buffers, unsigned int n)
{
	uint32_t len;
	uint16_t id;

	assert_true(driver_add(&s->d, buffers, n, false) >= 0);
	virtio_queue_kick(s->r.vdev, VMEM_QUEUE_SIZE);
	rig_turn(&s->r);
	if (!driver_get_used(&s->d, &id, &len))
		return false;
	assert_int_equal(len, sizeof(struct vmem_size_resp));
	return true;
}

static bool offer_want(struct sizes *s, uint16_t type, uint64_t blocks)
{
	const struct vmem_size_req req = {
		.type = htole16(type),
		.urgency = htole16(VMEM_SIZE_URGENCY_HIGH),
		.reason = htole16(VMEM_SIZE_REASON_ALLOCATION),
		.size = htole64(blocks * RIG_BLOCK),
	};
	const struct driver_buffer buffers[] = {
		{s->request_gpa, sizeof(req), false},
		{s->answer_gpa, sizeof(struct vmem_size_resp), true},
	};

	assert_int_equal(gm_write(s->r.g.gm, s->request_gpa, &req, sizeof(req)), 0);
	memset(guest_ptr(&s->r.g, s->answer_gpa), 0xff, sizeof(struct vmem_size_resp));
	return offer(s, buffers, 2);
}

/* Ask for @blocks; the answer's type. A second passes before that. */
static uint16_t want(struct sizes *s, uint64_t blocks)
{
	const struct vmem_size_resp *resp = guest_ptr(&s->r.g, s->answer_gpa);

	rig_now_ms += 1000;
	assert_true(offer_want(s, VMEM_SIZE_REQ_WANT, blocks));
	return le16toh(resp->type);
}

static uint16_t last_cause(struct sizes *s)
{
	return le16toh(((struct vmem_size_resp *)guest_ptr(&s->r.g, s->answer_gpa))->cause);
}

static struct vmem_device_info info_of(struct sizes *s)
{
	struct vmem_device_info info;

	virtio_mem_info(s->r.mem, &info);
	return info;
}

static struct virtio_mem_size_stats stats_of(struct sizes *s)
{
	struct virtio_mem_size_stats stats;

	virtio_mem_size_stats(s->r.mem, &stats);
	return stats;
}

/* ---- the queue ---- */

static uint16_t queue_size(struct rig *r, unsigned int index)
{
	uint16_t size;

	virtio_lock(r->vdev);
	size = virtio_queue_size(r->vdev, index);
	virtio_unlock(r->vdev);
	return size;
}

static void test_off(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, takes_none);
	virtio_lock(r.vdev);
	assert_int_equal(virtio_nr_queues(r.vdev), 1);
	assert_false(virtio_offered_features(r.vdev, 1) >> (VMEM_F_SIZE_REQUEST - 32) & 1);
	virtio_unlock(r.vdev);
	/* A driver that accepts it all the same is refused. */
	rig_negotiate(&r, FEATURES);
	assert_int_equal(rig_get_status(&r), 3);
	assert_int_equal(virtio_mem_set_request_policy(r.mem, 0, 0, NULL), -EINVAL);
	rig_done(&r);
}

/* The queue is there with the feature alone. */
static void test_not_accepted(void **state)
{
	struct sizes *s = *state;

	assert_true(queue_size(&s->r, VMEM_QUEUE_SIZE) > 0);
	rig_negotiate(&s->r, RIG_FEATURES);
	assert_int_equal(queue_size(&s->r, VMEM_QUEUE_SIZE), 0);
	assert_true(queue_size(&s->r, VMEM_QUEUE_REQUEST) > 0);
	virtio_lock(s->r.vdev);
	virtio_queue_set_address(s->r.vdev, VMEM_QUEUE_SIZE, VIRTIO_AREA_DESC, GUEST_BASE);
	virtio_queue_enable(s->r.vdev, VMEM_QUEUE_SIZE);
	assert_false(virtio_queue_enabled(s->r.vdev, VMEM_QUEUE_SIZE));
	assert_int_equal(virtio_queue_address(s->r.vdev, VMEM_QUEUE_SIZE, VIRTIO_AREA_DESC), 0);
	assert_false(virtio_queue_reset(s->r.vdev, VMEM_QUEUE_SIZE));
	virtio_unlock(s->r.vdev);
	rig_status(&s->r, 15);
	virtio_queue_kick(s->r.vdev, VMEM_QUEUE_SIZE);
	rig_turn(&s->r);
	assert_int_equal(rig_get_status(&s->r), 15);
	assert_int_equal(stats_of(s).total, 0);
}

static void test_malformed(void **state)
{
	struct sizes *s = *state;
	const struct driver_buffer chains[][2] = {
		{{s->request_gpa, 23, false}, {s->answer_gpa, 16, true}},
		{{s->request_gpa, 24, false}, {s->answer_gpa, 15, true}},
		{{0x10, 24, false}, {s->answer_gpa, 16, true}},
		{{s->request_gpa, 24, false}, {GUEST_BASE + GUEST_SIZE - 8, 16, true}},
		{{s->request_gpa, 24, false}, {RIG_ADDR, 16, true}}, /* not plugged */
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(chains); i++) {
		assert_false(offer(s, chains[i], 2));
		assert_int_equal(rig_get_status(&s->r), 15 | VIRTIO_STATUS_NEEDS_RESET);
		assert_int_equal(stats_of(s).broken, i + 1);
		assert_int_equal(info_of(s).requested_size, 4 * RIG_BLOCK);
		start(s);
	}
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
}

/* ---- what is told ---- */

static void test_told(void **state)
{
	struct sizes *s = *state;
	unsigned int changes = s->r.changes, irqs = s->r.config_irqs;
	struct virtio_mem_size_stats stats;
	struct virtio_mem_stats mem_stats;

	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	assert_int_equal(s->r.config_irqs, irqs + 1);
	assert_true(s->r.changes > changes);
	assert_int_equal(info_of(s).requested_size, 8 * RIG_BLOCK);
	assert_int_equal(info_of(s).owner_size, 4 * RIG_BLOCK);
	assert_int_equal(want(s, 16), VMEM_SIZE_RESP_PARTLY);
	assert_int_equal(want(s, 16), VMEM_SIZE_RESP_REFUSED);
	assert_int_equal(want(s, 10), VMEM_SIZE_RESP_GRANTED);
	rig_now_ms += 500;
	stats = stats_of(s);
	assert_true(stats.on);
	assert_int_equal(stats.total, 4);
	assert_int_equal(stats.requests[VIRTIO_MEM_SIZE_GRANTED][VMEM_SIZE_URGENCY_HIGH]
				       [VMEM_SIZE_REASON_ALLOCATION],
			 2);
	assert_int_equal(stats.requests[VIRTIO_MEM_SIZE_REFUSED][VMEM_SIZE_URGENCY_HIGH]
				       [VMEM_SIZE_REASON_ALLOCATION],
			 1);
	assert_int_equal(stats.granted_bytes, 8 * RIG_BLOCK);
	assert_int_equal(stats.offered_bytes, 2 * RIG_BLOCK);
	assert_int_equal(stats.last.wanted_size, 10 * RIG_BLOCK);
	assert_int_equal(stats.last.requested_size, 10 * RIG_BLOCK);
	assert_int_equal(stats.last.answer, VMEM_SIZE_RESP_GRANTED);
	assert_int_equal(stats.last.at_ms, rig_now_ms - 500);
	/* For people it is a resize like any other. */
	virtio_mem_stats(s->r.mem, &mem_stats);
	assert_int_equal(mem_stats.resize_ms, rig_now_ms - 500);
	assert_int_equal(mem_stats.idle_ms, 500);
	assert_int_equal(virtio_mem_progress(s->r.mem), VIRTIO_MEM_IN_PROGRESS);
}

static void test_names(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < VMEM_SIZE_RESP_TYPES; i++)
		assert_non_null(virtio_mem_size_answer_name(i));
	for (unsigned int i = 0; i < VMEM_SIZE_URGENCIES; i++)
		assert_non_null(virtio_mem_size_urgency_name(i));
	for (unsigned int i = 0; i < VMEM_SIZE_REASONS; i++)
		assert_non_null(virtio_mem_size_reason_name(i));
	for (unsigned int i = 0; i < VMEM_SIZE_CAUSES; i++)
		assert_non_null(virtio_mem_size_cause_name(i));
}

/* ---- the owner ---- */

static void test_owner(void **state)
{
	struct sizes *s = *state;

	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	/* From the moment on in which it is said, also where it is the same as before. */
	assert_int_equal(virtio_mem_resize(s->r.mem, 4 * RIG_BLOCK, NULL), 0);
	assert_int_equal(info_of(s).requested_size, 4 * RIG_BLOCK);
	assert_false(virtio_mem_resized(s->r.mem));
	rig_turn(&s->r);
	assert_true(virtio_mem_resized(s->r.mem));
	assert_int_equal(info_of(s).requested_size, 4 * RIG_BLOCK);
	/* Held, until it is there. */
	virtio_mem_hold_size(s->r.mem, true);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_LATER);
	assert_int_equal(last_cause(s), VMEM_SIZE_CAUSE_HOST);
	assert_int_equal(want(s, 2), VMEM_SIZE_RESP_REFUSED);
	virtio_mem_hold_size(s->r.mem, false);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	/* What is plugged, nothing: the grant is gone as well. */
	virtio_mem_resize_here(s->r.mem);
	rig_turn(&s->r);
	assert_int_equal(info_of(s).requested_size, 0);
	assert_int_equal(info_of(s).owner_size, 0);
}

/* A wish that comes before the device's thread has come to what the owner said. */
static void test_owner_on_its_way(void **state)
{
	struct sizes *s = *state;
	const struct vmem_size_want w = {.size = 8 * RIG_BLOCK, .requested_size = 4 * RIG_BLOCK};

	assert_int_equal(mem_size_wanted(s->r.mem, &w), w.size);
	assert_int_equal(virtio_mem_resize(s->r.mem, 2 * RIG_BLOCK, NULL), 0);
	assert_int_equal(mem_size_wanted(s->r.mem, &w), w.requested_size);
	rig_turn(&s->r);
	assert_int_equal(mem_size_wanted(s->r.mem, &w), w.size);
}

static void test_policy(void **state)
{
	struct sizes *s = *state;
	struct err *err = NULL;

	assert_int_equal(virtio_mem_set_request_policy(s->r.mem, 6 * RIG_BLOCK, 0, NULL), 0);
	assert_int_equal(info_of(s).request_limit, 6 * RIG_BLOCK);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_PARTLY);
	assert_int_equal(virtio_mem_set_request_policy(s->r.mem, 12 * RIG_BLOCK, RIG_BLOCK, NULL),
			 0);
	assert_int_equal(info_of(s).request_rate, RIG_BLOCK);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_PARTLY);
	assert_int_equal(last_cause(s), VMEM_SIZE_CAUSE_RATE);
	assert_int_equal(info_of(s).requested_size, 7 * RIG_BLOCK);
	assert_int_equal(virtio_mem_set_request_policy(s->r.mem, RIG_BLOCK + 1, 0, &err), -EINVAL);
	assert_string_equal(err_message(err),
			    "request limit 65537 is not a multiple of the block size of 'vmem0', "
			    "65536 bytes");
	err_free(err);
	err = NULL;
	assert_int_equal(virtio_mem_set_request_policy(s->r.mem, RIG_SIZE + RIG_BLOCK, 0, &err),
			 -EINVAL);
	assert_string_equal(err_message(err),
			    "request limit 1114112 is beyond the size of 'vmem0', 1048576 bytes");
	err_free(err);
	assert_int_equal(info_of(s).request_limit, 12 * RIG_BLOCK);
}

static void test_reset(void **state)
{
	struct sizes *s = *state;

	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	start(s);
	assert_int_equal(info_of(s).requested_size, 8 * RIG_BLOCK);
	virtio_system_reset(s->r.vdev);
	assert_int_equal(info_of(s).requested_size, 4 * RIG_BLOCK);
	/* What was said and not come to yet is said still. */
	start(s);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	assert_int_equal(virtio_mem_resize(s->r.mem, 6 * RIG_BLOCK, NULL), 0);
	virtio_system_reset(s->r.vdev);
	assert_int_equal(info_of(s).requested_size, 6 * RIG_BLOCK);
	rig_turn(&s->r);
	assert_int_equal(info_of(s).owner_size, 6 * RIG_BLOCK);
}

/* ---- pace ---- */

/* Ask for nonsense until it has to wait; how often it was answered at once. */
static unsigned int ask_until_it_waits(struct sizes *s)
{
	unsigned int answered = 0;

	while (offer_want(s, VMEM_SIZE_REQ_TYPES, 8))
		assert_true(++answered < 100);
	return answered;
}

static void wait_for_answer(struct sizes *s)
{
	uint32_t len;
	uint16_t id;

	while (!driver_get_used(&s->d, &id, &len))
		uv_run(loop_uv(s->r.loop), UV_RUN_ONCE);
}

static void test_pace(void **state)
{
	struct sizes *s = *state;

	assert_true(ask_until_it_waits(s) >= 4);
	wait_for_answer(s);
	/* A request that makes sense has to wait as well, and ends it. */
	if (!offer_want(s, VMEM_SIZE_REQ_WANT, 8))
		wait_for_answer(s);
	assert_int_equal(info_of(s).requested_size, 8 * RIG_BLOCK);
	assert_int_equal(want(s, 6), VMEM_SIZE_RESP_GRANTED);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	assert_true(ask_until_it_waits(s) >= 4);
	/* A driver that begins anew does not wait for what another did. */
	start(s);
	assert_int_equal(want(s, 6), VMEM_SIZE_RESP_GRANTED);
	assert_true(stats_of(s).errors >= 8);
}

/* Who does not wait when it was told to is answered slower and slower. */
static void test_too_often(void **state)
{
	const struct vmem_size_resp *resp;
	struct sizes *s = *state;
	unsigned int answered = 0, later = 0;

	resp = guest_ptr(&s->r.g, s->answer_gpa);
	while (offer_want(s, VMEM_SIZE_REQ_WANT, 4)) {
		later += le16toh(resp->type) == VMEM_SIZE_RESP_LATER;
		assert_true(++answered < 100);
	}
	assert_true(later >= 4);
	assert_int_equal(answered - later, 10);
}

/* One that waits as it is told to is not, however often the host cannot spare it. */
static void test_patience_is_no_fault(void **state)
{
	struct sizes *s = *state;

	virtio_mem_hold_size(s->r.mem, true);
	for (unsigned int i = 0; i < 40; i++)
		assert_int_equal(want(s, 8), VMEM_SIZE_RESP_LATER);
	virtio_mem_hold_size(s->r.mem, false);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
}

/* ---- threads ---- */

/* A clock that goes on by itself, on whatever thread it is asked. */
static uint64_t running_clock_ms(void)
{
	static atomic_uint_least64_t now_ms = 1000;

	return atomic_fetch_add(&now_ms, 250);
}

static void takes_requests_running(struct virtio_mem_config *config)
{
	takes_requests(config);
	config->now_ms = running_clock_ms;
}

struct monitor {
	pthread_t thread;
	struct sizes *s;
	atomic_bool stop;
	unsigned int turns, bad;
};

/* What monitors do, as fast as they can. */
static void *monitor_run(void *opaque)
{
	struct monitor *m = opaque;

	do {
		struct virtio_mem_size_stats stats = stats_of(m->s);
		struct vmem_device_info info = info_of(m->s);

		m->bad += info.requested_size > RIG_SIZE;
		/* The last one is a piece: these belong together. */
		m->bad += stats.total && stats.last.answer == VMEM_SIZE_RESP_GRANTED &&
			  stats.last.wanted_size != stats.last.requested_size;
		virtio_mem_set_request_policy(m->s->r.mem, m->turns % 13 * RIG_BLOCK,
					      m->turns % 3 * RIG_BLOCK, NULL);
		virtio_mem_hold_size(m->s->r.mem, m->turns % 5 == 0);
		if (m->turns % 7 == 0)
			virtio_mem_resize(m->s->r.mem, m->turns % 8 * RIG_BLOCK, NULL);
		m->turns++;
	} while (!m->stop);
	virtio_mem_hold_size(m->s->r.mem, false);
	return NULL;
}

static void test_threads(void **state)
{
	struct sizes *s = calloc(1, sizeof(*s));
	struct monitor m = {.s = s};
	uint32_t len;
	uint16_t id;

	(void)state;
	assert_non_null(s);
	rig_init_thread(&s->r, takes_requests_running);
	start(s);
	assert_int_equal(pthread_create(&m.thread, NULL, monitor_run, &m), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		const struct vmem_size_req req = {.size = htole64(i % 17 * RIG_BLOCK)};
		const struct driver_buffer buffers[] = {
			{s->request_gpa, sizeof(req), false},
			{s->answer_gpa, sizeof(struct vmem_size_resp), true},
		};

		assert_int_equal(gm_write(s->r.g.gm, s->request_gpa, &req, sizeof(req)), 0);
		assert_true(driver_add(&s->d, buffers, 2, false) >= 0);
		virtio_queue_kick(s->r.vdev, VMEM_QUEUE_SIZE);
		sem_wait(&s->r.answered);
		assert_true(driver_get_used(&s->d, &id, &len));
	}
	m.stop = true;
	pthread_join(m.thread, NULL);
	assert_int_equal(m.bad, 0);
	assert_int_equal(stats_of(s).total, 2000);
	rig_done(&s->r);
	free(s);
}

/* ---- machines that move ---- */

static struct pack save(struct rig *from)
{
	struct pack out = {.failed = false};

	virtio_lock(from->vdev);
	virtio_mem_save(from->mem, &out);
	virtio_unlock(from->vdev);
	assert_false(pack_failed(&out));
	return out;
}

static int load(struct rig *to, uint32_t version, const struct pack *state)
{
	struct unpack in = unpack_begin(state->bytes, state->size);
	int ret;

	virtio_lock(to->vdev);
	ret = virtio_mem_load(to->mem, version, &in, NULL);
	virtio_unlock(to->vdev);
	return ret;
}

static void other_bounds(struct virtio_mem_config *config)
{
	takes_requests(config);
	config->device.requested_size = 0;
	config->request_limit = 6 * RIG_BLOCK;
}

static void test_grants_move(void **state)
{
	struct sizes *s = *state;

	for (unsigned int pending = 0; pending < 2; pending++) {
		struct vmem_device_info info;
		struct pack out;
		struct rig to;

		assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
		/* The same size again: only that it was said tells the two apart. */
		if (pending)
			assert_int_equal(virtio_mem_resize(s->r.mem, 4 * RIG_BLOCK, NULL), 0);
		out = save(&s->r);
		rig_init(&to, other_bounds);
		assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), 0);
		virtio_mem_info(to.mem, &info);
		assert_int_equal(info.owner_size, 4 * RIG_BLOCK);
		assert_int_equal(info.requested_size, (pending ? 4 : 8) * RIG_BLOCK);
		assert_int_equal(info.request_limit, 6 * RIG_BLOCK);
		assert_int_equal(virtio_mem_resized(to.mem), !pending);
		virtio_mem_stop(to.mem);
		virtio_mem_cont(to.mem);
		rig_turn(&to);
		vmem_device_info(to.mem->engine, &info);
		assert_int_equal(info.requested_size, (pending ? 4 : 8) * RIG_BLOCK);
		rig_done(&to);
		pack_done(&out);
		rig_turn(&s->r);
	}
}

/* Of an owner's size above what was asked for, of a size that nobody can have asked for. */
static void test_states_that_cannot_be(void **state)
{
	struct sizes *s = *state;
	/* behind address, sizes, node and features */
	const size_t wanted = 8 * 3 + 1 + 2 + 1 + 1, owner = wanted + 24, pending = owner + 8;
	struct pack out = save(&s->r);
	struct rig to;

	rig_init(&to, takes_requests);
	assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), 0);
	bytes_put_le(out.bytes + owner, 8, 5 * RIG_BLOCK);
	assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), -EINVAL);
	bytes_put_le(out.bytes + owner, 8, RIG_BLOCK + 1);
	assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), -EINVAL);
	bytes_put_le(out.bytes + owner, 8, 4 * RIG_BLOCK);
	bytes_put_le(out.bytes + wanted, 8, 5 * RIG_BLOCK);
	assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), -EINVAL);
	bytes_put_le(out.bytes + pending, 1, 1);
	assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), 0);
	bytes_put_le(out.bytes + pending, 1, 2);
	assert_int_equal(load(&to, VIRTIO_MEM_STATE_VERSION_SIZE, &out), -EINVAL);
	rig_done(&to);
	pack_done(&out);
}

/* What a device without them saves is as long as it always was, and loads. */
static void test_the_older_version(void **state)
{
	struct sizes *s = *state;
	struct pack out, with = save(&s->r);
	struct vmem_device_info info;
	struct rig from;

	rig_init(&from, takes_none);
	out = save(&from);
	assert_int_equal(out.size + 9, with.size);
	assert_int_equal(want(s, 8), VMEM_SIZE_RESP_GRANTED);
	assert_int_equal(load(&s->r, VIRTIO_MEM_STATE_VERSION, &out), 0);
	virtio_mem_info(s->r.mem, &info);
	assert_int_equal(info.owner_size, 4 * RIG_BLOCK);
	assert_int_equal(info.requested_size, 4 * RIG_BLOCK);
	assert_int_equal(load(&from, VIRTIO_MEM_STATE_VERSION, &with), -EINVAL);
	rig_done(&from);
	pack_done(&out);
	pack_done(&with);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_names),
		T(test_not_accepted),
		T(test_malformed),
		T(test_told),
		T(test_owner),
		T(test_owner_on_its_way),
		T(test_policy),
		T(test_reset),
		T(test_pace),
		T(test_too_often),
		T(test_patience_is_no_fault),
		T(test_grants_move),
		T(test_states_that_cannot_be),
		T(test_the_older_version),
	};

	return cmocka_run_group_tests_name("size requests", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests for another size: see mem_size.h for the contract. */
#include "vmm/virtio/mem_size.h"

#include <endian.h>
#include <errno.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio.h"

/* ---- names ---- */

const char *virtio_mem_size_answer_name(unsigned int answer)
{
	static const char *const names[VMEM_SIZE_RESP_TYPES] = {
		[VMEM_SIZE_RESP_GRANTED] = "granted", [VMEM_SIZE_RESP_PARTLY] = "partly",
		[VMEM_SIZE_RESP_REFUSED] = "refused", [VMEM_SIZE_RESP_LATER] = "later",
		[VMEM_SIZE_RESP_ERROR] = "error",
	};

	return names[answer];
}

const char *virtio_mem_size_urgency_name(unsigned int urgency)
{
	static const char *const names[VMEM_SIZE_URGENCIES] = {
		[VMEM_SIZE_URGENCY_LOW] = "low",
		[VMEM_SIZE_URGENCY_NORMAL] = "normal",
		[VMEM_SIZE_URGENCY_HIGH] = "high",
		[VMEM_SIZE_URGENCY_CRITICAL] = "critical",
	};

	return names[urgency];
}

const char *virtio_mem_size_reason_name(unsigned int reason)
{
	static const char *const names[VMEM_SIZE_REASONS] = {
		[VMEM_SIZE_REASON_NONE] = "none",
		[VMEM_SIZE_REASON_PRESSURE] = "pressure",
		[VMEM_SIZE_REASON_ALLOCATION] = "allocation",
		[VMEM_SIZE_REASON_OOM] = "oom",
		[VMEM_SIZE_REASON_IDLE] = "idle",
	};

	return names[reason];
}

const char *virtio_mem_size_cause_name(unsigned int cause)
{
	static const char *const names[VMEM_SIZE_CAUSES] = {
		[VMEM_SIZE_CAUSE_NONE] = "none", [VMEM_SIZE_CAUSE_LIMIT] = "limit",
		[VMEM_SIZE_CAUSE_RATE] = "rate", [VMEM_SIZE_CAUSE_FLOOR] = "floor",
		[VMEM_SIZE_CAUSE_HOST] = "host",
	};

	return names[cause];
}

/* ---- figures ---- */

static uint64_t size_get(const _Atomic uint64_t *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

/* The one writer, with the device lock, makes a plain add enough. */
static void size_add(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, size_get(field) + value, memory_order_relaxed);
}

void virtio_mem_size_stats(struct virtio_mem *mem, struct virtio_mem_size_stats *ret)
{
	struct mem_size *s = &mem->size;

	*ret = (struct virtio_mem_size_stats){.on = s->on};
	if (!s->on)
		return;
	/* Before the counters: whoever sees a last one sees it counted. */
	pthread_mutex_lock(&s->last_lock);
	ret->total = s->total;
	ret->last = s->last;
	pthread_mutex_unlock(&s->last_lock);
	for (unsigned int a = 0; a < VIRTIO_MEM_SIZE_ANSWERS; a++)
		for (unsigned int u = 0; u < VMEM_SIZE_URGENCIES; u++)
			for (unsigned int r = 0; r < VMEM_SIZE_REASONS; r++)
				ret->requests[a][u][r] = size_get(&s->requests[a][u][r]);
	ret->errors = size_get(&s->errors);
	ret->broken = size_get(&s->broken);
	ret->granted_bytes = size_get(&s->granted_bytes);
	ret->offered_bytes = size_get(&s->offered_bytes);
}

static void size_note(struct mem_size *s, const struct virtio_mem_size_request *request,
		      uint64_t before)
{
	uint64_t after = request->requested_size;

	if (after > before)
		size_add(&s->granted_bytes, after - before);
	else
		size_add(&s->offered_bytes, before - after);
	size_add(&s->requests[request->answer][request->urgency][request->reason], 1);
	pthread_mutex_lock(&s->last_lock);
	s->total++;
	s->last = *request;
	pthread_mutex_unlock(&s->last_lock);
}

/* ---- requests ---- */

uint64_t mem_size_wanted(void *host, const struct vmem_size_want *want)
{
	struct virtio_mem *mem = host;

	/* A size of the owner that the device's thread is about to come to is held as well. */
	return mem->size.held || mem->wanted != VIRTIO_MEM_NOTHING ? want->requested_size
								   : want->size;
}

/* Copy the request of the chain; NULL, or why there cannot be an answer. */
static const char *size_read(struct virtio_mem *mem, struct vmem_size_req *ret_req)
{
	struct vq *vq = virtio_queue(mem->vdev, VMEM_QUEUE_SIZE);
	const struct vq_chain *chain = mem->size.chain;

	if (chain->readable_bytes < sizeof(*ret_req) ||
	    chain->writable_bytes < sizeof(struct vmem_size_resp))
		return "virtio-mem size request with missing bytes";
	if (vq_chain_read(vq, chain, 0, ret_req, sizeof(*ret_req)))
		return "virtio-mem size request outside of memory";
	if (!virtio_mem_has_room(mem, chain, sizeof(struct vmem_size_resp)))
		return "virtio-mem size answer outside of memory";
	return NULL;
}

/* Whether the driver asks sooner than it was told to, or what makes no sense. */
static bool size_misbehaves(const struct vmem_size_resp *resp)
{
	uint16_t type = le16toh(resp->type);

	return type == VMEM_SIZE_RESP_ERROR ||
	       (type == VMEM_SIZE_RESP_LATER && le16toh(resp->cause) == VMEM_SIZE_CAUSE_RATE);
}

static void size_answer(struct virtio_mem *mem, const struct vmem_size_req *req,
			struct vmem_size_resp *ret_resp)
{
	struct mem_size *s = &mem->size;
	struct vmem_device_info before;
	struct virtio_mem_size_request request;

	vmem_device_info(mem->engine, &before);
	/* Cannot fail: virtio_mem_set_request_policy() checked what the engine checks. */
	vmem_device_set_request_policy(mem->engine, s->request_limit, s->request_rate);
	vmem_device_size_request(mem->engine, req, mem_progress_now_ms(&mem->progress), ret_resp);
	mem_pace_answered(&s->pace, size_misbehaves(ret_resp));
	request = (struct virtio_mem_size_request){
		.wanted_size = le64toh(req->size),
		.min_size = le64toh(req->min_size),
		.requested_size = le64toh(ret_resp->size),
		.urgency = le16toh(req->urgency),
		.reason = le16toh(req->reason),
		.answer = le16toh(ret_resp->type),
		.cause = le16toh(ret_resp->cause),
		.at_ms = mem_progress_now_ms(&mem->progress),
	};
	if (request.answer == VMEM_SIZE_RESP_ERROR)
		size_add(&s->errors, 1);
	else
		size_note(s, &request, before.requested_size);
	if (request.requested_size != before.requested_size)
		virtio_mem_size_changed(mem, before.plugged_size);
}

static void size_handle(struct virtio_mem *mem)
{
	struct mem_size *s = &mem->size;
	struct vq *vq = virtio_queue(mem->vdev, VMEM_QUEUE_SIZE);
	struct vmem_size_req req;
	struct vmem_size_resp resp;
	const char *broken = size_read(mem, &req);

	if (!broken) {
		size_answer(mem, &req, &resp);
		/* Room was there a moment ago, and no block was changed since. */
		if (vq_chain_write(vq, s->chain, 0, &resp, sizeof(resp)))
			broken = "virtio-mem size answer outside of memory";
	}
	if (broken) {
		size_add(&s->broken, 1);
		virtio_set_needs_reset(mem->vdev, broken);
	} else {
		virtio_queue_push(mem->vdev, VMEM_QUEUE_SIZE, s->chain, sizeof(resp));
	}
	virtio_mem_changed(mem);
}

void mem_size_kick(struct virtio_mem *mem)
{
	struct mem_size *s = &mem->size;

	while (!s->pace.waiting && virtio_queue_pop(mem->vdev, VMEM_QUEUE_SIZE, s->chain))
		size_handle(mem);
}

/* On the loop: requests that waited for their pace are taken up. */
static void size_go_on(void *opaque)
{
	struct virtio_mem *mem = opaque;

	virtio_lock(mem->vdev);
	mem_pace_over(&mem->size.pace);
	virtio_unlock(mem->vdev);
	virtio_queue_kick(mem->vdev, VMEM_QUEUE_SIZE);
}

/* ---- life ---- */

void mem_size_prepare(struct virtio_mem *mem)
{
	mem->size.on = mem->config.device.size_requests;
	mem->size.request_limit = mem->config.request_limit;
	mem->size.request_rate = mem->config.request_rate;
	mem->size.pace.fd = -1;
	pthread_mutex_init(&mem->size.last_lock, NULL);
}

int mem_size_init(struct virtio_mem *mem, struct err **err)
{
	struct mem_size *s = &mem->size;

	if (!s->on)
		return 0;
	s->chain = vq_chain_new(virtio_queue(mem->vdev, VMEM_QUEUE_SIZE));
	if (!s->chain)
		return err_set(err, ENOMEM, "out of memory");
	return mem_pace_init(&s->pace, mem->config.loop, size_go_on, mem, err);
}

void mem_size_done(struct virtio_mem *mem)
{
	vq_chain_free(mem->size.chain);
	pthread_mutex_destroy(&mem->size.last_lock);
}

void mem_size_reset(struct virtio_mem *mem)
{
	mem_pace_clear(&mem->size.pace);
}

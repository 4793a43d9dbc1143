/* SPDX-License-Identifier: BSD-3-Clause */
/* Figures about requests: see mem_stats.h for the contract. */
#include "vmm/virtio/mem_stats.h"

#include <time.h>

#include "base/num.h"

/* A refusal in a word: kind, answer, step, error. */
#define REFUSAL_ANSWER_SHIFT 8
#define REFUSAL_STEP_SHIFT   16
#define REFUSAL_ERROR_SHIFT  24

/* Whoever sees a figure sees what was counted before it. */
static uint64_t stats_get(const _Atomic uint64_t *field)
{
	return atomic_load_explicit(field, memory_order_acquire);
}

static void stats_set(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_release);
}

/* The one writer makes a plain add enough. */
static void stats_add(_Atomic uint64_t *field, uint64_t value)
{
	stats_set(field, stats_get(field) + value);
}

enum virtio_mem_kind mem_stats_kind(uint16_t type)
{
	switch (type) {
	case VMEM_REQ_PLUG:
		return VIRTIO_MEM_PLUG;
	case VMEM_REQ_UNPLUG:
		return VIRTIO_MEM_UNPLUG;
	case VMEM_REQ_UNPLUG_ALL:
		return VIRTIO_MEM_UNPLUG_ALL;
	case VMEM_REQ_STATE:
		return VIRTIO_MEM_STATE;
	default:
		return VIRTIO_MEM_OTHER;
	}
}

unsigned int mem_stats_bucket(uint64_t ns)
{
	uint64_t us = ns / 1000 + (ns % 1000 != 0); /* a bound belongs to the bucket below it */
	unsigned int bucket = us > 1 ? 64u - (unsigned int)__builtin_clzll(us - 1) : 0;

	return (unsigned int)num_min(bucket, VIRTIO_MEM_BUCKETS - 1);
}

uint64_t mem_stats_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void mem_stats_answered(struct mem_stats *s, enum virtio_mem_kind kind,
			enum virtio_mem_answer answer, uint64_t ns, uint64_t now_ms,
			uint64_t before, uint64_t after)
{
	stats_add(&s->latency_ns[kind], ns);
	stats_add(&s->latency[kind][mem_stats_bucket(ns)], 1);
	stats_add(&s->answers[kind][answer], 1);
	stats_set(&s->last_ms[kind], now_ms);
	if (after > before)
		stats_add(&s->plugged_bytes, after - before);
	else if (after < before)
		stats_add(&s->unplugged_bytes, before - after);
}

void mem_stats_refused(struct mem_stats *s, enum virtio_mem_kind kind,
		       enum virtio_mem_answer answer, enum virtio_mem_step step, int error,
		       uint64_t now_ms)
{
	stats_set(&s->refusal, (uint64_t)kind | (uint64_t)answer << REFUSAL_ANSWER_SHIFT |
				       (uint64_t)step << REFUSAL_STEP_SHIFT |
				       (uint64_t)error << REFUSAL_ERROR_SHIFT);
	stats_set(&s->refusal_ms, now_ms);
	/* The last one first: whoever sees a count above 0 sees a refusal. */
	stats_add(&s->refusals, 1);
}

void mem_stats_reset(struct mem_stats *s, uint64_t bytes)
{
	stats_add(&s->reset_bytes, bytes);
}

void mem_stats_size_read(struct mem_stats *s)
{
	stats_add(&s->size_reads, 1);
}

void mem_stats_resized(struct mem_stats *s, uint64_t now_ms, uint64_t plugged_size)
{
	for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++)
		for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++)
			stats_set(&s->old_answers[k][a], stats_get(&s->answers[k][a]));
	stats_set(&s->old_size_reads, stats_get(&s->size_reads));
	stats_set(&s->old_refusals, stats_get(&s->refusals));
	stats_set(&s->resize_ms, now_ms);
	stats_set(&s->resize_plugged_size, plugged_size);
}

/* What came since; 0 rather than a wrong number when a new size is noted meanwhile. */
static uint64_t stats_since(uint64_t now, const _Atomic uint64_t *old)
{
	uint64_t then = stats_get(old);

	return now > then ? now - then : 0;
}

static void stats_get_requests(const struct mem_stats *s, unsigned int kind,
			       struct virtio_mem_requests *ret)
{
	for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++) {
		ret->answers[a] = stats_get(&s->answers[kind][a]);
		ret->resize_answers[a] = stats_since(ret->answers[a], &s->old_answers[kind][a]);
	}
	for (unsigned int b = 0; b < VIRTIO_MEM_BUCKETS; b++)
		ret->latency[b] = stats_get(&s->latency[kind][b]);
	ret->latency_ns = stats_get(&s->latency_ns[kind]);
	ret->last_ms = stats_get(&s->last_ms[kind]);
}

void mem_stats_get(const struct mem_stats *s, struct virtio_mem_stats *ret)
{
	uint64_t refusals = stats_get(&s->refusals), word, size_reads = stats_get(&s->size_reads);

	word = stats_get(&s->refusal);
	*ret = (struct virtio_mem_stats){
		.plugged_bytes = stats_get(&s->plugged_bytes),
		.unplugged_bytes = stats_get(&s->unplugged_bytes),
		.reset_bytes = stats_get(&s->reset_bytes),
		.size_reads = size_reads,
		.refusals = refusals,
		.refusal =
			{
				.kind = (enum virtio_mem_kind)(word & 0xff),
				.answer = (enum virtio_mem_answer)(word >> REFUSAL_ANSWER_SHIFT &
								   0xff),
				.step = (enum virtio_mem_step)(word >> REFUSAL_STEP_SHIFT & 0xff),
				.error = (int)(word >> REFUSAL_ERROR_SHIFT),
				.at_ms = stats_get(&s->refusal_ms),
			},
		.resize_ms = stats_get(&s->resize_ms),
		.resize_plugged_size = stats_get(&s->resize_plugged_size),
		.resize_size_reads = stats_since(size_reads, &s->old_size_reads),
		.resize_refusals = stats_since(refusals, &s->old_refusals),
	};
	for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++)
		stats_get_requests(s, k, &ret->requests[k]);
}

const char *virtio_mem_kind_name(enum virtio_mem_kind kind)
{
	switch (kind) {
	case VIRTIO_MEM_PLUG:
		return "plug";
	case VIRTIO_MEM_UNPLUG:
		return "unplug";
	case VIRTIO_MEM_UNPLUG_ALL:
		return "unplug-all";
	case VIRTIO_MEM_STATE:
		return "state";
	default:
		return "other";
	}
}

const char *virtio_mem_answer_name(enum virtio_mem_answer answer)
{
	switch (answer) {
	case VIRTIO_MEM_ACK:
		return "ack";
	case VIRTIO_MEM_NACK:
		return "nack";
	case VIRTIO_MEM_BUSY:
		return "busy";
	case VIRTIO_MEM_ERROR:
		return "error";
	default:
		return "broken";
	}
}

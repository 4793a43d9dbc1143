/* SPDX-License-Identifier: BSD-3-Clause */
/* A small device and a small operating system around one driver core: see rig.h. */
#include "tests/unit/driver/rig.h"

#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static uint64_t unit_chunks(const struct rig *rig)
{
	return rig->info.unit_bytes / rig->info.chunk_bytes;
}

static uint64_t blocks_per_chunk(const struct rig *rig)
{
	return rig->info.chunk_bytes / rig->device.block_size;
}

static unsigned int chunk_of(const struct rig *rig, uint64_t addr)
{
	assert_true(addr >= rig->info.first_unit);
	return (unsigned int)((addr - rig->info.first_unit) / rig->info.chunk_bytes);
}

static void word(struct rig *rig, bool failed, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void word(struct rig *rig, bool failed, const char *format, ...)
{
	size_t at = strlen(rig->words);
	va_list args;

	assert_true(at < sizeof(rig->words) - 64);
	if (at)
		rig->words[at++] = ',', rig->words[at++] = ' ';
	va_start(args, format);
	vsnprintf(rig->words + at, sizeof(rig->words) - at, format, args);
	va_end(args);
	if (failed)
		strcat(rig->words, "!");
}

/* True: the call is to give *ret_result, whatever it would do. */
static bool faulty(struct rig *rig, enum rig_op op, int *ret_result)
{
	struct rig_fault *fault = &rig->fault[op];

	if (!fault->times)
		return false;
	if (fault->after) {
		fault->after--;
		return false;
	}
	fault->times--;
	*ret_result = fault->result;
	return true;
}

/* The device. */

static void config_encode(const struct vmem_config *c, struct vmem_config *ret)
{
	*ret = (struct vmem_config){
		.block_size = htole64(c->block_size),
		.addr = htole64(c->addr),
		.region_size = htole64(c->region_size),
		.usable_region_size = htole64(c->usable_region_size),
		.plugged_size = htole64(c->plugged_size),
		.requested_size = htole64(c->requested_size),
	};
}

static int op_config_read(void *os, struct vmem_config *ret_config)
{
	struct rig *rig = os;
	int result;

	if (faulty(rig, RIG_CONFIG, &result))
		return result;
	config_encode(&rig->device, ret_config);
	return VMEM_DRIVER_OK;
}

static unsigned int count(const bool *set, uint64_t first, uint64_t nr)
{
	unsigned int n = 0;

	for (uint64_t i = first; i < first + nr; i++)
		n += set[i];
	return n;
}

/* 5.15.6 by the letter. */
static uint16_t device_request(struct rig *rig, uint16_t type, uint64_t addr, uint64_t nr,
			       uint16_t *ret_state)
{
	struct vmem_config *c = &rig->device;
	uint64_t first = (addr - c->addr) / c->block_size;
	bool plug = type == VMEM_REQ_PLUG;

	if (type == VMEM_REQ_UNPLUG_ALL) {
		memset(rig->plugged, 0, sizeof(rig->plugged));
		c->plugged_size = 0;
		return VMEM_RESP_ACK;
	}
	if (addr < c->addr || addr % c->block_size || !nr ||
	    addr - c->addr + nr * c->block_size > c->usable_region_size)
		return VMEM_RESP_ERROR;
	if (type == VMEM_REQ_STATE) {
		unsigned int n = count(rig->plugged, first, nr);

		*ret_state = !n        ? VMEM_STATE_UNPLUGGED
			     : n == nr ? VMEM_STATE_PLUGGED
				       : VMEM_STATE_MIXED;
		return VMEM_RESP_ACK;
	}
	if (count(rig->plugged, first, nr) != (plug ? 0 : nr))
		return VMEM_RESP_ERROR;
	if (plug && c->plugged_size + nr * c->block_size > c->requested_size)
		return VMEM_RESP_NACK;
	for (uint64_t b = first; b < first + nr; b++)
		rig->plugged[b] = plug;
	c->plugged_size += (plug ? nr : -nr) * c->block_size;
	return VMEM_RESP_ACK;
}

/* I2: what is to be unplugged is used by nobody. */
static void check_unused(struct rig *rig, uint64_t addr, uint64_t nr)
{
	for (uint64_t b = 0; b < nr; b++) {
		unsigned int chunk = chunk_of(rig, addr + b * rig->device.block_size);

		assert_false(rig->has[chunk]);
		assert_true(rig->taken[chunk] || rig->unit[chunk / unit_chunks(rig)] == RIG_ABSENT);
	}
}

static int device_answer(struct rig *rig, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	static const char *const names[] = {"plug", "unplug", "unplug-all", "state"};
	uint16_t type = le16toh(req->type), state = 0, answer;
	uint64_t addr = le64toh(req->addr), nr = le16toh(req->nb_blocks);
	int result = 0;
	bool forced;

	assert_true(type < VMEM_REQ_TYPES);
	forced = faulty(rig, (enum rig_op)(RIG_PLUG + type), &result);
	if (type == VMEM_REQ_UNPLUG)
		check_unused(rig, addr, nr);
	if (type == VMEM_REQ_UNPLUG_ALL)
		word(rig, forced, "%s", names[type]);
	else if (nr % blocks_per_chunk(rig) || addr % rig->info.chunk_bytes)
		word(rig, forced, "%s %u.%u+%u", names[type], chunk_of(rig, addr),
		     (unsigned int)(addr / rig->device.block_size % blocks_per_chunk(rig)),
		     (unsigned int)nr);
	else
		word(rig, forced, "%s %u+%u", names[type], chunk_of(rig, addr),
		     (unsigned int)(nr / blocks_per_chunk(rig)));
	if (forced && result < 0) {
		if (rig->lost_but_done)
			device_request(rig, type, addr, nr, &state);
		return VMEM_DRIVER_GONE;
	}
	answer = forced ? (uint16_t)result : device_request(rig, type, addr, nr, &state);
	*ret_resp = (struct vmem_resp){
		.type = htole16(answer),
		.state_type = htole16(state),
	};
	return VMEM_DRIVER_OK;
}

static int op_submit(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	struct rig *rig = os;

	assert_false(rig->waiting);
	if (!rig->asynchronous)
		return device_answer(rig, req, ret_resp);
	rig->req = *req;
	rig->waiting = true;
	return VMEM_DRIVER_PENDING;
}

static int size_answer(struct rig *rig, const struct vmem_size_req *req,
		       struct vmem_size_resp *ret_resp)
{
	int result = 0;

	rig->last_size_req = (struct vmem_size_req){
		.type = le16toh(req->type),
		.urgency = le16toh(req->urgency),
		.reason = le16toh(req->reason),
		.size = le64toh(req->size),
		.min_size = le64toh(req->min_size),
	};
	word(rig, false, "size %u",
	     (unsigned int)(rig->last_size_req.size / rig->device.block_size));
	if (faulty(rig, RIG_SIZE, &result))
		return result;
	if (rig->size_resp.type == VMEM_SIZE_RESP_GRANTED)
		rig->device.requested_size = rig->last_size_req.size;
	*ret_resp = (struct vmem_size_resp){
		.type = htole16(rig->size_resp.type),
		.cause = htole16(rig->size_resp.cause),
		.retry_ms = htole32(rig->size_resp.retry_ms),
		.size = htole64(rig->device.requested_size),
	};
	return VMEM_DRIVER_OK;
}

static int op_submit_size(void *os, const struct vmem_size_req *req,
			  struct vmem_size_resp *ret_resp)
{
	struct rig *rig = os;

	assert_false(rig->size_waiting);
	if (!rig->asynchronous)
		return size_answer(rig, req, ret_resp);
	rig->size_req = *req;
	rig->size_waiting = true;
	return VMEM_DRIVER_PENDING;
}

void rig_answer(struct rig *rig)
{
	struct vmem_size_resp size_resp;
	struct vmem_resp resp;

	if (rig->waiting) {
		int r = device_answer(rig, &rig->req, &resp);

		rig->waiting = false;
		vmem_driver_answered(rig->drv, r == VMEM_DRIVER_OK ? &resp : NULL);
	}
	if (rig->size_waiting) {
		int r = size_answer(rig, &rig->size_req, &size_resp);

		rig->size_waiting = false;
		vmem_driver_size_answered(rig->drv, r == VMEM_DRIVER_OK ? &size_resp : NULL);
	}
	rig_check(rig);
}

/* The operating system. */

static void unit_run(struct rig *rig, uint64_t addr, uint64_t size, unsigned int *ret_first,
		     unsigned int *ret_nr)
{
	assert_true(size && addr >= rig->info.first_unit);
	assert_int_equal((addr - rig->info.first_unit) % rig->info.unit_bytes, 0);
	assert_int_equal(size % rig->info.unit_bytes, 0);
	*ret_first = (unsigned int)((addr - rig->info.first_unit) / rig->info.unit_bytes);
	*ret_nr = (unsigned int)(size / rig->info.unit_bytes);
	assert_true(*ret_first + *ret_nr <= rig->info.nr_units);
}

void rig_online(struct rig *rig, unsigned int unit, unsigned int nr)
{
	for (unsigned int u = unit; u < unit + nr; u++) {
		uint64_t addr = rig->info.first_unit + u * rig->info.unit_bytes;

		rig->unit[u] = RIG_ONLINE;
		vmem_driver_onlined(rig->drv, addr, rig->info.unit_bytes, rig->use[u]);
		for (uint64_t c = u * unit_chunks(rig); c < (u + 1) * unit_chunks(rig); c++) {
			rig->taken[c] = false;
			rig->has[c] = vmem_driver_usable(
				rig->drv, rig->info.first_unit + c * rig->info.chunk_bytes,
				rig->info.chunk_bytes);
			rig->content[c] = RIG_FREE;
		}
	}
}

void rig_offline(struct rig *rig, unsigned int unit, unsigned int nr)
{
	for (unsigned int u = unit; u < unit + nr; u++) {
		rig->unit[u] = RIG_OFFLINE;
		for (uint64_t c = u * unit_chunks(rig); c < (u + 1) * unit_chunks(rig); c++)
			rig->has[c] = false;
		vmem_driver_offlined(rig->drv, rig->info.first_unit + u * rig->info.unit_bytes,
				     rig->info.unit_bytes);
	}
}

static int op_add(void *os, uint64_t addr, uint64_t size)
{
	struct rig *rig = os;
	unsigned int first, nr, parts;
	int result = VMEM_DRIVER_OK;
	bool failed;

	unit_run(rig, addr, size, &first, &nr);
	failed = faulty(rig, RIG_ADD, &result);
	parts = !failed ? nr : rig->add_parts < nr ? rig->add_parts : nr - 1;
	word(rig, failed, "add %u+%u", first, nr);
	for (unsigned int u = first; u < first + nr; u++) {
		uint64_t unit_addr = addr + (u - first) * rig->info.unit_bytes;
		bool some = false;

		assert_int_equal(rig->unit[u], RIG_ABSENT);
		for (uint64_t at = 0; at < rig->info.unit_bytes; at += rig->info.chunk_bytes)
			some |= vmem_driver_plugged(rig->drv, unit_addr + at,
						    rig->info.chunk_bytes);
		assert_true(some);
		if (u - first >= parts)
			continue;
		rig->unit[u] = RIG_OFFLINE;
		if (!rig->stay_offline)
			rig_online(rig, u, 1);
		else if (failed)
			rig_offline(rig, u, 1);
	}
	return result;
}

static int op_remove(void *os, uint64_t addr, uint64_t size)
{
	struct rig *rig = os;
	unsigned int first, nr;
	int result = VMEM_DRIVER_OK;
	bool failed;

	unit_run(rig, addr, size, &first, &nr);
	failed = faulty(rig, RIG_REMOVE, &result);
	for (uint64_t c = first * unit_chunks(rig); c < (first + nr) * unit_chunks(rig); c++)
		if (!failed && rig->has[c] && rig->content[c] == RIG_PINNED) {
			failed = true;
			result = VMEM_DRIVER_BUSY;
		}
	word(rig, failed, "remove %u+%u", first, nr);
	for (unsigned int u = first; u < first + nr; u++) {
		assert_true(rig->unit[u] != RIG_ABSENT);
		if (failed)
			continue;
		if (rig->unit[u] == RIG_ONLINE)
			rig_offline(rig, u, 1);
		rig->unit[u] = RIG_ABSENT;
	}
	return result;
}

static int op_take(void *os, uint64_t addr, uint64_t size)
{
	struct rig *rig = os;
	unsigned int first = chunk_of(rig, addr);
	unsigned int nr = (unsigned int)(size / rig->info.chunk_bytes);
	int result = VMEM_DRIVER_OK;
	bool failed = faulty(rig, RIG_TAKE, &result);

	assert_true(nr && addr % rig->info.chunk_bytes == 0 && size % rig->info.chunk_bytes == 0);
	assert_int_equal(first / unit_chunks(rig), (first + nr - 1) / unit_chunks(rig));
	for (unsigned int c = first; c < first + nr; c++) {
		assert_true(rig->has[c]);
		if (!failed && c % unit_chunks(rig) < rig->head) {
			failed = true;
			result = VMEM_DRIVER_NEVER;
		} else if (!failed && rig->content[c] == RIG_PINNED) {
			failed = true;
			result = VMEM_DRIVER_BUSY;
		}
	}
	word(rig, failed, "take %u+%u", first, nr);
	for (unsigned int c = first; !failed && c < first + nr; c++) {
		rig->has[c] = false;
		rig->taken[c] = true;
	}
	return result;
}

static void op_give(void *os, uint64_t addr, uint64_t size)
{
	struct rig *rig = os;
	unsigned int first = chunk_of(rig, addr);
	unsigned int nr = (unsigned int)(size / rig->info.chunk_bytes);

	assert_true(nr);
	assert_int_equal(first / unit_chunks(rig), (first + nr - 1) / unit_chunks(rig));
	assert_int_equal(rig->unit[first / unit_chunks(rig)], RIG_ONLINE);
	word(rig, false, "give %u+%u", first, nr);
	for (unsigned int c = first; c < first + nr; c++) {
		assert_false(rig->has[c]);
		rig->has[c] = true;
		rig->taken[c] = false;
		rig->content[c] = RIG_FREE;
	}
}

static uint64_t op_used(void *os, uint64_t addr, uint64_t size)
{
	struct rig *rig = os;
	unsigned int first, nr;
	uint64_t used = 0;

	unit_run(rig, addr, size, &first, &nr);
	assert_int_equal(nr, 1);
	assert_int_equal(rig->unit[first], RIG_ONLINE);
	rig->samples++;
	for (uint64_t c = first * unit_chunks(rig); c < (first + 1) * unit_chunks(rig); c++)
		used += rig->has[c] && rig->content[c] != RIG_FREE;
	return used * rig->info.chunk_bytes;
}

static void op_note(void *os, const struct vmem_driver_note *note)
{
	struct rig *rig = os;

	assert_true(rig->nr_notes < RIG_NOTES_MAX);
	rig->notes[rig->nr_notes++] = *note;
}

/* Checks. */

unsigned int rig_plugged(const struct rig *rig)
{
	return (unsigned int)(rig->device.plugged_size / rig->info.chunk_bytes);
}

unsigned int rig_noted(const struct rig *rig, enum vmem_driver_note_kind kind)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < rig->nr_notes; i++)
		n += rig->notes[i].kind == kind;
	return n;
}

enum vmem_driver_status rig_status(struct rig *rig)
{
	vmem_driver_info(rig->drv, &rig->info);
	return rig->info.status;
}

/* I1 and I2 for every chunk, and the sums. */
void rig_check(struct rig *rig)
{
	uint64_t online = 0, offline = 0, all = 0, chunk = rig->info.chunk_bytes;
	enum vmem_driver_status status = rig_status(rig);
	const struct vmem_driver_info *info = &rig->info;

	for (uint64_t c = 0; c < info->nr_units * unit_chunks(rig); c++) {
		uint64_t addr = info->first_unit + c * chunk;
		bool usable = vmem_driver_usable(rig->drv, addr, chunk);
		bool known = vmem_driver_plugged(rig->drv, addr, chunk);
		uint64_t block = (addr - rig->device.addr) / rig->device.block_size;
		uint64_t there = count(rig->plugged, block, blocks_per_chunk(rig));
		enum rig_unit unit = rig->unit[c / unit_chunks(rig)];

		assert_int_equal(rig->has[c], unit == RIG_ONLINE && usable);
		if (usable)
			assert_true(known);
		if (rig->has[c])
			assert_int_equal(there, blocks_per_chunk(rig));
		if (!rig->waiting && !rig->disagrees && status != VMEM_DRIVER_STARTING &&
		    status != VMEM_DRIVER_ENDED)
			assert_true(known ? there : there != blocks_per_chunk(rig));
		all += known ? chunk : 0;
		online += usable && unit == RIG_ONLINE ? chunk : 0;
		offline += usable && unit == RIG_OFFLINE ? chunk : 0;
	}
	assert_int_equal(info->plugged_size, all);
	assert_int_equal(info->online_size, online);
	assert_int_equal(info->offline_size, offline);
	assert_int_equal(info->held_size, all - online - offline);
}

uint64_t rig_step(struct rig *rig)
{
	uint64_t samples = rig->samples;
	uint64_t pause = vmem_driver_run(rig->drv, rig->now_ms);

	if (rig->samples - samples > rig->samples_step_max)
		rig->samples_step_max = rig->samples - samples;
	rig_check(rig);
	return pause;
}

uint64_t rig_run(struct rig *rig)
{
	for (unsigned int i = 0; i < RIG_FOREVER; i++) {
		uint64_t pause = rig_step(rig);

		if (rig->waiting || rig->size_waiting) {
			rig_answer(rig);
			continue;
		}
		if (pause)
			return pause == VMEM_DRIVER_IDLE ? 0 : pause;
	}
	fail_msg("the driver never rests: ...%s", rig->words + strlen(rig->words) / 10 * 9);
	return 0;
}

void rig_settle(struct rig *rig)
{
	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t pause = rig_run(rig);

		if (!pause)
			return;
		rig->now_ms += pause;
	}
	fail_msg("the driver keeps trying: %s", rig->words);
}

void rig_request(struct rig *rig, unsigned int chunks)
{
	rig->device.requested_size = chunks * rig->info.chunk_bytes;
	vmem_driver_config_changed(rig->drv);
}

void rig_fault(struct rig *rig, enum rig_op op, unsigned int after, unsigned int times, int result)
{
	rig->fault[op] = (struct rig_fault){.after = after, .times = times, .result = result};
}

void rig_expect(struct rig *rig, const char *expected)
{
	assert_string_equal(rig->words, expected);
	rig_forget(rig);
}

void rig_forget(struct rig *rig)
{
	rig->words[0] = 0;
}

void rig_init(struct rig *rig, unsigned int chunks, unsigned int chunks_per_unit)
{
	memset(rig, 0, sizeof(*rig));
	rig->ops = (struct vmem_driver_ops){
		.config_read = op_config_read,
		.submit = op_submit,
		.submit_size = op_submit_size,
		.add = op_add,
		.remove = op_remove,
		.take = op_take,
		.give = op_give,
		.used = op_used,
		.note = op_note,
	};
	rig->config = (struct vmem_driver_config){
		.unit_bytes = chunks_per_unit * RIG_BLOCK,
		.run_max_bytes = 4 * chunks_per_unit * RIG_BLOCK,
		.addr_max = UINT64_MAX,
	};
	rig->device = (struct vmem_config){
		.block_size = RIG_BLOCK,
		.addr = RIG_ADDR,
		.region_size = chunks * RIG_BLOCK,
		.usable_region_size = chunks * RIG_BLOCK,
	};
}

void rig_start(struct rig *rig)
{
	struct vmem_config wire;
	size_t bytes;

	config_encode(&rig->device, &wire);
	bytes = vmem_driver_arena_bytes(&rig->config, &wire);
	assert_true(bytes);
	free(rig->arena);
	rig->arena = aligned_alloc(16, bytes);
	assert_non_null(rig->arena);
	memset(rig->arena, 0xa5, bytes);
	assert_int_equal(
		vmem_driver_init(rig->arena, bytes, &rig->config, &rig->ops, rig, &rig->drv),
		VMEM_DRIVER_OK);
	vmem_driver_info(rig->drv, &rig->info);
	if (!rig->config.unit_bytes)
		rig->unit[0] = RIG_ONLINE;
}

void rig_done(struct rig *rig)
{
	free(rig->arena);
}

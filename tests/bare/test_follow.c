/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmem-follow: a tiny driver that keeps plugged_size at requested_size, in blocks from the start of
 * each region, woken by configuration changes; and takes orders from the console.
 *
 *	keep=SIZE	never give back below this (a guest that needs its memory)
 *	most=SIZE	never take more than this
 *	step=SIZE	change no more than this at a time, as a driver that works in sections does
 *	restart=1	leave alone what is plugged already at the start
 *
 * It prints, for device D, whenever they change:
 *	follow D requested=BYTES
 *	follow D plugged=BYTES
 * and "follow: ready" once all devices are as they were asked to be. Orders, one a line:
 *	touch D		write to every page that is plugged: "touched D pages=N"
 *	verify D	read it back: "verified D wrong=N"
 *	keep D SIZE, most D SIZE
 *			change the limits: "limits D keep=BYTES most=BYTES"
 *	deaf D, hear D	not even look at what the device asks for; and look again: "deaf D", "hears D"
 *	leave D, return D
 *			reset the device, as a driver that goes; and drive it again: "left D",
 *			"returned D"
 *	quit		end the test
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/vmem.h"
#include "tests.h"

#define LINES_VECTOR 0x28u

struct follow {
	struct vmem *vmem;
	uint64_t keep, most, step;
	uint64_t plugged; /* what this driver did, compared with the device's own figure */
	uint64_t seen_requested;
	uint64_t touched; /* bytes from the region's start */
	bool deaf;
};

static struct follow follows[VMEM_MAX];
static struct vmem devices[VMEM_MAX];

static uint64_t follow_goal(const struct follow *f)
{
	uint64_t goal = vmem_requested(f->vmem);
	uint64_t kept = f->keep < f->plugged ? f->keep : f->plugged;

	if (goal > f->most)
		goal = f->most;
	if (goal < kept)
		goal = kept;
	if (goal > f->plugged && goal - f->plugged > f->step)
		goal = f->plugged + f->step;
	else if (goal < f->plugged && f->plugged - goal > f->step)
		goal = f->plugged - f->step;
	return goal & ~(f->vmem->block_size - 1);
}

/* Go towards the goal until there or refused. True when plugged_size changed. */
static bool follow_adjust(struct follow *f)
{
	struct vmem *v = f->vmem;
	uint64_t before = f->plugged, goal = follow_goal(f);
	uint16_t type = VMEM_RESP_ACK;

	if (goal > f->plugged) {
		type = vmem_plug_bytes(v, f->plugged, goal - f->plugged);
		mem_map(v->addr + f->plugged, goal - f->plugged);
	} else if (goal < f->plugged) {
		type = vmem_unplug_bytes(v, goal, f->plugged - goal);
		if (f->touched > goal)
			f->touched = goal;
	}
	f->plugged = vmem_plugged(v);
	if (type == VMEM_RESP_ERROR || type == VMEM_NO_RESP)
		check(false, "follow", "answer %u on the way from 0x%lx to 0x%lx", type, before,
		      goal);
	return f->plugged != before;
}

static bool follow_turn(unsigned int count)
{
	bool changed = false;

	for (unsigned int i = 0; i < count; i++) {
		struct follow *f = &follows[i];
		uint64_t requested;

		if (f->deaf)
			continue;
		requested = vmem_requested(f->vmem);
		if (requested != f->seen_requested) {
			f->seen_requested = requested;
			console_printf("follow %u requested=%lu\n", i, requested);
			changed = true;
		}
		if (follow_adjust(f)) {
			console_printf("follow %u plugged=%lu\n", i, f->plugged);
			changed = true;
		}
	}
	return changed;
}

static void follow_touch(struct follow *f, unsigned int index)
{
	uint64_t pages = f->plugged / MEM_PAGE_BYTES;

	for (uint64_t gpa = f->vmem->addr; gpa < f->vmem->addr + f->plugged; gpa += MEM_PAGE_BYTES)
		cpu_store64(gpa, gpa ^ 0x5a5a5a5a5a5a5a5aull);
	f->touched = f->plugged;
	console_printf("touched %u pages=%lu\n", index, pages);
}

static void follow_verify(const struct follow *f, unsigned int index)
{
	uint64_t wrong = 0;

	for (uint64_t o = 0; o < f->touched; o += MEM_PAGE_BYTES)
		wrong += cpu_load64(f->vmem->addr + o) !=
			 ((f->vmem->addr + o) ^ 0x5a5a5a5a5a5a5a5aull);
	for (uint64_t o = f->touched; o < f->plugged; o += MEM_PAGE_BYTES)
		wrong += cpu_load64(f->vmem->addr + o) != 0;
	console_printf("verified %u wrong=%lu\n", index, wrong);
}

/* Orders about whether there is a driver, and whether it listens. */
static void follow_attend(struct follow *f, const char *word, unsigned int index)
{
	if (text_has_prefix(word, "deaf ")) {
		f->deaf = true;
		console_printf("deaf %u\n", index);
	} else if (text_has_prefix(word, "hear ")) {
		f->deaf = false;
		console_printf("hears %u\n", index);
	} else if (text_has_prefix(word, "leave ")) {
		f->deaf = true;
		virtio_reset(&f->vmem->virtio);
		console_printf("left %u\n", index);
	} else if (text_has_prefix(word, "return ")) {
		f->deaf = false;
		check(vmem_start(f->vmem), "follow-return", "the device does not start again");
		console_printf("returned %u\n", index);
	}
}

/* False when the test is to end. */
static bool follow_order(const char *line, unsigned int count)
{
	const char *word = line;
	struct follow *f;
	uint64_t size = 0;
	unsigned int index;

	if (strcmp(line, "quit") == 0)
		return false;
	while (*line != '\0' && *line != ' ')
		line++;
	index = *line == ' ' ? (unsigned int)(line[1] - '0') : VMEM_MAX;
	if (index >= count || (line[2] != '\0' && !text_number(line + 3, &size))) {
		console_printf("order not understood: %s\n", word);
		return true;
	}
	f = &follows[index];
	if (text_has_prefix(word, "touch "))
		follow_touch(f, index);
	else if (text_has_prefix(word, "verify "))
		follow_verify(f, index);
	else if (text_has_prefix(word, "keep "))
		f->keep = size;
	else if (text_has_prefix(word, "most "))
		f->most = size;
	else
		follow_attend(f, word, index);
	if (text_has_prefix(word, "keep ") || text_has_prefix(word, "most "))
		console_printf("limits %u keep=%lu most=%lu\n", index, f->keep, f->most);
	return true;
}

static void follow_init(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct follow *f = &follows[i];

		f->vmem = &devices[i];
		f->keep = arg_number("keep", 0);
		f->most = arg_number("most", UINT64_MAX);
		f->step = arg_number("step", UINT64_MAX);
		f->seen_requested = UINT64_MAX;
		if (arg_number("restart", 0) == 0 && vmem_plugged(f->vmem) != 0)
			check_equal(vmem_unplug_all(f->vmem), VMEM_RESP_ACK, "follow-clean");
		f->plugged = vmem_plugged(f->vmem);
		mem_map(f->vmem->addr, f->plugged);
	}
}

static uint64_t follow_events(unsigned int count)
{
	uint64_t events = 0;

	for (unsigned int i = 0; i < count; i++)
		events += devices[i].virtio.config_interrupts;
	return events;
}

void test_vmem_follow(void)
{
	unsigned int count = vmem_open_all(devices, VMEM_MAX);
	char line[LINES_MAX];
	uint64_t seen;

	if (!check_equal(count, arg_number("devices", 1), "follow-devices"))
		return;
	lines_init(LINES_VECTOR);
	follow_init(count);
	while (follow_turn(count))
		continue;
	console_printf("follow: ready\n");
	seen = follow_events(count);
	for (;;) {
		/*
		 * The tick that bounds waits also ends the sleep, but it is not looked at: a change
		 * that comes without its interrupt stays unseen.
		 */
		cpu_interrupts_off();
		if (lines_get(line)) {
			if (!follow_order(line, count))
				return;
		} else if (devices[0].virtio.irq != VIRTIO_POLL && seen == follow_events(count)) {
			cpu_sleep();
			continue;
		}
		seen = follow_events(count);
		while (follow_turn(count))
			continue;
	}
}

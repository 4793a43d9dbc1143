/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmem-follow: the driver keeps plugged_size at requested_size, woken by configuration changes; and the
 * guest takes orders from the console.
 *
 *	keep=SIZE	never give back below this (a guest that needs its memory)
 *	most=SIZE	never take more than this
 *	step=SIZE	change no more than this at a time, as a driver that works in sections does
 *	restart=1	leave alone what is plugged already at the start
 *	retry=MS	how long the driver waits before it tries again what was refused (300000)
 *	button=1	the power button ends the test: "follow: button"
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
#include "lib/port.h"
#include "lib/power.h"
#include "lib/text.h"
#include "tests.h"

#define LINES_VECTOR  0x28u
#define BUTTON_VECTOR 0x29u

struct follow {
	struct port port;
	uint64_t plugged; /* as told, compared with the device's own figure */
	uint64_t seen_requested;
	uint64_t *has, *touched; /* a bit a block */
	bool deaf;
};

static struct follow follows[VMEM_MAX];
static struct vmem devices[VMEM_MAX];

/* ---- blocks ---- */

static uint64_t follow_block_size(const struct follow *f)
{
	return f->port.vmem->block_size;
}

static void follow_mark(const struct follow *f, uint64_t *map, uint64_t addr, uint64_t size,
			bool set)
{
	uint64_t block = (addr - f->port.vmem->addr) / follow_block_size(f);
	uint64_t end = block + size / follow_block_size(f);

	while (block < end) {
		bool word = block % 64 == 0 && end - block >= 64;
		uint64_t mask = word ? ~0ull : 1ull << block % 64;

		map[block / 64] = set ? map[block / 64] | mask : map[block / 64] & ~mask;
		block += word ? 64 : 1;
	}
}

/* A block that was plugged is empty. */
static void follow_answered(void *arg, const struct vmem_req *req, uint16_t answer)
{
	struct follow *f = arg;

	if (req->type == VMEM_REQ_PLUG && answer == VMEM_RESP_ACK)
		follow_mark(f, f->touched, req->addr, req->nb_blocks * follow_block_size(f), false);
}

static void follow_came(void *arg, uint64_t addr, uint64_t size)
{
	struct follow *f = arg;

	follow_mark(f, f->has, addr, size, true);
}

static void follow_goes(void *arg, uint64_t addr, uint64_t size)
{
	struct follow *f = arg;

	follow_mark(f, f->has, addr, size, false);
}

static const struct port_events follow_events_fns = {
	.answered = follow_answered, .came = follow_came, .goes = follow_goes};

/* The next block from @block on that it has; false without. */
static bool follow_next(const struct follow *f, uint64_t *block)
{
	uint64_t blocks = f->port.vmem->region_size / follow_block_size(f);

	while (*block < blocks && (f->has[*block / 64] >> *block % 64 & 1) == 0)
		*block += f->has[*block / 64] == 0 ? 64 - *block % 64 : 1;
	return *block < blocks;
}

static void follow_touch(struct follow *f, unsigned int index)
{
	uint64_t pages = 0;

	for (uint64_t block = 0; follow_next(f, &block); block++) {
		uint64_t gpa = f->port.vmem->addr + block * follow_block_size(f);

		f->touched[block / 64] |= 1ull << block % 64;
		pages += follow_block_size(f) / MEM_PAGE_BYTES;
		for (uint64_t end = gpa + follow_block_size(f); gpa < end; gpa += MEM_PAGE_BYTES)
			cpu_store64(gpa, gpa ^ 0x5a5a5a5a5a5a5a5aull);
	}
	console_printf("touched %u pages=%lu\n", index, pages);
}

static void follow_verify(const struct follow *f, unsigned int index)
{
	uint64_t wrong = 0;

	for (uint64_t block = 0; follow_next(f, &block); block++) {
		uint64_t gpa = f->port.vmem->addr + block * follow_block_size(f);
		uint64_t mask = (f->touched[block / 64] >> block % 64 & 1) != 0 ? ~0ull : 0;

		for (uint64_t end = gpa + follow_block_size(f); gpa < end; gpa += MEM_PAGE_BYTES)
			wrong += cpu_load64(gpa) != ((gpa ^ 0x5a5a5a5a5a5a5a5aull) & mask);
	}
	console_printf("verified %u wrong=%lu\n", index, wrong);
}

/* ---- following ---- */

/* Tell what changed once the driver rests; true when it does, and has nothing more to do. */
static bool follow_tell(struct follow *f, unsigned int index)
{
	uint64_t plugged;

	if (f->port.requested != f->seen_requested) {
		f->seen_requested = f->port.requested;
		console_printf("follow %u requested=%lu\n", index, f->seen_requested);
	}
	if (!port_rests(&f->port))
		return false;
	plugged = port_plugged(&f->port);
	if (plugged != f->plugged) {
		f->plugged = plugged;
		if (plugged != vmem_plugged(f->port.vmem))
			check(false, "follow", "the driver and the device disagree: 0x%lx, 0x%lx",
			      plugged, vmem_plugged(f->port.vmem));
		console_printf("follow %u plugged=%lu\n", index, plugged);
	}
	if (port_more(&f->port))
		port_limits_changed(&f->port);
	return !port_due(&f->port);
}

/* What is to be done now; true when all drivers rest. */
static bool follow_turn(unsigned int count)
{
	bool rest = true;

	for (unsigned int i = 0; i < count; i++) {
		struct follow *f = &follows[i];

		if (f->deaf)
			continue;
		if (port_due(&f->port))
			port_work(&f->port);
		rest = follow_tell(f, i) && rest;
	}
	return rest;
}

static bool follow_due(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (!follows[i].deaf && port_due(&follows[i].port))
			return true;
	return false;
}

/* What the host sees already, the driver is to have seen, too. */
static void follow_settle(unsigned int count)
{
	uint64_t start = cpu_ticks();

	while (!follow_turn(count) && cpu_ticks() - start < CPU_PATIENCE)
		if (!follow_due(count))
			virtio_idle(&devices[0].virtio);
}

/* ---- orders ---- */

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
		virtio_reset(&f->port.vmem->virtio);
		console_printf("left %u\n", index);
	} else if (text_has_prefix(word, "return ")) {
		f->deaf = false;
		check(vmem_start(f->port.vmem), "follow-return", "the device does not start again");
		port_restarted(&f->port);
		console_printf("returned %u\n", index);
	}
}

static void follow_limit(struct follow *f, const char *word, uint64_t size, unsigned int index)
{
	if (text_has_prefix(word, "keep "))
		f->port.keep = size;
	else
		f->port.most = size;
	port_limits_changed(&f->port);
	console_printf("limits %u keep=%lu most=%lu\n", index, f->port.keep, f->port.most);
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
	if (text_has_prefix(word, "touch ") || text_has_prefix(word, "verify "))
		follow_settle(count);
	if (text_has_prefix(word, "touch "))
		follow_touch(f, index);
	else if (text_has_prefix(word, "verify "))
		follow_verify(f, index);
	else if (text_has_prefix(word, "keep ") || text_has_prefix(word, "most "))
		follow_limit(f, word, size, index);
	else
		follow_attend(f, word, index);
	return true;
}

/* ---- the test ---- */

static bool follow_init(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct follow *f = &follows[i];
		uint64_t blocks = devices[i].region_size / devices[i].block_size;
		struct vmem_bare_config config;

		f->port = (struct port){
			.vmem = &devices[i],
			.events = &follow_events_fns,
			.arg = f,
			.keep = arg_number("keep", 0),
			.most = arg_number("most", UINT64_MAX),
			.step = arg_number("step", UINT64_MAX),
		};
		f->seen_requested = UINT64_MAX;
		f->has = mem_pages(blocks / 8 / MEM_PAGE_BYTES + 1);
		f->touched = mem_pages(blocks / 8 / MEM_PAGE_BYTES + 1);
		port_config_init(&config, &devices[i]);
		config.page_bytes = devices[i].block_size;
		config.resume = arg_number("restart", 0) != 0;
		if (!port_init(&f->port, &config))
			return false;
	}
	return true;
}

void test_vmem_follow(void)
{
	unsigned int count = vmem_open_all(devices, VMEM_MAX);
	bool ready = false, rest, button = arg_number("button", 0) != 0;
	char line[LINES_MAX];

	if (!check_equal(count, arg_number("devices", 1), "follow-devices") || !follow_init(count))
		return;
	lines_init(LINES_VECTOR);
	if (button)
		power_button_init(BUTTON_VECTOR);
	for (;;) {
		/*
		 * The tick that bounds waits also ends the sleep, but it is not looked at: a change
		 * that comes without its interrupt stays unseen.
		 */
		cpu_interrupts_on();
		rest = follow_turn(count);
		cpu_interrupts_off();
		if (rest && !ready) {
			ready = true;
			console_printf("follow: ready\n");
		}
		if (button && power_button_pressed(BUTTON_VECTOR)) {
			console_printf("follow: button\n");
			return;
		}
		if (lines_get(line)) {
			if (!follow_order(line, count))
				return;
		} else if (!follow_due(count)) {
			cpu_sleep();
		}
	}
}

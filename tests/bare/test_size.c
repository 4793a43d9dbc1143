/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmem-size: raw size requests (docs/virtio-mem.md) on the second queue of the first memory device,
 * and requests on its first one, as orders on the console say. Numbers may be written as text_number()
 * takes them. Each order is answered by one line:
 *
 *	start FEATURE	reset the device, and start it with the feature (1) or without (0):
 *			START ok=0|1 offered=0|1 size=N	(of queue 1, as the device says)
 *	ask TYPE URGENCY REASON SIZE MIN
 *			SIZE type=N cause=N retry=N size=N len=N
 *	show		SHOW requested=N usable=N plugged=N interrupts=N	(of the configuration)
 *	plug OFFSET SIZE, unplug OFFSET SIZE, unplug-all
 *			ANSWER N
 *	both OFFSET SIZE ASK
 *			a plug request and one for another size at once: BOTH N type=N size=N
 *	chain READABLE WRITABLE GPA
 *			a chain of these sizes on queue 1, its answer at GPA (0: in memory that is
 *			there): CHAIN status=N
 *	enable		try to use queue 1 though it may not be there: ENABLE size=N enabled=N
 *	flood TYPE SIZE	ask on and on, as fast as answers come, until the next order, which is taken
 *			up after FLOOD answers=N; it has to be start, for some requests are left
 *	reset		reset the machine
 *	quit
 */
#include <stddef.h>

#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/mem.h"
#include "lib/power.h"
#include "lib/text.h"
#include "lib/vmem.h"
#include "tests.h"

#define LINES_VECTOR 0x28u
#define WORDS_MAX    6u
#define FEATURE      (1ull << VMEM_F_SIZE_REQUEST)
#define QUEUE_SIZE   16u

static struct vmem device;
static struct vmem_size_req *request;
static struct vmem_size_resp *response;

struct order {
	const char *name;
	uint64_t numbers[WORDS_MAX - 1];
};

/* False when a number is none. */
static bool order_read(char *line, struct order *ret)
{
	char *words[WORDS_MAX] = {NULL};
	unsigned int n = 0;

	for (char *at = line; *at != '\0' && n < WORDS_MAX;) {
		words[n++] = at;
		while (*at != '\0' && *at != ' ')
			at++;
		while (*at == ' ')
			*at++ = '\0';
	}
	memset(ret, 0, sizeof(*ret));
	ret->name = n > 0 ? words[0] : "";
	for (unsigned int i = 1; i < n; i++)
		if (!text_number(words[i], &ret->numbers[i - 1]))
			return false;
	return true;
}

/* ---- queue 1 ---- */

static bool size_add(const struct vring_segment *segments, unsigned int count)
{
	struct virtio *v = &device.virtio;

	if (!vring_add(&v->queue1, segments, count))
		return false;
	if (vring_kick_needed(&v->queue1))
		virtio_notify1(v);
	return true;
}

static bool size_ask_begin(void)
{
	const struct vring_segment segments[] = {
		{(uint64_t)request, sizeof(*request), false},
		{(uint64_t)response, sizeof(*response), true},
	};

	return size_add(segments, 2);
}

/* The answer is looked for, not waited for: with an interrupt, that comes as well. */
static bool size_wait(uint32_t *ret_len)
{
	uint64_t start = cpu_ticks();

	while (!vring_get(&device.virtio.queue1, ret_len)) {
		if (cpu_ticks() - start > CPU_PATIENCE)
			return false;
		cpu_relax();
	}
	return true;
}

static void size_fill(uint64_t type, uint64_t urgency, uint64_t reason, uint64_t size,
		      uint64_t min_size)
{
	*request = (struct vmem_size_req){
		.type = (uint16_t)type,
		.urgency = (uint16_t)urgency,
		.reason = (uint16_t)reason,
		.padding = 0xffff,
		.size = size,
		.min_size = min_size,
	};
	memset(response, 0xff, sizeof(*response));
}

static void order_ask(const uint64_t *n)
{
	uint32_t len = 0;

	size_fill(n[0], n[1], n[2], n[3], n[4]);
	if (!size_ask_begin() || !size_wait(&len)) {
		console_printf("SIZE none\n");
		return;
	}
	console_printf("SIZE type=%u cause=%u retry=%u size=%lu len=%u\n", response->type,
		       response->cause, response->retry_ms, response->size, len);
}

/* Until the chain came back, or the device stopped. */
static void size_wait_over(void)
{
	uint64_t start = cpu_ticks();

	while (!vring_has_used(&device.virtio.queue1) &&
	       (virtio_status(&device.virtio) & VIRTIO_NEEDS_RESET) == 0 &&
	       cpu_ticks() - start < CPU_PATIENCE)
		cpu_relax();
}

static void order_chain(const uint64_t *n)
{
	const struct vring_segment segments[] = {
		{(uint64_t)request, (uint32_t)n[0], false},
		{n[2] != 0 ? n[2] : (uint64_t)response, (uint32_t)n[1], true},
	};
	unsigned int first = n[0] == 0, count = 2u - first - (n[1] == 0);

	size_fill(VMEM_SIZE_REQ_WANT, 0, 0, device.block_size, 0);
	if (size_add(&segments[first], count))
		size_wait_over();
	console_printf("CHAIN status=0x%x\n", virtio_status(&device.virtio));
}

/* Until a line comes in; that is left in @line. */
static void order_flood(const uint64_t *n, char line[LINES_MAX])
{
	uint64_t answers = 0;
	uint32_t len;

	size_fill(n[0], VMEM_SIZE_URGENCY_CRITICAL, VMEM_SIZE_REASON_OOM, n[1], 0);
	while (!lines_get(line)) {
		while (size_ask_begin())
			;
		while (vring_get(&device.virtio.queue1, &len))
			answers++;
		cpu_relax();
	}
	console_printf("FLOOD answers=%lu\n", answers);
}

/* ---- the device ---- */

static uint16_t queue1_size(void)
{
	mmio_write16(device.virtio.common + VIRTIO_C_QUEUE_SELECT, VMEM_QUEUE_SIZE);
	return mmio_read16(device.virtio.common + VIRTIO_C_QUEUE_SIZE);
}

static void order_start(const uint64_t *n)
{
	struct virtio *v = &device.virtio;
	uint64_t offered = virtio_offered(v);
	uint64_t features = offered & (VMEM_PXM | VMEM_GUARDED | (n[0] != 0 ? FEATURE : 0));
	bool ok;

	v->second = (features & FEATURE) != 0;
	ok = virtio_start(v, features);
	console_printf("START ok=%u offered=%u size=%u\n", ok, (offered & FEATURE) != 0,
		       queue1_size());
}

static void order_enable(void)
{
	struct virtio *v = &device.virtio;
	uint16_t size = queue1_size();

	mmio_write16(v->common + VIRTIO_C_QUEUE_SIZE, QUEUE_SIZE);
	mmio_write16(v->common + VIRTIO_C_QUEUE_ENABLE, 1);
	mmio_write16(v->notify + (uint64_t)v->notify_multiplier * VMEM_QUEUE_SIZE, VMEM_QUEUE_SIZE);
	console_printf("ENABLE size=%u enabled=%u\n", size,
		       mmio_read16(v->common + VIRTIO_C_QUEUE_ENABLE));
}

static void order_show(void)
{
	console_printf("SHOW requested=%lu usable=%lu plugged=%lu interrupts=%lu\n",
		       vmem_requested(&device), vmem_usable(&device), vmem_plugged(&device),
		       device.virtio.config_interrupts);
}

static void order_both(const uint64_t *n)
{
	uint32_t len;
	uint16_t answer;
	bool asked;

	size_fill(VMEM_SIZE_REQ_WANT, VMEM_SIZE_URGENCY_HIGH, VMEM_SIZE_REASON_ALLOCATION, n[2], 0);
	asked = size_ask_begin();
	answer = vmem_plug_bytes(&device, n[0], n[1]);
	asked = asked && size_wait(&len);
	console_printf("BOTH %u type=%u size=%lu\n", answer, asked ? response->type : VMEM_NO_RESP,
		       response->size);
}

static void order_do(const struct order *o, char line[LINES_MAX])
{
	const uint64_t *n = o->numbers;

	if (strcmp(o->name, "start") == 0)
		order_start(n);
	else if (strcmp(o->name, "ask") == 0)
		order_ask(n);
	else if (strcmp(o->name, "show") == 0)
		order_show();
	else if (strcmp(o->name, "plug") == 0)
		console_printf("ANSWER %u\n", vmem_plug_bytes(&device, n[0], n[1]));
	else if (strcmp(o->name, "unplug") == 0)
		console_printf("ANSWER %u\n", vmem_unplug_bytes(&device, n[0], n[1]));
	else if (strcmp(o->name, "unplug-all") == 0)
		console_printf("ANSWER %u\n", vmem_unplug_all(&device));
	else if (strcmp(o->name, "both") == 0)
		order_both(n);
	else if (strcmp(o->name, "chain") == 0)
		order_chain(n);
	else if (strcmp(o->name, "enable") == 0)
		order_enable();
	else if (strcmp(o->name, "flood") == 0)
		order_flood(n, line);
	else if (strcmp(o->name, "reset") == 0)
		power_reset_port();
	else
		check(false, "size-order", "there is no order %s", o->name);
}

void test_vmem_size(void)
{
	char line[LINES_MAX], text[LINES_MAX];
	struct order o;

	check(vmem_open(&device, 0), "size-open", "there is no memory device");
	request = mem_pages(1);
	response = mem_pages(1);
	lines_init(LINES_VECTOR);
	cpu_interrupts_off();
	console_printf("READY addr=0x%lx block=%lu\n", device.addr, device.block_size);
	line[0] = '\0';
	for (;;) {
		/* An order that ends another one is here already. */
		while (line[0] == '\0' && !lines_get(line))
			cpu_sleep();
		memcpy(text, line, sizeof(text));
		line[0] = '\0';
		if (!check(order_read(text, &o), "size-numbers", "not numbers: %s", text))
			continue;
		if (strcmp(o.name, "quit") == 0)
			return;
		order_do(&o, line);
	}
}

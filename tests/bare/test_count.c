/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * count: a guest that never rests and notices when it is kept from running. A turn looks at the
 * clock, at a device's register and at its PCI configuration, so that it also notices whoever holds
 * what these accesses need. Nothing else leaves the guest but what an order takes.
 *
 *	devices=N	memory devices that are there (1); the first one is looked at
 *
 * It prints "count: ready". Orders, one a line:
 *	report		"counted turns=N ticks=N longest=N", since the last report: turns, and time-stamp
 *			ticks in all and of the longest turn; what an order itself takes is left out
 *	quit		end the test
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/text.h"
#include "lib/trap.h"
#include "lib/vmem.h"
#include "tests.h"

#define LINES_VECTOR 0x28u

struct count {
	uint64_t turns, ticks, longest;
	uint64_t last;  /* the clock at the end of the last turn */
	uint64_t wrong; /* answers of the device that are not what it says else */
};

static struct vmem devices[VMEM_MAX];

static void count_turn(struct count *count)
{
	const struct virtio *v = &devices[0].virtio;
	uint64_t now, ticks;

	if ((virtio_status(v) & VIRTIO_DRIVER_OK) == 0 ||
	    pci_read(v->pci, PCI_VENDOR_ID, 2) != VIRTIO_VENDOR)
		count->wrong++;
	now = cpu_ticks();
	ticks = now - count->last;
	count->last = now;
	count->turns++;
	count->ticks += ticks;
	if (ticks > count->longest)
		count->longest = ticks;
}

/* False when the test is to end. */
static bool count_order(struct count *count)
{
	char line[LINES_MAX];

	while (lines_get(line)) {
		if (strcmp(line, "quit") == 0)
			return false;
		if (strcmp(line, "report") != 0) {
			console_printf("order not understood: %s\n", line);
			continue;
		}
		console_printf("counted turns=%lu ticks=%lu longest=%lu\n", count->turns,
			       count->ticks, count->longest);
		*count = (struct count){.wrong = count->wrong};
	}
	return true;
}

void test_count(void)
{
	struct count count = {0};
	uint64_t seen = 0;
	bool more = true;

	if (!check_equal(vmem_open_all(devices, VMEM_MAX), arg_number("devices", 1),
			 "count-devices"))
		return;
	lines_init(LINES_VECTOR);
	console_printf("count: ready\n");
	while (more) {
		count.last = cpu_ticks();
		cpu_interrupts_on();
		while (trap_count(LINES_VECTOR) == seen)
			count_turn(&count);
		cpu_interrupts_off();
		seen = trap_count(LINES_VECTOR);
		more = count_order(&count);
	}
	check_equal(count.wrong, 0, "count-answers");
}

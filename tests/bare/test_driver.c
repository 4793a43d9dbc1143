/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver: a guest that allocates from the driver's memory, while the host asks for other sizes. What it
 * allocated has to stay, and what it freed has to go.
 *
 *	devices=N	memory devices (1)
 *	accounting=1	the driver adds nothing: regions are mapped for good, and memory is counted
 *	resume=1	what is plugged at the start is kept
 *	retry=MS	how long the driver waits before it tries again by itself (300000)
 *	low=SIZE target=SIZE high=SIZE idle=MS
 *			the first device is asked for more, and offered what is left over
 *
 * Memory that is gone is unmapped (but with accounting=1): whoever touches it traps. It prints, for
 * device D, whenever the driver rests and they changed:
 *	driver D plugged=BYTES used=BYTES status=there|waiting|...
 * and "driver: ready" at the first time. Orders, one a line:
 *	alloc D SIZE RUN
 *			allocate up to SIZE in pieces of RUN, and write them: "allocated D bytes=N"
 *	thin D		free every second piece: "thinned D bytes=N", what is left
 *	free D		free all: "freed D bytes=N"
 *	verify D	read all of it: "verified D bytes=N wrong=N"
 *	restart D	reset the device, and go on: "restarted D"
 *	reload D	forget the driver with all that it has, reset the device, and begin with a driver
 *			that keeps what is plugged: "reloaded D"
 *	job SIZE	allocate and write so much of the first device, whenever there is some; then read
 *			and free it: "job bytes=N wrong=N"
 *	quit		end the test
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/mem.h"
#include "lib/port.h"
#include "lib/text.h"
#include "tests.h"

#define LINES_VECTOR 0x28u
#define PIECES       1024u
#define JOB_PIECE    0x400000ull

struct piece {
	uint64_t gpa, size;
};

struct device {
	struct port port;
	unsigned int index;
	struct piece pieces[PIECES];
	unsigned int count;
	uint64_t told_plugged, told_used;
	enum vmem_driver_status told_status;
};

static struct vmem vmems[VMEM_MAX];
static struct device devices[VMEM_MAX];
static uint64_t job_left; /* bytes that are still to be had; device 0 */
static bool job_runs;

/* ---- pieces ---- */

static uint64_t driver_pattern(uint64_t gpa)
{
	return gpa * 0x9e3779b97f4a7c15ull ^ 0x5555555555555555ull;
}

static bool driver_alloc(struct device *d, uint64_t size)
{
	uint64_t gpa = d->count < PIECES ? vmem_bare_alloc(d->port.bare, size) : 0;

	if (gpa == 0)
		return false;
	for (uint64_t o = 0; o < size; o += MEM_PAGE_BYTES)
		cpu_store64(gpa + o, driver_pattern(gpa + o));
	d->pieces[d->count++] = (struct piece){gpa, size};
	return true;
}

static uint64_t driver_wrong(const struct piece *piece)
{
	uint64_t wrong = 0;

	for (uint64_t o = 0; o < piece->size; o += MEM_PAGE_BYTES)
		wrong += cpu_load64(piece->gpa + o) != driver_pattern(piece->gpa + o);
	return wrong;
}

static uint64_t driver_wrong_all(const struct device *d)
{
	uint64_t wrong = 0;

	for (unsigned int i = 0; i < d->count; i++)
		wrong += driver_wrong(&d->pieces[i]);
	return wrong;
}

static uint64_t driver_bytes(const struct device *d)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < d->count; i++)
		bytes += d->pieces[i].size;
	return bytes;
}

/* Every @nth piece. */
static void driver_free(struct device *d, unsigned int nth)
{
	unsigned int left = 0;

	for (unsigned int i = 0; i < d->count; i++) {
		const struct piece piece = d->pieces[i];

		if (i % nth != 0)
			d->pieces[left++] = piece;
		else if (vmem_bare_free(d->port.bare, piece.gpa, piece.size))
			port_kick(&d->port);
	}
	d->count = left;
}

/* ---- the job ---- */

static void driver_job_end(struct device *d)
{
	console_printf("job bytes=%lu wrong=%lu\n", driver_bytes(d), driver_wrong_all(d));
	driver_free(d, 1);
	job_runs = false;
}

/* As much as there is; asks for more where that is not enough. */
static void driver_job(struct device *d)
{
	while (job_left != 0 && driver_alloc(d, JOB_PIECE))
		job_left -= job_left < JOB_PIECE ? job_left : JOB_PIECE;
	if (job_left == 0)
		driver_job_end(d);
	else if (vmem_bare_need(d->port.bare, virtio_now_ms(), JOB_PIECE, VMEM_SIZE_URGENCY_HIGH))
		port_kick(&d->port);
}

/* ---- following ---- */

static const char *driver_status_name(enum vmem_driver_status status)
{
	static const char *const names[] = {
		[VMEM_DRIVER_STARTING] = "starting", [VMEM_DRIVER_WORKING] = "working",
		[VMEM_DRIVER_THERE] = "there",       [VMEM_DRIVER_WAITING] = "waiting",
		[VMEM_DRIVER_LEAVING] = "leaving",   [VMEM_DRIVER_LEFT] = "left",
		[VMEM_DRIVER_ENDED] = "ended",
	};

	return names[status];
}

static void driver_tell(struct device *d)
{
	uint64_t used = vmem_bare_used_bytes(d->port.bare);
	struct vmem_driver_info info;

	vmem_driver_info(vmem_bare_driver(d->port.bare), &info);
	if (info.plugged_size == d->told_plugged && used == d->told_used &&
	    info.status == d->told_status)
		return;
	d->told_plugged = info.plugged_size;
	d->told_used = used;
	d->told_status = info.status;
	if (info.plugged_size != vmem_plugged(d->port.vmem) ||
	    info.plugged_size != used + vmem_bare_free_bytes(d->port.bare))
		check(false, "driver-sums", "0x%lx are plugged, of which 0x%lx are used",
		      vmem_plugged(d->port.vmem), used);
	console_printf("driver %u plugged=%lu used=%lu status=%s\n", d->index, info.plugged_size,
		       used, driver_status_name(info.status));
}

/* What is to be done now; true when all drivers rest. */
static bool driver_turn(unsigned int count)
{
	bool rest = true;

	for (unsigned int i = 0; i < count; i++) {
		struct device *d = &devices[i];

		if (port_due(&d->port))
			port_work(&d->port);
		if (i == 0 && job_runs)
			driver_job(d);
		if (port_rests(&d->port))
			driver_tell(d);
		else
			rest = false;
	}
	return rest;
}

static bool driver_due(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (port_due(&devices[i].port))
			return true;
	return false;
}

/* ---- the driver's life ---- */

static bool driver_begin(struct device *d, bool resume)
{
	struct vmem_bare_config config;

	port_config_init(&config, d->port.vmem);
	config.resume = resume;
	if (arg_number("accounting", 0) != 0) {
		config.unit_bytes = 0;
		mem_map(d->port.vmem->addr, d->port.vmem->region_size);
	}
	if (d->port.vmem->virtio.second && d->index == 0)
		config.size_policy = (struct vmem_driver_size_policy){
			.on = true,
			.low_bytes = arg_number("low", 0),
			.target_bytes = arg_number("target", 0),
			.high_bytes = arg_number("high", 0),
			.idle_ms = (uint32_t)arg_number("idle", 0),
			.interval_ms = VIRTIO_TICK_MS,
		};
	return port_init(&d->port, &config);
}

static bool driver_init(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct device *d = &devices[i];

		d->index = i;
		d->told_plugged = UINT64_MAX;
		d->port = (struct port){
			.vmem = &vmems[i],
			.unmap = true,
			.most = UINT64_MAX,
			.step = UINT64_MAX,
		};
		if (!driver_begin(d, arg_number("resume", 0) != 0))
			return false;
	}
	return true;
}

static void driver_restart(struct device *d, bool reload)
{
	virtio_reset(&d->port.vmem->virtio);
	check(vmem_start(d->port.vmem), "driver-restart", "the device does not start again");
	if (!reload) {
		port_restarted(&d->port);
		return;
	}
	d->count = 0;
	d->told_plugged = UINT64_MAX;
	driver_begin(d, true);
}

/* ---- orders ---- */

static const char *driver_word(const char *line)
{
	while (*line != '\0' && *line != ' ')
		line++;
	return *line == ' ' ? line + 1 : line;
}

static bool driver_order_alloc(struct device *d, const char *numbers)
{
	uint64_t size, run;

	if (!text_number(numbers, &size) || !text_number(driver_word(numbers), &run) || run == 0)
		return false;
	for (uint64_t got = 0; got + run <= size; got += run)
		if (!driver_alloc(d, run))
			break;
	console_printf("allocated %u bytes=%lu\n", d->index, driver_bytes(d));
	return true;
}

static bool driver_order_device(const char *order, struct device *d, const char *numbers)
{
	uint64_t bytes = driver_bytes(d);

	if (text_has_prefix(order, "alloc "))
		return driver_order_alloc(d, numbers);
	if (text_has_prefix(order, "thin ")) {
		driver_free(d, 2);
		console_printf("thinned %u bytes=%lu\n", d->index, driver_bytes(d));
	} else if (text_has_prefix(order, "free ")) {
		driver_free(d, 1);
		console_printf("freed %u bytes=%lu\n", d->index, bytes);
	} else if (text_has_prefix(order, "verify ")) {
		console_printf("verified %u bytes=%lu wrong=%lu\n", d->index, bytes,
			       driver_wrong_all(d));
	} else if (text_has_prefix(order, "restart ")) {
		driver_restart(d, false);
		console_printf("restarted %u\n", d->index);
	} else if (text_has_prefix(order, "reload ")) {
		driver_restart(d, true);
		console_printf("reloaded %u\n", d->index);
	} else {
		return false;
	}
	return true;
}

static bool driver_order(const char *line, unsigned int count)
{
	const char *rest = driver_word(line);
	uint64_t number;

	if (!text_number(rest, &number))
		return false;
	if (text_has_prefix(line, "job ")) {
		job_left = number;
		job_runs = true;
		return true;
	}
	return number < count && driver_order_device(line, &devices[number], driver_word(rest));
}

/* ---- the test ---- */

static unsigned int driver_open(void)
{
	unsigned int n = 0;

	do {
		vmems[n].virtio.second = arg_text("low") != NULL;
	} while (vmem_open(&vmems[n], n) && ++n < VMEM_MAX);
	return n;
}

void test_driver(void)
{
	unsigned int count = driver_open();
	char line[LINES_MAX];
	bool ready = false, rest;

	if (!check_equal(count, arg_number("devices", 1), "driver-devices") || !driver_init(count))
		return;
	lines_init(LINES_VECTOR);
	for (;;) {
		cpu_interrupts_on();
		rest = driver_turn(count);
		cpu_interrupts_off();
		if (rest && !ready) {
			ready = true;
			console_printf("driver: ready\n");
		}
		if (lines_get(line)) {
			if (strcmp(line, "quit") == 0)
				return;
			if (!driver_order(line, count))
				console_printf("order not understood: %s\n", line);
		} else if (!driver_due(count)) {
			cpu_sleep();
		}
	}
}

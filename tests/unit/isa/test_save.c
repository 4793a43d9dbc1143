/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Platform devices that move to another machine: registers that were written at random, bytes on
 * their way in and out of a serial port, a clock that goes on, events that were not read yet.
 */
#include "tests/unit/chardev/chardev_test.h"
#include "tests/unit/isa/isa_test.h"
#include "tests/unit/saved_test.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vmm/isa/power.h"
#include "vmm/isa/pvpanic.h"
#include "vmm/isa/rtc.h"
#include "vmm/isa/serial.h"
#include "vmm/machine/platform.h"

#define COM  0x3F8
#define GSI  4
#define DATA (COM + 0)
#define IER  (COM + 1)
#define IIR  (COM + 2)
#define FCR  (COM + 2)
#define LCR  (COM + 3)
#define MCR  (COM + 4)
#define LSR  (COM + 5)

struct env {
	struct test_hv hv;
	struct bus *pio;
	struct loop *loop;
	struct chardev *chr;
	int peer;
	struct serial *serial;
	struct rtc *rtc;
	struct power *power;
	struct pvpanic *pvpanic;
};

static void env_reset(void *opaque, enum isa_reset_cause cause)
{
	(void)opaque;
	(void)cause;
}

static const struct isa_ops env_ops = {.request_reset = env_reset};

/* With a socket at the serial port, or nothing. */
static struct env *env_new(bool socket)
{
	const struct rtc_config rtc = {.ram_below_4g = 3 * GIB, .gsi = PLATFORM_RTC_GSI};
	struct env *env = calloc(1, sizeof(*env));
	struct chr_config config;
	int fds[2] = {-1, -1};

	env->hv.hv.ops = &test_hv_ops;
	env->pio = bus_new();
	env->loop = loop_new_main(NULL);
	chr_config_init(&config);
	config.id = "serial0";
	config.backend = CHR_SOCKET;
	if (socket) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		config.fd = fds[0];
		env->chr = must_open(env->loop, &config);
	}
	env->peer = fds[1];
	env->serial = serial_new(&env->hv.hv, env->pio, COM, GSI, env->chr, NULL);
	env->rtc = rtc_new(&env->hv.hv, env->pio, env->loop, &rtc, NULL);
	env->power = power_new(&env->hv.hv, env->pio, &env_ops, env, NULL);
	env->pvpanic = pvpanic_new(env->pio, &env_ops, env, NULL);
	assert_true(env->serial && env->rtc && env->power && env->pvpanic);
	return env;
}

static void env_free(struct env *env)
{
	serial_free(env->serial);
	pvpanic_free(env->pvpanic);
	power_free(env->power);
	rtc_free(env->rtc);
	chardev_free(env->chr);
	loop_free(env->loop);
	bus_free(env->pio);
	if (env->peer >= 0)
		close(env->peer);
	free(env);
}

/* ---- one part from one machine to the other ---- */

#define SAVE_AND_LOAD(part, PART)                                                     \
	static void part##_move(struct env *to, struct env *from)                     \
	{                                                                             \
		struct pack saved = {.failed = false};                                \
		struct err *err = NULL;                                               \
		struct unpack in;                                                     \
		int ret;                                                              \
                                                                                      \
		part##_save(from->part, &saved);                                      \
		assert_false(pack_failed(&saved));                                    \
		in = unpack_begin(saved.bytes, saved.size);                           \
		ret = part##_load(to->part, PART##_STATE_VERSION, &in, &err);         \
		assert_loaded(ret, err);                                              \
		pack_done(&saved);                                                    \
		in = unpack_begin(NULL, 0);                                           \
		ret = part##_load(to->part, PART##_STATE_VERSION + 1, &in, &err);     \
		assert_refused(ret, err, "version 2, and 1 is known here");           \
	}                                                                             \
                                                                                      \
	static void part##_load_damaged(void *opaque, const void *bytes, size_t size) \
	{                                                                             \
		struct env *env = opaque;                                             \
		struct unpack in = unpack_begin(bytes, size);                         \
		struct err *err = NULL;                                               \
                                                                                      \
		if (part##_load(env->part, PART##_STATE_VERSION, &in, &err)) {        \
			assert_non_null(err);                                         \
			err_free(err);                                                \
		}                                                                     \
		part##_touch(env);                                                    \
	}                                                                             \
                                                                                      \
	static void part##_damage(void **state)                                       \
	{                                                                             \
		struct env *env = env_new(false);                                     \
		struct pack saved = {.failed = false};                                \
                                                                                      \
		(void)state;                                                          \
		part##_touch(env);                                                    \
		part##_save(env->part, &saved);                                       \
		each_damage(&saved, part##_load_damaged, env);                        \
		pack_done(&saved);                                                    \
		env_free(env);                                                        \
	}

static uint8_t cmos_get(struct env *env, uint8_t index)
{
	out8(env->pio, 0x70, index);
	return in8(env->pio, 0x71);
}

static void cmos_set(struct env *env, uint8_t index, uint8_t value)
{
	out8(env->pio, 0x70, index);
	out8(env->pio, 0x71, value);
}

/* What a guest does then; nothing of it may be more than a guest's own trouble. */
static void serial_touch(struct env *env)
{
	for (uint64_t port = COM; port < COM + 8; port++)
		in8(env->pio, port);
	for (unsigned int i = 0; i < 20; i++)
		out8(env->pio, DATA, (uint8_t)i);
	serial_resume(env->serial);
	serial_pause(env->serial);
}

static void rtc_touch(struct env *env)
{
	for (unsigned int i = 0; i < 0x33; i++)
		cmos_get(env, (uint8_t)i);
	cmos_set(env, 9, 0x26);
	cmos_set(env, 0x34, 0x77);
}

static void power_touch(struct env *env)
{
	in8(env->pio, PLATFORM_GED_PORT);
	power_notify(env->power, PLATFORM_GED_EVENT_POWER_BUTTON);
}

SAVE_AND_LOAD(serial, SERIAL)
SAVE_AND_LOAD(rtc, RTC)
SAVE_AND_LOAD(power, POWER)

/* ---- serial port ---- */

/* An access of any kind; what was to be seen. */
static unsigned int serial_step(struct env *env, struct dice *dice)
{
	static const uint8_t mcrs[] = {0x10, 0x10, 0x1f, 0x1a, 0x0b, 0};
	uint64_t port = COM + dice_below(dice, 8);
	unsigned int seen = 0;

	if (dice_below(dice, 2))
		seen = in8(env->pio, port);
	else if (port == MCR)
		out8(env->pio, port, mcrs[dice_below(dice, ARRAY_SIZE(mcrs))]);
	else if (port == LCR)
		out8(env->pio, port, dice_below(dice, 4) ? 3 : 0x83);
	else
		out8(env->pio, port, (uint8_t)dice_u64(dice));
	return seen << 1 | env->hv.level[GSI];
}

static void serial_moves(void **state)
{
	struct dice dice = dice_new();

	(void)state;
	for (unsigned int round = 0; round < 300; round++) {
		struct env *from = env_new(false), *to = env_new(false);

		/* Where it does not run, what is written waits. */
		if (dice_below(&dice, 2))
			serial_resume(from->serial);
		for (unsigned int n = dice_below(&dice, 200); n; n--)
			serial_step(from, &dice);
		serial_pause(from->serial);
		serial_move(to, from);
		assert_int_equal(from->hv.level[GSI], to->hv.level[GSI]);
		serial_resume(from->serial);
		serial_resume(to->serial);
		for (unsigned int n = 0; n < 100; n++) {
			struct dice same = dice;

			assert_int_equal(serial_step(from, &dice), serial_step(to, &same));
		}
		env_free(from);
		env_free(to);
	}
}

/* The other end of @from takes nothing; what then waits is sent by the machine that goes on. */
static void serial_output_is_sent_once(void **state)
{
	struct env *from = env_new(true), *to = env_new(true);
	size_t sent = 0, got = 0;
	uint8_t buf[4096];
	ssize_t n;

	(void)state;
	serial_resume(from->serial);
	while (in8(from->pio, LSR) & 0x20)
		out8(from->pio, DATA, (uint8_t)(sent++ % 251));
	/* The last one did not leave; these wait with it. */
	sent--;
	out8(from->pio, DATA, 'y');
	out8(from->pio, DATA, 'z');
	out8(from->pio, IER, 0x02);
	serial_pause(from->serial);
	serial_move(to, from);
	assert_int_equal(in8(to->pio, LSR) & 0x60, 0);
	for (unsigned int i = 0; i < 20; i++)
		uv_run(loop_uv(to->loop), UV_RUN_NOWAIT);
	assert_int_equal(recv(to->peer, buf, sizeof(buf), MSG_DONTWAIT), -1);
	serial_resume(to->serial);
	PUMP(to->loop, recv(to->peer, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK) == 3);
	assert_int_equal(recv(to->peer, buf, sizeof(buf), MSG_DONTWAIT), 3);
	assert_int_equal(buf[0], sent % 251);
	assert_memory_equal(buf + 1, "yz", 2);
	assert_true(to->hv.level[GSI]);
	assert_int_equal(in8(to->pio, IIR), 0x02);
	/* All that the first one had sent comes out of it, and no more. */
	while (got < sent) {
		n = recv(from->peer, buf, sizeof(buf), MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
		uv_run(loop_uv(from->loop), UV_RUN_NOWAIT);
	}
	for (unsigned int i = 0; i < 20; i++)
		uv_run(loop_uv(from->loop), UV_RUN_NOWAIT);
	assert_int_equal(recv(from->peer, buf, sizeof(buf), MSG_DONTWAIT), -1);
	/* Had it gone on, it would have sent them. */
	serial_resume(from->serial);
	PUMP(from->loop, recv(from->peer, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK) == 3);
	env_free(from);
	env_free(to);
}

/* What was received and not read yet moves; what comes to a stopped machine waits outside. */
static void serial_input_is_read_once(void **state)
{
	struct env *from = env_new(true), *to = env_new(true);

	(void)state;
	serial_resume(from->serial);
	out8(from->pio, FCR, 0x81);
	out8(from->pio, IER, 0x01);
	assert_int_equal(write(from->peer, "abc", 3), 3);
	PUMP(from->loop, from->hv.level[GSI]);
	assert_int_equal(in8(from->pio, DATA), 'a');
	serial_pause(from->serial);
	assert_int_equal(write(from->peer, "def", 3), 3);
	assert_int_equal(write(to->peer, "g", 1), 1);
	for (unsigned int i = 0; i < 20; i++) {
		uv_run(loop_uv(from->loop), UV_RUN_NOWAIT);
		uv_run(loop_uv(to->loop), UV_RUN_NOWAIT);
	}
	serial_move(to, from);
	assert_true(to->hv.level[GSI]);
	assert_int_equal(in8(to->pio, IIR), 0xCC);
	assert_int_equal(in8(to->pio, DATA), 'b');
	assert_int_equal(in8(to->pio, DATA), 'c');
	assert_int_equal(in8(to->pio, LSR) & 1, 0);
	assert_false(to->hv.level[GSI]);
	serial_resume(to->serial);
	PUMP(to->loop, in8(to->pio, LSR) & 1);
	assert_int_equal(in8(to->pio, DATA), 'g');
	/* The source goes on after all. */
	serial_resume(from->serial);
	assert_int_equal(in8(from->pio, DATA), 'b');
	assert_int_equal(in8(from->pio, DATA), 'c');
	PUMP(from->loop, in8(from->pio, LSR) & 1);
	assert_int_equal(in8(from->pio, DATA), 'd');
	env_free(from);
	env_free(to);
}

/* ---- clock ---- */

static bool rtc_same(struct env *a, struct env *b)
{
	time_t before = time(NULL);

	for (unsigned int i = 0; i < 128; i++)
		if (i != 12 && cmos_get(a, (uint8_t)i) != cmos_get(b, (uint8_t)i))
			return false;
	/* Reading it clears it, and brings it up to date; so at last, and within one second. */
	return cmos_get(a, 12) == cmos_get(b, 12) || time(NULL) != before;
}

static void rtc_moves(void **state)
{
	struct dice dice = dice_new();

	(void)state;
	for (unsigned int round = 0; round < 100; round++) {
		struct env *from = env_new(false), *to = env_new(false);
		time_t before;

		for (unsigned int n = dice_below(&dice, 60); n; n--) {
			if (dice_below(&dice, 4))
				cmos_set(from, (uint8_t)dice_below(&dice, 16),
					 (uint8_t)dice_u64(&dice));
			else
				cmos_set(from, (uint8_t)dice_below(&dice, 128),
					 (uint8_t)dice_u64(&dice));
		}
		/* A second that ends meanwhile is no difference. */
		do {
			before = time(NULL);
			rtc_move(to, from);
		} while (!rtc_same(from, to) && time(NULL) != before);
		if (time(NULL) == before)
			assert_true(rtc_same(from, to));
		env_free(from);
		env_free(to);
	}
}

static void rtc_update_interrupt_goes_on(void **state)
{
	struct env *from = env_new(false), *to = env_new(false);

	(void)state;
	cmos_set(from, 11, 0x12);
	rtc_move(to, from);
	PUMP(to->loop, to->hv.level[PLATFORM_RTC_GSI]);
	assert_int_equal(cmos_get(to, 12) & 0x90, 0x90);
	assert_false(to->hv.level[PLATFORM_RTC_GSI]);
	env_free(from);
	env_free(to);
}

/* The guest's time when it was saved is what counts: an alarm since then is due. */
static void rtc_alarm_that_came_while_saved(void **state)
{
	struct env *from = env_new(false), *to = env_new(false);
	time_t alarm = time(NULL) - 1800;
	struct pack saved = {.failed = false};
	struct err *err = NULL;
	struct unpack in;
	struct tm tm;
	int ret;

	(void)state;
	gmtime_r(&alarm, &tm);
	cmos_set(from, 11, 0x26); /* alarm, binary, 24 hours */
	cmos_set(from, 1, (uint8_t)tm.tm_sec);
	cmos_set(from, 3, (uint8_t)tm.tm_min);
	cmos_set(from, 5, (uint8_t)tm.tm_hour);
	assert_false(from->hv.level[PLATFORM_RTC_GSI]);
	rtc_save(from->rtc, &saved);
	/* The last number is the second that the clock has seen: an hour ago. */
	bytes_put_le(saved.bytes + saved.size - 8, 8, (uint64_t)(time(NULL) - 3600));
	in = unpack_begin(saved.bytes, saved.size);
	ret = rtc_load(to->rtc, RTC_STATE_VERSION, &in, &err);
	assert_loaded(ret, err);
	assert_true(to->hv.level[PLATFORM_RTC_GSI]);
	assert_int_equal(cmos_get(to, 12) & 0xA0, 0xA0);
	pack_done(&saved);
	env_free(from);
	env_free(to);
}

/* ---- the others ---- */

static void power_button_is_heard(void **state)
{
	struct env *from = env_new(false), *to = env_new(false);

	(void)state;
	power_notify(from->power, PLATFORM_GED_EVENT_POWER_BUTTON);
	power_move(to, from);
	/* The interrupt controller has the edge. */
	assert_int_equal(to->hv.edges[PLATFORM_GED_GSI], 0);
	assert_int_equal(in8(to->pio, PLATFORM_GED_PORT), PLATFORM_GED_EVENT_POWER_BUTTON);
	assert_int_equal(in8(to->pio, PLATFORM_GED_PORT), 0);
	env_free(from);
	env_free(to);
}

static void pvpanic_is_empty(void **state)
{
	struct env *env = env_new(false);
	struct pack saved = {.failed = false};
	struct unpack in = unpack_begin("x", 1);
	struct err *err = NULL;
	int ret;

	(void)state;
	pvpanic_save(env->pvpanic, &saved);
	assert_int_equal(saved.size, 0);
	ret = pvpanic_load(env->pvpanic, PVPANIC_STATE_VERSION, &in, &err);
	assert_refused(ret, err, "not empty");
	in = unpack_begin(NULL, 0);
	err = NULL;
	ret = pvpanic_load(env->pvpanic, PVPANIC_STATE_VERSION, &in, &err);
	assert_loaded(ret, err);
	env_free(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serial_moves),
		cmocka_unit_test(serial_output_is_sent_once),
		cmocka_unit_test(serial_input_is_read_once),
		cmocka_unit_test(serial_damage),
		cmocka_unit_test(rtc_moves),
		cmocka_unit_test(rtc_update_interrupt_goes_on),
		cmocka_unit_test(rtc_alarm_that_came_while_saved),
		cmocka_unit_test(rtc_damage),
		cmocka_unit_test(power_button_is_heard),
		cmocka_unit_test(power_damage),
		cmocka_unit_test(pvpanic_is_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

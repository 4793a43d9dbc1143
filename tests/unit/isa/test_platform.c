/* SPDX-License-Identifier: BSD-3-Clause */
/* Clock, panic port, reset and power registers, by what guests read and write. */
#include "tests/unit/isa/isa_test.h"

#include <time.h>

#include "base/num.h"
#include "tests/unit/chardev/chardev_test.h"
#include "vmm/core/loop.h"
#include "vmm/isa/power.h"
#include "vmm/isa/pvpanic.h"
#include "vmm/isa/rtc.h"
#include "vmm/machine/platform.h"

struct env {
	struct test_hv hv;
	struct bus *pio;
	struct loop *loop;
	struct rtc *rtc;
	struct power *power;
	struct pvpanic *pvpanic;
	int resets[2], shutdowns, panics;
	uint8_t panic_bits;
};

static void env_reset(void *opaque, enum isa_reset_cause cause)
{
	struct env *env = opaque;

	env->resets[cause]++;
}

static void env_shutdown(void *opaque)
{
	struct env *env = opaque;

	env->shutdowns++;
}

static void env_panicked(void *opaque, uint8_t bits)
{
	struct env *env = opaque;

	env->panics++;
	env->panic_bits = bits;
}

static const struct isa_ops env_ops = {env_reset, env_shutdown, env_panicked};

static int env_setup(void **state)
{
	const struct rtc_config config = {
		.ram_below_4g = 3 * GIB, .ram_above_4g = 5 * GIB, .gsi = PLATFORM_RTC_GSI};
	struct env *env = calloc(1, sizeof(*env));

	env->hv.hv.ops = &test_hv_ops;
	env->pio = bus_new();
	env->loop = loop_new_main(NULL);
	env->rtc = rtc_new(&env->hv.hv, env->pio, env->loop, &config, NULL);
	env->power = power_new(&env->hv.hv, env->pio, &env_ops, env, NULL);
	env->pvpanic = pvpanic_new(env->pio, &env_ops, env, NULL);
	assert_true(env->rtc && env->power && env->pvpanic);
	*state = env;
	return 0;
}

static int env_teardown(void **state)
{
	struct env *env = *state;

	pvpanic_free(env->pvpanic);
	power_free(env->power);
	rtc_free(env->rtc);
	loop_free(env->loop);
	bus_free(env->pio);
	free(env);
	return 0;
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

static int from_bcd(uint8_t byte)
{
	assert_true((byte & 15) < 10 && (byte >> 4) < 10);
	return (byte >> 4) * 10 + (byte & 15);
}

/* As a kernel reads it: again if the second changed meanwhile. */
static time_t guest_time(struct env *env)
{
	struct tm tm;

	do {
		memset(&tm, 0, sizeof(tm));
		tm.tm_sec = from_bcd(cmos_get(env, 0));
		tm.tm_min = from_bcd(cmos_get(env, 2));
		tm.tm_hour = from_bcd(cmos_get(env, 4));
		tm.tm_mday = from_bcd(cmos_get(env, 7));
		tm.tm_mon = from_bcd(cmos_get(env, 8)) - 1;
		tm.tm_year =
			from_bcd(cmos_get(env, 0x32)) * 100 + from_bcd(cmos_get(env, 9)) - 1900;
	} while (tm.tm_sec != from_bcd(cmos_get(env, 0)));
	return timegm(&tm);
}

static void clock_is_the_hosts(void **state)
{
	struct env *env = *state;
	time_t before = time(NULL), guest = guest_time(env);
	struct tm tm;

	assert_in_range(guest, before, time(NULL));
	assert_int_equal(cmos_get(env, 10) & 0x80, 0);
	assert_int_equal(cmos_get(env, 11), 0x02);
	assert_int_equal(cmos_get(env, 13), 0x80);
	gmtime_r(&guest, &tm);
	assert_in_range(from_bcd(cmos_get(env, 6)), 1, 7);
}

/* -rtc base=2023-11-14T22:13:20 */
static void clock_starts_at_a_date(void **state)
{
	const struct rtc_config config = {
		.gsi = PLATFORM_RTC_GSI, .has_start = true, .start_s = 1700000000};
	struct env *env = *state;
	time_t before = time(NULL);

	rtc_free(env->rtc);
	env->rtc = rtc_new(&env->hv.hv, env->pio, env->loop, &config, NULL);
	assert_non_null(env->rtc);
	assert_in_range(guest_time(env), config.start_s, config.start_s + time(NULL) - before);
	rtc_reset(env->rtc);
	assert_in_range(guest_time(env), config.start_s, config.start_s + time(NULL) - before);
}

static void clock_can_be_set_and_runs_on(void **state)
{
	struct env *env = *state;
	static const uint8_t regs[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23},   {7, 0x31},
					  {8, 0x12}, {9, 0x99}, {0x32, 0x19}};
	struct tm tm = {.tm_sec = 58,
			.tm_min = 59,
			.tm_hour = 23,
			.tm_mday = 31,
			.tm_mon = 11,
			.tm_year = 99};
	time_t want = timegm(&tm), before = time(NULL), now;
	size_t i;

	cmos_set(env, 11, 0x82); /* SET */
	for (i = 0; i < ARRAY_SIZE(regs); i++)
		cmos_set(env, regs[i][0], regs[i][1]);
	for (i = 0; i < ARRAY_SIZE(regs); i++)
		assert_int_equal(cmos_get(env, regs[i][0]), regs[i][1]);
	cmos_set(env, 11, 0x02);
	now = guest_time(env);
	assert_in_range(now, want, want + (time(NULL) - before));
	rtc_reset(env->rtc);
	now = guest_time(env);
	assert_in_range(now, want, want + (time(NULL) - before));
}

static void hours_in_all_formats(void **state)
{
	struct env *env = *state;

	cmos_set(env, 11, 0x82);
	cmos_set(env, 4, 0x00);
	cmos_set(env, 2, 0x10);
	cmos_set(env, 0, 0x00);
	cmos_set(env, 11, 0x02);
	cmos_set(env, 11, 0x00); /* 12 hours, BCD */
	assert_int_equal(cmos_get(env, 4), 0x12);
	cmos_set(env, 4, 0x82); /* 2 pm */
	cmos_set(env, 11, 0x02);
	assert_int_equal(cmos_get(env, 4), 0x14);
	cmos_set(env, 11, 0x06); /* 24 hours, binary */
	assert_int_equal(cmos_get(env, 4), 14);
	assert_int_equal(cmos_get(env, 2), 10);
	cmos_set(env, 11, 0x04);
	assert_int_equal(cmos_get(env, 4), 0x80 | 2);
	cmos_set(env, 4, 0x80 | 12); /* noon */
	cmos_set(env, 11, 0x06);
	assert_int_equal(cmos_get(env, 4), 12);
}

static void any_registers_are_survived(void **state)
{
	struct env *env = *state;
	unsigned int seed = 3;
	uint64_t value;
	int i;

	for (i = 0; i < 20000; i++) {
		out8(env->pio, 0x70, (uint8_t)rand_r(&seed));
		if (rand_r(&seed) % 2)
			out8(env->pio, 0x71, (uint8_t)rand_r(&seed));
		else
			bus_read(env->pio, 0x71, 1, &value);
		if (i % 1000 == 0)
			uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	rtc_reset(env->rtc);
	cmos_set(env, 11, 0x02);
	assert_int_equal(cmos_get(env, 13), 0x80);
}

static void memory_size_is_told(void **state)
{
	struct env *env = *state;

	assert_int_equal(cmos_get(env, 0x15) | cmos_get(env, 0x16) << 8, 640);
	assert_int_equal(cmos_get(env, 0x17) | cmos_get(env, 0x18) << 8, 63 * 1024);
	assert_int_equal(cmos_get(env, 0x34) | cmos_get(env, 0x35) << 8,
			 (3 * GIB - 16 * MIB) / (64 * KIB));
	assert_int_equal(cmos_get(env, 0x5B) | cmos_get(env, 0x5C) << 8 | cmos_get(env, 0x5D) << 16,
			 5 * GIB / (64 * KIB));
	/* the guest's own bytes, and a 16-bit access */
	bus_write(env->pio, 0x70, 2, 0x5A40);
	assert_int_equal(in8(env->pio, 0x71), 0x5A);
	assert_int_equal(cmos_get(env, 0x40), 0x5A);
	rtc_reset(env->rtc);
	assert_int_equal(cmos_get(env, 0x40), 0x5A);
}

static void update_interrupt_comes_each_second(void **state)
{
	struct env *env = *state;

	(void)cmos_get(env, 12);
	cmos_set(env, 11, 0x12);
	PUMP(env->loop, env->hv.level[PLATFORM_RTC_GSI]);
	assert_int_equal(cmos_get(env, 12) & 0xD0, 0x90);
	assert_false(env->hv.level[PLATFORM_RTC_GSI]);
	assert_int_equal(cmos_get(env, 12) & 0x80, 0);
	PUMP(env->loop, env->hv.edges[PLATFORM_RTC_GSI] == 2);
	rtc_reset(env->rtc);
	assert_false(env->hv.level[PLATFORM_RTC_GSI]);
}

static void alarm_rings(void **state)
{
	struct env *env = *state;

	cmos_set(env, 1, 0xC0); /* any second, minute, hour */
	cmos_set(env, 3, 0xFF);
	cmos_set(env, 5, 0xFF);
	(void)cmos_get(env, 12);
	cmos_set(env, 11, 0x22);
	PUMP(env->loop, env->hv.level[PLATFORM_RTC_GSI]);
	assert_int_equal(cmos_get(env, 12) & 0xA0, 0xA0);
	/* A time that does not come: hour 24. The update flag is set, but asks for nothing. */
	cmos_set(env, 5, 0x24);
	(void)cmos_get(env, 12);
	PUMP(env->loop, cmos_get(env, 12) & 0x10);
	assert_int_equal(cmos_get(env, 12) & 0x20, 0);
	assert_false(env->hv.level[PLATFORM_RTC_GSI]);
}

static void panic_port_tells(void **state)
{
	struct env *env = *state;

	assert_int_equal(in8(env->pio, PLATFORM_PVPANIC_PORT), 3);
	out8(env->pio, PLATFORM_PVPANIC_PORT, 0x00);
	out8(env->pio, PLATFORM_PVPANIC_PORT, 0xFC);
	assert_int_equal(env->panics, 0);
	out8(env->pio, PLATFORM_PVPANIC_PORT, 0x01);
	assert_int_equal(env->panics, 1);
	assert_int_equal(env->panic_bits, PVPANIC_PANICKED);
	out8(env->pio, PLATFORM_PVPANIC_PORT, 0xF2);
	assert_int_equal(env->panic_bits, PVPANIC_CRASH_LOADED);
}

static void resets_and_power_off_are_told_apart(void **state)
{
	struct env *env = *state;
	int type;

	out8(env->pio, 0xCF9, 0x02);
	assert_int_equal(env->resets[ISA_RESET_CF9], 0);
	out8(env->pio, 0xCF9, 0x06);
	assert_int_equal(env->resets[ISA_RESET_CF9], 1);
	out8(env->pio, 0x64, 0x20);
	out8(env->pio, 0x60, 0xFE);
	assert_int_equal(env->resets[ISA_RESET_I8042], 0);
	out8(env->pio, 0x64, 0xFE);
	assert_int_equal(env->resets[ISA_RESET_I8042], 1);
	/* input buffer empty: a kernel that resets does not wait */
	assert_int_equal(in8(env->pio, 0x64) & 0x02, 0);
	for (type = 0; type < 8; type++) {
		out8(env->pio, PLATFORM_SLEEP_CONTROL_PORT, (uint8_t)(type << 2));
		if (type != 5)
			out8(env->pio, PLATFORM_SLEEP_CONTROL_PORT, (uint8_t)(0x20 | type << 2));
	}
	assert_int_equal(env->shutdowns, 0);
	out8(env->pio, PLATFORM_SLEEP_CONTROL_PORT, 0x20 | 5 << 2);
	assert_int_equal(env->shutdowns, 1);
	assert_int_equal(in8(env->pio, PLATFORM_SLEEP_CONTROL_PORT), 0);
	assert_int_equal(in8(env->pio, PLATFORM_SLEEP_STATUS_PORT), 0);
}

static void power_button_is_pressed(void **state)
{
	struct env *env = *state;

	assert_int_equal(in8(env->pio, PLATFORM_GED_PORT), 0);
	power_notify(env->power, PLATFORM_GED_EVENT_POWER_BUTTON);
	assert_int_equal(env->hv.edges[PLATFORM_GED_GSI], 1);
	/* Not taken by the guest yet: pressing again gives another edge. */
	power_notify(env->power, PLATFORM_GED_EVENT_POWER_BUTTON);
	assert_int_equal(env->hv.edges[PLATFORM_GED_GSI], 2);
	assert_false(env->hv.level[PLATFORM_GED_GSI]);
	assert_int_equal(in8(env->pio, PLATFORM_GED_PORT), PLATFORM_GED_EVENT_POWER_BUTTON);
	assert_int_equal(in8(env->pio, PLATFORM_GED_PORT), 0);
	power_notify(env->power, PLATFORM_GED_EVENT_POWER_BUTTON);
	power_reset(env->power);
	assert_int_equal(in8(env->pio, PLATFORM_GED_PORT), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(clock_is_the_hosts),
		T(clock_starts_at_a_date),
		T(clock_can_be_set_and_runs_on),
		T(hours_in_all_formats),
		T(any_registers_are_survived),
		T(memory_size_is_told),
		T(update_interrupt_comes_each_second),
		T(alarm_rings),
		T(panic_port_tells),
		T(resets_and_power_off_are_told_apart),
		T(power_button_is_pressed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

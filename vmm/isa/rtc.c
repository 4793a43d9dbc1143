/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MC146818 clock: see rtc.h for the contract.
 *
 * The flags of register C are brought up to date when somebody looks (rtc_advance()); a timer runs
 * only while an interrupt that needs one is enabled.
 *
 * Locking: everything below `lock` is guarded by it. The timer is touched on the loop's thread
 * only; vCPU threads send `kick` to have it looked at again.
 */
#include "vmm/isa/rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/core/bus.h"
#include "vmm/core/hv.h"
#include "vmm/core/loop.h"
#include "vmm/machine/platform.h"

#define RTC_BYTES 128

enum {
	RTC_SECONDS = 0,
	RTC_SECONDS_ALARM = 1,
	RTC_MINUTES = 2,
	RTC_MINUTES_ALARM = 3,
	RTC_HOURS = 4,
	RTC_HOURS_ALARM = 5,
	RTC_WEEKDAY = 6,
	RTC_DAY = 7,
	RTC_MONTH = 8,
	RTC_YEAR = 9,
	RTC_A = 10,
	RTC_B = 11,
	RTC_C = 12,
	RTC_D = 13,
	/* CMOS bytes, by the PC's convention */
	RTC_BASE_KIB = 0x15,       /* 2 bytes: below 640 KiB */
	RTC_EXTENDED_KIB = 0x17,   /* 2 bytes: above 1 MiB, at most 63 MiB */
	RTC_EXTENDED_KIB_2 = 0x30, /* the same again */
	RTC_CENTURY = 0x32,
	RTC_ABOVE_16M = 0x34, /* 2 bytes: in 64 KiB */
	RTC_ABOVE_4G = 0x5B,  /* 3 bytes: in 64 KiB */
};

#define RTC_A_DEFAULT 0x26 /* 32768 Hz crystal, 1024 Hz: what a PC's firmware leaves */
#define RTC_A_UIP     0x80
#define RTC_B_SET     0x80
#define RTC_B_AIE     0x20
#define RTC_B_UIE     0x10
#define RTC_B_BINARY  0x04
#define RTC_B_24H     0x02
#define RTC_C_IRQF    0x80
#define RTC_C_AF      0x20
#define RTC_C_UF      0x10
#define RTC_D_VALID   0x80
#define RTC_ALARM_ANY 0xC0
#define RTC_HOUR_PM   0x80

#define RTC_DAY_S 86400

/* Four digits of a year. */
#define RTC_YEARS 10000
/* Years from the host's time that a loaded clock may be off: more than any register can say. */
#define RTC_OFFSET_YEARS_MAX 30000
#define RTC_OFFSET_S_MAX     (RTC_OFFSET_YEARS_MAX * INT64_C(366) * RTC_DAY_S)

struct rtc {
	struct hv *hv;
	struct bus *pio;
	struct bus_region region;
	uint32_t gsi;
	uv_timer_t timer;
	uv_async_t kick;
	int handles; /* libuv's, not closed yet */

	pthread_mutex_t lock;
	uint8_t index;
	uint8_t reg[RTC_BYTES];
	int64_t offset_s; /* the guest's time minus the host's */
	int64_t seen_s;   /* the guest's second up to which the flags are right */
	bool line;
};

/* The functions down to the bus handlers are called with the lock held. */

static int64_t rtc_now(const struct rtc *rtc)
{
	return (int64_t)time(NULL) + rtc->offset_s;
}

static uint8_t rtc_encode(const struct rtc *rtc, int value)
{
	if (rtc->reg[RTC_B] & RTC_B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static int rtc_decode(const struct rtc *rtc, uint8_t byte)
{
	if (rtc->reg[RTC_B] & RTC_B_BINARY)
		return byte;
	return (byte >> 4) * 10 + (byte & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->reg[RTC_B] & RTC_B_24H)
		return rtc_encode(rtc, hour);
	return rtc_encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? RTC_HOUR_PM : 0);
}

static int rtc_decode_hour(const struct rtc *rtc, uint8_t byte)
{
	if (rtc->reg[RTC_B] & RTC_B_24H)
		return rtc_decode(rtc, byte);
	return rtc_decode(rtc, byte & (uint8_t)~RTC_HOUR_PM) % 12 + (byte & RTC_HOUR_PM ? 12 : 0);
}

/* Put the current time into the registers; while SET is on they are the guest's. */
static void rtc_fill_time(struct rtc *rtc)
{
	time_t now = (time_t)rtc_now(rtc);
	struct tm tm;
	int year;

	if ((rtc->reg[RTC_B] & RTC_B_SET) || !gmtime_r(&now, &tm))
		return;
	year = (tm.tm_year + 1900) % RTC_YEARS;
	if (year < 0)
		year += RTC_YEARS;
	rtc->reg[RTC_SECONDS] = rtc_encode(rtc, tm.tm_sec % 60);
	rtc->reg[RTC_MINUTES] = rtc_encode(rtc, tm.tm_min);
	rtc->reg[RTC_HOURS] = rtc_encode_hour(rtc, tm.tm_hour);
	rtc->reg[RTC_WEEKDAY] = rtc_encode(rtc, tm.tm_wday + 1);
	rtc->reg[RTC_DAY] = rtc_encode(rtc, tm.tm_mday);
	rtc->reg[RTC_MONTH] = rtc_encode(rtc, tm.tm_mon + 1);
	rtc->reg[RTC_YEAR] = rtc_encode(rtc, year % 100);
	rtc->reg[RTC_CENTURY] = rtc_encode(rtc, year / 100 % 100);
}

/* The registers were set: from now on the guest's clock runs from them. Any values will do. */
static void rtc_take_time(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = rtc_decode(rtc, rtc->reg[RTC_SECONDS]),
		.tm_min = rtc_decode(rtc, rtc->reg[RTC_MINUTES]),
		.tm_hour = rtc_decode_hour(rtc, rtc->reg[RTC_HOURS]),
		.tm_mday = rtc_decode(rtc, rtc->reg[RTC_DAY]),
		.tm_mon = rtc_decode(rtc, rtc->reg[RTC_MONTH]) - 1,
		.tm_year = rtc_decode(rtc, rtc->reg[RTC_CENTURY]) * 100 +
			   rtc_decode(rtc, rtc->reg[RTC_YEAR]) - 1900,
	};

	rtc->offset_s = (int64_t)timegm(&tm) - (int64_t)time(NULL);
	rtc->seen_s = rtc_now(rtc);
}

static bool rtc_alarm_matches(const struct rtc *rtc, int64_t second)
{
	int64_t of_day = second % RTC_DAY_S;
	const uint8_t *reg = rtc->reg;

	if (of_day < 0)
		of_day += RTC_DAY_S;
	return (reg[RTC_SECONDS_ALARM] >= RTC_ALARM_ANY ||
		rtc_decode(rtc, reg[RTC_SECONDS_ALARM]) == of_day % 60) &&
	       (reg[RTC_MINUTES_ALARM] >= RTC_ALARM_ANY ||
		rtc_decode(rtc, reg[RTC_MINUTES_ALARM]) == of_day / 60 % 60) &&
	       (reg[RTC_HOURS_ALARM] >= RTC_ALARM_ANY ||
		rtc_decode_hour(rtc, reg[RTC_HOURS_ALARM]) == of_day / 3600);
}

/* Set the flags for the seconds that began since the last look, then the line. */
static void rtc_advance(struct rtc *rtc)
{
	static const uint8_t sources = RTC_B_AIE | RTC_B_UIE;
	int64_t now = rtc_now(rtc), second;
	bool line;

	if (rtc->reg[RTC_B] & RTC_B_SET) {
		rtc->seen_s = now;
	} else if (now > rtc->seen_s) {
		rtc->reg[RTC_C] |= RTC_C_UF;
		/* A day holds every time of day there is. */
		second = now - rtc->seen_s > RTC_DAY_S ? now - RTC_DAY_S : rtc->seen_s;
		while (!(rtc->reg[RTC_C] & RTC_C_AF) && second < now)
			if (rtc_alarm_matches(rtc, ++second))
				rtc->reg[RTC_C] |= RTC_C_AF;
	}
	rtc->seen_s = now;

	/* The enable bits of B and the flags of C sit at the same places. */
	line = rtc->reg[RTC_B] & rtc->reg[RTC_C] & sources;
	if (line)
		rtc->reg[RTC_C] |= RTC_C_IRQF;
	if (line != rtc->line) {
		rtc->line = line;
		hv_line_set(rtc->hv, rtc->gsi, line);
	}
}

static uint8_t rtc_data_read(struct rtc *rtc)
{
	uint8_t value;

	switch (rtc->index) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_WEEKDAY:
	case RTC_DAY:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY:
		rtc_fill_time(rtc);
		return rtc->reg[rtc->index];
	case RTC_C:
		rtc_advance(rtc);
		value = rtc->reg[RTC_C];
		rtc->reg[RTC_C] = 0;
		rtc_advance(rtc);
		return value;
	default:
		return rtc->reg[rtc->index];
	}
}

static void rtc_b_write(struct rtc *rtc, uint8_t value)
{
	uint8_t old = rtc->reg[RTC_B];

	rtc_advance(rtc);
	if ((value & RTC_B_SET) && !(old & RTC_B_SET))
		rtc_fill_time(rtc);
	/* SET turns the update-ended interrupt off. */
	if (value & RTC_B_SET)
		value &= (uint8_t)~RTC_B_UIE;
	rtc->reg[RTC_B] = value;
	if (!(value & RTC_B_SET) && (old & RTC_B_SET))
		rtc_take_time(rtc);
	rtc_advance(rtc);
	uv_async_send(&rtc->kick);
}

static void rtc_data_write(struct rtc *rtc, uint8_t value)
{
	switch (rtc->index) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_WEEKDAY:
	case RTC_DAY:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY:
		rtc_fill_time(rtc);
		rtc->reg[rtc->index] = value;
		if (!(rtc->reg[RTC_B] & RTC_B_SET))
			rtc_take_time(rtc);
		break;
	case RTC_A:
		rtc->reg[RTC_A] = value & (uint8_t)~RTC_A_UIP;
		break;
	case RTC_B:
		rtc_b_write(rtc, value);
		break;
	case RTC_C:
	case RTC_D:
		break;
	default:
		rtc->reg[rtc->index] = value;
		break;
	}
}

/* The index register cannot be read back; its top bit masks NMIs, which there are none of. */
static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct rtc *rtc = opaque;
	uint64_t value = 0xFF;

	if (size != 1)
		return UINT64_MAX;
	pthread_mutex_lock(&rtc->lock);
	if (offset == 1)
		value = rtc_data_read(rtc);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

/* A 16-bit write is index, then data. */
static void rtc_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	if (offset == 0) {
		rtc->index = value & (RTC_BYTES - 1);
		if (size > 1)
			rtc_data_write(rtc, (uint8_t)(value >> 8));
	} else {
		rtc_data_write(rtc, (uint8_t)value);
	}
	pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops rtc_bus_ops = {rtc_read, rtc_write};

static void rtc_timer_arm(struct rtc *rtc);

static void rtc_timer_fired(uv_timer_t *timer)
{
	struct rtc *rtc = timer->data;

	pthread_mutex_lock(&rtc->lock);
	rtc_advance(rtc);
	pthread_mutex_unlock(&rtc->lock);
	rtc_timer_arm(rtc);
}

/* On the loop's thread: run at the next second if an interrupt may be due then. */
static void rtc_timer_arm(struct rtc *rtc)
{
	struct timespec now;
	uint8_t b;

	pthread_mutex_lock(&rtc->lock);
	b = rtc->reg[RTC_B];
	pthread_mutex_unlock(&rtc->lock);
	if ((b & RTC_B_SET) || !(b & (RTC_B_AIE | RTC_B_UIE))) {
		uv_timer_stop(&rtc->timer);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	/* The loop's clock is that of its last wake-up; one tick late is better than early. */
	uv_update_time(rtc->timer.loop);
	uv_timer_start(&rtc->timer, rtc_timer_fired, (uint64_t)(1000 - now.tv_nsec / 1000000) + 1,
		       0);
}

static void rtc_kicked(uv_async_t *kick)
{
	rtc_timer_arm(kick->data);
}

static void rtc_put(struct rtc *rtc, unsigned int index, unsigned int bytes, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < bytes; i++)
		rtc->reg[index + i] = (uint8_t)(value >> (8 * i));
}

static void rtc_init_memory(struct rtc *rtc, const struct rtc_config *config)
{
	uint64_t below = config->ram_below_4g;
	uint64_t extended_kib = below > MIB ? num_min((below - MIB) / KIB, 63 * KIB) : 0;

	rtc_put(rtc, RTC_BASE_KIB, 2, num_min(below / KIB, 640));
	rtc_put(rtc, RTC_EXTENDED_KIB, 2, extended_kib);
	rtc_put(rtc, RTC_EXTENDED_KIB_2, 2, extended_kib);
	if (below > 16 * MIB)
		rtc_put(rtc, RTC_ABOVE_16M, 2, num_min((below - 16 * MIB) / (64 * KIB), 0xFFFF));
	rtc_put(rtc, RTC_ABOVE_4G, 3, num_min(config->ram_above_4g / (64 * KIB), 0xFFFFFF));
}

static int64_t rtc_first_offset(const struct rtc_config *config)
{
	time_t now = time(NULL);
	struct tm tm;

	if (config->has_start)
		return config->start_s - now;
	if (!config->localtime)
		return 0;
	return localtime_r(&now, &tm) ? tm.tm_gmtoff : 0;
}

static void rtc_handle_closed(uv_handle_t *handle)
{
	struct rtc *rtc = handle->data;

	if (--rtc->handles)
		return;
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

struct rtc *rtc_new(struct hv *hv, struct bus *pio, struct loop *loop,
		    const struct rtc_config *config, struct err **err)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int ret;

	if (!rtc) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	ret = uv_async_init(loop_uv(loop), &rtc->kick, rtc_kicked);
	if (ret) {
		err_set(err, -ret, "cannot start the clock: %s", uv_strerror(ret));
		free(rtc);
		return NULL;
	}
	uv_timer_init(loop_uv(loop), &rtc->timer);
	rtc->kick.data = rtc;
	rtc->timer.data = rtc;
	rtc->handles = 2;
	rtc->hv = hv;
	rtc->pio = pio;
	rtc->gsi = config->gsi;
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->reg[RTC_A] = RTC_A_DEFAULT;
	rtc->reg[RTC_B] = RTC_B_24H;
	rtc->reg[RTC_D] = RTC_D_VALID;
	rtc->offset_s = rtc_first_offset(config);
	rtc->seen_s = rtc_now(rtc);
	rtc_init_memory(rtc, config);
	rtc->region.name = "rtc";
	rtc->region.range = (struct range){PLATFORM_RTC_PORT, PLATFORM_RTC_SIZE};
	rtc->region.ops = &rtc_bus_ops;
	rtc->region.opaque = rtc;
	bus_add(pio, &rtc->region);
	return rtc;
}

void rtc_free(struct rtc *rtc)
{
	if (!rtc)
		return;
	bus_remove(rtc->pio, &rtc->region);
	if (rtc->line)
		hv_line_set(rtc->hv, rtc->gsi, false);
	uv_close((uv_handle_t *)&rtc->kick, rtc_handle_closed);
	uv_close((uv_handle_t *)&rtc->timer, rtc_handle_closed);
}

void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	if (rtc->reg[RTC_B] & RTC_B_SET)
		rtc_b_write(rtc, rtc->reg[RTC_B] & (uint8_t)~RTC_B_SET);
	rtc->reg[RTC_B] &= RTC_B_24H | RTC_B_BINARY;
	rtc->reg[RTC_C] = 0;
	rtc_advance(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_save(struct rtc *rtc, struct pack *out)
{
	pthread_mutex_lock(&rtc->lock);
	pack_u8(out, rtc->index);
	pack_bytes(out, rtc->reg, sizeof(rtc->reg));
	pack_u64(out, (uint64_t)rtc->offset_s);
	pack_u64(out, (uint64_t)rtc->seen_s);
	pthread_mutex_unlock(&rtc->lock);
}

/* Could a guest and the time have brought these registers about? */
static bool rtc_registers_possible(const uint8_t *reg)
{
	static const uint8_t flags = RTC_C_IRQF | RTC_C_AF | RTC_C_UF;

	return !(reg[RTC_A] & RTC_A_UIP) && !(reg[RTC_C] & ~flags) && reg[RTC_D] == RTC_D_VALID &&
	       !((reg[RTC_B] & RTC_B_SET) && (reg[RTC_B] & RTC_B_UIE));
}

static bool rtc_seconds_possible(int64_t seconds, int64_t max)
{
	return seconds >= -max && seconds <= max;
}

int rtc_load(struct rtc *rtc, uint32_t version, struct unpack *in, struct err **err)
{
	uint8_t index = unpack_u8_max(in, RTC_BYTES - 1), reg[RTC_BYTES];
	int64_t offset_s, seen_s;

	unpack_bytes(in, reg, sizeof(reg));
	offset_s = (int64_t)unpack_u64(in);
	seen_s = (int64_t)unpack_u64(in);
	if (version != RTC_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, RTC_STATE_VERSION);
	if (!unpack_ended(in) || !rtc_registers_possible(reg) ||
	    !rtc_seconds_possible(offset_s, RTC_OFFSET_S_MAX) ||
	    !rtc_seconds_possible(seen_s, 2 * RTC_OFFSET_S_MAX))
		return err_set(err, EINVAL,
			       "its registers are cut short, or hold values that cannot be");
	pthread_mutex_lock(&rtc->lock);
	rtc->index = index;
	memcpy(rtc->reg, reg, sizeof(reg));
	rtc->offset_s = offset_s;
	rtc->seen_s = seen_s;
	rtc_advance(rtc);
	pthread_mutex_unlock(&rtc->lock);
	uv_async_send(&rtc->kick);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Real-time clock and CMOS memory (Motorola MC146818) at ports 0x70 and 0x71.
 *
 * I1  The time is the host's clock plus an offset that only a guest's setting of the clock changes;
 *     it does not stop with the machine.
 * I2  The time registers read a consistent second: UIP is never seen set because an update takes
 *     no time; while SET is on, they hold what was written.
 *
 * Alarm and update-ended interrupts are delivered at seconds' boundaries; there is no periodic
 * interrupt and the registers say so (PF stays 0). Threads: a mutex of its own; the timer runs on
 * the main loop. The guest controls the index and every register.
 */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct err;
struct hv;
struct loop;
struct pack;
struct rtc;
struct unpack;

struct rtc_config {
	bool localtime;        /* -rtc base=localtime; else UTC */
	bool has_start;        /* -rtc base=DATE: instead of both, */
	int64_t start_s;       /* seconds since 1970 that it shows at first */
	uint64_t ram_below_4g; /* bytes; fills the memory-size registers that loaders read */
	uint64_t ram_above_4g;
	uint32_t gsi; /* 8 on a PC */
};

/* On the main loop's thread, as is rtc_free(). */
struct rtc *rtc_new(struct hv *hv, struct bus *pio, struct loop *loop,
		    const struct rtc_config *config, struct err **err);
void rtc_free(struct rtc *rtc);
/* Interrupts off; time, memory bytes and the guest's own bytes stay, as with a battery. */
void rtc_reset(struct rtc *rtc);

/*
 * Registers, memory, and the guest's time as the difference from the host's: as with a battery, the
 * clock goes on while the machine is saved, and an alarm whose time came meanwhile is raised when
 * it is loaded. -EINVAL and a sentence for what cannot be. On the main loop's thread, the machine
 * stopped.
 */
#define RTC_STATE_VERSION 1u
void rtc_save(struct rtc *rtc, struct pack *out);
int rtc_load(struct rtc *rtc, uint32_t version, struct unpack *in, struct err **err);

#endif

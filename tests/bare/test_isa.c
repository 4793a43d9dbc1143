/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serial, rtc: registers of the 16550 (PC16550D data sheet, 8) and the MC146818 clock. echo: input
 * through the receive interrupt. powerbutton: the generic event device.
 */
#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/text.h"
#include "lib/trap.h"
#include "tests.h"
#include "vmm/machine/platform.h"

#define REG_DATA 0u
#define REG_IER  1u
#define REG_IIR  2u
#define REG_FCR  2u
#define REG_LCR  3u
#define REG_MCR  4u
#define REG_LSR  5u
#define REG_MSR  6u
#define REG_SCR  7u

#define LSR_DATA    0x01u
#define LSR_OVERRUN 0x02u
#define LSR_IDLE    0x60u
#define MCR_LOOP    0x10u
#define IIR_NONE    0x01u
#define IIR_THRE    0x02u
#define IIR_RECEIVE 0x04u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO    0xc0u
#define LCR_DLAB    0x80u
#define IRQ_VECTOR  0x28u

#define RTC_SECONDS 0x00u
#define RTC_MINUTES 0x02u
#define RTC_HOURS   0x04u
#define RTC_DAY     0x07u
#define RTC_MONTH   0x08u
#define RTC_YEAR    0x09u
#define RTC_A       0x0au
#define RTC_B       0x0bu
#define RTC_D       0x0du
#define RTC_CENTURY 0x32u
#define RTC_UIP     0x80u
#define RTC_BINARY  0x04u
#define RTC_24H     0x02u
#define RTC_VALID   0x80u

struct serial_result {
	bool scratch, latch, idle, fifo, nofifo, loop_data, loop_overrun, loop_msr;
	bool iir_thre, iir_none, iir_receive, interrupt;
};

static uint8_t serial_in(unsigned int reg)
{
	return cpu_inb((uint16_t)(CONSOLE_PORT + reg));
}

static void serial_out(unsigned int reg, uint8_t value)
{
	cpu_outb((uint16_t)(CONSOLE_PORT + reg), value);
}

/* Loopback takes the port away from the console: results are kept and printed afterwards. */
static void serial_loopback(struct serial_result *r)
{
	uint8_t iir;

	serial_out(REG_FCR, 0x07);
	serial_out(REG_MCR, MCR_LOOP);
	r->loop_data = true;
	for (unsigned int i = 0; i < 16; i++)
		serial_out(REG_DATA, (uint8_t)(0xa0 + i));
	serial_out(REG_IER, 1);
	iir = serial_in(REG_IIR) & 0x0f;
	r->iir_receive = iir == IIR_RECEIVE || iir == IIR_TIMEOUT;
	serial_out(REG_IER, 0);
	for (unsigned int i = 0; i < 16; i++)
		r->loop_data = r->loop_data && (serial_in(REG_LSR) & LSR_DATA) != 0 &&
			       serial_in(REG_DATA) == 0xa0 + i;
	r->loop_data = r->loop_data && (serial_in(REG_LSR) & LSR_DATA) == 0;
	for (unsigned int i = 0; i < 17; i++)
		serial_out(REG_DATA, 0x55);
	r->loop_overrun =
		(serial_in(REG_LSR) & LSR_OVERRUN) != 0 && (serial_in(REG_LSR) & LSR_OVERRUN) == 0;
	/* DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD */
	serial_out(REG_MCR, MCR_LOOP | 0x0f);
	r->loop_msr = (serial_in(REG_MSR) & 0xf0) == 0xf0;
	serial_out(REG_MCR, MCR_LOOP);
	r->loop_msr = r->loop_msr && (serial_in(REG_MSR) & 0xf0) == 0;
	serial_out(REG_FCR, 0x07);
	serial_out(REG_MCR, 0x0b);
}

static bool serial_interrupt(void)
{
	uint64_t before = trap_count(IRQ_VECTOR), start = cpu_ticks();

	trap_set_handler(IRQ_VECTOR, NULL, NULL);
	apic_route_gsi(acpi_ioapic_gpa(), CONSOLE_GSI, IRQ_VECTOR, false);
	serial_out(REG_IER, 2);
	cpu_interrupts_on();
	while (trap_count(IRQ_VECTOR) == before && cpu_ticks() - start < CPU_PATIENCE)
		cpu_relax();
	cpu_interrupts_off();
	serial_out(REG_IER, 0);
	return trap_count(IRQ_VECTOR) != before;
}

void test_serial(void)
{
	struct serial_result r;
	uint8_t iir;

	serial_out(REG_SCR, 0x5a);
	r.scratch = serial_in(REG_SCR) == 0x5a;
	serial_out(REG_SCR, 0xa5);
	r.scratch = r.scratch && serial_in(REG_SCR) == 0xa5;
	serial_out(REG_LCR, LCR_DLAB | 0x03);
	serial_out(REG_DATA, 0x34);
	serial_out(REG_IER, 0x12);
	r.latch = serial_in(REG_DATA) == 0x34 && serial_in(REG_IER) == 0x12;
	serial_out(REG_LCR, 0x03);
	serial_out(REG_IER, 0);
	r.latch = r.latch && serial_in(REG_IER) == 0 && serial_in(REG_LCR) == 0x03;
	r.idle = (serial_in(REG_LSR) & LSR_IDLE) == LSR_IDLE;
	serial_out(REG_FCR, 0x01);
	r.fifo = (serial_in(REG_IIR) & IIR_FIFO) == IIR_FIFO;
	serial_out(REG_FCR, 0x00);
	r.nofifo = (serial_in(REG_IIR) & IIR_FIFO) == 0;
	serial_out(REG_FCR, 0x07);
	serial_loopback(&r);
	serial_out(REG_IER, 2);
	iir = serial_in(REG_IIR) & 0x0f;
	r.iir_thre = iir == IIR_THRE;
	r.iir_none = (serial_in(REG_IIR) & IIR_NONE) != 0;
	serial_out(REG_IER, 0);
	r.interrupt = serial_interrupt();
	console_init();
	check(r.scratch, "serial-scratch", "does not hold a byte");
	check(r.latch, "serial-divisor", "divisor latch and registers behind it mix");
	check(r.idle, "serial-idle", "transmitter not idle after everything was sent");
	check(r.fifo && r.nofifo, "serial-fifo-flags", "IIR does not follow FCR");
	check(r.loop_data, "serial-loop-data", "bytes do not come back in order");
	check(r.loop_overrun, "serial-loop-overrun", "a 17th byte is not an overrun, told once");
	check(r.loop_msr, "serial-loop-modem", "modem lines do not come back");
	check(r.iir_thre, "serial-iir-thre", "IIR was 0x%x with the transmitter empty", iir);
	check(r.iir_none, "serial-iir-cleared", "reading IIR did not clear it");
	check(r.iir_receive, "serial-iir-receive", "IIR does not tell of received bytes");
	check(r.interrupt, "serial-interrupt", "none on input 4");
}

static uint8_t rtc_read(uint8_t reg)
{
	cpu_outb(PLATFORM_RTC_PORT, reg);
	return cpu_inb(PLATFORM_RTC_PORT + 1);
}

static void rtc_write(uint8_t reg, uint8_t value)
{
	cpu_outb(PLATFORM_RTC_PORT, reg);
	cpu_outb(PLATFORM_RTC_PORT + 1, value);
}

static unsigned int rtc_number(uint8_t reg)
{
	uint8_t value = rtc_read(reg);

	if ((rtc_read(RTC_B) & RTC_BINARY) != 0)
		return value;
	return (unsigned int)(value >> 4) * 10 + (value & 15);
}

/* Prints "rtc YYYY-MM-DD HH:MM:SS" for whoever runs the test to compare with the host's clock. */
void test_rtc(void)
{
	unsigned int seconds = rtc_number(RTC_SECONDS), later;
	uint64_t start = cpu_ticks();

	check((rtc_read(RTC_D) & RTC_VALID) != 0, "rtc-valid", "register D says no battery");
	check((rtc_read(RTC_B) & RTC_24H) != 0, "rtc-24h", "12-hour mode after start");
	while ((rtc_read(RTC_A) & RTC_UIP) != 0 && cpu_ticks() - start < CPU_PATIENCE)
		cpu_relax();
	console_printf("rtc %02u%02u-%02u-%02u %02u:%02u:%02u\n", rtc_number(RTC_CENTURY),
		       rtc_number(RTC_YEAR), rtc_number(RTC_MONTH), rtc_number(RTC_DAY),
		       rtc_number(RTC_HOURS), rtc_number(RTC_MINUTES), seconds);
	do {
		later = rtc_number(RTC_SECONDS);
	} while (later == seconds && cpu_ticks() - start < CPU_PATIENCE);
	check(later == (seconds + 1) % 60, "rtc-runs", "from %u to %u", seconds, later);
	rtc_write(0x50, 0x5a);
	rtc_write(0x51, 0xa5);
	check(rtc_read(0x50) == 0x5a && rtc_read(0x51) == 0xa5, "rtc-memory",
	      "a byte of CMOS memory does not hold what was written");
}

/* Echoes lines until "quit". */
void test_echo(void)
{
	char line[LINES_MAX];

	lines_init(IRQ_VECTOR);
	console_printf("echo: ready\n");
	for (;;) {
		while (!lines_get(line))
			cpu_sleep();
		if (strcmp(line, "quit") == 0)
			break;
		console_printf("echo: %s\n", line);
	}
	check(true, "echo", "unreachable");
}

/* Waits for the power button, then ends as the command line says. */
void test_powerbutton(void)
{
	uint8_t events = 0;

	cpu_inb(PLATFORM_GED_PORT);
	apic_route_gsi(acpi_ioapic_gpa(), PLATFORM_GED_GSI, IRQ_VECTOR, false);
	console_printf("powerbutton: ready\n");
	while (trap_count(IRQ_VECTOR) == 0)
		cpu_sleep();
	events = cpu_inb(PLATFORM_GED_PORT);
	check_equal(events, PLATFORM_GED_EVENT_POWER_BUTTON, "powerbutton");
	check_equal(cpu_inb(PLATFORM_GED_PORT), 0, "powerbutton-cleared");
}

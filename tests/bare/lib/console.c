/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console. Text is put together in a buffer first, so that most of it leaves the guest as one
 * string instruction for 16 bytes.
 */
#include <stdarg.h>

#include "console.h"
#include "cpu.h"

#define REG_DATA     0u
#define REG_IER      1u
#define REG_FCR      2u
#define REG_LCR      3u
#define REG_MCR      4u
#define REG_LSR      5u
#define LCR_DLAB     0x80u
#define LCR_8N1      0x03u
#define FCR_ON       0x07u /* enable and clear both FIFOs */
#define MCR_DTR_RTS  0x0bu /* and OUT2, which lets the interrupt through */
#define LSR_DATA     0x01u
#define LSR_THR_FREE 0x20u
#define IER_RECEIVE  0x01u
#define FIFO_BYTES   16u
#define TEXT_MAX     512u
#define SEIZE_TURNS  (UINT32_C(1) << 20)

struct text {
	char bytes[TEXT_MAX];
	size_t size;
};

static uint8_t console_lock;

void console_init(void)
{
	cpu_outb(CONSOLE_PORT + REG_IER, 0);
	cpu_outb(CONSOLE_PORT + REG_LCR, LCR_DLAB);
	cpu_outb(CONSOLE_PORT + REG_DATA, 1);
	cpu_outb(CONSOLE_PORT + REG_IER, 0);
	cpu_outb(CONSOLE_PORT + REG_LCR, LCR_8N1);
	cpu_outb(CONSOLE_PORT + REG_FCR, FCR_ON);
	cpu_outb(CONSOLE_PORT + REG_MCR, MCR_DTR_RTS);
}

void console_interrupt_on_input(void)
{
	cpu_outb(CONSOLE_PORT + REG_IER, IER_RECEIVE);
}

int console_read(void)
{
	if ((cpu_inb(CONSOLE_PORT + REG_LSR) & LSR_DATA) == 0)
		return -1;
	return cpu_inb(CONSOLE_PORT + REG_DATA);
}

static void console_write(const char *bytes, size_t size)
{
	while (size > 0) {
		size_t n = size < FIFO_BYTES ? size : FIFO_BYTES;

		while ((cpu_inb(CONSOLE_PORT + REG_LSR) & LSR_THR_FREE) == 0)
			cpu_relax();
		cpu_outsb(CONSOLE_PORT + REG_DATA, bytes, n);
		bytes += n;
		size -= n;
	}
}

static void text_put(struct text *text, char c)
{
	if (text->size < TEXT_MAX)
		text->bytes[text->size++] = c;
}

static void text_put_number(struct text *text, uint64_t value, bool negative, unsigned int base,
			    unsigned int width, char pad)
{
	char digits[24];
	unsigned int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value != 0);
	if (negative)
		digits[n++] = '-';
	for (unsigned int i = n; i < width; i++)
		text_put(text, pad);
	while (n > 0)
		text_put(text, digits[--n]);
}

/* One conversion; @p is behind the percent sign. Returns where the format goes on. */
static const char *text_convert(struct text *text, const char *p, va_list *args)
{
	char pad = *p == '0' ? '0' : ' ';
	unsigned int width = 0;
	bool is_long = false;
	uint64_t value;

	for (; *p >= '0' && *p <= '9'; p++)
		width = width * 10 + (unsigned int)(*p - '0');
	for (; *p == 'l'; p++)
		is_long = true;
	switch (*p) {
	case 's':
		for (const char *s = va_arg(*args, const char *); *s != '\0'; s++)
			text_put(text, *s);
		break;
	case 'c':
		text_put(text, (char)va_arg(*args, int));
		break;
	case 'd': {
		int64_t number = is_long ? va_arg(*args, int64_t) : va_arg(*args, int);

		value = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
		text_put_number(text, value, number < 0, 10, width, pad);
		break;
	}
	case 'u':
	case 'x':
		value = is_long ? va_arg(*args, uint64_t) : va_arg(*args, unsigned int);
		text_put_number(text, value, false, *p == 'x' ? 16 : 10, width, pad);
		break;
	default:
		text_put(text, *p);
		break;
	}
	return p + 1;
}

void console_printf(const char *format, ...)
{
	bool interrupts = (cpu_flags() & 0x200) != 0;
	struct text text;
	va_list args;

	text.size = 0;
	va_start(args, format);
	for (const char *p = format; *p != '\0';) {
		if (*p == '\n')
			text_put(&text, '\r');
		if (*p != '%')
			text_put(&text, *p++);
		else
			p = text_convert(&text, p + 1, &args);
	}
	va_end(args);
	/* an interrupt handler that prints must not meet its own processor's lock */
	cpu_interrupts_off();
	while (__atomic_exchange_n(&console_lock, 1, __ATOMIC_ACQUIRE) != 0)
		cpu_relax();
	console_write(text.bytes, text.size);
	__atomic_store_n(&console_lock, 0, __ATOMIC_RELEASE);
	if (interrupts)
		cpu_interrupts_on();
}

void console_seize(void)
{
	for (uint32_t turns = 0; turns < SEIZE_TURNS; turns++) {
		if (__atomic_load_n(&console_lock, __ATOMIC_ACQUIRE) == 0)
			return;
		cpu_relax();
	}
	__atomic_store_n(&console_lock, 0, __ATOMIC_RELEASE);
}

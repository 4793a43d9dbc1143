/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 16550A: see serial.h for the contract.
 *
 * Locking: everything below `lock` is guarded by it. The chardev's write and resume calls and the
 * interrupt line never call back, so they are made with the lock held; that keeps the line's edges
 * in the order of the register accesses.
 */
#include "vmm/isa/serial.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/chardev/chardev.h"
#include "vmm/core/bus.h"
#include "vmm/core/hv.h"

#define SERIAL_SIZE       8
#define SERIAL_FIFO_BYTES 16

enum {
	SERIAL_DATA = 0, /* RBR, THR; DLL with DLAB */
	SERIAL_IER = 1,  /* DLM with DLAB */
	SERIAL_IIR = 2,  /* FCR when written */
	SERIAL_LCR = 3,
	SERIAL_MCR = 4,
	SERIAL_LSR = 5,
	SERIAL_MSR = 6,
	SERIAL_SCR = 7,
};

#define IER_RDA  0x01
#define IER_THRE 0x02
#define IER_LINE 0x04
#define IER_MSR  0x08
#define IER_MASK 0x0F

#define IIR_NONE    0x01
#define IIR_MSR     0x00
#define IIR_THRE    0x02
#define IIR_RDA     0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0C
#define IIR_FIFO    0xC0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_CLEAR_TX 0x04
#define FCR_TRIGGER  0xC0

#define LCR_DLAB 0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1F

#define LSR_DR   0x01
#define LSR_OE   0x02
#define LSR_BI   0x10
#define LSR_THRE 0x20
#define LSR_TEMT 0x40
#define LSR_ERRS 0x1E

#define MSR_TERI  0x04
#define MSR_DELTA 0x0F
#define MSR_LINES 0xF0
#define MSR_CTS   0x10
#define MSR_DSR   0x20
#define MSR_RI    0x40
#define MSR_DCD   0x80

struct serial {
	struct hv *hv;
	struct bus *pio;
	struct bus_region region;
	uint32_t gsi;
	struct chr_port *port; /* NULL: nothing is plugged in */

	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
	uint8_t lsr_errors; /* OE, PE, FE, BI: cleared by reading LSR */
	bool thre_pending;  /* THRE interrupt: set when THR empties, cleared by reading IIR */
	bool input_refused; /* can_receive() gave 0: resume when there is room */
	bool paused;        /* I4 */
	bool line;          /* what hv_line_set() was last told */
	uint8_t rx[SERIAL_FIFO_BYTES];
	unsigned int rx_first, rx_count;
	uint8_t tx[SERIAL_FIFO_BYTES];
	unsigned int tx_count;
};

/* The functions down to the bus handlers are called with the lock held. */

static unsigned int serial_rx_room(const struct serial *s)
{
	unsigned int capacity = s->fcr & FCR_ENABLE ? SERIAL_FIFO_BYTES : 1;

	return s->rx_count < capacity ? capacity - s->rx_count : 0;
}

static unsigned int serial_rx_trigger(const struct serial *s)
{
	static const uint8_t levels[4] = {1, 4, 8, 14};

	return s->fcr & FCR_ENABLE ? levels[(s->fcr & FCR_TRIGGER) >> 6] : 1;
}

/* The highest enabled condition, as IIR's low four bits. */
static uint8_t serial_condition(const struct serial *s)
{
	if ((s->ier & IER_LINE) && s->lsr_errors)
		return IIR_LINE;
	if ((s->ier & IER_RDA) && s->rx_count)
		return s->rx_count >= serial_rx_trigger(s) ? IIR_RDA : IIR_TIMEOUT;
	if ((s->ier & IER_THRE) && s->thre_pending)
		return IIR_THRE;
	if ((s->ier & IER_MSR) && (s->msr & MSR_DELTA))
		return IIR_MSR;
	return IIR_NONE;
}

static void serial_update_line(struct serial *s)
{
	bool line = serial_condition(s) != IIR_NONE;

	if (line == s->line)
		return;
	s->line = line;
	hv_line_set(s->hv, s->gsi, line);
}

/* A byte without room in the FIFO is lost and reported, as the chip does. */
static void serial_rx_put(struct serial *s, uint8_t byte)
{
	if (!serial_rx_room(s)) {
		s->lsr_errors |= LSR_OE;
		return;
	}
	s->rx[(s->rx_first + s->rx_count) % SERIAL_FIFO_BYTES] = byte;
	s->rx_count++;
}

static void serial_input_resume(struct serial *s)
{
	if (s->input_refused && !s->paused && !(s->mcr & MCR_LOOP) && serial_rx_room(s)) {
		s->input_refused = false;
		chr_port_resume(s->port);
	}
}

static uint8_t serial_rx_get(struct serial *s)
{
	uint8_t byte;

	if (!s->rx_count)
		return 0;
	byte = s->rx[s->rx_first];
	s->rx_first = (s->rx_first + 1) % SERIAL_FIFO_BYTES;
	s->rx_count--;
	serial_input_resume(s);
	return byte;
}

/* Hand what THR holds to the chardev; THRE rises when all of it is gone. */
static void serial_tx_drain(struct serial *s)
{
	size_t taken = s->port ? chr_port_write(s->port, s->tx, s->tx_count) : s->tx_count;

	s->tx_count -= (unsigned int)taken;
	memmove(s->tx, s->tx + taken, s->tx_count);
	if (!s->tx_count)
		s->thre_pending = true;
}

static void serial_tx_put(struct serial *s, uint8_t byte)
{
	s->thre_pending = false;
	if (s->mcr & MCR_LOOP) {
		serial_rx_put(s, byte);
		s->thre_pending = true;
		return;
	}
	/* THRE is clear and the guest writes on: the chip would overwrite, too. */
	if (s->tx_count == SERIAL_FIFO_BYTES)
		return;
	s->tx[s->tx_count++] = byte;
	if (s->tx_count == 1 && !s->paused)
		serial_tx_drain(s);
}

static void serial_fcr_write(struct serial *s, uint8_t value)
{
	/* Switching the FIFOs on or off empties both. */
	if ((value ^ s->fcr) & FCR_ENABLE)
		value |= FCR_CLEAR_RX | FCR_CLEAR_TX;
	if (value & FCR_CLEAR_RX)
		s->rx_count = 0;
	if ((value & FCR_CLEAR_TX) && s->tx_count) {
		s->tx_count = 0;
		s->thre_pending = true;
	}
	/* Without bit 0 the other bits are not programmed. */
	s->fcr = value & FCR_ENABLE ? value & (FCR_ENABLE | FCR_TRIGGER) : 0;
	serial_input_resume(s);
}

/* Status lines: our own control lines in loopback, else a cable to something that is ready. */
static uint8_t serial_modem_lines(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
			 (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void serial_modem_update(struct serial *s)
{
	uint8_t lines = serial_modem_lines(s->mcr), changed, delta;

	changed = (s->msr ^ lines) & MSR_LINES;
	/* The delta bits sit four below their lines; for RI only the trailing edge counts. */
	delta = (uint8_t)(changed >> 4);
	if (lines & MSR_RI)
		delta &= (uint8_t)~MSR_TERI;
	s->msr = lines | (s->msr & MSR_DELTA) | delta;
}

static uint8_t serial_iir_read(struct serial *s)
{
	uint8_t condition = serial_condition(s);

	if (condition == IIR_THRE)
		s->thre_pending = false;
	return condition | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t serial_lsr_read(struct serial *s)
{
	uint8_t lsr = s->lsr_errors;

	if (s->rx_count)
		lsr |= LSR_DR;
	if (!s->tx_count)
		lsr |= LSR_THRE | LSR_TEMT;
	s->lsr_errors = 0;
	return lsr;
}

static uint8_t serial_msr_read(struct serial *s)
{
	uint8_t msr = s->msr;

	s->msr &= (uint8_t)~MSR_DELTA;
	return msr;
}

static uint8_t serial_reg_read(struct serial *s, uint64_t reg)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case SERIAL_DATA:
		return dlab ? s->dll : serial_rx_get(s);
	case SERIAL_IER:
		return dlab ? s->dlm : s->ier;
	case SERIAL_IIR:
		return serial_iir_read(s);
	case SERIAL_LCR:
		return s->lcr;
	case SERIAL_MCR:
		return s->mcr;
	case SERIAL_LSR:
		return serial_lsr_read(s);
	case SERIAL_MSR:
		return serial_msr_read(s);
	default:
		return s->scr;
	}
}

static void serial_ier_write(struct serial *s, uint8_t value)
{
	/* Enabling the THRE interrupt raises it if THR is empty. */
	if (!(s->ier & IER_THRE) && (value & IER_THRE) && !s->tx_count)
		s->thre_pending = true;
	s->ier = value & IER_MASK;
}

static void serial_reg_write(struct serial *s, uint64_t reg, uint8_t value)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case SERIAL_DATA:
		if (dlab)
			s->dll = value;
		else
			serial_tx_put(s, value);
		break;
	case SERIAL_IER:
		if (dlab)
			s->dlm = value;
		else
			serial_ier_write(s, value);
		break;
	case SERIAL_IIR:
		serial_fcr_write(s, value);
		break;
	case SERIAL_LCR:
		s->lcr = value;
		break;
	case SERIAL_MCR:
		s->mcr = value & MCR_MASK;
		serial_modem_update(s);
		serial_input_resume(s);
		break;
	case SERIAL_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* A wider access reaches consecutive registers, low byte first, as the ISA bus splits it. */
static uint64_t serial_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct serial *s = opaque;
	uint64_t value = 0;
	unsigned int i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < size; i++)
		value |= (uint64_t)serial_reg_read(s, offset + i) << (8 * i);
	serial_update_line(s);
	pthread_mutex_unlock(&s->lock);
	return value;
}

static void serial_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct serial *s = opaque;
	unsigned int i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < size; i++)
		serial_reg_write(s, offset + i, (uint8_t)(value >> (8 * i)));
	serial_update_line(s);
	pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops serial_bus_ops = {serial_read, serial_write};

static size_t serial_can_receive(void *opaque)
{
	struct serial *s = opaque;
	size_t room;

	pthread_mutex_lock(&s->lock);
	room = s->paused || (s->mcr & MCR_LOOP) ? 0 : serial_rx_room(s);
	s->input_refused = !room;
	pthread_mutex_unlock(&s->lock);
	return room;
}

/* The FIFO may have become smaller since can_receive(); what does not fit is an overrun. */
static void serial_receive(void *opaque, const uint8_t *buf, size_t size)
{
	struct serial *s = opaque;
	size_t i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < size; i++)
		serial_rx_put(s, buf[i]);
	serial_update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/* A break is a null byte with BI set. */
static void serial_event(void *opaque, enum chr_event event)
{
	struct serial *s = opaque;

	if (event != CHR_BREAK)
		return;
	pthread_mutex_lock(&s->lock);
	if (!(s->mcr & MCR_LOOP)) {
		s->lsr_errors |= LSR_BI;
		serial_rx_put(s, 0);
		serial_update_line(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void serial_writable(void *opaque)
{
	struct serial *s = opaque;

	pthread_mutex_lock(&s->lock);
	if (s->tx_count && !s->paused) {
		serial_tx_drain(s);
		serial_update_line(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static const struct chr_ops serial_chr_ops = {
	.can_receive = serial_can_receive,
	.receive = serial_receive,
	.event = serial_event,
	.writable = serial_writable,
};

/* With the lock held, or before anybody else knows the port. */
static void serial_init_state(struct serial *s)
{
	s->ier = 0;
	s->fcr = 0;
	s->lcr = 0;
	s->mcr = 0;
	s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
	s->scr = 0;
	s->dll = 12; /* 9600 baud */
	s->dlm = 0;
	s->lsr_errors = 0;
	s->thre_pending = false;
	s->rx_first = 0;
	s->rx_count = 0;
	s->tx_count = 0;
}

struct serial *serial_new(struct hv *hv, struct bus *pio, uint16_t port, uint32_t gsi,
			  struct chardev *chr, struct err **err)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	s->hv = hv;
	s->pio = pio;
	s->gsi = gsi;
	pthread_mutex_init(&s->lock, NULL);
	s->paused = true;
	serial_init_state(s);
	if (chr && chardev_attach(chr, &serial_chr_ops, s, &s->port, err)) {
		pthread_mutex_destroy(&s->lock);
		free(s);
		return NULL;
	}
	s->region.name = "serial";
	s->region.range = (struct range){port, SERIAL_SIZE};
	s->region.ops = &serial_bus_ops;
	s->region.opaque = s;
	bus_add(pio, &s->region);
	return s;
}

void serial_free(struct serial *s)
{
	if (!s)
		return;
	bus_remove(s->pio, &s->region);
	if (s->line)
		hv_line_set(s->hv, s->gsi, false);
	chr_port_close(s->port);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void serial_reset(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->tx_count)
		serial_tx_drain(s);
	serial_init_state(s);
	serial_update_line(s);
	serial_input_resume(s);
	pthread_mutex_unlock(&s->lock);
}

void serial_focus(struct serial *s)
{
	if (s->port)
		chr_port_focus(s->port);
}

void serial_pause(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	s->paused = true;
	pthread_mutex_unlock(&s->lock);
}

void serial_resume(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	s->paused = false;
	if (s->tx_count)
		serial_tx_drain(s);
	serial_update_line(s);
	serial_input_resume(s);
	pthread_mutex_unlock(&s->lock);
}

void serial_save(struct serial *s, struct pack *out)
{
	pthread_mutex_lock(&s->lock);
	pack_u8(out, s->ier);
	pack_u8(out, s->fcr);
	pack_u8(out, s->lcr);
	pack_u8(out, s->mcr);
	pack_u8(out, s->msr);
	pack_u8(out, s->scr);
	pack_u8(out, s->dll);
	pack_u8(out, s->dlm);
	pack_u8(out, s->lsr_errors);
	pack_bool(out, s->thre_pending);
	pack_u8(out, (uint8_t)s->rx_count);
	for (unsigned int i = 0; i < s->rx_count; i++)
		pack_u8(out, s->rx[(s->rx_first + i) % SERIAL_FIFO_BYTES]);
	pack_u8(out, (uint8_t)s->tx_count);
	pack_bytes(out, s->tx, s->tx_count);
	pthread_mutex_unlock(&s->lock);
}

/* With the lock held. */
static void serial_load_registers(struct serial *s, struct unpack *in)
{
	s->ier = unpack_u8_max(in, IER_MASK);
	s->fcr = unpack_u8(in);
	s->lcr = unpack_u8(in);
	s->mcr = unpack_u8_max(in, MCR_MASK);
	s->msr = unpack_u8(in);
	s->scr = unpack_u8(in);
	s->dll = unpack_u8(in);
	s->dlm = unpack_u8(in);
	s->lsr_errors = unpack_u8(in);
	s->thre_pending = unpack_bool(in);
	s->rx_first = 0;
	s->rx_count = unpack_u8_max(in, SERIAL_FIFO_BYTES);
	unpack_bytes(in, s->rx, s->rx_count);
	s->tx_count = unpack_u8_max(in, SERIAL_FIFO_BYTES);
	unpack_bytes(in, s->tx, s->tx_count);
}

/* Registers as a guest can bring them about; with the lock held. */
static bool serial_registers_possible(const struct serial *s)
{
	bool fifo = s->fcr & FCR_ENABLE;

	return !(s->fcr & ~(FCR_ENABLE | FCR_TRIGGER)) && (fifo || !s->fcr) &&
	       (fifo || s->rx_count <= 1) && !(s->lsr_errors & ~LSR_ERRS) &&
	       (s->msr & MSR_LINES) == serial_modem_lines(s->mcr);
}

int serial_load(struct serial *s, uint32_t version, struct unpack *in, struct err **err)
{
	int ret = 0;

	if (version != SERIAL_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, SERIAL_STATE_VERSION);
	pthread_mutex_lock(&s->lock);
	serial_load_registers(s, in);
	if (!unpack_ended(in) || !serial_registers_possible(s)) {
		serial_init_state(s);
		ret = err_set(err, EINVAL,
			      "its registers are cut short, or hold values that cannot be");
	}
	serial_update_line(s);
	pthread_mutex_unlock(&s->lock);
	return ret;
}

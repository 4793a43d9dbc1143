/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver (driver/, by driver/bare) on a memory device of this machine: what it needs of virtio, a
 * clock and page tables. Tests that send requests of their own use vmem.h instead; not both at once.
 *
 * A guest need not do all that it is asked for: the driver sees requested_size within limits that a
 * test sets.
 *
 * I1  Answers and new sizes are looked for when their interrupt came, and not before (irq=poll: at any
 *     time). So one that is lost is a guest that does not follow.
 * I2  By the boot processor only.
 */
#ifndef BARE_PORT_H
#define BARE_PORT_H

#include "driver/bare/bare.h"

#include "vmem.h"

struct port;

/* What a test is told. Each may be NULL. */
struct port_events {
	/* A request was answered; the type of struct vmem_resp. */
	void (*answered)(void *arg, const struct vmem_req *req, uint16_t answer);
	void (*came)(void *arg, uint64_t addr, uint64_t size);
	void (*goes)(void *arg, uint64_t addr, uint64_t size);
};

struct port {
	struct vmem *vmem;
	struct vmem_bare *bare;
	const struct port_events *events;
	void *arg;
	bool unmap; /* what is gone is not even mapped */
	/* limits: never less (than there is), never more, no more at a time; port_limits_changed() */
	uint64_t keep, most, step;
	/* what requested_size was, and when it was last looked at */
	uint64_t requested;
	uint64_t seen_config, seen_queue; /* interrupts */
	uint64_t next_ms;                 /* when to work again if nothing happens */
	bool work;                        /* work at once */
	struct vmem_req req;              /* under way */
	struct vmem_size_req *size_req;   /* memory that the device reads and writes */
	struct vmem_size_resp *size_resp;
	void *memory; /* of the driver, kept when it is initialised again */
	size_t memory_bytes;
};

/*
 * Page by page, in units that fill the region of the device, of 512 blocks and 128 MiB at most; no size
 * requests. Of the command line: retry=MS (300000).
 */
void port_config_init(struct vmem_bare_config *config, const struct vmem *vmem);
/*
 * Drive a device that was opened. The port's vmem, events, arg, unmap and limits are set. False when the
 * driver refuses. Again on the same port: the driver before is forgotten.
 */
bool port_init(struct port *port, const struct vmem_bare_config *config);

/* Something happened, or it is time. */
bool port_due(const struct port *port);
/* Work until the driver waits for something. */
void port_work(struct port *port);
/* The driver waits, and not for an answer: plugged_size stays as it is for now. */
bool port_rests(const struct port *port);
/* The driver is as far as the limits allow at this moment, but for the step: there is more to do. */
bool port_more(const struct port *port);
/* Work, whatever comes, until no answer is due. */
void port_finish(struct port *port);
/* keep, most or step changed. */
void port_limits_changed(struct port *port);
/* vmem_bare_free() or vmem_bare_need() returned true. */
void port_kick(struct port *port);
/* The device was reset and started again (vmem_start()). */
void port_restarted(struct port *port);

uint64_t port_plugged(const struct port *port);

#endif

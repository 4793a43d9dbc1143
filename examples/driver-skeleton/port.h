/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A skeleton port of the virtio-mem driver core, for a kernel with threads, sections of memory and a page
 * allocator that can move pages. Copy it, and put your kernel's functions in the place of those in
 * kernel.h; docs/driver.md goes through it step by step.
 *
 * Threads: one worker a device calls the core. port_onlined() and port_usable() are called by the kernel's
 * memory code: from within kernel_section_add(), when the worker holds the lock, or later by others. So
 * the worker gives the lock up around kernel_section_add() and kernel_section_remove().
 */
#ifndef PORT_H
#define PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel.h"

struct port;

/* NULL: no memory, or a device that breaks a rule. Memory in use makes a port that cannot be freed. */
struct port *port_new(struct kernel_virtio *virtio);
/* The body of the worker; returns when the device is gone or port_stop() was called. */
void port_worker(struct port *port);
/* Give back what can be given back, and end the worker. Any thread. */
void port_stop(struct port *port);
/* After port_worker() returned: false, and nothing is freed, while some of its memory is in use. */
bool port_free(struct port *port);

/* The device's configuration interrupt. */
void port_config_interrupt(struct port *port);
/* Sections of this port came into use; may these pages be used? */
void port_onlined(struct port *port, uint64_t addr, uint64_t size, bool movable);
void port_offlined(struct port *port, uint64_t addr, uint64_t size);
bool port_usable(struct port *port, uint64_t addr, uint64_t size);
/* Much memory became free: what could not be given back may be possible now. */
void port_memory_freed(struct port *port);

#endif

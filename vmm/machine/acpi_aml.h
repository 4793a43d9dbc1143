/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A growing byte buffer for ACPI tables, and as much of the ACPI Machine Language as the SSDT needs
 * (ACPI 6.4 chapters 6.4, resource descriptors, and 20.2, grammar).
 *
 * I1  A failed allocation is remembered; everything after it does nothing, aml_failed() tells.
 * I2  Objects with a package length are opened and closed in pairs; aml_close() inserts the length
 *     in its shortest form.
 *
 * Names are segments of four characters ("COM1", "_HID"); paths are segments joined with dots,
 * with or without a leading backslash. A wrong name is a programmer's error, asserted.
 * Ownership: aml_done() frees the bytes. Threads: none.
 */
#ifndef VMM_MACHINE_ACPI_AML_H
#define VMM_MACHINE_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

/* All zero is the empty buffer. */
struct aml {
	uint8_t *bytes;
	size_t size, capacity;
	bool failed;
};

void aml_done(struct aml *aml);
bool aml_failed(const struct aml *aml);

/* Append; a number takes its low @size bytes, 1 to 8, little-endian. */
void aml_put_bytes(struct aml *aml, const void *bytes, size_t size);
void aml_put_zeros(struct aml *aml, size_t size);
void aml_put(struct aml *aml, unsigned int size, uint64_t value);

/* Each returns a mark for aml_close(). */
size_t aml_open_scope(struct aml *aml, const char *path);
size_t aml_open_device(struct aml *aml, const char *name);
size_t aml_open_package(struct aml *aml, uint8_t nr_elements);
/* A method's statements follow; its arguments are aml_put_arg(). */
size_t aml_open_method(struct aml *aml, const char *name, unsigned int nr_args, bool serialized);
/* Statements that are done if the argument @arg has a bit of @mask. */
size_t aml_open_if_bits(struct aml *aml, unsigned int arg, uint64_t mask);
void aml_close(struct aml *aml, size_t mark);

/* A name whose object is appended next, and the objects. */
void aml_put_name(struct aml *aml, const char *name);
void aml_put_integer(struct aml *aml, uint64_t value);
void aml_put_string(struct aml *aml, const char *text);
/* The method's argument with this number, 0 to 6. */
void aml_put_arg(struct aml *aml, unsigned int arg);
/* Statements: call a method, whose arguments are appended next; notify a device. */
void aml_put_call(struct aml *aml, const char *path);
void aml_put_notify(struct aml *aml, const char *name, unsigned int value_arg);
/* A compressed id such as "PNP0501": three letters, four hexadecimal digits. */
void aml_put_eisa_id(struct aml *aml, const char *id);
/* A buffer with the descriptors in @resources and an end tag. */
void aml_put_resources(struct aml *aml, const struct aml *resources);

/* Resource descriptors, appended to a buffer of their own. */
void aml_res_io(struct aml *resources, uint16_t port, uint8_t size);
/* Edge-triggered, active high, exclusive. */
void aml_res_interrupt(struct aml *resources, uint32_t gsi);
/* Windows that a bridge passes on; ranges are not empty. */
void aml_res_bus_window(struct aml *resources, uint8_t first, uint8_t last);
void aml_res_io_window(struct aml *resources, uint16_t first, uint16_t last);
void aml_res_memory_window(struct aml *resources, struct range gpa);

#endif

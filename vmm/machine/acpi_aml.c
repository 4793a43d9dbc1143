/* SPDX-License-Identifier: BSD-3-Clause */
/* Encoding ACPI Machine Language: see acpi_aml.h for the contract. */
#include "vmm/machine/acpi_aml.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define AML_ZERO             0x00
#define AML_ONE              0x01
#define AML_NAME             0x08
#define AML_BYTE             0x0A
#define AML_WORD             0x0B
#define AML_DWORD            0x0C
#define AML_STRING           0x0D
#define AML_QWORD            0x0E
#define AML_SCOPE            0x10
#define AML_BUFFER           0x11
#define AML_PACKAGE          0x12
#define AML_METHOD           0x14
#define AML_EXT              0x5B
#define AML_EXT_DEVICE       0x82
#define AML_ARG0             0x68
#define AML_AND              0x7B
#define AML_NOTIFY           0x86
#define AML_IF               0xA0
#define AML_NO_TARGET        AML_ZERO
#define AML_ARGS_MAX         7
#define AML_SERIALIZED       0x08
#define AML_DUAL_NAME        0x2E
#define AML_MULTI_NAME       0x2F
#define AML_SEGMENT          4
#define AML_LENGTH_BYTES_MAX 4

#define RES_IO        0x47
#define RES_END_TAG   0x79
#define RES_DWORD     0x87
#define RES_WORD      0x88
#define RES_INTERRUPT 0x89
#define RES_QWORD     0x8A

#define RES_IO_DECODE16      0x01
#define RES_INTERRUPT_FLAGS  0x03 /* consumer, edge; active high and exclusive are 0 */
#define RES_TYPE_MEMORY      0
#define RES_TYPE_IO          1
#define RES_TYPE_BUS         2
#define RES_WINDOW_FLAGS     0x0C /* both ends fixed; producer and positive decode are 0 */
#define RES_MEMORY_READWRITE 0x01
#define RES_IO_ENTIRE        0x03

void aml_done(struct aml *aml)
{
	free(aml->bytes);
	*aml = (struct aml){0};
}

bool aml_failed(const struct aml *aml)
{
	return aml->failed;
}

/* Room for @size more bytes at the end, or NULL (I1). */
static uint8_t *aml_grow(struct aml *aml, size_t size)
{
	uint8_t *at;

	if (aml->failed)
		return NULL;
	if (size > aml->capacity - aml->size) {
		size_t capacity = aml->size + size + aml->size / 2 + 256;
		uint8_t *bytes = realloc(aml->bytes, capacity);

		if (!bytes) {
			aml->failed = true;
			return NULL;
		}
		aml->bytes = bytes;
		aml->capacity = capacity;
	}
	at = aml->bytes + aml->size;
	aml->size += size;
	return at;
}

void aml_put_bytes(struct aml *aml, const void *bytes, size_t size)
{
	uint8_t *at = aml_grow(aml, size);

	if (at && size)
		memcpy(at, bytes, size);
}

void aml_put_zeros(struct aml *aml, size_t size)
{
	uint8_t *at = aml_grow(aml, size);

	if (at && size)
		memset(at, 0, size);
}

void aml_put(struct aml *aml, unsigned int size, uint64_t value)
{
	uint8_t *at = aml_grow(aml, size);

	if (at)
		bytes_put_le(at, size, value);
}

static void aml_put_path(struct aml *aml, const char *path)
{
	size_t nr;

	if (*path == '\\')
		aml_put(aml, 1, (uint8_t)*path++);
	nr = (strlen(path) + 1) / (AML_SEGMENT + 1);
	assert(nr && strlen(path) == nr * (AML_SEGMENT + 1) - 1);
	if (nr == 2)
		aml_put(aml, 1, AML_DUAL_NAME);
	if (nr > 2) {
		aml_put(aml, 1, AML_MULTI_NAME);
		aml_put(aml, 1, nr);
	}
	for (; nr; nr--, path += AML_SEGMENT + 1)
		aml_put_bytes(aml, path, AML_SEGMENT);
}

size_t aml_open_scope(struct aml *aml, const char *path)
{
	size_t mark;

	aml_put(aml, 1, AML_SCOPE);
	mark = aml->size;
	aml_put_path(aml, path);
	return mark;
}

size_t aml_open_device(struct aml *aml, const char *name)
{
	size_t mark;

	aml_put(aml, 1, AML_EXT);
	aml_put(aml, 1, AML_EXT_DEVICE);
	mark = aml->size;
	aml_put_path(aml, name);
	return mark;
}

size_t aml_open_package(struct aml *aml, uint8_t nr_elements)
{
	size_t mark;

	aml_put(aml, 1, AML_PACKAGE);
	mark = aml->size;
	aml_put(aml, 1, nr_elements);
	return mark;
}

size_t aml_open_method(struct aml *aml, const char *name, unsigned int nr_args, bool serialized)
{
	size_t mark;

	assert(nr_args <= AML_ARGS_MAX);
	aml_put(aml, 1, AML_METHOD);
	mark = aml->size;
	aml_put_path(aml, name);
	aml_put(aml, 1, nr_args | (serialized ? AML_SERIALIZED : 0));
	return mark;
}

size_t aml_open_if_bits(struct aml *aml, unsigned int arg, uint64_t mask)
{
	size_t mark;

	aml_put(aml, 1, AML_IF);
	mark = aml->size;
	aml_put(aml, 1, AML_AND);
	aml_put_arg(aml, arg);
	aml_put_integer(aml, mask);
	aml_put(aml, 1, AML_NO_TARGET);
	return mark;
}

/*
 * A package length counts its own bytes. One byte holds 6 bits; else the first byte holds the
 * number of bytes that follow and the low 4 bits.
 */
void aml_close(struct aml *aml, size_t mark)
{
	uint8_t encoded[AML_LENGTH_BYTES_MAX] = {0};
	size_t content, total, nr = 1, i;

	if (aml->failed)
		return;
	assert(mark <= aml->size);
	content = aml->size - mark;
	if (content + nr < 1u << 6) {
		encoded[0] = (uint8_t)(content + nr);
	} else {
		for (nr = 2; content + nr >= (size_t)1 << (8 * nr - 4); nr++)
			assert(nr < AML_LENGTH_BYTES_MAX);
		total = content + nr;
		encoded[0] = (uint8_t)((nr - 1) << 6 | (total & 0xF));
		for (i = 1; i < nr; i++)
			encoded[i] = (uint8_t)(total >> (8 * i - 4));
	}
	if (!aml_grow(aml, nr))
		return;
	memmove(aml->bytes + mark + nr, aml->bytes + mark, content);
	memcpy(aml->bytes + mark, encoded, nr);
}

void aml_put_name(struct aml *aml, const char *name)
{
	aml_put(aml, 1, AML_NAME);
	aml_put_path(aml, name);
}

void aml_put_integer(struct aml *aml, uint64_t value)
{
	static const struct {
		uint8_t opcode, size;
	} forms[] = {{AML_BYTE, 1}, {AML_WORD, 2}, {AML_DWORD, 4}, {AML_QWORD, 8}};
	size_t i = 0;

	if (value <= 1) {
		aml_put(aml, 1, value ? AML_ONE : AML_ZERO);
		return;
	}
	while (forms[i].size < 8 && value >> (8 * forms[i].size))
		i++;
	aml_put(aml, 1, forms[i].opcode);
	aml_put(aml, forms[i].size, value);
}

void aml_put_string(struct aml *aml, const char *text)
{
	aml_put(aml, 1, AML_STRING);
	aml_put_bytes(aml, text, strlen(text) + 1);
}

void aml_put_arg(struct aml *aml, unsigned int arg)
{
	assert(arg < AML_ARGS_MAX);
	aml_put(aml, 1, AML_ARG0 + arg);
}

void aml_put_call(struct aml *aml, const char *path)
{
	aml_put_path(aml, path);
}

void aml_put_notify(struct aml *aml, const char *name, unsigned int value_arg)
{
	aml_put(aml, 1, AML_NOTIFY);
	aml_put_path(aml, name);
	aml_put_arg(aml, value_arg);
}

static unsigned int aml_hex_digit(char c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *at = strchr(digits, c);

	assert(c && at);
	return at ? (unsigned int)(at - digits) : 0;
}

/* Five bits a letter and four a digit, most significant byte first. */
void aml_put_eisa_id(struct aml *aml, const char *id)
{
	uint32_t value = 0;
	unsigned int i;

	assert(strlen(id) == 7);
	for (i = 0; i < 3; i++)
		value = value << 5 | (uint32_t)(id[i] - '@');
	for (i = 3; i < 7; i++)
		value = value << 4 | aml_hex_digit(id[i]);
	aml_put(aml, 1, AML_DWORD);
	aml_put(aml, 4, __builtin_bswap32(value));
}

void aml_put_resources(struct aml *aml, const struct aml *resources)
{
	size_t mark;

	if (resources->failed) {
		aml->failed = true;
		return;
	}
	aml_put(aml, 1, AML_BUFFER);
	mark = aml->size;
	aml_put_integer(aml, resources->size + 2);
	aml_put_bytes(aml, resources->bytes, resources->size);
	aml_put(aml, 1, RES_END_TAG);
	aml_put(aml, 1, 0); /* no checksum */
	aml_close(aml, mark);
}

void aml_res_io(struct aml *resources, uint16_t port, uint8_t size)
{
	aml_put(resources, 1, RES_IO);
	aml_put(resources, 1, RES_IO_DECODE16);
	aml_put(resources, 2, port);
	aml_put(resources, 2, port);
	aml_put(resources, 1, 1);
	aml_put(resources, 1, size);
}

void aml_res_interrupt(struct aml *resources, uint32_t gsi)
{
	aml_put(resources, 1, RES_INTERRUPT);
	aml_put(resources, 2, 6);
	aml_put(resources, 1, RES_INTERRUPT_FLAGS);
	aml_put(resources, 1, 1);
	aml_put(resources, 4, gsi);
}

/* An address space descriptor with fields of @width bytes: granularity, min, max, offset, length.
 */
static void aml_res_window(struct aml *resources, uint8_t tag, unsigned int width, uint8_t type,
			   uint8_t type_flags, uint64_t first, uint64_t last)
{
	aml_put(resources, 1, tag);
	aml_put(resources, 2, 3 + 5 * width);
	aml_put(resources, 1, type);
	aml_put(resources, 1, RES_WINDOW_FLAGS);
	aml_put(resources, 1, type_flags);
	aml_put(resources, width, 0);
	aml_put(resources, width, first);
	aml_put(resources, width, last);
	aml_put(resources, width, 0);
	aml_put(resources, width, last - first + 1);
}

void aml_res_bus_window(struct aml *resources, uint8_t first, uint8_t last)
{
	aml_res_window(resources, RES_WORD, 2, RES_TYPE_BUS, 0, first, last);
}

void aml_res_io_window(struct aml *resources, uint16_t first, uint16_t last)
{
	aml_res_window(resources, RES_WORD, 2, RES_TYPE_IO, RES_IO_ENTIRE, first, last);
}

void aml_res_memory_window(struct aml *resources, struct range gpa)
{
	uint64_t last = range_end(gpa) - 1;
	bool wide = last > UINT32_MAX;

	aml_res_window(resources, wide ? RES_QWORD : RES_DWORD, wide ? 8 : 4, RES_TYPE_MEMORY,
		       RES_MEMORY_READWRITE, gpa.start, last);
}

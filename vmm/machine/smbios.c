/* SPDX-License-Identifier: BSD-3-Clause */
/* The SMBIOS image: structures behind each other, entry points. See smbios.h for the contract. */
#include "vmm/machine/smbios.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/machine/boot.h"
#include "vmm/machine/smbios_int.h"

#define HANDLE_END 0x7F00

/* 5.2.1, 5.2.2 */
#define ENTRY32_SIZE   0x1F
#define ENTRY32_DMI    0x10 /* offset of "_DMI_", which has a checksum of its own */
#define ENTRY64_SIZE   0x18
#define VERSION_32_BCD 0x28

uint8_t smbios_add_text(struct smbios_structures *s, const char *text)
{
	assert(s->nr_texts < UINT8_MAX);
	pack_bytes(&s->texts, text, strlen(text) + 1);
	return ++s->nr_texts;
}

void smbios_put_text(struct smbios_structures *s, const char *text)
{
	pack_u8(&s->bytes, text && *text ? smbios_add_text(s, text) : 0);
}

void smbios_open(struct smbios_structures *s, uint8_t type, uint8_t length, uint16_t handle)
{
	s->start = s->bytes.size;
	s->nr_texts = 0;
	s->texts.size = 0;
	pack_u8(&s->bytes, type);
	pack_u8(&s->bytes, length);
	pack_u16(&s->bytes, handle);
}

static void smbios_count(struct smbios_structures *s, size_t size)
{
	s->count++;
	if (s->longest < size)
		s->longest = size;
}

void smbios_close(struct smbios_structures *s)
{
	if (pack_failed(&s->bytes) || pack_failed(&s->texts)) {
		s->bytes.failed = true;
		return;
	}
	assert(s->bytes.size - s->start == s->bytes.bytes[s->start + SMBIOS_LENGTH]);
	if (s->nr_texts)
		pack_bytes(&s->bytes, s->texts.bytes, s->texts.size);
	else
		pack_u8(&s->bytes, 0);
	pack_u8(&s->bytes, 0);
	smbios_count(s, s->bytes.size - s->start);
}

/* Is there a structure with this handle? What is there is whole. */
static bool smbios_has_handle(const struct smbios_structures *s, uint64_t handle)
{
	const uint8_t *at = s->bytes.bytes;
	size_t left = s->bytes.size;

	while (left) {
		size_t size = smbios_structure_size(at, left);

		if (bytes_get_le(at + SMBIOS_HANDLE, 2) == handle)
			return true;
		at += size;
		left -= size;
	}
	return false;
}

static int smbios_put_file(struct smbios_structures *s, const struct vm_smbios_file *file,
			   struct err **err)
{
	uint64_t handle = bytes_get_le(file->bytes + SMBIOS_HANDLE, 2);

	if (pack_failed(&s->bytes))
		return 0;
	if (handle == HANDLE_END || smbios_has_handle(s, handle))
		return err_set(err, EEXIST,
			       "-smbios: file=%s: its handle 0x%04x is another structure's",
			       file->path, (unsigned int)handle);
	pack_bytes(&s->bytes, file->bytes, file->size);
	smbios_count(s, file->size);
	return 0;
}

/* The byte at @at makes the sum of all @size bytes 0. */
static void smbios_sum(uint8_t *bytes, size_t size, size_t at)
{
	uint8_t sum = 0;

	bytes[at] = 0;
	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + bytes[i]);
	bytes[at] = (uint8_t)-sum;
}

static void smbios_fill_entry64(uint8_t *entry, const struct smbios_structures *s)
{
	memcpy(entry, "_SM3_", 5);
	entry[0x06] = ENTRY64_SIZE;
	entry[0x07] = 3;
	entry[0x08] = 0;
	entry[0x0A] = 1; /* revision of the entry point */
	bytes_put_le(entry + 0x0C, 4, s->bytes.size);
	bytes_put_le(entry + 0x10, 8, BOOT_SMBIOS_BASE + SMBIOS_STRUCTURES);
	smbios_sum(entry, ENTRY64_SIZE, 0x05);
}

static void smbios_fill_entry32(uint8_t *entry, const struct smbios_structures *s)
{
	memcpy(entry, "_SM_", 4);
	entry[0x05] = ENTRY32_SIZE;
	entry[0x06] = VERSION_32_BCD >> 4;
	entry[0x07] = VERSION_32_BCD & 0xF;
	bytes_put_le(entry + 0x08, 2, s->longest);
	memcpy(entry + ENTRY32_DMI, "_DMI_", 5);
	bytes_put_le(entry + 0x16, 2, s->bytes.size);
	bytes_put_le(entry + 0x18, 4, BOOT_SMBIOS_BASE + SMBIOS_STRUCTURES);
	bytes_put_le(entry + 0x1C, 2, s->count);
	entry[0x1E] = VERSION_32_BCD;
	smbios_sum(entry + ENTRY32_DMI, ENTRY32_SIZE - ENTRY32_DMI, 0x05);
	smbios_sum(entry, ENTRY32_SIZE, 0x04);
}

/* Structures, files and the end into @s; entry points and all into *ret_image. */
static int smbios_build(struct smbios_structures *s, const struct vm_smbios_config *smbios,
			struct smbios_image *ret_image, struct err **err)
{
	const size_t room = BOOT_SMBIOS_SIZE - SMBIOS_STRUCTURES;
	uint8_t *bytes;

	_Static_assert(BOOT_SMBIOS_SIZE <= UINT16_MAX, "sizes fit into the 32-bit entry point");
	for (size_t i = 0; i < smbios->nr_files; i++) {
		int ret = smbios_put_file(s, &smbios->files[i], err);

		if (ret)
			return ret;
	}
	smbios_open(s, SMBIOS_END, SMBIOS_HEADER_SIZE, HANDLE_END);
	smbios_close(s);
	if (!pack_failed(&s->bytes) && s->bytes.size > room)
		return err_set(err, EFBIG,
			       "-smbios: the tables have %zu bytes, and there is room for %zu",
			       s->bytes.size, room);
	bytes = pack_failed(&s->bytes) ? NULL : calloc(1, SMBIOS_STRUCTURES + s->bytes.size);
	if (!bytes)
		return err_set(err, ENOMEM, "out of memory");
	if (smbios->entry != VM_SMBIOS_32)
		smbios_fill_entry64(bytes + SMBIOS_ENTRY64, s);
	if (smbios->entry != VM_SMBIOS_64)
		smbios_fill_entry32(bytes + SMBIOS_ENTRY32, s);
	memcpy(bytes + SMBIOS_STRUCTURES, s->bytes.bytes, s->bytes.size);
	*ret_image = (struct smbios_image){bytes, SMBIOS_STRUCTURES + s->bytes.size};
	return 0;
}

int smbios_image_build(const struct smbios_config *config, struct smbios_image *ret_image,
		       struct err **err)
{
	struct smbios_structures s = {0};
	int ret;

	smbios_put_all(&s, config);
	ret = smbios_build(&s, &config->config->smbios, ret_image, err);
	pack_done(&s.bytes);
	pack_done(&s.texts);
	return ret;
}

void smbios_image_done(struct smbios_image *image)
{
	free(image->bytes);
	*image = (struct smbios_image){0};
}

int smbios_image_write(const struct smbios_image *image, struct gm *gm)
{
	int ret = gm_write(gm, BOOT_SMBIOS_BASE, image->bytes, image->size);

	if (!ret)
		ret = gm_fill(gm, BOOT_SMBIOS_BASE + image->size, 0,
			      BOOT_SMBIOS_SIZE - image->size);
	return ret;
}

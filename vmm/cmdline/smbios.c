/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -smbios: what the guest reads of itself in its SMBIOS tables (vmm/machine/smbios.h), by type and
 * key, or as a structure out of a file. See internal.h.
 *
 * I1  Files are read here, once, and only regular ones of bounded size; nothing of them is believed:
 *     a structure is whole and is all of its file.
 * I2  A type comes from keys or from files, never from both.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "vmm/cmdline/internal.h"
#include "vmm/machine/boot.h"
#include "vmm/machine/smbios.h"

#define TYPES_ALLOWED "0, 1, 2, 3, 4, 11, 17"
#define FILE_MAX      (BOOT_SMBIOS_SIZE - SMBIOS_STRUCTURES)
#define PREFIX_MAX    64

#define TEXT(field, key, text)                                           \
	{                                                                \
		.name = key, .type = PROP_STRING, .flags = PROP_EMPTY,   \
		PROP_FIELD(struct vm_smbios_config, field), .help = text \
	}
#define NUMBER(field, key, text)                                                            \
	{                                                                                   \
		.name = key, .type = PROP_UINT, PROP_FIELD(struct vm_smbios_config, field), \
		.help = text                                                                \
	}
#define TABLE(list)                                 \
	{                                           \
		&type_props, list, ARRAY_SIZE(list) \
	}

/* Read before the others. */
static const struct prop type_list[] = {
	{.name = "type", .type = PROP_UINT, .max = UINT8_MAX, .help = "of the structure"},
};
static const struct props type_props = {NULL, type_list, ARRAY_SIZE(type_list)};

static const struct prop bios_list[] = {
	TEXT(bios.vendor, "vendor", "vendor of the firmware"),
	TEXT(bios.version, "version", "its version"),
	TEXT(bios.date, "date", "its date, MM/DD/YYYY"),
	TEXT(bios.release, "release", "its release, MAJOR.MINOR"),
	{.name = "uefi",
	 .type = PROP_BOOL,
	 PROP_FIELD(struct vm_smbios_config, bios.uefi),
	 .help = "say that it is UEFI"},
};

static const struct prop system_list[] = {
	TEXT(system.manufacturer, "manufacturer", "manufacturer of the machine"),
	TEXT(system.product, "product", "its product name"),
	TEXT(system.version, "version", "its version"),
	TEXT(system.serial, "serial", "its serial number"),
	{.name = "uuid", .type = PROP_UUID, .help = "as -uuid"},
	TEXT(system.sku, "sku", "its SKU number"),
	TEXT(system.family, "family", "its family"),
};

static const struct prop board_list[] = {
	TEXT(board.manufacturer, "manufacturer", "manufacturer of the board"),
	TEXT(board.product, "product", "its product name"),
	TEXT(board.version, "version", "its version"),
	TEXT(board.serial, "serial", "its serial number"),
	TEXT(board.asset, "asset", "its asset tag"),
	TEXT(board.location, "location", "where in the chassis it is"),
};

static const struct prop chassis_list[] = {
	TEXT(chassis.manufacturer, "manufacturer", "manufacturer of the chassis"),
	TEXT(chassis.version, "version", "its version"),
	TEXT(chassis.serial, "serial", "its serial number"),
	TEXT(chassis.asset, "asset", "its asset tag"),
	TEXT(chassis.sku, "sku", "its SKU number"),
};

static const struct prop processor_list[] = {
	TEXT(processor.sock_pfx, "sock_pfx", "name of a socket, before its number"),
	TEXT(processor.manufacturer, "manufacturer", "manufacturer of the processors"),
	TEXT(processor.version, "version", "their version"),
	TEXT(processor.serial, "serial", "their serial number"),
	TEXT(processor.asset, "asset", "their asset tag"),
	TEXT(processor.part, "part", "their part number"),
	NUMBER(processor.max_speed_mhz, "max-speed", "highest speed in MHz"),
	NUMBER(processor.current_speed_mhz, "current-speed", "speed in MHz"),
	NUMBER(processor.processor_id, "processor-id", "EAX and EDX of CPUID's leaf 1"),
};

static const struct prop memory_list[] = {
	TEXT(memory.loc_pfx, "loc_pfx", "name of a memory device, before its number"),
	TEXT(memory.bank, "bank", "name of the bank"),
	TEXT(memory.manufacturer, "manufacturer", "manufacturer of boot memory"),
	TEXT(memory.serial, "serial", "its serial number"),
	TEXT(memory.asset, "asset", "its asset tag"),
	TEXT(memory.part, "part", "its part number"),
	NUMBER(memory.speed_mts, "speed", "its speed in MT/s"),
};

static const struct props bios_props = TABLE(bios_list), system_props = TABLE(system_list),
			  board_props = TABLE(board_list), chassis_props = TABLE(chassis_list),
			  processor_props = TABLE(processor_list),
			  memory_props = TABLE(memory_list);

static const struct prop file_list[] = {
	{.name = "file", .type = PROP_STRING, .flags = PROP_REQUIRED, .help = "a structure"},
};
static const struct props file_props = {NULL, file_list, ARRAY_SIZE(file_list)};

struct smbios_type {
	unsigned int type;
	const struct props *props; /* NULL: OEM strings, whose keys may be given again and again */
};

static const struct smbios_type smbios_types[] = {
	{SMBIOS_BIOS, &bios_props},           {SMBIOS_SYSTEM, &system_props},
	{SMBIOS_BOARD, &board_props},         {SMBIOS_CHASSIS, &chassis_props},
	{SMBIOS_PROCESSOR, &processor_props}, {SMBIOS_OEM_STRINGS, NULL},
	{SMBIOS_MEMORY, &memory_props},
};

void cmdline_smbios_done(struct vm_smbios_config *smbios)
{
	for (size_t i = 0; i < ARRAY_SIZE(smbios_types); i++) {
		if (smbios_types[i].props)
			props_done(smbios_types[i].props, smbios);
	}
	for (size_t i = 0; i < smbios->nr_oem; i++)
		free(smbios->oem[i]);
	free(smbios->oem);
	for (size_t i = 0; i < smbios->nr_files; i++) {
		free(smbios->files[i].path);
		free(smbios->files[i].bytes);
	}
	free(smbios->files);
}

/* 0 unless @text has a control character that is not in @allowed. */
static int smbios_check_text(const char *option, const char *key, const char *text,
			     const char *allowed, struct err **err)
{
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if ((*at < 0x20 && !strchr(allowed, *at)) || *at == 0x7F)
			return err_set(err, EINVAL,
				       "%s: %s= has the control character 0x%02x; allowed: text",
				       option, key, *at);
	}
	return 0;
}

/* The texts among @values, before any is kept. */
static int smbios_check_texts(const char *option, const json_t *values, struct err **err)
{
	const char *key;
	json_t *value;
	int ret = 0;

	/* jansson's iteration takes no constant object, and changes nothing of it. */
	json_object_foreach ((json_t *)values, key, value) {
		const char *text = json_string_value(value);

		if (text && !ret)
			ret = smbios_check_text(option, key, text, "", err);
		if (text && !ret && strlen(text) > PREFIX_MAX &&
		    (!strcmp(key, "sock_pfx") || !strcmp(key, "loc_pfx")))
			ret = err_set(err, EINVAL, "%s: %s= is too long; allowed: %d bytes", option,
				      key, PREFIX_MAX);
	}
	return ret;
}

/* Up to FILE_MAX + 1 bytes of @fd: how many there are, or -errno. */
static ssize_t smbios_read_fd(int fd, uint8_t *bytes)
{
	ssize_t size = 0, n = 1;

	while (n && size <= FILE_MAX) {
		n = read(fd, bytes + size, FILE_MAX + 1 - (size_t)size);
		if (n < 0 && errno != EINTR)
			return -errno;
		size += n > 0 ? n : 0;
	}
	return size;
}

/* All of a regular file of 1 to FILE_MAX bytes, and a 0 behind them; *ret_bytes is to be freed. */
static int smbios_read_file(const char *option, const char *key, const char *path,
			    uint8_t **ret_bytes, size_t *ret_size, struct err **err)
{
	uint8_t *bytes = calloc(1, FILE_MAX + 2);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t size = fd < 0 ? -errno : 0;
	bool regular = false;
	struct stat st;
	int ret = 0;

	if (fd >= 0) {
		regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
		size = regular && bytes ? smbios_read_fd(fd, bytes) : 0;
		close(fd);
	}
	if (size < 0)
		ret = err_set(err, (int)-size, "%s: %s=%s cannot be read: %s", option, key, path,
			      strerror((int)-size));
	else if (!regular)
		ret = err_set(err, EINVAL, "%s: %s=%s is not a regular file", option, key, path);
	else if (!bytes)
		ret = cmdline_oom(err);
	else if (!size || size > FILE_MAX)
		ret = err_set(err, size ? EFBIG : EINVAL, "%s: %s=%s %s; allowed: 1 to %u bytes",
			      option, key, path, size ? "is too long for the tables" : "is empty",
			      FILE_MAX);
	if (ret) {
		free(bytes);
		return ret;
	}
	*ret_bytes = bytes;
	*ret_size = (size_t)size;
	return 0;
}

static bool smbios_has_file(const struct vm_smbios_config *smbios, unsigned int type)
{
	for (size_t i = 0; i < smbios->nr_files; i++) {
		if (smbios->files[i].bytes[0] == type)
			return true;
	}
	return false;
}

static int smbios_refuse_both(const char *option, unsigned int type, struct err **err)
{
	return err_set(err, EINVAL,
		       "%s: type=%u and a file with a structure of type %u cannot both be given",
		       option, type, type);
}

/* @bytes are a whole structure that may be added. */
static int smbios_check_file(const struct vm_smbios_config *smbios, const char *option,
			     const char *path, const uint8_t *bytes, size_t size, struct err **err)
{
	size_t whole = smbios_structure_size(bytes, size);

	if (!whole)
		return err_set(err, EINVAL,
			       "%s: file=%s is no SMBIOS structure: it ends before its length and "
			       "its texts say",
			       option, path);
	if (whole != size)
		return err_set(err, EINVAL,
			       "%s: file=%s has %zu bytes behind its structure; allowed: one "
			       "structure with its texts, as in /sys/firmware/dmi/entries/*/raw",
			       option, path, size - whole);
	if (bytes[0] == SMBIOS_END)
		return err_set(
			err, EINVAL,
			"%s: file=%s is the end of the tables (type 127); allowed: any other "
			"type",
			option, path);
	if (bytes[0] < 32 && smbios->given >> bytes[0] & 1)
		return smbios_refuse_both(option, bytes[0], err);
	return 0;
}

static int smbios_file(struct vm_smbios_config *smbios, const char *option, const json_t *values,
		       struct err **err)
{
	struct vm_smbios_file *file, made = {.path = NULL};
	const char *path;
	int ret = props_apply(&file_props, option, values, smbios, err);

	if (ret)
		return ret;
	path = opts_string(values, "file");
	ret = smbios_read_file(option, "file", path, &made.bytes, &made.size, err);
	if (!ret)
		ret = smbios_check_file(smbios, option, path, made.bytes, made.size, err);
	if (!ret)
		ret = cmdline_set_string(&made.path, path, err);
	if (!ret) {
		file = cmdline_array_add(&smbios->files, &smbios->nr_files, sizeof(*file));
		if (file) {
			*file = made;
			return 0;
		}
		ret = cmdline_oom(err);
	}
	free(made.path);
	free(made.bytes);
	return ret;
}

/* One string of type 11; @key says what @value is: the string, or the path of a file with it. */
static int smbios_add_oem(struct vm_smbios_config *smbios, const char *option, const char *key,
			  const char *value, struct err **err)
{
	const bool is_path = !strcmp(key, "path");
	uint8_t *bytes = NULL;
	char **added;
	size_t size;
	int ret = 0;

	if (smbios->nr_oem == VM_SMBIOS_OEM_MAX)
		return err_set(err, E2BIG, "%s: there are more than %u strings of type 11", option,
			       VM_SMBIOS_OEM_MAX);
	if (is_path)
		ret = smbios_read_file(option, key, value, &bytes, &size, err);
	if (!ret && bytes && strlen((char *)bytes) != size)
		ret = err_set(err, EINVAL, "%s: path=%s has a byte 0 in it; allowed: text", option,
			      value);
	if (!ret && !is_path && !*value)
		ret = err_set(err, EINVAL, "%s: value= is empty; the tables have no such strings",
			      option);
	if (!ret)
		ret = smbios_check_text(option, key, bytes ? (char *)bytes : value,
					bytes ? "\t\n\r" : "", err);
	added = ret ? NULL : cmdline_array_add(&smbios->oem, &smbios->nr_oem, sizeof(*added));
	if (added) {
		*added = strdup(bytes ? (char *)bytes : value);
		if (!*added)
			smbios->nr_oem--;
	}
	if (!ret && (!added || !*added))
		ret = cmdline_oom(err);
	free(bytes);
	return ret;
}

static int smbios_oem(struct vm_smbios_config *smbios, const char *option, const json_t *values,
		      struct err **err)
{
	const char *key;
	json_t *value;
	int ret = 0;

	json_object_foreach ((json_t *)values, key, value) {
		const bool list = json_is_array(value);

		if (ret || !strcmp(key, "type"))
			continue;
		if (strcmp(key, "value") && strcmp(key, "path")) {
			ret = err_set(err, EINVAL, "%s: %s is unknown; allowed: type, value, path",
				      option, key);
			continue;
		}
		for (size_t i = 0; i < (list ? json_array_size(value) : 1) && !ret; i++)
			ret = smbios_add_oem(
				smbios, option, key,
				json_string_value(list ? json_array_get(value, i) : value), err);
	}
	return ret;
}

static int smbios_bios_finish(struct vm_smbios_bios *bios, const char *option, struct err **err)
{
	unsigned int major, minor;
	int end = -1;

	bios->has_release = bios->release && *bios->release;
	if (!bios->has_release)
		return 0;
	if (strspn(bios->release, "0123456789.") != strlen(bios->release) ||
	    sscanf(bios->release, "%3u.%3u%n", &major, &minor, &end) != 2 || end < 0 ||
	    bios->release[end] || major > UINT8_MAX || minor > UINT8_MAX)
		return err_set(err, EINVAL,
			       "%s: release=%s is no release; allowed: MAJOR.MINOR, each 0 to 255",
			       option, bios->release);
	bios->release_major = (uint8_t)major;
	bios->release_minor = (uint8_t)minor;
	return 0;
}

static int smbios_keys(struct cmdline *cl, const struct smbios_type *type, const char *option,
		       const json_t *values, struct err **err)
{
	struct vm_smbios_config *smbios = &cl->config->smbios;
	const char *uuid = opts_string(values, "uuid");
	int ret;

	if (smbios_has_file(smbios, type->type))
		return smbios_refuse_both(option, type->type, err);
	smbios->given |= UINT32_C(1) << type->type;
	if (!type->props)
		return smbios_oem(smbios, option, values, err);
	ret = smbios_check_texts(option, values, err);
	if (!ret)
		ret = props_apply(type->props, option, values, smbios, err);
	if (!ret && type->type == SMBIOS_BIOS)
		ret = smbios_bios_finish(&smbios->bios, option, err);
	if (!ret && type->type == SMBIOS_SYSTEM && uuid)
		ret = cmdline_uuid(cl, option, uuid, err);
	return ret;
}

static int smbios_apply(struct cmdline *cl, const char *option, const json_t *values,
			struct err **err)
{
	const char *text = opts_string(values, "type");

	if (json_object_get(values, "file"))
		return smbios_file(&cl->config->smbios, option, values, err);
	if (!text)
		return err_set(err, EINVAL,
			       "%s: one type= or file= is missing; allowed: type=" TYPES_ALLOWED
			       ", or file=PATH",
			       option);
	for (size_t i = 0; i < ARRAY_SIZE(smbios_types); i++) {
		char name[4];

		(void)snprintf(name, sizeof(name), "%u", smbios_types[i].type);
		if (!strcmp(name, text))
			return smbios_keys(cl, &smbios_types[i], option, values, err);
	}
	return err_set(err, EINVAL,
		       "%s: type=%s is unknown; allowed: " TYPES_ALLOWED
		       ", or a structure of any type by file=PATH",
		       option, text);
}

int cmdline_smbios(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	json_t *values;
	int ret = opts_parse(option, arg, NULL, 0, &values, err);

	if (ret < 0)
		return ret;
	ret = smbios_apply(cl, option, values, err);
	json_decref(values);
	return ret;
}

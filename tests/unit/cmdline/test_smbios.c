/* SPDX-License-Identifier: BSD-3-Clause */
/* -smbios: what each type's keys become, strings and structures out of files, and what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

#define BASE "-kernel K -nodefaults "

/* A file in the tests' folder; the caller removes it. */
static void write_file(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static void test_keys(void **state)
{
	struct vm_config *config = fixture_config(
		BASE
		"-smbios type=0,vendor=V,version=1.0,date=01/02/2003,release=4.255,uefi=on "
		"-smbios type=1,manufacturer=M,,m,product=,serial=S,sku=K "
		"-smbios family=F,type=1,serial=T "
		"-smbios type=2,product=one,location=L "
		"-smbios type=2,product=two "
		"-smbios type=3,asset=A "
		"-smbios type=4,sock_pfx=P,max-speed=3000,current-speed=65535,processor-id=0x1f "
		"-smbios type=17,loc_pfx=D,bank=B,speed=3200 "
		"-machine q35,smbios-entry-point-type=64");
	const struct vm_smbios_config *smbios = &config->smbios;

	(void)state;
	assert_int_equal(smbios->entry, VM_SMBIOS_64);
	assert_int_equal(smbios->given, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 17);
	assert_string_equal(smbios->bios.vendor, "V");
	assert_string_equal(smbios->bios.version, "1.0");
	assert_string_equal(smbios->bios.date, "01/02/2003");
	assert_true(smbios->bios.has_release && smbios->bios.uefi);
	assert_int_equal(smbios->bios.release_major, 4);
	assert_int_equal(smbios->bios.release_minor, 255);
	assert_string_equal(smbios->system.manufacturer, "M,m");
	assert_string_equal(smbios->system.product, "");
	assert_string_equal(smbios->system.serial, "T");
	assert_string_equal(smbios->system.sku, "K");
	assert_string_equal(smbios->system.family, "F");
	assert_null(smbios->system.version);
	assert_string_equal(smbios->board.product, "two");
	assert_string_equal(smbios->board.location, "L");
	assert_string_equal(smbios->chassis.asset, "A");
	assert_string_equal(smbios->processor.sock_pfx, "P");
	assert_int_equal(smbios->processor.max_speed_mhz, 3000);
	assert_int_equal(smbios->processor.current_speed_mhz, 65535);
	assert_int_equal(smbios->processor.processor_id, 0x1F);
	assert_string_equal(smbios->memory.loc_pfx, "D");
	assert_string_equal(smbios->memory.bank, "B");
	assert_int_equal(smbios->memory.speed_mts, 3200);
	assert_int_equal(smbios->nr_oem + smbios->nr_files, 0);
	vm_config_free(config);

	config = fixture_config(BASE "-smbios type=1,version=");
	assert_int_equal(config->smbios.entry, VM_SMBIOS_AUTO);
	assert_int_equal(config->smbios.given, 1 << 1);
	assert_false(config->has_uuid);
	vm_config_free(config);
}

/* The UUID of type 1 is the machine's; the later one counts. */
static void test_uuid(void **state)
{
	static const struct {
		const char *line;
		uint8_t first;
	} rows[] = {
		{BASE "-smbios type=1,uuid=11112222-3333-4444-5555-666677778888", 0x11},
		{BASE "-uuid 99112233-4455-6677-8899-aabbccddeeff "
		      "-smbios type=1,uuid=11112222-3333-4444-5555-666677778888",
		 0x11},
		{BASE "-smbios type=1,uuid=11112222-3333-4444-5555-666677778888 "
		      "-uuid 99112233-4455-6677-8899-aabbccddeeff",
		 0x99},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = fixture_config(rows[i].line);

		assert_true(config->has_uuid);
		assert_int_equal(config->uuid[0], rows[i].first);
		vm_config_free(config);
	}
}

static void test_oem_strings(void **state)
{
	static const char line[] = "of\ta file\r\n";
	struct vm_config *config;

	(void)state;
	write_file("oem", line, strlen(line));
	config = fixture_config(BASE "-smbios type=11,value=a,value=b,,c,path=oem "
				     "-smbios type=11,value=d");
	assert_int_equal(config->smbios.nr_oem, 4);
	assert_string_equal(config->smbios.oem[0], "a");
	assert_string_equal(config->smbios.oem[1], "b,c");
	assert_string_equal(config->smbios.oem[2], line);
	assert_string_equal(config->smbios.oem[3], "d");
	vm_config_free(config);
	unlink("oem");
}

/* 255 strings are one structure's; one more is not possible. */
static void test_many_strings(void **state)
{
	struct vm_config *config = NULL;
	struct err *err = NULL;
	char arg[4096] = "type=11";
	char *argv[] = {"ebb", "-kernel", "K", "-nodefaults", "-smbios", arg};

	(void)state;
	for (unsigned int i = 0; i < VM_SMBIOS_OEM_MAX; i++)
		strcat(arg, ",value=x");
	assert_int_equal(cmdline_parse(ARRAY_SIZE(argv), argv, &config, &err), 0);
	assert_int_equal(config->smbios.nr_oem, VM_SMBIOS_OEM_MAX);
	vm_config_free(config);
	strcat(arg, ",value=x");
	assert_int_equal(cmdline_parse(ARRAY_SIZE(argv), argv, &config, &err), -E2BIG);
	assert_string_equal(err_message(err),
			    "-smbios: there are more than 255 strings of type 11");
	err_free(err);
}

/* Bytes that come from no keyboard. */
static void test_control_characters(void **state)
{
	static const struct {
		const char *arg, *sentence;
	} rows[] = {
		{"type=1,serial=a\nb",
		 "-smbios: serial= has the control character 0x0a; allowed: text"},
		{"type=2,asset=\x7f",
		 "-smbios: asset= has the control character 0x7f; allowed: text"},
		{"type=11,value=a\tb",
		 "-smbios: value= has the control character 0x09; allowed: text"},
	};
	char arg[64];
	char *argv[] = {"ebb", "-kernel", "K", "-nodefaults", "-smbios", arg};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = NULL;
		struct err *err = NULL;

		(void)snprintf(arg, sizeof(arg), "%s", rows[i].arg);
		assert_int_equal(cmdline_parse(ARRAY_SIZE(argv), argv, &config, &err), -EINVAL);
		assert_string_equal(err_message(err), rows[i].sentence);
		err_free(err);
	}
}

static void test_files(void **state)
{
	static const uint8_t structure[] = {200, 5, 0x34, 0x12, 7, 'T', 0, 0};
	struct vm_config *config;

	(void)state;
	write_file("raw", structure, sizeof(structure));
	config = fixture_config(BASE "-smbios file=raw -smbios type=1,serial=S");
	assert_int_equal(config->smbios.nr_files, 1);
	assert_string_equal(config->smbios.files[0].path, "raw");
	assert_int_equal(config->smbios.files[0].size, sizeof(structure));
	assert_memory_equal(config->smbios.files[0].bytes, structure, sizeof(structure));
	vm_config_free(config);
	unlink("raw");
}

#define SHORT \
	"-smbios: file=raw is no SMBIOS structure: it ends before its length and its texts say"
#define FILE_ROW(code, sentence)                   \
	{                                          \
		"-smbios file=raw", code, sentence \
	}
#define WHOLE(...)                        \
	sizeof((uint8_t[]){__VA_ARGS__}), \
	{                                 \
		__VA_ARGS__               \
	}

static void test_bad_files(void **state)
{
	static const struct {
		size_t size;
		uint8_t bytes[12];
		struct error_row row;
	} cases[] = {
		{WHOLE(1), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 4, 0), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 4, 0, 1), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 4, 0, 1, 0), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 3, 0, 0, 0, 0), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 0xFF, 0, 0, 0, 0), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 4, 0, 1, 'a', 0), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 5, 0, 1, 0, 0), FILE_ROW(EINVAL, SHORT)},
		{WHOLE(1, 4, 0, 1, 'a', 0, 0, 1),
		 FILE_ROW(EINVAL,
			  "-smbios: file=raw has 1 bytes behind its structure; allowed: one "
			  "structure with its texts, as in /sys/firmware/dmi/entries/*/raw")},
		{WHOLE(127, 4, 0, 1, 0, 0),
		 FILE_ROW(EINVAL, "-smbios: file=raw is the end of the tables (type 127); allowed: "
				  "any other type")},
		{WHOLE(1, 4, 0, 1, 0, 0),
		 {"-smbios file=raw -smbios type=1,serial=S", EINVAL,
		  "-smbios: type=1 and a file with a structure of type 1 cannot both be given"}},
		{WHOLE(17, 4, 0, 1, 0, 0),
		 {"-smbios type=17,bank=B -smbios file=raw", EINVAL,
		  "-smbios: type=17 and a file with a structure of type 17 cannot both be given"}},
		{WHOLE('a', 0, 'b'),
		 {"-smbios type=11,path=raw", EINVAL,
		  "-smbios: path=raw has a byte 0 in it; allowed: text"}},
		{WHOLE('a', 27),
		 {"-smbios type=11,path=raw", EINVAL,
		  "-smbios: path= has the control character 0x1b; allowed: text"}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file("raw", cases[i].bytes, cases[i].size);
		fixture_check_errors(&cases[i].row, 1);
	}
	unlink("raw");
}

/* The largest file that there can be room for is read, and no byte more. */
static void test_long_files(void **state)
{
	static const struct error_row row = {
		"-smbios type=11,path=long", EFBIG,
		"-smbios: path=long is too long for the tables; allowed: 1 to 61376 bytes"};
	struct vm_config *config;
	char *bytes = malloc(61377);

	(void)state;
	assert_non_null(bytes);
	memset(bytes, 'x', 61377);
	write_file("long", bytes, 61376);
	config = fixture_config(BASE "-smbios type=11,path=long");
	assert_int_equal(strlen(config->smbios.oem[0]), 61376);
	vm_config_free(config);
	write_file("long", bytes, 61377);
	fixture_check_errors(&row, 1);
	unlink("long");
	free(bytes);
}

static void test_refused(void **state)
{
	static const struct error_row rows[] = {
		{"-smbios serial=1", EINVAL,
		 "-smbios: one type= or file= is missing; allowed: type=0, 1, 2, 3, 4, 11, 17, or "
		 "file=PATH"},
		{"-smbios type=1,type=2", EINVAL,
		 "-smbios: one type= or file= is missing; allowed: type=0, 1, 2, 3, 4, 11, 17, or "
		 "file=PATH"},
		{"-smbios type=9,slot=1", EINVAL,
		 "-smbios: type=9 is unknown; allowed: 0, 1, 2, 3, 4, 11, 17, or a structure of "
		 "any "
		 "type by file=PATH"},
		{"-smbios type=0x1", EINVAL,
		 "-smbios: type=0x1 is unknown; allowed: 0, 1, 2, 3, 4, 11, 17, or a structure of "
		 "any type by file=PATH"},
		{"-smbios type=1,asset=x", EINVAL,
		 "-smbios: asset is unknown; allowed: manufacturer, product, version, serial, "
		 "uuid, sku, family, type"},
		{"-smbios type=1,uuid=1", EINVAL,
		 "-smbios: uuid=1 is not a UUID; allowed: hexadecimal digits in groups of "
		 "8-4-4-4-12"},
		{"-smbios type=0,release=1", EINVAL,
		 "-smbios: release=1 is no release; allowed: MAJOR.MINOR, each 0 to 255"},
		{"-smbios type=0,release=256.1", EINVAL,
		 "-smbios: release=256.1 is no release; allowed: MAJOR.MINOR, each 0 to 255"},
		{"-smbios type=0,release=1.2x", EINVAL,
		 "-smbios: release=1.2x is no release; allowed: MAJOR.MINOR, each 0 to 255"},
		{"-smbios type=0,release=+1.2", EINVAL,
		 "-smbios: release=+1.2 is no release; allowed: MAJOR.MINOR, each 0 to 255"},
		{"-smbios type=4,max-speed=65536", ERANGE,
		 "-smbios: max-speed=65536 is out of range; allowed: 0 to 65535"},
		{"-smbios type=4,sock_pfx="
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		 EINVAL, "-smbios: sock_pfx= is too long; allowed: 64 bytes"},
		{"-smbios type=11,text=x", EINVAL,
		 "-smbios: text is unknown; allowed: type, value, path"},
		{"-smbios type=11,value=", EINVAL,
		 "-smbios: value= is empty; the tables have no such strings"},
		{"-smbios type=11,path=gone", ENOENT,
		 "-smbios: path=gone cannot be read: No such file or directory"},
		{"-smbios type=11,path=/dev/zero", EINVAL,
		 "-smbios: path=/dev/zero is not a regular file"},
		{"-smbios file=.", EINVAL, "-smbios: file=. is not a regular file"},
		{"-smbios file=K", EINVAL, "-smbios: file=K is empty; allowed: 1 to 61376 bytes"},
		{"-smbios file=K,type=1", EINVAL, "-smbios: type is unknown; allowed: file"},
		{"-machine none -smbios type=1", EINVAL,
		 "-kernel: -machine none has no CPUs, memory or devices, and starts nothing: its "
		 "monitors tell what ebb can do"},
		{"-machine smbios-entry-point-type=16", EINVAL,
		 "-machine: smbios-entry-point-type=16 is unknown; allowed: auto, 32, 64"},
	};

	(void)state;
	fixture_check_errors(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_uuid),
		cmocka_unit_test(test_oem_strings),
		cmocka_unit_test(test_many_strings),
		cmocka_unit_test(test_control_characters),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_long_files),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

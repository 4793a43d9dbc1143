/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the files of the command line: one file per group of options, each with handlers that the
 * option table (options.c) names, and steps that complete and check the configuration at the end.
 *
 * I1  A handler looks only at its own argument and at what earlier options of its own group left;
 *     the order of options of different groups means nothing. References between parts are
 *     resolved in the steps at the end, in the order that cmdline_finish() lists them.
 * I2  An option that is given again adds to the earlier one; a key that both have keeps the later
 *     value. Objects, devices, character devices, nodes and monitors are new ones each time.
 */
#ifndef VMM_CMDLINE_INTERNAL_H
#define VMM_CMDLINE_INTERNAL_H

#include <jansson.h>

#include "qmp/props.h"
#include "vmm/cmdline/cmdline.h"
#include "vmm/cmdline/params.h"

#define CMDLINE_PAGE_BYTES 4096u

/* -machine and -accel as given. */
struct cmdline_machine {
	char *name;
	char *accel;
	char *memory_backend;
	bool dump_guest_core, mem_merge;
	bool root_fixed; /* -global */
	bool usb;
	uint32_t dirty_ring_entries;
	enum vm_smbios_entry smbios_entry;
};

/* -numa cpu */
struct cmdline_numa_cpu {
	uint16_t node;
	uint32_t socket, die, core, thread;
	bool has_socket, has_die, has_core, has_thread;
};

struct cmdline_numa {
	uint64_t nodes;    /* bit per node that was given */
	uint64_t with_mem; /* bit per node that was given mem= */
	bool cpus_given;
	struct cmdline_numa_cpu *cpus;
	size_t nr_cpus;
};

/* The state of one cmdline_parse(). */
struct cmdline {
	struct vm_config *config;
	struct cmdline_machine machine;
	struct cmdline_numa numa;
	char *mem_path;           /* -mem-path */
	unsigned int nr_serials;  /* -serial given so often */
	unsigned int nr_monitors; /* -monitor, -qmp, -qmp-pretty given so often */
	bool nodefaults;
	bool sandbox_given;        /* its defaults are set */
	const char *needs_machine; /* the first option that -machine none has no use for */
};

/* @option is the option's name with its dash; @arg its argument, NULL where it takes none. */
typedef int cmdline_handler(struct cmdline *cl, const char *option, const char *arg,
			    struct err **err);

struct cmdline_option {
	const char *name; /* without dash; NULL in a row that is a heading of the help text */
	const char *arg;  /* for the help text; NULL: takes none */
	cmdline_handler *handle;
	const char *help; /* NULL: another spelling, not listed */
};

/* options.c; the table ends with a row without name and help. */
extern const struct cmdline_option cmdline_options[];
/* Prints the option table; -help. */
cmdline_handler cmdline_help, cmdline_version;

/* What options take, beside what params.h shows of them. */
extern const struct props cmdline_accel_props, cmdline_action_props, cmdline_boot_props,
	cmdline_fd_props, cmdline_file_props, cmdline_memory_props, cmdline_mon_props,
	cmdline_msg_props, cmdline_name_props, cmdline_overcommit_props, cmdline_rtc_props,
	cmdline_sandbox_props, cmdline_smp_props, cmdline_socket_props, cmdline_stdio_props;

/* Options that exist in QEMU and not here: the sentence's reason, or NULL. missing.c */
const char *cmdline_missing_reason(const char *name);

/* machine.c */
cmdline_handler cmdline_machine, cmdline_accel, cmdline_enable_kvm, cmdline_usb;
int cmdline_machine_init(struct cmdline *cl);
int cmdline_machine_finish(struct cmdline *cl, struct err **err);
/* Does an option mean anything where there is no machine (-machine none)? */
bool cmdline_option_is_bare(const char *name);
void cmdline_machine_done(struct cmdline *cl);

/* cpu.c, smp.c */
cmdline_handler cmdline_cpu, cmdline_smp;
int cmdline_cpu_init(struct cmdline *cl);
int cmdline_smp_finish(struct cmdline *cl, struct err **err);
void cmdline_cpu_done(struct vm_cpu_config *cpu);

/* memory.c */
cmdline_handler cmdline_memory, cmdline_mem_path, cmdline_mem_prealloc;
int cmdline_memory_finish(struct cmdline *cl, struct err **err);

/* numa.c, numa_finish.c; after machine, smp, memory and memory backends (memdev.h) */
cmdline_handler cmdline_numa;
int cmdline_numa_finish(struct cmdline *cl, struct err **err);

/* object.c */
cmdline_handler cmdline_object;
/* Of any type. */
bool cmdline_object_exists(const struct vm_config *config, const char *id);

/* device.c; the finish step comes last: device_finish.c */
cmdline_handler cmdline_device;
int cmdline_devices_finish(struct cmdline *cl, struct err **err);
/*
 * Resolve and check config->devices[index] against the configuration and the devices before it, and
 * mark what it uses. After a failure nothing is marked.
 */
int cmdline_device_finish(struct vm_config *config, size_t index, const char *option,
			  struct err **err);

/* device_pci.c */
bool cmdline_device_is_pci(const struct vm_device_config *device);
/* The step of cmdline_device_finish() that is about bus and slot. */
int cmdline_device_find_place(const struct vm_config *config, size_t index, const char *what,
			      struct err **err);
/* Of all devices together. */
int cmdline_devices_check_functions(const struct vm_config *config, struct err **err);
/* The USB controller of -machine usb=on, as the first of all devices. */
int cmdline_usb_finish(struct cmdline *cl, struct err **err);

/* chardev.c */
cmdline_handler cmdline_chardev, cmdline_add_fd;
/*
 * Add a character device of @type ("socket") with the further keys in @values. @fd_name: of a socket,
 * or NULL; taken over, also on failure.
 */
int cmdline_chardev_make(struct vm_config *config, const char *option, const char *type,
			 const json_t *values, char *fd_name,
			 struct vm_chardev_config **ret_chardev, struct err **err);
/* NULL when there is none of that id. */
struct vm_chardev_config *cmdline_chardev_find(const struct vm_config *config, const char *id);
/* Check config->chardevs[index] against those before it. */
int cmdline_chardev_finish(struct vm_config *config, size_t index, const char *option,
			   struct err **err);
int cmdline_chardevs_finish(struct cmdline *cl, struct err **err);
/* Find @id for the front end @what and count it as a user. */
int cmdline_chardev_use(struct vm_config *config, const char *what, const char *id,
			const struct vm_chardev_config **ret_chardev, struct err **err);

/* frontend.c */
cmdline_handler cmdline_serial, cmdline_monitor, cmdline_qmp, cmdline_qmp_pretty, cmdline_mon;
int cmdline_frontends_defaults(struct cmdline *cl, struct err **err);
int cmdline_monitors_finish(struct cmdline *cl, struct err **err);

/* misc.c */
cmdline_handler cmdline_name, cmdline_uuid, cmdline_action, cmdline_boot, cmdline_msg,
	cmdline_overcommit, cmdline_sandbox, cmdline_display, cmdline_only_none, cmdline_audiodev,
	cmdline_watchdog_action, cmdline_no_reboot, cmdline_no_shutdown;

/* global.c */
cmdline_handler cmdline_global;

/* rtc.c */
cmdline_handler cmdline_rtc;

/* smbios.c */
cmdline_handler cmdline_smbios;
void cmdline_smbios_done(struct vm_smbios_config *smbios);

/* process.c */
cmdline_handler cmdline_kernel, cmdline_initrd, cmdline_append, cmdline_paused, cmdline_pidfile,
	cmdline_daemonize, cmdline_nodefaults, cmdline_metrics, cmdline_ignored, cmdline_incoming,
	cmdline_only_migratable;
int cmdline_process_finish(struct cmdline *cl, struct err **err);

/* util.c */
int cmdline_oom(struct err **err);
/*
 * Room for one more element of @size bytes, zeroed, at the end of *array; NULL when memory is out.
 * Pointers into the array are void afterwards.
 */
void *cmdline_array_add(void *array, size_t *nr, size_t size);
/*
 * A new part of the configuration, @size bytes, zeroed, at the end of a list of it (base/ptrs.h); NULL
 * when memory is out.
 */
void *cmdline_part_add(void *parts, size_t *nr, size_t size);
/* Replace *text by a copy. */
int cmdline_set_string(char **text, const char *value, struct err **err);
/* Parse @arg and set its keys through @table. */
int cmdline_apply(const struct props *table, const char *option, const char *arg,
		  const char *implied_key, void *target, struct err **err);
/* "-device virtio-mem-pci,id=vm0"; @id may be NULL. Returns @buf. */
#define CMDLINE_WHAT_MAX 160
const char *cmdline_what(char buf[CMDLINE_WHAT_MAX], const char *option, const char *type,
			 const char *id);
/* 0 unless @id, NULL for none, is a name that every place of the object tree has already. */
int cmdline_check_id(const char *what, const char *id, struct err **err);
/* 0 when @path can be read; the sentence starts with @what otherwise. */
int cmdline_check_file(const char *what, const char *path, struct err **err);

/* Config's parts; accept what was never filled in. config.c */
void vm_chardev_config_done(struct vm_chardev_config *chardev);

/* The end of a part that is in no list any more. config.c */
void vm_memdev_config_free(struct vm_memdev_config *memdev);
void vm_rng_backend_config_free(struct vm_rng_backend_config *rng);
void vm_iothread_config_free(struct vm_iothread_config *iothread);
void vm_secret_config_free(struct vm_secret_config *secret);
void vm_chardev_config_free(struct vm_chardev_config *chardev);
void vm_device_config_free(struct vm_device_config *device);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the control plane share. Each file with commands is a module (qmp/schema.h) in
 * the list of control.c: its rows, the types they speak of, its events.
 *
 *	run.c			run state: stop, cont, system_reset, quit, set-action ... and their events
 *	query_cpus.c		vCPUs
 *	query_cpu_models.c	what they can be
 *	query_memory.c		sizes, NUMA nodes, backends, memory devices
 *	query_virtio_mem.c	memory devices from the inside, and their events
 *	balloon.c		the balloon
 *	query_pci.c		PCI functions
 *	query_misc.c		names, machine types, threads, character devices
 *	objects.c		object-add, chardev-add, descriptors
 *	devices.c		device_add, device_del and their events
 *	qom.c			the object tree
 *	jobs.c			query-jobs, job-cancel, job-dismiss
 *	resize.c		virtio-mem-resize, memory-resize
 *	migrate.c		migrate ...; migrate_info.c, migrate_params.c: what is told of it
 *	dump.c			dump-guest-memory, query-dump
 *	stats.c			query-stats, query-virtio-mem-blocks; metrics.c the endpoint for scrapers
 *	complete.c		what the Tab key offers
 *	missing.c		what is said of commands that are not there
 *	answer.h		making and reading values
 *
 * A handler's ctx (command_ctx()) is the struct control.
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_INTERNAL_H
#define VMM_CONTROL_INTERNAL_H

#include "qmp/command.h"
#include "qmp/qmp.h"
#include "qmp/schema.h"
#include "vmm/control/control.h"
#include "vmm/vm/vm.h"

struct control_dump;
struct jobs;
struct loop_watch;
struct metrics;
struct migrate;
struct migration;
struct resizer;

struct control {
	struct vm *vm;
	struct loop *main;
	struct qmp *qmp;
	struct jobs *jobs;         /* qmp/job.h */
	struct resizer *resizer;   /* resize.c */
	struct migrate *migrate;   /* migrate.h */
	struct control_dump *dump; /* dump.h */
	struct metrics *metrics;   /* metrics.c; NULL without -metrics */
	struct chr_monitor **monitors;
	size_t nr_monitors;
	int quit_fd; /* run.c */
	struct loop_watch *quit_watch;
};

/* Where CPU %u is in the object tree. */
#define CONTROL_CPU_PATH "/machine/unattached/device[%u]"

/* All modules there are; ends with NULL. */
extern const struct qmp_module *const control_modules[];
extern const struct qmp_module control_run_module, control_cpus_module, control_cpu_models_module,
	control_memory_module, control_virtio_mem_module, control_balloon_module,
	control_pci_module, control_misc_module, control_objects_module, control_devices_module,
	control_qom_module, control_jobs_module, control_resize_module, control_stats_module,
	control_migrate_module, control_migrate_info_module, control_migrate_params_module,
	control_dirty_rate_module, control_dump_module;

/* Every event of the machine passes here first (vm_set_event_hook()), then goes to each of these. */
void control_run_event(struct control *control, const struct vm_event *event);
void control_devices_event(struct control *control, const struct vm_event *event);
void control_virtio_mem_event(struct control *control, const struct vm_event *event);
void control_balloon_event(struct control *control, const struct vm_event *event);
void control_resize_event(struct control *control, const struct vm_event *event);

/* qmp_emit() with data that is made of members; NULL, for which memory was out, is no event. */
void control_emit(struct control *control, const char *name, json_t *data);
/* The same by qmp_emit_now(). */
void control_emit_now(struct control *control, const char *name, json_t *data);

/* run.c: what the module needs beside its rows. _done() also after a failure. */
int control_run_init(struct control *control, struct err **err);
void control_run_done(struct control *control);

/*
 * migrate.c: what the modules need beside their rows; @migration outlives it. After the jobs are
 * there. _done() also after a failure.
 */
int control_migrate_init(struct control *control, struct migration *migration, struct err **err);
void control_migrate_done(struct control *control);

/* missing.c: why a command that QEMU has is not there, for qmp_config. */
const char *control_missing_reason(const char *name);

/* query_pci.c: what a class with its subclass is called; NULL for one that no function here has. */
const char *control_pci_class_desc(unsigned int class);

/* Completions. */
void control_complete_memory_device(void *ctx, unsigned int index, struct hmp_words *words);
void control_complete_device(void *ctx, unsigned int index, struct hmp_words *words);
void control_complete_driver(void *ctx, unsigned int index, struct hmp_words *words);
void control_complete_object(void *ctx, unsigned int index, struct hmp_words *words);
void control_complete_object_type(void *ctx, unsigned int index, struct hmp_words *words);
void control_complete_chardev(void *ctx, unsigned int index, struct hmp_words *words);

#endif

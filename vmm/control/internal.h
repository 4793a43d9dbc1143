/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the control plane share. Each file with commands is a module (qmp/schema.h) in
 * the list of control.c: its rows, the types they speak of, its events.
 *
 *	run.c		run state: stop, cont, system_reset, quit, set-action ... and their events
 *	query.c		what there is: CPUs, memory, NUMA, backends, character devices
 *	objects.c	object-add, device_add, chardev-add, descriptors
 *	qom.c		the object tree
 *	jobs.c		query-jobs, job-cancel, job-dismiss
 *	resize.c	virtio-mem-resize, memory-resize
 *	stats.c		query-stats, query-virtio-mem-blocks; metrics.c the endpoint for scrapers
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

struct jobs;
struct metrics;
struct resizer;

struct control {
	struct vm *vm;
	struct loop *main;
	struct qmp *qmp;
	struct jobs *jobs;       /* qmp/job.h */
	struct resizer *resizer; /* resize.c */
	struct metrics *metrics; /* metrics.c; NULL without -metrics */
	struct chr_monitor **monitors;
	size_t nr_monitors;
};

extern const struct qmp_module control_run_module, control_query_module, control_objects_module,
	control_qom_module, control_jobs_module, control_resize_module, control_stats_module;

/* Every event of the machine passes here first (vm_set_event_hook()), then goes to each of these. */
void control_run_event(struct control *control, const struct vm_event *event);
void control_resize_event(struct control *control, const struct vm_event *event);

/* Completions. */
void control_complete_memory_device(void *ctx, unsigned int index, struct hmp_words *words);

#endif

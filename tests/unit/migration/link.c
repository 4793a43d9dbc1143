/* SPDX-License-Identifier: BSD-3-Clause */
/* Two machines and channels between them: see link.h. */
#include "link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/migration/notes.h"

/* The hooks' opaque is the source's machine; the receiver's that of the target. */
static void *link_receive(void *opaque)
{
	struct link *l = opaque;

	for (;;) {
		struct record record;
		int ret = record_read(l->readers[0], -1, &record, &l->err);

		if (ret <= 0) {
			l->ret = ret ? ret : record_cut_off(l->readers[0], &l->err);
			break;
		}
		if (record.type == RECORD_END) {
			l->ret = ram_receive_end(l->receive, &l->err);
			break;
		}
		if (record.type == RECORD_POSTCOPY_RUN) {
			ram_receive_hand_over(l->receive, l->config.later, l->config.later_opaque);
			continue;
		}
		l->ret = ram_receive_takes(record.type)
				 ? ram_receive_record(l->receive, l->readers[0], &record, &l->err)
				 : record_unexpected(l->readers[0], &record, &l->err);
		if (l->ret)
			break;
	}
	return NULL;
}

void link_channels(struct link *l, size_t nr_further)
{
	struct record_header header = {.session = 7, .nr_channels = (uint32_t)nr_further};

	l->nr_further = nr_further;
	for (size_t i = 0; i <= nr_further; i++) {
		struct record_header got;

		rig_pair(l->rig, l->ends[i]);
		header.channel = (uint32_t)i;
		l->writers[i] = record_writer_new(l->ends[i][0], &header, &l->err);
		rig_check_no_err(&l->err);
		record_flush(l->writers[i], &l->err);
		rig_check_no_err(&l->err);
		l->readers[i] = record_reader_new(l->ends[i][1], &l->err);
		rig_check_no_err(&l->err);
		record_read_header(l->readers[i], i ? &header : NULL, -1, &got, &l->err);
		rig_check_no_err(&l->err);
	}
}

void link_open(struct link *l, struct rig *rig, struct machine *source, struct machine *target,
	       const struct link_config *config)
{
	struct err *err = NULL;

	memset(l, 0, sizeof(*l));
	l->config = *config;
	l->rig = rig;
	l->source = source;
	l->target = target;
	link_channels(l, config->nr_further);
	l->receive = ram_receive_new(&(struct ram_receive_config){.gm = target->gm,
								  .blocks = target->blocks,
								  .nr_blocks = target->nr_blocks,
								  .nr_further = l->nr_further,
								  .plug = machine_load_plug,
								  .opaque = target},
				     &err);
	rig_check_no_err(&err);
	for (size_t i = 1; i <= l->nr_further; i++) {
		ram_receive_channel(l->receive, i, l->readers[i], &err);
		rig_check_no_err(&err);
	}
	assert_int_equal(pthread_create(&l->thread, NULL, link_receive, l), 0);
	/* The log begins empty. */
	machine_sync(source);
	assert_int_equal(gm_dirty_start(source->gm), 0);
	l->send = ram_send_new(
		&(struct ram_send_config){
			.gm = source->gm,
			.blocks = source->blocks,
			.nr_blocks = source->nr_blocks,
			.cancel = rig->cancel,
			.channel = l->writers[0],
			.further = l->writers + 1,
			.nr_further = l->nr_further,
			.zstd = config->zstd,
			.zstd_level = 1,
			.limits = {.downtime_limit_ms = config->downtime_limit_ms,
				   .auto_converge = config->auto_converge,
				   .throttle_trigger_threshold = 50,
				   .cpu_throttle_initial = 20,
				   .cpu_throttle_increment = 10,
				   .max_cpu_throttle = 99},
			.sync = machine_sync,
			.throttle = machine_throttle,
			.pass = machine_pass,
			.opaque = source,
		},
		&err);
	rig_check_no_err(&err);
	/* The devices here have no virtio_mem: what that would do is done by hand. */
	machine_track(source, (struct notes *)ram_send_notes(l->send));
	ram_send_start(l->send, &err);
	rig_check_no_err(&err);
}

void link_end(struct link *l)
{
	struct err *err = NULL;

	record_write_bytes(l->writers[0], RECORD_END, 0, NULL, 0, &err);
	rig_check_no_err(&err);
	link_join(l);
}

void link_join(struct link *l)
{
	if (!l->joined)
		pthread_join(l->thread, NULL);
	l->joined = true;
}

void link_close(struct link *l)
{
	if (!l->joined)
		cancel_raise(l->rig->cancel);
	link_join(l);
	machine_track(l->source, NULL);
	ram_send_free(l->send);
	ram_receive_free(l->receive);
	gm_dirty_stop(l->source->gm);
	for (size_t i = 0; i <= l->nr_further; i++) {
		record_writer_free(l->writers[i]);
		record_reader_free(l->readers[i]);
		channel_close(l->ends[i][0]);
		channel_close(l->ends[i][1]);
	}
	err_free(l->err);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* What the records of a machine's state do to a machine that waits for it. */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/blocks_wire.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/incoming_internal.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/pages.h"
#include "vmm/migration/ram_receive.h"
#include "vmm/migration/section.h"
#include "vmm/vm/vm_ram.h"
#include "vmm/vm/vm_state.h"

/* A record that is dealt with on the main thread. */
struct incoming_call {
	struct incoming *in;
	const struct record *record;
	int ret;
	struct err **err;
};

static int incoming_on_main(struct incoming *in, void (*fn)(void *opaque),
			    const struct record *record, struct err **err)
{
	struct incoming_call call = {.in = in, .record = record, .err = err};
	int ret = onmain_call(in->config.onmain, fn, &call);

	return ret ? ret : incoming_blame(in, call.ret, err);
}

static void incoming_compare(void *opaque)
{
	struct incoming_call *call = opaque;
	struct incoming *in = call->in;

	call->ret =
		vm_state_compare(in->config.vm, call->record->bytes, call->record->size, call->err);
	if (call->ret)
		return;
	in->blocks = blocks_of_vm(in->config.vm, &in->nr_blocks, call->err);
	if (!in->blocks)
		call->ret = -ENOMEM;
}

static void incoming_load_section(void *opaque)
{
	struct incoming_call *call = opaque;
	struct section section;

	call->ret = section_unpack(call->record->bytes, call->record->size, &section, call->err);
	if (!call->ret)
		call->ret = vm_load_section(call->in->config.vm, &section.vm, call->err);
}

static void incoming_load_end(void *opaque)
{
	struct incoming_call *call = opaque;

	call->ret = vm_load_end(call->in->config.vm, call->err);
}

/* Its reason is told by the end of everything: incoming.c. */
static void incoming_further_failed(void *opaque)
{
	struct incoming *in = opaque;

	cancel_raise(in->cancel);
}

static int incoming_blocks(struct incoming *in, const struct record *record, struct err **err)
{
	int ret = blocks_unpack(in->blocks, in->nr_blocks, record->bytes, record->size, err);
	struct ram_receive_config config = {
		.gm = vm_gm(in->config.vm),
		.blocks = in->blocks,
		.nr_blocks = in->nr_blocks,
		.nr_further = in->nr_further,
		.failed = incoming_further_failed,
		.opaque = in,
	};

	if (ret)
		return incoming_blame(in, ret, err);
	/* Pages of an image have places, and all of them are read or zeros. */
	for (size_t i = 0; i < in->nr_blocks && !ret && in->reader; i++)
		ret = pages_host_empty(config.gm, &in->blocks[i], in->cancel, err);
	if (ret)
		return ret;
	in->receive = ram_receive_new(&config, err);
	if (!in->receive)
		return -ENOMEM;
	for (size_t i = 0; i < in->nr_further && !ret; i++)
		ret = ram_receive_channel(in->receive, i + 1, in->further_readers[i], err);
	return ret;
}

int incoming_load_part(struct incoming *in, const struct record *record, struct err **err)
{
	return incoming_on_main(in, incoming_load_section, record, err);
}

int incoming_check_parts(struct incoming *in, struct err **err)
{
	return incoming_on_main(in, incoming_load_end, NULL, err);
}

static int incoming_end(struct incoming *in, const struct record *record, struct err **err)
{
	int ret = ram_receive_end(in->receive, err);

	if (ret)
		return ret;
	in->answer = record->flags & SECTION_END_ANSWER;
	in->step = INCOMING_ENDED;
	return incoming_check_parts(in, err);
}

/* Does it come in its order? */
static bool incoming_expects(const struct incoming *in, uint32_t type)
{
	enum incoming_step step = in->step;

	switch (type) {
	case RECORD_MACHINE:
		return step == INCOMING_MACHINE;
	case RECORD_BLOCKS:
		return step == INCOMING_BLOCKS;
	case RECORD_POSTCOPY_ADVISE:
		return step == INCOMING_MEMORY && in->reader;
	case RECORD_POSTCOPY_RUN:
		return (step == INCOMING_MEMORY && in->advised) || step == INCOMING_LIST;
	case RECORD_SECTION:
		return step == INCOMING_MEMORY || step == INCOMING_PARTS || step == INCOMING_LIST;
	case RECORD_END:
		return step == INCOMING_PARTS || step == INCOMING_LIST || step == INCOMING_PAGES;
	case RECORD_GO:
		return step == INCOMING_PAGES;
	case RECORD_PAGES:
	case RECORD_ZEROS:
		return step == INCOMING_MEMORY || step == INCOMING_PAGES;
	default:
		return step == INCOMING_MEMORY && ram_receive_takes(type);
	}
}

static int incoming_take(struct incoming *in, const struct record *record, struct err **err)
{
	switch ((int)record->type) {
	case RECORD_MACHINE:
		in->step = INCOMING_BLOCKS;
		return incoming_on_main(in, incoming_compare, record, err);
	case RECORD_BLOCKS:
		in->step = INCOMING_MEMORY;
		return incoming_blocks(in, record, err);
	case RECORD_POSTCOPY_ADVISE:
		return incoming_advise(in, err);
	case RECORD_POSTCOPY_RUN:
		return incoming_list(in, record, err);
	case RECORD_SECTION:
		if (in->step == INCOMING_LIST)
			return incoming_keep_part(in, record, err);
		in->step = INCOMING_PARTS;
		return incoming_load_part(in, record, err);
	case RECORD_END:
		if (in->step == INCOMING_LIST)
			return incoming_run_early(in, record, err);
		if (in->step == INCOMING_PAGES)
			return incoming_finish(in, record, err);
		return incoming_end(in, record, err);
	case RECORD_GO:
		incoming_go(in);
		return 0;
	default:
		return ram_receive_record(in->receive, in->reader, record, err);
	}
}

int incoming_load(struct incoming *in, const struct record *record, struct err **err)
{
	if (incoming_expects(in, record->type))
		return incoming_take(in, record, err);
	if (in->reader)
		return record_unexpected(in->reader, record, err);
	return err_set(err, EINVAL, "%s: it has a record %s where none belongs",
		       channel_name(in->channel), record_type_name(record->type));
}

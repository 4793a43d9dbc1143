/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest has no use for need not be carried: hints of the balloon in an outgoing migration
 * (VIRTIO 1.3, 5.5.6.5 "Free Page Hinting").
 *
 * I1  The guest is asked when the log of writes is on and all that was there is marked, and no more
 *     once each page was looked at: before the harvest after that, and so before the guest is stopped.
 * I2  It keeps the pages until the migration is over: at the target, whose device says so when it is
 *     loaded, or here, when it failed. Till then their content here does not matter to it, and neither
 *     does it that there are zeros instead at the target.
 * I3  Only where the machine goes to another process that has all of its memory before it runs. In
 *     postcopy the target would wait for pages that nobody sends; a file may be of a guest that goes on
 *     here as well; and memory that did not come yet is nothing to leave out.
 *
 * Threads: the migration's; hints come on the balloon's.
 */
#include "vmm/migration/outgoing_internal.h"
#include "vmm/virtio/balloon.h"
#include "vmm/vm/vm.h"

static void hints_free(void *opaque, uint64_t gpa, uint64_t size)
{
	struct outgoing *o = opaque;

	ram_send_hint_free(o->send, gpa, size);
}

void outgoing_hints_begin(struct outgoing *o)
{
	struct balloon *balloon = vm_balloon(o->config.vm);

	if (!balloon || !o->back || o->image || outgoing_can(o, MIGRATION_CAP_POSTCOPY_RAM) ||
	    vm_memory_is_arriving(o->config.vm))
		return;
	/* Where the guest knows nothing of hints all goes on without. */
	o->hinting = !balloon_hint_start(balloon, hints_free, o);
}

void outgoing_hints_stop(struct outgoing *o)
{
	if (o->hinting)
		balloon_hint_stop(vm_balloon(o->config.vm));
}

void outgoing_hints_end(struct outgoing *o)
{
	if (o->hinting)
		balloon_hint_done(vm_balloon(o->config.vm));
	o->hinting = false;
}

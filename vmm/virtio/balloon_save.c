/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon's state on its way to another process: docs/device-state.md, "virtio-balloon".
 *
 * Which pages are in the balloon is the driver's to know, and their content is nobody's: the other
 * side has memory there or not, as it came. Of large host pages those whose parts were given on
 * both sides stay. A command for hints ends with the move; the driver is told so. Requests that
 * were not answered are taken from the rings again, also the buffer for statistics, whose figures
 * are read once more.
 *
 * The other side controls every byte that is loaded.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/virtio/balloon_state.h"

void balloon_save(void *opaque, struct pack *out)
{
	const struct balloon *b = opaque;

	pack_u64(out, b->ram_bytes);
	pack_u32(out, b->wanted_pages);
	pack_u32(out, b->num_pages);
	pack_u32(out, b->actual);
	pack_u32(out, b->poison_val);
	pack_u32(out, b->wanted_interval_s);
	pack_u32(out, b->hint_last_id);
	/* May the driver keep pages for a command? */
	pack_bool(out, b->hint_last_id && b->hint_cmd_id != BALLOON_CMD_ID_DONE);
	pack_u32(out, b->hint_cmd_id);
}

int balloon_load(void *opaque, uint32_t version, struct unpack *in, struct err **err)
{
	struct balloon *b = opaque;
	uint64_t ram_bytes = unpack_u64(in), pages = b->ram_bytes / BALLOON_PAGE;
	uint32_t most = (uint32_t)num_min(pages, UINT32_MAX), wanted, actual;

	(void)version;
	if (!unpack_failed(in) && ram_bytes != b->ram_bytes)
		return err_set(err, EINVAL,
			       "it counts from %" PRIu64 " bytes of boot memory at the source, and "
			       "from %" PRIu64 " here",
			       ram_bytes, b->ram_bytes);
	wanted = unpack_u32_max(in, most);
	b->num_pages = unpack_u32_max(in, most);
	actual = unpack_u32(in);
	b->poison_val = unpack_u32(in);
	b->wanted_interval_s = unpack_u32(in);
	b->hint_last_id = unpack_u32(in);
	b->hint_release = unpack_bool(in);
	b->hint_cmd_id = unpack_u32(in);
	if (unpack_failed(in))
		return err_set(err, EINVAL,
			       "its state is cut short or holds values that cannot be");
	b->wanted_pages = wanted;
	b->actual = actual;
	b->interval_s = b->wanted_interval_s;
	b->loaded = true;
	if (b->changed)
		b->changed(b->opaque, b);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine out of a file in which pages have places (image.h): it runs before they are read. */
#include <errno.h>

#include "base/err.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/incoming_internal.h"
#include "vmm/migration/later.h"

/* Are the blocks of the pages those of the record? */
static int incoming_image_check(const struct incoming *in, struct err **err)
{
	bool same = image_nr_blocks(in->image) == in->nr_blocks;

	for (size_t i = 0; i < in->nr_blocks && same; i++)
		same = image_block_bytes(in->image, i) == in->blocks[i].ram.gpa.size;
	return same ? 0
		    : err_set(err, EINVAL, "%s: its pages are of other memory than it says",
			      channel_name(in->channel));
}

/* All that is plugged is known: from here on who touches a page waits until it is read. */
static int incoming_image_memory(struct incoming *in, struct err **err)
{
	struct lazy_source source;
	int ret = incoming_image_check(in, err);

	if (ret)
		return ret;
	image_read_ahead(in->image);
	source = lazy_source_of_image(in->image);
	ret = later_expect(in->later, in->blocks, in->nr_blocks, &source, err);
	return ret ? ret : later_start(in->later, in->cancel, err);
}

int incoming_image(struct incoming *in, struct err **err)
{
	int ret = image_open(channel_fd(in->channel), channel_base(in->channel),
			     channel_name(in->channel), &in->image, err);
	size_t nr = ret ? 0 : image_nr_records(in->image);

	for (size_t i = 0; i < nr && !ret && in->step != INCOMING_ENDED; i++) {
		struct record record;

		image_record(in->image, i, &record);
		if (record.type == RECORD_SECTION && in->step == INCOMING_MEMORY)
			ret = incoming_image_memory(in, err);
		if (!ret)
			ret = incoming_load(in, &record, err);
	}
	if (!ret && in->step != INCOMING_ENDED)
		ret = err_set(err, EINVAL, "%s: parts of the machine are missing",
			      channel_name(in->channel));
	return ret;
}

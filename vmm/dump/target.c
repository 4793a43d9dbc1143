/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a dump is written to: see target.h. */
#include "vmm/dump/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/channel.h"

#define ZEROS_BYTES (64 * KIB)
#define ZEROS_ALIGN 4096u

struct dump_target {
	struct channel *channel;
	bool stream;
	bool fresh; /* I1 */
	bool finished;
	void *zeros; /* ZEROS_BYTES */
};

int dump_target_open(struct address *address, struct cancel *cancel,
		     struct dump_target **ret_target, struct err **err)
{
	struct dump_target *t = calloc(1, sizeof(*t));
	struct stat st;
	int ret;

	if (t)
		t->zeros = aligned_alloc(ZEROS_ALIGN, ZEROS_BYTES);
	if (!t || !t->zeros) {
		free(t);
		return err_set(err, ENOMEM, "out of memory");
	}
	memset(t->zeros, 0, ZEROS_BYTES);
	ret = channel_connect(address, cancel, &t->channel, err);
	if (ret) {
		dump_target_close(t);
		return ret;
	}
	t->stream = !channel_is_seekable(t->channel);
	t->fresh = !t->stream && !fstat(channel_fd(t->channel), &st) && S_ISREG(st.st_mode) &&
		   (uint64_t)st.st_size <= channel_base(t->channel);
	*ret_target = t;
	return 0;
}

void dump_target_close(struct dump_target *t)
{
	if (!t)
		return;
	/* Where that fails something stays behind that says itself that it is no dump. */
	if (t->fresh && !t->finished &&
	    ftruncate(channel_fd(t->channel), (off_t)channel_base(t->channel)))
		t->fresh = false;
	channel_close(t->channel);
	free(t->zeros);
	free(t);
}

bool dump_target_is_stream(const struct dump_target *t)
{
	return t->stream;
}

static int target_put(struct dump_target *t, uint64_t position, const void *bytes, size_t size,
		      struct err **err)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
	int ret = t->stream ? channel_write(t->channel, bytes, size, -1)
			    : channel_pwritev(t->channel, &iov, 1, position);

	return ret ? channel_fail(t->channel, ret, "write the dump", err) : 0;
}

int dump_target_write(struct dump_target *t, uint64_t position, const void *bytes, size_t size,
		      struct err **err)
{
	int ret = 0;

	if (bytes)
		return target_put(t, position, bytes, size, err);
	if (t->fresh)
		return 0;
	for (size_t done = 0; done < size && !ret; done += ZEROS_BYTES)
		ret = target_put(t, position + done, t->zeros, num_min(size - done, ZEROS_BYTES),
				 err);
	return ret;
}

int dump_target_finish(struct dump_target *t, uint64_t size, struct err **err)
{
	int ret = 0;

	/* It may end with a hole. */
	if (t->fresh && ftruncate(channel_fd(t->channel), (off_t)(channel_base(t->channel) + size)))
		ret = channel_fail(t->channel, -errno, "make the file as long as the dump", err);
	if (!ret)
		ret = channel_finish(t->channel, -1, err);
	t->finished = !ret;
	return ret;
}

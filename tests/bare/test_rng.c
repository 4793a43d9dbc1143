/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rng: the entropy device through every kind of ring (VIRTIO 1.3, 5.4).
 */
#include "lib/check.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/virtio.h"
#include "tests.h"

#define BYTES 256u
#define TURNS 600u /* more than twice round a ring of 256 */

/* Are there at least as many different byte values as chance makes all but certain? */
static bool rng_looks_random(const uint8_t *bytes, unsigned int count)
{
	bool seen[256] = {false};
	unsigned int kinds = 0;

	for (unsigned int i = 0; i < count; i++) {
		kinds += !seen[bytes[i]];
		seen[bytes[i]] = true;
	}
	return kinds > count / 4;
}

static void rng_check_segments(struct virtio *v, uint8_t *bytes)
{
	struct vring_segment segments[] = {
		{(uint64_t)bytes, 64, true},
		{(uint64_t)bytes + 128, 64, true},
		{(uint64_t)bytes + 64, 64, true},
	};
	uint32_t len = 0;

	memset(bytes, 0, BYTES);
	check(virtio_do(v, segments, 3, &len) && len > 0 && len <= 192, "rng-segments",
	      "%u bytes written", len);
	check(len < 192 || rng_looks_random(bytes, 192), "rng-segments-content",
	      "not all segments were filled");
	check_equal(bytes[192], 0, "rng-segments-end");
}

void test_rng(void)
{
	static struct virtio v;
	uint8_t *bytes = mem_pages(1);
	struct vring_segment segment = {(uint64_t)bytes, BYTES, true};
	uint32_t len = 0;
	unsigned int done = 0;

	if (!check(virtio_open(&v, VIRTIO_ID_ENTROPY, 0) && virtio_start(&v, 0), "rng-start",
		   "no device, or features refused"))
		return;
	check(virtio_do(&v, &segment, 1, &len) && len > 0 && len <= BYTES, "rng-read",
	      "%u bytes written", len);
	check(rng_looks_random(bytes, len), "rng-content", "%u bytes of little variety", len);
	check_equal(*(volatile uint64_t *)(bytes + BYTES), 0, "rng-end");
	rng_check_segments(&v, bytes);
	segment.size = 8;
	while (done < TURNS && virtio_do(&v, &segment, 1, &len) && len > 0 && len <= 8)
		done++;
	check_equal(done, TURNS, "rng-many");
	virtio_reset(&v);
	check(virtio_status(&v) == 0, "rng-reset", "status 0x%x", virtio_status(&v));
	check(virtio_start(&v, 0) && virtio_do(&v, &segment, 1, &len), "rng-restart",
	      "no answer after a reset");
}

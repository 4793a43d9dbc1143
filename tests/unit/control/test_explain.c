/* SPDX-License-Identifier: BSD-3-Clause */
/* Why a size is not reached, in words: each kind of facts and the sentence that comes of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "vmm/control/explain.h"

#define NOW_MS 1000000

/* A device with 2 GiB of 4 plugged, of which @requested is asked for since it had @start. */
static struct resize_facts facts_new(uint64_t requested, uint64_t start,
				     enum virtio_mem_progress progress)
{
	return (struct resize_facts){
		.name = "reg0",
		.progress = progress,
		.info =
			{
				.region_size = 4 * GIB,
				.block_size = 2 * MIB,
				.plugged_size = 2 * GIB,
				.requested_size = requested,
				.owner_size = requested,
			},
		.stats =
			{
				.resize_ms = NOW_MS - 60000,
				.resize_plugged_size = start,
				.now_ms = NOW_MS,
				.idle_ms = 7000,
			},
		.running = true,
		.used_parts = 20,
		.parts = 32,
		.part_bytes = 128 * MIB,
	};
}

static void add_requests(struct resize_facts *f, enum virtio_mem_kind kind,
			 enum virtio_mem_answer answer, uint64_t count)
{
	f->stats.requests[kind].answers[answer] += count;
	f->stats.requests[kind].resize_answers[answer] += count;
	f->stats.requests[kind].last_ms = NOW_MS - 7000;
}

static void check(const struct resize_facts *f, enum resize_reason reason, const char *text)
{
	struct resize_explanation why;

	assert_true(resize_explain(f, &why));
	assert_string_equal(why.text, text);
	assert_int_equal(why.reason, reason);
}

static void test_done(void **state)
{
	struct resize_facts f = facts_new(2 * GIB, GIB, VIRTIO_MEM_DONE);
	struct resize_explanation why = {.text = "untouched"};

	(void)state;
	assert_false(resize_explain(&f, &why));
	assert_string_equal(why.text, "untouched");
	f.progress = VIRTIO_MEM_NO_DRIVER;
	assert_false(resize_explain(&f, &why));
}

static void test_no_driver(void **state)
{
	struct resize_facts f = facts_new(3 * GIB, 2 * GIB, VIRTIO_MEM_NO_DRIVER);

	(void)state;
	check(&f, RESIZE_NO_DRIVER, "the guest has no driver for 'reg0'");
	f.running = false;
	check(&f, RESIZE_NO_DRIVER, "the guest has no driver for 'reg0'; the machine is stopped");
}

static void test_in_progress(void **state)
{
	struct resize_facts f = facts_new(3 * GIB, GIB, VIRTIO_MEM_IN_PROGRESS);

	(void)state;
	check(&f, RESIZE_IN_PROGRESS, "the guest took 1 GiB of 2 GiB so far");
	f = facts_new(GIB, 3 * GIB, VIRTIO_MEM_IN_PROGRESS);
	check(&f, RESIZE_IN_PROGRESS, "the guest gave back 1 GiB of 2 GiB so far");
	/* A reset took away what the guest had when it was asked. */
	f = facts_new(3 * GIB, 3 * GIB - 2 * MIB, VIRTIO_MEM_IN_PROGRESS);
	check(&f, RESIZE_IN_PROGRESS, "the guest took nothing of 1 GiB so far");
}

static void test_growing(void **state)
{
	struct resize_facts f = facts_new(3 * GIB, 2 * GIB - 2 * MIB, VIRTIO_MEM_VM_OOM);

	(void)state;
	add_requests(&f, VIRTIO_MEM_PLUG, VIRTIO_MEM_ACK, 1);
	check(&f, RESIZE_GUEST_TOOK_PART,
	      "the guest took 2 MiB of 1026 MiB and asks for no more: its last plug request came "
	      "7 s ago");
	add_requests(&f, VIRTIO_MEM_STATE, VIRTIO_MEM_ERROR, 9);
	add_requests(&f, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_ERROR, 2);
	check(&f, RESIZE_GUEST_TOOK_PART,
	      "the guest took 2 MiB of 1026 MiB and asks for no more: its last plug request came "
	      "7 s ago; 2 of its requests made no sense (ERROR)");
	f = facts_new(3 * GIB, 2 * GIB, VIRTIO_MEM_VM_OOM);
	check(&f, RESIZE_GUEST_SILENT,
	      "the guest took nothing of 1 GiB: it did not even read the new size");
	f.stats.resize_size_reads = 1;
	check(&f, RESIZE_GUEST_TOOK_PART,
	      "the guest took nothing of 1 GiB: it read the new size, and sent no request");
}

static void refuse(struct resize_facts *f, enum virtio_mem_kind kind, enum virtio_mem_answer answer,
		   enum virtio_mem_step step, int error)
{
	f->stats.refusals++;
	f->stats.resize_refusals++;
	f->stats.refusal = (struct virtio_mem_refusal){kind, answer, step, error, NOW_MS - 3500};
	add_requests(f, kind, answer, 1);
}

static void test_host(void **state)
{
	struct resize_facts f = facts_new(3 * GIB, 2 * GIB, VIRTIO_MEM_HOST_OOM);

	(void)state;
	refuse(&f, VIRTIO_MEM_PLUG, VIRTIO_MEM_NACK, VIRTIO_MEM_POPULATE, ENOMEM);
	check(&f, RESIZE_HOST_OUT_OF_MEMORY,
	      "the guest took nothing of 1 GiB: the host has no memory for the rest; the host "
	      "could not do 1 request, the last plug 3 s ago (NACK: finding the memory: Cannot "
	      "allocate memory)");
	/* Another failure than want of memory is the host's as well. */
	f = facts_new(3 * GIB, 2 * GIB, VIRTIO_MEM_VM_OOM);
	refuse(&f, VIRTIO_MEM_PLUG, VIRTIO_MEM_BUSY, VIRTIO_MEM_GRANT, EIO);
	refuse(&f, VIRTIO_MEM_PLUG, VIRTIO_MEM_BUSY, VIRTIO_MEM_NO_STEP, 0);
	check(&f, RESIZE_HOST_FAILED,
	      "the guest took nothing of 1 GiB and asks for no more: its last plug request came "
	      "7 s ago; the host could not do 2 requests, the last plug 3 s ago (BUSY: taking back "
	      "memory of an earlier one)");
	f = facts_new(GIB, 2 * GIB, VIRTIO_MEM_VM_OOM);
	f.info.faulted_size = 4 * MIB;
	refuse(&f, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_BUSY, VIRTIO_MEM_DISCARD, EINVAL);
	check(&f, RESIZE_HOST_FAILED,
	      "the guest gave back nothing of 1 GiB; the other 1 GiB stay plugged, in 20 of 32 "
	      "parts "
	      "of 128 MiB: it tried 1 time, at last 7 s ago; the host could not do 1 request, the "
	      "last unplug 3 s ago (BUSY: giving the memory back to the host: Invalid argument); 4 "
	      "MiB of it are out of the guest's reach since the host failed");
	/* What was refused before the last size does not count. */
	f = facts_new(3 * GIB, 2 * GIB, VIRTIO_MEM_VM_OOM);
	f.stats.refusals = 5;
	f.stats.resize_size_reads = 1;
	check(&f, RESIZE_GUEST_TOOK_PART,
	      "the guest took nothing of 1 GiB: it read the new size, and sent no request");
}

static void test_shrinking(void **state)
{
	struct resize_facts f = facts_new(0, 3 * GIB, VIRTIO_MEM_VM_OOM);

	(void)state;
	add_requests(&f, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_ACK, 511);
	add_requests(&f, VIRTIO_MEM_UNPLUG_ALL, VIRTIO_MEM_NACK, 1);
	check(&f, RESIZE_GUEST_GAVE_PART,
	      "the guest gave back 1 GiB of 3 GiB; the other 2 GiB stay plugged, in 20 of 32 parts "
	      "of 128 MiB: it tried 512 times, at last 7 s ago; for memory that it cannot empty it "
	      "does not ask");
	f = facts_new(GIB, 2 * GIB, VIRTIO_MEM_VM_OOM);
	f.stats.resize_size_reads = 3;
	check(&f, RESIZE_GUEST_GAVE_PART,
	      "the guest gave back nothing of 1 GiB; the other 1 GiB stay plugged, in 20 of 32 "
	      "parts "
	      "of 128 MiB: it read the new size, and sent no request: no block of it can be "
	      "emptied, "
	      "or it takes longer");
	f.stats.resize_size_reads = 0;
	check(&f, RESIZE_GUEST_SILENT,
	      "the guest gave back nothing of 1 GiB; the other 1 GiB stay plugged, in 20 of 32 "
	      "parts "
	      "of 128 MiB: it did not even read the new size");
}

/* No facts are so long that a sentence leaves its place. */
static void test_bounds(void **state)
{
	static const enum virtio_mem_progress all[] = {
		VIRTIO_MEM_DONE,     VIRTIO_MEM_IN_PROGRESS, VIRTIO_MEM_VM_OOM,
		VIRTIO_MEM_HOST_OOM, VIRTIO_MEM_NO_DRIVER,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		for (unsigned int grow = 0; grow < 2; grow++) {
			struct resize_facts f;
			struct resize_explanation why;

			memset(&f, 0xff, sizeof(f));
			f.name = "reg0";
			f.progress = all[i];
			f.running = false;
			f.info.plugged_size = grow ? 1 : UINT64_MAX;
			f.info.requested_size = grow ? UINT64_MAX : 1;
			f.stats.refusal =
				(struct virtio_mem_refusal){VIRTIO_MEM_UNPLUG_ALL, VIRTIO_MEM_NACK,
							    VIRTIO_MEM_DISCARD, EILSEQ, 0};
			assert_true(resize_explain(&f, &why));
			assert_true(strlen(why.text) < RESIZE_TEXT_MAX - 1);
			assert_non_null(strstr(why.text, "the machine is stopped"));
		}
	}
}

/* A guest that asked for the size by itself is told apart from one that was asked. */
static void test_granted(void **state)
{
	struct resize_facts f = facts_new(3 * GIB, 2 * GIB, VIRTIO_MEM_VM_OOM);

	(void)state;
	f.info.owner_size = GIB;
	f.stats.resize_size_reads = 1;
	check(&f, RESIZE_GUEST_TOOK_PART,
	      "the guest took nothing of 1 GiB: it read the new size, and sent no request; 2 GiB "
	      "of the requested size were granted at the guest's own request");
}

static void test_names(void **state)
{
	char all[512] = "";

	(void)state;
	for (enum resize_reason r = 0; r < RESIZE_REASONS; r++) {
		size_t used = strlen(all);

		snprintf(all + used, sizeof(all) - used, "%s%s", used ? " " : "",
			 resize_reason_name(r));
	}
	assert_string_equal(all, RESIZE_REASON_NAMES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_done),        cmocka_unit_test(test_no_driver),
		cmocka_unit_test(test_in_progress), cmocka_unit_test(test_growing),
		cmocka_unit_test(test_host),        cmocka_unit_test(test_shrinking),
		cmocka_unit_test(test_bounds),      cmocka_unit_test(test_names),
		cmocka_unit_test(test_granted),
	};

	return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}

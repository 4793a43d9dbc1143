/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dumps of a machine's memory: see dump.h for the contract.
 *
 * The end is told on the main thread, as the dump's thread's last act: whoever finds that none is under
 * way can join it without waiting.
 */
#include "vmm/dump/dump.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/dump/dump_elf.h"
#include "vmm/dump/memory.h"
#include "vmm/dump/target.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/onmain.h"
#include "vmm/vm/vm_dump.h"
#include "vmm/vm/vm_objects.h"

#define DUMP_FILE "file:"
#define DUMP_FD   "fd:"

struct dump {
	struct vm *vm;
	struct onmain *onmain;
	struct dump_hooks hooks;
	void *opaque;
	enum dump_status status;
	uint64_t total;
	_Atomic uint64_t completed;
	struct err *error; /* of DUMP_FAILED */
	bool joined;       /* there is no thread */
	pthread_t thread;
	/* Of one dump; the thread's while there is one, and the main thread's while that calls it. */
	bool held; /* between vm_dump_begin() and vm_dump_end(); the main thread's */
	struct address *address;
	struct cancel *cancel;
	bool has_filter;
	struct range filter;
	struct dump_target *target;
	struct dump_memory *memory;
	struct dump_elf elf;
	int result;
	struct err *why; /* with a result that is not 0 */
};

/* ---- the main thread, for the dump's ---- */

static int dump_take_vcpus(struct dump *d, struct vcpu_registers **ret_vcpus, struct err **err)
{
	unsigned int nr = vm_nr_vcpus(d->vm);
	int ret = 0;

	*ret_vcpus = calloc(nr, sizeof(**ret_vcpus));
	if (!*ret_vcpus)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = vm_dump_vcpu(d->vm, i, &(*ret_vcpus)[i], err);
	return ret;
}

static int dump_take(struct dump *d, struct err **err)
{
	struct vcpu_registers *vcpus = NULL;
	const struct range *runs;
	size_t nr_runs;
	int ret = dump_take_vcpus(d, &vcpus, err);

	if (!ret) {
		d->memory = dump_memory_new(d->vm, d->has_filter ? &d->filter : NULL, err);
		ret = d->memory ? 0 : -ENOMEM;
	}
	if (!ret) {
		runs = dump_memory_runs(d->memory, &nr_runs);
		d->total = dump_memory_bytes(d->memory);
		ret = d->total ? dump_elf_make(runs, nr_runs, vcpus, vm_nr_vcpus(d->vm), &d->elf,
					       err)
			       : err_set(err, EINVAL, "the guest has no memory at these addresses");
	}
	free(vcpus);
	return ret;
}

static void dump_on_open(void *opaque)
{
	struct dump *d = opaque;

	vm_dump_halt(d->vm);
	d->result = dump_take(d, &d->why);
	if (!d->result)
		d->hooks.begun(d->opaque);
}

static void dump_on_written(void *opaque)
{
	struct dump *d = opaque;

	if (d->held)
		vm_dump_end(d->vm);
	d->held = false;
}

static void dump_on_end(void *opaque)
{
	struct dump *d = opaque;

	dump_on_written(d);
	d->status = d->result ? DUMP_FAILED : DUMP_COMPLETED;
	d->error = d->why;
	d->why = NULL;
	d->hooks.ended(d->opaque);
}

/* ---- the thread ---- */

static int dump_put(void *opaque, uint64_t position, const void *bytes, size_t size,
		    struct err **err)
{
	struct dump *d = opaque;
	int ret;

	if (cancel_raised(d->cancel))
		return err_set(err, ECANCELED, "the dump was cancelled");
	ret = dump_target_write(d->target, d->elf.head_bytes + position, bytes, size, err);
	if (!ret)
		atomic_fetch_add_explicit(&d->completed, size, memory_order_relaxed);
	return ret;
}

static int dump_write_head(struct dump *d, struct err **err)
{
	return dump_target_write(d->target, 0, d->elf.head, d->elf.head_bytes, err);
}

static int dump_write(struct dump *d, struct err **err)
{
	bool head_first = dump_target_is_stream(d->target);
	int ret = head_first ? dump_write_head(d, err) : 0;

	if (!ret)
		ret = dump_memory_read(d->memory, dump_put, d, err);
	if (!ret && !head_first)
		ret = dump_write_head(d, err);
	return ret;
}

static void *dump_main(void *opaque)
{
	struct dump *d = opaque;
	int ret = dump_target_open(d->address, d->cancel, &d->target, &d->why);

	if (!ret) {
		ret = onmain_call(d->onmain, dump_on_open, d);
		if (!ret)
			ret = d->result;
	}
	if (!ret)
		ret = dump_write(d, &d->why);
	onmain_call(d->onmain, dump_on_written, d);
	if (!ret)
		ret = dump_target_finish(d->target, d->elf.all_bytes, &d->why);
	/* What was not finished is taken back before anybody is told. */
	dump_target_close(d->target);
	d->target = NULL;
	d->result = ret;
	onmain_call(d->onmain, dump_on_end, d);
	return NULL;
}

/* ---- from the main thread ---- */

struct dump *dump_new(struct vm *vm, struct loop *main, const struct dump_hooks *hooks,
		      void *opaque, struct err **err)
{
	struct dump *d = calloc(1, sizeof(*d));

	if (!d) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	d->vm = vm;
	d->hooks = *hooks;
	d->opaque = opaque;
	d->joined = true;
	d->onmain = onmain_new(main, err);
	if (!d->onmain) {
		free(d);
		return NULL;
	}
	return d;
}

/* What is one dump's. */
static void dump_clear(struct dump *d)
{
	if (!d->joined)
		pthread_join(d->thread, NULL);
	d->joined = true;
	if (d->held)
		vm_dump_end(d->vm);
	d->held = false;
	dump_memory_free(d->memory);
	d->memory = NULL;
	free(d->elf.head);
	d->elf.head = NULL;
	address_free(d->address);
	d->address = NULL;
	cancel_free(d->cancel);
	d->cancel = NULL;
	err_free(d->why);
	d->why = NULL;
	err_free(d->error);
	d->error = NULL;
}

void dump_free(struct dump *d)
{
	if (!d)
		return;
	dump_cancel(d);
	onmain_close(d->onmain);
	dump_clear(d);
	onmain_free(d->onmain);
	free(d);
}

/* As it was written: a path may hold what would be something else in an address of a migration. */
static int dump_parse(struct dump *d, const char *protocol, struct err **err)
{
	bool file = !strncmp(protocol, DUMP_FILE, strlen(DUMP_FILE));
	const char *what = protocol + (file ? strlen(DUMP_FILE) : strlen(DUMP_FD));

	if ((!file && strncmp(protocol, DUMP_FD, strlen(DUMP_FD)) != 0) || !*what)
		return err_set(err, EINVAL,
			       "Parameter 'protocol' cannot be '%s'; allowed: file:PATH, fd:NAME",
			       protocol);
	d->address = calloc(1, sizeof(*d->address));
	if (!d->address)
		return err_set(err, ENOMEM, "out of memory");
	d->address->type = file ? ADDRESS_FILE : ADDRESS_FD;
	d->address->fd = -1;
	d->address->text = strdup(protocol);
	d->address->what = strdup(what);
	if (!d->address->text || !d->address->what)
		return err_set(err, ENOMEM, "out of memory");
	return address_claim(d->address, vm_fds(d->vm), err);
}

static int dump_begin(struct dump *d, const struct dump_request *request, struct err **err)
{
	int ret = dump_parse(d, request->protocol, err);

	if (ret)
		return ret;
	d->cancel = cancel_new(err);
	if (!d->cancel)
		return -ENOMEM;
	d->has_filter = request->has_filter;
	d->filter = request->filter;
	ret = vm_dump_begin(d->vm, err);
	if (ret)
		return ret;
	d->held = true;
	ret = pthread_create(&d->thread, NULL, dump_main, d);
	if (ret)
		return err_set(err, ret, "cannot start a thread: %s", strerror(ret));
	d->joined = false;
	pthread_setname_np(d->thread, "dump");
	return 0;
}

int dump_start(struct dump *d, const struct dump_request *request, struct err **err)
{
	enum dump_status before = d->status;
	struct err *error_before = d->error;
	int ret;

	if (before == DUMP_ACTIVE)
		return err_set(err, EBUSY,
			       "a dump of memory is under way already; wait until it is over");
	d->error = NULL;
	dump_clear(d);
	ret = dump_begin(d, request, err);
	if (ret) {
		dump_clear(d);
		d->error = error_before;
		return ret;
	}
	err_free(error_before);
	d->status = DUMP_ACTIVE;
	d->total = 0;
	d->completed = 0;
	return 0;
}

void dump_cancel(struct dump *d)
{
	if (d->status == DUMP_ACTIVE)
		cancel_raise(d->cancel);
}

void dump_info(const struct dump *d, struct dump_info *ret_info)
{
	*ret_info = (struct dump_info){
		.status = d->status,
		.completed = d->completed,
		.total = d->total,
		.error = d->error ? err_message(d->error) : NULL,
	};
}

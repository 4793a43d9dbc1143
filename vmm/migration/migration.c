/* SPDX-License-Identifier: BSD-3-Clause */
/* The face of the room: see migration.h for the contract. */
#include "vmm/migration/migration.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/incoming.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/outgoing.h"
#include "vmm/migration/params.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_objects.h"

struct migration {
	struct vm *vm;
	struct loop *main;
	struct onmain *onmain;
	struct migration_hooks hooks;
	void *opaque;
	uint32_t capabilities;
	struct migration_params params;
	enum migration_status status;
	char *error;               /* of the last one; NULL */
	struct outgoing *outgoing; /* the last one; stays until the next one or the end */
	struct incoming *incoming;
	struct dirty_rate *dirty_rate;
};

static void migration_on_status(void *opaque, enum migration_status status, const char *error)
{
	struct migration *m = opaque;

	/* Steps that it was about to take when somebody cancelled it. */
	if (m->status == MIGRATION_CANCELLING && status != MIGRATION_CANCELLING &&
	    migration_status_is_active(status))
		return;
	m->status = status;
	free(m->error);
	m->error = error ? strdup(error) : NULL;
	if (m->hooks.status)
		m->hooks.status(m->opaque, status);
}

static void migration_on_pass(void *opaque, uint64_t pass)
{
	struct migration *m = opaque;

	if (m->hooks.pass)
		m->hooks.pass(m->opaque, pass);
}

/* I5 */
static void migration_on_incoming(void *opaque, enum migration_status status, const char *error)
{
	struct migration *m = opaque;

	migration_on_status(m, status, error);
	if (status == MIGRATION_ACTIVE || status == MIGRATION_POSTCOPY_ACTIVE)
		incoming_connected(m->incoming);
	if (status != MIGRATION_FAILED)
		return;
	report(vm_config(m->vm), "%s", error);
	vm_quit(m->vm, EXIT_FAILURE, VM_CAUSE_HOST_ERROR);
}

/* ---- life ---- */

struct migration *migration_new(struct vm *vm, struct loop *main, struct err **err)
{
	struct migration *m = calloc(1, sizeof(*m));

	if (!m) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	m->vm = vm;
	m->main = main;
	m->params = migration_params_default;
	m->onmain = onmain_new(main, err);
	m->dirty_rate = m->onmain ? dirty_rate_new(vm, m->onmain, err) : NULL;
	if (!m->dirty_rate) {
		onmain_free(m->onmain);
		free(m);
		return NULL;
	}
	return m;
}

void migration_free(struct migration *m)
{
	if (!m)
		return;
	onmain_close(m->onmain);
	dirty_rate_free(m->dirty_rate);
	outgoing_free(m->outgoing);
	incoming_free(m->incoming);
	onmain_free(m->onmain);
	free(m->error);
	free(m);
}

void migration_set_hooks(struct migration *m, const struct migration_hooks *hooks, void *opaque)
{
	m->hooks = hooks ? *hooks : (struct migration_hooks){NULL, NULL};
	m->opaque = opaque;
}

/* ---- what it may be told ---- */

uint32_t migration_capabilities(const struct migration *m)
{
	return m->capabilities;
}

static int migration_check_idle(const struct migration *m, struct err **err)
{
	if (migration_status_is_active(m->status))
		return err_set(err, EBUSY, "a migration is under way already");
	return 0;
}

int migration_set_capabilities(struct migration *m, uint32_t capabilities, struct err **err)
{
	/* A source that did not come yet may still be told anything. */
	bool waits = m->incoming && m->status == MIGRATION_SETUP;
	int ret = waits ? 0 : migration_check_idle(m, err);

	if (!ret)
		ret = migration_capabilities_check(capabilities, err);
	if (ret)
		return ret;
	m->capabilities = capabilities;
	if (waits)
		incoming_set_capabilities(m->incoming, capabilities);
	return 0;
}

const struct migration_params *migration_params(const struct migration *m)
{
	return &m->params;
}

int migration_set_params(struct migration *m, const struct migration_params *params,
			 struct err **err)
{
	int ret = migration_params_check(params, err);

	if (ret)
		return ret;
	m->params = *params;
	if (m->outgoing)
		outgoing_set_params(m->outgoing, params);
	return 0;
}

/* ---- outgoing ---- */

static int migration_address(struct migration *m, const char *uri, struct address **ret_address,
			     struct err **err)
{
	const struct vm_sandbox_config *sandbox = &vm_config(m->vm)->sandbox;
	int ret = address_parse(uri, ret_address, err);

	if (ret)
		return ret;
	if ((*ret_address)->type == ADDRESS_EXEC && sandbox->enable && !sandbox->spawn)
		ret = err_set(err, EPERM,
			      "%s: -sandbox spawn=deny lets this machine start no command; "
			      "allowed: tcp:, unix:, fd:, file:",
			      (*ret_address)->text);
	else
		ret = address_claim(*ret_address, vm_fds(m->vm), err);
	if (ret)
		address_free(*ret_address);
	return ret;
}

static int migration_begin(struct migration *m, const char *uri, struct err **err)
{
	const struct outgoing_config config = {
		.vm = m->vm,
		.onmain = m->onmain,
		.capabilities = m->capabilities,
		.params = m->params,
		.status = migration_on_status,
		.pass = migration_on_pass,
		.opaque = m,
	};
	struct outgoing *outgoing;
	struct address *address;
	int ret = migration_address(m, uri, &address, err);

	if (!ret && address->type == ADDRESS_DEFER) {
		address_free(address);
		ret = err_set(err, EINVAL, "'defer' is no place to migrate to");
	}
	if (ret)
		return ret;
	dirty_rate_give_way(m->dirty_rate);
	ret = outgoing_start(&config, address, &outgoing, err);
	if (ret)
		return ret;
	/* The last one's thread has told its end, and has nothing left to do. */
	outgoing_free(m->outgoing);
	m->outgoing = outgoing;
	migration_on_status(m, MIGRATION_SETUP, NULL);
	return 0;
}

static int migration_resume(struct migration *m, const char *uri, struct err **err)
{
	struct address *address;
	int ret;

	if (!m->outgoing || m->status != MIGRATION_POSTCOPY_PAUSED)
		return err_set(err, EINVAL, "there is no migration in postcopy that is paused");
	ret = migration_address(m, uri, &address, err);
	if (ret)
		return ret;
	m->status = MIGRATION_POSTCOPY_RECOVER;
	outgoing_resume(m->outgoing, address);
	return 0;
}

int migration_start(struct migration *m, const char *uri, bool resume, struct err **err)
{
	int ret;

	if (resume)
		return migration_resume(m, uri, err);
	ret = migration_check_idle(m, err);
	return ret ? ret : migration_begin(m, uri, err);
}

void migration_cancel(struct migration *m)
{
	if (!m->outgoing || !migration_status_is_active(m->status) ||
	    m->status == MIGRATION_CANCELLING || !outgoing_cancel(m->outgoing))
		return;
	m->status = MIGRATION_CANCELLING;
}

int migration_continue(struct migration *m, enum migration_status status, struct err **err)
{
	if (status != MIGRATION_PRE_SWITCHOVER || m->status != status)
		return err_set(err, EINVAL, "the migration is in state '%s', and not in state '%s'",
			       migration_status_name(m->status), migration_status_name(status));
	outgoing_continue(m->outgoing);
	return 0;
}

int migration_start_postcopy(struct migration *m, struct err **err)
{
	if (!m->outgoing || !migration_status_is_active(m->status))
		return err_set(err, EINVAL, "there is no migration under way from here");
	if (!outgoing_can_postcopy(m->outgoing))
		return err_set(err, EINVAL,
			       "the migration was not begun with the capability 'postcopy-ram'");
	outgoing_start_postcopy(m->outgoing);
	return 0;
}

int migration_pause(struct migration *m, struct err **err)
{
	if (m->status != MIGRATION_POSTCOPY_ACTIVE && m->status != MIGRATION_POSTCOPY_RECOVER)
		return err_set(err, EINVAL,
			       "only a migration in postcopy can be paused; the state is '%s'",
			       migration_status_name(m->status));
	if (m->outgoing)
		outgoing_cut(m->outgoing);
	else
		incoming_cut(m->incoming);
	return 0;
}

/* ---- incoming ---- */

int migration_incoming(struct migration *m, const char *uri, struct err **err)
{
	const struct incoming_config config = {
		.vm = m->vm,
		.main = m->main,
		.onmain = m->onmain,
		.capabilities = m->capabilities,
		.status = migration_on_incoming,
		.opaque = m,
	};
	struct address *address;
	int ret;

	if (vm_state(m->vm) != VM_INMIGRATE)
		return err_set(err, EINVAL,
			       "the machine waits for nothing: it was started without -incoming");
	if (m->incoming)
		return err_set(err, EBUSY,
			       "the machine is waited for already; '-incoming defer' lets it be "
			       "said once");
	ret = migration_address(m, uri, &address, err);
	if (ret)
		return ret;
	if (address->type == ADDRESS_DEFER) {
		address_free(address);
		return 0;
	}
	ret = incoming_start(&config, address, &m->incoming, err);
	if (!ret)
		migration_on_status(m, MIGRATION_SETUP, NULL);
	return ret;
}

int migration_recover(struct migration *m, const char *uri, struct err **err)
{
	struct address *address;
	int ret;

	if (m->outgoing || m->status != MIGRATION_POSTCOPY_PAUSED)
		return err_set(err, EINVAL,
			       "there is no incoming migration in postcopy that is paused");
	ret = migration_address(m, uri, &address, err);
	return ret ? ret : incoming_recover(m->incoming, address, err);
}

/* ---- for listings ---- */

void migration_info(const struct migration *m, struct migration_info *ret_info)
{
	memset(ret_info, 0, sizeof(*ret_info));
	if (m->outgoing)
		outgoing_info(m->outgoing, ret_info);
	ret_info->status = m->status;
	ret_info->incoming = !m->outgoing && m->incoming;
	ret_info->error = m->error;
	if (m->incoming)
		snprintf(ret_info->listening, sizeof(ret_info->listening), "%s",
			 incoming_listening(m->incoming));
}

/* ---- what the guest writes ---- */

int migration_dirty_rate_start(struct migration *m, enum dirty_rate_mode mode, int64_t calc_time_s,
			       int64_t sample_pages, struct err **err)
{
	int ret = mode == DIRTY_RATE_DIRTY_BITMAP ? migration_check_idle(m, err) : 0;

	return ret ? ret : dirty_rate_start(m->dirty_rate, mode, calc_time_s, sample_pages, err);
}

void migration_dirty_rate_info(const struct migration *m, struct dirty_rate_info *ret_info)
{
	dirty_rate_info(m->dirty_rate, ret_info);
}

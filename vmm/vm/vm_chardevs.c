/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's character devices, and the descriptors that they may be given. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/ptrs.h"
#include "vmm/chardev/chardev.h"
#include "vmm/vm/fds.h"
#include "vmm/vm/vm_internal.h"

#define VM_CHARDEV_WHAT_MAX 128

static void vm_chardev_note(void *opaque, const char *line)
{
	(void)opaque;
	fprintf(stderr, "%s\n", line);
}

static void vm_chardev_quit(void *opaque)
{
	vm_quit(opaque, 0, VM_CAUSE_HOST_UI);
}

/* The descriptor that it is given, its own from then on; -1: none. */
static int vm_chardev_fd(const struct vm *vm, const struct vm_chardev_config *c, int *ret_fd,
			 struct err **err)
{
	char what[VM_CHARDEV_WHAT_MAX];

	snprintf(what, sizeof(what), "chardev '%s'", c->id);
	if (c->has_fdset)
		return fds_set_open(vm->fds, what, c->fdset, ret_fd, err);
	if (c->fd_name)
		return fds_open(vm->fds, what, c->fd_name, ret_fd, err);
	*ret_fd = c->fd;
	return 0;
}

/* The descriptor of its log; -1: it keeps none. */
static int vm_chardev_log_fd(const struct vm *vm, const struct vm_chardev_config *c, int *ret_fd,
			     struct err **err)
{
	/* Where nothing may wait, a pipe has its reader already. */
	int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (c->live ? O_NONBLOCK : 0);
	char what[VM_CHARDEV_WHAT_MAX];

	*ret_fd = -1;
	if (!c->logfile)
		return 0;
	snprintf(what, sizeof(what), "chardev '%s'", c->id);
	if (c->has_log_fdset)
		return fds_set_open(vm->fds, what, c->log_fdset, ret_fd, err);
	*ret_fd = open(c->logfile, flags | (c->log_append ? O_APPEND : O_TRUNC), 0666);
	if (*ret_fd < 0)
		return err_set(err, errno, "%s: cannot open its log '%s' for writing: %s", what,
			       c->logfile, strerror(errno));
	return 0;
}

static struct chardev *vm_chardev_new(struct vm *vm, const struct vm_chardev_config *c,
				      struct err **err)
{
	static const enum chr_backend backends[] = {
		[VM_CHARDEV_NULL] = CHR_NULL,     [VM_CHARDEV_STDIO] = CHR_STDIO,
		[VM_CHARDEV_SOCKET] = CHR_SOCKET, [VM_CHARDEV_FILE] = CHR_FILE,
		[VM_CHARDEV_PTY] = CHR_PTY,
	};
	struct chr_config config;

	chr_config_init(&config);
	if (vm_chardev_log_fd(vm, c, &config.log_fd, err))
		return NULL;
	if (vm_chardev_fd(vm, c, &config.fd, err)) {
		if (config.log_fd >= 0)
			close(config.log_fd);
		return NULL;
	}
	config.backend = backends[c->type];
	config.id = c->id;
	config.mux = c->mux;
	config.signal = c->signal;
	config.path = c->path;
	config.host = c->host;
	config.port = c->port;
	config.ipv4 = c->ipv4 && !c->ipv6;
	config.ipv6 = c->ipv6 && !c->ipv4;
	config.server = c->server;
	config.wait = c->wait;
	config.nodelay = c->nodelay;
	config.reconnect_s = c->reconnect_s;
	config.append = c->append;
	config.live = c->live;
	/* Whoever asked while the machine runs gets an answer. */
	config.note = c->live ? NULL : vm_chardev_note;
	config.quit = vm_chardev_quit;
	config.opaque = vm;
	return chardev_new(vm->main, &config, err);
}

int vm_chardev_open(struct vm *vm, const struct vm_chardev_config *config, struct err **err)
{
	struct vm_chardev *c = calloc(1, sizeof(*c));

	if (!c || ptrs_add(&vm->chardevs, &vm->nr_chardevs, c)) {
		free(c);
		return err_set(err, ENOMEM, "out of memory");
	}
	c->config = config;
	c->chr = vm_chardev_new(vm, config, err);
	if (c->chr)
		return 0;
	vm_chardev_close(vm, config);
	return -EIO;
}

static struct vm_chardev *vm_chardev_of(const struct vm *vm, const struct vm_chardev_config *config)
{
	for (size_t i = 0; i < vm->nr_chardevs; i++)
		if (vm->chardevs[i]->config == config)
			return vm->chardevs[i];
	return NULL;
}

static void vm_chardev_end(struct vm_chardev *c)
{
	chardev_free(c->chr);
	free(c);
}

void vm_chardev_close(struct vm *vm, const struct vm_chardev_config *config)
{
	struct vm_chardev *c = vm_chardev_of(vm, config);

	ptrs_remove(&vm->chardevs, &vm->nr_chardevs, c);
	vm_chardev_end(c);
}

/* The descriptors of the configuration become those of the machine. */
static int vm_build_fds(struct vm *vm, struct err **err)
{
	const struct vm_config *c = vm->config;
	int ret = 0;

	vm->fds = fds_new();
	if (!vm->fds)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < c->nr_fds && !ret; i++) {
		int64_t set = c->fds[i].set;

		ret = fds_set_add(vm->fds, "-add-fd", &set, c->fds[i].fd, c->fds[i].opaque, &set,
				  err);
	}
	return ret;
}

int vm_build_chardevs(struct vm *vm, struct err **err)
{
	int ret = vm_build_fds(vm, err);

	for (size_t i = 0; i < vm->config->nr_chardevs && !ret; i++)
		ret = vm_chardev_open(vm, vm->config->chardevs[i], err);
	return ret;
}

struct chardev *vm_chardev(const struct vm *vm, const struct vm_chardev_config *config)
{
	return vm_chardev_of(vm, config)->chr;
}

void vm_free_chardevs(struct vm *vm)
{
	for (size_t i = 0; i < vm->nr_chardevs; i++)
		vm_chardev_end(vm->chardevs[i]);
	free(vm->chardevs);
	fds_free(vm->fds);
}

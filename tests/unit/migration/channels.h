/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Channels for tests: what they are made of, checks of sentences, and a second thread. What cannot
 * fail here fails the test.
 */
#ifndef TESTS_MIGRATION_CHANNELS_H
#define TESTS_MIGRATION_CHANNELS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"

/* A fixture's state: cmocka's setup and teardown. */
struct rig {
	struct cancel *cancel;
	char folder[64];
	int nr_fds; /* open when it began */
};

int rig_setup(void **state);
/* Checks that no descriptor was left open, and no child. */
int rig_teardown(void **state);
/* A path in the rig's folder; in one of a few static buffers. */
const char *rig_path(const struct rig *rig, const char *name);

/* An address of a text, which must be one; and one that is a descriptor, which it takes over. */
struct address *rig_address(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
struct address *rig_address_fd(int fd);
/* Channels of descriptors. */
struct channel *rig_writer(const struct rig *rig, int fd);
struct channel *rig_reader(const struct rig *rig, int fd);
/* Both ends of a socket pair. */
void rig_pair(const struct rig *rig, struct channel *ret_ends[2]);
/* Connect, or listen; what fails is NULL, and *err is set. */
struct channel *rig_connect(const struct rig *rig, const char *uri, struct err **err);
struct channel_listener *rig_listen(const struct rig *rig, const char *uri, struct err **err);
/* The port of socket @i. */
int rig_port(const struct channel_listener *listener, size_t i);

/* *err is this sentence, with this code; it is freed and NULL then. */
void rig_check_err(struct err **err, int code, const char *sentence);
/* Something between is not told: "<start>...<end>". */
void rig_check_err_around(struct err **err, int code, const char *start, const char *end);
void rig_check_no_err(struct err **err);

/* Raise the cancel as soon as thread @tid sleeps. */
void rig_cancel_sleeper(struct rig *rig, pthread_t *ret_thread);
/* Wait until @tid of this process sleeps in a system call. */
void rig_wait_asleep(int tid);

#endif

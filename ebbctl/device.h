/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory devices as query-memory-devices tells of them.
 *
 * I1  Figures are what the monitor said, each at least 0; whether they fit each other is not
 *     checked.
 *
 * Ownership: strings belong to the JSON that was read.
 */
#ifndef EBBCTL_DEVICE_H
#define EBBCTL_DEVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct client;
struct err;

struct device_info {
	const char *id; /* "": none */
	uint64_t plugged_bytes, requested_bytes, max_bytes, block_bytes, addr;
	int64_t node;
};

/* A member of an object that is an integer of at least 0; else false. */
bool device_number(const json_t *object, const char *name, uint64_t *ret_number);

/* One element of the list. False when it is no virtio-mem device, or not told of as one. */
bool device_info_read(const json_t *element, struct device_info *ret_info);

/*
 * Ask for the device @id. Its strings belong to *ret_list, a new reference. -ENODEV with a sentence
 * that names those that are there.
 */
int device_find(struct client *client, const char *id, struct device_info *ret_info,
		json_t **ret_list, struct err **err);

#endif

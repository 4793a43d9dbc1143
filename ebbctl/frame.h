/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the JSON objects in a stream of bytes begin and end, whatever lies between them.
 *
 * I1  Each byte is looked at once, however the stream is cut into pieces.
 * I2  What is called an object may still be no JSON; the parser tells.
 *
 * Threads: none; the owner's.
 */
#ifndef EBBCTL_FRAME_H
#define EBBCTL_FRAME_H

#include <stdbool.h>
#include <stddef.h>

struct frame {
	size_t at;    /* bytes looked at */
	size_t start; /* of the object, once depth > 0 */
	size_t depth; /* brackets that are open */
	bool string, escaped;
};

/*
 * Look on in the @size bytes at @buf, which begin with those that were looked at before. 1: an
 * object lies from start to at; what follows it is a new buffer for a new, zeroed frame. 0: more is
 * needed. -EBADMSG: something stands there that begins no object.
 */
int frame_scan(struct frame *frame, const char *buf, size_t size);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON values out of a stream of bytes.
 *
 * Where a value ends is told by brackets and quotes alone; the JSON library reads it then. As
 * clients of this protocol expect, strings may stand in single quotes, too.
 *
 * I1  One value is at most QMP_INPUT_BYTES long, QMP_DEPTH_MAX deep and of QMP_TOKENS_MAX parts;
 *     memory is bounded by that, and by little while no value is under way.
 * I2  What is no JSON gives one error, and is skipped up to the end of the line, a control
 *     character, a byte 0xfe or 0xff, or a '{'. None of those four bytes is ever skipped over, so
 *     that a client can bring any stream to a known state.
 *
 * Threads: none; the owner's. The client controls every byte.
 */
#ifndef QMP_STREAM_H
#define QMP_STREAM_H

#include <jansson.h>
#include <stddef.h>

struct err;
struct qmp_stream;

/* Commas, colons and brackets of one value. */
#define QMP_TOKENS_MAX (128 * 1024)

/* NULL when memory is out. */
struct qmp_stream *qmp_stream_new(void);
void qmp_stream_free(struct qmp_stream *stream);

/*
 * Read on in @buf, up to the end of one value. *ret_used bytes were read. Returns 1 with a new
 * reference in *ret_value; 0 when all was read and there is no value yet; -errno and *err for what
 * is no value.
 */
int qmp_stream_next(struct qmp_stream *stream, const char *buf, size_t size, size_t *ret_used,
		    json_t **ret_value, struct err **err);

#endif

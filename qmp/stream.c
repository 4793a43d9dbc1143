/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON values out of a stream of bytes: see stream.h. */
#include "qmp/stream.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/qmp.h"

/* A buffer that a value made larger than this is given back after it. */
#define STREAM_KEEP_BYTES 65536
#define NO_TOKEN          SIZE_MAX

enum stream_state {
	STREAM_START,  /* between values */
	STREAM_VALUE,  /* in an object or a list */
	STREAM_SCALAR, /* in a word or number that is in neither */
	STREAM_STRING,
	STREAM_ESCAPE, /* in a string, after a backslash */
	STREAM_SKIP,   /* after an error */
};

enum stream_result { STREAM_MORE, STREAM_END, STREAM_END_BEFORE, STREAM_BAD };

struct qmp_stream {
	enum stream_state state;
	unsigned char quote; /* what ends the string */
	char *text;          /* of the value so far, in strict JSON */
	size_t size, room;
	size_t token_at; /* where in it the number or word began that is under way; or NO_TOKEN */
	size_t tokens;
	unsigned int depth;
	uint64_t is_object[QMP_DEPTH_MAX / 64]; /* bit n: the bracket at depth n is a brace */
	const char *why;                        /* STREAM_BAD */
	int code;
};

struct qmp_stream *qmp_stream_new(void)
{
	struct qmp_stream *stream = calloc(1, sizeof(*stream));

	if (stream)
		stream->token_at = NO_TOKEN;
	return stream;
}

void qmp_stream_free(struct qmp_stream *stream)
{
	if (!stream)
		return;
	free(stream->text);
	free(stream);
}

/* Forget the value under way. */
static void stream_reset(struct qmp_stream *stream, enum stream_state state)
{
	if (stream->room > STREAM_KEEP_BYTES) {
		free(stream->text);
		stream->text = NULL;
		stream->room = 0;
	}
	stream->size = 0;
	stream->tokens = 0;
	stream->depth = 0;
	stream->token_at = NO_TOKEN;
	stream->state = state;
}

static bool stream_is_blank(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Bytes that begin anew whatever came before. */
static bool stream_is_reset(unsigned char c)
{
	return (c < 0x20 && c != '\t' && c != '\r') || c >= 0xFE;
}

static enum stream_result stream_bad(struct qmp_stream *stream, unsigned char c, int code,
				     const char *why)
{
	stream->why = why;
	stream->code = code;
	stream_reset(stream, stream_is_reset(c) ? STREAM_START : STREAM_SKIP);
	return STREAM_BAD;
}

static enum stream_result stream_put(struct qmp_stream *stream, unsigned char c)
{
	size_t room = num_max(stream->room * 2, 256);
	char *grown;

	if (stream->size == QMP_INPUT_BYTES)
		return stream_bad(stream, c, E2BIG, "the value is longer than 16 MiB");
	if (stream->size == stream->room) {
		grown = realloc(stream->text, room);
		if (!grown)
			return stream_bad(stream, c, ENOMEM, "out of memory");
		stream->text = grown;
		stream->room = room;
	}
	stream->text[stream->size++] = (char)c;
	return STREAM_MORE;
}

static enum stream_result stream_put_pair(struct qmp_stream *stream, unsigned char c,
					  unsigned char d)
{
	enum stream_result result = stream_put(stream, c);

	return result == STREAM_MORE ? stream_put(stream, d) : result;
}

/* An integer that fits no 64 bits is a real number then, as large as it may be. */
static enum stream_result stream_token_end(struct qmp_stream *stream)
{
	size_t at = stream->token_at, size = stream->size - at, i;
	enum stream_result result;

	stream->token_at = NO_TOKEN;
	if (at == NO_TOKEN || size < 19)
		return STREAM_MORE;
	for (i = stream->text[at] == '-'; i < size; i++)
		if (stream->text[at + i] < '0' || stream->text[at + i] > '9')
			return STREAM_MORE;
	result = stream_put(stream, '\0');
	if (result != STREAM_MORE)
		return result;
	errno = 0;
	strtoll(stream->text + at, NULL, 10);
	stream->size--;
	return errno ? stream_put_pair(stream, '.', '0') : STREAM_MORE;
}

static enum stream_result stream_open(struct qmp_stream *stream, unsigned char c)
{
	uint64_t bit = UINT64_C(1) << stream->depth % 64;
	uint64_t *word = &stream->is_object[stream->depth / 64];

	if (stream->depth == QMP_DEPTH_MAX)
		return stream_bad(stream, c, EINVAL, "the value is nested too deeply");
	*word = c == '{' ? *word | bit : *word & ~bit;
	stream->depth++;
	stream->state = STREAM_VALUE;
	return stream_put(stream, c);
}

static enum stream_result stream_close(struct qmp_stream *stream, unsigned char c)
{
	unsigned int depth = stream->depth - 1;
	bool is_object = stream->is_object[depth / 64] >> depth % 64 & 1;
	enum stream_result result;

	if (is_object != (c == '}'))
		return stream_bad(stream, c, EINVAL, "brackets do not match");
	stream->depth = depth;
	result = stream_put(stream, c);
	return result == STREAM_MORE && !depth ? STREAM_END : result;
}

static enum stream_result stream_string(struct qmp_stream *stream, unsigned char c)
{
	stream->quote = c;
	stream->state = STREAM_STRING;
	return stream_put(stream, '"');
}

static enum stream_result stream_start_byte(struct qmp_stream *stream, unsigned char c)
{
	if (stream_is_blank(c))
		return STREAM_MORE;
	if (c == '{' || c == '[')
		return stream_open(stream, c);
	if (c == '"' || c == '\'')
		return stream_string(stream, c);
	if (strchr("}],:", c) || c < 0x20 || c >= 0x7F)
		return stream_bad(stream, c, EINVAL, "no value begins like this");
	stream->state = STREAM_SCALAR;
	stream->token_at = stream->size;
	return stream_put(stream, c);
}

static enum stream_result stream_scalar_byte(struct qmp_stream *stream, unsigned char c)
{
	enum stream_result result;

	if (c >= 0x7F)
		return stream_bad(stream, c, EINVAL, "only strings have such characters");
	if (c > 0x20 && !strchr("{}[],:\"'", c))
		return stream_put(stream, c);
	result = stream_token_end(stream);
	return result == STREAM_MORE ? STREAM_END_BEFORE : result;
}

static enum stream_result stream_value_byte(struct qmp_stream *stream, unsigned char c)
{
	enum stream_result result = STREAM_MORE;

	if ((c < 0x20 && !stream_is_blank(c)) || c >= 0x7F)
		return stream_bad(stream, c, EINVAL, "only strings have such characters");
	if (!stream_is_blank(c) && !strchr("{}[],:\"'", c)) {
		if (stream->token_at == NO_TOKEN)
			stream->token_at = stream->size;
		return stream_put(stream, c);
	}
	result = stream_token_end(stream);
	if (result != STREAM_MORE)
		return result;
	if (strchr("{[,:", c) && stream->tokens++ == QMP_TOKENS_MAX)
		return stream_bad(stream, c, E2BIG, "the value has too many parts");
	if (c == '{' || c == '[')
		return stream_open(stream, c);
	if (c == '}' || c == ']')
		return stream_close(stream, c);
	if (c == '"' || c == '\'')
		return stream_string(stream, c);
	return stream_put(stream, c);
}

static enum stream_result stream_string_byte(struct qmp_stream *stream, unsigned char c)
{
	enum stream_result result;

	if (c < 0x20 || c >= 0xFE)
		return stream_bad(stream, c, EINVAL, "no string has such characters as they are");
	if (c == '\\') {
		stream->state = STREAM_ESCAPE;
		return STREAM_MORE;
	}
	if (c == stream->quote) {
		stream->state = STREAM_VALUE;
		result = stream_put(stream, '"');
		return result == STREAM_MORE && !stream->depth ? STREAM_END : result;
	}
	return c == '"' ? stream_put_pair(stream, '\\', c) : stream_put(stream, c);
}

static enum stream_result stream_escape_byte(struct qmp_stream *stream, unsigned char c)
{
	stream->state = STREAM_STRING;
	if (c < 0x20 || c >= 0x7F)
		return stream_bad(stream, c, EINVAL, "a backslash stands before nothing known");
	return c == '\'' ? stream_put(stream, c) : stream_put_pair(stream, '\\', c);
}

static enum stream_result stream_skip_byte(struct qmp_stream *stream, unsigned char c)
{
	if (c != '{' && !stream_is_reset(c))
		return STREAM_MORE;
	stream->state = STREAM_START;
	return c == '{' ? stream_open(stream, c) : STREAM_MORE;
}

static enum stream_result stream_byte(struct qmp_stream *stream, unsigned char c)
{
	switch (stream->state) {
	case STREAM_START:
		return stream_start_byte(stream, c);
	case STREAM_VALUE:
		return stream_value_byte(stream, c);
	case STREAM_SCALAR:
		return stream_scalar_byte(stream, c);
	case STREAM_STRING:
		return stream_string_byte(stream, c);
	case STREAM_ESCAPE:
		return stream_escape_byte(stream, c);
	case STREAM_SKIP:
		return stream_skip_byte(stream, c);
	}
	return STREAM_MORE;
}

static int stream_parse(struct qmp_stream *stream, json_t **ret_value, struct err **err)
{
	json_error_t error;
	json_t *value = json_loadb(stream->text, stream->size,
				   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	const char *why = "the text is no value";

	if (value) {
		stream_reset(stream, STREAM_START);
		*ret_value = value;
		return 1;
	}
	stream_reset(stream, STREAM_START);
	switch (json_error_code(&error)) {
	case json_error_out_of_memory:
		return err_set(err, ENOMEM, "JSON parse error, out of memory");
	case json_error_duplicate_key:
		why = "duplicate key";
		break;
	case json_error_invalid_utf8:
		why = "a string that is not UTF-8";
		break;
	case json_error_null_character:
	case json_error_null_byte_in_key:
		why = "the character NUL in a string";
		break;
	case json_error_numeric_overflow:
		why = "a number is too large";
		break;
	default:
		break;
	}
	return err_set(err, EINVAL, "JSON parse error, %s (at byte %d)", why, error.position);
}

int qmp_stream_next(struct qmp_stream *stream, const char *buf, size_t size, size_t *ret_used,
		    json_t **ret_value, struct err **err)
{
	for (size_t i = 0; i < size; i++) {
		switch (stream_byte(stream, (unsigned char)buf[i])) {
		case STREAM_MORE:
			break;
		case STREAM_END:
			*ret_used = i + 1;
			return stream_parse(stream, ret_value, err);
		case STREAM_END_BEFORE:
			*ret_used = i;
			return stream_parse(stream, ret_value, err);
		case STREAM_BAD:
			*ret_used = i + 1;
			return err_set(err, stream->code, "JSON parse error, %s", stream->why);
		}
	}
	*ret_used = size;
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Objects in a stream: see frame.h for the contract. */
#include "ebbctl/frame.h"

#include <errno.h>

/* A byte inside of an object. */
static void frame_byte(struct frame *frame, char c)
{
	if (frame->string) {
		if (frame->escaped)
			frame->escaped = false;
		else if (c == '\\')
			frame->escaped = true;
		else if (c == '"')
			frame->string = false;
	} else if (c == '"') {
		frame->string = true;
	} else if (c == '{' || c == '[') {
		frame->depth++;
	} else if (c == '}' || c == ']') {
		frame->depth--;
	}
}

int frame_scan(struct frame *frame, const char *buf, size_t size)
{
	while (frame->at < size) {
		char c = buf[frame->at++];

		if (frame->depth) {
			frame_byte(frame, c);
			if (!frame->depth)
				return 1;
		} else if (c == '{') {
			frame->start = frame->at - 1;
			frame->depth = 1;
		} else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
			return -EBADMSG;
		}
	}
	return 0;
}

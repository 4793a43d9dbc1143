/* SPDX-License-Identifier: BSD-3-Clause */
/* A fuzzer's input, taken from the front as it is needed. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next @size bytes as a number; missing ones are 0. */
static inline uint64_t take(struct input *in, unsigned int size)
{
	uint8_t bytes[8] = {0};
	size_t n = (size_t)num_min(size, in->left);

	if (n) {
		memcpy(bytes, in->data, n);
		in->data += n;
		in->left -= n;
	}
	return bytes_get_le(bytes, size);
}

#endif

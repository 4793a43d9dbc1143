/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QEMU's option grammar: "value,key=value,flag,noflag" or a JSON object, read into a JSON object,
 * so that what takes options (command line, hot-plug commands) sees one form only.
 *
 *   first,...     the first item may leave out its key, where the option has an implied one
 *   key=value     the value reaches to the next comma; ",," is a comma in it; keys have no escapes
 *   key           on;  nokey  key=off ("server", "nowait")
 *   key=a,key=b   a list (a JSON array); also key.0=a,key.1=b where OPTS_LISTS is given
 *   {...}         JSON, where OPTS_JSON is given; double keys are refused
 *
 * I1  Values of the text form are JSON strings (or arrays of strings), never anything else; which
 *     type a string stands for is up to the property table.
 * I2  Any bytes are a valid argument; the result is an object or a sentence.
 */
#ifndef QMP_OPTS_H
#define QMP_OPTS_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"

#define OPTS_JSON  1u /* an argument that starts with '{' is JSON */
#define OPTS_LISTS 2u /* keys may end in .0, .1, ... */
#define OPTS_PLAIN 4u /* "nokey" is no negation (-cpu) */

/*
 * @what names the option in sentences ("-device"); @implied_key may be NULL. 0 and a new object in
 * *ret_values, or -EINVAL or -ENOMEM with a sentence.
 */
int opts_parse(const char *what, const char *text, const char *implied_key, unsigned int flags,
	       json_t **ret_values, struct err **err);

/* Is "help" or "?" among the flags, or the value of @implied_key (which may be NULL)? */
bool opts_wants_help(const json_t *values, const char *implied_key);

/* The string at @key, or NULL when there is none or it is no string. */
const char *opts_string(const json_t *values, const char *key);

#endif

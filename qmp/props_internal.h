/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the files of the property tables: parsing a value apart from storing it. See props.h. */
#ifndef QMP_PROPS_INTERNAL_H
#define QMP_PROPS_INTERNAL_H

#include "qmp/props.h"

struct prop_value {
	uint64_t number;  /* PROP_BOOL, PROP_ON_OFF_AUTO, PROP_ENUM, PROP_UINT, PROP_SIZE; slot */
	uint64_t second;  /* count of the list; function of the address */
	uint8_t uuid[16]; /* PROP_UUID */
	void *memory;     /* PROP_STRING, PROP_ID: char *; PROP_UINT16_LIST: uint16_t *; owned */
};

/* Check @value completely; 0 and *ret_value, or a negative errno value with a sentence. */
int prop_parse(const struct prop *prop, const char *what, const json_t *value,
	       struct prop_value *ret_value, struct err **err);

/* The greatest number that @prop may have. */
uint64_t prop_max(const struct prop *prop);

/* The names of PROP_ENUM and PROP_ON_OFF_AUTO, ending with NULL. */
const char *const *prop_enum_names(const struct prop *prop);

#endif

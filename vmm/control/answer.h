/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making and reading the values that commands answer with, so that lack of memory is looked at in
 * one place: what cannot be made is NULL, NULL may be handed on, and control_answer() tells of it.
 *
 * Threads: none.
 */
#ifndef VMM_CONTROL_ANSWER_H
#define VMM_CONTROL_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

/* Hand out @value, which is taken over; NULL: -ENOMEM. */
int control_answer(json_t *value, json_t **ret_value, struct err **err);

/* A list that is being made; ended by control_list_end(). */
struct control_list {
	json_t *values;
	bool failed;
};

void control_list_init(struct control_list *list);
/* @value is taken over; NULL makes the whole list fail. */
void control_list_add(struct control_list *list, json_t *value);
/* A new reference, or NULL. */
json_t *control_list_end(struct control_list *list);

/* Add a member; @value is taken over. *object becomes NULL when that fails. */
void control_set(json_t **object, const char *name, json_t *value);

/* Members of an answer that its types (qmp/schema.h) say are there: "", 0 or false when they are not. */
const char *control_text(const json_t *object, const char *name);
uint64_t control_number(const json_t *object, const char *name);
bool control_flag(const json_t *object, const char *name);

#endif

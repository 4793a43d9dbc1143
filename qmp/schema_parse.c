/* SPDX-License-Identifier: BSD-3-Clause */
/* Members written as words: see schema.h for the grammar. The texts are static data of ours. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qmp/schema_internal.h"

#define BLANKS " \t\n"

/* A word's parts: [*]name[:type]{!feature}. */
static int schema_member_parse(const char *word, size_t size, struct schema_member *ret_member,
			       struct err **err)
{
	size_t name, type = 0, count = 0, at;
	const char *p;

	ret_member->optional = *word == '*';
	word += ret_member->optional;
	size -= ret_member->optional;
	name = strcspn(word, ":!" BLANKS);
	name = name < size ? name : size;
	at = name;
	if (at < size && word[at] == ':') {
		type = strcspn(word + at + 1, "!" BLANKS);
		at += 1 + type;
		if (!type)
			return err_set(err, EINVAL, "'%.*s' has no type after its colon", (int)size,
				       word);
		ret_member->type = strndup(word + name + 1, type);
	}
	if (!name)
		return err_set(err, EINVAL, "'%.*s' has no name", (int)size, word);
	ret_member->name = strndup(word, name);
	for (p = word + at; p < word + size; p++)
		count += *p == '!';
	if (count)
		ret_member->features = calloc(count + 1, sizeof(char *));
	if (!ret_member->name || (type && !ret_member->type) || (count && !ret_member->features))
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		at++; /* the ! */
		name = strcspn(word + at, "!" BLANKS);
		ret_member->features[i] = strndup(word + at, name);
		if (!ret_member->features[i])
			return err_set(err, ENOMEM, "out of memory");
		at += name;
	}
	return 0;
}

int schema_members_parse(const char *text, struct schema_members *ret_members, struct err **err)
{
	struct schema_members members = {0};
	struct schema_member *grown;
	size_t size;
	int ret = 0;

	for (text = text ? text : ""; !ret; text += size) {
		text += strspn(text, BLANKS);
		size = strcspn(text, BLANKS);
		if (!size)
			break;
		grown = reallocarray(members.list, members.count + 1, sizeof(*grown));
		if (!grown) {
			ret = err_set(err, ENOMEM, "out of memory");
			break;
		}
		members.list = grown;
		grown += members.count++;
		*grown = (struct schema_member){0};
		ret = schema_member_parse(text, size, grown, err);
		members.count--;
		if (!ret && schema_members_find(&members, grown->name))
			ret = err_set(err, EINVAL, "'%s' is there twice", grown->name);
		members.count++;
	}
	if (ret)
		schema_members_done(&members);
	else
		*ret_members = members;
	return ret;
}

void schema_members_done(struct schema_members *members)
{
	for (size_t i = 0; i < members->count; i++) {
		struct schema_member *member = &members->list[i];

		for (char **feature = member->features; feature && *feature; feature++)
			free(*feature);
		free(member->features);
		free(member->name);
		free(member->type);
	}
	free(members->list);
	*members = (struct schema_members){0};
}

const struct schema_member *schema_members_find(const struct schema_members *members,
						const char *name)
{
	for (size_t i = 0; i < members->count; i++)
		if (!strcmp(members->list[i].name, name))
			return &members->list[i];
	return NULL;
}

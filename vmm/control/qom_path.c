/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a path to a node of the object tree: see qom.h.
 *
 * A path comes from a client and may be of any length: it is cut into names once, and one with more
 * names than any node has leads nowhere.
 */
#include <string.h>

#include "vmm/control/qom.h"

/* Names of a path; deeper than any node, links included. */
#define PARTS_MAX 16

struct part {
	const char *name;
	size_t size;
};

struct parts {
	struct part list[PARTS_MAX];
	size_t count;
};

/* Cut a path at its slashes. False when it has more names than any node. */
static bool path_split(const char *path, struct parts *ret_parts)
{
	ret_parts->count = 0;
	for (;;) {
		path += strspn(path, "/");
		if (!*path)
			return true;
		if (ret_parts->count == PARTS_MAX)
			return false;
		ret_parts->list[ret_parts->count++] = (struct part){path, strcspn(path, "/")};
		path += strcspn(path, "/");
	}
}

static bool part_is(const struct part *part, const char *name)
{
	return strlen(name) == part->size && !memcmp(name, part->name, part->size);
}

static bool node_child(const struct qom_node *node, const struct part *part,
		       struct qom_node *ret_node)
{
	struct qom_child child;

	for (size_t i = 0; qom_child_at(node, i, &child); i++) {
		if (part_is(part, qom_child_name(&child))) {
			*ret_node = child.node;
			return true;
		}
	}
	return false;
}

/* Follow @parts by children only. */
static bool node_below(const struct qom_node *node, const struct parts *parts,
		       struct qom_node *ret_node)
{
	struct qom_node at = *node;

	for (size_t i = 0; i < parts->count; i++) {
		if (!node_child(&at, &parts->list[i], &at))
			return false;
	}
	*ret_node = at;
	return true;
}

/* Where a link of this name leads. A link's value is a path of children. */
static bool node_link(const struct qom_node *node, const struct part *part,
		      struct qom_node *ret_node)
{
	struct qom_node root = qom_root(node->vm);
	char name[QOM_NAME_BYTES];
	struct qom_prop prop;
	struct parts parts;
	const char *path;
	json_t *value;
	bool found;

	if (part->size >= sizeof(name))
		return false;
	memcpy(name, part->name, part->size);
	name[part->size] = '\0';
	if (!qom_prop_find(node->class, name, &prop) || strncmp(prop.type, "link<", 5))
		return false;
	value = qom_prop_get(node, &prop);
	path = json_string_value(value);
	found = path && *path && path_split(path, &parts) && node_below(&root, &parts, ret_node);
	json_decref(value);
	return found;
}

/* Follow @parts from @node. */
static bool node_follow(const struct qom_node *node, const struct parts *parts,
			struct qom_node *ret_node)
{
	struct qom_node at = *node;

	for (size_t i = 0; i < parts->count; i++) {
		if (!node_child(&at, &parts->list[i], &at) && !node_link(&at, &parts->list[i], &at))
			return false;
	}
	*ret_node = at;
	return true;
}

bool qom_node_equal(const struct qom_node *a, const struct qom_node *b)
{
	return a->kind == b->kind && a->part == b->part && a->index == b->index;
}

/* Add what @parts lead to from @node and from everything below it. */
static enum qom_found node_search(const struct qom_node *node, const struct parts *parts,
				  enum qom_found found, struct qom_node *ret_node)
{
	struct qom_node at;
	struct qom_child child;

	if (node_follow(node, parts, &at)) {
		if (found == QOM_FOUND && !qom_node_equal(&at, ret_node))
			return QOM_AMBIGUOUS;
		*ret_node = at;
		found = QOM_FOUND;
	}
	for (size_t i = 0; found != QOM_AMBIGUOUS && qom_child_at(node, i, &child); i++)
		found = node_search(&child.node, parts, found, ret_node);
	return found;
}

enum qom_found qom_resolve(struct vm *vm, const char *path, struct qom_node *ret_node)
{
	struct qom_node root = qom_root(vm), found;
	struct parts parts;
	enum qom_found ret;

	if (!path_split(path, &parts))
		return QOM_NOT_FOUND;
	if (*path == '/')
		return node_follow(&root, &parts, ret_node) ? QOM_FOUND : QOM_NOT_FOUND;
	ret = node_search(&root, &parts, QOM_NOT_FOUND, &found);
	if (ret == QOM_FOUND)
		*ret_node = found;
	return ret;
}

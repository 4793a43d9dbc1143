/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lists of pointers in the order in which they were added: what they point to keeps its address
 * while the list grows and shrinks.
 *
 * I1  The list is an array of exactly *nr pointers, NULL while it is empty and never was not. Its
 *     own address changes with every call; free() ends it.
 *
 * Ownership: what is pointed to is the caller's. Threads: the caller's concern.
 */
#ifndef BASE_PTRS_H
#define BASE_PTRS_H

#include <stddef.h>

/* @list: a T **, by its address. 0, or -ENOMEM and nothing is changed. */
int ptrs_add(void *list, size_t *nr, void *item);

/* Those behind it move up. Nothing happens where @item is not in the list. */
void ptrs_remove(void *list, size_t *nr, const void *item);

#endif

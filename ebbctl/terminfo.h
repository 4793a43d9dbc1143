/* SPDX-License-Identifier: BSD-3-Clause */
/* What the terminal's description says; apart, because of the names that it defines. */
#ifndef EBBCTL_TERMINFO_H
#define EBBCTL_TERMINFO_H

#include <stdbool.h>

/* Can a screen be drawn on the terminal at stdout? *ret_why, static: why not. */
bool terminfo_can_draw(const char **ret_why);

#endif

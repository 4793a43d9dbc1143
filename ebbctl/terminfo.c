/* SPDX-License-Identifier: BSD-3-Clause */
/* The terminal's description: see terminfo.h. */
#include "ebbctl/terminfo.h"

#include <unistd.h>

#include <curses.h>
#include <term.h>

bool terminfo_can_draw(const char **ret_why)
{
	char *move;
	int error;

	*ret_why = NULL;
	if (setupterm(NULL, STDOUT_FILENO, &error) != OK) {
		*ret_why = "the terminal is of a type that is not known here";
		return false;
	}
	move = tigetstr("cup");
	if (!move || move == (char *)-1)
		*ret_why = "the terminal cannot place its cursor";
	del_curterm(cur_term);
	return !*ret_why;
}

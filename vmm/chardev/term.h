/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The terminal on standard input: raw mode, and its way back.
 *
 * I1  The mode found at chr_term_new() is the one that is restored, however often raw mode is left
 *     and entered.
 * I2  The terminal is touched only while the process is in its foreground group: a background
 *     process would be stopped for it.
 *
 * Threads: new, free and raw on the main loop's thread. chr_term_restore() is async-signal-safe: a
 * handler of a fatal signal calls it with the pointer that chardev_terminal() gave.
 */
#ifndef VMM_CHARDEV_TERM_H
#define VMM_CHARDEV_TERM_H

#include <stdbool.h>

struct chr_term;

/* Remembers the mode of terminal @fd and the status flags of @fd and @out_fd. NULL: no memory. */
struct chr_term *chr_term_new(int fd, int out_fd, bool signal);
/* Restores first. NULL is allowed. */
void chr_term_free(struct chr_term *term);

/*
 * The descriptors' status flags are now ours (non-blocking, where they could not be opened anew):
 * chr_term_raw() sets these again.
 */
void chr_term_keep_flags(struct chr_term *term);
/* Enter raw mode; a background process does not and returns false. */
bool chr_term_raw(struct chr_term *term);
/* Mode and status flags as they were found. Async-signal-safe. NULL is allowed. */
void chr_term_restore(const struct chr_term *term);
/* Is the process in the terminal's foreground group? */
bool chr_term_foreground(const struct chr_term *term);

#endif

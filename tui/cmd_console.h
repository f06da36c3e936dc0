/* cmd_console.h - what the commands that run jobs without a screen have in common:
 * events as lines or JSON, signals, the history. */
#ifndef SLUICE_CMD_CONSOLE_H
#define SLUICE_CMD_CONSOLE_H

#include "engine/store.h"

struct console {
    bool json; /* an event a line, on standard output */
    bool bar;  /* progress on standard error, over the last line */
};

void console_print(const struct console *c, const struct event *ev);

/* SIGINT, SIGTERM and SIGHUP through a descriptor, from now on. Before any thread is started. -1 with e set. */
int console_signals(struct err *e);
/* The one that has come; 0: none. */
int console_signal(int signals);

/* Sleeps until the engine or a signal has something to say. */
bool console_sleep(int engine, int signals);

/* The user's store, opened when it is first needed. What is wrong with it is said once; NULL: it cannot be had. */
struct store *console_store(struct store **s, bool *tried);

#endif

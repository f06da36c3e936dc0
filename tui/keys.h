/* keys.h - every key of the studio in one table, and what is made from it:
 * dispatch, the hint bar, the help screen, the manual's section, the names in
 * keys.yaml.
 *
 * The table is keys_table.h, one row an action. At any moment the studio is in
 * one context (the prompt, a field, the queue, ...): a row says in which its
 * keys work. There are two sets of default keys; a binding (struct keys) begins
 * as one of them and can be changed, row by row. Keys that edit a line of text
 * (edit.h) are no actions: a key without an action goes to the text. Pure. */
#ifndef SLUICE_KEYS_H
#define SLUICE_KEYS_H

#include "kernels/err.h"
#include "tui/key.h"

enum keys_context {
    KEYS_PROMPT = 1,   /* the main screen: prompt and negative */
    KEYS_FIELD = 2,    /* ... a field of the form */
    KEYS_BUTTON = 4,   /* ... Generate */
    KEYS_HELP = 8,
    KEYS_DIALOG = 16,  /* a line of text: save as, rename, search */
    KEYS_ASK = 32,     /* a question with a few answers */
    KEYS_PRESETS = 64,
    KEYS_PROFILE = 128,
    KEYS_QUEUE = 256,
    KEYS_GALLERY = 512,
    KEYS_PICTURE = 1024,
    KEYS_DOCTOR = 2048,
    KEYS_SEARCH = 4096, /* in the prompts used before */
    /* groups of them */
    KEYS_MAIN = KEYS_PROMPT | KEYS_FIELD | KEYS_BUTTON,
    KEYS_LISTS = KEYS_PRESETS | KEYS_PROFILE | KEYS_QUEUE | KEYS_GALLERY,
    KEYS_FULL = KEYS_LISTS | KEYS_PICTURE | KEYS_DOCTOR, /* screens on top of the main one */
    KEYS_SCREENS = KEYS_MAIN | KEYS_FULL,                /* all but what is open for a moment */
    KEYS_ANYWHERE = 8191,
    /* where letters are text: a key that is a letter alone is none there */
    KEYS_TYPED = KEYS_PROMPT | KEYS_DIALOG | KEYS_HELP | KEYS_SEARCH,
};

enum action {
    ACTION_NONE,
#define ACTION(id, name, contexts, emacs, vi, label, help) ACTION_##id,
#include "tui/keys_table.h"
#undef ACTION
    ACTION_COUNT
};

enum keys_set { KEYS_EMACS, KEYS_VI, KEYS_SETS };
extern const char *const keys_set_name[KEYS_SETS]; /* "emacs", "vi" */

/* A row of the table. */
struct keys_action {
    const char *name;            /* in keys.yaml: "queue.pause" */
    unsigned contexts;
    const char *keys[KEYS_SETS]; /* names of keys with blanks between; the second NULL: as the first */
    const char *label;           /* hint bar; NULL: never there */
    const char *help;            /* help screen and manual; NULL: in neither */
};
const struct keys_action *keys_action(enum action a);
enum action keys_action_named(const char *name); /* ACTION_NONE: there is none */

/* A key that is pressed, as a value that can be compared; kind K_NONE: none. */
struct keys_chord { enum key_kind kind; uint32_t ch; unsigned mods; };
enum { KEYS_EACH = 5, KEYS_NAME_MAX = 24, KEYS_NAMES_MAX = KEYS_EACH * KEYS_NAME_MAX };
/* From "ctrl-p", "alt-s", "f2", "page-up", "shift-tab", "?", "space"; false: there is no such key. */
bool keys_parse(struct keys_chord *c, const char *text);
/* As people read it: "^P", "Alt-s", "F2", "PgUp". Returns buf. */
const char *keys_chord_name(const struct keys_chord *c, char buf[KEYS_NAME_MAX]);

/* Which keys do what. A plain value. */
struct keys { struct keys_chord of[ACTION_COUNT][KEYS_EACH]; };
void keys_init(struct keys *k, enum keys_set set);
/* The keys of one action instead of those it has; ERR_INPUT names the key that there is not. */
bool keys_rebind(struct keys *k, enum action a, const char *const *names, int count, struct err *e);
/* Two actions with one key in one context: ERR_INPUT, and which they are. */
bool keys_check(const struct keys *k, enum action which[2], struct err *e);

/* What the key does there; ACTION_NONE: nothing, it may be text. */
enum action keys_find(const struct keys *k, enum keys_context at, const struct key *key);

/* The first key of an action that works in `at`, as people read it ("" if it has
 * none), and all of them with blanks between. Return buf. */
const char *keys_name(const struct keys *k, enum action a, unsigned at, char buf[KEYS_NAME_MAX]);
const char *keys_names(const struct keys *k, enum action a, char buf[KEYS_NAMES_MAX]);

/* The actions by where they work, for people: each is in the smallest group that
 * has all its contexts. The last group's title is NULL. */
struct keys_group { unsigned contexts; const char *title; };
extern const struct keys_group keys_groups[];
int keys_group_of(enum action a);

/* All of it, with the keys that edit text, for `sluice keys`, and as the section of
 * the manual page. malloc'd; NULL when memory is refused. */
char *keys_text(const struct keys *k);
char *keys_manual(const struct keys *k);

#endif

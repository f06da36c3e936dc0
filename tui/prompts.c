/* prompts.c - see prompts.h. */
#include "tui/prompts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void prompts_free(struct prompts *p)
{
    for (int i = 0; i < p->count; i++) free(p->text[i]);
    free(p->text);
    memset(p, 0, sizeof *p);
}

static int index_of(const struct prompts *p, const char *text)
{
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->text[i], text)) return i;
    return -1;
}

static bool blank(const char *text)
{
    return !text[strspn(text, " \n")];
}

static void insert(struct prompts *p, int at, const char *text)
{
    char *copy;

    if (p->count == p->room) {
        int room = p->room * 2 + 16;
        char **grown = realloc(p->text, (size_t)room * sizeof *grown);
        if (!grown) return;
        p->text = grown;
        p->room = room;
    }
    copy = strdup(text);
    if (!copy) return;
    memmove(p->text + at + 1, p->text + at, (size_t)(p->count - at) * sizeof *p->text);
    p->text[at] = copy;
    p->count++;
}

void prompts_use(struct prompts *p, const char *text)
{
    int was = index_of(p, text);

    if (blank(text)) return;
    if (was >= 0) {
        char *same = p->text[was];
        memmove(p->text + 1, p->text, (size_t)was * sizeof *p->text);
        p->text[0] = same;
        return;
    }
    if (p->count == PROMPTS_MAX) free(p->text[--p->count]);
    insert(p, 0, text);
}

void prompts_add(struct prompts *p, const char *text)
{
    if (!blank(text) && p->count < PROMPTS_MAX && index_of(p, text) < 0) insert(p, p->count, text);
}

/* One code point in small letters, and its length; NUL has none. */
static int32_t small(const char *s, int *bytes)
{
    utf8proc_int32_t cp;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &cp);

    *bytes = n > 0 ? (int)n : 1;
    if (n <= 0) return (unsigned char)*s;
    if (cp == '\n') return ' '; /* shown as one */
    return utf8proc_tolower(cp);
}

/* Bytes of text that are `what`; -1: it does not begin so. */
static int begins(const char *text, const char *what)
{
    int at = 0, a, b;

    for (; *what; what += b, at += a)
        if (!text[at] || small(text + at, &a) != small(what, &b)) return -1;
    return at;
}

bool prompts_match(const char *text, const char *what, int *at, int *bytes)
{
    for (int i = 0, n; ; i += n) {
        int len = begins(text + i, what);
        if (len >= 0) {
            *at = i;
            *bytes = len;
            return true;
        }
        if (!text[i]) return false;
        small(text + i, &n);
    }
}

int prompts_find(const struct prompts *p, const char *what, int from, int by)
{
    int at, bytes;

    for (int i = from; i >= 0 && i < p->count; i += by)
        if (prompts_match(p->text[i], what, &at, &bytes)) return i;
    return -1;
}

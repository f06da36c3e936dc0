/* wildcard.c - see wildcard.h.
 *
 * A text is parsed into a sequence of parts, a part being literal or a choice of
 * sequences. All parts lie in one array and name each other by index, so that
 * nothing has to be freed one by one. */
#include "engine/wildcard.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64 };
enum { NONE = -1 };

/* A sequence is its first part's index, or NONE. */
struct part {
    int next, before;  /* of the sequence */
    int option;        /* first of the choice's options; NONE: it is literal */
    size_t at, length; /* literal: where in `bytes` */
    uint64_t count;    /* of texts that it makes */
    uint64_t rest;     /* the same of all behind it in the sequence */
};

struct option {
    int next;        /* of the choice */
    int sequence;
    double weight;
    uint64_t count;  /* of texts that it makes */
};

struct wildcard {
    struct part *part;
    struct option *option;
    char *bytes;
    int parts, options;
    size_t used;
    int first;
};

/* --- reading ----------------------------------------------------------------------- */

struct reader {
    struct wildcard *w;
    const struct wildcard_lists *lists;
    const char *text, *at;
    int depth;
    struct err *e;
};

static bool fault(struct reader *r, const char *at, const char *what)
{
    return err_set(r->e, ERR_INPUT, "column %zu: %s", (size_t)(at - r->text) + 1, what);
}

static bool no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "out of memory");
}

/* Room for one more of `size` bytes in *list; doubles at every power of two. */
static bool grow(void *list, size_t count, size_t size)
{
    void **at = list;
    if (count & (count - 1))
        return true;
    void *grown = realloc(*at, (count ? 2 * count : 1) * size);
    if (grown)
        *at = grown;
    return grown != NULL;
}

/* A new part at the end of a sequence; its index, or NONE. */
static int add_part(struct reader *r, int *end, int *first, struct part p)
{
    struct wildcard *w = r->w;
    if (w->parts == WILDCARD_PARTS_MAX) {
        fault(r, r->at, "the text and its lists have too many parts");
        return NONE;
    }
    if (!grow(&w->part, (size_t)w->parts, sizeof p)) {
        no_memory(r->e);
        return NONE;
    }
    p.next = NONE;
    p.before = *end;
    w->part[w->parts] = p;
    *(*end == NONE ? first : &w->part[*end].next) = w->parts;
    return *end = w->parts++;
}

static bool add_byte(struct reader *r, int *end, int *first, char c)
{
    struct wildcard *w = r->w;
    if (!grow(&w->bytes, w->used, 1))
        return no_memory(r->e);
    bool joins = *end != NONE && w->part[*end].option == NONE && w->part[*end].at + w->part[*end].length == w->used;
    if (!joins && add_part(r, end, first, (struct part){ .option = NONE, .at = w->used, .count = 1 }) == NONE)
        return false;
    w->bytes[w->used++] = c;
    w->part[*end].length++;
    return true;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t n;
    return __builtin_mul_overflow(a, b, &n) ? UINT64_MAX : n;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t n;
    return __builtin_add_overflow(a, b, &n) ? UINT64_MAX : n;
}

static bool add_choice(struct reader *r, int *end, int *first, int option)
{
    uint64_t n = 0;
    for (int i = option; i != NONE; i = r->w->option[i].next)
        n = plus(n, r->w->option[i].count);
    return add_part(r, end, first, (struct part){ .option = option, .count = n }) != NONE;
}

static void count_rests(struct wildcard *w, int end)
{
    uint64_t rest = 1;
    for (; end != NONE; end = w->part[end].before) {
        w->part[end].rest = rest;
        rest = times(rest, w->part[end].count);
    }
}

static uint64_t sequence_count(const struct wildcard *w, int first)
{
    return first == NONE ? 1 : times(w->part[first].count, w->part[first].rest);
}

static bool add_option(struct reader *r, int *end, int *first, double weight, int sequence)
{
    struct wildcard *w = r->w;
    if (w->options == WILDCARD_PARTS_MAX)
        return fault(r, r->at, "the text and its lists have too many choices");
    if (!grow(&w->option, (size_t)w->options, sizeof *w->option))
        return no_memory(r->e);
    w->option[w->options] = (struct option){ NONE, sequence, weight, sequence_count(w, sequence) };
    *(*end == NONE ? first : &w->option[*end].next) = w->options;
    *end = w->options++;
    return true;
}

static bool read_sequence(struct reader *r, bool within, int *first);

/* "3::" at r->at, which is moved past it; 1 if there is none. */
static bool read_weight(struct reader *r, double *weight)
{
    size_t digits = strspn(r->at, "0123456789.");
    *weight = 1;
    if (!digits || strncmp(r->at + digits, "::", 2))
        return true;
    char *end;
    *weight = strtod(r->at, &end);
    if (end != r->at + digits || !(*weight > 0 && *weight <= 1e6))
        return fault(r, r->at, "a weight is a number above 0 and up to 1000000");
    r->at += digits + 2;
    return true;
}

/* Behind the '{'. */
static bool read_choice(struct reader *r, int *first)
{
    const char *opened = r->at - 1;
    int end = NONE;
    *first = NONE;
    if (++r->depth > WILDCARD_DEPTH_MAX)
        return fault(r, opened, "braces and lists are too deep within each other");
    for (;;) {
        double weight;
        int sequence;
        if (!read_weight(r, &weight) || !read_sequence(r, true, &sequence) ||
            !add_option(r, &end, first, weight, sequence))
            return false;
        if (!*r->at)
            return fault(r, opened, "this { is not closed; a brace of the text is written \\{");
        if (*r->at++ == '}')
            break;
    }
    r->depth--;
    return true;
}

/* Each line of the list's text is an option. */
static bool read_lines(struct reader *r, const char *name, char *lines, int *first)
{
    int end = NONE, number = 0;
    struct reader of = *r;
    struct err why = { 0 };
    bool ok = true;
    char *rest = lines, *line;
    of.e = &why;
    *first = NONE;
    while (ok && (line = strsep(&rest, "\n"))) {
        int sequence;
        number++;
        line[strcspn(line, "\r")] = '\0';
        if (!line[strspn(line, " \t")] || *line == '#')
            continue;
        of.text = of.at = line;
        ok = read_sequence(&of, false, &sequence) && add_option(&of, &end, first, 1, sequence);
    }
    if (!ok)
        return err_set(r->e, why.kind, "list %s, line %d: %s", name, number, why.text);
    return *first != NONE || err_set(r->e, ERR_INPUT, "list %s: it has no lines", name);
}

/* The length of "__name__" at text; 0: it is none. */
static size_t list_name(const char *text, char name[NAME_MAX_BYTES])
{
    if (strncmp(text, "__", 2))
        return 0;
    const char *from = text + 2, *to = strstr(from, "__");
    size_t n = to ? (size_t)(to - from) : 0;
    if (n == 0 || n >= NAME_MAX_BYTES || from[0] == '.')
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)from[i]) && !strchr("-_.", from[i]))
            return 0;
    memcpy(name, from, n);
    name[n] = '\0';
    return n + 4;
}

static bool read_list(struct reader *r, const char *name, int *first)
{
    struct err why = { 0 };
    if (++r->depth > WILDCARD_DEPTH_MAX)
        return fault(r, r->at, "braces and lists are too deep within each other: does a list name itself?");
    char *lines = r->lists ? r->lists->read(r->lists->user, name, &why) : NULL;
    if (!lines)
        return err_set(r->e, why.kind ? why.kind : ERR_INPUT, "column %zu: %s%s", (size_t)(r->at - r->text) + 1,
                       why.kind ? why.text : "there are no lists here: ", why.kind ? "" : name);
    bool ok = read_lines(r, name, lines, first);
    free(lines);
    r->depth--;
    return ok;
}

/* Up to the end, or within braces to the '|' or '}' that ends it. */
static bool read_sequence(struct reader *r, bool within, int *first)
{
    int end = NONE;
    bool ok = true;
    *first = NONE;
    while (ok && *r->at && !(within && (*r->at == '|' || *r->at == '}'))) {
        char name[NAME_MAX_BYTES];
        size_t n = list_name(r->at, name);
        int option;
        if (n) {
            ok = read_list(r, name, &option) && add_choice(r, &end, first, option);
            r->at += n;
        } else if (*r->at == '{') {
            r->at++;
            ok = read_choice(r, &option) && add_choice(r, &end, first, option);
        } else if (*r->at == '}') {
            ok = fault(r, r->at, "this } closes nothing; a brace of the text is written \\}");
        } else {
            r->at += *r->at == '\\' && r->at[1] && strchr("{}|_\\", r->at[1]);
            ok = add_byte(r, &end, first, *r->at++);
        }
    }
    count_rests(r->w, end);
    return ok;
}

bool wildcard_parse(struct wildcard **out, const char *text, const struct wildcard_lists *lists, struct err *e)
{
    struct wildcard *w = *out = calloc(1, sizeof *w);
    struct err own = { 0 };
    if (!w)
        return no_memory(e);
    struct reader r = { .w = w, .lists = lists, .text = text, .at = text, .e = &own };
    if (read_sequence(&r, false, &w->first))
        return true;
    wildcard_free(w);
    *out = NULL;
    return err_set(e, own.kind, "%s", own.text);
}

void wildcard_free(struct wildcard *w)
{
    if (!w)
        return;
    free(w->part);
    free(w->option);
    free(w->bytes);
    free(w);
}

/* --- writing ----------------------------------------------------------------------- */

struct writer {
    const struct wildcard *w;
    char *data;
    size_t used, room;
    bool drawn;
    uint64_t state; /* drawn: of the generator */
    struct err *e;
};

/* splitmix64, as a fraction in [0, 1). */
static double draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int drawn_option(struct writer *t, int option)
{
    const struct option *o = t->w->option;
    double sum = 0;
    for (int i = option; i != NONE; i = o[i].next)
        sum += o[i].weight;
    double left = draw(&t->state) * sum;
    while (o[option].next != NONE && left >= o[option].weight) {
        left -= o[option].weight;
        option = o[option].next;
    }
    return option;
}

static bool add_bytes(struct writer *t, const char *from, size_t n)
{
    if (t->used + n > WILDCARD_BYTES_MAX)
        return err_set(t->e, ERR_INPUT, "a prompt of more than %d bytes", WILDCARD_BYTES_MAX);
    if (t->used + n + 1 > t->room) {
        size_t room = 2 * (t->used + n) + 64;
        char *grown = realloc(t->data, room);
        if (!grown)
            return no_memory(t->e);
        t->data = grown;
        t->room = room;
    }
    if (n)
        memcpy(t->data + t->used, from, n);
    t->used += n;
    t->data[t->used] = '\0';
    return true;
}

/* Text i of the sequence's. */
static bool write_sequence(struct writer *t, int part, uint64_t i)
{
    const struct wildcard *w = t->w;
    for (bool ok = true; part != NONE; part = w->part[part].next) {
        const struct part *p = &w->part[part];
        if (p->option == NONE) {
            ok = add_bytes(t, w->bytes + p->at, p->length);
        } else if (t->drawn) {
            ok = write_sequence(t, w->option[drawn_option(t, p->option)].sequence, 0);
        } else {
            uint64_t own = i / p->rest;
            int option = p->option;
            i %= p->rest;
            while (own >= w->option[option].count) {
                own -= w->option[option].count;
                option = w->option[option].next;
            }
            ok = write_sequence(t, w->option[option].sequence, own);
        }
        if (!ok)
            return false;
    }
    return true;
}

uint64_t wildcard_count(const struct wildcard *w)
{
    return sequence_count(w, w->first);
}

static char *written(struct writer t, uint64_t i)
{
    if (add_bytes(&t, "", 0) && write_sequence(&t, t.w->first, i))
        return t.data;
    free(t.data);
    return NULL;
}

char *wildcard_at(const struct wildcard *w, uint64_t i, struct err *e)
{
    return written((struct writer){ .w = w, .e = e }, i);
}

char *wildcard_draw(const struct wildcard *w, uint64_t seed, struct err *e)
{
    return written((struct writer){ .w = w, .e = e, .drawn = true, .state = seed }, 0);
}

/* --- a job -------------------------------------------------------------------------- */

/* One prompt's texts to the end of the job's. */
static bool add_texts(struct job *to, bool *any, const char *prompt, int draws, uint64_t seed,
                      const struct wildcard_lists *lists, struct err *e)
{
    struct wildcard *w;
    if (!wildcard_parse(&w, prompt, lists, e))
        return err_prefix(e, "prompt \"%.40s\"", prompt);
    uint64_t count = draws ? (uint64_t)draws : wildcard_count(w);
    bool ok = count + (uint64_t)to->more_count + *any <= JOB_PROMPTS_MAX && count <= JOB_PROMPTS_MAX;
    if (!ok)
        err_set(e, ERR_INPUT, "the choices make more than %d prompts: leave some out, or draw some of them",
                JOB_PROMPTS_MAX);
    for (uint64_t i = 0; ok && i < count; i++) {
        char *text = draws ? wildcard_draw(w, seed + i, e) : wildcard_at(w, i, e);
        ok = text && (*any ? job_add_prompt(to, text, e) : job_set_string(&to->prompt, text, e));
        *any = true;
        free(text);
    }
    wildcard_free(w);
    return ok;
}

bool wildcard_job(struct job *j, int draws, const struct wildcard_lists *lists, struct err *e)
{
    struct job to = { 0 };
    bool any = false, ok = add_texts(&to, &any, j->prompt, draws, j->seed, lists, e);
    for (int i = 0; ok && i < j->more_count; i++)
        ok = add_texts(&to, &any, j->more[i], draws, j->seed + (uint64_t)(i + 1) * JOB_PROMPTS_MAX, lists, e);
    if (ok) { /* the prompts change places, and the old ones are freed with `to` */
        struct job old = *j;
        j->prompt = to.prompt;
        j->more = to.more;
        j->more_count = to.more_count;
        to.prompt = old.prompt;
        to.more = old.more;
        to.more_count = old.more_count;
    }
    job_free(&to);
    return ok;
}

/* cmd_history.c - `sluice history`: the pictures that were made, as the studio's
 * gallery has them. */
#include "engine/store.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "usage: sluice history [list [-n N] [--trash]]\n"
    "       sluice history search [-n N] WORD...\n"
    "       sluice history show ID\n"
    "       sluice history export [WORD...]\n"
    "       sluice history trash ID...\n"
    "       sluice history restore ID...\n"
    "       sluice history forget ID...\n"
    "       sluice history scan FOLDER...\n"
    "\n"
    "The pictures that were made, newest first.\n"
    "\n"
    "  list       the last N (default: 20)\n"
    "  search     those with every WORD in prompt, negative prompt, model or preset; a word's\n"
    "             beginning is enough\n"
    "  show       everything about one\n"
    "  export     all, or those with every WORD, as JSON on standard output\n"
    "  trash      takes pictures away: their files go to the folder .sluice-trash beside them\n"
    "  restore    puts them back\n"
    "  forget     drops them from the history; a file in the trash is deleted\n"
    "  scan       adds what sluice has written in a folder and is not known yet\n"
    "  -h, --help\n";

enum { SHOWN = 20 };

static const char *when(int64_t seconds, char buf[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    strftime(buf, 32, "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
    return buf;
}

/* --- list, search --------------------------------------------------------------------- */

static int print_list(struct store *s, const struct store_query *q)
{
    struct store_page page;
    struct err e = { 0 };
    char date[32];
    if (!store_history_list(s, q, &page, &e))
        return cmd_fail(&e);
    for (int i = 0; i < page.count; i++) {
        const struct store_picture *p = &page.at[i];
        char size[32];
        snprintf(size, sizeof size, "%dx%d", p->width, p->height);
        printf("%6lld  %s  %-9s  ", (long long)p->id, when(p->time, date), size);
        cmd_print(stdout, p->prompt);
        puts(file_exists(p->path) ? "" : "  (its file is gone)");
    }
    if (page.total > page.count)
        printf("%d of %lld\n", page.count, (long long)page.total);
    else if (!page.total)
        puts("no pictures");
    store_page_free(&page);
    return 0;
}

/* WORD WORD ... as one text, malloc'd. */
static char *join(int count, char **words)
{
    size_t n = 1;
    for (int i = 0; i < count; i++)
        n += strlen(words[i]) + 1;
    char *text = malloc(n), *to = text;
    for (int i = 0; text && i < count; i++)
        to = stpcpy(stpcpy(to, words[i]), " ");
    if (text)
        *to = '\0';
    return text;
}

/* -n N and --trash, in front. The index of what is left, or 0 with *status set. */
static int read_options(struct store_query *q, int argc, char **argv, int *status)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        int64_t n;
        if (!strcmp(argv[i], "--trash")) {
            q->trash = true;
        } else if (!strcmp(argv[i], "-n") && i + 1 < argc && cmd_number(argv[i + 1], 1, INT32_MAX, &n)) {
            q->limit = (int)n;
            i++;
        } else {
            *status = cmd_usage("history", "%s: use -n N or --trash", argv[i]);
            return 0;
        }
    }
    return i;
}

static int list(struct store *s, int argc, char **argv)
{
    struct store_query q = { .limit = SHOWN };
    int status = 0, i = read_options(&q, argc, argv, &status);
    if (!i)
        return status;
    return i == argc ? print_list(s, &q) : cmd_usage("history", "list takes no words: search does");
}

static int search(struct store *s, int argc, char **argv)
{
    struct store_query q = { .limit = SHOWN };
    int status = 0, i = read_options(&q, argc, argv, &status);
    if (!i)
        return status;
    if (i == argc)
        return cmd_usage("history", "search takes the words to look for");
    char *words = join(argc - i, argv + i);
    q.search = words;
    status = words ? print_list(s, &q) : cmd_fail(&(struct err){ ERR_MEMORY, "out of memory" });
    free(words);
    return status;
}

/* --- show, export --------------------------------------------------------------------- */

static void put_text(json_t *o, const char *key, const char *text)
{
    json_t *value = json_string(text);
    json_object_set_new(o, key, value ? value : json_string("(not UTF-8)"));
}

static json_t *picture_json(const struct store_picture *p)
{
    json_t *o = json_pack("{s:I, s:I, s:f, s:i, s:b}", "id", (json_int_t)p->id, "time", (json_int_t)p->time, "seconds",
                          p->seconds, "mark", p->mark, "trashed", p->trashed);
    json_t *record = json_loads(p->record, 0, NULL);
    put_text(o, "path", p->path);
    put_text(o, "preset", p->preset);
    json_object_set_new(o, "settings", record ? record : json_null());
    return o;
}

static int show(struct store *s, int argc, char **argv)
{
    struct store_picture p;
    struct err e = { 0 };
    int64_t id;
    char date[32];
    if (argc != 2 || !cmd_number(argv[1], 1, INT64_MAX, &id))
        return cmd_usage("history", "show takes one picture's number");
    if (!store_history_get(s, id, &p, &e))
        return cmd_fail(&e);
    json_t *record = json_loads(p.record, 0, NULL);
    const char *key;
    json_t *value;
    printf("%-12s ", "file");
    cmd_print(stdout, p.path);
    printf("%s\n%-12s %s\n", p.trashed ? "  (in the trash)" : file_exists(p.path) ? "" : "  (gone)", "made",
           when(p.time, date));
    if (p.seconds > 0)
        printf("%-12s %.1f s\n", "took", p.seconds);
    if (*p.preset)
        printf("%-12s %s\n", "preset", p.preset);
    if (p.mark)
        printf("%-12s %d\n", "mark", p.mark);
    json_object_foreach(record, key, value) {
        char *text = json_is_string(value) ? strdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        printf("%-12s ", key);
        cmd_print(stdout, text ? text : "?");
        putchar('\n');
        free(text);
    }
    json_decref(record);
    store_picture_free(&p);
    return 0;
}

/* A page at a time: thousands of pictures are not all in memory. */
static int export(struct store *s, int argc, char **argv)
{
    struct err e = { 0 };
    char *words = join(argc - 1, argv + 1);
    struct store_query q = { .search = words, .limit = 500 };
    struct store_page page = { 0 };
    bool ok = words || err_set(&e, ERR_MEMORY, "out of memory");
    putchar('[');
    while (ok && (ok = store_history_list(s, &q, &page, &e)) && page.count) {
        for (int i = 0; i < page.count; i++) {
            json_t *o = picture_json(&page.at[i]);
            fputs(q.offset + i ? ",\n" : "\n", stdout);
            json_dumpf(o, stdout, JSON_INDENT(2));
            json_decref(o);
        }
        q.offset += page.count;
        store_page_free(&page);
    }
    puts("\n]");
    free(words);
    return ok ? 0 : cmd_fail(&e);
}

/* --- the trash, and folders ----------------------------------------------------------- */

static int each(struct store *s, int argc, char **argv, bool (*change)(struct store *, int64_t, struct err *))
{
    struct err e = { 0 };
    int64_t id;
    if (argc < 2)
        return cmd_usage("history", "%s takes the numbers of pictures", argv[0]);
    for (int i = 1; i < argc; i++)
        if (!cmd_number(argv[i], 1, INT64_MAX, &id))
            return cmd_usage("history", "\"%s\" is no picture's number", argv[i]);
    for (int i = 1; i < argc; i++)
        if (cmd_number(argv[i], 1, INT64_MAX, &id) && !change(s, id, &e))
            return cmd_fail(&e);
    return 0;
}

static int trash(struct store *s, int argc, char **argv) { return each(s, argc, argv, store_history_trash); }
static int restore(struct store *s, int argc, char **argv) { return each(s, argc, argv, store_history_restore); }
static int forget(struct store *s, int argc, char **argv) { return each(s, argc, argv, store_history_remove); }

static int scan(struct store *s, int argc, char **argv)
{
    if (argc < 2)
        return cmd_usage("history", "scan takes folders");
    for (int i = 1; i < argc; i++) {
        struct err e = { 0 };
        struct store_scan n;
        if (!store_history_scan(s, argv[i], NULL, NULL, &n, &e))
            return cmd_fail(&e);
        cmd_print(stdout, argv[i]);
        printf(": %d added, %d known, %d not sluice's\n", n.added, n.known, n.others);
    }
    return 0;
}

const char *const cmd_history_verbs[] = { "list", "search", "show", "export", "trash", "restore", "forget",
                                          "scan", NULL };

int cmd_history(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct store *s, int argc, char **argv);
    } verbs[] = { { "list", list }, { "search", search }, { "show", show }, { "export", export }, { "trash", trash },
                  { "restore", restore }, { "forget", forget }, { "scan", scan } };
    static char plain[] = "list";
    char *none[] = { plain, NULL };
    char notice[STORE_NOTICE_BYTES];
    struct err e = { 0 };
    struct store *s;
    for (int i = 1; i < argc && i < 3; i++)
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
            fputs(help, stdout);
            return 0;
        }
    bool any = argc > 1;
    argv = any ? argv + 1 : none;
    argc = any ? argc - 1 : 1;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(argv[0], verbs[i].name))
            continue;
        if (!store_open(&s, NULL, notice, &e))
            return cmd_fail(&e);
        if (notice[0])
            cmd_say(notice);
        int status = verbs[i].run(s, argc, argv);
        store_close(s);
        return status;
    }
    return cmd_usage("history", "%s: use list, search, show, export, trash, restore, forget or scan", argv[0]);
}
